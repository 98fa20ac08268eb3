"""Word vectors on the CPU: against the twin for every instruction set, threads, bad input."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.word_cases import LEGACY, MODES, WordCase, assert_same_training, case_of, make_words

from seqfast import ops, reference
from seqfast.ops import word2vec
from seqfast.ops.word2vec.matrix import matrix
from seqfast.reference import word2vec as twin

ALL_MODES = {**MODES, **LEGACY}
modes = pytest.mark.parametrize("mode", ALL_MODES)
batches = pytest.mark.parametrize("deterministic", [False, True], ids=["windows", "rounds"])
SIZES = [1, 7, 16, 32, 100, 129, 300]


@cache
def wanted(
    mode: str, sizes: tuple[int, ...], options: tuple[tuple[str, Any], ...]
) -> tuple[WordCase, Any]:
    """A case and what the twin makes of it, once for all instruction sets."""
    case = case_of(mode, *sizes, **dict(options))
    return case, case.run(twin.train)


def check(mode: str, sizes: tuple[int, ...], **options: Any) -> None:
    case, result = wanted(mode, sizes, tuple(options.items()))
    found = case.run(word2vec.train, threads=1)
    assert_same_training(found, result, case.size)


def assert_same_bits(found: Any, wanted: Any) -> None:
    for one, other in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(
    "name",
    ["train", "alias_table", "first_vectors", "huffman_paths", "keep_thresholds", "rounds_of"],
)
def test_twins_have_the_same_signature(name: str) -> None:
    fast = inspect.signature(getattr(word2vec, name)).parameters
    slow = inspect.signature(getattr(twin, name)).parameters
    assert list(fast) == list(slow)
    for one, other in zip(fast.values(), slow.values(), strict=True):
        assert (one.kind, one.default) == (other.kind, other.default)


def test_what_stays_and_what_does_not_make_up_a_call() -> None:
    """`Training` and its `run` together have the arguments of `train`, with the same defaults."""
    parts = {
        **inspect.signature(word2vec.Training).parameters,
        **inspect.signature(word2vec.Training.run).parameters,
    }
    del parts["self"]
    whole = inspect.signature(word2vec.train).parameters
    assert list(parts) == list(whole)
    assert [p.default for p in parts.values()] == [p.default for p in whole.values()]


# ---- against the twin ----


@modes
@batches
def test_matches_reference(cpu_isa: str, mode: str, deterministic: bool) -> None:
    for i, size in enumerate(SIZES):
        # Sizes are tried with different windows, and every other one with locked rows.
        window = (5, 2, 1, 10)[i % 4]
        options = {"window": window, "locked": bool(i % 2), "deterministic": deterministic}
        check(mode, (300, 25, size), **options)


@pytest.mark.parametrize("window", [1, 2, 5, 10, 60])
@pytest.mark.parametrize("shrink_windows", [True, False])
@batches
def test_windows(cpu_isa: str, window: int, shrink_windows: bool, deterministic: bool) -> None:
    """Of all sizes, also where they reach past all sentences, and over borders of rounds."""
    how = {"shrink_windows": shrink_windows, "deterministic": deterministic, "window": window}
    for mode in ("skip-gram", "pairs", "cbow", "both", "cbow-softmax"):
        for longest in (12, 400):
            # The changes of a window add up: at a high rate large ones go astray, each its own way.
            check(mode, (320, 20, 5), longest=longest, alpha=0.1 / window, min_alpha=0, **how)


@pytest.mark.parametrize("negative", [1, 2, 7, 8, 15, 16, 17, 40])
def test_negatives(cpu_isa: str, negative: int) -> None:
    """Also more than there are words, most of them drawn more than once."""
    for mode in ("skip-gram", "pairs", "cbow", "both"):
        for words in (5, 100):
            check(mode, (150, words, 20), negative=negative, alpha=0.03)


@pytest.mark.parametrize("words", [1, 2, 3, 17, 200, 1000])
@modes
def test_vocabularies(cpu_isa: str, mode: str, words: int) -> None:
    for deterministic in (False, True):
        check(mode, (100, words, 10), sample=0, alpha=0.05, deterministic=deterministic)


@pytest.mark.parametrize(
    "options",
    [
        {"sample": 0},
        {"sample": 1e-5},
        {"epoch": 2**32 - 1, "seed": -(2**63)},
        {"epoch": 3, "seed": 2**63 - 1},
        {"tokens_before": 500, "tokens_total": 900},
        {"tokens_before": 2**40, "tokens_total": 2**41},
        {"tokens_before": 5000, "tokens_total": 900},
        {"alpha": 0.01, "min_alpha": 0.2},
        {"alpha": 0.0, "min_alpha": 0.0},
        {"longest": 1},
        {"longest": 2},
        {"longest": 5000},
    ],
    ids=str,
)
def test_options(cpu_isa: str, options: dict[str, Any]) -> None:
    for mode in ("skip-gram", "pairs", "cbow", "hierarchy"):
        for deterministic in (False, True):
            check(mode, (700, 20, 9), deterministic=deterministic, **options)


@modes
def test_nothing_to_train_on(mode: str) -> None:
    for words in (0, 5):
        for borders in ([0], [0, 0, 0]):
            case = case_of(mode, 0, 5, 4)
            case.offsets = np.array(borders)
            if not words:
                case.ids, case.counts = np.zeros(0, np.int32), np.zeros(0, np.int64)
                case.options = {"negative": 0}
            before = case.matrices()
            results, after = case.run(word2vec.train)
            dtypes = [(len(part), part.dtype.name) for part in results]
            assert dtypes == [(0, "float64"), (0, "int64"), (0, "int64")]
            for one, other in zip(before, after, strict=True):
                assert one is other is None or np.array_equal(one, other)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    drawn_by=st.integers(0, 2**32),
    mode=st.sampled_from(list(ALL_MODES)),
    tokens=st.integers(1, 600),
    words=st.integers(1, 60),
    size=st.integers(1, 70),
    longest=st.integers(1, 300),
    window=st.integers(1, 12),
    seed=st.integers(-(2**63), 2**63 - 1),
    flags=st.tuples(*[st.booleans()] * 3),
)
def test_any_corpus(
    drawn_by: int,
    mode: str,
    tokens: int,
    words: int,
    size: int,
    longest: int,
    window: int,
    seed: int,
    flags: tuple[bool, bool, bool],
) -> None:
    deterministic, shrink, locked = flags
    case = case_of(
        mode,
        tokens,
        words,
        size,
        drawn_by=drawn_by,
        longest=longest,
        window=window,
        seed=seed,
        deterministic=deterministic,
        shrink_windows=shrink,
        locked=locked,
        alpha=0.03,
    )
    assert_same_training(
        case.run(word2vec.train, threads=1), case.run(twin.train), size, tolerance=1e-4
    )


def test_far_from_zero(cpu_isa: str) -> None:
    """Where sigmoids are 0 or 1, losses are as large as logits, and nothing is NaN."""
    for mode in ("skip-gram", "pairs", "cbow", "both", "hierarchy", "softmax", "cbow-softmax"):
        case = case_of(mode, 200, 10, 20, alpha=1e-4, min_alpha=1e-4)
        original = case.matrices

        def large(original: Any = original) -> list[Any]:
            return [None if a is None else a * np.float32(15) for a in original()]

        case.matrices = large  # type: ignore[method-assign]
        aligned = case.run(twin.train)
        assert aligned[0][0].sum() / aligned[0][2].sum() > 10
        case.matrices = lambda large=large: [  # type: ignore[method-assign,misc]
            None if a is None else _copied(a) for a in large()
        ]
        assert_same_training(case.run(word2vec.train, threads=1), aligned, 20, tolerance=1e-4)


def _copied(array: np.ndarray) -> np.ndarray:
    result = matrix(len(array), array.shape[1])
    result[:] = array
    return result


# ---- threads and parts ----


@pytest.mark.alone
@modes
def test_rounds_do_not_depend_on_threads(cpu_isa: str, mode: str) -> None:
    case = case_of(mode, 1100, 25, 33, deterministic=True, locked=True)
    alone = case.run(word2vec.train, threads=1)
    for threads in (2, 3, 8):
        assert_same_bits(case.run(word2vec.train, threads=threads), alone)


@pytest.mark.alone
@pytest.mark.parametrize("mode", ["skip-gram", "pairs", "cbow", "both"])
def test_threads_at_once_learn_as_much(cpu_isa: str, mode: str) -> None:
    """Hogwild: what two threads undo of each other's work does not show in the loss."""
    case = case_of(mode, 20_000, 300, 32, alpha=0.05, sample=0)
    # Words of one sentence are close to each other, so that there is something to learn.
    rng = np.random.default_rng(1)
    topics = np.repeat(rng.integers(0, 30, 1000), 20)
    case.ids = (topics * 10 + rng.integers(0, 10, 20_000)).astype(np.int32)
    case.offsets = np.arange(0, 20_001, 20)
    losses = []
    for threads in (0, 1, 2, 2, 2):
        matrices = case.matrices()
        arguments = (case.ids, case.offsets, *matrices)
        if threads:
            _, kept, _ = word2vec.train(*arguments, size=32, threads=threads, **case.options)
            assert kept.sum() == 20_000
        # What has been learned, measured without learning more.
        still = {**case.options, "alpha": 0, "min_alpha": 0}
        loss, _, examples = word2vec.train(*arguments, size=32, threads=1, **still)
        losses.append(loss.sum() / examples.sum())
    before, alone, *together = losses
    assert alone < 0.8 * before
    # How much is lost depends on who gets a core when; of so few words now and then a lot.
    assert sorted(together)[1] == pytest.approx(alone, rel=0.2)


@modes
@batches
def test_a_broken_model_has_no_finite_loss(cpu_isa: str, mode: str, deterministic: bool) -> None:
    case = case_of(mode, 300, 12, 20, deterministic=deterministic)
    matrices = case.matrices()
    matrices[0][0, 3] = np.nan
    loss, _, _ = word2vec.train(
        case.ids, case.offsets, *matrices, size=20, threads=1, **case.options
    )
    assert np.isnan(loss[0])


@modes
@batches
def test_parts_make_up_the_whole(cpu_isa: str, mode: str, deterministic: bool) -> None:
    case = case_of(mode, 1100, 20, 20, longest=700, deterministic=deterministic)
    together = case.run(word2vec.train, threads=1)
    for borders in ([0, 1, 2, 3, 4, 5], [0, 0, 2, 2, 5], [0, 4, 5]):
        parts, matrices = [], case.matrices()
        training = word2vec.Training(
            case.ids,
            case.offsets,
            *matrices,
            size=case.size,
            **{k: v for k, v in case.options.items() if k not in ("alpha", "min_alpha", "seed")},
        )
        assert training.rounds == 5
        for first, last in itertools.pairwise(borders):
            rates = {k: case.options[k] for k in ("alpha", "min_alpha", "seed")}
            parts.append(training.run(first_round=first, last_round=last, threads=1, **rates))
        results = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        assert_same_bits((results, matrices), together)


def test_numpy_and_torch(cpu_isa: str) -> None:
    case = make_words(600, 20, 20, hierarchical=True, locked=True)
    from_numpy = case.run(word2vec.train, threads=1)

    def tensors(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value)
        return tuple(map(tensors, value)) if isinstance(value, tuple) else value

    matrices = case.matrices()
    options = {name: tensors(value) for name, value in case.options.items()}
    results = word2vec.train(
        *tensors((case.ids, case.offsets, *matrices)), size=20, threads=1, **options
    )
    assert [part.dtype for part in results] == [torch.float64, torch.int64, torch.int64]
    assert_same_bits((results, matrices), from_numpy)


def test_arrays_that_are_not_contiguous_or_not_writable() -> None:
    """Tables are copied where a kernel cannot read them as they are."""
    case = make_words(300, 20, 20, hierarchical=True, locked=True)
    plain = case.run(word2vec.train, threads=1)

    def other(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            spread = np.repeat(value, 2)[::2]
            spread.flags.writeable = False
            return spread
        return tuple(map(other, value)) if isinstance(value, tuple) else value

    case.options = {name: other(value) for name, value in case.options.items()}
    case.ids, case.offsets = other(case.ids), other(case.offsets)
    assert_same_bits(case.run(word2vec.train, threads=1), plain)


# ---- tables ----


def tables() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for words in (0, 1, 2, 3, 4, 5, 8, 13, 31, 64, 500):
        yield np.full(words, 3)
        yield rng.integers(0, 3, words)
        yield rng.integers(1, 1000, words)
        yield np.sort(rng.integers(1, 30, words))[::-1]
        yield (10_000 / np.arange(1, words + 1)).astype(np.int64)
        yield 2 ** np.minimum(np.arange(words), 40)[::-1]
        yield np.round(1.6 ** np.minimum(np.arange(words), 60)).astype(np.int64)


@pytest.mark.parametrize("size", [1, 7, 16, 63, 64, 65, 100, 300])
def test_first_vectors_are_the_twins(cpu_isa: str, size: int) -> None:
    for rows, seed, first_row in ((0, 1, 0), (1, -(2**63), 0), (37, 2**63 - 1, 2**32 - 37)):
        wanted = np.empty((rows, size), np.float32)
        twin.first_vectors(wanted, seed, first_row)
        found = np.full((rows, size + 5), 7, np.float32)
        word2vec.first_vectors(found[:, :size], seed, first_row, threads=1)
        np.testing.assert_array_equal(found[:, :size], wanted)
        assert (found[:, size:] == 7).all()


def test_first_vectors_are_by_row() -> None:
    """Whoever draws them, and whichever rows are drawn at once."""
    whole, apart = np.empty((2, 3000, 100), np.float32)
    word2vec.first_vectors(whole, 5, threads=1)
    for first in (0, 1, 1200):
        word2vec.first_vectors(apart[first:], 5, first, threads=3)
        np.testing.assert_array_equal(apart, whole)
    word2vec.first_vectors(apart, 6)
    assert (apart == whole).mean() < 0.001


def test_first_vectors_of_no_use() -> None:
    good = np.empty((4, 3), np.float32)
    fixed = good.copy()
    fixed.flags.writeable = False
    odd = np.empty(4 * 4 * 3 + 1, np.uint8)[1:].view(np.float32).reshape(4, 3)
    for vectors in (good.T, good[::-1], good[:, ::-1], np.empty((4, 6), np.float32)[:, ::2], fixed):
        with pytest.raises(ValueError, match="vectors must be writable, with dense rows"):
            word2vec.first_vectors(vectors, 1)
    for vectors in (odd, np.broadcast_to(good[0], (4, 3))):
        with pytest.raises(ValueError, match="vectors must be writable, with dense rows"):
            word2vec.first_vectors(vectors, 1)
    with pytest.raises(TypeError, match="vectors must be a NumPy array, got list"):
        word2vec.first_vectors([[1.0]], 1)
    with pytest.raises(TypeError, match="vectors must be float32, got float64"):
        word2vec.first_vectors(good.astype(np.float64), 1)
    with pytest.raises(ValueError, match=r"vectors must be \[rows, size\], got \[4\]"):
        word2vec.first_vectors(good[:, 0], 1)
    with pytest.raises(TypeError, match=r"first_vectors: seed must be an integer, got 1\.5"):
        word2vec.first_vectors(good, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first_row must be from 0 to 4294967292, got 4294967293"):
        word2vec.first_vectors(good, 1, 2**32 - 3)
    with pytest.raises(ValueError, match="threads must be from 1 to 2147483647, got 0"):
        word2vec.first_vectors(good, 1, threads=0)


def test_tables_are_the_twins() -> None:
    for counts in tables():
        for sample in (0, 1e-4, 0.3, 1, 2.5):
            found = word2vec.keep_thresholds(counts, sample)
            np.testing.assert_array_equal(found, twin.keep_thresholds(counts, sample))
            assert found.dtype == np.uint32
        pairs = [(word2vec.huffman_paths(counts), twin.huffman_paths(counts))]
        if counts.sum():
            for power in (0.75, 1, -0.5):
                weights = np.maximum(counts, power < 0) ** float(power)
                pairs.append((word2vec.alias_table(weights), twin.alias_table(weights)))
        for found, expected in pairs:
            for one, other in zip(found, expected, strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
    assert [ops.word2vec.rounds_of(n) for n in (0, 1, 256, 257)] == [
        reference.word2vec.rounds_of(n) for n in (0, 1, 256, 257)
    ]


def test_large_tables() -> None:
    """Of as many words as vocabularies have: the sums of what they say are right."""
    words = 300_000
    counts = (1e9 / np.arange(1, words + 1)).astype(np.int64)
    weights = counts**0.75
    threshold, other = word2vec.alias_table(weights)
    stays = (threshold.astype(np.float64) + 1) / 2**32
    found = stays + np.bincount(other, 1 - stays, minlength=words)
    np.testing.assert_allclose(found / words, weights / weights.sum(), rtol=1e-6)
    offsets, nodes, codes = word2vec.huffman_paths(counts)
    lengths = np.diff(offsets)
    # Kraft's sum is 1, and no shorter code than entropy, no longer one than entropy and a bit.
    assert np.ldexp(1.0, -lengths).sum() == 1
    share = counts / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    assert entropy <= (share * lengths).sum() <= entropy + 0.1
    assert np.all(nodes[offsets[:-1]] == words - 2)
    assert np.bincount(nodes, minlength=words - 1).min() >= 2
    assert set(np.unique(codes)) == {0, 1}


def test_matrix() -> None:
    for rows, size, stride in (
        (0, 5, 16),
        (1, 1, 16),
        (7, 16, 16),
        (3, 17, 32),
        (70_000, 100, 112),
    ):
        array = matrix(rows, size)
        assert array.shape == (rows, stride)
        assert array.dtype == np.float32
        assert not rows or array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not array.any()


# ---- bad input ----

I32, I64, F32 = np.int32, np.int64, np.float32


def odd(array: np.ndarray) -> np.ndarray:
    """The same 4 bytes past a multiple of 64."""
    memory = np.zeros(array.size + 32, F32)
    start = (-memory.ctypes.data % 64) // 4 + 1
    return memory[start : start + array.size].reshape(array.shape)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def with_last(array: np.ndarray, value: int) -> np.ndarray:
    array = array.copy()
    array[-1] = value
    return array


def with_padding(array: np.ndarray) -> np.ndarray:
    array[3, -1] = np.nan
    return array


BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("input", lambda x: [[1.0]], TypeError, "input must be a NumPy array or a torch tensor"),
    ("input", lambda x: x.astype(np.float64), TypeError, "input must be float32, got float64"),
    ("input", lambda x: x.ravel(), ValueError, r"input must be \[words, stride\], got \[320\]"),
    ("input", lambda x: x[:, :8].copy(), ValueError, "input must have a multiple of 16 columns"),
    ("input", lambda x: np.zeros((0, 16), F32), ValueError, r"output must be \[0, 16\], got"),
    ("input", lambda x: np.asfortranarray(x), ValueError, "input must be contiguous"),
    ("input", lambda x: x[::2], ValueError, "input must be contiguous"),
    ("input", read_only, ValueError, "input must be writable"),
    ("input", odd, ValueError, "input must be at an address that is a multiple of 64 bytes, got 4"),
    ("input", with_padding, ValueError, "input must be zero in its columns from 10 on, got nan"),
    ("input", lambda x: torch.from_numpy(x), TypeError, "output must be a torch tensor, got nd"),
    ("output", lambda x: None, ValueError, "output must be given with negatives or softmax, got N"),
    ("output", lambda x: x[:-1], ValueError, r"output must be \[20, 16\], got \[19, 16\]"),
    ("output", lambda x: matrix(20, 20), ValueError, r"output must be \[20, 16\], got \[20, 32\]"),
    ("output", lambda x: x.astype(np.float16), TypeError, "output must be float32, got float16"),
    ("nodes", lambda x: None, ValueError, "nodes must be given with paths, got None"),
    ("nodes", lambda x: matrix(20, 10), ValueError, r"nodes must be \[19, 16\], got \[20, 16\]"),
    ("paths", lambda x: None, ValueError, "nodes must be None except with paths, got ndarray"),
    (
        "negative",
        lambda x: 0,
        ValueError,
        "output must be None except with negatives or softmax, got",
    ),
    ("alias", lambda x: None, ValueError, "alias must be given with negatives, got None"),
    ("alias", lambda x: x[0], TypeError, r"alias must be \(threshold, other\), got ndarray"),
    ("alias", lambda x: x[:1], TypeError, r"alias must be \(threshold, other\), got 1 of them"),
    ("alias", lambda x: (x[0][1:], x[1]), ValueError, r"alias's threshold must be \[20\], got"),
    ("alias", lambda x: (x[1], x[1]), TypeError, "alias's threshold must be uint32, got int32"),
    ("alias", lambda x: (x[0], x[1] * 0 + 20), ValueError, "alias's other must be from 0 to 19"),
    ("ids", lambda x: x.astype(I64), TypeError, "ids must be int32, got int64"),
    ("ids", lambda x: x.tolist(), TypeError, "ids must be a NumPy array, got list"),
    ("ids", lambda x: x.astype(">i4"), TypeError, "ids must be int32, got >i4"),
    ("ids", lambda x: x[None], ValueError, r"ids must have one dimension, got \[1, 300\]"),
    ("ids", lambda x: with_last(x, 20), ValueError, "ids must be from 0 to 19, got 0 to 20"),
    ("ids", lambda x: with_last(x, -1), ValueError, "ids must be from 0 to 19, got -1 to"),
    ("ids", lambda x: torch.from_numpy(x), TypeError, "ids must be a NumPy array, got Tensor"),
    ("ids", lambda x: x[:-1], ValueError, "offsets must go from 0 to 299, got 0 to 300"),
    ("offsets", lambda x: x.astype(I32), TypeError, "offsets must be int64, got int32"),
    ("offsets", lambda x: x[:0], ValueError, "offsets must have one more number than parts"),
    ("offsets", lambda x: x + 1, ValueError, "offsets must go from 0 to 300, got 1 to 301"),
    (
        "offsets",
        lambda x: np.array([0, 9, 4, 300]),
        ValueError,
        "offsets must not decrease, got a step of -5",
    ),
    ("keep", lambda x: x.astype(I64), TypeError, "keep must be uint32, got int64"),
    ("keep", lambda x: x[1:], ValueError, r"keep must be \[20\], got \[19\]"),
    ("locked", lambda x: x.astype(I32), TypeError, "locked must be uint8 or bool, got int32"),
    ("locked", lambda x: x[1:], ValueError, r"locked must be \[20\], got \[19\]"),
    ("paths", lambda x: x[:2], TypeError, r"paths must be \(offsets, nodes, codes\), got 2 of"),
    (
        "paths",
        lambda x: (x[0][:-1], *x[1:]),
        ValueError,
        r"paths' offsets must be \[21\], got \[20",
    ),
    ("paths", lambda x: (x[0] + 1, *x[1:]), ValueError, "paths' offsets must go from 0 to"),
    ("paths", lambda x: (x[0], x[1] + 1, x[2]), ValueError, "paths' nodes must be from 0 to 18"),
    ("paths", lambda x: (x[0], x[1], x[2] + 1), ValueError, "paths' codes must be from 0 to 1"),
    ("paths", lambda x: (x[0], x[1], x[2][1:]), ValueError, r"paths' codes must be \["),
    ("paths", lambda x: (x[0], x[2], x[2]), TypeError, "paths' nodes must be int32, got uint8"),
    ("size", lambda x: 0, ValueError, "size must be from 1 to 2147483647, got 0"),
    ("size", lambda x: 17, ValueError, "input must have a multiple of 16 columns, at least 17"),
    ("size", lambda x: 2.5, TypeError, "size must be an integer, got 2.5"),
    ("window", lambda x: 0, ValueError, "window must be from 1 to 1073741823, got 0"),
    ("window", lambda x: True, TypeError, "window must be an integer, got True"),
    ("negative", lambda x: -1, ValueError, "negative must be from 0 to 67108863, got -1"),
    ("negative", lambda x: 2**24, ValueError, "negative must be smaller: a window may draw"),
    ("cbow", lambda x: 1, TypeError, "cbow must be True or False, got 1"),
    ("deterministic", lambda x: None, TypeError, "deterministic must be True or False, got None"),
    ("seed", lambda x: 2**63, ValueError, "seed must be from -9223372036854775808 to"),
    ("seed", lambda x: 1.0, TypeError, "seed must be an integer, got 1.0"),
    ("epoch", lambda x: -1, ValueError, "epoch must be from 0 to 4294967295, got -1"),
    ("epoch", lambda x: 2**32, ValueError, "epoch must be from 0 to 4294967295, got 4294967296"),
    ("tokens_before", lambda x: -1, ValueError, "tokens_before must be from 0 to"),
    ("tokens_total", lambda x: 0, ValueError, "tokens_total must be from 1 to"),
    ("alpha", lambda x: -0.1, ValueError, "alpha must be a finite number, at least 0, got -0.1"),
    (
        "alpha",
        lambda x: float("nan"),
        ValueError,
        "alpha must be a finite number, at least 0, got nan",
    ),
    (
        "alpha",
        lambda x: float("inf"),
        ValueError,
        "alpha must be a finite number, at least 0, got inf",
    ),
    (
        "min_alpha",
        lambda x: float("nan"),
        ValueError,
        "min_alpha must be a finite number, at least 0, got nan",
    ),
    (
        "min_alpha",
        lambda x: "0.1",
        TypeError,
        "min_alpha must be a finite number, at least 0, got '0.1'",
    ),
    ("first_round", lambda x: 3, ValueError, "first_round must be from 0 to 2, got 3"),
    ("first_round", lambda x: -1, ValueError, "first_round must be from 0 to 2, got -1"),
    ("last_round", lambda x: 3, ValueError, "last_round must be from 0 to 2, got 3"),
    ("threads", lambda x: 0, ValueError, "threads must be from 1 to 2147483647, got 0"),
    ("threads", lambda x: "two", TypeError, "threads must be an integer, got 'two'"),
]


@pytest.mark.parametrize(
    ("name", "change", "error", "message"), BAD, ids=[f"{b[0]}: {b[3]}" for b in BAD]
)
def test_bad_input(name: str, change: Any, error: type[Exception], message: str) -> None:
    case = make_words(300, 20, 10, hierarchical=True, locked=True, shared_negatives=False)
    arrays = dict(zip(("input", "output", "nodes"), case.matrices(), strict=True))
    arguments: dict[str, Any] = {
        "ids": case.ids,
        "offsets": case.offsets,
        **arrays,
        "size": 10,
        "window": 5,
        **case.options,
    }
    before = {key: array.copy() for key, array in arrays.items()}
    arguments[name] = change(arguments.get(name))
    with pytest.raises(error, match=f"^word2vec: {message}"):
        word2vec.train(**arguments)
    for key, array in arrays.items():
        if key != name:
            np.testing.assert_array_equal(array, before[key])


def test_matrices_that_share_memory() -> None:
    case = make_words(300, 20, 10)
    both = matrix(30, 10)
    for one, other in ((both[:20], both[10:]), (both[10:], both[:20])):
        with pytest.raises(ValueError, match=r"^word2vec: .* must not share memory"):
            word2vec.train(case.ids, case.offsets, one, other, size=10, **case.options)


def test_tables_of_no_use() -> None:
    case = make_words(300, 20, 10)
    case.options["negative"] = 0
    with pytest.raises(ValueError, match=r"^word2vec: alias must be None except with negatives"):
        case.run(word2vec.train)


def test_tensors_elsewhere() -> None:
    case = make_words(300, 20, 10)
    arrays = [torch.from_numpy(a) for a in (case.ids, case.offsets, *case.matrices()[:2])]
    options = {
        **case.options,
        "keep": torch.from_numpy(case.options["keep"]),
        "alias": tuple(map(torch.from_numpy, case.options["alias"])),
    }
    for at, name in enumerate(("ids", "offsets", "input", "output")):
        moved = [a.to("meta") if at == i else a for i, a in enumerate(arrays)]
        with pytest.raises(ValueError, match=f"^word2vec: {name} must be a dense array on the CPU"):
            word2vec.train(*moved, size=10, **options)


@pytest.mark.parametrize("name", ["keep_thresholds", "huffman_paths", "alias_table"])
def test_bad_tables(name: str) -> None:
    function = getattr(word2vec, name)
    more = (1e-3,) if name == "keep_thresholds" else ()
    what = "weights" if name == "alias_table" else "counts"
    with pytest.raises(TypeError, match=f"^{name}: {what} must be a NumPy array, got list"):
        function([1, 2], *more)
    with pytest.raises(ValueError, match=rf"^{name}: {what} must be \[words\], got \[2, 2\]"):
        function(np.ones((2, 2), np.int64), *more)
    with pytest.raises(ValueError, match=f"^{name}: {what} must be at least 0"):
        function(np.array([1, -1]), *more)
    if name == "alias_table":
        for weights in (np.array([1.0, np.nan]), np.array([-0.5, 1])):
            with pytest.raises(ValueError, match=r"^alias_table: weights must be at least 0"):
                function(weights)
        for weights in (np.zeros(3), np.array([1.0, np.inf]), np.full(2, 1.7e308)):
            with pytest.raises(ValueError, match=r"^alias_table: weights must have a finite sum"):
                function(weights)
        with pytest.raises(
            TypeError, match=r"^alias_table: weights must be real numbers, got comp"
        ):
            function(np.ones(3, np.complex128))
        return
    with pytest.raises(TypeError, match=f"^{name}: counts must be integers, got float64"):
        function(np.ones(3), *more)
    with pytest.raises(ValueError, match=rf"^{name}: counts must be below 2\*\*62 in all"):
        function(np.full(2, 2**61), *more)
    if more:
        wanted = r"^keep_thresholds: sample must be a finite number, at least 0"
        for sample in (-1e-3, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=wanted):
                function(np.ones(3, np.int64), sample)
        with pytest.raises(TypeError, match=wanted):
            function(np.ones(3, np.int64), "much")

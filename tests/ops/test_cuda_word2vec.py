"""Word vectors on a GPU, and by the host executor in several orders of its threads, against the
twin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HOST_SEEDS
from support.cases import Backend
from support.word_cases import LEGACY, MODES, WordCase, assert_same_training, case_of

import seqfast
from seqfast import _C
from seqfast.ops import word2vec
from seqfast.ops.base.backend import on_host_executor
from seqfast.reference import word2vec as twin

ALL_MODES = {**MODES, **LEGACY}
modes = pytest.mark.parametrize("mode", ALL_MODES)
batches = pytest.mark.parametrize("deterministic", [False, True], ids=["windows", "batches"])
SIZES = [1, 7, 32, 100, 129, 300]
# Multiprocessors, shared memory of a block, architecture, largest cluster; the first is the usual.
DEVICES = {
    "usual": (132, 232448, 90, 16),
    "small": (6, 232448, 90, 16),
    "little memory": (5, 4096, 80, 1),
}

needs_executor = pytest.mark.skipif(
    not seqfast.build_info().get("host_executor"), reason="needs a build with SEQFAST_CUDA=HOST"
)


@cache
def wanted(
    mode: str, sizes: tuple[int, ...], options: tuple[tuple[str, Any], ...]
) -> tuple[WordCase, Any]:
    """A case and what the twin makes of it, once for all backends."""
    case = case_of(mode, *sizes, **dict(options))
    return case, case.run(twin.train)


def train_on(backend: Backend, *arrays: Any, **options: Any) -> Any:
    """`train` of NumPy arrays, in the memory of the backend; the matrices change as they do."""
    if backend.name != "cuda":
        return word2vec.train(*arrays, **options)

    def there(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value).to(backend.device)
        return tuple(map(there, value)) if isinstance(value, tuple) else value

    tensors = [there(array) for array in arrays]
    results = word2vec.train(*tensors, **{name: there(value) for name, value in options.items()})
    assert all(result.device.type == "cuda" for result in results)
    for array, tensor in zip(arrays[2:], tensors[2:], strict=True):
        if array is not None:
            array[:] = tensor.cpu().numpy()
    return tuple(result.cpu().numpy() for result in results)


def run_on(backend: Backend, case: WordCase, **more: Any) -> Any:
    return case.run(lambda *arrays, **options: train_on(backend, *arrays, **options), **more)


def check(backend: Backend, mode: str, sizes: tuple[int, ...], **options: Any) -> None:
    # A corpus below 32 rounds has one worker, so windows come one after the other.
    case, result = wanted(mode, sizes, tuple(options.items()))
    assert_same_training(run_on(backend, case), result, case.size)


def assert_same_bits(found: Any, wanted: Any) -> None:
    for one, other in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """The device that the host executor stands for."""
    _C.host_executor_set_device(*DEVICES[name])
    try:
        yield
    finally:
        _C.host_executor_set_device(*DEVICES["small"])


@pytest.fixture(autouse=True, scope="module")
def _small_device() -> Iterator[None]:
    """All blocks of a batch are there at once, so a large device takes its time."""
    if not seqfast.build_info().get("host_executor"):
        yield
        return
    _C.host_executor_set_device(*DEVICES["small"])
    yield
    _C.host_executor_set_device(*DEVICES["usual"])


# ---- against the twin ----


@modes
@batches
def test_matches_reference(cuda_backend: Backend, mode: str, deterministic: bool) -> None:
    i = list(ALL_MODES).index(mode)
    options = {"window": (5, 2, 1, 8)[i % 4], "locked": bool(i % 2)}
    check(cuda_backend, mode, (300, 25, SIZES[i % 4]), deterministic=deterministic, **options)


@pytest.mark.parametrize("size", SIZES)
@batches
def test_sizes(cuda_backend: Backend, size: int, deterministic: bool) -> None:
    for mode in ("skip-gram", "cbow"):
        check(cuda_backend, mode, (90, 12, size), deterministic=deterministic)


@pytest.mark.parametrize("size", [1600, 2100, 4096])
@pytest.mark.parametrize("mode", ["skip-gram", "pairs", "cbow", "softmax"])
def test_wide_rows(cuda_backend: Backend, mode: str, size: int) -> None:
    """More warps to a worker than have all their registers."""
    check(cuda_backend, mode, (25, 6, size), window=2)


@pytest.mark.parametrize("window", [1, 3, 40])
@batches
def test_windows(cuda_backend: Backend, window: int, deterministic: bool) -> None:
    """Also where they reach past all sentences, and over borders of rounds."""
    how = {"deterministic": deterministic, "window": window, "min_alpha": 0}
    for mode, shrink in (("skip-gram", False), ("pairs", True), ("cbow-softmax", True)):
        for longest in (6, 300):
            # The changes of a window add up: at a high rate large ones go astray, each its own way.
            check(
                cuda_backend,
                mode,
                (270, 15, 5),
                longest=longest,
                shrink_windows=shrink,
                alpha=0.05 / window,
                **how,
            )


@pytest.mark.parametrize("negative", [1, 5, 6, 17, 40])
@batches
def test_negatives(cuda_backend: Backend, negative: int, deterministic: bool) -> None:
    """Also more than there are words, most of them drawn more than once."""
    for mode in ("skip-gram", "pairs", "cbow", "both"):
        how = {"negative": negative, "alpha": 0.03, "deterministic": deterministic}
        check(cuda_backend, mode, (80, 10, 20), **how)


@pytest.mark.parametrize("words", [1, 2, 40])
@modes
def test_vocabularies(cuda_backend: Backend, mode: str, words: int) -> None:
    for deterministic in (False, True):
        how = {"deterministic": deterministic, "alpha": 0.05, "sample": 0}
        check(cuda_backend, mode, (40, words, 9), **how)


@pytest.mark.parametrize(
    "options",
    [
        {"sample": 1e-4},
        {"epoch": 2**32 - 1, "seed": -(2**63)},
        {"epoch": 3, "seed": 2**63 - 1},
        {"tokens_before": 2**40, "tokens_total": 2**41},
        {"tokens_before": 5000, "tokens_total": 900},
        {"alpha": 0.01, "min_alpha": 0.2},
        {"longest": 1},
        {"longest": 5000},
        {"window": 2**30 - 1, "alpha": 1e-3},
    ],
    ids=str,
)
@batches
def test_options(cuda_backend: Backend, options: dict[str, Any], deterministic: bool) -> None:
    for mode in ("skip-gram", "cbow"):
        check(cuda_backend, mode, (600, 20, 9), deterministic=deterministic, **options)


def test_far_from_zero(cuda_backend: Backend) -> None:
    """Where sigmoids are 0 or 1, losses are as large as logits, and nothing is NaN."""
    for mode in ("skip-gram", "cbow", "hierarchy", "softmax"):
        for deterministic in (False, True):
            case = case_of(mode, 60, 10, 20, alpha=1e-4, min_alpha=1e-4)
            matrices = case.matrices

            def large(matrices: Any = matrices) -> list[Any]:
                found: list[Any] = matrices()
                for array in found:
                    if array is not None:
                        array *= 15
                return found

            case.matrices = large  # type: ignore[method-assign]
            result = case.run(twin.train, deterministic=deterministic)
            assert result[0][0].sum() / result[0][2].sum() > 10
            found = run_on(cuda_backend, case, deterministic=deterministic)
            assert_same_training(found, result, 20, tolerance=1e-4)


# ---- parts, borders, memory ----


@batches
def test_parts_make_up_the_whole(cuda_backend: Backend, deterministic: bool) -> None:
    case = case_of("skip-gram", 1300, 25, 17, deterministic=deterministic, sample=0, window=3)
    arrays = (case.ids, case.offsets)
    whole = run_on(cuda_backend, case)
    matrices = case.matrices()
    parts = [
        train_on(
            cuda_backend,
            *arrays,
            *matrices,
            size=17,
            first_round=first,
            last_round=last,
            **case.options,
        )
        for first, last in ((0, 1), (1, 1), (1, 4), (4, 6))
    ]
    together = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
    assert_same_training((together, matrices), whole, 17, tolerance=1e-6)


@needs_executor
@pytest.mark.parametrize("seed", range(HOST_SEEDS))
@pytest.mark.parametrize("mode", ["skip-gram", "pairs", "cbow", "both", "softmax"])
def test_rows_that_do_not_fit_on_chip(mode: str, seed: int) -> None:
    with on_device("little memory"), on_host_executor():
        _C.host_executor_set_seed(seed)
        backend = Backend("cuda-host", "cpu")
        for size in (20, 150):
            check(backend, mode, (200, 20, size), window=10, alpha=0.02, locked=True)


@needs_executor
@modes
def test_batches_have_the_same_bits_in_any_order(mode: str) -> None:
    case = case_of(mode, 330, 20, 35, deterministic=True, locked=True)
    results = []
    with on_host_executor():
        for seed in (0, 1, 2, 3, 7, 11):
            _C.host_executor_set_seed(seed)
            results.append(run_on(Backend("cuda-host", "cpu"), case))
        with on_device("usual"):
            results.append(run_on(Backend("cuda-host", "cpu"), case))
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_more_batches_than_have_tables_at_once(cuda_backend: Backend) -> None:
    options = {"deterministic": True, "negative": 1, "window": 1, "sample": 0, "alpha": 0.01}
    check(cuda_backend, "skip-gram", (8300, 20, 3), **options)


@modes
def test_batches_have_the_same_bits_again(gpu: Backend, mode: str) -> None:
    case = case_of(mode, 3000, 50, 100, deterministic=True, locked=True)
    first = run_on(gpu, case)
    for _ in range(3):
        assert_same_bits(run_on(gpu, case), first)


def topical(tokens: int) -> WordCase:
    """Words of one sentence belong together, so that there is something to learn."""
    case = case_of("skip-gram", tokens, 300, 16, alpha=0.05, sample=0)
    rng = np.random.default_rng(1)
    topics = np.repeat(rng.integers(0, 30, tokens // 20), 20)
    case.ids = (topics * 10 + rng.integers(0, 10, tokens)).astype(np.int32)
    case.offsets = np.arange(0, tokens + 1, 20)
    return case


@needs_executor
@pytest.mark.parametrize("seed", [1, 11])
def test_workers_at_once_learn_as_much(seed: int) -> None:
    """Hogwild, in orders in which workers run by turns: little of it shows in the loss."""
    case = topical(8320)
    (alone, _, examples), _ = case.run(twin.train)
    _C.host_executor_set_seed(seed)
    before = _C.host_executor_statistics()["blocks"]
    with on_host_executor():
        (together, kept, found_examples), _ = case.run(word2vec.train)
    assert _C.host_executor_statistics()["blocks"] - before == 2
    assert kept.sum() == len(case.ids)
    np.testing.assert_array_equal(found_examples, examples)
    assert not np.array_equal(together, alone)
    # Half of the way, and all of it.
    assert alone[-8:].sum() < 0.8 * alone[:8].sum()
    assert together[-8:].sum() == pytest.approx(alone[-8:].sum(), rel=0.03)
    assert together.sum() == pytest.approx(alone.sum(), rel=0.05)


def test_many_workers_learn_as_much(gpu: Backend) -> None:
    case = topical(300_000)
    (loss, kept, examples), _ = run_on(gpu, case)
    assert kept.sum() == len(case.ids)
    matrices = case.matrices()
    arrays = (case.ids, case.offsets)
    alone, _, wanted_examples = word2vec.train(
        *arrays, *matrices, size=16, threads=1, **case.options
    )
    np.testing.assert_array_equal(examples, wanted_examples)
    assert loss[-100:].sum() == pytest.approx(alone[-100:].sum(), rel=0.05)


# ---- calls ----


def test_rows_wider_than_a_block(cuda_backend: Backend) -> None:
    """They are refused where windows come one after the other, and trained in batches."""
    case = case_of("skip-gram", 30, 5, 4100)
    with pytest.raises(
        RuntimeError, match=r"^word2vec: size must be at most 4096 on a GPU, got 41"
    ):
        run_on(cuda_backend, case)
    check(cuda_backend, "skip-gram", (30, 5, 4100), deterministic=True)


@pytest.mark.parametrize("mode", ["skip-gram", "cbow", "softmax"])
@batches
def test_nothing_to_train_on(cuda_backend: Backend, mode: str, deterministic: bool) -> None:
    for borders in ([0], [0, 0, 0]):
        case = case_of(mode, 0, 5, 4, deterministic=deterministic)
        case.offsets = np.array(borders)
        before = case.matrices()
        results, after = run_on(cuda_backend, case)
        assert [len(part) for part in results] == [0, 0, 0]
        for one, other in zip(before, after, strict=True):
            assert one is other is None or np.array_equal(one, other)


@needs_executor
@batches
def test_tensors_and_launches(deterministic: bool) -> None:
    """Results are tensors where the arrays are; how many launches there are is known."""
    options = (("deterministic", deterministic), ("alpha", 0.02))
    case, (wanted_results, _) = wanted("both", (700, 20, 12), options)

    def train(*arrays: Any, **options: Any) -> Any:
        options["paths"] = tuple(map(torch.from_numpy, options["paths"]))
        options["alias"] = tuple(map(torch.from_numpy, options["alias"]))
        options["keep"] = torch.from_numpy(options["keep"])
        tensors = [torch.from_numpy(array) for array in arrays]
        before = _C.host_executor_statistics()["launches"]
        results = word2vec.train(*tensors, **options)
        launches = _C.host_executor_statistics()["launches"] - before
        # One for all windows; of batches one that makes their tables, and one for all.
        assert launches == (2 if deterministic else 1)
        assert [result.dtype for result in results] == [torch.float64, torch.int64, torch.int64]
        return tuple(result.numpy() for result in results)

    with on_host_executor():
        results, _ = case.run(train)
    np.testing.assert_allclose(results[0], wanted_results[0], rtol=2e-5)
    for one, other in zip(results[1:], wanted_results[1:], strict=True):
        np.testing.assert_array_equal(one, other)

"""GloVe: against the twin for every instruction set and the CUDA kernel, threads, bad input."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import Backend
from support.glove_cases import GloveCase, assert_same_training, case_of, text_of

from seqfast.ops import glove
from seqfast.ops.glove.counting import rows_of_runs, rows_of_text, weights_of
from seqfast.ops.word2vec.matrix import matrix
from seqfast.reference import glove as twin

NAMES = ["cooccurrences", "schedule", "strata", "train"]


@pytest.mark.parametrize("name", NAMES)
def test_twins_have_the_same_signature(name: str) -> None:
    fast = inspect.signature(getattr(glove, name)).parameters
    slow = inspect.signature(getattr(twin, name)).parameters
    assert [(p.name, p.kind, p.default) for p in fast.values()] == [
        (p.name, p.kind, p.default) for p in slow.values()
    ]


# ---- counting and the order ----


def assert_equal(found: Any, wanted: Any) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=30)
@given(
    words=st.sampled_from([1, 2, 63, 64, 65, 5000]),
    tokens=st.integers(0, 120),
    sentences=st.integers(1, 20),
    window=st.sampled_from([1, 2, 15, 200]),
    symmetric=st.booleans(),
    weighting=st.booleans(),
    threads=st.integers(1, 3),
)
def test_counts_are_those_of_the_twin(
    words: int, tokens: int, sentences: int, window: int, symmetric: bool, weighting: bool,
    threads: int,
) -> None:  # fmt: skip
    text = text_of(words, tokens, sentences, seed=tokens)
    options: dict[str, Any] = {"window": window, "symmetric": symmetric}
    options["distance_weighting"] = weighting
    found = glove.cooccurrences(*text, **options, threads=threads)
    assert_equal(found, twin.cooccurrences(*text, **options))


def test_counts_of_each_instruction_set(cpu_isa: str) -> None:
    text = text_of(300, 3000, 40)
    assert_equal(glove.cooccurrences(*text, window=7), twin.cooccurrences(*text, window=7))


def test_runs_are_merged(cpu_isa: str) -> None:
    text = text_of(90, 900, 30)
    weights = weights_of(5, True)
    runs, offsets = [], []
    for part in (text.offsets[:12], text.offsets[11:12], text.offsets[11:]):
        rows = rows_of_text(text.ids, part, 90, weights, True)
        sizes = np.zeros(90, np.int64)
        rows.count_sizes(0, 90, sizes, 1)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        columns, sums = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.uint64)
        rows.write(0, 90, ends, columns, 2, sums=sums)
        offsets.append(ends + sum(len(run[0]) for run in runs))
        runs.append((columns, sums))
    joined = rows_of_runs(np.stack(offsets), *map(np.concatenate, zip(*runs, strict=True)))
    sizes = np.zeros(90, np.int64)
    joined.count_sizes(0, 90, sizes, 2)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    columns, values = np.empty(ends[-1], np.int32), np.empty(ends[-1])
    for first, last in ((0, 17), (17, 17), (17, 90)):
        joined.write(first, last, ends, columns, 2, values=values)
    assert_equal((ends, columns, values), twin.cooccurrences(*text, window=5))


@pytest.mark.parametrize("blocks", [1, 3, 64])
def test_the_order_is_that_of_the_twin(cpu_isa: str, blocks: int) -> None:
    found = twin.cooccurrences(*text_of(200, 2000, 20), window=5)
    for seed in (0, -(2**63), 2**63 - 1):
        wanted = twin.schedule(*found, blocks=blocks, seed=seed)
        for threads in (1, 3):
            given = glove.schedule(*found, blocks=blocks, seed=seed, threads=threads)
            assert_equal(given, wanted)
        order = glove.strata(blocks, seed=seed, epoch=7)
        assert_equal((order,), (twin.strata(blocks, seed=seed, epoch=7),))


# ---- training ----


@cache
def wanted(size: int, blocks: int) -> tuple[GloveCase, Any]:
    case = case_of(size=size, blocks=blocks, order=np.arange(blocks, dtype=np.int32)[::-1].copy())
    return case, case.run(twin.train)


@pytest.mark.parametrize("size", [1, 7, 15, 16, 31, 100, 129])
def test_matches_the_twin(cpu_isa: str, size: int) -> None:
    case, result = wanted(size, 3)
    assert_same_training(case.run(glove.train), result)


def run_on(backend: Backend, case: GloveCase) -> Any:
    if backend.name != "cuda":
        return case.run(glove.train)

    def train(*arrays: Any, **options: Any) -> Any:
        there = [torch.from_numpy(array).cuda() for array in arrays]
        if options.get("locked") is not None:
            options["locked"] = torch.from_numpy(options["locked"]).cuda()
        loss = glove.train(*there, **options)
        for array, tensor in zip(arrays[2:], there[2:], strict=True):
            array[...] = tensor.cpu().numpy()
        return loss

    return case.run(train)


@pytest.mark.parametrize(("size", "blocks"), [(1, 2), (20, 3), (31, 1), (100, 7)])
def test_every_backend_matches_the_twin(backend: Backend, size: int, blocks: int) -> None:
    case, result = wanted(size, blocks)
    assert_same_training(run_on(backend, case), result)


def test_every_backend_locks_and_clips(backend: Backend) -> None:
    case = case_of(locked=(np.arange(40) % 3 == 0).astype(np.uint8), clip=1e-2)
    found = run_on(backend, case)
    assert_same_training(found, case.run(twin.train))
    np.testing.assert_array_equal(found[1][0][::3], case.matrices[0][::3])


@pytest.mark.alone
def test_any_number_of_threads_gives_the_same_bits(cpu_isa: str) -> None:
    case = case_of(words=120, tokens=3000, size=33, blocks=8)
    one = case.run(glove.train, threads=1)
    for threads in (2, 3, 8, 20):
        other = case.run(glove.train, threads=threads)
        assert_equal((one[0], *one[1]), (other[0], *other[1]))


def test_nothing_to_do() -> None:
    case = case_of(order=np.zeros(0, np.int32))
    loss, matrices = case.run(glove.train)
    assert loss.shape == (0,)
    assert_equal(matrices, case.matrices)
    empty = case_of(tokens=0)
    np.testing.assert_array_equal(empty.run(glove.train)[0], 0)


# ---- bad input ----


def matrix_of(rows: int = 40, columns: int = 21, **change: Any) -> Any:
    return matrix(rows, columns)


BAD_TRAINING: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x_max": 0.0}, ValueError, "glove: x_max must be a finite number above 0, got 0.0"),
    ({"learning_rate": float("nan")}, ValueError, "glove: learning_rate must be a finite number"),
    ({"alpha": float("inf")}, ValueError, "glove: alpha must be a finite number"),
    ({"clip": 0}, ValueError, "glove: clip must be above 0"),
    ({"size": 32}, ValueError, "glove: words must be .* at least 33"),
    ({"order": np.array([3])}, ValueError, "glove: order must be strata below 3"),
    ({"locked": np.zeros(3, np.uint8)}, ValueError, r"glove: locked must be \[40\], got \[3\]"),
    ({"threads": 0}, ValueError, "glove: threads must be"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"), BAD_TRAINING, ids=[next(iter(c[0])) for c in BAD_TRAINING]
)
def test_bad_training(change: dict[str, Any], error: type[Exception], message: str) -> None:
    case = case_of()
    if "size" in change:
        case, change = case._replace(size=change["size"]), {}
        arrays = case.matrices
        with pytest.raises(error, match=message):
            glove.train(case.tiles, case.entries, *arrays, size=case.size)
        return
    with pytest.raises(error, match=message):
        case.run(glove.train, **change)


def test_bad_arrays_of_training() -> None:
    case = case_of()
    words, contexts, *squares = case.matrices
    with pytest.raises(ValueError, match="must not share memory"):
        glove.train(case.tiles, case.entries, words, words, *squares, size=20)
    with pytest.raises(TypeError, match="glove: contexts must be float32, got float64"):
        glove.train(case.tiles, case.entries, words, contexts.astype(float), *squares, size=20)
    with pytest.raises(TypeError, match="glove: entries must be uint64"):
        glove.train(case.tiles, case.entries.view(np.int64), words, contexts, *squares, size=20)
    with pytest.raises(ValueError, match="glove: tiles must rise from 0 to"):
        glove.train(case.tiles + 1, case.entries, words, contexts, *squares, size=20)
    with pytest.raises(ValueError, match=r"glove: tiles must be \[5\]"):
        glove.train(case.tiles[:-1], case.entries, words, contexts, *squares, size=20)
    for shift in (0, 16):
        entries = case.entries.copy()
        entries[-1] |= np.uint64(0xFFFF << shift)
        with pytest.raises(ValueError, match=r"glove: entries must name rows .* of 40 words"):
            glove.train(case.tiles, entries, words, contexts, *squares, size=20)
    entries = case.entries.copy()
    entries[0] &= np.uint64(2**32 - 1)
    with pytest.raises(ValueError, match="glove: entries must have counts above 0"):
        glove.train(case.tiles, entries, words, contexts, *squares, size=20)


def test_bad_counting() -> None:
    ids, offsets, words = text_of(5, 10, 2)
    for window in (0, -1, 1 << 30):
        with pytest.raises(ValueError, match="cooccurrences: window must be"):
            glove.cooccurrences(ids, offsets, words, window=window)
    with pytest.raises(ValueError, match="cooccurrences: ids must be from 0 to 3"):
        glove.cooccurrences(ids + 4, offsets, 4)
    with pytest.raises(ValueError, match="cooccurrences: offsets must rise from 0 to 10"):
        glove.cooccurrences(ids, offsets[:-1], words)
    with pytest.raises(TypeError, match="cooccurrences: ids must be int32, got int64"):
        glove.cooccurrences(ids.astype(np.int64), offsets, words)
    found = glove.cooccurrences(ids, offsets, words)
    for bad in (0.0, -1.0, np.nan, np.inf):
        values = found[2].copy()
        values[-1] = bad
        with pytest.raises(ValueError, match="schedule: values must be above 0 and finite"):
            glove.schedule(found[0], found[1], values, blocks=1)
    with pytest.raises(ValueError, match="schedule: columns must be from 0 to 4"):
        glove.schedule(found[0], found[1] + 9, found[2], blocks=1)
    with pytest.raises(ValueError, match="schedule: blocks must be"):
        glove.schedule(*found, blocks=0)

"""The selection against its twin, bit for bit: every instruction set, every order of threads."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cases import Backend

from seqfast.ops import top_k as ops
from seqfast.reference import top_k as reference

Z = torch.zeros
INF, NAN = np.inf, np.nan


def draw(kind: str, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    special = rng.random((rows, columns))
    if kind == "ties":
        x = np.round(x)
    elif kind == "equal":
        x[:] = 0.25
    elif kind == "zeros":
        x[:] = np.where(special < 0.5, -0.0, 0.0)
    elif kind == "rising":
        x.sort(axis=1)
    elif kind == "falling":
        x = -np.sort(x, axis=1)
    elif kind == "gaps":
        x[special < 0.4] = -INF
        x[special > 0.7] = NAN
    elif kind == "missing":
        x[special < 0.9997] = NAN
    elif kind == "infinite":
        x[special < 0.3] = INF
    elif kind == "subnormal":
        x *= np.float32(1e-42)
    elif kind == "all -inf":
        x[:] = -INF
    return x


KINDS = ["normal", "ties", "equal", "zeros", "rising", "falling", "gaps", "missing", "infinite"]
KINDS += ["subnormal", "all -inf"]


def check(backend: Backend, scores: np.ndarray, k: int, exclude: np.ndarray | None = None) -> None:
    wanted = reference.top_k(scores, k, exclude)
    tensors = [None if x is None else torch.from_numpy(x) for x in (scores, exclude)]
    tensors = [None if x is None else x.to(backend.device) for x in tensors]
    found = ops.top_k(tensors[0], k, tensors[1])
    for one, other in zip(found, wanted, strict=True):
        assert one.device.type == backend.device
        np.testing.assert_array_equal(one.cpu().numpy(), other)
        assert str(one.dtype) == f"torch.{other.dtype}"
    if backend.device == "cpu":
        for one, other in zip(ops.top_k(scores, k, exclude), wanted, strict=True):
            assert isinstance(one, np.ndarray)
            np.testing.assert_array_equal(one, other)


def test_twins_have_the_same_signature() -> None:
    fast = inspect.signature(ops.top_k)
    twin = inspect.signature(reference.top_k)
    assert list(fast.parameters) == list(twin.parameters)


# Columns on both sides of a vector, of four vectors, of a block of 512, of a tile of 4096.
@pytest.mark.parametrize("kind", KINDS)
def test_matches_reference(kernels: Backend, kind: str) -> None:
    for columns in (1, 3, 16, 17, 65, 511, 512, 1030, 5000):
        scores = draw(kind, 3, columns, columns)
        for k in {1, min(10, columns), columns // 2 + 1}:
            check(kernels, scores, k)
    check(kernels, draw(kind, 2, 700), 700)


@pytest.mark.parametrize("k", [1, 10, 130, 1024])
@pytest.mark.parametrize("kind", ["normal", "ties", "rising", "gaps", "equal"])
def test_long_rows(kernels: Backend, kind: str, k: int) -> None:
    check(kernels, draw(kind, 1, 50000), k)


def test_more_than_a_block_can_hold(kernels: Backend) -> None:
    exclude = np.array([[5, 2999, -1, 3000], [7, 7, 7, 10**12]])
    for kind in KINDS:
        check(kernels, draw(kind, 2, 3000), 1500)
        check(kernels, draw(kind, 2, 3000), 3000, exclude)


@pytest.mark.parametrize("kind", ["normal", "ties", "gaps", "missing", "all -inf"])
def test_exclude(kernels: Backend, kind: str) -> None:
    scores = draw(kind, 3, 900)
    best = reference.top_k(scores, 40)[1]
    for exclude in (
        best[:, :1],
        best[:, 3:30],
        np.concatenate([best, best], 1),
        np.array([[-1, 900, 0], [899, 899, 2**40], [-(2**63), 2**63 - 1, 5]]),
        np.zeros((3, 0), np.int64),
        np.tile(np.arange(900), (3, 1)),
    ):
        for k in (1, 7, 900):
            check(kernels, scores, k, np.ascontiguousarray(exclude))


def test_exclude_in_a_shared_row(kernels: Backend) -> None:
    scores = draw("normal", 1, 60000)
    best = reference.top_k(scores, 20)[1]
    check(kernels, scores, 10, best[:, ::2].copy())


def test_strided_rows(kernels: Backend) -> None:
    wide = torch.from_numpy(draw("ties", 8, 1003)).to(kernels.device)
    views = [wide[:, 1:], wide[::2], wide[1:6:3, 5:900], wide.t()[:30], wide[:1, 2:], wide[:, ::2]]
    views += [wide[0].expand(4, -1), wide[3:3]]
    for view in views:
        k = min(5, view.shape[1])
        wanted = reference.top_k(view.cpu().numpy(), k)
        for one, other in zip(ops.top_k(view, k), wanted, strict=True):
            np.testing.assert_array_equal(one.cpu().numpy(), other)
        if kernels.device == "cpu":
            for one, other in zip(ops.top_k(view.numpy(), k), wanted, strict=True):
                np.testing.assert_array_equal(one, other)
    backwards = draw("normal", 4, 100)[::-1, ::-1]
    if kernels.device == "cpu":
        np.testing.assert_array_equal(ops.top_k(backwards, 3)[1], reference.top_k(backwards, 3)[1])


def test_empty(kernels: Backend) -> None:
    for rows, columns, k in ((0, 5, 2), (0, 0, 0), (3, 0, 0), (3, 5, 0)):
        values, indices = ops.top_k(Z(rows, columns, device=kernels.device), k)
        assert values.shape == indices.shape == (rows, k)
        assert (values.dtype, indices.dtype) == (torch.float32, torch.int64)


def test_any_number_of_threads(cpu_isa: str, set_threads: Any) -> None:
    for rows, columns, k in ((1, 100003, 7), (2, 70001, 300), (5, 40000, 1), (1, 66000, 66000)):
        for kind in ("ties", "gaps", "rising", "missing"):
            scores = draw(kind, rows, columns)
            exclude = reference.top_k(scores, min(k, 5))[1]
            wanted = reference.top_k(scores, k, exclude)
            for count in (1, 2, 3, 7):
                set_threads(count)
                for one, other in zip(ops.top_k(scores, k, exclude), wanted, strict=True):
                    np.testing.assert_array_equal(one, other)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_anything(kernels: Backend, data: st.DataObject) -> None:
    number = st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, INF, -INF, NAN]))
    row = data.draw(st.lists(number, min_size=1, max_size=80))
    repeats = data.draw(st.integers(1, 20))
    scores = np.tile(np.array(row, np.float32), (2, repeats))
    columns = scores.shape[1]
    k = data.draw(st.integers(0, columns))
    exclude = data.draw(
        st.none() | st.lists(st.integers(-3, columns + 3), max_size=10).map(lambda x: [x, x[::-1]])
    )
    check(kernels, scores, k, None if exclude is None else np.array(exclude, np.int64))


def test_exclude_of_other_integers() -> None:
    for dtype in (np.int32, np.uint8):
        exclude = np.array([[2]], dtype)
        found = ops.top_k(np.arange(4, dtype=np.float32)[None], 2, exclude)[1]
        assert found.tolist() == [[3, 1]]
    assert ops.top_k(torch.arange(4.0)[None], np.int64(1))[1].tolist() == [[3]]


BAD: list[tuple[Any, type[Exception], str]] = [
    (([1.0], 1), TypeError, "scores must be a NumPy array or a torch tensor, got list"),
    ((Z(2, 2).double(), 1), TypeError, "scores must be float32, got torch.float64"),
    ((np.zeros((2, 2)), 1), TypeError, "scores must be float32, got float64"),
    ((Z(2), 1), ValueError, r"scores must be \[rows, columns\], got \[2\]"),
    ((Z(2, 2, device="meta"), 1), ValueError, "scores must be a dense array .*, got meta"),
    ((Z(2, 2).to_sparse(), 1), ValueError, "scores must be a dense array"),
    (
        (np.broadcast_to(np.float32(0), (1, 2**31)), 1),
        ValueError,
        r"scores must have fewer than 2\*\*31 columns, got 2147483648",
    ),
    ((Z(2, 2), 3), ValueError, "k must be from 0 to 2, the columns, got 3"),
    ((Z(2, 2), -1), ValueError, "k must be from 0 to 2, the columns, got -1"),
    ((Z(2, 2), 1.5), TypeError, "k must be an integer, got 1.5"),
    ((Z(2, 2), 1, np.zeros((2, 1), int)), TypeError, "exclude must be a torch tensor, got ndarr"),
    ((Z(2, 2), 1, Z(2, 1)), TypeError, "exclude must hold integers, got torch.float32"),
    ((Z(2, 2), 1, Z(1, 1).long()), ValueError, r"exclude must be \[2, any\], got \[1, 1\]"),
    ((Z(2, 2), 1, Z(2).long()), ValueError, r"exclude must be \[2, any\], got \[2\]"),
    ((Z(2, 2), 1, Z(2, 1, device="meta").long()), ValueError, "exclude must be a dense array"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_bad_input(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^top_k: {message}"):
        ops.top_k(*arguments)

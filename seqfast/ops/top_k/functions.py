"""The k largest of each row: checks, allocation and the call into the native kernel."""

from __future__ import annotations

from seqfast import _C
from seqfast.ops.base.arrays import (
    Array,
    ArrayLibrary,
    dtype_name,
    library_of,
    run_in_workspace,
    thread_count,
)
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import check_place, check_whole
from seqfast.ops.top_k.arguments import TopKArgs

_MOST_COLUMNS = 2**31 - 1


def top_k(scores: Array, k: int, exclude: Array | None = None) -> tuple[Array, Array]:
    """The `k` largest scores of each row and their columns, the largest first.

    Same results as `seqfast.reference.top_k.top_k`, for any number of threads. NumPy arrays, or
    torch tensors on the CPU or on one CUDA device, where the host does not wait. There are no
    gradients. The kernel reads the scores once.

    Args:
        scores: [rows, columns] float32, fewer than 2**31 columns, any stride between rows. NaN does
            not count.
        k: how many, from 0 to columns.
        exclude: [rows, any] integers, where `scores` is: columns of the row that do not count.
            Numbers outside 0 to columns - 1 are ignored.

    Returns:
        values [rows, k] float32 and indices [rows, k] int64. Equal scores come by rising column,
        and -0 equals 0. Where a row has fewer than `k` that count, -inf and -1 follow.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or k.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.top_k import top_k
        >>> top_k(np.array([[0.1, 0.9, 0.5]], np.float32), 2)[1]
        array([[1, 2]])
    """
    xp = library_of(scores, "top_k", "scores")
    if dtype_name(scores) != "float32":
        raise TypeError(f"top_k: scores must be float32, got {scores.dtype}")
    if len(scores.shape) != 2:
        raise ValueError(f"top_k: scores must be [rows, columns], got {list(scores.shape)}")
    backend = checked_backend("top_k", "scores", xp.place(scores))
    rows, columns = scores.shape
    if columns > _MOST_COLUMNS:
        raise ValueError(f"top_k: scores must have fewer than 2**31 columns, got {columns}")
    k = check_whole("top_k", "k", k, 0, columns, "the columns")
    if exclude is not None:
        exclude = _checked_exclude(xp, exclude, scores)
    if rows * k == 0:
        return xp.empty(scores, (rows, k)), xp.empty_of(scores, (rows, k), "int64")
    scores = xp.rows(scores)
    if backend != "cpu":
        from seqfast.ops.top_k import cuda  # it imports torch

        return cuda.top_k(scores, k, exclude, backend)
    values, indices = xp.empty(scores, (rows, k)), xp.empty_of(scores, (rows, k), "int64")
    excluded = 0 if exclude is None else exclude.shape[1]
    row_stride, _ = xp.strides(scores)
    # By place: one row takes hardly longer than the names would.
    args = TopKArgs(
        rows,
        columns,
        k,
        excluded,
        row_stride,
        xp.address(scores),
        0 if exclude is None else xp.address(exclude),
        xp.address(values),
        xp.address(indices),
        thread_count(),
        0,
    )
    run_in_workspace(_C.top_k, args)
    return values, indices


def _checked_exclude(xp: ArrayLibrary, exclude: Array, scores: Array) -> Array:
    if not xp.owns(exclude):
        raise TypeError(f"top_k: exclude must be {xp.name}, got {type(exclude).__name__}")
    if not xp.is_integer(exclude):
        raise TypeError(f"top_k: exclude must hold integers, got {exclude.dtype}")
    if len(exclude.shape) != 2 or exclude.shape[0] != scores.shape[0]:
        raise ValueError(
            f"top_k: exclude must be [{scores.shape[0]}, any], got {list(exclude.shape)}"
        )
    check_place(xp, "top_k", "exclude", exclude, xp.place(scores))
    return xp.int64(exclude)

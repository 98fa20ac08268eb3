"""The k largest of each row: checks, allocation and the call into the native kernel."""

from __future__ import annotations

from seqfast import _C
from seqfast.ops.base.arrays import (
    Array,
    ArrayLibrary,
    Workspace,
    dtype_name,
    library_of,
    thread_count,
)
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import check_place, check_whole
from seqfast.ops.top_k.arguments import TopKArgs

_MOST_COLUMNS = 2**31 - 1


def top_k(scores: Array, k: int, exclude: Array | None = None) -> tuple[Array, Array]:
    """The `k` largest scores of each row and their columns, the largest first.

    Same results as `seqfast.reference.top_k.top_k`, whatever the number of threads. NumPy arrays,
    or torch tensors on the CPU or on one CUDA device, where nobody waits for the kernels; no
    gradients.

    `scores` [rows, columns] float32, fewer than 2**31 columns; rows may lie any distance apart. `k`
    from 0 to columns. Equal scores come by rising column, and -0 equals 0. `exclude` [rows, any]
    integers, where `scores` is: columns of the row that do not count; those outside 0..columns-1
    name none. NaN does not count either. Returns (values [rows, k] float32, indices [rows, k]
    int64) of the library and on the device of `scores`; where a row has fewer than `k` that count,
    -inf and -1 follow.

    One pass over the scores: a limit that k scores are known to reach spares nearly all others more
    than a comparison.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device or k.
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
    args = TopKArgs(
        rows=rows,
        columns=columns,
        k=k,
        excluded=excluded,
        row_stride=row_stride,
        scores=xp.address(scores),
        exclude=0 if exclude is None else xp.address(exclude),
        values=xp.address(values),
        indices=xp.address(indices),
        threads=thread_count(),
        parts=0,
    )
    with Workspace(_C.top_k_workspace_size(args)) as workspace:
        _C.top_k(args, workspace)
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

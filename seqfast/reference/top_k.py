"""The k largest of each row in plain NumPy: what `seqfast.ops.top_k` must return."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["top_k"]

Array = np.ndarray[Any, Any]


def top_k(scores: Array, k: int, exclude: Array | None = None) -> tuple[Array, Array]:
    """The `k` largest scores of each row and their columns, the largest first.

    `scores` [rows, columns] float32; `k` from 0 to columns. Equal scores come by rising column, and
    -0 equals 0. `exclude` [rows, any] integers: columns of the row that do not count; those outside
    0..columns-1 name none. NaN does not count either. Returns (values [rows, k] float32, indices
    [rows, k] int64); where a row has fewer than `k` that count, -inf and -1 follow.

    Arguments and results are those of
    `seqfast.ops.top_k.functions.top_k`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.top_k import top_k
        >>> top_k(np.array([[0.1, 0.9, 0.5]], np.float32), 2)[1]
        array([[1, 2]])
    """
    rows, columns = scores.shape
    values = np.full((rows, k), -np.inf, np.float32)
    indices = np.full((rows, k), -1, np.int64)
    for row in range(rows):
        counts = ~np.isnan(scores[row])
        if exclude is not None:
            inside = (exclude[row] >= 0) & (exclude[row] < columns)
            counts[exclude[row][inside]] = False
        candidates = np.flatnonzero(counts)
        chosen = candidates[np.argsort(-scores[row, candidates], kind="stable")][:k]
        values[row, : len(chosen)] = scores[row, chosen]
        indices[row, : len(chosen)] = chosen
    return values, indices

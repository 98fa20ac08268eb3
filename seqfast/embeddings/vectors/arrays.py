"""What NumPy arrays and torch tensors have in common here, and the checks of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqfast.ops.base.arrays import library_of

Array = Any  # a numpy.ndarray or a torch.Tensor


def as_float32(vectors: Array) -> Array:
    if isinstance(vectors, np.ndarray):
        return vectors.astype(np.float32, copy=False)
    return vectors.detach().float()


def row_lengths(rows: Array) -> Array:
    """[rows]: of each row, 1 for rows of zeros."""
    if isinstance(rows, np.ndarray):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        lengths[lengths == 0] = 1
        return lengths
    import torch

    length = torch.linalg.vector_norm(rows, dim=1)
    return length.masked_fill_(length == 0, 1)


def product_into(queries: Array, answers: Array, out: Array) -> Array:
    if isinstance(answers, np.ndarray):
        return np.matmul(queries, answers.T, out=out)
    import torch

    with torch.no_grad():
        return torch.mm(queries.float(), answers.float().t(), out=out)


def empty_matrix(like: Array, shape: tuple[int, int]) -> Array:
    if isinstance(like, np.ndarray):
        return np.empty(shape, np.float32)
    import torch

    return torch.empty(shape, dtype=torch.float32, device=like.device)


def concatenated(arrays: Sequence[Array], axis: int) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays, axis)
    import torch

    return torch.cat(list(arrays), axis)


def as_library_of(operation: str, name: str, array: Any, vectors: Array) -> Array:
    """The array in the library and on the device of `vectors`."""
    if isinstance(vectors, np.ndarray):
        if not isinstance(array, (np.ndarray, list, tuple, range)):
            raise TypeError(
                f"{operation}: {name} must be a list or a NumPy array, as vectors is, "
                f"got {type(array).__name__}"
            )
        return np.asarray(array)
    import torch

    return torch.as_tensor(array, device=vectors.device)


def to_numpy(array: Any) -> Any:
    if isinstance(array, (np.ndarray, list)):
        return array
    return array.detach().cpu().numpy()


def is_integer(array: Array) -> bool:
    if isinstance(array, np.ndarray):
        return bool(array.dtype.kind in "iu")
    dtype = array.dtype
    return not (dtype.is_floating_point or dtype.is_complex or str(dtype) == "torch.bool")


# ---- checks ----


def check_matrix(operation: str, name: str, array: Any) -> None:
    library_of(array, operation, name)
    kind = array.dtype.kind == "f" if isinstance(array, np.ndarray) else array.is_floating_point()
    if not kind:
        raise TypeError(f"{operation}: {name} must hold floating-point numbers, got {array.dtype}")
    if len(array.shape) != 2:
        raise ValueError(f"{operation}: {name} must be [any, size], got {list(array.shape)}")


def check_words(operation: str, vectors: Array, words: Sequence[str]) -> None:
    check_matrix(operation, "vectors", vectors)
    if len(words) != len(vectors):
        raise ValueError(
            f"{operation}: words must be as many as vectors, {len(vectors)}, got {len(words)}"
        )


def checked_ids(operation: str, name: str, ids: Array, vectors: Array, dimensions: int) -> Array:
    """int64 ids, all of which are some."""
    if len(ids.shape) != dimensions:
        wanted = "[any]" if dimensions == 1 else "[any, any]"
        raise ValueError(f"{operation}: {name} must be ids {wanted}, got {list(ids.shape)}")
    if math.prod(ids.shape) and not is_integer(ids):
        raise TypeError(f"{operation}: {name} must hold integers, got {ids.dtype}")
    if math.prod(ids.shape):
        least, most = int(ids.min()), int(ids.max())
        if least < 0 or most >= len(vectors):
            raise ValueError(
                f"{operation}: {name} must be ids from 0 to {len(vectors) - 1}, "
                f"got {least if least < 0 else most}"
            )
    return ids.astype(np.int64) if isinstance(ids, np.ndarray) else ids.long()


def checked_exclude(operation: str, exclude: Any, queries: Array, vectors: Array) -> Array:
    exclude = as_library_of(operation, "exclude", exclude, vectors)
    if len(exclude.shape) != 2 or len(exclude) != len(queries):
        raise ValueError(
            f"{operation}: exclude must be [{len(queries)}, any], got {list(exclude.shape)}"
        )
    if not is_integer(exclude) and math.prod(exclude.shape):
        raise TypeError(f"{operation}: exclude must hold integers, got {exclude.dtype}")
    return exclude.astype(np.int64) if isinstance(exclude, np.ndarray) else exclude.long()

"""Words and vectors as they were given, and what NumPy and torch have in common for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from seqfast.embeddings.vectors import WordVectors
from seqfast.ops.base.arrays import library_of
from seqfast.ops.base.checks import check_choice

Array = Any  # a numpy.ndarray or a torch.Tensor
MISSING = ("raise", "ignore")


def double(array: Array) -> Array:
    """In float64, on its device."""
    return array.astype(np.float64) if isinstance(array, np.ndarray) else array.detach().double()


def lengths(rows: Array) -> Array:
    """[..., 1], of the last dimension."""
    return (rows * rows).sum(-1)[..., None] ** 0.5


class Table:
    """`vectors` of a call, float64 at need; `operation` is who asks."""

    def __init__(self, operation: str, vectors: Any, words: Sequence[str] | None, missing: str):
        self.operation = operation
        check_choice(operation, "missing", missing, MISSING)
        self._ignores = missing == "ignore"
        holder = vectors
        if not hasattr(holder, "index_to_key") and hasattr(holder, "wv"):
            holder = holder.wv  # WEFE's WordEmbeddingModel
        self._holder = holder if hasattr(holder, "index_to_key") else None
        if self._holder is not None:
            if words is not None:
                raise TypeError(f"{operation}: words must be None: vectors have their own words")
            words = holder.index_to_key
        self.given = holder.vectors if self._holder is not None else vectors
        library_of(self.given, operation, "vectors")
        if len(self.given.shape) != 2 or not self.given.shape[1]:
            shape = list(self.given.shape)
            raise ValueError(f"{operation}: vectors must be [words, size], got {shape}")
        floating = (
            self.given.dtype.kind == "f"
            if isinstance(self.given, np.ndarray)
            else self.given.is_floating_point()
        )
        if not floating:
            raise TypeError(
                f"{operation}: vectors must hold floating-point numbers, got {self.given.dtype}"
            )
        if words is not None and len(words) != len(self.given):
            raise ValueError(
                f"{operation}: words must be {len(self.given)}, as vectors are, got {len(words)}"
            )
        self.words = words
        self._index = getattr(self._holder, "key_to_index", None)
        if self._index is None and words is not None:
            self._index = {word: row for row, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.given)

    # ---- rows ----

    def _row(self, key: Any) -> int | None:
        if isinstance(key, str):
            if self._index is None:
                raise TypeError(
                    f"{self.operation}: pass words= with an array to look up {key!r}, or pass ids"
                )
            row: int | None = self._index.get(key)
            return row
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            return int(key) if 0 <= key < len(self) else None
        raise TypeError(f"{self.operation}: a word must be a str or an id, got {key!r}")

    def rows(self, name: str, keys: Iterable[Any], least: int = 1) -> list[int]:
        """Of words or ids. KeyError names all that are not there; ValueError for too few."""
        if isinstance(keys, str) or not isinstance(keys, Iterable):
            raise TypeError(f"{self.operation}: {name} must be a list of words, got {keys!r}")
        return self._found(name, [(key,) for key in keys], least)[0]

    def pairs(self, name: str, pairs: Iterable[Iterable[Any]], least: int = 1) -> list[list[int]]:
        """Of pairs or larger sets; one with a word that is not there is left out as a whole."""
        groups = []
        for pair in pairs:
            if isinstance(pair, str) or not isinstance(pair, Iterable):
                raise TypeError(f"{self.operation}: {name} must be pairs of words, got {pair!r}")
            groups.append(tuple(pair))
            if len(groups[-1]) < 2:
                raise ValueError(f"{self.operation}: {name} must be pairs, got {groups[-1]!r}")
        self._found(name, groups, least)
        rows = [[self._row(key) for key in group] for group in groups]
        return [[row for row in group if row is not None] for group in rows if None not in group]

    def _found(self, name: str, groups: list[tuple[Any, ...]], least: int) -> list[list[int]]:
        absent = [key for group in groups for key in group if self._row(key) is None]
        if absent and not self._ignores:
            unique = list(dict.fromkeys(absent))
            raise KeyError(
                f"{self.operation}: {name} has words without a vector (missing='ignore' leaves "
                f"them out): {', '.join(map(repr, unique))}"
            )
        whole = [group for group in groups if all(self._row(key) is not None for key in group)]
        if len(whole) < least:
            raise ValueError(
                f"{self.operation}: {name} must have at least {least} that are in the vocabulary, "
                f"got {len(whole)} of {len(groups)}"
            )
        return [[row for group in whole for key in group if (row := self._row(key)) is not None]]

    def name(self, row: int) -> str:
        return repr(self.words[row]) if self.words is not None else str(row)

    # ---- vectors ----

    def unit(self, rows: Any = slice(None)) -> Array:
        """float64 [rows, size], each of length 1. ValueError names a word of length 0."""
        values = double(self.given[rows])
        length = lengths(values)
        good = (length > 0) & (length < float("inf"))  # NaN is neither
        if not bool(good.all()):
            bad = int((~good[:, 0]).nonzero()[0][0])
            row = bad if isinstance(rows, slice) else rows[bad]
            raise ValueError(
                f"{self.operation}: vectors must be finite and longer than 0, that of "
                f"{self.name(row)} is not"
            )
        return values / length

    def like_given(self, array: Any) -> Array:
        """An array of NumPy in the library and on the device of the vectors, float64."""
        if isinstance(self.given, np.ndarray):
            return np.asarray(array, np.float64)
        import torch

        return torch.as_tensor(array, dtype=torch.float64, device=self.given.device)

    def subspace(self, g: Any) -> Array:
        """float64 [k, size] with orthonormal rows, of a direction [size] or several [k, size]."""
        basis = self.like_given(double(g) if hasattr(g, "dtype") else g)
        basis = basis[None] if len(basis.shape) == 1 else basis
        size = self.given.shape[1]
        if len(basis.shape) != 2 or basis.shape[1] != size:
            shape = list(basis.shape)
            raise ValueError(f"{self.operation}: g must be [{size}] or [k, {size}], got {shape}")
        length = lengths(basis)
        if not bool(((length > 0) & (length < float("inf"))).all()):
            raise ValueError(
                f"{self.operation}: g must be finite and longer than 0, got a length of "
                f"{float(length.min())}"
            )
        if len(basis) == 1:
            return basis / length
        _, values, right = singular(basis)
        if float(values[-1]) < 1e-9 * float(values[0]):
            raise ValueError(f"{self.operation}: the directions of g must be independent")
        return right

    def result(self, vectors: Array) -> Any:
        """What was given, with other vectors: a WordVectors, or an array."""
        if isinstance(vectors, np.ndarray):
            vectors = vectors.astype(self.given.dtype)
        else:
            vectors = vectors.to(self.given.dtype)
        if self._holder is None:
            return vectors
        counts = getattr(self._holder, "counts", None)
        return WordVectors(list(self.words or ()), vectors, counts)


def singular(matrix: Array) -> tuple[Array, Array, Array]:
    """Thin singular value decomposition."""
    if isinstance(matrix, np.ndarray):
        return np.linalg.svd(matrix, full_matrices=False)
    import torch

    return tuple(torch.linalg.svd(matrix, full_matrices=False))


def stacked(rows: list[Array]) -> Array:
    if isinstance(rows[0], np.ndarray):
        return np.concatenate(rows)
    import torch

    return torch.cat(rows)

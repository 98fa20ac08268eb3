"""What the formats share: what a file gives, errors that name it, and arrays to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Loaded(NamedTuple):
    """What a file of word vectors holds.

    Attributes:
        words: [V].
        vectors: float32 [V, size].
        counts: int64 [V], or None.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.formats import Loaded
        >>> Loaded(["a"], np.zeros((1, 8), np.float32), None).vectors.shape
        (1, 8)
    """

    words: list[str]
    vectors: Array  # float32 [V, size]
    counts: Array | None  # int64 [V]


@dataclass(frozen=True)
class FileReading:
    """What all reading of one file shares."""

    path: str
    encoding: str
    errors: str

    def word(self, text: bytes) -> str:
        try:
            return text.decode(self.encoding, self.errors)
        except UnicodeDecodeError as error:
            raise self.damaged(
                f"a word is not {self.encoding}, {text[:40]!r} ({error.reason}); "
                "unicode_errors='replace' reads it"
            ) from error

    def damaged(self, what: str) -> ValueError:
        return ValueError(f"{self.path} cannot be read: {what}")


def float32_rows(operation: str, vectors: Any) -> Array:
    """A NumPy array [V, size] of what may be a tensor on any device."""
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().cpu().numpy()
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{operation}: vectors must be [any, size], got {list(array.shape)}")
    return array

"""Word vectors for gensim and from it: its KeyedVectors, and the files they are kept in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqfast.embeddings.files import PathLike
from seqfast.embeddings.formats.base import Loaded, float32_rows


def to_gensim(vectors: Any, words: Sequence[str], counts: Any = None) -> Any:
    """A gensim KeyedVectors of these words, vectors and counts.

    `vectors` [V, size]: a float32 NumPy array is shared, anything else copied. Raises ImportError
    without gensim (`pip install seqfast[embeddings]`), ValueError for shapes that do not fit.
    """
    keyed_vectors = _keyed_vectors("to_gensim")
    vectors = float32_rows("to_gensim", vectors)
    if len(words) != len(vectors):
        raise ValueError(
            f"to_gensim: words must be as many as vectors, {len(vectors)}, got {len(words)}"
        )
    result = keyed_vectors(vectors.shape[1])
    result.index_to_key = list(words)
    result.key_to_index = {word: place for place, word in enumerate(result.index_to_key)}
    if len(result.key_to_index) != len(words):
        raise ValueError("to_gensim: words must differ, got one twice")
    result.vectors = vectors
    result.next_index = len(words)
    if counts is not None:
        counts = np.array(counts, np.int64)
        if counts.shape != (len(words),):
            raise ValueError(f"to_gensim: counts must be [{len(words)}], got {list(counts.shape)}")
        result.expandos["count"] = counts
    return result


def from_gensim(keyed_vectors: Any) -> Loaded:
    """Words, vectors and counts of a gensim KeyedVectors, or of a model's `.wv`; copies."""
    vectors = np.array(keyed_vectors.vectors, np.float32)
    counts = keyed_vectors.expandos.get("count")
    words = [str(word) for word in keyed_vectors.index_to_key]
    return Loaded(words, vectors, None if counts is None else np.array(counts, np.int64))


def save_gensim(path: PathLike, vectors: Any, words: Sequence[str], counts: Any = None) -> None:
    """Writes a file for gensim's `KeyedVectors.load`, by gensim itself. Raises as `to_gensim`."""
    to_gensim(vectors, words, counts).save(os.fspath(path))


def load_gensim(path: PathLike) -> Loaded:
    """Reads what gensim's `KeyedVectors.save` or `Word2Vec.save` wrote, by gensim itself.

    gensim's format is a pickle, which can run any code: read only files that you trust. Raises
    ImportError without gensim, ValueError for a file that holds no vectors.
    """
    found = _keyed_vectors("load_gensim").load(os.fspath(path))
    found = getattr(found, "wv", found)
    if not hasattr(found, "index_to_key"):
        raise ValueError(
            f"load_gensim: {os.fspath(path)} must hold word vectors, got {type(found).__name__}"
        )
    return from_gensim(found)


def _keyed_vectors(operation: str) -> Any:
    try:
        from gensim.models import KeyedVectors
    except ImportError as error:
        raise ImportError(f"{operation} needs gensim: pip install seqfast[embeddings]") from error
    return KeyedVectors

"""Word vectors for gensim and from it: its KeyedVectors, and the files they are kept in."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqfast.embeddings.files import PathLike, damage_named, open_by_suffix
from seqfast.embeddings.formats.base import Loaded, float32_rows


def to_gensim(vectors: Any, words: Sequence[str], counts: Any = None) -> Any:
    """A gensim KeyedVectors of these words, vectors and counts.

    Args:
        vectors: [V, size]; a float32 NumPy array is shared, anything else copied.
        words: [V].
        counts: [V], or None.

    Returns:
        The KeyedVectors.

    Raises:
        ImportError: gensim is missing (`pip install seqfast[embeddings]`).
        ValueError: shapes that do not fit.

    Example:
        >>> import gensim, numpy as np
        >>> from seqfast.embeddings.formats import to_gensim
        >>> to_gensim(np.eye(2, dtype=np.float32), ["a", "b"])["b"]
        array([0., 1.], dtype=float32)
    """
    kind = keyed_vectors_class("to_gensim")
    vectors = float32_rows("to_gensim", vectors)
    if len(words) != len(vectors):
        raise ValueError(
            f"to_gensim: words must be as many as vectors, {len(vectors)}, got {len(words)}"
        )
    result = kind(vectors.shape[1])
    result.index_to_key = list(words)
    result.key_to_index = {word: place for place, word in enumerate(result.index_to_key)}
    if len(result.key_to_index) != len(words):
        raise ValueError("to_gensim: words must be distinct, got one twice")
    result.vectors = vectors
    result.next_index = len(words)
    if counts is not None:
        counts = np.array(counts, np.int64)
        if counts.shape != (len(words),):
            raise ValueError(f"to_gensim: counts must be [{len(words)}], got {list(counts.shape)}")
        result.expandos["count"] = counts
    return result


def from_gensim(keyed_vectors: Any, copy: bool = True) -> Loaded:
    """Words, vectors and counts of a gensim KeyedVectors, or of a model's `.wv`.

    Args:
        keyed_vectors: the KeyedVectors.
        copy: False: the vectors are the KeyedVectors' own array where it is float32.

    Returns:
        Words, vectors and counts.

    Example:
        >>> import gensim, numpy as np
        >>> from seqfast.embeddings.formats import from_gensim, to_gensim
        >>> from_gensim(to_gensim(np.eye(2, dtype=np.float32), ["a", "b"])).words
        ['a', 'b']
    """
    vectors = (np.array if copy else np.asarray)(keyed_vectors.vectors, np.float32)
    counts = keyed_vectors.expandos.get("count")
    words = list(keyed_vectors.index_to_key)
    return Loaded(words, vectors, None if counts is None else np.array(counts, np.int64))


def save_gensim(path: PathLike, vectors: Any, words: Sequence[str], counts: Any = None) -> None:
    """Writes a file for gensim's `KeyedVectors.load`, by gensim itself.

    Args:
        path: of the file.
        vectors: [V, size].
        words: [V].
        counts: [V], or None.

    Raises:
        ImportError: gensim is missing.
        OSError: a file that cannot be written.
        ValueError: shapes that do not fit.

    Example:
        >>> import gensim, numpy as np
        >>> from seqfast.embeddings.formats import save_gensim
        >>> save_gensim("vectors.kv", np.eye(2, dtype=np.float32), ["a", "b"])
        >>> gensim.models.KeyedVectors.load("vectors.kv").index_to_key
        ['a', 'b']
    """
    to_gensim(vectors, words, counts).save(os.fspath(path))


def load_gensim(path: PathLike) -> Loaded:
    """Reads what gensim's `KeyedVectors.save` or `Word2Vec.save` wrote, by gensim itself.

    gensim's format is a pickle, which can run any code: read only files that you trust.

    Args:
        path: of the file.

    Returns:
        Words, vectors and counts.

    Raises:
        ImportError: gensim is missing.
        ValueError: a file that holds no vectors.

    Example:
        >>> import gensim, numpy as np
        >>> from seqfast.embeddings.formats import load_gensim, save_gensim
        >>> save_gensim("vectors.kv", np.eye(2, dtype=np.float32), ["a", "b"])
        >>> load_gensim("vectors.kv").words
        ['a', 'b']
    """
    found = keyed_vectors_class("load_gensim").load(os.fspath(path))
    found = getattr(found, "wv", found)
    if not hasattr(found, "index_to_key"):
        raise ValueError(
            f"load_gensim: {os.fspath(path)} must hold word vectors, got {type(found).__name__}"
        )
    return from_gensim(found)


def keyed_vectors_class(operation: str) -> Any:
    """gensim's KeyedVectors. Raises ImportError without gensim."""
    try:
        from gensim.models import KeyedVectors
    except ImportError as error:
        raise ImportError(f"{operation} needs gensim: pip install seqfast[embeddings]") from error
    return KeyedVectors


class _Unpickler(pickle.Unpickler):
    """Makes what gensim's and NumPy's files consist of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = (
            module.partition(".")[0] == "gensim"
            or (module.partition(".")[0] == "numpy" and name in _OF_NUMPY)
            or (module, name) in _HARMLESS
        )
        if known:
            found = super().find_class(module, name)
            harmless = isinstance(found, type) or name == "call_on_class_only"
            if module.partition(".")[0] != "gensim" or harmless:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a model's file")


_OF_NUMPY = {"_reconstruct", "ndarray", "dtype", "scalar", "RandomState", "MT19937"}
_OF_NUMPY |= {"__RandomState_ctor", "__randomstate_ctor", "__bit_generator_ctor", "_frombuffer"}
_HARMLESS = {
    ("collections", "defaultdict"),
    ("collections", "OrderedDict"),
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    ("_codecs", "encode"),
    *((module, name) for module in ("builtins", "__builtin__") for name in (
        "object", "int", "long", "float", "str", "unicode", "list", "dict", "tuple", "set",
        "frozenset", "bytearray", "bytes", "hash", "slice", "range", "xrange", "complex",
    )),
}  # fmt: skip


def unpickled(path: PathLike, mmap: str | None = None) -> Any:
    """What gensim's `save` wrote, a model or KeyedVectors, by gensim's own classes.

    A pickle can name any code; this one runs none but that of gensim's and NumPy's classes. Raises
    ImportError without gensim, ValueError for what else a file asks for, and for a damaged one.
    """
    keyed_vectors_class("load")
    from gensim.utils import SaveLoad

    name = os.fspath(path)
    try:
        with open_by_suffix(path) as file:
            found = _Unpickler(file, encoding="latin1").load()
        compress, subname = SaveLoad._adapt_by_suffix(name)
        found._load_specials(name, mmap, compress, subname)
    except OSError:
        raise
    except Exception as error:  # whatever taking a damaged pickle apart brings
        raise ValueError(f"{name} cannot be read as a file of gensim's: {error}") from error
    kept = getattr(found, "wv", found)
    if not hasattr(kept, "index_to_key"):
        raise ValueError(f"{name} must hold word vectors, got {type(found).__name__}")
    return found


def begins_as_pickle(path: PathLike) -> bool:
    """Whether a file begins as the pickles that gensim writes."""
    with damage_named(path), open_by_suffix(path) as file:
        start = file.read(2)
    return start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")

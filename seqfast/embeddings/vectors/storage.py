"""Words with their vectors: what a file holds, ready to be asked and to be changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqfast.embeddings.files import PathLike
from seqfast.embeddings.formats.anything import load_any
from seqfast.embeddings.vectors.arrays import to_numpy
from seqfast.embeddings.vectors.queries import Queries
from seqfast.embeddings.vectors.search import normalise

Array = np.ndarray[Any, Any]


@dataclass
class WordVectors(Queries):
    """Words with their vectors, and the methods of `Queries`, under gensim's names.

    Args:
        index_to_key: the words, any hashable objects.
        vectors: [V, size], a NumPy array or a torch tensor, which is not copied.
        counts: [V], if they are known.

    Raises:
        ValueError: vectors or counts that do not fit the words, or a word that appears twice.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> vectors = WordVectors(["king", "queen"], np.eye(2, dtype=np.float32))
        >>> vectors["queen"] = [0.6, 0.8]
        >>> [(word, round(float(cosine), 2)) for word, cosine in vectors.most_similar("king")]
        [('queen', 0.6)]
    """

    index_to_key: list[Any]
    vectors: Any  # float32 [V, size]
    counts: Any = None  # int64 [V], or None where nobody knows
    key_to_index: dict[Any, int] = field(init=False, repr=False)
    expandos: dict[str, Array] = field(init=False, repr=False, default_factory=dict)
    """Further things known of each word, by `set_vecattr`: name to array [V]."""
    source: str | None = field(init=False, repr=False, default=None)
    """What `load` took the file for."""

    def __post_init__(self) -> None:
        self.index_to_key = list(self.index_to_key)
        self.key_to_index = {word: place for place, word in enumerate(self.index_to_key)}
        rows = len(self.index_to_key)
        if len(self.key_to_index) != rows:
            double = next(w for i, w in enumerate(self.index_to_key) if self.key_to_index[w] != i)
            raise ValueError(f"WordVectors: words must be distinct, got {double!r} twice")
        if not hasattr(self.vectors, "shape"):
            self.vectors = np.asarray(self.vectors, np.float32)
        if len(self.vectors.shape) != 2 or len(self.vectors) != rows:
            raise ValueError(
                f"WordVectors: vectors must be [{rows}, size], as there are words, got "
                f"{list(self.vectors.shape)}"
            )
        if self.counts is not None and len(self.counts) != rows:
            raise ValueError(f"WordVectors: counts must be [{rows}], got {len(self.counts)} counts")

    @property
    def vector_size(self) -> int:
        return int(self.vectors.shape[1])

    @classmethod
    def load(cls, path: PathLike, limit: int | None = None, mmap: str | None = None) -> WordVectors:
        """Reads word vectors in any of these formats; the attribute `source` names the format.

        Args:
            path: a file of word2vec (text or binary), GloVe, fastText (.vec), gensim (KeyedVectors
                or a model) or seqfast, plain or packed by gzip, bzip2, xz or zstd.
            limit: only the first so many words.
            mmap: "r" leaves the vectors in a file of seqfast's, or in the array that gensim has
                stored beside its file, and reads what is looked at: it opens at once, and
                processes share the memory. They cannot be changed then, and are not checked.

        Returns:
            The words, vectors and, if the file has them, counts.

        Raises:
            OSError: a file that cannot be read.
            ValueError: a damaged file or one in another format; the message says what it is. With
                `mmap`, a file whose vectors need conversion.
            ImportError: a file of gensim's without gensim.
        """
        loaded, source = load_any(path, limit, mmap)
        found = cls(*loaded)
        found.source = source
        return found

    # ---- changes ----

    def __setitem__(self, keys: Any, vectors: Any) -> None:
        """Replaces the vector of a word, or adds the word; of several words likewise."""
        if self._is_one(keys):
            keys, vectors = [keys], [vectors]
        self.add_vectors(keys, vectors, replace=True)

    def add_vector(self, key: Any, vector: Any) -> int:
        """Adds a word, or replaces its vector, and returns its id. Raises as `add_vectors`."""
        self.add_vectors([key], [vector], replace=True)
        return self.get_index(key)

    def add_vectors(
        self,
        keys: Iterable[Any],
        weights: Any,
        extras: dict[str, Any] | None = None,
        replace: bool = False,
    ) -> None:
        """Adds words with their vectors [words, size]; known words are skipped, unless `replace`.

        `extras`: attributes of the words, as for `set_vecattr`. Raises ValueError for vectors of
        another size or number; TypeError if the vectors here are not a NumPy array. After an error
        nothing has changed.
        """
        words = list(keys)
        rows = checked_rows("add_vectors", words, weights, self.vectors.shape[1], len(self))
        known = [place for place, word in enumerate(words) if word in self.key_to_index]
        fresh = [place for place, word in enumerate(words) if word not in self.key_to_index]
        if len({words[place] for place in fresh}) != len(fresh):
            raise ValueError("add_vectors: new words must be distinct, got one twice")
        if fresh:
            self._append([words[place] for place in fresh], rows[fresh])
        if replace and known:
            self.vectors[self.ids([words[place] for place in known])] = rows[known]
        for name, values in (extras or {}).items():
            for place in fresh + (known if replace else []):
                self.set_vecattr(words[place], name, values[place])

    def _append(self, words: list[Any], rows: Array) -> None:
        if not isinstance(self.vectors, np.ndarray):
            raise TypeError(
                "add_vectors: vectors must be a NumPy array to be added to, got "
                f"{type(self.vectors).__name__}"
            )
        if len(self) == 0 and not self.vectors.shape[1]:
            self.vectors = np.array(rows)
        else:
            self.vectors = np.concatenate([self.vectors, rows.astype(self.vectors.dtype)])
        for word in words:
            self.key_to_index[word] = len(self.index_to_key)
            self.index_to_key.append(word)
        if self.counts is not None:
            self.counts = np.append(self.counts, np.zeros(len(words), np.int64))
        for name, values in self.expandos.items():
            more = np.zeros(len(self) - len(values), values.dtype)
            self.expandos[name] = np.append(values, more)

    def unit_normalize_all(self) -> None:
        """Divides every vector by its length, in place."""
        self.vectors[...] = normalise(self.vectors)

    # ---- further things known of each word ----

    def get_vecattr(self, key: Any, attr: str) -> Any:
        """An attribute of a word, such as its "count". Raises KeyError for an unknown name."""
        return self._vecattrs(attr)[self.get_index(key)]

    def set_vecattr(self, key: Any, attr: str, val: Any) -> None:
        """Sets an attribute of a word, in an array [V] of that name."""
        place = self.get_index(key)
        if attr != "count" and attr not in self.expandos:
            kind = np.asarray(val).dtype if isinstance(val, (int, float, np.generic)) else object
            self.expandos[attr] = np.zeros(len(self), kind)
        if attr == "count" and self.counts is None:
            self.counts = np.zeros(len(self), np.int64)
        self._vecattrs(attr)[place] = val

    def _vecattrs(self, attr: str) -> Any:
        if attr == "count" and self.counts is not None:
            return self.counts
        if attr not in self.expandos:
            known = sorted({*self.expandos, *(["count"] if self.counts is not None else [])})
            raise KeyError(f"get_vecattr: there is no attribute {attr!r}, only {known}")
        return self.expandos[attr]

    def vectors_for_all(self, keys: Iterable[Any], copy_vecattrs: bool = False) -> WordVectors:
        """A new `WordVectors` with those of these words that are known, in their order."""
        words = [word for word in dict.fromkeys(keys) if word in self.key_to_index]
        rows = self.ids(words)
        counts = self.counts if copy_vecattrs else None
        chosen = WordVectors(
            words,
            np.array(to_numpy(self.vectors[rows])),
            None if counts is None else np.asarray(counts)[rows],
        )
        if copy_vecattrs:
            chosen.expandos = {name: values[rows] for name, values in self.expandos.items()}
        return chosen


def checked_rows(
    operation: str, words: Sequence[Any], vectors: Any, size: int, known: int
) -> Array:
    """Vectors of these words as float32 [words, size]; of any size where none is `known`."""
    try:
        rows = np.asarray(to_numpy(vectors) if hasattr(vectors, "shape") else vectors, np.float32)
    except (TypeError, ValueError):
        rows = np.zeros(0, np.float32)
    wanted = size if known or size else rows.shape[-1]
    if rows.shape != (len(words), wanted):
        raise ValueError(
            f"{operation}: vectors must be [{len(words)}, {wanted}] (words, size), got "
            f"{list(rows.shape)}"
        )
    return rows

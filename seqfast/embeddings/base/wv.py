"""A model's `.wv`: its words and vectors as they are now, under gensim's names.

Nothing is copied or kept: whoever holds a `.wv` sees what training has done since, and what is
stored through it is stored in the model.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from seqfast.embeddings.base.state import State
from seqfast.embeddings.files import PathLike
from seqfast.embeddings.formats.gensim import keyed_vectors_class, to_gensim
from seqfast.embeddings.formats.word2vec import load_word2vec_format, save_word2vec_format
from seqfast.embeddings.vectors import Queries, WordVectors, normalise
from seqfast.embeddings.vectors.storage import checked_rows

Array = np.ndarray[Any, Any]


class Attributes(dict[str, Array]):
    """What is known of each word by name: kept by the state, or made where it is asked for."""

    def __init__(self, state: State) -> None:
        super().__init__(count=state.vocabulary.counts, **state.attributes)
        self._state = state

    def __setitem__(self, name: str, values: Any) -> None:
        if name == "count":
            self._state.vocabulary.counts[...] = values
        else:
            self._state.attributes[name] = values
        super().__setitem__(name, values)

    def __missing__(self, name: str) -> Array:
        return self._state.derived_attribute(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


class OfModel:
    """What stands in the way of KeyedVectors: its attributes are those of a model's state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"KeyedVectors<vector_size={self.vector_size}, {len(self._state)} keys>"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        """A copy or pickle stands by itself."""
        counts = np.array(self.counts)
        return _independent, (np.array(self.vectors), list(self.index_to_key), counts)

    @property
    def vectors(self) -> Array:
        """float32 [V, vector_size]: the model's, which may be written to."""
        if "vectors" not in self._state.matrices:
            return np.zeros((0, self._state.settings.vector_size), np.float32)
        return self._state.columns("vectors")

    @vectors.setter
    def vectors(self, values: Any) -> None:
        self._state.replace_vectors(values)

    @property
    def vector_size(self) -> int:
        return int(self._state.settings.vector_size)

    @property
    def index_to_key(self) -> list[Any]:
        return self._state.vocabulary.words

    @property
    def key_to_index(self) -> dict[Any, int]:
        return self._state.vocabulary.index

    @property
    def counts(self) -> Array:
        return self._state.vocabulary.counts

    @property
    def expandos(self) -> Attributes:
        return Attributes(self._state)

    @property
    def next_index(self) -> int:
        return len(self._state)

    mapfile_path = None

    @property
    def norms(self) -> Array:
        """The lengths of the vectors as they are now, float32 [V]; setting them does nothing."""
        found: Array = np.linalg.norm(self.vectors, axis=1)
        return found

    @norms.setter
    def norms(self, values: Any) -> None:
        pass

    def fill_norms(self, force: bool = False) -> None:
        """gensim's: nothing is to be done."""

    @property
    def vectors_lockf(self) -> Array:
        """float32 [V]: 0 where training is to leave a vector as it is, else 1."""
        return self._state.lock_factors_to_write()

    @vectors_lockf.setter
    def vectors_lockf(self, values: Any) -> None:
        self._state.lock_factors = np.asarray(values, np.float32)
        self._state.locked_rows()

    # ---- changes ----

    def __setitem__(self, keys: Any, vectors: Any) -> None:
        """Replaces the vector of a word, or adds the word; of several words likewise."""
        if self._is_one(keys):  # type: ignore[attr-defined]
            keys, vectors = [keys], [vectors]
        self.add_vectors(keys, vectors, replace=True)

    def add_vector(self, key: Any, vector: Any) -> int:
        """Adds a word to the model, with a count of 0, or replaces its vector; returns its id."""
        self.add_vectors([key], [vector], replace=True)
        return int(self.key_to_index[key])

    def add_vectors(
        self, keys: Any, weights: Any, extras: dict[str, Any] | None = None, replace: bool = False
    ) -> None:
        """Adds words to the model, with counts of 0; those that are there stay, unless `replace`.

        Raises ValueError for vectors of another size, RuntimeError while the model trains.
        """
        words = list(keys)
        rows = checked_rows("add_vectors", words, weights, self.vector_size, 1)
        index = self.key_to_index
        fresh = [place for place, word in enumerate(words) if word not in index]
        known = [place for place, word in enumerate(words) if word in index]
        if replace and known:
            self.vectors[[index[words[place]] for place in known]] = rows[known]
        if fresh:
            if self._state.kernels is not None:
                raise RuntimeError("add_vectors: words cannot be added while the model trains")
            self._state.add_words([words[place] for place in fresh], rows[fresh])
        for name, values in (extras or {}).items():
            for place in fresh + (known if replace else []):
                self.set_vecattr(words[place], name, values[place])

    def set_vecattr(self, key: Any, attr: str, val: Any) -> None:
        """Notes something of a word, in an array [V] of that name."""
        place, attributes = self._state.row_of(key), self.expandos
        if attr not in attributes:
            kind = np.asarray(val).dtype if isinstance(val, (int, float, np.generic)) else object
            attributes[attr] = np.zeros(len(self._state), kind)
        attributes[attr][place] = val

    def get_vecattr(self, key: Any, attr: str) -> Any:
        """What is known of a word: its "count", "code" and "point" in the tree of `hs`, ..."""
        return self.expandos[attr][self._state.row_of(key)]

    def unit_normalize_all(self) -> None:
        """Divides every vector of the model by its length, in place."""
        self.vectors[...] = normalise(self.vectors)

    def resize_vectors(self, seed: int = 0) -> None:
        """gensim's: nothing is to be done, a model's vectors are as many as its words."""

    def sort_by_descending_frequency(self) -> None:
        raise RuntimeError(
            "sort_by_descending_frequency: the words of a model keep their ids; "
            "build_vocab sorts them"
        )

    def intersect_word2vec_format(
        self,
        fname: PathLike,
        lockf: float = 0.0,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
    ) -> int:
        """Takes over vectors of a file: see `seqfast.Word2Vec.intersect_word2vec_format`."""
        return self._state.intersect(fname, lockf, binary, encoding, unicode_errors)

    # ---- files ----

    def save_word2vec_format(
        self, fname: PathLike, fvocab: PathLike | None = None, binary: bool = False, **options: Any
    ) -> None:
        """As of the model, which see."""
        save_word2vec_format(
            fname,
            self.vectors,
            self.index_to_key,
            self.counts,
            fvocab=fvocab,
            binary=binary,
            **options,
        )


class ModelVectors(OfModel, WordVectors):  # type: ignore[misc, override]
    """`.wv` where gensim is not there."""

    @classmethod
    def load_word2vec_format(cls, fname: PathLike, **options: Any) -> WordVectors:
        """Reads a file by itself; see `seqfast.embeddings.formats`."""
        return WordVectors(*load_word2vec_format(fname, **options))


def vectors_of_model(state: State) -> Any:
    """A gensim KeyedVectors, if gensim is there, of a model's words and vectors; else our own."""
    try:
        return _class_with_gensim()(state)
    except ImportError:
        return ModelVectors(state)


@functools.cache
def _class_with_gensim() -> Any:
    """A subclass of gensim's: what there is of it here answers from the vectors as they are."""
    keyed_vectors: Any = keyed_vectors_class("wv")

    class KeyedVectorsOfModel(OfModel, Queries, keyed_vectors):  # type: ignore[misc]
        vectors_for_all = keyed_vectors.vectors_for_all

        def save(self, *args: Any, **options: Any) -> None:
            """Writes a file for gensim's `KeyedVectors.load`."""
            to_gensim(np.array(self.vectors), self.index_to_key, self.counts).save(*args, **options)

        load = keyed_vectors.load
        load_word2vec_format = keyed_vectors.load_word2vec_format

    return KeyedVectorsOfModel


def _independent(vectors: Array, words: list[Any], counts: Array) -> Any:
    try:
        return to_gensim(vectors, words, counts)
    except ImportError:
        return WordVectors(words, vectors, counts)

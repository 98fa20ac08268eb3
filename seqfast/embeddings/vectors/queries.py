"""The questions one asks of words with vectors, under gensim's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqfast.embeddings.vectors.arrays import as_library_of, is_integer, to_numpy
from seqfast.embeddings.vectors.evaluation import (
    PairScores,
    evaluate_analogies,
    evaluate_pairs,
)
from seqfast.embeddings.vectors.search import first_rows, most_similar, normalise, pair_cosines


class Queries:
    """The questions of this module, for a class with `index_to_key`, `key_to_index`, `vectors`."""

    index_to_key: Any  # list of str: the words
    key_to_index: Any  # dict of str to int: their ids
    vectors: Any  # float32 [V, size]

    def ids(self, words: Iterable[str]) -> np.ndarray[Any, Any]:
        """int64 [words]; KeyError names the first word that has no vector."""
        words, index = list(words), self.key_to_index
        found = np.array([index.get(word, -1) for word in words], np.int64)
        if len(found) and found.min() < 0:
            raise KeyError(f"{words[int(found.argmin())]!r} has no vector")
        return found

    def most_similar(
        self,
        positive: Any = None,
        negative: Any = None,
        topn: int = 10,
        *,
        restrict_vocab: int | None = None,
    ) -> list[tuple[str, float]]:
        """The `topn` words nearest to a mean of normalised vectors, with their cosines.

        gensim's `most_similar`: `positive` and `negative` are words, ids or vectors, or lists of
        them or of (one of them, weight); the weights are 1 and -1 by default. Words and ids of the
        query are no answers. For many queries at once see `seqfast.embeddings.vectors`.

        Raises KeyError naming a word that has no vector, ValueError for an empty query, a wrong id
        or shape.
        """
        query, ids = self._query_vector(positive, negative)
        possible = len(first_rows(self.vectors, restrict_vocab))
        k = min(topn, possible)
        if k < 1:
            return []
        exclude = as_library_of("", "", np.array([ids], np.int64), self.vectors) if ids else None
        found = most_similar(
            self.vectors,
            as_library_of("", "", query[None], self.vectors),
            k,
            exclude=exclude,
            restrict_vocab=restrict_vocab,
        )
        cosines, answers = (to_numpy(array)[0].tolist() for array in found)
        return [
            (self.index_to_key[answer], cosine)
            for answer, cosine in zip(answers, cosines, strict=True)
            if answer >= 0
        ]

    def analogy(
        self, a: str, b: str, c: str, topn: int = 10, *, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """What is to `c` as `b` is to `a`: `most_similar([b, c], [a], topn)`."""
        return self.most_similar([b, c], [a], topn, restrict_vocab=restrict_vocab)

    def similarity(self, one: str, other: str) -> float:
        """The cosine of two words' vectors. KeyError names a word that has none."""
        return float(pair_cosines(self.vectors, self.ids([one, other])[None])[0])

    def evaluate_pairs(self, pairs: Any, **options: Any) -> PairScores:
        """`seqfast.embeddings.vectors.evaluate_pairs` of these words."""
        return evaluate_pairs(self.vectors, self.index_to_key, pairs, **options)

    def evaluate_analogies(
        self, analogies: Any, **options: Any
    ) -> tuple[float, list[dict[str, Any]]]:
        """`seqfast.embeddings.vectors.evaluate_analogies` of these words."""
        return evaluate_analogies(self.vectors, self.index_to_key, analogies, **options)

    def _query_vector(self, positive: Any, negative: Any) -> tuple[np.ndarray[Any, Any], list[int]]:
        """float32 [size], and the ids of the words in it."""
        size = self.vectors.shape[1]
        mean = np.zeros(size, np.float32)
        ids: list[int] = []
        items = [(item, 1.0) for item in _as_list(positive)]
        items += [(item, -1.0) for item in _as_list(negative)]
        if not items:
            raise ValueError("most_similar: positive or negative must name a word, got neither")
        for item, weight in items:
            if isinstance(item, tuple):
                item, weight = item
            if isinstance(item, (str, int, np.integer)):
                place = int(self.ids([item])[0]) if isinstance(item, str) else int(item)
                if not 0 <= place < len(self.vectors):
                    raise ValueError(
                        f"most_similar: ids must be from 0 to {len(self.vectors) - 1}, got {place}"
                    )
                ids.append(place)
                vector = to_numpy(normalise(self.vectors[place : place + 1]))[0]
            else:
                vector = np.asarray(to_numpy(item), np.float32)
                if vector.shape != (size,):
                    raise ValueError(
                        f"most_similar: vectors must be [{size}], got {list(vector.shape)}"
                    )
            mean += np.float32(weight) * vector
        return mean, ids


def _as_list(items: Any) -> list[Any]:
    if items is None:
        return []
    single = isinstance(items, (str, int, np.integer))
    # A vector, not a list of ids.
    single = single or (hasattr(items, "ndim") and items.ndim == 1 and not is_integer(items))
    return [items] if single else list(items)

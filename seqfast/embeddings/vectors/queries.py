"""The questions one asks of words with vectors, under gensim's names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from seqfast.embeddings.vectors.arrays import as_library_of, is_integer, row_lengths, to_numpy
from seqfast.embeddings.vectors.evaluation import (
    PairScores,
    evaluate_analogies,
    evaluate_pairs,
)
from seqfast.embeddings.vectors.search import (
    first_rows,
    most_similar,
    normalise,
    pair_cosines,
)
from seqfast.ops.base.checks import check_choice

Vector = np.ndarray[Any, Any]
Answers = list[tuple[Any, float]]

_METRICS = ("cosine", "euclidean")
_SINGLE = (str, int, np.integer)
_MISSING = object()


class Queries:
    """What can be asked of words with vectors: methods of `Word2Vec`, `GloVe` and `WordVectors`.

    A class needs `index_to_key`, `key_to_index` and `vectors`. Words may be any hashable objects.
    An int that is not a word is an id. Names and meanings are those of gensim's KeyedVectors,
    against which the results are tested.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> vectors = WordVectors(["king", "queen", "dog"], np.eye(3, dtype=np.float32))
        >>> vectors.similarity("king", "queen")
        0.0
    """

    index_to_key: Any  # list: the words
    key_to_index: Any  # dict: their ids
    vectors: Any  # float32 [V, size]

    # ---- words ----

    def __len__(self) -> int:
        return len(self.index_to_key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.index_to_key)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index

    def __getitem__(self, words: Any) -> Any:
        """[size] of a word or id, [words, size] of several; KeyError names what has none."""
        if self._is_one(words):
            return self.vectors[self.get_index(words)]
        return self.vectors[[self.get_index(word) for word in words]]

    def has_index_for(self, word: Any) -> bool:
        """Whether the word, or id, has a vector."""
        return self.get_index(word, -1) >= 0

    def get_index(self, key: Any, default: Any = None) -> int:
        """The id of a word; an id is itself. KeyError names what has none, unless `default`."""
        try:
            place = self.key_to_index.get(key)
        except TypeError:
            raise TypeError(
                f"get_index: a word must be hashable, got {type(key).__name__} {key!r}"
            ) from None
        if place is not None:
            return int(place)
        whole = isinstance(key, (int, np.integer)) and not isinstance(key, bool)
        if whole and 0 <= key < len(self.index_to_key):
            return int(key)
        if default is not None:
            return int(default)
        if whole:
            raise KeyError(
                f"{key!r} has no vector: it is not a word, and ids are from 0 to "
                f"{len(self.index_to_key) - 1}"
            )
        raise KeyError(f"{key!r} has no vector")

    def get_vector(self, key: Any, norm: bool = False) -> Any:
        """A word's vector; `norm=True` divides it by its length. Raises KeyError as `get_index`."""
        place = self.get_index(key)
        return normalise(self.vectors[place : place + 1])[0] if norm else self.vectors[place]

    def ids(self, words: Iterable[Any]) -> Vector:
        """int64 [words]; KeyError names the first word that has no vector."""
        return np.array([self.get_index(word) for word in words], np.int64)

    def get_normed_vectors(self) -> Any:
        """All vectors divided by their lengths: a new array."""
        return normalise(self.vectors)

    def get_mean_vector(
        self,
        keys: Sequence[Any],
        weights: Any = None,
        pre_normalize: bool = True,
        post_normalize: bool = False,
        ignore_missing: bool = True,
    ) -> Vector:
        """The weighted mean of words, ids or vectors, float32 [size]; gensim's function.

        `weights` None: all 1. `pre_normalize` divides each vector by its length first,
        `post_normalize` the mean. Raises ValueError for no keys or a wrong number of weights,
        KeyError for a word without a vector unless `ignore_missing`.
        """
        keys = list(keys)
        if not keys:
            raise ValueError("get_mean_vector: keys must name a word or vector, got none")
        factors = np.ones(len(keys), np.float32) if weights is None else np.asarray(weights)
        if factors.shape != (len(keys),):
            raise ValueError(
                f"get_mean_vector: weights must be [{len(keys)}], as keys are, got "
                f"{list(factors.shape)}"
            )
        mean, total = np.zeros(self.vectors.shape[1], np.float32), 0.0
        for key, factor in zip(keys, factors.tolist(), strict=True):
            if not self._is_vector(key) and ignore_missing and self.get_index(key, -1) < 0:
                continue
            vector = self._vector_of("get_mean_vector", key)
            mean += np.float32(factor) * (_unit(vector) if pre_normalize else vector)
            total += abs(factor)
        if total > 0:
            mean /= np.float32(total)
        return _unit(mean) if post_normalize else mean

    # ---- neighbours ----

    def most_similar(
        self,
        positive: Any = None,
        negative: Any = None,
        topn: int | None = 10,
        clip_start: int = 0,
        clip_end: int | None = None,
        restrict_vocab: int | None = None,
    ) -> Any:
        """The `topn` words nearest to a mean of normalised vectors, with their cosines.

        gensim's `most_similar`: `positive` and `negative` are words, ids or vectors, or lists of
        these or of pairs with a weight; the weights are 1 and -1 by default. Words and ids of the
        query are never answers. Answers have ids from `clip_start` to before `clip_end`, or are
        among the first `restrict_vocab`. `topn` None: all their cosines, as an array. For many
        queries at once see `seqfast.embeddings.vectors`.

        Raises KeyError, which names the word or id without a vector, and ValueError for an empty
        query or a wrong shape.
        """
        query, ids = self._query_vector("most_similar", positive, negative)
        if restrict_vocab is not None:
            clip_start, clip_end = 0, restrict_vocab
        answers = self.vectors[clip_start:clip_end]
        if topn is None:
            rows = to_numpy(answers)
            cosines: Vector = rows @ _unit(query) / row_lengths(rows)
            return cosines
        k = min(int(topn), len(answers))
        if k < 1:
            return []
        own = [place - clip_start for place in ids]
        exclude = as_library_of("", "", np.array([own], np.int64), self.vectors) if own else None
        found = most_similar(
            answers, as_library_of("", "", query[None], self.vectors), k, exclude=exclude
        )
        cosines_found, places = (to_numpy(array)[0].tolist() for array in found)
        return [
            (self.index_to_key[clip_start + place], cosine)
            for place, cosine in zip(places, cosines_found, strict=True)
            if place >= 0
        ]

    def similar_by_word(
        self, word: Any, topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Any:
        """`most_similar` of one word."""
        return self.most_similar([word], topn=topn, restrict_vocab=restrict_vocab)

    similar_by_key = similar_by_word

    def similar_by_vector(
        self, vector: Any, topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Any:
        """`most_similar` of one vector."""
        return self.most_similar([vector], topn=topn, restrict_vocab=restrict_vocab)

    def most_similar_cosmul(
        self,
        positive: Any = None,
        negative: Any = None,
        topn: int | None = 10,
        restrict_vocab: int | None = None,
    ) -> Any:
        """`most_similar` by 3CosMul (Levy & Goldberg 2014): a product of shifted cosines.

        Raises as `most_similar`.
        """
        operation = "most_similar_cosmul"
        sides = [_as_list(positive), _as_list(negative)]
        if not sides[0] and not sides[1]:
            raise ValueError(f"{operation}: positive or negative must name a word, got neither")
        rows = to_numpy(normalise(first_rows(self.vectors, restrict_vocab)))
        scores = np.ones(len(rows), np.float32)
        asked = set()
        for items, sign in zip(sides, (1, -1), strict=True):
            for item in items:
                if not self._is_vector(item):
                    asked.add(self.get_index(item))
                vector = self._vector_of(operation, item)
                if not self._is_vector(item):
                    vector = to_numpy(self.get_vector(item, norm=True))
                shifted = (1 + rows @ vector) / 2
                scores *= shifted if sign > 0 else 1 / (shifted + np.float32(1e-6))
        if topn is None:
            return scores
        order = np.argsort(-scores, kind="stable")[: topn + len(asked)].tolist()
        best = [place for place in order if place not in asked][:topn]
        return [(self.index_to_key[place], float(scores[place])) for place in best]

    def most_similar_euclidean(
        self,
        positive: Any = None,
        negative: Any = None,
        topn: int | None = 10,
        restrict_vocab: int | None = None,
    ) -> Any:
        """The `topn` words nearest to a sum of vectors by Euclidean distance, with the distances.

        As `most_similar`, but vectors count as they are, with their lengths: the point is the sum
        of `positive` minus that of `negative`, each times its weight where it has one, and the
        nearest word comes first. Frequent words have long vectors and are far from most others.
        `topn` None: the distances of all words, as an array.

        Raises as `most_similar`.
        """
        items = [(item, 1.0) for item in self._items(positive)]
        items += [(item, -1.0) for item in self._items(negative)]
        point, asked = self._sum_of("most_similar_euclidean", items, normed=False)
        distances = _euclidean(to_numpy(first_rows(self.vectors, restrict_vocab)), point)
        if topn is None:
            return distances
        order = np.argsort(distances, kind="stable")[: topn + len(asked)].tolist()
        best = [place for place in order if place not in asked][:topn]
        return [(self.index_to_key[place], float(distances[place])) for place in best]

    def analogy(
        self, a: Any, b: Any, c: Any, topn: int = 10, *, restrict_vocab: int | None = None
    ) -> Answers:
        """Words that are to `c` as `b` is to `a`: `most_similar([b, c], [a], topn)`."""
        found: Answers = self.most_similar([b, c], [a], topn, restrict_vocab=restrict_vocab)
        return found

    def similarity(self, one: Any, other: Any) -> float:
        """The cosine of two words' vectors. KeyError names a word without a vector."""
        return float(pair_cosines(self.vectors, self.ids([one, other])[None])[0])

    def distance(self, one: Any, other: Any, metric: str = "cosine") -> float:
        """1 - `similarity`; with the metric "euclidean" the length of the difference."""
        check_choice("distance", "metric", metric, _METRICS)
        if metric == "euclidean":
            return float(self.distances(one, [other], metric)[0])
        return 1 - self.similarity(one, other)

    def distances(
        self, word_or_vector: Any, other_words: Iterable[Any] = (), metric: str = "cosine"
    ) -> Vector:
        """1 - the cosines of a word or vector with others, or with all: float32 [others].

        With the metric "euclidean" the lengths of the differences.
        """
        check_choice("distances", "metric", metric, _METRICS)
        query = self._vector_of("distances", word_or_vector)
        others = list(other_words)
        rows = to_numpy(self.vectors[self.ids(others)] if others else self.vectors)
        if metric == "euclidean":
            return _euclidean(rows, query)
        query = _unit(query)
        found: Vector = 1 - rows @ query / row_lengths(rows)
        return found

    @staticmethod
    def cosine_similarities(vector_1: Any, vectors_all: Any) -> Vector:
        """The cosines of a vector with rows, [rows]."""
        rows = np.asarray(vectors_all, np.float32)
        found: Vector = rows @ _unit(np.asarray(vector_1, np.float32)) / row_lengths(rows)
        return found

    def n_similarity(self, ws1: Sequence[Any], ws2: Sequence[Any]) -> float:
        """The cosine of two sets of words, each the mean of its vectors.

        Raises ZeroDivisionError for an empty set, as gensim does; KeyError for an unknown word.
        """
        if not (len(ws1) and len(ws2)):
            raise ZeroDivisionError("n_similarity: both sets must have words, got an empty one")
        if len(ws1) == len(ws2) == 1:
            return self.similarity(ws1[0], ws2[0])
        one, other = (
            self.get_mean_vector(words, pre_normalize=False, ignore_missing=False)
            for words in (ws1, ws2)
        )
        return float(_unit(one) @ _unit(other))

    def most_similar_to_given(self, key1: Any, keys_list: Sequence[Any]) -> Any:
        """The one of a list of words that is nearest to a word."""
        keys = list(keys_list)
        if not keys:
            raise ValueError("most_similar_to_given: keys_list must name a word, got none")
        return keys[int(np.argmin(self.distances(key1, keys)))]

    def closer_than(self, key1: Any, key2: Any) -> list[Any]:
        """The words that are nearer to `key1` than `key2` is."""
        distances = self.distances(key1)
        own, other = self.get_index(key1), self.get_index(key2)
        places = np.flatnonzero(distances < distances[other]).tolist()
        return [self.index_to_key[place] for place in places if place != own]

    words_closer_than = closer_than

    def rank(self, key1: Any, key2: Any) -> int:
        """1 where `key2` is the nearest to `key1`, 2 where one word is nearer, ..."""
        return len(self.closer_than(key1, key2)) + 1

    def relative_cosine_similarity(self, wa: Any, wb: Any, topn: int = 10) -> float:
        """The cosine of two words divided by the sum of the cosines of `wa`'s `topn` neighbours.

        Leeuwenberg et al. 2016; above 1 / topn if `wb` is nearer than these on average.
        """
        neighbours = self.similar_by_word(wa, topn)
        return float(self.similarity(wa, wb) / sum(cosine for _, cosine in neighbours))

    def rank_by_centrality(
        self, words: Sequence[Any], use_norm: bool = True
    ) -> list[tuple[float, Any]]:
        """Words by how near they are to their mean, the nearest first, as (cosine, word).

        Words without a vector are ignored. Raises ValueError if none has one.
        """
        known = [word for word in words if self.get_index(word, -1) >= 0]
        if not known:
            raise ValueError(f"doesnt_match: none of the words has a vector, got {list(words)!r}")
        rows = to_numpy(self.vectors[self.ids(known)])
        rows = rows / row_lengths(rows)[:, None] if use_norm else rows
        cosines = (rows @ _unit(rows.mean(0))).tolist()
        return sorted(zip(cosines, known, strict=True), key=lambda pair: -pair[0])

    def doesnt_match(self, words: Sequence[Any]) -> Any:
        """The word that does not fit the others: the farthest from the mean of all."""
        return self.rank_by_centrality(words)[-1][1]

    # ---- test sets ----

    def evaluate_pairs(self, pairs: Any, **options: Any) -> PairScores:
        """`seqfast.embeddings.vectors.evaluate_pairs` of these words."""
        return evaluate_pairs(self.vectors, self.index_to_key, pairs, **options)

    def evaluate_analogies(
        self, analogies: Any, **options: Any
    ) -> tuple[float, list[dict[str, Any]]]:
        """`seqfast.embeddings.vectors.evaluate_analogies` of these words."""
        return evaluate_analogies(self.vectors, self.index_to_key, analogies, **options)

    evaluate_word_pairs = evaluate_pairs

    def evaluate_word_analogies(
        self,
        analogies: Any,
        restrict_vocab: int | None = 300_000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
        similarity_function: str = "most_similar",
    ) -> tuple[float, list[dict[str, Any]]]:
        """`evaluate_analogies`, also by "most_similar_cosmul" (Levy & Goldberg 2014)."""
        check_choice(
            "evaluate_word_analogies",
            "similarity_function",
            similarity_function,
            ("most_similar", "most_similar_cosmul"),
        )
        return self.evaluate_analogies(
            analogies,
            restrict_vocab=restrict_vocab,
            case_insensitive=case_insensitive,
            dummy4unknown=dummy4unknown,
            cosmul=similarity_function == "most_similar_cosmul",
        )

    # ---- what is asked for ----

    def _is_one(self, key: Any) -> bool:
        """Whether it is one word or id, not a list of them."""
        if isinstance(key, _SINGLE):
            return True
        if isinstance(key, (list, np.ndarray, range)):
            return False
        if isinstance(key, Hashable):
            try:
                if key in self.key_to_index:
                    return True
            except TypeError:
                return False
        return not isinstance(key, Iterable)

    def _is_vector(self, item: Any) -> bool:
        if isinstance(item, _SINGLE) or (isinstance(item, tuple) and item in self.key_to_index):
            return False
        return hasattr(item, "shape") or isinstance(item, (list, tuple))

    def _vector_of(self, operation: str, item: Any) -> Vector:
        """float32 [size] of a word, id or vector."""
        size = self.vectors.shape[1]
        if not self._is_vector(item):
            place = self.get_index(item)
            return np.asarray(to_numpy(self.vectors[place]), np.float32)
        try:
            vector = np.asarray(to_numpy(item), np.float32)
        except (TypeError, ValueError):
            raise TypeError(
                f"{operation}: a query must be a word, an id or a vector [{size}], got {item!r}"
            ) from None
        if vector.shape != (size,):
            raise ValueError(f"{operation}: vectors must be [{size}], got {list(vector.shape)}")
        return vector

    def _query_vector(
        self, operation: str, positive: Any, negative: Any
    ) -> tuple[Vector, list[int]]:
        """float32 [size], and the ids of the words in it."""
        items = [(item, 1.0) for item in self._items(positive)]
        items += [(item, -1.0) for item in self._items(negative)]
        return self._sum_of(operation, items, normed=True)

    def _sum_of(
        self, operation: str, items: list[tuple[Any, float]], normed: bool
    ) -> tuple[Vector, list[int]]:
        """The weighted sum of words, ids and vectors, and the ids of those that are words."""
        mean = np.zeros(self.vectors.shape[1], np.float32)
        ids: list[int] = []
        if not items:
            raise ValueError(f"{operation}: positive or negative must name a word, got neither")
        for item, weight in items:
            if isinstance(item, tuple) and len(item) == 2 and item not in self.key_to_index:
                item, weight = item
            vector = self._vector_of(operation, item)
            if not self._is_vector(item):
                ids.append(self.get_index(item))
                vector = _unit(vector) if normed else vector
            mean += np.float32(weight) * vector
        return mean, ids

    def _items(self, items: Any) -> list[Any]:
        """A list of what is asked for; a list of numbers is one vector."""
        size = self.vectors.shape[1]
        if isinstance(items, list) and len(items) == size and all(type(x) is float for x in items):
            return [items]
        if isinstance(items, tuple) and items in self.key_to_index:
            return [items]
        return _as_list(items)


def _euclidean(rows: Vector, point: Vector) -> Vector:
    """float32 [rows]: their distances from a point."""
    found: Vector = np.linalg.norm(rows - point, axis=1)
    return found


def _unit(vector: Vector) -> Vector:
    length = np.linalg.norm(vector)
    return vector / np.float32(length) if length else vector


def _as_list(items: Any) -> list[Any]:
    if items is None:
        return []
    single = isinstance(items, _SINGLE)
    # A vector, not a list of ids.
    single = single or (hasattr(items, "ndim") and items.ndim == 1 and not is_integer(items))
    return [items] if single else list(items)

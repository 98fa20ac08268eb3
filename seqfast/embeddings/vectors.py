"""What one asks of word vectors: neighbours, analogies, and how well both agree with people.

`most_similar` and `analogy` work on arrays, for any number of queries at once; `evaluate_pairs` and
`evaluate_analogies` read the usual test sets and score as gensim does; `Queries` gives all of them
to a class that has words and vectors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from seqfast.embeddings.files import PathLike, open_by_suffix
from seqfast.ops.base.arrays import library_of
from seqfast.ops.top_k import top_k

Array = Any  # a numpy.ndarray or a torch.Tensor
Score = tuple[float, float]  # a correlation and its p-value
Quadruple = tuple[str, str, str, str]

# Bytes of scores that are held at once.
_SCORE_BYTES = 128 << 20
# gensim looks at so many answers to an analogy, in case the first are forms of its own words.
_ANSWERS_PER_QUESTION = 5
_RESTRICT_VOCAB = 300_000


class PairScores(NamedTuple):
    """What `evaluate_pairs` returns, in gensim's order."""

    pearson: Score
    spearman: Score
    oov_ratio: float  # per cent of the pairs with a word that has no vector


def normalise(vectors: Array) -> Array:
    """Each row divided by its length; rows of zeros stay.

    `vectors` [any, size], a NumPy array or a torch tensor on any device. Returns a new float32
    array of the same library, on the same device.
    """
    _check_matrix("normalise", "vectors", vectors)
    rows = _float32(vectors)
    return rows / _lengths(rows)[:, None]


def most_similar(
    vectors: Array,
    queries: Any,
    k: int = 10,
    *,
    exclude: Any = None,
    restrict_vocab: int | None = None,
    normalised: bool = False,
    memory: int = _SCORE_BYTES,
) -> tuple[Array, Array]:
    """The `k` vectors of largest cosine with each query, the best first.

    `vectors` [V, size]: a NumPy array, or a torch tensor on any device. `queries`: ids [any], each
    of which is not its own neighbour, or vectors [any, size]. `exclude` [queries, any] ids: no
    answers either. `restrict_vocab`: only the first so many vectors may be answers. `normalised`
    says that all rows of `vectors` have length 1 already, which spares many small calls a pass over
    them (see `normalise`). Scores are made in blocks of at most `memory` bytes, each by one matrix
    product, so any number of queries will do.

    Returns (cosines [queries, k] float32, ids [queries, k] int64) of the library and on the device
    of `vectors`; equal cosines come by rising id, and -inf and -1 follow where there are fewer than
    k answers.

    Raises TypeError for a wrong type or dtype; ValueError for a wrong shape, an id that is none, a
    k below 1 or above the number of possible answers.
    """
    operation = "most_similar"
    answers = _candidates(operation, vectors, k, restrict_vocab)
    queries = _as_library_of(operation, "queries", queries, vectors)
    if _is_integer(queries):
        ids = _check_ids(operation, "queries", queries, vectors, 1)
        queries = vectors[ids] if normalised else normalise(vectors[ids])
        own = ids[:, None]
        if exclude is None:
            exclude = own
        else:
            exclude = _check_exclude(operation, exclude, queries, vectors)
            exclude = _concatenated([own, exclude], 1)
    else:
        _check_matrix(operation, "queries", queries)
        if queries.shape[1] != vectors.shape[1]:
            raise ValueError(
                f"{operation}: queries must be ids or vectors [any, {vectors.shape[1]}], "
                f"got {list(queries.shape)}"
            )
        queries = normalise(queries)
        if exclude is not None:
            exclude = _check_exclude(operation, exclude, queries, vectors)
    return _search(answers, queries, k, exclude, memory, normalised)


def analogy(
    vectors: Array,
    questions: Any,
    k: int = 1,
    *,
    restrict_vocab: int | None = None,
    normalised: bool = False,
    memory: int = _SCORE_BYTES,
) -> tuple[Array, Array]:
    """What is to c as b is to a: the `k` vectors nearest to b - a + c, without a, b and c.

    3CosAdd (Mikolov et al. 2013) of normalised vectors, as gensim's `most_similar(positive=[b, c],
    negative=[a])`. `questions` [any, 3]: ids (a, b, c). All else as `most_similar`, which see.
    """
    operation = "analogy"
    answers = _candidates(operation, vectors, k, restrict_vocab)
    ids = _check_ids(
        operation,
        "questions",
        _as_library_of(operation, "questions", questions, vectors),
        vectors,
        2,
    )
    if ids.shape[1] != 3:
        raise ValueError(f"{operation}: questions must be [any, 3], got {list(ids.shape)}")
    return _search(answers, _analogy_vectors(vectors, ids, normalised), k, ids, memory, normalised)


def evaluate_pairs(
    vectors: Array,
    words: Sequence[str],
    pairs: PathLike | Iterable[tuple[str, str, float]],
    *,
    delimiter: str = "\t",
    encoding: str = "utf-8",
    restrict_vocab: int | None = _RESTRICT_VOCAB,
    case_insensitive: bool = True,
    dummy4unknown: bool = False,
) -> PairScores:
    """How the cosines of pairs of words go with people's judgements (WordSim-353, SimLex-999, ...).

    `vectors` [V, size] of `words`, the frequent ones first. `pairs`: (word, word, judgement), or a
    file of them, one a line between delimiters (plain, .gz, .bz2 or .xz); lines that begin with #
    or are no such pair are passed over, as gensim does. Only the first `restrict_vocab` words
    count; where several differ in case alone, the first one does. A pair with an unknown word is
    left out, or its cosine is 0 with `dummy4unknown`.

    Returns ((Pearson's r, p), (Spearman's rho, p), per cent of pairs with an unknown word), the
    results of gensim's `evaluate_word_pairs`. The two-tailed p is NaN without scipy; r and rho are
    NaN where all judgements or all cosines are equal.

    Raises OSError for a file that cannot be read, ValueError without a single known pair.
    """
    _check_words("evaluate_pairs", vectors, words)
    index = _first_ids(words, restrict_vocab, case_insensitive)
    ids, judgements, unknown_judgements = [], [], []
    for one, other, judgement in _read_pairs(pairs, delimiter, encoding):
        if case_insensitive:
            one, other = one.upper(), other.upper()
        if one in index and other in index:
            ids.append((index[one], index[other]))
            judgements.append(judgement)
        else:
            unknown_judgements.append(judgement)
    unknown = len(unknown_judgements)
    if not judgements and not (dummy4unknown and unknown):
        where = f" in {os.fspath(pairs)}" if isinstance(pairs, (str, os.PathLike)) else ""
        raise ValueError(
            f"evaluate_pairs: pairs must hold some whose words have vectors, got {unknown} of "
            f"unknown words and no other{where}"
        )
    cosines = _cosines(vectors, np.array(ids, np.int64).reshape(-1, 2))
    if dummy4unknown:
        cosines = np.append(cosines, np.zeros(unknown))
        judgements += unknown_judgements
    gold = np.array(judgements)
    return PairScores(
        _correlation(gold, cosines),
        _correlation(_ranks(gold), _ranks(cosines)),
        100.0 * unknown / (len(ids) + unknown),
    )


def evaluate_analogies(
    vectors: Array,
    words: Sequence[str],
    analogies: PathLike | Iterable[str],
    *,
    restrict_vocab: int | None = _RESTRICT_VOCAB,
    case_insensitive: bool = True,
    dummy4unknown: bool = False,
    memory: int = _SCORE_BYTES,
) -> tuple[float, list[dict[str, Any]]]:
    """The share of analogies (a is to b as c is to d) whose d is found by `analogy`.

    `vectors` [V, size] of `words`, the frequent ones first. `analogies`: a file in the format of
    Google's questions-words.txt (plain, .gz, .bz2 or .xz), or its lines: four words, below headings
    ": section"; other lines are passed over. Questions and answers are sought among the first
    `restrict_vocab` words; of words that differ in case alone the first one counts for all. A
    question with an unknown word is left out, or counts as wrong with `dummy4unknown`.

    Returns (share of right answers, sections), the results of gensim's `evaluate_word_analogies`:
    each section a dict of "section", "correct" and "incorrect", the latter two lists of
    (a, b, c, d), in upper case if `case_insensitive`; the last is "Total accuracy".

    Raises OSError for a file that cannot be read, ValueError for one without questions or with one
    before the first heading.
    """
    operation = "evaluate_analogies"
    _check_words(operation, vectors, words)
    index = _first_ids(words, restrict_vocab, case_insensitive)
    sections: list[dict[str, Any]] = []
    # Where each known question is to be listed.
    questions: list[tuple[int, Quadruple]] = []
    count = 0
    for section, quadruple in _read_analogies(analogies):
        if quadruple is None:
            sections.append({"section": section, "correct": [], "incorrect": []})
            continue
        count += 1
        if case_insensitive:
            a, b, c, d = (word.upper() for word in quadruple)
            quadruple = a, b, c, d
        if dummy4unknown or all(word in index for word in quadruple):
            questions.append((len(sections) - 1, quadruple))
    if not count:
        raise ValueError(f"{operation}: analogies must hold lines of four words, got none")
    known = [quadruple for _, quadruple in questions if all(word in index for word in quadruple)]
    right = iter(
        _answered_rightly(vectors, words, index, known, restrict_vocab, case_insensitive, memory)
    )
    for place, quadruple in questions:
        answered = all(word in index for word in quadruple) and next(right)
        sections[place]["correct" if answered else "incorrect"].append(quadruple)
    total: dict[str, Any] = {"section": "Total accuracy"}
    for key in ("correct", "incorrect"):
        total[key] = [quadruple for section in sections for quadruple in section[key]]
    sections.append(total)
    asked = len(total["correct"]) + len(total["incorrect"])
    return len(total["correct"]) / asked if asked else 0.0, sections


def _answered_rightly(
    vectors: Array,
    words: Sequence[str],
    index: dict[str, int],
    questions: list[Quadruple],
    restrict_vocab: int | None,
    case_insensitive: bool,
    memory: int,
) -> list[bool]:
    """Whether each question of known words is answered rightly."""
    if not questions:
        return []
    ids = np.array([[index[word] for word in question] for question in questions])
    answers = _first_rows(vectors, restrict_vocab)
    k = min(_ANSWERS_PER_QUESTION, len(answers))
    offsets = _analogy_vectors(vectors, _as_library_of("", "", ids[:, :3], vectors), False)
    exclude = _as_library_of("", "", np.ascontiguousarray(ids[:, :3]), vectors)
    found = _to_numpy(_search(answers, offsets, k, exclude, memory, False)[1])
    # Of words that differ in case alone, the first stands for all.
    forms = (word.upper() if case_insensitive else word for word in words[: len(answers)])
    form = np.array([index[word] for word in forms])
    predicted = np.where(found >= 0, form[found], -1)
    asked = (predicted[:, :, None] == ids[:, None, :3]).any(2)
    # The first that is no form of the question's words; the last one where all are.
    usable = (predicted >= 0) & ~asked
    last = np.maximum((predicted >= 0).sum(1) - 1, 0)
    chosen = np.where(usable.any(1), usable.argmax(1), last)
    right: list[bool] = (predicted[np.arange(len(ids)), chosen] == ids[:, 3]).tolist()
    return right


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
        possible = len(_first_rows(self.vectors, restrict_vocab))
        k = min(topn, possible)
        if k < 1:
            return []
        exclude = _as_library_of("", "", np.array([ids], np.int64), self.vectors) if ids else None
        found = most_similar(
            self.vectors,
            _as_library_of("", "", query[None], self.vectors),
            k,
            exclude=exclude,
            restrict_vocab=restrict_vocab,
        )
        cosines, answers = (_to_numpy(array)[0].tolist() for array in found)
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
        return float(_cosines(self.vectors, self.ids([one, other])[None])[0])

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
                vector = _to_numpy(normalise(self.vectors[place : place + 1]))[0]
            else:
                vector = np.asarray(_to_numpy(item), np.float32)
                if vector.shape != (size,):
                    raise ValueError(
                        f"most_similar: vectors must be [{size}], got {list(vector.shape)}"
                    )
            mean += np.float32(weight) * vector
        return mean, ids


@dataclass
class WordVectors(Queries):
    """Words with their vectors, and what `Queries` can ask them."""

    index_to_key: list[str]
    vectors: Any  # float32 [V, size]
    counts: Any = None  # int64 [V], or None where nobody knows
    key_to_index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.key_to_index = {word: place for place, word in enumerate(self.index_to_key)}

    def __len__(self) -> int:
        return len(self.index_to_key)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index

    def __getitem__(self, words: str | Sequence[str]) -> Any:
        """[size] of a word, [words, size] of several; KeyError names one that is not there."""
        ids = self.ids([words] if isinstance(words, str) else words)
        return self.vectors[ids[0] if isinstance(words, str) else ids]


def _as_list(items: Any) -> list[Any]:
    if items is None:
        return []
    single = isinstance(items, (str, int, np.integer))
    # A vector, not a list of ids.
    single = single or (hasattr(items, "ndim") and items.ndim == 1 and not _is_integer(items))
    return [items] if single else list(items)


# ---- the search ----


def _candidates(operation: str, vectors: Array, k: int, restrict_vocab: int | None) -> Array:
    """The vectors that may be answers."""
    _check_matrix(operation, "vectors", vectors)
    answers = _first_rows(vectors, restrict_vocab)
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= len(answers):
        raise ValueError(
            f"{operation}: k must be from 1 to {len(answers)}, the vectors to choose from, "
            f"got {k!r}"
        )
    return answers


def _first_rows(vectors: Array, restrict_vocab: int | None) -> Array:
    return vectors if restrict_vocab is None else vectors[:restrict_vocab]


def _search(
    answers: Array,
    queries: Array,
    k: int,
    exclude: Array | None,
    memory: int,
    normalised: bool,
) -> tuple[Array, Array]:
    """`most_similar` of normalised queries, in blocks of them."""
    lengths = None
    if not normalised:
        # Whichever is less is divided: the answers, or the scores of all queries.
        if len(queries) < answers.shape[1]:
            answers = _float32(answers)
            lengths = _lengths(answers)
        else:
            answers = normalise(answers)
    block = min(max(1, memory // (4 * max(1, len(answers)))), max(1, len(queries)))
    scores = _empty(answers, (block, len(answers)))
    found = []
    for start in range(0, max(1, len(queries)), block):
        some = queries[start : start + block]
        product = _product(some, answers, scores[: len(some)])
        if lengths is not None:
            product /= lengths
        found.append(top_k(product, k, None if exclude is None else exclude[start : start + block]))
    cosines, ids = zip(*found, strict=True)
    return _concatenated(cosines, 0), _concatenated(ids, 0)


def _analogy_vectors(vectors: Array, ids: Array, normalised: bool) -> Array:
    """[questions, size]: b - a + c of (a, b, c), normalised."""
    a, b, c = (vectors[ids[:, i]] for i in range(3))
    if not normalised:
        a, b, c = normalise(a), normalise(b), normalise(c)
    return normalise(b - a + c)


def _cosines(vectors: Array, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float64 [pairs] of [pairs, 2] ids."""
    one, other = (
        _to_numpy(normalise(vectors[_as_library_of("", "", column.copy(), vectors)]))
        for column in ids.T
    )
    cosines: np.ndarray[Any, Any] = np.einsum("ij,ij->i", one, other, dtype=np.float64)
    return cosines


# ---- NumPy and torch ----


def _float32(vectors: Array) -> Array:
    if isinstance(vectors, np.ndarray):
        return vectors.astype(np.float32, copy=False)
    return vectors.detach().float()


def _lengths(rows: Array) -> Array:
    """[rows]: of each row, 1 for rows of zeros."""
    if isinstance(rows, np.ndarray):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        lengths[lengths == 0] = 1
        return lengths
    import torch

    length = torch.linalg.vector_norm(rows, dim=1)
    return length.masked_fill_(length == 0, 1)


def _product(queries: Array, answers: Array, out: Array) -> Array:
    if isinstance(answers, np.ndarray):
        return np.matmul(queries, answers.T, out=out)
    import torch

    with torch.no_grad():
        return torch.mm(queries.float(), answers.float().t(), out=out)


def _empty(like: Array, shape: tuple[int, int]) -> Array:
    if isinstance(like, np.ndarray):
        return np.empty(shape, np.float32)
    import torch

    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _concatenated(arrays: Sequence[Array], axis: int) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays, axis)
    import torch

    return torch.cat(list(arrays), axis)


def _as_library_of(operation: str, name: str, array: Any, vectors: Array) -> Array:
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


def _to_numpy(array: Any) -> Any:
    if isinstance(array, (np.ndarray, list)):
        return array
    return array.detach().cpu().numpy()


def _is_integer(array: Array) -> bool:
    if isinstance(array, np.ndarray):
        return bool(array.dtype.kind in "iu")
    dtype = array.dtype
    return not (dtype.is_floating_point or dtype.is_complex or str(dtype) == "torch.bool")


# ---- checks ----


def _check_matrix(operation: str, name: str, array: Any) -> None:
    library_of(array, operation, name)
    kind = array.dtype.kind == "f" if isinstance(array, np.ndarray) else array.is_floating_point()
    if not kind:
        raise TypeError(f"{operation}: {name} must hold floating-point numbers, got {array.dtype}")
    if len(array.shape) != 2:
        raise ValueError(f"{operation}: {name} must be [any, size], got {list(array.shape)}")


def _check_words(operation: str, vectors: Array, words: Sequence[str]) -> None:
    _check_matrix(operation, "vectors", vectors)
    if len(words) != len(vectors):
        raise ValueError(
            f"{operation}: words must be as many as vectors, {len(vectors)}, got {len(words)}"
        )


def _check_ids(operation: str, name: str, ids: Array, vectors: Array, dimensions: int) -> Array:
    """int64 ids, all of which are some."""
    if len(ids.shape) != dimensions:
        wanted = "[any]" if dimensions == 1 else "[any, any]"
        raise ValueError(f"{operation}: {name} must be ids {wanted}, got {list(ids.shape)}")
    if math.prod(ids.shape) and not _is_integer(ids):
        raise TypeError(f"{operation}: {name} must hold integers, got {ids.dtype}")
    if math.prod(ids.shape):
        least, most = int(ids.min()), int(ids.max())
        if least < 0 or most >= len(vectors):
            raise ValueError(
                f"{operation}: {name} must be ids from 0 to {len(vectors) - 1}, "
                f"got {least if least < 0 else most}"
            )
    return ids.astype(np.int64) if isinstance(ids, np.ndarray) else ids.long()


def _check_exclude(operation: str, exclude: Any, queries: Array, vectors: Array) -> Array:
    exclude = _as_library_of(operation, "exclude", exclude, vectors)
    if len(exclude.shape) != 2 or len(exclude) != len(queries):
        raise ValueError(
            f"{operation}: exclude must be [{len(queries)}, any], got {list(exclude.shape)}"
        )
    if not _is_integer(exclude) and math.prod(exclude.shape):
        raise TypeError(f"{operation}: exclude must hold integers, got {exclude.dtype}")
    return exclude.astype(np.int64) if isinstance(exclude, np.ndarray) else exclude.long()


# ---- test sets ----


def _first_ids(
    words: Sequence[str], restrict_vocab: int | None, case_insensitive: bool
) -> dict[str, int]:
    """Word, or its upper case, to the first id of it."""
    index: dict[str, int] = {}
    for place, word in enumerate(words[:restrict_vocab]):
        index.setdefault(word.upper() if case_insensitive else word, place)
    return index


def _read_pairs(
    pairs: PathLike | Iterable[tuple[str, str, float]], delimiter: str, encoding: str
) -> Iterator[tuple[str, str, float]]:
    if not isinstance(pairs, (str, os.PathLike)):
        for one, other, judgement in pairs:
            yield one, other, float(judgement)
        return
    for line in _lines(pairs, encoding):
        if line.startswith("#"):
            continue
        try:
            one, other, text = line.split(delimiter)
            judgement = float(text)
        except ValueError:
            continue
        yield one, other, judgement


def _read_analogies(
    analogies: PathLike | Iterable[str],
) -> Iterator[tuple[str, Quadruple | None]]:
    """(section, None) at each heading, (section, question) at each question."""
    path = analogies if isinstance(analogies, (str, os.PathLike)) else None
    section = None
    lines: Iterable[str] = _lines(path, "utf-8") if path is not None else analogies  # type: ignore[assignment]
    for number, line in enumerate(lines, 1):
        if line.startswith(": "):
            section = line.lstrip(": ").strip()
            yield section, None
            continue
        words = line.split()
        if len(words) != 4:
            continue
        if section is None:
            where = f" in {os.fspath(path)}" if path is not None else ""
            raise ValueError(
                "evaluate_analogies: analogies must begin with a heading ': section', "
                f"got a question in line {number}{where}"
            )
        a, b, c, d = words
        yield section, (a, b, c, d)


def _lines(path: PathLike, encoding: str) -> Iterator[str]:
    with open_by_suffix(path) as file:
        for line in file:
            yield line.decode(encoding)


def _ranks(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Ranks from 1; equal numbers share the mean of theirs."""
    _, group, sizes = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: np.ndarray[Any, Any] = (last - (sizes - 1) / 2)[group]
    return ranks


def _correlation(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> Score:
    """Pearson's r, and the chance of one as large between independent normal numbers."""
    if not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return math.nan, math.nan
    x, y = x - x.mean(), y - y.mean()
    lengths = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    r = max(-1.0, min(1.0, float(x @ y) / lengths))
    try:
        from scipy.special import betainc
    except ImportError:
        return r, math.nan
    # Student's t with n - 2 degrees of freedom.
    freedom = len(x) - 2
    if freedom < 1:
        return r, 1.0
    return r, float(betainc(freedom / 2, 0.5, (1 - r) * (1 + r)))

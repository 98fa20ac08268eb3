"""How well word vectors agree with people: the usual test sets, scored as gensim does."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqfast.embeddings.files import PathLike, damage_named, open_by_suffix
from seqfast.embeddings.vectors.arrays import Array, as_library_of, check_words, to_numpy
from seqfast.embeddings.vectors.search import (
    SCORE_BYTES,
    analogy_vectors,
    first_rows,
    normalise,
    pair_cosines,
    search,
)

Score = tuple[float, float]  # a correlation and its p-value
Quadruple = tuple[str, str, str, str]

# gensim looks at so many answers to an analogy, in case the first are forms of its own words.
_ANSWERS_PER_QUESTION = 5
_RESTRICT_VOCAB = 300_000


class PairScores(NamedTuple):
    """What `evaluate_pairs` returns, in gensim's order.

    Attributes:
        pearson: Pearson's r and its p.
        spearman: Spearman's rho and its p.
        oov_ratio: per cent of the pairs with an unknown word.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import evaluate_pairs
        >>> pairs = [("a", "b", 1.0), ("a", "c", 0.0), ("b", "c", 0.1)]
        >>> scores = evaluate_pairs(np.array([[1.0, 0], [1, 0.1], [0, 1]]), ["a", "b", "c"], pairs)
        >>> round(float(scores.spearman[0]), 3)
        1.0
    """

    pearson: Score
    spearman: Score
    oov_ratio: float  # per cent of the pairs with a word that has no vector


def evaluate_pairs(
    vectors: Array,
    words: Sequence[str],
    pairs: PathLike | Iterable[tuple[str, str, float] | str],
    *,
    delimiter: str = "\t",
    encoding: str = "utf-8",
    restrict_vocab: int | None = _RESTRICT_VOCAB,
    case_insensitive: bool = True,
    dummy4unknown: bool = False,
) -> PairScores:
    """The correlation of cosines with people's judgements of pairs (WordSim-353, SimLex-999, ...).

    Args:
        vectors: [V, size].
        words: [V], the frequent ones first.
        pairs: (word, word, judgement), or lines, or a file with one per line (plain, .gz, .bz2 or
            .xz). Lines that begin with # or are not such a pair are ignored, as in gensim.
        delimiter: between the parts of a line.
        encoding: of the file.
        restrict_vocab: use only this many of the first words.
        case_insensitive: words that differ only in case use the vector of the first one.
        dummy4unknown: a pair with an unknown word gets the cosine 0; else it is left out.

    Returns:
        (Pearson's r, p), (Spearman's rho, p) and the per cent of pairs with an unknown word, the
        results of gensim's `evaluate_word_pairs`. The two-tailed p is NaN without scipy; r and rho
        are NaN if all judgements or all cosines are equal.

    Raises:
        OSError: a file that cannot be read.
        ValueError: not a single known pair.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import evaluate_pairs
        >>> pairs = [("a", "b", 1.0), ("a", "c", 0.0), ("b", "z", 0.1)]
        >>> vectors = np.array([[1.0, 0], [1, 0.1], [0, 1]])
        >>> round(evaluate_pairs(vectors, ["a", "b", "c"], pairs).oov_ratio, 1)
        33.3
    """
    check_words("evaluate_pairs", vectors, words)
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
            f"evaluate_pairs: at least one pair must have two known words, got only {unknown} "
            f"pairs with unknown words{where}"
        )
    cosines = pair_cosines(vectors, np.array(ids, np.int64).reshape(-1, 2))
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
    memory: int = SCORE_BYTES,
    cosmul: bool = False,
) -> tuple[float, list[dict[str, Any]]]:
    """The share of analogies (a is to b as c is to d) whose d is found by `analogy`.

    Args:
        vectors: [V, size].
        words: [V], the frequent ones first.
        analogies: a file in the format of Google's questions-words.txt (plain, .gz, .bz2 or .xz),
            or its lines: four words, below headings ": section"; other lines are ignored.
        restrict_vocab: questions and answers use only this many of the first words.
        case_insensitive: words that differ only in case use the vector of the first one.
        dummy4unknown: a question with an unknown word counts as wrong; else it is left out.
        memory: bytes for scores.
        cosmul: answer by products of shifted cosines (Levy & Goldberg 2014).

    Returns:
        The share of right answers and the sections, as gensim's `evaluate_word_analogies`: each
        section a dict of "section", "correct" and "incorrect", the latter two lists of (a, b, c,
        d), in upper case if `case_insensitive`; the last is "Total accuracy".

    Raises:
        OSError: a file that cannot be read.
        ValueError: no questions, or one before the first heading.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import evaluate_analogies
        >>> vectors = np.array([[1.0, 0.0, 0.1], [1.0, 1.0, 0.1], [0.0, 0.1, 1.0], [0.0, 1.0, 1.0]])
        >>> evaluate_analogies(vectors, list("abcd"), [": letters", "a b c d"])[0]
        1.0
    """
    operation = "evaluate_analogies"
    check_words(operation, vectors, words)
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
        _answered_rightly(
            vectors, words, index, known, restrict_vocab, case_insensitive, memory, cosmul
        )
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
    cosmul: bool,
) -> list[bool]:
    """Whether each question of known words is answered rightly."""
    if not questions:
        return []
    ids = np.array([[index[word] for word in question] for question in questions])
    answers = first_rows(vectors, restrict_vocab)
    k = min(_ANSWERS_PER_QUESTION, len(answers))
    if cosmul:
        found = _answers_by_cosmul(to_numpy(vectors), ids[:, :3], k, len(answers))
    else:
        offsets = analogy_vectors(vectors, as_library_of("", "", ids[:, :3], vectors), False)
        exclude = as_library_of("", "", np.ascontiguousarray(ids[:, :3]), vectors)
        found = to_numpy(search(answers, offsets, k, exclude, memory, False)[1])
    # Of words that differ in case alone, the first stands for all.
    forms = (word.upper() if case_insensitive else word for word in words[: len(answers)])
    form = np.array([index[word] for word in forms])
    predicted = np.where(found >= 0, form[found], -1)
    asked = (predicted[:, :, None] == ids[:, None, :3]).any(2)
    # The first answer that is not a word of the question; the last one if all are.
    usable = (predicted >= 0) & ~asked
    last = np.maximum((predicted >= 0).sum(1) - 1, 0)
    chosen = np.where(usable.any(1), usable.argmax(1), last)
    right: list[bool] = (predicted[np.arange(len(ids)), chosen] == ids[:, 3]).tolist()
    return right


def _answers_by_cosmul(vectors: Array, questions: Array, k: int, answers: int) -> Array:
    """3CosMul: the ids of the k best for each (a, b, c), -1 where there are fewer."""
    rows = to_numpy(normalise(vectors))
    found = np.full((len(questions), k), -1, np.int64)
    for place, question in enumerate(questions):
        a, b, c = (rows[:answers] @ rows[question].T).T / 2 + 0.5
        scores = b * c / (a + np.float32(1e-6))
        scores[question[question < answers]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        found[place, : len(best)] = np.where(np.isfinite(scores[best]), best, -1)
    return found


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
    pairs: PathLike | Iterable[tuple[str, str, float] | str], delimiter: str, encoding: str
) -> Iterator[tuple[str, str, float]]:
    is_path = isinstance(pairs, (str, os.PathLike))
    items: Iterable[Any] = _lines(pairs, encoding) if is_path else pairs  # type: ignore[arg-type,assignment]
    for line in items:
        if not isinstance(line, str):
            try:
                one, other, judgement = line
                found = one, other, float(judgement)
            except (TypeError, ValueError):
                raise ValueError(
                    "evaluate_pairs: pairs must be a path, lines of a file, or "
                    f"(word, word, judgement) each, got {line!r}"
                ) from None
            yield found
            continue
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
    with damage_named(path), open_by_suffix(path) as file:
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

"""Neighbours and analogies among arrays of vectors, for any number of queries at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqfast.embeddings.vectors.arrays import (
    Array,
    as_float32,
    as_library_of,
    check_matrix,
    checked_exclude,
    checked_ids,
    concatenated,
    empty_matrix,
    is_integer,
    product_into,
    row_lengths,
    to_numpy,
)
from seqfast.ops.top_k import top_k

SCORE_BYTES = 128 << 20  # bytes of scores that are held at once


def normalise(vectors: Array) -> Array:
    """Each row divided by its length; rows of zeros stay.

    Args:
        vectors: [any, size], a NumPy array or a torch tensor on any device.

    Returns:
        A new float32 array of the same library, on the same device.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import normalise
        >>> normalise(np.array([[3.0, 4.0]]))
        array([[0.6, 0.8]], dtype=float32)
    """
    check_matrix("normalise", "vectors", vectors)
    rows = as_float32(vectors)
    return rows / row_lengths(rows)[:, None]


def most_similar(
    vectors: Array,
    queries: Any,
    k: int = 10,
    *,
    exclude: Any = None,
    restrict_vocab: int | None = None,
    normalised: bool = False,
    memory: int = SCORE_BYTES,
) -> tuple[Array, Array]:
    """The `k` vectors with the largest cosine to each query, the best first.

    Scores are computed in blocks of at most `memory` bytes, each by one matrix product, so any
    number of queries is possible.

    Args:
        vectors: [V, size], a NumPy array, or a torch tensor on any device.
        queries: ids [any], which are not their own neighbours, or vectors [any, size].
        k: how many answers.
        exclude: ids [queries, any] that may not be answers.
        restrict_vocab: only this many of the first vectors may be answers.
        normalised: all rows of `vectors` already have length 1 (see `normalise`), which saves a
            pass over them.
        memory: bytes for scores.

    Returns:
        cosines [queries, k] float32 and ids [queries, k] int64, of the library and on the device of
        `vectors`. Equal cosines are in the order of their ids; if there are fewer than k answers,
        -inf and -1 follow.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, an id out of range, a k below 1 or above the number of possible
            answers.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import most_similar
        >>> most_similar(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), [0], k=2)[1]
        array([[1, 2]])
    """
    operation = "most_similar"
    answers = _candidates(operation, vectors, k, restrict_vocab)
    queries = as_library_of(operation, "queries", queries, vectors)
    if is_integer(queries):
        ids = checked_ids(operation, "queries", queries, vectors, 1)
        queries = vectors[ids] if normalised else normalise(vectors[ids])
        own = ids[:, None]
        if exclude is None:
            exclude = own
        else:
            exclude = checked_exclude(operation, exclude, queries, vectors)
            exclude = concatenated([own, exclude], 1)
    else:
        check_matrix(operation, "queries", queries)
        if queries.shape[1] != vectors.shape[1]:
            raise ValueError(
                f"{operation}: queries must be ids or vectors [any, {vectors.shape[1]}], "
                f"got {list(queries.shape)}"
            )
        queries = normalise(queries)
        if exclude is not None:
            exclude = checked_exclude(operation, exclude, queries, vectors)
    return search(answers, queries, k, exclude, memory, normalised)


def analogy(
    vectors: Array,
    questions: Any,
    k: int = 1,
    *,
    restrict_vocab: int | None = None,
    normalised: bool = False,
    memory: int = SCORE_BYTES,
) -> tuple[Array, Array]:
    """Analogies, c : ? as a : b: the `k` vectors nearest to b - a + c, without a, b and c.

    3CosAdd (Mikolov et al. 2013) of normalised vectors, as gensim's `most_similar(positive=[b, c],
    negative=[a])`.

    Args:
        vectors: as for `most_similar`.
        questions: ids [any, 3], (a, b, c).
        k: how many answers.
        restrict_vocab: as for `most_similar`, like the others.
        normalised: all rows of `vectors` have length 1 already.
        memory: bytes for scores.

    Returns:
        As for `most_similar`.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, an id or a k out of range.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.vectors import analogy
        >>> vectors = np.array([[1.0, 0.0, 0.1], [1.0, 1.0, 0.1], [0.0, 0.1, 1.0], [0.0, 1.0, 1.0]])
        >>> analogy(vectors, [[0, 1, 2]])[1]
        array([[3]])
    """
    operation = "analogy"
    answers = _candidates(operation, vectors, k, restrict_vocab)
    ids = checked_ids(
        operation,
        "questions",
        as_library_of(operation, "questions", questions, vectors),
        vectors,
        2,
    )
    if ids.shape[1] != 3:
        raise ValueError(f"{operation}: questions must be [any, 3], got {list(ids.shape)}")
    return search(answers, analogy_vectors(vectors, ids, normalised), k, ids, memory, normalised)


# ---- the search ----


def _candidates(operation: str, vectors: Array, k: int, restrict_vocab: int | None) -> Array:
    """The vectors that may be answers."""
    check_matrix(operation, "vectors", vectors)
    answers = first_rows(vectors, restrict_vocab)
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= len(answers):
        raise ValueError(
            f"{operation}: k must be from 1 to {len(answers)}, the vectors to choose from, "
            f"got {k!r}"
        )
    return answers


def first_rows(vectors: Array, restrict_vocab: int | None) -> Array:
    return vectors if restrict_vocab is None else vectors[:restrict_vocab]


def search(
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
            answers = as_float32(answers)
            lengths = row_lengths(answers)
        else:
            answers = normalise(answers)
    block = min(max(1, memory // (4 * max(1, len(answers)))), max(1, len(queries)))
    scores = empty_matrix(answers, (block, len(answers)))
    found = []
    for start in range(0, max(1, len(queries)), block):
        some = queries[start : start + block]
        product = product_into(some, answers, scores[: len(some)])
        if lengths is not None:
            product /= lengths
        found.append(top_k(product, k, None if exclude is None else exclude[start : start + block]))
    cosines, ids = zip(*found, strict=True)
    return concatenated(cosines, 0), concatenated(ids, 0)


def analogy_vectors(vectors: Array, ids: Array, normalised: bool) -> Array:
    """[questions, size]: b - a + c of (a, b, c), normalised."""
    a, b, c = (vectors[ids[:, i]] for i in range(3))
    if not normalised:
        a, b, c = normalise(a), normalise(b), normalise(c)
    return normalise(b - a + c)


def pair_cosines(vectors: Array, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float64 [pairs] of [pairs, 2] ids."""
    one, other = (
        to_numpy(normalise(vectors[as_library_of("", "", column.copy(), vectors)]))
        for column in ids.T
    )
    cosines: np.ndarray[Any, Any] = np.einsum("ij,ij->i", one, other, dtype=np.float64)
    return cosines

"""GloVe: co-occurrences counted, put in the order of training, trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast import _C
from seqfast.ops.base.arrays import Array
from seqfast.ops.base.checks import check_flag, check_whole
from seqfast.ops.glove.counting import (
    MOST_TOKENS,
    MOST_WINDOW,
    reach_of,
    rows_of_text,
    weights_of,
)
from seqfast.ops.glove.scheduling import make_schedule
from seqfast.ops.glove.training import BLOCK_WORDS, Training, checked_threads

__all__ = ["Training", "cooccurrences", "schedule", "strata", "train"]

_Matrix = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]

_MOST_WORDS = 2**31 - 1
_SEEDS = -(2**63), 2**63 - 1


def cooccurrences(
    ids: Array,
    offsets: Array,
    vocabulary: int,
    *,
    window: int = 15,
    symmetric: bool = True,
    distance_weighting: bool = True,
    threads: int | None = None,
) -> _Matrix:
    """How often words occur near each other, as a sparse matrix (CSR).

    Pennington, Socher & Manning, GloVe: Global vectors for word representation. EMNLP 2014. Same
    results as `seqfast.reference.glove.cooccurrences`, bit for bit, for any number of threads.

    A word meets those behind it in its sentence. At distance k they add 1 / k to row of the word,
    column of the other. Weights are rounded to multiples of 2**-32, so that sums are the same in
    any order.

    Args:
        ids: int32 [tokens], each below `vocabulary`, sentence after sentence.
        offsets: int64 [sentences + 1], from 0 to tokens.
        vocabulary: V, how many words there are.
        window: the largest distance.
        symmetric: they add as much to row of the other, column of the word.
        distance_weighting: False: 1 rather than 1 / k.
        threads: None: torch's number if torch is loaded, else OpenMP's.

    Returns:
        offsets int64 [V + 1], columns int32 [entries] and values float64 [entries]: row r is what
        lies from offsets[r] to offsets[r + 1], its columns rising.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or number.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import glove
        >>> ids, offsets = np.array([0, 1, 1], np.int32), np.array([0, 3])
        >>> [array.tolist() for array in glove.cooccurrences(ids, offsets, 2, window=2)]
        [[0, 1, 3], [1, 0, 1], [1.5, 1.5, 2.0]]
    """
    name = "cooccurrences"
    vocabulary = check_whole(name, "vocabulary", vocabulary, 0, _MOST_WORDS)
    window = check_whole(name, "window", window, 1, MOST_WINDOW)
    for flag, value in (("symmetric", symmetric), ("distance_weighting", distance_weighting)):
        check_flag(name, flag, value)
    threads = checked_threads(name, threads)
    ids = _checked(name, "ids", ids, np.dtype(np.int32))
    offsets = _checked(name, "offsets", offsets, np.dtype(np.int64))
    _check_rising(name, offsets, len(ids))
    if len(ids) > MOST_TOKENS:
        raise ValueError(f"{name}: ids must be at most {MOST_TOKENS}, got {len(ids)}")
    if len(ids) and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise ValueError(
            f"{name}: ids must be from 0 to {vocabulary - 1}, got {ids.min()} to {ids.max()}"
        )
    weights = weights_of(reach_of(window, offsets), bool(distance_weighting))
    rows = rows_of_text(ids, offsets, vocabulary, weights, bool(symmetric))
    sizes = np.zeros(vocabulary, np.int64)
    rows.count_sizes(0, vocabulary, sizes, threads)
    found = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    columns, values = np.empty(found[-1], np.int32), np.empty(found[-1], np.float64)
    rows.write(0, vocabulary, found, columns, threads, values=values)
    return found, columns, values


def schedule(
    offsets: Array,
    columns: Array,
    values: Array,
    *,
    blocks: int,
    seed: int = 1,
    threads: int | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The order in which `train` goes through co-occurrences.

    Word w is number w // blocks of block w % blocks. Tile i * blocks + j has the entries with a row
    of block i and a column of block j: in the order of the matrix, then shuffled (Fisher and Yates;
    entry k changes places with one of the k before it, or none).

    Args:
        offsets: int64 [V + 1], from `cooccurrences`.
        columns: int32 [entries].
        values: float64 [entries], above 0.
        blocks: how many; a block has at most 2**16 words.
        seed: int64, of the shuffles.
        threads: None: torch's number if torch is loaded, else OpenMP's.

    Returns:
        tiles, int64 [blocks**2 + 1], where each begins; and entries, uint64: count as float32 bits,
        number of the column, of the row, from the highest 32, 16 and 16 bits on.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or number, and counts that are not above 0 and finite.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import glove
        >>> counted = glove.cooccurrences(np.array([0, 1, 1], np.int32), np.array([0, 3]), 2)
        >>> tiles, entries = glove.schedule(*counted, blocks=2)
        >>> tiles.tolist()
        [0, 0, 1, 2, 3]
    """
    name = "schedule"
    offsets = _checked(name, "offsets", offsets, np.dtype(np.int64))
    columns = _checked(name, "columns", columns, np.dtype(np.int32))
    values = _checked(name, "values", values, np.dtype(np.float64))
    _check_rising(name, offsets, len(columns))
    if len(values) != len(columns):
        raise ValueError(f"{name}: values must be [{len(columns)}], got [{len(values)}]")
    vocabulary = len(offsets) - 1
    blocks = check_whole(name, "blocks", blocks, max(1, -(-vocabulary // BLOCK_WORDS)), 1 << 15)
    if len(columns) and not 0 <= columns.min() <= columns.max() < vocabulary:
        raise ValueError(f"{name}: columns must be from 0 to {vocabulary - 1}")
    smallest = np.finfo(np.float32).tiny
    if len(values) and not smallest <= values.min() <= values.max() < np.finfo(np.float32).max:
        raise ValueError(
            f"{name}: values must be above 0 and finite, got {values.min()} to {values.max()}"
        )
    seed = check_whole(name, "seed", seed, *_SEEDS)
    threads = checked_threads(name, threads)
    entries = np.empty(len(columns), np.uint64)
    tiles = make_schedule(offsets, columns, values, entries, blocks, seed, threads)
    return tiles, entries


def strata(blocks: int, *, seed: int = 1, epoch: int = 0) -> npt.NDArray[np.int32]:
    """The order of an epoch's strata: a shuffle as in `schedule`.

    Args:
        blocks: how many strata there are.
        seed: int64.
        epoch: below 2**32; each has an order of its own.

    Returns:
        int32 [blocks].

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a number out of range.

    Example:
        >>> from seqfast.ops import glove
        >>> sorted(glove.strata(4, seed=1, epoch=2).tolist())
        [0, 1, 2, 3]
    """
    blocks = check_whole("strata", "blocks", blocks, 1, 1 << 15)
    seed = check_whole("strata", "seed", seed, *_SEEDS)
    epoch = check_whole("strata", "epoch", epoch, 0, 2**32 - 1)
    order = np.empty(blocks, np.int32)
    _C.glove_strata(order.ctypes.data, blocks, seed, epoch)
    return order


def train(
    tiles: Array,
    entries: Array,
    words: Array,
    contexts: Array,
    word_squares: Array,
    context_squares: Array,
    *,
    size: int,
    x_max: float = 100.0,
    alpha: float = 0.75,
    learning_rate: float = 0.05,
    clip: float = 100.0,
    order: Array | None = None,
    locked: Array | None = None,
    threads: int | None = None,
) -> Any:
    """Trains in place by AdaGrad (Duchi et al. 2011), on the strata in `order`.

    Of an entry with count x, for the row's vector w and bias b, the column's v and c:
    error = w . v + b + c - log x, weight = min((x / x_max)**alpha, 1), loss = weight error^2 / 2
    (Pennington et al. 2014). The gradients weight * error * v of w, and so on, are cut off at
    `clip`, not those of biases. As in the authors' program, a vector's steps are `learning_rate`
    times its gradient, a bias's the gradient itself, over the root of 1 + the sum of the squares of
    the steps before. Same results as `seqfast.reference.glove.train` but for rounding, and the same
    bits for any number of threads: stratum s are the tiles (i, (i + s) % blocks), which have no row
    and no column in common (Gemulla et al. 2011), so nobody waits and nobody interferes.

    Matrices are NumPy arrays or tensors on a CUDA device, contiguous, aligned to 64 bytes:
    `seqfast.ops.word2vec.matrix.matrix` makes such arrays.

    Args:
        tiles: int64 [blocks**2 + 1], of `schedule`.
        entries: uint64 [entries], of `schedule`.
        words: float32 [V, stride], stride a multiple of 16: the words as rows, the vector in
            columns up to `size`, its bias in column `size`.
        contexts: float32 [V, stride], the words as columns.
        word_squares: float32 [V, stride], which begin with 1 in every column.
        context_squares: float32 [V, stride], the same.
        size: of a vector.
        x_max: the count from which on the weight is 1.
        alpha: the power of the weight.
        learning_rate: of vectors.
        clip: the largest component of a gradient.
        order: int32 [strata], each below blocks. None: all, rising.
        locked: uint8 [V], words whose rows are not trained.
        threads: on the CPU. None: torch's number if torch is loaded, else OpenMP's.

    Returns:
        The loss of each stratum, float64 [strata], a NumPy array.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, layout or number, and entries that name no word.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import glove
        >>> from seqfast.ops.word2vec.matrix import matrix
        >>> counted = glove.cooccurrences(np.array([0, 1, 1], np.int32), np.array([0, 3]), 2)
        >>> matrices = [matrix(2, 9) for _ in range(4)]
        >>> for squares in matrices[2:]:
        ...     squares.fill(1)
        >>> glove.train(*glove.schedule(*counted, blocks=2), *matrices, size=8).shape
        (2,)
    """
    training = Training(
        tiles,
        entries,
        words,
        contexts,
        word_squares,
        context_squares,
        size=size,
        x_max=x_max,
        alpha=alpha,
        learning_rate=learning_rate,
        clip=clip,
        locked=locked,
    )
    _check_entries(tiles, entries, training.blocks, words.shape[0])
    done = np.arange(training.blocks, dtype=np.int32) if order is None else order
    return training.run(done, threads)


def _check_entries(tiles: Array, entries: Array, blocks: int, vocabulary: int) -> None:
    """A kernel would write where there is no row."""
    starts, given = (
        array if isinstance(array, np.ndarray) else array.cpu().numpy()
        for array in (tiles, entries)
    )
    tile = np.repeat(np.arange(blocks * blocks), np.diff(starts))
    low = np.uint64(0xFFFF)
    rows = (given & low).astype(np.int64) * blocks + tile // blocks
    columns = (given >> np.uint64(16) & low).astype(np.int64) * blocks + tile % blocks
    most = max(int(rows.max(initial=0)), int(columns.max(initial=0)))
    if len(given) and most >= vocabulary:
        raise ValueError(
            f"glove: entries must name rows and columns of {vocabulary} words, got number {most}"
        )
    counts = (given >> np.uint64(32)).astype(np.uint32).view(np.float32)
    if not ((counts > 0) & (counts < np.inf)).all():
        raise ValueError("glove: entries must have counts above 0, and finite")


def _checked(operation: str, name: str, array: Any, dtype: np.dtype[Any]) -> Array:
    if not isinstance(array, np.ndarray):
        got = type(array).__name__
        raise TypeError(f"{operation}: {name} must be a NumPy array, got {got}")
    if array.dtype != dtype:
        raise TypeError(f"{operation}: {name} must be {dtype}, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{operation}: {name} must have one dimension, got {list(array.shape)}")
    return np.ascontiguousarray(array)


def _check_rising(operation: str, offsets: Array, end: int) -> None:
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != end or np.any(np.diff(offsets) < 0):
        got = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "none"
        raise ValueError(f"{operation}: offsets must rise from 0 to {end}, got {got}")

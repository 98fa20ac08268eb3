"""GloVe in plain NumPy: what `seqfast.ops.glove` must compute, word by word and entry by entry."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.reference._philox import philox

__all__ = ["cooccurrences", "schedule", "strata", "train"]

Array = npt.NDArray[Any]

_UNIT = 2**32  # sums of weights are whole numbers of so many to one
# Streams: the last word of a counter.
_SHUFFLE, _STRATA = 0xF3000000, 0xF4000000


def cooccurrences(
    ids: Array,
    offsets: Array,
    vocabulary: int,
    *,
    window: int = 15,
    symmetric: bool = True,
    distance_weighting: bool = True,
    threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """How often words stand near each other, as a sparse matrix in rows, with a dict for each row.

    Arguments and results are those of `seqfast.ops.glove.functions.cooccurrences`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import glove
        >>> ids, offsets = np.array([0, 1, 1], np.int32), np.array([0, 3])
        >>> [array.tolist() for array in glove.cooccurrences(ids, offsets, 2, window=2)]
        [[0, 1, 3], [1, 0, 1], [1.5, 1.5, 2.0]]
    """
    rows: list[dict[int, int]] = [defaultdict(int) for _ in range(vocabulary)]
    for begin, end in pairwise(offsets):
        for p in range(begin, end):
            for k in range(1, min(window, end - 1 - p) + 1):
                weight = round(_UNIT / k) if distance_weighting else _UNIT
                one, other = int(ids[p]), int(ids[p + k])
                rows[one][other] += weight
                if symmetric:
                    rows[other][one] += weight
    sizes = [len(row) for row in rows]
    columns = [column for row in rows for column in sorted(row)]
    values = [row[column] / _UNIT for row in rows for column in sorted(row)]
    found = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return found, np.array(columns, np.int32), np.array(values, np.float64)


def schedule(
    offsets: Array,
    columns: Array,
    values: Array,
    *,
    blocks: int,
    seed: int = 1,
    threads: int | None = None,
) -> tuple[Array, Array]:
    """The order in which `train` goes through co-occurrences, tile after tile.

    Arguments and results are those of `seqfast.ops.glove.functions.schedule`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import glove
        >>> counted = glove.cooccurrences(np.array([0, 1, 1], np.int32), np.array([0, 3]), 2)
        >>> tiles, entries = glove.schedule(*counted, blocks=2)
        >>> tiles.tolist()
        [0, 0, 1, 2, 3]
    """
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    tile = rows % blocks * blocks + columns % blocks
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    entries = (
        bits << 32 | (columns // blocks).astype(np.uint64) << 16 | (rows // blocks).astype("u8")
    )
    entries = entries[np.argsort(tile, kind="stable")]
    sizes = np.bincount(tile, minlength=blocks * blocks)
    tiles = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    for t in range(blocks * blocks):
        part = entries[tiles[t] : tiles[t + 1]]
        for k, word in enumerate(_words(seed, t, _SHUFFLE, len(part))):
            other = word * (k + 1) >> 32
            part[[k, other]] = part[[other, k]]
    return tiles, entries


def strata(blocks: int, *, seed: int = 1, epoch: int = 0) -> Array:
    """The order of an epoch's strata: a shuffle as in `schedule`.

    Arguments and results are those of `seqfast.ops.glove.functions.strata`.

    Example:
        >>> from seqfast.reference import glove
        >>> sorted(glove.strata(4, seed=1, epoch=2).tolist())
        [0, 1, 2, 3]
    """
    order = np.arange(blocks, dtype=np.int32)
    for k, word in enumerate(_words(seed, epoch, _STRATA, blocks)):
        other = word * (k + 1) >> 32
        order[[k, other]] = order[[other, k]]
    return order


def _words(seed: int, number: int, stream: int, count: int) -> list[int]:
    groups = -(-count // 4)
    counter = np.zeros((groups, 4), np.uint32)
    counter[:, 0] = np.arange(groups)
    counter[:, 1], counter[:, 2] = number % 2**32, number >> 32
    counter[:, 3] = stream
    key = seed % 2**64
    words = philox(counter, (key % 2**32, key >> 32)).reshape(-1)[:count]
    return [int(word) for word in words]


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
) -> Array:
    """Trains in place by AdaGrad, entry after entry.

    Arguments and results are those of `seqfast.ops.glove.functions.train`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import glove
        >>> counted = glove.cooccurrences(np.array([0, 1, 1], np.int32), np.array([0, 3]), 2)
        >>> order = glove.schedule(*counted, blocks=2)
        >>> matrices = [np.ones((2, 16), np.float32) for _ in range(4)]
        >>> glove.train(*order, *matrices, size=8).shape
        (2,)
    """
    blocks = round((len(tiles) - 1) ** 0.5)
    strata_done = np.arange(blocks) if order is None else order
    loss = np.zeros(len(strata_done))
    stays = np.zeros(len(words), bool) if locked is None else np.asarray(locked, bool)
    for place, stratum in enumerate(strata_done):
        for i in range(blocks):
            j = (i + int(stratum)) % blocks
            for entry in entries[tiles[i * blocks + j] : tiles[i * blocks + j + 1]]:
                row = int(entry & np.uint64(0xFFFF)) * blocks + i
                column = int(entry >> np.uint64(16) & np.uint64(0xFFFF)) * blocks + j
                x = np.uint32(entry >> np.uint64(32)).view(np.float32)
                w, v = words[row, : size + 1].copy(), contexts[column, : size + 1].copy()
                error = np.float32(w[:size] @ v[:size] + w[size] + v[size] - np.log(x))
                weight = np.float32(min(float(x / x_max) ** alpha, 1.0))
                loss[place] += 0.5 * float(weight * error) * float(error)
                if not stays[row]:
                    _step(
                        words[row], word_squares[row], v, weight * error, size, learning_rate, clip
                    )
                if not stays[column]:
                    squares = context_squares[column]
                    _step(contexts[column], squares, w, weight * error, size, learning_rate, clip)
    return loss


def _step(
    values: Array, squares: Array, other: Array, factor: Any, size: int, rate: float, clip: float
) -> None:
    step = np.append(np.clip(factor * other[:size], -clip, clip) * np.float32(rate), factor)
    step = step.astype(np.float32)
    values[: size + 1] -= step / np.sqrt(squares[: size + 1])
    squares[: size + 1] += step**2

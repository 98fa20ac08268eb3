"""Random numbers by counter: the same for every backend, order and number of threads."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint32]

_FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_HALF = np.uint64(32)


class Draw(IntEnum):
    """What a number is drawn for; part of its stream, so that no two uses share one.

    Example:
        >>> from seqfast.reference.dropout import Draw
        >>> len({int(draw) for draw in Draw}) == len(Draw)
        True
    """

    HIDDEN_DROPOUT = 0
    UPDATE_DROPOUT = 1
    ZONEOUT_HIDDEN = 2
    ZONEOUT_CELL = 3
    INPUT_DROPOUT = 4
    OUTPUT_DROPOUT = 5
    WEIGHT_DROPOUT = 6
    OTHER = 7


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10: a bijection of 128-bit counters, one for each 64-bit key.

    Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3. SC 2011.

    Args:
        counter: [..., 4] uint32, lowest word first.
        key: low and high word.

    Returns:
        [..., 4] uint32, four random words for each counter.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.dropout import philox
        >>> philox(np.zeros(4, np.uint32), (0, 0))
        array([1713891541, 3781805453, 3159862348, 2600524760], dtype=uint32)
    """
    c0, c1, c2, c3 = np.moveaxis(counter, -1, 0)
    low, high = key
    for _ in range(10):
        product0, product1 = (
            c.astype(np.uint64) * f for c, f in zip((c0, c2), _FACTORS, strict=True)
        )
        c0 = _high_word(product1) ^ c1 ^ np.uint32(low)
        c2 = _high_word(product0) ^ c3 ^ np.uint32(high)
        c1, c3 = product1.astype(np.uint32), product0.astype(np.uint32)
        low, high = (low + _KEY_STEPS[0]) % 2**32, (high + _KEY_STEPS[1]) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1)


def _high_word(product: npt.NDArray[np.uint64]) -> Words:
    return (product >> _HALF).astype(np.uint32)


def stream_of(draw: int, layer: int, direction: int) -> int:
    """The stream of a use, a layer and a direction.

    Args:
        draw: what is drawn for, a `Draw`.
        layer: number of the layer in its stack.
        direction: 0, or 1 for the backward one.

    Returns:
        `(layer * 2 + direction) * 8 + draw`.

    Example:
        >>> from seqfast.reference.dropout import stream_of
        >>> stream_of(1, layer=2, direction=0)
        33
    """
    return (layer * 2 + direction) * 8 + int(draw)


def events(
    probability: float,
    seed: Array | int,
    stream: int,
    steps: int | None,
    rows: int,
    units: int,
) -> npt.NDArray[np.bool_]:
    """Independent events, each of `probability` (to 24 bits).

    The upper 24 bits of a word below `probability * 2**24` are an event.

    Args:
        probability: from 0 to 1.
        seed: an int64, or an array of one.
        stream: of the use, see `stream_of`.
        steps: None gives what step 0 draws, to be broadcast over a sequence.
        rows: of the batch.
        units: of a row.

    Returns:
        bool [steps, rows, units], [1, rows, units] where `steps` is None.

    Example:
        >>> from seqfast.reference.dropout import events
        >>> bool(0.2 < events(0.25, 1, 0, 10, 10, 10).mean() < 0.3)
        True
    """
    words = words_of_units(seed, stream, 1 if steps is None else steps, np.arange(rows), units)
    return np.asarray((words >> np.uint32(8)) < int(probability * 2**24))


def words_of_units(
    seed: Array | int, stream: int, steps: int, rows: npt.NDArray[np.int64], units: int
) -> Words:
    """A random word for each step from 0 on, row of these numbers, and unit: [steps, rows, units].

    Unit u of (row, step, stream) finds its word in counter `(u // 64 * 16 + u % 16, row, step,
    stream)` at place `u // 16 % 4`.
    """
    groups = -(-units // 64)
    counter = np.empty((steps, len(rows), groups * 16, 4), np.uint32)
    counter[..., 0] = np.arange(groups * 16)
    counter[..., 1] = rows[:, None]
    counter[..., 2] = np.arange(steps)[:, None, None]
    counter[..., 3] = stream
    key = int(np.asarray(seed).reshape(())) % 2**64
    words = philox(counter, (key % 2**32, key // 2**32))
    # Of each group: [16 counters, 4 words] to units in the order word, counter.
    words = words.reshape(*counter.shape[:2], groups, 16, 4).swapaxes(-1, -2)
    return words.reshape(*counter.shape[:2], groups * 64)[..., :units]


def kept_scale(probability: float) -> float:
    """What dropout multiplies by what it keeps: 1 / (1 - p); at p = 1 it keeps nothing."""
    return 1 / (1 - probability) if probability < 1 else 0.0

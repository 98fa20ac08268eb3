"""The order of training, of arrays that are checked already."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqfast import _C
from seqfast.ops.base.arrays import Array
from seqfast.ops.glove.arguments import GloveScheduleArgs


def make_schedule(
    offsets: Array,
    columns: Array,
    values: Array,
    entries: Array,
    blocks: int,
    seed: int,
    threads: int,
) -> npt.NDArray[np.int64]:
    """As `seqfast.ops.glove.schedule`: fills `entries`, uint64, and returns tiles."""
    tiles = np.zeros(blocks * blocks + 1, np.int64)
    _C.glove_schedule(
        GloveScheduleArgs(
            vocabulary=len(offsets) - 1,
            blocks=blocks,
            offsets=offsets.ctypes.data,
            columns=columns.ctypes.data,
            values=values.ctypes.data,
            seed=seed,
            tiles=tiles.ctypes.data,
            entries=entries.ctypes.data,
            threads=threads,
        )
    )
    return tiles

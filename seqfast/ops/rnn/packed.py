"""Weights that are packed once for many passes forward: as they are, or in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import ArrayLibrary
from seqfast.ops.rnn.arguments import RnnPackArgs, RnnScales, RnnWeights
from seqfast.ops.rnn.layer import Layer

_KEPT, _INT8 = 1, 2  # the kernels' codes
_NOWHERE = 64  # the address of what a pass need not read, but is there


class Memory:
    """Bytes that kernels keep, and their address."""

    def __init__(self, size: int) -> None:
        self.array = np.zeros(size, np.uint8)
        self.address = _C.numpy_address(self.array)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.array.size


class Packed(NamedTuple):
    """What a pass forward takes in the place of weights."""

    packing: int
    memory: Memory
    rows: tuple[RnnWeights, ...]  # of each direction: addresses of what is read unpacked
    unpacked: list[Any]  # the arrays of these


def pack(layer: Layer, int8: Sequence[Sequence[Any]] | None = None) -> Packed:
    """Copies of a checked layer's weights, packed for the active instruction set.

    `int8`: for each direction (weight_ih, weight_hh, scale_ih, scale_hh) in the place of the
    layer's own weight_ih and weight_hh.
    """
    xp, rows, scales = layer.xp, list(layer.weights), []
    if int8 is not None:
        for k, (weight_ih, weight_hh, scale_ih, scale_hh) in enumerate(int8):
            rows[k] = rows[k]._replace(weight_ih=weight_ih, weight_hh=weight_hh)
            scales.append(RnnScales(xp.address(scale_ih), xp.address(scale_hh)))
    packing = _KEPT if int8 is None else _INT8
    addresses = tuple(RnnWeights._make([_address(xp, w) for w in row]) for row in rows)
    # What has masks in evaluation, for which whoever only packs has no room.
    options = layer.options._replace(zoneout_hidden=0.0, zoneout_cell=0.0, dropout_cell=0.0)
    args = RnnPackArgs(layer.sizes, options, addresses, packing, tuple(scales))
    memory = Memory(_C.rnn_pack(args, 0, 0))
    _C.rnn_pack(args, memory.address, memory.size)
    read, unpacked = [], []
    for row in rows:
        own = [None if weight is None else xp.copy(weight) for weight in row[5:]]
        there = [0 if weight is None else _NOWHERE for weight in row[:5]]
        read.append(RnnWeights._make([*there, *[_address(xp, weight) for weight in own]]))
        unpacked += own
    return Packed(packing, memory, tuple(read), unpacked)


def _address(xp: ArrayLibrary, array: Any) -> int:
    return 0 if array is None else xp.address(array) or _NOWHERE

"""Weights that are packed once for many passes forward: as they are, or in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import ArrayLibrary
from seqfast.ops.rnn.arguments import RnnForwardArgs, RnnPackArgs, RnnScales, RnnWeights
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


def pack_int8(layer: Layer, int8: Sequence[Sequence[Any]]) -> Packed:
    """`pack` of 8 bits; ValueError where they have no kernel."""
    if layer.cell_kind.layer_norm:
        raise ValueError(
            f"{layer.operation}: weight_norm_hh must be None: layer normalisation has no kernel in "
            "8 bits"
        )
    if layer.backend != "cpu":
        raise ValueError(f"{layer.operation}: input must be on the CPU, where 8 bits have kernels")
    return pack(layer, int8)


def run(args: RnnForwardArgs, memory: Memory) -> Memory:
    """A pass forward in this workspace, or in the larger one that it needs and that is returned."""
    needed = _C.rnn_forward(args, memory.address, memory.size)
    if needed:
        memory = Memory(needed)
        _C.rnn_forward(args, memory.address, memory.size)
    return memory


def state_for(args: RnnForwardArgs) -> Memory:
    """Room for the states that passes with such arguments keep."""
    return Memory(_C.rnn_state_size(args))


def reset_state(args: RnnForwardArgs, rows: int, count: int) -> None:
    """Zeros for rows of a state that is kept; `rows`: the address of their int64 numbers."""
    _C.rnn_reset_state(args, rows, count)


def _address(xp: ArrayLibrary, array: Any) -> int:
    return 0 if array is None else xp.address(array) or _NOWHERE

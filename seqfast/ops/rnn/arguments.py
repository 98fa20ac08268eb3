"""What the kernels of recurrent layers are told: csrc/core/rnn.h."""

from __future__ import annotations

from typing import Any, NamedTuple

from seqfast.ops.base.arguments import Address
from seqfast.ops.rnn.options import RnnOptions


class RnnSizes(NamedTuple):
    """Sizes of a layer."""

    dtype: int
    steps: int
    batch: int
    input_size: int
    hidden_size: int
    proj_size: int
    directions: int
    threads: int


class SequenceView(NamedTuple):
    """A [steps, batch, features] array whose last dimension is contiguous."""

    data: Address
    step_stride: int
    row_stride: int


class RnnWeights(NamedTuple):
    """One direction's weights in their one order: arrays or, on the way to `_C`, addresses.

    Gradients of weights stand in the same order.
    """

    weight_ih: Any  # [gates * hidden_size, input_size]; None: the input is the product with it
    weight_hh: Any  # [gates * hidden_size, output_size]
    bias_ih: Any  # [gates * hidden_size]
    bias_hh: Any  # [gates * hidden_size]
    weight_hr: Any  # [proj_size, hidden_size]
    bias_hr: Any = None  # [proj_size]
    weight_peephole: Any = None  # [3, hidden_size] i f o
    weight_norm_hh: Any = None  # [gates * hidden_size]
    weight_norm_cell: Any = None  # [hidden_size]
    bias_norm_cell: Any = None  # [hidden_size]


RnnWeightGradients = RnnWeights


class RnnForwardArgs(NamedTuple):
    """A pass forward on the CPU, but for its workspace."""

    sizes: RnnSizes
    options: RnnOptions
    input: SequenceView
    lengths: Address
    reset: Address
    hidden: Address
    cell: Address
    weights: tuple[RnnWeights, ...]
    output: Address
    hidden_n: Address
    cell_n: Address
    cells: Address
    gates: Address
    statistics: Address
    packing: int = 0  # 0: weights are packed at each call; else as `RnnPackArgs` has it
    packed: Address = 0
    keeps_state: bool = False
    resumes: bool = False
    state: Address = 0


class RnnScales(NamedTuple):
    """Of the rows of weights in 8 bits, float32 [gates * hidden_size]."""

    weight_ih: Address
    weight_hh: Address


class RnnPackArgs(NamedTuple):
    """Weights packed once for many passes forward, but for where they go."""

    sizes: RnnSizes
    options: RnnOptions
    weights: tuple[RnnWeights, ...]
    packing: int  # 1: as they are, 2: int8
    scales: tuple[RnnScales, ...]


class RnnBackwardArgs(NamedTuple):
    """A pass backward on the CPU, but for its workspace."""

    sizes: RnnSizes
    options: RnnOptions
    grad_output: SequenceView
    grad_hidden_n: Address
    grad_cell_n: Address
    grad_cells: Address
    input: SequenceView
    lengths: Address
    reset: Address
    hidden: Address
    cell: Address
    weights: tuple[RnnWeights, ...]
    output: Address
    cells: Address
    gates: Address
    statistics: Address
    grad_input: Address
    grad_hidden: Address
    grad_cell: Address
    grad_weights: tuple[RnnWeightGradients, ...]


class GpuCall(NamedTuple):
    """Where a recurrence runs on a GPU, and how."""

    device: int
    stream: Address
    tf32: bool
    strategy: int
    extras: bool
    on_host: bool


class RnnRecurrenceForwardArgs(NamedTuple):
    """The recurrence forward on a GPU, but for its workspace."""

    call: GpuCall
    sizes: RnnSizes
    options: RnnOptions
    lengths: Address
    order: Address
    reset: Address
    hidden: Address
    cell: Address
    weights: tuple[RnnWeights, ...]
    product: Address
    output: Address
    hidden_n: Address
    cell_n: Address
    cells: Address
    gates: Address
    statistics: Address


class RnnRecurrenceBackwardArgs(NamedTuple):
    """The recurrence backward on a GPU, but for its workspace."""

    call: GpuCall
    sizes: RnnSizes
    options: RnnOptions
    lengths: Address
    order: Address
    reset: Address
    grad_output: SequenceView
    grad_hidden_n: Address
    grad_cell_n: Address
    grad_cells: Address
    hidden: Address
    cell: Address
    weights: tuple[RnnWeights, ...]
    output: Address
    cells: Address
    gates: Address
    statistics: Address
    grad_gates: Address
    grad_product: Address
    grad_peephole: Address
    grad_norm_cell: Address
    grad_hidden: Address
    grad_cell: Address
    grad_projected: Address
    unprojected: Address


class ZeroPaddingArgs(NamedTuple):
    """Zeros past the lengths."""

    array: Address
    steps: int
    batch: int
    row_bytes: int
    lengths: Address

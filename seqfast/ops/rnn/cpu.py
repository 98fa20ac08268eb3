"""Recurrent layers on the CPU: allocation and the call into the native kernels."""

from __future__ import annotations

from seqfast import _C
from seqfast.ops.base.arrays import Array, ArrayLibrary, Shape, run_in_workspace
from seqfast.ops.rnn.arguments import (
    RnnBackwardArgs,
    RnnForwardArgs,
    RnnWeights,
    SequenceView,
)
from seqfast.ops.rnn.layer import (
    STATISTICS,
    Gradients,
    Kept,
    Layer,
    Needs,
    ResultGradients,
    Results,
    state_shapes,
)
from seqfast.ops.rnn.packed import Packed

_NOWHERE = 64  # the address of an array without elements
_ABSENT = RnnWeights._make([0] * len(RnnWeights._fields))


def forward(layer: Layer, save: bool, packed: Packed | None = None) -> Results:
    """Of a checked layer on the CPU, or of an empty one anywhere; `packed`: for its weights."""
    xp, sizes, input, lengths = layer.xp, layer.sizes, layer.input, layer.lengths
    steps, batch, directions = sizes.steps, sizes.batch, sizes.directions
    hidden_size, output_size = sizes.hidden_size, sizes.proj_size or sizes.hidden_size
    is_empty, has_cell = layer.is_empty, layer.has_cell
    hidden_shape = directions, batch, output_size
    cell_shape = directions, batch, hidden_size

    # The kernel writes only where a row runs.
    zero = lengths is not None or is_empty
    empty = xp.zeros if zero else xp.empty
    output = empty(input, (steps, batch, directions * output_size))
    cells = gates = statistics = cell_n = None
    if save:
        if has_cell:
            cells = xp.accumulator(input, (steps, batch, directions * hidden_size), zero)
        gates = empty(input, (steps, batch, layer.gates_size))
        if layer.cell_kind.layer_norm:
            statistics = xp.accumulator(input, (steps, batch, directions * STATISTICS), zero)
    if is_empty:
        hidden_n = _copy_or_zeros(layer, layer.hidden, hidden_shape)
        if has_cell:
            cell_n = _copy_or_zeros(layer, layer.cell, cell_shape)
        return Results(output, hidden_n, cell_n, cells, gates, statistics)

    hidden_n = xp.empty(input, hidden_shape)
    if has_cell:
        cell_n = xp.empty(input, cell_shape)
    address = xp.address
    # By place, here and below: a single step takes hardly longer than the names would.
    args = RnnForwardArgs(
        sizes,
        layer.options,
        _view(xp, input),
        0 if lengths is None else address(lengths),
        0 if layer.reset is None else address(layer.reset),
        0 if layer.hidden is None else address(layer.hidden),
        0 if layer.cell is None else address(layer.cell),
        _addresses(xp, layer.weights) if packed is None else packed.rows,
        address(output),
        address(hidden_n),
        0 if cell_n is None else address(cell_n),
        0 if cells is None else address(cells),
        0 if gates is None else address(gates),
        0 if statistics is None else address(statistics),
        0 if packed is None else packed.packing,
        0 if packed is None else packed.memory.address,
    )
    run_in_workspace(_C.rnn_forward, args)
    return Results(output, hidden_n, cell_n, cells, gates, statistics)


def backward(layer: Layer, grads: ResultGradients, kept: Kept, needs: Needs) -> Gradients:
    """Of a checked layer on the CPU, or of an empty one anywhere."""
    xp, sizes, input, lengths = layer.xp, layer.sizes, layer.input, layer.lengths
    is_empty = layer.is_empty
    hidden_shape, cell_shape = state_shapes(layer)
    grad_input = grad_hidden = grad_cell = grad_weights = None
    if needs.input:
        empty = xp.empty if lengths is None and not is_empty else xp.zeros
        grad_input = empty(input, (sizes.steps, sizes.batch, sizes.input_size))
    if needs.states and is_empty:
        grad_hidden = _copy_or_zeros(layer, grads.hidden_n, hidden_shape)
        if layer.has_cell:
            grad_cell = _copy_or_zeros(layer, grads.cell_n, cell_shape)
    elif needs.states:
        grad_hidden = xp.empty(input, hidden_shape)
        if layer.has_cell:
            grad_cell = xp.empty(input, cell_shape)
    if needs.weights:
        grad_weights = tuple([_empty_weights(layer, weights) for weights in layer.weights])
    found = Gradients(grad_input, grad_hidden, grad_cell, grad_weights)
    if is_empty:
        return found

    address = xp.address
    addresses = (_ABSENT,) * sizes.directions
    if grad_weights is not None:
        addresses = _addresses(xp, grad_weights)
    args = RnnBackwardArgs(
        sizes,
        layer.options,
        _view(xp, grads.output),
        0 if grads.hidden_n is None else address(grads.hidden_n),
        0 if grads.cell_n is None else address(grads.cell_n),
        0 if grads.cells is None else address(grads.cells),
        _view(xp, input),
        0 if lengths is None else address(lengths),
        0 if layer.reset is None else address(layer.reset),
        0 if layer.hidden is None else address(layer.hidden),
        0 if layer.cell is None else address(layer.cell),
        _addresses(xp, layer.weights),
        address(kept.output),
        0 if kept.cells is None else address(kept.cells),
        address(kept.gates),
        0 if kept.statistics is None else address(kept.statistics),
        0 if grad_input is None else address(grad_input),
        0 if grad_hidden is None else address(grad_hidden),
        0 if grad_cell is None else address(grad_cell),
        addresses,
    )
    run_in_workspace(_C.rnn_backward, args)
    return found


def _view(xp: ArrayLibrary, array: Array | None) -> SequenceView:
    if array is None:
        return SequenceView(0, 0, 0)
    step_stride, row_stride, _ = xp.strides(array)
    return SequenceView(xp.address(array), step_stride, row_stride)


def _copy_or_zeros(layer: Layer, array: Array | None, shape: Shape) -> Array:
    return layer.xp.zeros(layer.input, shape) if array is None else layer.xp.copy(array)


def _empty_weights(layer: Layer, weights: RnnWeights) -> RnnWeights:
    """Room for one direction's gradients; biases share theirs where their gradients are equal."""
    like = layer.xp.zeros_like if layer.is_empty else layer.xp.empty_like
    weight_ih, weight_hh, bias_ih, bias_hh, *rest = weights
    both = bias_ih is not None and bias_hh is not None
    one_bias = both and not layer.cell_kind.traits.has_split_candidate
    grad_bias = None if bias_ih is None else like(bias_ih)
    if one_bias:
        grad_bias_hh = grad_bias
    else:
        grad_bias_hh = None if bias_hh is None else like(bias_hh)
    return RnnWeights(
        None if weight_ih is None else like(weight_ih),
        like(weight_hh),
        grad_bias,
        grad_bias_hh,
        *[None if weight is None else like(weight) for weight in rest],
    )


def _addresses(xp: ArrayLibrary, rows: tuple[RnnWeights, ...]) -> tuple[RnnWeights, ...]:
    address = xp.address
    # An empty tensor has no address, but 0 is for what is absent. Lists first: a tuple of a
    # generator takes twice as long.
    return tuple(
        [
            RnnWeights._make([0 if array is None else address(array) or _NOWHERE for array in row])
            for row in rows
        ]
    )

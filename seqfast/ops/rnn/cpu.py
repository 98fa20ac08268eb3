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

_NOWHERE = 64  # the address of an array without elements
_ABSENT = RnnWeights._make([0] * len(RnnWeights._fields))


def forward(layer: Layer, save: bool) -> Results:
    """Of a checked layer on the CPU, or of an empty one anywhere."""
    xp, sizes, input, lengths = layer.xp, layer.sizes, layer.input, layer.lengths
    steps, batch, directions = sizes.steps, sizes.batch, sizes.directions
    is_empty, has_cell = layer.is_empty, layer.has_cell
    hidden_shape, cell_shape = state_shapes(layer)

    # The kernel writes only where a row runs.
    zero = lengths is not None or is_empty
    empty = xp.zeros if zero else xp.empty
    output = empty(input, (steps, batch, directions * layer.output_size))
    cells = gates = statistics = cell_n = None
    if save:
        if has_cell:
            cells = xp.accumulator(input, (steps, batch, directions * sizes.hidden_size), zero)
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
    args = RnnForwardArgs(
        sizes=sizes,
        options=layer.options,
        input=_view(xp, input),
        lengths=0 if lengths is None else address(lengths),
        reset=0 if layer.reset is None else address(layer.reset),
        hidden=0 if layer.hidden is None else address(layer.hidden),
        cell=0 if layer.cell is None else address(layer.cell),
        weights=_addresses(xp, layer.weights),
        output=address(output),
        hidden_n=address(hidden_n),
        cell_n=0 if cell_n is None else address(cell_n),
        cells=0 if cells is None else address(cells),
        gates=0 if gates is None else address(gates),
        statistics=0 if statistics is None else address(statistics),
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
        grad_input = empty(input, tuple(input.shape))
    if needs.states and is_empty:
        grad_hidden = _copy_or_zeros(layer, grads.hidden_n, hidden_shape)
        if layer.has_cell:
            grad_cell = _copy_or_zeros(layer, grads.cell_n, cell_shape)
    elif needs.states:
        grad_hidden = xp.empty(input, hidden_shape)
        if layer.has_cell:
            grad_cell = xp.empty(input, cell_shape)
    if needs.weights:
        grad_weights = tuple(_empty_weights(layer, weights) for weights in layer.weights)
    found = Gradients(grad_input, grad_hidden, grad_cell, grad_weights)
    if is_empty:
        return found

    def address(array: Array | None) -> int:
        return 0 if array is None else xp.address(array)

    addresses = (_ABSENT,) * sizes.directions
    if grad_weights is not None:
        addresses = _addresses(xp, grad_weights)
    args = RnnBackwardArgs(
        sizes=sizes,
        options=layer.options,
        grad_output=_view(xp, grads.output),
        grad_hidden_n=address(grads.hidden_n),
        grad_cell_n=address(grads.cell_n),
        grad_cells=address(grads.cells),
        input=_view(xp, input),
        lengths=address(lengths),
        reset=address(layer.reset),
        hidden=address(layer.hidden),
        cell=address(layer.cell),
        weights=_addresses(xp, layer.weights),
        output=address(kept.output),
        cells=address(kept.cells),
        gates=address(kept.gates),
        statistics=address(kept.statistics),
        grad_input=address(grad_input),
        grad_hidden=address(grad_hidden),
        grad_cell=address(grad_cell),
        grad_weights=addresses,
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
    empty = layer.xp.zeros if layer.is_empty else layer.xp.empty
    both = weights.bias_ih is not None and weights.bias_hh is not None
    one_bias = both and not layer.cell_kind.traits.has_split_candidate
    if one_bias:
        weights = weights._replace(bias_hh=None)
    grads = RnnWeights._make(
        None if weight is None else empty(layer.input, tuple(weight.shape)) for weight in weights
    )
    return grads._replace(bias_hh=grads.bias_ih) if one_bias else grads


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

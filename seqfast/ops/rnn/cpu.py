"""Recurrent layers on the CPU: allocation and the call into the native kernels."""

from __future__ import annotations

from collections.abc import Sequence

from seqfast import _C
from seqfast.ops.base.arrays import Array, ArrayLibrary, Shape, Workspace
from seqfast.ops.rnn.cells import GRU
from seqfast.ops.rnn.layer import (
    ABSENT,
    BIAS_HH,
    BIAS_IH,
    STATISTICS,
    Gradients,
    Layer,
    Results,
    Weights,
    state_shapes,
)

_NOWHERE = 64  # the address of an array without elements


def forward(layer: Layer, save: bool) -> Results:
    """Of a checked layer on the CPU, or an empty one anywhere; None what its cell does not have,
    and what is not kept."""
    xp, steps, batch, directions = layer.xp, layer.steps, layer.batch, layer.directions
    nothing = layer.is_empty
    input, hidden, cell, lengths = layer.input, layer.hidden, layer.cell, layer.lengths
    hidden_shape, cell_shape = state_shapes(layer)

    # The kernel writes only where a row runs.
    zero = lengths is not None or nothing
    empty = xp.zeros if zero else xp.empty
    output = empty(input, (steps, batch, directions * layer.output_size))
    cells = gates = statistics = cell_n = None
    if save:
        if layer.has_cell:
            cells = xp.accumulator(input, (steps, batch, directions * layer.hidden_size), zero)
        gates = empty(input, (steps, batch, layer.gates_size))
        if layer.cell_kind.layer_norm:
            statistics = xp.accumulator(input, (steps, batch, directions * STATISTICS), zero)
    if nothing:
        hidden_n = _copy_or_zeros(layer, hidden, hidden_shape)
        if layer.has_cell:
            cell_n = _copy_or_zeros(layer, cell, cell_shape)
        return output, hidden_n, cell_n, cells, gates, statistics

    hidden_n = xp.empty(input, hidden_shape)
    if layer.has_cell:
        cell_n = xp.empty(input, cell_shape)
    sizes, options = layer.kernel_sizes(), layer.options
    address = xp.address
    weights = _addresses(xp, layer.weights)
    workspace_size = _C.rnn_workspace_size(False, sizes, options, weights)
    step_stride, row_stride, _ = xp.strides(input)
    with Workspace(workspace_size) as workspace:
        _C.rnn_forward(
            sizes,
            options,
            address(input),
            step_stride,
            row_stride,
            0 if lengths is None else address(lengths),
            0 if layer.reset is None else address(layer.reset),
            0 if hidden is None else address(hidden),
            0 if cell is None else address(cell),
            weights,
            address(output),
            address(hidden_n),
            0 if cell_n is None else address(cell_n),
            0 if cells is None else address(cells),
            0 if gates is None else address(gates),
            0 if statistics is None else address(statistics),
            workspace,
            workspace_size,
        )
    return output, hidden_n, cell_n, cells, gates, statistics


def backward(
    layer: Layer,
    grads: tuple[Array | None, ...],
    kept: tuple[Array | None, ...],
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """Of a checked layer on the CPU, or an empty one anywhere. `grads`: of output, hidden_n,
    cell_n, cells; `kept`: output, cells, gates, statistics."""
    xp, input, lengths = layer.xp, layer.input, layer.lengths
    hidden_shape, cell_shape = state_shapes(layer)
    nothing = layer.is_empty
    output, cells, gates, statistics = kept
    grad_output, grad_hidden_n, grad_cell_n, grad_cells = grads
    need_input, need_states, need_weights = needs
    grad_input = grad_hidden = grad_cell = grad_weights = None
    if need_input:
        empty = xp.empty if lengths is None and not nothing else xp.zeros
        grad_input = empty(input, tuple(input.shape))
    if need_states and nothing:
        grad_hidden = _copy_or_zeros(layer, grad_hidden_n, hidden_shape)
        if layer.has_cell:
            grad_cell = _copy_or_zeros(layer, grad_cell_n, cell_shape)
    elif need_states:
        grad_hidden = xp.empty(input, hidden_shape)
        if layer.has_cell:
            grad_cell = xp.empty(input, cell_shape)
    if need_weights:
        grad_weights = tuple(_empty_weights(layer, weights) for weights in layer.weights)
    if nothing:
        return grad_input, grad_hidden, grad_cell, grad_weights

    def address(array: Array | None) -> int:
        return 0 if array is None else xp.address(array)

    sizes, options = layer.kernel_sizes(), layer.options
    weights = _addresses(xp, layer.weights)
    workspace_size = _C.rnn_workspace_size(True, sizes, options, weights)
    step_stride, row_stride, _ = xp.strides(input)
    grad_strides = (0, 0, 0) if grad_output is None else xp.strides(grad_output)
    with Workspace(workspace_size) as workspace:
        _C.rnn_backward(
            sizes,
            options,
            address(grad_output),
            grad_strides[0],
            grad_strides[1],
            address(grad_hidden_n),
            address(grad_cell_n),
            address(grad_cells),
            address(input),
            step_stride,
            row_stride,
            address(lengths),
            address(layer.reset),
            address(layer.hidden),
            address(layer.cell),
            weights,
            address(output),
            address(cells),
            address(gates),
            address(statistics),
            address(grad_input),
            address(grad_hidden),
            address(grad_cell),
            _addresses(xp, grad_weights or [ABSENT] * layer.directions),
            workspace,
            workspace_size,
        )
    return grad_input, grad_hidden, grad_cell, grad_weights


def _copy_or_zeros(layer: Layer, array: Array | None, shape: Shape) -> Array:
    return layer.xp.zeros(layer.input, shape) if array is None else layer.xp.copy(array)


def _empty_weights(layer: Layer, weights: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
    """Room for one direction's gradients; biases share theirs where their gradients are equal."""
    empty = layer.xp.zeros if layer.is_empty else layer.xp.empty
    input, one_bias = layer.input, layer.cell_kind.kind != GRU
    grads = list(weights)
    for slot, weight in enumerate(weights):
        if weight is None:
            continue
        if slot == BIAS_HH and one_bias and grads[BIAS_IH] is not None:
            grads[slot] = grads[BIAS_IH]
        else:
            grads[slot] = empty(input, tuple(weight.shape))
    return tuple(grads)


def _addresses(xp: ArrayLibrary, rows: Sequence[Weights]) -> list[tuple[int, ...]]:
    address = xp.address
    # An empty tensor has no address, but 0 is for what is absent. A list first: a tuple of a
    # generator takes twice as long.
    return [
        tuple([0 if array is None else address(array) or _NOWHERE for array in row]) for row in rows
    ]

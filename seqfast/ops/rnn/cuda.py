"""Recurrent layers on a GPU, or by the host executor: one recurrence kernel, and around it the
products over all steps at once, by torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops.base.arrays import FLOAT32
from seqfast.ops.base.backend import strategy_code
from seqfast.ops.base.cuda import address_of, as_arrays, as_tensors, place, workspace
from seqfast.ops.dropout.cuda import dropout
from seqfast.ops.rnn.cells import GRU, GRU_RESET_BEFORE
from seqfast.ops.rnn.layer import STATISTICS, Gradients, Layer, Results

# Rows of a product whose rows must not depend on how many there are.
_BLOCK = 512
# Places in a layer's options, as the kernels take them.
_ZONEOUT_HIDDEN, _DROPOUT_HIDDEN, _LAYER = 7, 9, 12


def forward(layer: Layer, save: bool) -> Results:
    """Of a checked layer that is not empty: output, hidden_n, cell_n, cells, gates, statistics."""
    with torch.no_grad(), _no_autocast(layer):
        if isinstance(layer.input, np.ndarray):
            results: Results = as_arrays(_forward(as_tensors(layer), save))
            return results
        return _forward(layer, save)


def backward(
    layer: Layer,
    grads: tuple[Any, ...],
    kept: tuple[Any, ...],
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """Of a checked layer that is not empty: the gradients of input, hidden, cell and weights.

    `grads`: of output, hidden_n, cell_n, cells; `kept`: output, cells, gates, statistics."""
    with torch.no_grad(), _no_autocast(layer):
        if isinstance(layer.input, np.ndarray):
            tensors = (as_tensors(value) for value in (layer, grads, kept))
            found: Gradients = as_arrays(_Backward(*tensors).gradients(needs))
            return found
        return _Backward(layer, grads, kept).gradients(needs)


def _forward(layer: Layer, save: bool) -> Results:
    run = _Run(layer, backward=False)
    steps, batch, directions = layer.steps, layer.batch, layer.directions
    product, gates = layer.input, None
    if layer.weights[0][0] is None:
        product = product.contiguous()
    else:
        rows = product.reshape(steps * batch, layer.input_size)
        product = _row_product(rows, _weight_ih(layer).t()).view(steps, batch, -1)
        if save and product.shape[2] == layer.gates_size:
            gates = product  # its numbers are read before others take their place
    if save and gates is None:
        gates = run.empty(steps, batch, layer.gates_size)
    output = run.empty(steps, batch, directions * layer.output_size)
    hidden_n = run.empty(directions, batch, layer.output_size)
    cell_n = cells = statistics = None
    if layer.has_cell:
        cell_n = run.empty(directions, batch, layer.hidden_size)
        if save:
            cells = run.accumulator(steps, batch, directions * layer.hidden_size)
    if save and layer.cell_kind.layer_norm:
        statistics = run.accumulator(steps, batch, directions * STATISTICS)
    _C.cuda_rnn_forward(
        run.call,
        layer.options,
        address_of(run.lengths),
        address_of(run.order),
        address_of(layer.reset),
        address_of(layer.hidden),
        address_of(layer.cell),
        run.weights(),
        address_of(product),
        address_of(output),
        address_of(hidden_n),
        address_of(cell_n),
        address_of(cells),
        address_of(gates),
        address_of(statistics),
        run.workspace,
        run.workspace_size,
    )
    for array in (output, cells, gates, statistics):
        run.zero_padding(array)
    return output, hidden_n, cell_n, cells, gates, statistics


class _Backward:
    """The gradients of one layer: of its gates by the kernel, of all else by products with them."""

    def __init__(
        self, layer: Layer, grads: tuple[Tensor | None, ...], kept: tuple[Tensor, ...]
    ) -> None:
        self.layer = layer
        self.grads = grads
        self.output, self.cells, self.gates, self.statistics = kept
        self.run = _Run(layer, backward=True)
        self.has_split_candidate = layer.cell_kind.kind == GRU  # n's gradients by its two products
        self.blocks = (
            4 if self.has_split_candidate else layer.cell_kind.gates
        )  # of a direction in grad_gates

    def gradients(self, needs: tuple[bool, bool, bool]) -> Gradients:
        need_input, need_states, need_weights = needs
        grad_cell = self.walk(need_states, need_weights)
        return (
            self.of_input() if need_input else None,
            self.of_hidden() if need_states else None,
            grad_cell,
            self.of_weights() if need_weights else None,
        )

    def walk(self, need_states: bool, need_weights: bool) -> Tensor | None:
        """Runs the kernel; grad_cell."""
        layer, run = self.layer, self.run
        steps, batch, directions = layer.steps, layer.batch, layer.directions
        hidden_size, kind = layer.hidden_size, layer.cell_kind
        grad_output, grad_hidden_n, grad_cell_n, grad_cells = self.grads
        self.grad_gates = run.empty(steps, batch, directions * self.blocks * hidden_size)
        self.grad_product = self.grad_projected = self.unprojected = None
        self.grad_peephole = self.grad_norm_cell = self.direct = grad_cell = None
        if kind.layer_norm:
            self.grad_product = run.empty(steps, batch, directions * kind.gates * hidden_size)
            if layer.has_cell and need_weights:
                self.grad_norm_cell = run.accumulator(steps, batch, directions * 2 * hidden_size)
        if layer.proj_size:
            self.grad_projected = run.empty(steps, batch, directions * layer.proj_size)
            self.unprojected = run.empty(steps, batch, directions * hidden_size)
        if need_weights and layer.weights[0][6] is not None:
            self.grad_peephole = run.accumulator(steps, batch, directions * 3 * hidden_size)
        # All but these pass on to the state before through the product alone.
        if need_states and (layer.operation == "gru" or layer.options[_ZONEOUT_HIDDEN] > 0):
            self.direct = run.empty(directions, batch, layer.output_size)
        if need_states and layer.has_cell:
            grad_cell = run.empty(directions, batch, hidden_size)
        step_stride, row_stride = (0, 0) if grad_output is None else grad_output.stride()[:2]
        _C.cuda_rnn_backward(
            run.call,
            layer.options,
            address_of(run.lengths),
            address_of(run.order),
            address_of(layer.reset),
            address_of(grad_output),
            step_stride,
            row_stride,
            address_of(grad_hidden_n),
            address_of(grad_cell_n),
            address_of(grad_cells),
            address_of(layer.hidden),
            address_of(layer.cell),
            run.weights(),
            address_of(self.output),
            address_of(self.cells),
            address_of(self.gates),
            address_of(self.statistics),
            address_of(self.grad_gates),
            address_of(self.grad_product),
            address_of(self.grad_peephole),
            address_of(self.grad_norm_cell),
            address_of(self.direct),
            address_of(grad_cell),
            address_of(self.grad_projected),
            address_of(self.unprojected),
            run.workspace,
            run.workspace_size,
        )
        # The sums over steps then need no mask.
        for array in (
            self.grad_gates,
            self.grad_product,
            self.grad_projected,
            self.unprojected,
            self.grad_peephole,
            self.grad_norm_cell,
        ):
            run.zero_padding(array)
        return grad_cell

    # Of gru the blocks of grad_gates are n as the input sees it, r, z, n as the state sees it.

    def gate_gradients(self, d: int) -> Tensor:
        """Direction d: of the pre-activations as the input sees them; of gru in the order n r z."""
        part = self.part(self.grad_gates, d)
        return part[..., : 3 * self.layer.hidden_size] if self.has_split_candidate else part

    def product_gradients(self, d: int) -> Tensor:
        """Direction d: of the pre-activations as the recurrent product's share sees them."""
        part = self.part(self.grad_gates, d)
        return part[..., self.layer.hidden_size :] if self.has_split_candidate else part

    def reordered(self, rows: Tensor) -> Tensor:
        """Blocks of rows in the order r z n as n r z, of gru."""
        size = self.layer.hidden_size
        return torch.cat((rows[2 * size :], rows[: 2 * size])) if self.has_split_candidate else rows

    def back_in_order(self, rows: Tensor) -> Tensor:
        size = self.layer.hidden_size
        return torch.cat((rows[size:], rows[:size])) if self.has_split_candidate else rows

    def of_input(self) -> Tensor:
        layer = self.layer
        if layer.weights[0][0] is None:
            if not self.has_split_candidate:
                return self.grad_gates
            size, parts = layer.hidden_size, map(self.gate_gradients, range(layer.directions))
            blocks = [(part[..., size:], part[..., :size]) for part in parts]
            return torch.cat([block for pair in blocks for block in pair], dim=2)
        count = layer.steps * layer.batch
        if not self.has_split_candidate:
            rows = self.grad_gates.view(count, -1)
            return _row_product(rows, _weight_ih(layer)).view(layer.input.shape)
        grad: Any = None
        weights_ih: list[Any] = [weights[0] for weights in layer.weights]
        for d, weight_ih in enumerate(weights_ih):
            rows = self.gate_gradients(d).flatten(0, 1)
            share = _row_product(rows, self.reordered(weight_ih))
            grad = share if grad is None else grad.add_(share)
        result: Tensor = grad.view(layer.input.shape)
        return result

    def of_hidden(self) -> Tensor:
        layer = self.layer
        count = layer.hidden_size * layer.cell_kind.gates
        if layer.cell_kind.kind == GRU_RESET_BEFORE:
            count = 2 * layer.hidden_size  # the kernel adds what comes through the third gate
        grads = []
        weights_hh: list[Any] = [weights[1] for weights in layer.weights]
        for d, weight_hh in enumerate(weights_hh):
            first = self.first_gates[d][:, :count]
            if layer.reset is not None:
                first = torch.where(layer.reset[0, :, None].bool(), 0, first)
            grads.append(self.masked(_row_product(first, weight_hh[:count])[None], d)[0])
        grad = torch.stack(grads)
        if self.direct is not None:
            grad += self.direct
        if self.run.lengths is None:
            return grad
        # A row without steps passes on what came to its end.
        grad_hidden_n: Any = 0 if self.grads[1] is None else self.grads[1]
        return torch.where((self.run.lengths > 0)[:, None], grad, grad_hidden_n)

    def of_weights(self) -> tuple[tuple[Tensor | None, ...], ...]:
        layer = self.layer
        input = layer.input
        if self.run.lengths is not None and layer.weights[0][0] is not None:
            # Padding may hold NaN, and 0 * NaN is NaN.
            input = input.clone(memory_format=torch.contiguous_format)
            self.run.zero_padding(input)
        return tuple(self.of_direction(d, input) for d in range(layer.directions))

    def of_direction(self, d: int, input: Tensor) -> tuple[Tensor | None, ...]:
        layer = self.layer
        ih, _, bias_ih, bias_hh, _, bias_hr, _, norm_hh, _, _ = layer.weights[d]
        grad: list[Tensor | None] = [None] * 10
        if ih is not None:
            grad[0] = self.back_in_order(_sum_of_products(self.gate_gradients(d), input))
        grad[1] = self.of_weight_hh(d)
        if bias_ih is not None or bias_hh is not None:
            sums = self.summed(self.part(self.grad_gates, d))
            by_input = by_product = sums
            if self.has_split_candidate:
                size = layer.hidden_size
                by_input, by_product = self.back_in_order(sums[: 3 * size]), sums[size:]
            grad[2] = None if bias_ih is None else by_input
            grad[3] = None if bias_hh is None else by_product
        if self.grad_projected is not None and self.unprojected is not None:
            projected = self.part(self.grad_projected, d)
            grad[4] = _sum_of_products(projected, self.part(self.unprojected, d))
            if bias_hr is not None:
                grad[5] = self.summed(projected)
        if self.grad_peephole is not None:
            grad[6] = self.summed(self.part(self.grad_peephole, d)).view(3, -1)
        if norm_hh is not None:
            gates = layer.cell_kind.gates * layer.hidden_size
            normal = self.part(self.gates, d)[..., -gates:]
            grad[7] = self.summed(self.product_gradients(d) * normal.to(self.run.accumulating))
        if self.grad_norm_cell is not None:
            both = self.summed(self.part(self.grad_norm_cell, d))
            grad[8], grad[9] = both.chunk(2)
        return tuple(grad)

    def of_weight_hh(self, d: int) -> Tensor:
        layer = self.layer
        grads = self.product_gradients(d)
        if self.grad_product is not None:
            grads = self.part(self.grad_product, d)
        if layer.cell_kind.kind == GRU_RESET_BEFORE:
            size = layer.hidden_size
            multiplied = self.multiplied(d)
            reset_gate = self.part(self.gates, d)[..., :size]
            return torch.cat(
                (
                    _sum_of_products(grads[..., : 2 * size], multiplied),
                    _sum_of_products(grads[..., 2 * size :], reset_gate * multiplied),
                )
            )
        if layer.reset is not None or self.drops_hidden:
            return _sum_of_products(grads, self.multiplied(d))
        output = self.part(self.output, d)
        # Each step met the output of the step before it in its direction, the first one `hidden`.
        if d == 0:
            grad = _sum_of_products(grads[1:], output[:-1])
        else:
            grad = _sum_of_products(grads[:-1], output[1:])
        if layer.hidden is not None:
            grad.addmm_(self.first_gates[d].t(), self.first_hidden(d))
        return grad

    def first_hidden(self, d: int) -> Tensor:
        hidden: Tensor = self.layer.hidden[d]  # type: ignore[index]
        if self.run.lengths is not None:
            # The state of a row without steps may be NaN, and 0 * NaN is NaN.
            hidden = torch.where((self.run.lengths > 0)[:, None], hidden, 0)
        return hidden

    def multiplied(self, d: int) -> Tensor:
        """[steps, batch, output_size]: what the recurrent product of each step saw."""
        layer = self.layer
        output = self.part(self.output, d)
        result = torch.zeros_like(output, memory_format=torch.contiguous_format)
        if d == 0:
            result[1:] = output[:-1]
            if layer.hidden is not None:
                result[0] = self.first_hidden(d)
        else:
            result[:-1] = output[1:]
            if layer.hidden is not None:
                hidden = self.first_hidden(d)
                if self.run.lengths is None:
                    result[-1] = hidden
                else:
                    rows, last = self.last_steps
                    result[last, rows] = hidden
        if layer.reset is not None:
            result = torch.where(layer.reset[:, :, None].bool(), 0, result)
        return self.masked(result, d)

    @cached_property
    def drops_hidden(self) -> bool:
        return self.layer.seed is not None and self.layer.options[_DROPOUT_HIDDEN] > 0

    def masked(self, states: Tensor, d: int) -> Tensor:
        """[any, batch, output_size] times direction d's mask of the hidden state."""
        layer = self.layer
        if not self.drops_hidden:
            return states
        stream = (layer.options[_LAYER] * 2 + d) * 8
        probability = layer.options[_DROPOUT_HIDDEN]
        result: Tensor = dropout(
            states.contiguous(), probability, layer.seed, stream, False, layer.backend
        )
        return result

    @cached_property
    def last_steps(self) -> tuple[Tensor, Tensor]:
        """Rows, and each one's last step in time; the first of a row without steps."""
        lengths: Any = self.run.lengths
        rows = torch.arange(self.layer.batch, device=lengths.device)
        return rows, lengths.clamp(1, self.layer.steps) - 1

    @cached_property
    def first_gates(self) -> list[Tensor]:
        """Per direction [batch, gates * hidden_size]: what the product before each row's first step
        is given; zero without one."""

        def grads(d: int) -> Tensor:
            product = self.grad_product
            return self.product_gradients(d) if product is None else self.part(product, d)

        result = [grads(0)[0]]
        if self.layer.directions == 2:
            if self.run.lengths is None:
                result.append(grads(1)[-1])
            else:
                rows, last = self.last_steps
                result.append(grads(1)[last, rows])
        return result

    def part(self, array: Tensor, d: int) -> Tensor:
        """Direction d of [steps, batch, directions * features]."""
        features = array.shape[2] // self.layer.directions
        return array.narrow(2, d * features, features)

    def summed(self, array: Tensor) -> Tensor:
        """[features] of [steps, batch, features]."""
        sums = array.sum((0, 1), dtype=self.run.accumulating)
        return sums.to(self.layer.input.dtype)


class _Run:
    """What the kernels of one pass over a layer share: device, stream, order of rows, workspace."""

    def __init__(self, layer: Layer, backward: bool) -> None:
        self.layer = layer
        self.on_host = layer.backend == "cuda-host"
        device = layer.input.device
        self.call = (
            *place(device, self.on_host),
            layer.dtype == FLOAT32 and _tf32_allowed(),
            strategy_code(),
            layer.dtype,
            layer.steps,
            layer.batch,
            layer.hidden_size,
            layer.proj_size,
            layer.directions,
            layer.weights[0][6] is not None or layer.reset is not None,
        )
        self.accumulating = torch.float64 if layer.input.dtype == torch.float64 else torch.float32
        # Raises what there is to raise: a build without CUDA, a way that cannot be gone.
        self.workspace_size = _C.cuda_rnn_workspace_size(self.call, layer.options, backward)
        self._memory, self.workspace = workspace(self.workspace_size, device, self.on_host)
        self.lengths = self.order = None
        if layer.lengths is not None:
            lengths = layer.lengths
            if lengths.device != device:
                # The caller's may be pinned, and then changed while they are on their way. What is
                # not pinned is read before the copy returns, which waits for nothing.
                lengths = lengths.clone().to(device, non_blocking=True)
            self.lengths = lengths
            self.order = torch.argsort(self.lengths, descending=True, stable=True)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        array: Tensor = self.layer.input.new_empty(shape, dtype=dtype)
        # On the host executor a number that no kernel wrote must show.
        return array.fill_(torch.nan) if self.on_host else array

    def accumulator(self, *shape: int) -> Tensor:
        return self.empty(*shape, dtype=self.accumulating)

    def weights(self) -> list[tuple[int, ...]]:
        return [tuple(address_of(weight) for weight in row) for row in self.layer.weights]

    def zero_padding(self, array: Tensor | None) -> None:
        """Of a contiguous [steps, batch, features], at every step past its row's length."""
        if array is not None and self.lengths is not None and array.numel():
            row_bytes = array.shape[2] * array.element_size()
            _C.cuda_zero_padding(self.call, address_of(array), row_bytes, address_of(self.lengths))


def _weight_ih(layer: Layer) -> Tensor:
    """[directions * gates * hidden_size, input_size]"""
    weights: list[Any] = [weights[0] for weights in layer.weights]
    result: Tensor = weights[0] if len(weights) == 1 else torch.cat(weights)
    return result


def _row_product(rows: Tensor, matrix: Tensor) -> Tensor:
    """`rows @ matrix`. Where torch is asked for determinism a row's bits do not depend on how many
    rows there are: an algorithm is chosen by the size of a product, so all have one size."""
    if not torch.are_deterministic_algorithms_enabled():
        return torch.mm(rows, matrix)
    result = rows.new_empty((rows.shape[0], matrix.shape[1]))
    # All through one buffer: strides and alignment choose the algorithm too.
    block = rows.new_zeros((_BLOCK, rows.shape[1]))
    for start in range(0, rows.shape[0], _BLOCK):
        part = rows[start : start + _BLOCK]
        block[: part.shape[0]] = part
        result[start : start + _BLOCK] = torch.mm(block, matrix)[: part.shape[0]]
    return result


def _sum_of_products(left: Tensor, right: Tensor) -> Tensor:
    """[m, n] from [steps, batch, m] and [steps, batch, n]: over all steps and rows at once."""
    return torch.mm(left.flatten(0, 1).t(), right.flatten(0, 1))


def _tf32_allowed() -> bool:
    matmul = torch.backends.cuda.matmul
    # Reading the old switch raises where the new one has been set.
    precision = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32 if precision is None else precision == "tf32")


def _no_autocast(layer: Layer) -> AbstractContextManager[None]:
    """Products in the dtype of the arrays, whatever autocast would make of them."""
    device_type = "cuda" if layer.backend == "cuda" else "cpu"
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()

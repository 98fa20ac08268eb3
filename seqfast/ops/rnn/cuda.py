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
from seqfast.ops.dropout.torch import HIDDEN_DROPOUT, stream_of
from seqfast.ops.rnn.arguments import (
    GpuCall,
    RnnRecurrenceBackwardArgs,
    RnnRecurrenceForwardArgs,
    RnnWeights,
    SequenceView,
    ZeroPaddingArgs,
)
from seqfast.ops.rnn.layer import (
    STATISTICS,
    Gradients,
    Kept,
    Layer,
    Needs,
    ResultGradients,
    Results,
)

# Rows of a product whose rows must not depend on how many there are.
_BLOCK = 512


def forward(layer: Layer, save: bool) -> Results:
    """Of a checked layer that is not empty."""
    with torch.no_grad(), _no_autocast(layer):
        if isinstance(layer.input, np.ndarray):
            results: Results = as_arrays(_forward(as_tensors(layer), save))
            return results
        return _forward(layer, save)


def backward(layer: Layer, grads: ResultGradients, kept: Kept, needs: Needs) -> Gradients:
    """Of a checked layer that is not empty."""
    with torch.no_grad(), _no_autocast(layer):
        if isinstance(layer.input, np.ndarray):
            tensors = (as_tensors(value) for value in (layer, grads, kept))
            found: Gradients = as_arrays(_Backward(*tensors).gradients(needs))
            return found
        return _Backward(layer, grads, kept).gradients(needs)


def _forward(layer: Layer, save: bool) -> Results:
    run = _Run(layer, backward=False)
    sizes = layer.sizes
    steps, batch, directions = sizes.steps, sizes.batch, sizes.directions
    product, gates = layer.input, None
    if not _has_input_weights(layer):
        product = product.contiguous()
    else:
        rows = product.reshape(steps * batch, sizes.input_size)
        product = _row_product(rows, _weight_ih(layer).t()).view(steps, batch, -1)
        if save and product.shape[-1] == layer.gates_size:
            gates = product  # its numbers are read before others take their place
    if save and gates is None:
        gates = run.empty(steps, batch, layer.gates_size)
    output = run.empty(steps, batch, directions * layer.output_size)
    hidden_n = run.empty(directions, batch, layer.output_size)
    cell_n = cells = statistics = None
    if layer.has_cell:
        cell_n = run.empty(directions, batch, sizes.hidden_size)
        if save:
            cells = run.accumulator(steps, batch, directions * sizes.hidden_size)
    if save and layer.cell_kind.layer_norm:
        statistics = run.accumulator(steps, batch, directions * STATISTICS)
    args = RnnRecurrenceForwardArgs(
        call=run.call,
        sizes=sizes,
        options=layer.options,
        lengths=address_of(run.lengths),
        order=address_of(run.order),
        reset=address_of(layer.reset),
        hidden=address_of(layer.hidden),
        cell=address_of(layer.cell),
        weights=run.weights(),
        product=address_of(product),
        output=address_of(output),
        hidden_n=address_of(hidden_n),
        cell_n=address_of(cell_n),
        cells=address_of(cells),
        gates=address_of(gates),
        statistics=address_of(statistics),
    )
    _C.cuda_rnn_forward(args, run.workspace, run.workspace_size)
    for array in (output, cells, gates, statistics):
        run.zero_padding(array)
    return Results(output, hidden_n, cell_n, cells, gates, statistics)


class _Backward:
    """The gradients of one layer: of its gates by the kernel, of all else by products with them."""

    def __init__(self, layer: Layer, grads: ResultGradients, kept: Kept) -> None:
        self.layer, self.sizes = layer, layer.sizes
        self.grads, self.kept = grads, kept
        self.run = _Run(layer, backward=True)
        kind = layer.cell_kind
        self.has_split_candidate = kind.traits.has_split_candidate
        # Of a direction in grad_gates: a split candidate has a gradient for each of its products.
        self.blocks = 4 if self.has_split_candidate else kind.gates

    def gradients(self, needs: Needs) -> Gradients:
        grad_cell = self.walk(needs)
        return Gradients(
            self.of_input() if needs.input else None,
            self.of_hidden() if needs.states else None,
            grad_cell,
            self.of_weights() if needs.weights else None,
        )

    def walk(self, needs: Needs) -> Tensor | None:
        """Runs the kernel; grad_cell."""
        layer, run, sizes, grads = self.layer, self.run, self.sizes, self.grads
        steps, batch, directions = sizes.steps, sizes.batch, sizes.directions
        hidden_size, kind = sizes.hidden_size, layer.cell_kind
        self.grad_gates = run.empty(steps, batch, directions * self.blocks * hidden_size)
        self.grad_product = self.grad_projected = self.unprojected = None
        self.grad_peephole = self.grad_norm_cell = self.direct = grad_cell = None
        if kind.layer_norm:
            self.grad_product = run.empty(steps, batch, directions * kind.gates * hidden_size)
            if layer.has_cell and needs.weights:
                self.grad_norm_cell = run.accumulator(steps, batch, directions * 2 * hidden_size)
        if sizes.proj_size:
            self.grad_projected = run.empty(steps, batch, directions * sizes.proj_size)
            self.unprojected = run.empty(steps, batch, directions * hidden_size)
        if needs.weights and _has_peepholes(layer):
            self.grad_peephole = run.accumulator(steps, batch, directions * 3 * hidden_size)
        # All but these pass on to the state before through the product alone.
        if needs.states and (kind.traits.carries_hidden or layer.options.zoneout_hidden > 0):
            self.direct = run.empty(directions, batch, layer.output_size)
        if needs.states and layer.has_cell:
            grad_cell = run.empty(directions, batch, hidden_size)
        args = RnnRecurrenceBackwardArgs(
            call=run.call,
            sizes=sizes,
            options=layer.options,
            lengths=address_of(run.lengths),
            order=address_of(run.order),
            reset=address_of(layer.reset),
            grad_output=_view(grads.output),
            grad_hidden_n=address_of(grads.hidden_n),
            grad_cell_n=address_of(grads.cell_n),
            grad_cells=address_of(grads.cells),
            hidden=address_of(layer.hidden),
            cell=address_of(layer.cell),
            weights=run.weights(),
            output=address_of(self.kept.output),
            cells=address_of(self.kept.cells),
            gates=address_of(self.kept.gates),
            statistics=address_of(self.kept.statistics),
            grad_gates=address_of(self.grad_gates),
            grad_product=address_of(self.grad_product),
            grad_peephole=address_of(self.grad_peephole),
            grad_norm_cell=address_of(self.grad_norm_cell),
            grad_hidden=address_of(self.direct),
            grad_cell=address_of(grad_cell),
            grad_projected=address_of(self.grad_projected),
            unprojected=address_of(self.unprojected),
        )
        _C.cuda_rnn_backward(args, run.workspace, run.workspace_size)
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
        return part[..., : 3 * self.sizes.hidden_size] if self.has_split_candidate else part

    def product_gradients(self, d: int) -> Tensor:
        """Direction d: of the pre-activations as the recurrent product's share sees them."""
        part = self.part(self.grad_gates, d)
        return part[..., self.sizes.hidden_size :] if self.has_split_candidate else part

    def reordered(self, rows: Tensor) -> Tensor:
        """Blocks of rows in the order r z n as n r z, of gru."""
        size = self.sizes.hidden_size
        return torch.cat((rows[2 * size :], rows[: 2 * size])) if self.has_split_candidate else rows

    def back_in_order(self, rows: Tensor) -> Tensor:
        size = self.sizes.hidden_size
        return torch.cat((rows[size:], rows[:size])) if self.has_split_candidate else rows

    def of_input(self) -> Tensor:
        layer = self.layer
        if not _has_input_weights(layer):
            if not self.has_split_candidate:
                return self.grad_gates
            size = self.sizes.hidden_size
            parts = map(self.gate_gradients, range(self.sizes.directions))
            blocks = [(part[..., size:], part[..., :size]) for part in parts]
            return torch.cat([block for pair in blocks for block in pair], dim=2)
        count = self.sizes.steps * self.sizes.batch
        if not self.has_split_candidate:
            rows = self.grad_gates.view(count, -1)
            return _row_product(rows, _weight_ih(layer)).view(layer.input.shape)
        grad: Any = None
        weights_ih: list[Any] = [weights.weight_ih for weights in layer.weights]
        for d, weight_ih in enumerate(weights_ih):
            rows = self.gate_gradients(d).flatten(0, 1)
            share = _row_product(rows, self.reordered(weight_ih))
            grad = share if grad is None else grad.add_(share)
        result: Tensor = grad.view(layer.input.shape)
        return result

    def of_hidden(self) -> Tensor:
        layer = self.layer
        count = self.sizes.hidden_size * layer.cell_kind.gates
        if layer.cell_kind.traits.has_second_product:
            count = 2 * self.sizes.hidden_size  # the kernel adds what comes through the third gate
        grads = []
        weights_hh: list[Any] = [weights.weight_hh for weights in layer.weights]
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
        grad_hidden_n: Any = 0 if self.grads.hidden_n is None else self.grads.hidden_n
        return torch.where((self.run.lengths > 0)[:, None], grad, grad_hidden_n)

    def of_weights(self) -> tuple[RnnWeights, ...]:
        layer = self.layer
        input = layer.input
        if self.run.lengths is not None and _has_input_weights(layer):
            # Padding may hold NaN, and 0 * NaN is NaN.
            input = input.clone(memory_format=torch.contiguous_format)
            self.run.zero_padding(input)
        return tuple(self.of_direction(d, input) for d in range(self.sizes.directions))

    def of_direction(self, d: int, input: Tensor) -> RnnWeights:
        weights = self.layer.weights[d]
        bias_ih, bias_hh = self.of_biases(d, weights)
        weight_hr, bias_hr = self.of_projection(d, weights)
        return RnnWeights(
            weight_ih=self.of_weight_ih(d, weights, input),
            weight_hh=self.of_weight_hh(d),
            bias_ih=bias_ih,
            bias_hh=bias_hh,
            weight_hr=weight_hr,
            bias_hr=bias_hr,
            weight_peephole=self.of_peepholes(d),
            **self.of_norms(d, weights),
        )

    def of_weight_ih(self, d: int, weights: RnnWeights, input: Tensor) -> Tensor | None:
        if weights.weight_ih is None:
            return None
        return self.back_in_order(_sum_of_products(self.gate_gradients(d), input))

    def of_biases(self, d: int, weights: RnnWeights) -> tuple[Tensor | None, Tensor | None]:
        if weights.bias_ih is None and weights.bias_hh is None:
            return None, None
        sums = self.summed(self.part(self.grad_gates, d))
        by_input = by_product = sums
        if self.has_split_candidate:
            size = self.sizes.hidden_size
            by_input, by_product = self.back_in_order(sums[: 3 * size]), sums[size:]
        return (
            None if weights.bias_ih is None else by_input,
            None if weights.bias_hh is None else by_product,
        )

    def of_projection(self, d: int, weights: RnnWeights) -> tuple[Tensor | None, Tensor | None]:
        if self.grad_projected is None or self.unprojected is None:
            return None, None
        projected = self.part(self.grad_projected, d)
        return (
            _sum_of_products(projected, self.part(self.unprojected, d)),
            None if weights.bias_hr is None else self.summed(projected),
        )

    def of_peepholes(self, d: int) -> Tensor | None:
        if self.grad_peephole is None:
            return None
        return self.summed(self.part(self.grad_peephole, d)).view(3, -1)

    def of_norms(self, d: int, weights: RnnWeights) -> dict[str, Tensor]:
        found = {}
        if weights.weight_norm_hh is not None:
            count = self.layer.cell_kind.gates * self.sizes.hidden_size
            normal = self.part(self.kept.gates, d)[..., -count:]
            by_product = self.product_gradients(d) * normal.to(self.run.accumulating)
            found["weight_norm_hh"] = self.summed(by_product)
        if self.grad_norm_cell is not None:
            both = self.summed(self.part(self.grad_norm_cell, d))
            found["weight_norm_cell"], found["bias_norm_cell"] = both.chunk(2)
        return found

    def of_weight_hh(self, d: int) -> Tensor:
        layer = self.layer
        grads = self.product_gradients(d)
        if self.grad_product is not None:
            grads = self.part(self.grad_product, d)
        if layer.cell_kind.traits.has_second_product:
            size = self.sizes.hidden_size
            multiplied = self.multiplied(d)
            reset_gate = self.part(self.kept.gates, d)[..., :size]
            return torch.cat(
                (
                    _sum_of_products(grads[..., : 2 * size], multiplied),
                    _sum_of_products(grads[..., 2 * size :], reset_gate * multiplied),
                )
            )
        if layer.reset is not None or self.drops_hidden:
            return _sum_of_products(grads, self.multiplied(d))
        output = self.part(self.kept.output, d)
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
        output = self.part(self.kept.output, d)
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
        return self.layer.seed is not None and self.layer.options.dropout_hidden > 0

    def masked(self, states: Tensor, d: int) -> Tensor:
        """[any, batch, output_size] times direction d's mask of the hidden state."""
        layer = self.layer
        if not self.drops_hidden:
            return states
        stream = stream_of(HIDDEN_DROPOUT, layer.options.layer, d)
        probability = layer.options.dropout_hidden
        result: Tensor = dropout(
            states.contiguous(), probability, layer.seed, stream, False, layer.backend
        )
        return result

    @cached_property
    def last_steps(self) -> tuple[Tensor, Tensor]:
        """Rows, and each one's last step in time; the first of a row without steps."""
        lengths: Any = self.run.lengths
        rows = torch.arange(self.sizes.batch, device=lengths.device)
        return rows, lengths.clamp(1, self.sizes.steps) - 1

    @cached_property
    def first_gates(self) -> list[Tensor]:
        """Per direction [batch, gates * hidden_size]: what the product before each row's first step
        is given; zero without one."""

        def grads(d: int) -> Tensor:
            product = self.grad_product
            return self.product_gradients(d) if product is None else self.part(product, d)

        result = [grads(0)[0]]
        if self.sizes.directions == 2:
            if self.run.lengths is None:
                result.append(grads(1)[-1])
            else:
                rows, last = self.last_steps
                result.append(grads(1)[last, rows])
        return result

    def part(self, array: Tensor, d: int) -> Tensor:
        """Direction d of [steps, batch, directions * features]."""
        features = array.shape[2] // self.sizes.directions
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
        where = place(device, self.on_host)
        self.call = GpuCall(
            device=where.device,
            stream=where.stream,
            tf32=layer.sizes.dtype == FLOAT32 and _tf32_allowed(),
            strategy=strategy_code(),
            extras=_has_peepholes(layer) or layer.reset is not None,
            on_host=where.on_host,
        )
        self.accumulating = torch.float64 if layer.input.dtype == torch.float64 else torch.float32
        # Raises what there is to raise: a build without CUDA, a strategy that cannot be taken.
        self.workspace_size = _C.cuda_rnn_workspace_size(
            self.call, layer.sizes, layer.options, backward
        )
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

    def weights(self) -> tuple[RnnWeights, ...]:
        return tuple(
            RnnWeights._make(address_of(weight) for weight in row) for row in self.layer.weights
        )

    def zero_padding(self, array: Tensor | None) -> None:
        """Of a contiguous [steps, batch, features], at every step past its row's length."""
        if array is not None and self.lengths is not None and array.numel():
            steps, batch, features = array.shape
            args = ZeroPaddingArgs(
                array=address_of(array),
                steps=steps,
                batch=batch,
                row_bytes=features * array.element_size(),
                lengths=address_of(self.lengths),
            )
            _C.cuda_zero_padding(self.call, args)


def _view(array: Tensor | None) -> SequenceView:
    if array is None:
        return SequenceView(0, 0, 0)
    step_stride, row_stride, _ = array.stride()
    return SequenceView(address_of(array), step_stride, row_stride)


def _has_input_weights(layer: Layer) -> bool:
    return layer.weights[0].weight_ih is not None


def _has_peepholes(layer: Layer) -> bool:
    return layer.weights[0].weight_peephole is not None


def _weight_ih(layer: Layer) -> Tensor:
    """[directions * gates * hidden_size, input_size]"""
    weights = [row.weight_ih for row in layer.weights]
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

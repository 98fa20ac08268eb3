"""Recurrent layers on a GPU, or by the host executor: one recurrence kernel, and around it the
products over all steps at once, by torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops._arrays import FLOAT32
from seqfast.ops._route import forced_way, on_host_executor, way_code

if TYPE_CHECKING:
    from seqfast.ops.rnn import _Layer

__all__ = ["forced_way", "lstm_backward", "lstm_forward", "on_host_executor"]

# Rows of a product whose rows must not depend on how many there are.
_BLOCK = 512


_Results = tuple[Any, Any, Any, Any, Any]
_Gradients = tuple[Any, Any, Any, Any]


def lstm_forward(layer: _Layer, save: bool) -> _Results:
    """`seqfast.ops.rnn.lstm_forward` of a checked layer that is not empty."""
    with torch.no_grad(), _no_autocast(layer):
        if isinstance(layer.input, np.ndarray):
            results: _Results = _as_arrays(_forward(_as_tensors(layer), save))
            return results
        return _forward(layer, save)


def lstm_backward(
    layer: _Layer,
    grads: tuple[Any, ...],
    kept: tuple[Any, ...],
    needs: tuple[bool, bool, bool],
) -> _Gradients:
    """`seqfast.ops.rnn.lstm_backward` of a checked layer that is not empty.

    `grads`: of output, hidden_n, cell_n, cells; `kept`: output, cells, gates."""
    with torch.no_grad(), _no_autocast(layer):
        if isinstance(layer.input, np.ndarray):
            tensors = (_as_tensors(value) for value in (layer, grads, kept))
            found: _Gradients = _as_arrays(_Backward(*tensors).gradients(needs))
            return found
        return _Backward(layer, grads, kept).gradients(needs)


def _forward(layer: _Layer, save: bool) -> _Results:
    run = _Run(layer, backward=False)
    steps, batch, directions = layer.steps, layer.batch, layer.directions
    rows = layer.input.reshape(steps * batch, layer.input_size)
    gates = _row_product(rows, _weight_ih(layer).t()).view(steps, batch, -1)
    output = run.empty(steps, batch, directions * layer.output_size)
    hidden_n = run.empty(directions, batch, layer.output_size)
    cell_n = run.empty(directions, batch, layer.hidden_size)
    cells = None
    if save:
        cells = run.empty(steps, batch, directions * layer.hidden_size, dtype=run.accumulator)
    _C.cuda_lstm_forward(
        run.call,
        _address(run.lengths),
        _address(run.order),
        _address(layer.hidden),
        _address(layer.cell),
        run.weights(),
        _address(gates),
        save,
        _address(output),
        _address(hidden_n),
        _address(cell_n),
        _address(cells),
        run.workspace,
        run.workspace_size,
    )
    run.zero_padding(output)
    if not save:
        return output, hidden_n, cell_n, None, None
    run.zero_padding(cells)
    run.zero_padding(gates)
    return output, hidden_n, cell_n, cells, gates


class _Backward:
    """The gradients of one layer: of its gates by the kernel, of all else by products with them."""

    def __init__(
        self, layer: _Layer, grads: tuple[Tensor | None, ...], kept: tuple[Tensor, ...]
    ) -> None:
        self.layer = layer
        self.grads = grads
        self.output, self.cells, self.gates = kept
        self.run = _Run(layer, backward=True)

    def gradients(self, needs: tuple[bool, bool, bool]) -> _Gradients:
        need_input, need_states, need_weights = needs
        grad_cell = self.walk(need_states)
        return (
            self.of_input() if need_input else None,
            self.of_hidden() if need_states else None,
            grad_cell,
            self.of_weights() if need_weights else None,
        )

    def walk(self, need_states: bool) -> Tensor | None:
        """Runs the kernel; grad_cell."""
        layer, run = self.layer, self.run
        steps, batch, directions = layer.steps, layer.batch, layer.directions
        grad_output, grad_hidden_n, grad_cell_n, grad_cells = self.grads
        self.grad_gates = run.empty(steps, batch, 4 * directions * layer.hidden_size)
        self.grad_projected = self.unprojected = grad_cell = None
        if layer.proj_size:
            self.grad_projected = run.empty(steps, batch, directions * layer.proj_size)
            self.unprojected = run.empty(steps, batch, directions * layer.hidden_size)
        if need_states:
            grad_cell = run.empty(directions, batch, layer.hidden_size)
        step_stride, row_stride = (0, 0) if grad_output is None else grad_output.stride()[:2]
        _C.cuda_lstm_backward(
            run.call,
            _address(run.lengths),
            _address(run.order),
            _address(grad_output),
            step_stride,
            row_stride,
            _address(grad_hidden_n),
            _address(grad_cell_n),
            _address(grad_cells),
            _address(layer.cell),
            run.weights(),
            _address(self.cells),
            _address(self.gates),
            _address(self.grad_gates),
            _address(grad_cell),
            _address(self.grad_projected),
            _address(self.unprojected),
            run.workspace,
            run.workspace_size,
        )
        # The sums over steps then need no mask.
        run.zero_padding(self.grad_gates)
        run.zero_padding(self.grad_projected)
        run.zero_padding(self.unprojected)
        return grad_cell

    def of_input(self) -> Tensor:
        layer = self.layer
        rows = self.grad_gates.view(layer.steps * layer.batch, -1)
        return _row_product(rows, _weight_ih(layer)).view(layer.input.shape)

    def of_hidden(self) -> Tensor:
        weights_hh: list[Any] = [weights[1] for weights in self.layer.weights]
        grad = torch.stack(
            [_row_product(*pair) for pair in zip(self.first_gates, weights_hh, strict=True)]
        )
        if self.run.lengths is None:
            return grad
        # A row without steps passes on what came to its end.
        grad_hidden_n: Any = 0 if self.grads[1] is None else self.grads[1]
        return torch.where((self.run.lengths > 0)[:, None], grad, grad_hidden_n)

    def of_weights(self) -> tuple[tuple[Tensor | None, ...], ...]:
        layer = self.layer
        input = layer.input
        if self.run.lengths is not None:
            # Padding may hold NaN, and 0 * NaN is NaN.
            input = input.clone(memory_format=torch.contiguous_format)
            self.run.zero_padding(input)
        result = []
        for d, (_, _, bias_ih, bias_hh, _) in enumerate(layer.weights):
            grad_gates = self.part(self.grad_gates, d)
            grad_bias = grad_hr = None
            if bias_ih is not None or bias_hh is not None:
                sums = grad_gates.sum((0, 1), dtype=self.run.accumulator)
                grad_bias = sums.to(input.dtype)
            if self.grad_projected is not None and self.unprojected is not None:
                grad_hr = _sum_of_products(
                    self.part(self.grad_projected, d), self.part(self.unprojected, d)
                )
            result.append(
                (
                    _sum_of_products(grad_gates, input),
                    self.of_weight_hh(d),
                    None if bias_ih is None else grad_bias,
                    None if bias_hh is None else grad_bias,
                    grad_hr,
                )
            )
        return tuple(result)

    def of_weight_hh(self, d: int) -> Tensor:
        grad_gates, output = self.part(self.grad_gates, d), self.part(self.output, d)
        # Each step met the output of the step before it in its direction, the first one `hidden`.
        if d == 0:
            grad = _sum_of_products(grad_gates[1:], output[:-1])
        else:
            grad = _sum_of_products(grad_gates[:-1], output[1:])
        if self.layer.hidden is not None:
            hidden = self.layer.hidden[d]
            if self.run.lengths is not None:
                # The state of a row without steps may be NaN, and 0 * NaN is NaN.
                hidden = torch.where((self.run.lengths > 0)[:, None], hidden, 0)
            grad.addmm_(self.first_gates[d].t(), hidden)
        return grad

    @cached_property
    def first_gates(self) -> list[Tensor]:
        """Per direction [batch, 4 * hidden_size]: at each row's first step; zero without one."""
        result = [self.part(self.grad_gates, 0)[0]]
        if self.layer.directions == 2:
            grad_gates, lengths = self.part(self.grad_gates, 1), self.run.lengths
            if lengths is None:
                result.append(grad_gates[-1])
            else:
                rows = torch.arange(self.layer.batch, device=lengths.device)
                result.append(grad_gates[lengths.clamp(1, self.layer.steps) - 1, rows])
        return result

    def part(self, array: Tensor, d: int) -> Tensor:
        """Direction d of [steps, batch, directions * features]."""
        features = array.shape[2] // self.layer.directions
        return array.narrow(2, d * features, features)


class _Run:
    """What the kernels of one pass over a layer share: device, stream, order of rows, workspace."""

    def __init__(self, layer: _Layer, backward: bool) -> None:
        self.layer = layer
        self.on_host = layer.backend == "cuda-host"
        device = layer.input.device
        self.call = (
            self.on_host,
            0 if self.on_host else device.index,
            0 if self.on_host else torch.cuda.current_stream(device).cuda_stream,
            layer.dtype == FLOAT32 and _tf32_allowed(),
            way_code(),
            layer.dtype,
            layer.steps,
            layer.batch,
            layer.hidden_size,
            layer.proj_size,
            layer.directions,
        )
        self.accumulator = torch.float64 if layer.input.dtype == torch.float64 else torch.float32
        # Raises what there is to raise: a build without CUDA, a way that cannot be gone.
        self.workspace_size = _C.cuda_lstm_workspace_size(self.call, backward)
        # Kernels want it aligned to 256.
        self._memory = torch.empty(self.workspace_size + 255, dtype=torch.uint8, device=device)
        if self.on_host:
            self._memory.fill_(0xFF)
        self.workspace = (self._memory.data_ptr() + 255) // 256 * 256
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

    def weights(self) -> list[tuple[int, int, int, int]]:
        return [
            (_address(hh), _address(bias_ih), _address(bias_hh), _address(hr))
            for _, hh, bias_ih, bias_hh, hr in self.layer.weights
        ]

    def zero_padding(self, array: Tensor | None) -> None:
        """Of a contiguous [steps, batch, features], at every step past its row's length."""
        if array is not None and self.lengths is not None and array.numel():
            row_bytes = array.shape[2] * array.element_size()
            _C.cuda_zero_padding(self.call, _address(array), row_bytes, _address(self.lengths))


def _weight_ih(layer: _Layer) -> Tensor:
    """[directions * 4 * hidden_size, input_size]"""
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


def _no_autocast(layer: _Layer) -> AbstractContextManager[None]:
    """Products in the dtype of the arrays, whatever autocast would make of them."""
    device_type = "cuda" if layer.backend == "cuda" else "cpu"
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _address(array: Tensor | None) -> int:
    return 0 if array is None else array.data_ptr()


def _as_tensors(value: Any) -> Any:
    """NumPy arrays as tensors that share their memory, however nested."""
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            value = value.copy()  # torch warns of what it could write to
        if value.dtype.name == "bfloat16":
            return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(value)
    if isinstance(value, (tuple, list)):
        make = getattr(value, "_make", type(value))
        return make(_as_tensors(item) for item in value)
    return value


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).numpy().view("bfloat16")
        return value.numpy()
    return tuple(_as_arrays(item) for item in value) if isinstance(value, tuple) else value

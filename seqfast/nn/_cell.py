"""The single step behind RNNCell, GRUCell and LSTMCell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import Parameter

from seqfast.nn._base import WEIGHTS, Recurrent, RecurrentOptions, Weights, initialise
from seqfast.nn._checks import (
    autocast,
    autocast_dtype,
    check_devices,
    check_state_dtypes,
    check_tensor,
    must_have_one_dtype,
    requires_grad,
)
from seqfast.nn._random import draw_seed
from seqfast.nn._tracing import profiler_is_on, recorded
from seqfast.ops.rnn.arguments import RnnWeights


class RecurrentCell(Recurrent):
    """What RNNCell, GRUCell and LSTMCell have in common."""

    input_size: int
    hidden_size: int
    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None
    _torch_step: ClassVar[Callable[..., Any]]  # with gradients

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: Any,
        dtype: Any,
        options: RecurrentOptions,
    ) -> None:
        # Past torch's constructor, whose parameters are not ours.
        super(torch.nn.RNNCellBase, self).__init__()  # type: ignore[misc]
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self._set_options(options)
        shapes = self._weight_shapes(input_size, hidden_size, hidden_size, False)
        for name, shape in shapes.items():
            self.register_parameter(name, Parameter(torch.empty(shape, device=device, dtype=dtype)))
        if not bias:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every parameter from U(-k, k), k = 1 / sqrt(hidden_size).

        Scales of layer normalisation start at 1, its shifts at 0; `forget_bias` is added to the
        forget gate's bias_ih.
        """
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for name, parameter in self.named_parameters():
            initialise(parameter, name, bound)
        if self.forget_bias is not None and self.bias_ih is not None:
            with torch.no_grad():
                self.bias_ih.chunk(4)[1].add_(self.forget_bias)

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if self.bias is not True:
            parts.append(f"bias={self.bias}")
        if self.nonlinearity != "tanh":
            parts.append(f"nonlinearity={self.nonlinearity}")
        return ", ".join(parts + self._options_repr())

    def _plain_step(self, input: Any, hx: Any) -> Any:
        """The step where nothing but a kernel, or autograd, wants to see it; else None.

        With gradients it is torch's own: its autograd is native code, a function of ours is not.
        """
        native = self._native
        if native is None or is_compiling():
            return None
        found = native.cell(self, input, hx)
        if found is not None:
            return found
        weights = native.weights_to_train(self, input, hx)
        if weights is None:
            return None
        if hx is None:
            hx = input.new_zeros(input.shape[0], self.hidden_size)
            hx = (hx, hx) if self._cell == "lstm" else hx
        return self._torch_step(input, hx, *weights)

    def _forward(self, input: Tensor, states: list[Tensor] | None) -> list[Tensor]:
        """The states after the step."""
        if profiler_is_on():
            with recorded(self._name):
                return self._step(input, states)
        return self._step(input, states)

    def _step(self, input: Tensor, states: list[Tensor] | None) -> list[Tensor]:
        batched = input.dim() == 2
        if not batched:
            input = input.unsqueeze(0)
            states = None if states is None else [state.unsqueeze(0) for state in states]
        row = self._weights()
        dtype = autocast_dtype(input)
        if dtype is not None:
            cast: Any = autocast
            if not input.is_cuda:
                # In the dtype of the state: casting the weights would take longer than the step.
                like = input if states is None else states[-1]
                dtype, cast = torch.promote_types(dtype, like.dtype), Tensor.to
            input = cast(input, dtype)
            row = row.cast(lambda weight: cast(weight, dtype))
            states = None if states is None else [cast(state, dtype) for state in states]
        self._check(input, row.recurrence.weight_ih, states)

        seed = None
        # In this order: what draws nothing is the same in training and evaluation.
        if (self.zoneout or self.recurrent_dropout) and self._kernel_draws() and self.training:
            seed = draw_seed(input)
        input = input.unsqueeze(0)
        if self.layer_norm:
            input = self._normalised_product(input, [row])
            row = row.without_input_product()
        hidden, cell = None, None
        if states is not None:
            hidden = states[0].unsqueeze(0)
            cell = states[1].unsqueeze(0) if len(states) > 1 else None
        save = torch.is_grad_enabled() and requires_grad(input, hidden, cell, *row.recurrence)
        recurrences = [row.recurrence]
        _, h, c, _ = self._kernel(input, hidden, cell, recurrences, None, None, seed, 0, save)
        found = [h.squeeze(0)] if c is None else [h.squeeze(0), c.squeeze(0)]
        return found if batched else [state.squeeze(0) for state in found]

    def _weights(self) -> Weights:
        if self.peephole or self.layer_norm:
            return Weights.of([getattr(self, name, None) for name in WEIGHTS])
        plain = RnnWeights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None)
        return Weights(plain, None)

    def _check_rank(self, input: object) -> None:
        check_tensor(self._name, "input", input)
        assert isinstance(input, Tensor)
        if input.dim() not in (1, 2):
            raise ValueError(
                f"{self._name}: Expected input to be 1D or 2D, got {input.dim()}D instead"
            )

    def _check_state_rank(self, name: str, state: object) -> None:
        check_tensor(self._name, name, state)
        assert isinstance(state, Tensor)
        if state.dim() not in (1, 2):
            raise ValueError(
                f"{self._name}: Expected {name} to be 1D or 2D, got {state.dim()}D instead"
            )

    def _state_label(self, index: int) -> str:
        return f"hidden{index}"

    def _check(self, input: Tensor, weight: Tensor | None, states: list[Tensor] | None) -> None:
        """What torch.nn's cells check, with their exceptions."""
        name = self._name
        assert weight is not None
        batch, size = input.shape
        if size != self.input_size:
            raise RuntimeError(
                f"{name}: input has inconsistent input_size: got {size} expected {self.input_size}"
            )
        for k, state in enumerate(states or ()):
            if state.shape != (batch, self.hidden_size):
                self._refuse_state(self._state_label(k), batch, state)
        if input.dtype != weight.dtype:
            raise RuntimeError(
                f"{name}: input dtype ({input.dtype}) does not match weight dtype "
                f"({weight.dtype}): {must_have_one_dtype(input, weight)}"
            )
        check_devices(name, input, weight, states or (), self._state_label)
        check_state_dtypes(name, input, states or (), self._state_label)

    def _refuse_state(self, label: str, batch: int, state: Tensor) -> None:
        wanted = f"{label} must be {[batch, self.hidden_size]}, got {list(state.shape)}"
        if state.shape[0] != batch:
            why = f"Input batch size {batch} doesn't match {label} batch size {state.shape[0]}"
        elif state.dim() > 1:
            got = state.shape[1]
            why = f"{label} has inconsistent hidden_size: got {got}, expected {self.hidden_size}"
        else:
            why = f"For batched 2-D input, {label} should also be 2-D but got 1-D tensor"
        raise RuntimeError(f"{self._name}: {why}; {wanted}")

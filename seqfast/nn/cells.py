"""Single steps that take the place of torch.nn's cells: same arguments, parameters and results."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from seqfast.nn._base import NORM_IH, WEIGHTS, Recurrent, Weights, initialise
from seqfast.nn._checks import (
    autocast,
    autocast_dtype,
    check_devices,
    check_state_dtypes,
    check_tensor,
    requires_grad,
)
from seqfast.nn._random import draw_seed
from seqfast.ops.rnn import torch as torch_rnn

States = tuple[Tensor, Tensor]


class RecurrentCell(Recurrent):
    """What RNNCell, GRUCell and LSTMCell have in common."""

    input_size: int
    hidden_size: int
    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: Any,
        dtype: Any,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
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

    def _forward(self, input: Tensor, states: list[Tensor] | None) -> list[Tensor]:
        """The states after the step."""
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
            row = [None if weight is None else cast(weight, dtype) for weight in row]
            states = None if states is None else [cast(state, dtype) for state in states]
        self._check(input, row[0], states)

        seed = draw_seed(input) if self.training and self._kernel_draws() else None
        input = input.unsqueeze(0)
        if self.layer_norm:
            input = self._normalised_product(input, [row])
            row = [None, *row[1:]]
        hidden, cell = None, None
        if states is not None:
            hidden = states[0].unsqueeze(0)
            cell = states[1].unsqueeze(0) if len(states) > 1 else None
        save = torch.is_grad_enabled() and requires_grad(input, hidden, cell, *row)
        _, h, c, _ = torch_rnn.layer(
            self._cell,
            input,
            hidden,
            cell,
            [row if len(row) <= NORM_IH else row[:NORM_IH]],
            None,
            seed=seed,
            options=self._kernel_options(),
            save=save,
        )
        found = [h.squeeze(0)] if c is None else [h.squeeze(0), c.squeeze(0)]
        return found if batched else [state.squeeze(0) for state in found]

    def _weights(self) -> Weights:
        weights: Weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None]
        if self.peephole or self.layer_norm:
            weights += [getattr(self, name, None) for name in WEIGHTS[5:]]
        return weights

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
                f"{name}: input has inconsistent input_size: got {size}, expected {self.input_size}"
            )
        for k, state in enumerate(states or ()):
            if state.shape != (batch, self.hidden_size):
                raise RuntimeError(
                    f"{name}: {self._state_label(k)} must be {[batch, self.hidden_size]}, "
                    f"got {list(state.shape)}"
                )
        if input.dtype != weight.dtype:
            raise RuntimeError(
                f"{name}: input dtype ({input.dtype}) does not match weight dtype ({weight.dtype})"
            )
        check_devices(name, input, weight, states or (), self._state_label)
        check_state_dtypes(name, input, states or (), self._state_label)


class RNNCell(RecurrentCell):
    """One step of a plain recurrent layer: `torch.nn.RNNCell` on seqfast's kernel.

    `cell(input [batch, input_size], h [batch, hidden_size] or None) -> h`; without the batch
    dimension too. `nonlinearity` "tanh" or "relu". Beyond torch.nn: `layer_norm` (Ba et al. 2016)
    and `zoneout` (Krueger et al. 2017), drawn anew at each call in training. Equations:
    docs/equations.md.

    Under autocast on a GPU everything is cast, as for `RNN`. On the CPU the step runs in the dtype
    of the state, since casting the weights would take longer; the result has autocast's dtype.

    Raises ValueError for a wrong rank, RuntimeError for a wrong size, dtype, device or nonlinearity
    (as torch.nn.RNNCell does), TypeError for what is no tensor; its constructor ValueError and
    TypeError for a wrong option.
    """

    _name: ClassVar[str] = "RNNCell"
    _cell: ClassVar[str] = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        zoneout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        options = {"zoneout": zoneout, "layer_norm": layer_norm}
        super().__init__(input_size, hidden_size, bias, device, dtype, options)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check_rank(input)
        if hx is not None:
            self._check_state_rank("hidden", hx)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(
                f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {self.nonlinearity!r}"
            )
        (hidden,) = self._forward(input, None if hx is None else [hx])
        dtype = autocast_dtype(input)
        return hidden if dtype is None else autocast(hidden, dtype)


class GRUCell(RecurrentCell):
    """One GRU step: `torch.nn.GRUCell` on seqfast's kernel.

    `cell(input [batch, input_size], h [batch, hidden_size] or None) -> h`; without the batch
    dimension too. Options beyond torch.nn's are those of `GRU`: `reset_after`, `reset_gate`,
    `layer_norm`, and, drawn anew at each call in training, `zoneout` and `recurrent_dropout`, which
    here is always on the candidate (Semeniuta et al. 2016). Equations and citations: `GRU`,
    docs/equations.md.

    Under autocast on a GPU everything is cast, as for `GRU`. On the CPU the step runs in the dtype
    of the state: casting the weights would take longer.

    Raises ValueError for a wrong rank, RuntimeError for a wrong size, dtype or device (as
    torch.nn.GRUCell does), TypeError for what is no tensor; its constructor ValueError and
    TypeError for a wrong option.
    """

    _name: ClassVar[str] = "GRUCell"
    _cell: ClassVar[str] = "gru"
    recurrent_dropout_on: str = "update"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
        reset_gate: bool = True,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        options = {
            "reset_after": reset_after,
            "reset_gate": reset_gate,
            "zoneout": zoneout,
            "recurrent_dropout": recurrent_dropout,
            "layer_norm": layer_norm,
        }
        super().__init__(input_size, hidden_size, bias, device, dtype, options)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check_rank(input)
        if hx is not None:
            self._check_state_rank("hidden", hx)
        return self._forward(input, None if hx is None else [hx])[0]


class LSTMCell(RecurrentCell):
    """One LSTM step: `torch.nn.LSTMCell` on seqfast's kernel.

    `cell(input [batch, input_size], (h [batch, hidden_size], c [batch, hidden_size]) or None) ->
    (h, c)`; without the batch dimension too. Options beyond torch.nn's are those of `LSTM`:
    `peephole`, `coupled_gates`, `forget_gate`, `forget_bias`, `cell_clip`, `gate_clip`,
    `layer_norm`, and, drawn anew at each call in training, `zoneout` and `recurrent_dropout`, which
    here is always on the candidate (Semeniuta et al. 2016). Equations and citations: `LSTM`,
    docs/equations.md.

    Under autocast on a GPU everything is cast, as for `LSTM`. On the CPU the step runs in the dtype
    of the state: casting the weights would take longer.

    Raises ValueError for a wrong rank, RuntimeError for a wrong size, dtype or device (as
    torch.nn.LSTMCell does), TypeError for what is no tensor; its constructor ValueError and
    TypeError for a wrong option.
    """

    _name: ClassVar[str] = "LSTMCell"
    _cell: ClassVar[str] = "lstm"
    _state_names: ClassVar[tuple[str, ...]] = ("hidden", "cell")
    recurrent_dropout_on: str = "update"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool = False,
        coupled_gates: bool = False,
        forget_gate: bool = True,
        forget_bias: float | None = None,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        options = {
            "peephole": peephole,
            "coupled_gates": coupled_gates,
            "forget_gate": forget_gate,
            "forget_bias": forget_bias,
            "cell_clip": cell_clip,
            "gate_clip": gate_clip,
            "zoneout": zoneout,
            "recurrent_dropout": recurrent_dropout,
            "layer_norm": layer_norm,
        }
        super().__init__(input_size, hidden_size, bias, device, dtype, options)

    def forward(self, input: Tensor, hx: States | None = None) -> States:
        self._check_rank(input)
        states: Any = hx
        if states is not None:
            if not isinstance(states, (tuple, list)):
                raise TypeError(
                    f"LSTMCell: hx must be a tuple of two tensors, got {type(states).__name__}"
                )
            if len(states) != 2:
                raise RuntimeError(f"LSTMCell: expects two hidden states, got {len(states)}")
            for k, state in enumerate(states):
                self._check_state_rank(f"hx[{k}]", state)
            states = list(states)
        hidden, cell = self._forward(input, states)
        return hidden, cell

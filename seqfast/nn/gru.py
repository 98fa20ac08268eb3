"""GRU and GRUCell, which take the place of torch.nn's: same arguments, parameters and results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from seqfast.nn._base import RecurrentOptions
from seqfast.nn._cell import RecurrentCell
from seqfast.nn._layer import HiddenSize, Lengths, RecurrentLayer, State, refuse_projection
from seqfast.nn._tracing import fx_is_on, node_of


@dataclass(frozen=True, kw_only=True)
class GRUOptions(RecurrentOptions):
    """Beyond torch.nn's arguments; `GRU` documents each of them."""

    reset_after: bool = True
    reset_gate: bool = True

    @property
    def gates(self) -> int:
        return 3 if self.reset_gate else 2

    def check(self, operation: str, bias: bool) -> None:
        super().check(operation, bias)
        if not (self.reset_gate or self.reset_after):
            raise ValueError(
                f"{operation}: reset_after=False needs a reset gate, got reset_gate=False too"
            )
        if self.layer_norm and not self.reset_after:
            raise ValueError(
                f"{operation}: layer_norm needs reset_after=True, got reset_after=False"
            )


class GRU(RecurrentLayer, torch.nn.GRU):  # type: ignore[misc]
    """A stack of GRU layers, in one or both directions: `torch.nn.GRU` on one kernel per layer.

    >>> import torch, seqfast
    >>> gru = seqfast.nn.GRU(4, 8, bidirectional=True, batch_first=True)
    >>> output, h_n = gru(torch.randn(3, 7, 4), lengths=[7, 2, 5])
    >>> output.shape, h_n.shape
    (torch.Size([3, 7, 16]), torch.Size([2, 3, 8]))

    Cho et al. 2014; equations in docs/equations.md. Arguments, parameter names, initialisation and
    `state_dict` are those of `torch.nn.GRU`. float32, float64, bfloat16 and float16, on the CPU and
    on CUDA devices.

    `layer(input, hx=None, *, lengths=None, mask=None, reset=None) -> output, h_n`, with D = 2 if
    bidirectional else 1:

    - `input`, `output`, `lengths`, `mask`, `reset`: as for `LSTM`; the output has D * hidden_size
      features.
    - `hx`: h_0 [D * num_layers, batch, hidden_size], without batch for unbatched input; default
      zeros. `h_n` has the same shape.

    Options of the cell:

    - `reset_after=False`: the reset gate scales h[t-1] before its product with weight_hh, as in the
      paper and ONNX. By default it scales the product, as in torch and cuDNN.
    - `reset_gate=False`: the simplified GRU, which has only an update gate (gates z n).
    - `layer_norm`: normalises both products (Ba et al. 2016), r and z together and n separately,
      with `weight_norm_ih`, `weight_norm_hh` [gates * hidden_size]; not with `reset_after=False`.

    All other options (`hidden_size` as a sequence, `residual`, `dense`, `highway`, `dropout`,
    `input_dropout`, `recurrent_dropout`, `recurrent_dropout_on`, `zoneout`, `weight_dropout`,
    `weight_dropout_on`), masks, autocast and errors: as for `LSTM`. There is no cell state, so
    `zoneout` is one number.
    """

    _stands_for = torch.nn.GRU
    _name: ClassVar[str] = "GRU"
    _cell: ClassVar[str] = "gru"
    _Options = GRUOptions

    def __init__(
        self,
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
        reset_gate: bool = True,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_dropout_on: str = "hidden",
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        weight_dropout_on: str = "element",
        layer_norm: bool = False,
        residual: bool = False,
        dense: bool = False,
        highway: bool = False,
        proj_size: None = None,
    ) -> None:
        """Creates the layer; the class docstring explains each option.

        Args:
            input_size: features of the input.
            hidden_size: features of the hidden state; a sequence gives each layer its own.
            num_layers: layers on top of each other.
            bias: whether there are biases.
            batch_first: whether input and output are [batch, steps, features].
            dropout: of the outputs of all layers but the last, in training.
            bidirectional: whether each layer runs in both directions.
            device: of the parameters.
            dtype: of the parameters, default torch's.
            reset_after: whether the reset gate scales the product, as in torch, or the state.
            reset_gate: False: a GRU with only an update gate.
            zoneout: probability that a unit keeps its old state.
            recurrent_dropout: probability that a recurrent unit is dropped.
            recurrent_dropout_on: "hidden" (one mask per sequence) or "update" (the candidate).
            input_dropout: probability that an input feature is dropped, one mask per sequence.
            weight_dropout: probability that an element of weight_hh is dropped.
            weight_dropout_on: "element", or "row": its rows are dropped whole.
            layer_norm: both products are normalised.
            residual: each layer's input is added to its output.
            dense: each layer also reads the outputs of all layers below.
            highway: a gate mixes each layer's input and output.
            proj_size: must be 0; only an LSTM has a projection.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: an argument out of its range, or options that exclude each other.
        """
        refuse_projection("GRU", proj_size)
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
            GRUOptions(
                reset_after=reset_after,
                reset_gate=reset_gate,
                zoneout=zoneout,
                recurrent_dropout=recurrent_dropout,
                recurrent_dropout_on=recurrent_dropout_on,
                input_dropout=input_dropout,
                weight_dropout=weight_dropout,
                weight_dropout_on=weight_dropout_on,
                layer_norm=layer_norm,
                residual=residual,
                dense=dense,
                highway=highway,
            ),
        )

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Any = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        """Runs all steps of all layers.

        Args:
            input: [steps, batch, input_size], with `batch_first` [batch, steps, input_size],
                unbatched [steps, input_size], or a PackedSequence; of the weights' dtype.
            hx: the state before the first step, [directions * num_layers, batch, hidden_size],
                without batch for unbatched input; default zeros. Where layers have
                sizes of their own, a tuple of one [directions, batch, size] for each.
            lengths: integers [batch], from 0 to steps: how many steps of each row run.
            mask: bool, shaped as the input without features: the steps that run.
            reset: bool, shaped as `mask`: the steps before which the state is set to zero.

        Returns:
            `output, h_n`: every step's output of the last layer, as the input but with
            directions * hidden_size features, and each layer's last state, as `hx`.

        Raises:
            ValueError: a wrong dtype or rank of the input, wrong lengths, masks or resets.
            RuntimeError: a wrong size, state or device, as in torch's layer.
            TypeError: an argument that is not a tensor, lengths that are not integers.
        """
        return self._forward(input, hx, lengths, mask, reset, False)

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            input: Tensor,
            hx: State | None = None,
            *,
            lengths: Lengths | None = None,
            mask: Tensor | None = None,
            reset: Tensor | None = None,
        ) -> tuple[Tensor, Tensor]: ...
        @overload
        def __call__(
            self, input: PackedSequence, hx: State | None = None
        ) -> tuple[PackedSequence, Tensor]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class GRUCell(RecurrentCell, torch.nn.GRUCell):  # type: ignore[misc]
    """One GRU step: `torch.nn.GRUCell` on seqfast's kernel.

    >>> import torch, seqfast
    >>> cell = seqfast.nn.GRUCell(4, 8)
    >>> h = cell(torch.randn(3, 4))
    >>> h = cell(torch.randn(3, 4), h)

    `cell(input [batch, input_size], h [batch, hidden_size] or None) -> h`; without the batch
    dimension too. Options beyond torch.nn's are those of `GRU`: `reset_after`, `reset_gate`,
    `layer_norm`, `zoneout` and `recurrent_dropout`, which here always acts on the candidate
    (Semeniuta et al. 2016). In training each call draws new masks. Equations and citations: `GRU`,
    docs/equations.md.

    With gradients a plain float32 or float64 cell on the CPU runs torch's own step, whose autograd
    is native code; without them, and with any option, a kernel.

    Under autocast on a GPU everything is cast, as for `GRU`. On the CPU the step runs in the dtype
    of the state, because casting the weights would take longer.

    Raises ValueError for a wrong rank, RuntimeError for a wrong size, dtype or device (as
    torch.nn.GRUCell does), TypeError for an argument that is not a tensor. The constructor raises
    ValueError and TypeError for a wrong option.
    """

    _stands_for = torch.nn.GRUCell
    _torch_step = staticmethod(torch.gru_cell)
    _name: ClassVar[str] = "GRUCell"
    _cell: ClassVar[str] = "gru"
    _Options = GRUOptions
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
        """Creates the cell; the class docstring explains each option.

        Args:
            input_size: features of the input.
            hidden_size: features of the hidden state.
            bias: whether there are biases.
            device: of the parameters.
            dtype: of the parameters, default torch's.
            reset_after: whether the reset gate scales the product, as in torch, or the state.
            reset_gate: False: a GRU with only an update gate.
            zoneout: probability that a unit keeps its old state.
            recurrent_dropout: probability that a unit of the candidate is dropped.
            layer_norm: both products are normalised.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: an argument out of its range, or options that exclude each other.
        """
        options = GRUOptions(
            reset_after=reset_after,
            reset_gate=reset_gate,
            zoneout=zoneout,
            recurrent_dropout=recurrent_dropout,
            recurrent_dropout_on="update",
            layer_norm=layer_norm,
        )
        super().__init__(input_size, hidden_size, bias, device, dtype, options)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Runs one step.

        Args:
            input: [batch, input_size], or [input_size] for one row.
            hx: the state before, [batch, hidden_size] or [hidden_size]; zeros where it is not
                given.

        Returns:
            The state after the step, shaped as `hx`.

        Raises:
            ValueError: a wrong rank.
            RuntimeError: a wrong size, dtype or device, as in torch's cell.
            TypeError: an argument that is not a tensor.
        """
        found: Tensor | None = self._plain_step(input, hx)
        if found is not None:
            return found
        if type(input) is not Tensor or fx_is_on():
            node = node_of(self, input, {"hx": hx})
            if node is not None:
                return node  # type: ignore[no-any-return]
        self._check_rank(input)
        if hx is not None:
            self._check_state_rank("hidden", hx)
        return self._forward(input, None if hx is None else [hx])[0]

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, hx: Tensor | None = None) -> Tensor: ...

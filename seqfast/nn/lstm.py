"""LSTM and LSTMCell, which take the place of torch.nn's: same arguments, parameters and results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from seqfast.nn._base import RecurrentOptions
from seqfast.nn._cell import RecurrentCell
from seqfast.nn._layer import HiddenSize, Lengths, RecurrentLayer, State
from seqfast.nn._tracing import fx_is_on, node_of
from seqfast.ops.base.checks import FINITE, POSITIVE, check_choice, check_number

States = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class LSTMOptions(RecurrentOptions):
    """Beyond torch.nn's arguments; `LSTM` documents each of them."""

    states: ClassVar[int] = 2
    dropout_places: ClassVar[tuple[str, ...]] = ("hidden", "update", "cell")

    peephole: bool | str = False
    output_activation: str = "tanh"
    coupled_gates: bool = False
    forget_gate: bool = True
    forget_bias: float | None = None
    cell_clip: float | None = None
    gate_clip: float | None = None

    @property
    def gates(self) -> int:
        return 4 if self.forget_gate and not self.coupled_gates else 3

    def check(self, operation: str, bias: bool) -> None:
        if isinstance(self.peephole, str) and self.peephole != "previous":
            raise ValueError(
                f"{operation}: peephole must be True, False or 'previous', got {self.peephole!r}"
            )
        super().check(operation, bias)
        check_choice(operation, "output_activation", self.output_activation, ("tanh", "identity"))
        for name in ("cell_clip", "gate_clip"):
            if getattr(self, name) is not None:
                check_number(operation, name, getattr(self, name), POSITIVE, ", or None")
        if self.coupled_gates and not self.forget_gate:
            raise ValueError(
                f"{operation}: coupled_gates=True makes a forget gate, got forget_gate=False too"
            )
        if self.forget_bias is None:
            return
        check_number(operation, "forget_bias", self.forget_bias, FINITE, ", or None")
        if self.gates != 4 or not bias:
            raise ValueError(
                f"{operation}: forget_bias needs a forget gate with a bias, got bias={bias}, "
                f"coupled_gates={self.coupled_gates}, forget_gate={self.forget_gate}"
            )


class LSTM(RecurrentLayer, torch.nn.LSTM):  # type: ignore[misc]
    """A stack of LSTM layers, in one or both directions: `torch.nn.LSTM` on one kernel per layer.

    >>> import torch, seqfast
    >>> lstm = seqfast.nn.LSTM(4, 8, num_layers=2, batch_first=True)
    >>> output, (h_n, c_n) = lstm(torch.randn(3, 7, 4), lengths=[7, 2, 5])
    >>> output.shape, h_n.shape
    (torch.Size([3, 7, 8]), torch.Size([2, 3, 8]))

    Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000) and an optional projection
    of the output (Sak et al. 2014); equations in docs/equations.md. Arguments, parameter names,
    initialisation and `state_dict` are those of `torch.nn.LSTM`. float32, float64, bfloat16 and
    float16, on the CPU and on CUDA devices.

    `layer(input, hx=None, *, lengths=None, mask=None, reset=None, return_cells=False) -> output,
    (h_n, c_n)[, cells]`, with D = 2 if bidirectional else 1 and `output_size = proj_size or
    hidden_size`:

    - `input` [steps, batch, input_size], with `batch_first` [batch, steps, input_size], unbatched
      [steps, input_size], or a PackedSequence. `output` has the same layout and D * output_size
      features.
    - `hx`: `(h_0 [D * num_layers, batch, output_size], c_0 [D * num_layers, batch, hidden_size])`,
      without the batch dimension for unbatched input; default zeros. `h_n` and `c_n` have the same
      shapes.
    - `lengths`: integers [batch] ([] for unbatched input), a tensor, list, tuple or array, in any
      order, from 0 to steps. The output past a row's length is zero, `h_n` and `c_n` are the states
      after its last step, and the backward direction starts there. With length 0 they are the
      initial states. `lengths` may be on the input's device or on the CPU. Lengths on a GPU, or
      beside a `mask`, are not checked but clamped to this range.
    - `mask`: bool, shaped as the input without its features, on the input's device. Where False the
      step is skipped: the state is carried over, output and cells are zero. With `lengths` a step
      runs if both say so.
    - `reset`: bool, with the shape and device of `mask`, for layers with one direction. Where True,
      the row's state is set to zero before that step, in every layer, and no gradient crosses. At a
      skipped step it takes effect before the row's next step that runs; if there is none, `h_n` and
      `c_n` are zero. Values past a row's length are ignored.
    - `return_cells=True` adds `cells`: every c[t] of every layer, differentiable, [num_layers,
      ...] with the layout of the output and D * hidden_size features; for a PackedSequence
      [num_layers, rows of its data, D * hidden_size]. float64 for float64, else float32.

    Options of the cell:

    - `peephole`: i and f also read c[t-1], and o reads c[t] (Gers & Schmidhuber 2000). The weights
      `weight_peephole_l{k}{_reverse}` [3, hidden_size] are in the order i f o. With "previous" o
      also reads c[t-1] instead of c[t].
    - `output_activation`: "tanh", h = o * tanh(c), or "identity", h = o * c.
    - `coupled_gates`: f = 1 - i (Greff et al. 2017; gates i g o); `forget_gate=False`: f = 1, the
      LSTM of 1997 (gates i g o).
    - `forget_bias`: added to the forget gate's bias_ih by `reset_parameters` (Gers et al. 2000).
    - `cell_clip` clamps c[t] (Sak et al. 2014), `gate_clip` every gate's pre-activation (ONNX).
    - `layer_norm`: normalises both products and the cell state (Ba et al. 2016), with
      `weight_norm_ih`, `weight_norm_hh` [gates * hidden_size], `weight_norm_cell` and
      `bias_norm_cell` [hidden_size]; not with `proj_size`.

    Options of the stack:

    - `hidden_size` may be a sequence, one size for each layer; `h_n`, `c_n`, `hx` and `cells` are
      then tuples of one tensor for each layer, without the dimension num_layers.
    - `residual`: from the second layer on, a layer's input is added to its output (He et al. 2016).
      `highway`: T * output + (1 - T) * input instead, T = sigmoid(input W^T + b), W, b =
      `weight_highway_l{k}`, `bias_highway_l{k}` (Srivastava et al. 2015). Both use the input before
      dropout. `dense`: a layer reads the input and the outputs of all layers before it (Huang et
      al. 2017). Use at most one of the three.

    Regularisers, in training only; masks are not stored, only a seed:

    - `dropout` between layers (Zaremba et al. 2014).
    - `input_dropout`: variational, one mask per sequence on each layer's input, the same for both
      directions. `recurrent_dropout` with `recurrent_dropout_on="hidden"`: one mask per sequence on
      h[t-1] where it enters the gates (Gal & Ghahramani 2016); with "update" one mask per step on
      the candidate (Semeniuta et al. 2016); with "cell" one mask per sequence on c[t] (Moon et al.
      2015): a dropped unit's cell is 0 for the whole sequence, the others are not scaled, and in
      evaluation every c[t] is multiplied by 1 - p.
    - `zoneout`, p or (p_hidden, p_cell): units keep their old state, with this probability at each
      step in training, by expectation in evaluation (Krueger et al. 2017).
    - `weight_dropout`: DropConnect on weight_hh, one mask per forward pass (Wan et al. 2013; Merity
      et al. 2018). The Parameter itself is not changed, and its gradient is the raw weight's. With
      `weight_dropout_on="row"` whole rows are dropped, as by fastai's variational WeightDrop.

    Each forward pass draws one seed from torch's CPU generator, so `torch.manual_seed` decides
    every mask: the same on every device and for any number of threads. Masks depend on the row of
    the batch (for a PackedSequence, of its sorted batch) and the step (with `mask`, among the steps
    that run).

    Under autocast input, states and weights are cast, and output and states have autocast's dtype.

    On a GPU the host does not wait. The layer can be captured in a CUDA graph, unless lengths come
    from the CPU, the input is packed or a seed is drawn. With
    `torch.use_deterministic_algorithms` a row's output does not depend on its batch.

    On the CPU the layer is batch-invariant among calls of more than 32 rows in all (steps x batch),
    and among those of up to 32: a row's output, states and gradient of its input have the same bits
    in any batch. Streams and layers in 8 bits are so for any number of rows. It does not hold with
    `layer_norm` or `highway`, whose products torch computes.

    A call raises ValueError for a wrong input dtype or rank and for wrong lengths, masks or resets,
    RuntimeError for a wrong size, state or device (as torch.nn.LSTM does), TypeError for other
    wrong types: tensors, integer lengths and bool masks are needed. The constructor raises
    ValueError and TypeError for wrong options and options that exclude each other.
    """

    _stands_for = torch.nn.LSTM
    _name: ClassVar[str] = "LSTM"
    _cell: ClassVar[str] = "lstm"
    _Options = LSTMOptions

    def __init__(
        self,
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool | str = False,
        output_activation: str = "tanh",
        coupled_gates: bool = False,
        forget_gate: bool = True,
        forget_bias: float | None = None,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_dropout_on: str = "hidden",
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        weight_dropout_on: str = "element",
        layer_norm: bool = False,
        residual: bool = False,
        dense: bool = False,
        highway: bool = False,
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
            proj_size: features that the hidden state is projected to; 0: no projection.
            device: of the parameters.
            dtype: of the parameters, default torch's.
            peephole: the gates also read the cell state, the output gate c[t]; "previous": all of
                them c[t-1].
            output_activation: of the cell state in the output, "tanh" or "identity".
            coupled_gates: the forget gate is 1 - the input gate.
            forget_gate: False: no forget gate, as in the LSTM of 1997.
            forget_bias: added to the forget gate's bias by `reset_parameters`.
            cell_clip: bound of the cell state; None: no bound.
            gate_clip: bound of every gate's pre-activation; None: no bound.
            zoneout: probability that a unit keeps its old state; a pair for hidden and cell state.
            recurrent_dropout: probability that a recurrent unit is dropped.
            recurrent_dropout_on: "hidden" or "cell" (one mask per sequence) or "update" (the
                candidate, one mask per step).
            input_dropout: probability that an input feature is dropped, one mask per sequence.
            weight_dropout: probability that an element of weight_hh is dropped.
            weight_dropout_on: "element", or "row": its rows are dropped whole.
            layer_norm: products and cell state are normalised.
            residual: each layer's input is added to its output.
            dense: each layer also reads the outputs of all layers below.
            highway: a gate mixes each layer's input and output.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: an argument out of its range, or options that exclude each other.
        """
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            LSTMOptions(
                peephole=peephole,
                output_activation=output_activation,
                coupled_gates=coupled_gates,
                forget_gate=forget_gate,
                forget_bias=forget_bias,
                cell_clip=cell_clip,
                gate_clip=gate_clip,
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
        return_cells: bool = False,
    ) -> Any:
        """Runs all steps of all layers.

        Args:
            input: [steps, batch, input_size], with `batch_first` [batch, steps, input_size],
                unbatched [steps, input_size], or a PackedSequence; of the weights' dtype.
            hx: `(h_0, c_0)`, the states before the first step, [directions * num_layers, batch,
                size], without batch for unbatched input; default zeros. Where layers
                have sizes of their own, each is a tuple of one [directions, batch, size] per layer.
            lengths: integers [batch], from 0 to steps: how many steps of each row run.
            mask: bool, shaped as the input without features: the steps that run.
            reset: bool, shaped as `mask`: the steps before which the state is set to zero.
            return_cells: also return the cell state of every step.

        Returns:
            `output, (h_n, c_n)`, with `return_cells` a third, `cells`: every step's output of the
            last layer, as the input but with directions * (proj_size or hidden_size) features; each
            layer's last states, as `hx`; every c[t] of every layer. The class has their shapes.

        Raises:
            ValueError: a wrong dtype or rank of the input, wrong lengths, masks or resets.
            RuntimeError: a wrong size, state or device, as in torch's layer.
            TypeError: an argument that is not a tensor, lengths that are not integers.
        """
        return self._forward(input, hx, lengths, mask, reset, return_cells)

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            input: Tensor,
            hx: tuple[State, State] | None = None,
            *,
            lengths: Lengths | None = None,
            mask: Tensor | None = None,
            reset: Tensor | None = None,
            return_cells: Literal[False] = False,
        ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
        @overload
        def __call__(
            self,
            input: Tensor,
            hx: tuple[State, State] | None = None,
            *,
            lengths: Lengths | None = None,
            mask: Tensor | None = None,
            reset: Tensor | None = None,
            return_cells: Literal[True],
        ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]: ...
        @overload
        def __call__(
            self,
            input: PackedSequence,
            hx: tuple[State, State] | None = None,
            *,
            return_cells: Literal[False] = False,
        ) -> tuple[PackedSequence, tuple[Tensor, Tensor]]: ...
        @overload
        def __call__(
            self,
            input: PackedSequence,
            hx: tuple[State, State] | None = None,
            *,
            return_cells: Literal[True],
        ) -> tuple[PackedSequence, tuple[Tensor, Tensor], Tensor]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> Any:
        """The shape that the second part of hx must have."""
        return self._expected_sizes(input, batch_sizes)[1]


class LSTMCell(RecurrentCell, torch.nn.LSTMCell):  # type: ignore[misc]
    """One LSTM step: `torch.nn.LSTMCell` on seqfast's kernel.

    >>> import torch, seqfast
    >>> cell = seqfast.nn.LSTMCell(4, 8)
    >>> h, c = cell(torch.randn(3, 4))
    >>> h, c = cell(torch.randn(3, 4), (h, c))

    `cell(input [batch, input_size], (h [batch, hidden_size], c [batch, hidden_size]) or None) ->
    (h, c)`; without the batch dimension too. Options beyond torch.nn's are those of `LSTM`:
    `peephole`, `coupled_gates`, `forget_gate`, `forget_bias`, `cell_clip`, `gate_clip`,
    `layer_norm`, `zoneout` and `recurrent_dropout`, which here always acts on the candidate
    (Semeniuta et al. 2016). In training each call draws new masks. Equations and citations:
    `LSTM`, docs/equations.md.

    With gradients a plain float32 or float64 cell on the CPU runs torch's own step, whose autograd
    is native code; without them, and with any option, a kernel.

    Under autocast on a GPU everything is cast, as for `LSTM`. On the CPU the step runs in the dtype
    of the state, because casting the weights would take longer.

    Raises ValueError for a wrong rank, RuntimeError for a wrong size, dtype or device (as
    torch.nn.LSTMCell does), TypeError for an argument that is not a tensor. The constructor raises
    ValueError and TypeError for a wrong option.
    """

    _stands_for = torch.nn.LSTMCell
    _torch_step = staticmethod(torch.lstm_cell)
    _name: ClassVar[str] = "LSTMCell"
    _cell: ClassVar[str] = "lstm"
    _Options = LSTMOptions
    recurrent_dropout_on: str = "update"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool | str = False,
        output_activation: str = "tanh",
        coupled_gates: bool = False,
        forget_gate: bool = True,
        forget_bias: float | None = None,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        zoneout: float | tuple[float, float] = 0.0,
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
            peephole: the gates also read the cell state, the output gate c[t]; "previous": all of
                them c[t-1].
            output_activation: of the cell state in the output, "tanh" or "identity".
            coupled_gates: the forget gate is 1 - the input gate.
            forget_gate: False: no forget gate, as in the LSTM of 1997.
            forget_bias: added to the forget gate's bias by `reset_parameters`.
            cell_clip: bound of the cell state; None: no bound.
            gate_clip: bound of every gate's pre-activation; None: no bound.
            zoneout: probability that a unit keeps its old state; a pair for hidden and cell state.
            recurrent_dropout: probability that a unit of the candidate is dropped.
            layer_norm: products and cell state are normalised.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: an argument out of its range, or options that exclude each other.
        """
        options = LSTMOptions(
            peephole=peephole,
            output_activation=output_activation,
            coupled_gates=coupled_gates,
            forget_gate=forget_gate,
            forget_bias=forget_bias,
            cell_clip=cell_clip,
            gate_clip=gate_clip,
            zoneout=zoneout,
            recurrent_dropout=recurrent_dropout,
            recurrent_dropout_on="update",
            layer_norm=layer_norm,
        )
        super().__init__(input_size, hidden_size, bias, device, dtype, options)

    def forward(self, input: Tensor, hx: States | None = None) -> States:
        """Runs one step.

        Args:
            input: [batch, input_size], or [input_size] for one row.
            hx: `(h, c)`, the states before, [batch, hidden_size] or [hidden_size] each; default
                zeros.

        Returns:
            `(h, c)` after the step, shaped as `hx`.

        Raises:
            ValueError: a wrong rank.
            RuntimeError: a wrong size, dtype or device, as in torch's cell.
            TypeError: an argument that is not a tensor, `hx` that is not a pair.
        """
        found: States | None = self._plain_step(input, hx)
        if found is not None:
            return found
        if type(input) is not Tensor or fx_is_on():
            node = node_of(self, input, {"hx": hx})
            if node is not None:
                return node  # type: ignore[no-any-return]
        self._check_rank(input)
        states: Any = hx
        if states is not None:
            if not isinstance(states, (tuple, list)):
                raise TypeError(
                    f"LSTMCell: hx must be a tuple of two tensors, got {type(states).__name__}"
                )
            if len(states) != 2:
                raise RuntimeError(
                    f"LSTMCell: lstm_cell expects two hidden states, got {len(states)}"
                )
            for k, state in enumerate(states):
                self._check_state_rank(f"hx[{k}]", state)
            states = list(states)
        hidden, cell = self._forward(input, states)
        return hidden, cell

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, hx: States | None = None) -> States: ...

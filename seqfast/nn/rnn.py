"""RNN and RNNCell, which take the place of torch.nn's: same arguments, parameters and results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from seqfast.nn._base import RecurrentOptions
from seqfast.nn._cell import RecurrentCell
from seqfast.nn._checks import autocast, autocast_dtype
from seqfast.nn._layer import HiddenSize, Lengths, RecurrentLayer, State, refuse_projection
from seqfast.nn._tracing import fx_is_on, node_of
from seqfast.ops.base.checks import check_choice, check_whole

NONLINEARITIES = ("tanh", "relu")


@dataclass(frozen=True, kw_only=True)
class RNNOptions(RecurrentOptions):
    """Beyond torch.nn's arguments; `RNN` documents each of them."""

    dropout_places: ClassVar[tuple[str, ...]] = ("hidden",)

    feedback: str = "hidden"
    output_size: int | None = None
    output_nonlinearity: str = "identity"

    @property
    def gates(self) -> int:
        return 1

    def check(self, operation: str, bias: bool) -> None:
        super().check(operation, bias)
        check_choice(operation, "feedback", self.feedback, ("hidden", "output"))
        known = ("identity", "tanh", "relu", "sigmoid")
        check_choice(operation, "output_nonlinearity", self.output_nonlinearity, known)
        plain = self.output_size is None and self.output_nonlinearity == "identity"
        if self.feedback == "hidden" and not plain:
            raise ValueError(
                f"{operation}: output_size and output_nonlinearity need feedback='output', got "
                f"output_size={self.output_size} and "
                f"output_nonlinearity={self.output_nonlinearity!r}"
            )


class RNN(RecurrentLayer, torch.nn.RNN):  # type: ignore[misc]
    """A stack of plain recurrent layers: `torch.nn.RNN` on one kernel per layer.

    >>> import torch, seqfast
    >>> rnn = seqfast.nn.RNN(4, 8, nonlinearity="relu", batch_first=True)
    >>> output, h_n = rnn(torch.randn(3, 7, 4), lengths=[7, 2, 5])
    >>> output.shape, h_n.shape
    (torch.Size([3, 7, 8]), torch.Size([1, 3, 8]))

    Elman 1990, and with `feedback="output"` Jordan 1986; equations in docs/equations.md. Arguments,
    parameter names, initialisation and `state_dict` are those of `torch.nn.RNN`. `nonlinearity` is
    "tanh" or "relu". float32, float64, bfloat16 and float16, on the CPU and on CUDA devices.

    `layer(input, hx=None, *, lengths=None, mask=None, reset=None) -> output, h_n`, with D = 2 if
    bidirectional else 1:

    - `input`, `output`, `lengths`, `mask`, `reset`: as for `LSTM`; the output has D * hidden_size
      features, with `feedback="output"` D * output_size.
    - `hx`: h_0 [D * num_layers, batch, hidden_size], without batch for unbatched input; default
      zeros. `h_n` has the same shape. With `feedback="output"` both have output_size features.

    Options of the cell:

    - `feedback="output"`: each layer ends in an output layer, y[t] = output_nonlinearity(h[t]
      weight_hr^T + bias_hr), and each step gets y[t-1] instead of h[t-1]. `weight_hr_l{k}` is
      [output_size, hidden_size], `bias_hr_l{k}` [output_size], `weight_hh_l{k}` [hidden_size,
      output_size]. `output_size` is by default hidden_size (if that is one number);
      `output_nonlinearity` is "identity", "tanh", "relu" or "sigmoid".
    - `layer_norm`: normalises both products (Ba et al. 2016) with `weight_norm_ih`,
      `weight_norm_hh` [hidden_size]; not with `feedback="output"`.

    All other options (`hidden_size` as a sequence, `residual`, `dense`, `highway`, `dropout`,
    `input_dropout`, `recurrent_dropout`, `zoneout`, `weight_dropout`, `weight_dropout_on`), masks,
    autocast and errors: as for `LSTM`. There is no cell state, so `zoneout` is one number, and no
    candidate, so `recurrent_dropout_on` is always "hidden".
    """

    _stands_for = torch.nn.RNN
    _name: ClassVar[str] = "RNN"
    _cell: ClassVar[str] = "rnn"
    _Options = RNNOptions

    def __init__(
        self,
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        feedback: str = "hidden",
        output_size: int | None = None,
        output_nonlinearity: str = "identity",
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
            nonlinearity: "tanh" or "relu".
            bias: whether there are biases.
            batch_first: whether input and output are [batch, steps, features].
            dropout: of the outputs of all layers but the last, in training.
            bidirectional: whether each layer runs in both directions.
            device: of the parameters.
            dtype: of the parameters, default torch's.
            feedback: "hidden" (Elman) or "output" (Jordan).
            output_size: features of the output layer of `feedback="output"`.
            output_nonlinearity: of that layer: "identity", "tanh", "relu" or "sigmoid".
            zoneout: probability that a unit keeps its old state.
            recurrent_dropout: probability that a recurrent unit is dropped.
            recurrent_dropout_on: "hidden" (one mask per sequence).
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
        refuse_projection("RNN", proj_size)
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"RNN: Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'."
            )
        if output_size is not None:
            output_size = check_whole("RNN", "output_size", output_size, 1)
        if feedback == "output" and output_size is None:
            if not isinstance(hidden_size, int):
                raise ValueError(
                    f"RNN: output_size must be given if hidden_size is {hidden_size!r}, got None"
                )
            output_size = hidden_size
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
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
            RNNOptions(
                feedback=feedback,
                output_size=output_size,
                output_nonlinearity=output_nonlinearity,
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

    # As of torch's layer it is the mode that decides; pickles of old have no nonlinearity.
    @property
    def mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"

    @mode.setter
    def mode(self, mode: str) -> None:
        modes = [f"RNN_{name.upper()}" for name in NONLINEARITIES]
        check_choice("RNN", "mode", mode, modes)
        self.nonlinearity = NONLINEARITIES[modes.index(mode)]

    def _become(self) -> None:
        super()._become()
        if "mode" in self.__dict__:
            self.mode = self.__dict__.pop("mode")

    def _leave(self) -> None:
        super()._leave()
        self.__dict__["mode"] = self.mode


def _tanh_step(*arguments: Tensor) -> Tensor:
    # A copy: autograd needs the result of tanh, and the caller may write to it.
    return torch.rnn_tanh_cell(*arguments).clone()


class RNNCell(RecurrentCell, torch.nn.RNNCell):  # type: ignore[misc]
    """One step of a plain recurrent layer: `torch.nn.RNNCell` on seqfast's kernel.

    >>> import torch, seqfast
    >>> cell = seqfast.nn.RNNCell(4, 8)
    >>> h = cell(torch.randn(3, 4))
    >>> h = cell(torch.randn(3, 4), h)

    `cell(input [batch, input_size], h [batch, hidden_size] or None) -> h`; without the batch
    dimension too. `nonlinearity` is "tanh" or "relu". Beyond torch.nn: `layer_norm` (Ba et al.
    2016) and `zoneout` (Krueger et al. 2017), with a new mask at each call in training. Equations:
    docs/equations.md.

    With gradients a plain float32 or float64 cell with tanh on the CPU runs torch's own
    step, whose autograd is native code; without them, and with any option, a kernel.

    Under autocast on a GPU everything is cast, as for `RNN`. On the CPU the step runs in the dtype
    of the state, because casting the weights would take longer; the result has autocast's dtype.

    A call raises ValueError for a wrong rank, RuntimeError for a wrong size, dtype, device or
    nonlinearity (as torch.nn.RNNCell does), TypeError for an argument that is not a tensor. The
    constructor raises ValueError and TypeError for a wrong option.
    """

    _stands_for = torch.nn.RNNCell
    _torch_step = staticmethod(_tanh_step)
    _name: ClassVar[str] = "RNNCell"
    _cell: ClassVar[str] = "rnn"
    _Options = RNNOptions

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
        """Creates the cell; the class docstring explains each option.

        Args:
            input_size: features of the input.
            hidden_size: features of the hidden state.
            bias: whether there are biases.
            nonlinearity: "tanh" or "relu".
            device: of the parameters.
            dtype: of the parameters, default torch's.
            zoneout: probability that a unit keeps its old state.
            layer_norm: both products are normalised.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: an argument out of its range, or options that exclude each other.
        """
        options = RNNOptions(zoneout=zoneout, layer_norm=layer_norm)
        super().__init__(input_size, hidden_size, bias, device, dtype, options)
        self.nonlinearity = nonlinearity

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
        if self.nonlinearity not in NONLINEARITIES:
            raise RuntimeError(
                f"RNNCell: Unknown nonlinearity: {self.nonlinearity}; it must be 'tanh' or 'relu'"
            )
        (hidden,) = self._forward(input, None if hx is None else [hx])
        dtype = autocast_dtype(input)
        return hidden if dtype is None else autocast(hidden, dtype)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, hx: Tensor | None = None) -> Tensor: ...

"""Recurrent layers that take the place of torch.nn's: same arguments, parameters and results."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from seqfast.ops import torch_rnn

States = tuple[Tensor, Tensor]


class LSTM(Module):
    """A stack of LSTM layers, in one or both directions: `torch.nn.LSTM` on one kernel per layer.

    Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000) and an optional projection
    of the output (Sak et al. 2014); equations in docs/equations.md. Arguments, parameter names,
    initialisation and `state_dict` are those of `torch.nn.LSTM`. float32, float64, bfloat16 and
    float16, on the CPU and on CUDA devices.

    `layer(input, hx=None, *, lengths=None, return_cells=False) -> output, (h_n, c_n)[, cells]`,
    with D = 2 if bidirectional else 1 and `output_size = proj_size or hidden_size`:

    - `input` [steps, batch, input_size], with `batch_first` [batch, steps, input_size], unbatched
      [steps, input_size], or a PackedSequence. `output` likewise, of D * output_size features.
    - `hx`: `(h_0 [D * num_layers, batch, output_size], c_0 [D * num_layers, batch, hidden_size])`,
      both [D * num_layers, ...] without batch for unbatched input; default zeros. `h_n`, `c_n`
      likewise.
    - `lengths`: integer tensor [batch] ([] for unbatched input), in any order, from 0 to steps.
      Output past a row's length is zero, `h_n` and `c_n` come from its last step, and the backward
      direction starts there. Length 0 gives the initial state. It is on the input's device or on
      the CPU. On a GPU lengths are not looked at from the host: what is out of range counts as 0
      or as all steps.
    - `return_cells=True` adds `cells`: every c[t] of every layer, differentiable, laid out as the
      output behind a leading [num_layers], with D * hidden_size features; for a PackedSequence
      [num_layers, rows of its data, D * hidden_size]. float64 for float64, else float32.

    Under autocast input, states and weights are cast, and output and states have autocast's dtype.

    On a GPU the host waits for nothing. Unless lengths come from the CPU or the input is packed,
    the layer can be captured in a CUDA graph. Where `torch.use_deterministic_algorithms` is on, a
    row's output does not depend on the batch it rides in.

    Raises ValueError for a wrong input dtype or rank and for wrong lengths, RuntimeError for a
    wrong size, state or device (as torch.nn.LSTM does), TypeError for what is no tensor and for
    lengths that are no integers.
    """

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int
    _flat_weights_names: list[str]
    _all_weights: list[list[str]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check_options(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        self.mode = "LSTM"
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._flat_weights_names = []
        self._all_weights = []

        gates, output_size = 4 * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            layer_input_size = input_size if layer == 0 else output_size * self._directions
            for suffix in ("", "_reverse")[: self._directions]:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (gates, layer_input_size),
                    "weight_hh": (gates, output_size),
                }
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                names = []
                for name, shape in shapes.items():
                    names.append(f"{name}_l{layer}{suffix}")
                    weight = Parameter(torch.empty(shape, device=device, dtype=dtype))
                    self.register_parameter(names[-1], weight)
                self._flat_weights_names += names
                self._all_weights.append(names)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every parameter from U(-k, k), k = 1 / sqrt(hidden_size)."""
        _reset(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Does nothing: the kernels pack weights themselves. Here for code written for torch.nn."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, one list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: States | None = None,
        *,
        lengths: Tensor | None = None,
        return_cells: bool = False,
    ) -> tuple[Any, ...]:
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("LSTM: a PackedSequence has lengths of its own, got lengths too")
            return self._forward_packed(input, hx, return_cells)
        _check_tensor("LSTM", "input", input)
        if input.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        hx = _check_states("LSTM", hx)
        if hx is not None and (hx[0].dim() != input.dim() or hx[1].dim() != input.dim()):
            kind = "batched 3-D" if batched else "unbatched 2-D"
            raise RuntimeError(
                f"LSTM: For {kind} input, hx and cx should also be {input.dim()}-D "
                f"but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
            )
        if lengths is not None:
            _check_tensor("LSTM", "lengths", lengths)
            if lengths.dim() != input.dim() - 2:
                wanted = "[batch]" if batched else "[] for unbatched input"
                raise ValueError(f"LSTM: lengths must be {wanted}, got {list(lengths.shape)}")
        if not batched:
            input = input.unsqueeze(1)
            hx = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            lengths = None if lengths is None else lengths.unsqueeze(0)
        elif self.batch_first:
            input = input.transpose(0, 1)

        output, h_n, c_n, cells = self._run(input, hx, lengths, return_cells)
        if not batched:
            output, h_n, c_n = output.squeeze(1), h_n.squeeze(1), c_n.squeeze(1)
            cells = [layer.squeeze(1) for layer in cells]
        elif self.batch_first:
            output = output.transpose(0, 1)
            cells = [layer.transpose(0, 1) for layer in cells]
        if return_cells:
            return output, (h_n, c_n), torch.stack(cells)
        return output, (h_n, c_n)

    def _forward_packed(
        self, packed: PackedSequence, hx: States | None, return_cells: bool
    ) -> tuple[Any, ...]:
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        if data.dim() != 2:
            raise RuntimeError(f"LSTM: input must have 2 dimensions, got {data.dim()}")
        hx = _check_states("LSTM", hx)
        if hx is not None and (hx[0].dim() != 3 or hx[1].dim() != 3):
            raise RuntimeError(
                "LSTM: For packed input, hx and cx should be 3-D "
                f"but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
            )
        if hx is not None and sorted_indices is not None:
            hx = hx[0].index_select(1, sorted_indices), hx[1].index_select(1, sorted_indices)
        padding = _Padding(batch_sizes, data)
        output, h_n, c_n, cells = self._run(
            padding.pad(data), hx, padding.lengths, return_cells, padding
        )
        if unsorted_indices is not None:
            h_n, c_n = h_n.index_select(1, unsorted_indices), c_n.index_select(1, unsorted_indices)
        result = PackedSequence(
            padding.unpad(output), batch_sizes, sorted_indices, unsorted_indices
        )
        if return_cells:
            return result, (h_n, c_n), torch.stack([padding.unpad(layer) for layer in cells])
        return result, (h_n, c_n)

    def _run(
        self,
        input: Tensor,
        hx: States | None,
        lengths: Tensor | None,
        return_cells: bool,
        padding: _Padding | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """All layers on a time-major batch: output, h_n, c_n and, where asked for, cells."""
        directions = self._directions
        weights = [self._layer_weights(layer) for layer in range(self.num_layers)]
        dtype = _autocast_dtype(input)
        self._check_input(input, weights[0][0], hx, dtype is not None)
        if dtype is not None:
            input, weights = _cast(input, dtype), [[_cast(w, dtype) for w in ws] for ws in weights]
            hx = None if hx is None else (_cast(hx[0], dtype), _cast(hx[1], dtype))

        # A trace is checked without gradients, and must be the same graph.
        grad = torch.is_grad_enabled() or torch_rnn.is_tracing()
        hidden_n, cell_n, cells = [], [], []
        hidden = cell = None
        for layer in range(self.num_layers):
            if hx is not None:
                hidden, cell = hx
                if self.num_layers > 1:
                    rows = slice(layer * directions, (layer + 1) * directions)
                    hidden, cell = hidden[rows], cell[rows]
            if layer > 0 and self.training and self.dropout > 0:
                # On packed rows, as torch does it: the same seed then draws the same mask.
                if padding is None:
                    input = F.dropout(input, self.dropout)
                else:
                    input = padding.pad(F.dropout(padding.unpad(input), self.dropout))
            save = return_cells or (grad and _requires_grad(input, hidden, cell, *weights[layer]))
            input, h, c, every_c = torch_rnn.lstm(
                input, hidden, cell, weights[layer], lengths, directions, save
            )
            hidden_n.append(h)
            cell_n.append(c)
            if return_cells and every_c is not None:
                cells.append(every_c)
        if self.num_layers == 1:
            return input, h, c, cells
        return input, torch.cat(hidden_n), torch.cat(cell_n), cells

    def _layer_weights(self, layer: int) -> list[Tensor]:
        """Read anew at each call: hooks, parametrizations and functional_call may replace them."""
        directions = self._directions
        parameters = self._parameters
        weights = []
        for names in self._all_weights[layer * directions : (layer + 1) * directions]:
            for name in names:
                weight = parameters.get(name)
                weights.append(getattr(self, name) if weight is None else weight)
        return weights

    def _check_input(
        self, input: Tensor, weight: Tensor, hx: States | None, autocast: bool
    ) -> None:
        """What torch.nn.LSTM checks, with its exceptions; the kernels' border checks the rest."""
        if input.dtype != weight.dtype and not autocast:
            raise ValueError(
                f"LSTM: input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: "
                f"model.to({input.dtype})"
            )
        steps, batch, size = input.shape
        if size != self.input_size:
            raise RuntimeError(
                "LSTM: input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {size}"
            )
        if steps == 0:
            raise RuntimeError("LSTM: Expected sequence length to be larger than 0")
        _check_devices("LSTM", input, weight, hx)
        if hx is None:
            return
        rows = self.num_layers * self._directions
        for k, features in enumerate((self.proj_size or self.hidden_size, self.hidden_size)):
            if hx[k].shape != (rows, batch, features):
                raise RuntimeError(
                    f"LSTM: Expected hidden[{k}] size {(rows, batch, features)}, "
                    f"got {list(hx[k].shape)}"
                )
        if not autocast:
            _check_state_dtypes("LSTM", input, hx)


class LSTMCell(Module):
    """One LSTM step: `torch.nn.LSTMCell` on seqfast's kernel.

    `cell(input [batch, input_size], (h [batch, hidden_size], c [batch, hidden_size]) or None) ->
    (h, c)`; without the batch dimension too. Equations and citations: `LSTM`, docs/equations.md.

    Under autocast on a GPU everything is cast, as for `LSTM`. On the CPU the step runs in the dtype
    of the state: casting the weights would take longer.

    Raises ValueError for a wrong rank, RuntimeError for a wrong size, dtype or device (as
    torch.nn.LSTMCell does), TypeError for what is no tensor.
    """

    input_size: int
    hidden_size: int
    bias: bool
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias

        def parameter(*shape: int) -> Parameter:
            return Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight_ih = parameter(4 * hidden_size, input_size)
        self.weight_hh = parameter(4 * hidden_size, hidden_size)
        self.register_parameter("bias_ih", parameter(4 * hidden_size) if bias else None)
        self.register_parameter("bias_hh", parameter(4 * hidden_size) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every parameter from U(-k, k), k = 1 / sqrt(hidden_size)."""
        _reset(self, self.hidden_size)

    def extra_repr(self) -> str:
        bias = "" if self.bias is True else f", bias={self.bias}"
        return f"{self.input_size}, {self.hidden_size}{bias}"

    def forward(self, input: Tensor, hx: States | None = None) -> States:
        _check_tensor("LSTMCell", "input", input)
        if input.dim() not in (1, 2):
            raise ValueError(f"LSTMCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        hx = _check_states("LSTMCell", hx)
        batched = input.dim() == 2
        if not batched:
            input = input.unsqueeze(0)
        hidden = cell = None
        if hx is not None:
            for k, state in enumerate(hx):
                if state.dim() not in (1, 2):
                    raise ValueError(
                        f"LSTMCell: Expected hx[{k}] to be 1D or 2D, got {state.dim()}D instead"
                    )
            hidden, cell = hx if batched else (hx[0].unsqueeze(0), hx[1].unsqueeze(0))
        weights: list[Tensor] = [self.weight_ih, self.weight_hh]
        if self.bias_ih is not None and self.bias_hh is not None:
            weights += [self.bias_ih, self.bias_hh]
        dtype = _autocast_dtype(input)
        if dtype is not None:
            cast: Any = _cast
            if not input.is_cuda:
                dtype = torch.promote_types(dtype, input.dtype if cell is None else cell.dtype)
                cast = Tensor.to
            input, *weights = (cast(x, dtype) for x in (input, *weights))
            hidden = None if hidden is None else cast(hidden, dtype)
            cell = None if cell is None else cast(cell, dtype)
        self._check(input, weights[0], hidden, cell)

        hidden = None if hidden is None else hidden.unsqueeze(0)
        cell = None if cell is None else cell.unsqueeze(0)
        save = torch.is_grad_enabled() and _requires_grad(input, hidden, cell, *weights)
        _, h, c, _ = torch_rnn.lstm(input.unsqueeze(0), hidden, cell, weights, None, 1, save)
        h, c = h.squeeze(0), c.squeeze(0)
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))

    def _check(
        self, input: Tensor, weight: Tensor, hidden: Tensor | None, cell: Tensor | None
    ) -> None:
        batch, size = input.shape
        if size != self.input_size:
            raise RuntimeError(
                f"LSTMCell: input has inconsistent input_size: got {size}, "
                f"expected {self.input_size}"
            )
        hx = None if hidden is None or cell is None else (hidden, cell)
        for k, state in enumerate(hx or ()):
            if state.shape != (batch, self.hidden_size):
                raise RuntimeError(
                    f"LSTMCell: hidden{k} must be {[batch, self.hidden_size]}, "
                    f"got {list(state.shape)}"
                )
        if input.dtype != weight.dtype:
            raise RuntimeError(
                f"LSTMCell: input dtype ({input.dtype}) does not match weight dtype "
                f"({weight.dtype})"
            )
        _check_devices("LSTMCell", input, weight, hx)
        if hx is not None:
            _check_state_dtypes("LSTMCell", input, hx)


class _Padding:
    """The way from the rows of a PackedSequence to a padded, time-major batch and back."""

    def __init__(self, batch_sizes: Tensor, data: Tensor) -> None:
        self.steps, self.batch = batch_sizes.shape[0], int(batch_sizes[0])
        running = torch.arange(self.batch, device=batch_sizes.device) < batch_sizes[:, None]
        rows = int(running.sum())
        if rows != data.shape[0]:
            raise RuntimeError(
                f"LSTM: the batch_sizes of a PackedSequence make {rows} rows, "
                f"but its data has {data.shape[0]}"
            )
        self.full = rows == self.steps * self.batch
        self.lengths = None if self.full else _moved(running.sum(0), data)
        self.index = _moved(running.flatten().nonzero().squeeze(1), data)

    def pad(self, data: Tensor) -> Tensor:
        if not self.full:
            # Nobody reads past a row's length.
            padded = data.new_empty((self.steps * self.batch, data.shape[1]))
            data = padded.index_copy_(0, self.index, data)
        return data.reshape(self.steps, self.batch, -1)

    def unpad(self, padded: Tensor) -> Tensor:
        data = padded.reshape(self.steps * self.batch, -1)
        return data if self.full else data.index_select(0, self.index)


def _check_options(
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bias: bool,
    batch_first: bool,
    dropout: Any,
    proj_size: int,
) -> None:
    """What torch.nn.LSTM's constructor checks, with its exceptions."""
    is_number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
    if not (is_number and 0 <= float(dropout) <= 1):
        raise ValueError(
            "LSTM: dropout should be a number in range [0, 1] representing the probability of an "
            f"element being zeroed, got {dropout!r}"
        )
    if float(dropout) > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
            f"expects num_layers greater than 1, but got dropout={dropout} and "
            f"num_layers={num_layers}",
            stacklevel=3,
        )
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"LSTM: {name} should be of type bool, got: {type(flag).__name__}")
    sizes = {
        "input_size": input_size,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "proj_size": proj_size,
    }
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise TypeError(f"LSTM: {name} should be of type int, got: {type(size).__name__}")
        if size <= 0 and name != "proj_size":
            raise ValueError(f"LSTM: {name} must be greater than zero, got {size}")
    if proj_size < 0:
        raise ValueError(
            "LSTM: proj_size should be a positive integer or zero to disable projections, "
            f"got {proj_size}"
        )
    if proj_size >= hidden_size:
        raise ValueError(
            f"LSTM: proj_size has to be smaller than hidden_size, got {proj_size} and {hidden_size}"
        )


def _reset(module: Module, hidden_size: int) -> None:
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size > 0 else 0
    for weight in module.parameters():
        torch.nn.init.uniform_(weight, -bound, bound)


def _check_tensor(operation: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{operation}: {name} must be a torch tensor, got {type(value).__name__}")


def _check_states(operation: str, hx: Any) -> States | None:
    if hx is None:
        return None
    if not isinstance(hx, (tuple, list)):
        raise TypeError(f"{operation}: hx must be a tuple of two tensors, got {type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError(f"{operation}: expects two hidden states, got {len(hx)}")
    _check_tensor(operation, "hx[0]", hx[0])
    _check_tensor(operation, "hx[1]", hx[1])
    return hx[0], hx[1]


def _check_devices(operation: str, input: Tensor, weight: Tensor, hx: States | None) -> None:
    if input.is_cpu and weight.is_cpu and (hx is None or (hx[0].is_cpu and hx[1].is_cpu)):
        return
    others = {"parameter": weight}
    if hx is not None:
        others |= {"hidden[0]": hx[0], "hidden[1]": hx[1]}
    for name, other in others.items():
        if other.device != input.device:
            raise RuntimeError(
                f"{operation}: Input and {name} tensors are not at the same device, found input "
                f"at {input.device} and {name} at {other.device}"
            )
    if input.device.type not in ("cuda", "meta"):
        raise RuntimeError(
            f"{operation}: input must be on the CPU or on a CUDA device, got {input.device}"
        )


def _check_state_dtypes(operation: str, input: Tensor, hx: States) -> None:
    for k, state in enumerate(hx):
        if state.dtype != input.dtype:
            raise RuntimeError(
                f"{operation}: hidden[{k}] dtype ({state.dtype}) does not match input dtype "
                f"({input.dtype})"
            )


def _moved(indices: Tensor, like: Tensor) -> Tensor:
    """From the CPU to where `like` is, without waiting for it."""
    return indices.to(like.device, non_blocking=True)


def _autocast_dtype(input: Tensor) -> torch.dtype | None:
    """What autocast computes in where `input` is; None without autocast."""
    device_type = "cuda" if input.is_cuda else "cpu"
    if not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """As autocast casts: every floating dtype but float64."""
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        return tensor.to(dtype)
    return tensor


def _requires_grad(*tensors: Tensor | None) -> bool:
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)

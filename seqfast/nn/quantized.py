"""Recurrent layers and cells in 8 bits, for inference on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.parametrize import is_parametrized

from seqfast.nn._base import Recurrent
from seqfast.nn._checks import requires_grad
from seqfast.nn._torch_face import TorchFace
from seqfast.nn.gru import GRU, GRUCell
from seqfast.nn.lstm import LSTM, LSTMCell
from seqfast.nn.rnn import RNN, RNNCell
from seqfast.ops.base.arrays import thread_count
from seqfast.ops.base.checks import check_lengths
from seqfast.ops.rnn import cpu
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.layer import Layer, check_layer
from seqfast.ops.rnn.packed import Packed, pack_int8
from seqfast.ops.rnn_int8 import quantize_weight

_Model = TypeVar("_Model", bound=Module)


class Quantized(Recurrent):
    """What layers and cells in 8 bits have in common.

    weight_ih and weight_hh of every layer are int8 buffers with float32 scales, one for each row,
    beside them (`weight_ih_l0_scale`); all other weights stay float32. What the products multiply
    is rounded to 8 bits as it comes, by a scale for each row and step; sums are exact, and
    everything after them is float32. The module keeps a packed copy of its weights: whoever writes
    to the buffers calls `refresh()`; `load_state_dict` and `to` do so themselves. It is always in
    evaluation.
    """

    _native = None
    _packed: list[tuple[Layer, Packed]] | None

    _kind: ClassVar[type[Recurrent]]

    def __init__(self, module: Any) -> None:
        """Quantises a module's weights.

        Args:
            module: a layer or cell of seqfast, float32, in evaluation, on the CPU.

        Raises:
            TypeError: another kind of module, or another dtype.
            ValueError: a module in training, an option that has no kernel in 8 bits, weights that
                are not finite or not on the CPU.
        """
        Module.__init__(self)
        name = self._name
        if type(module) is not self._kind:
            raise TypeError(
                f"{name}: module must be a seqfast.nn.{self._kind.__name__}, got "
                f"{type(module).__module__}.{type(module).__name__}"
            )
        if module.training:
            raise ValueError(f"{name}: the module must be in evaluation: call eval() first")
        if module.layer_norm:
            raise ValueError(f"{name}: layer_norm must be False: it has no kernel in 8 bits")
        if is_parametrized(module):
            raise ValueError(f"{name}: weights must be no parametrizations: remove them first")
        kept = ("_parameters", "_buffers", "_modules")
        for key, value in vars(module).items():
            if key not in kept:  # hooks are in dicts, which stay the module's own
                vars(self)[key] = value.copy() if isinstance(value, dict) else value
        vars(self).pop("_flat_weights", None)
        vars(self).pop("_flat_weight_refs", None)
        for weight_name, weight in module.named_parameters():
            given = weight.detach()
            if given.dtype is not torch.float32:
                raise TypeError(f"{name}: {weight_name} must be float32, got {given.dtype}")
            if not given.is_cpu:
                raise ValueError(f"{name}: {weight_name} must be on the CPU, got {given.device}")
            if not torch.isfinite(given).all():
                raise ValueError(f"{name}: {weight_name} must be finite, got NaN or infinity")
            if weight_name.startswith(("weight_ih", "weight_hh")):
                quantized, scale = quantize_weight(given)
                self.register_buffer(weight_name, quantized)
                self.register_buffer(f"{weight_name}_scale", scale)
            else:
                self.register_buffer(weight_name, given.clone())
        if isinstance(module, torch.nn.RNNCellBase) and not module.bias:
            self.register_buffer("bias_ih", None)
            self.register_buffer("bias_hh", None)
        self.refresh()

    def refresh(self) -> None:
        """Packs the buffers again, as they are now.

        Raises:
            TypeError: buffers of another dtype, as `half()` makes them.
            ValueError: buffers of another shape or device.
        """
        count = getattr(self, "num_layers", 1)
        vars(self)["_packed"] = [self._pack(layer) for layer in range(count)]

    def train(self, mode: bool = True) -> Any:
        """Leaves the module in evaluation, whatever `mode` is.

        Args:
            mode: of no account.

        Returns:
            The module.
        """
        return super().train(False)

    def stream(self, batch_size: int, hx: Any = None) -> Any:
        """Refused: streams have no kernel in 8 bits.

        Args:
            batch_size: of no account.
            hx: of no account.

        Returns:
            Nothing.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self._name}: stream has no kernel in 8 bits: call the module with its states"
        )

    def _names_of(self, layer: int) -> list[tuple[str, str]]:
        """Of weight_ih and weight_hh of each direction."""
        raise NotImplementedError

    def _rows_of(self, layer: int) -> list[Any]:
        """Of each direction, as torch_rnn takes them."""
        raise NotImplementedError

    def _pack(self, layer: int) -> tuple[Layer, Packed]:
        rows, quantized = [], []
        size = 0
        for names, row in zip(self._names_of(layer), self._rows_of(layer), strict=True):
            own = [getattr(self, name) for name in names]
            scales = [getattr(self, f"{name}_scale") for name in names]
            for name, weight, scale in zip(names, own, scales, strict=True):
                fits = weight.dtype is torch.int8 and scale.dtype is torch.float32
                if not fits or not weight.is_cpu or not scale.is_cpu:
                    raise TypeError(
                        f"{self._name}: {name} must be int8 with a float32 scale on the CPU, got "
                        f"{weight.dtype}, {scale.dtype} on {weight.device}"
                    )
            quantized.append([x.contiguous() for x in (*own, *scales)])
            size = own[0].shape[1]
            like = [torch.zeros_like(weight, dtype=torch.float32) for weight in own]
            rows.append(row._replace(weight_ih=like[0], weight_hh=like[1]))
        input = torch.zeros(1, 1, size)
        options = self._kernel_options(layer)
        checked = check_layer(self._cell, input, None, None, rows, None, None, None, options)
        packed = pack_int8(checked, quantized)
        return checked._replace(weights=(), input=None), packed

    def _kernel(
        self,
        input: Tensor,
        hidden: Tensor | None,
        cell: Tensor | None,
        rows: Sequence[RnnWeights],
        lengths: Tensor | None,
        reset: Tensor | None,
        seed: Tensor | None,
        layer: int,
        save: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        if torch.is_grad_enabled() and requires_grad(input, hidden, cell):
            raise ValueError(
                f"{self._name}: input and states must not require gradients: 8 bits are for "
                "inference; use torch.no_grad() or detach()"
            )
        if save:
            raise ValueError(f"{self._name}: return_cells has no kernel in 8 bits")
        if self._packed is None:
            self.refresh()
        assert self._packed is not None
        template, packed = self._packed[layer]
        xp, (steps, batch, _) = template.xp, input.shape
        if lengths is not None:
            lengths = check_lengths(xp, self._name, lengths, input, batch=batch, most=steps)
        found = cpu.forward(
            template._replace(
                sizes=template.sizes._replace(steps=steps, batch=batch, threads=thread_count()),
                input=xp.rows(input.detach()),
                hidden=None if hidden is None else xp.contiguous(hidden),
                cell=None if cell is None else xp.contiguous(cell),
                lengths=lengths,
                reset=None if reset is None else xp.contiguous(reset),
            ),
            False,
            packed,
        )
        return found.output, found.hidden_n, found.cell_n, None

    def _forward(self, *arguments: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            # Nothing is cast: products are of 8 bits already.
            with torch.autocast("cpu", enabled=False):
                return super()._forward(*arguments)  # type: ignore[misc]
        return super()._forward(*arguments)  # type: ignore[misc]

    def _forget(self) -> None:
        vars(self)["_packed"] = None

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        super()._load_from_state_dict(*arguments, **more)
        self._forget()

    def _apply(self, *arguments: Any, **more: Any) -> Any:
        result = super()._apply(*arguments, **more)  # type: ignore[no-untyped-call]
        self._forget()
        return result

    def __getstate__(self) -> dict[str, Any]:
        face: Any = super()
        state = face.__getstate__() if isinstance(self, TorchFace) else vars(self).copy()
        return {**state, "_packed": None}


class _QuantizedLayer(Quantized):
    _all_weights: list[list[str]]
    bidirectional: bool

    def _names_of(self, layer: int) -> list[tuple[str, str]]:
        count = 2 if self.bidirectional else 1
        return [(n[0], n[1]) for n in self._all_weights[layer * count : (layer + 1) * count]]

    def _rows_of(self, layer: int) -> list[Any]:
        own: Any = self
        return [row.recurrence for row in own._layer_weights(layer)]

    def _check_input(self, input: Tensor, weight: Any, *more: Any) -> None:
        super()._check_input(input, self._scale_of(weight), *more)  # type: ignore[misc]

    def _scale_of(self, weight: Any) -> Tensor:
        """Of the dtype and on the device that an input must have."""
        scale: Tensor = getattr(self, f"{self._all_weights[0][0]}_scale")
        return scale


class _QuantizedCell(Quantized):
    def _names_of(self, layer: int) -> list[tuple[str, str]]:
        return [("weight_ih", "weight_hh")]

    def _rows_of(self, layer: int) -> list[Any]:
        own: Any = self
        return [own._weights().recurrence]

    def _check(self, input: Tensor, weight: Any, states: Any) -> None:
        super()._check(input, self.weight_ih_scale, states)  # type: ignore[misc]


class QuantizedLSTM(_QuantizedLayer, LSTM):  # type: ignore[misc]
    """`LSTM` in 8 bits, for inference on the CPU; what `seqfast.quantize` makes of a layer.

    It takes and returns what the layer does. weight_ih and weight_hh are int8 buffers, each with
    float32 scales of its rows beside it (`weight_ih_l0_scale`); all other weights stay float32. It
    keeps a packed copy of its weights: call `refresh()` after writing to the buffers;
    `load_state_dict` and `to` do so themselves. It is always in evaluation.

    Args:
        module: the `LSTM`, float32, in evaluation, on the CPU; it is left as it is.

    Example:
        >>> import torch, seqfast
        >>> module = seqfast.nn.QuantizedLSTM(seqfast.nn.LSTM(4, 8).eval())
        >>> module.weight_hh_l0.dtype
        torch.int8
    """

    _name = "QuantizedLSTM"
    _kind = LSTM


class QuantizedGRU(_QuantizedLayer, GRU):  # type: ignore[misc]
    """`GRU` in 8 bits, for inference on the CPU; what `seqfast.quantize` makes of a layer.

    It takes and returns what the layer does. weight_ih and weight_hh are int8 buffers, each with
    float32 scales of its rows beside it (`weight_ih_l0_scale`); all other weights stay float32. It
    keeps a packed copy of its weights: call `refresh()` after writing to the buffers;
    `load_state_dict` and `to` do so themselves. It is always in evaluation.

    Args:
        module: the `GRU`, float32, in evaluation, on the CPU; it is left as it is.

    Example:
        >>> import torch, seqfast
        >>> module = seqfast.nn.QuantizedGRU(seqfast.nn.GRU(4, 8).eval())
        >>> module.weight_hh_l0.dtype
        torch.int8
    """

    _name = "QuantizedGRU"
    _kind = GRU


class QuantizedRNN(_QuantizedLayer, RNN):  # type: ignore[misc]
    """`RNN` in 8 bits, for inference on the CPU; what `seqfast.quantize` makes of a layer.

    It takes and returns what the layer does. weight_ih and weight_hh are int8 buffers, each with
    float32 scales of its rows beside it (`weight_ih_l0_scale`); all other weights stay float32. It
    keeps a packed copy of its weights: call `refresh()` after writing to the buffers;
    `load_state_dict` and `to` do so themselves. It is always in evaluation.

    Args:
        module: the `RNN`, float32, in evaluation, on the CPU; it is left as it is.

    Example:
        >>> import torch, seqfast
        >>> module = seqfast.nn.QuantizedRNN(seqfast.nn.RNN(4, 8).eval())
        >>> module.weight_hh_l0.dtype
        torch.int8
    """

    _name = "QuantizedRNN"
    _kind = RNN


class QuantizedLSTMCell(_QuantizedCell, LSTMCell):  # type: ignore[misc]
    """`LSTMCell` in 8 bits, for inference on the CPU; what `seqfast.quantize` makes of a cell.

    It takes and returns what the cell does. weight_ih and weight_hh are int8 buffers, each with
    float32 scales of its rows beside it (`weight_ih_scale`); all other weights stay float32. It
    keeps a packed copy of its weights: call `refresh()` after writing to the buffers;
    `load_state_dict` and `to` do so themselves. It is always in evaluation.

    Args:
        module: the `LSTMCell`, float32, in evaluation, on the CPU; it is left as it is.

    Example:
        >>> import torch, seqfast
        >>> module = seqfast.nn.QuantizedLSTMCell(seqfast.nn.LSTMCell(4, 8).eval())
        >>> module.weight_hh.dtype
        torch.int8
    """

    _name = "QuantizedLSTMCell"
    _kind = LSTMCell


class QuantizedGRUCell(_QuantizedCell, GRUCell):  # type: ignore[misc]
    """`GRUCell` in 8 bits, for inference on the CPU; what `seqfast.quantize` makes of a cell.

    It takes and returns what the cell does. weight_ih and weight_hh are int8 buffers, each with
    float32 scales of its rows beside it (`weight_ih_scale`); all other weights stay float32. It
    keeps a packed copy of its weights: call `refresh()` after writing to the buffers;
    `load_state_dict` and `to` do so themselves. It is always in evaluation.

    Args:
        module: the `GRUCell`, float32, in evaluation, on the CPU; it is left as it is.

    Example:
        >>> import torch, seqfast
        >>> module = seqfast.nn.QuantizedGRUCell(seqfast.nn.GRUCell(4, 8).eval())
        >>> module.weight_hh.dtype
        torch.int8
    """

    _name = "QuantizedGRUCell"
    _kind = GRUCell


class QuantizedRNNCell(_QuantizedCell, RNNCell):  # type: ignore[misc]
    """`RNNCell` in 8 bits, for inference on the CPU; what `seqfast.quantize` makes of a cell.

    It takes and returns what the cell does. weight_ih and weight_hh are int8 buffers, each with
    float32 scales of its rows beside it (`weight_ih_scale`); all other weights stay float32. It
    keeps a packed copy of its weights: call `refresh()` after writing to the buffers;
    `load_state_dict` and `to` do so themselves. It is always in evaluation.

    Args:
        module: the `RNNCell`, float32, in evaluation, on the CPU; it is left as it is.

    Example:
        >>> import torch, seqfast
        >>> module = seqfast.nn.QuantizedRNNCell(seqfast.nn.RNNCell(4, 8).eval())
        >>> module.weight_hh.dtype
        torch.int8
    """

    _name = "QuantizedRNNCell"
    _kind = RNNCell


_KINDS: dict[type[Module], Any] = {
    LSTM: QuantizedLSTM,
    GRU: QuantizedGRU,
    RNN: QuantizedRNN,
    LSTMCell: QuantizedLSTMCell,
    GRUCell: QuantizedGRUCell,
    RNNCell: QuantizedRNNCell,
}


def quantize(model: _Model) -> _Model:
    """Puts layers and cells in 8 bits in the place of seqfast's, for inference on the CPU.

    Weights take a quarter of the memory, which is what a step of few rows waits for. All of the
    model's layers are changed or, where one of them cannot be, none.

    Args:
        model: a model with recurrent layers or cells of seqfast, in evaluation; or one of them.

    Returns:
        The model, which is the same object unless it is a layer itself.

    Raises:
        TypeError: what is no module, or a layer of another dtype than float32.
        ValueError: a layer of torch's (call `seqfast.accelerate` first), a subclass of ours, no
            recurrent layer at all; a layer in training, with an option that has no kernel in 8
            bits, with weights that are not finite or not on the CPU.

    Example:
        >>> import torch, seqfast
        >>> model = torch.nn.Sequential(seqfast.nn.GRU(4, 8)).eval()
        >>> seqfast.quantize(model)[0].weight_hh_l0.dtype
        torch.int8
    """
    if not isinstance(model, Module):
        raise TypeError(f"quantize: model must be a torch module, got {type(model).__name__}")
    made: dict[Module, Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, Quantized) or not isinstance(
            module, (torch.nn.RNNBase, torch.nn.RNNCellBase)
        ):
            continue
        place = name or "the model"
        # By identity: our classes equal torch's.
        kind = next((new for old, new in _KINDS.items() if old is type(module)), None)
        if kind is None:
            remedy = "call accelerate first"
            if isinstance(module, Recurrent):
                remedy = "quantize the other layers by themselves, a subclass may have its own code"
            raise ValueError(
                f"quantize: {place} must be a layer of seqfast itself, got "
                f"{type(module).__module__}.{type(module).__name__}: {remedy}"
            )
        try:
            made[module] = kind(module)
        except (TypeError, ValueError) as error:
            raise type(error)(f"quantize: {place}: {error}") from error
    if not made and not any(isinstance(module, Quantized) for module in model.modules()):
        raise ValueError("quantize: model must have recurrent layers, got none")
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child in made:
                module._modules[name] = made[child]
    return made.get(model, model)  # type: ignore[return-value]

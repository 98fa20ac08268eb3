"""What recurrent layers and cells share: the options of a cell, its weights, its first product."""

from __future__ import annotations

import math
import numbers
import re
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from seqfast.nn._checks import check_probability
from seqfast.ops.rnn.options import Options

# In the order of the operation's weights; the last is the module's own.
WEIGHTS = (
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
    "weight_hr",
    "bias_hr",
    "weight_peephole",
    "weight_norm_hh",
    "weight_norm_cell",
    "bias_norm_cell",
    "weight_norm_ih",
)
NORM_IH = WEIGHTS.index("weight_norm_ih")

Weights = list[Tensor | None]  # of one direction, in that order

_OPTIONS = (
    "peephole",
    "coupled_gates",
    "forget_gate",
    "forget_bias",
    "cell_clip",
    "gate_clip",
    "reset_after",
    "reset_gate",
    "feedback",
    "output_size",
    "output_nonlinearity",
    "zoneout",
    "recurrent_dropout",
    "recurrent_dropout_on",
    "input_dropout",
    "weight_dropout",
    "layer_norm",
    "residual",
    "dense",
    "highway",
)
_FLAGS = (
    "peephole",
    "coupled_gates",
    "forget_gate",
    "reset_after",
    "reset_gate",
    "layer_norm",
    "residual",
    "dense",
    "highway",
)


class Recurrent(Module):
    """A module around one kind of cell."""

    _name: ClassVar[str]  # in messages
    _cell: ClassVar[str]  # what the operation calls it
    _state_names: ClassVar[tuple[str, ...]] = ("hidden",)

    # Defaults stand on the class: a module of torch's that became ours has no such attributes.
    nonlinearity: str = "tanh"
    peephole: bool = False
    coupled_gates: bool = False
    forget_gate: bool = True
    forget_bias: float | None = None
    cell_clip: float | None = None
    gate_clip: float | None = None
    reset_after: bool = True
    reset_gate: bool = True
    feedback: str = "hidden"
    output_size: int | None = None
    output_nonlinearity: str = "identity"
    zoneout: float | tuple[float, float] = 0.0
    recurrent_dropout: float = 0.0
    recurrent_dropout_on: str = "hidden"
    input_dropout: float = 0.0
    weight_dropout: float = 0.0
    layer_norm: bool = False
    residual: bool = False
    dense: bool = False
    highway: bool = False

    bias: bool

    def _set_options(self, options: dict[str, Any]) -> None:
        """Keeps and checks what a constructor was given beyond torch's arguments."""
        for name, value in options.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)
        name = self._name
        for option in _FLAGS:
            value = getattr(self, option)
            if not isinstance(value, bool):
                raise TypeError(f"{name}: {option} must be a bool, got {type(value).__name__}")
        for option in ("recurrent_dropout", "input_dropout", "weight_dropout"):
            check_probability(name, option, getattr(self, option))
        self._check_zoneout()
        for option in ("cell_clip", "gate_clip"):
            value = getattr(self, option)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise ValueError(
                    f"{name}: {option} must be a finite number above 0, or None, got {value!r}"
                )
        if self.coupled_gates and not self.forget_gate:
            raise ValueError(
                f"{name}: coupled_gates=True makes a forget gate, got forget_gate=False too"
            )
        if self.forget_bias is not None:
            if not (_is_number(self.forget_bias) and math.isfinite(self.forget_bias)):
                raise ValueError(
                    f"{name}: forget_bias must be a finite number, or None, "
                    f"got {self.forget_bias!r}"
                )
            if self._gates != 4 or not self.bias:
                raise ValueError(
                    f"{name}: forget_bias needs a forget gate with a bias, got "
                    f"bias={self.bias}, coupled_gates={self.coupled_gates}, "
                    f"forget_gate={self.forget_gate}"
                )
        if not (self.reset_gate or self.reset_after):
            raise ValueError(
                f"{name}: reset_after=False needs a reset gate, got reset_gate=False too"
            )
        places = ("hidden",) if self._cell == "rnn" else ("hidden", "update")
        if self.recurrent_dropout_on not in places:
            raise ValueError(
                f"{name}: recurrent_dropout_on must be {' or '.join(map(repr, places))}, "
                f"got {self.recurrent_dropout_on!r}"
            )
        if self.layer_norm and not self.reset_after:
            raise ValueError(f"{name}: layer_norm needs reset_after=True, got reset_after=False")

    def _check_zoneout(self) -> None:
        zoneout: Any = self.zoneout
        if not isinstance(zoneout, tuple):
            check_probability(self._name, "zoneout", zoneout)
            return
        if len(zoneout) != len(self._state_names) or len(zoneout) != 2:
            wanted = "p or (p_hidden, p_cell)" if len(self._state_names) == 2 else "p"
            raise ValueError(f"{self._name}: zoneout must be {wanted}, got {zoneout}")
        for probability in zoneout:
            check_probability(self._name, "zoneout", probability)

    @property
    def _gates(self) -> int:
        """Blocks of rows of weight_ih, weight_hh and the biases."""
        if self._cell == "lstm":
            return 4 if self.forget_gate and not self.coupled_gates else 3
        if self._cell == "gru":
            return 3 if self.reset_gate else 2
        return 1

    def _weight_shapes(
        self, input_size: int, hidden_size: int, output_size: int, projected: bool
    ) -> dict[str, tuple[int, ...]]:
        """Of one cell, by name, in the order in which they are registered."""
        rows = self._gates * hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, output_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if projected:
            shapes["weight_hr"] = (output_size, hidden_size)
            if self.bias and self._cell == "rnn":
                shapes["bias_hr"] = (output_size,)
        if self.peephole:
            shapes["weight_peephole"] = (3, hidden_size)
        if self.layer_norm:
            shapes |= {"weight_norm_ih": (rows,), "weight_norm_hh": (rows,)}
            if self._cell == "lstm":
                shapes |= {"weight_norm_cell": (hidden_size,), "bias_norm_cell": (hidden_size,)}
        return shapes

    def _zoneouts(self) -> tuple[float, float]:
        zoneout = self.zoneout
        if isinstance(zoneout, tuple):
            return zoneout
        return zoneout, zoneout if self._cell == "lstm" else 0.0

    def _kernel_draws(self) -> bool:
        """Whether the kernel needs a seed in training."""
        return self.recurrent_dropout > 0 or self._zoneouts() != (0.0, 0.0)

    def _kernel_options(self, layer: int = 0) -> Options:
        return Options(
            gate_clip=self.gate_clip or 0.0,
            cell_clip=self.cell_clip or 0.0,
            coupled_gates=self.coupled_gates,
            forget_gate=self.forget_gate,
            reset_after=self.reset_after,
            reset_gate=self.reset_gate,
            nonlinearity=self.nonlinearity,
            output_nonlinearity=self.output_nonlinearity,
            zoneout=self._zoneouts(),
            recurrent_dropout=self.recurrent_dropout,
            recurrent_dropout_on=self.recurrent_dropout_on,
            layer=layer,
        )

    def _normalised_product(self, input: Tensor, weights: list[Weights]) -> Tensor:
        """The input's share of the pre-activations with layer_norm, one direction behind another.

        Ba et al. 2016, supplementary: of a GRU the gates are normalised together and the candidate
        by itself, of the others all rows together.
        """
        shares = []
        for row in weights:
            weight, gain = row[0], row[NORM_IH]
            assert weight is not None
            assert gain is not None
            rows = gain.shape[0]
            split = self._cell == "gru" and self.reset_gate
            sizes = [rows // 3 * 2, rows // 3] if split else [rows]
            product = F.linear(input, weight)
            for part, scale in zip(product.split(sizes, -1), gain.split(sizes), strict=True):
                # Under autocast the result may be float32.
                shares.append(F.layer_norm(part, scale.shape, scale).to(input.dtype))
        return shares[0] if len(shares) == 1 else torch.cat(shares, -1)

    def _options_repr(self) -> list[str]:
        """The options that are not as they are by default."""
        changed = []
        for name in _OPTIONS:
            value = getattr(self, name)
            if value != getattr(type(self), name):
                changed.append(f"{name}={value}")
        return changed


def initialise(parameter: Tensor, name: str, bound: float) -> None:
    """Draws from U(-bound, bound); scales of a norm are 1, its shifts 0, a highway's bias -1."""
    if "weight_norm_" in name:
        torch.nn.init.ones_(parameter)
    elif "bias_norm_" in name:
        torch.nn.init.zeros_(parameter)
    elif "bias_highway" in name:
        torch.nn.init.constant_(parameter, -1.0)
    else:
        torch.nn.init.uniform_(parameter, -bound, bound)


def layer_of(name: str) -> int:
    """The layer a parameter belongs to, by its name."""
    found = re.search(r"_l(\d+)", name)
    return int(found[1]) if found else 0


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)

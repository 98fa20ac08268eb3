"""What recurrent layers and cells share: the options of a cell, its weights, its first product."""

from __future__ import annotations

import re
from abc import ABCMeta
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from seqfast.nn._random import MASKS
from seqfast.nn._stream import Stream
from seqfast.ops.base.checks import PROBABILITY, check_choice, check_flag, check_number
from seqfast.ops.rnn import torch as torch_rnn
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.native_call import NativeCall, native_call
from seqfast.ops.rnn.options import PLAIN, Options

WEIGHTS = (*RnnWeights._fields, "weight_norm_ih")  # what a direction may have; the last is ours


class Weights(NamedTuple):
    """Of one direction."""

    recurrence: RnnWeights  # what the operation takes
    weight_norm_ih: Tensor | None

    @classmethod
    def of(cls, values: Sequence[Any]) -> Weights:
        """Of as many values as `WEIGHTS`, None where there is none."""
        return cls(RnnWeights._make(values[:-1]), values[-1])

    def cast(self, cast: Callable[[Tensor], Tensor]) -> Weights:
        """Each that there is, by that function."""
        every = (*self.recurrence, self.weight_norm_ih)
        return Weights.of([None if weight is None else cast(weight) for weight in every])

    def without_input_product(self) -> Weights:
        """For an input that is its product with weight_ih already."""
        return self._replace(recurrence=self.recurrence._replace(weight_ih=None))


@dataclass(frozen=True, kw_only=True)
class RecurrentOptions:
    """What every layer and cell may be told beyond torch.nn's arguments; `LSTM` documents it."""

    states: ClassVar[int] = 1
    dropout_places: ClassVar[tuple[str, ...]] = ("hidden", "update")

    zoneout: float | tuple[float, float] = 0.0
    recurrent_dropout: float = 0.0
    recurrent_dropout_on: str = "hidden"
    input_dropout: float = 0.0
    weight_dropout: float = 0.0
    weight_dropout_on: str = "element"
    layer_norm: bool = False
    residual: bool = False
    dense: bool = False
    highway: bool = False

    def __post_init__(self) -> None:
        zoneout: Any = self.zoneout
        if isinstance(zoneout, list):
            object.__setattr__(self, "zoneout", tuple(zoneout))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The options: those of one kind of cell, then those of all."""
        shared = {option.name for option in fields(RecurrentOptions)}
        return tuple(sorted((option.name for option in fields(cls)), key=shared.__contains__))

    @property
    def gates(self) -> int:
        """Blocks of rows of weight_ih, weight_hh and the biases."""
        raise NotImplementedError

    def check(self, operation: str, bias: bool) -> None:
        """Raises TypeError or ValueError for an option that cannot be; `bias`: as of the module."""
        for option in fields(self):
            value = getattr(self, option.name)
            is_place = (option.name, value) == ("peephole", "previous")
            if isinstance(option.default, bool) and not is_place:
                check_flag(operation, option.name, value)
        for name in ("recurrent_dropout", "input_dropout", "weight_dropout"):
            check_number(operation, name, getattr(self, name), PROBABILITY)
        zoneout = self.zoneout if isinstance(self.zoneout, tuple) else (self.zoneout,) * self.states
        if len(zoneout) != self.states or (self.states == 1 and zoneout is self.zoneout):
            wanted = "p or (p_hidden, p_cell)" if self.states == 2 else "p"
            raise ValueError(f"{operation}: zoneout must be {wanted}, got {self.zoneout}")
        for probability in zoneout:
            check_number(operation, "zoneout", probability, PROBABILITY)
        check_choice(
            operation, "recurrent_dropout_on", self.recurrent_dropout_on, self.dropout_places
        )
        check_choice(operation, "weight_dropout_on", self.weight_dropout_on, MASKS)


class StandIn(ABCMeta):
    """Of classes that equal the class of torch.nn whose place they take, though they are not it.

    So `type(m) == nn.LSTM`, `type(m) in {nn.LSTM}` and tables with a key for each class find them
    too. (As of ABCs, that a user may derive from ABC beside; but caches of ABCs go by equality.)
    """

    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__

    def __eq__(cls, other: object) -> bool:
        if cls is other:
            return True
        kind = cls.__dict__.get("_stands_for")
        return kind is not None and kind is other

    def __hash__(cls) -> int:
        return type.__hash__(cls.__dict__.get("_stands_for", cls))


class Recurrent(Module, metaclass=StandIn):
    """A module around one kind of cell."""

    _stands_for: ClassVar[type[Module]]  # the class of torch.nn, of which its class is one
    _name: ClassVar[str]  # in messages
    _cell: ClassVar[str]  # what the operation calls it
    _Options: ClassVar[type[RecurrentOptions]]  # of its kind; each one is an attribute
    _option_names: ClassVar[tuple[str, ...]]
    _kernel_names: ClassVar[tuple[str, ...]]  # those that the operation takes
    _native: ClassVar[NativeCall | None]  # the native way in

    # What is asked of every module; other options are known to their kind of cell alone.
    nonlinearity: str = "tanh"
    peephole: bool | str = False
    output_activation: str = "tanh"
    forget_bias: float | None = None
    reset_gate: bool = True
    feedback: str = "hidden"
    output_size: int | None = None
    output_nonlinearity: str = "identity"
    zoneout: float | tuple[float, float]
    recurrent_dropout: float
    recurrent_dropout_on: str
    input_dropout: float
    weight_dropout: float
    weight_dropout_on: str
    layer_norm: bool
    residual: bool
    dense: bool
    highway: bool

    bias: bool

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        options = vars(cls).get("_Options")
        if options is None:
            return
        # Defaults stand on the class: a module of torch's that became ours has no such attributes.
        for option in fields(options):
            if option.name not in vars(cls):
                setattr(cls, option.name, option.default)
        cls._option_names = options.names()
        own = {*cls._option_names} - {"zoneout"}
        if cls._cell == "rnn":
            own.add("nonlinearity")  # an argument of torch.nn's
        cls._kernel_names = tuple(n for n in (*Options._fields, "peephole") if n in own)
        cls._native = native_call(cls._cell, PLAIN, *cls._plain_attributes())

    @classmethod
    def _plain_attributes(cls) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the attributes of a module are that is a plain cell, and are in training too."""
        always = {option.name: option.default for option in fields(cls._Options)}
        for name in ("forget_bias", "output_size", "weight_dropout_on"):
            always.pop(name, None)  # of no account without what else they go with
        always.pop("recurrent_dropout_on")  # the same, but "cell" counts in evaluation too
        if cls._cell == "rnn":
            always["nonlinearity"] = PLAIN.nonlinearity
        training = {name: always.pop(name) for name in [*always] if "dropout" in name}
        if cls._cell == "lstm":
            always["recurrent_dropout_on"] = cls.recurrent_dropout_on
        if hasattr(cls, "num_layers") or issubclass(cls, torch.nn.RNNBase):
            always["proj_size"] = 0
            training["dropout"] = 0.0
        return always, training

    def _set_options(self, options: RecurrentOptions) -> None:
        """Checks and keeps what a constructor was given beyond torch's arguments."""
        options.check(self._name, self.bias)
        for name in self._option_names:
            setattr(self, name, getattr(options, name))

    def _options_beyond_torch(self) -> list[str]:
        """Those in force that the layer of torch.nn does not have, with their values."""
        idle = set()
        if self._zoneouts() == (0.0, 0.0):
            idle.add("zoneout")
        if self.recurrent_dropout == 0:
            idle.add("recurrent_dropout_on")
        if self.weight_dropout == 0:
            idle.add("weight_dropout_on")
        return [text for text in self._options_repr() if text.partition("=")[0] not in idle]

    # Ways between our class and torch's, for a module that stays the same object.

    def _become(self) -> None:
        """Ours, of a module that has the attributes of torch's."""

    def _leave(self) -> None:
        """Gives the module the attributes of torch's, just before it takes its class."""
        for name in self._option_names:
            self.__dict__.pop(name, None)

    # Set by torch.ao.quantization, which asks for no option before it takes the weights.
    @property
    def qconfig(self) -> Any:
        if "qconfig" not in self.__dict__:
            raise AttributeError("qconfig")
        return self.__dict__["qconfig"]

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        if value is not None and (options := self._options_beyond_torch()):
            raise ValueError(
                f"torch.ao.quantization: torch.nn.{self._name} has no {', '.join(options)}: leave "
                f"out the option, or do not quantize {self._name}"
            )
        self.__dict__["qconfig"] = value

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("qconfig", None)

    def __prepare_scriptable__(self) -> Module:
        """For torch.jit.script: torch's layer with the same Parameters."""
        own = own_kind(self)
        if "_stands_for" not in vars(own):
            raise TypeError(
                f"torch.jit.script: cannot compile {type(self).__name__}, a subclass of "
                f"seqfast.nn.{self._name}: derive from torch.nn's class, or use torch.export"
            )
        if options := self._options_beyond_torch():
            raise ValueError(
                f"torch.jit.script: torch.nn.{self._name} has no {', '.join(options)}: use "
                "torch.export or torch.compile, or leave the option out"
            )
        return self._as_torchs()

    def _as_torchs(self) -> Module:
        """Another module, of torch's class, with the same attributes."""
        kind = type(self)
        module = kind.__new__(kind)
        vars(module).update(vars(self))
        module._leave()
        object.__setattr__(module, "__class__", kind_on(self, self._stands_for))
        return module

    @property
    def _options(self) -> RecurrentOptions:
        """As they are now: each may have been set anew."""
        return self._Options(**{name: getattr(self, name) for name in self._option_names})

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
        """`output, hidden_n, cell_n, cells` of one layer, as `torch_rnn.layer`."""
        return torch_rnn.layer(
            self._cell,
            input,
            hidden,
            cell,
            rows,
            lengths,
            reset=reset,
            seed=seed,
            options=self._kernel_options(layer),
            save=save,
        )

    def stream(self, batch_size: int, hx: Any = None) -> Stream:
        """An object that takes a sequence piece by piece, for inference.

        It keeps the states, its own packed copy of the weights and all buffers: see `Stream`.

        Args:
            batch_size: rows of each piece.
            hx: the states before the first step, as `forward` takes them; zeros if None.

        Returns:
            The stream; `y = stream.step(x)` for each piece.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: a batch_size below 1; `bidirectional`, `layer_norm` or `highway`; a module
                in training that has dropout or zoneout.
            RuntimeError: states of a wrong size.

        Example:
            >>> import torch, seqfast
            >>> stream = seqfast.nn.LSTM(4, 8).stream(batch_size=2)
            >>> stream.step(torch.randn(6, 2, 4)).shape
            torch.Size([6, 2, 8])
        """
        return Stream(self, batch_size, hx)

    def _weight_shapes(
        self, input_size: int, hidden_size: int, output_size: int, projected: bool
    ) -> dict[str, tuple[int, ...]]:
        """Of one cell, by name, in the order in which they are registered."""
        rows = self._options.gates * hidden_size
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
        names = self._kernel_names
        # Dynamo traces what is behind a cache, and warns that there is one.
        make = _made_options if torch.compiler.is_compiling() else _options_of
        return make(names, layer, self._zoneouts(), *[getattr(self, n) for n in names])

    def _normalised_product(self, input: Tensor, weights: Sequence[Weights]) -> Tensor:
        """The input's share of the pre-activations with layer_norm, one direction behind another.

        Ba et al. 2016, supplementary: of a GRU the gates are normalised together and the candidate
        by itself, of the others all rows together.
        """
        shares = []
        for row in weights:
            weight, gain = row.recurrence.weight_ih, row.weight_norm_ih
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
        for name in self._option_names:
            value = getattr(self, name)
            if value != getattr(type(self), name):
                changed.append(f"{name}={value}")
        return changed


def own_kind(module: Module) -> type[Module]:
    """Its class, without the one that torch.nn.utils.parametrize makes of it."""
    kind = type(module)
    if is_parametrized(module) and kind.__name__ == f"Parametrized{kind.__bases__[0].__name__}":
        return kind.__bases__[0]
    return kind


def kind_on(module: Module, other: type[Module]) -> type[Module]:
    """`other` in the place of its own class, under the one that parametrize made if it did."""
    kind: Any = type(module)
    if own_kind(module) is kind:
        return other
    passing = ("__dict__", "__weakref__", "__abstractmethods__", "_abc_impl")
    made = {name: value for name, value in vars(kind).items() if name not in passing}
    meta: Any = type(other)
    parametrized: type[Module] = meta(f"Parametrized{other.__name__}", (other,), made)
    return parametrized


def _made_options(
    names: tuple[str, ...], layer: int, zoneout: tuple[float, float], *values: Any
) -> Options:
    # 0 is the operation's word for none.
    given: dict[str, Any] = {n: 0.0 if v is None else v for n, v in zip(names, values, strict=True)}
    if given.pop("peephole", False) == "previous":
        given["peephole_on"] = "previous"
    return Options(layer=layer, zoneout=zoneout, **given)


_options_of = lru_cache(_made_options)


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

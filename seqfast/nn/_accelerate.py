"""Puts seqfast's recurrent layers in the place of torch's inside a model, and torch's back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar, overload

import torch
from torch.nn import Module
from torch.nn.utils import parametrize

from seqfast.nn._base import Recurrent, kind_on, own_kind
from seqfast.nn._torch_tools import all_or_nothing
from seqfast.nn.attention_decoder import AttentionDecoder
from seqfast.nn.gru import GRU, GRUCell
from seqfast.nn.lstm import LSTM, LSTMCell
from seqfast.nn.rnn import RNN, RNNCell
from seqfast.ops.base.arrays import library_of
from seqfast.ops.base.checks import check_type

_Model = TypeVar("_Model", bound=Module)

_FAST: tuple[type[Recurrent], ...] = (RNN, GRU, LSTM, RNNCell, GRUCell, LSTMCell)
_NAMES = {kind.__name__ for kind in _FAST}
_TORCHS = (torch.nn.RNNBase, torch.nn.RNNCellBase)


@dataclass(frozen=True)
class Report:
    """What `accelerate` or `restore` did, by the names of modules in the model (the model: "").

    A module that is registered in several places has an entry under each name.

    Args:
        changed: the class of each changed module, before and after.
        left: each recurrent module that was not changed, and the reason.

    Example:
        >>> import torch, seqfast
        >>> model, report = seqfast.accelerate(torch.nn.LSTM(2, 3), return_report=True)
        >>> print(report)
        changed the model: torch.nn.LSTM -> seqfast.nn.LSTM
    """

    changed: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"changed {name or 'the model'}: {what}" for name, what in self.changed.items()]
        lines += [f"left {name or 'the model'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines) or "nothing recurrent was found"


class _Change(NamedTuple):
    module: Module
    kind: type[Module]  # what it becomes


@overload
def accelerate(model: _Model, *, return_report: Literal[False] = False) -> _Model: ...
@overload
def accelerate(model: _Model, *, return_report: Literal[True]) -> tuple[_Model, Report]: ...
@overload
def accelerate(model: _Model, *, return_report: bool) -> _Model | tuple[_Model, Report]: ...
def accelerate(model: _Model, *, return_report: bool = False) -> _Model | tuple[_Model, Report]:
    """Turns every `torch.nn.RNN`, `GRU`, `LSTM` inside `model`, and their cells, into seqfast's.

    The modules stay the same objects, with the same Parameters, hooks, parametrizations, training
    flag and attributes: optimizers keep their state, and shared modules stay shared. `model` may
    itself be a layer. A second call changes nothing. `restore` undoes it.

        >>> import torch, seqfast
        >>> model = torch.nn.Sequential(torch.nn.LSTM(2, 3))
        >>> type(seqfast.accelerate(model)[0])
        <class 'seqfast.nn.lstm.LSTM'>

    Args:
        model: a `torch.nn.Module`, changed in place.
        return_report: also return a report of what was changed and what was not, and why.

    Returns:
        `model`, or `model, report` (a `Report`). Some recurrent modules are not changed, and one
        warning names them: subclasses, which may rely on torch's internals; compiled and quantized
        modules; layers whose forward has been replaced or whose device or dtype has no kernels.

    Raises:
        TypeError: `model` is not a `torch.nn.Module`.

    After an error the model is unchanged.
    """
    check_type("accelerate", "model", model, Module, "a torch.nn.Module")
    changes, report = [], Report()
    for name, module in _named(model):
        kind, why = _faster(module)
        if why is not None:
            report.left[name] = why
        elif kind is not None:
            changes.append(_Change(module, kind))
            report.changed[name] = f"{_full_name(type(module))} -> {_full_name(kind)}"
    _warn_of_left("accelerate", report)
    _apply(changes)
    return (model, report) if return_report else model


@overload
def restore(model: _Model, *, return_report: Literal[False] = False) -> _Model: ...
@overload
def restore(model: _Model, *, return_report: Literal[True]) -> tuple[_Model, Report]: ...
@overload
def restore(model: _Model, *, return_report: bool) -> _Model | tuple[_Model, Report]: ...
def restore(model: _Model, *, return_report: bool = False) -> _Model | tuple[_Model, Report]:
    """Turns seqfast's recurrent layers and cells inside `model` into torch's: undoes `accelerate`.

    For tools that support only torch's own layers. The modules stay the same objects with the same
    Parameters, as with `accelerate`. A layer that was created as seqfast's also becomes torch's, if
    torch has all its options.

        >>> import torch, seqfast
        >>> model = seqfast.accelerate(torch.nn.Sequential(torch.nn.LSTM(2, 3)))
        >>> type(seqfast.restore(model)[0])
        <class 'torch.nn.modules.rnn.LSTM'>

    Args:
        model: a `torch.nn.Module`, changed in place.
        return_report: also return a report of what was changed and what was not, and why.

    Returns:
        `model`, or `model, report` (a `Report`). Some layers are not changed, and one warning names
        them: subclasses of seqfast's layers, layers whose forward has been replaced, and the layer
        of an `AttentionDecoder`.

    Raises:
        TypeError: `model` is not a `torch.nn.Module`.
        ValueError: a layer has options that torch's lacks; the message names them.

    After an error the model is unchanged.
    """
    check_type("restore", "model", model, Module, "a torch.nn.Module")
    changes, report, refused = [], Report(), []
    of_decoders = {id(part.rnn) for part in model.modules() if isinstance(part, AttentionDecoder)}
    for name, module in _named(model):
        if not isinstance(module, Recurrent):
            continue
        kind, why = _torchs(module)
        if id(module) in of_decoders:
            why = "an AttentionDecoder needs a layer of seqfast's"
        if why is not None:
            report.left[name] = why
            continue
        options = module._options_beyond_torch()
        if options:
            refused.append(f"{name or 'the model'} ({', '.join(options)})")
        elif kind is not None:
            changes.append(_Change(module, kind))
            report.changed[name] = f"{_full_name(type(module))} -> {_full_name(kind)}"
    if refused:
        raise ValueError(
            f"restore: torch's layers have no such options: {'; '.join(refused)}. Nothing was "
            "changed"
        )
    _warn_of_left("restore", report)
    _apply(changes)
    return (model, report) if return_report else model


def _warn_of_left(operation: str, report: Report) -> None:
    """Before anything is changed: a warning may be an error."""
    if report.left:
        named = [f"{name or 'the model'}: {why}" for name, why in report.left.items()]
        warnings.warn(f"{operation}: left as they were: {'; '.join(named)}", stacklevel=3)


def _faster(module: Module) -> tuple[type[Module] | None, str | None]:
    """What `accelerate` makes of a module, or why it leaves it; neither where it is nothing of
    torch's that is recurrent."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        original = getattr(module, "original_name", "")
        compiled = "compiled by torch.jit already: accelerate the model before"
        return None, compiled if original in _NAMES else None
    if kind.__name__ in _NAMES and kind.__module__.startswith("torch.ao."):
        return None, f"a quantized layer, {_full_name(kind)}"
    if isinstance(module, Recurrent) or not isinstance(module, _TORCHS):
        return None, None
    own = own_kind(module)
    fast = next((fast for fast in _FAST if fast._stands_for is own), None)
    if fast is None:
        return None, f"a subclass of torch's, {_full_name(kind)}"
    return _replacement(module, fast)


def _torchs(module: Recurrent) -> tuple[type[Module] | None, str | None]:
    """What `restore` makes of a module of ours, or why it leaves it."""
    own = own_kind(module)
    fast = next((fast for fast in _FAST if fast is own), None)
    if fast is None:
        return None, f"a subclass of seqfast's, {_full_name(type(module))}"
    return _replacement(module, fast._stands_for)


def _replacement(module: Module, other: type[Module]) -> tuple[type[Module] | None, str | None]:
    if "forward" in vars(module):
        return None, "its forward has been replaced"
    if issubclass(other, Recurrent):
        weights = [*module.parameters()]
        places = {weight.device.type for weight in weights}
        if not places <= {"cpu", "cuda", "meta"}:
            return None, f"on a device without kernels, {', '.join(sorted(places))}"
        for weight in weights:
            if library_of(weight, "accelerate", "weight").dtype_code(weight) is None:
                return None, f"of a dtype without kernels, {weight.dtype}"
    return kind_on(module, other), None


def _full_name(kind: type) -> str:
    home = kind.__module__
    if home == parametrize.__name__:
        return f"{_full_name(kind.__bases__[0])}, parametrized"
    if home.startswith("torch.nn.modules."):
        home = "torch.nn"
    elif home.startswith("seqfast.nn."):
        home = "seqfast.nn"
    return f"{home}.{kind.__name__}"


def _apply(changes: list[_Change]) -> None:
    """All of them, or where one fails none."""
    with all_or_nothing([change.module for change in _once(changes)]):
        for module, kind in _once(changes):
            if isinstance(module, Recurrent):
                module._leave()
            object.__setattr__(module, "__class__", kind)
            if isinstance(module, Recurrent):
                module._become()
            elif isinstance(module, torch.nn.RNNBase):
                module.flatten_parameters()


def _named(
    module: Module, name: str = "", above: frozenset[Module] = frozenset()
) -> Iterator[tuple[str, Module]]:
    """Every module by every name that there is for it, but none by way of itself."""
    yield name, module
    if module in above:
        return
    for own, child in module._modules.items():
        if child is not None:
            yield from _named(child, f"{name}.{own}" if name else own, above | {module})


def _once(changes: list[_Change]) -> Iterator[_Change]:
    seen: set[int] = set()
    for change in changes:
        if id(change.module) not in seen:
            seen.add(id(change.module))
            yield change

"""Lets torch.jit.script and torch.ao.quantization take our layers for torch's, and leaves a model
as it was where they fail."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Module

from seqfast.nn._base import Recurrent

_QUANTIZE = "torch.ao.quantization.quantize"
_OF_MODELS = ("quantize_dynamic", "quantize", "quantize_qat", "prepare", "prepare_qat", "convert")


@contextmanager
def all_or_nothing(modules: Iterable[Module]) -> Iterator[None]:
    """Whatever is raised within, classes and attributes of the modules are as before."""
    before = [
        (m, type(m), vars(m).copy(), m._modules.copy())
        for m in modules
        if not isinstance(m, torch.jit.ScriptModule)
    ]
    try:
        yield
    except BaseException:
        for module, kind, attributes, children in reversed(before):
            object.__setattr__(module, "__class__", kind)
            vars(module).clear()
            vars(module).update(attributes)
            for name in [*module._modules]:
                del module._modules[name]
            module._modules.update(children)
        raise


def teach_torchs_tools() -> None:
    """Once: another torch may lack a function, which then does as it does with any module."""
    script: Any = sys.modules.get("torch.jit._script")
    _put(script, "call_prepare_scriptable_func", _on_a_copy)
    _put(sys.modules.get(_QUANTIZE), "swap_module", _of_torchs_class)
    for name in _OF_MODELS:
        _put(sys.modules.get(_QUANTIZE), name, _all_or_nothing)


def _put(home: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    """A function's wrapper in its place, wherever a package of torch's hands it on."""
    function = getattr(home, name, None)
    if function is None or hasattr(function, "_seqfast"):
        return
    inner = getattr(function, "__wrapped__", None)
    for cell in getattr(function, "__closure__", None) or ():
        if inner is not None and cell.cell_contents is inner:
            # Within torch's decorator, so that names imported before seqfast have it, too.
            cell.cell_contents = function.__wrapped__ = functools.wraps(inner)(wrap(inner))
            function._seqfast = True
            return
    wrapped: Any = functools.wraps(function)(wrap(function))
    wrapped._seqfast = True
    for space in (home, *map(sys.modules.get, _handing_on(home.__name__))):
        if getattr(space, name, None) is function:
            setattr(space, name, wrapped)


def _handing_on(home: str) -> tuple[str, ...]:
    if home != _QUANTIZE:
        return ()
    return "torch.ao.quantization", "torch.quantization", "torch.quantization.quantize"


def _has_ours(model: Any) -> bool:
    return isinstance(model, Module) and any(isinstance(m, Recurrent) for m in model.modules())


def _on_a_copy(prepare: Any) -> Any:
    """torch.jit.script puts what it compiles into the model that it is given: give it another."""

    def call_prepare_scriptable_func(obj: Any) -> Any:
        return prepare(_tree_copy(obj, {}) if _has_ours(obj) else obj)

    return call_prepare_scriptable_func


def _tree_copy(module: Any, made: dict[int, Module]) -> Any:
    """New modules with the same attributes, but for the modules among them."""
    if not isinstance(module, Module) or isinstance(module, torch.jit.ScriptModule):
        return module
    if id(module) not in made:
        copy = made[id(module)] = type(module).__new__(type(module))
        for name, value in vars(module).items():
            vars(copy)[name] = _tree_copy(value, made) if isinstance(value, Module) else value
        children = {name: _tree_copy(child, made) for name, child in module._modules.items()}
        vars(copy)["_modules"] = type(module._modules)(children)
    return made[id(module)]


def _of_torchs_class(swap: Any) -> Any:
    """A cell is asked whether it is of torch's very own class."""

    def swap_module(mod: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(mod, Recurrent) or getattr(mod, "qconfig", None) is None:
            return swap(mod, *args, **kwargs)
        torchs = mod._as_torchs()
        found = swap(torchs, *args, **kwargs)
        return mod if found is torchs else found

    return swap_module


def _all_or_nothing(function: Any) -> Any:
    def of_model(model: Any, *args: Any, **kwargs: Any) -> Any:
        if not _has_ours(model):
            return function(model, *args, **kwargs)
        with all_or_nothing([*model.modules()]):
            return function(model, *args, **kwargs)

    return of_model

"""Lets torch.compile trace our layers, which it would refuse for being torch.nn's by class."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from seqfast.nn._torch_face import TorchFace

_BUILDER = "torch._dynamo.variables.builder"


def let_compile_trace_layers() -> None:
    """Now, or where torch.compile is not in use yet, when it comes to be: it takes a second to
    import."""
    builder = sys.modules.get(_BUILDER)
    if builder is not None:
        _patch(builder)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(_BUILDER, _patch))


def _patch(builder: ModuleType) -> None:
    """torch refuses its own layers because their operators unroll; ours are one operator each.

    Its switch, `torch._dynamo.config.allow_rnn`, is on only while one of ours is looked at.
    """
    kind: Any = getattr(builder, "VariableBuilder", None)
    config: Any = getattr(builder, "config", None)
    refused = getattr(kind, "wrap_module", None)
    if refused is None or not hasattr(config, "allow_rnn") or hasattr(refused, "_seqfast"):
        return  # another torch: it traces them, or breaks the graph there as it does for its own

    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, TorchFace) or config.allow_rnn:
            return refused(self, value)
        with config.patch(allow_rnn=True):
            return refused(self, value)

    wrap_module._seqfast = True  # type: ignore[attr-defined]
    kind.wrap_module = wrap_module


class _AfterImport(MetaPathFinder):
    """Calls a function with a module when that has been imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenLoader(spec.loader, self._then)
            sys.meta_path.remove(self)
        return spec


class _ThenLoader(Loader):
    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)

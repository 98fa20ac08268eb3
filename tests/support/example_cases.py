"""What tests of examples share that train for a while: checkpoints compared, Ctrl-C on time."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHARED = EXAMPLES.parents[1] / "shared" / "data"


def load_program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same(got: Any, wanted: Any, where: str = "checkpoint") -> None:
    """Bit for bit, whatever the tensors are nested in."""
    assert type(got) is type(wanted), where
    if isinstance(wanted, torch.Tensor):
        assert got.dtype == wanted.dtype, where
        assert torch.equal(got, wanted), where
    elif isinstance(wanted, dict):
        assert list(got) == list(wanted), where
        for key in wanted:
            assert_same(got[key], wanted[key], f"{where}[{key!r}]")
    elif isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted), where
        for i, pair in enumerate(zip(got, wanted, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert got == wanted, where


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int
) -> Callable[[], int]:
    """Ctrl-C in the middle of that call; returns how many calls there were."""
    original, calls = getattr(owner, name), 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)
    return lambda: calls

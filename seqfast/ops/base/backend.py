"""Which backend a call takes: by where its arrays are, and by two switches that tests set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from seqfast import _C
from seqfast.ops.base.checks import check_choice

_STRATEGIES = ("automatic", "stepwise", "cluster", "grid")  # the codes of csrc/core


class _Switches:
    # Of the process, not the thread: torch runs backward passes in threads of its own.
    on_host = False
    strategy = 0


def backend_of(place: str) -> str | None:
    """The backend for arrays in that place: cpu, cuda or cuda-host; None where there is none."""
    if place == "cpu":
        return "cuda-host" if _Switches.on_host else "cpu"
    return "cuda" if place.startswith("cuda") else None


def checked_backend(operation: str, name: str, place: str) -> str:
    """The same for an argument: ValueError where there is none."""
    backend = backend_of(place)
    if backend is None:
        raise ValueError(
            f"{operation}: {name} must be a dense array on the CPU or on a CUDA device, got {place}"
        )
    return backend


def strategy_code() -> int:
    """How CUDA kernels walk the steps: the policy's choice (0), or what `forced_strategy` says."""
    return _Switches.strategy


@contextmanager
def on_host_executor() -> Iterator[None]:
    """Sends what lies in the CPU's memory through the CUDA path, its kernels run by the host
    executor; outputs and workspaces are poisoned first. For tests, and for the whole process."""
    before, _Switches.on_host = _Switches.on_host, True
    _C.allow_plain_calls(False)
    try:
        yield
    finally:
        _Switches.on_host = before
        _C.allow_plain_calls(not before)


@contextmanager
def forced_strategy(strategy: str) -> Iterator[None]:
    """Makes the CUDA kernels go "stepwise", by "cluster" or by "grid" ("automatic": the policy's
    choice); a call that cannot raises RuntimeError. For tests and measurements."""
    check_choice("forced_strategy", "strategy", strategy, _STRATEGIES)
    before, _Switches.strategy = _Switches.strategy, _STRATEGIES.index(strategy)
    try:
        yield
    finally:
        _Switches.strategy = before

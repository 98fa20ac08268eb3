"""Fixtures of all tests: backends, instruction sets, seeds."""

from __future__ import annotations

import gc
import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import seqfast
from seqfast import _C

if TYPE_CHECKING:
    from support.cases import Backend

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

_INFO = seqfast.build_info()
# A job in a shell's background is born deaf to Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Without it torch refuses products on a GPU where deterministic algorithms are asked for.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Orders in which the host executor takes blocks and threads; make host-executor tries more.
HOST_SEEDS = int(os.environ.get("SEQFAST_HOST_SEEDS", "2"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """For the tests marked `alone` no file is read that has none: that took 15 seconds."""
    if config.option.markexpr != "alone" or not collection_path.is_file():
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if re.search(r"mark\.alone|\bset_threads\b", text) else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that set a number of threads need the cores for themselves; names must not change."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} needs an id without an address: give it ids=")
        if "set_threads" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.alone)


def pytest_collection_finish() -> None:
    """Else each full collection of garbage goes through 25,000 tests."""
    gc.collect()
    gc.freeze()


def _process_state() -> dict[str, object]:
    """What a test may change for its own time only, or all later tests of the process feel it."""
    from seqfast.ops.base.backend import _Switches

    state = {"on_host": _Switches.on_host, "strategy": _Switches.strategy}
    return {**state, "cpu_isa": seqfast.build_info()["cpu_isa"]}


_STATE_AT_START = _process_state()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """A test that leaves a switch on is an error of that test, not of some later one."""
    from seqfast.ops.base.backend import _Switches

    yield
    state = _process_state()
    if state == _STATE_AT_START:
        return
    _Switches.on_host = bool(_STATE_AT_START["on_host"])
    _Switches.strategy = int(str(_STATE_AT_START["strategy"]))
    _C.set_cpu_isa(str(_STATE_AT_START["cpu_isa"]))
    _C.allow_plain_calls(True)
    pytest.fail(f"{item.nodeid} leaves {state}, found {_STATE_AT_START}")


def _isa_params() -> list[object]:
    return [
        pytest.param(
            isa,
            marks=pytest.mark.skipif(
                isa not in _INFO["cpu_isas_available"], reason=f"this CPU has no {isa}"
            ),
        )
        for isa in _INFO["cpu_isas_built"]
    ]


def _cuda_params(seeds: int = HOST_SEEDS) -> list[object]:
    """The backends of the CUDA kernels: (name, seed of the host executor)."""
    no_gpu = None
    if _INFO["cuda"] != "on":
        no_gpu = "seqfast was built without CUDA"
    elif torch is None or not torch.cuda.is_available():
        no_gpu = "needs a GPU and a torch that sees it"
    no_executor = pytest.mark.skipif(
        not _INFO.get("host_executor"), reason="needs a build with SEQFAST_CUDA=HOST"
    )
    return [
        *(
            pytest.param(("cuda-host", seed), id=f"cuda-host-{seed}", marks=no_executor)
            for seed in range(seeds)
        ),
        pytest.param(
            ("cuda", 0),
            id="cuda",
            marks=[pytest.mark.cuda, pytest.mark.skipif(bool(no_gpu), reason=str(no_gpu))],
        ),
    ]


def _enter(name: str, seed: int = 0) -> Iterator[Backend]:
    from support.cases import Backend  # it needs torch

    with ExitStack() as stack:
        if name == "cuda-host":
            from seqfast.ops.base.backend import on_host_executor

            _C.host_executor_set_seed(seed)
            stack.enter_context(on_host_executor())
        if name == "cuda":
            # What a test makes without naming a device, it makes on the GPU.
            stack.enter_context(torch.device("cuda"))
            # torch's own kernels: cuDNN has other dropout, TF32 by default, no backward in eval().
            stack.callback(setattr, torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled)
            torch.backends.cudnn.enabled = False
        yield Backend(name, "cuda" if name == "cuda" else "cpu")


@pytest.fixture(params=[pytest.param(("cpu",), id="cpu"), *_cuda_params()])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend of this build, on the CPU with the instruction set chosen at start."""
    yield from _enter(*request.param)


@pytest.fixture(params=[pytest.param(("cpu",), id="cpu"), *_cuda_params(1)])
def backend_once(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """`backend` with one seed, for what is far above the kernels."""
    yield from _enter(*request.param)


@pytest.fixture(params=[pytest.param(("cpu",), id="cpu"), *_cuda_params(0)])
def device(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The CPU and a GPU, for what has no kernels of its own."""
    yield from _enter(*request.param)


@pytest.fixture(params=_cuda_params())
def cuda_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend that runs the CUDA kernels."""
    yield from _enter(*request.param)


@pytest.fixture(params=_cuda_params(1))
def cuda_backend_once(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """`cuda_backend` with one seed, for what the order of threads has no part in."""
    yield from _enter(*request.param)


@pytest.fixture(params=_cuda_params()[-1:])
def gpu(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A GPU."""
    yield from _enter(*request.param)


@pytest.fixture(params=_isa_params())
def cpu_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that was built, forced for the time of the test."""
    yield from _force_isa(request.param)


def _force_isa(isa: str) -> Iterator[str]:
    before = seqfast.build_info()["cpu_isa"]
    _C.set_cpu_isa(isa)
    yield isa
    _C.set_cpu_isa(before)


@pytest.fixture(params=[*_isa_params(), *_cuda_params()])
def kernels(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every set of kernels of this build: each instruction set of the CPU, each CUDA backend."""
    if isinstance(request.param, str):
        for _ in _force_isa(request.param):
            yield from _enter("cpu")
    else:
        yield from _enter(*request.param)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may draw from the global generator
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads torch and the kernels use, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Toy models gain nothing from threads, and those suffer where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(threads)

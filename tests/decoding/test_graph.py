"""The loop for a GPU on a device that only pretends: masked, with a late stop, with graphs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import BeamSearch, Sampler, _loop, shared

from .models import HashModel

EOS = 2
START = torch.tensor([0, 1, 3, 4])


class Device:
    """A graph is a function that runs again; the flag is read a step late, as on a GPU."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.captures, self.replays = refuses, 0, 0

    def current(self) -> AbstractContextManager[None]:
        return nullcontext()

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay() -> None:
            self.replays += 1
            step()

        return replay

    def flag(self, beams: Any) -> Any:
        device = self

        class Flag:
            living, status = -1, -1

            def was_done(self) -> bool:
                before = Flag.living, Flag.status
                Flag.living, Flag.status = int(beams.living[0]), int(beams.status[0])
                device.polled = before
                _loop.raise_status(before[1])
                return before[0] == 0

        return Flag()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(_loop, "device_of", lambda ids: made)
    return made


def same(one: Any, other: Any) -> None:
    for name in ("tokens", "lengths", "scores", "token_logprobs", "parents", "certified"):
        assert torch.equal(getattr(one, name).cpu(), getattr(other, name).cpu()), name


OPTIONS: list[dict[str, Any]] = [
    {},
    {"n_best": 3, "stop": "hf", "alpha": 0.5},
    {"stop": "first_k"},
    {"no_repeat_ngram": 2, "repetition_penalty": 1.2},
    {"groups": 3, "diversity": 0.5},
    {"sampler": Sampler(seed=3, top_k=5)},
]


@pytest.mark.parametrize("cuda_graph", ["auto", True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_masked_steps_and_graphs_give_the_same(
    backend_once: Any, device: Device, options: dict[str, Any], cuda_graph: bool | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = HashModel(9, seed=1)
    model.table[:, EOS] += 1
    start, state = START.to(backend_once.device), model.torch_state(4)
    state = {"code": state["code"].to(backend_once.device)}
    model.tensor = model.tensor.to(backend_once.device)
    search = BeamSearch(3, eos=EOS, max_length=9, cuda_graph=cuda_graph, **options)
    limits = np.array([9, 4, 7, 9])
    found = search(model.torch_step, start, state, max_length=limits)
    assert set(model.calls) == {12}  # nobody leaves
    assert device.captures == (cuda_graph is not False)
    assert device.replays == (found.steps - 2 if cuda_graph is not False else 0)
    monkeypatch.setattr(_loop, "device_of", lambda ids: None)
    model.tensor = model.tensor.cpu()
    wanted = search(model.torch_step, START, model.torch_state(4), max_length=limits)
    same(found, wanted)
    # The flag is seen one step late.
    assert found.steps in (wanted.steps, wanted.steps + 1)


@pytest.mark.parametrize("cuda_graph", ["auto", True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_on_a_gpu(gpu: Any, options: dict[str, Any], cuda_graph: bool | str) -> None:
    model = HashModel(9, seed=1, dtype=np.float64)
    model.table[:, EOS] += 1
    search = BeamSearch(3, eos=EOS, max_length=9, cuda_graph=cuda_graph, **options)
    with torch.device("cpu"):
        wanted = search(model.torch_step, START, model.torch_state(4))
    model.tensor = model.tensor.cuda()
    state = {"code": torch.zeros(4, dtype=torch.int64, device="cuda")}
    found = search(model.torch_step, START.cuda(), state)
    assert found.tokens.is_cuda
    assert torch.equal(found.tokens.cpu(), wanted.tokens)
    torch.testing.assert_close(found.scores.cpu(), wanted.scores)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_on_a_gpu_that_is_not_the_current_one(gpu: Any, cuda_graph: bool) -> None:
    wanted: Any = None
    for device in ("cuda:0", "cuda:1"):  # a graph of the first device must not bind the second
        model = HashModel(9, seed=1, dtype=np.float64)
        model.table[:, EOS] += 1
        model.tensor = model.tensor.to(device)
        state = {"code": torch.zeros(4, dtype=torch.int64, device=device)}
        search = BeamSearch(3, eos=EOS, max_length=9, cuda_graph=cuda_graph)
        found = search(model.torch_step, START.to(device), state)
        assert torch.cuda.current_device() == 0
        assert str(found.tokens.device) == device
        wanted = found if wanted is None else wanted
        same(found, wanted)


def test_the_flag_ends_it_one_step_late(device: Device) -> None:
    model = HashModel(9, seed=1)
    model.table[:, EOS] += 50
    out = BeamSearch(1, eos=EOS, max_length=50)(model.torch_step, START, model.torch_state(4))
    assert out.steps == 2
    assert out.tokens.tolist() == [[[EOS]]] * 4


def test_a_refused_capture_is_quiet_unless_it_must_be(device: Device) -> None:
    device.refuses = True
    model = HashModel(9, seed=1)
    search = BeamSearch(3, eos=EOS, max_length=6)
    out = search(model.torch_step, START, model.torch_state(4))
    assert (device.captures, device.replays) == (1, 0)
    assert out.lengths.min() > 0
    search = BeamSearch(3, eos=EOS, max_length=6, cuda_graph=True)
    with pytest.raises(RuntimeError, match="BeamSearch: cuda_graph: a step could not be captured"):
        search(model.torch_step, START, model.torch_state(4))


def growing(ids: Any, state: Any, t: Any) -> Any:
    seen = torch.cat((state["seen"], ids[:, None]), 1)
    return torch.zeros(len(ids), 9), {"seen": seen}


def counting(ids: Any, state: Any, t: Any) -> Any:
    return torch.zeros(len(ids), 9), {"t": state["t"] + 1}


@pytest.mark.parametrize(
    ("step", "state", "call", "message"),
    [
        (growing, {"seen": torch.zeros(4, 0, dtype=torch.int64)}, {}, "shapes must be the same"),
        (counting, {"t": 0}, {}, "made of tensors, None and what is shared"),
        (
            lambda ids, state, t: (torch.zeros(len(ids), 9), state),
            None,
            {"allowed": lambda t, rows: None},
            "allowed is called by Python at every step",
        ),
    ],
)
def test_what_cannot_be_captured(
    device: Device, step: Any, state: Any, call: dict[str, Any], message: str
) -> None:
    out = BeamSearch(3, eos=EOS, max_length=5)(step, START, state, **call)
    assert device.replays == 0
    assert out.steps == 5
    with pytest.raises(RuntimeError, match=f"BeamSearch: cuda_graph: .*{message}"):
        BeamSearch(3, eos=EOS, max_length=5, cuda_graph=True)(step, START, state, **call)


def test_the_graph_reads_and_writes_the_same_memory(device: Device) -> None:
    places: list[tuple[int, ...]] = []
    model = HashModel(9, seed=2)
    model.table[:, EOS] -= 9
    memory = torch.randn(4, 9)

    def step(ids: Any, state: Any, t: Any) -> Any:
        code = model.code(state["code"], ids)
        places.append((ids.data_ptr(), state["code"].data_ptr(), state["memory"].data_ptr()))
        if len(places) > 2:
            assert isinstance(t, torch.Tensor)
            assert int(t) == len(places) - 1
        logits = model.tensor[code] + state["memory"].repeat_interleave(3, 0)
        return logits, {**state, "code": code}

    state = {"code": torch.zeros(4, dtype=torch.int64), "memory": shared(memory)}
    BeamSearch(3, eos=EOS, max_length=8)(step, START, state)
    assert len(places) == 8
    assert len(set(places[2:])) == 1
    assert state["code"].tolist() == [0, 0, 0, 0]


def test_a_late_status_is_raised(device: Device) -> None:
    with pytest.raises(ValueError, match="must not hold NaN or \\+inf, got one in row 4"):
        _loop.raise_status(4)
    _loop.raise_status(-1)

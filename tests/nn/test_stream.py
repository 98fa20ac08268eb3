"""A sequence in pieces has the bits of one call, and costs no memory."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import seqfast.nn
from seqfast import _C

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {"num_layers": 2}),
    "gru": ("GRU", {"num_layers": 2, "batch_first": True}),
    "rnn": ("RNN", {"nonlinearity": "relu"}),
    "projection": ("LSTM", {"proj_size": 5}),
    "peephole": ("LSTM", {"peephole": True, "cell_clip": 0.5, "zoneout": (0.1, 0.2)}),
    "coupled": ("LSTM", {"coupled_gates": True, "bias": False}),
    "before": ("GRU", {"reset_after": False}),
    "update gate": ("GRU", {"reset_gate": False}),
    "Jordan": ("RNN", {"feedback": "output", "output_size": 6, "output_nonlinearity": "tanh"}),
    "residual": ("GRU", {"num_layers": 3, "residual": True}),
    "dense": ("LSTM", {"num_layers": 3, "dense": True}),
    "sizes": ("GRU", {"hidden": (19, 7)}),
}


def build(case: str, dtype: torch.dtype = torch.float32) -> Any:
    kind, options = LAYERS[case]
    options = dict(options)
    hidden = options.pop("hidden", 19)
    return getattr(seqfast.nn, kind)(6, hidden, dtype=dtype, **options).eval()


def time_of(layer: Any) -> int:
    return 1 if layer.batch_first else 0


def parts(states: Any) -> list[Tensor]:
    return [states] if isinstance(states, Tensor) else [x for each in states for x in parts(each)]


def in_pieces(stream: Any, x: Tensor, pieces: list[int], axis: int) -> Tensor:
    return torch.cat([stream.step(piece).clone() for piece in x.split(pieces, axis)], axis)


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_bits_of_one_call(case: str, batch: int) -> None:
    layer = build(case)
    pieces = [1, 7, 1, 1, 30, 3]
    shape = [sum(pieces), batch]
    x = torch.randn(*(shape[::-1] if layer.batch_first else shape), 6)
    with torch.no_grad():
        wanted, states = layer(x)
        stream = layer.stream(batch)
        found = in_pieces(stream, x, pieces, time_of(layer))
    assert torch.equal(found, wanted)
    for one, other in zip(parts(stream.state), parts(states), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", ["lstm", "gru", "rnn"])
def test_every_dtype_on_every_instruction_set(case: str, dtype: torch.dtype, cpu_isa: str) -> None:
    layer = build(case, dtype)
    x = torch.randn(40, 40, 6, dtype=dtype)
    with torch.no_grad():
        wanted, _ = layer(x)
        found = in_pieces(layer.stream(40), x, [2, 1, 37], time_of(layer))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads(threads: int, set_threads: Any) -> None:
    layer, x = seqfast.nn.RNN(64, 300), torch.randn(12, 20, 64)
    with torch.no_grad():
        wanted, _ = layer(x)
        stream = layer.stream(20)
        set_threads(threads)
        found = in_pieces(stream, x, [5, 1, 6], 0)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(kind: str) -> None:
    cell = getattr(seqfast.nn, kind)(6, 19)
    x, h = torch.randn(9, 40, 6), torch.randn(40, 19)
    hx = (h, torch.randn(40, 19)) if kind == "LSTMCell" else h
    stream = cell.stream(40, hx)
    with torch.no_grad():
        for piece in x:
            hx = cell(piece, hx)
            y = stream.step(piece)
            assert torch.equal(y, hx[0] if kind == "LSTMCell" else hx)
    for one, other in zip(parts(stream.state), parts(hx), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("case", ["lstm", "gru", "rnn"])
def test_first_states_and_resets(case: str) -> None:
    layer = build(case)
    time = time_of(layer)
    x = torch.randn(8, 40, 6) if time == 0 else torch.randn(40, 8, 6)
    hx = tuple(torch.randn_like(s) for s in parts(layer(x)[1]))
    hx = hx if case == "lstm" else hx[0]
    reset = torch.zeros(x.shape[:2], dtype=torch.bool)
    reset.select(time, 5)[[0, 7]] = True
    with torch.no_grad():
        wanted, _ = layer(x, hx)
        # Resets within a call are another kernel, whose last bits may differ.
        after, _ = layer(x, hx, reset=reset)
        stream = layer.stream(40, hx)
        assert torch.equal(in_pieces(stream, x, [3, 5], time), wanted)
        stream = layer.stream(40, hx)
        found = stream.step(x.narrow(time, 0, 5)).clone()
        stream.reset([0, 7])
        for state in parts(stream.state):
            assert (state[:, [0, 7]] == 0).all()
            assert (state[:, 1] != 0).any()
        found = torch.cat([found, stream.step(x.narrow(time, 5, 3))], time)
        torch.testing.assert_close(found, after)
        stream.reset(torch.tensor([], dtype=torch.int64))
        stream.reset()
        wanted, _ = layer(x)
        assert torch.equal(in_pieces(stream, x, [2, 6], time), wanted)
        # Before the first step, too.
        stream = layer.stream(40, hx)
        stream.reset(torch.arange(40))
        assert torch.equal(in_pieces(stream, x, [8], time), wanted)


def test_weights_are_taken_over_when_asked() -> None:
    layer = seqfast.nn.LSTM(6, 19, peephole=True)
    x = torch.randn(40, 2, 6)
    stream = layer.stream(2)
    with torch.no_grad():
        before, _ = layer(x)
        for weight in layer.parameters():
            weight.data.mul_(0.5)
        assert torch.equal(stream.step(x), before)
        stream.refresh()
        stream.reset()
        assert torch.equal(stream.step(x), layer(x)[0])


def test_weights_that_are_freed() -> None:
    layer = seqfast.nn.GRU(6, 19)
    x = torch.randn(40, 2, 6)
    with torch.no_grad():
        wanted, _ = layer(x)
        stream = layer.stream(2)
        for weight in layer.parameters():
            weight.data = torch.empty(0)
        gc.collect()
        assert torch.equal(stream.step(x), wanted)
        with pytest.raises(ValueError, match=r"GRU.stream: weight_ih must be a matrix"):
            stream.refresh()
        assert stream.step(x).isfinite().all()


class Allocations(TorchDispatchMode):
    """Counts the operators that make memory."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        result = function(*args, **(kwargs or {}))
        views = ("slice", "select", "transpose", "unsqueeze", "alias", "detach", "view")
        if not any(word in str(function) for word in (*views, "out", "copy_")):
            self.names.append(str(function))
        return result


@pytest.mark.parametrize("case", ["lstm", "gru", "rnn", "residual", "dense"])
def test_no_memory_is_allocated_per_step(case: str) -> None:
    layer = build(case)
    axis = time_of(layer)
    long = torch.randn(9, 40, 6) if axis == 0 else torch.randn(40, 9, 6)
    short = long.narrow(axis, 0, 2).clone()
    stream = layer.stream(40)
    first = stream.step(long)
    memory = stream._workspace
    places = {first.data_ptr()}
    with Allocations() as allocations:
        for piece in (short, long, short, short):
            places.add(stream.step(piece).data_ptr())
    assert allocations.names == []
    assert stream._workspace is memory
    assert len(places) == 1


def refused(layer: Any, error: type[Exception], message: str, **more: Any) -> None:
    with pytest.raises(error, match=message):
        layer.stream(**{"batch_size": 2, **more})


def test_what_cannot_be_a_stream() -> None:
    lstm = seqfast.nn.LSTM
    refused(lstm(4, 5, bidirectional=True), ValueError, r"LSTM.stream: bidirectional must be False")
    refused(lstm(4, 5, layer_norm=True), ValueError, "layer_norm must be False")
    refused(lstm(4, 5, 2, highway=True), ValueError, "highway must be False")
    refused(lstm(4, 5, 2, dropout=0.5), ValueError, r"in evaluation .* got training=True")
    refused(lstm(4, 5, zoneout=0.5), ValueError, "in evaluation")
    refused(seqfast.nn.GRUCell(4, 5, zoneout=0.5), ValueError, r"GRUCell.stream: .* evaluation")
    lstm(4, 5, 2, dropout=0.5).eval().stream(2)
    refused(lstm(4, 5), ValueError, "batch_size must be at least 1, got 0", batch_size=0)
    refused(lstm(4, 5), TypeError, r"batch_size must be an integer, got 2\.0", batch_size=2.0)
    refused(lstm(4, 5), TypeError, r"hx must be a pair", hx=torch.zeros(1, 2, 5))
    bad = torch.zeros(1, 3, 5), torch.zeros(1, 3, 5)
    refused(lstm(4, 5), RuntimeError, r"states must be \[2, 5\], got \[3, 5\]", hx=bad)
    refused(lstm(4, 5, device="meta"), ValueError, "weight_ih must be a matrix on the CPU")


def test_what_is_no_piece() -> None:
    stream = seqfast.nn.LSTM(4, 5).stream(2)
    good = torch.zeros(3, 2, 4)
    before = stream.step(good).clone()
    bad: list[tuple[Any, type[Exception], str]] = [
        (good.numpy(), TypeError, "x must be a torch tensor, got ndarray"),
        (good.double(), TypeError, "x must be torch.float32 as the weights are"),
        (good[:, :1], ValueError, r"x must be \[steps, 2, 4\], one step or more, got \[3, 1, 4\]"),
        (good[:0], ValueError, "one step or more"),
        (good[0], ValueError, r"got \[2, 4\]"),
        (good[..., :3], ValueError, r"got \[3, 2, 3\]"),
        (good.to("meta"), ValueError, "on the CPU, got meta"),
        (good.clone().requires_grad_(), ValueError, "must not require gradients"),
    ]
    for x, error, message in bad:
        with pytest.raises(error, match=message):
            stream.step(x)
    with pytest.raises(ValueError, match=r"rows must be from 0 to 1, got \[2\]"):
        stream.reset([2])
    with pytest.raises(ValueError, match="rows must be from 0 to 1"):
        stream.reset([-1])
    with pytest.raises(TypeError, match="rows must be integers"):
        stream.reset([0.5])
    stream.reset()
    assert torch.equal(stream.step(good), before)
    # As it is used, not as it lies in memory.
    x = torch.randn(2, 4, 3)
    one = seqfast.nn.LSTM(4, 5).stream(2)
    first = one.step(x.permute(2, 0, 1)).clone()
    one.reset()
    assert torch.equal(one.step(x.permute(2, 0, 1).contiguous()), first)


def test_another_instruction_set_is_refused() -> None:
    names = seqfast.build_info()["cpu_isas_available"]
    if len(names) < 2:
        pytest.skip("needs two instruction sets")
    stream = seqfast.nn.LSTM(4, 5).stream(2)
    active = seqfast.build_info()["cpu_isa"]
    other = next(name for name in names if name != active)
    stream.step(torch.zeros(3, 2, 4))
    try:
        _C.set_cpu_isa(other)
        with pytest.raises(ValueError, match="must be of the active instruction set"):
            stream.step(torch.zeros(3, 2, 4))
    finally:
        _C.set_cpu_isa(active)
    stream.step(torch.zeros(3, 2, 4))


@pytest.mark.parametrize("layers", [1, 3])
def test_states_of_another_number_of_layers(layers: int) -> None:
    layer = build("lstm")
    states = (torch.zeros(layers, 4, 19), torch.zeros(layers, 4, 19))
    with pytest.raises(RuntimeError, match=f"hx must have states of 2 layers, got {layers}"):
        layer.stream(4, states)

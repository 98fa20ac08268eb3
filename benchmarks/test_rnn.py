"""seqfast's LSTM against torch's: the grid, and the ways of use that torch has no fast path for."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import seqfast.nn
from benchmarks import memory

INPUTS = 3  # taken in turn, so that no call finds its whole input in the cache
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Case:
    """One layer and one shape; `ragged` says how its lengths are given."""

    group: str
    steps: int
    batch: int
    input_size: int
    hidden_size: int
    layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    dtype: torch.dtype = torch.float32
    ragged: str = ""  # "packed": PackedSequence in and out; "lengths": padded in and out

    def __str__(self) -> str:
        return f"{self.group} {self.name} {self.dtype_name}"

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        name = f"{self.steps}x{self.batch}x{self.input_size}x{self.hidden_size}"
        name += f", {self.layers} layers" if self.layers > 1 else ""
        name += ", bidirectional" if self.bidirectional else ""
        name += f", proj_size {self.proj_size}" if self.proj_size else ""
        return name + (f", {self.ragged}" if self.ragged else "")

    def row(self, mode: str, tokens: int) -> dict[str, Any]:
        """The row's names, multiply-adds x 2, and the bytes that must move if all caches were cold.

        Bytes: each operand once; training also writes and reads back activated gates and cells.
        """
        directions = 2 if self.bidirectional else 1
        output_size = self.proj_size or self.hidden_size
        weights = activations = multiply_adds = 0
        for layer in range(self.layers):
            input_size = directions * output_size if layer else self.input_size
            per_direction = 4 * self.hidden_size * (input_size + output_size)
            per_direction += self.hidden_size * self.proj_size
            weights += directions * per_direction
            multiply_adds += directions * per_direction * tokens
            activations += tokens * (input_size + directions * output_size)
        saved = 5 * self.hidden_size * directions * self.layers * tokens
        training = mode == "training"
        elements = 3 * weights + 3 * activations + 2 * saved if training else weights + activations
        return {
            "group": self.group,
            "case": self.name,
            "mode": mode,
            "dtype": self.dtype_name,
            "gflop": 2e-9 * multiply_adds * (3 if training else 1),
            "gbyte": 1e-9 * elements * self.dtype.itemsize,
        }

    def tiny(self) -> Case:
        return replace(
            self,
            steps=min(self.steps, 3),
            batch=min(self.batch, 4),
            input_size=8,
            hidden_size=8,
            proj_size=min(self.proj_size, 4),
        )


GRID = [
    Case("grid", 100, 32, 128, 128),
    Case("grid", 100, 32, 256, 256),
    Case("grid", 100, 64, 512, 512),
    Case("grid", 50, 64, 1024, 1024),
    Case("grid", 100, 1, 256, 256),
    Case("grid", 35, 20, 650, 650, layers=2),
    Case("grid", 1000, 8, 64, 64),
]
OTHERS = [
    Case("ragged", 200, 32, 128, 128, ragged="packed"),
    Case("ragged", 200, 32, 128, 128, ragged="lengths"),
    Case("projected", 200, 32, 128, 128, proj_size=64),
    Case("bidirectional", 100, 32, 256, 256, layers=2, bidirectional=True),
    Case("dtypes", 100, 32, 128, 128, dtype=torch.float64),
    Case("dtypes", 100, 32, 256, 256, dtype=torch.float64),
    Case("dtypes", 100, 32, 256, 256, dtype=torch.bfloat16),
    Case("dtypes", 100, 64, 512, 512, dtype=torch.bfloat16),
]


def ragged_lengths(steps: int, batch: int) -> torch.Tensor:
    """Unsorted lengths of which about 58 % is filled, the longest one full."""
    lengths = (torch.linspace(0.16, 1.0, batch) * steps).round().long().clamp(min=1)
    return lengths[torch.randperm(batch)]


def padded_call(layer: torch.nn.Module, **arguments: Any) -> Callable[[Any], torch.Tensor]:
    return lambda padded: layer(padded, **arguments)[0]


def packed_call(layer: torch.nn.Module) -> Callable[[Any], torch.Tensor]:
    return lambda packed: layer(packed)[0].data


def repacked_call(layer: torch.nn.Module, lengths: torch.Tensor) -> Callable[[Any], torch.Tensor]:
    def call(padded: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(padded, lengths, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0])[0]

    return call


def forward(call: Callable[[Any], torch.Tensor], inputs: list[Any]) -> Callable[[int], Any]:
    return lambda pair: call(inputs[pair % len(inputs)])


def training(
    layer: torch.nn.Module,
    call: Callable[[Any], torch.Tensor],
    inputs: list[Any],
    gradient: torch.Tensor,
) -> Callable[[int], Any]:
    def step(pair: int) -> torch.Tensor:
        input = inputs[pair % len(inputs)]
        leaf = input.data if isinstance(input, PackedSequence) else input
        leaf.grad = None
        layer.zero_grad()
        output = call(input)
        output.backward(gradient)
        return output

    return step


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("case", GRID + OTHERS, ids=str)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_lstm(case: Case, mode: str, compare: Callable[..., None], smoke: bool) -> None:
    case = case.tiny() if smoke else case
    torch.manual_seed(0)
    layers = [
        lstm(
            case.input_size,
            case.hidden_size,
            case.layers,
            bidirectional=case.bidirectional,
            proj_size=case.proj_size,
            dtype=case.dtype,
        )
        for lstm in (seqfast.nn.LSTM, torch.nn.LSTM)
    ]
    layers[0].load_state_dict(layers[1].state_dict())
    shape = case.steps, case.batch, case.input_size
    inputs: list[Any] = [torch.randn(shape, dtype=case.dtype) for _ in range(INPUTS)]
    calls = [padded_call(layer) for layer in layers]
    tokens = case.steps * case.batch
    if case.ragged:
        lengths = ragged_lengths(case.steps, case.batch)
        tokens = int(lengths.sum())
        calls = [padded_call(layers[0], lengths=lengths), repacked_call(layers[1], lengths)]
    if case.ragged == "packed":
        packed = [pack_padded_sequence(x, lengths, enforce_sorted=False) for x in inputs]
        inputs = [PackedSequence(p.data.requires_grad_(mode == "training"), *p[1:]) for p in packed]
        calls = [packed_call(layer) for layer in layers]
    elif mode == "training":
        inputs = [x.requires_grad_() for x in inputs]

    with torch.set_grad_enabled(mode == "training"):
        runs = [forward(call, inputs) for call in calls]
        ours, theirs = (run(0) for run in runs)
        tolerance = TOLERANCE[case.dtype]
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        if mode == "training":
            gradient = torch.randn_like(theirs)
            runs = [
                training(layer, call, inputs, gradient)
                for layer, call in zip(layers, calls, strict=True)
            ]
        compare(case.row(mode, tokens), *runs)


@pytest.mark.parametrize("cell", [False, True], ids=["LSTM", "LSTMCell"])
def test_single_step(cell: bool, compare: Callable[..., None], smoke: bool) -> None:
    """Decoding: one row, one step, the state carried from call to call."""
    case = Case("one step", 1, 1, 256, 256)
    case = case.tiny() if smoke else case
    torch.manual_seed(0)

    def stepper(layer: torch.nn.Module) -> Callable[[int], Any]:
        shape = (case.batch, case.input_size) if cell else (1, case.batch, case.input_size)
        inputs = [torch.randn(shape) for _ in range(INPUTS)]
        state = None

        def step(pair: int) -> None:
            nonlocal state
            if cell:
                state = layer(inputs[pair % INPUTS], state)
            else:
                _, state = layer(inputs[pair % INPUTS], state)

        return step

    name = "LSTMCell" if cell else "LSTM"
    layers = [getattr(m, name)(case.input_size, case.hidden_size) for m in (seqfast.nn, torch.nn)]
    with torch.no_grad():
        row = case.row("forward", tokens=1)
        compare(row | {"case": f"{name} {row['case']}"}, *map(stepper, layers))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_peak_memory(record: Callable[[dict[str, Any]], None], threads: int, smoke: bool) -> None:
    """Training in a process of each one's own: the high-water mark less what stood before."""
    sizes = (100, 32, 64, 64) if smoke else (1000, 32, 256, 256)
    repetitions = range(1 if smoke else 3)
    ours, theirs = (
        statistics.median(memory.measure(name, threads, *sizes) for _ in repetitions)
        for name in ("seqfast.nn.LSTM", "torch.nn.LSTM")
    )
    record(
        {
            "group": "memory",
            "case": "x".join(map(str, sizes)),
            "mode": "training",
            "dtype": "float32",
            "ours_mib": ours,
            "peer_mib": theirs,
            "ratio": theirs / ours,
        }
    )

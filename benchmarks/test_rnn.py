"""seqfast's LSTM against torch's: the grid, and the ways of use that torch has no fast path for."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import seqfast.nn
from benchmarks import memory
from benchmarks.cases import (
    Case,
    build_layer,
    forward,
    packed_call,
    packed_leaves,
    padded_call,
    ragged_lengths,
    repacked_call,
    training,
)

INPUTS = 3  # taken in turn, so that no call finds its whole input in the cache
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 5e-2}


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


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("case", GRID + OTHERS, ids=str)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_lstm(case: Case, mode: str, compare: Callable[..., None], smoke: bool) -> None:
    case = case.tiny() if smoke else case
    torch.manual_seed(0)
    layers = [build_layer(lstm, case) for lstm in (seqfast.nn.LSTM, torch.nn.LSTM)]
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
        inputs = packed_leaves(inputs, lengths, grad=mode == "training")
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

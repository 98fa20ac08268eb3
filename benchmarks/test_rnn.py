"""seqfast's recurrent layers against torch's: the grid, and the ways of use torch is slow at."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import seqfast.nn
from benchmarks import memory
from benchmarks.cases import (
    GATES,
    INPUTS,
    TOLERANCE,
    Case,
    build_layer,
    draw_inputs,
    forward,
    packed_call,
    packed_leaves,
    padded_call,
    ragged_lengths,
    repacked_call,
    training,
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
CASES = [
    replace(case, cell=cell)
    for cell in GATES
    for case in GRID + OTHERS
    if cell == "lstm" or not case.proj_size
]


def named(row: dict[str, Any], case: Case, name: str = "") -> dict[str, Any]:
    """Of which layer the row is; the report has a section for each."""
    return row | {"case": f"{case.layer} {name or row['case']}", "cell": case.layer}


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_layer(case: Case, mode: str, compare: Callable[..., None], smoke: bool) -> None:
    case = case.tiny() if smoke else case
    torch.manual_seed(0)
    layers = [build_layer(module, case) for module in (seqfast.nn, torch.nn)]
    layers[0].load_state_dict(layers[1].state_dict())
    inputs: list[Any] = draw_inputs(case, grad=mode == "training")
    calls = [padded_call(layer) for layer in layers]
    tokens = case.steps * case.batch
    if case.ragged:
        lengths = ragged_lengths(case.steps, case.batch)
        tokens = int(lengths.sum())
        calls = [padded_call(layers[0], lengths=lengths), repacked_call(layers[1], lengths)]
    if case.ragged == "packed":
        inputs = packed_leaves(inputs, lengths, grad=mode == "training")
        calls = [packed_call(layer) for layer in layers]

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
        compare(named(case.row(mode, tokens), case), *runs)


@pytest.mark.parametrize("alone", [False, True], ids=["layer", "cell"])
@pytest.mark.parametrize("cell", GATES)
def test_single_step(cell: str, alone: bool, compare: Callable[..., None], smoke: bool) -> None:
    """Decoding: one row, one step, the state carried from call to call."""
    case = Case("one step", 1, 1, 256, 256, cell=cell)
    case = case.tiny() if smoke else case
    torch.manual_seed(0)
    shape = (case.batch, case.input_size) if alone else (1, case.batch, case.input_size)
    inputs = [torch.randn(shape) for _ in range(INPUTS)]
    name = case.layer + "Cell" * alone
    layers = [getattr(m, name)(case.input_size, case.hidden_size) for m in (seqfast.nn, torch.nn)]
    layers[0].load_state_dict(layers[1].state_dict())

    def stepper(layer: torch.nn.Module) -> Callable[[int], Any]:
        state = None

        def step(index: int) -> Any:
            nonlocal state
            result = layer(inputs[index % INPUTS], state)
            state = result if alone else result[1]
            return state

        return step

    with torch.no_grad():
        runs = [stepper(layer) for layer in layers]
        for index in range(INPUTS):
            torch.testing.assert_close(*(run(index) for run in runs), rtol=1e-4, atol=1e-4)
        row = case.row("forward", tokens=1)
        text = f"{row['case']}, one step" + " of the cell" * alone
        compare(named(row, case, text), *runs)


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
            "case": "LSTM " + "x".join(map(str, sizes)),
            "cell": "LSTM",
            "mode": "training",
            "dtype": "float32",
            "ours_mib": ours,
            "peer_mib": theirs,
            "ratio": theirs / ours,
        }
    )

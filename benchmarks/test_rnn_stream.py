"""Streams, fed a step at a time, against torch called a step at a time, and our own layer so."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import seqfast.nn
from benchmarks.cases import GATES, INPUTS, Case
from benchmarks.test_rnn_steps import build, check, shape_of

# (batch, hidden size), the input as wide.
SHAPES = ((1, 64), (1, 256), (1, 512), (8, 256), (32, 256), (64, 512))
PEERS = {"torch.nn": torch.nn, "our layer": seqfast.nn}
STEPS = 50


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("shape", SHAPES, ids=shape_of)
@pytest.mark.parametrize("cell", GATES)
def test_stream(
    cell: str, shape: tuple[int, int], peer: str, compare: Callable[..., None], smoke: bool
) -> None:
    batch, size = (min(shape[0], 4), 8) if smoke else shape
    torch.manual_seed(0)
    layer, other = [build(module, cell, False, size) for module in (seqfast.nn, PEERS[peer])]
    layer.load_state_dict(other.state_dict())
    inputs = torch.randn(INPUTS, 1, batch, size)
    made: Any = layer
    stream = made.stream(batch)
    state: Any = None

    def step(index: int) -> Tensor:
        nonlocal state
        output: Tensor
        output, state = other(inputs[index % INPUTS], state)
        return output

    def ours(index: int) -> Tensor:
        output: Tensor = stream.step(inputs[index % INPUTS])
        return output

    with torch.no_grad():
        for index in range(5):
            check(ours(index), step(index))
        check_allocations(ours)
        row = Case(peer, 1, batch, size, size, cell=cell).row("forward", batch)
        row |= {"case": f"{cell.upper()}, {shape_of(shape)}", "cell": cell.upper()}
        compare(row, ours, step)


def check_allocations(step: Callable[[int], Tensor]) -> None:
    """AssertionError where steps keep memory of Python's, or get any of torch's allocator."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for index in range(STEPS):
            step(index)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < STEPS * 8, f"{STEPS} steps keep {kept} bytes"
    with torch.profiler.profile(profile_memory=True) as profiler:
        step(0)
    taken = [e.name for e in profiler.events() or () if e.cpu_memory_usage > 0]
    assert not taken, f"a step takes memory in {taken}"

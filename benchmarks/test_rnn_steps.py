"""Single steps: cells and layers without gradients, cells in a loop, a loss on the last step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import seqfast.nn
from benchmarks.cases import GATES, INPUTS, TOLERANCE, Case

# (batch, hidden size), the input as wide.
SHAPES = (
    (1, 64), (1, 256), (8, 128), (8, 256), (8, 512), (32, 128), (32, 256), (32, 512), (64, 128),
    (64, 256), (64, 512),
)  # fmt: skip
LOOP = 100  # steps
LOOPS = ((1, 64), (1, 256), (32, 128))
LAST_STEP = (300, 16, 64, 256)  # steps, batch, input size, hidden size
LAST_STEP_GOAL = 0.91


def build(module: Any, cell: str, single: bool, size: int) -> torch.nn.Module:
    name = cell.upper() + ("Cell" if single else "")
    made: torch.nn.Module = getattr(module, name)(size, size)
    return made


def first_states(cell: str, *shape: int) -> Any:
    hidden = torch.randn(shape)
    return (hidden, torch.randn(shape)) if cell == "lstm" else hidden


def parts(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [x for each in result for x in parts(each)]


def check(ours: Any, peer: Any) -> None:
    tolerance = TOLERANCE[torch.float32]
    for one, other in zip(parts(ours), parts(peer), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def shape_of(shape: tuple[int, int]) -> str:
    return "batch {}, hidden {}".format(*shape)


@pytest.mark.parametrize("shape", SHAPES, ids=shape_of)
@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("group", ["cell", "layer of one step"])
def test_step(
    group: str, cell: str, shape: tuple[int, int], compare: Callable[..., None], smoke: bool
) -> None:
    batch, size = (min(shape[0], 4), 8) if smoke else shape
    torch.manual_seed(0)
    single = group == "cell"
    sides = [build(module, cell, single, size) for module in (seqfast.nn, torch.nn)]
    sides[0].load_state_dict(sides[1].state_dict())
    outer = (batch, size) if single else (1, batch, size)
    inputs, hx = [torch.randn(outer) for _ in range(INPUTS)], first_states(cell, *outer)
    with torch.no_grad():
        check(*[side(inputs[0], hx) for side in sides])
        row = Case(group, 1, batch, size, size, cell=cell).row("forward", batch)
        row |= {"case": f"{cell.upper()}: {group}, {shape_of(shape)}", "cell": cell.upper()}
        compare(row, *[lambda k, side=side: side(inputs[k % INPUTS], hx) for side in sides])


@pytest.mark.parametrize("shape", LOOPS, ids=shape_of)
@pytest.mark.parametrize("cell", GATES)
def test_loop(cell: str, shape: tuple[int, int], compare: Callable[..., None], smoke: bool) -> None:
    batch, size = (min(shape[0], 4), 8) if smoke else shape
    steps = 3 if smoke else LOOP
    torch.manual_seed(0)
    sides = [build(module, cell, True, size) for module in (seqfast.nn, torch.nn)]
    sides[0].load_state_dict(sides[1].state_dict())
    inputs = torch.randn(INPUTS, steps, batch, size)
    first = first_states(cell, batch, size)

    def train(side: Any, index: int) -> list[Tensor | None]:
        side.zero_grad()
        state = first
        outputs = []
        for input in inputs[index % INPUTS]:
            state = side(input, state)
            outputs.append(state[0] if cell == "lstm" else state)
        torch.stack(outputs).sum().backward()
        return [parameter.grad for parameter in side.parameters()]

    for one, other in zip(*[train(side, 0) for side in sides], strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))
    row = Case("cell in a loop", steps, batch, size, size, cell=cell)
    named = row.row("training", steps * batch)
    named |= {"case": f"{cell.upper()}: cell, {steps} steps, {shape_of(shape)}"}
    compare(named, *[lambda k, side=side: train(side, k) for side in sides])


@pytest.mark.parametrize("cell", GATES)
def test_last_step(cell: str, compare: Callable[..., None], smoke: bool) -> None:
    """A gradient that decays into subnormal numbers costs what others cost."""
    steps, batch, input_size, size = (3, 2, 4, 8) if smoke else LAST_STEP
    torch.manual_seed(0)
    layer: Any = getattr(seqfast.nn, cell.upper())(input_size, size)
    inputs = torch.randn(INPUTS, steps, batch, input_size)
    everything = torch.randn(steps, batch, size)
    last = torch.zeros_like(everything)
    last[-1] = everything[-1]

    def train(gradient: Tensor, index: int) -> None:
        layer.zero_grad()
        layer(inputs[index % INPUTS])[0].backward(gradient)

    name = "loss on the last step"
    row = Case(name, steps, batch, input_size, size, cell=cell).row("training", steps * batch)
    row |= {"case": f"{cell.upper()}: {name}, {row['case']}", "goal": LAST_STEP_GOAL}
    compare(row, lambda k: train(last, k), lambda k: train(everything, k))

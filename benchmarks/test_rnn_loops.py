"""seqfast's variants of the LSTM against the usual way to them: a Python loop over the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

import seqfast.nn
from benchmarks import loops
from benchmarks.cases import (
    TOLERANCE,
    VARIED,
    Case,
    build_layer,
    draw_inputs,
    forward,
    padded_call,
    shape_name,
    training,
)

CHECKED = 10  # steps
# Small ones too: there a loop's cost is Python's and the dispatcher's, not the products'.
SHAPES = (*VARIED, (1000, 8, 64), (100, 1, 256))


class Variant(NamedTuple):
    """`options` of seqfast.nn.LSTM, and the loop that computes the same with `arguments`."""

    name: str
    options: dict[str, Any]
    loop: Callable[..., loops.Loop]
    arguments: tuple[float, ...] = ()


VARIANTS = [
    Variant("peephole", {"peephole": True}, loops.Peephole),
    Variant("zoneout", {"zoneout": (0.1, 0.1)}, loops.Zoneout, (0.1, 0.1)),
    Variant("dropout on hidden", {"recurrent_dropout": 0.25}, loops.HiddenDropout, (0.25,)),
    Variant(
        "dropout on update",
        {"recurrent_dropout": 0.25, "recurrent_dropout_on": "update"},
        loops.UpdateDropout,
        (0.25,),
    ),
    Variant("layer_norm", {"layer_norm": True}, loops.LayerNorm),
]


def results(layer: torch.nn.Module, input: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of the input and of all parameters."""
    leaf = input.detach().requires_grad_()
    output = layer(leaf)[0]
    gradient = torch.linspace(-1, 1, output.numel()).view_as(output)
    return [output, *torch.autograd.grad(output, [leaf, *layer.parameters()], gradient)]


def check(ours: torch.nn.Module, loop: torch.nn.Module, input: torch.Tensor) -> None:
    """Equal where nothing is drawn, in evaluation; in training each draws masks of its own."""
    for drawn in (False, True):
        sides = [results(layer.train(drawn), input) for layer in (ours, loop)]
        for one, other in zip(*sides, strict=True):
            assert one.shape == other.shape
            assert torch.isfinite(one).all()
            if not drawn:
                tolerance = TOLERANCE[input.dtype]
                atol = tolerance * max(1.0, other.abs().max().item())
                torch.testing.assert_close(one, other, rtol=tolerance, atol=atol)


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("shape", SHAPES, ids=shape_name)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_loop(
    variant: Variant,
    shape: tuple[int, int, int],
    mode: str,
    compare: Callable[..., None],
    smoke: bool,
) -> None:
    steps, batch, hidden_size = shape
    case = Case("loop", steps, batch, hidden_size, hidden_size)
    case = case.tiny() if smoke else case
    torch.manual_seed(0)
    ours = build_layer(seqfast.nn, case, **variant.options)
    loop = variant.loop(ours, *variant.arguments)
    inputs = draw_inputs(case, grad=mode == "training")
    check(ours, loop, inputs[0][:CHECKED])

    calls = [padded_call(layer) for layer in (ours, loop)]
    with torch.set_grad_enabled(mode == "training"):
        runs = [forward(call, inputs) for call in calls]
        if mode == "training":
            gradient = torch.randn(case.steps, case.batch, case.hidden_size)
            runs = [
                training(layer, call, inputs, gradient)
                for layer, call in zip((ours, loop), calls, strict=True)
            ]
        row = case.row(mode, case.steps * case.batch)
        name = f"LSTM {variant.name}"
        compare(row | {"case": f"{name} {row['case']}", "variant": name}, *runs)

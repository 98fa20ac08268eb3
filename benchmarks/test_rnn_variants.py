"""What a variant of a cell costs: seqfast's layer with an option against its own plain layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import seqfast.nn
from benchmarks.cases import (
    VARIED,
    Case,
    build_layer,
    draw_inputs,
    forward,
    padded_call,
    shape_name,
    training,
)

# The time that a variant may take, of the plain layer's.
CHEAP = {"forward": 1.15, "training": 1.25}
DEAR = {"forward": 1.5, "training": 1.6}
RESETS = 0.02  # of all places


@dataclass(frozen=True)
class Variant:
    cell: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    resets: bool = False
    most: dict[str, float] = field(default_factory=lambda: CHEAP)
    gates: int = 0  # 0: as many as the plain cell has

    def __str__(self) -> str:
        return f"{self.cell.upper()} {self.name}"


@dataclass(frozen=True)
class VariedCase(Case):
    varied_gates: int = 0

    @property
    def gates(self) -> int:
        return self.varied_gates or super().gates


ON_UPDATE = {"recurrent_dropout": 0.25, "recurrent_dropout_on": "update"}
VARIANTS = [
    Variant("lstm", "peephole", {"peephole": True}),
    Variant("lstm", "gate_clip", {"gate_clip": 1.0}),
    Variant("lstm", "cell_clip", {"cell_clip": 0.3}),
    Variant("lstm", "coupled_gates", {"coupled_gates": True}, gates=3),
    Variant("lstm", "zoneout", {"zoneout": (0.1, 0.1)}),
    Variant("lstm", "dropout on hidden", {"recurrent_dropout": 0.25}),
    Variant("lstm", "dropout on update", ON_UPDATE),
    Variant("lstm", "reset", resets=True),
    Variant("lstm", "layer_norm", {"layer_norm": True}, most=DEAR),
    Variant("gru", "zoneout", {"zoneout": 0.1}),
    Variant("gru", "dropout on hidden", {"recurrent_dropout": 0.25}),
    Variant("gru", "dropout on update", ON_UPDATE),
    Variant("gru", "reset", resets=True),
    Variant("gru", "reset_after=False", {"reset_after": False}, most=DEAR),
    Variant("gru", "reset_gate=False", {"reset_gate": False}, gates=2),
    Variant("gru", "layer_norm", {"layer_norm": True}, most=DEAR),
    Variant("rnn", "zoneout", {"zoneout": 0.1}),
    Variant("rnn", "dropout on hidden", {"recurrent_dropout": 0.25}),
    Variant("rnn", "reset", resets=True),
    Variant("rnn", "layer_norm", {"layer_norm": True}, most=DEAR),
]


def share_weights(layer: torch.nn.Module, plain: torch.nn.Module) -> None:
    """`layer` gets what `plain` has, unless the number of gates is another."""
    weights = plain.state_dict()
    if layer.state_dict()["weight_hh_l0"].shape == weights["weight_hh_l0"].shape:
        layer.load_state_dict(weights, strict=False)


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("shape", VARIED, ids=shape_name)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_variant(
    variant: Variant,
    shape: tuple[int, int, int],
    mode: str,
    compare: Callable[..., None],
    smoke: bool,
) -> None:
    """Both sides are in training, so that masks are drawn in the forward pass too."""
    steps, batch, hidden_size = shape
    case: Case = VariedCase(
        "variant",
        steps,
        batch,
        hidden_size,
        hidden_size,
        cell=variant.cell,
        varied_gates=variant.gates,
    )
    case = case.tiny() if smoke else case
    torch.manual_seed(0)
    plain = build_layer(seqfast.nn, case)
    varied = build_layer(seqfast.nn, case, **variant.options)
    share_weights(varied, plain)
    inputs = draw_inputs(case, grad=mode == "training")
    calls = [padded_call(varied), padded_call(plain)]
    if variant.resets:
        reset = torch.rand(case.steps, case.batch) < RESETS
        reset[-1, 0] = True
        calls[0] = padded_call(varied, reset=reset)

    with torch.set_grad_enabled(mode == "training"):
        runs = [forward(call, inputs) for call in calls]
        ours, theirs = (run(0) for run in runs)
        assert ours.shape == theirs.shape
        assert torch.isfinite(ours).all()
        assert not torch.equal(ours, theirs), f"{variant} does what the plain cell does"
        if mode == "training":
            gradient = torch.randn_like(theirs)
            runs = [
                training(layer, call, inputs, gradient)
                for layer, call in zip((varied, plain), calls, strict=True)
            ]
        row = case.row(mode, case.steps * case.batch)
        name = str(variant)
        facts = {"case": f"{name} {row['case']}", "variant": name, "most": variant.most[mode]}
        compare(row | facts, *runs)

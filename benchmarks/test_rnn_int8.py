"""Layers in 8 bits: against our own float32, and against torch's dynamic quantisation of LSTM."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import seqfast.nn
from benchmarks.cases import INPUTS, Case, shape_name
from benchmarks.char_lm import (
    Trainer,
    alphabet,
    bits_per_character,
    parse_args,
    read_text,
    side_by_side,
)
from benchmarks.test_rnn_steps import build, first_states

OURS, TORCH = "our float32", "torch.ao in 8 bits"
GOALS = {OURS: 2.0, TORCH: 1.5}
PAIRS = (("lstm", OURS), ("gru", OURS), ("lstm", TORCH))
SIZES = (512, 1024)
BATCHES = (1, 2, 4)
STEPS = (1, 100)
PERPLEXITY = 1.005  # of float32's
TRAINING = 600  # steps
ERROR = 0.05  # of outputs in (-1, 1); rounding to 8 bits gives about 0.01


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("cell", "peer"), PAIRS)
def test_int8(
    cell: str,
    peer: str,
    steps: int,
    size: int,
    batch: int,
    compare: Callable[..., None],
    smoke: bool,
) -> None:
    if smoke:
        steps, size = min(steps, 3), 8
    torch.manual_seed(0)
    plain: Any = build(seqfast.nn, cell, False, size).eval()
    ours, other = seqfast.quantize(plain), plain
    if peer == TORCH:
        other = build(nn, cell, False, size).eval()
        other.load_state_dict(plain.state_dict())
        other = dynamic(other)
    inputs = torch.randn(INPUTS, steps, batch, size)
    hx = first_states(cell, 1, batch, size)
    with torch.no_grad():
        expected = plain(inputs[0], hx)[0]
        for side in (ours, other):
            assert float((side(inputs[0], hx)[0] - expected).abs().max()) < ERROR
        row = Case(peer, steps, batch, size, size, cell=cell).row("forward", steps * batch)
        del row["gflop"]  # of another type than the peak
        name = "one step, " if steps == 1 else ""
        row |= {
            "case": f"{cell.upper()} {name}{shape_name((steps, batch, size, size))}",
            "cell": cell.upper(),
            "goal": GOALS[peer],
        }
        compare(row, *[lambda k, side=side: side(inputs[k % INPUTS], hx) for side in (ours, other)])


def test_perplexity(record: Callable[[dict[str, Any]], None], threads: int, smoke: bool) -> None:
    args = parse_args(["--hidden", "8" if smoke else "256"])
    text, held_out = read_text(None)
    if smoke:
        text, held_out = text[:20_000], held_out[:5_000]
    index = {character: i for i, character in enumerate(alphabet(text, args.min_count))}
    data, valid = (
        side_by_side(torch.tensor([index.get(c, 0) for c in part]), args.batch)
        for part in (text, held_out)
    )
    trainer = Trainer(seqfast.nn.LSTM, data, len(index), args)
    for _ in range(2 if smoke else TRAINING):
        trainer.step()
    model = trainer.model.eval()
    sides = seqfast.quantize(model), model
    ours, peer = [2 ** bits_per_character(side, valid, args.bptt) for side in sides]
    row = {
        "group": "perplexity",
        "case": f"LSTM, 2 layers of {args.hidden}",
        "mode": "perplexity",
        "dtype": "float32",
        "ours_perplexity": ours,
        "peer_perplexity": peer,
        "ratio": peer / ours,
        "most": PERPLEXITY,
    }
    record(row)


def dynamic(layer: Any) -> Any:
    """torch's own: weights of 8 bits, rows quantised at each call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        holder = nn.Sequential(layer)
        made: Any = torch.ao.quantization.quantize_dynamic(holder, {type(layer)}, torch.qint8)[0]
    return made

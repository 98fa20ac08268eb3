"""A whole beam search over an attention decoder against the same search as a loop in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import seqfast.nn
from benchmarks.beam_loops import TorchBeamDecoder
from seqfast.decoding import BeamSearch

START, EOS = 1, 2
BEAMS, MAX_LENGTH, MEMORY_STEPS = 5, 50, 30


class Case(NamedTuple):
    batch: int
    hidden_size: int
    vocabulary: int
    kind: str = "general"

    def __str__(self) -> str:
        return f"B{self.batch} K{BEAMS} V{self.vocabulary} H{self.hidden_size} {self.kind}"


GOAL = Case(32, 512, 10000)
CASES = (GOAL, Case(32, 512, 10000, "dot"), Case(8, 512, 10000), Case(1, 512, 10000))
CASES += (Case(32, 256, 10000), Case(32, 256, 4000), Case(1, 256, 4000))


def build(case: Case) -> tuple[seqfast.nn.AttentionDecoder, Tensor, Tensor]:
    """A decoder whose searches have something to decide, and a memory.

    Weights are drawn, but the head's are large enough for candidates to differ, and the EOS is
    likely enough for lengths to go from a few tokens to the most there may be.
    """
    torch.manual_seed(0)
    size = case.hidden_size
    decoder = seqfast.nn.AttentionDecoder(
        nn.Embedding(case.vocabulary, size),
        seqfast.nn.LSTM(2 * size, size, 2),
        seqfast.nn.Attention(case.kind, size, size),
        nn.Linear(size, case.vocabulary),
    ).eval()
    with torch.no_grad():
        decoder.head.weight.mul_(12)
        decoder.head.bias.zero_()
        decoder.head.bias[EOS] = 6
        decoder.combine.weight.mul_(3)
        for name, parameter in decoder.rnn.named_parameters():
            if "weight" in name:
                parameter.mul_(2)
    memory = torch.randn(case.batch, MEMORY_STEPS, size)
    lengths = torch.randint(MEMORY_STEPS // 2, MEMORY_STEPS + 1, (case.batch,))
    return decoder, memory, lengths


def check(out: Any, found: tuple[Tensor, Tensor, Tensor]) -> None:
    """The same hypotheses; two may only differ where they are as good."""
    tokens, lengths, scores = found
    torch.testing.assert_close(out.scores[:, 0], scores, rtol=1e-3, atol=1e-3)
    same = 0
    for ours, length, theirs, theirs_length in zip(
        out.tokens[:, 0], out.lengths[:, 0], tokens, lengths, strict=True
    ):
        same += length == theirs_length and torch.equal(ours[:length], theirs[:length])
    assert same >= 0.95 * len(scores), f"{same} of {len(scores)} are the same"


@pytest.mark.parametrize("drops", [True, False], ids=["drops", "masks"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_beam_decoder(case: Case, drops: bool, compare: Callable[..., None], smoke: bool) -> None:
    if not drops and case != GOAL:
        pytest.skip("finished sentences stay in the batch in one case only")
    if smoke:
        case = case._replace(hidden_size=16, vocabulary=50, batch=min(case.batch, 3))
    decoder, memory, lengths = build(case)
    assert decoder.fuses()
    search = BeamSearch(BEAMS, EOS, MAX_LENGTH, stop="first_k")
    peer = TorchBeamDecoder(decoder, drops)
    arguments = (START, EOS, BEAMS, MAX_LENGTH)

    def ours(index: int) -> Any:
        return decoder.beam(memory, lengths, start=START, search=search)

    def theirs(index: int) -> Any:
        return peer.search(memory, lengths, *arguments)

    out = ours(0)
    check(out, theirs(0))
    row = {
        "group": "search",
        "case": f"{case}{'' if drops else ', peer masks'}",
        "mode": "search",
        "dtype": "float32",
        "goal": 3.0 if case == GOAL else None,
        "steps": out.steps,
        "mean_length": out.lengths.float().mean().item(),
    }
    compare(row, ours, theirs)

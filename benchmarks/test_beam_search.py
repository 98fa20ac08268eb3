"""A step of beam search against torch's two formulations, and against one plain read of the logits.

All sides go through the same logits in turn, more of them than the caches hold. Both formulations
return what a loop needs of a step: scores, parents and tokens of twice as many candidates as there
are beams, so that EOS can be told apart. Ours does that as well, and keeps records and pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from benchmarks.gpu_beam_search import by_log_softmax
from seqfast.ops import beam_search as ops

GOAL = 4.0  # times as fast as the faster formulation, at the least; 6 on average
MOST_READS = 2.0  # times as long as a plain read, where that takes its time
LOGITS_BYTES = 128 << 20
STEPS = 32  # of a search, then it begins again: sums of many log-probabilities are all alike
UNLIKELY = -30.0


class Size(NamedTuple):
    batch: int
    beams: int
    vocabulary: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.beams}x{self.vocabulary}"

    @property
    def bytes(self) -> int:
        return 4 * self.batch * self.beams * self.vocabulary


SIZES = (
    Size(1, 4, 32000), Size(8, 5, 32000), Size(32, 4, 50257), Size(64, 8, 10000),
    Size(4, 100, 10000),
)  # fmt: skip
TOY = Size(2, 3, 40)


def by_row(logits: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    """The largest of each row, one more than beams as one may be EOS; then those of a sentence."""
    batch, beams = scores.shape
    values, tokens = logits.topk(beams + 1, dim=1)
    totals = values - torch.logsumexp(logits, 1, keepdim=True)
    totals = totals.view(batch, beams, -1) + scores[..., None]
    best, flat = totals.view(batch, -1).topk(2 * beams)
    return best, flat // (beams + 1), tokens.view(batch, -1).gather(1, flat)


PEERS = {"log_softmax, topk": by_log_softmax, "topk of rows": by_row}


class Searches:
    """Steps of one search, over several logits in turn."""

    def __init__(self, size: Size, copies: int) -> None:
        shape = size.batch * size.beams, size.vocabulary
        self.logits = [3 * torch.randn(shape) for _ in range(copies)]
        for logits in self.logits:
            logits[:, 0] = UNLIKELY  # EOS, so that all beams live on
        options = ops.BeamOptions(beams=size.beams, vocabulary=size.vocabulary, eos=(0,))
        # One step more than are taken: in the last one all hypotheses end.
        self.beams = ops.start_beams(options, size.batch, STEPS + 1, like=self.logits[0])
        self.scores = torch.empty(size.batch, size.beams).uniform_(-2, -1)
        self.taken = 0

    def ours(self, index: int) -> None:
        if self.taken % STEPS == 0:
            self.beams.step.zero_()
            self.beams.scores.copy_(self.scores)
        self.taken += 1
        ops.beam_step(self.logits[index % len(self.logits)], self.beams)

    def peer(self, function: Callable[[Tensor, Tensor], object]) -> Callable[[int], object]:
        return lambda index: function(self.logits[index % len(self.logits)], self.scores)

    def read(self, index: int) -> object:
        return self.logits[index % len(self.logits)].max()

    def check(self) -> None:
        """The hypotheses that torch finds."""
        beams = self.beams.options.beams
        for peer in PEERS.values():
            best, parents, tokens = (x[:, :beams] for x in peer(self.logits[0], self.scores))
            self.taken = 0
            self.ours(0)
            torch.testing.assert_close(self.beams.scores, best, rtol=0, atol=1e-4)
            first = torch.arange(len(parents))[:, None] * beams
            same = (self.beams.next_tokens == tokens) & (self.beams.next_rows == first + parents)
            assert same.float().mean() > 0.99  # sums that are close may change places


@pytest.mark.parametrize("against", [*PEERS, "plain read"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_step(size: Size, against: str, compare: Callable[..., None], smoke: bool) -> None:
    torch.manual_seed(0)
    size = TOY if smoke else size
    searches = Searches(size, 2 if smoke else max(2, -(-LOGITS_BYTES // size.bytes)))
    searches.check()
    searches.taken = 0
    living = searches.beams.options.beams * size.batch
    row = {"group": against, "case": str(size), "mode": "step", "dtype": "float32"}
    large = size in sorted(SIZES, key=lambda other: other.bytes)[-2:]
    if against in PEERS:
        compare(row | {"goal": GOAL}, searches.ours, searches.peer(PEERS[against]))
    else:
        compare(row | ({"most": MOST_READS} if large else {}), searches.ours, searches.read)
    assert torch.isfinite(searches.beams.scores).sum() == living, "every step had all its rows"

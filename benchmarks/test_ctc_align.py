"""Forced alignment against `torchaudio.functional.forced_align`: one row at a time, one thread.

torchaudio is not among the development packages: its wheels on PyPI want a torch with CUDA. Where
`import torchaudio` works, the rows are measured; else they are skipped. It takes one row a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from seqfast.decoding import ctc_align


@dataclass(frozen=True)
class Case:
    """An utterance, drawn."""

    frames: int
    vocab: int
    tokens: int
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return f"{self.frames} frames, {self.tokens} of {self.vocab} tokens"


CASES = [
    Case(50, 32, 10),
    Case(500, 32, 60),
    Case(1000, 32, 100),
    Case(1500, 32, 400),
    Case(500, 5000, 60),
    Case(1000, 1024, 100),
    Case(3000, 32, 600),
    # In float32 its sums lose the best alignment of so many frames.
    Case(20_000, 32, 1500, "float64"),
]
SMOKE = Case(30, 8, 5)


@pytest.fixture(autouse=True)
def _one_thread(threads: int) -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_against_torchaudio(case: Case, compare: Any, smoke: bool) -> None:
    peer = pytest.importorskip("torchaudio.functional", reason="needs torchaudio")
    if not hasattr(peer, "forced_align"):
        pytest.skip("needs torchaudio.functional.forced_align")
    if smoke:
        case = SMOKE
    torch.manual_seed(case.frames)
    logits = torch.randn(1, case.frames, case.vocab, dtype=getattr(torch, case.dtype)) * 2
    log_probs = logits.log_softmax(-1)
    targets = torch.randint(1, case.vocab, (1, case.tokens))
    assert torch.equal(
        ctc_align(log_probs, targets).paths, peer.forced_align(log_probs, targets)[0]
    )
    row = {
        "group": "ctc_align",
        "case": case.name,
        "mode": "torchaudio",
        "dtype": case.dtype,
        "threads": 1,
        "goal": 3.0,
    }
    compare(
        row,
        lambda _: ctc_align(log_probs, targets),
        lambda _: peer.forced_align(log_probs, targets),
    )

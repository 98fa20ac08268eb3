"""What the CTC kernels are told: csrc/core/ctc.h."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address
from seqfast.ops.base.arrays import Array, ArrayLibrary

MOST_LOG_PROB = 1e-3  # kCtcMost


class CtcInput(NamedTuple):
    """What both decoders read."""

    dtype: int
    batch: int
    frames: int
    vocab: int
    row_stride: int
    frame_stride: int
    log_probs: Address
    lengths: Address
    blank: int


def input_of(xp: ArrayLibrary, log_probs: Array, lengths: Address, blank: int) -> CtcInput:
    """Of checked log-probabilities [batch, frames, vocab]."""
    batch, frames, vocab = log_probs.shape
    row_stride, frame_stride, _ = xp.strides(log_probs)
    dtype = xp.dtype_code(log_probs)
    assert dtype is not None  # the caller has seen to it
    return CtcInput(
        dtype=dtype,
        batch=batch,
        frames=frames,
        vocab=vocab,
        row_stride=row_stride,
        frame_stride=frame_stride,
        log_probs=xp.address(log_probs),
        lengths=lengths,
        blank=blank,
    )


class CtcGreedyArgs(NamedTuple):
    """The best path, but for the workspace."""

    input: CtcInput
    tokens: Address
    counts: Address
    scores: Address
    timesteps: Address
    refused: Address
    threads: int


class CtcAlignArgs(NamedTuple):
    """The best alignment of given tokens, but for the workspace."""

    input: CtcInput
    longest: int
    block: int
    targets: Address
    target_lengths: Address
    paths: Address
    spans: Address
    token_scores: Address
    scores: Address
    refused: Address
    threads: int


class CtcBeamArgs(NamedTuple):
    """Prefix beam search, but for the workspace."""

    input: CtcInput
    beam_size: int
    n_best: int
    top_n: int
    min_log_prob: float
    beam_threshold: float
    frame_begin: int
    frame_end: int
    lm: Address
    source: Address
    added: Address
    tokens: Address
    counts: Address
    scores: Address
    timesteps: Address
    refused: Address
    threads: int
    ranked: Address
    ranks: int

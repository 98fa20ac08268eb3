"""What the beam search kernels are told: csrc/core/beam_search.h."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address


class BeamOptions(NamedTuple):
    """A search as the kernels are told of it; those of `beams.py` say what each field means."""

    beams: int
    groups: int
    vocabulary: int
    eos_pool: int
    stop: int
    pool: int
    wanted: int
    min_length: int
    no_repeat_ngram: int
    temperature: float
    repetition_penalty: float
    diversity: float
    renormalize: bool
    force_eos: bool
    score_prefix: bool
    count_eos: bool
    noise: bool
    eos_count: int
    banned_count: int


class BeamStepArgs(NamedTuple):
    """What stays from step to step, but for the workspace."""

    dtype: int
    options: BeamOptions
    batch: int
    sentences: int
    capacity: int
    threads: int
    eos: Address
    banned: Address
    sentence: Address
    max_lengths: Address
    prefix: Address
    prefix_lengths: Address
    prefix_capacity: int
    divisor: Address
    addend: Address
    bound_divisor: Address
    bound_addend: Address
    certain_divisor: Address
    certain_addend: Address
    seed: Address
    step: Address
    scores: Address
    keys: Address
    history: Address
    history_start: Address
    history_capacity: int
    next_tokens: Address
    next_rows: Address
    tokens: Address
    parents: Address
    logprobs: Address
    pool_scores: Address
    pool_logprobs: Address
    pool_last: Address
    pool_keys: Address
    pool_steps: Address
    pool_parents: Address
    pool_tokens: Address
    pool_counts: Address
    done: Address
    certified: Address
    living: Address
    status: Address


class BeamLogits(NamedTuple):
    """What is new in each step."""

    dtype: int
    logits: Address
    logits_stride: int
    allowed: Address
    allowed_stride: int


class BeamBacktrackArgs(NamedTuple):
    """The walk back."""

    sentences: int
    beams: int
    hypotheses: int
    capacity: int
    length: int
    wide: bool
    tokens: Address
    parents: Address
    logprobs: Address
    last_steps: Address
    last_parents: Address
    last_tokens: Address
    last_logprobs: Address
    pad: int
    out_tokens: Address
    out_parents: Address
    out_logprobs: Address
    threads: int

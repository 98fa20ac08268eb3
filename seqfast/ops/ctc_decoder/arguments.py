"""What the kernels of the CTC decoder are told: csrc/core/ctc_decoder.h."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address
from seqfast.ops.ctc.arguments import CtcInput


class CtcTree(NamedTuple):
    """A tree whose nodes' children lie together."""

    starts: Address = 0
    labels: Address = 0


class CtcNgram(NamedTuple):
    """An n-gram model; `tree.starts` 0: none."""

    tree: CtcTree
    logprobs: Address
    backoffs: Address
    suffixes: Address
    first_longest: int
    start: int
    unknown: int
    end: int


class CtcLanguage(NamedTuple):
    """What a prefix is worth beside its alignments."""

    letter_starts: Address
    letters: Address
    begins: Address
    boundary: int
    words: CtcTree
    word_of: Address
    flags: Address
    lexicon: bool
    ngram: CtcNgram
    token_words: Address
    alpha: float
    beta: float
    unknown_word: float
    unknown_part: float
    part_length: float
    hotwords: CtcTree
    hot_roots: Address
    hot_parts: Address
    hot_words: Address
    best_part: float
    best_word: float


class CtcDecodeArgs(NamedTuple):
    """A search that goes on from call to call, but for the workspace."""

    input: CtcInput
    language: CtcLanguage
    beam_size: int
    n_best: int
    top_n: int
    min_log_prob: float
    beam_threshold: float
    capacity: int
    frame_end: int
    progress: Address
    table: Address
    source: Address
    added: Address
    final: Address
    finish: bool
    places: Address
    counts: Address
    scores: Address
    language_scores: Address
    room: int
    tokens: Address
    firsts: Address
    lasts: Address
    confidences: Address
    memory: Address
    threads: int

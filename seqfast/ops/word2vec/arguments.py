"""What the word2vec kernels are told: csrc/core/word2vec.h."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address


class Word2VecArgs(NamedTuple):
    """A call, but for its workspace."""

    tokens: int
    sentences: int
    vocabulary: int
    ids: Address
    offsets: Address
    size: int
    stride: int
    cbow: bool
    hierarchical: bool
    shared_negatives: bool
    shrink_windows: bool
    cbow_mean: bool
    legacy_cbow: bool
    window: int
    negative: int
    deterministic: bool
    keep: Address
    alias_threshold: Address
    alias: Address
    path_offsets: Address
    path_nodes: Address
    path_codes: Address
    longest_path: int
    locked: Address
    input: Address
    output: Address
    nodes: Address
    seed: int
    epoch: int
    tokens_before: int
    tokens_total: int
    alpha: float
    min_alpha: float
    first_round: int
    last_round: int
    loss: Address
    kept: Address
    examples: Address
    threads: int


class FirstVectorsArgs(NamedTuple):
    """First vectors."""

    rows: int
    size: int
    stride: int
    first_row: int
    seed: int
    vectors: Address
    threads: int

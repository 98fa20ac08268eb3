"""What the GloVe kernels are told: csrc/core/glove.h."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address


class TextIndexArgs(NamedTuple):
    """A text with marks between its sentences, and where each word stands."""

    vocabulary: int
    sentences: int
    ids: Address
    offsets: Address
    text: Address
    places: Address
    starts: Address


class CooccurrenceArgs(NamedTuple):
    """Rows of the matrix of co-occurrences."""

    vocabulary: int
    text: Address
    places: Address
    starts: Address
    window: int
    symmetric: bool
    weights: Address
    runs: int
    run_offsets: Address
    run_columns: Address
    run_sums: Address
    first_row: int
    last_row: int
    sizes: Address
    offsets: Address
    columns: Address
    sums: Address
    values: Address
    threads: int


class GloveScheduleArgs(NamedTuple):
    """Entries by tiles."""

    vocabulary: int
    blocks: int
    offsets: Address
    columns: Address
    values: Address
    seed: int
    tiles: Address
    entries: Address
    threads: int


class GloveArgs(NamedTuple):
    """Training on some strata."""

    vocabulary: int
    blocks: int
    tiles: Address
    entries: Address
    strata: Address
    size: int
    stride: int
    words: Address
    contexts: Address
    word_squares: Address
    context_squares: Address
    locked: Address
    x_max: float
    alpha: float
    learning_rate: float
    clip: float
    rounds: int
    loss: Address
    threads: int

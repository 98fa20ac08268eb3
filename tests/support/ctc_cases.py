"""Alignments by their definition, and a second implementation of their search, in plain Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

Span = tuple[int, int]
Alignment = tuple[tuple[int, ...], list[Span], float]


def log_softmax(x: Any) -> Any:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def spans_of(path: tuple[int, ...], blank: int) -> tuple[list[int], list[Span]]:
    """The tokens of a path, and the first and last frame of each."""
    tokens, spans, frame = [], [], 0
    for token, run in itertools.groupby(path):
        count = len(list(run))
        if token != blank:
            tokens.append(token)
            spans.append((frame, frame + count - 1))
        frame += count
    return tokens, spans


def alignments_of(logp: Any, target: list[int], blank: int = 0) -> Iterator[Alignment]:
    """Every alignment of the tokens: its path, where the tokens are, its log-probability."""
    for path in itertools.product(sorted({blank, *target}), repeat=len(logp)):
        tokens, spans = spans_of(path, blank)
        if tokens == target:
            yield path, spans, float(sum(logp[t, c] for t, c in enumerate(path)))


def by_definition(logp: Any, target: list[int], blank: int = 0) -> Alignment:
    return max(alignments_of(logp, target, blank), key=lambda alignment: alignment[2])

"""The linear-chain conditional random field in NumPy, one sequence at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def score(
    emissions: Floats, tags: NDArray[Any], start: Floats, end: Floats, transitions: Floats
) -> float:
    """Of tags [steps] with emissions [steps, tags]; weights as in `seqfast.nn.CRF`."""
    if len(tags) == 0:
        return 0.0
    total = start[tags[0]] + end[tags[-1]] + emissions[np.arange(len(tags)), tags].sum()
    return float(total + transitions[tags[:-1], tags[1:]].sum())


def log_partition(emissions: Floats, start: Floats, end: Floats, transitions: Floats) -> float:
    """log of the sum of exp(score) over all tag sequences, by the forward algorithm."""
    if len(emissions) == 0:
        return 0.0
    alpha = start + emissions[0]
    for emitted in emissions[1:]:
        alpha = np.logaddexp.reduce(alpha[:, None] + transitions, axis=0) + emitted
    return float(np.logaddexp.reduce(alpha + end))


def decode(
    emissions: Floats, start: Floats, end: Floats, transitions: Floats
) -> tuple[list[int], float]:
    """The best tag sequence and its score (Viterbi 1967); equal scores: the lower tag."""
    if len(emissions) == 0:
        return [], 0.0
    best, back = start + emissions[0], []
    for emitted in emissions[1:]:
        candidates = best[:, None] + transitions
        back.append(candidates.argmax(axis=0))
        best = candidates.max(axis=0) + emitted
    tags = [int((best + end).argmax())]
    for came_from in reversed(back):
        tags.append(int(came_from[tags[-1]]))
    return tags[::-1], float((best + end).max())

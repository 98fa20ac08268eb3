"""What is said of log-probabilities that are none."""

from __future__ import annotations

import math

import numpy as np

from seqfast.ops.base.arrays import Array
from seqfast.ops.ctc.arguments import MOST_LOG_PROB


def no_log_probs(operation: str, log_probs: Array, row: int, frame: int) -> str:
    """What is wrong with a frame that a kernel has refused."""
    values = log_probs[row, frame]
    if not isinstance(values, np.ndarray):
        values = values.detach().double().cpu().numpy()
    values = values.astype(np.float64)
    value = float(values[~(values <= MOST_LOG_PROB)][0])
    place = f"got {value:g} in row {row}, frame {frame}"
    if not value < math.inf:
        return f"{operation}: log_probs must hold numbers below infinity, {place}"
    return (
        f"{operation}: log_probs must be logarithms of probabilities, at most 0, {place}; "
        "of logits pass .log_softmax(-1), of probabilities their logarithm (np.log, torch.log)"
    )

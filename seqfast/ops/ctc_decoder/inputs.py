"""Chunks of log-probabilities: what is refused, and how kernels are told of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import ArrayLibrary, library_of
from seqfast.ops.base.checks import as_integers, check_lengths
from seqfast.ops.ctc.arguments import MOST_LOG_PROB, CtcInput, input_of
from seqfast.ops.ctc.refusals import no_log_probs


@dataclass(frozen=True, eq=False)
class Chunk:
    """Checked frames of a batch."""

    xp: ArrayLibrary
    log_probs: Any  # [batch, frames, vocab]
    lengths: np.ndarray[Any, Any]  # [batch] int64

    @property
    def batch(self) -> int:
        return int(self.log_probs.shape[0])

    @property
    def frames(self) -> int:
        return int(self.log_probs.shape[1])

    def input(self, blank: int) -> CtcInput:
        return input_of(self.xp, self.log_probs, _C.numpy_address(self.lengths), blank)


def chunk_of(operation: str, log_probs: Any, lengths: Any, batch: int | None, vocab: int) -> Chunk:
    xp = library_of(log_probs, operation, "log_probs")
    shape = list(log_probs.shape)
    if xp.dtype_code(log_probs) is None:
        raise TypeError(
            f"{operation}: log_probs must be float32, float64, float16 or bfloat16, "
            f"got {log_probs.dtype}"
        )
    place = xp.place(log_probs)
    if place != "cpu":
        raise ValueError(
            f"{operation}: log_probs must be a dense array on the CPU, got {place}: "
            "pass log_probs.cpu()"
        )
    if len(shape) == 2 and shape[1] == vocab:
        raise ValueError(
            f"{operation}: log_probs must be [batch, frames, vocab], got {shape}: "
            "pass log_probs[None] for one row"
        )
    if len(shape) != 3 or shape[2] != vocab:
        raise ValueError(
            f"{operation}: log_probs must be [batch, frames, {vocab}], as the vocabulary has "
            f"{vocab} tokens, got {shape}"
        )
    if batch is not None and shape[0] != batch:
        raise ValueError(
            f"{operation}: log_probs must have the {batch} rows that it began with, got {shape[0]}"
        )
    counts = _lengths(operation, lengths, shape[0], shape[1])
    if not isinstance(log_probs, np.ndarray):
        log_probs = log_probs.detach()
    log_probs = xp.rows(log_probs)
    _check_values(operation, log_probs, counts)
    return Chunk(xp, log_probs, counts)


def _lengths(operation: str, lengths: Any, batch: int, frames: int) -> np.ndarray[Any, Any]:
    if lengths is None:
        return np.full(batch, frames, np.int64)
    numpy = library_of(np.empty(0), operation, "lengths")
    counts = as_integers(numpy, operation, "lengths", lengths)
    counts = check_lengths(numpy, operation, counts, counts, batch=batch, most=frames)
    return np.array(counts)


def _check_values(operation: str, log_probs: Any, lengths: np.ndarray[Any, Any]) -> None:
    if 0 in log_probs.shape or float(log_probs.max()) <= MOST_LOG_PROB:  # False of NaN
        return
    for row, length in enumerate(lengths.tolist()):
        bad = ~(log_probs[row, :length] <= MOST_LOG_PROB)
        if bool(bad.any()):
            frame = int(np.asarray(bad).any(1).argmax())
            raise ValueError(no_log_probs(operation, log_probs, row, frame))

"""Forced alignment: which frames of an utterance belong to each token of its transcript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqfast.ops import ctc as ops

Array = Any  # a numpy.ndarray or a torch.Tensor


@dataclass(frozen=True, repr=False)
class CtcAlignment:
    """The frames of given tokens; arrays of the library and on the device of the log-probabilities.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]])
        >>> decoding.ctc_align(log_probs, [[1, 2]])
        CtcAlignment(1 rows, 2 tokens, 3 frames; first: -0.803)
    """

    frames: Array  # [batch, longest, 2] int64, a token's first and last frame; -1 behind the last
    scores: Array  # [batch], the log-probability of the alignment
    token_scores: Array  # [batch, longest], a token's mean log-probability over its frames, else 0
    paths: Array  # [batch, frames] int64, the token of each frame; -1 behind the last frame

    def __repr__(self) -> str:
        (rows, tokens, _), frames = self.frames.shape, self.paths.shape[1]
        first = f"; first: {float(self.scores[0]):.4g}" if rows else ""
        return f"CtcAlignment({rows} rows, {tokens} tokens, {frames} frames{first})"

    def lists(self) -> list[list[tuple[int, int, float]]]:
        """For each row a (first frame, last frame, score) for each of its tokens."""
        rows = zip(self.frames.tolist(), self.token_scores.tolist(), strict=True)
        return [
            [(*span, score) for span, score in zip(*row, strict=True) if span[0] >= 0]
            for row in rows
        ]


def ctc_align(
    log_probs: Array,
    targets: Array | Sequence[Sequence[int]],
    lengths: Array | Sequence[int] | None = None,
    target_lengths: Array | Sequence[int] | None = None,
    *,
    blank: int = 0,
) -> CtcAlignment:
    """The most probable alignment of given tokens with the frames: Viterbi (Graves et al. 2006).

    What `torchaudio.functional.forced_align` and `merge_tokens` give, for a batch. NumPy arrays
    (torch is not needed), or torch tensors on the CPU or on a CUDA device. Long recordings may be
    aligned as they are: memory does not grow with frames times tokens, an hour of 20 ms frames
    with 10,000 tokens takes less than 100 MB beside its log-probabilities.

    Args:
        log_probs: [batch, frames, vocab] as `log_softmax` gives them; any strides, so
            `log_probs.transpose(0, 1)` for CTCLoss's layout.
        targets: the tokens of each row: lists, [batch, longest], or [sum(target_lengths)] one row
            after the other. Without blanks.
        lengths: [batch] integers, frames of each row. None: all.
        target_lengths: [batch] integers, tokens of each row. None: all of the list or row.
        blank: the blank's token, 0 as in torch.

    Returns:
        A `CtcAlignment`. Of equal alignments the one that is earlier, from the end on. A row
        whose alignments all have probability 0 has the score -inf and -1 for frames. On a CUDA
        device the host does not wait, and rows that would be refused have NaN and -1.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or value; a row with fewer frames than its tokens, and
            the blanks between equal ones, need; a token that is the blank or none; NaN or a number
            above 1e-3 (of logits or probabilities). With the row.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]])
        >>> decoding.ctc_align(log_probs, [[1, 2]]).frames.tolist()
        [[[0, 1], [2, 2]]]
    """
    if isinstance(targets, (list, tuple)) and target_lengths is None:
        targets, target_lengths = _padded(targets)
    paths, spans, token_scores, scores = ops.ctc_align(
        log_probs, targets, lengths, target_lengths, blank=blank
    )
    return CtcAlignment(spans, scores, token_scores, paths)


def _padded(targets: Sequence[Any]) -> tuple[Array, Sequence[int]]:
    """[batch, longest], 0 behind the last, and the numbers of tokens, of a list for each row."""
    try:
        lengths = [len(row) for row in targets]
        padded = np.zeros((len(targets), max(lengths, default=0)), np.int64)
        for to, row in zip(padded, targets, strict=True):
            to[: len(row)] = _integers(row)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            "ctc_align: targets must be an array or a list of integers for each row, "
            f"got {targets!r:.80}"
        ) from None
    return padded, lengths


def _integers(row: Any) -> Any:
    """Integers, or TypeError: NumPy would cut the fraction off."""
    found = np.asarray(row)
    if found.size and found.dtype.kind not in "iu":
        raise TypeError
    return found

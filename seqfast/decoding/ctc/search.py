"""CTC: from log-probabilities per frame to transcripts, greedily or by prefix beam search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqfast.ops import ctc as ops
from seqfast.ops.ctc import LanguageModel

Array = Any  # a numpy.ndarray or a torch.Tensor


@dataclass(frozen=True, repr=False)
class CtcResult:
    """Transcripts of a batch; arrays of the library and on the device of the log-probabilities.

    The comments beside the fields have the shapes of a beam search; those of `ctc_greedy` have no
    `n_best` axis.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> decoding.ctc_beam_search(log_probs).lists()
        [[[1]]]
    """

    tokens: Array  # [batch, n_best, frames] int64; -1 behind the last
    lengths: Array  # [batch, n_best] int64
    scores: Array  # [batch, n_best], falling; -inf where the search has found fewer
    timesteps: Array  # [batch, n_best, frames] int64, where each token begins; -1 behind the last

    def __repr__(self) -> str:
        rows, *n_best = self.tokens.shape[:-1]
        each = f", {n_best[0]} each" if n_best else ""
        text = f"CtcResult({rows} rows{each}, {self.tokens.shape[-1]} frames"
        if self.scores.shape[0] and all(n_best):
            first = (0,) * (1 + len(n_best))
            n, score = int(self.lengths[first]), float(self.scores[first])
            shown = ", ".join(str(t) for t in self.tokens[first][: min(n, 8)].tolist())
            text += f"; first: [{shown}{', ...' if n > 8 else ''}] {score:.4g}"
        return text + ")"

    def lists(self) -> list[Any]:
        """The tokens without their padding: for each row a list for each transcript found."""
        tokens, lengths, scores = (x.tolist() for x in (self.tokens, self.lengths, self.scores))
        if self.tokens.ndim == 2:
            return [row[:length] for row, length in zip(tokens, lengths, strict=True)]
        return [
            [
                transcript[:length]
                for transcript, length, score in zip(*row, strict=True)
                if score > -float("inf")
            ]
            for row in zip(tokens, lengths, scores, strict=True)
        ]


def ctc_greedy(log_probs: Array, lengths: Array | None = None, *, blank: int = 0) -> CtcResult:
    """The most probable alignment: the best token of each frame, repeats merged, blanks removed.

    NumPy arrays (torch is not needed), or torch tensors on the CPU or on a CUDA device. On a CUDA
    device the host does not wait to look at values: lengths are clamped there, and a row with NaN
    or a number above 1e-3, which is not a log-probability, has no tokens and the score NaN.

    Args:
        log_probs: [batch, frames, vocab] as `log_softmax` gives them: float32, float64, float16 or
            bfloat16. For the layout of `torch.nn.CTCLoss`, [frames, batch, vocab], pass
            `log_probs.transpose(0, 1)`; any strides are accepted.
        lengths: [batch] integers, frames of each row (CTCLoss's `input_lengths`), in an array, a
            list or a tuple. None: all.
        blank: the blank's token, 0 as in torch.

    Returns:
        tokens [batch, frames], lengths [batch], scores [batch], the log-probability of that one
        alignment, and timesteps [batch, frames]. Of equal probabilities the lower token is taken.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or device, a length or blank out of range, and NaN or a number
            above 1e-3 (of logits or probabilities), with row and frame.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> decoding.ctc_greedy(log_probs).lists()
        [[1]]
    """
    return CtcResult(*ops.ctc_greedy(log_probs, lengths, blank=blank))


def ctc_beam_search(
    log_probs: Array,
    lengths: Array | None = None,
    *,
    beam_size: int = 50,
    blank: int = 0,
    n_best: int = 1,
    top_n: int | None = None,
    min_log_prob: float | None = None,
    beam_threshold: float | None = None,
    lm: LanguageModel | None = None,
    lm_weight: float = 1.0,
) -> CtcResult:
    """Prefix beam search: transcripts by the sum over their alignments (Graves 2006, Hannun 2014).

    After each frame the `beam_size` best prefixes are kept; alignments of the same prefix are added
    up. If the beam drops nothing, the score of a transcript is `-F.ctc_loss`. Accepted arrays and
    errors are as for `ctc_greedy`. The result of a row does not depend on its batch or on the
    number of threads. Ties go to the prefix that was already in the beam, then to the one with the
    better parent, then to the more probable token, then to the lower token.

    Args:
        log_probs: [batch, frames, vocab].
        lengths: [batch] integers, frames of each row. None: all.
        beam_size: prefixes kept after each frame.
        blank: the blank's token.
        n_best: transcripts returned for each row.
        top_n: use only this many of the most probable tokens of each frame (flashlight's
            `beam_size_token`). Others, also the blank, have probability 0 in that frame.
        min_log_prob: use only tokens with at least this log-probability, and always the best one
            (pyctcdecode's `token_min_logp`).
        beam_threshold: prefixes more than this below the best one are dropped (flashlight's
            `beam_threshold`, pyctcdecode's `-beam_prune_logp`).
        lm: a language model (shallow fusion). `lm(prefixes [n, longest] int64, lengths [n] int64)`
            returns [n, vocab], the log-probability of each token after each prefix. Prefixes are
            padded with `blank`. It is called once for each prefix that enters the beam, for the
            whole batch at a time; the first call has the empty prefix.
        lm_weight: a prefix is ranked by log P(prefix | frames) + lm_weight * log P_lm(prefix). For
            a bonus per token, let `lm` add a constant.

    Returns:
        The `n_best` best transcripts of each row. `timesteps` say where each token begins in the
        best alignment that the search kept for the transcript.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or value, and invalid log-probabilities, with row and
            frame.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> decoding.ctc_beam_search(log_probs, beam_size=4, n_best=2).lists()
        [[[1], [1, 2]]]
    """
    return CtcResult(
        *ops.ctc_beam_search(
            log_probs,
            lengths,
            beam_size=beam_size,
            blank=blank,
            n_best=n_best,
            top_n=top_n,
            min_log_prob=min_log_prob,
            beam_threshold=beam_threshold,
            lm=lm,
            lm_weight=lm_weight,
        )
    )

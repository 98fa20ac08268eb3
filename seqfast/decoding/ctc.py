"""CTC: from log-probabilities per frame to transcripts, greedily or by prefix beam search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqfast.ops import ctc as ops
from seqfast.ops.ctc import LanguageModel

Array = Any  # a numpy.ndarray or a torch.Tensor


@dataclass(frozen=True)
class CtcResult:
    """Transcripts of a batch; arrays of the library and on the device of the log-probabilities.

    Shapes are of a beam search; greedy results have no `n_best` axis.
    """

    tokens: Array  # [batch, n_best, frames] int64; -1 behind the last
    lengths: Array  # [batch, n_best] int64
    scores: Array  # [batch, n_best], falling; -inf where the search has found fewer
    timesteps: Array  # [batch, n_best, frames] int64, where each token begins; -1 behind the last

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

    `log_probs` [batch, frames, vocab] as `log_softmax` gives them: float32, float64, float16 or
    bfloat16; a NumPy array (torch is not needed), or a torch tensor on the CPU or on a CUDA device.
    What `torch.nn.CTCLoss` takes is [frames, batch, vocab]: give `log_probs.transpose(0, 1)`, which
    copies nothing. `lengths` [batch] integers: frames of each row, all by default (CTCLoss's
    `input_lengths`). `blank`: its token, 0 as in torch.

    Returns a `CtcResult` with tokens [batch, frames], lengths [batch], scores [batch], the
    log-probability of that one alignment, and timesteps [batch, frames]. Equal probabilities: the
    lower token.

    Raises TypeError for a wrong type or dtype; ValueError for a wrong shape or device, for a length
    or blank out of range, and for NaN or +inf, with row and frame. On a CUDA device nobody waits to
    look: lengths are clamped there, and a row with NaN or +inf has no tokens and the score NaN.
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

    `log_probs`, `lengths`, `blank` and what is refused: as for `ctc_greedy`. After each frame the
    `beam_size` best prefixes are kept, alignments of the same prefix added up. A beam that drops
    nothing gives each transcript the score `-F.ctc_loss`. The loss itself is torch's.

    Pruning, none by default: of each frame only the `top_n` most probable tokens count, and only
    those that reach `min_log_prob` (the best one always; flashlight's `beam_size_token`,
    pyctcdecode's `token_min_logp`); a token that does not count, blank or not, has probability 0 in
    that frame. Prefixes more than `beam_threshold` below the best are dropped (flashlight's
    `beam_threshold`, pyctcdecode's `-beam_prune_logp`).

    `lm(prefixes, lengths)` is a language model (shallow fusion): `prefixes` [n, longest] int64,
    filled up with `blank`, and `lengths` [n] int64 are token sequences of any rows of the batch;
    it returns [n, vocab], the log-probability of each token after each of them. It is asked once
    for each prefix that gets into the beam, for the whole batch at a time, beginning with the empty
    one. A prefix is then ranked by log P(prefix | frames) + lm_weight * log P_lm(prefix); a bonus
    for each token is a constant that `lm` adds.

    Returns a `CtcResult` with the `n_best` best transcripts of each row. `timesteps`: where each
    token begins in the best alignment of the transcript that the search has kept, so that they
    belong together. Ties go to the prefix that was in the beam before, then to the better place of
    the extended prefix, then to the more probable and to the lower token. The same result in a
    batch of one and of many, and for any number of threads.
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

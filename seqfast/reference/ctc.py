"""CTC decoding in plain NumPy: what `seqfast.ops.ctc` must return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ctc_beam_search", "ctc_greedy"]

Array = np.ndarray[Any, Any]
Tokens = tuple[int, ...]


def ctc_greedy(
    log_probs: Array, lengths: Array | None = None, *, blank: int = 0
) -> tuple[Array, Array, Array, Array]:
    """The most probable token of each frame, repeats merged and blanks removed.

    `log_probs` [batch, frames, vocab] floating; `lengths` [batch] integers, frames of each row.
    Equal tokens: the lower one. Returns (tokens [batch, frames] int64, -1 behind the last; lengths
    [batch] int64; scores [batch], the log-probability of that alignment; timesteps [batch, frames]
    int64, the frame where each token begins, -1 behind the last). NaN or +inf: ValueError.

    Arguments and results are those of
    `seqfast.ops.ctc.functions.ctc_greedy`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import ctc
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> ctc.ctc_greedy(log_probs)[0]
        array([[ 1, -1, -1]])
    """
    batch, frames, _ = log_probs.shape
    tokens, timesteps = np.full((2, batch, frames), -1)
    counts = np.zeros(batch, np.int64)
    scores = np.zeros(batch)
    for row in range(batch):
        logp = _frames_of("ctc_greedy", log_probs, lengths, row)
        previous = blank
        for frame, token in enumerate(logp.argmax(1)):
            scores[row] += logp[frame, token]
            if token not in (blank, previous):
                tokens[row, counts[row]] = token
                timesteps[row, counts[row]] = frame
                counts[row] += 1
            previous = token
    return tokens, counts, scores.astype(_score_dtype(log_probs)), timesteps


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
    lm: Callable[[Array, Array], Array] | None = None,
    lm_weight: float = 1.0,
) -> tuple[Array, Array, Array, Array]:
    """Prefix beam search: the `n_best` most probable transcripts that a beam of prefixes finds.

    `log_probs` [batch, frames, vocab] floating; `lengths` [batch] integers, frames of each row. Of
    a frame count the `top_n` most probable tokens (equal ones: the lower first), of these the ones
    that reach `min_log_prob`, and always the first; the others, blank like any, have probability 0
    there. After each frame the `beam_size` best prefixes stay, of these the ones within
    `beam_threshold` of the best, none of probability 0. Equal prefixes: old ones first in their
    order, then new ones by the place of the one they extend and the place of their token.

    `lm(prefixes [n, longest] int64, lengths [n] int64)` returns [n, vocab], the log-probability of
    each token after each prefix; behind its length a prefix holds `blank`. It is asked for each
    prefix that enters the beam. A prefix is ranked by its log-probability plus `lm_weight` times
    the sum of what the language model gave its tokens.

    Returns (tokens [batch, n_best, frames] int64, -1 behind the last; lengths [batch, n_best]
    int64; scores [batch, n_best], what they are ranked by, -inf where there are fewer; timesteps
    [batch, n_best, frames] int64, -1 behind the last). A timestep is the frame where the token
    begins in the most probable alignment that the search has kept of the transcript (equal ones: a
    blank rather than the token before it, and the earlier beginning). NaN or +inf: ValueError.

    Arguments and results are those of
    `seqfast.ops.ctc.functions.ctc_beam_search`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import ctc
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> ctc.ctc_beam_search(log_probs, beam_size=4)[0]
        array([[[ 1, -1, -1]]])
    """
    batch, frames, _ = log_probs.shape
    tokens, timesteps = np.full((2, batch, n_best, frames), -1)
    counts = np.zeros((batch, n_best), np.int64)
    scores = np.full((batch, n_best), -np.inf)
    for row in range(batch):
        beam = [Prefix()]
        if lm is not None:
            _ask(lm, lm_weight, beam, blank)
        for frame, logp in enumerate(_frames_of("ctc_beam_search", log_probs, lengths, row)):
            ranked = _ranked_tokens(logp, top_n, min_log_prob)
            logp = np.where(np.isin(np.arange(len(logp)), ranked), logp, -np.inf)
            known = {prefix.tokens: prefix for prefix in beam}
            candidates = [_stay(prefix, known, logp, blank, frame) for prefix in beam]
            for prefix in beam:
                for token in ranked:
                    if token != blank and (*prefix.tokens, token) not in known:
                        candidates.append(_extend(prefix, token, logp, frame))
            candidates.sort(key=lambda prefix: -prefix.score)  # stable
            lowest = candidates[0].score - (np.inf if beam_threshold is None else beam_threshold)
            beam = [
                prefix
                for prefix in candidates[:beam_size]
                if prefix.score > -np.inf and not prefix.score < lowest
            ]
            if lm is not None:
                _ask(lm, lm_weight, [prefix for prefix in beam if prefix.next is None], blank)
            if not beam:
                break
        for place, prefix in enumerate(beam[:n_best]):
            counts[row, place] = len(prefix.tokens)
            scores[row, place] = prefix.score
            tokens[row, place, : len(prefix.tokens)] = prefix.tokens
            timesteps[row, place, : len(prefix.tokens)] = prefix.best_alignment[1]
    return tokens, counts, scores.astype(_score_dtype(log_probs)), timesteps


@dataclass
class Prefix:
    """A prefix, with the letters of docs/equations.md; alignments are (score, beginnings)."""

    tokens: Tokens = ()
    blank: float = 0.0  # b: log-probability of all alignments that end in a blank
    token: float = -np.inf  # e: of those that end in its last token
    best_blank: tuple[float, Tokens] = (0.0, ())
    best_token: tuple[float, Tokens] = (-np.inf, ())
    lm: float = 0.0  # weighted
    next: Array | None = None  # what the language model gives each token after it, weighted

    @property
    def total(self) -> float:
        return float(np.logaddexp(self.blank, self.token))

    @property
    def score(self) -> float:
        return self.total + self.lm

    @property
    def last(self) -> int:
        return self.tokens[-1] if self.tokens else -1

    @property
    def best_alignment(self) -> tuple[float, Tokens]:
        token_wins = self.best_token[0] > self.best_blank[0]
        return self.best_token if token_wins else self.best_blank

    def emitting(self, token: int) -> tuple[float, tuple[float, Tokens]]:
        """All alignments, and the best, that another `token` can follow: a repeat needs a blank."""
        if token == self.last:
            return self.blank, self.best_blank
        return self.total, self.best_alignment


def _stay(
    prefix: Prefix, known: dict[Tokens, Prefix], logp: Array, blank: int, frame: int
) -> Prefix:
    """The prefix after a frame that adds a blank, its last token again, or its last token."""
    new_token = -np.inf
    new_best: tuple[float, Tokens] = (-np.inf, ())
    if prefix.tokens:
        again = logp[prefix.last]
        new_token = prefix.token + again
        new_best = (prefix.best_token[0] + again, prefix.best_token[1])
        if parent := known.get(prefix.tokens[:-1]):
            arriving, (best, beginnings) = parent.emitting(prefix.last)
            new_token = float(np.logaddexp(new_token, arriving + again))
            if best + again > new_best[0]:
                new_best = (best + again, (*beginnings, frame))
    best, beginnings = prefix.best_alignment
    return Prefix(
        tokens=prefix.tokens,
        blank=prefix.total + logp[blank],
        token=new_token,
        best_blank=(best + logp[blank], beginnings),
        best_token=new_best,
        lm=prefix.lm,
        next=prefix.next,
    )


def _extend(prefix: Prefix, token: int, logp: Array, frame: int) -> Prefix:
    alignments, (best, beginnings) = prefix.emitting(token)
    lm = 0.0 if prefix.next is None else float(prefix.next[token])
    return Prefix(
        tokens=(*prefix.tokens, token),
        blank=-np.inf,
        token=alignments + logp[token],
        best_blank=(-np.inf, ()),
        best_token=(best + logp[token], (*beginnings, frame)),
        lm=prefix.lm + lm,
    )


def _ranked_tokens(logp: Array, top_n: int | None, min_log_prob: float | None) -> list[int]:
    """The tokens that count in a frame, the most probable first."""
    ranked = np.argsort(-logp, kind="stable")[:top_n]
    if min_log_prob is not None:
        ranked = ranked[: max(1, int((logp[ranked] >= min_log_prob).sum()))]
    return [int(token) for token in ranked]


def _ask(
    lm: Callable[[Array, Array], Array], lm_weight: float, new: list[Prefix], blank: int
) -> None:
    if not new:
        return
    lengths = np.array([len(prefix.tokens) for prefix in new], np.int64)
    prefixes = np.full((len(new), lengths.max()), blank, np.int64)
    for row, prefix in zip(prefixes, new, strict=True):
        row[: len(prefix.tokens)] = prefix.tokens
    for prefix, scores in zip(new, lm(prefixes, lengths), strict=True):
        prefix.next = lm_weight * np.asarray(scores, np.float64)


def _frames_of(operation: str, log_probs: Array, lengths: Array | None, row: int) -> Array:
    """[length, vocab] of one row in float64."""
    length = log_probs.shape[1] if lengths is None else int(lengths[row])
    logp = log_probs[row, :length].astype(np.float64)
    bad = np.flatnonzero(~(logp < np.inf).all(1))
    if len(bad):
        raise ValueError(
            f"{operation}: log_probs must hold numbers below infinity, "
            f"got another in row {row}, frame {bad[0]}"
        )
    return logp


def _score_dtype(log_probs: Array) -> Any:
    return np.float64 if log_probs.dtype == np.float64 else np.float32

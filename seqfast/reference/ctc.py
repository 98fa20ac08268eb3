"""CTC in plain NumPy: what `seqfast.ops.ctc` must return, and the loss, which torch has fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ctc_align", "ctc_beam_search", "ctc_greedy", "ctc_loss"]

Array = np.ndarray[Any, Any]
Tokens = tuple[int, ...]
_MOST = 1e-3  # of a log-probability, as rounding may leave it


def ctc_greedy(
    log_probs: Array, lengths: Array | None = None, *, blank: int = 0
) -> tuple[Array, Array, Array, Array]:
    """The most probable token of each frame, repeats merged and blanks removed.

    `log_probs` [batch, frames, vocab] floating; `lengths` [batch] integers, frames of each row.
    Equal tokens: the lower one. Returns (tokens [batch, frames] int64, -1 after the last; lengths
    [batch] int64; scores [batch], the log-probability of that alignment; timesteps [batch, frames]
    int64, the frame where each token begins, -1 after the last). NaN or a number above 1e-3, which
    is not a log-probability: ValueError.

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

    Returns (tokens [batch, n_best, frames] int64, -1 after the last; lengths [batch, n_best]
    int64; scores [batch, n_best], what they are ranked by, -inf where there are fewer; timesteps
    [batch, n_best, frames] int64, -1 after the last). A timestep is the frame where the token
    begins in the most probable alignment that the search has kept of the transcript (equal ones: a
    blank rather than the token before it, and the earlier beginning). NaN or a number above 1e-3:
    ValueError.

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


def ctc_align(
    log_probs: Array,
    targets: Array,
    lengths: Array | None = None,
    target_lengths: Array | None = None,
    *,
    blank: int = 0,
) -> tuple[Array, Array, Array, Array]:
    """The most probable alignment of given tokens: which frames belong to each of them.

    `log_probs` [batch, frames, vocab] floating; `targets` [batch, longest] integers, or
    [sum(target_lengths)], one row after the other; `lengths` [batch], frames of each row;
    `target_lengths` [batch], tokens of each row. Of equal alignments the one whose last token that
    differs begins, and ends, earlier.

    Returns (paths [batch, frames] int64, the token of each frame, -1 after the last frame; spans
    [batch, longest, 2] int64, the first and the last frame of each token, -1 after the last token;
    token_scores [batch, longest], the mean log-probability of each token over its frames, 0 behind
    the last; scores [batch], the log-probability of the alignment). A row whose alignments all have
    probability 0: paths and spans -1, scores -inf. More tokens than fit the frames, tokens that are
    the blank or none of the vocabulary, and NaN or a number above 1e-3 at a token or the blank:
    ValueError.

    Arguments and results are those of
    `seqfast.ops.ctc.functions.ctc_align`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import ctc
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]])
        >>> ctc.ctc_align(log_probs, np.array([[1, 2]]))[0]
        array([[1, 1, 2]])
    """
    batch, frames, vocab = log_probs.shape
    rows = _target_rows(targets, target_lengths, batch)
    longest = np.shape(targets)[1] if np.ndim(targets) == 2 else max(map(len, rows), default=0)
    paths = np.full((batch, frames), -1)
    spans = np.full((batch, longest, 2), -1)
    token_scores, scores = np.zeros((batch, longest)), np.full(batch, -np.inf)
    for row, target in enumerate(rows):
        for i, token in enumerate(target):
            if not 0 <= token < vocab or token == blank:
                raise ValueError(f"ctc_align: token {i} of row {row} is {token}")
        logp = _frames_of("ctc_align", log_probs, lengths, row, [blank, *target])
        needed = len(target) + int((target[1:] == target[:-1]).sum())
        if needed > len(logp):
            raise ValueError(f"ctc_align: row {row} needs {needed} frames, has {len(logp)}")
        states = _states(target, blank)
        scores[row], visited = _best_states(logp, states)
        if scores[row] == -np.inf:
            token_scores[row, : len(target)] = -np.inf
            continue
        paths[row, : len(logp)] = states[visited]
        for i in range(len(target)):
            (own,) = np.nonzero(visited == 2 * i + 1)
            spans[row, i] = own[0], own[-1]
            token_scores[row, i] = sum(logp[own, target[i]].tolist()) / len(own)
    dtype = _score_dtype(log_probs)
    return paths, spans, token_scores.astype(dtype), scores.astype(dtype)


def ctc_loss(
    log_probs: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> tuple[Array, Array]:
    """Minus the log-probability of the targets over all their alignments, and its gradient.

    The forward-backward algorithm of Graves et al. 2006 (section 4.1), in logarithms. Arguments as
    of `torch.nn.functional.ctc_loss`, whose kernels are the fast form: there is none in `ops`.

    Args:
        log_probs: [frames, batch, vocab] floating, or [frames, vocab] of one row.
        targets: [batch, longest] integers, or [sum(target_lengths)], one row after the other.
        input_lengths: [batch], frames of each row; a number for one row.
        target_lengths: [batch], tokens of each row; a number for one row.
        blank: the blank's token.
        reduction: "none", "sum", or "mean": each loss by its number of tokens, then over the batch.
        zero_infinity: targets that do not fit their frames count as loss 0, not infinity.

    Returns:
        The loss, [batch] or a number, and the gradient of its sum, like `log_probs`. It is with
        respect to the logits (Graves's equation 16), `log_probs` being their log_softmax; torch
        gives the same for `log_probs` itself.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import ctc
        >>> log_probs = np.log([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])
        >>> loss, gradient = ctc.ctc_loss(log_probs, np.array([1]), 3, 1, reduction="sum")
        >>> float(np.exp(-loss).round(3)), gradient.shape
        (0.713, (3, 3))
    """
    if log_probs.ndim == 2:
        lengths = np.atleast_1d(input_lengths), np.atleast_1d(target_lengths)
        losses, gradient = ctc_loss(
            log_probs[:, None], targets, *lengths, blank, reduction, zero_infinity
        )
        return losses.reshape(()), gradient[:, 0]
    batch = log_probs.shape[1]
    losses, gradient = np.zeros(batch), np.zeros(log_probs.shape)
    for row, target in enumerate(_target_rows(targets, target_lengths, batch)):
        frames = int(input_lengths[row])
        logp = log_probs[:frames, row].astype(np.float64)
        losses[row], gradient[:frames, row] = _loss(logp, _states(target, blank))
    if zero_infinity:
        gradient[:, np.isinf(losses)] = 0
        losses[np.isinf(losses)] = 0
    weights = np.ones(batch)
    if reduction == "mean":
        weights = 1 / (np.maximum(target_lengths, 1) * batch)
    losses, gradient = losses * weights, gradient * weights[:, None]
    if reduction != "none":
        losses = losses.sum()
    return np.asarray(losses, log_probs.dtype), gradient.astype(log_probs.dtype)


def _states(target: Array, blank: int) -> Array:
    """What an alignment walks through, left to right: the tokens with blanks around them."""
    states = np.full(2 * len(target) + 1, blank)
    states[1::2] = target
    return states


def _predecessors(now: Array, states: Array) -> Array:
    """[3, states]: `now` at each state itself, at the one before, and two before; -inf where the
    way is closed. A blank may be left out between different tokens."""
    before = np.full((3, len(states)), -np.inf)
    before[0] = now
    before[1, 1:] = now[:-1]
    before[2, 2:] = np.where(states[2:] != states[:-2], now[:-2], -np.inf)
    return before


def _beginning(states: Array) -> Array:
    """Before the first frame: in the first blank."""
    return np.where(np.arange(len(states)) == 0, 0.0, -np.inf)


def _best_states(logp: Array, states: Array) -> tuple[float, Array]:
    """Viterbi: the score of the best alignment, and the number of its state in each frame."""
    now = _beginning(states)
    steps = np.zeros((len(logp), len(states)), np.int64)
    for t, frame in enumerate(logp):
        before = _predecessors(now, states)
        steps[t] = before.argmax(0)  # of equal ones the first
        now = before.max(0) + frame[states]
    state = len(states) - 1
    if state > 0 and now[state - 1] > now[state]:
        state -= 1
    score = float(now[state])
    visited = np.zeros(len(logp), np.int64)
    for t in reversed(range(len(logp))):
        visited[t] = state
        state -= steps[t, state]
    return score, visited


def _arriving(logp: Array, states: Array) -> Array:
    """[frames, states]: all ways from the beginning to a state in a frame, but for its token."""
    now = _beginning(states)
    arriving = np.zeros((len(logp), len(states)))
    for t, frame in enumerate(logp):
        arriving[t] = np.logaddexp.reduce(_predecessors(now, states), 0)
        now = arriving[t] + frame[states]
    return arriving


def _loss(logp: Array, states: Array) -> tuple[float, Array]:
    """-log P and its gradient, of one row; alpha and beta are Graves's, beta without its token."""
    if len(logp) == 0:
        return (0.0 if len(states) == 1 else np.inf), logp
    alpha = _arriving(logp, states) + logp[:, states]
    beta = _arriving(logp[::-1], states[::-1])[::-1, ::-1]
    log_p = float(np.logaddexp.reduce(alpha[-1, -2:]))
    if log_p == -np.inf:
        return np.inf, np.full_like(logp, np.nan)
    posterior = np.zeros_like(logp)
    np.add.at(posterior.T, states, np.exp(alpha + beta - log_p).T)
    return -log_p, np.exp(logp) - posterior


def _target_rows(targets: Array, target_lengths: Array | None, batch: int) -> list[Array]:
    """The tokens of each row, from torch's two layouts."""
    targets = np.asarray(targets)
    if target_lengths is None:
        return list(targets)
    ends = np.cumsum(target_lengths)
    if targets.ndim == 1:
        return [targets[end - n : end] for end, n in zip(ends, target_lengths, strict=True)]
    return [targets[row, : int(target_lengths[row])] for row in range(batch)]


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


def _frames_of(
    operation: str, log_probs: Array, lengths: Array | None, row: int, read: Any = slice(None)
) -> Array:
    """[length, vocab] of one row in float64, whose tokens `read` are looked at."""
    length = log_probs.shape[1] if lengths is None else int(lengths[row])
    logp = log_probs[row, :length].astype(np.float64)
    bad = np.flatnonzero(~(logp[:, read] <= _MOST).all(1))
    if len(bad):
        raise ValueError(
            f"{operation}: log_probs must be logarithms of probabilities, at most 0, "
            f"got another number in row {row}, frame {bad[0]}"
        )
    return logp


def _score_dtype(log_probs: Array) -> Any:
    return np.float64 if log_probs.dtype == np.float64 else np.float32

"""What a beam search found, gathered once at its end from the pools and back-pointers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqfast.decoding.options import SearchOptions
from seqfast.ops.beam_search import beam_backtrack
from seqfast.ops.beam_search.beams import Beams

Array = Any  # a numpy.ndarray or a torch.Tensor


@dataclass(frozen=True, repr=False)
class BeamResult:
    """The hypotheses of each sentence, best first; arrays of the caller's library and device.

    Real: float64 where the logits are, else float32. A sentence with fewer hypotheses than asked
    for has lengths 0 and scores -inf in the places left.
    """

    tokens: Array
    """int64 [batch, n_best, length]: prefix and EOS included, start tokens not; then padding."""
    lengths: Array
    """int64 [batch, n_best]: tokens of each."""
    scores: Array
    """Real [batch, n_best]: what they are sorted by, normalised by length. (Those of a `Sampler`
    are not sorted by it, but in the order in which they were drawn.)"""
    logprobs: Array
    """Real [batch, n_best]: the sum that the search compared, penalties included."""
    token_logprobs: Array
    """Real [batch, n_best, length]: the model's of each token, without penalties; then 0. Under
    `renormalize` penalties and bans come before the softmax, so these are what it makes of them."""
    parents: Array
    """int64 [batch, n_best, length]: the beam that each token went on from; then -1."""
    certified: Array
    """bool [batch]: nothing that was still alive when the search ended could have become better
    than what stands here. (What the beam had dropped before could.) False for a dead end."""
    dead_ends: Array
    """bool [batch]: no hypothesis was found, since at some step nothing could be chosen."""
    groups: Array
    """int64 [batch, n_best]: the group of beams that each was found by, 0 without groups."""
    steps: int
    """Steps of the model."""
    attention: Array | None = None
    """Real [batch, n_best, length, memory_steps] where it was asked for: what the step function
    attended to for each token; then 0."""

    def lists(self) -> list[list[list[int]]]:
        """The tokens without their padding: of each sentence a list of its hypotheses."""
        tokens, lengths, scores = (x.tolist() for x in (self.tokens, self.lengths, self.scores))
        return [
            [row[:n] for row, n, score in zip(*each, strict=True) if score > -np.inf]
            for each in zip(tokens, lengths, scores, strict=True)
        ]

    def texts(self, tokenizer: Any) -> list[list[str]]:
        """The hypotheses as texts: by `tokenizer.decode(tokens, skip_special_tokens=True)`, any
        function of a list of tokens, or a list of the vocabulary's words, joined by spaces."""
        spell = _speller(tokenizer)
        return [[spell(tokens) for tokens in found] for found in self.lists()]

    def __repr__(self) -> str:
        batch, n_best, length = self.tokens.shape
        text = f"BeamResult({batch} sentences, {n_best} each, {length} tokens at most"
        dead = int(self.dead_ends.sum())
        text += f", {dead} dead ends" if dead else ""
        if batch and length:
            n, score = int(self.lengths[0, 0]), float(self.scores[0, 0])
            shown = ", ".join(str(t) for t in self.tokens[0, 0, : min(n, 8)].tolist())
            text += f"; first: [{shown}{', ...' if n > 8 else ''}] {score:.4g}"
        return text + ")"


def _speller(tokenizer: Any) -> Callable[[list[int]], str]:
    decode = getattr(tokenizer, "decode", None)
    if callable(decode):
        return lambda tokens: str(decode(tokens, skip_special_tokens=True))
    if callable(tokenizer):
        return lambda tokens: str(tokenizer(tokens))
    if isinstance(tokenizer, (list, tuple)):
        return lambda tokens: " ".join(str(tokenizer[token]) for token in tokens)
    raise TypeError(
        "BeamResult.texts: tokenizer must have decode, be callable or be a list of words, got "
        f"{type(tokenizer).__name__}"
    )


def collect(beams: Beams, options: SearchOptions, steps: int) -> BeamResult:
    """The result of a search that has ended."""
    sentences, groups, pool = beams.pool_scores.shape
    xp = _NUMPY if isinstance(beams.scores, np.ndarray) else _Torch()

    def flat(array: Array) -> Array:
        return array.reshape(sentences, groups * pool)

    scores, logprobs = flat(beams.pool_scores), flat(beams.pool_logprobs)
    if options.at_max == "rest":
        scores = _without_rest(xp, scores, logprobs, flat(beams.pool_tokens), options.eos)
    found = options.hypotheses
    if options.sampler is not None and options.beams_per_group == 1:
        order = xp.in_order(scores, found)  # sample by sample
    elif options.sampler is not None:
        order = xp.descending(flat(beams.pool_keys), found)
    else:
        order = xp.descending(scores, found)

    def best(array: Array) -> Array:
        return xp.take(flat(array), order)

    scores = xp.take(scores, order)
    missing = scores == -np.inf
    last_steps = xp.where(missing, -1, best(beams.pool_steps))
    length = int(last_steps.max()) + 1 if sentences else 0
    last_tokens = best(beams.pool_tokens)
    tokens, parents, token_logprobs = beam_backtrack(
        beams,
        last_steps,
        best(beams.pool_parents),
        last_tokens,
        best(beams.pool_last),
        length=length,
        pad=options.padding,
    )
    lengths = xp.int64(last_steps) + 1
    if not options.keep_eos:
        ends = xp.is_in(last_tokens, options.eos) & ~missing
        places = xp.like(np.arange(length), tokens)
        at_end = ends[..., None] & (places == lengths[..., None] - 1)
        tokens = xp.where(at_end, options.padding, tokens)
        lengths = lengths - xp.int64(ends)
    dead_ends = missing.all(1) if sentences else missing.reshape(-1)[:0]
    # To `score` a sequence that cannot be is an answer; a GPU is not waited for.
    if options.operation != "score" and (
        isinstance(dead_ends, np.ndarray) or not dead_ends.is_cuda
    ):
        warn_of_dead_ends(options.operation, dead_ends)
    return BeamResult(
        tokens=tokens,
        lengths=lengths,
        scores=scores,
        logprobs=xp.where(missing, -np.inf, xp.take(logprobs, order)),
        token_logprobs=token_logprobs,
        parents=parents,
        certified=(beams.certified != 0).all(1) & ~dead_ends,
        dead_ends=dead_ends,
        groups=order // pool,
        steps=steps,
    )


def warn_of_dead_ends(operation: str, dead_ends: Array) -> None:
    if dead_ends.any():
        which = [i for i, dead in enumerate(dead_ends.tolist()) if dead]
        shown = ", ".join(map(str, which[:8])) + (", ..." if len(which) > 8 else "")
        warnings.warn(
            f"{operation}: nothing was found for {len(which)} of {len(dead_ends)} sentences, at "
            f"some step nothing could be chosen: {shown}; see dead_ends of the result",
            RuntimeWarning,
            stacklevel=4,
        )


def _without_rest(
    xp: Any, scores: Array, logprobs: Array, last_tokens: Array, eos: tuple[int, ...]
) -> Array:
    """Scores where a hypothesis that was cut counts only if none of its sentence has ended, and
    then by its log-probability alone."""
    ended = xp.is_in(last_tokens, eos) & (scores > -np.inf)
    rest = xp.where(scores > -np.inf, logprobs, scores)
    return xp.where(ended, scores, xp.where(ended.any(1)[:, None], -np.inf, rest))


class _NumPy:
    def in_order(self, values: Array, count: int) -> Array:
        return np.tile(np.arange(count), (len(values), 1))

    def descending(self, values: Array, count: int) -> Array:
        return np.argsort(-values, axis=1, kind="stable")[:, :count]

    def take(self, array: Array, order: Array) -> Array:
        return np.take_along_axis(array, order, 1)

    def where(self, condition: Array, one: Any, other: Any) -> Array:
        like = one if isinstance(one, np.ndarray) else other
        return np.where(condition, one, other).astype(like.dtype)

    def is_in(self, array: Array, values: tuple[int, ...]) -> Array:
        return np.isin(array, values)

    def int64(self, array: Array) -> Array:
        return array.astype(np.int64)

    def like(self, array: Array, other: Array) -> Array:
        return array


class _Torch:
    def in_order(self, values: Array, count: int) -> Array:
        import torch

        return torch.arange(count, device=values.device).repeat(len(values), 1)

    def descending(self, values: Array, count: int) -> Array:
        return values.sort(dim=1, descending=True, stable=True).indices[:, :count]

    def take(self, array: Array, order: Array) -> Array:
        return array.gather(1, order)

    def where(self, condition: Array, one: Any, other: Any) -> Array:
        if isinstance(one, (int, float)):
            return other.masked_fill(condition, one)
        return one.where(condition, other)

    def is_in(self, array: Array, values: tuple[int, ...]) -> Array:
        found = array == values[0]
        for value in values[1:]:
            found = found | (array == value)
        return found

    def int64(self, array: Array) -> Array:
        return array.long()

    def like(self, array: Array, other: Array) -> Array:
        import torch

        return torch.from_numpy(array).to(other.device)


_NUMPY = _NumPy()

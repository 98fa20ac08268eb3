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

    Real: float64 if the logits are float64, else float32. If a sentence has fewer hypotheses than
    requested, the other places have length 0 and score -inf.

    Example:
        >>> import numpy as np, seqfast
        >>> table = np.log([[0.35, 0.45, 0.20], [0.55, 0.10, 0.35], [0.10, 0.80, 0.10]])
        >>> search = seqfast.BeamSearch(beam_size=2, eos=0, max_length=6, n_best=2)
        >>> out = search(lambda ids, state, t: (table[ids], state), np.array([0]))
        >>> out.lengths
        array([[6, 4]])
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


def collect(
    beams: Beams,
    options: SearchOptions,
    steps: int,
    attended: list[tuple[Array, Array]] | None = None,
) -> BeamResult:
    """The result of a search that has ended. `attended`: of each step which sentences were in the
    batch (None: all), and what their rows attended to, [rows, memory_steps]."""
    sentences, groups, pool = beams.pool_scores.shape
    xp = _NUMPY if isinstance(beams.scores, np.ndarray) else _Torch()

    def flat(array: Array) -> Array:
        return array.reshape(sentences, groups * pool)

    scores, logprobs = flat(beams.pool_scores), flat(beams.pool_logprobs)
    if options.at_max == "rest":
        scores = _without_rest(xp, scores, logprobs, flat(beams.pool_tokens), options.eos)
    attention = None
    if attended:
        recorded = _recorded(xp, beams, attended)
    if options.coverage and attended:
        # Of all that has ended, as it changes their order.
        everything = xp.in_order(scores, groups * pool)
        found = _Found(xp, beams, options, scores, everything)
        received = _attention_of(xp, recorded, found.parents).sum(2)
        scores = scores + options.coverage * _coverage(xp, received)
    order = _order(xp, beams, options, scores)
    if options.distinct:
        found = _Found(xp, beams, options, scores, order)
        order = xp.take(order, xp.descending(-xp.repeated(found.tokens), groups * pool))
        again = xp.repeated(_Found(xp, beams, options, scores, order).tokens) > 0
        scores = xp.put(scores, order, xp.where(again, -np.inf, xp.take(scores, order)))
    order = order[:, : options.hypotheses]
    found = _Found(xp, beams, options, scores, order)
    missing, tokens, lengths = found.missing, found.tokens, found.lengths
    if attended:
        attention = _attention_of(xp, recorded, found.parents)
    if not options.keep_eos:
        ends = xp.is_in(found.last_tokens, options.eos) & ~missing
        places = xp.like(np.arange(tokens.shape[2]), tokens)
        at_end = ends[..., None] & (places == lengths[..., None] - 1)
        tokens = xp.where(at_end, options.padding, tokens)
        lengths = lengths - xp.int64(ends)
    # The best comes first, but for groups and samples.
    dead_ends = missing[:, 0] if groups == 1 else missing.all(1)
    certified = (beams.certified != 0).all(1)
    # A GPU is not waited for.
    if not (isinstance(dead_ends, np.ndarray) or dead_ends.device.type == "cpu"):
        certified = certified & ~dead_ends
    elif dead_ends.any():
        certified = certified & ~dead_ends
        if options.operation != "score":  # where it is an answer that a sequence cannot be
            warn_of_dead_ends(options.operation, dead_ends)
    if options.coverage:
        certified = certified & False
    return BeamResult(
        tokens=tokens,
        lengths=lengths,
        scores=found.scores,
        logprobs=xp.where(missing, -np.inf, xp.take(logprobs, order)),
        token_logprobs=found.token_logprobs,
        parents=found.parents,
        certified=certified,
        dead_ends=dead_ends,
        groups=order // pool if groups > 1 else xp.zeros(order),
        steps=steps,
        attention=attention,
    )


def _order(xp: Any, beams: Beams, options: SearchOptions, scores: Array) -> Array:
    """Places of the pools, [sentences, groups * pool], as the result has them."""
    sentences, groups, pool = beams.pool_scores.shape
    count = groups * pool
    if options.sampler is not None and options.beams_per_group == 1:
        return xp.in_order(scores, count)  # sample by sample
    if options.sampler is not None:
        assert beams.pool_keys is not None
        return xp.descending(beams.pool_keys.reshape(sentences, count), count)
    if options.each_group:
        within = xp.descending(scores.reshape(sentences * groups, pool), 1)
        first = xp.like(np.arange(groups) * pool, within)
        return first + within.reshape(sentences, groups)
    return xp.descending(scores, count)


class _Found:
    """Hypotheses at some places of the pools, [sentences, any]."""

    def __init__(
        self, xp: Any, beams: Beams, options: SearchOptions, scores: Array, order: Array
    ) -> None:
        sentences = scores.shape[0]

        def best(array: Array) -> Array:
            return xp.take(array.reshape(scores.shape), order)

        self.scores = xp.take(scores, order)
        self.missing = self.scores == -np.inf
        last_steps = xp.where(self.missing, -1, best(beams.pool_steps))
        length = int(last_steps.max()) + 1 if sentences else 0
        self.last_tokens = best(beams.pool_tokens)
        self.tokens, self.parents, self.token_logprobs = beam_backtrack(
            beams,
            last_steps,
            best(beams.pool_parents),
            self.last_tokens,
            best(beams.pool_last),
            length=length,
            pad=options.padding,
        )
        self.lengths = xp.int64(last_steps) + 1


def _recorded(xp: Any, beams: Beams, attended: list[tuple[Array, Array]]) -> Array:
    """Real [steps, sentences, beams, memory_steps]: what each row attended to at each step."""
    sentences, count = beams.pool_scores.shape[0], beams.options.beams
    memory = attended[0][1].shape[1]
    steps = []
    for where, weights in attended:
        each = weights.reshape(-1, count, memory)
        steps.append(each if where is None else xp.scattered(each, where, sentences))
    return xp.concatenated(steps)


def _attention_of(xp: Any, recorded: Array, parents: Array) -> Array:
    """Of the tokens of hypotheses, [sentences, any, length, memory_steps]."""
    steps = xp.like(np.arange(parents.shape[2]), parents)
    return xp.rows_of(recorded, steps, parents)


def _coverage(xp: Any, received: Array) -> Array:
    """Of attention received, [sentences, any, memory_steps], the sum of log(min(it, 1)); what no
    hypothesis of a sentence attends to is padding (Wu et al. 2016)."""
    real = (received > 0).any(1)[:, None]
    return xp.where(real & (received < 1), xp.log(received, 1e-20), xp.zeros(received)).sum(2)


def warn_of_dead_ends(operation: str, dead_ends: Array) -> None:
    which = [i for i, dead in enumerate(dead_ends.tolist()) if dead]
    shown = ", ".join(map(str, which[:8])) + (", ..." if len(which) > 8 else "")
    warnings.warn(
        f"{operation}: {len(which)} of {len(dead_ends)} sentences have no hypothesis, because at "
        f"some step constraints left no token: {shown}; see dead_ends of the result",
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

    def put(self, array: Array, order: Array, values: Array) -> Array:
        array = array.copy()
        np.put_along_axis(array, order, values, 1)
        return array

    def repeated(self, tokens: Array) -> Array:
        """Real [sentences, any]: 1 where the same tokens stand earlier in the row, else 0."""
        same = (tokens[:, :, None] == tokens[:, None]).all(3)
        return (np.tril(same, -1).any(2)).astype(np.float32)

    def scattered(self, each: Array, where: Array, sentences: int) -> Array:
        whole = np.zeros((sentences, *each.shape[1:]), each.dtype)
        whole[where] = each
        return whole

    def concatenated(self, steps: list[Array]) -> Array:
        return np.stack(steps)

    def rows_of(self, recorded: Array, steps: Array, parents: Array) -> Array:
        sentence = np.arange(len(parents))[:, None, None]
        found = recorded[steps, sentence, np.maximum(parents, 0)]
        return np.where(parents[..., None] < 0, 0, found).astype(recorded.dtype)

    def log(self, array: Array, least: float) -> Array:
        return np.log(np.maximum(array, least))

    def zeros(self, array: Array) -> Array:
        return np.zeros_like(array)


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

    def put(self, array: Array, order: Array, values: Array) -> Array:
        return array.scatter(1, order, values)

    def repeated(self, tokens: Array) -> Array:
        same = (tokens[:, :, None] == tokens[:, None]).all(3)
        return same.tril(-1).any(2).float()

    def scattered(self, each: Array, where: Array, sentences: int) -> Array:
        whole = each.new_zeros((sentences, *each.shape[1:]))
        whole[where] = each
        return whole

    def concatenated(self, steps: list[Array]) -> Array:
        import torch

        return torch.stack(steps)

    def rows_of(self, recorded: Array, steps: Array, parents: Array) -> Array:
        import torch

        sentence = torch.arange(len(parents), device=parents.device)[:, None, None]
        found = recorded[steps, sentence, parents.clamp(min=0)]
        return found.masked_fill(parents[..., None] < 0, 0)

    def log(self, array: Array, least: float) -> Array:
        return array.clamp(min=least).log()

    def zeros(self, array: Array) -> Array:
        return array.new_zeros(array.shape)


_NUMPY = _NumPy()

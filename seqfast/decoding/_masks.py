"""What may be chosen at a step: the caller's `allowed`, and what top-k and top-p leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqfast.decoding.options import Sampler
from seqfast.decoding.state import is_tensor
from seqfast.ops.beam_search import beam_backtrack

Array = Any  # a numpy.ndarray or a torch.Tensor
Allowed = Callable[[int, "RowsSoFar"], Any]


class RowsSoFar:
    """The rows of a step, [batch * beams], as the function `allowed` gets them.

    `BeamSearch` makes it and calls `allowed(t, rows)`.

    Args:
        ids: int64 [rows], the tokens that the step function was given.
        beams: the state of the search.

    Example:
        >>> import numpy as np, seqfast
        >>> def allowed(t, rows):  # never the same token twice
        ...     return np.arange(5) != rows.ids[:, None]
        >>> search = seqfast.BeamSearch(2, eos=0, max_length=4)
        >>> step = lambda ids, state, t: (np.zeros((len(ids), 5)), state)
        >>> search(step, np.array([1]), allowed=allowed).tokens.shape
        (1, 1, 1)
    """

    def __init__(self, ids: Array, beams: Any) -> None:
        self.ids = ids
        """int64 [rows]: the tokens that the step function was given."""
        self._beams = beams

    @property
    def sentences(self) -> Array:
        """int64 [rows]: each row's place in the batch that the search began with."""
        count, sentence = self._beams.options.beams, self._beams.sentence
        if isinstance(sentence, np.ndarray):
            return np.repeat(sentence, count)
        return sentence.repeat_interleave(count)

    @property
    def living(self) -> Array:
        """bool [rows]: False where the row is not a hypothesis; its choices are ignored."""
        return self._beams.scores.reshape(-1) > -np.inf

    @property
    def tokens(self) -> Array:
        """int64 [rows, t]: the tokens that each row has chosen so far, prefix included. Follows the
        back-pointers of all steps at each access."""
        b = self._beams
        t = int(b.step[0])
        if t == 0:
            return self.ids.reshape(-1, 1)[:, :0]
        # Only living rows have records of the last step.
        steps = b.tokens[t - 1] * 0 - 1
        steps[b.sentence] += t * (b.scores > -np.inf)
        found = beam_backtrack(
            b, steps, b.parents[t - 1], b.tokens[t - 1], b.logprobs[t - 1], length=t, pad=0
        )[0]
        return found[b.sentence].reshape(-1, t)


def per_sequence(
    function: Callable[[int, Array], Sequence[int]], start: Array | None = None
) -> Allowed:
    """Makes `allowed` from a function in the style of transformers' `prefix_allowed_tokens_fn`.

    Args:
        function: `function(sentence, tokens)` returns the tokens that may follow; `tokens` is int64
            [any].
        start: [batch, any], tokens before those chosen so far: a prompt, or the start ids.

    Returns:
        A function for the argument `allowed` of a search.

    Example:
        >>> import numpy as np, seqfast
        >>> even = seqfast.decoding.per_sequence(lambda sentence, tokens: [0, 2, 4])
        >>> search = seqfast.BeamSearch(2, eos=0, max_length=3)
        >>> step = lambda ids, state, t: (np.arange(5.0) + np.zeros((len(ids), 1)), state)
        >>> search(step, np.array([1]), allowed=even).tokens[0, 0]
        array([4, 4, 4])
    """

    def allowed(t: int, rows: RowsSoFar) -> list[Sequence[int] | None]:
        tokens, sentences, living = rows.tokens, rows.sentences.tolist(), rows.living.tolist()
        lists: list[Sequence[int] | None] = []
        for row, sentence in enumerate(sentences):
            if not living[row]:
                lists.append(None)
                continue
            sequence = tokens[row]
            if start is not None:
                before = start[sentence].reshape(-1)
                if is_tensor(sequence):
                    import torch

                    sequence = torch.cat((before, sequence))
                else:
                    sequence = np.concatenate((before, sequence))
            lists.append(function(sentence, sequence))
        return lists

    return allowed


def allowed_mask(operation: str, given: Any, logits: Array, name: str = "allowed") -> Array | None:
    """bool [rows, vocabulary] of what `allowed` returned: such a mask, a list of tokens for each
    row (None: all), or None."""
    if given is None:
        return None
    rows, vocabulary = logits.shape
    if isinstance(given, (list, tuple)):
        if len(given) != rows:
            raise ValueError(
                f"{operation}: {name} must return a list for each of {rows} rows, got {len(given)}"
            )
        mask = np.zeros((rows, vocabulary), bool)
        for row, tokens in enumerate(given):
            if tokens is None:
                mask[row] = True
                continue
            chosen = np.asarray([int(token) for token in tokens], np.int64)
            if ((chosen < 0) | (chosen >= vocabulary)).any():
                wrong = chosen[(chosen < 0) | (chosen >= vocabulary)][0]
                raise ValueError(
                    f"{operation}: {name} must return tokens in range [0, {vocabulary}), "
                    f"got {wrong}"
                )
            mask[row, chosen] = True
        given = mask
        if is_tensor(logits):
            import torch

            given = torch.from_numpy(mask).to(logits.device)
    if type(given) is not type(logits) and not (is_tensor(given) and is_tensor(logits)):
        raise TypeError(
            f"{operation}: {name} must return a bool mask of the logits' library, lists of tokens "
            f"or None, got {type(given).__name__}"
        )
    if str(given.dtype).removeprefix("torch.") != "bool":
        raise TypeError(f"{operation}: the mask of {name} must be bool, got {given.dtype}")
    if tuple(given.shape) != (rows, vocabulary):
        raise ValueError(
            f"{operation}: the mask of {name} must be [{rows}, {vocabulary}], "
            f"got {list(given.shape)}"
        )
    return given


def sampler_mask(sampler: Any, logits: Array, mask: Array | None, beams: Any) -> Array | None:
    """bool like logits: what top-k and top-p, or a sampler of the caller's, leave of the `mask` of
    `allowed`; equal ones go to the lower token."""
    if not isinstance(sampler, Sampler):
        left = _choosable_logits(logits, mask, beams) / beams.options.temperature
        drawn = allowed_mask("BeamSearch", sampler.mask(left), logits, "mask of sampler")
        return drawn if mask is None or drawn is None else mask & drawn
    k, p = sampler.top_k, sampler.top_p
    vocabulary = logits.shape[1]
    if k is not None and k >= vocabulary:
        k = None
    if p is not None and p >= 1:
        p = None
    if k is None and p is None:
        return mask
    temperature = beams.options.temperature
    left = _choosable_logits(logits, mask, beams)
    if isinstance(logits, np.ndarray):
        drawn = _numpy_mask(left, k, p, temperature)
    else:
        drawn = _torch_mask(left, k, p, temperature)
    return drawn if mask is None else mask & drawn


def _choosable_logits(logits: Array, mask: Array | None, beams: Any) -> Array:
    """A copy of the logits that top-k and top-p count by: -inf where `allowed`, a ban, an n-gram
    that would repeat, the least length or a last step that must end leave no choice. Waits for no
    device."""
    xp = _library_of(logits)
    o, minus_infinity = beams.options, -float("inf")
    x = logits.clone() if is_tensor(logits) else logits.copy()
    if mask is not None:
        x = xp.where(mask, x, minus_infinity)
    shape = tuple(beams.scores.shape)

    def per_row(values: Array) -> Array:
        return xp.broadcast_to(values[:, None], shape).reshape(-1)

    for token in o.banned:
        x[:, token] = minus_infinity
    if o.no_repeat_ngram:
        x = _without_repeats(x, beams)
    if o.min_length:
        done = beams.step
        if beams.prefix is not None and not o.score_prefix:
            done = done - beams.prefix_lengths[beams.sentence]
        early = per_row(xp.broadcast_to(done < o.min_length, shape[:1]))
        for token in o.eos:
            x[:, token] = xp.where(early, minus_infinity, x[:, token])
    if o.force_eos:
        last = per_row(beams.step + 1 == beams.max_lengths[beams.sentence])
        ended = xp.where(last[:, None], minus_infinity, x)
        for token in o.eos:
            ended[:, token] = x[:, token]
        x = ended
    return x


def _without_repeats(x: Array, beams: Any) -> Array:
    """`x` with -inf for tokens that would make an n-gram of the history appear again."""
    xp, n = _library_of(x), beams.options.no_repeat_ngram
    history = beams.history[beams.step % 2][0]
    width = history.shape[-1]
    if n > width:
        return x
    history = history.reshape(-1, width)
    if is_tensor(x):
        history, place, at = history.long(), xp.arange(width, device=x.device), xp.take_along_dim
    else:
        place, at = xp.arange(width), xp.take_along_axis
    lengths = beams.history_start + beams.step
    shape = tuple(beams.scores.shape)
    lengths = xp.broadcast_to(lengths[:, None], shape).reshape(-1, 1)
    # Of each n-gram in the history its last token, where what precedes it is what ends it.
    repeats = (place >= n - 1) & (place < lengths)
    for back in range(1, n):
        ending = at(history, (lengths - back).clip(0), 1)
        repeats = repeats & (xp.roll(history, back, 1) == ending)
    values = xp.where(repeats, -float("inf"), float("inf"))
    if is_tensor(x):
        return x.scatter_reduce(1, history, values.to(x.dtype), "amin")
    xp.minimum.at(x, (xp.arange(len(x))[:, None], history), values.astype(x.dtype))
    return x


def _library_of(array: Array) -> Any:
    if not is_tensor(array):
        return np
    import torch

    return torch


def _numpy_mask(logits: Array, k: int | None, p: float | None, temperature: float) -> Array:
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")
    kept = np.ones(logits.shape, bool)
    if k is not None:
        kept[:, k:] = False
    if p is not None:
        x = np.take_along_axis(logits.astype(np.float64), order, 1) / temperature
        # Of a row with nothing left there is no share.
        with np.errstate(invalid="ignore"):
            share = np.exp(np.where(kept, x - x[:, :1], -np.inf))
            share /= share.sum(1, keepdims=True)
        # A token is kept while those before it have not reached p.
        kept &= ~(share.cumsum(1) - share >= p)
    mask = np.empty(logits.shape, bool)
    np.put_along_axis(mask, order, kept, 1)
    return mask


def _torch_mask(logits: Array, k: int | None, p: float | None, temperature: float) -> Array:
    import torch

    values, order = logits.double().sort(dim=1, descending=True, stable=True)
    kept = torch.ones_like(values, dtype=torch.bool)
    if k is not None:
        kept[:, k:] = False
    if p is not None:
        share = (values / temperature).masked_fill(~kept, -torch.inf).softmax(1)
        kept &= ~(share.cumsum(1) - share >= p)
    return torch.empty_like(kept).scatter_(1, order, kept)

"""What shares the machinery of beam search: greedy search, sampling, scores of given sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqfast.decoding._inputs import padded, to_host
from seqfast.decoding._model import Step
from seqfast.decoding.beam_search import BeamSearch
from seqfast.decoding.options import MOST_STEPS, Sampler, SearchOptions
from seqfast.decoding.result import BeamResult
from seqfast.ops.base.arrays import library_of

Array = Any  # a numpy.ndarray or a torch.Tensor

# Arguments of a call; all others are options.
_CALL_ARGUMENTS = ("prefix", "prefix_lengths", "allowed", "history", "history_lengths")


def greedy(
    step: Step | Sequence[Step],
    start_ids: Array,
    state: Any = None,
    *,
    eos: int | Sequence[int],
    max_length: Any = 100,
    **options: Any,
) -> BeamResult:
    """The token with the largest logit at each step, until EOS.

    Args:
        step: the step function, or several for an ensemble.
        start_ids: integers [batch], what each sentence begins with.
        state: of the step function, one row for each sentence.
        eos: one or several tokens.
        max_length: most tokens, an int or integers [batch].
        options: other options of `BeamSearch` and of its call: min_length, no_repeat_ngram,
            repetition_penalty, temperature, banned, pad, keep_eos, prefix, allowed, ...

    Returns:
        One hypothesis for each sentence.

    Raises:
        TypeError: an option of a wrong type.
        ValueError: an option out of range.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> table = np.log([[0.35, 0.45, 0.20], [0.55, 0.10, 0.35], [0.10, 0.80, 0.10]])
        >>> step = lambda ids, state, t: (table[ids], state)
        >>> decoding.greedy(step, np.array([0]), eos=0).tokens[0, 0]
        array([1, 0])
    """
    fixed = {"beam_size": 1, "stop": "first_k", "length_norm": "none"}
    return _search("greedy", step, start_ids, state, eos, max_length, fixed, options)


def sample(
    step: Step | Sequence[Step],
    start_ids: Array,
    state: Any = None,
    n: int = 1,
    *,
    eos: int | Sequence[int],
    max_length: Any = 100,
    seed: int = 0,
    top_k: int | None = None,
    top_p: float | None = None,
    **options: Any,
) -> BeamResult:
    """`n` sequences of each sentence, drawn independently, in the order in which they were drawn.

    Draws depend only on `seed`, sentence, sample, step and token, so they are the same on the CPU
    and on a GPU. (Logits that differ in their last bits may still change a draw.)

    Args:
        step: the step function, or several for an ensemble.
        start_ids: integers [batch], what each sentence begins with.
        state: of the step function, one row for each sentence.
        n: sequences of each sentence.
        eos: one or several tokens.
        max_length: most tokens, an int or integers [batch].
        seed: of the draws.
        top_k: only the k largest of a row may be drawn.
        top_p: only the fewest tokens whose probabilities reach p may be drawn.
        options: other options of `BeamSearch` and of its call, such as temperature.

    Returns:
        n hypotheses for each sentence, whose scores are their log-probabilities.

    Raises:
        TypeError: an option of a wrong type.
        ValueError: an option out of range.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> table = np.log([[0.35, 0.45, 0.20], [0.55, 0.10, 0.35], [0.10, 0.80, 0.10]])
        >>> step = lambda ids, state, t: (table[ids], state)
        >>> decoding.sample(step, np.array([0]), n=4, eos=0, seed=1).tokens.shape[:2]
        (1, 4)
    """
    sampler = Sampler(seed, top_k, top_p)
    fixed = {"beam_size": n, "groups": n, "sampler": sampler, "length_norm": "none"}
    return _search("sample", step, start_ids, state, eos, max_length, fixed, options)


@dataclass(frozen=True)
class Score:
    """What `score` returns; arrays of the caller's library and device.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import Score
        >>> Score(np.zeros(1), np.zeros((1, 2))).logprobs
        array([0.])
    """

    logprobs: Array
    """Real [batch]: of each sequence; -inf where the model thinks one of its tokens impossible."""
    token_logprobs: Array
    """Real [batch, length]: of each token; 0 behind the end and in impossible sequences."""


def score(
    step: Step | Sequence[Step],
    sequences: Any,
    start_ids: Array,
    state: Any = None,
    *,
    eos: int | Sequence[int],
    lengths: Any = None,
    temperature: float = 1.0,
    ensemble: str = "probabilities",
    history: Any = None,
    history_lengths: Any = None,
) -> Score:
    """Log-probabilities of given sequences under a step function.

    Args:
        step: the step function, or several for an ensemble.
        sequences: a list of tokens for each sentence, or integers [batch, any]. They do not begin
            with the start ids. An EOS may only be the last token; without one the result is the
            probability of all sequences with this beginning.
        start_ids: integers [batch], what each sentence begins with.
        state: of the step function, one row for each sentence.
        eos: one or several tokens.
        lengths: [batch], with `sequences` of integers.
        temperature: divides the logits.
        ensemble: whether several step functions are averaged by "probabilities" or "logprobs".
        history: tokens [batch, any] before the first step, for penalties.
        history_lengths: [batch], how many of them are valid. None: all.

    Returns:
        Log-probabilities of the sequences and of their tokens.

    Raises:
        TypeError: sequences of a wrong type.
        ValueError: sequences of a wrong shape, or with a token out of range.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> table = np.log([[0.35, 0.45, 0.20], [0.55, 0.10, 0.35], [0.10, 0.80, 0.10]])
        >>> step = lambda ids, state, t: (table[ids], state)
        >>> np.exp(decoding.score(step, [[1, 0]], np.array([0]), eos=0).logprobs).round(4)
        array([0.2475])
    """
    xp = library_of(start_ids, "score", "start_ids")
    tokens, counts = _sequences(sequences, lengths, int(start_ids.shape[0]))
    ends = eos if isinstance(eos, (int, np.integer)) else list(eos)
    inside = np.isin(tokens, ends) & (np.arange(tokens.shape[1]) < counts[:, None] - 1)
    if inside.any():
        row = int(np.argmax(inside.any(1)))
        raise ValueError(
            f"score: sequences must have EOS only at their end, got it earlier in sequence {row}"
        )
    length = tokens.shape[1]
    options = {
        "beam_size": 1,
        "stop": "first_k",
        "length_norm": "none",
        "score_prefix": True,
        "temperature": temperature,
        "ensemble": ensemble,
    }
    # A search takes one step at least.
    called = {"prefix": [row[:n].tolist() for row, n in zip(tokens, counts, strict=True)]}
    limits = np.maximum(counts, 1)
    out = _search("score", step, start_ids, state, eos, limits, options, called)
    empty, missing = counts == 0, length - out.token_logprobs.shape[2]
    token_logprobs = out.token_logprobs[:, 0, :length]
    logprobs = out.logprobs[:, 0]
    if isinstance(start_ids, np.ndarray):
        token_logprobs = np.pad(token_logprobs, ((0, 0), (0, max(missing, 0))))
        return Score(
            np.where(empty, 0, logprobs).astype(logprobs.dtype),
            np.where(empty[:, None], 0, token_logprobs).astype(logprobs.dtype),
        )
    import torch

    token_logprobs = torch.nn.functional.pad(token_logprobs, (0, max(missing, 0)))
    none = torch.from_numpy(empty).to(xp.place(start_ids))
    return Score(logprobs.masked_fill(none, 0), token_logprobs.masked_fill(none[:, None], 0))


def _search(
    operation: str,
    step: Step | Sequence[Step],
    start_ids: Array,
    state: Any,
    eos: Any,
    max_length: Any,
    fixed: dict[str, Any],
    options: dict[str, Any],
) -> BeamResult:
    called = {name: options.pop(name) for name in _CALL_ARGUMENTS if name in options}
    cuda_graph = options.pop("cuda_graph", "auto")
    for name in options:
        if name in fixed or name not in SearchOptions.__dataclass_fields__ or name == "operation":
            raise TypeError(f"{operation}: unknown option {name}")
    longest = max_length
    if not isinstance(max_length, (int, np.integer)):
        longest = MOST_STEPS  # of what rows say themselves
    merged = SearchOptions(eos=eos, max_length=longest, operation=operation, **fixed, **options)
    search = BeamSearch.of(merged, cuda_graph)
    return search(step, start_ids, state, max_length=max_length, **called)


def _sequences(sequences: Any, lengths: Any, batch: int) -> tuple[Any, Any]:
    """int64 [batch, any] and [batch], on the host."""
    if isinstance(sequences, (list, tuple)):
        if lengths is not None:
            raise ValueError("score: lengths must be None for lists")
        tokens, counts = padded("score", "sequences", sequences)
    else:
        tokens = np.asarray(to_host(sequences))
        if tokens.dtype.kind not in "iu":
            raise TypeError(f"score: sequences must be integers, got {tokens.dtype}")
        if tokens.ndim != 2:
            raise ValueError(f"score: sequences must be [batch, any], got {list(tokens.shape)}")
        counts = np.full(len(tokens), tokens.shape[1], np.int64)
        if lengths is not None:
            counts = np.asarray(to_host(lengths))
            if counts.shape != (len(tokens),) or counts.dtype.kind not in "iu":
                raise ValueError(
                    f"score: lengths must be integers [{len(tokens)}], got {list(counts.shape)}"
                )
            if len(counts) and not 0 <= counts.min() <= counts.max() <= tokens.shape[1]:
                raise ValueError(f"score: lengths must be from 0 to {tokens.shape[1]}")
    if len(tokens) != batch:
        raise ValueError(f"score: sequences must be [{batch}, any], got {list(tokens.shape)}")
    return tokens, counts

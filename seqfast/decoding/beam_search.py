"""BeamSearch: batched beam search over any step function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from seqfast.decoding._inputs import Inputs
from seqfast.decoding._loop import Loop, bad_logits, device_of
from seqfast.decoding._masks import Allowed
from seqfast.decoding._model import Model, Step
from seqfast.decoding.lengths import length_tables
from seqfast.decoding.options import SearchOptions
from seqfast.decoding.result import BeamResult, collect
from seqfast.decoding.strategies import Begun, LengthNorm, Scorer, StopRule
from seqfast.ops.base.checks import check_choice
from seqfast.ops.beam_search.beams import BadRow, Beams, raise_status, start_beams

Array = Any  # a numpy.ndarray or a torch.Tensor


class BeamSearch:
    """Batched beam search over your own step function.

    `search(step, start_ids, state)` returns a `BeamResult`. `step(ids, state, t)` gets the last
    tokens, int64 [batch * beam_size], and returns logits [batch * beam_size, vocabulary] (float32,
    float64, bfloat16 or float16) and the next state. It works with NumPy arrays, and with torch
    tensors on the CPU or a GPU. There are no gradients. The same logits give the same hypotheses,
    bit for bit, in any batch.

    Strategies may be names or objects: `scorer`, `stop`, `sampler` and `constraints`. Penalties and
    bans are applied after the softmax, so log-probabilities stay the model's; with `renormalize`
    they are applied before it. With a sampler, ended and living hypotheses compete by their noisy
    scores, and `stop`, `eos_pool` and `enough` have no effect.

    On the CPU, sentences that are done leave the batch. On a GPU they are masked, nothing in the
    loop synchronises, and the stop flag is read one step late.

    Args:
        beam_size: living hypotheses of each sentence.
        eos: one or several tokens that end a hypothesis.
        max_length: largest number of tokens, prefix included.
        min_length: least number of tokens before an EOS.
        n_best: hypotheses returned for each sentence; default 1, with groups or a sampler
            beam_size.
        length_norm: "none"; "avg": log-probability / n ** alpha; "gnmt": / ((5 + n) / 6) ** alpha
            (Wu et al. 2016); "reward": + alpha * n (He et al. 2016); or a callable that maps
            integer lengths, a NumPy array [any], to positive divisors, or to a tuple of divisors
            and addends.
        alpha: of the length norm.
        count_eos: whether n counts the EOS.
        stop: when a sentence is done, apart from having no living hypothesis. "exact": `n_best`
            have ended and no living one can become better than the worst of them at any length up
            to max_length; "hf": `enough` have ended and the best living one, normalised by its
            present length, is no better; "longest": the same, normalised by max_length if that
            gives a higher score; "first_k": beam_size have ended, counted in the order in which
            they end; "full": `enough` have ended, and better ones of the last step may replace
            others; "top_beam": the best candidate of some step ended, and `enough` have ended. Or
            an object such as `Exact(3)`, or a `StopRule`.
        eos_pool: an ended hypothesis is kept if its rank among all candidates of its step is below
            `beam_size` ("topk"), below twice that ("top2k"), or any ("any"). "inbeam": as "topk",
            but it also takes one of the beams of this step.
        no_repeat_ngram: length of n-grams that must not repeat (Paulus et al. 2018). 0: no limit.
        repetition_penalty: of Keskar et al. 2019. 1: none.
        groups: of diverse beam search (Vijayakumar et al. 2018).
        diversity: penalty for tokens that earlier groups chose in this step.
        temperature: divides the logits.
        sampler: a `Sampler`, or an object with a method `mask` (see `OwnSampler`).
        scorer: a `LengthNorm`, or a callable of lengths, instead of `length_norm`.
        constraints: a list of `MinLength`, `NoRepeat`, `Ban`, `StopAt`, `Phrases`, `Grammar` and
            other `Constraint` objects.
        distinct: return no hypothesis twice, even if several groups found it.
        each_group: return the best hypothesis of each group.
        banned: tokens that are never chosen.
        renormalize: apply penalties and bans before the softmax.
        score_prefix: tokens of a prefix count in scores and lengths.
        length_offset: added to n.
        enough: see `stop`; default n_best for "exact" and "top_beam", else beam_size.
        at_max: at max_length a hypothesis is "cut" (kept without EOS), or gets one more step that
            must be "eos"; "rest": cut ones are used only if none of their sentence has ended.
        ensemble: several step functions are averaged by "probabilities" or "logprobs".
        weights: a number above 0 for each step function: shares of the probabilities, or factors of
            the log-probabilities, which need not sum to 1.
        pad: the token after the end of a hypothesis; default the first of `eos`.
        keep_eos: whether tokens and lengths include the EOS.
        cuda_graph: on a GPU, whether a step is captured in a CUDA graph and replayed: "auto" (if
            possible), True (RuntimeError if not possible) or False. It is possible if the state
            consists of tensors whose shapes stay the same, and the step function neither waits for
            the device nor uses `t` as a number (in a graph it is a tensor, int64 []).

    Raises:
        TypeError: an option of a wrong type, or `eos` missing.
        ValueError: an option out of range, or options that exclude each other.

    Example:
        >>> import numpy as np, seqfast
        >>> table = np.log([[0.35, 0.45, 0.20], [0.55, 0.10, 0.35], [0.10, 0.80, 0.10]])
        >>> search = seqfast.BeamSearch(beam_size=2, eos=0, max_length=6)
        >>> out = search(lambda ids, state, t: (table[ids], state), np.array([0]))
        >>> out.tokens[0, 0], out.scores[0].round(3)
        (array([1, 2, 1, 2, 1, 0]), array([-0.657]))
    """

    def __init__(
        self,
        beam_size: int = 5,
        eos: int | Sequence[int] | None = None,
        max_length: int = 100,
        min_length: int = 0,
        n_best: int | None = None,
        length_norm: str | Callable[[Any], Any] = "avg",
        alpha: float = 1.0,
        count_eos: bool = True,
        stop: str | StopRule | Any = "exact",
        eos_pool: str = "topk",
        no_repeat_ngram: int = 0,
        repetition_penalty: float = 1.0,
        groups: int = 1,
        diversity: float = 0.0,
        temperature: float = 1.0,
        sampler: Any = None,
        *,
        scorer: Scorer | LengthNorm | None = None,
        constraints: Sequence[Any] = (),
        distinct: bool = False,
        each_group: bool = False,
        banned: int | Sequence[int] = (),
        renormalize: bool = False,
        score_prefix: bool = False,
        length_offset: int = 0,
        enough: int | None = None,
        at_max: str = "cut",
        ensemble: str = "probabilities",
        weights: Sequence[float] | None = None,
        pad: int | None = None,
        keep_eos: bool = True,
        cuda_graph: bool | str = "auto",
    ) -> None:
        if eos is None:
            raise TypeError("BeamSearch: eos must be given: one or several tokens")
        options = SearchOptions(
            eos=eos,  # type: ignore[arg-type]
            beam_size=beam_size,
            max_length=max_length,
            min_length=min_length,
            n_best=n_best,
            length_norm=length_norm,
            alpha=alpha,
            count_eos=count_eos,
            length_offset=length_offset,
            stop=stop,
            enough=enough,
            eos_pool=eos_pool,
            at_max=at_max,
            no_repeat_ngram=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            groups=groups,
            diversity=diversity,
            temperature=temperature,
            banned=banned,  # type: ignore[arg-type]
            renormalize=renormalize,
            score_prefix=score_prefix,
            sampler=sampler,
            ensemble=ensemble,
            weights=weights,
            pad=pad,
            keep_eos=keep_eos,
            scorer=scorer,
            constraints=constraints,
            distinct=distinct,
            each_group=each_group,
        )
        self._begin(options, cuda_graph)

    def _begin(self, options: SearchOptions, cuda_graph: bool | str) -> None:
        check_choice(options.operation, "cuda_graph", cuda_graph, (True, False, "auto"))
        self.options = options
        self.cuda_graph = cuda_graph

    @classmethod
    def of(cls, options: SearchOptions, cuda_graph: bool | str = "auto") -> BeamSearch:
        """A search with these options."""
        search = cls.__new__(cls)
        search._begin(options, cuda_graph)
        return search

    @classmethod
    def like(
        cls, system: str, beam_size: int = 5, *, eos: int | Sequence[int], **options: Any
    ) -> BeamSearch:
        """A search with the conventions of "hf", "fairseq", "opennmt", "ct2" or "t5x".

        See `seqfast.decoding.conventions` for the options of each, and
        docs/coming_from_fairseq.md for their meaning. Other options are those of `BeamSearch` and
        override the preset.
        """
        from seqfast.decoding.conventions import preset

        return cls(beam_size, eos, **preset(system, beam_size, options))

    def __repr__(self) -> str:
        return f"BeamSearch({self.options})"

    def __call__(
        self,
        step: Step | Sequence[Step],
        start_ids: Array,
        state: Any = None,
        *,
        prefix: Any = None,
        prefix_lengths: Any = None,
        allowed: Allowed | None = None,
        max_length: Any = None,
        history: Array | None = None,
        history_lengths: Array | None = None,
        attention: Callable[[Any], Array] | None = None,
    ) -> BeamResult:
        """Searches from `start_ids`, integers [batch], and `state`.

        - `step`: the step function, or a list of several (an ensemble) with a list of their states.
        - `state`: any pytree of dicts, lists, tuples, named tuples and dataclasses, with tensors
          [batch, ...] (`along` for rows in another dimension), numbers, texts and None, and objects
          that select their rows themselves (with `reorder_cache` or `batch_select_indices`, as a
          `transformers` cache, or registered by `register_state`). Its rows are repeated over the
          beams, so row r in the step function belongs to sentence r // beam_size; parts marked by
          `shared` are not repeated. The step function may change its state in place or return
          another one of the same structure; the caller's state is not changed. A part that begins
          as None may get a value after a step (marked by `along` each time, if its rows are in
          another dimension), and must then keep that structure.
        - `prefix`: tokens to begin with, a list of lists of tokens, one for each sentence, or
          integers [batch, any] with `prefix_lengths` [batch]. An EOS can only be its last token.
        - `allowed(t, rows)`: called at every step; returns the tokens that may be chosen: a bool
          mask [batch * beam_size, vocabulary], a list of tokens for each row (None: all), or None.
          `rows` has `ids`, `sentences`, `tokens` (so far) and `living`; `per_sequence` adapts a
          function of a sentence and its tokens.
        - `max_length`: an int or integers [batch], instead of the option.
        - `history` integers [batch, any] with `history_lengths` [batch]: the tokens before the
          first step for `repetition_penalty` and `no_repeat_ngram`; default the start ids.
        - `attention(state)`: returns the attention weights of a step from the state after it,
          [batch * beam_size, memory_steps]; for an ensemble it gets the list of states. The result
          then has the `attention` of each token, and a coverage penalty is possible.

        Raises TypeError or ValueError for wrong arguments, and `StepError` (a RuntimeError) if the
        step function raises. After an error, and after Ctrl-C, you can use the search again.
        """
        o = self.options
        given = Inputs(o, start_ids, prefix, prefix_lengths, max_length, history, history_lengths)
        if o.phrases is not None and given.prefix is not None:
            raise ValueError(
                f"{o.operation}: Phrases cannot be combined with a prefix; feed it to the model "
                "first and search from its state"
            )
        if o.coverage and attention is None:
            raise ValueError(
                f"{o.operation}: attention must be given in the call for a coverage penalty"
            )
        if allowed is not None and not callable(allowed):
            raise TypeError(
                f"{o.operation}: allowed must be callable, got {type(allowed).__name__}"
            )
        with _no_gradients(given.ids):
            # A step function may know a shorter way to the end, if nobody needs to see each step.
            masked = allowed is not None or o.by_steps or attention is not None
            search_to_end = getattr(type(step), "search_to_end", None)
            if search_to_end is not None and not masked:
                started: list[Beams] = []

                def begin(logits: Array) -> Beams:
                    started.append(self._start(given, logits, False))
                    return started[0]

                try:
                    beams = search_to_end(step, given.ids, begin)
                except BadRow as bad:
                    raise bad_logits(o, "the decoder", started[0], bad) from None
                if beams is not None:
                    return collect(beams, o, int(beams.step[0]))
            model = Model(step, state, given.batch, given.ids, o)

            def start(logits: Array) -> Beams:
                return self._start(given, logits, model.averaged)

            repeated = (
                given.ids.repeat(o.beam_size)
                if isinstance(given.ids, np.ndarray)
                else given.ids.repeat_interleave(o.beam_size)
            )

            def begun(logits: Array) -> Begun:
                return Begun(
                    int(logits.shape[0]), o.beam_size, int(logits.shape[1]), o.eos, o.min_length,
                    logits, given.history, given.history_lengths,
                )  # fmt: skip

            loop = Loop(model, repeated, start, given.capacity, o, allowed, begun, attention)
            beams = loop.run(self.cuda_graph)
            if device_of(given.ids) is not None:
                try:
                    raise_status(int(beams.status[0]))
                except BadRow as bad:
                    raise loop.placed(bad) from None
            return collect(beams, o, loop.steps, loop.attended)

    def _start(self, given: Inputs, logits: Array, averaged: bool) -> Beams:
        o = self.options
        kernel = o.for_vocabulary(logits.shape[1], 1.0 if averaged else None)
        remembers = kernel.repetition_penalty != 1 or kernel.no_repeat_ngram > 0
        given.check_vocabulary(logits.shape[1], remembers)
        tables = length_tables(o, given.capacity, given.longest)
        return start_beams(
            kernel,
            given.batch,
            given.capacity,
            np.float64 if str(logits.dtype).endswith("float64") else np.float32,
            max_lengths=given.max_lengths,
            prefix=given.prefix,
            prefix_lengths=given.prefix_lengths,
            tables=tables,
            history=given.history if remembers else None,
            history_lengths=given.history_lengths if remembers else None,
            seed=o.seed,
            like=logits,
        )


def _no_gradients(ids: Array) -> Any:
    if isinstance(ids, np.ndarray):
        return nullcontext()
    import torch

    return torch.no_grad()

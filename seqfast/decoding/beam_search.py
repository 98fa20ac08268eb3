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
    """Batched beam search over a step function of your own.

    `search(step, start_ids, state)` returns a `BeamResult`. `step(ids, state, t)` gets the last
    tokens, int64 [batch * beam_size], and returns logits [batch * beam_size, vocabulary] (float32,
    float64, bfloat16 or float16) and the state after them. It works on NumPy arrays, and on torch
    tensors of the CPU and of a GPU. There are no gradients. The same logits give the same
    hypotheses, bit for bit, in any batch.

    Strategies may be given as names, or as objects: `scorer`, `stop`, `sampler` and `constraints`.
    Penalties and bans follow the softmax, so log-probabilities stay the model's; with `renormalize`
    they precede it. With a sampler, ended and living hypotheses compete by what was drawn, and
    `stop`, `eos_pool` and `enough` have no effect.

    On the CPU sentences that are done leave the batch. On a GPU they are masked, nothing in the
    loop synchronises, and the stop flag is read a step late.

    Args:
        beam_size: hypotheses that go on at each step, of each sentence.
        eos: a token or several that end a hypothesis.
        max_length: most tokens, prefix included.
        min_length: tokens before an EOS.
        n_best: hypotheses returned for each sentence; default 1, with groups or a sampler
            beam_size.
        length_norm: "none"; "avg": log-probability / n ** alpha; "gnmt": / ((5 + n) / 6) ** alpha
            (Wu et al. 2016); "reward": + alpha * n (He et al. 2016); or a callable that maps
            integer lengths, a NumPy array [any], to positive divisors, or to a tuple of divisors
            and addends.
        alpha: of the length norm.
        count_eos: whether n counts the EOS.
        stop: a sentence is done when nothing is alive, or "exact": `n_best` have ended and nothing
            alive can become better than the worst of them, whatever length up to max_length it
            takes; "hf": `enough` have ended and the best alive, normalised by its present length,
            is no better; "longest": the same by max_length where that is to its advantage;
            "first_k": beam_size have ended, counted in the order in which they end; "full":
            `enough` have ended, of which better ones of the last step may displace others;
            "top_beam": the best candidate of some step ended, and `enough` have ended. Or an
            object, as `Exact(3)`, or a `StopRule`.
        eos_pool: an ended hypothesis is kept if, among all candidates of its step, it ranks below
            `beam_size` ("topk"), below twice that ("top2k"), anywhere ("any"), or as "topk" but
            takes one of the beams of this step away ("inbeam").
        no_repeat_ngram: length of n-grams that may not come twice (Paulus et al. 2018). 0: all may.
        repetition_penalty: of Keskar et al. 2019. 1: none.
        groups: of diverse beam search (Vijayakumar et al. 2018).
        diversity: what tokens chosen by earlier groups cost the later ones.
        temperature: divides the logits.
        sampler: a `Sampler`, or an object with a method `mask`, as `OwnSampler` says.
        scorer: a `LengthNorm`, or a callable of lengths, in place of `length_norm`.
        constraints: a list of `MinLength`, `NoRepeat`, `Ban`, `StopAt`, `Phrases`, `Grammar` and
            other objects that are a `Constraint`.
        distinct: no hypothesis twice among `n_best`, though several groups found it.
        each_group: returns the best of each group.
        banned: tokens that are never chosen.
        renormalize: penalties and bans precede the softmax.
        score_prefix: tokens of a prefix count in scores and lengths.
        length_offset: added to n.
        enough: default n_best for "exact" and "top_beam", else beam_size.
        at_max: at its last step a hypothesis is "cut" (kept without EOS), or must take "eos", in
            one step more than max_length; "rest": cut ones count only where none of their sentence
            ended.
        ensemble: whether several step functions are averaged by "probabilities" or "logprobs".
        weights: a number above 0 for each step function: shares of the probabilities, or factors of
            the log-probabilities, which need not sum to 1.
        pad: what stands after a hypothesis; default the first of `eos`.
        keep_eos: whether tokens and lengths include the EOS.
        cuda_graph: on a GPU, whether a step is captured in a CUDA graph and replayed: "auto" where
            it can be, True (RuntimeError where it cannot), False. It can be where the state is made
            of tensors whose shapes stay the same, and the step function neither waits for the
            device nor uses `t` as a number (in a graph it is a tensor, int64 []).

    Raises:
        TypeError: an option of a wrong type, or `eos` missing.
        ValueError: an option out of range, or options that do not go together.

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
            raise TypeError("BeamSearch: eos must be given: a token or several")
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
        docs/coming_from_fairseq.md for what they do. Other options are those of `BeamSearch` and
        take the preset's place.
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

        - `step`: the step function, or several (an ensemble), with a list of as many states.
        - `state`: any pytree of dicts, lists, tuples, named tuples and dataclasses, of tensors
          [batch, ...] (`along` for rows in another dimension), numbers, texts and None, and of
          objects that choose their rows themselves (`reorder_cache` or `batch_select_indices` as a
          `transformers` cache has them, or told to `register_state`). Rows are repeated over beams
          here, so row r of what the step function gets belongs to sentence r // beam_size; parts
          marked by `shared` are not. The step function may change it in place or return another of
          the same structure; what the caller gave stays as it is. What begins as None may become
          something after a step (marked by `along` each time, if its rows lie elsewhere), and keeps
          that structure from then on.
        - `prefix`: tokens to begin with, a list of a list for each sentence, or integers [batch,
          any] with `prefix_lengths` [batch]. An EOS can only be its last token.
        - `allowed(t, rows)`: called at every step; returns what may be chosen: a bool mask [batch *
          beam_size, vocabulary], a list of tokens for each row (None: all), or None. `rows` has
          `ids`, `sentences`, `tokens` (so far) and `living`; `per_sequence` makes one of a
          function of a sentence and its tokens.
        - `max_length`: an int or integers [batch], in place of the option.
        - `history` integers [batch, any] with `history_lengths` [batch]: tokens before the first
          step as `repetition_penalty` and `no_repeat_ngram` see them, default the start ids.
        - `attention(state)`: of the state after a step what it attended to, [batch * beam_size,
          memory_steps] (of an ensemble: of the list of states). The result then has `attention`
          of each token, and a coverage penalty can be had.

        Raises TypeError or ValueError for what cannot be, `StepError` (a RuntimeError) where the
        step function raises. After an error, and after Ctrl-C, the search can be used again.
        """
        o = self.options
        given = Inputs(o, start_ids, prefix, prefix_lengths, max_length, history, history_lengths)
        if o.phrases is not None and given.prefix is not None:
            raise ValueError(
                f"{o.operation}: Phrases cannot be had beside a prefix; feed it to the model first "
                "and go on from its state"
            )
        if o.coverage and attention is None:
            raise ValueError(
                f"{o.operation}: attention must be given to the call for a coverage penalty"
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

"""Small searches for the tests of beam search: a model, a loop around the step, and an oracle."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Sequence = tuple[int, ...]


@dataclass
class Markov:
    """Logits that depend on the sentence, the step and the last token, of which there are
    `vocabulary`; before the first stands token `vocabulary`."""

    sentences: int
    vocabulary: int
    steps: int
    seed: int = 0
    decimals: int | None = None
    """To how many decimals logits are rounded: 0 makes many ties."""
    table: Array = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        shape = (self.sentences, self.steps, self.vocabulary + 1, self.vocabulary)
        table = 2 * rng.standard_normal(shape)
        self.table = table if self.decimals is None else np.round(table, self.decimals)

    def logits(self, step: int, sentence: Array, last: Array) -> Array:
        """[rows, vocabulary] for rows of sentences [rows] with last tokens [rows]."""
        return self.table[sentence, step, last]


def forward(
    ops: Any,
    model: Markov,
    beams: Any,
    *,
    change: Callable[[Array], Any] = lambda logits: logits.astype(np.float32),
    allowed: Array | None = None,
    steps: int | None = None,
) -> Iterator[int]:
    """Steps of a search until no sentence lives; yields the number of each before the next."""
    o = beams.options
    last = np.full(len(beams.sentence) * o.beams, model.vocabulary)
    for step in range(model.steps if steps is None else steps):
        sentence = np.repeat(np.asarray(beams.sentence), o.beams)
        ops.beam_step(change(model.logits(step, sentence, last)), beams, allowed=allowed)
        yield step
        if int(beams.living[0]) == 0:
            return
        last = np.asarray(beams.next_tokens).copy().reshape(-1)


def search(ops: Any, model: Markov, beams: Any, **more: Any) -> list[list[list[Any]]]:
    """`found` after all steps."""
    for _ in forward(ops, model, beams, **more):
        pass
    return found(ops, beams)


def found(ops: Any, beams: Any) -> list[list[list[Any]]]:
    """Of each sentence and group: (tokens, score) of its ended hypotheses, in the pool's order."""
    shape = beams.pool_steps.shape
    flat = shape[0], shape[1] * shape[2]
    ended = [
        getattr(beams, name).reshape(*flat)
        for name in ("pool_steps", "pool_parents", "pool_tokens", "pool_last")
    ]
    free = np.arange(shape[2]) >= np.asarray(beams.pool_counts)[..., None]
    steps = np.where(free.reshape(flat), -1, np.asarray(ended[0])).astype(np.int32)
    if not isinstance(ended[0], np.ndarray):
        steps = ended[0].new_tensor(steps)
    tokens, _, _ = ops.beam_backtrack(
        beams, steps, *ended[1:], length=beams.tokens.shape[0], pad=-1
    )
    tokens = np.asarray(tokens).reshape(*shape, -1)
    scores = np.asarray(beams.pool_scores)
    return [
        [
            [
                (tuple(int(t) for t in tokens[s, g, h] if t >= 0), scores[s, g, h])
                for h in range(int(beams.pool_counts[s, g]))
            ]
            for g in range(shape[1])
        ]
        for s in range(shape[0])
    ]


def log_softmax(x: Array) -> Array:
    largest = x.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        return x if largest == -np.inf else x - largest - np.log(np.exp(x - largest).sum())


def every_sequence(model: Markov, eos: Sequence, sentence: int) -> list[tuple[Sequence, float]]:
    """All that end with an EOS or with the last step, and their log-probabilities."""
    ends = []
    others = [t for t in range(model.vocabulary) if t not in eos]
    for n in range(model.steps):
        last = range(model.vocabulary) if n == model.steps - 1 else eos
        for body in itertools.product(others, repeat=n):
            for end in last:
                ends.append((*body, end))
    return [(tokens, log_probability(model, sentence, tokens)) for tokens in ends]


def log_probability(model: Markov, sentence: int, tokens: Sequence) -> float:
    last, total = model.vocabulary, 0.0
    for step, token in enumerate(tokens):
        total += log_softmax(model.table[sentence, step, last])[token]
        last = token
    return total


@dataclass
class Hypothesis:
    tokens: Sequence
    score: float


class Oracle:
    """Beam search over whole sequences, one sentence, as the rules say it; no noise.

    `pools` [groups]: (tokens, normalised score), best first; `done`, `certified` [groups].
    """

    def __init__(
        self, model: Markov, options: Any, sentence: int, most: int, tables: dict[str, Array],
        prefix: Sequence = (), allowed: Array | None = None, history: Sequence = (),
    ) -> None:  # fmt: skip
        self.model, self.o, self.sentence, self.most = model, options, sentence, most
        self.tables, self.prefix, self.allowed, self.history = tables, prefix, allowed, history
        groups, self.own = options.groups, options.beams // options.groups
        self.living = [[Hypothesis((), 0.0)] for _ in range(groups)]
        self.pools: list[list[tuple[Sequence, float]]] = [[] for _ in range(groups)]
        self.done, self.certified = [False] * groups, [False] * groups
        self.ended_on_top = [False] * groups
        for step in range(most):
            chosen: list[int] = []
            for group in range(groups):
                if not self.done[group]:
                    self._advance(step, group, chosen)
                    chosen += [h.tokens[-1] for h in self.living[group]]
                    self._stop(step, group)

    def _log_probabilities(self, step: int, tokens: Sequence) -> tuple[Array, Array]:
        o = self.o
        last = tokens[-1] if tokens else self.model.vocabulary
        logits = self.model.table[self.sentence, step, last] / o.temperature
        plain = log_softmax(logits)
        x = (logits if o.renormalize else plain).copy()
        past = self.history + tokens
        for token in set(past) if o.repetition_penalty != 1 else ():
            x[token] *= o.repetition_penalty if x[token] < 0 else 1 / o.repetition_penalty
        n = o.no_repeat_ngram
        for token in range(self.model.vocabulary if n else 0):
            grams = [past[i : i + n] for i in range(len(past) - n + 1)]
            if (*past[len(past) - n + 1 :], token) in grams and len(past) >= n - 1:
                x[token] = -np.inf
        given = 0 if o.score_prefix else len(self.prefix)
        for token in range(self.model.vocabulary):
            early = token in o.eos and step - given < o.min_length
            late = token not in o.eos and o.force_eos and step + 1 == self.most
            shut = self.allowed is not None and not self.allowed[token]
            if token in o.banned or early or late or shut:
                x[token] = -np.inf
        return x, plain

    def _advance(self, step: int, group: int, chosen: list[int]) -> None:
        o, last = self.o, step + 1 == self.most
        candidates: list[Hypothesis] = []
        for h in self.living[group]:
            x, plain = self._log_probabilities(step, h.tokens)
            if step < len(self.prefix):
                token = self.prefix[step]
                gain = plain[token] if o.score_prefix else 0.0
                candidates.append(Hypothesis((*h.tokens, token), h.score + gain))
                continue
            x = log_softmax(x) if o.renormalize else x
            candidates += [Hypothesis((*h.tokens, t), h.score + x[t]) for t in range(len(x))]
        for h in candidates:
            h.score -= o.diversity * chosen.count(h.tokens[-1])
        candidates = [h for h in candidates if h.score > -np.inf]
        candidates.sort(key=lambda h: -h.score)
        self.living[group] = []
        room = self.own
        for rank, h in enumerate(candidates):
            eos = h.tokens[-1] in o.eos
            if not (eos or last):
                if len(self.living[group]) < room:
                    self.living[group].append(h)
                continue
            within = rank < (2 * self.own if o.eos_pool == "top2k" else self.own)
            if o.eos_pool == "inbeam" and rank < self.own:
                room -= 1
            if within or (o.eos_pool == "any" and eos):
                self._keep(group, h, eos)
        if candidates and candidates[0].tokens[-1] in o.eos:
            self.ended_on_top[group] = True

    def _length(self, n: int, eos: bool) -> int:
        given = 0 if self.o.score_prefix else len(self.prefix)
        return max(max(n - given, 0) - (eos and not self.o.count_eos), 0)

    def _keep(self, group: int, h: Hypothesis, eos: bool) -> None:
        o, pool = self.o, self.pools[group]
        if o.stop == "first_k" and len(pool) == o.pool:
            return
        n = self._length(len(h.tokens), eos)
        pool.append((h.tokens, h.score / self.tables["divisor"][n] + self.tables["addend"][n]))
        pool.sort(key=lambda entry: -entry[1])
        del pool[o.pool :]

    def _stop(self, step: int, group: int) -> None:
        o, pool = self.o, self.pools[group]
        enough = len(pool) >= o.wanted
        n = self._length(step + 1, False)

        def unreachable(which: str) -> bool:
            best = max(h.score for h in self.living[group])
            bound = best / self.tables[which + "divisor"][n] + self.tables[which + "addend"][n]
            return enough and pool[o.wanted - 1][1] >= bound

        if not self.living[group]:
            self.done[group] = self.certified[group] = True
            return
        if o.stop == "exact":
            self.done[group] = unreachable("bound_")
        elif o.stop == "first_k":
            self.done[group] = len(pool) >= self.own
        else:
            self.done[group] = self.ended_on_top[group] and enough
        if self.done[group]:
            self.certified[group] = unreachable("certain_")
            self.living[group] = []


def length_tables(capacity: int, alpha: float) -> dict[str, Array]:
    """Scores over length to the power of alpha; the bound is the best length still to come."""
    n = np.maximum(np.arange(capacity + 1.0), 1) ** alpha
    best = np.maximum.accumulate(n[::-1])[::-1]
    zero = np.zeros(capacity + 1)
    return {
        "divisor": n, "addend": zero, "bound_divisor": np.minimum(best, 1.5 * n),
        "bound_addend": zero, "certain_divisor": best, "certain_addend": zero,
    }  # fmt: skip


def draw_options(rng: np.random.Generator, vocabulary: int) -> dict[str, Any]:
    """Any combination of rules, each option as it is by default half of the time."""

    def maybe(*values: Any) -> Any:
        return values[0] if rng.random() < 0.5 else values[rng.integers(1, len(values))]

    own, groups = int(rng.integers(1, 5)), int(maybe(1, 2, 3))
    stop = maybe("exact", "first_k", "top_beam")
    pool = own + int(rng.integers(0, 3))
    return {
        "beams": own * groups,
        "groups": groups,
        "eos": (0, 2)[: maybe(1, 2)],
        "eos_pool": maybe("topk", "top2k", "any", "inbeam"),
        "stop": stop,
        "pool": pool,
        "wanted": int(rng.integers(1, pool + 1)),
        "min_length": maybe(0, 1, 3),
        "no_repeat_ngram": maybe(0, 1, 2, 3),
        "temperature": maybe(1.0, 0.7, 2.0),
        "repetition_penalty": maybe(1.0, 1.3, 0.8),
        "diversity": maybe(0.0, 0.5, 3.0),
        "renormalize": maybe(False, True),
        "force_eos": maybe(False, True),
        "score_prefix": maybe(False, True),
        "count_eos": maybe(True, False),
        "banned": maybe((), (1,), (1, 3)),
        "vocabulary": vocabulary,
    }

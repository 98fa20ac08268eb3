"""Exact search for small cases: depth first, with a beam's result as the bound to beat."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqfast.decoding._inputs import Inputs
from seqfast.decoding._model import Model, Step, log_softmax
from seqfast.decoding.beam_search import BeamSearch, _no_gradients
from seqfast.decoding.lengths import length_tables
from seqfast.decoding.options import SearchOptions
from seqfast.decoding.result import BeamResult
from seqfast.decoding.state import Rows
from seqfast.ops.base.checks import check_whole

Array = Any  # a numpy.ndarray or a torch.Tensor

# Nodes that are expanded by one call of the step function.
_BLOCK = 64


@dataclass
class _Block:
    """Nodes to expand: each `tokens` with its log-probability and row of `states`."""

    tokens: list[tuple[int, ...]]
    logprobs: list[tuple[float, ...]]  # of each token
    rows: list[int]
    states: list[Any]


@dataclass
class _Best:
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    score: float


def exact_search(
    step: Step,
    start_ids: Array,
    state: Any = None,
    *,
    eos: Any,
    max_length: int = 100,
    min_length: int = 0,
    length_norm: str | Callable[[Any], Any] = "none",
    alpha: float = 1.0,
    count_eos: bool = True,
    at_max: str = "cut",
    temperature: float = 1.0,
    banned: Any = (),
    pad: int | None = None,
    beam_size: int = 5,
    max_nodes: int = 100_000,
    history: Any = None,
    history_lengths: Any = None,
) -> BeamResult:
    """The best of all sequences, by depth-first search (Stahlberg & Byrne 2019).

    A beam search finds the first bound. A partial sequence is dropped as soon as no continuation up
    to max_length can beat the best sequence known under the length norm. For small cases: the
    number of nodes may grow exponentially. Log-probabilities are summed in float64. Options are
    those of `BeamSearch`.

    Args:
        step: the step function.
        start_ids: integers [batch], what each sentence begins with.
        state: of the step function, one row for each sentence.
        eos: one or several tokens.
        max_length: most tokens.
        min_length: tokens before an EOS.
        length_norm: how scores depend on length.
        alpha: of the length norm.
        count_eos: whether the EOS counts in the length.
        at_max: what happens at the last step.
        temperature: divides the logits.
        banned: tokens that are never chosen.
        pad: what stands after a sequence; default the first of `eos`.
        beam_size: of the search for the first bound.
        history: tokens [batch, any] before the first step, for penalties.
        history_lengths: [batch], how many of them are valid. None: all.
        max_nodes: a sentence that needs more nodes returns the best sequence found so far, and its
            `certified` is False.

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
        >>> decoding.exact_search(step, np.array([0]), eos=0, max_length=6).tokens[0, 0]
        array([0])
    """
    check_whole("exact_search", "max_nodes", max_nodes, 1, (1 << 62))
    options = SearchOptions(
        eos=eos,
        beam_size=beam_size,
        max_length=max_length,
        min_length=min_length,
        length_norm=length_norm,
        alpha=alpha,
        count_eos=count_eos,
        at_max=at_max,
        temperature=temperature,
        banned=banned,
        pad=pad,
        operation="exact_search",
    )
    if at_max == "rest":
        raise ValueError("exact_search: at_max must be 'cut' or 'eos', got 'rest'")
    bound = BeamSearch.of(options, cuda_graph=False)(step, start_ids, state)
    given = Inputs(options, start_ids, None, None, None, None, None)
    with _no_gradients(given.ids):
        model = Model(step, state, given.batch, given.ids, options.changed(beam_size=1))
        tables = length_tables(options, given.capacity, given.longest)
        search = _Search(model, given.ids, options, given.capacity, tables, max_nodes)
        found = [
            search.of(sentence, _hypothesis(bound, sentence)) for sentence in range(given.batch)
        ]
    return _result(found, options, bound, max(given.capacity, 0))


class _Search:
    def __init__(
        self,
        model: Model,
        ids: Array,
        options: SearchOptions,
        capacity: int,
        tables: dict[str, Any],
        max_nodes: int,
    ) -> None:
        self._model, self._ids, self._options = model, ids, options
        self._capacity, self._tables, self._max_nodes = capacity, tables, max_nodes

    def of(self, sentence: int, known: _Best | None) -> tuple[_Best | None, bool]:
        """The best of a sentence, and whether all others were looked at or excluded."""
        best = known
        # What the beam found in float32 is found again here; it must not exclude itself.
        least = -np.inf if known is None else known.score - 1e-5 * max(1.0, abs(known.score))
        row = self._array([sentence])
        first = Rows(row, row, row)
        begun = self._model.select(copy.deepcopy(self._model.states), first)
        stack = [_Block([()], [()], [0], begun)]
        nodes = 0
        while stack:
            block = stack.pop()
            alive = [i for i, p in enumerate(block.logprobs) if self._limit(p) > least]
            if not alive:
                continue
            nodes += len(alive)
            if nodes > self._max_nodes:
                return best, False
            tokens = [block.tokens[i] for i in alive]
            past = [block.logprobs[i] for i in alive]
            t = len(tokens[0])
            rows = self._array([block.rows[i] for i in alive])
            # Objects change in place, and other blocks come from the same state.
            states = copy.deepcopy(block.states)
            states = self._model.select(states, Rows(rows, None, rows))
            last = self._array([s[-1] for s in tokens]) if t else self._ids[sentence : sentence + 1]
            logits, after = self._model(last, states, t, 1)
            logs = self._log_softmax(logits, t, sentence, tokens)
            children: list[tuple[float, int, int]] = []
            for i, row_logs in enumerate(logs):
                for token in np.flatnonzero(row_logs > -np.inf):
                    p = (*past[i], float(row_logs[token]))
                    ends = int(token) in self._options.eos
                    if ends or t + 1 == self._capacity:
                        score = self._score(p, ends)
                        if score > least:
                            best = _Best((*tokens[i], int(token)), p, score)
                            least = score
                    elif self._limit(p) > least:
                        children.append((self._limit(p), i, int(token)))
            children.sort(key=lambda c: c[0])
            for begin in range(0, len(children), _BLOCK):
                part = children[begin : begin + _BLOCK]
                stack.append(
                    _Block(
                        [(*tokens[i], token) for _, i, token in part],
                        [(*past[i], float(logs[i, token])) for _, i, token in part],
                        [i for _, i, _ in part],
                        after,
                    )
                )
        return best, True

    def _limit(self, logprobs: tuple[float, ...]) -> float:
        """The best score that anything that begins so can have."""
        n = len(logprobs)
        total = sum(logprobs) / self._tables["certain_divisor"][n]
        return float(total + self._tables["certain_addend"][n])

    def _score(self, logprobs: tuple[float, ...], ends: bool) -> float:
        n = len(logprobs) - (ends and not self._options.count_eos)
        return float(sum(logprobs) / self._tables["divisor"][n] + self._tables["addend"][n])

    def _log_softmax(
        self, logits: Array, t: int, sentence: int, tokens: list[tuple[int, ...]]
    ) -> Any:
        o = self._options
        o.for_vocabulary(logits.shape[1])  # its checks
        if not isinstance(logits, np.ndarray):
            logits = logits.detach().double().cpu().numpy()
        x = logits.astype(np.float64) / o.temperature
        if np.isnan(x).any() or (x == np.inf).any():
            row = int(np.argmax((np.isnan(x) | (x == np.inf)).any(1)))
            raise ValueError(
                "exact_search: logits of step must not hold NaN or +inf, got one at "
                f"t = {t} for sentence {sentence} after the tokens {list(tokens[row])}"
            )
        x = log_softmax(x, 1.0)
        x[:, list(o.banned)] = -np.inf
        eos = np.isin(np.arange(x.shape[1]), o.eos)
        if t < o.min_length:
            x[:, eos] = -np.inf
        if o.at_max == "eos" and t + 1 == self._capacity:
            x[:, ~eos] = -np.inf
        return x

    def _array(self, values: list[int]) -> Array:
        array = np.array(values, np.int64)
        if isinstance(self._ids, np.ndarray):
            return array
        import torch

        return torch.from_numpy(array).to(self._ids.device)


def _hypothesis(out: BeamResult, sentence: int) -> _Best | None:
    length = int(out.lengths[sentence, 0])
    if length == 0:
        return None
    return _Best(
        tuple(out.tokens[sentence, 0, :length].tolist()),
        tuple(out.token_logprobs[sentence, 0, :length].tolist()),
        float(out.scores[sentence, 0]),
    )


def _result(
    found: list[tuple[_Best | None, bool]], options: SearchOptions, bound: BeamResult, steps: int
) -> BeamResult:
    batch = len(found)
    length = max((len(best.tokens) for best, _ in found if best is not None), default=0)
    tokens = np.full((batch, 1, length), options.padding, np.int64)
    logprobs = np.zeros((batch, 1, length))
    lengths, sums = np.zeros((batch, 1), np.int64), np.full((batch, 1), -np.inf)
    scores = sums.copy()
    for i, (best, _) in enumerate(found):
        if best is not None:
            n = len(best.tokens)
            tokens[i, 0, :n], logprobs[i, 0, :n] = best.tokens, best.logprobs
            lengths[i], sums[i], scores[i] = n, sum(best.logprobs), best.score
    certified = np.array([complete for _, complete in found], bool)
    arrays = (
        tokens, lengths, scores, sums, logprobs, np.full(tokens.shape, -1), certified,
        lengths[:, 0] == 0, np.zeros_like(lengths),
    )  # fmt: skip
    fields: list[Array] = [_like(bound.tokens, array) for array in arrays]
    return BeamResult(*fields, steps=steps)  # type: ignore[misc]


def _like(other: Array, array: Any) -> Array:
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array).to(other.device)

"""What a beam search is made of, as objects: scorers, stop rules, samplers and constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from seqfast.decoding._automata import Automaton
from seqfast.ops.base.checks import (
    NOT_NEGATIVE,
    check_choice,
    check_flag,
    check_number,
    check_tokens,
    check_whole,
)

Array = Any  # a numpy.ndarray or a torch.Tensor
LENGTH_NORMS = ("none", "avg", "gnmt", "reward")
_LARGEST = (1 << 31) - 1

# ---- scorers ----


class Scorer(Protocol):
    """Compares hypotheses of different lengths: any callable with this signature.

    Example:
        >>> import numpy as np, seqfast
        >>> search = seqfast.BeamSearch(2, eos=0, scorer=lambda lengths: np.sqrt(lengths))
    """

    def __call__(self, lengths: Any) -> Any:
        """For lengths, a NumPy array int64 [any], returns positive divisors [any], or a tuple of
        divisors and addends; score = log-probability / divisor + addend. Called once per search."""


@dataclass(frozen=True)
class LengthNorm:
    """The length norms that `BeamSearch` knows by name.

    Args:
        kind: "none"; "avg": log-probability / n ** alpha; "gnmt": / ((5 + n) / 6) ** alpha (Wu et
            al. 2016); "reward": + alpha * n (He et al. 2016).
        alpha: of the norm.
        count_eos: whether n counts the EOS.
        offset: added to n.
        coverage: weight of the coverage penalty of Wu et al. 2016. It adds coverage * sum over the
            memory of log(min(attention received, 1)) to the score of ended hypotheses. It needs
            `attention=` in the call.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an argument out of range.

    Example:
        >>> import seqfast
        >>> norm = seqfast.decoding.LengthNorm("gnmt", 0.6)
        >>> search = seqfast.BeamSearch(5, eos=2, scorer=norm)
    """

    kind: str = "avg"
    alpha: float = 1.0
    count_eos: bool = True
    offset: int = 0
    coverage: float = 0.0

    def __post_init__(self) -> None:
        check_choice("LengthNorm", "kind", self.kind, LENGTH_NORMS)
        check_number("LengthNorm", "alpha", self.alpha)
        check_flag("LengthNorm", "count_eos", self.count_eos)
        check_whole("LengthNorm", "offset", self.offset, 0, _LARGEST)
        check_number("LengthNorm", "coverage", self.coverage, NOT_NEGATIVE)


# ---- stop rules ----


@dataclass(frozen=True)
class Progress:
    """The state of a search after a step, as a `StopRule` sees it.

    `batch` are the sentences that are still in it. Arrays are of the caller's library and device.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import Progress
        >>> Progress(1, np.array([0]), np.zeros((1, 2)), np.zeros((1, 1, 2))).t
        1
    """

    t: int
    """Steps done."""
    sentences: Array
    """int64 [batch]: their places in the batch that the search began with."""
    living: Array
    """Real [batch, beams]: log-probabilities of what is alive; -inf: nothing."""
    ended: Array
    """Real [batch, groups, any]: scores of the ended ones, falling; -inf: free."""


class StopRule(Protocol):
    """Decides when a sentence is done: any object with this method.

    A sentence without a living hypothesis is always done.

    Example:
        >>> import numpy as np, seqfast
        >>> class AfterThree:
        ...     def done(self, progress):
        ...         return np.full(len(progress.sentences), progress.t >= 3)
        >>> search = seqfast.BeamSearch(2, eos=0, max_length=9, stop=AfterThree())
    """

    def done(self, progress: Progress) -> Array:
        """bool [batch]: which sentences are done."""


@dataclass(frozen=True)
class _NamedStop:
    enough: int | None = None
    name = ""

    def __post_init__(self) -> None:
        if self.enough is not None:
            check_whole(type(self).__name__, "enough", self.enough, 1, _LARGEST)


class Exact(_NamedStop):
    """Stops when no living hypothesis can become better than the worst of the ended ones.

    Args:
        enough: how many must have ended; default n_best.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, stop=seqfast.decoding.Exact(3))
    """

    name = "exact"


class Hf(_NamedStop):
    """Stops when the best living one is no better at its present length (`transformers`).

    Args:
        enough: how many must have ended; default beam_size.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, stop=seqfast.decoding.Hf(3))
    """

    name = "hf"


class Longest(_NamedStop):
    """Stops when the best living one is no better at its greatest length (its "never").

    Args:
        enough: how many must have ended; default beam_size.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, stop=seqfast.decoding.Longest(3))
    """

    name = "longest"


class FirstK(_NamedStop):
    """Stops when beam_size have ended, counted in the order in which they end (fairseq).

    Args:
        enough: how many must have ended; default beam_size.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, stop=seqfast.decoding.FirstK())
    """

    name = "first_k"


class Full(_NamedStop):
    """Stops when `enough` have ended; better ones of the last step may replace others.

    Args:
        enough: how many must have ended; default beam_size.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, stop=seqfast.decoding.Full(3))
    """

    name = "full"


class TopBeam(_NamedStop):
    """Stops when the best candidate of some step ended, and `enough` have ended (OpenNMT).

    Args:
        enough: how many must have ended; default n_best.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, stop=seqfast.decoding.TopBeam(3))
    """

    name = "top_beam"


# ---- samplers ----


class OwnSampler(Protocol):
    """Decides which tokens may be drawn: any object with this method.

    Its attribute `seed`, an integer, seeds the draws; default 0.

    Example:
        >>> import numpy as np, seqfast
        >>> class EvenOnly:
        ...     def mask(self, logits):
        ...         return np.broadcast_to(np.arange(logits.shape[1]) % 2 == 0, logits.shape)
        >>> search = seqfast.BeamSearch(2, eos=0, sampler=EvenOnly())
    """

    def mask(self, logits: Array) -> Array:
        """bool like `logits` [rows, vocabulary]: the tokens that may be drawn. The logits are
        divided by the temperature, and -inf where a token cannot be chosen."""


# ---- constraints ----


@dataclass(frozen=True)
class Begun:
    """What a constraint gets when a search begins.

    Attributes:
        beam_size: hypotheses of each sentence.
        vocabulary: number of tokens.
        eos: the tokens that end a hypothesis.
        min_length: tokens before an EOS.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import Begun
        >>> none = np.zeros((1, 0), np.int32), np.zeros(1, np.int32)
        >>> Begun(2, 2, 9, (0,), 0, np.zeros(1), *none).array([1, 2])
        array([1, 2])
    """

    rows: int
    """Hypotheses, batch * beam_size; row r belongs to sentence r // beam_size."""
    beam_size: int
    vocabulary: int
    eos: tuple[int, ...]
    min_length: int
    like: Array
    """An array of the library and on the device of the search."""
    history: Array
    """int32 [batch, any], NumPy: tokens before the first step."""
    history_lengths: Array
    """int32 [batch], NumPy."""

    def array(self, values: Any) -> Array:
        """An array of the search's library and device."""
        values = np.ascontiguousarray(values)
        if isinstance(self.like, np.ndarray):
            return values
        import torch

        return torch.from_numpy(values).to(self.like.device)


@runtime_checkable
class Constraint(Protocol):
    """Decides which tokens a hypothesis may take: any object with these methods.

    They are called at every step, with a state that follows each hypothesis. A method `ends(state,
    t)` is optional. It returns None, or bool [rows]: True for hypotheses that are complete, so that
    EOS follows with probability 1.

    Example:
        >>> import numpy as np, seqfast
        >>> class Alternate:  # no token right after itself
        ...     def begin(self, search): return search.array([-1] * search.rows)
        ...     def allowed(self, state, t): return np.arange(3) != state[:, None]
        ...     def advance(self, state, tokens): return tokens
        >>> search = seqfast.BeamSearch(2, eos=0, max_length=4, constraints=[Alternate()])
        >>> step = lambda ids, state, t: (np.tile([0.0, 1.0, 9.0], (len(ids), 1)), state)
        >>> search(step, np.array([1])).tokens[0, 0]
        array([2, 1, 2, 1])
    """

    def begin(self, search: Begun) -> Any:
        """The initial state: any pytree of arrays [rows, ...], as for a step function."""

    def allowed(self, state: Any, t: int) -> Any:
        """The tokens that may be chosen, in the form of a call's `allowed`: a bool mask [rows,
        vocabulary], a list of tokens for each row (None: all), or None."""

    def advance(self, state: Any, tokens: Array) -> Any:
        """The state after `tokens`, int64 [rows]; the state's rows are already those chosen."""


@dataclass(frozen=True)
class MinLength:
    """A number of tokens that must come before an EOS.

    Args:
        tokens: how many.

    Raises:
        TypeError: not an integer.
        ValueError: less than 0.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, constraints=[seqfast.decoding.MinLength(3)])
    """

    tokens: int

    def __post_init__(self) -> None:
        check_whole("MinLength", "tokens", self.tokens, 0, _LARGEST - 1)


@dataclass(frozen=True)
class NoRepeat:
    """Forbids that n tokens in a row appear twice (Paulus et al. 2018).

    Args:
        n: length of the n-grams.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, constraints=[seqfast.decoding.NoRepeat(3)])
    """

    n: int

    def __post_init__(self) -> None:
        check_whole("NoRepeat", "n", self.n, 1, _LARGEST)


class Ban:
    """Tokens and sequences of tokens that never appear.

    Args:
        sequences: a token, or a list of tokens and of lists of tokens. A sequence may also begin in
            the history (the prompt).

    ```python
    BeamSearch(5, eos=2, constraints=[Ban([7, [4, 9, 9]])])  # no 7, and no 4 9 9
    ```
    """

    def __init__(self, sequences: int | Sequence[int | Sequence[int]]) -> None:
        given = _sequences_of("Ban", sequences)
        self.tokens = tuple(sorted({s[0] for s in given if len(s) == 1}))
        self.sequences = tuple(s for s in given if len(s) > 1)

    def __repr__(self) -> str:
        return f"Ban({[*self.tokens, *map(list, self.sequences)]})"

    def begin(self, search: Begun) -> Any:
        _check_vocabulary("Ban", self.sequences, search.vocabulary)
        return _Reading(self.sequences, search, from_history=True)

    def allowed(self, state: _Reading, t: int) -> Any:
        return state.without_completing()

    def advance(self, state: _Reading, tokens: Array) -> Any:
        return state.after(tokens)


class StopAt:
    """Sequences that end a hypothesis: after one of them an EOS of probability 1 follows.

    This EOS counts like the model's own in lengths and tokens; `keep_eos=False` leaves it out. A
    sequence that is complete before min_length tokens is ignored.

    Args:
        sequences: a token, or a list of tokens and of lists of tokens.

    Raises:
        TypeError: an argument that is not a token or a list.
        ValueError: an empty sequence or a negative token.

    Example:
        >>> import seqfast
        >>> search = seqfast.BeamSearch(5, eos=2, constraints=[seqfast.decoding.StopAt([[9, 9]])])
    """

    def __init__(self, sequences: int | Sequence[int | Sequence[int]]) -> None:
        self.sequences = tuple(_sequences_of("StopAt", sequences))

    def __repr__(self) -> str:
        return f"StopAt({[list(s) for s in self.sequences]})"

    def begin(self, search: Begun) -> Any:
        _check_vocabulary("StopAt", self.sequences, search.vocabulary, search.eos)
        return {"read": _Reading(self.sequences, search), "from": search.min_length}

    def allowed(self, state: Any, t: int) -> Any:
        return None

    def ends(self, state: Any, t: int) -> Any:
        return None if t < state["from"] else state["read"].complete()

    def advance(self, state: Any, tokens: Array) -> Any:
        return {**state, "read": state["read"].after(tokens)}


class Grammar:
    """A finite automaton, or any grammar whose next state a function returns.

    Args:
        table: integers [states, vocabulary], the state after a token, -1 where the token may not
            follow; or the same as a dict of dicts, `{state: {token: state}}`. EOS is a token like
            any other: a state that may end has an entry for it.
        start: the state before the first token.
        allowed: instead of a table: `allowed(state)` returns the tokens that may follow (None:
            all).
        advance: `advance(state, token)` returns the next state, any object that is not changed.

    ```python
    even = Grammar({0: {4: 1, 2: 0}, 1: {5: 0}})  # (4 5)* and then EOS, 2
    ```

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a table with states out of range, or neither a table nor functions.
    """

    def __init__(
        self,
        table: Any = None,
        start: Any = 0,
        *,
        allowed: Callable[[Any], Any] | None = None,
        advance: Callable[[Any, int], Any] | None = None,
    ) -> None:
        if (table is None) == (allowed is None or advance is None):
            raise TypeError("Grammar: give either a table or both allowed and advance")
        self._allowed, self._advance, self._start = allowed, advance, start
        self._sparse: dict[int, dict[int, int]] | None = None
        self._table: Any = None
        if isinstance(table, Mapping):
            self._sparse = {
                int(s): {int(t): int(n) for t, n in r.items()} for s, r in table.items()
            }
            reached = {n for row in self._sparse.values() for n in row.values()}
            if min((*self._sparse, *reached, 0)) < 0:
                raise ValueError("Grammar: states of table must be at least 0, got a negative one")
            self._states = max((*self._sparse, *reached), default=0) + 1
        elif table is not None:
            self._table = np.asarray(table)
            if self._table.ndim != 2 or self._table.dtype.kind not in "iu" or not self._table.size:
                raise ValueError(
                    "Grammar: table must be integers [states, vocabulary], got "
                    f"{self._table.dtype} {list(self._table.shape)}"
                )
            self._states = len(self._table)
            if int(self._table.max()) >= self._states or int(self._table.min()) < -1:
                raise ValueError(
                    f"Grammar: table must hold states from -1 to {self._states - 1}, got "
                    f"{self._table.min()} to {self._table.max()}"
                )
        if table is not None:
            check_whole("Grammar", "start", start, 0, self._states - 1)

    def begin(self, search: Begun) -> Any:
        if self._allowed is not None:
            return _States([self._start] * search.rows)
        table = self._table
        if self._sparse is not None:
            table = np.full((self._states, search.vocabulary), -1, np.int32)
            for state, row in self._sparse.items():
                check_tokens("Grammar", "tokens of table", tuple(row), search.vocabulary)
                table[state, list(row)] = list(row.values())
        if table.shape[1] != search.vocabulary:
            raise ValueError(
                f"Grammar: table must be [states, {search.vocabulary}], as the logits are, got "
                f"{list(table.shape)}"
            )
        next_state = search.array(np.maximum(table, 0).astype(np.int64))
        state = search.array(np.full(search.rows, self._start, np.int64))
        return _Table(state, next_state, search.array(table >= 0))

    def allowed(self, state: Any, t: int) -> Any:
        if isinstance(state, _Table):
            return state.may[state.state]
        assert self._allowed is not None
        return [self._allowed(one) for one in state.states]

    def advance(self, state: Any, tokens: Array) -> Any:
        if isinstance(state, _Table):
            return state.at(state.next[state.state, tokens])
        assert self._advance is not None
        assert self._allowed is not None
        after = []
        for one, token in zip(state.states, tokens.tolist(), strict=True):
            # Rows that are no hypothesis have chosen anything.
            known = self._allowed(one)
            fits = known is None or token in known
            after.append(self._advance(one, token) if fits else one)
        return _States(after)


# ---- the states of those above: objects that choose their rows, and never change ----


class _Reading:
    """What each row has just read of some sequences."""

    def __init__(
        self, sequences: Sequence[Sequence[int]], search: Begun, from_history: bool = False
    ) -> None:
        automaton = Automaton(sequences, search.vocabulary)
        node = np.zeros(search.rows // search.beam_size, np.int64)
        if from_history:
            for column in range(search.history.shape[1]):
                token = np.clip(search.history[:, column], 0, search.vocabulary - 1)
                after = automaton.next[node, automaton.classes[token]]
                node = np.where(column < search.history_lengths, after, node)
        self.node = search.array(np.repeat(node, search.beam_size))
        self._shared = _Tables(automaton, search)

    def select_rows(self, rows: Any) -> _Reading:
        return self if rows.flat is None else self._at(self.node[rows.flat])

    def __deepcopy__(self, memo: Any) -> _Reading:
        return self

    def _at(self, node: Array) -> _Reading:
        found = _Reading.__new__(_Reading)
        found.node, found._shared = node, self._shared
        return found

    def after(self, tokens: Array) -> _Reading:
        tables = self._shared
        return self._at(tables.next[self.node, tables.classes[tokens]])

    def complete(self) -> Array:
        return self._shared.ending[self.node]

    def without_completing(self) -> Array | None:
        """bool [rows, vocabulary]: all but the tokens that complete a sequence; None: all."""
        tables = self._shared
        forbidden = tables.forbidden[self.node]
        vocabulary = tables.vocabulary
        if isinstance(forbidden, np.ndarray):
            rows = np.flatnonzero(forbidden[:, 0] < vocabulary)
            if not len(rows):
                return None
            mask = np.ones((len(forbidden), vocabulary + 1), bool)
            mask[rows[:, None], forbidden[rows]] = False
            return mask[:, :vocabulary]
        if not forbidden.is_cuda and not bool((forbidden[:, 0] < vocabulary).any()):
            return None
        whole = forbidden.new_ones((len(forbidden), vocabulary + 1)).bool()
        return whole.scatter_(1, forbidden, False)[:, :vocabulary]


class _Tables:
    def __init__(self, automaton: Automaton, search: Begun) -> None:
        self.vocabulary = search.vocabulary
        self.classes = search.array(automaton.classes.astype(np.int64))
        self.next = search.array(automaton.next.astype(np.int64))
        self.ending = search.array(np.array([bool(e) for e in automaton.ended]))
        lists = automaton.completing()
        width = max(1, *map(len, lists))
        forbidden = np.full((len(lists), width), search.vocabulary, np.int64)
        for node, tokens in enumerate(lists):
            forbidden[node, : len(tokens)] = tokens
        self.forbidden = search.array(forbidden)


class _Table:
    """A state of a grammar's table for each row."""

    def __init__(self, state: Array, next_state: Array, may: Array) -> None:
        self.state, self.next, self.may = state, next_state, may

    def select_rows(self, rows: Any) -> _Table:
        return self if rows.flat is None else self.at(self.state[rows.flat])

    def __deepcopy__(self, memo: Any) -> _Table:
        return self

    def at(self, state: Array) -> _Table:
        return _Table(state, self.next, self.may)


class _States:
    """An object of the caller's for each row."""

    def __init__(self, states: list[Any]) -> None:
        self.states = states

    def select_rows(self, rows: Any) -> _States:
        if rows.flat is None:
            return self
        return _States([self.states[i] for i in rows.flat.tolist()])

    def __deepcopy__(self, memo: Any) -> _States:
        return self


def _sequences_of(name: str, given: Any) -> list[tuple[int, ...]]:
    """Each token and each list of tokens as a tuple."""
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        given = [given]
    if not isinstance(given, (list, tuple)) or not given:
        raise TypeError(
            f"{name}: sequences must be a token, or a list of tokens and of lists of tokens, got "
            f"{given!r}"
        )
    found = []
    for one in given:
        tokens = one if isinstance(one, (list, tuple)) else [one]
        for token in tokens:
            check_whole(name, "tokens", token, 0, _LARGEST)
        if not tokens:
            raise ValueError(f"{name}: a sequence must have at least one token, got {one!r}")
        found.append(tuple(int(token) for token in tokens))
    return found


def _check_vocabulary(
    name: str, sequences: Sequence[Sequence[int]], vocabulary: int, eos: tuple[int, ...] = ()
) -> None:
    for sequence in sequences:
        check_tokens(name, "tokens", tuple(sorted(set(sequence))), vocabulary)
        inside = [token for token in sequence if token in eos]
        if inside:
            raise ValueError(
                f"{name}: a sequence must not hold EOS, which ends a hypothesis anyway, got "
                f"{list(sequence)}"
            )

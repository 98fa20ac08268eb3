"""What a beam search may be told, the errors for the rest, and what the kernels make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from seqfast.decoding.phrases import Phrases
from seqfast.decoding.strategies import (
    LENGTH_NORMS,
    Ban,
    Constraint,
    LengthNorm,
    MinLength,
    NoRepeat,
    _NamedStop,
)
from seqfast.ops.base.checks import (
    NOT_NEGATIVE,
    POSITIVE,
    Numbers,
    check_choice,
    check_flag,
    check_number,
    check_tokens,
    check_type,
    check_whole,
)
from seqfast.ops.beam_search.beams import BeamOptions

STOPS = ("exact", "first_k", "full", "top_beam", "hf", "longest")
EOS_POOLS = ("topk", "top2k", "any", "inbeam")
AT_MAX = ("cut", "eos", "rest")
ENSEMBLES = ("probabilities", "logprobs")
_SHARES = Numbers("a number above 0, at most 1", lambda p: 0 < p <= 1)
_MOST_BEAMS = 4096
_LARGEST = (1 << 31) - 1
MOST_STEPS = 1 << 20  # records take memory for every step


@dataclass(frozen=True)
class Sampler:
    """Draws tokens instead of taking the largest, by Gumbel noise from a counter.

    The same seed gives the same sequences on every backend and in any batch. With one group of
    beams it is stochastic beam search, sequences without replacement (Kool et al. 2019); with
    `groups=beam_size` the sequences are independent. `top_k` and `top_p` use the model's logits
    divided by the temperature, after constraints and bans; `top_p` applies to what `top_k` keeps.

    Args:
        seed: of the noise.
        top_k: only the k largest of a row may be drawn.
        top_p: only the fewest tokens whose probabilities reach p may be drawn (Holtzman et al.
            2020).

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an argument out of range.

    Example:
        >>> import numpy as np, seqfast
        >>> sampler = seqfast.decoding.Sampler(seed=1, top_k=2)
        >>> search = seqfast.BeamSearch(3, eos=0, max_length=4, groups=3, sampler=sampler)
        >>> step = lambda ids, state, t: (np.zeros((len(ids), 5)), state)
        >>> search(step, np.array([1])).scores.shape
        (1, 3)
    """

    seed: int = 0
    top_k: int | None = None
    top_p: float | None = None

    @property
    def cuts(self) -> bool:
        """Whether it looks at whole rows before anything is drawn."""
        return self.top_k is not None or self.top_p is not None

    def __post_init__(self) -> None:
        seed = check_whole("Sampler", "seed", self.seed, -(1 << 63), (1 << 63) - 1)
        object.__setattr__(self, "seed", seed)
        if self.top_k is not None:
            top_k = check_whole("Sampler", "top_k", self.top_k, 1, _LARGEST)
            object.__setattr__(self, "top_k", top_k)
        if self.top_p is not None:
            check_number("Sampler", "top_p", self.top_p, _SHARES)


def TopK(k: int, seed: int = 0) -> Sampler:
    """A `Sampler` that draws among the k largest of a row.

    Args:
        k: how many.
        seed: of the noise.

    Returns:
        The sampler.

    Example:
        >>> from seqfast.decoding import TopK
        >>> TopK(10).top_k
        10
    """
    return Sampler(seed, top_k=k)


def TopP(p: float, seed: int = 0) -> Sampler:
    """A `Sampler` that draws among the fewest tokens whose probabilities reach p.

    Args:
        p: from 0 to 1.
        seed: of the noise.

    Returns:
        The sampler.

    Example:
        >>> from seqfast.decoding import TopP
        >>> TopP(0.9).top_p
        0.9
    """
    return Sampler(seed, top_p=p)


@dataclass(frozen=True)
class SearchOptions:
    """What a search is to do, checked; `seqfast.BeamSearch` documents each of them."""

    eos: tuple[int, ...]
    beam_size: int = 5
    max_length: int = 100
    min_length: int = 0
    n_best: int | None = None
    length_norm: str | Callable[[Any], Any] = "avg"
    alpha: float = 1.0
    count_eos: bool = True
    length_offset: int = 0
    stop: Any = "exact"
    enough: int | None = None
    eos_pool: str = "topk"
    at_max: str = "cut"
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    groups: int = 1
    diversity: float = 0.0
    temperature: float = 1.0
    banned: tuple[int, ...] = ()
    renormalize: bool = False
    score_prefix: bool = False
    sampler: Any = None
    ensemble: str = "probabilities"
    weights: Any = None
    pad: int | None = None
    keep_eos: bool = True
    scorer: Any = None
    constraints: Any = ()
    distinct: bool = False
    each_group: bool = False
    phrases: Any = None  # of the constraints
    operation: str = "BeamSearch"  # whom errors name

    def __post_init__(self) -> None:
        operation = self.operation
        self._take_strategies()
        self._set("eos", check_tokens(operation, "eos", self.eos, fewest=1))
        self._set("banned", check_tokens(operation, "banned", self.banned))
        self._check_whole("beam_size", 1, _MOST_BEAMS)
        self._check_whole("max_length", 1, MOST_STEPS)
        self._check_whole("min_length", 0, _LARGEST - 1)
        if self.min_length > self.max_length:
            raise ValueError(
                f"{operation}: min_length must not exceed max_length = {self.max_length}, "
                f"got {self.min_length}"
            )
        if self.n_best is not None:
            self._check_whole("n_best", 1, self.beam_size)
        if self.enough is not None:
            self._check_whole("enough", 1, 4 * _MOST_BEAMS)
        if not callable(self.length_norm):
            check_choice(operation, "length_norm", self.length_norm, LENGTH_NORMS, "callable")
        if not callable(getattr(self.stop, "done", None)):
            check_choice(operation, "stop", self.stop, STOPS, "an object with done")
        check_choice(operation, "eos_pool", self.eos_pool, EOS_POOLS)
        check_choice(operation, "at_max", self.at_max, AT_MAX)
        check_choice(operation, "ensemble", self.ensemble, ENSEMBLES)
        if self.weights is not None:
            try:
                weights = tuple(float(weight) for weight in self.weights)
            except (TypeError, ValueError):
                raise TypeError(
                    f"{operation}: weights must be a list of numbers, got {self.weights!r}"
                ) from None
            for weight in weights:
                check_number(operation, "weights", weight, POSITIVE)
            self._set("weights", weights)
        self._check_whole("length_offset", 0, _LARGEST)
        self._check_whole("no_repeat_ngram", 0, _LARGEST)
        self._check_whole("groups", 1, self.beam_size)
        if self.beam_size % self.groups:
            raise ValueError(
                f"{operation}: groups must divide beam_size = {self.beam_size}, got {self.groups}"
            )
        check_number(operation, "alpha", self.alpha)
        check_number(operation, "temperature", self.temperature, POSITIVE)
        check_number(operation, "repetition_penalty", self.repetition_penalty, POSITIVE)
        check_number(operation, "diversity", self.diversity, NOT_NEGATIVE)
        if self.diversity and self.groups == 1:
            raise ValueError(
                f"{operation}: diversity must be 0 without groups, got {self.diversity}"
            )
        if self.each_group and (self.sampler is not None or self.n_best is not None):
            raise ValueError(
                f"{operation}: each_group gives one hypothesis of each group, so n_best and "
                "sampler must not be given"
            )
        for name in (
            "count_eos", "renormalize", "score_prefix", "keep_eos", "distinct", "each_group",
        ):  # fmt: skip
            check_flag(operation, name, getattr(self, name))
        if self.sampler is not None:
            own = callable(getattr(self.sampler, "mask", None))
            if not own:
                check_type(operation, "sampler", self.sampler, Sampler, "a Sampler or None")
        if self.pad is not None:
            self._check_whole("pad", -(1 << 31), _LARGEST)
        if self.phrases is not None:
            self.phrases.check(self)

    def _take_strategies(self) -> None:
        """Objects that say what an option says, as that option; what is left stays as it is."""
        operation = self.operation
        if isinstance(self.scorer, LengthNorm):
            scorer = self.scorer
            for name, value in (
                ("length_norm", scorer.kind), ("alpha", scorer.alpha),
                ("count_eos", scorer.count_eos), ("length_offset", scorer.offset),
            ):  # fmt: skip
                self._merge(name, value, "scorer")
        elif self.scorer is not None:
            if not callable(self.scorer):
                raise TypeError(
                    f"{operation}: scorer must be a LengthNorm or a callable of lengths, got "
                    f"{type(self.scorer).__name__}"
                )
            self._merge("length_norm", self.scorer, "scorer")
        if isinstance(self.stop, _NamedStop):
            if self.stop.enough is not None:
                self._merge("enough", self.stop.enough, "stop")
            self._set("stop", self.stop.name)
        elif isinstance(self.stop, type):
            raise TypeError(f"{operation}: stop must be an object, got {self.stop.__name__}")
        given = self.constraints
        if not isinstance(given, (list, tuple)):
            raise TypeError(
                f"{operation}: constraints must be a list of them, got {type(given).__name__}"
            )
        left = []
        found = [one for one in given if isinstance(one, Phrases)]
        if len(found) > 1:
            raise ValueError(f"{operation}: constraints must have one Phrases, with all of them")
        for i, one in enumerate(given):
            if isinstance(one, Phrases):
                continue
            if isinstance(one, MinLength):
                self._set("min_length", max(self.min_length, one.tokens))
            elif isinstance(one, NoRepeat):
                self._merge("no_repeat_ngram", one.n, f"constraints[{i}]")
            else:
                if isinstance(one, Ban):
                    banned = check_tokens(operation, "banned", self.banned)
                    self._set("banned", tuple(sorted({*banned, *one.tokens})))
                    if not one.sequences:
                        continue
                elif not isinstance(one, Constraint) or isinstance(one, type):
                    raise TypeError(
                        f"{operation}: constraints[{i}] must have begin, allowed and advance, got "
                        f"{one.__name__ if isinstance(one, type) else type(one).__name__}"
                    )
                left.append(one)
        self._set("constraints", tuple(left))
        self._set("phrases", found[0] if found else None)

    def _merge(self, name: str, value: Any, origin: str) -> None:
        """An option told by an object: not otherwise told by its flat name."""
        default = type(self).__dataclass_fields__[name].default
        told = getattr(self, name)
        if told not in (default, value):
            raise ValueError(
                f"{self.operation}: {name} is given twice, {told!r} and by {origin}, {value!r}"
            )
        self._set(name, value)

    def _check_whole(self, name: str, low: int, high: int) -> None:
        self._set(name, check_whole(self.operation, name, getattr(self, name), low, high))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def beams_per_group(self) -> int:
        """Beams of a group."""
        return self.beam_size // self.groups

    @property
    def hypotheses(self) -> int:
        """That the result has of a sentence."""
        if self.n_best is not None:
            return self.n_best
        if self.each_group:
            return self.groups
        return self.beam_size if self.groups > 1 or self.sampler is not None else 1

    @property
    def wanted(self) -> int:
        """Ended hypotheses that a group needs before its stop rule may hold."""
        if self.enough is not None:
            return self.enough
        if self.stop in ("exact", "top_beam"):
            return min(self.hypotheses, self.beams_per_group)
        return self.beams_per_group

    @property
    def pool(self) -> int:
        """Ended hypotheses that a group keeps."""
        if self.sampler is not None:
            return self.beams_per_group
        if self.at_max == "rest":
            # What the last step cuts is dropped afterwards, so it must not push anything out.
            return max(self.wanted, self.beams_per_group) + 2 * self.beams_per_group
        if self.stop == "first_k":
            return max(self.wanted, self.beams_per_group)
        if self.coverage:  # which may change the order of all of them
            return max(self.wanted, self.beams_per_group)
        return max(self.wanted, min(self.hypotheses, self.beams_per_group))

    @property
    def own_stop(self) -> Any:
        """A stop rule of the caller's, or None."""
        return None if isinstance(self.stop, str) else self.stop

    @property
    def cuts_rows(self) -> bool:
        """Whether the sampler looks at whole rows before anything is drawn."""
        return self.sampler is not None and bool(getattr(self.sampler, "cuts", True))

    @property
    def seed(self) -> int:
        """Of what is drawn."""
        return int(getattr(self.sampler, "seed", 0))

    @property
    def coverage(self) -> float:
        """Weight of the coverage penalty."""
        return float(getattr(self.scorer, "coverage", 0.0))

    @property
    def by_steps(self) -> bool:
        """Whether something must be asked between two steps."""
        asked = bool(self.constraints) or self.phrases is not None or self.own_stop is not None
        return asked or self.cuts_rows

    @property
    def padding(self) -> int:
        return self.eos[0] if self.pad is None else self.pad

    def for_vocabulary(self, vocabulary: int, temperature: float | None = None) -> BeamOptions:
        """As the kernels take it. Raises ValueError for tokens outside the vocabulary."""
        for name in ("eos", "banned"):
            check_tokens(self.operation, name, getattr(self, name), vocabulary)
        if self.sampler is not None:
            eos_pool, stop = "competing", "exact"
        else:
            eos_pool = self.eos_pool
            named = self.stop in ("first_k", "top_beam")
            stop = str(self.stop) if named else "exact"
        return BeamOptions(
            beams=self.beam_size,
            vocabulary=vocabulary,
            eos=self.eos,
            groups=self.groups,
            eos_pool=eos_pool,
            stop=stop,
            pool=self.pool,
            wanted=min(self.wanted, self.pool),
            min_length=self.min_length,
            no_repeat_ngram=self.no_repeat_ngram,
            temperature=float(self.temperature if temperature is None else temperature),
            repetition_penalty=float(self.repetition_penalty),
            diversity=float(self.diversity),
            renormalize=bool(self.renormalize),
            force_eos=self.at_max == "eos",
            score_prefix=bool(self.score_prefix),
            count_eos=bool(self.count_eos),
            noise=self.sampler is not None,
            banned=self.banned,
        )

    def steps_for(self, max_length: int) -> int:
        """Steps that a row of that length may take: its EOS may come on top."""
        return max_length + (self.at_max == "eos")

    def changed(self, **options: Any) -> SearchOptions:
        return replace(self, **options)

"""What a beam search may be told, the errors for the rest, and what the kernels make of it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqfast.ops.beam_search.beams import BeamOptions

LENGTH_NORMS = ("none", "avg", "gnmt", "reward")
STOPS = ("exact", "first_k", "full", "top_beam", "hf", "longest")
EOS_POOLS = ("topk", "top2k", "any", "inbeam")
AT_MAX = ("cut", "eos", "rest")
ENSEMBLES = ("probabilities", "logprobs")
_MOST_BEAMS = 1024
_LARGEST = (1 << 31) - 1
MOST_STEPS = 1 << 20  # records take memory for every step


@dataclass(frozen=True)
class Sampler:
    """Draws instead of the largest: Gumbel noise by counter, so that the same seed gives the same
    sequences on every backend and in any batch.

    One group of beams: stochastic beam search, sequences without replacement (Kool et al. 2019).
    `groups=beam_size`: independent sequences. `top_k`: only the k largest of a row may be drawn;
    `top_p`: only the fewest whose probabilities reach p (Holtzman et al. 2020). Both see the
    model's logits over the temperature, of what `allowed`, `banned`, `no_repeat_ngram`,
    `min_length` and `at_max` leave; with both, `top_p` sees what `top_k` left.
    """

    seed: int = 0
    top_k: int | None = None
    top_p: float | None = None

    @property
    def cuts(self) -> bool:
        """Whether it looks at whole rows before anything is drawn."""
        return self.top_k is not None or self.top_p is not None

    def __post_init__(self) -> None:
        check_whole("Sampler", "seed", self.seed, -(1 << 63), (1 << 63) - 1)
        if self.top_k is not None:
            check_whole("Sampler", "top_k", self.top_k, 1, _LARGEST)
        if self.top_p is not None:
            check_real("Sampler", "top_p", self.top_p, "in range (0, 1]", lambda p: 0 < p <= 1)


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
    stop: str = "exact"
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
    sampler: Sampler | None = None
    ensemble: str = "probabilities"
    pad: int | None = None
    keep_eos: bool = True
    operation: str = "BeamSearch"  # whom errors name

    def __post_init__(self) -> None:
        who = self.operation
        object.__setattr__(self, "eos", _tokens(who, "eos", self.eos, fewest=1))
        object.__setattr__(self, "banned", _tokens(who, "banned", self.banned, fewest=0))
        check_whole(who, "beam_size", self.beam_size, 1, _MOST_BEAMS)
        check_whole(who, "max_length", self.max_length, 1, MOST_STEPS)
        check_whole(who, "min_length", self.min_length, 0, _LARGEST - 1)
        if self.min_length > self.max_length:
            raise ValueError(
                f"{who}: min_length must not exceed max_length = {self.max_length}, "
                f"got {self.min_length}"
            )
        if self.n_best is not None:
            check_whole(who, "n_best", self.n_best, 1, self.beam_size)
        if self.enough is not None:
            check_whole(who, "enough", self.enough, 1, 4 * _MOST_BEAMS)
        if not callable(self.length_norm):
            check_choice(who, "length_norm", self.length_norm, LENGTH_NORMS, " or callable")
        check_choice(who, "stop", self.stop, STOPS)
        check_choice(who, "eos_pool", self.eos_pool, tuple(EOS_POOLS))
        check_choice(who, "at_max", self.at_max, AT_MAX)
        check_choice(who, "ensemble", self.ensemble, ENSEMBLES)
        check_whole(who, "length_offset", self.length_offset, 0, _LARGEST)
        check_whole(who, "no_repeat_ngram", self.no_repeat_ngram, 0, _LARGEST)
        check_whole(who, "groups", self.groups, 1, self.beam_size)
        if self.beam_size % self.groups:
            raise ValueError(
                f"{who}: groups must divide beam_size = {self.beam_size}, got {self.groups}"
            )
        check_real(who, "alpha", self.alpha, "finite", math.isfinite)
        positive = "finite and > 0", lambda x: math.isfinite(x) and x > 0
        check_real(who, "temperature", self.temperature, *positive)
        check_real(who, "repetition_penalty", self.repetition_penalty, *positive)
        not_negative = "finite and >= 0", lambda x: math.isfinite(x) and x >= 0
        check_real(who, "diversity", self.diversity, *not_negative)
        if self.diversity and self.groups == 1:
            raise ValueError(f"{who}: diversity must be 0 without groups, got {self.diversity}")
        for name in ("count_eos", "renormalize", "score_prefix", "keep_eos"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"{who}: {name} must be a bool, got {getattr(self, name)!r}")
        if self.sampler is not None and not isinstance(self.sampler, Sampler):
            raise TypeError(
                f"{who}: sampler must be a Sampler or None, got {type(self.sampler).__name__}"
            )
        if self.pad is not None:
            check_whole(who, "pad", self.pad, -(1 << 31), _LARGEST)

    @property
    def own(self) -> int:
        """Beams of a group."""
        return self.beam_size // self.groups

    @property
    def hypotheses(self) -> int:
        """That the result has of a sentence."""
        if self.n_best is not None:
            return self.n_best
        return self.beam_size if self.groups > 1 or self.sampler is not None else 1

    @property
    def wanted(self) -> int:
        """Ended hypotheses that a group needs before its stop rule may hold."""
        if self.enough is not None:
            return self.enough
        if self.stop in ("exact", "top_beam"):
            return min(self.hypotheses, self.own)
        return self.own

    @property
    def pool(self) -> int:
        """Ended hypotheses that a group keeps."""
        if self.sampler is not None:
            return self.own
        if self.at_max == "rest":
            # What the last step cuts is dropped afterwards, so it must not push anything out.
            return max(self.wanted, self.own) + 2 * self.own
        least = self.own if self.stop == "first_k" else min(self.hypotheses, self.own)
        return max(self.wanted, least)

    @property
    def padding(self) -> int:
        return self.eos[0] if self.pad is None else self.pad

    def for_vocabulary(self, vocabulary: int, temperature: float | None = None) -> BeamOptions:
        """As the kernels take it. Raises ValueError for tokens outside the vocabulary."""
        for name in ("eos", "banned"):
            outside = [token for token in getattr(self, name) if token >= vocabulary]
            if outside:
                raise ValueError(
                    f"{self.operation}: {name} must be in range [0, {vocabulary}), the "
                    f"vocabulary, got {outside[0]}"
                )
        if self.sampler is not None:
            eos_pool, stop = "competing", "exact"
        else:
            eos_pool = self.eos_pool
            stop = self.stop if self.stop in ("first_k", "top_beam") else "exact"
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


def check_whole(who: str, name: str, value: Any, smallest: int, largest: int) -> None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{who}: {name} must be an int, got {value!r}")
    if not smallest <= value <= largest:
        wanted = f">= {smallest}" if largest >= _LARGEST - 1 else f"from {smallest} to {largest}"
        raise ValueError(f"{who}: {name} must be {wanted}, got {value}")


def check_real(
    who: str, name: str, value: Any, wanted: str, holds: Callable[[float], bool]
) -> None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{who}: {name} must be a number, got {value!r}")
    if not holds(float(value)):
        raise ValueError(f"{who}: {name} must be {wanted}, got {value}")


def check_choice(who: str, name: str, value: Any, choices: tuple[str, ...], also: str = "") -> None:
    if value not in choices:
        raise ValueError(f"{who}: {name} must be one of {', '.join(choices)}{also}, got {value!r}")


def _tokens(who: str, name: str, value: Any, fewest: int) -> tuple[int, ...]:
    """One token or several, rising and each once."""
    values = [value] if isinstance(value, (int, np.integer)) else value
    try:
        tokens = [int(token) for token in values]
        whole = all(
            isinstance(token, (int, np.integer)) and not isinstance(token, (bool, np.bool_))
            for token in values
        )
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise TypeError(f"{who}: {name} must be an int or a sequence of ints, got {value!r}")
    if len(tokens) < fewest:
        raise ValueError(f"{who}: {name} must have at least {fewest} token, got none")
    if tokens and not 0 <= min(tokens) <= max(tokens) <= _LARGEST:
        wrong = next(token for token in tokens if not 0 <= token <= _LARGEST)
        raise ValueError(f"{who}: {name} must be >= 0 and below the vocabulary, got {wrong}")
    return tuple(sorted(set(tokens)))

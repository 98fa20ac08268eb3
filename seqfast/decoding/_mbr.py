"""Minimum Bayes risk: of several hypotheses the one that the others agree with most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqfast.ops.base.checks import POSITIVE, check_number


@dataclass(frozen=True)
class Mbr:
    """What `mbr` chose for each sentence.

    Example:
        >>> from seqfast.decoding import mbr
        >>> mbr([[[1, 2], [1, 3], [4, 5]]], lambda a, b: len(set(a) & set(b))).best
        [0]
    """

    best: list[int]
    """The place of the hypothesis chosen among those given."""
    chosen: list[Any]
    """The hypotheses themselves."""
    utilities: list[Any]
    """float64 [hypotheses] of each sentence, NumPy: what each may expect."""


def mbr(
    hypotheses: Any,
    utility: Callable[[Any, Any], float],
    logprobs: Any = None,
    *,
    temperature: float = 1.0,
) -> Mbr:
    """Minimum Bayes risk decoding (Kumar & Byrne 2004; Eikema & Aziz 2020).

    Args:
        hypotheses: for each sentence a list of hypotheses, of tokens or texts: `out.lists()` or
            `out.texts(tokenizer)`. Or a `BeamResult`; then its tokens are the hypotheses.
        utility: `utility(hypothesis, reference)` returns a number that is larger the more they
            agree: sentence BLEU (`lambda a, b: sentence_bleu(a, b).score`), chrF, ...
        logprobs: for each sentence the log-probabilities of its hypotheses. Their weights as
            references are exp(logprob / temperature), normalised to sum to 1. Default: equal
            weights, which is right for samples. For a beam search pass `out.logprobs`.
        temperature: of these weights.

    Returns:
        An `Mbr`. Every hypothesis is a reference for every other one and for itself. Of equal
        utilities the first is chosen.

    Raises:
        TypeError: hypotheses that are not lists of lists.
        ValueError: a sentence without hypotheses, or log-probabilities or utilities that do not
            fit.

    Example:
        >>> from seqfast.decoding import mbr
        >>> shared = lambda a, b: len(set(a) & set(b))
        >>> mbr([[[1, 2], [1, 3], [4, 5]]], shared).chosen
        [[1, 2]]
    """
    check_number("mbr", "temperature", temperature, POSITIVE)
    if not callable(utility):
        raise TypeError(f"mbr: utility must be callable, got {type(utility).__name__}")
    lists = hypotheses.lists() if hasattr(hypotheses, "lists") else hypotheses
    if not isinstance(lists, (list, tuple)):
        raise TypeError(f"mbr: hypotheses must be lists of lists, got {type(lists).__name__}")
    weights = _weights(lists, logprobs, temperature)
    best, chosen, utilities = [], [], []
    for sentence, (found, share) in enumerate(zip(lists, weights, strict=True)):
        table = np.array(
            [[_value(utility(one, other), sentence) for other in found] for one in found]
        )
        expected = table @ share
        best.append(int(np.argmax(expected)))
        chosen.append(found[best[-1]])
        utilities.append(expected)
    return Mbr(best, chosen, utilities)


def _value(value: Any, sentence: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"mbr: utility must return a number, got {type(value).__name__}") from None
    if not np.isfinite(number):
        raise ValueError(f"mbr: utility must return a finite number, got {number} for {sentence}")
    return number


def _weights(lists: Sequence[Any], logprobs: Any, temperature: float) -> list[Any]:
    for sentence, found in enumerate(lists):
        if not isinstance(found, (list, tuple)):
            raise TypeError(
                f"mbr: hypotheses[{sentence}] must be a list, got {type(found).__name__}"
            )
        if not found:
            raise ValueError(f"mbr: hypotheses[{sentence}] must not be empty, got none")
    if logprobs is None:
        return [np.full(len(found), 1 / len(found)) for found in lists]
    rows = logprobs.tolist() if hasattr(logprobs, "tolist") else list(logprobs)
    if len(rows) != len(lists):
        raise ValueError(f"mbr: logprobs must have {len(lists)} sentences, got {len(rows)}")
    weights = []
    for sentence, (row, found) in enumerate(zip(rows, lists, strict=True)):
        values = np.asarray(row, np.float64)
        values = values[values > -np.inf]  # a search may have found fewer than asked for
        if values.shape != (len(found),) or np.isnan(values).any():
            raise ValueError(f"mbr: logprobs[{sentence}] must be {len(found)} numbers, got {row}")
        share = np.exp((values - values.max()) / temperature)
        weights.append(share / share.sum())
    return weights

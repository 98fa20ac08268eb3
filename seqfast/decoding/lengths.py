"""The length normalisation of a beam search as tables, and the bounds that its stop rules need."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqfast.decoding.options import SearchOptions

Array = np.ndarray[Any, Any]

# A hypothesis of no tokens under a power of its length: the worst, or with alpha < 0 the best.
_SMALLEST, _LARGEST = 1e-20, 1e20


def length_tables(options: SearchOptions, capacity: int, longest: int) -> dict[str, Array]:
    """float64 [capacity + 1] each, of a hypothesis of n tokens: score = log-probability /
    divisor[n] + addend[n].

    `bound_*`: the same of the best that a living one may still become, as the stop rule has it,
    `certain_*`: as it is certain. `longest`: most tokens that the norm may count in this search.

    A log-probability never rises, so the best that one of n tokens may become divides what it has
    now by the largest divisor of all lengths still possible, and adds the largest addend.
    """
    n = np.arange(capacity + 1)
    divisor, addend = _norm(options, n + options.length_offset)
    first = n + 1 if options.count_eos else n
    first = np.minimum(first, longest)
    certain_divisor = _largest_from(divisor[: longest + 1])[first]
    certain_addend = _largest_from(addend[: longest + 1])[first]
    if options.stop == "hf":
        bound_divisor, bound_addend = divisor, addend
    elif options.stop == "longest":
        bound_divisor = np.maximum(divisor, divisor[longest])
        bound_addend = np.maximum(addend, addend[longest])
    else:
        bound_divisor, bound_addend = certain_divisor, certain_addend
    if options.own_stop is not None:
        # It alone ends a sentence.
        bound_addend = np.full(capacity + 1, np.inf)
    if options.stop == "full":
        # Nothing is above minus infinity: done as soon as enough are kept.
        bound_addend = np.full(capacity + 1, -np.inf)
    return {
        "divisor": divisor,
        "addend": addend,
        "bound_divisor": bound_divisor,
        "bound_addend": bound_addend,
        "certain_divisor": certain_divisor,
        "certain_addend": certain_addend,
    }


def _norm(options: SearchOptions, lengths: Array) -> tuple[Array, Array]:
    n, alpha = lengths.astype(np.float64), float(options.alpha)
    one, zero = np.ones_like(n), np.zeros_like(n)
    if callable(options.length_norm):
        return _norm_of_callable(options, lengths)
    if options.length_norm == "avg":
        if alpha == 0:
            return one, zero
        # As Python's own power has it, which is what others divide by.
        powers = [float(k) ** alpha if k else _SMALLEST if alpha > 0 else _LARGEST for k in n]
        return _checked_divisors(options, np.array(powers)), zero
    if options.length_norm == "gnmt":
        # Wu et al. 2016.
        powers = [((5 + float(k)) / 6) ** alpha for k in n]
        return _checked_divisors(options, np.array(powers)), zero
    if options.length_norm == "reward":
        # He et al. 2016.
        return one, alpha * n
    return one, zero


def _norm_of_callable(options: SearchOptions, lengths: Array) -> tuple[Array, Array]:
    assert callable(options.length_norm)
    found = options.length_norm(lengths.copy())
    both = found if isinstance(found, tuple) else (found, np.zeros(len(lengths)))
    try:
        divisor, addend = (
            np.broadcast_to(np.asarray(x, np.float64), lengths.shape).copy() for x in both
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"{options.operation}: length_norm must return divisors [{len(lengths)}], or a tuple "
            f"of divisors and addends, got {type(found).__name__}"
        ) from None
    if not np.isfinite(addend).all():
        raise ValueError(f"{options.operation}: addends of length_norm must be finite")
    return _checked_divisors(options, divisor), addend


def _checked_divisors(options: SearchOptions, divisor: Array) -> Array:
    """All positive, and so that float32 can hold them."""
    if not (divisor > 0).all() or not np.isfinite(divisor).all():
        wrong = int(np.argmin((divisor > 0) & np.isfinite(divisor)))
        raise ValueError(
            f"{options.operation}: divisors of length_norm must be finite and > 0, got "
            f"{divisor[wrong]} for length {wrong}"
        )
    return np.clip(divisor, _SMALLEST, _LARGEST)


def _largest_from(values: Array) -> Array:
    return np.maximum.accumulate(values[::-1])[::-1]

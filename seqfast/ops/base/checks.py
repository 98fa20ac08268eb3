"""Whether an argument is what an operation can take: one wording for all of them.

A message names operation, argument, what was wanted and what came. What is of a wrong type is a
TypeError, a wrong value of the right type a ValueError. Each check returns what it has checked.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqfast.ops.base.arrays import Array, ArrayLibrary, Shape, dtype_name

_MOST_TOKENS = (1 << 31) - 1


def is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


class Numbers(NamedTuple):
    """Some of the real numbers."""

    words: str  # what messages call one of them
    hold: Callable[[float], bool]


ANY_NUMBER = Numbers("a number", lambda x: not math.isnan(x))
FINITE = Numbers("a finite number", math.isfinite)
POSITIVE = Numbers("a finite number above 0", lambda x: 0 < x < math.inf)
NOT_NEGATIVE = Numbers("a finite number, at least 0", lambda x: 0 <= x < math.inf)
DISTANCE = Numbers("a number, at least 0", lambda x: x >= 0)
PROBABILITY = Numbers("a number from 0 to 1", lambda x: 0 <= x <= 1)


def check_number(
    operation: str, name: str, value: Any, wanted: Numbers = FINITE, also: str = ""
) -> float:
    """`also`: what else the caller takes, in words."""
    if type(value) is float and wanted.hold(value):  # without the words, which take longer
        return value
    message = f"{operation}: {name} must be {wanted.words}{also}, got {value!r}"
    if not is_number(value):
        raise TypeError(message)
    try:
        number = float(value)
    except OverflowError:  # of an int that no float can hold
        number = math.inf if value > 0 else -math.inf
    if not wanted.hold(number):
        raise ValueError(message)
    return number


def check_given(
    operation: str, name: str, value: Any, default: float, wanted: Numbers = FINITE
) -> float:
    """`check_number`; the default for None."""
    return default if value is None else check_number(operation, name, value, wanted)


def check_whole(
    operation: str,
    name: str,
    value: Any,
    low: int | None = None,
    high: int | None = None,
    what: str = "",
    *,
    also: str = "",
) -> int:
    """`what` gives `high`, and `also` is what else the caller takes, both in words."""
    try:
        whole: int = value if type(value) is int else _index(value)
    except TypeError:
        raise TypeError(f"{operation}: {name} must be an integer{also}, got {value!r}") from None
    if (low is not None and whole < low) or (high is not None and whole > high):
        wanted = f"at least {low}" if high is None else f"from {low} to {high}"
        bound = f", {what}" if what else ""
        raise ValueError(f"{operation}: {name} must be {wanted}{bound}{also}, got {whole}")
    return whole


def check_tokens(
    operation: str, name: str, value: Any, vocabulary: int | None = None, *, fewest: int = 0
) -> tuple[int, ...]:
    """One token or several, rising and each once; `vocabulary`: how many there are, if known."""
    try:
        tokens = _indices(value)
    except TypeError:
        raise TypeError(
            f"{operation}: {name} must be an integer or a sequence of integers, got {value!r}"
        ) from None
    if len(tokens) < fewest:
        raise ValueError(f"{operation}: {name} must have at least {fewest} token, got none")
    limit = _MOST_TOKENS if vocabulary is None else vocabulary
    for token in tokens:
        if not 0 <= token < limit:
            wanted = "at least 0 and below" if vocabulary is None else f"from 0 to {limit - 1},"
            raise ValueError(f"{operation}: {name} must be {wanted} the vocabulary, got {token}")
    return tuple(sorted(set(tokens)))


def check_choice(
    operation: str, name: str, value: Any, choices: Sequence[object], also: str = ""
) -> None:
    """`also`: what else the caller takes, in words."""
    if value not in choices:
        words = [*map(repr, choices), also] if also else [*map(repr, choices)]
        wanted = " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
        raise ValueError(f"{operation}: {name} must be {wanted}, got {value!r}")


def check_flag(operation: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{operation}: {name} must be True or False, got {value!r}")
    return bool(value)


def check_type(operation: str, name: str, value: object, wanted: type, words: str) -> None:
    """`words`: what messages call one of that type."""
    if not isinstance(value, wanted):
        kind = type(value)
        # Other libraries have classes of the same names.
        home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        raise TypeError(f"{operation}: {name} must be {words}, got {home}{kind.__name__}")


def _index(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    return operator.index(value)


def _indices(value: Any) -> list[int]:
    try:
        return [_index(value)]
    except TypeError:
        return [_index(each) for each in value]


def check_contiguous(
    xp: ArrayLibrary, operation: str, name: str, array: Array, like: Array, shape: Shape, dtype: Any
) -> Array:
    """`check_array`, and contiguous: the array itself or a copy."""
    if xp.fits(array, like, dtype, shape):
        return array
    return xp.contiguous(check_array(xp, operation, name, array, like, shape, dtype))


def check_array(
    xp: ArrayLibrary, operation: str, name: str, array: Array, like: Array, shape: Shape, dtype: Any
) -> Array:
    """The array itself; it must have that shape and dtype, and be where `like` is."""
    if not xp.owns(array):
        raise TypeError(f"{operation}: {name} must be {xp.name}, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{operation}: {name} must be {dtype}, got {array.dtype}")
    if tuple(array.shape) != shape:
        raise ValueError(f"{operation}: {name} must be {list(shape)}, got {list(array.shape)}")
    check_place(xp, operation, name, array, xp.place(like))
    return array


def check_place(xp: ArrayLibrary, operation: str, name: str, array: Array, wanted: str) -> None:
    place = xp.place(array)
    if place != wanted:
        where = "the CPU" if wanted == "cpu" else f"{wanted}, as input is"
        raise ValueError(f"{operation}: {name} must be a dense array on {where}, got {place}")


def as_integers(xp: ArrayLibrary, operation: str, name: str, value: Any) -> Array:
    """The array itself, or one on the CPU of a list, a tuple or the other library's array."""
    if xp.owns(value):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or on a GPU
        raise TypeError(f"{operation}: {name} must be integers on the CPU: {error}") from None
    if array.ndim == 0 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"{operation}: {name} must be integers, in {xp.name}, a list or a tuple, got {value!r}"
        )
    return xp.from_numpy(array.astype(np.int64))


def check_lengths(
    xp: ArrayLibrary,
    operation: str,
    lengths: Array,
    input: Array,
    *,
    batch: int,
    most: int,
    name: str = "lengths",
) -> Array:
    """int64, where `input` is or on the CPU; there they must be from 0 to `most`."""
    if not xp.owns(lengths):
        raise TypeError(f"{operation}: {name} must be {xp.name}, got {type(lengths).__name__}")
    if not xp.is_integer(lengths):
        raise TypeError(f"{operation}: {name} must be integers, got {lengths.dtype}")
    if tuple(lengths.shape) != (batch,):
        raise ValueError(f"{operation}: {name} must be [{batch}], got {list(lengths.shape)}")
    on_cpu = xp.place(lengths) == "cpu"
    if not on_cpu:
        check_place(xp, operation, name, lengths, xp.place(input))
    lengths = xp.int64(lengths)
    # To look at a GPU's memory is to wait for it; there the kernels clamp.
    if on_cpu and batch:
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > most:
            raise ValueError(
                f"{operation}: {name} must be from 0 to {most}, got {low if low < 0 else high}"
            )
    return lengths


def check_seed(xp: ArrayLibrary, operation: str, seed: Array, input: Array) -> Array:
    """The seed itself: one int64, where `input` is."""
    if not xp.owns(seed):
        raise TypeError(f"{operation}: seed must be {xp.name}, got {type(seed).__name__}")
    if dtype_name(seed) != "int64":
        raise TypeError(f"{operation}: seed must be int64, got {seed.dtype}")
    if tuple(seed.shape) not in ((), (1,)):
        raise ValueError(f"{operation}: seed must be one number, got {list(seed.shape)}")
    check_place(xp, operation, "seed", seed, xp.place(input))
    return xp.contiguous(seed)

"""Checks of arguments: what each takes, what it returns, and the one wording of what it refuses."""

from __future__ import annotations

import fractions
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqfast.ops.base import checks
from seqfast.ops.base.checks import (
    ANY_NUMBER,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    check_choice,
    check_flag,
    check_number,
    check_tokens,
    check_type,
    check_whole,
)

CHECKED: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [
    (check_whole, (3,), 3),
    (check_whole, (np.int64(-7), None, 2), -7),
    (check_whole, (np.array(3), 3, 3), 3),
    (check_whole, (10**30, 1), 10**30),
    (check_number, (3,), 3.0),
    (check_number, (fractions.Fraction(1, 4), PROBABILITY), 0.25),
    (check_number, (np.float32(0.5), POSITIVE), 0.5),
    (check_number, (math.inf, ANY_NUMBER), math.inf),
    (check_tokens, (4,), (4,)),
    (check_tokens, ([3, np.int32(1), 3], 4), (1, 3)),
    (check_tokens, (np.array([2, 0]),), (0, 2)),
    (check_tokens, ((),), ()),
    (check_flag, (np.True_,), True),
    (check_flag, (False,), False),
]


@pytest.mark.parametrize(("check", "arguments", "wanted"), CHECKED)
def test_returns(check: Callable[..., Any], arguments: tuple[Any, ...], wanted: Any) -> None:
    found = check("f", "x", *arguments)
    assert found == wanted
    assert type(found) is type(wanted)


REFUSED: list[tuple[Callable[..., Any], tuple[Any, ...], type[Exception], str]] = [
    (check_whole, (1.0,), TypeError, "an integer, got 1.0"),
    (check_whole, (True,), TypeError, "an integer, got True"),
    (check_whole, ("1",), TypeError, "an integer, got '1'"),
    (check_whole, (None,), TypeError, "an integer, got None"),
    (check_whole, (0, 1), ValueError, "at least 1, got 0"),
    (check_whole, (5, 1, 4), ValueError, "from 1 to 4, got 5"),
    (check_whole, (5, 1, 4, "the columns"), ValueError, "from 1 to 4, the columns, got 5"),
    (check_whole, (0, 1, None), ValueError, "at least 1, got 0"),
    (check_number, ("1",), TypeError, "a finite number, got '1'"),
    (check_number, (True,), TypeError, "a finite number, got True"),
    (check_number, (1j,), TypeError, "a finite number, got 1j"),
    (check_number, (math.nan,), ValueError, "a finite number, got nan"),
    (check_number, (-math.inf,), ValueError, "a finite number, got -inf"),
    (check_number, (math.nan, ANY_NUMBER), ValueError, "a number, got nan"),
    (check_number, (0, POSITIVE), ValueError, "a finite number above 0, got 0"),
    (check_number, (-1, NOT_NEGATIVE), ValueError, "a finite number, at least 0, got -1"),
    (check_number, (10**400, NOT_NEGATIVE), ValueError, "a finite number, at least 0, got 1000"),
    (check_number, (1.5, PROBABILITY), ValueError, "a number from 0 to 1, got 1.5"),
    (check_number, (0, POSITIVE, ", or None"), ValueError, "a finite .* above 0, or None, got 0"),
    (check_tokens, ("ab",), TypeError, "an integer or a sequence of integers, got 'ab'"),
    (check_tokens, ([1, True],), TypeError, r"an integer or .*, got \[1, True\]"),
    (check_tokens, (None,), TypeError, "an integer or a sequence of integers, got None"),
    (check_tokens, ([0, -1],), ValueError, "at least 0 and below the vocabulary, got -1"),
    (check_tokens, (2**31,), ValueError, "at least 0 and below the vocabulary, got 2147483648"),
    (check_tokens, ([0, 7], 7), ValueError, "from 0 to 6, the vocabulary, got 7"),
    (check_choice, ("c", ("a", "b")), ValueError, "'a' or 'b', got 'c'"),
    (check_choice, (2, (True, "auto")), ValueError, "True or 'auto', got 2"),
    (check_choice, ("b", ("a",)), ValueError, "'a', got 'b'"),
    (check_choice, ("d", ("a", "b", "c"), "None"), ValueError, "'a', 'b', 'c' or None, got 'd'"),
    (check_flag, (1,), TypeError, "True or False, got 1"),
    (check_flag, (None,), TypeError, "True or False, got None"),
    (check_type, (3, str, "a name"), TypeError, "a name, got int"),
    (check_type, (fractions.Fraction(1), str, "a name"), TypeError, "a .* got fractions.Fraction"),
]


@pytest.mark.parametrize(("check", "arguments", "error", "message"), REFUSED)
def test_refuses(
    check: Callable[..., Any], arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^f: x must be {message}"):
        check("f", "x", *arguments)


def test_too_few_tokens() -> None:
    with pytest.raises(ValueError, match=r"^f: x must have at least 1 token, got none"):
        checks.check_tokens("f", "x", [], fewest=1)


@pytest.mark.parametrize("value", ["a", True, None])
def test_choices_that_there_are(value: object) -> None:
    check_choice("f", "x", value, ("a", True, None))

"""Whether an argument is what an operation can take: one wording for all of them."""

from __future__ import annotations

import numbers


def is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)

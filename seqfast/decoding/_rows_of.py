"""Rows of whatever torch tensors an object holds, for caches and outputs that cannot choose their
rows themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_PLAIN = (str, bytes, int, float, bool, type(None), torch.device, torch.dtype)


def index_rows(value: Any, rows: Tensor, count: int) -> Any:
    """`value` with those rows of each tensor in it that has `count` of them in its first dimension,
    or, of integers with more dimensions, in the second (positions in several directions).

    Dicts, lists, tuples and objects are gone through; objects change in place.
    """
    return _of(value, rows, count, {})


def _of(value: Any, rows: Tensor, count: int, done: dict[int, Any]) -> Any:
    if isinstance(value, _PLAIN) or callable(value):
        return value
    if id(value) in done:
        return done[id(value)]
    found: Any
    if isinstance(value, Tensor):
        found = _tensor(value, rows, count)
    elif isinstance(value, dict):
        parts = {key: _of(part, rows, count, done) for key, part in value.items()}
        # Outputs of models are dicts as well, and made by name.
        found = parts if type(value) is dict else type(value)(**parts)
    elif isinstance(value, (list, tuple)):
        several = [_of(part, rows, count, done) for part in value]
        found = value._make(several) if hasattr(value, "_make") else type(value)(several)
    elif hasattr(value, "__dict__"):
        found = done[id(value)] = value
        for name, part in vars(value).items():
            setattr(value, name, _of(part, rows, count, done))
    else:
        found = value
    done[id(value)] = found
    return found


def _tensor(value: Tensor, rows: Tensor, count: int) -> Tensor:
    rows = rows.to(value.device)
    if value.ndim and value.shape[0] == count:
        return value.index_select(0, rows)
    if value.ndim == 3 and not value.is_floating_point() and value.shape[1] == count:
        return value.index_select(1, rows)
    return value

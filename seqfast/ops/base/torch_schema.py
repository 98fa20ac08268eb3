"""Torch operators described by named tuples: schemas, and the way from flat arguments and back.

A field of the description is an argument, or a named tuple of arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar, get_type_hints

from torch import Tensor

_TYPES = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    Any: "Tensor?",
    bool: "bool",
    float: "float",
    int: "int",
    str: "str",
    tuple[float, float]: "float[]",
}
# What the fields of such a group are called one by one.
_NAMES = {"grads": "grad_{}", "needs": "need_{}", "weights_reverse": "{}_reverse"}

_Call = TypeVar("_Call")


def schema_of(name: str, call: type, results: type) -> str:
    """The schema of an operator that takes the fields of `call` and returns those of `results`."""
    arguments = [f"{_TYPES[kind]} {argument}" for argument, kind in _flat_fields(call)]
    found = [f"Tensor {result}" for result, _ in _flat_fields(results)]
    if len(found) == 1:
        return f"{name}({', '.join(arguments)}) -> Tensor"
    return f"{name}({', '.join(arguments)}) -> ({', '.join(found)})"


def grouped(call: type[_Call], flat: Iterable[Any]) -> _Call:
    """Flat arguments, or what else there is one of for each, as the description groups them."""
    left = iter(flat)
    parts = []
    for kind in _hints(call).values():
        if _is_group(kind):
            parts.append(kind._make(islice(left, len(kind._fields))))
        else:
            parts.append(next(left))
    made: _Call = call._make(parts)  # type: ignore[attr-defined]
    return made


def flat(call: Any) -> tuple[Any, ...]:
    """The arguments one by one."""
    found: list[Any] = []
    for part, kind in zip(call, _hints(type(call)).values(), strict=True):
        if _is_group(kind):
            found += part
        else:
            found.append(part)
    return tuple(found)


def _flat_fields(call: type) -> list[tuple[str, Any]]:
    fields: list[tuple[str, Any]] = []
    for name, kind in _hints(call).items():
        if _is_group(kind):
            called = _NAMES.get(name, "{}")
            fields += [(called.format(field), of) for field, of in _hints(kind).items()]
        else:
            fields.append((name, kind))
    return fields


_known_hints: dict[type, dict[str, Any]] = {}


def _hints(call: type) -> dict[str, Any]:
    if call not in _known_hints:
        _known_hints[call] = get_type_hints(call)
    return _known_hints[call]


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "_fields")

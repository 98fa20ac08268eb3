"""What a call is to who only watches it: torch.fx, which records it, and torch's profiler."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import profiler
from torch.nn import Module


def profiler_is_on() -> bool:
    return profiler._is_profiler_enabled


# For torch.compile, which else would compile anew for the profiler.
profiler_is_on._dynamo_marked_constant = True  # type: ignore[attr-defined]


def recorded(name: str) -> Any:
    """An event with a layer's name around what runs."""
    return profiler.record_function(f"seqfast.nn.{name}")


def node_of(module: Module, input: Any, arguments: dict[str, Any]) -> Any:
    """The call as one node of the graph that torch.fx is recording; None where it is not.

    Its tracer takes modules of torch.nn alone for leaves by itself.
    """
    # A mask or a state is recorded where the input is: all come from the traced function.
    if not isinstance(input, torch.fx.Proxy):
        return None
    target = input.tracer.path_of_module(module)  # type: ignore[attr-defined]
    if not target:
        raise TypeError(
            f"torch.fx: a {type(module).__name__} by itself has no graph; trace a module that has "
            "it, where it becomes a leaf"
        )
    given = {k: v for k, v in arguments.items() if v is not None and v is not False}
    return input.tracer.create_proxy("call_module", target, (input,), given)

"""What a call is to who only watches it: torch.fx, which records it, and torch's profiler."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import profiler
from torch.fx import _symbolic_trace
from torch.nn import Module
from torch.utils._pytree import tree_leaves


def profiler_is_on() -> bool:
    return profiler._is_profiler_enabled


def fx_is_on() -> bool:
    return _symbolic_trace._is_fx_tracing_flag


# For torch.compile, which else would compile anew for the profiler.
profiler_is_on._dynamo_marked_constant = True  # type: ignore[attr-defined]
fx_is_on._dynamo_marked_constant = True  # type: ignore[attr-defined]


def recorded(name: str) -> Any:
    """An event with a layer's name around what runs."""
    return profiler.record_function(f"seqfast.nn.{name}")


def node_of(module: Module, input: Any, arguments: dict[str, Any]) -> Any:
    """The call as one node of the graph that torch.fx is recording; None where it is not.

    Its tracer takes modules of torch.nn alone for leaves by itself.
    """
    values = tree_leaves((input, arguments))
    proxy = next((value for value in values if isinstance(value, torch.fx.Proxy)), None)
    if proxy is None:
        return None
    target = proxy.tracer.path_of_module(module)  # type: ignore[attr-defined]
    if not target:
        raise TypeError(
            f"torch.fx: cannot trace a {type(module).__name__} alone; trace a module that contains "
            "it, where it becomes a leaf"
        )
    given = {k: v for k, v in arguments.items() if v is not None and v is not False}
    return proxy.tracer.create_proxy("call_module", target, (input,), given)

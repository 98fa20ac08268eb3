"""The native way in: calls that nothing but a kernel wants to see, read and made in C++."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seqfast import _C
from seqfast.ops.rnn.cells import traits_of
from seqfast.ops.rnn.options import Options, RnnOptions

try:
    from torch._C import (
        _get_tracing_state,
        _is_any_autocast_enabled,
        _len_torch_dispatch_stack,
        _len_torch_function_stack,
    )
    from torch._C._functorch import peek_interpreter_stack
except ImportError:  # Private names of torch: without them every call goes through Python.
    _QUIET = None
else:
    # What must be so for a kernel to be all that a call is: no gradients wanted, no autocast, no
    # mode, no tracer, no transform.
    _QUIET = (
        (torch.is_grad_enabled, False),
        (_is_any_autocast_enabled, False),
        (_len_torch_dispatch_stack, 0),
        (_len_torch_function_stack, 0),
        (_get_tracing_state, None),
        (peek_interpreter_stack, None),
    )

NativeCall = _C.PlainRnn


def native_call(
    cell: str, options: Options, always: Mapping[str, Any], training: Mapping[str, Any]
) -> NativeCall | None:
    """What runs plain calls of modules around a cell, and answers None to others.

    `always`: what the attributes of a plain module are; `training`: those that count in training
    alone. None where torch has no exchange API of DLPack (before 2.10).
    """
    api = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    forward_mode = vars(torch.autograd.forward_ad)
    if api is None or _QUIET is None or "_current_level" not in forward_mode:
        return None
    try:
        return NativeCall(
            api,
            (torch.Tensor, torch.nn.Parameter),
            torch.Tensor.is_neg,
            torch.get_num_threads,
            _QUIET,
            (
                (forward_mode, "_current_level", -1),
                (vars(torch.autograd.profiler), "_is_profiler_enabled", False),
            ),
            RnnOptions.of(traits_of(cell, options).kind, options, False),
            dict(always),
            dict(training),
        )
    except ValueError:  # another version of DLPack
        return None

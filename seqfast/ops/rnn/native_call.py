"""The native way in: calls that nothing but a kernel wants to see, read and made in C++."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
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

# Of torch's C interface; the last, of its Python bindings, by the name that compilers of C++ other
# than Microsoft's give it.
_ALLOCATION = (
    "aoti_torch_empty_strided",
    "aoti_torch_get_data_ptr",
    "aoti_torch_delete_tensor_object",
    "_Z16THPVariable_WrapRKN2at10TensorBaseE",
)
_DTYPES = ("float32", "float64", "bfloat16", "float16")  # in the kernels' order


@cache
def _torch_allocator() -> tuple[Any, ...] | None:
    """What makes tensors by torch's own allocator, for C++; None where torch has it otherwise.

    DLPack makes tensors too, but torch takes those for memory of somebody else's, which it cannot
    resize.
    """
    try:
        library = ctypes.PyDLL(torch._C.__file__)  # finds what is in the libraries that it needs
        addresses = [ctypes.cast(library[name], ctypes.c_void_p).value for name in _ALLOCATION]
        dtypes = tuple([library[f"aoti_torch_dtype_{name}"]() for name in _DTYPES])
    except (AttributeError, OSError):
        return None
    return *addresses, dtypes


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
            _torch_allocator(),
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

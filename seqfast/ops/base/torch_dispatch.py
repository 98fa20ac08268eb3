"""Who besides a kernel wants to see a call: transforms, tracers, subclasses of Tensor."""

from __future__ import annotations

import torch
from torch import Tensor

try:
    from torch._C import _get_tracing_state, _len_torch_dispatch_stack
    from torch._C._functorch import (
        is_functorch_wrapped_tensor,
        is_legacy_batchedtensor,
        peek_interpreter_stack,
    )
except ImportError:  # Private names of torch: without them every call goes to the dispatcher.
    peek_interpreter_stack = None  # type: ignore[assignment]

_PLAIN = {Tensor, torch.nn.Parameter}
_PLAIN_OR_NONE = {*_PLAIN, type(None)}


def needs_plain_torch() -> bool:
    """Whether a transform of torch.func, or forward-mode AD, is under way: they know no kernels."""
    if torch.compiler.is_compiling() or peek_interpreter_stack is None:
        return False
    return peek_interpreter_stack() is not None or _forward_mode()


def can_skip_dispatcher(input: Tensor, *others: Tensor | None) -> bool:
    """Whether the dispatcher would only call our kernel; it costs as much as a short step."""
    if torch.compiler.is_compiling() or peek_interpreter_stack is None:
        return False
    if _len_torch_dispatch_stack() or _get_tracing_state() is not None:
        return False
    # Others on another device are the border's to refuse.
    if not (input.is_cpu or input.is_cuda) or type(input) not in _PLAIN:
        return False
    if not _PLAIN_OR_NONE.issuperset(map(type, others)):
        return False
    # What a transform that is over has left behind has no memory of its own.
    given = (input, *[other for other in others if other is not None])
    return not any(map(is_functorch_wrapped_tensor, given))


def is_batched(*grads: Tensor | None) -> bool:
    """Whether gradients come from inside a transform, or several at once (`is_grads_batched`)."""
    return peek_interpreter_stack is not None and (
        peek_interpreter_stack() is not None
        or any(grad is not None and is_legacy_batchedtensor(grad) for grad in grads)
    )


def _forward_mode() -> bool:
    return getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0

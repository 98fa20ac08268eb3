"""What modules check before they call an operation, and the casts of autocast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqfast.ops.rnn import torch as torch_rnn


def check_tensor(operation: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{operation}: {name} must be a torch tensor, got {type(value).__name__}")


def check_mask(
    operation: str, name: str, value: object, input: Tensor, input_name: str = "input"
) -> None:
    """`value` must be a bool tensor of one element for each row and step of `input`, beside it."""
    check_tensor(operation, name, value)
    assert isinstance(value, Tensor)
    if value.dtype != torch.bool:
        raise TypeError(f"{operation}: {name} must be bool, got {value.dtype}")
    if value.shape != input.shape[:-1]:
        raise ValueError(
            f"{operation}: {name} must be {list(input.shape[:-1])}, got {list(value.shape)}"
        )
    if value.device != input.device:
        raise ValueError(
            f"{operation}: {name} must be on {input.device}, as {input_name} is, got {value.device}"
        )


def lengths_tensor(operation: str, lengths: Any, name: str = "lengths") -> Tensor | None:
    """What `pack_padded_sequence` takes, too: a list, tuple or NumPy array of integers."""
    if lengths is None or isinstance(lengths, Tensor):
        return lengths
    if not isinstance(lengths, (list, tuple, np.ndarray, np.integer)):
        raise TypeError(
            f"{operation}: {name} must be a torch tensor, a list, a tuple or a NumPy array, "
            f"got {type(lengths).__name__}"
        )
    try:
        found = torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{operation}: {name} must be integers, got {lengths!r}") from error
    return found.to(torch.int64) if found.numel() == 0 else found


def check_integers(operation: str, name: str, value: object) -> None:
    check_tensor(operation, name, value)
    assert isinstance(value, Tensor)
    dtype = value.dtype
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        raise TypeError(f"{operation}: {name} must be integers, got {dtype}")


def check_lengths(
    operation: str,
    lengths: object,
    wanted: list[int],
    *,
    name: str = "lengths",
    most: int | None = None,
) -> None:
    """For where the operation, which checks more, does not see them; the values, which only the
    CPU has at hand, where `most` is given."""
    check_integers(operation, name, lengths)
    assert isinstance(lengths, Tensor)
    if list(lengths.shape) != wanted:
        raise ValueError(f"{operation}: {name} must be {wanted}, got {list(lengths.shape)}")
    if most is None or not lengths.is_cpu or lengths.numel() == 0:
        return
    if torch.compiler.is_compiling() or torch_rnn.is_tracing():
        return
    least, longest = (int(bound) for bound in lengths.aminmax())
    if least < 0 or longest > most:
        got = least if least < 0 else longest
        raise ValueError(f"{operation}: {name} must be from 0 to {most}, got {got}")


def check_dtypes(operation: str, name: str, value: Tensor, other: str, like: Tensor | None) -> None:
    """One floating dtype for both; under autocast they need only be floating."""
    if not value.is_floating_point():
        raise TypeError(f"{operation}: {name} must be floating, got {value.dtype}")
    if like is not None and like.dtype != value.dtype and autocast_dtype(value) is None:
        raise TypeError(
            f"{operation}: {name} must be {like.dtype}, as {other} is, got {value.dtype}"
        )


def check_devices(
    operation: str,
    input: Tensor,
    weight: Tensor,
    states: Sequence[Tensor],
    label: Callable[[int], str],
) -> None:
    """Weights and states must be where `input` is, and that must be where kernels run."""
    if input.is_cpu and weight.is_cpu and all(state.is_cpu for state in states):
        return
    for k, other in enumerate((weight, *states)):
        if other.device != input.device:
            kind = "hidden" if k else "parameter"
            which = f" ({label(k - 1)})" if k else ""
            raise RuntimeError(
                f"{operation}: Input and {kind} tensors are not at the same device, found input "
                f"tensor at {input.device} and {kind} tensor at {other.device}{which}"
            )
    if input.device.type not in ("cuda", "meta"):
        raise RuntimeError(
            f"{operation}: input must be on the CPU or on a CUDA device, got {input.device}"
        )


def check_state_dtypes(
    operation: str, input: Tensor, states: Sequence[Tensor], label: Callable[[int], str]
) -> None:
    for k, state in enumerate(states):
        if state.dtype != input.dtype:
            raise RuntimeError(
                f"{operation}: {label(k)} dtype ({state.dtype}) does not match input dtype "
                f"({input.dtype}): {must_have_one_dtype(state, input)}"
            )


def must_have_one_dtype(one: Tensor, other: Tensor) -> str:
    """As torch says it of its own cells' products."""
    names = [kind.type().split(".")[-1].removesuffix("Tensor") for kind in (one, other)]
    return f"mat1 and mat2 must have the same dtype, but got {names[0]} and {names[1]}"


def autocast_dtype(input: Tensor) -> torch.dtype | None:
    """What autocast computes in where `input` is; None without autocast."""
    device_type = "cuda" if input.is_cuda else "cpu"
    if not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)


def autocast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """As autocast casts: every floating dtype but float64."""
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        return tensor.to(dtype)
    return tensor


def requires_grad(*tensors: Tensor | None) -> bool:
    # A list: a generator takes twice as long.
    return any([tensor is not None and tensor.requires_grad for tensor in tensors])


def moved(tensor: Tensor, like: Tensor) -> Tensor:
    """From the CPU to where `like` is, without waiting for it."""
    return tensor.to(like.device, non_blocking=True)

"""What modules check before they call an operation, and the casts of autocast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
            name = label(k - 1) if k else "parameter"
            raise RuntimeError(
                f"{operation}: Input and {name} tensors are not at the same device, found input "
                f"at {input.device} and {name} at {other.device}"
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
                f"({input.dtype})"
            )


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

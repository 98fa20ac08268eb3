"""What every call into the CUDA kernels needs: device, stream, workspace, tensors of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqfast.ops.base.arguments import GpuPlace


def place(device: torch.device, on_host: bool) -> GpuPlace:
    """That device and torch's current stream there, or the host executor."""
    if on_host:
        return GpuPlace(device=0, stream=0, on_host=True)
    stream = torch.cuda.current_stream(device).cuda_stream
    return GpuPlace(device=device.index, stream=stream, on_host=False)


def workspace(size: int, device: torch.device, on_host: bool) -> tuple[Tensor, int]:
    """Memory for kernels and its address, which they want aligned to 256."""
    memory = torch.empty(size + 255, dtype=torch.uint8, device=device)
    if on_host:  # a number that no kernel wrote must show
        memory.fill_(0xFF)
    return memory, (memory.data_ptr() + 255) // 256 * 256


def address_of(array: Tensor | None) -> int:
    return 0 if array is None else array.data_ptr()


def as_tensors(value: Any) -> Any:
    """NumPy arrays as tensors that share their memory, however nested."""
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            value = value.copy()  # torch warns of what it could write to
        if value.dtype.name == "bfloat16":
            return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(value)
    if isinstance(value, (tuple, list)):
        make = getattr(value, "_make", type(value))
        return make(as_tensors(item) for item in value)
    return value


def as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).numpy().view("bfloat16")
        return value.numpy()
    if isinstance(value, tuple):
        make = getattr(value, "_make", type(value))
        return make(as_arrays(item) for item in value)
    return value

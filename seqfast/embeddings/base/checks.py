"""Checks of what models of word vectors may be told; `operation` is the class that errors name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from seqfast.ops.base.checks import is_number


def check_whole(
    operation: str, name: str, value: Any, smallest: int, largest: int | None, also: str = ""
) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{operation}: {name} must be an int{also}, got {value!r}")
    if value < smallest or (largest is not None and value > largest):
        wanted = f">= {smallest}" if largest is None else f"from {smallest} to {largest}"
        raise ValueError(f"{operation}: {name} must be {wanted}{also}, got {value}")


def check_rate(operation: str, name: str, value: Any) -> None:
    """Learning rates and the like: finite, not negative."""
    if not is_number(value) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{operation}: {name} must be a finite number >= 0, got {value!r}")


def check_device(operation: str, device: Any) -> str:
    """Its name. Raises RuntimeError for a CUDA device that is not there."""
    name = str(device)
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or name == "cpu:":
        raise ValueError(f"{operation}: device must be cpu or cuda, got {device!r}")
    if kind == "cpu":
        return "cpu"
    try:
        import torch
    except ImportError as error:
        raise RuntimeError(
            f"{operation}: device {name} needs torch, which is not installed"
        ) from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise RuntimeError(
            f"{operation}: device must be there, got {name} with {count} CUDA devices"
        )
    return name

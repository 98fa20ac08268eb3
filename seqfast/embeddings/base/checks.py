"""Where a model of word vectors may be trained."""

from __future__ import annotations

from typing import Any


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
            f"{operation}: device must be cpu or a CUDA device that torch sees, "
            f"got {name} and {count} CUDA devices"
        )
    return name

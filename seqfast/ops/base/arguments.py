"""How arguments reach `_C`: a named tuple for each struct of csrc/core, with its names and order.

tests/ops/test_arguments.py holds both sides equal."""

from __future__ import annotations

from typing import NamedTuple

Address = int  # of memory; 0 for what is absent


class GpuPlace(NamedTuple):
    """Where a call runs on a GPU, or that the host executor takes it: csrc/core/gpu.h."""

    device: int
    stream: Address
    on_host: bool

"""What the dropout kernels are told: csrc/core/random.h."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address


class DropoutArgs(NamedTuple):
    """The call."""

    dtype: int
    steps: int
    rows: int
    units: int
    input: Address
    output: Address
    probability: float
    seed: Address
    stream: int
    per_step: bool
    threads: int

"""What the selection kernels are told: csrc/core/top_k.h."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address


class TopKArgs(NamedTuple):
    """The call, but for its workspace."""

    rows: int
    columns: int
    k: int
    excluded: int
    row_stride: int
    scores: Address
    exclude: Address
    values: Address
    indices: Address
    threads: int
    parts: int

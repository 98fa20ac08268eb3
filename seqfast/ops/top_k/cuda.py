"""The k largest of each row on a GPU, or by the host executor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops.base.cuda import address_of, as_arrays, as_tensors, place
from seqfast.ops.top_k.arguments import TopKArgs

# What the kernels can select from a row (kSelectionMost); torch's sort does the others.
_MOST_SELECTED = 1024
# Columns that are worth a block of their own, and blocks of a multiprocessor that hide latency.
_PART_COLUMNS = 16384
_BLOCKS = 4
_HOST_MULTIPROCESSORS = 2


def top_k(scores: Any, k: int, exclude: Any, backend: str) -> tuple[Any, Any]:
    """`seqfast.ops.top_k.top_k` of checked arguments: rows and k not 0, rows of `scores` dense."""
    if isinstance(scores, np.ndarray):
        arrays: tuple[Any, Any] = as_arrays(
            top_k(as_tensors(scores), k, as_tensors(exclude), backend)
        )
        return arrays
    rows, columns = scores.shape
    excluded = 0 if exclude is None else exclude.shape[1]
    selected = min(k + excluded, columns)
    if selected > _MOST_SELECTED:
        return _by_sorting(scores, k, exclude)
    on_host = backend == "cuda-host"
    parts = _parts(scores, selected, on_host)
    values = scores.new_empty((rows, k))
    indices = scores.new_empty((rows, k), dtype=torch.int64)
    workspace = None
    if parts > 1:
        workspace = indices.new_empty(rows * parts * selected)
    if on_host:  # a number that no kernel wrote must show
        values.fill_(torch.nan)
        indices.fill_(-2)
        if workspace is not None:
            workspace.fill_(-1)
    args = TopKArgs(
        rows=rows,
        columns=columns,
        k=k,
        excluded=excluded,
        row_stride=scores.stride(0),
        scores=scores.data_ptr(),
        exclude=0 if exclude is None else exclude.data_ptr(),
        values=values.data_ptr(),
        indices=indices.data_ptr(),
        threads=0,
        parts=parts,
    )
    _C.cuda_top_k(place(scores.device, on_host), args, address_of(workspace))
    return values, indices


def _parts(scores: Tensor, selected: int, on_host: bool) -> int:
    """Blocks that share a row: enough to fill the GPU, each with far more columns than it keeps."""
    rows, columns = scores.shape
    multiprocessors = (
        _HOST_MULTIPROCESSORS
        if on_host
        else torch.cuda.get_device_properties(scores.device).multi_processor_count
    )
    wanted = -(-_BLOCKS * multiprocessors // rows)
    return max(1, min(wanted, columns // max(_PART_COLUMNS, 16 * selected)))


def _by_sorting(scores: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """By torch, where more is wanted than a block can hold: the order of one number that says it
    all, the score as an integer of the same order above the negated column."""
    columns = scores.shape[1]
    bits = (scores.detach() + 0.0).view(torch.int32).long()  # + 0 makes -0 into 0
    keys = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32
    keys -= torch.arange(columns, device=scores.device)
    none = torch.iinfo(torch.int64).min
    keys.masked_fill_(scores.isnan(), none)
    if exclude is not None:
        # What names no column goes to one that is cut off again.
        outside = (exclude < 0) | (exclude >= columns)
        keys = torch.cat((keys, keys.new_empty((keys.shape[0], 1))), 1)
        keys.scatter_(1, exclude.masked_fill(outside, columns), none)
        keys = keys[:, :columns]
    chosen = torch.topk(keys, k, dim=1).values
    missing = chosen == none
    # The upper half was rounded up by the column that was taken from it.
    indices = -(chosen - ((chosen + columns - 1) >> 32 << 32))
    indices.masked_fill_(missing, 0)
    values = scores.detach().gather(1, indices).masked_fill_(missing, -torch.inf)
    return values, indices.masked_fill_(missing, -1)

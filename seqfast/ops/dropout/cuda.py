"""Dropout by counter on a GPU, or by the host executor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from seqfast import _C
from seqfast.ops.base.arrays import library_of
from seqfast.ops.base.cuda import address_of, as_arrays, as_tensors, place
from seqfast.ops.dropout.arguments import DropoutArgs


def dropout(
    input: Any, probability: float, seed: Any, stream: int, per_step: bool, backend: str
) -> Any:
    """`seqfast.ops.dropout.dropout` of checked arguments: contiguous, not empty, with a seed."""
    if isinstance(input, np.ndarray):
        tensors = as_tensors((input, seed))
        return as_arrays(dropout(tensors[0], probability, tensors[1], stream, per_step, backend))
    dtype = library_of(input, "dropout", "input").dtype_code(input)
    assert dtype is not None  # the caller has checked it
    output = torch.empty_like(input, requires_grad=False)
    steps, rows, units = input.shape
    args = DropoutArgs(
        dtype=dtype,
        steps=steps,
        rows=rows,
        units=units,
        input=address_of(input),
        output=address_of(output),
        probability=float(probability),
        seed=address_of(seed),
        stream=stream,
        per_step=per_step,
        threads=0,
    )
    _C.cuda_dropout(place(input.device, backend == "cuda-host"), args)
    return output

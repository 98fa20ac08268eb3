"""Steps of beam search on a GPU, or by the host executor.

What a step is made of is handed over in parts: the native call, and the arrays it works on.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops.base.arrays import Array
from seqfast.ops.base.cuda import place, workspace
from seqfast.ops.beam_search.arguments import BeamBacktrackArgs, BeamLogits

_FINE = -1  # kBeamStepFine of csrc/core


class Buffers(Protocol):
    """What the native calls of a search hand on."""

    workspace: Array | None


class Records(Protocol):
    """Of a search's arrays those that are looked at here."""

    scores: Array
    status: Array


def set_workspace(native: _C.BeamStepCall, kept: Buffers, scores: Array, backend: str) -> None:
    """An earlier call's where it is large enough; each step leaves it as the next wants it."""
    device, on_host = _device(scores), backend == "cuda-host"
    size, counters = native.cuda_workspace_size(place(device, on_host))
    memory = kept.workspace
    if not isinstance(memory, Tensor) or memory.numel() < size:
        whole, address = workspace(size, device, on_host)
        memory = kept.workspace = whole[address - whole.data_ptr() :]
    elif on_host:  # a number that no kernel wrote must show
        memory.fill_(0xFF)
    memory[:counters].zero_()
    native.set_workspace(memory.data_ptr(), size)


def beam_step(native: _C.BeamStepCall, args: BeamLogits, beams: Records, backend: str) -> int:
    """`seqfast.ops.beam_search.beam_step` of checked arguments. Returns the status.

    On a GPU nobody waits for the kernels, and the status is not known yet. Arguments are the same
    for every step of a search, so that a CUDA graph may replay them.
    """
    on_host = backend == "cuda-host"
    if on_host:
        beams.status[0] = _FINE
    native.cuda_step(place(_device(beams.scores), on_host), args)
    return int(beams.status[0]) if on_host else _FINE


def beam_backtrack(
    args: BeamBacktrackArgs, beams: Records, results: tuple[Array, ...], backend: str
) -> None:
    """Of checked arguments."""
    on_host = backend == "cuda-host"
    if on_host:
        for array in results:
            array[...] = -2
    _C.cuda_beam_backtrack(place(_device(beams.scores), on_host), args)


def _device(scores: Array) -> torch.device:
    return scores.device if isinstance(scores, Tensor) else torch.device("cpu")

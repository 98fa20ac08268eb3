"""Steps of beam search on a GPU, or by the host executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops.base.cuda import place, workspace

if TYPE_CHECKING:
    from seqfast.ops.base.arrays import Array
    from seqfast.ops.beam_search.beams import Beams, StepCall

_FINE = -1  # kBeamStepFine of csrc/core


def set_workspace(call: StepCall, beams: Beams) -> None:
    """An earlier call's where it is large enough; each step leaves it as the next wants it."""
    device, on_host = _device(beams), call.backend == "cuda-host"
    size, counters = call.native.cuda_workspace_size(on_host, device.index or 0)
    memory = call.kept.workspace
    if not isinstance(memory, Tensor) or memory.numel() < size:
        whole, address = workspace(size, device, on_host)
        memory = call.kept.workspace = whole[address - whole.data_ptr() :]
    elif on_host:  # a number that no kernel wrote must show
        memory.fill_(0xFF)
    memory[:counters].zero_()
    call.native.set_workspace(memory.data_ptr(), size)


def beam_step(call: StepCall, beams: Beams, rows: tuple[int, int, int, int, int]) -> int:
    """`seqfast.ops.beam_search.beam_step` of checked arguments: `rows` are dtype, address and
    stride of logits, address and stride of `allowed`. Returns the status.

    On a GPU nobody waits for the kernels, and the status is not known yet. Arguments are the same
    for every step of a search, so that a CUDA graph may replay them.
    """
    on_host = call.backend == "cuda-host"
    if on_host:
        beams.status[0] = _FINE
    call.native.cuda_step(*place(_device(beams), on_host), *rows)
    return int(beams.status[0]) if on_host else _FINE


def beam_backtrack(arguments: dict[str, Any], beams: Beams, results: tuple[Array, ...]) -> None:
    """Of checked arguments, by the names of the kernel's structure."""
    on_host = beams.call.backend == "cuda-host"
    if on_host:
        for array in results:
            array[...] = -2
    _C.cuda_beam_backtrack(*place(_device(beams), on_host), arguments)


def _device(beams: Beams) -> torch.device:
    return beams.scores.device if isinstance(beams.scores, Tensor) else torch.device("cpu")

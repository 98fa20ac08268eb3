"""Training of word vectors on a GPU, or by the host executor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops.base.cuda import place, workspace

_Results = tuple[Tensor, Tensor, Tensor]


def train(
    arguments: dict[str, Any], device: torch.device | None = None, on_host: bool = False
) -> _Results:
    """Of checked arguments, by the names of the kernels' structure, with the addresses of all that
    is read and trained: loss, kept and examples of each round, on `device` (None: the CPU).

    The kernels are queued on torch's current stream, and nobody waits for them.
    """
    if device is None:
        device = torch.device("cpu")
    rounds = arguments["last_round"] - arguments["first_round"]
    loss = torch.empty(rounds, dtype=torch.float64, device=device)
    kept, examples = (torch.empty(rounds, dtype=torch.int64, device=device) for _ in range(2))
    if on_host:
        # A number that no kernel wrote must show.
        loss.fill_(torch.nan)
        kept.fill_(-1)
        examples.fill_(-1)
    if not rounds:
        return loss, kept, examples
    where = place(device, on_host)
    size = _C.cuda_word2vec_workspace_size(*where, arguments)
    _memory, address = workspace(size, device, on_host)
    filled = {
        **arguments,
        "loss": loss.data_ptr(),
        "kept": kept.data_ptr(),
        "examples": examples.data_ptr(),
        "workspace": address,
        "workspace_size": size,
    }
    _C.cuda_word2vec_train(*where, filled)
    return loss, kept, examples

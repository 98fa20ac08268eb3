"""Training of GloVe on a GPU, or by the host executor."""

from __future__ import annotations

from typing import Any

import torch

from seqfast import _C
from seqfast.ops.base.cuda import place
from seqfast.ops.glove.arguments import GloveArgs


def train(args: GloveArgs, device: torch.device | None = None, on_host: bool = False) -> Any:
    """Of checked arguments: the loss of each tile, float64 [rounds, blocks], as a NumPy array.

    The kernels are queued on torch's current stream on `device` (None: the CPU), and waited for.
    """
    where = torch.device("cpu") if device is None else device
    loss = torch.full((args.rounds, args.blocks), torch.nan, dtype=torch.float64, device=where)
    if args.rounds:
        _C.cuda_glove_train(place(where, on_host), args._replace(loss=loss.data_ptr()))
    return loss.cpu().numpy()

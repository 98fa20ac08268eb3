"""Training of word vectors on a GPU, or by the host executor."""

from __future__ import annotations

import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops.base.cuda import place, workspace
from seqfast.ops.word2vec.arguments import Word2VecArgs

_Results = tuple[Tensor, Tensor, Tensor]


def train(
    args: Word2VecArgs, device: torch.device | None = None, on_host: bool = False
) -> _Results:
    """Of checked arguments, with the addresses of all that is read and trained: loss, kept and
    examples of each round, on `device` (None: the CPU).

    The kernels are queued on torch's current stream, and nobody waits for them.
    """
    if device is None:
        device = torch.device("cpu")
    rounds = args.last_round - args.first_round
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
    args = args._replace(loss=loss.data_ptr(), kept=kept.data_ptr(), examples=examples.data_ptr())
    size = _C.cuda_word2vec_workspace_size(where, args)
    _memory, address = workspace(size, device, on_host)
    _C.cuda_word2vec_train(where, args, address, size)
    return loss, kept, examples

"""CTC decoding and alignment on a GPU, or by the host executor; greedy decoding is torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqfast import _C
from seqfast.ops.base.arrays import FLOAT32, FLOAT64
from seqfast.ops.base.cuda import address_of, as_arrays, as_tensors, place, workspace
from seqfast.ops.ctc.arguments import MOST_LOG_PROB, CtcAlignArgs, CtcBeamArgs
from seqfast.ops.top_k.cuda import top_k

_MOST_BEAMS = 1024  # kSelectionMost


def greedy(log_probs: Any, lengths: Any, blank: int, backend: str) -> tuple[Any, Any, Any, Any]:
    """`seqfast.ops.ctc.ctc_greedy` of checked arguments."""
    if isinstance(log_probs, np.ndarray):
        tensors = greedy(as_tensors(log_probs), as_tensors(lengths), blank, backend)
        arrays: tuple[Any, Any, Any, Any] = as_arrays(tensors)
        return arrays
    log_probs = log_probs.detach()
    batch, frames, _ = log_probs.shape
    lengths = _lengths(log_probs, lengths)
    places = torch.arange(frames, device=log_probs.device)
    counts = places < lengths[:, None]
    # Of equal ones argmax names the first.
    best = log_probs.argmax(-1).masked_fill_(~counts, blank)
    accumulating = torch.float64 if log_probs.dtype == torch.float64 else torch.float32
    values = log_probs.gather(-1, best[..., None])[..., 0].double()
    scores = values.masked_fill_(~counts, 0).sum(-1)
    refused = _refused(log_probs, lengths) >= 0
    scores.masked_fill_(refused, torch.nan)
    begins = (best != blank) & ~refused[:, None]
    begins[:, 1:] &= best[:, 1:] != best[:, :-1]
    # What does not begin a token goes to a place that is cut off again.
    to = torch.where(begins, begins.cumsum(-1) - 1, frames)
    tokens = best.new_full((batch, frames + 1), -1).scatter_(1, to, best)[:, :frames]
    starts = places.expand(batch, -1)
    timesteps = best.new_full((batch, frames + 1), -1).scatter_(1, to, starts)[:, :frames]
    return tokens.contiguous(), begins.sum(-1), scores.to(accumulating), timesteps.contiguous()


def beam_search(
    log_probs: Any, lengths: Any, args: CtcBeamArgs, results: Any, model: Any, backend: str
) -> None:
    """`seqfast.ops.ctc.ctc_beam_search` of checked arguments, `args`, into `results`."""
    beam_size, top_n, vocab = args.beam_size, args.top_n, args.input.vocab
    if beam_size > _MOST_BEAMS:
        raise ValueError(
            f"ctc_beam_search: beam_size must be at most {_MOST_BEAMS} on a GPU, got {beam_size}"
        )
    on_host = backend == "cuda-host"
    tensor = _as_read(log_probs)
    counts = _lengths(tensor, as_tensors(lengths))
    refused = _refused(tensor, counts)
    ranks = vocab
    if top_n < vocab:
        ranks = top_n
    elif model is None:
        ranks = min(vocab, beam_size + 2)  # more cannot get into the beam
    ranked = _ranked(tensor, ranks, backend)
    input = args.input._replace(
        dtype=FLOAT64 if tensor.dtype == torch.float64 else FLOAT32,
        row_stride=tensor.stride(0),
        frame_stride=tensor.stride(1),
        log_probs=tensor.data_ptr(),
        lengths=counts.data_ptr(),
    )
    args = args._replace(
        input=input, refused=refused.data_ptr(), ranked=ranked.data_ptr(), ranks=ranks
    )
    where = place(tensor.device, on_host)
    size = _C.cuda_ctc_beam_search_workspace_size(where, args)
    _memory, address = workspace(size, tensor.device, on_host)
    if on_host:  # what no kernel wrote must show
        results.poison()
    if input.batch == 0:
        return
    if model is None:
        _C.cuda_ctc_beam_search(where, args, address)
    else:
        model.run(args, lambda step: _C.cuda_ctc_beam_search(where, step, address))


def align(
    log_probs: Any,
    lengths: Any,
    targets: Any,
    target_lengths: Any,
    args: CtcAlignArgs,
    backend: str,
) -> None:
    """`seqfast.ops.ctc.ctc_align` of checked arguments, `args`."""
    on_host = backend == "cuda-host"
    tensor = _as_read(log_probs)
    counts = _lengths(tensor, as_tensors(lengths))
    tokens = as_tensors(target_lengths)
    if tokens is not None:
        tokens = _beside(tensor, tokens)
    input = args.input._replace(
        dtype=FLOAT64 if tensor.dtype == torch.float64 else FLOAT32,
        row_stride=tensor.stride(0),
        frame_stride=tensor.stride(1),
        log_probs=tensor.data_ptr(),
        lengths=counts.data_ptr(),
    )
    targets = _beside(tensor, as_tensors(targets))
    args = args._replace(input=input, targets=targets.data_ptr(), target_lengths=address_of(tokens))
    where = place(tensor.device, on_host)
    size = _C.cuda_ctc_align_workspace_size(where, args)
    _memory, address = workspace(size, tensor.device, on_host)
    if input.batch:
        _C.cuda_ctc_align(where, args, address)


def _as_read(log_probs: Any) -> Tensor:
    """As kernels read it: of two types, tokens side by side."""
    tensor: Tensor = as_tensors(log_probs).detach()
    if tensor.dtype != torch.float64:
        # float() may let another dimension be dense.
        tensor = tensor.to(torch.float32, memory_format=torch.contiguous_format)
    return tensor


def _beside(log_probs: Tensor, lengths: Tensor) -> Tensor:
    if lengths.device == log_probs.device:
        return lengths
    # The caller's may be pinned, and then changed while they are on their way.
    return lengths.clone().to(log_probs.device, non_blocking=True)


def _lengths(log_probs: Tensor, lengths: Tensor | None) -> Tensor:
    batch, frames, _ = log_probs.shape
    if lengths is None:
        return torch.full((batch,), frames, dtype=torch.int64, device=log_probs.device)
    return _beside(log_probs, lengths).clamp(0, frames)


def _refused(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """[batch]: each row's first frame with an invalid log-probability, -1 without one."""
    frames = log_probs.shape[1]
    if frames == 0:
        return torch.full_like(lengths, -1)
    places = torch.arange(frames, device=log_probs.device)
    bad = ~(log_probs <= MOST_LOG_PROB).all(-1) & (places < lengths[:, None])
    first = torch.where(bad, places, frames).amin(-1)
    return torch.where(first < frames, first, -1)


def _ranked(log_probs: Tensor, ranks: int, backend: str) -> Tensor:
    """[batch, frames, ranks]: the most probable tokens of each frame, of equal ones the lower."""
    batch, frames, vocab = log_probs.shape
    if log_probs.numel() == 0:
        return log_probs.new_empty((batch, frames, ranks), dtype=torch.int64)
    if log_probs.dtype == torch.float64:
        order = torch.sort(log_probs, dim=-1, descending=True, stable=True).indices
        return order[..., :ranks].contiguous()
    rows = log_probs.reshape(batch * frames, vocab)
    if rows.stride(-1) != 1:
        rows = rows.contiguous()
    indices: Tensor = top_k(rows, ranks, None, backend)[1]
    return indices.view(batch, frames, ranks)

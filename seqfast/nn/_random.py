"""Random masks of the modules: one seed for each forward pass, and what each mask is drawn for."""

from __future__ import annotations

import torch
from torch import Tensor

from seqfast.ops.dropout import torch as torch_random


def draw_seed(like: Tensor) -> Tensor:
    """An int64 [1] where `like` is, from the CPU's default generator: `torch.manual_seed` decides,
    the same on every device, and checkpointing draws it again. (Inductor has a generator of its
    own: compiled code repeats itself, but not what eager code drew.)"""
    seed = torch.randint(2**63 - 1, (1,), dtype=torch.int64, device="cpu")
    return seed.to(like.device, non_blocking=True)


MASKS = "element", "row"  # of a weight: what is dropped together


def dropout(
    input: Tensor,
    probability: float,
    seed: Tensor,
    draw: int,
    layer: int = 0,
    direction: int = 0,
    *,
    per_step: bool = False,
) -> Tensor:
    """`input` [steps, rows, units] with zeros by chance, the rest scaled by 1 / (1 - probability).

    Without `per_step` all steps have one mask.
    """
    stream = torch_random.stream_of(draw, layer, direction)
    return torch_random.dropout(input, probability, seed, stream=stream, per_step=per_step)


def drop_weight(
    weight: Tensor,
    probability: float,
    on: str,
    seed: Tensor,
    draw: int,
    layer: int = 0,
    direction: int = 0,
) -> Tensor:
    """DropConnect of `weight` [rows, columns]; `on`: one of MASKS."""
    if on == "element":
        return dropout(weight[None], probability, seed, draw, layer, direction).squeeze(0)
    # One mask for all steps: the columns are the steps, the rows their units.
    columns = weight.T[:, None]
    return dropout(columns, probability, seed, draw, layer, direction)[:, 0].T

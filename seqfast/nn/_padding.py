"""Ways between the batch a user has and the one a kernel walks: packed rows, steps to skip."""

from __future__ import annotations

import torch
from torch import Tensor

from seqfast.nn._checks import moved


def running(lengths: Tensor, steps: int, like: Tensor) -> Tensor:
    """bool [steps, batch], where `like` is: whether a row's step is within its length."""
    if lengths.device != like.device:
        # A copy travels: the caller may change pinned memory before it is read.
        lengths = moved(lengths.to(torch.int64, copy=True), like)
    lengths = lengths.to(torch.int64)  # a short type would wrap the steps it is compared with
    return torch.arange(steps, device=like.device)[:, None] < lengths


class Packing:
    """From the rows of a PackedSequence to a padded, time-major batch and back."""

    def __init__(self, operation: str, batch_sizes: Tensor, data: Tensor) -> None:
        self.steps, self.batch = batch_sizes.shape[0], int(batch_sizes[0])
        on = torch.arange(self.batch, device=batch_sizes.device) < batch_sizes[:, None]
        rows = int(on.sum())
        if rows != data.shape[0]:
            raise RuntimeError(
                f"{operation}: the batch_sizes of a PackedSequence make {rows} rows, "
                f"but its data has {data.shape[0]}"
            )
        self.full = rows == self.steps * self.batch
        self.lengths = None if self.full else moved(on.sum(0), data)
        self.index = moved(on.flatten().nonzero().squeeze(1), data)

    def pad(self, data: Tensor) -> Tensor:
        if not self.full:
            # Nobody reads past a row's length.
            padded = data.new_empty((self.steps * self.batch, data.shape[1]))
            data = padded.index_copy_(0, self.index, data)
        return data.reshape(self.steps, self.batch, -1)

    def unpad(self, padded: Tensor) -> Tensor:
        data = padded.reshape(self.steps * self.batch, -1)
        return data if self.full else data.index_select(0, self.index)


class Compaction:
    """Brings the steps that run to the front of each row, in their order, and results back.

    What runs is then told by `lengths` alone, so a kernel needs to know no mask, and the host need
    not know how many steps run.
    """

    def __init__(self, mask: Tensor, lengths: Tensor | None, reset: Tensor | None) -> None:
        steps, batch = mask.shape
        if lengths is not None:
            within = running(lengths, steps, mask)
            mask = mask & within
            reset = None if reset is None else reset & within
        self.lengths = mask.sum(0)
        self._order = torch.sort((~mask).to(torch.uint8), dim=0, stable=True).indices
        ran = mask.cumsum(0)
        skipped = torch.arange(1, steps + 1, device=mask.device)[:, None] - ran
        self._place = torch.where(mask, ran, self.lengths + skipped) - 1
        self.reset: Tensor | None = None
        self._reset_after: Tensor | None = None
        if reset is not None:
            # A step that runs is reset where resets were counted since the last one that ran.
            count = reset.cumsum(0)
            counts = torch.cat([count.new_zeros((1, batch)), count.gather(0, self._order)])
            self.reset = counts[1:] > counts[:-1]
            self._reset_after = count[-1] > counts.gather(0, self.lengths[None])[0]

    def compact(self, sequence: Tensor) -> Tensor:
        """[steps, batch, features] with the steps that run in front."""
        return sequence.gather(0, self._order[:, :, None].expand(-1, -1, sequence.shape[2]))

    def spread(self, sequence: Tensor) -> Tensor:
        """The way back; what was zero past a row's length is zero where a step was skipped."""
        return sequence.gather(0, self._place[:, :, None].expand(-1, -1, sequence.shape[2]))

    def final(self, state: Tensor) -> Tensor:
        """[directions, batch, features] after a reset past the last step that ran."""
        if self._reset_after is None:
            return state
        return state.masked_fill(self._reset_after[None, :, None], 0)

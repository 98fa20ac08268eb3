"""A layer that runs backward in time alone, as ONNX has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from seqfast.nn._checks import check_lengths, check_tensor
from seqfast.nn._layer import RecurrentLayer
from seqfast.ops.base.checks import check_type


class ReverseLayer(Module):
    """A one-directional layer of seqfast.nn, run from the last step to the first.

    ONNX's `direction="reverse"`, for which the layers themselves have no option. `layer(input,
    hx=None, *, lengths=None)` has the arguments and results of the inner layer: step t of the
    output belongs to step t of the input, and `hx` is the state before the last step. With
    `lengths` each row begins at its own last step, and the output past it is zero.

    Args:
        layer: a `seqfast.nn.LSTM`, `GRU` or `RNN` of one direction; the attribute `layer`.

    Raises:
        TypeError: another layer; in a call, an argument that is not a tensor.
        ValueError: a layer of two directions; in a call, lengths that do not fit.

    Example:
        >>> import seqfast, torch
        >>> layer = seqfast.onnx.ReverseLayer(seqfast.nn.GRU(16, 32))
        >>> output, h = layer(torch.randn(5, 2, 16), lengths=torch.tensor([5, 3]))
        >>> bool((output[0] == h[0]).all())
        True
    """

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        check_type("ReverseLayer", "layer", layer, RecurrentLayer, "a seqfast.nn.LSTM, GRU or RNN")
        if layer.bidirectional:
            raise ValueError("ReverseLayer: layer must have one direction, got bidirectional=True")
        self.layer = layer

    def forward(
        self, input: Tensor, hx: Any = None, *, lengths: Tensor | None = None
    ) -> tuple[Any, ...]:
        check_tensor("ReverseLayer", "input", input)
        batched = input.dim() == 3
        axis = 1 if self.layer.batch_first and batched else 0
        if lengths is None:
            output, states = self.layer(input.flip(axis), hx)
            return output.flip(axis), states
        wanted = [input.shape[1 - axis]] if batched else []
        check_lengths("ReverseLayer", lengths, wanted, most=input.shape[axis])
        steps = torch.arange(input.shape[axis], device=input.device)
        ends = lengths.to(input.device, torch.int64)
        if batched:
            steps, ends = steps.unsqueeze(1 - axis), ends.unsqueeze(axis)
        # Within its length a row is turned round; what is behind stays where it is.
        order = torch.where(steps < ends, ends - 1 - steps, steps).unsqueeze(-1)

        def turned(sequence: Tensor) -> Tensor:
            return sequence.gather(axis, order.expand(*order.shape[:-1], sequence.shape[-1]))

        output, states = self.layer(turned(input), hx, lengths=lengths)
        return turned(output), states

"""How many operations a recurrent layer counts for in torch's own counter of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from seqfast.ops.base.torch_schema import grouped
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.torch import BackwardCall, ForwardCall


def _products(weights: RnnWeights) -> tuple[int, int]:
    """Elements of the weights that a step's input and those that its state is multiplied with."""
    of_state = weights.weight_hh, weights.weight_hr
    recurrent = sum(math.prod(weight) for weight in of_state if weight is not None)
    return math.prod(weights.weight_ih) if weights.weight_ih is not None else 0, recurrent


def _count_forward(*arguments: Any, out_shape: Any = None, **_: Any) -> int:
    call = grouped(ForwardCall, arguments)
    steps, batch, _features = call.inputs.input
    every = [_products(row) for row in (call.weights, call.weights_reverse)]
    return 2 * int(steps * batch) * sum(sum(row) for row in every)


def _count_backward(*arguments: Any, out_shape: Any = None, **_: Any) -> int:
    call = grouped(BackwardCall, arguments)
    steps, batch, _features = call.inputs.input
    count = 0
    for row in (call.weights, call.weights_reverse):
        of_input, recurrent = _products(row)
        count += recurrent
        count += of_input if call.needs.input else 0
        count += of_input + recurrent if call.needs.weights else 0
    return 2 * int(steps * batch) * count


def count_layers() -> None:
    """Tells `torch.utils.flop_counter` of the operators."""
    for operator, count in (
        (torch.ops.seqfast.rnn_forward, _count_forward),
        (torch.ops.seqfast.rnn_backward, _count_backward),
    ):
        register_flop_formula(operator)(count)

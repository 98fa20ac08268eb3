"""Calls of the torch operators of recurrent layers, made from a case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from seqfast.ops.base.torch_schema import flat
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.layer import Kept, Needs, ResultGradients, Results
from seqfast.ops.rnn.torch import BackwardCall, ForwardCall, Inputs
from support.variants import Case

NO_WEIGHTS = RnnWeights._make([None] * len(RnnWeights._fields))


def forward_call(case: Case, save: bool = True) -> ForwardCall:
    weights, *reverse = (RnnWeights(*row) for row in case.weights)
    return ForwardCall(
        cell=case.variant.operation,
        inputs=Inputs(case.input, case.hidden, case.cell, case.lengths, case.reset, case.seed),
        weights=weights,
        weights_reverse=reverse[0] if reverse else NO_WEIGHTS,
        options=case.variant.options,
        save=save,
    )


def forward_arguments(case: Case, save: bool = True) -> tuple[Any, ...]:
    return flat(forward_call(case, save))


def backward_arguments(case: Case, needs: Sequence[bool]) -> tuple[Any, ...]:
    """What the forward operator kept is computed; the case's gradients require gradients."""
    call = forward_call(case)
    results = Results._make(torch.ops.seqfast.rnn_forward(*flat(call)))
    kept = Kept._make(tensor.detach() for tensor in Kept.of(results))
    grads = [None if grad is None else grad.requires_grad_() for grad in case.grads]
    grads += [None] * (len(ResultGradients._fields) - len(grads))
    return flat(
        BackwardCall(
            call.cell,
            ResultGradients._make(grads),
            call.inputs,
            call.weights,
            call.weights_reverse,
            kept,
            call.options,
            Needs._make(map(bool, needs)),
        )
    )

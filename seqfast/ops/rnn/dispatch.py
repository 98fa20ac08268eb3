"""Sends a checked recurrent layer to the backend where its arrays are."""

from __future__ import annotations

from seqfast.ops.rnn import cpu
from seqfast.ops.rnn.layer import (
    Gradients,
    Kept,
    Layer,
    Needs,
    ResultGradients,
    Results,
    check_grads,
    check_kept,
)


def forward(layer: Layer, save: bool) -> Results:
    """Of any checked layer; None what its cell does not have, and what is not kept."""
    if layer.backend == "cpu" or layer.is_empty:
        return cpu.forward(layer, save)
    from seqfast.ops.rnn import cuda  # it imports torch

    return cuda.forward(layer, save)


def backward(layer: Layer, grads: ResultGradients, kept: Kept, needs: Needs) -> Gradients:
    """Of any checked layer, but for `grads` and `kept`, which are checked here."""
    kept, grads = check_kept(layer, kept), check_grads(layer, grads)
    if layer.backend == "cpu" or layer.is_empty:
        return cpu.backward(layer, grads, kept, needs)
    from seqfast.ops.rnn import cuda  # it imports torch

    return cuda.backward(layer, grads, kept, needs)

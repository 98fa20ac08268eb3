"""Puts seqfast's recurrent layers in the place of torch's, inside a model that already exists."""

from __future__ import annotations

from typing import TypeVar

import torch

from seqfast.nn._layer import RecurrentLayer
from seqfast.nn.gru import GRU, GRUCell
from seqfast.nn.lstm import LSTM, LSTMCell
from seqfast.nn.rnn import RNN, RNNCell
from seqfast.ops.base.checks import check_type

_Model = TypeVar("_Model", bound=torch.nn.Module)

_FAST: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.RNN: RNN,
    torch.nn.GRU: GRU,
    torch.nn.LSTM: LSTM,
    torch.nn.RNNCell: RNNCell,
    torch.nn.GRUCell: GRUCell,
    torch.nn.LSTMCell: LSTMCell,
}


def accelerate(model: _Model) -> _Model:
    """Turns every `torch.nn.RNN`, `GRU`, `LSTM` inside `model`, and their cells, into seqfast's;
    returns `model`.

    The modules stay the same objects, with the same Parameters, hooks, training flag and
    attributes, wherever they are referred to: optimizers keep their state, shared modules stay
    shared. Subclasses are left alone, since they may rely on torch's inner workings. Works on a
    model that is itself a layer. Calling it twice changes nothing.

    Raises TypeError where `model` is not a `torch.nn.Module`.
    """
    check_type("accelerate", "model", model, torch.nn.Module, "a torch.nn.Module")
    for module in model.modules():
        fast = _FAST.get(type(module))
        if fast is not None and fast is not type(module):
            module.__class__ = fast
            if isinstance(module, RecurrentLayer):
                module._become(vars(module).get("_flat_weights"))
    return model

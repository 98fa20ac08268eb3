"""An AttentionDecoder as the native search takes it, where that does what the modules do."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Embedding, Linear, Module
from torch.nn.modules import module as torch_module

from seqfast.decoding.attention_decoder import NativeDecoder
from seqfast.nn._checks import autocast_dtype
from seqfast.nn._layer import RecurrentLayer
from seqfast.nn.attention import Attention, DecoderState
from seqfast.nn.gru import GRU
from seqfast.nn.lstm import LSTM
from seqfast.nn.rnn import RNN
from seqfast.ops import decoder as operation
from seqfast.ops.base.backend import backend_of
from seqfast.ops.rnn.options import PLAIN

# Options of a layer that the operation does not know.
_NOT_NATIVE = ("layer_norm", "peephole", "residual", "dense", "highway", "proj_size")
# What the operation does itself; on an instance it is somebody's replacement.
_METHODS = {"forward", "step"}


class DecoderModules(Protocol):
    """What an AttentionDecoder is made of."""

    embedding: Embedding
    rnn: RecurrentLayer
    attention: Attention | None
    head: Module
    combine: Linear | None
    input_feeding: bool

    @property
    def context_first(self) -> bool: ...


def native_decoder(decoder: DecoderModules, state: DecoderState) -> NativeDecoder | None:
    """The decoder at that state; None where the native operation cannot do what it does."""
    weights = native_weights(decoder)
    if weights is None:
        return None
    memory = state.memory
    tensors = [*state.hidden, *state.cell, *state.fed, memory.keys, memory.values]
    plain_mask = memory.mask is None or type(memory.mask) is Tensor
    if not (plain_mask and _are_plain(tensors, weights.embedding)):
        return None
    return NativeDecoder(
        weights,
        operation.Memory(*memory),
        operation.DecoderState(state.hidden, state.cell, state.fed),
    )


def native_weights(decoder: DecoderModules) -> operation.Decoder | None:
    """Its weights; None where the native operation cannot do what the modules do."""
    rnn, attention, embedding = decoder.rnn, decoder.attention, decoder.embedding
    head, combine = decoder.head, decoder.combine
    modules: tuple[tuple[Any, type], ...] = ((embedding, Embedding), (head, Linear))
    if attention is not None:
        modules += ((attention, Attention), (combine, Linear))
    if type(rnn) not in (LSTM, GRU, RNN) or any(type(part) is not kind for part, kind in modules):
        return None
    assert isinstance(head, Linear)
    if rnn.bidirectional or any(getattr(rnn, name) for name in _NOT_NATIVE):
        return None
    if combine is not None and combine._parameters["bias"] is not None:
        return None
    options = rnn._kernel_options()._replace(nonlinearity=PLAIN.nonlinearity)
    if not rnn.training and options.recurrent_dropout_on != "cell":
        options = options._replace(recurrent_dropout=0.0, recurrent_dropout_on="hidden")
    drawn = rnn.training and rnn._draws()
    if drawn or options != PLAIN or rnn.feedback != "hidden" or embedding.max_norm is not None:
        return None
    if rnn.num_layers > operation.MOST_LAYERS or embedding.num_embeddings < head.out_features:
        return None
    if _is_watched(decoder) or autocast_dtype(embedding.weight) is not None:
        return None
    layers = []
    for layer in range(rnn.num_layers):
        (row,) = rnn._layer_weights(layer)
        weights_of_layer = row.recurrence
        layers.append(
            (
                _detached(weights_of_layer.weight_ih),
                _detached(weights_of_layer.weight_hh),
                _detached(weights_of_layer.bias_ih),
                _detached(weights_of_layer.bias_hh),
            )
        )
    query = None
    if attention is not None and attention.kind == "additive":
        query = tuple(
            _detached(w) for w in (attention.weight_query, attention.bias, attention.weight_score)
        )
    weights = operation.Decoder(
        cell=rnn._cell,
        nonlinearity=rnn.nonlinearity,
        input_feeding=decoder.input_feeding,
        embedding=_detached(embedding.weight),
        layers=tuple(layers),
        query=query,
        combine=None if combine is None else _detached(combine.weight),
        head=_detached(head.weight),
        head_bias=_detached(head.bias),
        context_first=decoder.context_first,
    )
    like = weights.embedding
    tensors = [w for row in layers for w in row] + [*(query or ())]
    tensors += [like, weights.combine, weights.head, weights.head_bias]
    if like.dtype not in (torch.float32, torch.float64) or backend_of(str(like.device)) != "cpu":
        return None
    return weights if _are_plain(tensors, like) else None


def _are_plain(tensors: list[Any], like: Tensor) -> bool:
    """Whether all that there are lie in memory as they say: subclasses may be something else."""
    return all(
        x is None or (type(x), x.dtype, x.device) == (Tensor, like.dtype, like.device)
        for x in tensors
    )


def _detached(weight: Any) -> Any:
    return None if weight is None else weight.detach()


def _is_watched(decoder: Any) -> bool:
    """Whether hooks want to see a module's calls, or something has taken the place of a method."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return True
    return any(
        part._forward_hooks or part._forward_pre_hooks or not vars(part).keys().isdisjoint(_METHODS)
        for part in decoder.modules()
    )

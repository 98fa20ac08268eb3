"""How an AttentionDecoder is searched: as a step function, or as one native operation.

The only file of nn that knows decoding, and only once somebody searches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Embedding, Linear, Module
from torch.nn.modules import module as torch_module

from seqfast.nn._checks import autocast_dtype
from seqfast.nn.attention import Attention, DecoderState
from seqfast.nn.rnn import GRU, LSTM, RNN
from seqfast.ops import decoder as operation
from seqfast.ops.base.backend import backend_of
from seqfast.ops.beam_search.beams import Beams
from seqfast.ops.rnn.options import PLAIN

if TYPE_CHECKING:
    from seqfast.decoding import BeamSearch
    from seqfast.nn.attention_decoder import AttentionDecoder

# Options of a layer that the operation does not know.
_FANCY = ("layer_norm", "peephole", "residual", "dense", "highway", "proj_size", "bidirectional")


# What the operation does itself; on an instance it is somebody's replacement.
_CALLED = {"forward", "step"}


class SearchStep:
    """The step function of a search over a decoder."""

    def __init__(self, decoder: AttentionDecoder, state: DecoderState) -> None:
        self._decoder, self._state = decoder, state

    def __call__(self, ids: Tensor, state: DecoderState, t: Any) -> tuple[Tensor, DecoderState]:
        return self._decoder.step(ids, state)

    def whole_search(self, start_ids: Tensor, begin: Callable[[Tensor], Beams]) -> Beams | None:
        """The beams at the end of a search, or None where it must go step by step.

        `begin` makes them from logits, of which dtype, place and vocabulary count.
        """
        weights, state = weights_of(self._decoder), self._state
        if weights is None:
            return None
        like, memory = weights.embedding, state.memory
        tensors = [*state.hidden, *state.cell, *state.fed, memory.keys, memory.values]
        plain_mask = memory.mask is None or type(memory.mask) is Tensor
        if not (plain_mask and _are_plain(tensors, like)):
            return None
        beams = begin(like.new_empty((0, weights.head.shape[0])))
        operation.decode(
            weights,
            operation.Memory(*state.memory),
            operation.DecoderState(*state[:3]),
            start_ids,
            beams,
        )
        return beams


def search_of(options: dict[str, Any]) -> BeamSearch:
    from seqfast.decoding import BeamSearch

    return BeamSearch(**options)


def shared_memory(state: DecoderState) -> DecoderState:
    """For a search: the memory is one for all beams of a sentence."""
    from seqfast.decoding import shared

    return state._replace(memory=shared(state.memory))


def weights_of(decoder: AttentionDecoder) -> operation.Decoder | None:
    """As the native operation takes them; None where it cannot do what the modules do."""
    from seqfast.nn.attention_decoder import AttentionDecoder

    rnn, attention, embedding = decoder.rnn, decoder.attention, decoder.embedding
    head, combine = decoder.head, decoder.combine
    parts = ((embedding, Embedding), (attention, Attention), (head, Linear), (combine, Linear))
    if type(decoder) is not AttentionDecoder or any(type(part) is not k for part, k in parts):
        return None
    assert isinstance(head, Linear)
    if type(rnn) not in (LSTM, GRU, RNN) or any(getattr(rnn, name) for name in _FANCY):
        return None
    if combine._parameters["bias"] is not None:
        return None
    options = rnn._kernel_options()._replace(nonlinearity=PLAIN.nonlinearity)
    if not rnn.training:
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
        layers.append(tuple(_plain(w) for w in rnn._layer_weights(layer)[0][:4]))
    query = None
    if attention.kind == "additive":
        query = tuple(
            _plain(w) for w in (attention.weight_query, attention.bias, attention.weight_score)
        )
    weights = operation.Decoder(
        cell=rnn._cell,
        nonlinearity=rnn.nonlinearity,
        input_feeding=decoder.input_feeding,
        embedding=_plain(embedding.weight),
        layers=tuple(layers),
        query=query,
        combine=_plain(combine.weight),
        head=_plain(head.weight),
        head_bias=_plain(head.bias),
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


def _plain(weight: Any) -> Any:
    return None if weight is None else weight.detach()


def _is_watched(module: Module) -> bool:
    """Whether hooks want to see a module's calls, or something has taken the place of a method."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return True
    return any(
        part._forward_hooks or part._forward_pre_hooks or not vars(part).keys().isdisjoint(_CALLED)
        for part in module.modules()
    )

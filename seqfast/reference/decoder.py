"""A beam search over a recurrent decoder with attention, in plain NumPy: what
`seqfast.ops.decoder` must do."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from seqfast.reference import rnn
from seqfast.reference._options import Options
from seqfast.reference.beam_search import Beams, beam_step

__all__ = ["Decoder", "DecoderState", "Memory", "decode"]

Array = np.ndarray[Any, Any]


class Decoder(NamedTuple):
    """The weights of a decoder, all of one dtype; equations in docs/equations.md.

    output_size is the hidden size of the last layer.

    Arguments and results are those of
    `seqfast.ops.decoder.Decoder`.

    Example:
        >>> from seqfast.reference.decoder import Decoder
        >>> Decoder._fields[:3]
        ('cell', 'nonlinearity', 'input_feeding')
    """

    cell: str  # lstm, gru or rnn
    nonlinearity: str  # of rnn: tanh or relu
    input_feeding: bool
    embedding: Array  # [words, embedding_size]
    layers: tuple[tuple[Array | None, ...], ...]  # weight_ih, weight_hh, bias_ih, bias_hh of each
    query: tuple[Array, Array | None, Array] | None
    """Of additive attention: weight_query [key_size, output_size], bias [key_size] or None,
    weight_score [key_size]; None: scores are the products of output and keys."""
    combine: Array | None
    """[attentional_size, output_size + memory_size]; None: no attention, and the head takes the
    top layer's output."""
    head: Array  # [vocabulary, attentional_size]
    head_bias: Array | None  # [vocabulary]
    context_first: bool = False
    """Bahdanau et al. 2015: the state before a step attends, and the context enters the first layer
    behind the embedding; without input feeding."""


class Memory(NamedTuple):
    """What is attended to.

    Arguments and results are those of
    `seqfast.ops.decoder.Memory`.

    Example:
        >>> from seqfast.reference.decoder import Memory
        >>> Memory._fields[:3]
        ('keys', 'values', 'mask')
    """

    keys: Array  # [batch, memory_steps, key_size]
    values: Array  # [batch, memory_steps, memory_size], zero where the mask is False
    mask: Array | None  # bool [batch, memory_steps], True where a row counts


class DecoderState(NamedTuple):
    """Where a decoder stands, row by row.

    Arguments and results are those of
    `seqfast.ops.decoder.DecoderState`.

    Example:
        >>> from seqfast.reference.decoder import DecoderState
        >>> DecoderState._fields[:3]
        ('hidden', 'cell', 'fed')
    """

    hidden: tuple[Array, ...]  # of each layer [rows, hidden_size]
    cell: tuple[Array, ...]  # of each layer [rows, hidden_size]; () but for lstm
    fed: tuple[Array, ...]  # ([rows, attentional_size],) or (), without input feeding


def decode(
    decoder: Decoder, memory: Memory, state: DecoderState, start_ids: Array, beams: Beams
) -> None:
    """Runs a search that has not begun to its end.

    `state` [batch, ...] and `start_ids` [batch], integers: what each sentence begins with. `beams`
    (see `seqfast.reference.beam_search`) is changed in place. Raises ValueError where `beam_step`
    does.

    Arguments and results are those of
    `seqfast.ops.decoder.decode`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import beam_search, decoder
        >>> z = np.zeros
        >>> layer = z((12, 4)), z((12, 4)), z(12), z(12)
        >>> weights = decoder.Decoder(
        ...     "gru", "tanh", False, z((9, 4)), (layer,), None, z((4, 8)), z((9, 4)), None)
        >>> memory = decoder.Memory(z((2, 3, 4)), z((2, 3, 4)), None)
        >>> state = decoder.DecoderState((z((2, 4)),), (), ())
        >>> beams = beam_search.start_beams(beam_search.BeamOptions(2, 9, (2,)), 2, 3, np.float64)
        >>> decoder.decode(weights, memory, state, np.zeros(2, int), beams)
        >>> int(beams.step[0])
        3
    """
    batch, width = beams.scores.shape
    rows = np.arange(batch).repeat(width)
    state = _map(lambda x: x[rows], state)
    beams.next_tokens[:] = start_ids[:, None]
    beams.next_rows[:] = np.arange(batch * width).reshape(batch, width)
    capacity = beams.tokens.shape[0]
    while beams.living[0] > 0 and beams.step[0] < capacity:
        state = _map(lambda x: x[beams.next_rows.ravel()], state)
        logits, state = _step(decoder, memory, state, beams.next_tokens.ravel())
        beam_step(logits, beams)


def _map(function: Any, state: DecoderState) -> DecoderState:
    return DecoderState(*(tuple(function(x) for x in arrays) for arrays in state))


def _step(
    decoder: Decoder, memory: Memory, state: DecoderState, ids: Array
) -> tuple[Array, DecoderState]:
    x = decoder.embedding[ids]
    context = None
    if decoder.context_first:
        context = _attend(decoder, memory, state.hidden[-1])
        x = np.concatenate([x, context], -1)
    elif decoder.input_feeding:
        x = np.concatenate([x, state.fed[0]], -1)
    options = Options(nonlinearity=decoder.nonlinearity)
    hidden, cell = [], []
    for k, weights in enumerate(decoder.layers):
        h = state.hidden[k][None]
        more: dict[str, Any] = {"options": options, "save": False}
        given = [(*weights, None)]
        if decoder.cell == "lstm":
            x, h, c, *_ = rnn.lstm_forward(x[None], h, state.cell[k][None], given, **more)
            cell.append(c[0])
        elif decoder.cell == "gru":
            x, h, *_ = rnn.gru_forward(x[None], h, given, **more)
        else:
            x, h, *_ = rnn.rnn_forward(x[None], h, given, **more)
        x = x[0]
        hidden.append(h[0])
    attentional = x
    if decoder.combine is not None:
        if context is None:
            context = _attend(decoder, memory, x)
        attentional = np.tanh(np.concatenate([x, context], -1) @ decoder.combine.T)
    logits = attentional @ decoder.head.T
    if decoder.head_bias is not None:
        logits = logits + decoder.head_bias
    fed = (attentional,) if decoder.input_feeding else ()
    return logits, DecoderState(tuple(hidden), tuple(cell), fed)


def _attend(decoder: Decoder, memory: Memory, output: Array) -> Array:
    batch = len(memory.values)
    queries = output.reshape(batch, len(output) // batch, -1) if batch else output[None]
    if decoder.query is None:
        scores = queries @ memory.keys.swapaxes(1, 2)
    else:
        weight, bias, score = decoder.query
        seen = queries @ weight.T
        if bias is not None:
            seen = seen + bias
        scores = np.tanh(seen[:, :, None] + memory.keys[:, None]) @ score
    if memory.mask is not None:
        scores = np.where(memory.mask[:, None], scores, -np.inf)
    largest = scores.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(largest == -np.inf, 0, largest))
    total = weights.sum(-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    context: Array = (weights @ memory.values).reshape(len(output), memory.values.shape[-1])
    return context

"""Random decoders, memories and first states for the tests of the operation and its twin."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqfast.reference import decoder as reference

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def make(
    cell: str = "lstm",
    batch: int = 3,
    hidden: tuple[int, ...] = (5, 7),
    *,
    embedding_size: int = 3,
    attentional_size: int = 6,
    memory_size: int = 4,
    memory_steps: int = 5,
    vocabulary: int = 11,
    input_feeding: bool = True,
    additive: bool = False,
    bias: bool = True,
    masked: bool = True,
    nonlinearity: str = "tanh",
    dtype: str = "float64",
    seed: int = 0,
    order: str = "luong",
) -> tuple[reference.Decoder, reference.Memory, reference.DecoderState, np.ndarray]:
    """A decoder, a memory with gaps (the first sentence has none at all), states, start tokens.

    `order`: "luong", "bahdanau" (without input feeding) or "plain", which attends to nothing.
    """
    input_feeding = input_feeding and order == "luong"
    if order == "plain":
        attentional_size, memory_steps, memory_size, additive = hidden[-1], 0, 0, False
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> Any:
        return (rng.standard_normal(shape) * scale).astype(dtype)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Any:
        return draw(rows, columns, scale=scale / np.sqrt(max(columns, 1)))

    def shift(size: int) -> Any:
        return draw(size, scale=0.3) if bias else None

    size = embedding_size + (attentional_size if input_feeding else 0)
    size += memory_size if order == "bahdanau" else 0
    layers = []
    for units in hidden:
        rows = GATES[cell] * units
        layers.append((matrix(rows, size), matrix(rows, units), shift(rows), shift(rows)))
        size = units
    key_size = 9 if additive else size
    query = (matrix(key_size, size), shift(key_size), draw(key_size)) if additive else None
    decoder = reference.Decoder(
        cell=cell,
        nonlinearity=nonlinearity,
        input_feeding=input_feeding,
        embedding=draw(vocabulary + 2, embedding_size),
        layers=tuple(layers),
        query=query,
        combine=None if order == "plain" else matrix(attentional_size, size + memory_size, 2.0),
        head=matrix(vocabulary, attentional_size, 4.0),
        head_bias=shift(vocabulary),
        context_first=order == "bahdanau",
    )
    keys, values = draw(batch, memory_steps, key_size), draw(batch, memory_steps, memory_size)
    mask = None
    if masked:
        mask = rng.random((batch, memory_steps)) > 0.3
        mask[:1] = False
        values = np.where(mask[..., None], values, 0).astype(dtype)
    state = reference.DecoderState(
        tuple(draw(batch, units) for units in hidden),
        tuple(draw(batch, units) for units in hidden) if cell == "lstm" else (),
        (draw(batch, attentional_size),) if input_feeding else (),
    )
    return decoder, reference.Memory(keys, values, mask), state, np.arange(batch) % 5

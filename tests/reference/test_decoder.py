"""The twin against torch's cells, one hypothesis and one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.decoder_cases import make
from torch.nn import functional as F

from seqfast.reference import decoder as reference
from seqfast.reference.beam_search import BeamOptions, start_beams


def greedy(case: Any, sentence: int, steps: int, eos: int) -> tuple[list[int], float]:
    """The likeliest token at each step, by torch; and the sum of log-probabilities."""
    decoder, memory, state, start = case

    def tensor(x: Any) -> Any:
        return None if x is None else torch.from_numpy(np.asarray(x))

    h = [tensor(x[sentence])[None] for x in state.hidden]
    c = [tensor(x[sentence])[None] for x in state.cell]
    fed = tensor(state.fed[0][sentence])[None] if state.fed else None
    keys, values = tensor(memory.keys[sentence]), tensor(memory.values[sentence])
    there = slice(None) if memory.mask is None else tensor(memory.mask[sentence])

    def attend(query: Any) -> Any:
        if decoder.query is None:
            scores = keys[there] @ query[0]
        else:
            weight, bias, score = (tensor(w) for w in decoder.query)
            scores = torch.tanh(F.linear(query, weight, bias) + keys[there]) @ score
        return (scores.softmax(0) @ values[there])[None]

    token, total, found = int(start[sentence]), 0.0, []
    for _ in range(steps):
        x = tensor(decoder.embedding[token])[None]
        if decoder.context_first:
            context = attend(h[-1])
            x = torch.cat([x, context], 1)
        elif fed is not None:
            x = torch.cat([x, fed], 1)
        for k, row in enumerate(decoder.layers):
            weights = [tensor(w) for w in row]
            if decoder.cell == "lstm":
                h[k], c[k] = torch._VF.lstm_cell(x, [h[k], c[k]], *weights)
            elif decoder.cell == "gru":
                h[k] = torch._VF.gru_cell(x, h[k], *weights)
            elif decoder.nonlinearity == "relu":
                h[k] = torch._VF.rnn_relu_cell(x, h[k], *weights)
            else:
                h[k] = torch._VF.rnn_tanh_cell(x, h[k], *weights)
            x = h[k]
        fed_next = x
        if decoder.combine is not None:
            context = context if decoder.context_first else attend(x)
            fed_next = torch.tanh(F.linear(torch.cat([x, context], 1), tensor(decoder.combine)))
        logprobs = F.linear(fed_next, tensor(decoder.head), tensor(decoder.head_bias))
        logprobs = logprobs.log_softmax(1)[0]
        fed = fed_next if fed is not None else None
        token = int(logprobs.argmax())
        total += float(logprobs[token])
        found.append(token)
        if token == eos:
            break
    return found, total


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("order", ["fed", "luong", "bahdanau", "plain"])
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("lstm", {}),
        ("gru", {"bias": False}),
        ("rnn", {"masked": False}),
        ("rnn", {"nonlinearity": "relu"}),
    ],
)
def test_one_beam_is_greedy(cell: str, options: Any, order: str, additive: bool) -> None:
    how = "luong" if order == "fed" else order
    case = make(cell, 4, input_feeding=order == "fed", additive=additive, order=how, **options)
    eos = 0
    settings = BeamOptions(beams=1, vocabulary=11, eos=(eos,), stop="first_k")
    beams = start_beams(settings, 4, 7, np.float64)
    reference.decode(*case, beams)
    for sentence in range(4):
        tokens, total = greedy(case, sentence, 7, eos)
        last = int(beams.pool_steps[sentence, 0, 0])
        found = [*beams.tokens[:last, sentence, 0], beams.pool_tokens[sentence, 0, 0]]
        assert found == tokens
        np.testing.assert_allclose(beams.pool_logprobs[sentence, 0, 0], total, rtol=1e-10)

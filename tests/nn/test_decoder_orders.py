"""AttentionDecoder in Bahdanau's order and without attention: against plain torch, a step at a
time, trained and searched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import seqfast.nn
from seqfast.nn import Attention, AttentionDecoder

WORDS, EMBEDDING, HIDDEN, MEMORY, EOS = 11, 3, 4, 5, 0
CELLS = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}


def make(
    cell: str, order: str, kind: str = "additive", dtype: torch.dtype = torch.float64, **more: Any
) -> AttentionDecoder:
    torch.manual_seed(3)
    plain = order == "plain"
    rnn = getattr(seqfast.nn, cell)(
        EMBEDDING + (0 if plain else MEMORY), HIDDEN, num_layers=2, dtype=dtype
    )
    return AttentionDecoder(
        nn.Embedding(WORDS, EMBEDDING, dtype=dtype),
        rnn,
        None if plain else Attention(kind, HIDDEN, MEMORY, dtype=dtype),
        nn.Linear(HIDDEN if plain else 6, WORDS, dtype=dtype),
        order="luong" if plain else order,
        **more,
    )


def draw(decoder: AttentionDecoder, batch: int = 3) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(4)
    dtype = decoder.embedding.weight.dtype

    def state() -> Tensor:
        return torch.randn(2, batch, HIDDEN, dtype=dtype, generator=generator)

    hx = (state(), state()) if decoder.rnn._cell == "lstm" else state()
    if decoder.attention is None:
        return None, None, hx
    memory = torch.randn(batch, 5, MEMORY, dtype=dtype, generator=generator)
    return memory, torch.tensor([5, 2, 3])[:batch], hx


def by_hand(
    decoder: AttentionDecoder, ids: Tensor, memory: Any, memory_lengths: Any, hx: Any
) -> tuple[Tensor, Tensor]:
    """Logits and weights by torch's own cells, a row and a step at a time."""
    rnn, attention = decoder.rnn, decoder.attention
    lstm = rnn._cell == "lstm"
    function = {"lstm": torch._VF.lstm_cell, "gru": torch._VF.gru_cell}.get(
        rnn._cell, torch._VF.rnn_tanh_cell
    )
    logits, weights = [], []
    for n in range(len(ids)):
        h = [x[n : n + 1] for x in (hx[0] if lstm else hx)]
        c = [x[n : n + 1] for x in (hx[1] if lstm else hx)]
        rows, at = [], []
        for token in ids[n]:
            x = decoder.embedding(token[None])
            context = None
            if attention is not None:
                m = memory[n, : int(memory_lengths[n])]
                query = h[-1][0]
                if attention.kind == "additive":
                    inner = F.linear(query, attention.weight_query)
                    inner = inner + F.linear(m, attention.weight_memory) + attention.bias
                    scores = inner.tanh() @ attention.weight_score
                else:
                    scores = F.linear(m, attention.weight_memory) @ query
                share = scores.softmax(0)
                context = (share @ m)[None]
                at.append(F.pad(share, (0, 5 - len(share))))
                x = torch.cat([x, context], 1)
            for k in range(2):
                own = [getattr(rnn, f"{w}_l{k}") for w in (
                    "weight_ih", "weight_hh", "bias_ih", "bias_hh")]  # fmt: skip
                if lstm:
                    h[k], c[k] = function(x, [h[k], c[k]], *own)
                else:
                    h[k] = function(x, h[k], *own)
                x = h[k]
            if context is not None:
                x = torch.tanh(F.linear(torch.cat([x, context], 1), decoder.combine.weight))
            rows.append(decoder.head(x)[0])
        logits.append(torch.stack(rows))
        weights.append(torch.stack(at) if at else rows[0].new_zeros(len(rows), 0))
    return torch.stack(logits), torch.stack(weights)


@pytest.mark.parametrize("order", ["bahdanau", "plain"])
@pytest.mark.parametrize("kind", ["additive", "general"])
@pytest.mark.parametrize("cell", list(CELLS))
def test_values_and_gradients(cell: str, kind: str, order: str) -> None:
    decoder = make(cell, order, kind)
    memory, memory_lengths, hx = draw(decoder)
    ids = torch.randint(WORDS, (3, 4), generator=torch.Generator().manual_seed(1))
    logits, weights, state = decoder(ids, memory, memory_lengths, hx)
    wanted, wanted_weights = by_hand(decoder, ids, memory, memory_lengths, hx)
    torch.testing.assert_close(logits, wanted)
    torch.testing.assert_close(weights, wanted_weights)
    parameters = list(decoder.parameters())
    scale = torch.randn_like(logits)
    mine = torch.autograd.grad((logits * scale).sum(), parameters)
    other = torch.autograd.grad((wanted * scale).sum(), parameters)
    for got, right in zip(mine, other, strict=True):
        torch.testing.assert_close(got, right)
    # The same a step at a time, and going on from where a call ended.
    at = decoder.start(memory, memory_lengths, hx)
    for t in range(4):
        one, at = decoder.step(ids[:, t], at)
        torch.testing.assert_close(one, logits[:, t])
    for a, b in zip(at.hidden, state.hidden, strict=True):
        torch.testing.assert_close(a, b)
    first, _, half = decoder(ids[:, :2], memory, memory_lengths, hx)
    second, _, _ = decoder(ids[:, 2:], memory, memory_lengths, half)
    torch.testing.assert_close(torch.cat((first, second), 1), logits)


@pytest.mark.parametrize("order", ["bahdanau", "plain"])
def test_lengths_and_scheduled_sampling(order: str) -> None:
    decoder = make("GRU", order)
    memory, memory_lengths, hx = draw(decoder)
    ids = torch.randint(WORDS, (3, 5), generator=torch.Generator().manual_seed(1))
    whole, weights, _ = decoder(ids, memory, memory_lengths, hx)
    lengths = torch.tensor([5, 2, 3])
    cut, cut_weights, state = decoder(ids, memory, memory_lengths, hx, lengths=lengths)
    for n, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(cut[n, :length], whole[n, :length])
        torch.testing.assert_close(cut[n, length:], decoder.head.bias.expand(5 - length, WORDS))
        torch.testing.assert_close(cut_weights[n, :length], weights[n, :length])
        assert not cut_weights[n, length:].any()
        alone = decoder(
            ids[n : n + 1, :length],
            None if memory is None else memory[n : n + 1],
            None if memory is None else memory_lengths[n : n + 1],
            hx[:, n : n + 1],
        )[2]
        torch.testing.assert_close(state.hidden[1][n : n + 1], alone.hidden[1])
    # Always its own token from the second step on: that is greedy search.
    sampled, _, _ = decoder(ids, memory, memory_lengths, hx, sampling_probability=1.0)
    fed = ids.clone()
    for t in range(1, 5):
        fed[:, t] = decoder(fed[:, :t], memory, memory_lengths, hx)[0][:, -1].argmax(-1)
    torch.testing.assert_close(sampled, decoder(fed, memory, memory_lengths, hx)[0])
    sampled.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", ["bahdanau", "plain"])
@pytest.mark.parametrize("cell", list(CELLS))
def test_the_native_search_is_the_search_around_step(
    cell: str, order: str, dtype: torch.dtype
) -> None:
    for kind in ("additive", "general"):
        decoder = make(cell, order, kind, dtype).eval()
        assert decoder.fuses()
        memory, memory_lengths, hx = draw(decoder)
        options: dict[str, Any] = {"start": 1, "eos": EOS, "beam_size": 4, "n_best": 3}
        options |= {"max_length": 8}
        native = decoder.beam(memory, memory_lengths, hx, **options)
        stepwise = decoder.beam(memory, memory_lengths, hx, allowed=lambda t, rows: None, **options)
        assert native.lists() == stepwise.lists()
        torch.testing.assert_close(native.scores, stepwise.scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["bahdanau", "luong"])
def test_attention_of_hypotheses(order: str) -> None:
    """What teacher forcing of a hypothesis attends to."""
    decoder = make("GRU", "bahdanau").eval()
    if order == "luong":
        decoder = AttentionDecoder(
            decoder.embedding, seqfast.nn.GRU(EMBEDDING, HIDDEN, 2, dtype=torch.float64),
            decoder.attention, decoder.head, input_feeding=False, attentional_size=6,
        ).eval()  # fmt: skip
    memory, memory_lengths, hx = draw(decoder)
    options: dict[str, Any] = {"start": 1, "eos": EOS, "beam_size": 4, "n_best": 3}
    out = decoder.beam(memory, memory_lengths, hx, attention=True, max_length=6, **options)
    plain = decoder.beam(memory, memory_lengths, hx, max_length=6, **options)
    assert out.lists() == plain.lists()
    assert plain.attention is None
    for n, found in enumerate(out.lists()):
        for i, tokens in enumerate(found):
            fed = torch.tensor([[1, *tokens[:-1]]])
            rows = slice(n, n + 1)
            wanted = decoder(fed, memory[rows], memory_lengths[rows], hx[:, rows])[1][0]
            torch.testing.assert_close(out.attention[n, i, : len(tokens)], wanted)
            assert not out.attention[n, i, len(tokens) :].any()


@pytest.mark.parametrize("order", ["bahdanau", "plain"])
def test_it_learns(order: str) -> None:
    """To say a fixed sentence for each of its sources."""
    decoder = make("GRU", order, dtype=torch.float32)
    memory, memory_lengths, hx = draw(decoder)
    target = torch.tensor([[3, 4, 5, EOS], [6, 7, EOS, EOS], [8, 3, 9, EOS]])
    fed = torch.cat((torch.ones(3, 1, dtype=torch.int64), target[:, :-1]), 1)
    optimizer = torch.optim.Adam(decoder.parameters(), 0.05)
    for _ in range(80):
        logits, _, _ = decoder(fed, memory, memory_lengths, hx)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    out = decoder.eval().beam(memory, memory_lengths, hx, start=1, eos=EOS, max_length=5)
    assert [h[0] for h in out.lists()] == [[3, 4, 5, EOS], [6, 7, EOS], [8, 3, 9, EOS]]


def test_what_does_not_fit() -> None:
    embedding, head = nn.Embedding(WORDS, EMBEDDING), nn.Linear(HIDDEN, WORDS)
    gru = seqfast.nn.GRU(EMBEDDING, HIDDEN)
    attention = Attention("additive", HIDDEN, MEMORY)

    def refused(message: str, *parts: Any, **more: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            AttentionDecoder(embedding, *parts, head, **more)

    refused("rnn.input_size must be embedding_dim [+] attention.memory_size, 8, got 3",
            gru, attention, order="bahdanau")  # fmt: skip
    refused("order='bahdanau' needs an attention", gru, None, order="bahdanau")
    refused("input_feeding must not be True without an attention", gru, None, input_feeding=True)
    refused("input_feeding must not be True with order='bahdanau'", gru, attention,
            input_feeding=True, order="bahdanau")  # fmt: skip
    refused("order must be 'luong' or 'bahdanau', got 'both'", gru, attention, order="both")
    with pytest.raises(ValueError, match="attentional_size must be the rnn's output size"):
        AttentionDecoder(embedding, gru, None, nn.Linear(HIDDEN + 1, WORDS))
    decoder = AttentionDecoder(embedding, gru, None, head)
    ids = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="memory must be None without an attention"):
        decoder(ids, torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="hx must be given without an attention"):
        decoder.beam(None, start=1, eos=EOS)
    assert decoder(ids, None)[0].shape == (2, 3, WORDS)  # from zeros
    seen = AttentionDecoder(embedding, seqfast.nn.GRU(8, HIDDEN), attention, head,
                            order="bahdanau")  # fmt: skip
    with pytest.raises(TypeError, match="memory must be a tensor for an attention, got None"):
        seen(ids, None)

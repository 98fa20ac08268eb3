"""AttentionDecoder against a decoder written here in plain torch, a row and a step at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import TOLERANCE, Backend
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

import seqfast.nn
from seqfast.decoding import Sampler
from seqfast.nn import Attention, AttentionDecoder
from seqfast.reference import dropout as twin

from . import plain as plain_layers

WORDS, EMBEDDING, HIDDEN, MEMORY, ATTENTIONAL = 11, 3, 4, 5, 6


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


def make(
    cell: str = "LSTM",
    kind: str = "general",
    input_feeding: bool = True,
    layers: Any = 2,
    dtype: torch.dtype = torch.float64,
    dropout: float = 0.0,
    **options: Any,
) -> AttentionDecoder:
    if isinstance(layers, int):
        hidden, more = HIDDEN, {"num_layers": layers}
    else:
        hidden, more = layers, {}
    width = EMBEDDING + (ATTENTIONAL if input_feeding else 0)
    rnn = getattr(seqfast.nn, cell)(width, hidden, dtype=dtype, **more, **options)
    size = rnn._output_sizes[-1]
    memory = size if kind == "dot" else MEMORY
    return AttentionDecoder(
        nn.Embedding(WORDS, EMBEDDING, dtype=dtype),
        rnn,
        Attention(kind, size, memory, dtype=dtype),
        nn.Linear(ATTENTIONAL, WORDS, dtype=dtype),
        input_feeding,
        dropout=dropout,
    )


def draw(decoder: AttentionDecoder, batch: int = 3, steps: int = 4) -> tuple[Tensor, Tensor, Any]:
    dtype = decoder.embedding.weight.dtype
    memory = torch.randn(batch, 5, decoder.attention.memory_size, dtype=dtype)
    lengths = torch.tensor([5, 2, 3, 1])[:batch]
    return torch.randint(WORDS, (batch, steps)), memory, lengths


def first_states(decoder: AttentionDecoder, batch: int = 3) -> Any:
    rnn, dtype = decoder.rnn, decoder.embedding.weight.dtype
    states = [torch.randn(shape, dtype=dtype) for shape in rnn._state_shapes(batch)]
    if isinstance(rnn.hidden_size, tuple):
        states = [tuple(states[: rnn.num_layers]), tuple(states[rnn.num_layers :])]
    return tuple(states) if rnn._cell == "lstm" else states[0]


def attend(attention: Attention, q: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    if attention.kind == "additive":
        inner = F.linear(q, attention.weight_query) + F.linear(m, attention.weight_memory)
        scores = (inner + attention.bias).tanh() @ attention.weight_score
    else:
        keys = m if attention.kind == "dot" else F.linear(m, attention.weight_memory)
        scores = keys @ q
    weights = scores.softmax(0)
    return weights @ m, weights


def plain(
    decoder: AttentionDecoder,
    ids: Tensor,
    memory: Tensor,
    memory_lengths: Tensor,
    hx: Any = None,
    lengths: Any = None,
    sampled: Any = None,
) -> tuple[Tensor, Tensor, list[Any]]:
    """Logits, weights and, of each row, (hidden of each layer, cell of each layer, fed)."""
    rnn = decoder.rnn
    batch, steps = ids.shape
    all_logits, all_weights, states = [], [], []
    for n in range(batch):
        m = memory[n, : int(memory_lengths[n])]
        h = [memory.new_zeros(size) for size in rnn._output_sizes]
        c = [memory.new_zeros(size) for size in rnn._hidden_sizes]
        if hx is not None:
            groups = hx if rnn._cell == "lstm" else (hx,)
            at = [
                [group[k][0, n] if isinstance(group, tuple) else group[k, n] for k in range(len(h))]
                for group in groups
            ]
            h, c = at[0], at[1] if len(at) > 1 else c
        fed = memory.new_zeros(ATTENTIONAL)
        for t in range(steps):
            if lengths is not None and t >= lengths[n]:
                all_logits.append(decoder.head(memory.new_zeros(ATTENTIONAL)))
                all_weights.append(memory.new_zeros(memory.shape[1]))
                continue
            word = ids[n, t]
            if sampled is not None and t > 0 and sampled[t, n]:
                word = all_logits[-1].argmax()
            x = decoder.embedding.weight[word]
            if decoder.input_feeding:
                x = torch.cat([x, fed])
            for k in range(rnn.num_layers):
                end = f"_l{k}"
                weights = {
                    name.removesuffix(end): p
                    for name, p in rnn.named_parameters()
                    if name.endswith(end)
                }
                h[k], c[k] = plain_layers.step(rnn, weights, x, h[k], c[k])
                x = h[k] + x if rnn.residual and k > 0 else h[k]
            context, weights_t = attend(decoder.attention, x, m)
            fed = torch.tanh(decoder.combine.weight @ torch.cat([x, context]))
            all_logits.append(decoder.head(fed))
            all_weights.append(F.pad(weights_t, (0, memory.shape[1] - len(m))))
        states.append((h, c, fed))
    return (
        torch.stack(all_logits).reshape(batch, steps, -1),
        torch.stack(all_weights).reshape(batch, steps, -1),
        states,
    )


def flat_state(decoder: AttentionDecoder, state: Any) -> list[Tensor]:
    return [*state.hidden, *state.cell, *state.fed]


def plain_state(decoder: AttentionDecoder, states: list[Any]) -> list[Tensor]:
    layers = range(decoder.rnn.num_layers)
    found = [torch.stack([h[k] for h, _, _ in states]) for k in layers]
    if decoder.rnn._cell == "lstm":
        found += [torch.stack([c[k] for _, c, _ in states]) for k in layers]
    if decoder.input_feeding:
        found.append(torch.stack([fed for _, _, fed in states]))
    return found


def compare(decoder: AttentionDecoder, arguments: tuple[Any, ...], **more: Any) -> None:
    """Values, final states and every gradient."""
    sampled = more.pop("sampled", None)
    lengths = more.get("lengths")
    logits, weights, state = decoder(*arguments, **more)
    wanted_logits, wanted_weights, states = plain(
        decoder, *arguments, lengths=lengths, sampled=sampled
    )
    found = [logits, weights, *flat_state(decoder, state)]
    wanted = [wanted_logits, wanted_weights, *plain_state(decoder, states)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    seeds = [torch.randn_like(x) for x in found]
    leaves = list(decoder.parameters())
    grads = torch.autograd.grad(found, leaves, seeds, materialize_grads=True)
    wanted_grads = torch.autograd.grad(wanted, leaves, seeds, materialize_grads=True)
    for one, other in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("input_feeding", [True, False])
@pytest.mark.parametrize(
    ("cell", "kind", "layers"),
    [("LSTM", "general", 2), ("GRU", "additive", 1), ("LSTM", "dot", 1), ("GRU", "dot", 3)],
)
def test_teacher_forcing(
    backend: Backend, cell: str, kind: str, layers: int, input_feeding: bool, ragged: bool
) -> None:
    decoder = make(cell, kind, input_feeding, layers)
    ids, memory, memory_lengths = draw(decoder)
    more = {"lengths": torch.tensor([2, 4, 0])} if ragged else {}
    compare(decoder, (ids, memory, memory_lengths, first_states(decoder)), **more)
    compare(decoder, (ids, memory, memory_lengths), **more)


@pytest.mark.parametrize("input_feeding", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"layer_norm": True},
        {"residual": True, "peephole": True},
        {"layers": (4, 7)},
        {"proj_size": 2, "batch_first": True},
        {"cell": "GRU", "reset_after": False, "bias": False},
        {"cell": "RNN"},
    ],
    ids=str,
)
def test_any_layers(backend: Backend, options: Any, input_feeding: bool) -> None:
    decoder = make(input_feeding=input_feeding, **options)
    ids, memory, memory_lengths = draw(decoder)
    compare(decoder, (ids, memory, memory_lengths, first_states(decoder)))


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_scheduled_sampling(backend: Backend, cell: str, input_feeding: bool) -> None:
    decoder = make(cell, input_feeding=input_feeding)
    arguments = draw(decoder, steps=6)
    with torch.no_grad():
        decoder.head.weight.mul_(20)  # so that tokens differ
    always = torch.ones(6, 3, dtype=torch.bool)
    compare(decoder, arguments, sampling_probability=1.0, sampled=always)
    ragged = torch.tensor([6, 3, 1])
    compare(decoder, arguments, sampling_probability=1.0, sampled=always, lengths=ragged)
    # Not at all: the same as without.
    at_once, stepped = decoder(*arguments), decoder(*arguments, sampling_probability=1e-12)
    torch.testing.assert_close(at_once[:2], stepped[:2])
    torch.manual_seed(5)
    seed = int(torch.randint(2**63 - 1, (1,)))
    sampled = torch.tensor(twin.events(0.4, seed, (2 * 2) * 8 + 7, 6, 3, 1)[..., 0])
    assert 0 < sampled[1:].sum() < 15
    torch.manual_seed(5)
    compare(decoder, arguments, sampling_probability=0.4, sampled=sampled)
    everything = decoder(*arguments, sampling_probability=1.0)[0]
    assert not torch.allclose(everything, at_once[0])


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_steps_are_the_whole(backend: Backend, cell: str, input_feeding: bool) -> None:
    decoder = make(cell, input_feeding=input_feeding)
    ids, memory, memory_lengths = draw(decoder, steps=5)
    hx = first_states(decoder)
    logits, weights, last = decoder(ids, memory, memory_lengths, hx)
    prepared = decoder.attention.prepare(memory, memory_lengths)
    # In two halves.
    first = decoder(ids[:, :2], prepared, None, hx)
    second = decoder(ids[:, 2:], prepared, None, first[2])
    torch.testing.assert_close(torch.cat([first[0], second[0]], 1), logits)
    torch.testing.assert_close(torch.cat([first[1], second[1]], 1), weights)
    # One by one, two hypotheses of each memory.
    state = decoder.start(prepared, hx=hx)
    rows = torch.arange(6) // 2
    state = torch.utils._pytree.tree_map(lambda x: x[rows], state._replace(memory=()))
    state = state._replace(memory=prepared)
    for t in range(5):
        found, state = decoder.step(ids[rows, t], state)
        torch.testing.assert_close(found, logits[rows, t])
    for one, other in zip(flat_state(decoder, state), flat_state(decoder, last), strict=True):
        torch.testing.assert_close(one, other[rows])
    assert state.memory is prepared


@pytest.mark.parametrize("input_feeding", [True, False])
def test_dropout(backend: Backend, input_feeding: bool) -> None:
    """Masks of one seed, for each step, whichever way the steps are gone."""
    decoder = make(layers=1, input_feeding=input_feeding, dropout=0.5)
    arguments = draw(decoder)
    results = []
    for more in ({}, {}, {"sampling_probability": 1e-12}):
        torch.manual_seed(3)
        results.append(decoder(*arguments, **more)[0])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    torch.testing.assert_close(results[0], results[2])
    still = decoder.eval()(*arguments)[0]
    assert not torch.allclose(still, results[0])
    compare(decoder, arguments)
    # What the masks do, where nothing feeds back.
    if not input_feeding:
        decoder.train()
        seed = plain_layers.seed_of(3)
        stream = [(layer * 2) * 8 + 7 for layer in (0, 1)]
        ids, memory, memory_lengths = arguments
        e = decoder.embedding(ids).transpose(0, 1)
        e = torch.tensor(twin.dropout(e.detach().numpy(), 0.5, seed, stream=stream[0]))
        output = decoder.rnn(e)[0].transpose(0, 1)
        context, _ = decoder.attention(output, memory, memory_lengths)
        a = decoder.combine(torch.cat([output, context], -1)).tanh().transpose(0, 1)
        a = torch.tensor(twin.dropout(a.detach().numpy(), 0.5, seed, stream=stream[1]))
        torch.testing.assert_close(decoder.head(a).transpose(0, 1), results[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_dtypes(backend: Backend, input_feeding: bool, dtype: str) -> None:
    decoder = make(input_feeding=input_feeding)
    ids, memory, memory_lengths = draw(decoder)
    wanted = decoder(ids, memory, memory_lengths)[0]
    kind = getattr(torch, dtype)
    logits, weights, state = decoder.to(kind)(ids, memory.to(kind), memory_lengths)
    assert logits.dtype == weights.dtype == state.hidden[0].dtype == kind
    torch.testing.assert_close(logits.double(), wanted, atol=5 * TOLERANCE[dtype]["atol"], rtol=0)
    logits.float().sum().backward()


@pytest.mark.parametrize("sampling_probability", [0.0, 0.5])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_autocast(backend: Backend, input_feeding: bool, sampling_probability: float) -> None:
    decoder = make(input_feeding=input_feeding, dtype=torch.float32, dropout=0.1)
    ids, memory, memory_lengths = draw(decoder)
    more = {"sampling_probability": sampling_probability, "lengths": torch.tensor([4, 1, 2])}
    torch.manual_seed(1)
    wanted = decoder(ids, memory, memory_lengths, **more)[0]
    torch.manual_seed(1)
    with torch.autocast(backend.device, torch.bfloat16):
        logits, _, state = decoder(ids, memory, memory_lengths, **more)
        one_more, _ = decoder.step(ids[:, 0], state)
    assert logits.dtype == one_more.dtype == torch.bfloat16
    if not sampling_probability:
        torch.testing.assert_close(logits.float(), wanted, atol=0.1, rtol=0.1)
    logits.float().sum().backward()


@pytest.mark.parametrize("input_feeding", [True, False])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_compile(device: Backend, cell: str, input_feeding: bool) -> None:
    decoder = make(cell, input_feeding=input_feeding, layers=1)
    ids, memory, memory_lengths = draw(decoder, steps=2)
    lengths = torch.tensor([2, 0, 1])
    compiled = torch.compile(decoder, fullgraph=True, backend="aot_eager")
    results = []
    for call in (decoder, compiled):
        logits, weights, _ = call(ids, memory, memory_lengths, lengths=lengths)
        grads = torch.autograd.grad(logits.square().sum(), list(decoder.parameters()))
        results.append([logits, weights, *grads])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    step = torch.compile(decoder.step, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        state = decoder.start(memory, memory_lengths)
        torch.testing.assert_close(step(ids[:, 0], state)[0], decoder.step(ids[:, 0], state)[0])


def test_gradcheck(backend: Backend) -> None:
    for cell, input_feeding in itertools.product(("LSTM", "GRU"), (True, False)):
        decoder = make(cell, "additive", input_feeding, 1)
        ids, memory, memory_lengths = draw(decoder, 2, 3)

        def run(memory: Tensor, decoder: Any = decoder, rest: Any = (ids, memory_lengths)) -> Any:
            return decoder(rest[0], memory, rest[1])[:2]

        assert torch.autograd.gradcheck(run, (memory.requires_grad_(),))


def test_trains() -> None:
    """It learns to copy its memory, which it cannot without looking there."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(
        nn.Embedding(8, 16),
        seqfast.nn.GRU(16 + 32, 32),
        Attention("general", 32, 8),
        nn.Linear(32, 8),
    )
    optimiser = torch.optim.Adam(decoder.parameters(), 0.01)
    position = torch.eye(6)[:, :4]
    for _ in range(150):
        words = torch.randint(1, 4, (32, 6))
        memory = torch.cat([F.one_hot(words, 4).float(), position.expand(32, 6, 4)], -1)
        fed = F.pad(words[:, :-1], (1, 0))
        loss = F.cross_entropy(decoder(fed, memory)[0].flatten(0, 1), words.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.5  # a guess costs log 3 = 1.1


PARTS: list[tuple[Any, type[Exception], str]] = [
    ({"embedding": nn.Linear(3, 3)}, TypeError, "embedding must be a torch.nn.Embedding, got"),
    ({"rnn": nn.LSTM(9, 4)}, TypeError, "rnn must be a seqfast.nn.LSTM, GRU or RNN, which seqfast"),
    ({"attention": nn.Linear(3, 3)}, TypeError, "attention must be a seqfast.nn.Attention or None"),
    ({"head": 3}, TypeError, "head must be a torch.nn.Module, got int"),
    ({"input_feeding": 1}, TypeError, "input_feeding must be True or False, got 1"),
    (
        {"rnn": seqfast.nn.LSTM(9, 2, bidirectional=True)},
        ValueError,
        "rnn must have one direction, got bidirectional=True",
    ),
    (
        {"rnn": seqfast.nn.LSTM(3, 4)},
        ValueError,
        r"rnn.input_size must be embedding_dim \+ attentional_size, 9, got 3",
    ),
    ({"input_feeding": False}, ValueError, "rnn.input_size must be embedding_dim, 3, got 9"),
    (
        {"attention": Attention("general", 5, 5)},
        ValueError,
        "attention.query_size must be the rnn's output size, 4, got 5",
    ),
    (
        {"attentional_size": 7, "rnn": seqfast.nn.LSTM(10, 4)},
        ValueError,
        "head.in_features must be attentional_size, 7, got 6",
    ),
    ({"dropout": 1.5}, ValueError, r"dropout must be a number from 0 to 1, got 1.5"),
    (
        {"rnn": seqfast.nn.LSTM(9, 4, input_dropout=0.1, recurrent_dropout=0.1)},
        ValueError,
        "with input_feeding=True the rnn runs step by step and must draw its masks for each step, "
        "got an rnn with input_dropout and recurrent_dropout",
    ),
]


@pytest.mark.parametrize(("parts", "error", "message"), PARTS, ids=[p[2] for p in PARTS])
def test_parts_that_do_not_fit(parts: Any, error: type[Exception], message: str) -> None:
    fitting = {
        "embedding": nn.Embedding(WORDS, EMBEDDING),
        "rnn": seqfast.nn.LSTM(EMBEDDING + ATTENTIONAL, HIDDEN),
        "attention": Attention("general", HIDDEN, MEMORY),
        "head": nn.Linear(ATTENTIONAL, WORDS),
    }
    with pytest.raises(error, match=f"^AttentionDecoder: {message}"):
        AttentionDecoder(**(fitting | parts))


def test_bad_calls() -> None:
    decoder = make(dtype=torch.float32)
    ids, memory, memory_lengths = draw(decoder)
    good = {"target_ids": ids, "memory": memory, "memory_lengths": memory_lengths}
    state = decoder.start(memory, memory_lengths)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"target_ids": ids.float()}, TypeError, "AttentionDecoder: target_ids must be integers"),
        ({"target_ids": ids[0]}, ValueError, r"target_ids must be \[3, steps\].*, got \[4\]"),
        ({"target_ids": ids[:2]}, ValueError, r"target_ids must be \[3, steps\].*, got \[2, 4\]"),
        ({"target_ids": ids[:, :0]}, ValueError, r"with at least one step, got \[3, 0\]"),
        ({"lengths": torch.tensor([1, 5, 2])}, ValueError, "lengths must be from 0 to 4, got 5"),
        ({"sampling_probability": 2}, ValueError, "sampling_probability must be a number"),
        ({"memory": memory.double()}, TypeError, "memory must be torch.float32, as weight_memory"),
        (
            {"memory": state.memory},
            ValueError,
            "memory_lengths must be None: a prepared memory has its own",
        ),
        ({"hx": torch.zeros(2, 3, 4)}, TypeError, "hx must be a tuple of two states"),
        (
            {"hx": (torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))},
            ValueError,
            r"hidden\[1\] of hx must be \[2, 'rows', 4\], got \[2, 3, 5\]",
        ),
        (
            {"hx": (torch.zeros(2, 2, 4), torch.zeros(2, 2, 4))},
            ValueError,
            "hx must have the memory's 3 rows, got 2",
        ),
    ]
    for change, error, message in wrong:
        with pytest.raises(error, match=message):
            decoder(**(good | change))
    with pytest.raises(ValueError, match=r"ids must be \[3\], as the state's rows, got \[2\]"):
        decoder.step(ids[:2, 0], state)
    plain_rnn = make(input_feeding=False, recurrent_dropout=0.1)
    with pytest.raises(
        ValueError,
        match=r"with sampling_probability=0.5 the rnn runs step by step and must draw its masks",
    ):
        plain_rnn(ids, memory.double(), memory_lengths, sampling_probability=0.5)


def same_search(decoder: AttentionDecoder, batch: int = 4, **options: Any) -> Any:
    """A search by the native operation finds what one step by step finds."""
    decoder.eval()
    _, memory, memory_lengths = draw(decoder, batch)
    arguments = {"start": 1, "max_length": 9, "eos": 0, **options}
    hx = first_states(decoder, batch)
    assert decoder.fuses()
    fused = decoder.beam(memory, memory_lengths, hx, **arguments)
    # Whoever watches a part wants its calls, one by one.
    calls = []
    watch = decoder.head.register_forward_hook(lambda *_: calls.append(1))
    assert not decoder.fuses()
    stepped = decoder.beam(memory, memory_lengths, hx, **arguments)
    watch.remove()
    assert len(calls) == stepped.steps == fused.steps
    for name in ("tokens", "lengths", "parents", "certified"):
        assert torch.equal(getattr(fused, name), getattr(stepped, name)), name
    for name in ("scores", "logprobs", "token_logprobs"):
        torch.testing.assert_close(getattr(fused, name), getattr(stepped, name))
    return fused


def sharpen(decoder: AttentionDecoder) -> AttentionDecoder:
    """So that a search has something to decide."""
    with torch.no_grad():
        decoder.head.weight.mul_(8)
        decoder.combine.weight.mul_(3)
    return decoder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("input_feeding", [True, False])
@pytest.mark.parametrize(
    ("cell", "kind", "layers"),
    [("LSTM", "general", 2), ("GRU", "additive", 1), ("LSTM", "dot", (5, 4)), ("RNN", "dot", 1)],
)
def test_beam_is_a_search_by_steps(
    cell: str, kind: str, layers: Any, input_feeding: bool, dtype: torch.dtype
) -> None:
    decoder = sharpen(make(cell, kind, input_feeding, layers, dtype))
    same_search(decoder, beam_size=3, n_best=2)


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 4, "length_norm": "gnmt", "alpha": 0.6, "stop": "first_k", "min_length": 3},
        {"beam_size": 4, "groups": 2, "diversity": 0.5, "no_repeat_ngram": 2},
        {"beam_size": 3, "prefix": [[3], [], [4, 5], [2]], "repetition_penalty": 1.3},
        {"beam_size": 3, "max_length": torch.tensor([2, 9, 5, 1]), "at_max": "eos"},
        {"beam_size": 2, "start": torch.tensor([1, 2, 3, 4]), "eos": (0, 5), "banned": 7},
        {"beam_size": 3, "max_length": torch.tensor([2, 120, 101, 3]), "min_length": 101},
        {"beam_size": 3, "max_length": np.int64(7)},
        {"beam_size": 3, "sampler": Sampler(5)},
        {"beam_size": 4, "groups": 4, "sampler": Sampler(6), "temperature": 0.7},
    ],
    ids=str,
)
def test_options_of_beam(options: Any) -> None:
    same_search(sharpen(make()), **options)


def test_samplers_that_cut_see_every_step() -> None:
    """What top-k and top-p leave of a row is not the native operation's to know."""
    decoder = sharpen(make()).eval()
    _, memory, memory_lengths = draw(decoder)
    arguments: dict[str, Any] = {"start": 1, "max_length": 9, "eos": 0}
    greedy = {"beam_size": 1, "stop": "first_k"}
    wanted = decoder.beam(memory, memory_lengths, **greedy, **arguments)
    for sampler in (Sampler(3, top_k=1), Sampler(4, top_p=1e-9)):
        three = {"beam_size": 3, "groups": 3, "sampler": sampler}
        found = decoder.beam(memory, memory_lengths, **three, **arguments)
        for sample in range(3):
            assert torch.equal(found.lengths[:, sample], wanted.lengths[:, 0])
            longest = int(wanted.lengths.max())
            assert torch.equal(found.tokens[:, sample, :longest], wanted.tokens[:, 0, :longest])


class Wrapped(Tensor):
    """A tensor that is elsewhere, as distributed and quantised ones are."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Any:
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any, kwargs: Any = None) -> Any:
        if function is torch.ops.aten.detach.default:
            return Wrapped(args[0].inner)
        args, kwargs = tree_map_only(Wrapped, lambda x: x.inner, (args, kwargs or {}))
        return function(*args, **kwargs)


@pytest.mark.parametrize("part", ["head", "combine", "embedding"])
def test_weights_that_are_elsewhere_are_not_read(part: str) -> None:
    decoder = sharpen(make()).eval()
    _, memory, memory_lengths = draw(decoder)
    arguments: dict[str, Any] = {"start": 1, "beam_size": 3, "eos": 0, "max_length": 6}
    wanted = decoder.beam(memory, memory_lengths, **arguments)
    module = getattr(decoder, part)
    module.weight = nn.Parameter(Wrapped(module.weight.detach()), requires_grad=False)
    assert not decoder.fuses()
    assert torch.equal(decoder.beam(memory, memory_lengths, **arguments).tokens, wanted.tokens)


def test_beam_of_one_is_greedy() -> None:
    decoder = sharpen(make()).eval()
    _, memory, memory_lengths = draw(decoder)
    out = decoder.beam(
        memory, memory_lengths, start=1, beam_size=1, eos=0, max_length=7, stop="first_k"
    )
    state = decoder.start(memory, memory_lengths)
    ids = torch.ones(3, dtype=torch.int64)
    for t in range(out.tokens.shape[2]):
        logits, state = decoder.step(ids, state)
        ids = logits.argmax(-1)
        running = out.lengths[:, 0] > t
        assert torch.equal(out.tokens[running, 0, t], ids[running])


def test_beam_where_nothing_fuses() -> None:
    ways = [
        make(layer_norm=True),
        make(peephole=True),
        make(residual=True),
        make(proj_size=2),
        make(cell="GRU", reset_after=False),
        make(dtype=torch.bfloat16),
        make(zoneout=0.1),
    ]
    biased = make()
    biased.combine = nn.Linear(biased.combine.in_features, ATTENTIONAL).double()
    replaced = make()
    replaced.head.forward = lambda x: nn.Linear.forward(replaced.head, x)  # type: ignore[method-assign]
    ways += [biased, replaced]
    special = make()
    special.head = nn.Sequential(nn.Linear(ATTENTIONAL, WORDS).double())
    narrow = make()
    narrow.embedding = nn.Embedding(WORDS, EMBEDDING, max_norm=1.0).double()
    for decoder in [*ways, special, narrow]:
        decoder.eval()
        assert not decoder.fuses()
        _, memory, memory_lengths = draw(decoder)
        out = decoder.beam(memory, memory_lengths, start=1, beam_size=3, eos=0, max_length=5)
        assert out.tokens.shape[:2] == (3, 1)
    drawing = make(zoneout=0.0, dropout=0.5)
    assert drawing.fuses()  # `step` draws nothing of it
    decoder = sharpen(make()).eval()
    _, memory, memory_lengths = draw(decoder)
    with torch.autocast("cpu", torch.bfloat16):
        assert not decoder.fuses()


def test_beam_with_a_search_of_ones_own() -> None:
    from seqfast.decoding import BeamSearch

    decoder = sharpen(make()).eval()
    _, memory, memory_lengths = draw(decoder)
    search = BeamSearch(beam_size=3, eos=0, max_length=8)
    prepared = decoder.attention.prepare(memory, memory_lengths)
    found = decoder.beam(prepared, start=1, search=search)
    wanted = decoder.beam(memory, memory_lengths, start=1, beam_size=3, eos=0, max_length=8)
    assert torch.equal(found.tokens, wanted.tokens)
    assert not found.scores.requires_grad

    def odd(t: int, rows: Any) -> Tensor:
        allowed = torch.ones(9, WORDS, dtype=torch.bool)
        allowed[:, 2::2] = False
        return allowed

    restricted = decoder.beam(prepared, start=1, search=search, allowed=odd)
    assert ((restricted.tokens % 2 == 1) | (restricted.tokens == 0)).all()
    message = "beam takes either a search or options, got search and alpha"
    with pytest.raises(ValueError, match=message):
        decoder.beam(prepared, start=1, search=search, alpha=2.0)
    with pytest.raises(ValueError, match="hx must have the memory's 3 rows, got 2"):
        decoder.beam(prepared, None, first_states(decoder, 2), start=1, search=search)

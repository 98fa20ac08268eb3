"""Attention against loops over rows and memory steps: values, gradients, masks, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.cases import TOLERANCE, Backend
from torch import Tensor

from seqfast.nn import Attention
from seqfast.nn.attention import KINDS

QUERY, MEMORY, SIZE = 4, 3, 5


@pytest.fixture
def backend(device: Backend) -> Backend:
    return device


def make(kind: str, dtype: torch.dtype = torch.float64, **options: Any) -> Attention:
    size = SIZE if kind == "additive" else None
    memory = QUERY if kind == "dot" else MEMORY
    attention = Attention(kind, QUERY, memory, size, dtype=dtype, **options)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    return attention


def draw(
    attention: Attention, batch: int, queries: int, memory_steps: int, steps: int | None = None
) -> tuple[Tensor, Tensor]:
    shape = (queries, QUERY) if steps is None else (queries, steps, QUERY)
    memory = torch.randn(batch, memory_steps, attention.memory_size, dtype=torch.float64)
    return torch.randn(shape, dtype=torch.float64), memory


def plain(attention: Attention, query: Tensor, memory: Tensor, present: Any) -> tuple[Any, Any]:
    """One query vector at a time, by the docstring's equations."""
    beams = query.shape[0] // memory.shape[0]
    contexts, every_weights = [], []
    for row, queries in enumerate(query.reshape(query.shape[0], -1, QUERY)):
        for q in queries:
            there = present[row // beams]
            m = memory[row // beams][there]
            if attention.kind == "additive":
                inner = attention.weight_query @ q + m @ attention.weight_memory.T + attention.bias
                scores = inner.tanh() @ attention.weight_score
            elif attention.kind == "dot":
                scores = m @ q
            else:
                scores = (m @ attention.weight_memory.T) @ q
            weights = scores.softmax(0)
            contexts.append(weights @ m)
            every_weights.append(q.new_zeros(len(there)).masked_scatter(there, weights))
    shape = query.shape[:-1]
    return (
        torch.stack(contexts).reshape(*shape, -1),
        torch.stack(every_weights).reshape(*shape, -1),
    )


@pytest.mark.parametrize("steps", [None, 1, 3])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(backend: Backend, kind: str, beams: int, steps: int | None) -> None:
    attention = make(kind)
    query, memory = draw(attention, 3, 3 * beams, 6, steps)
    lengths = torch.tensor([4, 0, 6])
    present = torch.arange(6) < lengths[:, None]
    # NaN in the padding must not come through.
    holes = torch.where(present[..., None], memory, float("nan"))
    leaves = [query.requires_grad_(), holes.requires_grad_(), *attention.parameters()]
    found = attention(query, holes, lengths)
    wanted = plain(attention, query, holes, present)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert (found[0][beams : 2 * beams] == 0).all()
    assert (found[1][beams : 2 * beams] == 0).all()
    seeds = [torch.randn_like(x) for x in found]
    grads = torch.autograd.grad(found, leaves, seeds)
    wanted_grads = torch.autograd.grad(wanted, leaves, seeds, materialize_grads=True)
    for one, other in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_memory_is_the_same(backend: Backend, kind: str) -> None:
    attention = make(kind)
    query, memory = draw(attention, 2, 4, 5)
    lengths, mask = torch.tensor([3, 5]), torch.rand(2, 5) > 0.3
    for given in ((), (lengths,), (None, mask), (lengths, mask)):
        prepared = attention.prepare(memory, *given)
        for one, other in zip(
            attention(query, prepared), attention(query, memory, *given), strict=True
        ):
            assert torch.equal(one, other)
        present = torch.ones(2, 5, dtype=torch.bool)
        for argument in given:
            if argument is lengths:
                present &= torch.arange(5) < lengths[:, None]
            elif argument is mask:
                present &= mask
        for one, other in zip(
            attention(query, memory, *given), plain(attention, query, memory, present), strict=True
        ):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(backend: Backend, kind: str) -> None:
    attention = make(kind)
    query, memory = draw(attention, 2, 4, 3, 2)
    lengths = torch.tensor([0, 2])
    leaves = (query.requires_grad_(), memory.requires_grad_())
    assert torch.autograd.gradcheck(lambda q, m: attention(q, m, lengths), leaves)
    assert torch.autograd.gradgradcheck(lambda q, m: attention(q, m, lengths), leaves)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes(backend: Backend, kind: str, dtype: str) -> None:
    attention = make(kind)
    query, memory = draw(attention, 2, 4, 5)
    wanted = attention(query, memory, torch.tensor([5, 2]))
    attention.to(getattr(torch, dtype))
    cast = [x.to(getattr(torch, dtype)) for x in (query, memory)]
    found = attention(*cast, torch.tensor([5, 2]))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == cast[0].dtype
        torch.testing.assert_close(one.double(), other, atol=10 * TOLERANCE[dtype]["atol"], rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast(backend: Backend, kind: str) -> None:
    attention = make(kind, torch.float32)
    query, memory = (x.float() for x in draw(attention, 2, 4, 5))
    wanted = attention(query, memory, torch.tensor([5, 2]))
    with torch.autocast(backend.device, torch.bfloat16):
        for given in (memory, memory.bfloat16()):
            found = attention(query, given, torch.tensor([5, 2]))
            for one, other in zip(found, wanted, strict=True):
                assert one.dtype == torch.bfloat16
                torch.testing.assert_close(one.float(), other, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_compile(device: Backend, kind: str) -> None:
    attention = make(kind)
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, beams, steps in ((2, 1, 4), (3, 2, 5)):
        query, memory = draw(attention, batch, batch * beams, steps)
        lengths = torch.arange(batch)
        for one, other in zip(
            compiled(query, memory, lengths), attention(query, memory, lengths), strict=True
        ):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_empty(backend: Backend, kind: str) -> None:
    attention = make(kind)
    for batch, rows, memory_steps, steps in ((0, 0, 4, None), (2, 4, 0, 3), (2, 2, 3, 0)):
        query, memory = draw(attention, batch, rows, memory_steps, steps)
        context, weights = attention(query, memory, torch.zeros(batch, dtype=torch.long))
        assert context.shape == (*query.shape[:-1], attention.memory_size)
        assert weights.shape == (*query.shape[:-1], memory_steps)
        assert (context == 0).all()


def test_state_dict_and_repr() -> None:
    for kind in KINDS:
        attention = make(kind)
        other = make(kind)
        other.load_state_dict(attention.state_dict())
        query, memory = draw(attention, 1, 1, 2)
        assert torch.equal(attention(query, memory)[0], other(query, memory)[0])
    assert repr(make("additive")) == "Attention('additive', 4, 3, 5)"
    assert Attention("additive", 6, 3).attention_size == 6


Z = torch.zeros
BAD: list[tuple[Any, type[Exception], str]] = [
    ((Z(2, 5), Z(2, 3, 3)), ValueError, r"query must be \[rows, 4\] or .*, got \[2, 5\]"),
    ((Z(4), Z(2, 3, 3)), ValueError, r"query must be .*, got \[4\]"),
    ((Z(3, 4), Z(2, 3, 3)), ValueError, "query must have as many rows as memory, 2, .* got 3"),
    ((Z(2, 4), Z(0, 3, 3)), ValueError, "query must have as many rows as memory, 0, .* got 2"),
    ((Z(2, 4), Z(2, 3, 4)), ValueError, r"memory must be \[batch, memory_steps, 3\], got \[2, 3,"),
    ((Z(2, 4), Z(2, 3)), ValueError, r"memory must be \[batch, memory_steps, 3\], got \[2, 3\]"),
    ((Z(2, 4), [1]), TypeError, "memory must be a torch tensor, got list"),
    (([1], Z(2, 3, 3)), TypeError, "query must be a torch tensor, got list"),
    ((Z(2, 4).double(), Z(2, 3, 3)), TypeError, "query must be torch.float32, as memory is, got"),
    ((Z(2, 4), Z(2, 3, 3).double()), TypeError, "memory must be torch.float32, as weight_memory"),
    ((Z(2, 4).long(), Z(2, 3, 3)), TypeError, "query must be floating, got torch.int64"),
    ((Z(2, 4), Z(2, 3, 3), Z(2)), TypeError, "memory_lengths must be integers, got torch.float32"),
    ((Z(2, 4), Z(2, 3, 3), Z(3).long()), ValueError, r"memory_lengths must be \[2\], got \[3\]"),
    (
        (Z(2, 4), Z(2, 3, 3), torch.tensor([1, 4])),
        ValueError,
        "memory_lengths must be from 0 to 3, got 4",
    ),
    (
        (Z(2, 4), Z(2, 3, 3), torch.tensor([-1, 4])),
        ValueError,
        "memory_lengths must be from 0 to 3, got -1",
    ),
    ((Z(2, 4), Z(2, 3, 3), None, Z(2, 3)), TypeError, "mask must be bool, got torch.float32"),
    (
        (Z(2, 4), Z(2, 3, 3), None, Z(3, 2).bool()),
        ValueError,
        r"mask must be \[2, 3\], got \[3, 2\]",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_bad_input(arguments: Any, error: type[Exception], message: str) -> None:
    attention = Attention("additive", QUERY, MEMORY, SIZE)
    with pytest.raises(error, match=f"^Attention: {message}"):
        attention(*arguments)


def test_bad_constructors_and_prepared() -> None:
    for arguments, error, message in (
        (("other", 3, 3), ValueError, "kind must be 'additive', 'dot' or 'general', got 'ot"),
        (("dot", 3, 4), ValueError, "query_size must equal memory_size for 'dot', got 3 and 4"),
        (("general", 3, 4, 5), ValueError, "attention_size must be None for 'general', got 5"),
        (("additive", 0, 4), ValueError, "query_size must be at least 1, got 0"),
        (("additive", 3, 4.0), TypeError, "memory_size must be an integer, got 4.0"),
        (("additive", 3, 4, True), TypeError, "attention_size must be an integer, got True"),
    ):
        with pytest.raises(error, match=f"^Attention: {message}"):
            Attention(*arguments)
    attention = make("general")
    query, memory = draw(attention, 2, 2, 3)
    prepared = attention.prepare(memory)
    message = "memory_lengths must be None: a prepared memory has its own"
    with pytest.raises(ValueError, match=message):
        attention(query, prepared, torch.tensor([1, 1]))

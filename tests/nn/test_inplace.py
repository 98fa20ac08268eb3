"""Results may be written to before the backward pass: gradients are of the layer as it ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.cases import Backend
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import seqfast.nn


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


def set_item(x: Tensor) -> Tensor:
    x[0, 0] = 0
    return x


def behind_autograd(x: Tensor) -> Tensor:
    with torch.no_grad():
        x.mul_(3)
    return x


def to_half(x: Tensor) -> Tensor:
    x[..., :2].add_(1)
    return x


WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    "mul_": lambda x: x.mul_(2),
    "relu_": lambda x: torch.relu_(x),
    "dropout": nn.Dropout(0.5, inplace=True),
    "masked_fill_": lambda x: x.masked_fill_(x > 0.1, -1.0),
    "item": set_item,
    "slice": to_half,
    "no_grad": behind_autograd,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "both directions": {"bidirectional": True, "batch_first": True},
    "stack": {"num_layers": 2, "dropout": 0.3, "highway": True},
    "dense": {"num_layers": 2, "dense": True},
    "drawn": {"zoneout": 0.2, "recurrent_dropout": 0.3, "weight_dropout": 0.2, "layer_norm": True},
}
KINDS = ("LSTM", "GRU", "RNN")


def gradients(layer: Any, write: Callable[[Tensor], Tensor], copy: bool, **more: Any) -> list[Any]:
    """With `copy` the write goes to a copy: what is right."""
    torch.manual_seed(1)
    x = torch.randn(5, 3, 4).requires_grad_()
    layer.zero_grad()
    output, states = layer(x, **more)
    states = list(states) if isinstance(states, tuple) else [states]
    if copy:
        output, states = output.clone(), [state.clone() for state in states]
    torch.manual_seed(2)
    loss = sum(write(part).pow(2).sum() for part in (output, *states))
    loss.backward()
    return [loss, x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_write(backend: Backend, kind: str, options: str, write: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5, **OPTIONS[options])
    found = gradients(layer, WRITES[write], copy=False)
    torch.testing.assert_close(found, gradients(layer, WRITES[write], copy=True))


@pytest.mark.parametrize(
    "options",
    [
        {"peephole": True},
        {"proj_size": 2},
        {"coupled_gates": True, "cell_clip": 0.1},
        {"forget_gate": False, "gate_clip": 0.2},
    ],
    ids=["peephole", "projection", "coupled", "1997"],
)
def test_cells_of_an_lstm(options: dict[str, Any]) -> None:
    layer = seqfast.nn.LSTM(4, 5, **options)
    for more in ({}, {"lengths": torch.tensor([5, 0, 2])}, {"reset": torch.rand(5, 3) < 0.3}):
        found = gradients(layer, set_item, copy=False, **more)
        torch.testing.assert_close(found, gradients(layer, set_item, copy=True, **more))


@pytest.mark.parametrize("hidden_size", [5, (5, 3)], ids=["", "sizes"])
def test_cells_that_are_returned(hidden_size: Any) -> None:
    layer = seqfast.nn.LSTM(4, hidden_size)
    results = []
    for copy in (False, True):
        x = torch.ones(5, 3, 4, requires_grad=True)
        _, _, cells = layer(x, return_cells=True)
        cells = list(cells) if isinstance(cells, tuple) else [cells]
        parts = [cell.clone() for cell in cells] if copy else cells
        sum(part.tanh_().sum() for part in parts).backward()
        results.append(x.grad)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("write", ["mul_", "item", "slice", "no_grad"])
def test_cells(kind: str, write: str) -> None:
    cell = getattr(seqfast.nn, kind)(4, 5)
    results = []
    for copy in (False, True):
        x = torch.ones(3, 4, requires_grad=True)
        states = cell(x)
        states = list(states) if isinstance(states, tuple) else [states]
        parts = [state.clone() for state in states] if copy else states
        cell.zero_grad()
        sum(WRITES[write](part).pow(2).sum() for part in parts).backward()
        results.append([x.grad, *(p.grad for p in cell.parameters())])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 4, 2]], ids=["full", "ragged"])
@pytest.mark.parametrize("kind", KINDS)
def test_packed(backend: Backend, kind: str, lengths: list[int]) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5, bidirectional=True)
    results = []
    for copy in (False, True):
        x = torch.ones(5, 3, 4, requires_grad=True)
        output, _ = layer(pack_padded_sequence(x, torch.tensor(lengths, device="cpu")))
        assert isinstance(output, PackedSequence)
        data = output.data.clone() if copy else output.data
        data.exp_().sum().backward()
        results.append(x.grad)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_twice_and_second_derivatives(backend: Backend, kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5).double()
    x = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)

    def penalty(copy: bool, retain: bool) -> list[Any]:
        output, _ = layer(x)
        loss = (output.clone() if copy else output).mul_(2).pow(2).sum()
        if retain:
            first = torch.autograd.grad(loss, x, retain_graph=True)
            return [*first, *torch.autograd.grad(loss, x)]
        (grad,) = torch.autograd.grad(loss, x, create_graph=True)
        return list(torch.autograd.grad(grad.pow(2).sum(), [x, layer.weight_hh_l0]))

    for retain in (False, True):
        torch.testing.assert_close(penalty(False, retain), penalty(True, retain))


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing(kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5)
    results = []
    for copy in (False, True):
        x = torch.ones(5, 3, 4, requires_grad=True)

        def part(x: Tensor, copy: bool = copy) -> Tensor:
            output, _ = layer(x)
            return (output.clone() if copy else output).mul_(2)

        checkpoint(part, x, use_reentrant=False).pow(2).sum().backward()
        results.append(x.grad)
    torch.testing.assert_close(*results)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["operator", "compiled", "traced"])
@pytest.mark.parametrize("kind", KINDS)
def test_through_the_dispatcher(kind: str, how: str) -> None:
    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
            return function(*args, **(kwargs or {}))

    layer = getattr(seqfast.nn, kind)(4, 5)

    def part(x: Tensor) -> Tensor:
        return layer(x)[0].mul_(2)

    x = torch.randn(5, 3, 4, requires_grad=True)
    layer(x)[0].clone().mul_(2).pow(2).sum().backward()
    wanted, x.grad = x.grad, None
    if how == "operator":
        with Watched():
            output = part(x)
    elif how == "compiled":
        output = torch.compile(part, backend="aot_eager", fullgraph=True)(x)
    else:
        module = torch.jit.trace(layer, (x,))
        output = module(x)[0].mul_(2)
    output.pow(2).sum().backward()
    torch.testing.assert_close(x.grad, wanted)


def test_what_is_no_result_may_not_be_written_to() -> None:
    """As everywhere in torch: the input and the weights are needed as they were."""
    layer = seqfast.nn.GRU(4, 5)
    x = torch.randn(5, 3, 4)
    output, _ = layer(x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.mul_(2).sum().backward()


def test_the_witness_keeps_no_memory() -> None:
    output, _ = seqfast.nn.GRU(4, 5)(torch.randn(5, 3, 4))
    witness = output.grad_fn.witness
    assert witness.untyped_storage().nbytes() == 0
    before = witness._version
    output.mul_(2)
    assert witness._version == before + 1
    assert output.untyped_storage().nbytes() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_writes_through_data_are_not_seen(kind: str) -> None:
    """Of `.data` autograd knows nothing: torch's float32 LSTM is wrong there, too."""
    torch.manual_seed(0)
    layer = getattr(seqfast.nn, kind)(4, 5)
    x = torch.randn(6, 3, 4)
    gradients = []
    for write in (
        lambda output: None,
        lambda output: output.mul_(3),
        lambda output: output.data.mul_(3),
    ):
        layer.zero_grad()
        output, _ = layer(x)
        copied = output * 1
        write(output)
        copied.sum().backward()
        gradients.append(layer.weight_hh_l0.grad.clone())
    before, seen, unseen = gradients
    torch.testing.assert_close(seen, before)
    assert not torch.allclose(unseen, before)

"""accelerate(): torch's layers become ours, and nobody else notices."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from support.cases import Backend
from torch import nn

import seqfast
import seqfast.nn


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


class Tagger(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = nn.LSTM(4, 5, 2, bidirectional=True, dropout=dropout)
        self.shared = self.encoder
        self.cells = nn.ModuleList([nn.LSTMCell(10, 6, bias=False), nn.GRU(10, 6)])
        self.head = nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        output, _ = self.shared(x)
        state = None
        for step in output:
            state = self.cells[0](step, state)
        return self.head(state[0])


def train(model: Any, optimizer: Any, steps: int = 5) -> list[float]:
    losses = []
    for k in range(steps):
        torch.manual_seed(k)
        loss = model(torch.randn(7, 3, 4)).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_layers_are_exchanged_in_place() -> None:
    model = Tagger(dropout=0.3)
    parameters = dict(model.named_parameters())
    order, shown = list(model.state_dict()), repr(model)
    assert seqfast.accelerate(model) is model
    assert type(model.encoder) is seqfast.nn.LSTM
    assert type(model.cells[0]) is seqfast.nn.LSTMCell
    assert type(model.cells[1]) is seqfast.nn.GRU
    assert model.shared is model.encoder
    assert {name: id(p) for name, p in model.named_parameters()} == {
        name: id(p) for name, p in parameters.items()
    }
    assert list(model.state_dict()) == order
    assert repr(model) == shown
    assert seqfast.accelerate(model) is model  # again: nothing to do


def test_training_goes_on(backend: Backend) -> None:
    """The optimizer made before keeps its momentum; the losses are those of the untouched model."""
    plain = Tagger()
    fast = copy.deepcopy(plain)
    optimizers = [torch.optim.Adam(m.parameters(), 0.01) for m in (plain, fast)]
    train(plain, optimizers[0])
    train(fast, optimizers[1])
    seqfast.accelerate(fast)
    torch.testing.assert_close(
        train(fast, optimizers[1]), train(plain, optimizers[0]), rtol=1e-4, atol=1e-5
    )
    plain.load_state_dict(fast.state_dict())
    torch.testing.assert_close(fast.eval()(x := torch.randn(7, 3, 4)), plain.eval()(x))


def test_hooks_and_flags_stay() -> None:
    layer = nn.LSTM(4, 5).eval()
    layer.note = "kept"
    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda module, args, result: seen.append(module))
    fast: Any = seqfast.accelerate(layer)
    assert not fast.training
    assert fast.note == "kept"
    fast(torch.randn(2, 1, 4))
    assert seen == [fast]
    handle.remove()
    fast(torch.randn(2, 1, 4))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.LSTM, {"num_layers": 2, "proj_size": 2, "bias": False}),
        (nn.GRU, {"num_layers": 2, "bidirectional": True}),
        (nn.RNN, {"nonlinearity": "relu", "batch_first": True}),
        (nn.RNN, {}),
        (nn.LSTMCell, {}),
        (nn.GRUCell, {"bias": False}),
        (nn.RNNCell, {"nonlinearity": "relu"}),
    ],
)
def test_a_layer_itself(backend: Backend, kind: Any, options: dict[str, Any]) -> None:
    layer = kind(4, 5, **options)
    x = torch.randn(2, 3, 4)[: 1 if "Cell" in kind.__name__ else 2].squeeze(0)
    wanted, shown = layer(x), repr(layer)
    fast = seqfast.accelerate(layer)
    assert type(fast) is getattr(seqfast.nn, kind.__name__)
    torch.testing.assert_close(fast(x), wanted)
    assert repr(fast) == shown
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(other(x), wanted)
    assert fast.double()(x.double())[0].dtype == torch.float64
    reloaded = getattr(seqfast.nn, kind.__name__)(4, 5, **options)
    reloaded.load_state_dict(fast.float().state_dict())
    torch.testing.assert_close(reloaded(x), wanted)


def test_subclasses_are_left_alone() -> None:
    class Special(nn.LSTM):
        pass

    class SpecialCell(nn.GRUCell):
        pass

    model = nn.Sequential(
        Special(4, 5),
        SpecialCell(4, 5),
    )
    kinds = [type(module) for module in model]
    with pytest.warns(UserWarning, match="left as they were: 0: a subclass .*Special; 1: "):
        seqfast.accelerate(model)
    assert [type(module) for module in model] == kinds


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_hook_based_weight_norm_works_on(backend: Backend) -> None:
    layer = nn.utils.weight_norm(nn.LSTM(4, 5), "weight_hh_l0")
    x = torch.randn(3, 2, 4)
    wanted = layer(x)[0]
    fast: Any = seqfast.accelerate(layer)
    torch.testing.assert_close(fast(x)[0], wanted)
    fast(x)[0].sum().backward()
    assert fast.weight_hh_l0_g.grad.any()


def test_both_names_are_one_function() -> None:
    assert seqfast.accelerate is seqfast.nn.accelerate


def test_not_a_module() -> None:
    with pytest.raises(TypeError, match=r"accelerate: model must be a torch.nn.Module, got dict"):
        seqfast.accelerate({})  # type: ignore[type-var]

"""restore(): the way back; the report of both ways; and all or nothing."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import seqfast
import seqfast.nn

KINDS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
PLAIN = [
    ("LSTM", {"num_layers": 2, "proj_size": 2, "bidirectional": True}),
    ("LSTM", {"batch_first": True, "bias": False}),
    ("GRU", {"num_layers": 2, "dropout": 0.0}),
    ("RNN", {"nonlinearity": "relu"}),
    ("RNN", {}),
    ("LSTMCell", {"bias": False}),
    ("GRUCell", {}),
    ("RNNCell", {"nonlinearity": "relu"}),
]
# What torch's layers lack, and how the message says it.
BEYOND = [
    ("LSTM", {"peephole": True}),
    ("LSTM", {"coupled_gates": True}),
    ("LSTM", {"forget_gate": False}),
    ("LSTM", {"forget_bias": 1.0}),
    ("LSTM", {"cell_clip": 3.0}),
    ("LSTM", {"gate_clip": 3.0}),
    ("LSTM", {"zoneout": (0.1, 0.0)}),
    ("LSTM", {"hidden_size": (5, 3)}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"reset_gate": False}),
    ("GRU", {"recurrent_dropout": 0.1}),
    ("GRU", {"num_layers": 2, "residual": True}),
    ("GRU", {"num_layers": 2, "dense": True}),
    ("GRU", {"num_layers": 2, "highway": True}),
    ("RNN", {"feedback": "output"}),
    ("RNN", {"layer_norm": True}),
    ("RNN", {"input_dropout": 0.1}),
    ("RNN", {"weight_dropout": 0.1}),
    ("LSTMCell", {"peephole": True}),
    ("GRUCell", {"reset_after": False}),
    ("RNNCell", {"zoneout": 0.1}),
]


def call(layer: Any) -> Any:
    torch.manual_seed(0)
    cell = isinstance(layer, nn.RNNCellBase)
    return layer(torch.randn(3, 4) if cell else torch.randn(3, 2, 4))


def made(kind: str, options: dict[str, Any], home: Any = seqfast.nn) -> Any:
    return getattr(home, kind)(**{"input_size": 4, "hidden_size": 5, **options})


@pytest.mark.parametrize(("kind", "options"), PLAIN, ids=str)
@pytest.mark.parametrize("was", ["torch's", "ours"])
def test_there_and_back(kind: str, options: dict[str, Any], was: str) -> None:
    layer = made(kind, options, nn if was == "torch's" else seqfast.nn)
    parameters = {name: id(p) for name, p in layer.named_parameters()}
    wanted, shown = call(layer), repr(layer)
    if was == "torch's":
        seqfast.accelerate(layer)
        torch.testing.assert_close(call(layer), wanted)
    assert seqfast.restore(layer) is layer
    assert type(layer) is getattr(nn, kind)
    torch.testing.assert_close(call(layer), wanted)
    assert repr(layer) == shown
    assert {name: id(p) for name, p in layer.named_parameters()} == parameters
    # Nothing of ours stays behind, so that torch's own pickles are torch's own.
    assert set(vars(layer)) == set(vars(made(kind, options, nn)))
    torch.testing.assert_close(call(copy.deepcopy(layer).double().float()), wanted)
    assert seqfast.restore(layer) is layer
    assert type(seqfast.accelerate(layer)) is getattr(seqfast.nn, kind)
    torch.testing.assert_close(call(layer), wanted)


@pytest.mark.parametrize(("kind", "options"), BEYOND, ids=str)
def test_options_that_torch_lacks_are_named(kind: str, options: dict[str, Any]) -> None:
    layer = made(kind, options)
    model = nn.ModuleDict({"first": seqfast.nn.GRU(2, 3), "second": layer})
    name, value = list(options.items())[-1]
    with pytest.raises(ValueError, match="restore: torch's layers have no such options") as refused:
        seqfast.restore(model)
    assert f"second ({name}={value}" in str(refused.value)
    assert type(model["first"]) is seqfast.nn.GRU
    assert type(layer) is getattr(seqfast.nn, kind)
    call(layer)


def test_an_option_that_does_nothing_is_plain() -> None:
    layer = seqfast.nn.LSTM(4, 5, zoneout=(0.0, 0.0), recurrent_dropout_on="update")
    assert type(seqfast.restore(layer)) is nn.LSTM


class Derived(nn.LSTM):
    pass


class DerivedOurs(seqfast.nn.GRU):
    pass


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.inner(x)
        return output


class Mixed(nn.Module):
    """One of each kind of recurrent module there is."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.LSTM(4, 5)
        self.again = self.plain
        self.block = nn.ModuleList([nn.Linear(4, 5), nn.GRUCell(4, 5)])
        self.derived = Derived(4, 5)
        self.normed = parametrizations.weight_norm(nn.LSTM(4, 5), "weight_hh_l0")
        self.orthogonal = parametrizations.orthogonal(nn.GRUCell(4, 5), "weight_ih")
        self.pruned = prune.l1_unstructured(nn.GRU(4, 5), "weight_ih_l0", amount=0.5)
        self.wrapped = nn.RNN(4, 5)
        self.wrapped.forward = self.wrapped.forward
        self.ours = seqfast.nn.LSTM(4, 5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_report() -> None:
    model = Mixed()
    model.scripted = torch.jit.script(Holder())
    x = torch.randn(3, 2, 4)
    calls = {"plain": x, "normed": x, "orthogonal": x[0], "pruned": x, "wrapped": x, "scripted": x}
    wanted = {name: getattr(model, name)(x) for name, x in calls.items()}
    with pytest.warns(UserWarning, match="accelerate: left as they were: .*derived") as warned:
        same, report = seqfast.accelerate(model, return_report=True)
    assert same is model
    assert len(warned) == 1
    assert set(report.changed) == {"plain", "again", "block.1", "normed", "orthogonal", "pruned"}
    assert report.changed["plain"] == "torch.nn.LSTM -> seqfast.nn.LSTM"
    assert set(report.left) == {"derived", "wrapped", "scripted.inner"}
    assert "a subclass of torch's" in report.left["derived"]
    assert "forward has been replaced" in report.left["wrapped"]
    assert "torch.jit" in report.left["scripted.inner"]
    assert "left scripted.inner: " in str(report)
    assert "changed block.1: torch.nn.GRUCell -> seqfast.nn.GRUCell" in str(report)
    for name, x in calls.items():
        torch.testing.assert_close(getattr(model, name)(x), wanted[name])
    assert isinstance(model.normed, seqfast.nn.LSTM)
    assert isinstance(model.orthogonal, seqfast.nn.GRUCell)
    model.derived_ours = DerivedOurs(4, 5)
    with pytest.warns(UserWarning, match="restore: left as they were: derived_ours: a subclass"):
        _, report = seqfast.restore(model, return_report=True)
    assert set(report.left) == {"derived_ours"}
    assert "ours" in report.changed
    for name, x in calls.items():
        torch.testing.assert_close(getattr(model, name)(x), wanted[name])
    assert not any(
        type(part).__module__.startswith("seqfast") for part in (model.plain, model.ours)
    )


def test_nothing_recurrent_is_no_news() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, report = seqfast.accelerate(nn.Linear(2, 2), return_report=True)
        assert (report.changed, report.left) == ({}, {})
        assert str(report) == "nothing recurrent was found"
        seqfast.accelerate(nn.LSTM(2, 3))
        seqfast.restore(nn.LSTM(2, 3))
    assert isinstance(model, nn.Linear)


@pytest.mark.parametrize("kind", KINDS)
def test_parametrizations_go_along_and_come_off(kind: str) -> None:
    name = "weight_ih" if "Cell" in kind else "weight_hh_l0"
    layer = parametrizations.weight_norm(made(kind, {}, nn), name)
    wanted = call(layer)
    fast: Any = seqfast.accelerate(layer)
    assert isinstance(fast, getattr(seqfast.nn, kind))
    torch.testing.assert_close(call(fast), wanted)
    output = call(fast)
    (output[0] if isinstance(output, tuple) else output).sum().backward()
    assert fast.parametrizations[name].original1.grad.any()
    if kind == "GRU":
        seqfast.restore(fast)
        torch.testing.assert_close(call(fast), wanted)
        seqfast.accelerate(fast)
    nn.utils.parametrize.remove_parametrizations(fast, name)
    assert type(fast) is getattr(seqfast.nn, kind)
    torch.testing.assert_close(call(fast), wanted)


def test_optimizers_hooks_and_flags_stay() -> None:
    model = nn.Sequential(seqfast.nn.LSTM(4, 5)).eval()
    optimizer = torch.optim.Adam(model.parameters())
    call(model[0])[0].sum().backward()
    optimizer.step()
    seen: list[Any] = []
    model[0].register_forward_hook(lambda module, args, result: seen.append(module))
    model[0].note = "kept"
    seqfast.restore(model)
    call(model[0])
    assert seen == [model[0]]
    assert not model[0].training
    assert model[0].note == "kept"
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("which", ["accelerate", "restore"])
def test_a_failure_in_the_middle_changes_nothing(which: str) -> None:
    """The second layer has lost what it must have; an interrupt is no different."""
    home = nn if which == "accelerate" else seqfast.nn
    model = nn.ModuleList([home.LSTM(4, 5), home.GRU(4, 5), home.RNN(4, 5)])
    del model[1]._all_weights
    del model[1]._flat_weights_names
    before = [(type(part), dict(vars(part))) for part in model]
    with pytest.raises(AttributeError):
        getattr(seqfast, which)(model)
    for part, (kind, attributes) in zip(model, before, strict=True):
        assert type(part) is kind
        assert vars(part).keys() == attributes.keys()
    call(model[0])
    call(model[2])


def test_the_layer_of_a_decoder_is_left() -> None:
    decoder = seqfast.nn.AttentionDecoder(
        nn.Embedding(7, 4),
        seqfast.nn.LSTM(9, 5),
        seqfast.nn.Attention("dot", 5, 5),
        nn.Linear(5, 7),
    )
    with pytest.warns(UserWarning, match="rnn: an AttentionDecoder needs a layer of seqfast's"):
        _, report = seqfast.restore(decoder, return_report=True)
    assert list(report.left) == ["rnn"]
    assert isinstance(decoder.rnn, seqfast.nn.LSTM)


def test_a_decoder_says_how_it_takes_torchs_layers() -> None:
    with pytest.raises(
        TypeError, match=r"rnn must be a seqfast.nn.LSTM.*seqfast.accelerate\(rnn\)"
    ):
        seqfast.nn.AttentionDecoder(
            nn.Embedding(7, 4),
            nn.LSTM(4, 5),  # type: ignore[arg-type]
            seqfast.nn.Attention("dot", 5, 5),
            nn.Linear(5, 7),
        )


def test_put_into_flat_weights_goes_along() -> None:
    layer = seqfast.nn.LSTM(4, 5)
    layer._flat_weights = [torch.randn_like(weight) for weight in layer.parameters()]
    wanted = call(layer)
    torch.testing.assert_close(call(seqfast.restore(layer)), wanted)
    torch.testing.assert_close(call(seqfast.accelerate(layer)), wanted)


def test_modules_that_hold_each_other() -> None:
    model = nn.Sequential(nn.LSTM(4, 5))
    model[0].owner = model
    _, report = seqfast.accelerate(model, return_report=True)
    assert "0" in report.changed
    assert type(model[0]) is seqfast.nn.LSTM


@pytest.mark.parametrize("which", ["accelerate", "restore"])
def test_every_name_of_what_is_shared(which: str) -> None:
    """A layer of two parents, and one of a parent that itself has two names."""
    home, derived = (nn, Derived) if which == "accelerate" else (seqfast.nn, DerivedOurs)
    shared = nn.ModuleDict({"layer": home.LSTM(4, 5), "left": derived(4, 5)})
    model = nn.ModuleDict({"one": shared, "two": nn.Sequential(shared, shared["layer"])})
    with pytest.warns(UserWarning, match="one.left: .*two.0.left: "):
        _, report = getattr(seqfast, which)(model, return_report=True)
    assert set(report.changed) == {"one.layer", "two.0.layer", "two.1"}
    assert set(report.left) == {"one.left", "two.0.left"}


@pytest.mark.parametrize("which", ["accelerate", "restore"])
def test_not_a_module(which: str) -> None:
    with pytest.raises(TypeError, match=rf"{which}: model must be a torch.nn.Module, got list"):
        getattr(seqfast, which)([])


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_other_dtypes_are_left() -> None:
    layer = nn.GRU(4, 5).to(torch.complex64)
    with pytest.warns(UserWarning, match="of a dtype without kernels, torch.complex64"):
        assert type(seqfast.accelerate(layer)) is nn.GRU


def test_other_devices_are_left() -> None:
    model = nn.Sequential(nn.LSTM(4, 5, device="meta"), nn.LSTM(4, 5))
    seqfast.accelerate(model)
    assert type(model[0]) is seqfast.nn.LSTM


@pytest.mark.parametrize("which", ["accelerate", "restore"])
def test_a_warning_that_is_an_error_changes_nothing(which: str) -> None:
    home, other = (nn, Derived) if which == "accelerate" else (seqfast.nn, DerivedOurs)
    model = nn.ModuleList([home.LSTM(4, 5), other(4, 5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=f"{which}: left as they were: 1"):
            getattr(seqfast, which)(model)
    assert type(model[0]) is home.LSTM

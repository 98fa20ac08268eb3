"""Our layers are torch.nn's by class and by what others see and set of them."""

from __future__ import annotations

import abc
import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pack_padded_sequence

import seqfast
import seqfast.nn

LAYERS = ("LSTM", "GRU", "RNN")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bias": False},
]


def options_id(options: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items()) or "plain"


def ours_and_torchs(kind: str, *sizes: Any, **options: Any) -> tuple[Any, Any]:
    theirs = getattr(nn, kind)(*sizes, **options)
    ours = getattr(seqfast.nn, kind)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def new_weights(layer: Any) -> list[Any]:
    return [torch.randn_like(weight) for weight in layer.parameters()]


@pytest.fixture(params=LAYERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


# Classes.


@pytest.mark.parametrize("name", LAYERS + CELLS)
@pytest.mark.parametrize("made", ["ours", "accelerated"])
def test_is_torchs_by_class(name: str, made: str) -> None:
    torchs, base = getattr(nn, name), nn.RNNCellBase if "Cell" in name else nn.RNNBase
    kind = getattr(seqfast.nn, name)
    layer = kind(2, 3) if made == "ours" else seqfast.accelerate(torchs(2, 3))
    assert type(layer) is kind
    assert isinstance(layer, torchs)
    assert isinstance(layer, base)
    assert issubclass(kind, torchs)
    assert not isinstance(torchs(2, 3), kind)
    other = nn.GRU if name != "GRU" else nn.LSTM
    assert not isinstance(layer, other)


@pytest.mark.parametrize("name", LAYERS + CELLS)
def test_equals_torchs_class_in_tables_and_comparisons(name: str) -> None:
    torchs, kind = getattr(nn, name), getattr(seqfast.nn, name)
    assert type(kind(2, 3)) == torchs  # noqa: E721
    assert torchs == kind
    assert torchs is not kind
    assert {torchs: "found"}[kind] == "found"
    assert kind in {torchs}
    assert kind in [nn.Linear, torchs]
    others = [getattr(nn, other) for other in LAYERS + CELLS if other != name]
    assert kind not in others
    assert kind not in set(others)

    class Derived(kind):  # type: ignore[misc, valid-type]
        pass

    assert Derived not in {torchs, kind}
    assert isinstance(Derived(2, 3), kind)
    assert len({Derived, kind}) == 2


def test_derives_beside_an_abstract_class(kind: str) -> None:
    class Encoder(abc.ABC):
        @abc.abstractmethod
        def encode(self, x: Tensor) -> Tensor: ...

    class Ours(getattr(seqfast.nn, kind), Encoder):  # type: ignore[misc]
        def encode(self, x: Tensor) -> Tensor:
            return self(x)[0]

    layer = Ours(2, 3)
    assert isinstance(layer, Encoder)
    assert layer.encode(torch.randn(4, 1, 2)).shape == (4, 1, 3)
    assert not isinstance(getattr(seqfast.nn, kind)(2, 3), Encoder)


def test_cooperative_constructors_are_called(kind: str) -> None:
    class Counted:
        def __init__(self) -> None:
            super().__init__()
            self.counted = True

    class Ours(getattr(seqfast.nn, kind), nn.Module, Counted):  # type: ignore[misc]
        pass

    class Torchs(getattr(nn, kind), nn.Module, Counted):  # type: ignore[misc]
        pass

    assert hasattr(Ours(2, 3), "counted") == hasattr(Torchs(2, 3), "counted")


@pytest.mark.parametrize("check", ["isinstance", "type ==", "type in"])
def test_initialisation_by_apply(check: str) -> None:
    """As textbooks write it."""

    def initialise(m: nn.Module) -> None:
        found = {
            "isinstance": isinstance(m, nn.RNNBase),
            "type ==": type(m) == nn.GRU,  # noqa: E721
            "type in": type(m) in (nn.GRU, nn.LSTM),
        }[check]
        if found:
            for name in m._flat_weights_names:
                if "weight" in name:
                    nn.init.constant_(m._parameters[name], 0.25)

    model = nn.Sequential(seqfast.nn.GRU(2, 3))
    model.apply(initialise)
    assert all(bool((p == 0.25).all()) for n, p in model.named_parameters() if "weight" in n)


def test_torchs_constructor_may_be_called(kind: str) -> None:
    """As classes do that name their base instead of super()."""

    class Derived(getattr(seqfast.nn, kind)):  # type: ignore[misc]
        def __init__(self) -> None:
            getattr(nn, kind).__init__(self, 4, 5, 2, bidirectional=True)

    layer, x = Derived(), torch.randn(3, 2, 4)
    torch.testing.assert_close(layer(x), getattr(nn, kind).forward(layer, x))


# Methods.


@pytest.mark.parametrize("options", OPTIONS, ids=options_id)
@pytest.mark.parametrize("projected", [False, True], ids=["", "proj"])
def test_sizes_and_checks(kind: str, options: dict[str, Any], projected: bool) -> None:
    if projected:
        if kind != "LSTM":
            pytest.skip("only an LSTM has a projection")
        options = {**options, "proj_size": 2}
    ours, theirs = ours_and_torchs(kind, 4, 5, **options)
    x = torch.randn(3, 6, 4)
    packed = pack_padded_sequence(x, torch.tensor([6, 5, 2]), batch_first=True)
    for input, batch_sizes in ((x, None), (packed.data, packed.batch_sizes)):
        wanted = theirs.get_expected_hidden_size(input, batch_sizes)
        assert ours.get_expected_hidden_size(input, batch_sizes) == wanted
        hx = torch.randn(wanted)
        if kind == "LSTM":
            cell = theirs.get_expected_cell_size(input, batch_sizes)
            assert ours.get_expected_cell_size(input, batch_sizes) == cell
            hx = hx, torch.randn(cell)
        ours.check_input(input, batch_sizes)
        ours.check_forward_args(input, hx, batch_sizes)
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(
            ours.permute_hidden(hx, order), theirs.permute_hidden(hx, order), rtol=0, atol=0
        )
        assert ours.permute_hidden(hx, None) is hx
        bad = tuple(h[:, :2] for h in hx) if kind == "LSTM" else hx[:, :2]
        for call in ("check_forward_args",):
            messages = []
            for layer in (ours, theirs):
                with pytest.raises(RuntimeError) as refused:
                    getattr(layer, call)(input, bad, batch_sizes)
                messages.append(str(refused.value))
            assert messages[0] == messages[1]
        for layer in (ours, theirs):
            with pytest.raises(RuntimeError, match=r"equal to input_size. Expected 4, got 3"):
                layer.check_input(input[..., :3], batch_sizes)


def test_sizes_where_layers_have_their_own() -> None:
    layer = seqfast.nn.LSTM(4, (5, 3))
    x = torch.randn(6, 2, 4)
    hidden = layer.get_expected_hidden_size(x, None)
    assert hidden == ((1, 2, 5), (1, 2, 3)) == layer.get_expected_cell_size(x, None)
    hx = tuple(tuple(torch.randn(size) for size in hidden) for _ in range(2))
    layer.check_forward_args(x, hx, None)
    permuted = layer.permute_hidden(hx, torch.tensor([1, 0]))
    torch.testing.assert_close(permuted[1][0], hx[1][0].flip(1))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size"):
        layer.check_forward_args(x, (hx[0], hx[0][::-1]), None)


@pytest.mark.parametrize("options", OPTIONS, ids=options_id)
def test_lists_of_weights(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = ours_and_torchs(kind, 4, 5, **options)
    for name in ("mode", "_flat_weights_names", "_all_weights"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert all(a is b for a, b in zip(ours._flat_weights, ours.parameters(), strict=True))
    assert [r() for r in ours._flat_weight_refs] == ours._flat_weights
    assert [[w.shape for w in ws] for ws in ours.all_weights] == [
        [w.shape for w in ws] for ws in theirs.all_weights
    ]
    assert not ours._weights_have_changed()
    ours.flatten_parameters()
    ours._init_flat_weights()
    ours._update_flat_weights()
    assert len(ours._flat_weights) == len(theirs._flat_weights)


# What is put into _flat_weights runs.


@pytest.mark.parametrize("options", OPTIONS, ids=options_id)
@pytest.mark.parametrize("how", ["set", "items", "slice", "before accelerate"])
def test_flat_weights_are_what_runs(kind: str, options: dict[str, Any], how: str) -> None:
    ours, theirs = ours_and_torchs(kind, 4, 5, **options)
    x = torch.randn(3, 2, 4)
    weights = [weight.requires_grad_() for weight in new_weights(theirs)]
    theirs._flat_weights = list(weights)
    if how == "set":
        ours._flat_weights = list(weights)
    elif how == "items":
        for k, weight in enumerate(weights):
            ours._flat_weights[k] = weight
    elif how == "slice":
        ours._flat_weights[:] = weights
    else:
        ours = seqfast.accelerate(copy.copy(theirs))
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
    ours(x)[0].sum().backward()
    assert all(weight.grad is not None for weight in weights)
    assert all(parameter.grad is None for parameter in ours.parameters())
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(other(x), ours(x))


def test_attributes_win_again_when_one_is_set(kind: str) -> None:
    for make in (0, 1):
        layer = ours_and_torchs(kind, 4, 5)[make]
        x = torch.randn(3, 2, 4)
        before = layer(x)[0]
        layer._flat_weights = new_weights(layer)
        assert not torch.equal(layer(x)[0], before)
        layer.bias_ih_l0 = nn.Parameter(layer.bias_ih_l0.detach().clone())
        torch.testing.assert_close(layer(x)[0], before)
        layer._flat_weights = new_weights(layer)
        layer.to(torch.float64)
        torch.testing.assert_close(layer(x.double())[0].float(), before)
        layer.float()._flat_weights = new_weights(layer)
        layer._init_flat_weights()
        torch.testing.assert_close(layer(x)[0], before)


def test_a_list_that_does_not_fit_is_refused(kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5)
    x = torch.randn(3, 2, 4)
    before = layer(x)[0]
    layer._flat_weights = []
    with pytest.raises(RuntimeError, match=rf"{kind}: _flat_weights must be 4 tensors.*got 0"):
        layer(x)
    # As torch does: attributes that are set anew, or _apply, count again.
    layer.weight_hh_l0 = nn.Parameter(layer.weight_hh_l0.detach().clone())
    torch.testing.assert_close(layer(x)[0], before)
    layer._flat_weights[2] = "no tensor"
    with pytest.raises(TypeError, match=r"bias_ih_l0 in _flat_weights must be a torch tensor"):
        layer(x)
    layer._flat_weights = []
    torch.testing.assert_close(layer.float()(x)[0], before)
    layer._flat_weights[0] = torch.randn(3, 3)
    with pytest.raises(Exception, match=r"weight_ih must be \[\d+, 4\], got \[3, 3\]"):
        layer(x)


def test_the_list_goes_with_the_attributes(kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5)
    assert len(layer._flat_weights) == 4  # from now on there is a list
    weight = nn.Parameter(torch.randn_like(layer.weight_ih_l0))
    layer.weight_ih_l0 = weight
    assert layer._flat_weights[0] is weight
    x = torch.randn(3, 2, 4)
    wanted = layer(x)[0]
    values = {name: torch.randn_like(value) for name, value in layer.named_parameters()}
    called = torch.func.functional_call(layer, values, x)[0]
    assert not torch.equal(called, wanted)
    torch.testing.assert_close(layer(x)[0], wanted)
    layer.double()
    assert layer._flat_weights[0] is layer.weight_ih_l0
    assert layer._flat_weights[0].dtype == torch.float64


def test_weights_may_be_exchanged_by_swapping(kind: str) -> None:
    """torch refuses to swap a tensor that a weak reference points to."""
    layer = getattr(seqfast.nn, kind)(4, 5)
    assert layer._flat_weight_refs
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    assert layer(torch.randn(3, 2, 4).double())[0].dtype == torch.float64


# Wrappers.


class WeightDrop(nn.Module):
    """Merity et al. 2018, as their code does it."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.module = layer
        layer.flatten_parameters = lambda *args, **kwargs: None
        raw = layer.weight_hh_l0
        del layer._parameters["weight_hh_l0"]
        layer.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))

    def forward(self, *args: Any) -> Any:
        dropped = nn.functional.dropout(self.module.weight_hh_l0_raw, 0.5, self.training)
        self.module.weight_hh_l0 = dropped
        return self.module(*args)


class LowRank(nn.Module):
    """Hu et al. 2021."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(2, columns))
        self.b = nn.Parameter(torch.randn(rows, 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def wrap_lora(layer: Any) -> Any:
    for name in ("weight_ih_l0", "weight_hh_l0"):
        torch.manual_seed(1)
        parametrize.register_parametrization(layer, name, LowRank(*getattr(layer, name).shape))
        layer.parametrizations[name].original.requires_grad_(False)
    return layer


@pytest.mark.parametrize("wrap", [WeightDrop, wrap_lora], ids=["weight drop", "lora"])
def test_wrappers_of_weights(kind: str, wrap: Any) -> None:
    results = []
    for layer in ours_and_torchs(kind, 4, 5, batch_first=True):
        wrapped = wrap(layer)
        x = torch.ones(2, 3, 4)
        found = []
        for seed in range(2):
            torch.manual_seed(seed)
            output, _ = wrapped(x)
            wrapped.zero_grad()
            output.pow(2).sum().backward()
            found += [output, *(p.grad for p in wrapped.parameters() if p.requires_grad)]
        results.append(found)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("touched", [False, True], ids=["", "list"])
def test_replicas(kind: str, touched: bool) -> None:
    """What DataParallel does for each device."""
    layer = getattr(seqfast.nn, kind)(4, 5)
    x = torch.randn(3, 2, 4)
    if touched:
        assert layer._flat_weights
    replica = layer._replicate_for_data_parallel()
    for name, parameter in layer._parameters.items():
        setattr(replica, name, parameter * 1)
    torch.testing.assert_close(replica(x), layer(x))
    replica(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad.any()
    assert replica._flat_weights_names is not layer._flat_weights_names


def test_the_mode_decides_what_an_rnn_is() -> None:
    x = torch.randn(3, 2, 4)
    for made in range(2):
        layer = ours_and_torchs("RNN", 4, 5)[made]
        layer.mode = "RNN_RELU"
        assert (layer(x)[0] >= 0).all()
    with pytest.raises(ValueError, match=r"RNN: mode must be 'RNN_TANH' or 'RNN_RELU', got 'GRU'"):
        seqfast.nn.RNN(4, 5).mode = "GRU"


@pytest.mark.parametrize("proj_size", [True, False], ids=["", "no proj_size"])
def test_old_pickles(proj_size: bool) -> None:
    layer = nn.RNN(4, 5, nonlinearity="relu")
    state = layer.__getstate__()
    del state["nonlinearity"]
    if not proj_size:
        del state["proj_size"]
    old = nn.RNN.__new__(nn.RNN)
    old.__setstate__(state)
    fast = seqfast.accelerate(old)
    x = torch.randn(3, 2, 4)
    assert fast.nonlinearity == "relu"
    torch.testing.assert_close(fast(x), layer(x))
    again = seqfast.nn.RNN.__new__(seqfast.nn.RNN)
    again.__setstate__(dict(state))
    torch.testing.assert_close(again(x), layer(x))


def test_copies_keep_a_list_that_does_not_fit(kind: str) -> None:
    """Emptied as users do, to copy a layer whose weights are computed."""
    layer = getattr(seqfast.nn, kind)(4, 5)
    x = torch.randn(3, 2, 4)
    before = layer(x)[0]
    layer._flat_weights = None
    with pytest.raises(RuntimeError, match=r"_flat_weights must be 4 tensors,.* got NoneType"):
        layer(x)
    layer._flat_weights = []
    for other in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        with pytest.raises(RuntimeError, match=r"_flat_weights must be 4 tensors,.* got 0"):
            other(x)
        torch.testing.assert_close(other.float()(x)[0], before)


def delete(layer: Any, weight: Tensor) -> None:
    del layer.weight_hh_l0


def delete_and_set(layer: Any, weight: Tensor) -> None:
    del layer.weight_hh_l0
    layer.weight_hh_l0 = weight


def delete_and_hide(layer: Any, weight: Tensor) -> None:
    del layer.weight_hh_l0
    object.__setattr__(layer, "weight_hh_l0", weight)


def delete_and_put_into_the_list(layer: Any, weight: Tensor) -> None:
    del layer.weight_hh_l0
    layer._flat_weights[1] = weight


def delete_and_register(layer: Any, weight: Tensor) -> None:
    del layer.weight_hh_l0
    layer.register_buffer("weight_hh_l0", weight)


def take_out_and_set(layer: Any, weight: Tensor) -> None:
    del layer._parameters["weight_hh_l0"]
    layer.weight_hh_l0 = weight


TAKING_OUT = [
    delete,
    delete_and_set,
    delete_and_hide,
    delete_and_put_into_the_list,
    delete_and_register,
    take_out_and_set,
]


@pytest.mark.parametrize("touched", [False, True], ids=["", "list"])
@pytest.mark.parametrize("take_out", TAKING_OUT)
def test_a_weight_is_taken_out(kind: str, take_out: Any, touched: bool) -> None:
    results = []
    x, weight = torch.randn(3, 2, 4), None
    for layer in ours_and_torchs(kind, 4, 5):
        if touched:
            assert layer._flat_weights
        if weight is None:
            weight = torch.randn_like(layer.weight_hh_l0)
        take_out(layer, weight)
        assert [name for name, _ in layer.named_parameters()].count("weight_hh_l0") == 0
        results.append([layer(x)[0], copy.deepcopy(layer)(x)[0]])
    torch.testing.assert_close(*results)


def test_a_weight_that_is_nowhere(kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5)
    del layer._parameters["weight_hh_l0"]
    with pytest.raises(AttributeError, match=r"weight_hh_l0 must be a tensor, got nothing.*Set it"):
        layer(torch.randn(3, 2, 4))

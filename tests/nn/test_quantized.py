"""Layers, cells and models in 8 bits: near the ones they are made of, kept, refused."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqfast
import seqfast.nn
from seqfast.reference import rnn_int8

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {"num_layers": 2, "bidirectional": True}),
    "gru": ("GRU", {"batch_first": True, "bias": False}),
    "rnn": ("RNN", {"nonlinearity": "relu"}),
    "projection": ("LSTM", {"proj_size": 7, "peephole": True}),
    "wired": ("GRU", {"num_layers": 3, "highway": True, "reset_after": False}),
    "dense": ("LSTM", {"num_layers": 3, "dense": True, "coupled_gates": True, "zoneout": 0.1}),
    "Jordan": ("RNN", {"feedback": "output", "output_size": 6}),
    "sizes": ("GRU", {"hidden": (32, 16)}),
}
CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def build(case: str) -> Any:
    kind, options = CASES[case]
    options = dict(options)
    return getattr(seqfast.nn, kind)(24, options.pop("hidden", 32), **options).eval()


def parts(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [x for r in result for x in parts(r)]


@pytest.mark.parametrize("case", CASES)
def test_layers_are_near(case: str) -> None:
    layer = build(case)
    small = seqfast.quantize(layer)
    assert type(small).__name__ == f"Quantized{CASES[case][0]}"
    x = torch.randn(9, 5, 24)
    with torch.no_grad():
        calls: list[dict[str, Any]] = [{}, {"lengths": torch.tensor([9, 1, 3, 9, 0][: x.shape[0]])}]
        if case != "gru":
            calls[1]["lengths"] = torch.tensor([9, 1, 3, 9, 0])
        else:
            x = torch.randn(5, 9, 24)
        for call in calls:
            for one, other in zip(parts(small(x, **call)), parts(layer(x, **call)), strict=True):
                assert one.shape == other.shape
                assert one.dtype == torch.float32
                assert (one - other).abs().max() < 0.05
                assert not torch.equal(one, other)
        hx = parts(layer(x)[1])
        if case in ("lstm", "rnn"):
            given = tuple(hx) if case == "lstm" else hx[0]
            torch.testing.assert_close(small(x, given), layer(x, given), rtol=0, atol=0.05)
            torch.testing.assert_close(small(x[:, 0])[0], layer(x[:, 0])[0], rtol=0, atol=0.05)


def test_a_layer_is_what_the_twin_says() -> None:
    layer = build("rnn")
    small: Any = seqfast.quantize(layer)
    x = torch.randn(9, 5, 24)
    weights = [small.weight_ih_l0, small.weight_hh_l0, small.bias_ih_l0, small.bias_hh_l0]
    row = [*(w.numpy() for w in weights), None]
    scales = small.weight_ih_l0_scale.numpy(), small.weight_hh_l0_scale.numpy()
    options = seqfast.ops.rnn.Options(nonlinearity="relu")
    wanted, *_ = rnn_int8.int8_forward(
        "rnn", x.numpy(), None, None, [row], [scales], options=options
    )
    torch.testing.assert_close(small(x)[0], torch.from_numpy(wanted), rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_near(kind: str) -> None:
    cell = getattr(seqfast.nn, kind)(24, 32).eval()
    small = seqfast.quantize(cell)
    x, hx = torch.randn(5, 24), torch.randn(5, 32).tanh()
    states = (hx, torch.randn(5, 32)) if kind == "LSTMCell" else hx
    for call in ((x,), (x, states)):
        torch.testing.assert_close(small(*call), cell(*call), rtol=0, atol=0.05)
    torch.testing.assert_close(small(x[0]), cell(x[0]), rtol=0, atol=0.05)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = seqfast.nn.LSTM(8, 16, bidirectional=True)
        self.decoder = seqfast.nn.GRUCell(32, 16)
        self.again = self.encoder
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        encoded, _ = self.again(self.encoder(x)[0][..., :8])
        return self.head(self.decoder(encoded[-1]))


def test_models() -> None:
    model = Model().eval()
    x = torch.randn(5, 2, 8)
    with torch.no_grad():
        wanted = model(x)
        assert seqfast.quantize(model) is model
        assert model.encoder is model.again
        assert type(model.head) is nn.Linear
        found = model(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)
    assert seqfast.quantize(model) is model  # nothing more to do
    size = sum(v.numel() * v.element_size() for v in model.encoder.state_dict().values())
    assert size < sum(4 * p.numel() for p in Model().encoder.parameters()) / 2
    # Its own file, and another model's weights.
    other = seqfast.quantize(Model().eval())
    assert set(other.state_dict()) == set(model.state_dict())
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(x), found)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(x), found)
        assert torch.equal(copy.deepcopy(model)(x), found)
        model.encoder.weight_hh_l0.zero_()
        assert torch.equal(model(x), found)  # it has a packed copy, until
        model.encoder.refresh()
        assert not torch.equal(model(x), found)
    assert not model.train().encoder.training


def test_all_or_nothing() -> None:
    for spoil, error, message in (
        (lambda m: m.decoder.weight_hh.data.fill_(float("nan")), ValueError, "finite, got NaN"),
        (lambda m: m.encoder.bias_ih_l0.data.fill_(float("inf")), ValueError, "must be finite"),
        (lambda m: m.decoder.train(), ValueError, r"decoder: .* evaluation: call eval\(\)"),
        (lambda m: m.double(), TypeError, "must be float32, got torch.float64"),
        (lambda m: setattr(m, "b", nn.LSTM(2, 3)), ValueError, "quantize: b .* accelerate first"),
        (
            lambda m: setattr(m, "b", seqfast.nn.GRU(2, 3, layer_norm=True).eval()),
            ValueError,
            "quantize: b: QuantizedGRU: layer_norm must be False",
        ),
        (lambda m: m.to("meta"), (ValueError, NotImplementedError), "on the CPU, got meta"),
    ):
        model = Model().eval()
        spoil(model)
        before = [type(module) for module in model.modules()]
        with pytest.raises(error, match=message):
            seqfast.quantize(model)
        assert [type(module) for module in model.modules()] == before
    with pytest.raises(ValueError, match="must have recurrent layers, got none"):
        seqfast.quantize(nn.Linear(2, 3))
    with pytest.raises(TypeError, match="must be a torch module, got int"):
        seqfast.quantize(3)  # type: ignore[type-var]


def test_what_is_refused_later() -> None:
    small: Any = seqfast.quantize(build("rnn"))
    x = torch.randn(9, 5, 24)
    with pytest.raises(ValueError, match="must not require gradients"):
        small(x.requires_grad_())
    with torch.no_grad():
        small(x)
    with pytest.raises(ValueError, match="input dtype"):
        small(x.detach().double())
    with pytest.raises(ValueError, match="stream has no kernel in 8 bits"):
        small.stream(5)
    lstm: Any = seqfast.quantize(seqfast.nn.LSTM(24, 32).eval())
    with pytest.raises(ValueError, match="return_cells has no kernel in 8 bits"):
        lstm(x.detach(), return_cells=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(small(x.detach())[0], small(x.detach())[0])
    small.half()
    with pytest.raises((TypeError, ValueError)):
        small(x.detach())


def test_hooks_are_each_module_s_own() -> None:
    layer = seqfast.nn.GRU(3, 4).eval()
    calls: list[str] = []
    layer.register_forward_hook(lambda *_: calls.append("before"))
    quantized = seqfast.quantize(layer)
    quantized.register_forward_hook(lambda *_: calls.append("after"))
    x = torch.randn(2, 1, 3)
    layer(x)
    assert calls == ["before"]
    with torch.no_grad():
        quantized(x)
    assert calls == ["before", "before", "after"]

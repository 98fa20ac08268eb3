"""What the layers and cells have beyond torch's, held against plain loops over rows and steps."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
from typing import Any

import pytest
import torch
from support.cases import Backend
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqfast.nn
from seqfast.ops.rnn.options import Options

from . import plain

STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 4
DTYPE = torch.float64
DEEP = {"num_layers": 3}

ANY_CELL: list[dict[str, Any]] = [
    {"bias": False},
    {"zoneout": 0.3},
    {"recurrent_dropout": 0.4, **DEEP, "bidirectional": True},
    {"input_dropout": 0.4, **DEEP, "bidirectional": True},
    {"weight_dropout": 0.4, **DEEP, "bidirectional": True},
    {"dropout": 0.4, **DEEP, "bidirectional": True},
    {"dropout": 1.0, **DEEP},
    {"layer_norm": True, "bidirectional": True},
    {"layer_norm": True, "bias": False},
    {"residual": True, "dropout": 0.4, **DEEP},
    {"residual": True, **DEEP, "bidirectional": True},
    {"dense": True, "dropout": 0.4, **DEEP, "bidirectional": True},
    {"highway": True, "dropout": 0.4, **DEEP, "bidirectional": True},
    {"hidden_size": (3, 5, 4)},
    {"hidden_size": [3, 2], "dense": True, "bidirectional": True},
]
LAYERS: list[tuple[str, dict[str, Any]]] = [
    *((kind, options) for kind in ("LSTM", "GRU", "RNN") for options in ANY_CELL),
    ("LSTM", {"peephole": True, "bidirectional": True}),
    ("LSTM", {"coupled_gates": True}),
    ("LSTM", {"forget_gate": False, "bidirectional": True}),
    ("LSTM", {"cell_clip": 0.1}),
    ("LSTM", {"gate_clip": 0.1}),
    ("LSTM", {"gate_clip": 0.2}),
    ("LSTM", {"forget_gate": False, "peephole": True, "bias": False}),
    ("LSTM", {"coupled_gates": True, "peephole": True, "gate_clip": 0.2, "cell_clip": 0.3}),
    ("LSTM", {"zoneout": (0.2, 0.5), "cell_clip": 0.3, "peephole": True}),
    ("LSTM", {"zoneout": (0.0, 0.5), "proj_size": 2, "bidirectional": True}),
    ("LSTM", {"zoneout": 0.3, "recurrent_dropout": 0.3, "proj_size": 2, "peephole": True}),
    ("LSTM", {"recurrent_dropout": 0.4, "recurrent_dropout_on": "update", **DEEP}),
    ("LSTM", {"coupled_gates": True, "layer_norm": True, "peephole": True}),
    ("LSTM", {"hidden_size": (3, 5), "proj_size": 2, "residual": True}),
    ("LSTM", {"peephole": "previous", "bidirectional": True, "gate_clip": 0.2}),
    ("LSTM", {"output_activation": "identity", "proj_size": 2}),
    ("LSTM", {"recurrent_dropout": 0.4, "recurrent_dropout_on": "cell", **DEEP}),
    ("LSTM", {"recurrent_dropout": 0.4, "recurrent_dropout_on": "cell", "zoneout": 0.3,
              "peephole": "previous", "output_activation": "identity", "layer_norm": True}),
    *((kind, {"weight_dropout": 0.4, "weight_dropout_on": "row", "bidirectional": True})
      for kind in ("LSTM", "GRU", "RNN")),
    ("GRU", {"reset_after": False, "bidirectional": True}),
    ("GRU", {"reset_after": False, "recurrent_dropout": 0.4, "zoneout": 0.2}),
    ("GRU", {"reset_after": False, "recurrent_dropout": 0.4, "recurrent_dropout_on": "update"}),
    ("GRU", {"reset_gate": False, "bidirectional": True}),
    ("GRU", {"reset_gate": False, "layer_norm": True}),
    ("GRU", {"recurrent_dropout": 0.4, "recurrent_dropout_on": "update", **DEEP}),
    ("RNN", {"nonlinearity": "relu", "layer_norm": True}),
    ("RNN", {"feedback": "output", "output_size": 3, "bidirectional": True, **DEEP}),
    ("RNN", {"feedback": "output", "output_size": 7, "output_nonlinearity": "sigmoid"}),
    ("RNN", {"feedback": "output", "output_nonlinearity": "tanh", "zoneout": 0.3, **DEEP}),
    (
        "RNN",
        {"feedback": "output", "output_nonlinearity": "relu", "bias": False, "residual": True,
         "recurrent_dropout": 0.3, "nonlinearity": "relu", **DEEP},
    ),
]  # fmt: skip
EVERYTHING: dict[str, dict[str, Any]] = {
    "LSTM": {
        "num_layers": 2,
        "peephole": True,
        "coupled_gates": True,
        "cell_clip": 1.0,
        "gate_clip": 2.0,
        "zoneout": (0.2, 0.3),
        "recurrent_dropout": 0.2,
        "recurrent_dropout_on": "update",
        "input_dropout": 0.2,
        "weight_dropout": 0.2,
        "dropout": 0.2,
        "layer_norm": True,
        "highway": True,
    },
    "GRU": {
        "num_layers": 2,
        "zoneout": 0.2,
        "recurrent_dropout": 0.2,
        "input_dropout": 0.2,
        "weight_dropout": 0.2,
        "dropout": 0.2,
        "layer_norm": True,
        "dense": True,
    },
    "RNN": {
        "num_layers": 2,
        "feedback": "output",
        "output_nonlinearity": "tanh",
        "zoneout": 0.2,
        "recurrent_dropout": 0.2,
        "input_dropout": 0.2,
        "weight_dropout": 0.2,
        "dropout": 0.2,
        "residual": True,
    },
}


def case_id(case: Any) -> str:
    if isinstance(case, dict):
        return ",".join(f"{name}={value}" for name, value in case.items())
    return str(case)


def make(kind: str, options: dict[str, Any], dtype: torch.dtype = DTYPE) -> Any:
    options = {"hidden_size": HIDDEN, **options}
    layer = getattr(seqfast.nn, kind)(INPUT, **options, dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():  # away from 0 and 1, so that each of them counts
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer


def states_of(layer: Any, *batch: int, dtype: torch.dtype = DTYPE) -> list[list[Tensor]]:
    """Random states by kind and layer."""
    directions = 2 if layer.bidirectional else 1
    groups = [layer._output_sizes, layer._hidden_sizes][: 2 if layer._cell == "lstm" else 1]
    return [[torch.randn(directions, *batch, n, dtype=dtype) for n in sizes] for sizes in groups]


def as_hx(layer: Any, states: list[list[Tensor]]) -> Any:
    """The same as the layer takes them."""
    ragged = isinstance(layer.hidden_size, tuple)
    groups = [tuple(group) if ragged else torch.cat(group) for group in states]
    return tuple(groups) if layer._cell == "lstm" else groups[0]


def results(layer: Any, output: Tensor, h_n: Any, c_n: Any, x: Tensor, states: Any) -> list[Any]:
    """Everything that comes out, and the gradients of everything that goes in."""
    found = [output, *h_n, *c_n]
    loss = sum((k + 1.0) * one.sin().sum() for k, one in enumerate(found)) + 0 * x.sum()
    leaves = [x, *(s for group in states or () for s in group), *layer.parameters()]
    assert isinstance(loss, Tensor)
    return found + list(torch.autograd.grad(loss, leaves, materialize_grads=True))


def by_layer(layer: Any, state: Any) -> list[Tensor]:
    return list(state if isinstance(state, tuple) else state.chunk(layer.num_layers))


def compare(layer: Any, with_states: bool = True, training: bool = True, **call: Any) -> None:
    """The layer beside the plain loop, in outputs, states and gradients."""
    layer.train(training)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE, requires_grad=True)
    states = states_of(layer, BATCH) if with_states else None
    for group in states or ():
        for state in group:
            state.requires_grad_()
    torch.manual_seed(5)
    output, h = layer(x, None if states is None else as_hx(layer, states), **call)
    h, c = h if layer._cell == "lstm" else (h, None)
    c_n = [] if c is None else by_layer(layer, c)
    found = results(layer, output, by_layer(layer, h), c_n, x, states)
    seed = plain.seed_of(5) if training else None
    output, h_n, c_n, _ = plain.run(layer, x, states, **call, seed=seed)
    wanted = results(layer, output, h_n, [] if c is None else c_n, x, states)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("kind", "options"), LAYERS, ids=case_id)
def test_option_in_training(kind: str, options: dict[str, Any]) -> None:
    layer = make(kind, options)
    compare(layer, lengths=torch.tensor([5, 0, 3]))
    compare(layer, with_states=False)


@pytest.mark.parametrize(("kind", "options"), LAYERS, ids=case_id)
def test_option_in_evaluation(kind: str, options: dict[str, Any]) -> None:
    compare(make(kind, options), training=False, lengths=torch.tensor([2, 5, 3]))


@pytest.mark.parametrize("kind", EVERYTHING)
@pytest.mark.parametrize("training", [True, False])
def test_everything_at_once(backend_once: Backend, kind: str, training: bool) -> None:
    layer = make(kind, EVERYTHING[kind])
    compare(layer, training=training)
    compare(
        layer,
        training=training,
        lengths=torch.tensor([5, 4, 3]),
        mask=torch.rand(STEPS, BATCH) > 0.4,
        reset=torch.rand(STEPS, BATCH) > 0.6,
    )


@pytest.mark.parametrize("kind", EVERYTHING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_everything_in_other_dtypes(kind: str, dtype: torch.dtype) -> None:
    layer = make(kind, EVERYTHING[kind], dtype)
    exact = copy.deepcopy(layer).double()
    x = torch.randn(STEPS, BATCH, INPUT, dtype=dtype)
    torch.manual_seed(5)
    output, _ = layer(x)
    output.float().sum().backward()
    wanted = plain.run(exact, x.double(), seed=plain.seed_of(5))[0]
    wanted.sum().backward()
    assert output.dtype == dtype
    near(output, wanted)
    for one, other in zip(layer.parameters(), exact.parameters(), strict=True):
        assert one.grad.dtype == dtype
        near(one.grad, other.grad)


def near(found: Tensor, wanted: Tensor) -> None:
    """By the norm: with few bits a rounded number may fall on the other side of a clip."""
    bound = {torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.2}[found.dtype]
    assert (found.double() - wanted).norm() <= bound * wanted.norm() + bound / 10


@pytest.mark.parametrize("kind", EVERYTHING)
def test_everything_with_autocast(backend_once: Backend, kind: str) -> None:
    layer = make(kind, EVERYTHING[kind], torch.float32)
    x = torch.randn(STEPS, BATCH, INPUT)
    torch.manual_seed(5)
    wanted = layer(x)[0]
    torch.manual_seed(5)
    with torch.autocast(backend_once.device, torch.bfloat16):
        output = layer(x)[0]
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), wanted, rtol=0.1, atol=0.1)
    output.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())


@pytest.mark.parametrize("kind", EVERYTHING)
def test_the_same_in_every_form(kind: str) -> None:
    """batch_first, unbatched and packed input, against the time-major batch."""
    layer = make(kind, EVERYTHING[kind])
    x, lengths = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE), torch.tensor([5, 4, 2])
    states = states_of(layer, BATCH)
    hx = as_hx(layer, states)

    def run(*args: Any, **options: Any) -> Any:
        torch.manual_seed(5)
        return layer(*args, **options)

    wanted, final = run(x, hx, lengths=lengths)
    packed, packed_final = run(pack_padded_sequence(x, lengths), hx)
    torch.testing.assert_close(pad_packed_sequence(packed)[0], wanted)
    torch.testing.assert_close(packed_final, final)

    mask, reset = torch.rand(STEPS, BATCH) > 0.3, torch.rand(STEPS, BATCH) > 0.7
    wanted = run(x, hx, mask=mask, reset=reset)
    layer.batch_first = True
    turned = run(x.transpose(0, 1), hx, mask=mask.T, reset=reset.T)
    torch.testing.assert_close(turned[0].transpose(0, 1), wanted[0])
    torch.testing.assert_close(turned[1], wanted[1])
    layer.batch_first = False

    alone = run(
        x[:, 0],
        torch.utils._pytree.tree_map(lambda state: state[:, 0], hx),
        mask=mask[:, 0],
        reset=reset[:, 0],
    )
    torch.testing.assert_close(alone[0], wanted[0][:, 0])
    final = torch.utils._pytree.tree_map(lambda state: state[:, 0], wanted[1])
    torch.testing.assert_close(alone[1], final)


# Steps that are skipped, and states that are reset.


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"num_layers": 2}),
        ("LSTM", {"num_layers": 2, "bidirectional": True, "dropout": 0.4, "zoneout": 0.3}),
        ("LSTM", {"layer_norm": True, "peephole": True}),
        ("GRU", {"num_layers": 2}),
        ("GRU", {"bidirectional": True, "hidden_size": (3, 2)}),
        ("RNN", {"highway": True, "num_layers": 2}),
    ],
    ids=case_id,
)
@pytest.mark.parametrize("with_lengths", [False, True], ids=["", "lengths"])
@pytest.mark.parametrize("with_mask", [False, True], ids=["", "mask"])
@pytest.mark.parametrize("with_reset", [False, True], ids=["", "reset"])
def test_lengths_mask_and_reset(
    backend_once: Backend,
    kind: str,
    options: dict[str, Any],
    with_lengths: bool,
    with_mask: bool,
    with_reset: bool,
) -> None:
    layer = make(kind, options)
    call: dict[str, Any] = {}
    if with_lengths:
        call["lengths"] = torch.tensor([4, 0, 5])
    if with_mask:
        call["mask"] = torch.rand(STEPS, BATCH) > 0.4
    if with_reset and not layer.bidirectional:
        call["reset"] = torch.rand(STEPS, BATCH) > 0.6
    compare(layer, **call)


@pytest.mark.parametrize(
    "mask", [torch.zeros(STEPS, BATCH), torch.ones(STEPS, BATCH)], ids=["0", "1"]
)
@pytest.mark.parametrize(
    "reset", [torch.zeros(STEPS, BATCH), torch.ones(STEPS, BATCH)], ids=["0", "1"]
)
def test_all_or_nothing(mask: Tensor, reset: Tensor) -> None:
    compare(make("LSTM", {"num_layers": 2}), mask=mask.bool(), reset=reset.bool())


def test_reset_past_the_last_step_that_runs() -> None:
    layer = make("LSTM", {})
    x, hx = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE), as_hx(layer, states_of(layer, BATCH))
    mask = torch.ones(STEPS, BATCH, dtype=torch.bool)
    mask[3:, 0] = mask[:, 2] = False
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[4] = True
    _, (h_n, c_n) = layer(x, hx, mask=mask, reset=reset)
    assert not h_n[:, [0, 2]].any()
    assert not c_n[:, [0, 2]].any()
    assert h_n[:, 1].all()
    # Past a row's length it is not looked at.
    lengths = torch.tensor([4, 4, 4])
    for now in (
        layer(x, hx, mask=mask, reset=reset, lengths=lengths),
        layer(x, hx, mask=mask, lengths=lengths),
    ):
        assert now[1][0].any(-1).all()
    torch.testing.assert_close(
        layer(x, hx, reset=reset, lengths=lengths), layer(x, hx, lengths=lengths)
    )


def test_no_gradient_crosses_a_reset(backend_once: Backend) -> None:
    for kind in ("LSTM", "GRU", "RNN"):
        layer = make(kind, {"num_layers": 2})
        x = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE, requires_grad=True)
        reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
        reset[2, 1] = True
        output, _ = layer(x, reset=reset)
        (grad,) = torch.autograd.grad(output[2:].sum(), x)
        assert not grad[:2, 1].any()
        assert grad[:2, [0, 2]].all()
        torch.testing.assert_close(output[2:, 1], layer(x[2:, 1])[0])


def test_what_is_skipped_is_not_read(backend_once: Backend) -> None:
    for options in ({}, {"layer_norm": True, "dense": True, "num_layers": 2}):
        for call in (
            {"mask": torch.rand(STEPS, BATCH) > 0.4},
            {"lengths": torch.tensor([2, 0, 5])},
        ):
            layer = make("LSTM", options)
            clean = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE)
            on = (
                torch.arange(STEPS)[:, None] < call["lengths"]
                if "lengths" in call
                else call["mask"]
            )
            dirty = torch.where(on[:, :, None], clean, torch.nan)
            found = []
            for x in (clean, dirty):
                x.requires_grad_()
                output = layer(x, **call)[0]
                grads = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
                found.append([output, *grads])
            for one, other in zip(*found, strict=True):
                torch.testing.assert_close(one, other)


@pytest.mark.parametrize("batch_first", [False, True])
def test_cells_with_a_mask(batch_first: bool) -> None:
    layer = make("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": batch_first})
    x = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE)
    mask = torch.rand(STEPS, BATCH) > 0.4
    wanted = torch.stack(plain.run(layer, x, mask=mask)[3])
    arguments = (x.transpose(0, 1), mask.T) if batch_first else (x, mask)
    cells = layer(arguments[0], mask=arguments[1], return_cells=True)[2]
    torch.testing.assert_close(cells, wanted.transpose(1, 2) if batch_first else wanted)
    assert torch.equal(wanted.any(-1)[0], mask)


def test_lengths_beside_a_mask_count_as_the_nearer_end() -> None:
    layer = make("GRU", {})
    x, mask = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE), torch.rand(STEPS, BATCH) > 0.4
    torch.testing.assert_close(
        layer(x, mask=mask, lengths=torch.tensor([-1, 99, 3], dtype=torch.int8)),
        layer(x, mask=mask, lengths=torch.tensor([0, STEPS, 3])),
    )


# Layers with sizes of their own.


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_sizes_of_their_own(kind: str) -> None:
    layer = make(kind, {"hidden_size": [3, 5], "bidirectional": True})
    assert layer.hidden_size == (3, 5)
    assert layer.num_layers == 2
    assert layer.weight_ih_l1_reverse.shape[1] == 6
    x = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE)
    output, state = layer(x)
    h_n = state[0] if kind == "LSTM" else state
    assert output.shape == (STEPS, BATCH, 10)
    assert [tuple(h.shape) for h in h_n] == [(2, BATCH, 3), (2, BATCH, 5)]
    alone, state = layer(x[:, 0])
    torch.testing.assert_close(alone, output[:, 0])
    torch.testing.assert_close((state[0] if kind == "LSTM" else state)[1], h_n[1][:, 0])
    packed, state = layer(pack_padded_sequence(x, [5, 5, 5]))
    torch.testing.assert_close(packed.data, output.flatten(0, 1))
    torch.testing.assert_close((state[0] if kind == "LSTM" else state)[0], h_n[0])
    if kind == "LSTM":
        cells = layer(x, return_cells=True)[2]
        assert [tuple(c.shape) for c in cells] == [(STEPS, BATCH, 6), (STEPS, BATCH, 10)]
        cells = layer(pack_padded_sequence(x, [5, 5, 5]), return_cells=True)[2]
        assert [tuple(c.shape) for c in cells] == [(15, 6), (15, 10)]


@pytest.mark.parametrize(
    ("hx", "error", "message"),
    [
        (torch.zeros(1, 3, 3), TypeError, "hx must be a tuple of one tensor for each layer"),
        ((torch.zeros(1, 3, 3),), RuntimeError, "hx must be 2 tensors, one for each layer, got 1"),
        ((torch.zeros(1, 3, 3), None), TypeError, r"hx\[1\] must be a torch tensor"),
        ((torch.zeros(1, 3, 3), torch.zeros(1, 3, 4)), RuntimeError, r"\[1\] size \(1, 3, 5\)"),
        ((torch.zeros(1, 3, 3), torch.zeros(1, 5)), RuntimeError, "but got 3-D, 2-D tensor"),
        ((torch.zeros(1, 3, 3), torch.zeros(1, 3, 5).double()), RuntimeError, r"hidden\[1\] dtype"),
    ],
)  # fmt: skip
def test_states_of_layers_with_sizes_of_their_own(
    hx: Any, error: type[Exception], message: str
) -> None:
    layer = seqfast.nn.GRU(INPUT, (3, 5))
    with pytest.raises(error, match=f"^GRU: .*{message}"):
        layer(torch.zeros(STEPS, BATCH, INPUT), hx)


# Parameters.


def test_parameters_have_their_names_and_shapes() -> None:
    layer = seqfast.nn.LSTM(3, 4, 2, bidirectional=True, peephole=True, layer_norm=True)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes["weight_peephole_l1_reverse"] == (3, 4)
    assert shapes["weight_norm_ih_l0"] == shapes["weight_norm_hh_l0_reverse"] == (16,)
    assert shapes["weight_norm_cell_l1"] == shapes["bias_norm_cell_l1"] == (4,)
    assert [len(row) for row in layer.all_weights] == [9] * 4
    layer = seqfast.nn.LSTM(3, 4, coupled_gates=True)
    assert layer.weight_ih_l0.shape == (12, 3)
    layer = seqfast.nn.GRU(3, 4, 2, reset_gate=False, highway=True)
    assert layer.weight_hh_l0.shape == (8, 4)
    assert layer.weight_highway_l1.shape == (4, 4)
    assert not hasattr(layer, "weight_highway_l0")
    layer = seqfast.nn.RNN(3, 4, 2, feedback="output", output_size=7)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes["weight_hr_l0"] == (7, 4)
    assert shapes["bias_hr_l0"] == (7,)
    assert shapes["weight_hh_l0"] == (4, 7)
    assert shapes["weight_ih_l1"] == (4, 7)
    layer = seqfast.nn.GRU(3, (4, 5), dense=True, bidirectional=True)
    assert layer.weight_ih_l1.shape == (15, 11)


def test_parameters_start_as_documented() -> None:
    layer = seqfast.nn.LSTM(
        3, (4, 9), layer_norm=True, forget_bias=3.0, bidirectional=True, dense=True
    )
    for name, parameter in layer.named_parameters():
        bound = 1 / (2 if "_l0" in name else 3)
        if "norm" in name:
            assert bool((parameter == float(name.startswith("weight"))).all())
        elif name.startswith("bias_ih"):
            size = len(parameter) // 4
            forget = parameter[size : 2 * size]
            assert bool(((forget - 3).abs() <= bound).all())
            assert bool((parameter[:size].abs() <= bound).all())
        else:
            assert bool((parameter.abs() <= bound).all())
    highway = seqfast.nn.GRU(3, 4, 2, highway=True)
    assert bool((highway.bias_highway_l1 == -1).all())
    cell = seqfast.nn.LSTMCell(3, 4, forget_bias=3.0, layer_norm=True)
    assert bool(((cell.bias_ih[4:8] - 3).abs() <= 0.5).all())
    assert bool((cell.weight_norm_cell == 1).all())


@pytest.mark.parametrize("kind", EVERYTHING)
def test_copies_pickles_and_conversions(kind: str) -> None:
    layer = make(kind, EVERYTHING[kind])
    x = torch.randn(STEPS, BATCH, INPUT, dtype=DTYPE)
    torch.manual_seed(5)
    wanted = layer(x)
    other = getattr(seqfast.nn, kind)(INPUT, HIDDEN, **EVERYTHING[kind], dtype=DTYPE)
    other.load_state_dict(layer.state_dict())
    for same in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        torch.manual_seed(5)
        torch.testing.assert_close(same(x), wanted, rtol=0, atol=0)
        assert repr(same) == repr(layer)
    for name, value in EVERYTHING[kind].items():
        assert f"{name}={value}" in repr(layer)
    assert layer.half()(x.half())[0].dtype == torch.float16
    layer.to("meta")
    assert layer(x.half().to("meta"))[0].shape == wanted[0].shape


# Cells.

CELLS: list[tuple[str, dict[str, Any]]] = [
    ("LSTMCell", {"peephole": True}),
    ("LSTMCell", {"coupled_gates": True, "bias": False}),
    ("LSTMCell", {"forget_gate": False, "peephole": True}),
    ("LSTMCell", {"cell_clip": 0.1, "gate_clip": 0.2}),
    ("LSTMCell", {"layer_norm": True}),
    ("LSTMCell", {"peephole": "previous", "output_activation": "identity"}),
    ("LSTMCell", {"zoneout": (0.3, 0.4), "recurrent_dropout": 0.4, "layer_norm": True}),
    ("GRUCell", {"reset_after": False}),
    ("GRUCell", {"reset_gate": False}),
    ("GRUCell", {"layer_norm": True, "bias": False}),
    ("GRUCell", {"zoneout": 0.4, "recurrent_dropout": 0.4}),
    ("RNNCell", {"nonlinearity": "relu", "layer_norm": True}),
    ("RNNCell", {"zoneout": 0.4}),
]


@pytest.mark.parametrize(("kind", "options"), CELLS, ids=case_id)
@pytest.mark.parametrize("training", [True, False])
def test_cell_options(
    backend_once: Backend, kind: str, options: dict[str, Any], training: bool
) -> None:
    cell = getattr(seqfast.nn, kind)(INPUT, HIDDEN, **options, dtype=DTYPE).train(training)
    x = torch.randn(2, BATCH, INPUT, dtype=DTYPE, requires_grad=True)
    count = 2 if kind == "LSTMCell" else 1
    start = [torch.randn(BATCH, HIDDEN, dtype=DTYPE, requires_grad=True) for _ in range(count)]
    state: Any = start
    for t in range(2):
        torch.manual_seed(t)
        state = cell(x[t], state if count == 2 else state[0])
        state = state if count == 2 else [state]
    leaves = [x, *start, *cell.parameters()]
    found = [*state, *torch.autograd.grad(sum(s.sin().sum() for s in state), leaves)]

    weights = plain.named(cell)
    h, c = start[0], start[-1]
    shape = (1, BATCH, HIDDEN)
    zoneout = cell.zoneout if isinstance(cell.zoneout, tuple) else (cell.zoneout, 0.0)
    for t in range(2):
        seed = plain.seed_of(t) if training else None
        update = plain.scale(seed, "update", cell.recurrent_dropout, (0, 0), shape)
        keep_h = plain.stays(seed, "zoneout_hidden", zoneout[0], (0, 0), shape)
        keep_c = plain.stays(seed, "zoneout_cell", zoneout[1], (0, 0), shape)
        first = [None if mask is None else mask[0] for mask in (update, keep_h, keep_c)]
        h, c = plain.step(cell, weights, x[t], h, c, None, *first)
    state = [h, c][:count]
    wanted = [*state, *torch.autograd.grad(sum(s.sin().sum() for s in state), leaves)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_cells_show_their_options() -> None:
    cell = seqfast.nn.LSTMCell(3, 4, peephole=True, recurrent_dropout=0.5)
    assert repr(cell) == "LSTMCell(3, 4, peephole=True, recurrent_dropout=0.5)"
    assert repr(pickle.loads(pickle.dumps(cell))) == repr(cell)


# Mistakes.


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("LSTM", {"peephole": 1}, TypeError, "peephole must be True or False, got 1"),
        ("LSTM", {"coupled_gates": True, "forget_gate": False}, ValueError, "forget_gate=False"),
        ("LSTM", {"forget_bias": "1"}, TypeError, "must be a finite number, or None, got '1'"),
        ("LSTM", {"forget_bias": 1, "coupled_gates": True}, ValueError, "needs a forget gate"),
        ("LSTM", {"forget_bias": 1, "bias": False}, ValueError, "got bias=False"),
        ("LSTM", {"forget_bias": math.nan}, ValueError, "forget_bias must be a finite .* got nan"),
        ("LSTM", {"cell_clip": 0}, ValueError, "cell_clip must be a finite number .* got 0"),
        ("LSTM", {"cell_clip": math.inf}, ValueError, "cell_clip must be a finite .* got inf"),
        ("LSTM", {"gate_clip": -1.0}, ValueError, "gate_clip must be .* got -1.0"),
        ("LSTM", {"zoneout": 1.5}, ValueError, "must be a number from 0 to 1, got 1.5"),
        ("LSTM", {"zoneout": (0.1,)}, ValueError, r"p or \(p_hidden, p_cell\), got \(0.1,\)"),
        ("LSTM", {"zoneout": (0.1, "a")}, TypeError, "zoneout must be a number .* got 'a'"),
        ("GRU", {"zoneout": (0.1, 0.1)}, ValueError, r"zoneout must be p, got \(0.1, 0.1\)"),
        ("LSTM", {"recurrent_dropout": -0.1}, ValueError, "recurrent_dropout must be a number"),
        ("LSTM", {"recurrent_dropout_on": "x"}, ValueError, "'update' or 'cell', got 'x'"),
        ("GRU", {"recurrent_dropout_on": "cell"}, ValueError, "'hidden' or 'update', got 'cell'"),
        ("LSTM", {"peephole": "next"}, ValueError, "True, False or 'previous', got 'next'"),
        ("LSTM", {"output_activation": "relu"}, ValueError, "'tanh' or 'identity', got 'relu'"),
        ("GRU", {"weight_dropout_on": "x"}, ValueError, "'element' or 'row', got 'x'"),
        ("RNN", {"recurrent_dropout_on": "update"}, ValueError, "must be 'hidden', got 'update'"),
        ("GRU", {"input_dropout": True}, TypeError, "input_dropout must be .* got True"),
        ("GRU", {"weight_dropout": 2}, ValueError, "weight_dropout must be .* got 2"),
        ("GRU", {"reset_after": False, "reset_gate": False}, ValueError, "needs a reset gate"),
        ("GRU", {"reset_after": False, "layer_norm": True}, ValueError, "needs reset_after=True"),
        ("LSTM", {"proj_size": 2, "layer_norm": True}, ValueError, "without .* got proj_size=2"),
        ("RNN", {"feedback": "output", "layer_norm": True}, ValueError, "got feedback='output'"),
        ("RNN", {"feedback": "both"}, ValueError, "'hidden' or 'output', got 'both'"),
        ("RNN", {"output_size": 3}, ValueError, "need feedback='output', got output_size=3"),
        ("RNN", {"output_nonlinearity": "tanh"}, ValueError, "need feedback='output'"),
        ("RNN", {"feedback": "output", "output_size": 0}, ValueError, "must be at least 1, got 0"),
        ("RNN", {"feedback": "output", "output_size": 1.5}, TypeError, "an integer, got 1.5"),
        ("RNN", {"feedback": "output", "hidden_size": (3, 4)}, ValueError, "must be given"),
        ("RNN", {"feedback": "output", "output_nonlinearity": "x"}, ValueError, "got 'x'"),
        ("RNN", {"nonlinearity": "x"}, ValueError, "Unknown nonlinearity 'x'"),
        ("GRU", {"proj_size": 2}, ValueError, "only supported for LSTM, not RNN or GRU, got 2"),
        ("GRU", {"hidden_size": (3, 4), "num_layers": 3}, ValueError, r"3 layers, got \(3, 4\)"),
        ("GRU", {"hidden_size": ()}, ValueError, "hidden_size must be an int or one for each"),
        ("GRU", {"hidden_size": (3, 0)}, ValueError, "must be greater than zero, got 0"),
        ("GRU", {"hidden_size": (3, 4.0)}, TypeError, "hidden_size should be of type int"),
        (
            "GRU",
            {"hidden_size": (3, 4), "residual": True},
            ValueError,
            r"equal output sizes, got \[3, 4\]",
        ),
        ("GRU", {"hidden_size": (3, 4), "highway": True}, ValueError, "highway=True needs layers"),
        ("GRU", {"dense": True, "residual": True}, ValueError, "got residual and dense"),
    ],
    ids=case_id,
)  # fmt: skip
def test_constructor_refuses(
    kind: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{kind}: .*{message}"):
        getattr(seqfast.nn, kind)(3, **{"hidden_size": 4, **options})


FLAGS = torch.ones(2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("options", "call", "error", "message"),
    [
        ({}, {"mask": [[True]]}, TypeError, "mask must be a torch tensor, got list"),
        ({}, {"mask": FLAGS.int()}, TypeError, "mask must be bool, got torch.int32"),
        ({}, {"mask": FLAGS[:1]}, ValueError, r"mask must be \[2, 2\], got \[1, 2\]"),
        ({}, {"mask": FLAGS.to("meta")}, ValueError, "mask must be on cpu, as input is, got meta"),
        ({}, {"mask": FLAGS, "lengths": torch.ones(2)}, TypeError, "lengths must be integers"),
        ({}, {"mask": FLAGS, "lengths": FLAGS.sum(0)[:1]}, ValueError, r"\[2\], got \[1\]"),
        ({}, {"reset": FLAGS.float()}, TypeError, "reset must be bool, got torch.float32"),
        ({}, {"reset": FLAGS[0]}, ValueError, r"reset must be \[2, 2\], got \[2\]"),
        ({"bidirectional": True}, {"reset": FLAGS}, ValueError, "reset needs bidirectional=False"),
    ],
    ids=str,
)
def test_call_refuses(
    options: dict[str, Any], call: dict[str, Any], error: type[Exception], message: str
) -> None:
    layer = seqfast.nn.GRU(3, 4, **options)
    with pytest.raises(error, match=f"^GRU: .*{message}"):
        layer(torch.zeros(2, 2, 3), **call)


@pytest.mark.parametrize("argument", ["lengths", "mask", "reset"])
def test_packed_input_takes_no_other_lengths(argument: str) -> None:
    packed = pack_padded_sequence(torch.zeros(2, 2, 3), torch.tensor([2, 1]))
    message = f"^GRU: {argument} must be None for a PackedSequence, which has its own lengths"
    with pytest.raises(ValueError, match=message):
        seqfast.nn.GRU(3, 4)(packed, **{argument: FLAGS})


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_constructors_and_options_agree(kind: str) -> None:
    """What a constructor spells is what its frozen options object has, with the same defaults."""
    module_type = getattr(seqfast.nn, kind)
    known = {option.name: option.default for option in dataclasses.fields(module_type._Options)}
    parameters = inspect.signature(module_type).parameters.values()
    spelled = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    if kind in ("GRU", "RNN"):
        assert spelled.pop("proj_size") is None  # taken only to be refused
    assert spelled.items() <= known.items()
    if not kind.endswith("Cell"):
        assert spelled.keys() == known.keys()
    module = module_type(3, 4)
    for name, default in spelled.items():
        assert getattr(module, name) == getattr(module_type, name) == default
    with pytest.raises(dataclasses.FrozenInstanceError):
        module._options.zoneout = 0.5


def test_options_follow_their_attributes() -> None:
    layer = seqfast.nn.LSTM(3, 4, cell_clip=2.0, zoneout=[0.1, 0.2])
    assert layer._kernel_options(3) == Options(cell_clip=2.0, zoneout=(0.1, 0.2), layer=3)
    layer.cell_clip, layer.zoneout = None, 0.3
    assert layer._options == type(layer)._Options(zoneout=0.3)
    assert layer._kernel_options() == Options(zoneout=(0.3, 0.3))

"""The twin itself: against loops in torch, finite differences, torch's modules and ONNX's words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.reference import rnn as reference
from seqfast.reference.dropout import events
from seqfast.reference.rnn import Options

from .loops import Problem, gate_count, loop, onnx_gru, onnx_lstm

PLAIN = Options()
SEED = 2**40 + 17
WANTED = {
    "lstm": ("output", "hidden_n", "cell_n", "cells", "gates"),
    "gru": ("output", "hidden_n", "gates"),
    "rnn": ("output", "hidden_n", "gates"),
}


@dataclass(frozen=True)
class Variant:
    """A cell with options, and what its layer has."""

    kind: str
    options: Options = PLAIN
    proj: int = 0
    bias: bool = True
    bias_hr: bool = False
    peephole: bool = False
    norm: bool = False
    product: bool = False  # without weight_ih
    states: bool = True
    training: bool = False


ZONEOUT = Options(zoneout=(0.4, 0.3))
ON_HIDDEN = Options(recurrent_dropout=0.4)
ON_UPDATE = Options(recurrent_dropout=0.4, recurrent_dropout_on="update")
ON_CELL = Options(recurrent_dropout=0.4, recurrent_dropout_on="cell")
PREVIOUS = Options(peephole_on="previous")
LINEAR = Options(output_activation="identity")
CLIPS = Options(gate_clip=0.7, cell_clip=0.4)
COUPLED = Options(coupled_gates=True)
FORGETLESS = Options(forget_gate=False)
BEFORE = Options(reset_after=False)
UPDATE_GATE = Options(reset_gate=False)
RELU = Options(nonlinearity="relu")
HOLD = Options(zoneout=(0.4, 0.0))  # where there is no cell state


def _with(*options: Options) -> Options:
    """What any of them asks for."""
    plain = PLAIN._asdict()
    return PLAIN._replace(
        **{k: v for one in options for k, v in one._asdict().items() if v != plain[k]}
    )


VARIANTS: dict[str, Variant] = {
    "lstm": Variant("lstm"),
    "lstm-bare": Variant("lstm", bias=False, states=False),
    "lstm-proj": Variant("lstm", proj=2),
    "lstm-product": Variant("lstm", product=True),
    "lstm-peephole": Variant("lstm", peephole=True),
    "lstm-gate_clip": Variant("lstm", Options(gate_clip=0.7)),
    "lstm-cell_clip": Variant("lstm", Options(cell_clip=0.4)),
    "lstm-coupled": Variant("lstm", COUPLED),
    "lstm-coupled-peephole-clips": Variant("lstm", _with(COUPLED, CLIPS), peephole=True),
    "lstm-forgetless": Variant("lstm", FORGETLESS),
    "lstm-forgetless-peephole-clips": Variant("lstm", _with(FORGETLESS, CLIPS), peephole=True),
    "lstm-zoneout": Variant("lstm", ZONEOUT, training=True),
    "lstm-zoneout-evaluation": Variant("lstm", ZONEOUT),
    "lstm-on_hidden": Variant("lstm", ON_HIDDEN, training=True),
    "lstm-on_hidden-evaluation": Variant("lstm", ON_HIDDEN),
    "lstm-on_update": Variant("lstm", ON_UPDATE, training=True),
    "lstm-on_update-evaluation": Variant("lstm", ON_UPDATE),
    "lstm-norm": Variant("lstm", norm=True),
    "lstm-norm-product-bare": Variant("lstm", norm=True, product=True, bias=False),
    "lstm-everything": Variant(
        "lstm",
        _with(CLIPS, ZONEOUT, ON_UPDATE, Options(layer=3)),
        peephole=True,
        norm=True,
        training=True,
    ),
    "lstm-everything-evaluation": Variant(
        "lstm", _with(CLIPS, ZONEOUT, ON_UPDATE), peephole=True, norm=True
    ),
    "lstm-coupled-everything": Variant(
        "lstm",
        _with(COUPLED, CLIPS, ZONEOUT, ON_HIDDEN),
        peephole=True,
        norm=True,
        training=True,
    ),
    "lstm-forgetless-everything": Variant(
        "lstm",
        _with(FORGETLESS, CLIPS, ZONEOUT, ON_UPDATE),
        peephole=True,
        norm=True,
        training=True,
    ),
    "lstm-proj-everything": Variant(
        "lstm", _with(CLIPS, ZONEOUT, ON_HIDDEN), proj=2, peephole=True, training=True
    ),
    "lstm-previous": Variant("lstm", PREVIOUS, peephole=True),
    "lstm-linear": Variant("lstm", LINEAR),
    "lstm-on_cell": Variant("lstm", ON_CELL, training=True),
    "lstm-on_cell-evaluation": Variant("lstm", ON_CELL),
    "lstm-new-everything": Variant(
        "lstm",
        _with(PREVIOUS, LINEAR, ON_CELL, CLIPS, ZONEOUT),
        peephole=True,
        norm=True,
        training=True,
    ),
    "lstm-coupled-new-everything": Variant(
        "lstm", _with(PREVIOUS, LINEAR, ON_CELL, COUPLED, CLIPS), peephole=True, proj=2
    ),
    "gru": Variant("gru"),
    "gru-bare": Variant("gru", bias=False, states=False),
    "gru-product": Variant("gru", product=True),
    "gru-norm": Variant("gru", norm=True),
    "gru-norm-bare": Variant("gru", norm=True, bias=False),
    "gru-zoneout-on_hidden": Variant("gru", _with(HOLD, ON_HIDDEN), training=True),
    "gru-evaluation": Variant("gru", _with(HOLD, ON_HIDDEN)),
    "gru-on_update": Variant("gru", ON_UPDATE, training=True),
    "gru-everything": Variant(
        "gru", _with(HOLD, ON_UPDATE), norm=True, product=True, training=True
    ),
    "gru_before": Variant("gru", BEFORE),
    "gru_before-bare": Variant("gru", BEFORE, bias=False, states=False),
    "gru_before-product": Variant("gru", BEFORE, product=True),
    "gru_before-everything": Variant("gru", _with(BEFORE, HOLD, ON_HIDDEN), training=True),
    "gru_before-on_update": Variant("gru", _with(BEFORE, ON_UPDATE), training=True),
    "gru_update": Variant("gru", UPDATE_GATE),
    "gru_update-bare": Variant("gru", UPDATE_GATE, bias=False, states=False),
    "gru_update-everything": Variant(
        "gru", _with(UPDATE_GATE, HOLD, ON_UPDATE), norm=True, training=True
    ),
    "gru_update-on_hidden": Variant("gru", _with(UPDATE_GATE, ON_HIDDEN), training=True),
    "rnn": Variant("rnn"),
    "rnn-bare": Variant("rnn", bias=False, states=False),
    "rnn-relu": Variant("rnn", RELU),
    "rnn-product": Variant("rnn", RELU, product=True),
    "rnn-norm": Variant("rnn", norm=True),
    "rnn-relu-everything": Variant("rnn", _with(RELU, HOLD, ON_HIDDEN), norm=True, training=True),
    **{
        f"jordan-{act}": Variant(
            "rnn", Options(output_nonlinearity=act), proj=2, bias_hr=act != "relu"
        )
        for act in ("identity", "tanh", "relu", "sigmoid")
    },
    "jordan-everything": Variant(
        "rnn",
        _with(RELU, HOLD, ON_HIDDEN, Options(output_nonlinearity="sigmoid")),
        proj=7,
        bias_hr=True,
        training=True,
    ),
    "jordan-evaluation": Variant(
        "rnn",
        _with(HOLD, Options(output_nonlinearity="tanh")),
        proj=3,
        bias_hr=True,
    ),
    "jordan-relu-evaluation": Variant(
        "rnn", _with(HOLD, Options(output_nonlinearity="relu")), proj=7, bias_hr=True
    ),
}
# Directions, lengths, resets.
CONTEXTS = {"": (1, False, False), "both-ragged": (2, True, False), "reset": (1, True, True)}
CASES = [
    pytest.param(variant, *context, id="-".join(filter(None, (name, at))))
    for (name, variant), (at, context) in itertools.product(VARIANTS.items(), CONTEXTS.items())
]
each_case = pytest.mark.parametrize(("variant", "directions", "ragged", "resets"), CASES)
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def make(
    variant: Variant, directions: int, ragged: bool, resets: bool, size: int = 5, seed: int = 0
) -> Problem:
    rng = np.random.default_rng(seed)
    steps, batch, input_size = 5, 4, 3
    gates = gate_count(variant.kind, variant.options) * size
    output_size = variant.proj or size

    def draw(*shape: int, wanted: bool = True) -> Any:
        return rng.standard_normal(shape) * 0.7 if wanted else None

    weights = [
        [
            draw(gates, input_size, wanted=not variant.product),
            draw(gates, output_size),
            draw(gates, wanted=variant.bias),
            draw(gates, wanted=variant.bias),
            draw(output_size, size, wanted=variant.proj > 0),
            draw(output_size, wanted=variant.bias_hr),
            draw(3, size, wanted=variant.peephole),
            draw(gates, wanted=variant.norm),
            draw(size, wanted=variant.norm and variant.kind == "lstm"),
            draw(size, wanted=variant.norm and variant.kind == "lstm"),
        ]
        for _ in range(directions)
    ]
    return Problem(
        variant.kind,
        variant.options,
        draw(steps, batch, directions * gates if variant.product else input_size),
        draw(directions, batch, output_size, wanted=variant.states),
        draw(directions, batch, size, wanted=variant.states and variant.kind == "lstm"),
        weights,
        np.array([3, 0, steps, 2]) if ragged else None,
        # At a first step, twice in a row, at a last step, in padding.
        np.array([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0] * 4, [1, 0, 1, 1]]) > 0
        if resets
        else None,
        SEED if variant.training else None,
    )


def grads_like(problem: Problem, results: dict[str, Any], seed: int = 1) -> dict[str, np.ndarray]:
    """Gradients of all results that take one."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(tuple(results[name].shape))
        for name in WANTED[problem.kind]
        if name != "gates"
    }


def forward(problem: Problem, **more: Any) -> dict[str, Any]:
    states = (problem.hidden, problem.cell) if problem.kind == "lstm" else (problem.hidden,)
    results = getattr(reference, f"{problem.kind}_forward")(
        problem.input,
        *states,
        problem.weights,
        problem.lengths,
        reset=problem.reset,
        seed=problem.seed,
        options=problem.options,
        **more,
    )
    names = WANTED[problem.kind]
    if problem.weights[0][7] is not None:
        names = (*names, "statistics")
    return dict(zip(names, results, strict=True))


def backward(
    problem: Problem, results: dict[str, Any], grads: dict[str, Any], **more: Any
) -> dict[str, Any]:
    lstm = problem.kind == "lstm"
    states = (problem.hidden, problem.cell) if lstm else (problem.hidden,)
    names = ("output", "hidden_n", "cell_n", "cells") if lstm else ("output", "hidden_n")
    kept = ("output", "cells", "gates") if lstm else ("output", "gates")
    found = getattr(reference, f"{problem.kind}_backward")(
        *(grads.get(name) for name in names),
        problem.input,
        *states,
        problem.weights,
        problem.lengths,
        *(results[name] for name in kept),
        statistics=results.get("statistics"),
        reset=problem.reset,
        seed=problem.seed,
        options=problem.options,
        **more,
    )
    wanted = ("input", "hidden", "cell", "weights") if lstm else ("input", "hidden", "weights")
    return dict(zip(wanted, found, strict=True))


def close(actual: Any, wanted: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)


@each_case
def test_is_the_loop(variant: Variant, directions: int, ragged: bool, resets: bool) -> None:
    problem = make(variant, directions, ragged, resets)
    results = forward(problem)
    tensors = problem.as_tensors()
    looped = loop(tensors)
    for name, value in results.items():
        close(value, looped[name].detach())

    grads = grads_like(problem, results)
    torch.autograd.backward(
        [looped[name] for name in grads],
        [torch.tensor(grad) for grad in grads.values()],
    )
    found = backward(problem, results, grads)

    def check(actual: Any, tensor: Any) -> None:
        if tensor is not None:
            close(actual, 0 if tensor.grad is None else tensor.grad)

    check(found["input"], tensors.input)
    check(found["hidden"], tensors.hidden)
    check(found.get("cell"), tensors.cell)
    for of_direction, tensors_of in zip(found["weights"], tensors.weights, strict=True):
        for grad, tensor in zip(of_direction, tensors_of, strict=True):
            assert (grad is None) == (tensor is None)
            check(grad, tensor)


@each_case
def test_gradients_are_those_of_finite_differences(
    variant: Variant, directions: int, ragged: bool, resets: bool
) -> None:
    problem = make(variant, directions, ragged, resets, seed=2)
    results = forward(problem)
    grads = grads_like(problem, results)
    found = backward(problem, results, grads)
    rng = np.random.default_rng(3)

    pairs = [(problem.input, found["input"])]
    pairs += [(problem.hidden, found["hidden"]), (problem.cell, found.get("cell"))]
    for weights, of_direction in zip(problem.weights, found["weights"], strict=True):
        pairs += zip(weights, of_direction, strict=True)
    pairs = [(array, grad) for array, grad in pairs if array is not None]
    # Along a random direction through everything at once.
    along = [rng.standard_normal(array.shape) for array, _ in pairs]

    def loss(step: float) -> float:
        for (array, _), direction in zip(pairs, along, strict=True):
            array += step * direction
        moved = forward(problem)
        return float(sum((moved[name] * grad).sum() for name, grad in grads.items()))

    step = 1e-6
    above, below = loss(step), loss(-2 * step)
    slope = sum((grad * d).sum() for (_, grad), d in zip(pairs, along, strict=True))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-6, atol=1e-6)


def test_clips_are_met_and_not_met() -> None:
    """So that the comparisons above say something about both."""
    for name in ("lstm-gate_clip", "lstm-cell_clip", "lstm-everything"):
        variant = VARIANTS[name]
        results = forward(make(variant, 1, False, False))
        options = variant.options
        if options.gate_clip:
            i = results["gates"][..., :5]
            limits = [1 / (1 + np.exp(x)) for x in (options.gate_clip, -options.gate_clip)]
            clipped = np.isclose(i, limits[0]) | np.isclose(i, limits[1])
            assert 0.1 < clipped.mean() < 0.9
        if options.cell_clip:
            clipped = np.abs(results["cells"]) == options.cell_clip
            assert 0.1 < clipped.mean() < 0.9


MODULES = [
    pytest.param("lstm", {}, id="lstm"),
    pytest.param("lstm", {"proj_size": 2}, id="lstm-proj"),
    pytest.param("gru", {}, id="gru"),
    pytest.param("rnn", {}, id="rnn-tanh"),
    pytest.param("rnn", {"nonlinearity": "relu"}, id="rnn-relu"),
]


@pytest.mark.parametrize(("kind", "arguments"), MODULES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("ragged", [True, False])
def test_is_torch(
    kind: str, arguments: dict[str, Any], bias: bool, directions: int, states: bool, ragged: bool
) -> None:
    options = Options(nonlinearity=arguments.get("nonlinearity", "tanh"))
    variant = Variant(kind, options, arguments.get("proj_size", 0), bias=bias, states=states)
    problem = make(variant, directions, False, False)
    if ragged:
        problem = replace(problem, lengths=np.array([5, 3, 3, 1]))
    results = forward(problem)

    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[kind](
        3, 5, bias=bias, bidirectional=directions == 2, dtype=torch.float64, **arguments
    )
    flat = [w for weights in problem.weights for w in weights if w is not None]
    with torch.no_grad():
        for parameter, weight in zip(module.parameters(), flat, strict=True):
            parameter.copy_(torch.tensor(weight))
    x, h, c = (
        None if a is None else torch.tensor(a, requires_grad=True)
        for a in (problem.input, problem.hidden, problem.cell)
    )
    hx = None if h is None else (h, c) if kind == "lstm" else h
    if ragged:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(problem.lengths))
        output, h_n = module(packed, hx)
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, total_length=5)
    else:
        output, h_n = module(x, hx)
    theirs = {"output": output}
    theirs |= dict(zip(("hidden_n", "cell_n"), h_n if kind == "lstm" else (h_n,), strict=False))
    for name, value in theirs.items():
        close(results[name], value.detach())

    # torch returns no cells: their gradient is left out.
    grads = grads_like(problem, results)
    grads.pop("cells", None)
    torch.autograd.backward(
        [theirs[name] for name in grads], [torch.tensor(grad) for grad in grads.values()]
    )
    found = backward(problem, results, grads)
    close(found["input"], x.grad)
    for name, state in (("hidden", h), ("cell", c)):
        if state is not None:
            close(found[name], state.grad)
    flat_grads = [grad for grads in found["weights"] for grad in grads if grad is not None]
    for parameter, grad in zip(module.parameters(), flat_grads, strict=True):
        close(grad, parameter.grad)


@pytest.mark.parametrize("peephole", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("input_forget", [True, False])
def test_is_the_lstm_of_onnx(peephole: bool, clip: float | None, input_forget: bool) -> None:
    options = Options(gate_clip=clip or 0.0, coupled_gates=input_forget)
    problem = make(Variant("lstm", options, peephole=peephole), 1, False, False)
    W, R, b_ih, b_hh, *_, P = problem.weights[0][:7]

    def onnx_order(x: np.ndarray) -> np.ndarray:
        """i f g o, or i g o, to i o f c; ONNX has weights for the coupled gate and ignores them."""
        blocks = np.split(x, 3 if input_forget else 4)
        i, g, o = blocks[0], blocks[-2], blocks[-1]
        f = np.full_like(i, np.nan) if input_forget else blocks[1]
        return np.concatenate([i, o, f, g])

    onnx_peephole = np.zeros(15) if P is None else P[[0, 2, 1]].ravel()
    Y, Y_h, Y_c = onnx_lstm(
        problem.input,
        onnx_order(W),
        onnx_order(R),
        np.concatenate([onnx_order(b_ih), onnx_order(b_hh)]),
        problem.hidden[0],
        problem.cell[0],
        onnx_peephole,
        clip,
        input_forget,
    )
    results = forward(problem)
    close(results["output"], Y)
    close(results["hidden_n"][0], Y_h)
    close(results["cell_n"][0], Y_c)


@pytest.mark.parametrize("linear_before_reset", [True, False])
def test_is_the_gru_of_onnx(linear_before_reset: bool) -> None:
    options = Options(reset_after=linear_before_reset)
    problem = make(Variant("gru", options), 1, False, False)
    W, R, b_ih, b_hh = (
        np.concatenate([z, r, n])
        for r, z, n in (np.split(weight, 3) for weight in problem.weights[0][:4])
    )
    biases = np.concatenate([b_ih, b_hh])
    Y, Y_h = onnx_gru(problem.input, W, R, biases, problem.hidden[0], linear_before_reset)
    results = forward(problem)
    close(results["output"], Y)
    close(results["hidden_n"][0], Y_h)


@each_variant
def test_padding_is_never_read(variant: Variant) -> None:
    """Whatever stands past a row's length: not in what comes out, not in its gradients."""
    problem = make(variant, 2, True, False)
    results = forward(problem)
    grads = grads_like(problem, results)
    found = backward(problem, results, grads)
    padding = np.arange(5)[:, None] >= problem.lengths

    def poisoned(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        values = {name: value.copy() for name, value in values.items()}
        for name in names:
            if name in values:
                values[name][padding] = np.nan
        return values

    (input,) = poisoned({"input": problem.input}, ("input",)).values()
    bad = replace(problem, input=input)
    for name, value in forward(bad).items():
        np.testing.assert_array_equal(value, results[name])
        if value.shape[:2] == padding.shape:
            assert not value[padding].any()
    kept = ("output", "cells", "gates", "statistics")
    again = backward(bad, poisoned(results, kept), poisoned(grads, ("output", "cells")))
    _assert_equal(again, found)
    assert not found["input"][padding].any()
    # The row of no steps hands its states and their gradients through.
    for state, name in (("hidden", "hidden_n"), ("cell", "cell_n")):
        if getattr(problem, state) is not None:
            np.testing.assert_array_equal(results[name][:, 1], getattr(problem, state)[:, 1])
            np.testing.assert_array_equal(found[state][:, 1], grads[name][:, 1])


@each_variant
def test_a_reset_ends_the_past(variant: Variant) -> None:
    problem = make(variant, 1, False, False)
    at = 2
    reset = np.zeros((5, 4), np.bool_)
    reset[at] = True
    problem = replace(problem, reset=reset)
    results = forward(problem)
    grads = grads_like(problem, results)
    late = {name: grad.copy() for name, grad in grads.items()}
    for name in late.keys() & {"output", "cells"}:
        late[name][:at] = 0
    found = backward(problem, results, late)
    # What comes after the reset sends nothing to before it.
    assert not found["input"][:at].any()
    assert not found["hidden"].any()
    assert variant.kind != "lstm" or not found["cell"].any()

    # And a state before it, be it NaN, is not seen.
    reset[0] = True
    first = forward(problem)
    poisoned = replace(problem, hidden=np.full((1, 4, first["hidden_n"].shape[-1]), np.nan))
    if variant.kind == "lstm":
        poisoned = replace(poisoned, cell=np.full((1, 4, 5), np.nan))
    _assert_equal(forward(poisoned), first)
    _assert_equal(backward(poisoned, first, grads), backward(problem, first, grads))
    fresh = forward(replace(problem, hidden=None, cell=None))
    _assert_equal(fresh, first)


def _assert_equal(actual: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        actual, wanted = list(actual.values()), list(wanted.values())
    if isinstance(wanted, (list, tuple)):
        for one, other in zip(actual, wanted, strict=True):
            _assert_equal(one, other)
    elif wanted is None:
        assert actual is None
    else:
        np.testing.assert_array_equal(actual, wanted)


def _cast(problem: Problem, dtype: Any) -> Problem:
    def cast(x: Any) -> Any:
        return None if x is None else x.astype(dtype)

    return replace(
        problem,
        input=cast(problem.input),
        hidden=cast(problem.hidden),
        cell=cast(problem.cell),
        weights=[[cast(w) for w in weights] for weights in problem.weights],
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@each_variant
def test_dtypes(variant: Variant, dtype: Any) -> None:
    exact = make(variant, 2, True, False)
    results = forward(exact)
    grads = grads_like(exact, results)
    problem = _cast(exact, dtype)
    found = forward(problem)
    accumulate = np.float64 if dtype == np.float64 else np.float32
    tolerance = {np.float16: 2e-2, np.float32: 2e-5, np.float64: 0}[dtype]
    for name, value in found.items():
        kept_exact = name in ("cells", "statistics")
        assert value.dtype == (accumulate if kept_exact else dtype)
        if dtype != np.float16 or name != "statistics":
            close(value, results[name], tolerance)
    if dtype == np.float16 and variant.options.gate_clip + variant.options.cell_clip > 0:
        return  # where a limit is met is then another matter
    wanted = backward(exact, results, grads)
    grads = {k: v.astype(accumulate if k == "cells" else dtype) for k, v in grads.items()}
    tolerance *= 5
    backs = backward(problem, found, grads)
    pairs = [(backs[name], wanted[name]) for name in wanted if name != "weights"]
    for one, other in zip(backs["weights"], wanted["weights"], strict=True):
        pairs += zip(one, other, strict=True)
    for actual, value in pairs:
        if value is not None:
            assert actual.dtype == dtype
            close(actual, value, tolerance * max(1, np.abs(value).max()))


@each_variant
def test_what_is_stored_is_what_the_next_step_reads(variant: Variant) -> None:
    """In float16 a sequence in two parts gives the bits of one, if no cell state is cut."""
    problem = _cast(replace(make(variant, 1, False, False), seed=None), np.float16)
    whole = forward(problem)
    if variant.kind == "lstm":
        assert whole["cells"].dtype == np.float32
        assert (whole["cells"] != whole["cells"].astype(np.float16)).any()
        return
    head = forward(replace(problem, input=problem.input[:3]))
    tail = forward(replace(problem, input=problem.input[3:], hidden=head["hidden_n"]))
    np.testing.assert_array_equal(whole["output"][:3], head["output"])
    np.testing.assert_array_equal(whole["output"][3:], tail["output"])
    np.testing.assert_array_equal(whole["hidden_n"], tail["hidden_n"])


def test_what_is_multiplied_is_rounded() -> None:
    """m and r * m pass through the storage dtype: a difference of two shows it."""
    rng = np.random.default_rng(0)
    h = rng.standard_normal((1, 50, 2)).astype(np.float16)
    scale = np.float32(1 / 0.7)
    kept = ~events(0.3, SEED, 0, None, 50, 2)
    m = (h * np.where(kept, scale, 0).astype(np.float32)).astype(np.float16).astype(np.float32)
    difference = np.array([[1, -1], [-1, 1]], np.float16)
    nothing = np.zeros((1, 50, 1), np.float16)

    plain = [(np.zeros((2, 1), np.float16), difference)]
    options = Options(nonlinearity="relu", recurrent_dropout=0.3)
    output, *_ = reference.rnn_forward(nothing, h, plain, seed=SEED, options=options)
    np.testing.assert_array_equal(output, np.maximum(m @ difference, 0).astype(np.float16))

    weights = np.zeros((6, 1), np.float16), np.concatenate([0 * difference] * 2 + [difference])
    bias = np.array([0.3, 0.3, 0, 0, 0, 0], np.float16)
    options = Options(reset_after=False, recurrent_dropout=0.3)
    *_, gates = reference.gru_forward(nothing, h, [(*weights, bias)], seed=SEED, options=options)
    r = np.float32(0.5) * (1 + np.tanh(bias[0].astype(np.float32) / 2))
    rm = (r * m).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(gates[..., 4:], np.tanh(rm @ difference).astype(np.float16))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_all_dropped_and_all_kept(kind: str) -> None:
    """At probability 1 dropout leaves nothing of the state, and zoneout nothing of the step."""
    problem = make(Variant(kind, training=True), 1, False, False)
    dropped = forward(replace(problem, options=Options(recurrent_dropout=1.0)))
    for weights in problem.weights:
        weights[1] = np.zeros_like(weights[1])
    without = forward(problem)
    close(dropped["output"], without["output"])
    still = forward(replace(problem, options=Options(zoneout=(1.0, 1.0 * (kind == "lstm")))))
    for output in still["output"]:
        close(output, problem.hidden[0])
    if kind == "lstm":
        close(still["cell_n"], problem.cell)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_directions_and_layers_draw_their_own(kind: str) -> None:
    options = Options(zoneout=(0.5, 0.0))
    problem = make(Variant(kind, options, training=True), 2, False, False, size=80)
    for name in ("input", "hidden", "cell"):
        if getattr(problem, name) is not None:
            getattr(problem, name)[...] = 0.3
    problem.weights[1][:] = problem.weights[0]
    results = forward(problem)
    still = np.isclose(results["output"].reshape(5, 4, 2, 80), 0.3, rtol=1e-12)
    # The one direction's first step is the other's last.
    assert (still[0, :, 0] != still[4, :, 1]).mean() > 0.3
    other = forward(replace(problem, options=options._replace(layer=1)))
    still_other = np.isclose(other["output"].reshape(5, 4, 2, 80), 0.3, rtol=1e-12)
    assert (still[0, :, 0] != still_other[0, :, 0]).mean() > 0.3
    _assert_equal(forward(replace(problem, seed=np.array([SEED]))), results)


@each_variant
def test_without_save_nothing_is_kept(variant: Variant) -> None:
    problem = make(variant, 1, False, False)
    results = forward(problem)
    bare = forward(problem, save=False)
    for name in bare:
        if name in ("cells", "gates", "statistics"):
            assert bare[name] is None
        else:
            np.testing.assert_array_equal(bare[name], results[name])


def test_only_what_is_needed() -> None:
    problem = make(VARIANTS["lstm"], 1, False, False)
    results = forward(problem)
    grads = grads_like(problem, results)
    found = list(backward(problem, results, grads).values())
    for needs in itertools.product((True, False), repeat=3):
        some = backward(problem, results, grads, needs=needs).values()
        asked = (needs[0], needs[1], needs[1], needs[2])
        _assert_equal(list(some), [x if y else None for x, y in zip(found, asked, strict=True)])


@pytest.mark.parametrize("count", range(2, 11))
def test_missing_weights_are_none(count: int) -> None:
    problem = make(VARIANTS["lstm-bare"], 2, False, False)
    results = forward(problem)
    grads = grads_like(problem, results)
    wanted = backward(problem, results, grads)["weights"]
    short = replace(problem, weights=[weights[:count] for weights in problem.weights])
    found = reference.lstm_backward(
        *(grads[name] for name in ("output", "hidden_n", "cell_n", "cells")),
        problem.input,
        None,
        None,
        short.weights,
        None,
        *(results[name] for name in ("output", "cells", "gates")),
    )[3]
    _assert_equal(found, [of_direction[:count] for of_direction in wanted])


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("shape", [(0, 4), (5, 0)])
def test_nothing_to_do(kind: str, shape: tuple[int, int]) -> None:
    problem = make(Variant(kind, norm=True, training=True), 2, False, False)
    steps, batch = shape
    problem = replace(
        problem,
        input=problem.input[:steps, :batch],
        hidden=problem.hidden[:, :batch],
        cell=None if problem.cell is None else problem.cell[:, :batch],
    )
    results = forward(problem)
    assert results["output"].shape == (steps, batch, 10)
    if steps == 0:
        np.testing.assert_array_equal(results["hidden_n"], problem.hidden)
    grads = grads_like(problem, results)
    found = backward(problem, results, grads)
    if steps == 0:
        np.testing.assert_array_equal(found["hidden"], grads["hidden_n"])
    assert not any(grad.any() for grads in found["weights"] for grad in grads if grad is not None)

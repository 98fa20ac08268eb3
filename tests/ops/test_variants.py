"""Every cell with every option: against its twin on every backend, the same bits everywhere."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import DTYPES, Backend, assert_close, assert_same_bits
from support.variants import (
    SEED,
    VARIANTS,
    WAYS,
    Case,
    check_case,
    make_case,
    reference_results,
    way_case,
)

from seqfast import ops, reference

PAIRS = [f"{cell}_{pass_}" for cell in ("lstm", "gru", "rnn") for pass_ in ("forward", "backward")]
FEW = ["lstm-everything", "lstm-projection-everything", "gru-everything", "gru_before", "jordan"]


@pytest.mark.parametrize("name", PAIRS)
def test_twins_have_the_same_signature(name: str) -> None:
    fast = inspect.signature(getattr(ops.rnn, name))
    twin = inspect.signature(getattr(reference.rnn, name))
    assert list(fast.parameters) == list(twin.parameters)
    for one, other in zip(fast.parameters.values(), twin.parameters.values(), strict=True):
        assert (one.kind, one.default) == (other.kind, other.default)


def test_twins_have_the_same_names() -> None:
    def public(module: Any) -> set[str]:
        functions = inspect.getmembers(module, inspect.isfunction)
        # A folder's functions stand in its functions.py.
        homes = {module.__name__, f"{module.__name__}.functions"}
        return {n for n, f in functions if f.__module__ in homes and n[0] != "_"}

    assert ops.__all__ == reference.__all__
    for name in set(ops.__all__) - {"random"}:
        only_twins = {"ctc_loss"} if name == "ctc" else set()  # the fast form of it is torch's
        assert public(getattr(ops, name)) | only_twins == public(getattr(reference, name)) != set()
    # The first name of `dropout`.
    assert ops.random.dropout is ops.dropout.dropout
    assert reference.random.dropout is reference.dropout.dropout
    assert ops.rnn.__all__ == reference.rnn.__all__


def test_twins_have_the_same_options() -> None:
    assert ops.rnn.Options() == reference.rnn.Options()
    assert ops.rnn.Options._fields == reference.rnn.Options._fields


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VARIANTS)
def test_matches_reference(kernels: Backend, name: str, dtype: str) -> None:
    every = kernels.name != "cuda-host" and dtype in ("float32", "float64")
    for way in WAYS if every else ("reset", "both"):
        check_case(way_case(name, way), reference_results(name, way), dtype, kernels.device)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (3, 0, 4, 5), (3, 2, 0, 5)], ids=str)
def test_empty_sizes(backend: Backend, name: str, shape: tuple[int, ...]) -> None:
    case = make_case(name, *shape, 2, ragged=True)
    check_case(case, case.both(reference), "float64", backend.device)
    case = make_case(name, *shape, states=False, resets=True)
    check_case(case, case.both(reference), "float64", backend.device)


@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if not v.proj_size])
def test_no_units(backend: Backend, name: str) -> None:
    case = make_case(name, 3, 2, 4, 0).on(backend)
    forward, backward = case.both(ops)
    assert tuple(forward[0].shape) == (3, 2, 0)
    assert tuple(backward[0].shape) == (3, 2, 4)
    assert not backward[0].any()


@pytest.mark.parametrize("name", VARIANTS)
def test_many_steps(backend: Backend, name: str) -> None:
    steps = 20 if backend.name == "cuda-host" else 300
    case = make_case(name, steps, 3, 5, 19, ragged=True, resets=True)
    check_case(case, case.both(reference), "float64", backend.device)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_same_bits_with_any_thread_count(
    cpu_isa: str, name: str, dtype: str, set_threads: Any
) -> None:
    for shape, more in (
        ((3, 21, 11, 70), {"resets": True, "ragged": True}),
        ((2, 1, 30, 130, 2), {}),
    ):
        case = make_case(name, *shape, **more).tensors(dtype)
        found = []
        for threads in (1, 2, 3):
            set_threads(threads)
            found.append(case.both(ops))
        for other in found[1:]:
            assert_same_bits(other, found[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VARIANTS)
def test_inference_gives_the_same_bits(kernels: Backend, name: str, dtype: str) -> None:
    for way in ("reset",) if kernels.name == "cuda-host" else ("both", "wide"):
        case = way_case(name, way).tensors(dtype, kernels.device)
        kept, found = case.forward(ops), case.forward(ops, save=False)
        states = 1 + len(case.states)
        assert_same_bits(found[:states], kept[:states])
        assert found[states:] == (None,) * (len(kept) - states)


@pytest.mark.parametrize("name", VARIANTS)
def test_numpy_and_torch_agree(backend: Backend, name: str) -> None:
    if backend.device != "cpu":
        pytest.skip("NumPy arrays are in the CPU's memory")
    case = way_case(name, "reset")
    forward, backward = case.both(ops)
    assert all(isinstance(x, np.ndarray) for x in (*forward, *backward[:-1], backward[-1][0][1]))
    assert_same_bits((forward, backward), case.tensors("float64").both(ops))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3]
)
def test_only_needed_gradients(backend: Backend, name: str, needs: Any) -> None:
    case = make_case(name, 5, 4, 3, 18, 2, ragged=True).tensors("float32", backend.device)
    forward, everything = case.both(ops)
    some = case.backward(ops, forward, needs=needs)
    needed = (needs[0], *(needs[1] for _ in case.states), needs[2])
    for grad, full, need in zip(some, everything, needed, strict=True):
        assert_same_bits(grad, full if need else None)


@pytest.mark.parametrize("name", FEW)
def test_absent_gradients_are_zero(backend: Backend, name: str) -> None:
    case = way_case(name, "reset")
    for missing in range(len(case.grads)):
        grads = tuple(g if k != missing else None for k, g in enumerate(case.grads))
        other = replace(case, grads=grads)
        check_case(other, other.both(reference), "float64", backend.device)


@pytest.mark.parametrize("name", ["lstm-everything", "gru-everything", "rnn-norm"])
@pytest.mark.parametrize("absent", [(2,), (3,), (2, 3)])
def test_one_bias_alone(backend: Backend, name: str, absent: tuple[int, ...]) -> None:
    case = way_case(name, "both")
    weights = [tuple(None if k in absent else w for k, w in enumerate(row)) for row in case.weights]
    case = replace(case, weights=weights)
    check_case(case, case.both(reference), "float64", backend.device)


def test_biases_of_a_gru_have_gradients_of_their_own(backend: Backend) -> None:
    grads = way_case("gru", "small").on(backend).both(ops)[1][2][0]
    assert not (grads[2][14:] == grads[3][14:]).any()
    assert (grads[2][:14] == grads[3][:14]).all()


def test_gradients_are_as_many_as_the_weights_given(backend: Backend) -> None:
    for name, many in (("lstm", 5), ("jordan", 6), ("lstm-peephole", 7), ("gru-norm", 8)):
        case = way_case(name, "both").on(backend)
        assert [len(row) for row in case.weights] == [many] * 2
        assert [len(row) for row in case.both(ops)[1][-1]] == [many] * 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", [0.1, 0.9, 1.7, 3.3])
def test_clipped_gates_have_no_slope(kernels: Backend, clip: float, dtype: str) -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    weights = [(np.ones((4, 1)), np.zeros((4, 1)), None, None, None)]
    case = make_case("lstm", 1, 33, 1, 1, states=False)
    options = case.variant.options._replace(gate_clip=clip)
    case = replace(
        case,
        variant=replace(case.variant, options=options),
        input=x.reshape(1, 33, 1).numpy(),
        cell=np.ones((1, 33, 1)),
        weights=weights,
        grads=(np.ones((1, 33, 1)), None, None, None),
    ).tensors(dtype, kernels.device)
    slope = case.both(ops)[1][0].flatten().cpu()
    assert not slope[x.abs() > clip + 0.02].any()
    if dtype in ("float32", "float64"):
        assert slope[x.abs() < clip].all()


# Chance.


@pytest.mark.parametrize("name", ["lstm-everything", "gru_before-everything", "jordan-everything"])
def test_the_seed_decides(backend: Backend, name: str) -> None:
    case = way_case(name, "reset")
    results = []
    for seed in (1, 1, 2, 2**62, -1):
        other = replace(case, seed=np.array([seed]))
        results.append(other.on(backend).forward(ops)[0])
    assert_same_bits(results[1], results[0])
    for other in results[2:]:
        assert (other != results[0]).any()
    layer = replace(
        case, variant=replace(case.variant, options=case.variant.options._replace(layer=9))
    )
    assert (layer.on(backend).forward(ops)[0] != case.on(backend).forward(ops)[0]).any()


@pytest.mark.parametrize("name", ["lstm-on_update", "lstm-on_hidden", "gru_before-on_update"])
@pytest.mark.parametrize("probability", [0.0, 1.0, 2.0**-24])
def test_probabilities_at_both_ends(backend: Backend, name: str, probability: float) -> None:
    case = way_case(name, "reset")
    options = case.variant.options._replace(recurrent_dropout=probability)
    case = replace(case, variant=replace(case.variant, options=options))
    check_case(case, case.both(reference), "float64", backend.device)


def test_zoneout_of_everything_keeps_the_state(backend: Backend) -> None:
    case = make_case("lstm-zoneout", 4, 3, 5, 20)
    for seed in (np.array(SEED), None):
        options = case.variant.options._replace(zoneout=(1.0, 1.0))
        other = replace(case, seed=seed, variant=replace(case.variant, options=options))
        _, hidden_n, cell_n, *_ = other.on(backend).forward(ops)
        assert_close(hidden_n, case.hidden, "float64")
        assert_close(cell_n, case.cell, "float64")


@pytest.mark.parametrize("name", ["lstm-evaluated", "gru-evaluated", "lstm-on_hidden"])
def test_evaluation_has_no_dropout(backend: Backend, name: str) -> None:
    case = replace(way_case(name, "both"), seed=None)
    options = case.variant.options._replace(recurrent_dropout=0.0)
    plain = replace(case, variant=replace(case.variant, options=options))
    assert_same_bits(case.on(backend).both(ops), plain.on(backend).both(ops))


# Resets.


@pytest.mark.parametrize("name", VARIANTS)
def test_reset_cuts_a_sequence_in_two(backend: Backend, name: str) -> None:
    """Where all rows start again, what comes after is a sequence of its own, but for its masks."""
    if VARIANTS[name].training:
        pytest.skip("masks depend on the step")
    case = make_case(name, 7, 3, 4, 9)
    reset = np.zeros((7, 3), np.uint8)
    reset[4] = 3
    whole = replace(case, reset=reset).on(backend).forward(ops)
    second = replace(case, input=case.input[4:], hidden=None, cell=None).on(backend).forward(ops)
    first = replace(case, input=case.input[:4]).on(backend).forward(ops)
    assert_close(whole[0][4:], np.asarray(torch.as_tensor(second[0]).cpu()), "float64")
    assert_close(whole[0][:4], np.asarray(torch.as_tensor(first[0]).cpu()), "float64")
    grads = replace(case, reset=reset).on(backend).backward(ops, whole, needs=(True, True, False))
    cut = replace(
        case, input=case.input[:4], grads=(case.grads[0][:4], *(None,) * 3)[: len(case.grads)]
    )
    if len(case.grads) == 4:
        cut = replace(cut, grads=(*cut.grads[:3], case.grads[3][:4]))
    wanted = cut.both(reference)[1]
    for found, right in zip(grads[1:-1], wanted[1:-1], strict=True):
        assert_close(found, right, "float64")
    assert_close(grads[0][:4], wanted[0], "float64")


def test_reset_may_be_bool_or_bytes_in_any_layout(backend: Backend) -> None:
    case = way_case("lstm", "reset").tensors("float64", backend.device)
    wanted = case.both(ops)
    strided = case.reset.t().contiguous().t()
    assert not strided.is_contiguous()
    for reset in (case.reset.to(torch.uint8) * 200, strided, strided.to(torch.uint8)):
        assert_same_bits(replace(case, reset=reset).both(ops), wanted)


def test_reset_forgets_what_is_not_a_number(backend: Backend) -> None:
    case = make_case("gru", 4, 3, 4, 9)
    reset = np.zeros((4, 3), bool)
    reset[2] = True
    clean = replace(case, reset=reset).on(backend).forward(ops)[0]
    case.input[0, 1] = np.nan
    output = replace(case, reset=reset).on(backend).forward(ops)[0]
    assert (output[:2, 1] != output[:2, 1]).all()
    assert_same_bits(output[2:], clean[2:])


# Bad input: an error that says what is wrong, never a crash.


def _with(name: str, directions: int = 1, **changes: Any) -> Case:
    case = make_case(name, 5, 4, 6, 7, directions).tensors("float32")
    options = {k: changes.pop(k) for k in list(changes) if k in ops.rnn.Options._fields}
    if options:
        variant = case.variant
        variant = replace(variant, options=variant.options._replace(**options))
        changes["variant"] = variant
    return replace(case, **changes)


def _weight(name: str, slot: int, value: Any, direction: int = 0, directions: int = 1) -> Case:
    case = _with(name, directions)
    row = [*case.weights[direction], *(None,) * 10][:10]
    row[slot] = value
    case.weights[direction] = tuple(row)
    return case


Z = torch.zeros
BAD = [
    # Weights.
    (
        lambda: _weight("lstm-peephole", 6, Z(4, 7)),
        ValueError,
        r"lstm: weight_peephole must be \[3, 7\], got \[4, 7\]",
    ),
    (
        lambda: (
            _weight("lstm-peephole", 6, Z(3, 7), 1, 2) and _weight("lstm-peephole", 6, None, 1, 2)
        ),
        ValueError,
        r"lstm: weight_peephole must be given for both",
    ),
    (
        lambda: _weight("gru", 6, Z(3, 7)),
        ValueError,
        r"gru: weight_peephole must be None without a cell",
    ),
    (
        lambda: _weight("rnn", 6, Z(3, 7)),
        ValueError,
        r"rnn: weight_peephole must be None without a cell",
    ),
    (
        lambda: _weight("gru", 4, Z(2, 7)),
        ValueError,
        r"gru: weight_hr must be None for a GRU, which has no projection",
    ),
    (lambda: _weight("rnn", 5, Z(7)), ValueError, r"rnn: bias_hr must be None without weight_hr"),
    (lambda: _weight("lstm", 5, Z(7)), ValueError, r"lstm: bias_hr must be None without weight_hr"),
    (lambda: _weight("jordan", 5, Z(7)), ValueError, r"rnn: bias_hr must be \[5\], got \[7\]"),
    (lambda: _weight("jordan", 4, Z(0, 7)), ValueError, r"rnn: weight_hr must be \[proj_size, 7\]"),
    (
        lambda: _weight("jordan-tanh", 4, None),
        ValueError,
        r"rnn: weight_hr must be given with output_nonlinearity",
    ),
    (
        lambda: _weight("lstm-norm", 8, None),
        ValueError,
        r"lstm: weight_norm_cell must be given with weight_norm_hh",
    ),
    (
        lambda: _weight("lstm-norm", 9, None),
        ValueError,
        r"lstm: bias_norm_cell must be given with weight_norm_hh",
    ),
    (
        lambda: _weight("lstm-norm", 7, None),
        ValueError,
        r"lstm: weight_norm_cell must be None without weight_norm_hh",
    ),
    (
        lambda: _weight("lstm-norm", 7, Z(7)),
        ValueError,
        r"lstm: weight_norm_hh must be \[28\], got \[7\]",
    ),
    (
        lambda: _weight("gru-norm", 8, Z(7)),
        ValueError,
        r"gru: weight_norm_cell must be None without a cell",
    ),
    (
        lambda: _weight("gru_before", 7, Z(21)),
        ValueError,
        r"gru: weight_norm_hh must be None with reset_after=False",
    ),
    (
        lambda: _weight("jordan", 7, Z(7)),
        ValueError,
        r"rnn: weight_norm_hh must be None with weight_hr",
    ),
    (
        lambda: _weight("gru", 7, Z(21), 1, 2),
        ValueError,
        r"gru: weight_norm_hh must be None where the first direction has none",
    ),
    (
        lambda: _weight("gru", 0, None),
        ValueError,
        r"gru: input must be \[5, 4, 21\] if weight_ih is None \(the product with it\)",
    ),
    (
        lambda: _weight("gru", 0, None, 1, 2),
        ValueError,
        r"gru: weight_ih must be given for both directions",
    ),
    (
        lambda: _weight("gru", 0, Z(28, 6)),
        ValueError,
        r"gru: weight_ih must be \[21, 6\], got \[28, 6\]",
    ),
    (
        lambda: _weight("gru", 1, Z(28, 7)),
        ValueError,
        r"gru: weight_hh must be \[3 \* hidden_size, output_size\], got \[28, 7\]",
    ),
    (
        lambda: _weight("gru", 1, None),
        TypeError,
        r"gru: weight_hh must be a torch tensor, got NoneType",
    ),
    (
        lambda: _weight("gru_update", 1, Z(7, 7)),
        ValueError,
        r"gru: weight_hh must be \[2 \* hidden",
    ),
    (
        lambda: _with("rnn", weights=[(None, Z(7, 7)) * 6]),
        TypeError,
        r"rnn: each direction's weights must be the first five to ten of",
    ),
    (lambda: _with("rnn", weights=[Z(5, 7)]), TypeError, r"rnn: each direction's weights must be"),
    # Options.
    (
        lambda: _with("lstm", gate_clip=-1.0),
        ValueError,
        r"lstm: gate_clip must be a finite number above 0, or 0 for none, got -1.0",
    ),
    (
        lambda: _with("lstm", cell_clip=float("nan")),
        ValueError,
        r"lstm: cell_clip must be a finite number",
    ),
    (
        lambda: _with("lstm", cell_clip=float("inf")),
        ValueError,
        r"lstm: cell_clip must be a finite number",
    ),
    (
        lambda: _with("lstm", cell_clip=[1.0]),
        TypeError,
        r"lstm: cell_clip must be a finite number",
    ),
    (
        lambda: _with("gru", gate_clip=1.0),
        ValueError,
        r"gru: gate_clip is an option of lstm alone and must be 0.0, got 1.0",
    ),
    (
        lambda: _with("rnn", coupled_gates=True),
        ValueError,
        r"rnn: coupled_gates is an option of lstm alone",
    ),
    (
        lambda: _with("lstm", reset_after=False),
        ValueError,
        r"lstm: reset_after is an option of gru alone",
    ),
    (
        lambda: _with("gru", nonlinearity="relu"),
        ValueError,
        r"gru: nonlinearity is an option of rnn alone",
    ),
    (
        lambda: _with("lstm-coupled", forget_gate=False),
        ValueError,
        r"lstm: forget_gate must be True with coupled_gates",
    ),
    (
        lambda: _with("lstm", coupled_gates="no"),
        TypeError,
        r"lstm: coupled_gates must be True or False",
    ),
    (
        lambda: _with("gru_update", reset_after=False),
        ValueError,
        r"gru: reset_after must be True with reset_gate=False",
    ),
    (
        lambda: _with("rnn", nonlinearity="sigmoid"),
        ValueError,
        r"rnn: nonlinearity must be 'tanh' or 'relu', got 'sigmoid'",
    ),
    (
        lambda: _with("jordan", output_nonlinearity="gelu"),
        ValueError,
        r"rnn: output_nonlinearity must be 'identity', 'tanh'",
    ),
    (
        lambda: _with("lstm", zoneout=(1.1, 0.0)),
        ValueError,
        r"lstm: zoneout\[0\] must be a number from 0 to 1, got 1.1",
    ),
    (
        lambda: _with("lstm", zoneout=(0.0, -0.1)),
        ValueError,
        r"lstm: zoneout\[1\] must be a number",
    ),
    (
        lambda: _with("lstm", zoneout=0.1),
        TypeError,
        r"lstm: zoneout must be a tuple of two probabilities",
    ),
    (
        lambda: _with("lstm", zoneout=[0.1, 0.1]),
        TypeError,
        r"lstm: zoneout must be a tuple of two probabilities",
    ),
    (
        lambda: _with("gru", zoneout=(0.1, 0.1)),
        ValueError,
        r"gru: zoneout\[1\] must be 0 without a cell state",
    ),
    (
        lambda: _with("lstm", recurrent_dropout=float("nan")),
        ValueError,
        r"lstm: recurrent_dropout must be a number",
    ),
    (
        lambda: _with("lstm", recurrent_dropout_on="input"),
        ValueError,
        r"lstm: recurrent_dropout_on must be 'hidden', 'update' or 'cell', got 'input'",
    ),
    (
        lambda: _with("rnn", recurrent_dropout_on="update"),
        ValueError,
        r"rnn: recurrent_dropout_on must be 'hidden', got 'update'",
    ),
    (
        lambda: _with("lstm", layer=-1),
        ValueError,
        r"lstm: layer must be from 0 to 134217727, got -1",
    ),
    # Reset and seed.
    (
        lambda: _with("gru", reset=Z(4, 5).bool()),
        ValueError,
        r"gru: reset must be \[5, 4\], got \[4, 5\]",
    ),
    (
        lambda: _with("gru", reset=Z(5, 4)),
        TypeError,
        r"gru: reset must be bool or uint8, got torch.float32",
    ),
    (
        lambda: _with("gru", reset=Z(5, 4).bool().numpy()),
        TypeError,
        r"gru: reset must be a torch tensor, got ndarray",
    ),
    (
        lambda: _with("gru", reset=Z(5, 4, device="meta").bool()),
        ValueError,
        r"gru: reset must be a dense array on the CPU, got meta",
    ),
    (
        lambda: _with("gru", 2, reset=Z(5, 4).bool()),
        ValueError,
        r"gru: reset must be None with two directions",
    ),
    (lambda: _with("gru", seed=3), TypeError, r"gru: seed must be a torch tensor, got int"),
    (
        lambda: _with("gru", seed=torch.tensor(3, dtype=torch.int32)),
        TypeError,
        r"gru: seed must be int64, got torch.int32",
    ),
    (
        lambda: _with("gru", seed=torch.tensor([1, 2])),
        ValueError,
        r"gru: seed must be one number, got \[2\]",
    ),
    (
        lambda: _with("gru", seed=torch.tensor(3, device="meta")),
        ValueError,
        r"gru: seed must be a dense array on the CPU, got meta",
    ),
    # Whatever is the same for all.
    (
        lambda: _with("rnn", input=Z(5, 6)),
        ValueError,
        r"rnn: input must be \[steps, batch, input_size\]",
    ),
    (
        lambda: _with("gru", hidden=Z(1, 4, 8)),
        ValueError,
        r"gru: hidden must be \[1, 4, 7\], got \[1, 4, 8\]",
    ),
    (
        lambda: _with("jordan", hidden=Z(1, 4, 7)),
        ValueError,
        r"rnn: hidden must be \[1, 4, 5\], got \[1, 4, 7\]",
    ),
    (
        lambda: _with("gru", lengths=torch.tensor([1, 2, 3, 6])),
        ValueError,
        r"gru: lengths must be from 0 to 5, got 6",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_bad_input(make: Any, error: type[Exception], message: str) -> None:
    case = make()
    with pytest.raises(error, match=f"^{message}"):
        case.forward(ops)


def test_options_of_a_wrong_type() -> None:
    case = make_case("lstm", 2, 2, 3, 4)
    for options in (None, {}, (0.0,), "plain", [1]):
        with pytest.raises(TypeError, match=r"^lstm: options must be Options, got"):
            ops.rnn.lstm_forward(case.input, None, None, case.weights, options=options)


@pytest.mark.parametrize(
    ("name", "position", "value", "error", "message"),
    [
        ("gru", 0, Z(5, 4, 6), ValueError, r"gru: grad_output must be \[5, 4, 7\]"),
        ("gru", 1, Z(1, 4, 6), ValueError, r"gru: grad_hidden_n must be \[1, 4, 7\]"),
        ("gru", 6, Z(5, 4, 6), ValueError, r"gru: output must be \[5, 4, 7\]"),
        ("gru", 7, Z(5, 4, 21), ValueError, r"gru: gates must be \[5, 4, 28\], got \[5, 4, 21\]"),
        ("gru-norm", 7, Z(5, 4, 28), ValueError, r"gru: gates must be \[5, 4, 49\]"),
        ("gru_before", 7, Z(5, 4, 28), ValueError, r"gru: gates must be \[5, 4, 21\]"),
        ("gru_update", 7, Z(5, 4, 28), ValueError, r"gru: gates must be \[5, 4, 14\]"),
        ("rnn", 7, None, TypeError, "rnn: gates must be a torch tensor, got NoneType"),
        ("lstm-coupled", 11, Z(5, 4, 28), ValueError, r"lstm: gates must be \[5, 4, 21\]"),
    ],
)
def test_bad_backward_input(name: str, position: int, value: Any, error: Any, message: str) -> None:
    case = make_case(name, 5, 4, 6, 7).tensors("float32")
    output, *_, gates = case.forward(ops)[: 3 + 2 * (len(case.states) - 1)]
    kept = (output, case.forward(ops)[3], gates) if len(case.states) == 2 else (output, gates)
    arguments = [*case.grads, case.input, *case.states, case.weights, None, *kept]
    arguments[position] = value
    function = getattr(ops.rnn, f"{case.variant.operation}_backward")
    with pytest.raises(error, match=f"^{message}"):
        function(*arguments, options=case.variant.options)


def test_statistics_are_asked_for() -> None:
    case = make_case("gru-norm", 5, 4, 6, 7).tensors("float32")
    output, _, gates, _ = case.forward(ops)
    arguments = (*case.grads, case.input, case.hidden, case.weights, None, output, gates)
    with pytest.raises(TypeError, match=r"^gru: statistics must be a torch tensor, got NoneType"):
        ops.rnn.gru_backward(*arguments)
    with pytest.raises(ValueError, match=r"^gru: statistics must be \[5, 4, 4\]"):
        ops.rnn.gru_backward(*arguments, statistics=Z(5, 4, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_relu_at_zero_has_no_slope_beside_zoneout(kernels: Backend, dtype: str) -> None:
    """In evaluation h[t] holds a share of h[t-1], and only what is beyond it is the relu's."""
    plain = VARIANTS["jordan-relu"]
    variant = replace(plain, options=plain.options._replace(zoneout=(0.1, 0.0)))
    case = make_case(variant, 9, 17, 4, 7, ragged=True)
    check_case(case, case.both(reference), dtype, kernels.device)

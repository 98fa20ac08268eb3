"""Products of 8 bits against their twin: exact sums, so all but the last digits agree."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.ops import rnn_int8 as int8
from seqfast.ops.rnn import Options
from seqfast.reference import rnn_int8

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {}),
    "gru": ("gru", {}),
    "rnn": ("rnn", {}),
    "relu": ("rnn", {"nonlinearity": "relu"}),
    "coupled": ("lstm", {"coupled_gates": True}),
    "clipped": ("lstm", {"cell_clip": 0.3, "gate_clip": 1.0, "zoneout": (0.1, 0.3)}),
    "before": ("gru", {"reset_after": False}),
    "update gate": ("gru", {"reset_gate": False}),
}


def random_case(
    case: str, steps: int, batch: int, size: int, hidden: int, directions: int = 1, extra: str = ""
) -> tuple[Any, ...]:
    operation, options = CASES[case]
    gates = GATES[operation] - (case in ("coupled", "update gate"))
    rng = np.random.default_rng(steps + 10 * batch + size + hidden)

    def draw(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 0.4).astype(np.float32)

    outputs = 3 if extra == "projection" else hidden
    rows, scales = [], []
    for _ in range(directions):
        pairs = [int8.quantize_weight(draw(gates * hidden, n)) for n in (size, outputs)]
        row = [pairs[0][0], pairs[1][0], draw(gates * hidden), draw(gates * hidden)]
        row.append(draw(outputs, hidden) if extra == "projection" else None)
        if extra == "peephole":
            row += [None, draw(3, hidden)]
        rows.append(row)
        scales.append((pairs[0][1], pairs[1][1]))
    state = draw(directions, batch, outputs)
    cell = draw(directions, batch, hidden) if operation == "lstm" else None
    input = draw(steps, batch, size) * 3
    return (operation, input, state, cell, rows, scales), Options(**options)


def check(given: tuple[Any, ...], options: Options, **more: Any) -> None:
    found = int8.int8_forward(*given, **more, options=options)
    wanted = rnn_int8.int8_forward(*given, **more, options=options)
    for one, other in zip(found, wanted, strict=True):
        if other is None:
            assert one is None
        else:
            # A half that falls to another side moves a product by 1 / 127 of its largest factor.
            largest = np.abs(other).max(initial=1)
            np.testing.assert_allclose(one, other, rtol=0, atol=0.02 * largest)
            assert np.abs(one - other).sum() <= 2e-4 * largest * other.size


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (1, 1, 5, 7), (4, 3, 13, 33), (3, 41, 64, 80), (60, 2, 3, 17)], ids=str
)
def test_against_the_twin(case: str, shape: tuple[int, ...], cpu_isa: str) -> None:
    check(*random_case(case, *shape))


@pytest.mark.parametrize("extra", ["projection", "peephole"])
@pytest.mark.parametrize("directions", [1, 2])
def test_options_and_directions(extra: str, directions: int, cpu_isa: str) -> None:
    given, options = random_case("lstm", 5, 4, 9, 21, directions, extra)
    check(given, options)
    check(given, options, lengths=np.array([5, 0, 2, 3]))
    if directions == 1:
        check(given, options, reset=np.random.default_rng(0).random((5, 4)) < 0.3)


@pytest.mark.parametrize("case", ["lstm", "gru", "rnn"])
def test_nothing_at_all(case: str) -> None:
    for shape in ((0, 2, 3, 4), (2, 0, 3, 4)):
        check(*random_case(case, *shape))
    given, options = random_case(case, 3, 2, 5, 6)
    operation, input, hidden, cell, rows, scales = given
    check((operation, input * 0, None, None, rows, scales), options)
    zeros = [(w * 0, r * 0, *rest) for w, r, *rest in rows]
    check((operation, input, hidden, cell, zeros, [(a * 0, b * 0) for a, b in scales]), options)


def test_products_are_exact_and_the_same_on_every_instruction_set(cpu_isa: str) -> None:
    """relu(x W^T) at the largest values that there are, of a depth at which 16 bits are too few."""
    depth, units = 1021, 37
    sign = np.where(np.arange(units) % 2, 1, -1).astype(np.int8)
    weight = np.full((units, depth), 127, np.int8) * sign[:, None]
    row = weight, np.zeros((units, units), np.int8), None, None, None
    one = np.ones(units, np.float32)
    for value in (127.0, -127.0):
        x = np.full((1, 3, depth), value, np.float32)
        options = Options(nonlinearity="relu")
        output, *_ = int8.int8_forward("rnn", x, None, None, [row], [(one, one)], options=options)
        wanted = np.maximum(sign.astype(np.float64) * 127 * value * depth, 0)
        np.testing.assert_allclose(output, np.broadcast_to(wanted, output.shape), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_nan(bad: float, cpu_isa: str) -> None:
    given, options = random_case("lstm", 4, 3, 9, 21)
    given[1][2, 1, 4] = bad
    for forward in (int8.int8_forward, rnn_int8.int8_forward):
        output, *_ = forward(*given, options=options)
        assert np.isfinite(output[:2]).all()
        assert np.isfinite(output[:, [0, 2]]).all()
        assert np.isnan(output[2:, 1]).all()


@pytest.mark.parametrize("size", [1e-45, 1e-39, 3e-37, 1.4e-36])
def test_rows_too_small_for_a_scale_are_zeros(size: float) -> None:
    weight = np.array([[size, 0, -size / 2], [1, 0, -1]], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        for quantize in (int8.quantize_weight, rnn_int8.quantize_weight):
            assert quantize(weight)[0].tolist() == [[0, 0, 0], [127, 0, -127]]


def test_weights() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(7, 33)).astype(np.float32)
    weight[3] = 0
    for given in (weight, torch.from_numpy(weight), torch.from_numpy(weight.T.copy()).T):
        quantized, scale = (np.asarray(x) for x in int8.quantize_weight(given))
        wanted = rnn_int8.quantize_weight(weight)
        np.testing.assert_array_equal(quantized, wanted[0])
        np.testing.assert_array_equal(scale, wanted[1])
        assert quantized.dtype == np.int8
        assert (np.abs(quantized * scale[:, None] - weight) <= scale[:, None] * 0.501).all()
    for bad in (np.nan, np.inf):
        weight[2, 2] = bad
        with pytest.raises(ValueError, match="weight must be finite"):
            int8.quantize_weight(weight)
    with pytest.raises(TypeError, match="weight must be float32, got float64"):
        int8.quantize_weight(weight.astype(np.float64))
    with pytest.raises(ValueError, match=r"weight must be \[rows, columns\]"):
        int8.quantize_weight(weight[0])


def test_what_does_not_fit_is_refused() -> None:
    (operation, input, _, _, rows, scales), options = random_case("lstm", 4, 3, 9, 21)

    def refused(error: type[Exception], message: str, *given: Any, options: Any = options) -> None:
        with pytest.raises(error, match=message):
            int8.int8_forward(*given, options=options)

    row, pair = rows[0], scales[0]
    wide = [row[0].astype(np.float32), *row[1:]]
    refused(TypeError, "weight_ih must be int8", operation, input, None, None, [wide], scales)
    refused(
        TypeError, "input must be float32", operation, input.astype("f8"), None, None, rows, scales
    )
    refused(ValueError, "scales must be 1 pairs", operation, input, None, None, rows, [])
    short = [(pair[0][:-1], pair[1])]
    refused(ValueError, r"scale_ih must be \[84\]", operation, input, None, None, rows, short)
    refused(ValueError, "weight_ih", operation, input[..., :-1], None, None, rows, scales)
    ones = [np.ones(n, np.float32) for n in (84, 21, 21)]
    norm = [[*row, None, None, *ones]]
    refused(
        ValueError,
        "layer normalisation has no kernel in 8 bits",
        operation,
        input,
        None,
        None,
        norm,
        scales,
    )


def test_twins_have_the_same_signature() -> None:
    for name in ("int8_forward", "quantize_weight"):
        fast = inspect.signature(getattr(int8, name))
        assert list(fast.parameters) == list(inspect.signature(getattr(rnn_int8, name)).parameters)


def test_tensors_and_threads() -> None:
    given, options = random_case("gru", 20, 9, 30, 130)
    wanted = int8.int8_forward(*given, options=options)
    as_tensors = [x if x is None or isinstance(x, str) else torch.from_numpy(x) for x in given[:4]]
    rows = [[None if w is None else torch.from_numpy(w) for w in row] for row in given[4]]
    scales = [tuple(torch.from_numpy(s) for s in pair) for pair in given[5]]
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        found = int8.int8_forward(*as_tensors, rows, scales, options=options)
        assert torch.equal(found[0], torch.from_numpy(wanted[0]))
    torch.set_num_threads(threads)

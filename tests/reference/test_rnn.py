"""The NumPy twin itself: against finite differences, and against torch in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from cases import Layer, assert_close, make_layer, reference_results

from seqfast.reference import rnn as reference

OPTIONS = [
    pytest.param(directions, proj_size, bias, states, ragged, id="-".join(names))
    for directions, proj_size, bias, states, ragged in itertools.product(
        (1, 2), (0, 2), (True, False), (True, False), (True, False)
    )
    for names in [
        [
            f"directions{directions}",
            f"proj{proj_size}",
            *(["bias"] if bias else []),
            *(["states"] if states else []),
            *(["ragged"] if ragged else []),
        ]
    ]
]


def _loss(layer: Layer) -> float:
    output, hidden_n, cell_n, cells, _ = reference.lstm_forward(*layer.forward_args())
    return float(
        sum(
            (a * g).sum()
            for a, g in zip((output, hidden_n, cell_n, cells), layer.grads, strict=True)
        )
    )


@pytest.mark.parametrize(("directions", "proj_size", "bias", "states", "ragged"), OPTIONS)
def test_gradients_match_finite_differences(
    directions: int, proj_size: int, bias: bool, states: bool, ragged: bool
) -> None:
    layer = make_layer(4, 3, 2, 3, proj_size, directions, bias=bias, states=states, ragged=ragged)
    _, (grad_input, grad_hidden, grad_cell, grad_weights) = reference_results(layer)
    pairs: list[tuple[Any, Any]] = [(layer.input, grad_input)]
    if states:
        pairs += [(layer.hidden, grad_hidden), (layer.cell, grad_cell)]
    for weights, grads in zip(layer.weights, grad_weights, strict=True):
        pairs += zip(weights, grads, strict=True)
    rng = np.random.default_rng(1)
    step = 1e-6
    for array, grad in pairs:
        if array is None:
            assert grad is None
            continue
        # Along a random direction: every element takes part, and two evaluations do.
        along = rng.standard_normal(array.shape)
        array += step * along
        above = _loss(layer)
        array -= 2 * step * along
        below = _loss(layer)
        array += step * along
        np.testing.assert_allclose(
            (grad * along).sum(), (above - below) / (2 * step), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize(("directions", "proj_size", "bias", "states", "ragged"), OPTIONS)
def test_matches_torch(
    directions: int, proj_size: int, bias: bool, states: bool, ragged: bool
) -> None:
    layer = make_layer(6, 4, 5, 7, proj_size, directions, bias=bias, states=states)
    if ragged:
        layer.lengths = np.array([6, 3, 3, 1])
    forward, (grad_input, grad_hidden, grad_cell, grad_weights) = reference_results(layer)

    module = torch.nn.LSTM(
        5, 7, bias=bias, bidirectional=directions == 2, proj_size=proj_size, dtype=torch.float64
    )
    flat = [weight for weights in layer.weights for weight in weights if weight is not None]
    with torch.no_grad():
        for parameter, weight in zip(module.parameters(), flat, strict=True):
            parameter.copy_(torch.from_numpy(weight))
    x = torch.from_numpy(layer.input).requires_grad_()
    hx = None
    if states:
        hx = tuple(torch.from_numpy(s).requires_grad_() for s in (layer.hidden, layer.cell))
    if ragged:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(layer.lengths))
        packed_output, (h_n, c_n) = module(packed, hx)
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_output, total_length=6)
    else:
        output, (h_n, c_n) = module(x, hx)
    assert_close((output, h_n, c_n), forward[:3], "float64")

    # torch returns no cells: their gradient is left out.
    layer.grads = (*layer.grads[:3], None)
    grad_input, grad_hidden, grad_cell, grad_weights = reference.lstm_backward(
        *layer.backward_args(forward)
    )
    torch.autograd.backward((output, h_n, c_n), tuple(torch.from_numpy(g) for g in layer.grads[:3]))
    assert_close(x.grad, grad_input, "float64")
    if hx is not None:
        assert_close((hx[0].grad, hx[1].grad), (grad_hidden, grad_cell), "float64")
    flat_grads = [grad for grads in grad_weights for grad in grads if grad is not None]
    assert_close([p.grad for p in module.parameters()], flat_grads, "float64")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype: Any) -> None:
    layer = make_layer(3, 2, 4, 5)
    cast = [None if w is None else w.astype(dtype) for w in layer.weights[0]]
    output, hidden_n, cell_n, cells, gates = reference.lstm_forward(
        layer.input.astype(dtype), None, None, [tuple(cast)]
    )
    assert output.dtype == hidden_n.dtype == cell_n.dtype == gates.dtype == dtype
    assert cells.dtype == (np.float64 if dtype == np.float64 else np.float32)


def test_without_save_nothing_is_kept() -> None:
    layer = make_layer(3, 2, 4, 5)
    *_, cells, gates = reference.lstm_forward(*layer.forward_args(), save=False)
    assert cells is None
    assert gates is None

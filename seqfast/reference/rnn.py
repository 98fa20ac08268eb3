"""Recurrent layers in plain NumPy: what `seqfast.ops.rnn` must compute, equation by equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Weights = tuple[Array, Array, Array | None, Array | None, Array | None]


def lstm_forward(
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    save: bool = True,
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """One LSTM layer over a whole sequence, in one or both directions (docs/equations.md).

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000 and the projection of
    Sak et al. 2014. Shapes, with `output_size = proj_size or hidden_size`:

    - `input` [steps, batch, input_size]; `hidden` [directions, batch, output_size] and `cell`
      [directions, batch, hidden_size], None for zeros.
    - `weights`: per direction `(weight_ih [4 * hidden_size, input_size], weight_hh [4 *
      hidden_size, output_size], bias_ih, bias_hh [4 * hidden_size] or None, weight_hr [proj_size,
      hidden_size] or None)`, gates in the order i f g o. The second runs backward in time.
    - `lengths` [batch], integers: steps of each row. Past them output, cells and gates are zero.

    Returns `output` [steps, batch, directions * output_size], `hidden_n` and `cell_n` (as `hidden`
    and `cell`), `cells` [steps, batch, directions * hidden_size] and `gates` [steps, batch,
    directions * 4 * hidden_size], the last two None unless `save`. Arithmetic and `cells` are in
    float64 for float64, else in float32; everything else has the dtype of `input`.
    """
    steps, batch, _ = input.shape
    directions, hidden_size = len(weights), weights[0][0].shape[0] // 4
    output_size = weights[0][1].shape[1]
    dtype, accumulate = input.dtype, _accumulate_dtype(input)
    active = _active(lengths, steps, batch)

    output = np.zeros((steps, batch, directions, output_size), dtype)
    cells = np.zeros((steps, batch, directions, hidden_size), accumulate)
    gates = np.zeros((steps, batch, directions, 4, hidden_size), dtype)
    hidden_n = np.zeros((directions, batch, output_size), dtype)
    cell_n = np.zeros((directions, batch, hidden_size), dtype)

    for d in range(directions):
        weight_ih, weight_hh, bias, weight_hr = _direction_weights(weights[d], accumulate)
        h = _state(hidden, d, (batch, output_size), accumulate)
        c = _state(cell, d, (batch, hidden_size), accumulate)
        for t in _time(d, steps):
            z = input[t].astype(accumulate) @ weight_ih.T + h @ weight_hh.T + bias
            i, f, g, o = np.split(z, 4, axis=-1)
            i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
            c_next = f * c + i * g
            h_next = o * np.tanh(c_next)
            if weight_hr is not None:
                h_next = h_next @ weight_hr.T
            # What is stored is what the next step reads: h passes through the storage dtype.
            h_next = h_next.astype(dtype).astype(accumulate)
            h, c = np.where(active[t], h_next, h), np.where(active[t], c_next, c)
            output[t, :, d] = np.where(active[t], h_next, 0)
            cells[t, :, d] = np.where(active[t], c_next, 0)
            gates[t, :, d] = np.where(active[t, :, None], np.stack([i, f, g, o], axis=1), 0)
        hidden_n[d], cell_n[d] = h, c

    flat_output = output.reshape(steps, batch, directions * output_size)
    if not save:
        return flat_output, hidden_n, cell_n, None, None
    return (
        flat_output,
        hidden_n,
        cell_n,
        cells.reshape(steps, batch, directions * hidden_size),
        gates.reshape(steps, batch, directions * 4 * hidden_size),
    )


def lstm_backward(
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    grad_cell_n: Array | None,
    grad_cells: Array | None,
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    output: Array,
    cells: Array,
    gates: Array,
    *,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None, tuple[tuple[Array | None, ...], ...] | None]:
    """Gradients of `lstm_forward`, by back-propagation through time (docs/equations.md).

    `grad_output`, `grad_hidden_n`, `grad_cell_n`, `grad_cells`: shaped as the results of
    `lstm_forward`, None for zero. `output`, `cells`, `gates`: what it returned.
    `needs`: which of (input, hidden and cell, weights) to return a gradient for; None for others.

    Returns `(grad_input, grad_hidden, grad_cell, grad_weights)`, shaped as the arguments;
    `grad_weights` holds None where a weight is None.
    """
    steps, batch, input_size = input.shape
    directions, hidden_size = len(weights), weights[0][0].shape[0] // 4
    output_size = weights[0][1].shape[1]
    dtype, accumulate = input.dtype, _accumulate_dtype(input)
    active = _active(lengths, steps, batch)

    output = output.reshape(steps, batch, directions, output_size).astype(accumulate)
    cells = cells.reshape(steps, batch, directions, hidden_size).astype(accumulate)
    gates = gates.reshape(steps, batch, directions, 4, hidden_size).astype(accumulate)
    if grad_output is not None:
        grad_output = grad_output.reshape(output.shape).astype(accumulate)
    if grad_cells is not None:
        grad_cells = grad_cells.reshape(cells.shape).astype(accumulate)

    grad_input = np.zeros((steps, batch, input_size), accumulate)
    grad_hidden = np.zeros((directions, batch, output_size), dtype)
    grad_cell = np.zeros((directions, batch, hidden_size), dtype)
    grad_weights: list[tuple[Array | None, ...]] = []

    for d in range(directions):
        weight_ih, weight_hh, _, weight_hr = _direction_weights(weights[d], accumulate)
        h_0 = _state(hidden, d, (batch, output_size), accumulate)
        c_0 = _state(cell, d, (batch, hidden_size), accumulate)
        dh = _state(grad_hidden_n, d, (batch, output_size), accumulate)
        dc = _state(grad_cell_n, d, (batch, hidden_size), accumulate)
        grad_ih, grad_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
        grad_bias = np.zeros(4 * hidden_size, accumulate)
        grad_hr = None if weight_hr is None else np.zeros_like(weight_hr)

        for t in reversed(_time(d, steps)):
            on = active[t]
            before = t - 1 if d == 0 else t + 1
            # A row's first step, in its own direction, started from the initial state.
            follows = active[before] if 0 <= before < steps else np.zeros_like(on)
            h_before = np.where(follows, output[before % steps, :, d], h_0)
            c_before = np.where(follows, cells[before % steps, :, d], c_0)
            i, f, g, o = (gates[t, :, d, k] for k in range(4))
            tanh_c = np.tanh(cells[t, :, d])

            # Sums over everything that used h[t] and c[t].
            dh_t = dh if grad_output is None else dh + grad_output[t, :, d]
            dc_t = dc if grad_cells is None else dc + grad_cells[t, :, d]
            dh_t, dc_t = np.where(on, dh_t, 0), np.where(on, dc_t, 0)
            if weight_hr is not None and grad_hr is not None:
                grad_hr += dh_t.T @ (o * tanh_c)
                dh_t = dh_t @ weight_hr
            dc_t = dc_t + dh_t * o * (1 - tanh_c**2)
            dz = np.concatenate(
                [
                    dc_t * g * i * (1 - i),
                    dc_t * c_before * f * (1 - f),
                    dc_t * i * (1 - g**2),
                    dh_t * tanh_c * o * (1 - o),
                ],
                axis=-1,
            )
            grad_input[t] += dz @ weight_ih
            # Padding may hold NaN, and 0 * NaN is NaN.
            grad_ih += dz.T @ np.where(on, input[t].astype(accumulate), 0)
            grad_hh += dz.T @ h_before
            grad_bias += dz.sum(0)
            # Rows that do not run at t pass their gradients on untouched.
            dh, dc = np.where(on, dz @ weight_hh, dh), np.where(on, dc_t * f, dc)

        grad_hidden[d], grad_cell[d] = dh, dc
        _, _, bias_ih, bias_hh, _ = weights[d]
        grads = [
            grad_ih,
            grad_hh,
            None if bias_ih is None else grad_bias,
            None if bias_hh is None else grad_bias,
            grad_hr,
        ]
        grad_weights.append(tuple(None if x is None else x.astype(dtype) for x in grads))

    return (
        grad_input.astype(dtype) if needs[0] else None,
        grad_hidden if needs[1] else None,
        grad_cell if needs[1] else None,
        tuple(grad_weights) if needs[2] else None,
    )


def _accumulate_dtype(input: Array) -> np.dtype[Any]:
    return np.dtype(np.float64 if input.dtype == np.float64 else np.float32)


def _active(lengths: Array | None, steps: int, batch: int) -> npt.NDArray[np.bool_]:
    """[steps, batch, 1]: true where a row still runs."""
    if lengths is None:
        return np.ones((steps, batch, 1), np.bool_)
    return np.asarray(np.arange(steps)[:, None, None] < lengths[None, :, None])


def _time(direction: int, steps: int) -> range:
    return range(steps) if direction == 0 else range(steps - 1, -1, -1)


def _state(
    states: Array | None, direction: int, shape: tuple[int, int], dtype: np.dtype[Any]
) -> Array:
    return np.zeros(shape, dtype) if states is None else states[direction].astype(dtype)


def _direction_weights(
    weights: Weights, dtype: np.dtype[Any]
) -> tuple[Array, Array, Array, Array | None]:
    """`weight_ih`, `weight_hh`, the sum of the biases, `weight_hr`, ready for arithmetic."""
    weight_ih, weight_hh, bias_ih, bias_hh, weight_hr = weights
    bias = np.zeros(weight_ih.shape[0], dtype)
    for part in (bias_ih, bias_hh):
        if part is not None:
            bias = bias + part.astype(dtype)
    return (
        weight_ih.astype(dtype),
        weight_hh.astype(dtype),
        bias,
        None if weight_hr is None else weight_hr.astype(dtype),
    )


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))

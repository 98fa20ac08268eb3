"""Recurrent layers in plain NumPy: what `seqfast.ops.rnn` must compute, equation by equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqfast.reference._cells import (
    Array,
    At,
    Cell,
    DType,
    Kept,
    gru_cell,
    lstm_cell,
    rnn_cell,
    zoned,
)
from seqfast.reference._options import PLAIN, Options
from seqfast.reference._philox import Draw, events, kept_scale, stream_of

__all__ = [
    "Options",
    "Weights",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]

Weights = Sequence[Array | None]
GradWeights = tuple[tuple[Array | None, ...], ...]


def lstm_forward(
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | int | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One LSTM layer over a whole sequence, in one or both directions (docs/equations.md).

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000 and the projection of
    Sak et al. 2014; `options` names the variants. With `output_size = proj_size or hidden_size` and
    four gates i f g o, or three, i g o, with `coupled_gates` or without `forget_gate`:

    - `input` [steps, batch, input_size]; `hidden` [directions, batch, output_size] and `cell`
      [directions, batch, hidden_size], None for zeros.
    - `weights`: per direction the first five to ten of `(weight_ih [gates * hidden_size,
      input_size], weight_hh [gates * hidden_size, output_size], bias_ih, bias_hh [gates *
      hidden_size], weight_hr [proj_size, hidden_size], bias_hr [proj_size], weight_peephole [3,
      hidden_size], weight_norm_hh [gates * hidden_size], weight_norm_cell, bias_norm_cell
      [hidden_size])`, None (or left out) where absent. The second direction runs backward in time.
      Without weight_ih `input` is the product with it, [steps, batch, directions * gates *
      hidden_size]. weight_norm_hh asks for layer normalisation.
    - `lengths` [batch], integers: steps of each row. Past them everything is zero.
    - `reset` [steps, batch], bool: where true a row's states are zeroed before that step.
    - `seed`: an int64, or an array of one, by which masks are drawn; None for evaluation.

    Returns `output` [steps, batch, directions * output_size], `hidden_n` and `cell_n` (as `hidden`
    and `cell`), `cells` [steps, batch, directions * hidden_size] and `gates` [steps, batch,
    directions * gates * hidden_size], the last two None unless `save`. With layer normalisation
    `gates` has per direction another gates * hidden_size, the normalised product, and `statistics`
    [steps, batch, directions * 4] comes last. Arithmetic, `cells` and `statistics` are in float64
    for float64, else in float32; everything else has the dtype of `input`.

    Arguments and results are those of
    `seqfast.ops.rnn.functions.lstm_forward`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn
        >>> x, w, r = (np.zeros(shape, np.float32) for shape in ((5, 2, 3), (16, 3), (16, 4)))
        >>> output, hidden_n, *_ = rnn.lstm_forward(x, None, None, [(w, r, None, None, None)])
        >>> output.shape, hidden_n.shape
        ((5, 2, 4), (1, 2, 4))
    """
    layer = _Layer(lstm_cell(options), input, weights, lengths, reset, seed, options)
    *results, statistics = _forward(layer, hidden, cell, save)
    return (*results, statistics) if layer.layer_norm else tuple(results)


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
    statistics: Array | None = None,
    reset: Array | None = None,
    seed: Array | int | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None, GradWeights | None]:
    """Gradients of `lstm_forward`, by back-propagation through time (docs/equations.md).

    `grad_output`, `grad_hidden_n`, `grad_cell_n`, `grad_cells`: shaped as the results of
    `lstm_forward`, None for zero. `output`, `cells`, `gates`, `statistics`: what it returned.
    `needs`: which of (input, hidden and cell, weights) to return a gradient for; None for others.

    Returns `(grad_input, grad_hidden, grad_cell, grad_weights)`, shaped as the arguments;
    `grad_weights` holds None where a weight is None.

    Arguments and results are those of
    `seqfast.ops.rnn.functions.lstm_backward`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn
        >>> x, w, r = (np.ones(shape, np.float32) for shape in ((5, 2, 3), (16, 3), (16, 4)))
        >>> given = x, None, None, [(w, r, None, None, None)], None
        >>> output, _, _, cells, gates = rnn.lstm_forward(*given)
        >>> rnn.lstm_backward(output, None, None, None, *given, output, cells, gates)[0].shape
        (5, 2, 3)
    """
    layer = _Layer(lstm_cell(options), input, weights, lengths, reset, seed, options)
    grads = grad_output, grad_hidden_n, grad_cell_n, grad_cells
    grad_input, grad_hidden, grad_cell, grad_weights = _backward(
        layer, hidden, cell, grads, _Saved(output, cells, gates, statistics)
    )
    return (
        grad_input if needs[0] else None,
        grad_hidden if needs[1] else None,
        grad_cell if needs[1] else None,
        grad_weights if needs[2] else None,
    )


def gru_forward(
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | int | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One GRU layer over a whole sequence, in one or both directions (docs/equations.md).

    Cho et al. 2014, the reset gate after the recurrent product as in cuDNN and torch; `options`
    also has the form with the reset gate before it and the one without a reset gate. Arguments and
    results are those of `lstm_forward` without a cell state: gates are r z n (z n without a reset
    gate), `weights` has no projection, no peephole and no norm of a cell.

    Returns `output` [steps, batch, directions * hidden_size], `hidden_n` (as `hidden`) and `gates`
    [steps, batch, directions * saved * hidden_size], None unless `save`, which holds per direction
    r z n and, with the reset gate after the product, the recurrent product's share of n; with layer
    normalisation the normalised product follows, and `statistics` comes last.

    Arguments and results are those of
    `seqfast.ops.rnn.functions.gru_forward`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn
        >>> x, w, r = (np.zeros(shape, np.float32) for shape in ((5, 2, 3), (12, 3), (12, 4)))
        >>> output, hidden_n, gates = rnn.gru_forward(x, None, [(w, r, None, None, None)])
        >>> output.shape, hidden_n.shape
        ((5, 2, 4), (1, 2, 4))
    """
    return _forward_without_cell(
        _Layer(gru_cell(options), input, weights, lengths, reset, seed, options), hidden, save
    )


def gru_backward(
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    output: Array,
    gates: Array,
    *,
    statistics: Array | None = None,
    reset: Array | None = None,
    seed: Array | int | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, GradWeights | None]:
    """Gradients of `gru_forward`, by back-propagation through time (docs/equations.md).

    Arguments as for `lstm_backward`. Returns `(grad_input, grad_hidden, grad_weights)`.

    Arguments and results are those of
    `seqfast.ops.rnn.functions.gru_backward`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn
        >>> x, w, r = (np.ones(shape, np.float32) for shape in ((5, 2, 3), (12, 3), (12, 4)))
        >>> given = x, None, [(w, r, None, None, None)], None
        >>> output, _, gates = rnn.gru_forward(*given)
        >>> rnn.gru_backward(output, None, *given, output, gates)[0].shape
        (5, 2, 3)
    """
    return _backward_without_cell(
        _Layer(gru_cell(options), input, weights, lengths, reset, seed, options),
        hidden,
        (grad_output, grad_hidden_n, None, None),
        _Saved(output, None, gates, statistics),
        needs,
    )


def rnn_forward(
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | int | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One plain recurrent layer over a whole sequence, in one or both directions.

    Elman 1990; with a projection (weight_hr and bias_hr), whose result is what is fed back, Jordan
    1986 (docs/equations.md). Arguments and results are those of `lstm_forward` without a cell
    state, with one gate, and without peephole and norm of a cell.

    Returns `output` [steps, batch, directions * output_size], `hidden_n` (as `hidden`) and `gates`
    [steps, batch, directions * hidden_size], None unless `save`, the activated values before the
    projection; with layer normalisation the normalised product follows, and `statistics` comes
    last.

    Arguments and results are those of
    `seqfast.ops.rnn.functions.rnn_forward`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn
        >>> x, w, r = (np.zeros(shape, np.float32) for shape in ((5, 2, 3), (4, 3), (4, 4)))
        >>> output, hidden_n, gates = rnn.rnn_forward(x, None, [(w, r, None, None, None)])
        >>> output.shape, hidden_n.shape
        ((5, 2, 4), (1, 2, 4))
    """
    return _forward_without_cell(
        _Layer(rnn_cell(options), input, weights, lengths, reset, seed, options), hidden, save
    )


def rnn_backward(
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    output: Array,
    gates: Array,
    *,
    statistics: Array | None = None,
    reset: Array | None = None,
    seed: Array | int | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, GradWeights | None]:
    """Gradients of `rnn_forward`, by back-propagation through time (docs/equations.md).

    Arguments as for `lstm_backward`. Returns `(grad_input, grad_hidden, grad_weights)`.

    Arguments and results are those of
    `seqfast.ops.rnn.functions.rnn_backward`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn
        >>> x, w, r = (np.ones(shape, np.float32) for shape in ((5, 2, 3), (4, 3), (4, 4)))
        >>> given = x, None, [(w, r, None, None, None)], None
        >>> output, _, gates = rnn.rnn_forward(*given)
        >>> rnn.rnn_backward(output, None, *given, output, gates)[0].shape
        (5, 2, 3)
    """
    return _backward_without_cell(
        _Layer(rnn_cell(options), input, weights, lengths, reset, seed, options),
        hidden,
        (grad_output, grad_hidden_n, None, None),
        _Saved(output, None, gates, statistics),
        needs,
    )


# ---- the walk over the steps, the same for every cell ----


class _Masks(NamedTuple):
    """Random numbers of a sequence; where nothing is drawn, what changes nothing."""

    hidden: Array  # [1, batch, output_size], 0 or 1 / (1 - p)
    update: Array  # [steps, batch, hidden_size], likewise
    cell: Array  # [1, batch, hidden_size], 0 or 1, in evaluation 1 - p
    zoneout_hidden: Array  # [steps, batch, output_size], the share of the old state that stays
    zoneout_cell: Array  # [steps, batch, hidden_size], likewise


class _Saved(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    output: Array
    cells: Array | None
    gates: Array
    statistics: Array | None


class _Layer:
    """What both passes know of a layer and its sequence."""

    def __init__(
        self,
        kind: type[Cell],
        input: Array,
        weights: Sequence[Weights],
        lengths: Array | None,
        reset: Array | None,
        seed: Array | int | None,
        options: Options,
    ) -> None:
        self.input, self.weights, self.seed, self.options = input, weights, seed, options
        self.steps, self.batch, _ = input.shape
        self.dtype: DType = input.dtype
        self.accumulate: DType = np.dtype(np.float64 if input.dtype == np.float64 else np.float32)
        self.cells = [kind(one, options, self.dtype, self.accumulate) for one in weights]
        self.directions = len(weights)
        self.hidden_size = self.cells[0].hidden_size
        self.output_size = self.cells[0].output_size
        self.cell_size = self.hidden_size if kind.has_cell_state else 0
        self.layer_norm = self.cells[0].layer_norm
        # Blocks of hidden_size in `gates`: the gates, then the normalised product.
        self.saved, self.normalised = kind.saved, kind.gates if self.layer_norm else 0
        # [steps, batch, 1]: where a row runs, and where it starts from zeros.
        self.active = np.ones((self.steps, self.batch, 1), np.bool_)
        if lengths is not None:
            self.active = np.arange(self.steps)[:, None, None] < lengths[None, :, None]
        self.fresh = np.zeros_like(self.active) if reset is None else reset[..., None] != 0

    def time(self, direction: int) -> range:
        return range(self.steps) if direction == 0 else range(self.steps - 1, -1, -1)

    def zeros(self, size: int, dtype: DType) -> Array:
        """An array with a place for every step, row and direction."""
        return np.zeros((self.steps, self.batch, self.directions, size), dtype)

    def state(self, states: Array | None, direction: int, size: int) -> Array:
        if states is None:
            return np.zeros((self.batch, size), self.accumulate)
        return np.asarray(states[direction].astype(self.accumulate))

    def input_of(self, direction: int) -> Array:
        """What one direction reads. Padding may hold NaN, and 0 * NaN is NaN."""
        part = self.input[..., self.input_part(direction)]
        return np.where(self.active, part, 0).astype(self.accumulate)

    def input_part(self, direction: int) -> slice:
        cell = self.cells[direction]
        if cell.weights.weight_ih is not None:
            return slice(None)
        size = cell.gates * self.hidden_size
        return slice(direction * size, (direction + 1) * size)

    def masks(self, direction: int) -> _Masks:
        options = self.options

        def drawn(draw: Draw, p: float, steps: int | None, size: int) -> Array:
            stream = stream_of(draw, options.layer, direction)
            return events(p, self.seed, stream, steps, self.batch, size)  # type: ignore[arg-type]

        def dropout(draw: Draw, on: str, steps: int | None, size: int) -> Array:
            p = options.recurrent_dropout
            if self.seed is None or options.recurrent_dropout_on != on:
                return np.ones((steps or 1, self.batch, size), self.accumulate)
            scales = np.where(drawn(draw, p, steps, size), 0, kept_scale(p))
            return scales.astype(self.accumulate)

        def cell_dropout() -> Array:
            p = options.recurrent_dropout if options.recurrent_dropout_on == "cell" else 0.0
            if self.seed is None or p == 0:
                return np.full((1, self.batch, self.cell_size), 1 - p, self.accumulate)
            dropped = drawn(Draw.HIDDEN_DROPOUT, p, None, self.cell_size)
            return (1 - dropped).astype(self.accumulate)

        def zoneout(draw: Draw, p: float, size: int) -> Array:
            if self.seed is None:
                return np.full((self.steps, self.batch, size), p, self.accumulate)
            return drawn(draw, p, self.steps, size).astype(self.accumulate)

        return _Masks(
            dropout(Draw.HIDDEN_DROPOUT, "hidden", None, self.output_size),
            dropout(Draw.UPDATE_DROPOUT, "update", self.steps, self.hidden_size),
            cell_dropout(),
            zoneout(Draw.ZONEOUT_HIDDEN, options.zoneout[0], self.output_size),
            zoneout(Draw.ZONEOUT_CELL, options.zoneout[1], self.cell_size),
        )

    def at(self, cell: Cell, masks: _Masks, t: int, h: Array, c: Array) -> At:
        """Step t, out of the states before it."""
        h, c = np.where(self.fresh[t], 0, h), np.where(self.fresh[t], 0, c)
        m = cell.rounded(h * masks.hidden[0])
        return At(h, c, m, masks.update[t], masks.cell[0], masks.zoneout_cell[t])


def _forward(
    layer: _Layer, hidden: Array | None, cell_state: Array | None, save: bool
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None]:
    """`output`, `hidden_n`, `cell_n`, `cells`, `gates`, `statistics` of any cell."""
    batch, hidden_size, dtype = layer.batch, layer.hidden_size, layer.dtype
    output = layer.zeros(layer.output_size, dtype)
    cells = layer.zeros(layer.cell_size, layer.accumulate)
    gates = layer.zeros((layer.saved + layer.normalised) * hidden_size, dtype)
    statistics = layer.zeros(4, layer.accumulate)
    hidden_n = np.zeros((layer.directions, batch, layer.output_size), dtype)
    cell_n = np.zeros((layer.directions, batch, layer.cell_size), dtype)

    for d, cell in enumerate(layer.cells):
        input, masks = layer.input_of(d), layer.masks(d)
        h = layer.state(hidden, d, layer.output_size)
        c = layer.state(cell_state, d, layer.cell_size)
        for t in layer.time(d):
            on = layer.active[t]
            at = layer.at(cell, masks, t, h, c)
            moved = cell.forward(cell.input_product(input[t]), at)
            h_new = cell.project(moved.result)
            # What is stored is what the next step reads: h passes through the storage dtype.
            h_new = cell.rounded(zoned(h_new, at.h, masks.zoneout_hidden[t]))
            # A row that does not run keeps its states.
            h, c = np.where(on, h_new, h), np.where(on, moved.c, c)
            kept = np.concatenate([*moved.saved, moved.product.normalised], axis=-1)
            output[t, :, d] = np.where(on, h_new, 0)
            cells[t, :, d] = np.where(on, moved.c, 0)
            gates[t, :, d] = np.where(on, kept, 0)
            groups = moved.product.rstd.shape[-1]
            statistics[t, :, d, :groups] = np.where(on, moved.product.rstd, 0)
            statistics[t, :, d, 2:] = np.where(on, np.concatenate(moved.norm_cell, axis=-1), 0)
        hidden_n[d], cell_n[d] = h, c

    def flat(x: Array) -> Array:
        return x.reshape(layer.steps, batch, x.shape[2] * x.shape[3])

    if not save:
        return flat(output), hidden_n, cell_n, None, None, None
    return flat(output), hidden_n, cell_n, flat(cells), flat(gates), flat(statistics)


def _backward(
    layer: _Layer,
    hidden: Array | None,
    cell_state: Array | None,
    grads: tuple[Array | None, Array | None, Array | None, Array | None],
    saved: _Saved,
) -> tuple[Array, Array, Array, GradWeights]:
    """Gradients of input, hidden state, cell state and weights; `grads` as for `lstm_backward`."""
    batch, dtype, accumulate = layer.batch, layer.dtype, layer.accumulate

    def by_direction(x: Array | None, size: int) -> Array:
        if x is None:
            return layer.zeros(size, accumulate)
        x = x.reshape(layer.steps, batch, layer.directions, size).astype(accumulate)
        return np.where(layer.active[:, :, None], x, 0)

    output = by_direction(saved.output, layer.output_size)
    cells = by_direction(saved.cells, layer.cell_size)
    gates = by_direction(saved.gates, (layer.saved + layer.normalised) * layer.hidden_size)
    statistics = by_direction(saved.statistics, 4)
    grad_output = by_direction(grads[0], layer.output_size)
    grad_cells = by_direction(grads[3], layer.cell_size)

    grad_input = np.zeros(layer.input.shape, accumulate)
    grad_hidden = np.zeros((layer.directions, batch, layer.output_size), dtype)
    grad_cell = np.zeros((layer.directions, batch, layer.cell_size), dtype)

    for d, cell in enumerate(layer.cells):
        input, masks = layer.input_of(d), layer.masks(d)
        h_0 = layer.state(hidden, d, layer.output_size)
        c_0 = layer.state(cell_state, d, layer.cell_size)
        dh = layer.state(grads[1], d, layer.output_size)
        dc = layer.state(grads[2], d, layer.cell_size)

        for t in reversed(layer.time(d)):
            on = layer.active[t]
            before = t - 1 if d == 0 else t + 1
            # A row's first step, in its own direction, started from the initial state.
            follows = layer.active[before] if 0 <= before < layer.steps else np.zeros_like(on)
            before %= layer.steps
            h = np.where(follows, output[before, :, d], h_0)
            c = np.where(follows, cells[before, :, d], c_0)
            at = layer.at(cell, masks, t, h, c)
            kept = _kept(layer, gates[t, :, d], statistics[t, :, d], cells[t, :, d])
            result = cell.result(at, kept)

            # Sums over everything that used h[t] and c[t].
            dh_t = np.where(on, dh + grad_output[t, :, d], 0)
            dc_t = np.where(on, dc + grad_cells[t, :, d], 0)
            zoneout = masks.zoneout_hidden[t]
            # Without zoneout the projected value is the output itself.
            held = layer.options.zoneout[0] > 0
            projected = cell.project(result) if held else output[t, :, d]
            dresult = cell.project_backward(dh_t * (1 - zoneout), projected, result)
            grad = cell.backward(dresult, dc_t, at, kept)
            grad_x = cell.input_product_backward(grad.x, input[t])
            grad_input[t, :, layer.input_part(d)] += grad_x
            # Rows that do not run at t pass their gradients on untouched; a reset ends them.
            to_h = dh_t * zoneout + grad.h + grad.m * masks.hidden[0]
            dh = np.where(on, np.where(layer.fresh[t], 0, to_h), dh)
            dc = np.where(on, np.where(layer.fresh[t], 0, grad.c), dc)

        grad_hidden[d], grad_cell[d] = dh, dc

    return (
        grad_input.astype(dtype),
        grad_hidden,
        grad_cell,
        tuple(
            tuple(None if x is None else x.astype(dtype) for x in cell.gradients)[: len(given)]
            for cell, given in zip(layer.cells, layer.weights, strict=True)
        ),
    )


def _kept(layer: _Layer, gates: Array, statistics: Array, cells: Array) -> Kept:
    """One step and direction of what the forward pass left."""
    end = layer.saved * layer.hidden_size
    groups = len(layer.cells[0].norm_groups)
    return Kept(
        np.split(gates[:, :end], layer.saved, axis=-1),
        gates[:, end:],
        statistics[:, :groups],
        cells,
        (statistics[:, 2:3], statistics[:, 3:4]),
    )


def _forward_without_cell(layer: _Layer, hidden: Array | None, save: bool) -> tuple[Any, ...]:
    output, hidden_n, _, _, gates, statistics = _forward(layer, hidden, None, save)
    results = output, hidden_n, gates
    return (*results, statistics) if layer.layer_norm else results


def _backward_without_cell(
    layer: _Layer,
    hidden: Array | None,
    grads: tuple[Array | None, Array | None, None, None],
    saved: _Saved,
    needs: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, GradWeights | None]:
    grad_input, grad_hidden, _, grad_weights = _backward(layer, hidden, None, grads, saved)
    return (
        grad_input if needs[0] else None,
        grad_hidden if needs[1] else None,
        grad_weights if needs[2] else None,
    )

"""Recurrent layers: checks, allocation and the call into the native kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from seqfast import _C
from seqfast.ops._arrays import (
    Array,
    ArrayLibrary,
    Shape,
    Workspace,
    check_array,
    check_contiguous,
    check_lengths,
    check_seed,
    dtype_name,
    library_of,
    thread_count,
)
from seqfast.ops._cells import GRU, Cell, cell_of
from seqfast.ops._options import PLAIN, Options
from seqfast.ops._route import checked_backend

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

_WEIGHT_NAMES = (
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
    "weight_hr",
    "bias_hr",
    "weight_peephole",
    "weight_norm_hh",
    "weight_norm_cell",
    "bias_norm_cell",
)
_IH, _HH, _BIAS_IH, _BIAS_HH, _HR, _BIAS_HR, _PEEPHOLE, _NORM_HH, _NORM_CELL, _BIAS_CELL = range(10)
_FEWEST, _MOST = 5, len(_WEIGHT_NAMES)
_ABSENT = (None,) * _MOST
_NOWHERE = 64  # the address of an array without elements
_STATISTICS = 4  # rstd_product, rstd_candidate, mean_cell, rstd_cell


def lstm_forward(
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One LSTM layer over a whole sequence, in one or both directions.

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, peepholes (Gers &
    Schmidhuber 2000), the projection of Sak et al. 2014, layer normalisation (Ba et al. 2016) and
    what `options` asks for (`seqfast.ops._options.Options`); same results as
    `seqfast.reference.rnn.lstm_forward`, equations in docs/equations.md. All arrays are NumPy
    arrays, or all are torch tensors (no autograd here: that is `seqfast.nn`) on the CPU or on one
    CUDA device, of one dtype: float32, float64, bfloat16 or float16. With `output_size = proj_size
    or hidden_size`, and `gates` 4 (i f g o), or 3 (i g o) with `coupled_gates` or without
    `forget_gate`:

    - `input` [steps, batch, input_size]; `hidden` [directions, batch, output_size] and `cell`
      [directions, batch, hidden_size], None for zeros.
    - `weights`: per direction the first five to ten of `(weight_ih [gates * hidden_size,
      input_size], weight_hh [gates * hidden_size, output_size], bias_ih, bias_hh [gates *
      hidden_size], weight_hr [proj_size, hidden_size], bias_hr [proj_size], weight_peephole [3,
      hidden_size] (i f o), weight_norm_hh [gates * hidden_size], weight_norm_cell, bias_norm_cell
      [hidden_size])`. All but weight_hh may be None. The second direction runs backward in time.
      Without weight_ih, `input` is the product with it, [steps, batch, directions * gates *
      hidden_size]. The last three go together and ask for layer normalisation.
    - `lengths` [batch], any integer dtype: steps of each row, 0 to `steps`. Past them output,
      cells and gates are zero; length 0 gives the initial state. With `input` on a GPU, lengths
      there are never looked at from the host: outside 0 to `steps` they count as the nearer end.
      They may be on the CPU as well, where they are checked.
    - `reset` [steps, batch], bool or uint8: where true, the row's states are zeroed before that
      step, and no gradient crosses. In one direction only.
    - `seed`: int64, one number, by which masks are drawn: the same on every backend and for any
      number of threads. None is evaluation: no dropout, zoneout by its expectation.

    On a GPU the call runs on torch's current stream of that device, and the host waits for nothing.

    Returns `output` [steps, batch, directions * output_size], `hidden_n` and `cell_n` (as `hidden`
    and `cell`), `cells` [steps, batch, directions * hidden_size] (float64 for float64, else
    float32) and `gates` [steps, batch, directions * gates * hidden_size], the last two None unless
    `save`. With layer normalisation a direction's gates are followed by as many of its normalised
    product, and a sixth result is `statistics` [steps, batch, directions * 4] (dtype as `cells`).

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device, length or
    option, or for options that do not go together.
    """
    layer = _check_layer("lstm", input, hidden, cell, weights, lengths, reset, seed, options)
    results = _forward(layer, save)
    return results if layer.cell_kind.layer_norm else results[:5]


def gru_forward(
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One GRU layer over a whole sequence, in one or both directions.

    Cho et al. 2014, by default with the reset gate after the recurrent product, as torch and cuDNN
    have it; `reset_after=False` (before it: ONNX, Keras) and `reset_gate=False` (an update gate
    alone) in `options` are the others. Same results as `seqfast.reference.rnn.gru_forward`,
    equations in docs/equations.md. Arrays, dtypes and devices, `lengths`, `reset` and `seed` are as
    for `lstm_forward`. With `gates` 3 (r z n), or 2 (z n) without reset gate:

    - `input` [steps, batch, input_size]; `hidden` [directions, batch, hidden_size], None for zeros.
    - `weights`: per direction the first five to ten of `(weight_ih [gates * hidden_size,
      input_size], weight_hh [gates * hidden_size, hidden_size], bias_ih, bias_hh [gates *
      hidden_size], None, None, None, weight_norm_hh [gates * hidden_size])`. All but weight_hh may
      be None. Without weight_ih, `input` is the product with it, [steps, batch, directions * gates
      * hidden_size]. weight_norm_hh asks for layer normalisation (Ba et al. 2016), which there is
      not with `reset_after=False`.

    Returns `output` [steps, batch, directions * hidden_size], `hidden_n` (as `hidden`) and `gates`
    [steps, batch, directions * saved * hidden_size], None unless `save`: r, z, n and the recurrent
    product's share of n with `reset_after`, else the gates. With layer normalisation a direction's
    are followed by the gates * hidden_size of its normalised product, and a fourth result is
    `statistics` [steps, batch, directions * 4], float64 for float64, else float32.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device, length or
    option, or for options that do not go together.
    """
    layer = _check_layer("gru", input, hidden, None, weights, lengths, reset, seed, options)
    return _without_cell(layer, _forward(layer, save))


def rnn_forward(
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One plain recurrent layer over a whole sequence, in one or both directions.

    Elman 1990; with weight_hr the network of Jordan 1986, whose output is what is fed back. Same
    results as `seqfast.reference.rnn.rnn_forward`, equations in docs/equations.md. Arrays, dtypes
    and devices, `lengths`, `reset` and `seed` are as for `lstm_forward`. With `output_size =
    proj_size or hidden_size`:

    - `input` [steps, batch, input_size]; `hidden` [directions, batch, output_size], None for zeros.
    - `weights`: per direction the first five to ten of `(weight_ih [hidden_size, input_size],
      weight_hh [hidden_size, output_size], bias_ih, bias_hh [hidden_size], weight_hr [proj_size,
      hidden_size], bias_hr [proj_size], None, weight_norm_hh [hidden_size])`. All but weight_hh may
      be None. Without weight_ih, `input` is the product with it, [steps, batch, directions *
      hidden_size]. weight_norm_hh asks for layer normalisation (Ba et al. 2016), which there is not
      with a projection.

    Returns `output` [steps, batch, directions * output_size], `hidden_n` (as `hidden`) and `gates`
    [steps, batch, directions * hidden_size], the activated values, None unless `save`. With layer
    normalisation a direction's are followed by its normalised product, and a fourth result is
    `statistics` [steps, batch, directions * 4], float64 for float64, else float32.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device, length or
    option, or for options that do not go together.
    """
    layer = _check_layer("rnn", input, hidden, None, weights, lengths, reset, seed, options)
    return _without_cell(layer, _forward(layer, save))


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
    seed: Array | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None, GradWeights | None]:
    """Gradients of `lstm_forward`, by back-propagation through time (Werbos 1990).

    `grad_output`, `grad_hidden_n`, `grad_cell_n`, `grad_cells`: shaped as the results of
    `lstm_forward`, None for zero. `output`, `cells`, `gates` and, with layer normalisation,
    `statistics`: what it returned with `save`. `input` to `lengths`, `reset`, `seed`, `options`:
    what it was given. `needs`: which of (input, hidden and cell, weights) to return a gradient for;
    the others are None and cost nothing.

    Returns `(grad_input, grad_hidden, grad_cell, grad_weights)`, shaped as the arguments;
    `grad_weights` holds None where a weight is None. The gradients of `bias_ih` and `bias_hh`
    are equal, and may be one array.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device, length or
    option.
    """
    layer = _check_layer("lstm", input, hidden, cell, weights, lengths, reset, seed, options)
    grads = grad_output, grad_hidden_n, grad_cell_n, grad_cells
    found = _backward(layer, grads, (output, cells, gates, statistics), needs)
    return (*found[:3], _as_long_as(weights, found[3]))


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
    seed: Array | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, GradWeights | None]:
    """Gradients of `gru_forward`, by back-propagation through time (Werbos 1990).

    `grad_output`, `grad_hidden_n`: shaped as the results of `gru_forward`, None for zero. `output`,
    `gates` and, with layer normalisation, `statistics`: what it returned with `save`. `input` to
    `lengths`, `reset`, `seed`, `options`: what it was given. `needs`: which of (input, hidden,
    weights) to return a gradient for; the others are None and cost nothing.

    Returns `(grad_input, grad_hidden, grad_weights)`, shaped as the arguments; `grad_weights` holds
    None where a weight is None. The gradients of `bias_ih` and `bias_hh` differ where the reset
    gate comes after the product, and are equal, maybe one array, elsewhere.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device, length or
    option.
    """
    layer = _check_layer("gru", input, hidden, None, weights, lengths, reset, seed, options)
    grads = grad_output, grad_hidden_n, None, None
    found = _backward(layer, grads, (output, None, gates, statistics), needs)
    return found[0], found[1], _as_long_as(weights, found[3])


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
    seed: Array | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, GradWeights | None]:
    """Gradients of `rnn_forward`, by back-propagation through time (Werbos 1990).

    `grad_output`, `grad_hidden_n`: shaped as the results of `rnn_forward`, None for zero. `output`,
    `gates` and, with layer normalisation, `statistics`: what it returned with `save`. `input` to
    `lengths`, `reset`, `seed`, `options`: what it was given. `needs`: which of (input, hidden,
    weights) to return a gradient for; the others are None and cost nothing.

    Returns `(grad_input, grad_hidden, grad_weights)`, shaped as the arguments; `grad_weights` holds
    None where a weight is None. The gradients of `bias_ih` and `bias_hh` are equal, and may be one
    array.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device, length or
    option.
    """
    layer = _check_layer("rnn", input, hidden, None, weights, lengths, reset, seed, options)
    grads = grad_output, grad_hidden_n, None, None
    found = _backward(layer, grads, (output, None, gates, statistics), needs)
    return found[0], found[1], _as_long_as(weights, found[3])


class _Layer(NamedTuple):
    """One checked layer; every array is ready for the kernel."""

    xp: ArrayLibrary
    dtype: int
    steps: int
    batch: int
    input_size: int  # without weight_ih directions * gates * hidden_size
    hidden_size: int
    proj_size: int
    directions: int
    operation: str  # lstm, gru or rnn
    cell_kind: Cell
    options: tuple[Any, ...]  # as `_C` takes them, with the address of `seed`
    input: Array  # rows dense, other strides positive
    hidden: Array | None
    cell: Array | None
    weights: list[tuple[Array | None, ...]]  # ten per direction, the names above
    lengths: Array | None  # int64; of a GPU's input maybe on the CPU
    reset: Array | None  # bool or uint8 [steps, batch]
    seed: Array | None  # one int64
    backend: str

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def has_cell(self) -> bool:
        return self.operation == "lstm"

    @property
    def gates_size(self) -> int:
        """Features of the array `gates`."""
        return self.directions * self.cell_kind.saved * self.hidden_size

    @property
    def is_empty(self) -> bool:
        return self.steps * self.batch * self.hidden_size == 0

    def kernel_sizes(self) -> tuple[int, int, int, int, int, int, int, int]:
        return (*self[1:8], thread_count())


# output, hidden_n, cell_n, cells, gates, statistics
_Results = tuple[Array, Array, Array | None, Array | None, Array | None, Array | None]
# of input, hidden, cell, and ten per direction of weights
_Gradients = tuple[Array | None, Array | None, Array | None, GradWeights | None]


def _forward(layer: _Layer, save: bool) -> _Results:
    """Of any checked layer; None what its cell does not have, and what is not kept."""
    xp, steps, batch, directions = layer.xp, layer.steps, layer.batch, layer.directions
    nothing = layer.is_empty
    if layer.backend != "cpu" and not nothing:
        from seqfast.ops import _cuda  # it imports torch

        results: _Results = _cuda.rnn_forward(layer, save)
        return results
    input, hidden, cell, lengths = layer.input, layer.hidden, layer.cell, layer.lengths
    hidden_shape, cell_shape = _state_shapes(layer)

    # The kernel writes only where a row runs.
    zero = lengths is not None or nothing
    empty = xp.zeros if zero else xp.empty
    output = empty(input, (steps, batch, directions * layer.output_size))
    cells = gates = statistics = cell_n = None
    if save:
        if layer.has_cell:
            cells = xp.accumulator(input, (steps, batch, directions * layer.hidden_size), zero)
        gates = empty(input, (steps, batch, layer.gates_size))
        if layer.cell_kind.layer_norm:
            statistics = xp.accumulator(input, (steps, batch, directions * _STATISTICS), zero)
    if nothing:
        hidden_n = _copy_or_zeros(layer, hidden, hidden_shape)
        if layer.has_cell:
            cell_n = _copy_or_zeros(layer, cell, cell_shape)
        return output, hidden_n, cell_n, cells, gates, statistics

    hidden_n = xp.empty(input, hidden_shape)
    if layer.has_cell:
        cell_n = xp.empty(input, cell_shape)
    sizes, options = layer.kernel_sizes(), layer.options
    address = xp.address
    weights = _addresses(xp, layer.weights)
    workspace_size = _C.rnn_workspace_size(False, sizes, options, weights)
    step_stride, row_stride, _ = xp.strides(input)
    with Workspace(workspace_size) as workspace:
        _C.rnn_forward(
            sizes,
            options,
            address(input),
            step_stride,
            row_stride,
            0 if lengths is None else address(lengths),
            0 if layer.reset is None else address(layer.reset),
            0 if hidden is None else address(hidden),
            0 if cell is None else address(cell),
            weights,
            address(output),
            address(hidden_n),
            0 if cell_n is None else address(cell_n),
            0 if cells is None else address(cells),
            0 if gates is None else address(gates),
            0 if statistics is None else address(statistics),
            workspace,
            workspace_size,
        )
    return output, hidden_n, cell_n, cells, gates, statistics


def _backward(
    layer: _Layer,
    grads: tuple[Array | None, ...],
    kept: tuple[Array | None, ...],
    needs: tuple[bool, bool, bool],
) -> _Gradients:
    """Of any checked layer. `grads`: of output, hidden_n, cell_n, cells; `kept`: output, cells,
    gates, statistics."""
    xp, input, lengths = layer.xp, layer.input, layer.lengths
    hidden_shape, cell_shape = _state_shapes(layer)
    nothing = layer.is_empty
    kept = output, cells, gates, statistics = _check_kept(layer, *kept)
    grads = grad_output, grad_hidden_n, grad_cell_n, grad_cells = _check_grads(layer, *grads)
    if layer.backend != "cpu" and not nothing:
        from seqfast.ops import _cuda  # it imports torch

        found: _Gradients = _cuda.rnn_backward(layer, grads, kept, needs)
        return found

    need_input, need_states, need_weights = needs
    grad_input = grad_hidden = grad_cell = grad_weights = None
    if need_input:
        empty = xp.empty if lengths is None and not nothing else xp.zeros
        grad_input = empty(input, tuple(input.shape))
    if need_states and nothing:
        grad_hidden = _copy_or_zeros(layer, grad_hidden_n, hidden_shape)
        if layer.has_cell:
            grad_cell = _copy_or_zeros(layer, grad_cell_n, cell_shape)
    elif need_states:
        grad_hidden = xp.empty(input, hidden_shape)
        if layer.has_cell:
            grad_cell = xp.empty(input, cell_shape)
    if need_weights:
        grad_weights = tuple(_empty_weights(layer, weights) for weights in layer.weights)
    if nothing:
        return grad_input, grad_hidden, grad_cell, grad_weights

    def address(array: Array | None) -> int:
        return 0 if array is None else xp.address(array)

    sizes, options = layer.kernel_sizes(), layer.options
    weights = _addresses(xp, layer.weights)
    workspace_size = _C.rnn_workspace_size(True, sizes, options, weights)
    step_stride, row_stride, _ = xp.strides(input)
    grad_strides = (0, 0, 0) if grad_output is None else xp.strides(grad_output)
    with Workspace(workspace_size) as workspace:
        _C.rnn_backward(
            sizes,
            options,
            address(grad_output),
            grad_strides[0],
            grad_strides[1],
            address(grad_hidden_n),
            address(grad_cell_n),
            address(grad_cells),
            address(input),
            step_stride,
            row_stride,
            address(lengths),
            address(layer.reset),
            address(layer.hidden),
            address(layer.cell),
            weights,
            address(output),
            address(cells),
            address(gates),
            address(statistics),
            address(grad_input),
            address(grad_hidden),
            address(grad_cell),
            _addresses(xp, grad_weights or [_ABSENT] * layer.directions),
            workspace,
            workspace_size,
        )
    return grad_input, grad_hidden, grad_cell, grad_weights


def _check_kept(
    layer: _Layer, output: Array, cells: Array, gates: Array, statistics: Array
) -> tuple[Array | None, ...]:
    def checked(name: str, array: Array, features: int, dtype: Any) -> Array:
        shape = layer.steps, layer.batch, features
        return check_contiguous(layer.xp, layer.operation, name, array, layer.input, shape, dtype)

    dtype, accumulator = layer.input.dtype, layer.xp.accumulator_dtype(layer.input)
    directions = layer.directions
    output = checked("output", output, directions * layer.output_size, dtype)
    if layer.has_cell:
        cells = checked("cells", cells, directions * layer.hidden_size, accumulator)
    gates = checked("gates", gates, layer.gates_size, dtype)
    if not layer.cell_kind.layer_norm:
        return output, cells, gates, None
    statistics = checked("statistics", statistics, directions * _STATISTICS, accumulator)
    return output, cells, gates, statistics


def _check_grads(
    layer: _Layer,
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    grad_cell_n: Array | None,
    grad_cells: Array | None,
) -> tuple[Array | None, ...]:
    xp, operation, input = layer.xp, layer.operation, layer.input
    steps, batch, directions = layer.steps, layer.batch, layer.directions
    hidden_shape, cell_shape = _state_shapes(layer)
    if grad_output is not None:
        shape = steps, batch, directions * layer.output_size
        grad_output = xp.rows(
            check_array(xp, operation, "grad_output", grad_output, input, shape, input.dtype)
        )
    if grad_hidden_n is not None:
        grad_hidden_n = check_contiguous(
            xp, operation, "grad_hidden_n", grad_hidden_n, input, hidden_shape, input.dtype
        )
    if grad_cell_n is not None:
        grad_cell_n = check_contiguous(
            xp, operation, "grad_cell_n", grad_cell_n, input, cell_shape, input.dtype
        )
    if grad_cells is not None:
        shape = steps, batch, directions * layer.hidden_size
        dtype = xp.accumulator_dtype(input)
        grad_cells = check_contiguous(xp, operation, "grad_cells", grad_cells, input, shape, dtype)
    return grad_output, grad_hidden_n, grad_cell_n, grad_cells


def _check_layer(
    operation: str,
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    reset: Array | None,
    seed: Array | None,
    options: Options,
) -> _Layer:
    xp = library_of(input, operation, "input")
    dtype = xp.dtype_code(input)
    if dtype is None:
        raise TypeError(
            f"{operation}: input must be float32, float64, bfloat16 or float16, got {input.dtype}"
        )
    if len(input.shape) != 3:
        raise ValueError(
            f"{operation}: input must be [steps, batch, input_size], got {list(input.shape)}"
        )
    backend = checked_backend(operation, "input", xp.place(input))
    steps, batch, input_size = input.shape
    _check_rows(operation, weights)
    first = weights[0]
    kind = cell_of(operation, options, len(first) > _NORM_HH and first[_NORM_HH] is not None)
    checked, hidden_size, proj_size = _check_weights(xp, operation, kind, options, input, weights)
    directions = len(checked)
    if hidden is not None:
        shape = (directions, batch, proj_size or hidden_size)
        hidden = check_contiguous(xp, operation, "hidden", hidden, input, shape, input.dtype)
    if cell is not None:
        shape = (directions, batch, hidden_size)
        cell = check_contiguous(xp, operation, "cell", cell, input, shape, input.dtype)
    if lengths is not None:
        lengths = check_lengths(xp, operation, lengths, input, batch=batch, most=steps)
    if reset is not None:
        reset = _check_reset(xp, operation, reset, input, directions)
    if seed is not None:
        seed = check_seed(xp, operation, seed, input)
    return _Layer(
        xp,
        dtype,
        steps,
        batch,
        input_size,
        hidden_size,
        proj_size,
        directions,
        operation,
        kind,
        (*kind.kernel, 0 if seed is None else xp.address(seed), kind.layer),
        xp.rows(input),
        hidden,
        cell,
        checked,
        lengths,
        reset,
        seed,
        backend,
    )


def _check_rows(operation: str, weights: Sequence[Weights]) -> None:
    if not isinstance(weights, (tuple, list)) or len(weights) not in (1, 2):
        raise TypeError(
            f"{operation}: weights must be a sequence of one or two tuples, one per direction"
        )
    for row in weights:
        if not isinstance(row, (tuple, list)) or not _FEWEST <= len(row) <= _MOST:
            raise TypeError(
                f"{operation}: each direction's weights must be the first five to ten of "
                f"({', '.join(_WEIGHT_NAMES)})"
            )


def _check_weights(
    xp: ArrayLibrary,
    operation: str,
    kind: Cell,
    options: Options,
    input: Array,
    weights: Sequence[Weights],
) -> tuple[list[tuple[Array | None, ...]], int, int]:
    """The weights, contiguous, ten per direction, with hidden_size and proj_size (0: none)."""
    first = weights[0]
    if options.output_nonlinearity != "identity" and first[_HR] is None:
        raise ValueError(
            f"{operation}: weight_hr must be given with output_nonlinearity, which is of what it "
            "projects to, got None"
        )
    hidden_size = _hidden_size(xp, operation, kind, first[_HH])
    proj_size = 0
    if first[_HR] is not None:
        proj_size = _proj_size(xp, operation, first[_HR], hidden_size)
    rows = kind.gates * hidden_size
    if first[_IH] is None and input.shape[2] != len(weights) * rows:
        raise ValueError(
            f"{operation}: input must be {[*input.shape[:2], len(weights) * rows]} where weight_ih "
            f"is None: the product with it; got {list(input.shape)}"
        )
    shapes = _weight_shapes(kind.gates, input.shape[2], hidden_size, proj_size)
    dtype = input.dtype
    checked = []
    for direction, given in enumerate(weights):
        if len(given) > _FEWEST or given[_HR] is not None:
            _check_presence(operation, kind, given)
        if direction:
            _check_like_first(operation, first, given)
        row = list(given)
        for slot, weight in enumerate(given):
            shape = shapes[slot]
            if (weight is None and slot != _HH) or xp.fits(weight, input, dtype, shape):
                continue
            name = _WEIGHT_NAMES[slot] + ("_reverse" if direction else "")
            row[slot] = check_contiguous(xp, operation, name, weight, input, shape, dtype)
        checked.append((*row, *_ABSENT[len(row) :]))
    return checked, hidden_size, proj_size


def _hidden_size(xp: ArrayLibrary, operation: str, kind: Cell, weight_hh: Any) -> int:
    if weight_hh is None or not xp.owns(weight_hh):
        raise TypeError(f"{operation}: weight_hh must be {xp.name}, got {type(weight_hh).__name__}")
    if len(weight_hh.shape) != 2 or weight_hh.shape[0] % kind.gates:
        raise ValueError(
            f"{operation}: weight_hh must be [{kind.gates} * hidden_size, output_size], "
            f"got {list(weight_hh.shape)}"
        )
    hidden_size: int = weight_hh.shape[0] // kind.gates
    return hidden_size


def _proj_size(xp: ArrayLibrary, operation: str, weight_hr: Any, hidden_size: int) -> int:
    if not xp.owns(weight_hr):
        raise TypeError(f"{operation}: weight_hr must be {xp.name}, got {type(weight_hr).__name__}")
    if len(weight_hr.shape) != 2 or 0 in weight_hr.shape:
        raise ValueError(
            f"{operation}: weight_hr must be [proj_size, {hidden_size}] and not empty, "
            f"got {list(weight_hr.shape)}"
        )
    proj_size: int = weight_hr.shape[0]
    return proj_size


@lru_cache
def _weight_shapes(
    gates: int, input_size: int, hidden_size: int, proj_size: int
) -> tuple[Shape, ...]:
    rows = gates * hidden_size
    return (
        (rows, input_size),
        (rows, proj_size or hidden_size),
        (rows,),
        (rows,),
        (proj_size, hidden_size),
        (proj_size,),
        (3, hidden_size),
        (rows,),
        (hidden_size,),
        (hidden_size,),
    )


def _check_presence(operation: str, kind: Cell, given: Weights) -> None:
    """Which of one direction's later weights there may be, and which must be."""
    has = [weight is not None for weight in given] + [False] * (_MOST - len(given))

    def refuse(slot: int, why: str) -> None:
        if has[slot]:
            raise ValueError(f"{operation}: {_WEIGHT_NAMES[slot]} must be None {why}")

    if operation == "gru":
        refuse(_HR, "for a GRU, which has no projection")
    if not has[_HR]:
        refuse(_BIAS_HR, "without weight_hr")
    if operation != "lstm":
        for slot in (_PEEPHOLE, _NORM_CELL, _BIAS_CELL):
            refuse(slot, "where there is no cell state")
    if not kind.layer_norm:
        refuse(_NORM_HH, "where the first direction has none")
        for slot in (_NORM_CELL, _BIAS_CELL):
            refuse(slot, "without weight_norm_hh")
    elif has[_HR]:
        refuse(_NORM_HH, "with weight_hr: a projection is not offered with layer normalisation")
    elif operation == "lstm":
        for slot in (_NORM_CELL, _BIAS_CELL):
            if not has[slot]:
                raise ValueError(
                    f"{operation}: {_WEIGHT_NAMES[slot]} must be given with weight_norm_hh, "
                    "got None"
                )


def _check_like_first(operation: str, first: Weights, second: Weights) -> None:
    for slot, name in enumerate(_WEIGHT_NAMES):
        if slot in (_HH, _BIAS_IH, _BIAS_HH):
            continue
        one, other = (len(row) > slot and row[slot] is not None for row in (first, second))
        if one != other:
            raise ValueError(f"{operation}: {name} must be given for both directions or for none")


def _check_reset(
    xp: ArrayLibrary, operation: str, reset: Array, input: Array, directions: int
) -> Array:
    if not xp.owns(reset):
        raise TypeError(f"{operation}: reset must be {xp.name}, got {type(reset).__name__}")
    if dtype_name(reset) not in ("bool", "uint8"):
        raise TypeError(f"{operation}: reset must be bool or uint8, got {reset.dtype}")
    if directions == 2:
        raise ValueError(f"{operation}: reset must be None with two directions: it cuts one past")
    shape = tuple(input.shape[:2])
    return check_contiguous(xp, operation, "reset", reset, input, shape, reset.dtype)


def _state_shapes(layer: _Layer) -> tuple[Shape, Shape]:
    return (
        (layer.directions, layer.batch, layer.output_size),
        (layer.directions, layer.batch, layer.hidden_size),
    )


def _copy_or_zeros(layer: _Layer, array: Array | None, shape: Shape) -> Array:
    return layer.xp.zeros(layer.input, shape) if array is None else layer.xp.copy(array)


def _empty_weights(layer: _Layer, weights: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
    """Room for one direction's gradients; biases share theirs where their gradients are equal."""
    empty = layer.xp.zeros if layer.is_empty else layer.xp.empty
    input, one_bias = layer.input, layer.cell_kind.kind != GRU
    grads = list(weights)
    for slot, weight in enumerate(weights):
        if weight is None:
            continue
        if slot == _BIAS_HH and one_bias and grads[_BIAS_IH] is not None:
            grads[slot] = grads[_BIAS_IH]
        else:
            grads[slot] = empty(input, tuple(weight.shape))
    return tuple(grads)


def _addresses(xp: ArrayLibrary, rows: Sequence[Weights]) -> list[tuple[int, ...]]:
    address = xp.address
    # An empty tensor has no address, but 0 is for what is absent. A list first: a tuple of a
    # generator takes twice as long.
    return [
        tuple([0 if array is None else address(array) or _NOWHERE for array in row]) for row in rows
    ]


def _without_cell(layer: _Layer, results: _Results) -> tuple[Any, ...]:
    output, hidden_n, _, _, gates, statistics = results
    if layer.cell_kind.layer_norm:
        return output, hidden_n, gates, statistics
    return output, hidden_n, gates


def _as_long_as(weights: Sequence[Weights], grads: GradWeights | None) -> GradWeights | None:
    """As many gradients per direction as weights were given."""
    if grads is None:
        return None
    return tuple(found[: len(given)] for found, given in zip(grads, weights, strict=True))

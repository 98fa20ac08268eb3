"""Recurrent layers: checks, allocation and the call into the native kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqfast import _C
from seqfast.ops._arrays import Array, ArrayLibrary, Shape, Workspace, library_of, thread_count
from seqfast.ops._route import backend_of

Weights = Sequence[Array | None]
_WEIGHT_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def lstm_forward(
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    save: bool = True,
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """One LSTM layer over a whole sequence, in one or both directions.

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000 and the projection of
    Sak et al. 2014; same results as `seqfast.reference.rnn.lstm_forward`. All arrays are NumPy
    arrays, or all are torch tensors (no autograd here: that is `seqfast.nn`) on the CPU or on one
    CUDA device, of one dtype: float32, float64, bfloat16 or float16. With `output_size = proj_size
    or hidden_size`:

    - `input` [steps, batch, input_size]; `hidden` [directions, batch, output_size] and `cell`
      [directions, batch, hidden_size], None for zeros.
    - `weights`: per direction `(weight_ih [4 * hidden_size, input_size], weight_hh [4 *
      hidden_size, output_size], bias_ih, bias_hh [4 * hidden_size] or None, weight_hr [proj_size,
      hidden_size] or None)`, gates in the order i f g o. The second runs backward in time.
    - `lengths` [batch], any integer dtype: steps of each row, 0 to `steps`. Past them output,
      cells and gates are zero; length 0 gives the initial state. With `input` on a GPU, lengths
      there are never looked at from the host: outside 0 to `steps` they count as the nearer end.
      They may be on the CPU as well, where they are checked.

    On a GPU the call runs on torch's current stream of that device, and the host waits for nothing.

    Returns `output` [steps, batch, directions * output_size], `hidden_n` and `cell_n` (as `hidden`
    and `cell`), `cells` [steps, batch, directions * hidden_size] (float64 for float64, else
    float32) and `gates` [steps, batch, directions * 4 * hidden_size], the last two None unless
    `save`.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device or length.
    """
    layer = _check_layer(input, hidden, cell, weights, lengths)
    xp, steps, batch = layer.xp, layer.steps, layer.batch
    directions, hidden_size = layer.directions, layer.hidden_size
    nothing = steps * batch * hidden_size == 0
    if layer.backend != "cpu" and not nothing:
        from seqfast.ops import _cuda  # it imports torch

        return _cuda.lstm_forward(layer, save)
    input, hidden, cell, lengths = layer.input, layer.hidden, layer.cell, layer.lengths
    states = _state_shapes(layer)

    # The kernel writes only where a row runs.
    empty = xp.empty if lengths is None and not nothing else xp.zeros
    output = empty(input, (steps, batch, directions * layer.output_size))
    cells = gates = None
    if save:
        cell_shape = (steps, batch, directions * hidden_size)
        cells = xp.accumulator(input, cell_shape, lengths is not None)
        gates = empty(input, (steps, batch, 4 * directions * hidden_size))
    if nothing:
        hidden_n, cell_n = _copies_or_zeros(layer, (hidden, cell), states)
        return output, hidden_n, cell_n, cells, gates

    hidden_n, cell_n = xp.empty(input, states[0]), xp.empty(input, states[1])
    sizes = layer.kernel_sizes()
    workspace_size = _C.lstm_workspace_size(False, *sizes)
    address = xp.address
    step_stride, row_stride, _ = xp.strides(input)
    with Workspace(workspace_size) as workspace:
        _C.lstm_forward(
            *sizes,
            address(input),
            step_stride,
            row_stride,
            0 if lengths is None else address(lengths),
            0 if hidden is None else address(hidden),
            0 if cell is None else address(cell),
            _weight_addresses(layer),
            address(output),
            address(hidden_n),
            address(cell_n),
            0 if cells is None else address(cells),
            0 if gates is None else address(gates),
            workspace,
            workspace_size,
        )
    return output, hidden_n, cell_n, cells, gates


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
    """Gradients of `lstm_forward`, by back-propagation through time.

    `grad_output`, `grad_hidden_n`, `grad_cell_n`, `grad_cells`: shaped as the results of
    `lstm_forward`, None for zero. `output`, `cells`, `gates`: what it returned with `save`.
    `needs`: which of (input, hidden and cell, weights) to return a gradient for; the others are
    None and cost nothing.

    Returns `(grad_input, grad_hidden, grad_cell, grad_weights)`, shaped as the arguments;
    `grad_weights` holds None where a weight is None. The gradients of `bias_ih` and `bias_hh`
    are equal, and may be one array.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, device or length.
    """
    layer = _check_layer(input, hidden, cell, weights, lengths)
    xp, steps, batch, directions = layer.xp, layer.steps, layer.batch, layer.directions
    hidden_size, output_size = layer.hidden_size, layer.output_size
    input, hidden, cell, lengths = layer.input, layer.hidden, layer.cell, layer.lengths
    states = _state_shapes(layer)
    nothing = steps * batch * hidden_size == 0

    output_shape = (steps, batch, directions * output_size)
    cell_shape = (steps, batch, directions * hidden_size)
    accumulator = xp.accumulator(input, (), False).dtype
    output = _contiguous(xp, "output", output, input, output_shape)
    cells = _contiguous(xp, "cells", cells, input, cell_shape, accumulator)
    gates = _contiguous(xp, "gates", gates, input, (steps, batch, 4 * directions * hidden_size))
    if grad_output is not None:
        grad_output = xp.rows(_check(xp, "grad_output", grad_output, input, output_shape))
    if grad_hidden_n is not None:
        grad_hidden_n = _contiguous(xp, "grad_hidden_n", grad_hidden_n, input, states[0])
    if grad_cell_n is not None:
        grad_cell_n = _contiguous(xp, "grad_cell_n", grad_cell_n, input, states[1])
    if grad_cells is not None:
        grad_cells = _contiguous(xp, "grad_cells", grad_cells, input, cell_shape, accumulator)

    if layer.backend != "cpu" and not nothing:
        from seqfast.ops import _cuda  # it imports torch

        grads = (grad_output, grad_hidden_n, grad_cell_n, grad_cells)
        return _cuda.lstm_backward(layer, grads, (output, cells, gates), needs)
    need_input, need_states, need_weights = needs
    grad_input = grad_hidden = grad_cell = None
    if need_input:
        empty = xp.empty if lengths is None and not nothing else xp.zeros
        grad_input = empty(input, tuple(input.shape))
    if need_states and nothing:
        grad_hidden, grad_cell = _copies_or_zeros(layer, (grad_hidden_n, grad_cell_n), states)
    elif need_states:
        grad_hidden, grad_cell = xp.empty(input, states[0]), xp.empty(input, states[1])
    grad_weights = None
    if need_weights:
        empty = xp.zeros if nothing else xp.empty
        grad_weights = tuple(_empty_weights(empty, input, weights) for weights in layer.weights)

    if not nothing:
        sizes = layer.kernel_sizes()
        workspace_size = _C.lstm_workspace_size(True, *sizes)

        def address(array: Array | None) -> int:
            return 0 if array is None else xp.address(array)

        step_stride, row_stride, _ = xp.strides(input)
        grad_strides = (0, 0, 0) if grad_output is None else xp.strides(grad_output)
        with Workspace(workspace_size) as workspace:
            _C.lstm_backward(
                *sizes,
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
                address(hidden),
                address(cell),
                _weight_addresses(layer),
                address(output),
                address(cells),
                address(gates),
                address(grad_input),
                address(grad_hidden),
                address(grad_cell),
                [
                    (
                        address(ih),
                        address(hh),
                        address(bias_ih if bias_hh is None else bias_hh),
                        address(hr),
                    )
                    for ih, hh, bias_ih, bias_hh, hr in grad_weights or [(None,) * 5] * directions
                ],
                workspace,
                workspace_size,
            )
    return grad_input, grad_hidden, grad_cell, grad_weights


class _Layer(NamedTuple):
    """One checked layer; every array is ready for the kernel."""

    xp: ArrayLibrary
    dtype: int
    steps: int
    batch: int
    input_size: int
    hidden_size: int
    proj_size: int
    directions: int
    input: Array
    hidden: Array | None
    cell: Array | None
    weights: list[tuple[Array | None, ...]]
    lengths: Array | None
    backend: str

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def kernel_sizes(self) -> tuple[int, int, int, int, int, int, int, int]:
        return (*self[1:8], thread_count())


def _check_layer(
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
) -> _Layer:
    xp = library_of(input, "lstm", "input")
    dtype = xp.dtype_code(input)
    if dtype is None:
        raise TypeError(
            f"lstm: input must be float32, float64, bfloat16 or float16, got {input.dtype}"
        )
    if len(input.shape) != 3:
        raise ValueError(f"lstm: input must be [steps, batch, input_size], got {list(input.shape)}")
    backend = backend_of(xp.place(input))
    if backend is None:
        raise ValueError(
            f"lstm: input must be a dense array on the CPU or on a CUDA device, "
            f"got {xp.place(input)}"
        )
    steps, batch, input_size = input.shape
    checked, hidden_size, proj_size = _check_weights(xp, input, weights)
    directions = len(checked)
    if hidden is not None:
        shape = (directions, batch, proj_size or hidden_size)
        hidden = _contiguous(xp, "hidden", hidden, input, shape)
    if cell is not None:
        shape = (directions, batch, hidden_size)
        cell = _contiguous(xp, "cell", cell, input, shape)
    if lengths is not None:
        lengths = _check_lengths(xp, lengths, input)
    return _Layer(
        xp,
        dtype,
        steps,
        batch,
        input_size,
        hidden_size,
        proj_size,
        directions,
        xp.rows(input),
        hidden,
        cell,
        checked,
        lengths,
        backend,
    )


def _check_weights(
    xp: ArrayLibrary, input: Array, weights: Sequence[Weights]
) -> tuple[list[tuple[Array | None, ...]], int, int]:
    """The weights, contiguous, with hidden_size and proj_size (0: none)."""
    if not isinstance(weights, (tuple, list)) or len(weights) not in (1, 2):
        raise TypeError("lstm: weights must be a sequence of one or two tuples, one per direction")
    for per_direction in weights:
        if not isinstance(per_direction, (tuple, list)) or len(per_direction) != 5:
            raise TypeError(f"lstm: each direction's weights must be ({', '.join(_WEIGHT_NAMES)})")
    first, weight_hr = weights[0][0], weights[0][4]
    if first is None or not xp.owns(first):
        raise TypeError(f"lstm: weight_ih must be {xp.name}, got {type(first).__name__}")
    input_size = input.shape[2]
    if len(first.shape) != 2 or first.shape[0] % 4 or first.shape[1] != input_size:
        raise ValueError(
            f"lstm: weight_ih must be [4 * hidden_size, {input_size}], got {list(first.shape)}"
        )
    hidden_size = first.shape[0] // 4
    proj_size = 0
    if weight_hr is not None:
        if not xp.owns(weight_hr):
            raise TypeError(f"lstm: weight_hr must be {xp.name}, got {type(weight_hr).__name__}")
        if len(weight_hr.shape) != 2 or weight_hr.shape[0] == 0:
            raise ValueError(
                f"lstm: weight_hr must be [proj_size, {hidden_size}], got {list(weight_hr.shape)}"
            )
        proj_size = weight_hr.shape[0]
    gates = 4 * hidden_size
    shapes: tuple[Shape, ...] = (
        (gates, input_size),
        (gates, proj_size or hidden_size),
        (gates,),
        (gates,),
        (proj_size, hidden_size),
    )
    checked = []
    for direction, per_direction in enumerate(weights):
        suffix = "_reverse" if direction else ""
        if (per_direction[4] is None) != (weight_hr is None):
            raise ValueError("lstm: weight_hr must be given for both directions or for none")
        row = []
        for name, weight, shape in zip(_WEIGHT_NAMES, per_direction, shapes, strict=True):
            if weight is not None or name in ("weight_ih", "weight_hh"):
                weight = _contiguous(xp, name + suffix, weight, input, shape)
            row.append(weight)
        checked.append(tuple(row))
    return checked, hidden_size, proj_size


def _contiguous(
    xp: ArrayLibrary, name: str, array: Array, like: Array, shape: Shape, dtype: Any = None
) -> Array:
    if xp.fits(array, like, like.dtype if dtype is None else dtype, shape):
        return array
    return xp.contiguous(_check(xp, name, array, like, shape, dtype))


def _check(
    xp: ArrayLibrary, name: str, array: Array, like: Array, shape: Shape, dtype: Any = None
) -> Array:
    """The array itself; it must have the shape, `dtype` (None: like's) and place of `like`."""
    if not xp.owns(array):
        raise TypeError(f"lstm: {name} must be {xp.name}, got {type(array).__name__}")
    dtype = like.dtype if dtype is None else dtype
    if array.dtype != dtype:
        raise TypeError(f"lstm: {name} must be {dtype}, got {array.dtype}")
    if tuple(array.shape) != shape:
        raise ValueError(f"lstm: {name} must be {list(shape)}, got {list(array.shape)}")
    _check_place(xp, name, array, xp.place(like))
    return array


def _check_place(xp: ArrayLibrary, name: str, array: Array, wanted: str) -> None:
    place = xp.place(array)
    if place != wanted:
        where = "the CPU" if wanted == "cpu" else f"{wanted}, as input is"
        raise ValueError(f"lstm: {name} must be a dense array on {where}, got {place}")


def _check_lengths(xp: ArrayLibrary, lengths: Array, input: Array) -> Array:
    steps, batch, _ = input.shape
    if not xp.owns(lengths):
        raise TypeError(f"lstm: lengths must be {xp.name}, got {type(lengths).__name__}")
    if not xp.is_integer(lengths):
        raise TypeError(f"lstm: lengths must be integers, got {lengths.dtype}")
    if tuple(lengths.shape) != (batch,):
        raise ValueError(f"lstm: lengths must be [{batch}], got {list(lengths.shape)}")
    on_cpu = xp.place(lengths) == "cpu"
    if not on_cpu:
        _check_place(xp, "lengths", lengths, xp.place(input))
    lengths = xp.int64(lengths)
    # To look at a GPU's memory is to wait for it; there the kernels clamp.
    if on_cpu and batch:
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > steps:
            raise ValueError(
                f"lstm: lengths must be from 0 to {steps}, got {low if low < 0 else high}"
            )
    return lengths


def _state_shapes(layer: _Layer) -> tuple[Shape, Shape]:
    return (
        (layer.directions, layer.batch, layer.output_size),
        (layer.directions, layer.batch, layer.hidden_size),
    )


def _copies_or_zeros(
    layer: _Layer, arrays: tuple[Array | None, ...], shapes: tuple[Shape, ...]
) -> list[Array]:
    return [
        layer.xp.zeros(layer.input, shape) if array is None else layer.xp.copy(array)
        for array, shape in zip(arrays, shapes, strict=True)
    ]


def _empty_weights(empty: Any, like: Array, weights: tuple[Array | None, ...]) -> tuple[Any, ...]:
    """Room for one direction's gradients; both biases share theirs."""
    ih, hh, bias_ih, bias_hh, hr = (None if w is None else tuple(w.shape) for w in weights)
    bias = None if bias_ih is None and bias_hh is None else empty(like, bias_ih or bias_hh)
    return (
        empty(like, ih),
        empty(like, hh),
        None if bias_ih is None else bias,
        None if bias_hh is None else bias,
        None if hr is None else empty(like, hr),
    )


def _weight_addresses(layer: _Layer) -> list[tuple[int, int, int, int, int]]:
    address = layer.xp.address
    return [
        tuple(0 if weight is None else address(weight) for weight in weights)  # type: ignore[misc]
        for weights in layer.weights
    ]

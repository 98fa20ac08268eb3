"""A recurrent layer that is checked: sizes, weights and arrays ready for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from seqfast.ops.base.arrays import Array, ArrayLibrary, Shape, dtype_name, library_of, thread_count
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import check_array, check_contiguous, check_lengths, check_seed
from seqfast.ops.rnn.cells import Cell, cell_of
from seqfast.ops.rnn.options import Options

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
_IH, _HH, BIAS_IH, BIAS_HH, _HR, _BIAS_HR, _PEEPHOLE, _NORM_HH, _NORM_CELL, _BIAS_CELL = range(10)
_FEWEST, _MOST = 5, len(_WEIGHT_NAMES)
ABSENT = (None,) * _MOST
STATISTICS = 4  # rstd_product, rstd_candidate, mean_cell, rstd_cell


class Layer(NamedTuple):
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
Results = tuple[Array, Array, Array | None, Array | None, Array | None, Array | None]
# of input, hidden, cell, and ten per direction of weights
Gradients = tuple[Array | None, Array | None, Array | None, GradWeights | None]


def check_kept(
    layer: Layer, output: Array, cells: Array, gates: Array, statistics: Array
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
    statistics = checked("statistics", statistics, directions * STATISTICS, accumulator)
    return output, cells, gates, statistics


def check_grads(
    layer: Layer,
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    grad_cell_n: Array | None,
    grad_cells: Array | None,
) -> tuple[Array | None, ...]:
    xp, operation, input = layer.xp, layer.operation, layer.input
    steps, batch, directions = layer.steps, layer.batch, layer.directions
    hidden_shape, cell_shape = state_shapes(layer)
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


def check_layer(
    operation: str,
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    reset: Array | None,
    seed: Array | None,
    options: Options,
) -> Layer:
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
    return Layer(
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
        checked.append((*row, *ABSENT[len(row) :]))
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
        if slot in (_HH, BIAS_IH, BIAS_HH):
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


def state_shapes(layer: Layer) -> tuple[Shape, Shape]:
    return (
        (layer.directions, layer.batch, layer.output_size),
        (layer.directions, layer.batch, layer.hidden_size),
    )

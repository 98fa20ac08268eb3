"""A recurrent layer that is checked: sizes, weights and arrays ready for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from seqfast.ops.base.arrays import Array, ArrayLibrary, Shape, dtype_name, library_of, thread_count
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import check_array, check_contiguous, check_lengths, check_seed
from seqfast.ops.rnn.arguments import RnnSizes, RnnWeights
from seqfast.ops.rnn.cells import Cell, cell_of
from seqfast.ops.rnn.options import Options, RnnOptions

Weights = Sequence[Array | None]  # of one direction, as RnnWeights has them
STATISTICS = 4  # rstd_product, rstd_candidate, mean_cell, rstd_cell

_NAMES = RnnWeights._fields
_FEWEST = len(_NAMES) - len(RnnWeights._field_defaults)


class Layer(NamedTuple):
    """One checked layer; every array is ready for the kernel."""

    xp: ArrayLibrary
    sizes: RnnSizes  # input_size without weight_ih: directions * gates * hidden_size
    operation: str  # lstm, gru or rnn
    cell_kind: Cell
    options: RnnOptions  # with the address of `seed`
    input: Array  # rows dense, other strides positive
    hidden: Array | None
    cell: Array | None
    weights: tuple[RnnWeights, ...]  # of each direction
    lengths: Array | None  # int64; of a GPU's input maybe on the CPU
    reset: Array | None  # bool or uint8 [steps, batch]
    seed: Array | None  # one int64
    backend: str

    @property
    def output_size(self) -> int:
        return self.sizes.proj_size or self.sizes.hidden_size

    @property
    def has_cell(self) -> bool:
        return self.cell_kind.traits.has_cell_state

    @property
    def gates_size(self) -> int:
        """Features of the array `gates`."""
        return self.sizes.directions * self.cell_kind.saved * self.sizes.hidden_size

    @property
    def is_empty(self) -> bool:
        return self.sizes.steps * self.sizes.batch * self.sizes.hidden_size == 0


class Results(NamedTuple):
    """Of a pass forward: None what the cell does not have, and what is not kept."""

    output: Any
    hidden_n: Any
    cell_n: Any
    cells: Any
    gates: Any
    statistics: Any


class Kept(NamedTuple):
    """Of the results what the pass backward needs."""

    output: Any
    cells: Any
    gates: Any
    statistics: Any

    @classmethod
    def of(cls, results: Results) -> Kept:
        return cls(results.output, results.cells, results.gates, results.statistics)


class ResultGradients(NamedTuple):
    """Of the results that can have one, None for zero."""

    output: Any
    hidden_n: Any
    cell_n: Any
    cells: Any


class Needs(NamedTuple):
    """Which gradients are asked for."""

    input: bool
    states: bool
    weights: bool


class Gradients(NamedTuple):
    """Of a pass backward, None where not asked for."""

    input: Any
    hidden: Any
    cell: Any
    weights: tuple[RnnWeights, ...] | None


def check_kept(layer: Layer, kept: Kept) -> Kept:
    xp, operation, input, sizes = layer.xp, layer.operation, layer.input, layer.sizes
    steps, batch, directions = sizes.steps, sizes.batch, sizes.directions
    dtype, accumulator = input.dtype, xp.accumulator_dtype(input)
    output, cells, gates, statistics = kept
    shape = steps, batch, directions * layer.output_size
    output = check_contiguous(xp, operation, "output", output, input, shape, dtype)
    if layer.has_cell:
        shape = steps, batch, directions * sizes.hidden_size
        cells = check_contiguous(xp, operation, "cells", cells, input, shape, accumulator)
    shape = steps, batch, layer.gates_size
    gates = check_contiguous(xp, operation, "gates", gates, input, shape, dtype)
    if not layer.cell_kind.layer_norm:
        return Kept(output, cells, gates, None)
    shape = steps, batch, directions * STATISTICS
    statistics = check_contiguous(
        xp, operation, "statistics", statistics, input, shape, accumulator
    )
    return Kept(output, cells, gates, statistics)


def check_grads(layer: Layer, grads: ResultGradients) -> ResultGradients:
    xp, operation, input = layer.xp, layer.operation, layer.input
    steps, batch, directions = layer.sizes.steps, layer.sizes.batch, layer.sizes.directions
    hidden_shape, cell_shape = state_shapes(layer)
    output, hidden_n, cell_n, cells = grads
    if output is not None:
        shape = steps, batch, directions * layer.output_size
        if not xp.fits(output, input, input.dtype, shape):
            output = check_array(xp, operation, "grad_output", output, input, shape, input.dtype)
        output = xp.rows(output)
    if hidden_n is not None:
        hidden_n = check_contiguous(
            xp, operation, "grad_hidden_n", hidden_n, input, hidden_shape, input.dtype
        )
    if cell_n is not None:
        cell_n = check_contiguous(
            xp, operation, "grad_cell_n", cell_n, input, cell_shape, input.dtype
        )
    if cells is not None:
        shape = steps, batch, directions * layer.sizes.hidden_size
        dtype = xp.accumulator_dtype(input)
        cells = check_contiguous(xp, operation, "grad_cells", cells, input, shape, dtype)
    return ResultGradients(output, hidden_n, cell_n, cells)


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
    rows = _named_rows(operation, weights)
    has_norm = rows[0].weight_norm_hh is not None
    kind = cell_of(operation, options, has_norm)
    checked, hidden_size, proj_size = _check_weights(
        xp, operation, kind, options, input, input_size, rows
    )
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
    native = kind.native
    if seed is not None:
        native = native._replace(seed=xp.address(seed))
    return Layer(
        xp,
        RnnSizes(
            dtype,
            steps,
            batch,
            input_size,
            hidden_size,
            proj_size,
            directions,
            thread_count(),
        ),
        operation,
        kind,
        native,
        xp.rows(input),
        hidden,
        cell,
        checked,
        lengths,
        reset,
        seed,
        backend,
    )


def _named_rows(operation: str, weights: Sequence[Weights]) -> list[RnnWeights]:
    if not isinstance(weights, (tuple, list)) or len(weights) not in (1, 2):
        raise TypeError(
            f"{operation}: weights must be a sequence of one or two tuples, one per direction"
        )
    for row in weights:
        if not isinstance(row, (tuple, list)) or not _FEWEST <= len(row) <= len(_NAMES):
            raise TypeError(
                f"{operation}: each direction's weights must be the first five to ten of "
                f"({', '.join(_NAMES)})"
            )
    return [row if type(row) is RnnWeights else RnnWeights(*row) for row in weights]


def _check_weights(
    xp: ArrayLibrary,
    operation: str,
    kind: Cell,
    options: Options,
    input: Array,
    input_size: int,
    weights: Sequence[RnnWeights],
) -> tuple[tuple[RnnWeights, ...], int, int]:
    """The weights, contiguous, of each direction, with hidden_size and proj_size (0: none)."""
    first = weights[0]
    if options.output_nonlinearity != "identity" and first.weight_hr is None:
        raise ValueError(
            f"{operation}: weight_hr must be given with output_nonlinearity, which applies to the "
            "projection, got None"
        )
    hidden_size = _hidden_size(xp, operation, kind, first.weight_hh)
    proj_size = 0
    if first.weight_hr is not None:
        proj_size = _proj_size(xp, operation, first.weight_hr, hidden_size)
    if first.weight_ih is None and input_size != len(weights) * kind.gates * hidden_size:
        *before, _ = input.shape
        product_size = len(weights) * kind.gates * hidden_size
        raise ValueError(
            f"{operation}: input must be {[*before, product_size]} if weight_ih is None (the "
            f"product with it), got {list(input.shape)}"
        )
    shapes = _weight_shapes(kind.gates, input_size, hidden_size, proj_size)
    dtype, fits = input.dtype, xp.fits
    checked = []
    for direction, row in enumerate(weights):
        _check_presence(operation, kind, row)
        if direction:
            _check_like_first(operation, first, row)
        if row.weight_hh is None:
            raise TypeError(f"{operation}: weight_hh_reverse must be {xp.name}, got NoneType")
        for weight, wanted in zip(row, shapes):  # noqa: B905 - strict takes longer than a weight
            if weight is not None and not fits(weight, input, dtype, wanted):
                break
        else:
            checked.append(row)
            continue
        suffix = "_reverse" if direction else ""
        ready = [
            None
            if weight is None
            else check_contiguous(xp, operation, name + suffix, weight, input, shape, dtype)
            for name, weight, shape in zip(_NAMES, row, shapes, strict=True)
        ]
        checked.append(RnnWeights._make(ready))
    return tuple(checked), hidden_size, proj_size


def _hidden_size(xp: ArrayLibrary, operation: str, kind: Cell, weight_hh: Any) -> int:
    if weight_hh is None or not xp.owns(weight_hh):
        raise TypeError(f"{operation}: weight_hh must be {xp.name}, got {type(weight_hh).__name__}")
    return hidden_size_of(operation, kind.gates, weight_hh.shape)


def hidden_size_of(operation: str, gates: int, shape: Sequence[int]) -> int:
    """By the shape of weight_hh."""
    if len(shape) != 2 or shape[0] % gates:
        raise ValueError(
            f"{operation}: weight_hh must be [{gates} * hidden_size, output_size], "
            f"got {list(shape)}"
        )
    return shape[0] // gates


def check_ranks(
    operation: str, gates: int, input: Any, weights: Sequence[RnnWeights]
) -> tuple[int, int]:
    """hidden_size and output_size, for where there are shapes alone: refuses as `check_layer` does
    an input or a weight that has more or fewer dimensions than it must."""
    if len(input.shape) != 3:
        raise ValueError(
            f"{operation}: input must be [steps, batch, input_size], got {list(input.shape)}"
        )
    weight_hh = weights[0].weight_hh
    hidden_size = hidden_size_of(operation, gates, weight_hh.shape)
    output_size: int = weight_hh.shape[1]
    wanted = _shapes_of(gates, input.shape[2], hidden_size, output_size)
    for direction, row in enumerate(weights):
        for name, weight, shape in zip(_NAMES, row, wanted, strict=True):
            if weight is not None and len(weight.shape) != len(shape):
                suffix = "_reverse" if direction else ""
                raise ValueError(
                    f"{operation}: {name}{suffix} must be {list(shape)}, got {list(weight.shape)}"
                )
    return hidden_size, output_size


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


def _shapes_of(gates: int, input_size: int, hidden_size: int, proj_size: int) -> RnnWeights:
    """The shape of each weight."""
    rows = gates * hidden_size
    return RnnWeights(
        weight_ih=(rows, input_size),
        weight_hh=(rows, proj_size or hidden_size),
        bias_ih=(rows,),
        bias_hh=(rows,),
        weight_hr=(proj_size, hidden_size),
        bias_hr=(proj_size,),
        weight_peephole=(3, hidden_size),
        weight_norm_hh=(rows,),
        weight_norm_cell=(hidden_size,),
        bias_norm_cell=(hidden_size,),
    )


_weight_shapes = lru_cache(_shapes_of)


def _check_presence(operation: str, kind: Cell, row: RnnWeights) -> None:
    """Which of one direction's weights there may be, and which must be."""
    if (
        row.weight_hr is None
        and row.bias_hr is None
        and row.weight_peephole is None
        and row.weight_norm_hh is None
        and row.weight_norm_cell is None
        and row.bias_norm_cell is None
        and not kind.layer_norm
    ):
        return

    def refuse(name: str, why: str) -> None:
        if getattr(row, name) is not None:
            raise ValueError(f"{operation}: {name} must be None {why}")

    of_norm_cell = "weight_norm_cell", "bias_norm_cell"
    if operation == "gru":
        refuse("weight_hr", "for a GRU, which has no projection")
    if row.weight_hr is None:
        refuse("bias_hr", "without weight_hr")
    if operation != "lstm":
        for name in ("weight_peephole", *of_norm_cell):
            refuse(name, "without a cell state")
    if not kind.layer_norm:
        refuse("weight_norm_hh", "where the first direction has none")
        for name in of_norm_cell:
            refuse(name, "without weight_norm_hh")
    elif row.weight_hr is not None:
        refuse(
            "weight_norm_hh",
            "with weight_hr: a projection is not offered with layer normalisation",
        )
    elif operation == "lstm":
        for name in of_norm_cell:
            if getattr(row, name) is None:
                raise ValueError(f"{operation}: {name} must be given with weight_norm_hh, got None")


def _check_like_first(operation: str, first: RnnWeights, second: RnnWeights) -> None:
    for name, one, other in zip(_NAMES, first, second, strict=True):
        if name in ("weight_hh", "bias_ih", "bias_hh"):
            continue
        if (one is None) != (other is None):
            raise ValueError(f"{operation}: {name} must be given for both directions or for none")


def _check_reset(
    xp: ArrayLibrary, operation: str, reset: Array, input: Array, directions: int
) -> Array:
    if not xp.owns(reset):
        raise TypeError(f"{operation}: reset must be {xp.name}, got {type(reset).__name__}")
    if dtype_name(reset) not in ("bool", "uint8"):
        raise TypeError(f"{operation}: reset must be bool or uint8, got {reset.dtype}")
    if directions == 2:
        raise ValueError(f"{operation}: reset must be None with two directions")
    shape = tuple(input.shape[:2])
    return check_contiguous(xp, operation, "reset", reset, input, shape, reset.dtype)


def state_shapes(layer: Layer) -> tuple[Shape, Shape]:
    return (
        (layer.sizes.directions, layer.sizes.batch, layer.output_size),
        (layer.sizes.directions, layer.sizes.batch, layer.sizes.hidden_size),
    )

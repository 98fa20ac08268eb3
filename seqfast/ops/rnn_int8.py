"""Recurrent layers whose products are of 8 bits, on the CPU: for inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqfast.ops.base.arrays import Array, dtype_name, library_of
from seqfast.ops.base.checks import check_contiguous
from seqfast.ops.rnn import cpu
from seqfast.ops.rnn.layer import check_layer
from seqfast.ops.rnn.options import PLAIN, Options
from seqfast.ops.rnn.packed import pack_int8

# Rows below it would have a subnormal scale, which the kernels take for zero.
_LEAST = np.float32(127) * np.finfo(np.float32).tiny


def quantize_weight(weight: Array) -> tuple[Array, Array]:
    """A weight in 8 bits, each row by the largest of its magnitudes.

    Args:
        weight: float32 [rows, columns], a NumPy array or a torch tensor on the CPU.

    Returns:
        int8 [rows, columns], from -127 to 127, and the scales, float32 [rows]: the weight is about
        one times the other.

    Raises:
        TypeError: another dtype.
        ValueError: another rank, or a weight that is not finite.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn_int8
        >>> rnn_int8.quantize_weight(np.array([[0.5, -1.0]], np.float32))[0]
        array([[  64, -127]], dtype=int8)
    """
    xp = library_of(weight, "quantize_weight", "weight")
    if dtype_name(weight) != "float32":
        raise TypeError(f"quantize_weight: weight must be float32, got {weight.dtype}")
    if len(weight.shape) != 2 or xp.place(weight) != "cpu":
        raise ValueError(
            "quantize_weight: weight must be [rows, columns] on the CPU, got "
            f"{list(weight.shape)} on {xp.place(weight)}"
        )
    given = np.asarray(xp.copy(weight))
    if not np.isfinite(given).all():
        raise ValueError("quantize_weight: weight must be finite, got NaN or infinity")
    largest = np.abs(given).max(1, initial=0)
    inverse = np.zeros_like(largest)
    np.divide(np.float32(127), largest, out=inverse, where=largest >= _LEAST)
    quantized = np.rint(given * inverse[:, None]).astype(np.int8)
    scale = largest / np.float32(127)
    to = xp.empty_of(weight, tuple(weight.shape), "int8"), xp.empty(weight, scale.shape)
    np.asarray(to[0])[...] = quantized
    np.asarray(to[1])[...] = scale
    return to


def int8_forward(
    operation: str,
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Sequence[Array | None]],
    scales: Sequence[tuple[Array, Array]],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    options: Options = PLAIN,
) -> tuple[Array, Array, Array | None]:
    """A recurrent layer whose products are of 8 bits, over a whole sequence.

    Each row that a product multiplies, of the input and at each step of the state, is rounded to
    whole numbers from -127 to 127 of its own scale; sums are exact. All else is as in
    `lstm_forward` and its like, in evaluation. Same results as
    `seqfast.reference.rnn_int8.int8_forward`.

    Args:
        operation: "lstm", "gru" or "rnn".
        input: float32 [steps, batch, input_size]. A row that holds NaN or infinity gives NaN.
        hidden: [directions, batch, output_size]. None: zeros.
        cell: [directions, batch, hidden_size], of an LSTM. None: zeros.
        weights: as of `lstm_forward`, but weight_ih and weight_hh int8; without layer
            normalisation.
        scales: for each direction those of weight_ih and of weight_hh, float32 [gates *
            hidden_size].
        lengths: [batch], as of `lstm_forward`.
        reset: [steps, batch], as of `lstm_forward`.
        options: variants of the cell.

    Returns:
        output [steps, batch, directions * output_size]; hidden_n; cell_n, None without a cell
        state.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, length or option; layer normalisation.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn_int8
        >>> (w, a), (r, b) = (rnn_int8.quantize_weight(np.ones((8, n), np.float32)) for n in (3, 8))
        >>> x = np.ones((5, 2, 3), np.float32)
        >>> given = "rnn", x, None, None, [(w, r, None, None, None)], [(a, b)]
        >>> rnn_int8.int8_forward(*given)[0].shape
        (5, 2, 8)
    """
    xp = library_of(input, operation, "input")
    if dtype_name(input) != "float32":
        raise TypeError(f"{operation}: input must be float32 for 8 bits, got {input.dtype}")
    if len(scales) != len(weights):
        raise ValueError(
            f"{operation}: scales must be {len(weights)} pairs as weights are, got {len(scales)}"
        )
    like, int8 = [], []
    for row, pair in zip(weights, scales, strict=True):
        own: list[Any] = []
        for name, weight in zip(("weight_ih", "weight_hh"), row, strict=False):
            if weight is None or not xp.owns(weight) or dtype_name(weight) != "int8":
                got = getattr(weight, "dtype", type(weight).__name__)
                raise TypeError(f"{operation}: {name} must be int8, got {got}")
            own.append(xp.contiguous(weight))
        for name, scale, weight in zip(("scale_ih", "scale_hh"), pair, row, strict=False):
            assert weight is not None
            shape = (weight.shape[0],)
            own.append(check_contiguous(xp, operation, name, scale, input, shape, input.dtype))
        int8.append(own)
        shapes = [tuple(weight.shape) for weight in own[:2]]
        like.append([*[xp.zeros(input, shape) for shape in shapes], *row[2:]])
    layer = check_layer(operation, input, hidden, cell, like, lengths, reset, None, options)
    found = cpu.forward(layer, False, pack_int8(layer, int8))
    return found.output, found.hidden_n, found.cell_n

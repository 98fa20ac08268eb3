"""Recurrent layers in 8 bits in plain NumPy: what `seqfast.ops.rnn_int8` must compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqfast.reference import rnn
from seqfast.reference._cells import Array
from seqfast.reference._options import PLAIN, Options

__all__ = ["int8_forward", "quantize_weight"]

# Rows below it would have a subnormal scale, which the kernels take for zero.
_LEAST = np.float32(127) * np.finfo(np.float32).tiny


def quantize_weight(weight: Array) -> tuple[Array, Array]:
    """A weight in 8 bits, each row by the largest of its magnitudes.

    Arguments and results are those of `seqfast.ops.rnn_int8.quantize_weight`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn_int8
        >>> rnn_int8.quantize_weight(np.array([[0.5, -1.0]], np.float32))[0]
        array([[  64, -127]], dtype=int8)
    """
    return _rounded(weight, np.abs(weight).max(1, initial=0))


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
    """A recurrent layer whose products are of 8 bits (docs/equations.md).

    Arguments and results are those of `seqfast.ops.rnn_int8.int8_forward`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import rnn_int8
        >>> (w, a), (r, b) = (rnn_int8.quantize_weight(np.ones((8, n), np.float32)) for n in (3, 8))
        >>> x = np.ones((5, 2, 3), np.float32)
        >>> given = "rnn", x, None, None, [(w, r, None, None, None)], [(a, b)]
        >>> rnn_int8.int8_forward(*given)[0].shape
        (5, 2, 8)
    """
    rows = [
        (_Int8(row[0], scale_ih), _Int8(row[1], scale_hh), *row[2:])
        for row, (scale_ih, scale_hh) in zip(weights, scales, strict=True)
    ]
    given: Any = (input, hidden, cell) if operation == "lstm" else (input, hidden)
    forward: Any = {"lstm": rnn.lstm_forward, "gru": rnn.gru_forward, "rnn": rnn.rnn_forward}[
        operation
    ]
    found = forward(*given, rows, lengths, reset=reset, options=options, save=False)
    return found[0], found[1], found[2] if operation == "lstm" else None


def _rounded(x: Array, largest: Array) -> tuple[Array, Array]:
    """x / scale as int8, and the scale of each row: 127 of it are the largest."""
    inverse = np.zeros_like(largest)
    np.divide(np.float32(127), largest, out=inverse, where=largest >= _LEAST)
    return np.rint(x * inverse[:, None]).astype(np.int8), largest / np.float32(127)


class _Int8:
    """A weight that multiplies as a matrix does, from the right: x @ weight.T."""

    __array_ufunc__ = None  # so that NumPy leaves x @ weight to us

    def __init__(self, q: Any, scale: Array) -> None:
        self.q, self.scale = q, scale
        self.shape = q.shape

    @property
    def T(self) -> _Int8:
        return self

    def astype(self, dtype: Any) -> _Int8:
        return self

    def __getitem__(self, rows: slice) -> _Int8:
        return _Int8(self.q[rows], self.scale[rows])

    def __rmatmul__(self, x: Array) -> Array:
        sound = np.asarray(np.isfinite(x).all(axis=1))
        x = np.where(sound[:, None], x, 0).astype(np.float32)
        quantized, scale = _rounded(x, np.abs(x).max(1, initial=0))
        # A row with NaN or infinity is NaN.
        scale = np.where(sound, scale, np.float32(np.nan))
        exact = quantized.astype(np.int64) @ self.q.T.astype(np.int64)
        return np.asarray(exact.astype(np.float32) * scale[:, None] * self.scale)

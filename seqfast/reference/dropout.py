"""Dropout by counter in plain NumPy: what `seqfast.ops.dropout` must compute, bit for bit."""

from __future__ import annotations

import numpy as np

from seqfast.reference._philox import Array, Draw, events, kept_scale, philox, stream_of

__all__ = ["Draw", "dropout", "events", "philox", "stream_of"]


def dropout(
    input: Array,
    probability: float,
    seed: Array | int | None,
    *,
    stream: int,
    per_step: bool = True,
) -> Array:
    """`input` with elements set to zero with `probability`, the others times 1 / (1 - p).

    Srivastava et al. 2014; with `per_step` False one mask for all steps (Gal & Ghahramani 2016).

    `input` [steps, rows, units], float16, float32 or float64. `seed`: an int64, or an array of one;
    None is evaluation, which leaves `input` as it is. `stream`: see `stream_of`. Which elements are
    dropped depends on (seed, stream, step, row, unit) alone. Returns an array like `input`,
    multiplied in float32 (float64 for float64). Its own gradient: the same of the gradient.

    Arguments and results are those of
    `seqfast.ops.dropout.functions.dropout`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.dropout import dropout
        >>> dropped = dropout(np.ones((2, 3, 100), np.float32), 0.5, 7, stream=0)
        >>> sorted(set(dropped.ravel().tolist()))
        [0.0, 2.0]
    """
    if seed is None:
        return input.copy()
    steps, rows, units = input.shape
    accumulate = np.dtype(np.float64 if input.dtype == np.float64 else np.float32)
    dropped = events(probability, seed, stream, steps if per_step else None, rows, units)
    # Selected, not multiplied by zero: what is dropped may be infinite.
    kept = np.where(dropped, 0, input).astype(accumulate)
    return np.asarray((kept * accumulate.type(kept_scale(probability))).astype(input.dtype))

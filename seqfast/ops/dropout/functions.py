"""Dropout by counter: checks, allocation and the call into the native kernel."""

from __future__ import annotations

from seqfast import _C
from seqfast.ops.base.arrays import Array, library_of, thread_count
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import PROBABILITY, check_number, check_seed, check_whole
from seqfast.ops.dropout.arguments import DropoutArgs


def dropout(
    input: Array,
    probability: float,
    seed: Array | None,
    *,
    stream: int,
    per_step: bool = True,
) -> Array:
    """`input` with elements set to zero with `probability`, the others times 1 / (1 - p).

    Srivastava et al. 2014; with `per_step` False one mask for all steps (Gal & Ghahramani 2016).
    Which elements are dropped depends on (seed, stream, step, row, unit) alone, by Philox4x32-10
    (Salmon et al. 2011). Same results as `seqfast.reference.dropout.dropout`. NumPy arrays, or
    torch tensors on the CPU or on one CUDA device. There is no autograd here; the gradient is the
    same dropout of the gradient.

    Args:
        input: [steps, rows, units], float32, float64, bfloat16 or float16.
        probability: of an element to be dropped, from 0 to 1; it counts to 24 bits.
        seed: one int64 number; None is evaluation, which leaves `input` as it is.
        stream: from 0 to 2**32 - 1; it tells uses of one seed apart.
        per_step: whether each step has a mask of its own.

    Returns:
        A new array like `input`.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, probability or stream.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.dropout import dropout
        >>> dropped = dropout(np.ones((2, 3, 100), np.float32), 0.5, np.array(7), stream=0)
        >>> sorted(set(dropped.ravel().tolist()))
        [0.0, 2.0]
    """
    xp = library_of(input, "dropout", "input")
    dtype = xp.dtype_code(input)
    if dtype is None:
        raise TypeError(
            f"dropout: input must be float32, float64, bfloat16 or float16, got {input.dtype}"
        )
    if len(input.shape) != 3:
        raise ValueError(f"dropout: input must be [steps, rows, units], got {list(input.shape)}")
    backend = checked_backend("dropout", "input", xp.place(input))
    probability = check_number("dropout", "probability", probability, PROBABILITY)
    stream = check_whole("dropout", "stream", stream, 0, 2**32 - 1)
    if seed is None:
        return xp.copy(input)
    seed = check_seed(xp, "dropout", seed, input)
    steps, rows, units = input.shape
    if steps * rows * units == 0:
        return xp.copy(input)
    input = xp.contiguous(input)
    if backend != "cpu":
        from seqfast.ops.dropout import cuda  # it imports torch

        return cuda.dropout(input, probability, seed, stream, per_step, backend)
    output = xp.empty(input, (steps, rows, units))
    # By place: a small array takes hardly longer than the names would.
    args = DropoutArgs(
        dtype,
        steps,
        rows,
        units,
        xp.address(input),
        xp.address(output),
        probability,
        xp.address(seed),
        stream,
        per_step,
        thread_count(),
    )
    _C.dropout(args)
    return output

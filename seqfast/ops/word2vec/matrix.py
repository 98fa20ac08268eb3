"""Memory for the rows of large tables: aligned, with room to the end of the last vector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqfast import _C

ALIGNMENT = 64  # bytes
FLOATS = 16  # a row is a multiple of as many floats


def stride_of(size: int) -> int:
    """Floats from row to row for rows of `size` columns."""
    return -(-size // FLOATS) * FLOATS


def matrix(rows: int, size: int) -> npt.NDArray[np.float32]:
    """Zeros, float32 [rows, stride_of(size)], as the word vectors' kernels want them: in one piece,
    from an address that is a multiple of 64 bytes. Huge pages are asked for where they help."""
    stride = stride_of(size)
    count = rows * stride
    memory = np.zeros(count + FLOATS, np.float32)
    # Before anything is written: large memory comes as zeros that nobody has touched.
    _C.use_huge_pages(memory.ctypes.data, memory.nbytes)
    start = -memory.ctypes.data % ALIGNMENT // memory.itemsize
    return memory[start : start + count].reshape(rows, stride)

"""One small vocabulary for NumPy arrays and torch tensors, so that each check is written once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from seqfast import _C

Array = Any  # a numpy.ndarray or a torch.Tensor
Shape = tuple[int, ...]

FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = range(4)  # the codes of csrc/core


class ArrayLibrary(Protocol):
    """What the operations ask of an array library."""

    name: str

    def owns(self, array: object) -> bool: ...
    def dtype_code(self, array: Array) -> int | None: ...
    def place(self, array: Array) -> str: ...
    def is_integer(self, array: Array) -> bool: ...
    def fits(self, array: object, like: Array, dtype: Any, shape: Shape) -> bool: ...
    def rows(self, array: Array) -> Array: ...
    def contiguous(self, array: Array) -> Array: ...
    def strides(self, array: Array) -> Shape: ...
    def address(self, array: Array) -> int: ...
    def empty(self, like: Array, shape: Shape) -> Array: ...
    def empty_of(self, like: Array, shape: Shape, dtype: str) -> Array: ...
    def zeros(self, like: Array, shape: Shape) -> Array: ...
    def empty_like(self, like: Array) -> Array: ...
    def zeros_like(self, like: Array) -> Array: ...
    def accumulator(self, like: Array, shape: Shape, zero: bool) -> Array: ...
    def accumulator_dtype(self, like: Array) -> Any: ...
    def int64(self, array: Array) -> Array: ...
    def int32(self, array: Array) -> Array: ...
    def from_numpy(self, array: np.ndarray[Any, Any]) -> Array: ...
    def cast(self, array: Array, dtype: Any) -> Array: ...
    def copy(self, array: Array) -> Array: ...


class NumPyArrays:
    """NumPy arrays; bfloat16 where ml_dtypes is loaded."""

    name = "a NumPy array"

    def __init__(self) -> None:
        # By name: a byte-swapped float32 is called ">f4" and so is refused, not misread.
        self._codes = {
            "float32": FLOAT32,
            "float64": FLOAT64,
            "bfloat16": BFLOAT16,
            "float16": FLOAT16,
        }

    def owns(self, array: object) -> bool:
        # A mask would be ignored.
        return isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)

    def dtype_code(self, array: Array) -> int | None:
        return self._codes.get(dtype_name(array))

    def place(self, array: Array) -> str:
        return "cpu"

    def is_integer(self, array: Array) -> bool:
        return array.dtype.kind in "iu"

    def fits(self, array: Any, like: Array, dtype: Any, shape: Shape) -> bool:
        """Whether a kernel can take the array as it is: the usual case, in one test."""
        if type(array) is not np.ndarray and not self.owns(array):
            return False
        flags = array.flags
        contiguous = flags.c_contiguous and flags.aligned
        return contiguous and array.shape == shape and bool(array.dtype == dtype)

    def rows(self, array: Array) -> Array:
        """The array itself where its rows are dense and its other strides positive, else a copy."""
        flags, strides = array.flags, array.strides
        if flags.c_contiguous and flags.aligned and 0 not in strides:
            return array
        *outer, last = strides
        size = array.itemsize
        dense = last == size or array.shape[-1] <= 1
        if dense and array.flags.aligned and all(s > 0 and s % size == 0 for s in outer):
            return array
        return np.array(array, order="C")

    def contiguous(self, array: Array) -> Array:
        flags = array.flags
        return array if flags.c_contiguous and flags.aligned else np.array(array, order="C")

    def strides(self, array: Array) -> Shape:
        size = array.itemsize
        return tuple([stride // size for stride in array.strides])

    def address(self, array: Array) -> int:
        return _C.numpy_address(array)

    def empty(self, like: Array, shape: Shape) -> Array:
        return np.empty(shape, like.dtype)

    def empty_of(self, like: Array, shape: Shape, dtype: str) -> Array:
        return np.empty(shape, dtype)

    def zeros(self, like: Array, shape: Shape) -> Array:
        return np.zeros(shape, like.dtype)

    def empty_like(self, like: Array) -> Array:
        return np.empty(like.shape, like.dtype)

    def zeros_like(self, like: Array) -> Array:
        return np.zeros(like.shape, like.dtype)

    def accumulator(self, like: Array, shape: Shape, zero: bool) -> Array:
        return (np.zeros if zero else np.empty)(shape, self.accumulator_dtype(like))

    def accumulator_dtype(self, like: Array) -> Any:
        return np.dtype(np.float64 if like.dtype == np.float64 else np.float32)

    def int64(self, array: Array) -> Array:
        return np.ascontiguousarray(array, np.int64)

    def int32(self, array: Array) -> Array:
        return np.ascontiguousarray(array, np.int32)

    def from_numpy(self, array: np.ndarray[Any, Any]) -> Array:
        return array

    def cast(self, array: Array, dtype: Any) -> Array:
        return array.astype(dtype, copy=False)

    def copy(self, array: Array) -> Array:
        return np.array(array, order="C")


class TorchArrays:
    """torch tensors; made only once torch is loaded."""

    name = "a torch tensor"

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._tensor, self._strided = torch.Tensor, torch.strided
        # Straight to torch: a call of Python's own costs more than what it does.
        self.address: Callable[[Array], int] = torch.Tensor.data_ptr
        self.strides: Callable[[Array], Shape] = torch.Tensor.stride
        self.empty: Callable[[Array, Shape], Array] = torch.Tensor.new_empty
        self.zeros: Callable[[Array, Shape], Array] = torch.Tensor.new_zeros
        self.empty_like: Callable[[Array], Array] = torch.empty_like
        self.zeros_like: Callable[[Array], Array] = torch.zeros_like
        self._codes = {
            torch.float32: FLOAT32,
            torch.float64: FLOAT64,
            torch.bfloat16: BFLOAT16,
            torch.float16: FLOAT16,
        }

    def owns(self, array: object) -> bool:
        return isinstance(array, self._tensor)

    def dtype_code(self, array: Array) -> int | None:
        return self._codes.get(array.dtype)

    def place(self, array: Array) -> str:
        if array.layout is not self._strided:
            return str(array.layout)
        return "cpu" if array.is_cpu else str(array.device)

    def is_integer(self, array: Array) -> bool:
        dtype = array.dtype
        return not (dtype.is_floating_point or dtype.is_complex or dtype is self._torch.bool)

    def fits(self, array: Any, like: Array, dtype: Any, shape: Shape) -> bool:
        """Whether a kernel can take the array as it is: the usual case, in one test."""
        return (
            isinstance(array, self._tensor)
            and array.shape == shape
            and array.dtype is dtype
            and (array.is_cpu if like.is_cpu else array.device == like.device)
            and array.layout is self._strided
            and array.is_contiguous()
            and not array.is_neg()
        )

    def rows(self, array: Array) -> Array:
        strides = array.stride()
        if array.is_contiguous() and 0 not in strides and not array.is_neg():
            return array
        *outer, last = strides
        dense = last == 1 or array.shape[-1] <= 1
        if dense and all([s > 0 for s in outer]) and not array.is_neg():
            return array
        return self.copy(array)

    def contiguous(self, array: Array) -> Array:
        return array if array.is_contiguous() and not array.is_neg() else self.copy(array)

    def empty_of(self, like: Array, shape: Shape, dtype: str) -> Array:
        return like.new_empty(shape, dtype=getattr(self._torch, dtype))

    def accumulator(self, like: Array, shape: Shape, zero: bool) -> Array:
        dtype = self.accumulator_dtype(like)
        return (like.new_zeros if zero else like.new_empty)(shape, dtype=dtype)

    def accumulator_dtype(self, like: Array) -> Any:
        return like.dtype if like.dtype is self._torch.float64 else self._torch.float32

    def int64(self, array: Array) -> Array:
        return self.contiguous(array.to(self._torch.int64))

    def int32(self, array: Array) -> Array:
        return self.contiguous(array.to(self._torch.int32))

    def from_numpy(self, array: np.ndarray[Any, Any]) -> Array:
        return self._torch.from_numpy(array)

    def cast(self, array: Array, dtype: Any) -> Array:
        return array.to(dtype)

    def copy(self, array: Array) -> Array:
        return array.detach().resolve_neg().clone(memory_format=self._torch.contiguous_format)


_NUMPY = NumPyArrays()
_torch_arrays: TorchArrays | None = None


def library_of(array: object, operation: str, argument: str) -> ArrayLibrary:
    """The library that `array` belongs to; TypeError where it belongs to none."""
    global _torch_arrays
    if _torch_arrays is not None and _torch_arrays.owns(array):
        return _torch_arrays
    if _NUMPY.owns(array):
        return _NUMPY
    if "torch" in sys.modules:
        if _torch_arrays is None:
            _torch_arrays = TorchArrays()
        if _torch_arrays.owns(array):
            return _torch_arrays
    raise TypeError(
        f"{operation}: {argument} must be a NumPy array or a torch tensor, "
        f"got {type(array).__name__}"
    )


class _Names(dict[Any, str]):
    def __missing__(self, dtype: Any) -> str:
        return self.setdefault(dtype, str(dtype).removeprefix("torch."))


_names = _Names()  # to spell a dtype takes longer than a check


def dtype_name(array: Array) -> str:
    """The name of its dtype, the same for both libraries."""
    return _names[array.dtype]


class Workspace:
    """Memory for a kernel to work in, kept from call to call: fresh pages cost more than they hold.

    `with Workspace(size) as address:`; calls in several threads get one each. At most four are
    kept, none above 128 MiB, for the life of the process.
    """

    _kept: ClassVar[list[tuple[int, np.ndarray[Any, Any]]]] = []
    _most_buffers, _most_bytes = 4, 128 << 20

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> int:
        try:
            self._address, self._memory = self._kept.pop()
        except IndexError:
            pass
        else:
            if self._memory.size >= self._size:
                return self._address
        self._address, self._memory = _fresh(self._size)
        return self._address

    def __exit__(self, *exception: object) -> None:
        if len(self._kept) < self._most_buffers and self._memory.size <= self._most_bytes:
            self._kept.append((self._address, self._memory))


def run_in_workspace(call: Callable[[Any, int, int], int], args: Any) -> None:
    """`call(args, address, bytes)` with a kept workspace, again with a larger one where it says so.

    For calls that are short: they find out what they need by themselves.
    """
    kept = Workspace._kept
    try:
        address, memory = kept.pop()
    except IndexError:
        address, memory = _fresh(0)
    needed = call(args, address, memory.size)
    if needed:
        address, memory = _fresh(needed)
        call(args, address, needed)
    if len(kept) < Workspace._most_buffers and memory.size <= Workspace._most_bytes:
        kept.append((address, memory))


def _fresh(size: int) -> tuple[int, np.ndarray[Any, Any]]:
    memory = np.empty(size, np.uint8)
    return _C.numpy_address(memory), memory


def thread_count() -> int:
    """torch's number of threads if torch is loaded, else OpenMP's own."""
    torch = sys.modules.get("torch")
    if torch is None:
        return _C.max_threads()
    threads: int = torch.get_num_threads()
    return threads

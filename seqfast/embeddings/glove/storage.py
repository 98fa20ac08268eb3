"""Arrays in memory, or in a file without a name where they are too large for the limit."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.corpus.id_store import free_memory

Array = npt.NDArray[Any]

_ADVICE = "give cache_folder= on a disk with more room, or a larger memory_limit="


class Storage:
    """Hands out arrays, the sum of which stays within `memory_limit` bytes (None: half of what is
    free); those that would go beyond it are mapped from files in `cache_folder` (None: the system's
    folder for temporary files), which have no name and end with the process.
    """

    def __init__(
        self, operation: str, cache_folder: str | os.PathLike[str] | None, memory_limit: int | None
    ) -> None:
        if memory_limit is not None and memory_limit < 0:
            raise ValueError(f"{operation}: memory_limit must be 0 or more, got {memory_limit}")
        self._operation = operation
        self._folder = cache_folder
        self.limit = free_memory() // 2 if memory_limit is None else memory_limit
        self.used = 0

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """An array of anything. Raises OSError where a file finds no room."""
        shape = (shape,) if isinstance(shape, int) else shape
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self.used + size <= self.limit or not size:
            self.used += size
            return np.empty(shape, dtype)
        with self._file() as file:
            try:
                # All of its blocks at once: a page that found no room later would kill the process.
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise self._named(error) from None
            return np.memmap(file, dtype, "r+", shape=shape).view(np.ndarray)

    def _file(self) -> Any:
        try:
            return tempfile.TemporaryFile(prefix="seqfast-glove-", dir=self._folder)
        except OSError as error:
            raise self._named(error) from None

    def _named(self, error: OSError) -> OSError:
        folder = tempfile.gettempdir() if self._folder is None else os.fspath(self._folder)
        text = os.strerror(error.errno or errno.EIO)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            text = f"{text}; {_ADVICE}"
        return OSError(error.errno, f"{self._operation}: {text}", folder)

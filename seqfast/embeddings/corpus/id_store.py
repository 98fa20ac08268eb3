"""Ids of a corpus while it is read: in memory, or in a file without a name where they are many."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from seqfast.embeddings.corpus.sources import PIECE_TOKENS, Array, Reader

_MEMORY_ADVICE = (
    "corpus: the ids of the words need 4 bytes a word; give cache_folder= on a disk with room "
    "for them, or a larger memory_limit="
)


class IdStore:
    """Takes a reader's ids, and gives all of them back once their final numbers are known."""

    def __init__(self, folder: str | os.PathLike[str] | None, memory_limit: int | None) -> None:
        if memory_limit is not None and memory_limit < 0:
            raise ValueError(f"corpus: memory_limit must be 0 or more, got {memory_limit}")
        self._folder = folder
        self._limit = free_memory() // 2 if memory_limit is None else memory_limit
        self._file: IO[bytes] | None = None

    def fetch(self, reader: Reader) -> None:
        """To be called after each block: writes the ids to the file where they are too many."""
        if reader.pending * 4 <= self._limit and self._file is None:
            return
        if reader.pending >= PIECE_TOKENS or self._file is None:
            self._spill(reader)

    def finish(self, reader: Reader, numbers: Array | None) -> Array:
        """All ids, `numbers[id]` in their place unless that is None; negative ones left out."""
        if self._file is None and reader.pending * 4 <= self._limit:
            ids = reader.take()
            return ids if numbers is None else ids[: reader.renumber(ids, numbers)]
        self._spill(reader)
        assert self._file is not None
        size = self._file.tell()
        if numbers is not None:
            size = self._renumber(reader, numbers, size)
        if not size:
            return np.empty(0, np.int32)
        # The map outlives the file's descriptor, and nobody else can shorten what has no name.
        mapped = np.memmap(self._file, np.int32, "r", shape=(size // 4,))
        return mapped.view(np.ndarray)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _spill(self, reader: Reader) -> None:
        ids = reader.take()
        if self._file is None:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed by close()
                buffering=0, prefix="seqfast-corpus-", dir=self._folder
            )
        self._write(ids, self._file.tell())

    def _write(self, ids: Array, position: int) -> None:
        assert self._file is not None
        data = ids.view(np.uint8).data
        self._file.seek(position)
        try:
            while len(data):
                data = data[self._file.write(data[: 4 * PIECE_TOKENS]) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                folder = tempfile.gettempdir() if self._folder is None else os.fspath(self._folder)
                text = f"{os.strerror(error.errno)}; {_MEMORY_ADVICE}"
                raise OSError(error.errno, text, folder) from None
            raise

    def _renumber(self, reader: Reader, numbers: Array, size: int) -> int:
        assert self._file is not None
        piece = np.empty(PIECE_TOKENS, np.int32)
        room = piece.view(np.uint8).data
        written = 0
        for start in range(0, size, len(room)):
            wanted = min(len(room), size - start)
            read = 0
            self._file.seek(start)
            while read < wanted:
                got = self._file.readinto(room[read:wanted])  # type: ignore[attr-defined]
                if not got:
                    raise OSError(errno.EIO, "corpus: the file of the ids is cut short")
                read += got
            ids = piece[: wanted // 4]
            ids = ids[: reader.renumber(ids, numbers)]
            self._write(ids, written)
            written += 4 * len(ids)
        self._file.truncate(written)
        return written


def free_memory() -> int:
    """Bytes that can still be had: of the machine, and of this process's control group."""
    free = 1 << 62
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) << 10
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        with suppress(OSError, ValueError):
            most = int(Path(limit).read_text())
            free = min(free, max(most - int(Path(used).read_text()), 0))
    if free == 1 << 62:
        with suppress(OSError, ValueError, AttributeError):
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free

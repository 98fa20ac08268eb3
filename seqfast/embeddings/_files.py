"""Files that are whole or not there: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

PathLike = str | os.PathLike[str]

_SUFFIX = ".partial"


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes the place of `path` when the block ends well.

    After an error, a kill or a loss of power `path` is as it was. What is no ordinary file
    (/dev/stdout, a pipe) is written directly. Raises OSError: a folder that is missing or may not
    be written, a full disk.
    """
    if _is_special(path):
        with open(path, "wb") as special:
            yield special
        return
    target = _target(path)
    descriptor, name = _partial_file(target)
    try:
        with open(descriptor, "wb") as file:
            os.chmod(name, _mode(target))
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _flush_folder(target.parent)


def check_writable(path: PathLike) -> None:
    """Raises the OSError that `atomic_file(path)` would; `path` stays as it is."""
    if _is_special(path):
        if os.path.isdir(path) or not os.access(path, os.W_OK):
            open(path, "ab").close()  # raises what the system says
        return
    descriptor, name = _partial_file(_target(path))
    os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):  # another process of the run cleaned up
        os.unlink(name)


def remove_partial(path: PathLike) -> None:
    """Removes what writers of `path` that were killed have left beside it."""
    target = _target(path)
    for left in target.parent.glob(glob.escape(_prefix(target)) + "*" + _SUFFIX):
        with contextlib.suppress(OSError):
            left.unlink()


def _is_special(path: PathLike) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def _target(path: PathLike) -> Path:
    """Where a link leads: it stays a link."""
    return Path(os.path.realpath(path))


def _prefix(target: Path) -> str:
    return f".{target.name[:64]}."


def _partial_file(target: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=_prefix(target), suffix=_SUFFIX, dir=target.parent)


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, else those of a new one."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _flush_folder(folder: Path) -> None:
    """So that the new name survives a loss of power; not every file system knows how."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

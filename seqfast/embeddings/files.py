"""Files: whole or not there, flushed to disk before they take their place; packed by suffix."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import importlib
import lzma
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

PathLike = str | os.PathLike[str]

_SUFFIX = ".partial"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_MODULES = ("compression.zstd", "backports.zstd", "zstandard")
_LONGEST_NAME = 128  # bytes, of 255, that a partial file takes over from its target


def is_damage(error: Exception) -> bool:
    """Whether unpacking raises that of a damaged archive."""
    if isinstance(error, (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)):
        return True
    # bz2's has no number; zstd's class is of whichever package unpacks it.
    return type(error).__name__ == "ZstdError" or (
        isinstance(error, OSError) and error.errno is None
    )


@contextlib.contextmanager
def damage_named(path: PathLike) -> Iterator[None]:
    """Turns what unpacking says of a damaged archive into a ValueError that names the file."""
    try:
        yield
    except Exception as error:
        if not is_damage(error):
            raise
        raise ValueError(
            f"{os.fspath(path)} cannot be read: the archive is damaged ({error})"
        ) from error


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes the place of `path` when the block ends well.

    After an error, a kill or a loss of power `path` is as it was. What is no ordinary file
    (/dev/stdout, a pipe) is written directly. Raises OSError: a folder that is missing or may not
    be written, a full disk.
    """
    with _errors_named(path):
        if _is_special(path):
            with open(path, "wb") as special:
                yield special
            return
        target = _link_target(path)
        descriptor, name = _partial_file(target)
        try:
            with open(descriptor, "wb") as file:
                os.chmod(name, _permissions(target))
                yield cast(BinaryIO, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        _flush_folder(target.parent)


@contextlib.contextmanager
def atomic_packed_file(path: PathLike) -> Iterator[BinaryIO]:
    """`atomic_file`, packed as the suffix says."""
    suffix = Path(path).suffix
    with atomic_file(path) as file, contextlib.ExitStack() as stack:
        packed: Any = file
        if suffix == ".gz":
            # Neither name nor time: the same vectors are the same bytes.
            packed = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        elif suffix == ".bz2":
            packed = stack.enter_context(bz2.BZ2File(file, "wb"))
        elif suffix == ".xz":
            packed = stack.enter_context(lzma.LZMAFile(file, "wb"))
        yield packed


def open_zstd(packed: BinaryIO, mode: str = "rb") -> Any:
    """What a file packed by zstd holds. ImportError where no package reads it."""
    for name in _ZSTD_MODULES:
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        return module.open(packed, mode)
    raise ImportError(
        f"{packed.name} is a zstd file, which needs zstandard: pip install "
        "seqfast[embeddings], or unpack it first"
    )


def _unpacked_zstd(path: PathLike) -> BinaryIO:
    """In a file without a name: not every package's reader can go back."""
    whole = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    try:
        with open(path, "rb") as packed, open_zstd(packed) as file:
            shutil.copyfileobj(file, whole)
        whole.seek(0)
    except BaseException:
        whole.close()
        raise
    return cast(BinaryIO, whole)


def open_by_suffix(path: PathLike) -> BinaryIO:
    """Opens a file for reading bytes, unpacked if it ends in .gz, .bz2 or .xz, or begins so.

    What begins as a file of zstd is unpacked where Python or a package (zstandard) reads it.

    Args:
        path: of the file.

    Returns:
        The open file.

    Example:
        >>> from pathlib import Path
        >>> from seqfast.embeddings.formats import open_by_suffix
        >>> Path("text.txt").write_bytes(b"a b")
        3
        >>> with open_by_suffix("text.txt") as file:
        ...     file.read()
        b'a b'
    """
    suffix = Path(path).suffix
    if suffix not in (".gz", ".bz2", ".xz") and os.path.isfile(path):
        with open(path, "rb") as file:
            start = file.read(10)
        if start.startswith(b"\x1f\x8b\x08"):
            suffix = ".gz"
        elif start.startswith(b"\xfd7zXZ\0"):
            suffix = ".xz"
        elif start.startswith(b"BZh") and start[4:] in (b"1AY&SY", b"\x17rE8P\x90"):
            suffix = ".bz2"
        elif start.startswith(ZSTD_MAGIC):
            return _unpacked_zstd(path)
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if suffix == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    return open(path, "rb")


def check_writable(path: PathLike) -> None:
    """Raises the OSError that `atomic_file(path)` would; `path` stays as it is."""
    if _is_special(path):
        if os.path.isdir(path) or not os.access(path, os.W_OK):
            open(path, "ab").close()  # raises what the system says
        return
    with _errors_named(path):
        descriptor, name = _partial_file(_link_target(path))
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):  # another process of the run cleaned up
        os.unlink(name)


def remove_partial(path: PathLike) -> None:
    """Removes what writers of `path` that were killed have left beside it."""
    target = _link_target(path)
    with contextlib.suppress(OSError):
        for left in target.parent.iterdir():
            if _is_partial(left.name, target):
                with contextlib.suppress(OSError):
                    left.unlink()


def _is_special(path: PathLike) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def _link_target(path: PathLike) -> Path:
    """Where a link leads: it stays a link."""
    return Path(os.path.realpath(path))


def _prefix(target: Path) -> str:
    """Of the names of partial files; those of two targets differ, and fit where theirs do."""
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST_NAME:
        return f".{target.name}."
    return f".{target.name[:32]}.{hashlib.blake2b(name, digest_size=8).hexdigest()}."


def _is_partial(name: str, target: Path) -> bool:
    """Not that of another target whose name begins the same: mkstemp writes no dots."""
    pattern = re.escape(_prefix(target)) + "[a-z0-9_]+" + re.escape(_SUFFIX)
    return re.fullmatch(pattern, name) is not None


def _partial_file(target: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=_prefix(target), suffix=_SUFFIX, dir=target.parent)


@contextlib.contextmanager
def _errors_named(path: PathLike) -> Iterator[None]:
    """Errors of the system that name nothing, or a partial file, name `path` in its place."""
    try:
        yield
    except OSError as error:
        name = error.filename
        if isinstance(name, str):
            ours = _is_partial(os.path.basename(name), _link_target(path))
        else:
            ours = name is None
        if error.errno is None or not ours:
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


def _permissions(target: Path) -> int:
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

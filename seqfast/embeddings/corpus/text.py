"""Text in files: decompress it, decode it, and reject files that are not text."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import errno
import gzip
import io
import lzma
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from seqfast.embeddings.files import ZSTD_MAGIC, is_damage, open_zstd
from seqfast.ops.corpus import WordReader

Path = str | os.PathLike[str]
ReadingProgress = Callable[[int, int | None, str], None]

_LONGEST_WORD = 1 << 30
_HEAD = 1 << 16  # bytes by which a file is judged before anything is done with them
_REFUSED_SHARE = 0.1  # of invalid bytes: it is another encoding
_FEW = 64  # so few invalid bytes are always accepted

# First bytes of files that are not text, what they are, and the remedy.
_NO_TEXT: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"PK\x05\x06", "a zip archive", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (ZSTD_MAGIC, "a zstd file", "unpack it first"),
    (b"\x1f\x8b\x08", "a gzip file in another packed file", "unpack it first"),
    (b"%PDF-", "a PDF", "extract its text first"),
    (b"\x93NUMPY", "a NumPy array", "numpy.load reads it"),
    (b"PAR1", "a Parquet table", "pass one of its columns as lists of words"),
    (b"SQLite format 3\0", "an SQLite database", "pass lists of words"),
    (b"\x7fELF", "a program", "pass a text"),
    (b"\x89PNG", "a picture", "pass a text"),
    (b"\xff\xd8\xff", "a picture", "pass a text"),
    (b"\xff\xfe\0\0", "a text in UTF-32", "pass encoding='utf-32'"),
    (b"\0\0\xfe\xff", "a text in UTF-32", "pass encoding='utf-32'"),
    (b"\xff\xfe", "a text in UTF-16", "pass encoding='utf-16'"),
    (b"\xfe\xff", "a text in UTF-16", "pass encoding='utf-16'"),
)


@dataclass(frozen=True)
class Decoding:
    """How bytes become text.

    Args:
        encoding: the name of a Python codec.
        errors: what to do with bytes that are invalid in it. None: each becomes U+FFFD, with a
            warning, and a file with many of them is an error. "replace": each becomes U+FFFD,
            without warning or error. "ignore": they are left out. "strict": the first one is an
            error.

    Example:
        >>> from pathlib import Path
        >>> from seqfast.embeddings import corpus
        >>> _ = Path("latin.txt").write_bytes("un café".encode("latin-1"))
        >>> corpus.read("latin.txt", min_count=1, decoding=corpus.Decoding("latin-1"))[0].words
        ['un', 'café']
    """

    encoding: str = "utf-8"
    errors: str | None = None

    def check(self) -> None:
        """Raises LookupError or ValueError, naming what there is no such thing of."""
        try:
            codecs.lookup(self.encoding)
        except (LookupError, TypeError):
            raise ValueError(
                f"corpus: encoding must be one that Python knows, got {self.encoding!r}"
            ) from None
        if self.errors not in (None, "replace", "ignore", "strict"):
            raise ValueError(
                f'corpus: errors must be None, "replace", "ignore" or "strict", got {self.errors!r}'
            )

    @property
    def native(self) -> bool:
        """Whether the bytes are read as they are."""
        return codecs.lookup(self.encoding).name == "utf-8" and self.errors != "ignore"


class _Recoded(io.RawIOBase):
    """The bytes of a stream of text in another encoding as UTF-8."""

    def __init__(self, stream: Any, decoding: Decoding) -> None:
        self._stream = stream
        errors = decoding.errors or "replace"
        self._decoder = codecs.getincrementaldecoder(decoding.encoding)(errors)
        self._left = b""
        self.replaced = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        while not self._left:
            data = self._stream.read(max(len(room) // 4, 4096))
            text = self._decoder.decode(data, not data)
            self.replaced += text.count("\ufffd")
            self._left = text.encode("utf-8", "replace")
            if not data and not self._left:
                return 0
        size = min(len(room), len(self._left))
        room[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Paths with ~ as the home, and for each folder its files by name, without hidden ones."""
    found: list[Path] = []
    for path in paths:
        name = os.path.expanduser(path)
        if not os.path.isdir(name):
            found.append(name)
            continue
        inside = sorted(entry for entry in os.listdir(name) if not entry.startswith("."))
        files = [os.path.join(name, entry) for entry in inside]
        files = [file for file in files if os.path.isfile(file)]
        if not files:
            raise FileNotFoundError(errno.ENOENT, "corpus: the folder has no files", name)
        found += files
    return found


def feed_files(
    reader: WordReader,
    paths: Sequence[Path],
    block: int,
    progress: ReadingProgress | None,
    decoding: Decoding,
) -> Iterator[bool]:
    """Reads files one after the other, in blocks; a sentence ends where its file does."""
    sizes = [os.stat(path) if os.path.exists(path) else None for path in paths]
    regular = all(size is not None and stat.S_ISREG(size.st_mode) for size in sizes)
    total = sum(size.st_size for size in sizes if size is not None) if regular else None
    before = 0
    first_wrong: Path | None = None
    wrong_elsewhere = 0
    for path in paths:
        with _open(path) as packed:
            kind, unpacked = _unpacked(path, packed)
            text: Any = unpacked
            recoded = None if decoding.native else _Recoded(unpacked, decoding)
            with unpacked:
                if recoded is not None:
                    text = io.BufferedReader(recoded, 1 << 20)
                fed, wrong = 0, reader.invalid_bytes
                head = _head(path, kind, text, min(block, _HEAD))
                while size := _read_block(reader, block, path, kind, text, head):
                    fed, head = fed + size, b""
                    yield False
                    while reader.full:
                        yield True
                        reader.feed(0)
                    found = reader.invalid_bytes - wrong + (recoded.replaced if recoded else 0)
                    _check_share(path, found, fed, decoding)
                    if progress is not None:
                        progress(before + _bytes_taken(packed), total, "bytes")
                before += _bytes_taken(packed)
        reader.end()
        while reader.full:
            yield True
            reader.end()
        found = reader.invalid_bytes - wrong + (recoded.replaced if recoded else 0)
        _check_share(path, found, fed, decoding)
        if found and first_wrong is None:
            first_wrong = path
        if recoded is not None:
            wrong_elsewhere += recoded.replaced
    count = reader.invalid_bytes + wrong_elsewhere
    if first_wrong is not None and decoding.errors is None:
        warnings.warn(
            f"corpus: {count} bytes are not valid {decoding.encoding} and are read as U+FFFD, the "
            f"first in {_place(first_wrong, decoding)}; pass another encoding=, or "
            "errors='replace' to accept this",
            UnicodeWarning,
            stacklevel=2,
        )
    yield False


def _head(path: Path, kind: str, text: Any, most: int) -> bytes:
    """The first bytes of a text without a mark of its encoding; ValueError for what is none."""
    with _damage_named(path, kind):
        head: bytes = text.read(most)
    for magic, what, remedy in _NO_TEXT:
        if head.startswith(magic):
            raise ValueError(f"corpus: {os.fspath(path)} is {what}, not plain text: {remedy}")
    if head[257:262] == b"ustar":
        raise ValueError(
            f"corpus: {os.fspath(path)} is a tar archive, not plain text: unpack it and "
            "pass its files"
        )
    if head.count(0) > max(len(head) // 20, _FEW):
        raise ValueError(
            f"corpus: {os.fspath(path)} has {head.count(0)} NUL bytes in its first {len(head)}, so "
            "it is not UTF-8 text: for UTF-16 without a byte order mark pass encoding='utf-16-le' "
            "or 'utf-16-be'"
        )
    return head.removeprefix(codecs.BOM_UTF8)


def _check_share(path: Path, wrong: int, read: int, decoding: Decoding) -> None:
    if not wrong or decoding.errors == "replace":
        return
    if decoding.errors == "strict":
        raise ValueError(
            f"corpus: {os.fspath(path)} has bytes that are not valid {decoding.encoding}, the "
            f"first in {_place(path, decoding)}; pass another encoding=, or errors='replace'"
        )
    if decoding.errors is None and wrong > max(_FEW, _REFUSED_SHARE * read):
        raise ValueError(
            f"corpus: {os.fspath(path)} seems to be in another encoding than {decoding.encoding}: "
            f"{wrong} of its first {read} bytes are invalid, the first in "
            f"{_place(path, decoding)}; pass the right encoding=, or errors='replace' to read it"
        )


def _place(path: Path, decoding: Decoding) -> str:
    """Where the first byte is that cannot be decoded: `line 3 of text.txt`."""
    name = os.fspath(path)
    if not os.path.isfile(path):  # what cannot be read again
        return name
    decoder = codecs.getincrementaldecoder(decoding.encoding)("strict")
    line = 1
    with _open(path) as packed, _unpacked(path, packed)[1] as text:
        while True:
            data = text.read(1 << 20)
            try:
                line += decoder.decode(data, not data).count("\n")
            except UnicodeDecodeError as error:
                # What the decoder kept of the block before is in front of this one.
                return f"line {line + bytes(error.object)[: error.start].count(10)} of {name}"
            if not data:
                return name


def _open(path: Path) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except (FileNotFoundError, ValueError) as error:
        found = error.errno if isinstance(error, OSError) else errno.ENOENT
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        found = errno.ENOENT
    name = os.fspath(path)
    raise FileNotFoundError(
        found,
        "corpus: no such file (a str is a path; a sentence is a list of words)",
        name if len(name) <= 200 else f"{name[:197]}...",
    )


def _unpacked(path: Path, packed: io.BufferedReader) -> tuple[str, io.BufferedIOBase]:
    """The text in a file; what its first bytes are counts, not how it is called."""
    start = packed.peek(14)[:14]
    suffix = os.path.splitext(os.fspath(path))[1]
    for kind, ending, magic, opener in (
        ("gzip", ".gz", (b"\x1f\x8b\x08",), gzip.open),
        ("bzip2", ".bz2", (b"BZh", b"1AY&SY", b"\x17rE8P\x90"), bz2.open),
        ("xz", ".xz", (b"\xfd7zXZ\0",), lzma.open),
        ("zstd", ".zst", (ZSTD_MAGIC,), open_zstd),
    ):
        whole = start.startswith(magic[0])
        if kind == "bzip2":
            whole = whole and start[3:4].isdigit() and start[4:10] in magic[1:]
        # A file cut within the magic bytes is a damaged archive too, if it is called one.
        cut = suffix == ending and 0 < len(start) < 10 and magic[0].startswith(start[:3])
        if whole or cut:
            return kind, cast(io.BufferedIOBase, opener(packed, "rb"))
    return "", packed


@contextlib.contextmanager
def _damage_named(path: Path, kind: str) -> Iterator[None]:
    """What unpacking says of a damaged archive, as a ValueError that names it."""
    name = os.fspath(path)
    try:
        yield
    except Exception as error:
        if is_damage(error):
            raise ValueError(f"corpus: {name} must be a whole {kind} file, got: {error}") from error
        if isinstance(error, OSError):
            raise OSError(error.errno, f"corpus: {error.strerror}", name) from error
        raise


def _read_block(
    reader: WordReader, block: int, path: Path, kind: str, text: Any, head: bytes
) -> int:
    """Feeds the head of a file, if that is still to come, or a block; its size."""
    if reader.unread > _LONGEST_WORD:
        raise ValueError(
            f"corpus: words must have at most {_LONGEST_WORD} bytes, got a longer one in "
            f"{os.fspath(path)}; is it a text?"
        )
    if head:
        room = np.frombuffer(reader.space(len(head)), np.uint8)[: len(head)]
        room[:] = np.frombuffer(head, np.uint8)
        size = len(head)
    else:
        with _damage_named(path, kind):
            size = text.readinto(reader.space(block))
    if size:
        reader.feed(size)
    return int(size)


def _bytes_taken(file: io.BufferedReader) -> int:
    return file.tell() if file.seekable() else 0

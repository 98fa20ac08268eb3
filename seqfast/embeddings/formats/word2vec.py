"""Word vectors in word2vec's text and binary formats, as word2vec.c, gensim and GloVe have them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from seqfast.embeddings.files import PathLike, atomic_packed_file, damage_named, open_by_suffix
from seqfast.embeddings.formats.base import Array, FileReading, Loaded, float32_rows
from seqfast.embeddings.formats.counts import load_counts
from seqfast.embeddings.formats.decimals import number_lines

_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t]*\r?\n")
_LONGEST_HEADER = 200
_LONGEST_WORD = 1 << 20  # bytes; beyond it a file is no file of words
_BLOCK = 4 << 20  # bytes that are read or written at once


def load_word2vec_format(
    path: PathLike,
    fvocab: PathLike | None = None,
    binary: bool = False,
    encoding: str = "utf-8",
    unicode_errors: str = "strict",
    limit: int | None = None,
    no_header: bool = False,
) -> Loaded:
    r"""Reads a file of word2vec.c, gensim or GloVe (text with `no_header`).

    .gz, .bz2 and .xz are decompressed. If a word appears twice, the first one is kept. A wrong
    header does not make it allocate more memory than the content needs.

    Args:
        path: of the file.
        fvocab: a file of words and counts; words that are not in it get the count 0.
        binary: float32 after each word and a space, with or without newlines between words. In text
            a word may contain spaces.
        encoding: of the words.
        unicode_errors: as for `bytes.decode`. word2vec.c may cut long words within a character.
        limit: read only this many of the first words.
        no_header: the file has no first line with the numbers of words and features.

    Returns:
        words, vectors float32 [V, size], and counts int64 [V] or None.

    Raises:
        OSError: a file that cannot be read.
        ValueError: a damaged file, with path and place: a wrong header, a file that ends too early,
            a word that is not in `encoding`, numbers that cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from seqfast.embeddings.formats import load_word2vec_format
        >>> Path("vectors.txt").write_text("1 2\nking 0.5 1\n")
        15
        >>> load_word2vec_format("vectors.txt").vectors
        array([[0.5, 1. ]], dtype=float32)
    """
    if limit is not None and limit < 0:
        raise ValueError(f"load_word2vec_format: limit must be 0 or more, got {limit}")
    if binary and no_header:
        raise ValueError("load_word2vec_format: no_header must be False for binary files, got True")
    reading = FileReading(os.fspath(path), encoding, unicode_errors)
    with damage_named(path), open_by_suffix(path) as file:
        if no_header:
            words, vectors = _read_text(reading, file, limit, None)
        else:
            rows, size = _read_header(reading, file)
            if limit is not None:
                rows = min(rows, limit)
            if binary:
                _check_room(reading, path, file, rows, size)
            if binary:
                words, vectors = _read_binary(reading, file, rows, size)
            else:
                words, vectors = _read_text(reading, file, rows, size)
    words, vectors = _first_of_each(words, vectors)
    counts = None
    if fvocab is not None:
        known = load_counts(fvocab, encoding, unicode_errors)
        counts = np.array([known.get(word, 0) for word in words], np.int64)
    return Loaded(words, vectors, counts)


def save_word2vec_format(
    path: PathLike,
    vectors: Any,
    words: Sequence[str],
    counts: Any = None,
    fvocab: PathLike | None = None,
    binary: bool = False,
    encoding: str = "utf-8",
    unicode_errors: str = "strict",
    write_header: bool = True,
) -> None:
    r"""Writes a file of words and vectors as gensim's `save_word2vec_format`, byte for byte.

    Compressed if `path` ends in .gz, .bz2 or .xz. After an error an existing file is unchanged.

    Args:
        path: of the file.
        vectors: float32 [V, size], or convertible to it. In text each number has the fewest digits
            that identify it.
        words: [V].
        counts: [V]; with counts, the frequent words come first.
        fvocab: a file to write words and counts to.
        binary: word2vec's binary format.
        encoding: of the words.
        unicode_errors: as for `str.encode`.
        write_header: whether the first line has the numbers of words and features.

    Raises:
        OSError: a file that cannot be written.
        ValueError: shapes that do not fit, `fvocab` without `counts`, and a word that could not be
            read back: an empty one, or one with a newline, a space at its ends or, if `binary`, any
            space.

    Example:
        >>> from pathlib import Path
        >>> from seqfast.embeddings.formats import save_word2vec_format
        >>> save_word2vec_format("vectors.txt", [[0.5, 1.0]], ["king"])
        >>> Path("vectors.txt").read_text()
        '1 2\nking 0.5 1.0\n'
    """
    operation = "save_word2vec_format"
    vectors = float32_rows(operation, vectors)
    if len(words) != len(vectors):
        raise ValueError(
            f"{operation}: words must be as many as vectors, {len(vectors)}, got {len(words)}"
        )
    order: Array | None = None
    if counts is not None:
        counts = np.asarray(counts)
        if counts.shape != (len(words),):
            raise ValueError(
                f"{operation}: counts must be [{len(words)}], got {list(counts.shape)}"
            )
        order = np.argsort(-counts.astype(np.int64), kind="stable")
        if bool((order[1:] > order[:-1]).all()):
            order = None  # no copy of what is in order already
    elif fvocab is not None:
        raise ValueError(f"{operation}: counts must be given for fvocab, got None")
    if order is not None:
        words, vectors, counts = [words[i] for i in order], vectors[order], counts[order]
    names = [_encoded(operation, word, encoding, unicode_errors, binary) for word in words]
    with contextlib.ExitStack() as stack:
        if fvocab is not None:
            # It takes its place after the other one has, or neither does.
            file = stack.enter_context(atomic_packed_file(fvocab))
            pairs = zip(names, counts.tolist(), strict=True)
            file.write(b"".join(b"%s %d\n" % pair for pair in pairs))
            file.flush()
        file = stack.enter_context(atomic_packed_file(path))
        if write_header:
            file.write(b"%d %d\n" % vectors.shape)
        for block in (_binary_blocks if binary else _text_blocks)(names, vectors):
            file.write(block)


def write_as_word2vec_c(file: BinaryIO, words: list[str], vectors: Any, binary: bool) -> None:
    """Byte for byte as word2vec.c: a space after every number, a newline after every word."""
    size = vectors.shape[1]
    file.write(b"%d %d\n" % vectors.shape)
    layout = "%f " * size + "\n"
    for word, row in zip(words, vectors, strict=True):
        file.write(f"{word} ".encode())
        if binary:
            file.write(np.ascontiguousarray(row, "<f4").tobytes() + b"\n")
        else:
            file.write((layout % tuple(row.tolist())).encode())


# ---- reading ----


def _read_header(reading: FileReading, file: BinaryIO) -> tuple[int, int]:
    line = file.readline(_LONGEST_HEADER)
    match = _HEADER.fullmatch(line)
    if not match:
        raise reading.damaged(f"line 1 must be numbers of words and columns, got {line[:80]!r}")
    rows, size = int(match[1]), int(match[2])
    if not size:
        raise reading.damaged("line 1 promises vectors of no columns")
    return rows, size


def _check_room(reading: FileReading, path: PathLike, file: BinaryIO, rows: int, size: int) -> None:
    """Refuses a header that promises more than the file can hold, before memory is asked for."""
    if not (isinstance(file, io.BufferedReader) and os.path.isfile(path)):
        return
    left = os.stat(path).st_size - file.tell()
    if rows * (4 * size + 1) > left:
        raise reading.damaged(
            f"{rows} vectors of {size} columns do not fit into the {left} bytes after line 1; "
            "the file is truncated, or its header is wrong"
        )


class _GrowingMatrix:
    """A matrix that grows with what is read, so that no header can ask for memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._filled = 0
        self._numbers = np.empty(0, np.float32)

    def room(self, rows: int) -> Array:
        """[rows, size]: the next rows, to be written to before the next call."""
        begin, end = self._filled * self.size, (self._filled + rows) * self.size
        if end > len(self._numbers):
            self._numbers.resize(max(end, 3 * len(self._numbers) // 2), refcheck=False)
        self._filled += rows
        return self._numbers[begin:end].reshape(rows, self.size)

    def whole(self) -> Array:
        self._numbers.resize(self._filled * self.size, refcheck=False)
        return self._numbers.reshape(self._filled, self.size)


def _read_binary(
    reading: FileReading, file: BinaryIO, rows: int, size: int
) -> tuple[list[str], Array]:
    names: list[bytes] = []
    matrix = _GrowingMatrix(size)
    row_bytes = 4 * size
    data = b""
    while len(names) < rows:
        more = file.read(max(_BLOCK, len(data)))
        if not more:
            raise reading.damaged(f"it ends in word {len(names) + 1} of {rows}")
        data += more
        # Whole rows of what is there; the rest waits for more.
        places, start = [], 0
        while len(names) < rows:
            space = data.find(b" ", start)
            if space < 0 or len(data) - space - 1 < row_bytes:
                break
            if not names and looks_like_text(data[space + 1 : space + 1 + row_bytes]):
                raise reading.damaged("it is a text file; pass binary=False")
            names.append(data[start:space])
            places.append(space + 1)
            start = space + 1 + row_bytes
        if space < 0 and len(data) - start > _LONGEST_WORD:
            raise reading.damaged(
                f"word {len(names) + 1} has more than {_LONGEST_WORD} bytes; is it a text file?"
            )
        if places:
            room = matrix.room(len(places)).data.cast("B")
            _copy_pieces(room, memoryview(data), places, row_bytes)
        data = data[start:]
    vectors = matrix.whole()
    if sys.byteorder == "big":
        vectors.byteswap(inplace=True)
    # word2vec.c ends each row with a newline, which stands in front of the next word.
    return [reading.word(name.replace(b"\n", b"")) for name in names], vectors


def _copy_pieces(to: memoryview, data: memoryview, places: list[int], size: int) -> None:
    """The pieces of `data` that begin at these places, one behind the other."""
    for begin, place in zip(range(0, len(to), size), places, strict=True):
        to[begin : begin + size] = data[place : place + size]


def _read_text(
    reading: FileReading, file: BinaryIO, rows: int | None, size: int | None
) -> tuple[list[str], Array]:
    """`size` None: there is no header; as many columns as line 1 has, and at most `rows` rows."""
    names: list[bytes] = []
    matrix = None if size is None else _GrowingMatrix(size)
    header_lines = 0 if size is None else 1
    while rows is None or len(names) < rows:
        lines = file.readlines(_BLOCK)
        if not lines:
            break
        if rows is not None:
            del lines[rows - len(names) :]
        if matrix is None:
            matrix = _GrowingMatrix(_columns(lines))
        names += _parse_lines(reading, lines, matrix, header_lines + len(names) + 1)
    if matrix is None:
        raise reading.damaged("it is empty")
    if size is not None and len(names) != rows:
        raise reading.damaged(f"it ends after {len(names)} of {rows} words")
    return [reading.word(name) for name in names], matrix.whole()


def looks_like_text(row: bytes) -> bool:
    """Whether what should be a row of float32 is made of digits."""
    return len(row) >= 8 and b" " in row and not row.translate(None, b"0123456789.+-eE \r\n")


def _columns(lines: list[bytes]) -> int:
    """What most of the first lines have: in some a word has spaces, or is empty."""
    counts = [line.rstrip().count(b" ") for line in lines[:1000]]
    spaces = max(set(counts), key=counts.count)
    return spaces if spaces else len(lines[0].split()) - 1


def _parse_lines(
    reading: FileReading, lines: list[bytes], matrix: _GrowingMatrix, number: int
) -> list[bytes]:
    """Words and numbers of whole lines, all at once, or line by line where that fails."""
    size = matrix.size
    parts = [line.rstrip().partition(b" ") for line in lines]
    texts = [rest for _, _, rest in parts]
    if size > 0 and all(text.count(b" ") == size - 1 for text in texts):
        numbers = _numbers(b" ".join(texts), len(texts) * size)
        if numbers is not None:
            matrix.room(len(texts))[:] = numbers.reshape(-1, size)
            return [word for word, _, _ in parts]
    names = []
    for place, line in enumerate(lines, number):
        # From the right: a word may have spaces.
        # By single spaces first: a word may be empty, or a space.
        fields = line.rstrip().rsplit(b" ", size) if 0 < size < len(line) else []
        values = _numbers(b" ".join(fields[1:]), size) if len(fields) == size + 1 else None
        if values is None:
            fields = line.rstrip().rsplit(None, size) if 0 < size < len(line) else []
            values = _numbers(b" ".join(fields[1:]), size) if len(fields) == size + 1 else None
        if values is None:
            raise reading.damaged(
                f"line {place} must be a word and {max(size, 1)} numbers, got {line[:80]!r}"
            )
        names.append(fields[0])
        matrix.room(1)[0] = values
    return names


def _numbers(text: bytes, count: int) -> Array | None:
    """`count` numbers with one space between; None where they are others."""
    # Then no field is empty, and each holds at least one number.
    if b"  " in text or text.strip() != text:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of what is no number
        try:
            numbers = np.fromstring(text, np.float32, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
    return numbers if len(numbers) == count else None


def _first_of_each(words: list[str], vectors: Array) -> tuple[list[str], Array]:
    first: dict[str, int] = {}
    for place, word in enumerate(words):
        first.setdefault(word, place)
    if len(first) == len(words):
        return words, vectors
    return list(first), vectors[list(first.values())]


# ---- writing ----


def _encoded(operation: str, word: Any, encoding: str, errors: str, binary: bool) -> bytes:
    name = str(word).encode(encoding, errors)  # gensim, too, writes what words look like
    if not name or name != name.strip() or b"\n" in name or (binary and b" " in name):
        wanted = "without spaces" if binary else "without newlines or spaces at their ends"
        raise ValueError(f"{operation}: words must be {wanted} and not empty, got {word!r}")
    return name


def _binary_blocks(names: list[bytes], vectors: Array) -> Iterator[bytes]:
    for some, rows in _blocks(names, vectors, _BLOCK // 4):
        size = 4 * rows.shape[1]
        data = np.ascontiguousarray(rows, "<f4").tobytes()
        pieces = (data[begin : begin + size] for begin in range(0, len(some) * size, size))
        yield b"".join(b"%s %s" % pair for pair in zip(some, pieces, strict=True))


def _text_blocks(names: list[bytes], vectors: Array) -> Iterator[bytes]:
    # Small blocks: their intermediate results stay in the cache.
    for some, rows in _blocks(names, vectors, 8192):
        numbers = number_lines(rows).splitlines(keepends=True)
        yield b"".join(b"%s %s" % pair for pair in zip(some, numbers, strict=True))


def _blocks(
    names: list[bytes], vectors: Array, numbers: int
) -> Iterator[tuple[list[bytes], Array]]:
    """Of about so many numbers each."""
    step = max(1, numbers // max(1, vectors.shape[1]))
    for start in range(0, len(names), step):
        yield names[start : start + step], vectors[start : start + step]

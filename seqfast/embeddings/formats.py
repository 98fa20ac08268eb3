"""Word vectors in files: word2vec's text and binary formats, and gensim's own, both ways."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from seqfast.embeddings._files import PathLike, atomic_file
from seqfast.embeddings.vectors import WordVectors

Array = np.ndarray[Any, Any]

_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t]*\r?\n")
_LONGEST_HEADER = 200
_LONGEST_WORD = 1 << 20  # bytes; beyond it a file is no file of words
_BLOCK = 4 << 20  # bytes that are read or written at once


class Loaded(NamedTuple):
    """What a file of word vectors holds."""

    words: list[str]
    vectors: Array  # float32 [V, size]
    counts: Array | None  # int64 [V]

    def queries(self) -> WordVectors:
        """The same, ready to be asked."""
        return WordVectors(self.words, self.vectors, self.counts)


# ---- word2vec's formats ----


def load_word2vec_format(
    path: PathLike,
    fvocab: PathLike | None = None,
    binary: bool = False,
    encoding: str = "utf-8",
    unicode_errors: str = "strict",
    limit: int | None = None,
    no_header: bool = False,
) -> Loaded:
    """Reads a file of word2vec.c, gensim or GloVe (text with `no_header`).

    .gz, .bz2 and .xz are unpacked. `binary`: float32 after each word and a space, whether or not
    newlines stand between words (word2vec.c writes them, gensim does not). In text a word may
    contain spaces. `unicode_errors` is that of `bytes.decode`: word2vec.c cuts long words, possibly
    within a letter. `limit`: only the first so many words. `fvocab`: a file of words and counts;
    words it does not have count 0. Of words that come twice the first one is kept.

    Returns (words, vectors float32 [V, size], counts int64 [V] or None).

    Raises OSError for a file that cannot be read; ValueError, with path and place, for a damaged
    one: a header that is none or promises what the file cannot hold, a file that ends too early, a
    word that is not in `encoding`, numbers that are none. Never more memory than the content needs.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"load_word2vec_format: limit must be 0 or more, got {limit}")
    if binary and no_header:
        raise ValueError("load_word2vec_format: no_header must be False for binary files, got True")
    reading = _Reading(os.fspath(path), encoding, unicode_errors)
    with reading.damage_named(), open_by_suffix(path) as file:
        if no_header:
            words, vectors = _read_text(reading, file, limit, None)
        else:
            rows, size = _read_header(reading, file)
            if binary:
                _check_room(reading, path, file, rows, size)
            if limit is not None:
                rows = min(rows, limit)
            if binary:
                words, vectors = _read_binary(reading, file, rows, size)
            else:
                words, vectors = _read_text(reading, file, rows, size)
    words, vectors = _without_repeats(words, vectors)
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
    """Writes a file of words and vectors as gensim's `save_word2vec_format`, byte for byte.

    `vectors` float32 [V, size] (or what converts to it) of `words`; with `counts` [V] the frequent
    words come first. Text has for each number the fewest digits that name it. `fvocab` takes the
    words with their counts. Packed where `path` ends in .gz, .bz2 or .xz. Files are whole or not
    there: after an error or a full disk `path` is what it was.

    Raises OSError where a file cannot be written; ValueError for shapes that do not fit, for
    `fvocab` without `counts`, and for a word that could not be read again: an empty one, or one
    with a newline, a space at its ends or, if `binary`, anywhere.
    """
    operation = "save_word2vec_format"
    vectors = _float32(operation, vectors)
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
            file = stack.enter_context(_packed(fvocab))
            pairs = zip(names, counts.tolist(), strict=True)
            file.write(b"".join(b"%s %d\n" % pair for pair in pairs))
            file.flush()
        file = stack.enter_context(_packed(path))
        if write_header:
            file.write(b"%d %d\n" % vectors.shape)
        for block in (_binary_blocks if binary else _text_blocks)(names, vectors):
            file.write(block)


def load_counts(
    path: PathLike, encoding: str = "utf-8", unicode_errors: str = "strict"
) -> dict[str, int]:
    """Reads words and counts, one pair a line, as word2vec.c's -save-vocab writes them.

    Raises OSError for a file that cannot be read, ValueError naming the line of a damaged one.
    """
    reading = _Reading(os.fspath(path), encoding, unicode_errors)
    counts: dict[str, int] = {}
    with reading.damage_named(), open_by_suffix(path) as file:
        for number, line in enumerate(file, 1):
            parts = line.rstrip().rsplit(None, 1)
            if not parts:
                continue
            if len(parts) != 2 or not re.fullmatch(rb"\d{1,18}", parts[1]):
                raise reading.damaged(f"line {number} is no word and count: {line[:80]!r}")
            counts[reading.word(parts[0])] = int(parts[1])
    return counts


# ---- gensim ----


def to_gensim(vectors: Any, words: Sequence[str], counts: Any = None) -> Any:
    """A gensim KeyedVectors of these words, vectors and counts.

    `vectors` [V, size]: a float32 NumPy array is shared, anything else copied. Raises ImportError
    without gensim (`pip install seqfast[embeddings]`), ValueError for shapes that do not fit.
    """
    keyed_vectors = _keyed_vectors("to_gensim")
    vectors = _float32("to_gensim", vectors)
    if len(words) != len(vectors):
        raise ValueError(
            f"to_gensim: words must be as many as vectors, {len(vectors)}, got {len(words)}"
        )
    result = keyed_vectors(vectors.shape[1])
    result.index_to_key = list(words)
    result.key_to_index = {word: place for place, word in enumerate(result.index_to_key)}
    if len(result.key_to_index) != len(words):
        raise ValueError("to_gensim: words must differ, got one twice")
    result.vectors = vectors
    result.next_index = len(words)
    if counts is not None:
        counts = np.array(counts, np.int64)
        if counts.shape != (len(words),):
            raise ValueError(f"to_gensim: counts must be [{len(words)}], got {list(counts.shape)}")
        result.expandos["count"] = counts
    return result


def from_gensim(keyed_vectors: Any) -> Loaded:
    """Words, vectors and counts of a gensim KeyedVectors, or of a model's `.wv`; copies."""
    vectors = np.array(keyed_vectors.vectors, np.float32)
    counts = keyed_vectors.expandos.get("count")
    words = [str(word) for word in keyed_vectors.index_to_key]
    return Loaded(words, vectors, None if counts is None else np.array(counts, np.int64))


def save_gensim(path: PathLike, vectors: Any, words: Sequence[str], counts: Any = None) -> None:
    """Writes a file for gensim's `KeyedVectors.load`, by gensim itself. Raises as `to_gensim`."""
    to_gensim(vectors, words, counts).save(os.fspath(path))


def load_gensim(path: PathLike) -> Loaded:
    """Reads what gensim's `KeyedVectors.save` or `Word2Vec.save` wrote, by gensim itself.

    gensim's format is a pickle, which can run any code: read only files that you trust. Raises
    ImportError without gensim, ValueError for a file that holds no vectors.
    """
    found = _keyed_vectors("load_gensim").load(os.fspath(path))
    found = getattr(found, "wv", found)
    if not hasattr(found, "index_to_key"):
        raise ValueError(
            f"load_gensim: {os.fspath(path)} must hold word vectors, got {type(found).__name__}"
        )
    return from_gensim(found)


def _keyed_vectors(operation: str) -> Any:
    try:
        from gensim.models import KeyedVectors
    except ImportError as error:
        raise ImportError(f"{operation} needs gensim: pip install seqfast[embeddings]") from error
    return KeyedVectors


# ---- reading ----


@dataclass(frozen=True)
class _Reading:
    """What all reading of one file shares."""

    path: str
    encoding: str
    errors: str

    def word(self, text: bytes) -> str:
        try:
            return text.decode(self.encoding, self.errors)
        except UnicodeDecodeError as error:
            raise self.damaged(
                f"a word is not {self.encoding}, {text[:40]!r} ({error.reason}); "
                "unicode_errors='replace' reads it"
            ) from error

    def damaged(self, what: str) -> ValueError:
        return ValueError(f"{self.path} cannot be read: {what}")

    @contextlib.contextmanager
    def damage_named(self) -> Iterator[None]:
        """What unpacking says of a damaged archive, as a ValueError."""
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise self.damaged(f"the archive is damaged ({error})") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise self.damaged(f"the archive is damaged ({error})") from error  # bz2's


def open_by_suffix(path: PathLike) -> BinaryIO:
    """A file for reading bytes, unpacked if it ends in .gz, .bz2 or .xz."""
    suffix = Path(path).suffix
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if suffix == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    return open(path, "rb")


def _read_header(reading: _Reading, file: BinaryIO) -> tuple[int, int]:
    line = file.readline(_LONGEST_HEADER)
    match = _HEADER.fullmatch(line)
    if not match:
        raise reading.damaged(f"line 1 must be numbers of words and columns, got {line[:80]!r}")
    rows, size = int(match[1]), int(match[2])
    if not size:
        raise reading.damaged("line 1 promises vectors of no columns")
    return rows, size


def _check_room(reading: _Reading, path: PathLike, file: BinaryIO, rows: int, size: int) -> None:
    """Refuses a header that promises more than the file can hold, before memory is asked for."""
    if not (isinstance(file, io.BufferedReader) and os.path.isfile(path)):
        return
    left = os.stat(path).st_size - file.tell()
    if rows * (4 * size + 1) > left:
        raise reading.damaged(
            f"{rows} vectors of {size} columns do not fit into the {left} bytes behind line 1; "
            "the file is cut short, or its header is wrong"
        )


class _Rows:
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
    reading: _Reading, file: BinaryIO, rows: int, size: int
) -> tuple[list[str], Array]:
    names: list[bytes] = []
    matrix = _Rows(size)
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
    reading: _Reading, file: BinaryIO, rows: int | None, size: int | None
) -> tuple[list[str], Array]:
    """`size` None: there is no header; as many columns as line 1 has, and at most `rows` rows."""
    names: list[bytes] = []
    matrix = None if size is None else _Rows(size)
    header_lines = 0 if size is None else 1
    while rows is None or len(names) < rows:
        lines = file.readlines(_BLOCK)
        if not lines:
            break
        if rows is not None:
            del lines[rows - len(names) :]
        if matrix is None:
            matrix = _Rows(len(lines[0].split()) - 1)
        names += _parse_lines(reading, lines, matrix, header_lines + len(names) + 1)
    if matrix is None:
        raise reading.damaged("it is empty")
    if size is not None and len(names) != rows:
        raise reading.damaged(f"it ends after {len(names)} of {rows} words")
    return [reading.word(name) for name in names], matrix.whole()


def _parse_lines(reading: _Reading, lines: list[bytes], matrix: _Rows, number: int) -> list[bytes]:
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


def _without_repeats(words: list[str], vectors: Array) -> tuple[list[str], Array]:
    first: dict[str, int] = {}
    for place, word in enumerate(words):
        first.setdefault(word, place)
    if len(first) == len(words):
        return words, vectors
    return list(first), vectors[list(first.values())]


# ---- writing ----


def _float32(operation: str, vectors: Any) -> Array:
    """A NumPy array [V, size] of what may be a tensor on any device."""
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().cpu().numpy()
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{operation}: vectors must be [any, size], got {list(array.shape)}")
    return array


def _encoded(operation: str, word: str, encoding: str, errors: str, binary: bool) -> bytes:
    name = word.encode(encoding, errors)
    if not name or name != name.strip() or b"\n" in name or (binary and b" " in name):
        wanted = "without spaces" if binary else "without newlines or spaces at their ends"
        raise ValueError(f"{operation}: words must be {wanted} and not empty, got {word!r}")
    return name


@contextlib.contextmanager
def _packed(path: PathLike) -> Iterator[BinaryIO]:
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


# Of the numbers that are laid out all at once: at most six digits, a point, twelve decimals.
_WHOLE, _DECIMALS = 6, 12
_LEAST, _MOST = 1e-4, 1e6
_POWERS = 10.0 ** np.arange(_DECIMALS + 1)
_INTEGER_POWERS = 10 ** np.arange(_DECIMALS + 1, dtype=np.int64)
_MAGNITUDES = 10.0 ** np.arange(-3, _WHOLE)
_THREE_DIGITS = np.array([list(b"%03d" % i) for i in range(1000)], np.uint8)
# A number's characters: its sign, digits, a point, decimals, and what parts it from the next one.
_SIGN, _POINT = 0, 1 + _WHOLE
_END = _POINT + 1 + _DECIMALS
_WIDTH = _END + 1


def _shown_characters() -> Array:
    """bool [sign, digits before the point, decimals, _WIDTH]: what such a number shows."""
    shown = np.zeros((2, _WHOLE + 1, _DECIMALS + 1, _WIDTH), bool)
    shown[1, ..., _SIGN] = True
    for digits in range(_WHOLE + 1):
        shown[:, digits, :, _POINT - digits : _POINT] = True
    for decimals in range(_DECIMALS + 1):
        shown[:, :, decimals, _POINT + 1 : _POINT + 1 + decimals] = True
    shown[..., [_POINT, _END]] = True
    return shown


_SHOWN = _shown_characters()


def number_lines(rows: Array) -> bytes:
    """The numbers of each row [any, size] as a line, a space between them, each with the fewest
    digits that name it, as `str` of a NumPy float32 has: decimals from 1e-4 on, and always one
    behind the point. Fastest for some thousand numbers at a time."""
    x = np.ascontiguousarray(rows, np.float32).ravel()
    size = np.abs(x).astype(np.float64)
    plain = ((size >= _LEAST) & (size < _MOST)) | (size == 0)
    size[~plain] = 1
    # Digits before the point; below 1 for zeros behind it.
    digits = np.searchsorted(_MAGNITUDES, size, side="right") - 3
    number, decimals = _fewest_digits(size, digits)
    number *= _INTEGER_POWERS[_DECIMALS - decimals]
    text = np.empty((len(x), _WIDTH), np.uint8)
    text[:, _SIGN] = ord("-")
    text[:, _POINT] = ord(".")
    for end in range(_END, 3, -3):
        start = end - 3 if end - 3 > _POINT else end - 4
        number, three = np.divmod(number, 1000)
        text[:, start : start + 3] = _THREE_DIGITS[three]
    text[:, _END] = ord(" ")
    text.reshape(len(rows), -1)[:, -1] = ord("\n")
    shown = _SHOWN[np.signbit(x).astype(np.intp), np.maximum(digits, 1), decimals]
    for place in np.flatnonzero(~plain):
        own = str(x[place]).encode()
        text[place, : len(own)] = np.frombuffer(own, np.uint8)
        shown[place, : len(own)] = True
        shown[place, len(own) : _END] = False
    result: bytes = text[shown].tobytes()
    return result


def _fewest_digits(size: Array, digits: Array) -> tuple[Array, Array]:
    """(number, decimals), int64, such that number / 10**decimals is the shortest name of a float32.

    All are rounded to six significant digits, those that do not come back from there to seven, and
    so on; nine are enough. What six are enough for may have fewer: its zeros are cut off."""
    decimals = np.maximum(6 - digits, 1)
    number = np.rint(size * _POWERS[decimals])
    name = size.astype(np.float32)
    back = (number / _POWERS[decimals]).astype(np.float32)
    left = np.flatnonzero(back != name)
    found = number.astype(np.int64)
    few = np.flatnonzero(back == name)
    while len(few):
        few = few[(found[few] % 10 == 0) & (decimals[few] > 1)]
        found[few] //= 10
        decimals[few] -= 1
    for significant in (7, 8, 9):
        places = np.maximum(significant - digits[left], 1)
        scale = _POWERS[places]
        rounded = np.rint(size[left] * scale)
        found[left] = rounded.astype(np.int64)
        decimals[left] = places
        left = left[(rounded / scale).astype(np.float32) != name[left]]
    return found, decimals

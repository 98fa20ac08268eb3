"""Where the words of a corpus come from: files, token lists, ids; each read the same way."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol, cast

import numpy as np

from seqfast.ops.base.arrays import thread_count
from seqfast.ops.corpus import WordReader

Array = np.ndarray[Any, Any]
Path = str | os.PathLike[str]
Source = Path | Sequence[Path] | Iterable[Iterable[str]] | tuple[Any, Any]
ReadingProgress = Callable[[int, int | None, str], None]

PIECE_TOKENS = 1 << 22
_BLOCK = 4 << 20
_LONGEST_WORD = 1 << 30
_TEXT_OR_PATHS = (
    "a path, a list of paths, an iterable of lists of words, or integers as (ids, offsets)"
)


class Reader(Protocol):
    """What all sources have in common; see `seqfast.ops.corpus.WordReader`."""

    @property
    def raw_words(self) -> int: ...
    @property
    def raw_sentences(self) -> int: ...
    @property
    def invalid_bytes(self) -> int: ...
    @property
    def types(self) -> int: ...
    @property
    def pending(self) -> int: ...
    def counts(self) -> Array: ...
    def words(self, numbers: Array) -> list[str]: ...
    def prune(self, keep: Array) -> None: ...
    def take(self) -> Array: ...
    def renumber(self, ids: Array, numbers: Array) -> int: ...
    def offsets(self) -> Array: ...


def open_source(
    source: Source,
    *,
    words: Sequence[str] | None = None,
    known: Sequence[str] = (),
    frozen: bool = False,
    max_types: int | None = None,
    workers: int | None = None,
    progress: ReadingProgress | None = None,
) -> tuple[Reader, Iterator[bool]]:
    """A reader, and what makes it read: each item says whether it stopped to be pruned."""
    if workers is not None and workers < 1:
        raise ValueError(f"corpus: workers must be 1 or more, got {workers}")
    if is_ids(source):
        ids, offsets = cast("tuple[Any, Any]", source)
        return IdReader(ids, offsets, words, known, frozen), iter(())
    if words is not None:
        raise TypeError("corpus: words goes with (ids, offsets), got another source")
    paths = paths_of(source)
    if paths is not None:
        if max_types is not None:
            _check_regular(paths)
        reader = WordReader(known, frozen=frozen, max_types=max_types, threads=workers)
        threads = thread_count() if workers is None else workers
        block = max(_BLOCK, min(threads, 64) * _BLOCK // 4)
        return reader, feed_files(reader, paths, block, progress)
    sentences = cast("Iterable[Iterable[str]]", source)
    if isinstance(source, (bytes, bytearray, np.ndarray)) or not hasattr(source, "__iter__"):
        raise TypeError(f"corpus: source must be {_TEXT_OR_PATHS}, got {type(source).__name__}")
    if max_types is not None and iter(sentences) is sentences:
        raise ValueError(
            "corpus: max_vocab_size reads the source twice, so it must be a list or another "
            f"iterable that can begin again, got a {type(source).__name__}"
        )
    tokens = TokenReader(known, frozen, max_types)
    return tokens, tokens.feed(sentences, progress)


def is_ids(source: object) -> bool:
    """Whether it is (ids, offsets): two arrays, of whatever library."""
    return isinstance(source, tuple) and len(source) == 2 and all(map(_is_array, source))


def paths_of(source: object) -> list[Path] | None:
    """The paths it is, or None."""
    if isinstance(source, (str, os.PathLike)):
        return [source]
    paths = isinstance(source, (list, tuple)) and bool(source)
    if paths and all(isinstance(part, (str, os.PathLike)) for part in cast(Any, source)):
        return list(cast("Sequence[Path]", source))
    return None


def _is_array(part: object) -> bool:
    return hasattr(part, "dtype") and hasattr(part, "shape")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Files.


def feed_files(
    reader: WordReader, paths: Sequence[Path], block: int, progress: ReadingProgress | None
) -> Iterator[bool]:
    """Reads files one after the other, in blocks; a sentence ends where its file does."""
    sizes = [os.stat(path) if os.path.exists(path) else None for path in paths]
    regular = all(size is not None and stat.S_ISREG(size.st_mode) for size in sizes)
    total = sum(size.st_size for size in sizes if size is not None) if regular else None
    before = 0
    for path in paths:
        with _open(path) as packed:
            kind, text = _unpacked(path, packed)
            with text:
                while _read_block(reader, block, path, kind, text):
                    yield False
                    while reader.full:
                        yield True
                        reader.feed(0)
                    if progress is not None:
                        progress(before + _bytes_taken(packed), total, "bytes")
                before += _bytes_taken(packed)
        reader.end()
        while reader.full:
            yield True
            reader.end()
    yield False


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


def _check_regular(paths: Sequence[Path]) -> None:
    for path in paths:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise ValueError(
                "corpus: max_vocab_size reads the source twice, so it must be a file, "
                f"got {os.fspath(path)}, which is none"
            )


def _unpacked(path: Path, packed: io.BufferedReader) -> tuple[str, io.BufferedIOBase]:
    """The text in a file; what its first bytes are counts, not how it is called."""
    start = packed.peek(14)[:14]
    suffix = os.path.splitext(os.fspath(path))[1]
    for kind, ending, magic, opener in (
        ("gzip", ".gz", (b"\x1f\x8b\x08",), gzip.open),
        ("bzip2", ".bz2", (b"BZh", b"1AY&SY", b"\x17rE8P\x90"), bz2.open),
        ("xz", ".xz", (b"\xfd7zXZ\0",), lzma.open),
    ):
        whole = start.startswith(magic[0])
        if kind == "bzip2":
            whole = whole and start[3:4].isdigit() and start[4:10] in magic[1:]
        # A file cut within the magic bytes is a damaged archive too, if it is called one.
        cut = suffix == ending and 0 < len(start) < 10 and magic[0].startswith(start[:3])
        if whole or cut:
            return kind, cast(io.BufferedIOBase, opener(packed, "rb"))
    return "", packed


def _read_block(
    reader: WordReader, block: int, path: Path, kind: str, text: io.BufferedIOBase
) -> bool:
    if reader.unread > _LONGEST_WORD:
        raise ValueError(
            f"corpus: words must have at most {_LONGEST_WORD} bytes, got a longer one in "
            f"{os.fspath(path)}; is it a text?"
        )
    try:
        size = text.readinto(reader.space(block))
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _damaged(path, kind, error) from error
    except OSError as error:
        if error.errno is None:  # bz2's "Invalid data stream"
            raise _damaged(path, kind, error) from error
        raise OSError(error.errno, f"corpus: {error.strerror}", os.fspath(path)) from error
    if size:
        reader.feed(size)
    return bool(size)


def _damaged(path: Path, kind: str, error: Exception) -> ValueError:
    return ValueError(f"corpus: {os.fspath(path)} must be a whole {kind} file, got: {error}")


def _bytes_taken(file: io.BufferedReader) -> int:
    return file.tell() if file.seekable() else 0


# Token lists.


class _NumberByWord(dict[str, int]):
    """Word to number; a word that is looked up for the first time gets the next one."""

    def __missing__(self, word: str) -> int:
        if not isinstance(word, str):
            raise TypeError
        number = self[str(word)] = len(self)
        return number


class Renumbering:
    """Puts vocabulary ids in the place of numbers, piece by piece, and moves the offsets along."""

    def __init__(self, offsets: Array) -> None:
        self._old, self._new = offsets, offsets.copy()
        self._seen = self._kept = 0

    def __call__(self, ids: Array, numbers: Array) -> int:
        kept = 0
        for start in range(0, len(ids), PIECE_TOKENS):
            new = numbers[ids[start : start + PIECE_TOKENS]]
            left = np.concatenate([[0], np.cumsum(new >= 0)])
            seen = self._seen + len(new)
            first, last = np.searchsorted(self._old, [self._seen, seen], side="right")
            self._new[first:last] = self._kept + left[self._old[first:last] - self._seen]
            new = new[new >= 0]
            ids[kept : kept + len(new)] = new
            kept += len(new)
            self._seen = seen
            self._kept += len(new)
        return kept

    def offsets(self) -> Array:
        """Of the sentences that still have a word."""
        return np.unique(self._new)


class TokenReader:
    """Numbers the words of token lists."""

    def __init__(self, known: Sequence[str], frozen: bool, max_types: int | None) -> None:
        self.raw_words = self.raw_sentences = self.invalid_bytes = 0
        self._numbers = _NumberByWord(zip(known, range(len(known)), strict=True))
        self._frozen, self._max_types = frozen, max_types
        self._counts = np.zeros(len(known), np.int64)
        self._ids, self._ends = array("i"), array("q", [0])
        self._taken = 0
        self._renumbering: Renumbering | None = None

    @property
    def types(self) -> int:
        return len(self._numbers)

    @property
    def pending(self) -> int:
        return len(self._ids)

    def feed(
        self, source: Iterable[Iterable[str]], progress: ReadingProgress | None
    ) -> Iterator[bool]:
        total = len(source) if isinstance(source, Sized) else None
        for sentence in source:
            self._sentence(sentence)
            if self._max_types is not None and self.types > self._max_types:
                self.take()
                yield True
            elif len(self._ids) >= PIECE_TOKENS:
                yield False
            if progress is not None and self.raw_sentences % 1024 == 0:
                progress(self.raw_sentences, total, "sentences")
        if progress is not None:
            progress(self.raw_sentences, total, "sentences")
        yield False

    def _sentence(self, sentence: Iterable[str]) -> None:
        tokens = sentence if type(sentence) in (list, tuple) else self._tokens(sentence)
        assert isinstance(tokens, (list, tuple))
        before = len(self._ids)
        try:
            if self._frozen:
                numbers = [self._numbers.get(token, -1) for token in tokens]
                if -1 in numbers:
                    self._check(tokens)
                    numbers = [number for number in numbers if number >= 0]
                self._ids.extend(numbers)
            else:
                self._ids.extend(map(self._numbers.__getitem__, tokens))
        except TypeError:
            self._check(tokens)
            raise
        self.raw_words += len(tokens)
        self.raw_sentences += 1
        if len(self._ids) > before:
            self._ends.append(self._taken + len(self._ids))

    def _tokens(self, sentence: Any) -> list[str]:
        wanted = f"corpus: sentence {self.raw_sentences} must be a list of words"
        if isinstance(sentence, (str, bytes)):
            raise TypeError(f"{wanted}, got the {type(sentence).__name__} {_short(sentence)}")
        if not hasattr(sentence, "__iter__"):
            raise TypeError(f"{wanted}, got {type(sentence).__name__} {_short(sentence)}")
        return list(sentence)

    def _check(self, tokens: Sequence[object]) -> None:
        for place, token in enumerate(tokens):
            if not isinstance(token, str):
                raise TypeError(
                    f"corpus: word {place} of sentence {self.raw_sentences} must be a str, "
                    f"got {type(token).__name__} {_short(token)}"
                ) from None

    def counts(self) -> Array:
        counts = np.zeros(self.types, np.int64)
        counts[: len(self._counts)] = self._counts
        if self._ids:
            counts += np.bincount(np.frombuffer(self._ids, np.int32), minlength=len(counts))
        return counts

    def words(self, numbers: Array) -> list[str]:
        words = list(self._numbers)
        return [words[number] for number in numbers.tolist()]

    def prune(self, keep: Array) -> None:
        counts = self.counts()[keep]
        left = [word for word, stays in zip(self._numbers, keep.tolist(), strict=True) if stays]
        self._numbers = _NumberByWord(zip(left, range(len(left)), strict=True))
        self._counts = counts

    def take(self) -> Array:
        self._counts = self.counts()
        ids = np.frombuffer(self._ids, np.int32) if self._ids else np.empty(0, np.int32)
        self._taken += len(ids)
        self._ids = array("i")
        if self._max_types is not None:
            self._ends = array("q", [self._taken])
        return ids

    def renumber(self, ids: Array, numbers: Array) -> int:
        if self._renumbering is None:
            self._renumbering = Renumbering(self._offsets())
        return self._renumbering(ids, numbers)

    def offsets(self) -> Array:
        return self._offsets() if self._renumbering is None else self._renumbering.offsets()

    def _offsets(self) -> Array:
        return np.array(self._ends, np.int64)


# Ids.


class IdReader:
    """Numbers the ids of arrays by first occurrence, as if each were a word."""

    def __init__(
        self,
        ids: Any,
        offsets: Any,
        words: Sequence[str] | None,
        known: Sequence[str],
        frozen: bool,
    ) -> None:
        ids, offsets = np.asarray(ids), np.asarray(offsets)
        _check_ids(ids, offsets, words)
        used, first, counts = _by_first_use(ids)
        names = [str(number) if words is None else words[number] for number in used.tolist()]
        numbers = {word: number for number, word in enumerate(known)}
        own = np.empty(len(used), np.int32)
        for place in np.argsort(first).tolist():
            name = names[place]
            if name not in numbers and frozen:
                own[place] = -1
            else:
                own[place] = numbers.setdefault(name, len(numbers))
        self._words = list(numbers)
        self._counts = np.zeros(len(numbers), np.int64)
        np.add.at(self._counts, own[own >= 0], counts[own >= 0])
        self._renumbering = Renumbering(np.unique(offsets.astype(np.int64)))
        self._ids = np.empty(len(ids), np.int32)
        dense = len(used) == 0 or int(used[-1]) <= 4 * len(ids) + PIECE_TOKENS
        table = np.zeros(int(used[-1]) + 1 if dense and len(used) else 0, np.int32)
        if dense:
            table[used] = own
        for start in range(0, len(ids), PIECE_TOKENS):
            piece = ids[start : start + PIECE_TOKENS]
            self._ids[start : start + len(piece)] = (
                table[piece] if dense else own[np.searchsorted(used, piece)]
            )
        self.raw_words, self.raw_sentences = len(ids), len(offsets) - 1
        self.invalid_bytes = 0
        if frozen:
            same = np.arange(len(numbers), dtype=np.int32)
            # An id that is not in the vocabulary is -1, and so finds the -1 at the end.
            left = self.renumber(self._ids, np.append(same, np.int32(-1)))
            self._ids = self._ids[:left]

    @property
    def types(self) -> int:
        return len(self._words)

    @property
    def pending(self) -> int:
        return len(self._ids)

    def counts(self) -> Array:
        return self._counts

    def words(self, numbers: Array) -> list[str]:
        return [self._words[number] for number in numbers.tolist()]

    def prune(self, keep: Array) -> None:
        raise AssertionError("ids are all counted at once")

    def take(self) -> Array:
        ids, self._ids = self._ids, np.empty(0, np.int32)
        return ids

    def renumber(self, ids: Array, numbers: Array) -> int:
        return self._renumbering(ids, numbers)

    def offsets(self) -> Array:
        return self._renumbering.offsets()


def _check_ids(ids: Array, offsets: Array, words: Sequence[str] | None) -> None:
    for name, values in (("ids", ids), ("offsets", offsets)):
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise TypeError(
                f"corpus: {name} must be integers in one dimension, "
                f"got {values.dtype} {list(values.shape)}"
            )
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(ids):
        got = [int(offsets[0]), int(offsets[-1])] if len(offsets) else []
        raise ValueError(f"corpus: offsets must begin with 0 and end with {len(ids)}, got {got}")
    if np.any(offsets[1:] < offsets[:-1]):
        raise ValueError("corpus: offsets must not fall, got one below the one before it")
    if words is not None:
        _check_words(words)
    if len(ids) == 0:
        return
    least, most = int(ids.min()), int(ids.max())
    if least < 0:
        raise ValueError(f"corpus: ids must be 0 or more, got {least}")
    if words is not None and most >= len(words):
        raise ValueError(f"corpus: ids must be below {len(words)}, as words are, got {most}")


def _check_words(words: Sequence[str]) -> None:
    if isinstance(words, (str, bytes)) or not hasattr(words, "__getitem__"):
        raise TypeError(f"corpus: words must be a list of str, got {type(words).__name__}")
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(
                f"corpus: words[{place}] must be a str, got {type(word).__name__} {_short(word)}"
            )
        if places.setdefault(word, place) != place:
            raise ValueError(
                "corpus: words must be distinct, got "
                f"{_short(word)} at {places[word]} and at {place}"
            )


def _by_first_use(ids: Array) -> tuple[Array, Array, Array]:
    """The different ids, rising; where each comes first; how often it comes."""
    if len(ids) and int(ids.max()) > 4 * len(ids) + PIECE_TOKENS:
        used, first, counts = np.unique(ids, return_index=True, return_counts=True)
        return used, first, counts
    counts = np.bincount(ids).astype(np.int64) if len(ids) else np.zeros(0, np.int64)
    first = np.full(len(counts), len(ids), np.int64)
    for start in range(0, len(ids), PIECE_TOKENS):
        piece = ids[start : start + PIECE_TOKENS]
        here, at = np.unique(piece, return_index=True)
        first[here] = np.minimum(first[here], start + at)
    used = np.flatnonzero(counts)
    return used, first[used], counts[used]

"""Where the words of a corpus come from: files, token lists, ids; each read the same way."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np

from seqfast.embeddings.corpus.text import Decoding, Path, ReadingProgress, expanded, feed_files
from seqfast.ops.base.arrays import thread_count
from seqfast.ops.corpus import WordReader

Array = np.ndarray[Any, Any]
Source = Path | Sequence[Path] | Iterable[Iterable[str]] | tuple[Any, Any]
UTF_8 = Decoding()

PIECE_TOKENS = 1 << 22
_BLOCK = 4 << 20
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
    known: Sequence[Any] = (),
    frozen: bool = False,
    max_types: int | None = None,
    workers: int | None = None,
    progress: ReadingProgress | None = None,
    decoding: Decoding = UTF_8,
) -> tuple[Reader, Iterator[bool]]:
    """A reader, and what makes it read: each item says whether it stopped to be pruned."""
    if workers is not None and workers < 1:
        raise ValueError(f"corpus: workers must be 1 or more, got {workers}")
    decoding.check()
    if is_ids(source):
        ids, offsets = cast("tuple[Any, Any]", source)
        return IdReader(ids, offsets, words, known, frozen), iter(())
    if words is not None:
        raise TypeError("corpus: words goes with (ids, offsets), got another source")
    given = cast(Any, source)
    begins_anew = not isinstance(given, Iterator)
    sentences, paths = paths_or_sentences(given)
    if paths is not None:
        paths = expanded(paths)
        if max_types is not None:
            _check_regular(paths)
        for word in known:
            if not isinstance(word, str):
                raise TypeError(
                    "corpus: the words of files are str, but the vocabulary has the "
                    f"{type(word).__name__} {_short(word)}: pass lists of words"
                )
        reader = WordReader(known, frozen=frozen, max_types=max_types, threads=workers)
        threads = thread_count() if workers is None else workers
        block = max(_BLOCK, min(threads, 64) * _BLOCK // 4)
        return reader, feed_files(reader, paths, block, progress, decoding)
    if max_types is not None and not begins_anew:
        raise ValueError(
            "corpus: max_vocab_size reads the source twice, so it must be a list or another "
            f"iterable that can begin again, got a {type(source).__name__}"
        )
    tokens = TokenReader(known, frozen, max_types)
    return tokens, tokens.feed(sentences, progress)


def is_ids(source: object) -> bool:
    """Whether it is (ids, offsets): two arrays of numbers, of whatever library."""
    if not (isinstance(source, tuple) and len(source) == 2 and all(map(_is_array, source))):
        return False
    # Two sentences that are arrays of words are none.
    return all(getattr(part.dtype, "kind", "i") not in "OUST" for part in source)


def paths_or_sentences(source: Any) -> tuple[Any, list[Path] | None]:
    """What it is by what is in it: (sentences, None), or (None, paths)."""
    if isinstance(source, (str, os.PathLike)):
        return None, [source]
    if isinstance(source, (bytes, bytearray, Mapping)) or not hasattr(source, "__iter__"):
        raise TypeError(f"corpus: source must be {_TEXT_OR_PATHS}, got {type(source).__name__}")
    if hasattr(source, "iloc") and hasattr(source, "columns"):
        raise TypeError(
            f"corpus: source must be one column of a table, such as table['words'], got the whole "
            f"{type(source).__name__}"
        )
    if hasattr(source, "readinto") or isinstance(source, io.TextIOBase):
        raise TypeError(
            f"corpus: source must be {_TEXT_OR_PATHS}, got an open file; pass its path, or its "
            "lines split into words"
        )
    numbers = isinstance(source, np.ndarray) and source.dtype.kind not in "OUT"
    numbers = numbers and not (source.ndim == 2 and source.dtype.kind in "iu")
    if numbers or (isinstance(source, np.ndarray) and not source.ndim):
        raise TypeError(
            f"corpus: source must be {_TEXT_OR_PATHS}, got ndarray of {source.dtype} "
            f"{list(source.shape)}"
        )
    if isinstance(source, np.ndarray) and source.ndim == 2:
        return source.tolist(), None
    if isinstance(source, (list, tuple)):
        if source and all(isinstance(part, (str, os.PathLike)) for part in source):
            return None, list(source)
        return source, None
    if iter(source) is not source:  # a Series, an array, a class of sentences
        return source, None
    first = next(source, _NOTHING)
    # A str that is not a path is an unsplit sentence; the reader of sentences raises for it.
    if isinstance(first, os.PathLike) or (isinstance(first, str) and _exists(first)):
        return None, [first, *source]
    return (() if first is _NOTHING else _GivenBack(first, source)), None


def _exists(path: str) -> bool:
    try:
        return os.path.exists(os.path.expanduser(path))
    except ValueError:
        return False


_NOTHING = object()


class _GivenBack:
    """An iterator whose first item was looked at."""

    def __init__(self, first: Any, rest: Iterator[Any]) -> None:
        self._all = itertools.chain([first], rest)

    def __iter__(self) -> Iterator[Any]:
        return self._all


def _is_array(part: object) -> bool:
    return hasattr(part, "dtype") and hasattr(part, "shape")


def _check_regular(paths: Sequence[Path]) -> None:
    for path in paths:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(
                "corpus: max_vocab_size reads the source twice, so it must be a file, "
                f"got {os.fspath(path)}, which is not a regular file"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Token lists.


class _NumberByWord(dict[Any, int]):
    """Word to number; a word that is looked up for the first time gets the next one."""

    def __missing__(self, word: Any) -> int:
        number = self[plain_word(word)] = len(self)
        return number


def plain_word(word: Any) -> Any:
    """A word without NumPy's or another library's class. TypeError for invalid words."""
    if isinstance(word, str):
        return str(word)
    if isinstance(word, np.generic):
        word = word.item()
    if word is None or isinstance(word, (bytes, bytearray)) or word != word:
        raise TypeError
    return word


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
        total = None
        with contextlib.suppress(Exception):  # it is for the bar alone
            total = len(source)  # type: ignore[arg-type]
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
            try:
                hash(plain_word(token))
            except TypeError:
                raise TypeError(
                    f"corpus: word {place} of sentence {self.raw_sentences} must be a str, or "
                    f"another hashable object except bytes, None and NaN, got "
                    f"{type(token).__name__} {_short(token)}"
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
        raise ValueError("corpus: offsets must not decrease, got one below its predecessor")
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

"""Words of a text, told apart, counted and numbered by several threads: checks and the calls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import thread_count

__all__ = ["WordReader", "fingerprint", "split_words"]

Array = np.ndarray[Any, Any]


class WordReaderArgs(NamedTuple):
    """What the native reader is told: csrc/core/corpus.h."""

    frozen: bool
    max_types: int
    threads: int
    part_bytes: int


class WordReader:
    """Reads text in blocks of bytes and numbers its words by first occurrence.

    A text is UTF-8, a sentence is what ends at a newline, and the words of a sentence are those of
    `line.decode("utf-8", "replace").split()`. Same results as `seqfast.reference.corpus.WordReader`
    for any number of threads and any blocks. A reader is for one thread at a time. Without
    `max_types`, read `counts`, `words` and `types` after the last text has ended.

    Args:
        known: words that have the numbers 0, 1, ... beforehand; their counts begin at zero.
        frozen: other words get no number and are left out, and nothing is counted.
        max_types: reading stops after each sentence that leaves more words than that (see `full`),
            and no ids are kept.
        threads: None: torch's number if torch is loaded, else OpenMP's.
        part_bytes: a thread gets at least so many bytes of a block.

    Raises:
        ValueError: known words that are not distinct.

    Example:
        >>> from seqfast.ops.corpus import WordReader
        >>> reader = WordReader(["is", "a"], frozen=True)
        >>> reader.types
        2
    """

    def __init__(
        self,
        known: Sequence[str] = (),
        *,
        frozen: bool = False,
        max_types: int | None = None,
        threads: int | None = None,
        part_bytes: int = 1 << 16,
    ) -> None:
        if len(set(known)) != len(known):
            raise ValueError("corpus: known must be distinct words")
        if max_types is not None and max_types < 1:
            raise ValueError(f"corpus: max_types must be 1 or more, got {max_types}")
        if threads is not None and threads < 1:
            raise ValueError(f"corpus: threads must be 1 or more, got {threads}")
        if part_bytes < 1:
            raise ValueError(f"corpus: part_bytes must be 1 or more, got {part_bytes}")
        self._reader = _C.WordReader(
            [word.encode("utf-8", "surrogatepass") for word in known],
            WordReaderArgs(
                frozen=frozen,
                max_types=max_types or 0,
                threads=thread_count() if threads is None else threads,
                part_bytes=part_bytes,
            ),
        )
        self._space = memoryview(b"")

    @property
    def raw_words(self) -> int:
        """Words read, numbered or not."""
        return self._reader.raw_words

    @property
    def raw_sentences(self) -> int:
        """Lines read, empty ones too."""
        return self._reader.raw_sentences

    @property
    def invalid_bytes(self) -> int:
        """Bytes that are no UTF-8; each maximal run of them that could begin a character, or one
        byte, is read as U+FFFD."""
        return self._reader.invalid_bytes

    @property
    def full(self) -> bool:
        """Whether reading stopped after a sentence that left more than `max_types` words."""
        return self._reader.full

    @property
    def types(self) -> int:
        """Numbered words."""
        return self._reader.types

    @property
    def unread(self) -> int:
        """Bytes that wait for the next block, since a word may go on there."""
        return self._reader.unread

    @property
    def pending(self) -> int:
        """Ids read and not yet taken."""
        return self._reader.pending

    def space(self, size: int) -> memoryview:
        """Room for the next block of at most `size` bytes, valid until the next `feed`."""
        self._space.release()
        self._space = self._reader.space(size)
        return self._space

    def feed(self, size: int) -> None:
        """Reads the first `size` bytes of `space`; a word or line may go on in the next block.

        Where it stops because it is `full`, `prune` may drop words, and `feed(0)` goes on. Raises
        ValueError for more than there was room for.
        """
        room = len(self._space)
        self._space.release()
        self._space = memoryview(b"")
        if not 0 <= size <= room:
            raise ValueError(f"corpus: size must be from 0 to {room}, got {size}")
        self._reader.feed(size)

    def end(self) -> None:
        """The text ends here, and with it its last line; where it stops, `end` again goes on."""
        self._space.release()
        self._space = memoryview(b"")
        self._reader.end()

    def counts(self) -> Array:
        """How often each numbered word came, int64 [types]."""
        return self._reader.counts()

    def words(self, numbers: Array) -> list[str]:
        """The words with these numbers; IndexError where there is none."""
        return self._reader.words(np.ascontiguousarray(numbers, np.int64))

    def prune(self, keep: Array) -> None:
        """Forgets the words where `keep`, bool [types], is false; the others move up."""
        keep = _checked("keep", keep, np.bool_, self.types)
        self._reader.prune(keep.ctypes.data)

    def take(self) -> Array:
        """The ids read since the last call, int32, now the caller's.

        Only `renumber` knows what they mean, unless the reader is `frozen`: then they are the
        numbers of the known words.
        """
        return self._reader.take()

    def renumber(self, ids: Array, numbers: Array) -> int:
        """Puts `numbers[number]`, int32 [types], in the place of each id, but no negative ones.

        `ids` is what `take` gave, in any pieces but in order, after the last text has ended. The
        ids that are left stand at its front; returns how many.
        """
        numbers = _checked("numbers", numbers, np.int32, self.types)
        fits = ids.dtype == np.int32 and ids.ndim == 1 and ids.flags.carray
        if not fits:
            raise TypeError("corpus: ids must be the result of take, contiguous and writable")
        return self._reader.renumber(ids.ctypes.data, len(ids), numbers.ctypes.data)

    def offsets(self) -> Array:
        """Where sentences begin and end, int64 [sentences + 1]: sentences with an id in them.

        Of the ids as `take` gives them, or as `renumber` leaves them once it has seen all.
        """
        return self._reader.offsets()


def _checked(name: str, array: Array, dtype: Any, size: int) -> Array:
    if array.dtype != dtype or array.shape != (size,):
        wanted = f"{np.dtype(dtype)} [{size}]"
        raise ValueError(f"corpus: {name} must be {wanted}, got {array.dtype} {list(array.shape)}")
    return np.ascontiguousarray(array)


def split_words(
    text: bytes,
    *,
    block: int | None = None,
    threads: int | None = None,
    part_bytes: int = 1 << 16,
) -> list[list[str]]:
    r"""The words of each sentence of a text; sentences without words are left out.

    How the text is cut into blocks and shared among threads does not change the result.

    Args:
        text: UTF-8, a sentence a line.
        block: bytes of a block. None: all of `text` is one.
        threads: None: torch's number if torch is loaded, else OpenMP's.
        part_bytes: a thread gets at least so many bytes of a block.

    Returns:
        For each sentence `line.decode("utf-8", "replace").split()`.

    Example:
        >>> from seqfast.ops.corpus import split_words
        >>> split_words(b"a rose is a rose\n\nis it")
        [['a', 'rose', 'is', 'a', 'rose'], ['is', 'it']]
    """
    reader = WordReader(threads=threads, part_bytes=part_bytes)
    step = len(text) if block is None else block
    for start in range(0, len(text), max(step, 1)):
        part = text[start : start + step]
        reader.space(len(part))[:] = part
        reader.feed(len(part))
    reader.end()
    numbers = np.arange(reader.types, dtype=np.int32)
    words, ids = reader.words(numbers), reader.take()
    reader.renumber(ids, numbers)
    read = [words[number] for number in ids.tolist()]
    return [read[first:last] for first, last in pairwise(reader.offsets().tolist())]


def fingerprint(array: Array) -> str:
    """16 hexadecimal digits of an array's bytes (little-endian), to recognise it by.

    Four lanes of 64 bits each take every fourth word: `lane = (lane ^ word) * prime`, then
    `lane ^= lane >> 32`; at the end lanes and length go through the same step one after the other.

    Args:
        array: a NumPy array of any dtype.

    Returns:
        The digits, lower case.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.corpus import fingerprint
        >>> len(fingerprint(np.arange(5)))
        16
    """
    array = np.ascontiguousarray(array)
    return f"{_C.fingerprint(array.ctypes.data, array.nbytes):016x}"

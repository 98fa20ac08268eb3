"""Words of a text in plain Python: what `seqfast.ops.corpus` must find, count and number."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["WordReader", "fingerprint", "split_words"]

Array = np.ndarray[Any, Any]


class WordReader:
    """Reads text in blocks of bytes and numbers its words by first occurrence.

    A text is UTF-8, a sentence is what ends at a newline, and the words of a sentence are those of
    `line.decode("utf-8", "replace").split()`.

    `known`: words that have the numbers 0, 1, ... beforehand; they count from zero. `frozen`: other
    words get no number and are left out, and nothing is counted. `max_types`: reading stops after
    more words than that (see `full`), and no ids are kept. `threads`, `part_bytes`: no matter here.

    Arguments and results are those of
    `seqfast.ops.corpus.WordReader`.

    Example:
        >>> from seqfast.reference.corpus import WordReader
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
        self.raw_words = 0
        """Words read, numbered or not."""
        self.raw_sentences = 0
        """Lines read, empty ones too."""
        self.invalid_bytes = 0
        """Bytes that are no UTF-8; each maximal run of them that could begin a character, or one
        byte, is read as U+FFFD."""
        self.full = False
        """Whether reading stopped after a sentence that left more than `max_types` words."""
        self._numbers = {word: number for number, word in enumerate(known)}
        if len(self._numbers) != len(known):
            raise ValueError("corpus: known must be distinct words")
        self._counts = [0] * len(known)
        self._frozen, self._max_types = frozen, max_types
        self._block = bytearray()
        self._rest = b""
        self._lines: deque[bytes] = deque()
        self._ids: list[int] = []
        self._ends: list[int] = []
        self._taken = self._renumbered = 0
        self._left: list[Array] = []

    @property
    def types(self) -> int:
        """Numbered words."""
        return len(self._counts)

    @property
    def unread(self) -> int:
        """Bytes of a word that the blocks so far only begin."""
        return len(self._rest)

    @property
    def pending(self) -> int:
        """Ids read and not yet taken."""
        return len(self._ids)

    def space(self, size: int) -> memoryview:
        """Room for the next block of at most `size` bytes, valid until the next `feed`."""
        self._block = bytearray(size)
        return memoryview(self._block)

    def feed(self, size: int) -> None:
        """Reads the first `size` bytes of `space`; a word or line may go on in the next block.

        Where it stops because it is `full`, `prune` may drop words, and `feed(0)` goes on.
        """
        lines = (self._rest + self._block[:size]).split(b"\n")
        self._block = bytearray()
        self._rest = bytes(lines.pop())
        self._lines.extend(map(bytes, lines))
        self._go_on()

    def end(self) -> None:
        """The text ends here, and with it its last line; where it stops, `end` again goes on."""
        if self._rest:
            self._lines.append(self._rest)
        self._rest = b""
        self._go_on()

    def _go_on(self) -> None:
        self.full = False
        while self._lines and not self.full:
            self._sentence(self._lines.popleft())
            self.full = self._max_types is not None and self.types > self._max_types

    def _sentence(self, line: bytes) -> None:
        # What "replace" replaces, "surrogateescape" keeps: one surrogate for each byte.
        escaped = line.decode("utf-8", "surrogateescape")
        self.invalid_bytes += sum("\udc80" <= character <= "\udcff" for character in escaped)
        words = line.decode("utf-8", "replace").split()
        self.raw_sentences += 1
        self.raw_words += len(words)
        for word in words:
            number = self._numbers.get(word)
            if number is None:
                if self._frozen:
                    continue
                number = self._numbers[word] = len(self._counts)
                self._counts.append(0)
            self._counts[number] += not self._frozen
            if self._max_types is None:
                self._ids.append(number)
        end = self._taken + len(self._ids)
        if end > (self._ends[-1] if self._ends else 0):
            self._ends.append(end)

    def counts(self) -> Array:
        """How often each numbered word came, int64 [types]."""
        return np.array(self._counts, np.int64)

    def words(self, numbers: Array) -> list[str]:
        """The words with these numbers."""
        words = list(self._numbers)
        return [words[number] for number in numbers]

    def prune(self, keep: Array) -> None:
        """Forgets the words where `keep`, bool [types], is false; the others move up."""
        kept = [word for word, stays in zip(self._numbers, keep, strict=True) if stays]
        self._counts = [self._counts[self._numbers[word]] for word in kept]
        self._numbers = {word: number for number, word in enumerate(kept)}

    def take(self) -> Array:
        """The ids read since the last call, int32, now the caller's.

        Only `renumber` knows what they mean, unless the reader is `frozen`: then they are the
        numbers of the known words.
        """
        ids = np.array(self._ids, np.int32)
        self._taken += len(ids)
        self._ids = []
        return ids

    def renumber(self, ids: Array, numbers: Array) -> int:
        """Puts `numbers[number]`, int32 [types], in the place of each id, but no negative ones.

        `ids` is what `take` gave, in any pieces but in order, after the last text has ended. The
        ids that are left stand at its front; returns how many.
        """
        new = numbers[ids]
        left = new >= 0
        kept = int(left.sum())
        ids[:kept] = new[left]
        self._renumbered += len(ids)
        self._left.append(left)
        return kept

    def offsets(self) -> Array:
        """Where sentences begin and end, int64 [sentences + 1]: sentences with an id in them.

        Of the ids as `take` gives them, or as `renumber` leaves them once it has seen all.
        """
        ends = np.array([0, *self._ends], np.int64)
        if self._left:
            before = np.concatenate([[0], np.cumsum(np.concatenate(self._left))])
            ends = np.unique(before[ends]).astype(np.int64)
        return ends


def split_words(
    text: bytes,
    *,
    block: int | None = None,
    threads: int | None = None,
    part_bytes: int = 1 << 16,
) -> list[list[str]]:
    r"""The words of each sentence of a text; sentences without words are left out.

    How it is read, by blocks and threads, is no matter here.

    Arguments and results are those of
    `seqfast.ops.corpus.split_words`.

    Example:
        >>> from seqfast.reference.corpus import split_words
        >>> split_words(b"a rose is a rose\n\nis it")
        [['a', 'rose', 'is', 'a', 'rose'], ['is', 'it']]
    """
    sentences = (line.decode("utf-8", "replace").split() for line in text.split(b"\n"))
    return [words for words in sentences if words]


_PRIME = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


def fingerprint(array: Array) -> str:
    """16 hexadecimal digits of an array's bytes (little-endian): to know it again, no protection.

    Four lanes of 64 bits each take every fourth word: `lane = (lane ^ word) * prime`, then
    `lane ^= lane >> 32`; at the end lanes and length go through the same step one after the other.

    Arguments and results are those of
    `seqfast.ops.corpus.fingerprint`.

    Example:
        >>> import numpy as np
        >>> from seqfast import ops, reference
        >>> reference.corpus.fingerprint(np.arange(5)) == ops.corpus.fingerprint(np.arange(5))
        True
    """
    data = np.ascontiguousarray(array).tobytes()
    words = np.frombuffer(data + bytes(-len(data) % 32), np.uint64).reshape(-1, 4)
    lanes = np.arange(1, 5, dtype=np.uint64) * _PRIME
    for row in words:
        lanes = (lanes ^ row) * _PRIME
        lanes ^= lanes >> _SHIFT
    result = np.array([len(data)], np.uint64)
    for lane in lanes:
        result = (result ^ lane) * _PRIME
        result ^= result >> _SHIFT
    return f"{int(result[0]):016x}"

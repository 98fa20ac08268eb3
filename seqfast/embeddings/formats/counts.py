"""Files of words and their counts, as word2vec.c's -save-vocab writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from seqfast.embeddings.files import PathLike, atomic_file, open_by_suffix
from seqfast.embeddings.formats.base import FileReading


def load_counts(
    path: PathLike, encoding: str = "utf-8", unicode_errors: str = "strict"
) -> dict[str, int]:
    """Reads words and counts, one pair a line, as word2vec.c's -save-vocab writes them.

    Raises OSError for a file that cannot be read, ValueError naming the line of a damaged one.
    """
    reading = FileReading(os.fspath(path), encoding, unicode_errors)
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


def save_counts(path: PathLike, words: Sequence[str], counts: Iterable[int]) -> None:
    """Writes words and counts, one pair a line, whole or not at all. Raises OSError."""
    with atomic_file(path) as file:
        for word, count in zip(words, counts, strict=True):
            file.write(f"{word} {count}\n".encode())

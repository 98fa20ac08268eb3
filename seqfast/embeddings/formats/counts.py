"""Files of words and their counts, as word2vec.c's -save-vocab writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from seqfast.embeddings.files import PathLike, atomic_file, damage_named, open_by_suffix
from seqfast.embeddings.formats.base import FileReading


def load_counts(
    path: PathLike, encoding: str = "utf-8", unicode_errors: str = "strict"
) -> dict[str, int]:
    """Reads words and counts, one pair a line, as word2vec.c's -save-vocab writes them.

    Args:
        path: of the file.
        encoding: of its words.
        unicode_errors: as for `bytes.decode`.

    Returns:
        The count of each word.

    Raises:
        OSError: a file that cannot be read.
        ValueError: a damaged file; it names the line.

    Example:
        >>> from seqfast.embeddings.formats import load_counts, save_counts
        >>> save_counts("counts.txt", ["the", "a"], [5, 3])
        >>> load_counts("counts.txt")
        {'the': 5, 'a': 3}
    """
    reading = FileReading(os.fspath(path), encoding, unicode_errors)
    counts: dict[str, int] = {}
    with damage_named(path), open_by_suffix(path) as file:
        for number, line in enumerate(file, 1):
            parts = line.rstrip().rsplit(None, 1)
            if not parts:
                continue
            if len(parts) != 2 or not re.fullmatch(rb"\d{1,18}", parts[1]):
                raise reading.damaged(f"line {number} is not a word and count: {line[:80]!r}")
            counts[reading.word(parts[0])] = int(parts[1])
    return counts


def save_counts(path: PathLike, words: Sequence[str], counts: Iterable[int]) -> None:
    r"""Writes words and counts, one pair a line. After an error the file is what it was.

    Args:
        path: of the file.
        words: [V].
        counts: [V].

    Raises:
        OSError: a file that cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from seqfast.embeddings.formats import save_counts
        >>> save_counts("counts.txt", ["the", "a"], [5, 3])
        >>> Path("counts.txt").read_text()
        'the 5\na 3\n'
    """
    with atomic_file(path) as file:
        for word, count in zip(words, counts, strict=True):
            file.write(f"{word} {count}\n".encode())

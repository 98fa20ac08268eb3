"""What reading a text gives: its vocabulary, and the text in the vocabulary's ids."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seqfast.embeddings.corpus.sources import Array


@dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded text: the words that are in the vocabulary, sentence after sentence.

    Example:
        >>> from seqfast.embeddings import corpus
        >>> corpus.read([["a", "b"], ["a"]], min_count=1)[1].offsets.tolist()
        [0, 2, 3]
    """

    ids: Array
    """int32 [tokens]; in memory, or a read-only map of a cache file that has no name."""
    offsets: Array
    """int64 [sentences + 1]; only sentences in which a word of the vocabulary is left."""
    raw_words: int
    """Words read, in the vocabulary or not."""
    invalid_bytes: int
    """Bytes read that were no UTF-8, which were taken for U+FFFD."""
    fingerprint: str
    """Hex digest of ids and offsets: whether a resumed training has the same corpus."""
    raw_sentences: int = 0
    """Lines or token lists read, empty ones too."""


@dataclass(eq=False)
class Vocabulary:
    """Words by falling count, those of equal count by first occurrence; a word's place is its id.

    After `read(known=...)` the known words keep their places, and new ones follow.

    Attributes:
        words: by falling count.

    Raises:
        ValueError: counts of another length, or a word that comes twice.

    Example:
        >>> from seqfast.embeddings import Vocabulary
        >>> Vocabulary(["the", "a"], [5, 3]).index
        {'the': 0, 'a': 1}
    """

    words: list[str]
    counts: Array
    """int64 [words]"""
    raw_words: int = 0
    """Words read, in the vocabulary or not."""
    raw_types: int = 0
    """Different words among them; with `max_vocab_size` those that were not pruned."""
    raw_sentences: int = 0
    """Lines or token lists read, empty ones too."""
    min_count: int = 0
    """In effect: `max_final_vocab` may have raised it."""
    invalid_bytes: int = 0
    """Bytes read that were no UTF-8."""
    index: dict[str, int] = field(init=False, repr=False)
    """Word to id."""

    def __post_init__(self) -> None:
        self.counts = np.ascontiguousarray(self.counts, np.int64)
        if self.counts.shape != (len(self.words),):
            raise ValueError(
                f"Vocabulary: counts must be [{len(self.words)}], got {list(self.counts.shape)}"
            )
        self.index = dict(zip(self.words, range(len(self.words)), strict=True))
        if len(self.index) != len(self.words):
            double = next(w for i, w in enumerate(self.words) if self.index[w] != i)
            raise ValueError(f"Vocabulary: words must be distinct, got {double!r} twice")

    def __len__(self) -> int:
        return len(self.words)

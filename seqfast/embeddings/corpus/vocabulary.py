"""What reading a text gives: its vocabulary, and the text in the vocabulary's ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from seqfast.embeddings.corpus.sources import Array
from seqfast.ops.base.checks import check_whole


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
    """Words by decreasing count, then by first occurrence; a word's index is its id.

    After `read(known=...)` the known words keep their ids, and new ones follow. `with_specials` and
    `of` put special tokens (for padding, unknown words, the ends of a sentence) before the words;
    they have the first ids and the count 0.

    Attributes:
        words: by decreasing count, after the special tokens.
        specials: the special tokens, the first of the words.

    Raises:
        ValueError: counts of another length, or a word that appears twice.

    Example:
        >>> from seqfast.embeddings import Vocabulary
        >>> Vocabulary(["the", "a"], [5, 3]).index
        {'the': 0, 'a': 1}
        >>> words = Vocabulary.of("a b a".split(), ["<pad>", "<unk>"])
        >>> words.encode(["b", "c"], unknown="<unk>").tolist()
        [3, 1]
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
    specials: tuple[str, ...] = ()
    """Special tokens: the first words."""
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

        self.specials = tuple(self.specials)
        if tuple(self.words[: len(self.specials)]) != self.specials:
            raise ValueError(
                f"Vocabulary: specials must be the first words, got {self.specials!r}: "
                "with_specials puts them there"
            )

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def of(
        cls, tokens: Iterable[str], specials: Sequence[str] = (), min_count: int = 1
    ) -> Vocabulary:
        """The vocabulary of tokens in memory; `read` counts those of files.

        Args:
            tokens: all that there are, in order.
            specials: tokens that come first, whether they occur or not.
            min_count: of a token, to be in it.

        Raises:
            ValueError: a special token twice, `min_count` below 1.
        """
        check_whole("Vocabulary.of", "min_count", min_count, 1)
        every = list(tokens)
        counts = Counter(every)
        kept = [(t, n) for t, n in counts.most_common() if n >= min_count and t not in specials]
        plain = cls(
            [token for token, _ in kept],
            np.array([count for _, count in kept], np.int64),
            raw_words=len(every),
            raw_types=len(counts),
            min_count=min_count,
        )
        return plain.with_specials(specials)

    def with_specials(self, specials: Sequence[str]) -> Vocabulary:
        """A new vocabulary with special tokens before its own words, which move behind them.

        Args:
            specials: the tokens, in the order of their ids.

        Raises:
            ValueError: a token that is a word already, or comes twice; where it has special tokens.
        """
        if self.specials:
            raise ValueError(
                f"Vocabulary.with_specials: there must be none yet, got {self.specials!r}"
            )
        return replace(
            self,
            words=[*specials, *self.words],
            counts=np.concatenate([np.zeros(len(specials), np.int64), self.counts]),
            specials=tuple(specials),
        )

    def encode(self, tokens: Iterable[str], unknown: str | None = None) -> Array:
        """Ids of tokens.

        Args:
            tokens: in order.
            unknown: the token that stands for those that are not in the vocabulary.

        Returns:
            int64 [tokens].

        Raises:
            KeyError: a token that is not in the vocabulary, without `unknown`; `unknown` itself.
        """
        index = self.index
        if unknown is not None:
            if unknown not in index:
                raise KeyError(f"Vocabulary.encode: unknown {unknown!r} is not in the vocabulary")
            other = index[unknown]
            return np.array([index.get(token, other) for token in tokens], np.int64)
        try:
            return np.array([index[token] for token in tokens], np.int64)
        except KeyError as error:
            raise KeyError(
                f"Vocabulary.encode: {error.args[0]!r} is not in the vocabulary: name the token "
                "for unknown words by unknown="
            ) from None

    def decode(self, ids: Iterable[int], skip_specials: bool = False) -> list[str]:
        """The tokens of ids, with `skip_specials` without the special ones.

        Raises:
            IndexError: an id below 0 or past the vocabulary.
        """
        found = []
        for number in ids:
            place = int(number)
            if not 0 <= place < len(self.words):
                raise IndexError(
                    f"Vocabulary.decode: ids must be from 0 to {len(self.words) - 1}, got {place}"
                )
            if not (skip_specials and place < len(self.specials)):
                found.append(self.words[place])
        return found

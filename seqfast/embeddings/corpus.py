"""Corpora of word vectors: files, token lists or ids in, a vocabulary and encoded words out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from seqfast.embeddings._corpus_ids import IdStore
from seqfast.embeddings._corpus_sources import (
    PIECE,
    Array,
    Path,
    Progress,
    Reader,
    Source,
    is_ids,
    open_source,
)
from seqfast.ops.corpus import fingerprint

__all__ = [
    "RULE_DEFAULT",
    "RULE_DISCARD",
    "RULE_KEEP",
    "Corpus",
    "Vocabulary",
    "count",
    "encode",
    "read",
]

TrimRule = Callable[[str, int, int], int | None]

# What a trim_rule may return; gensim.utils has the same.
RULE_DEFAULT, RULE_DISCARD, RULE_KEEP = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded text: the words that are in the vocabulary, sentence after sentence."""

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

    After `read(known=...)` the known words keep their places, and new ones follow. Raises
    ValueError for counts of another length, or a word that comes twice.
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


def read(
    source: Source,
    *,
    min_count: int = 5,
    max_vocab_size: int | None = None,
    max_final_vocab: int | None = None,
    trim_rule: TrimRule | None = None,
    workers: int | None = None,
    cache_folder: Path | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
    words: Sequence[str] | None = None,
    known: Vocabulary | None = None,
) -> tuple[Vocabulary, Corpus]:
    """The vocabulary of a corpus and the corpus encoded with it, in one reading.

    `source` is one of

    - a path or a list of paths: one sentence a line, words apart as `str.split` has it, UTF-8;
      gzip, bzip2 and xz are unpacked. Bytes that are no UTF-8 become U+FFFD and are counted. Lines
      have any length. Files are read, not mapped: one that shrinks meanwhile ends early, where a
      map would end the process.
    - an iterable of sentences, each an iterable of str; read once, so a generator will do.
    - `(ids, offsets)`: integers, [tokens], and where sentences begin and end, [sentences + 1];
      id i is the word `words[i]`, or `str(i)` without `words`.

    `min_count`, `max_vocab_size`, `max_final_vocab` and `trim_rule(word, count, min_count)` mean
    what they mean in gensim. `max_vocab_size`, how many words are counted at a time, takes two
    readings, so the source must allow them; it does nothing for ids. `workers`: threads that split
    text into words, None: torch's or OpenMP's number; the result does not depend on it. `known`: a
    vocabulary that stays in front of the new words, its counts raised by what is read; `min_count`
    and the like are for the new words only.

    Ids that take more than `memory_limit` bytes (None: half of the free memory) go to a file
    without a name in `cache_folder` (None: where temporary files are), four bytes a word.
    `progress(done, total or None, "bytes" or "sentences")` is called now and then in each reading.

    An empty vocabulary is no error here. Raises FileNotFoundError and other OSErrors that name the
    path or the folder, TypeError for what is no corpus, ValueError for damaged archives and for
    arguments that make no sense. What an iterable or `progress` raises comes through.
    """
    _check_number("min_count", min_count, 0)
    _check_number("max_final_vocab", max_final_vocab, 1)
    _check_number("max_vocab_size", max_vocab_size, 1)
    chosen = Choice(min_count, max_final_vocab, trim_rule, known)
    if max_vocab_size is not None and not is_ids(source):
        counted = count(
            source,
            max_vocab_size=max_vocab_size,
            trim_rule=trim_rule,
            workers=workers,
            progress=progress,
            words=words,
        )
        vocabulary = chosen.of_counted(counted)
        corpus = encode(
            source,
            vocabulary,
            workers=workers,
            cache_folder=cache_folder,
            memory_limit=memory_limit,
            progress=progress,
        )
        return vocabulary, corpus
    reader, parts = open_source(
        source,
        words=words,
        known=() if known is None else known.words,
        workers=workers,
        progress=progress,
    )
    store = IdStore(cache_folder, memory_limit)
    try:
        for _ in parts:
            store.fetch(reader)
        vocabulary, numbers = chosen.of_reader(reader)
        return vocabulary, _corpus(reader, store.finish(reader, numbers))
    finally:
        store.close()


def encode(
    source: Source,
    vocabulary: Vocabulary,
    *,
    workers: int | None = None,
    cache_folder: Path | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
    words: Sequence[str] | None = None,
) -> Corpus:
    """A corpus in the ids of a vocabulary, other words left out. Arguments as in `read`."""
    reader, parts = open_source(
        source,
        words=words,
        known=vocabulary.words,
        frozen=True,
        workers=workers,
        progress=progress,
    )
    store = IdStore(cache_folder, memory_limit)
    try:
        for _ in parts:
            store.fetch(reader)
        return _corpus(reader, store.finish(reader, None))
    finally:
        store.close()


def count(
    source: Source,
    *,
    max_vocab_size: int | None = None,
    trim_rule: TrimRule | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    words: Sequence[str] | None = None,
) -> Vocabulary:
    """Every word of a corpus, whatever its count. Arguments as in `read`.

    With `max_vocab_size` rare words are pruned as gensim does: after each sentence that leaves more
    words than that, those that came less often than a number that begins at 1 and rises by one each
    time, or those that `trim_rule(word, count, that number)` discards.
    """
    _check_number("max_vocab_size", max_vocab_size, 1)
    reader, parts = open_source(
        source, words=words, max_types=max_vocab_size, workers=workers, progress=progress
    )
    least = 1
    for full in parts:
        if full:
            counts = reader.counts()
            keep = counts >= least
            if trim_rule is not None:
                names = reader.words(np.arange(len(counts)))
                keep = _ruled(trim_rule, names, counts, least, keep)
            if not keep.all():
                reader.prune(keep)
            least += 1
        elif reader.pending > PIECE:
            reader.take()
    return Choice(0, None, None, None).of_reader(reader)[0]


@dataclass
class Choice:
    """Which of the counted words make the vocabulary, and in which order."""

    min_count: int
    max_final_vocab: int | None
    trim_rule: TrimRule | None
    known: Vocabulary | None

    def of_reader(self, reader: Reader) -> tuple[Vocabulary, Array]:
        """The vocabulary, and each of the reader's numbers in it, int32 [types]; -1: left out."""
        return self._of(reader.counts(), reader.words, reader)

    def of_counted(self, counted: Vocabulary) -> Vocabulary:
        """The vocabulary; the known words are among the others here, if they are there at all."""
        if self.known is None:
            return self._of(counted.counts, _names(counted.words), counted)[0]
        places = [counted.index.get(word, -1) for word in self.known.words]
        rest = np.setdiff1d(np.arange(len(counted)), places)
        # The count at the end is that of a word that never came.
        counts = np.append(counted.counts, 0)[[*places, *rest.tolist()]]
        words = [*self.known.words, *(counted.words[place] for place in rest.tolist())]
        return self._of(counts, _names(words), counted)[0]

    def _of(
        self, counts: Array, words: Callable[[Array], list[str]], found: Reader | Vocabulary
    ) -> tuple[Vocabulary, Array]:
        types = int(np.count_nonzero(counts))
        least = self.min_count
        known = 0 if self.known is None else len(self.known)
        fresh, most = counts[known:], self.max_final_vocab
        if most is not None and most < np.count_nonzero(fresh):
            # gensim's way: whole groups of equal counts go, so that fewer words may be left.
            least = max(least, int(np.partition(fresh, -1 - most)[-1 - most]) + 1)
        keep = fresh >= least
        if self.trim_rule is not None:
            names = words(np.arange(known, len(counts)))
            keep = _ruled(self.trim_rule, names, fresh, least, keep)
        new = known + np.flatnonzero(keep)
        new = new[np.argsort(-counts[new], kind="stable")]
        numbers = np.full(len(counts), -1, np.int32)
        numbers[:known] = np.arange(known)
        numbers[new] = np.arange(known, known + len(new))
        names, totals = words(new), counts[new]
        if self.known is not None:
            names = self.known.words + names
            totals = np.concatenate([self.known.counts + counts[:known], totals])
        vocabulary = Vocabulary(
            names,
            totals,
            raw_words=found.raw_words,
            raw_types=types,
            raw_sentences=found.raw_sentences,
            min_count=least,
            invalid_bytes=found.invalid_bytes,
        )
        return vocabulary, numbers


def _names(words: Sequence[str]) -> Callable[[Array], list[str]]:
    return lambda numbers: [words[number] for number in numbers.tolist()]


def _ruled(rule: TrimRule, words: list[str], counts: Array, least: int, keep: Array) -> Array:
    """`keep`, but what the rule says where it says something."""
    keep = keep.copy()
    for place, (word, number) in enumerate(zip(words, counts.tolist(), strict=True)):
        said = rule(word, number, least)
        if said == RULE_KEEP:
            keep[place] = True
        elif said == RULE_DISCARD:
            keep[place] = False
        elif said is not None and said != RULE_DEFAULT:
            raise ValueError(
                "corpus: trim_rule must return RULE_DEFAULT (0), RULE_DISCARD (1) or RULE_KEEP "
                f"(2), got {said!r} for {word!r}"
            )
    return keep


def _corpus(reader: Reader, ids: Array) -> Corpus:
    offsets = reader.offsets()
    return Corpus(
        ids,
        offsets,
        raw_words=reader.raw_words,
        invalid_bytes=reader.invalid_bytes,
        fingerprint=fingerprint(ids) + fingerprint(offsets),
        raw_sentences=reader.raw_sentences,
    )


def _check_number(name: str, value: int | None, least: int) -> None:
    if value is None:
        return
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"corpus: {name} must be an integer of at least {least}, got {value!r}")

"""Reads corpora of word vectors: files, token lists or ids in, vocabulary and encoded words out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqfast.embeddings.corpus.id_store import IdStore
from seqfast.embeddings.corpus.selection import TrimRule, VocabularySelection, apply_trim_rule
from seqfast.embeddings.corpus.sources import (
    PIECE_TOKENS,
    UTF_8,
    Array,
    Reader,
    Source,
    is_ids,
    open_source,
)
from seqfast.embeddings.corpus.text import Decoding, Path, ReadingProgress
from seqfast.embeddings.corpus.vocabulary import Corpus, Vocabulary
from seqfast.ops.base.checks import check_whole
from seqfast.ops.corpus import fingerprint


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
    progress: ReadingProgress | None = None,
    decoding: Decoding = UTF_8,
    words: Sequence[str] | None = None,
    known: Vocabulary | None = None,
) -> tuple[Vocabulary, Corpus]:
    """The vocabulary of a corpus and the encoded corpus; reads the corpus once.

    An empty vocabulary is not an error here. Errors of an iterable or of `progress` are passed on.

    Args:
        source: one of
            a path or a list of paths: one sentence per line, words separated as by `str.split`;
            gzip, bzip2, xz and zstd are decompressed; lines may have any length. An iterable of
            sentences, each an iterable of words, read once. `(ids, offsets)`: integers [tokens],
            and the offsets where sentences begin and end, [sentences + 1].
        min_count: as in gensim, like the next three.
        max_vocab_size: limit of words that are counted at a time. The corpus is then read twice. No
            effect for ids.
        max_final_vocab: largest size of the vocabulary.
        trim_rule: `trim_rule(word, count, min_count)`.
        workers: threads that split text into words. None: torch's or OpenMP's number. The result
            does not depend on it.
        cache_folder: folder for ids that need more than `memory_limit`, four bytes per word. None:
            the folder for temporary files.
        memory_limit: bytes. None: half of the free memory.
        progress: `progress(done, total or None, "bytes" or "sentences")`, called repeatedly.
        decoding: how the bytes of files become text, a `Decoding`.
        words: names of ids; without it id i is the word `str(i)`.
        known: a vocabulary whose words come first; its counts grow by the occurrences read.
            `min_count` and the like apply to new words only.

    Returns:
        The vocabulary and the corpus.

    Raises:
        OSError: FileNotFoundError and others, naming the path or the folder.
        TypeError: an argument that is not a corpus.
        ValueError: damaged archives, and arguments out of range.

    Example:
        >>> from seqfast.embeddings import corpus
        >>> vocabulary, text = corpus.read([["a", "b", "a"], ["a"]], min_count=1)
        >>> vocabulary.words, text.ids.tolist()
        (['a', 'b'], [0, 1, 0, 0])
    """
    check_whole("corpus", "min_count", min_count, 0)
    if max_final_vocab is not None:
        check_whole("corpus", "max_final_vocab", max_final_vocab, 1, also=", or None")
    if max_vocab_size is not None:
        check_whole("corpus", "max_vocab_size", max_vocab_size, 1, also=", or None")
    chosen = VocabularySelection(min_count, max_final_vocab, trim_rule, known)
    if max_vocab_size is not None and not is_ids(source):
        counted = count(
            source,
            max_vocab_size=max_vocab_size,
            trim_rule=trim_rule,
            workers=workers,
            progress=progress,
            decoding=decoding,
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
            decoding=decoding,
        )
        return vocabulary, corpus
    reader, parts = open_source(
        source,
        words=words,
        known=() if known is None else known.words,
        workers=workers,
        progress=progress,
        decoding=decoding,
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
    progress: ReadingProgress | None = None,
    decoding: Decoding = UTF_8,
    words: Sequence[str] | None = None,
) -> Corpus:
    """A corpus in the ids of a vocabulary, other words left out.

    Args:
        source: as for `read`, like the others.
        vocabulary: the words that get ids.
        workers: threads.
        cache_folder: folder for ids that need more than `memory_limit`.
        memory_limit: bytes.
        progress: called repeatedly.
        decoding: how the bytes of files become text, a `Decoding`.
        words: names of ids.

    Returns:
        The corpus.

    Raises:
        OSError: a file that cannot be read.
        TypeError: an argument that is not a corpus.
        ValueError: damaged archives, and arguments out of range.

    Example:
        >>> from seqfast.embeddings import corpus
        >>> corpus.encode([["b", "c"]], corpus.count([["a", "b"]])).ids.tolist()
        [1]
    """
    reader, parts = open_source(
        source,
        words=words,
        known=vocabulary.words,
        frozen=True,
        workers=workers,
        progress=progress,
        decoding=decoding,
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
    progress: ReadingProgress | None = None,
    decoding: Decoding = UTF_8,
    words: Sequence[str] | None = None,
) -> Vocabulary:
    """Every word of a corpus, whatever its count.

    With `max_vocab_size` rare words are pruned as in gensim: after each sentence that leaves more
    words than that, words with a count below a threshold are removed, or those that
    `trim_rule(word, count, threshold)` discards. The threshold starts at 1 and grows by one each
    time.

    Args:
        source: as for `read`, like all that follow.
        max_vocab_size: how many words are counted at a time.
        trim_rule: which words are discarded.
        workers: threads.
        progress: called now and then.
        decoding: how the bytes of files become text, a `Decoding`.
        words: names of ids.

    Returns:
        The vocabulary.

    Raises:
        OSError: a file that cannot be read.
        TypeError: an argument that is not a corpus.
        ValueError: damaged archives, and arguments out of range.

    Example:
        >>> from seqfast.embeddings import corpus
        >>> corpus.count([["a", "b", "a"]]).counts
        array([2, 1])
    """
    if max_vocab_size is not None:
        check_whole("corpus", "max_vocab_size", max_vocab_size, 1, also=", or None")
    reader, parts = open_source(
        source,
        words=words,
        max_types=max_vocab_size,
        workers=workers,
        progress=progress,
        decoding=decoding,
    )
    least = 1
    for full in parts:
        if full:
            counts = reader.counts()
            keep = counts >= least
            if trim_rule is not None:
                names = reader.words(np.arange(len(counts)))
                keep = apply_trim_rule(trim_rule, names, counts, least, keep)
            if not keep.all():
                reader.prune(keep)
            least += 1
        elif reader.pending > PIECE_TOKENS:
            reader.take()
    return VocabularySelection(0, None, None, None).of_reader(reader)[0]


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

"""Which of the words that were counted make the vocabulary, with gensim's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seqfast.embeddings.corpus.sources import Array, Reader
from seqfast.embeddings.corpus.vocabulary import Vocabulary

TrimRule = Callable[[str, int, int], int | None]

# What a trim_rule may return; gensim.utils has the same.
RULE_DEFAULT, RULE_DISCARD, RULE_KEEP = 0, 1, 2


@dataclass
class VocabularySelection:
    """Which of the counted words make the vocabulary, and in which order."""

    min_count: int
    max_final_vocab: int | None
    trim_rule: TrimRule | None
    known: Vocabulary | None

    def of_reader(self, reader: Reader) -> tuple[Vocabulary, Array]:
        """The vocabulary, and each of the reader's numbers in it, int32 [types]; -1: left out."""
        return self._selected(reader.counts(), reader.words, reader)

    def of_counted(self, counted: Vocabulary) -> Vocabulary:
        """The vocabulary; the known words are among the others here, if they are there at all."""
        if self.known is None:
            return self._selected(counted.counts, _words_of(counted.words), counted)[0]
        places = [counted.index.get(word, -1) for word in self.known.words]
        rest = np.setdiff1d(np.arange(len(counted)), places)
        # The count at the end is that of a word that never came.
        counts = np.append(counted.counts, 0)[[*places, *rest.tolist()]]
        words = [*self.known.words, *(counted.words[place] for place in rest.tolist())]
        return self._selected(counts, _words_of(words), counted)[0]

    def _selected(
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
            keep = apply_trim_rule(self.trim_rule, names, fresh, least, keep)
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


def _words_of(words: Sequence[str]) -> Callable[[Array], list[str]]:
    return lambda numbers: [words[number] for number in numbers.tolist()]


def apply_trim_rule(
    rule: TrimRule, words: list[str], counts: Array, least: int, keep: Array
) -> Array:
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

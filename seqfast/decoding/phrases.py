"""Phrases that every hypothesis of a search must hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqfast.decoding.strategies import _check_vocabulary, _sequences_of


class Phrases:
    """Phrases that every hypothesis must contain.

    Args:
        phrases: a list; each item is a phrase, that is a list of tokens, or a list of alternative
            phrases, one of which must appear.
        per_sentence: `phrases` is a list of such lists, one for each sentence.

    The beams are divided evenly among the numbers of tokens that hypotheses still lack (dynamic
    beam allocation, Post & Vilar 2018), and tokens that continue a phrase are candidates whatever
    their rank. A hypothesis cannot end before it contains all phrases, and is dropped when it can
    no longer complete them by max_length. So every result contains the phrases; if the model or
    another constraint makes one impossible, there is no result. Phrases may overlap. A search with
    phrases runs step by step and selects tokens on the host.

    ```python
    BeamSearch(10, eos=2, constraints=[Phrases([[4, 7], [[5], [6, 8]]])])  # 4 7, and 5 or 6 8
    ```

    Raises:
        TypeError: an argument that is not a list of phrases.
        ValueError: an empty phrase.
    """

    def __init__(self, phrases: Sequence[Any], per_sentence: bool = False) -> None:
        if not isinstance(phrases, (list, tuple)) or not phrases:
            raise TypeError(f"Phrases: phrases must be a list of phrases, got {phrases!r}")
        given = phrases if per_sentence else [phrases]
        self.per_sentence = bool(per_sentence)
        self.entries = [[_alternatives(entry) for entry in sentence] for sentence in given]

    def __repr__(self) -> str:
        shown = [[[list(a) for a in entry] for entry in s] for s in self.entries]
        return f"Phrases({shown if self.per_sentence else shown[0]})"

    def check(self, options: Any) -> None:
        """Raises ValueError for what no hypothesis could ever hold, or no such search can do."""
        operation = options.operation
        for name, wrong in (
            ("groups", options.groups > 1),
            ("a sampler", options.sampler is not None),
            ("eos_pool='inbeam'", options.eos_pool == "inbeam"),
            ("repetition_penalty", options.repetition_penalty != 1),
        ):
            if wrong:
                raise ValueError(f"{operation}: Phrases cannot be combined with {name}")
        for sentence, entries in enumerate(self.entries):
            whose = f" of sentence {sentence}" if self.per_sentence else ""
            needed = max((min(map(len, entry)) for entry in entries), default=0)
            if needed > options.max_length:
                raise ValueError(
                    f"{operation}: phrases{whose} must not be longer than max_length = "
                    f"{options.max_length}, got {needed} tokens"
                )
            for entry in entries:
                for tokens in entry:
                    _check_phrase(options, tokens)


def _alternatives(entry: Any) -> list[tuple[int, ...]]:
    """Of an entry; a phrase is one with a single alternative."""
    if isinstance(entry, (int, np.integer)):
        entry = [entry]
    if not isinstance(entry, (list, tuple)) or not entry:
        raise TypeError(
            f"Phrases: a phrase must be a list of tokens or of such lists, got {entry!r}"
        )
    if isinstance(entry[0], (list, tuple)):
        return _sequences_of("Phrases", entry)
    return _sequences_of("Phrases", [list(entry)])


def _check_phrase(options: Any, tokens: tuple[int, ...]) -> None:
    _check_vocabulary("Phrases", [tokens], 1 << 31, options.eos)
    for token in tokens:
        if token in options.banned:
            raise ValueError(
                f"{options.operation}: constraints exclude each other: token {token} of the phrase "
                f"{list(tokens)} is banned"
            )
    n = options.no_repeat_ngram
    grams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)] if n else []
    if len(set(grams)) < len(grams):
        raise ValueError(
            f"{options.operation}: constraints exclude each other: the phrase {list(tokens)} has "
            f"an n-gram of {n} tokens twice"
        )
    for other in options.constraints:
        for banned in getattr(other, "sequences", ()) if hasattr(other, "tokens") else ():
            if any(tokens[i : i + len(banned)] == banned for i in range(len(tokens))):
                raise ValueError(
                    f"{options.operation}: constraints exclude each other: the phrase "
                    f"{list(tokens)} holds {list(banned)}, which is banned"
                )

"""A vocabulary as letters: which token is the blank, what ends or begins a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqfast.decoding.ctc.words import codes_of
from seqfast.ops.base.checks import check_whole

Array = np.ndarray[Any, Any]
_OPERATION = "CtcDecoder"
_AUTOMATIC = "auto"


class Spelling:
    """The tokens of a vocabulary, and how they make words."""

    def __init__(
        self, vocabulary: Sequence[str], blank: int | None, word_boundary: str | None
    ) -> None:
        if isinstance(vocabulary, (str, bytes)):
            raise TypeError(
                f"{_OPERATION}: vocabulary must be the tokens by id, got one string: "
                "pass list(vocabulary)"
            )
        self.tokens = list(vocabulary)
        for id, token in enumerate(self.tokens):
            if not isinstance(token, str):
                raise TypeError(
                    f"{_OPERATION}: vocabulary must be strings by id, got {token!r} at {id}"
                )
        self.blank = self._blank(blank)
        self.tokens[self.blank] = ""
        self._check_tokens()
        self.mark = ""
        self.boundary = -1
        self._find_boundary(word_boundary)
        mark = self.mark
        self.begins = np.array([bool(mark) and t.startswith(mark) for t in self.tokens])
        self.texts = [
            "" if id == self.boundary else token.removeprefix(mark) if self.begins[id] else token
            for id, token in enumerate(self.tokens)
        ]
        codes, self.counts = codes_of(self.texts)
        self.codes = codes
        self.letters = np.unique(codes)

    def _blank(self, blank: int | None) -> int:
        if blank is not None:
            last = len(self.tokens) - 1
            return check_whole(_OPERATION, "blank", blank, 0, last, "a token of the vocabulary")
        places = [id for id, token in enumerate(self.tokens) if token == ""]
        if len(places) != 1:
            raise ValueError(
                f"{_OPERATION}: vocabulary must have '' once, for the blank, got it "
                f"{len(places)} times: pass blank=, its id"
            )
        return places[0]

    def _check_tokens(self) -> None:
        seen: dict[str, int] = {}
        for id, token in enumerate(self.tokens):
            if id == self.blank:
                continue
            if token == "":
                raise ValueError(
                    f"{_OPERATION}: vocabulary must have '' for the blank ({self.blank}) alone, "
                    f"got it at {id} too: name that token"
                )
            if token in seen:
                raise ValueError(
                    f"{_OPERATION}: vocabulary must have each token once, got {token!r} at "
                    f"{seen[token]} and {id}: rename one of them"
                )
            seen[token] = id

    def _find_boundary(self, wanted: str | None) -> None:
        if wanted is None:
            return
        if not isinstance(wanted, str) or wanted == "":
            raise TypeError(
                f"{_OPERATION}: word_boundary must be a token, the character that words begin "
                f"with, 'auto' or None, got {wanted!r}"
            )
        candidates = (" ", "▁", "|") if wanted == _AUTOMATIC else (wanted,)
        for candidate in candidates:
            longer = any(t.startswith(candidate) and t != candidate for t in self.tokens)
            if longer:
                self.mark = candidate
                return
            if candidate in self.tokens:
                self.boundary = self.tokens.index(candidate)
                return
        if wanted != _AUTOMATIC:
            raise ValueError(
                f"{_OPERATION}: word_boundary must be a token of the vocabulary or what some of "
                f"them begin with, got {wanted!r}: pass None for a vocabulary without words"
            )

    @property
    def has_words(self) -> bool:
        return bool(self.mark) or self.boundary >= 0

    def text(self, tokens: Sequence[int]) -> str:
        """Words with one space between them."""
        parts = [
            " " + self.texts[token]
            if token == self.boundary or self.begins[token]
            else self.texts[token]
            for token in tokens
        ]
        text = "".join(parts)
        return " ".join(part for part in text.split(" ") if part) if self.has_words else text

    def impossible(self, words: Sequence[str]) -> dict[str, str]:
        """Words that no tokens spell -> the first letter where none goes on."""
        pairs = list(zip(self.texts, self.begins.tolist(), strict=True))
        inner = {text for text, begins in pairs if text and not begins}
        # With a mark, what can begin a word is not what can go on with it.
        first = {text for text, begins in pairs if text and begins} if self.mark else inner
        alone = any(begins and not text for text, begins in pairs)
        longest = max(map(len, self.texts), default=0)
        found: dict[str, str] = {}
        for word in words:
            if word[:1] in (inner if alone else first) and inner.issuperset(word[1:]):
                continue  # letter by letter
            stuck = _stuck(word, first, inner, longest, alone)
            if stuck is not None:
                found[word] = stuck
        return found


def _stuck(word: str, first: set[str], inner: set[str], longest: int, alone: bool) -> str | None:
    """The letter that no way of spelling gets past; None where one reaches the end."""
    reached = [False] * (len(word) + 1)
    reached[0] = alone
    farthest = 0
    for begin in range(len(word)):
        if begin and not reached[begin]:
            continue
        for end in range(begin + 1, min(begin + longest, len(word)) + 1):
            piece = word[begin:end]
            if (begin == 0 and piece in first) or ((begin or alone) and piece in inner):
                reached[end] = True
                farthest = max(farthest, end)
    return None if reached[-1] else word[farthest]

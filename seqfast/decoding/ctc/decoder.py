"""CTC decoding into words, with a language model, a lexicon and hotwords."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seqfast.decoding.ctc.spelling import Spelling
from seqfast.decoding.ctc.transcripts import CtcTranscripts
from seqfast.decoding.ctc.words import HotwordTrees, codes_of, hotword_rows, lm_words, word_tree
from seqfast.decoding.ngram import END, NGram
from seqfast.ops.base.checks import (
    FINITE,
    NOT_NEGATIVE,
    check_choice,
    check_flag,
    check_number,
    check_whole,
)
from seqfast.ops.ctc_decoder import Language, Model, Search
from seqfast.ops.ctc_decoder.inputs import Chunk, chunk_of

Array = Any  # a numpy.ndarray or a torch.Tensor
Hotwords = Mapping[str, float] | Iterable[Any]
_OPERATION = "CtcDecoder"
_SPACES = (" ", "|", "▁", "<space>")  # what models of characters call the space


class CtcDecoder:
    """From log-probabilities per frame to words: prefix beam search with a language beside it.

    A prefix is ranked by log P(prefix | frames) + alpha * log P_lm(words) + beta * words, and what
    hotwords add (Hannun et al. 2014). A word is scored when it ends. White space before, behind or
    twice between words says nothing: such transcripts are one.

    Args:
        vocabulary: the tokens by id, "" for the blank.
        lm: an `NGram`, of words or of tokens; or anything to be called with
            `(prefixes [n, longest], lengths [n], rows [n])` that returns [n, vocab], the
            log-probability of each token after each prefix (rows: of the batch), and perhaps has
            `final`, of the same arguments, that returns [n]. None: no model.
        lexicon: only these words may appear, and none may be cut off at the end. None: any.
        alpha: weight of the language model, at least 0.
        beta: added for each word (of a model of tokens: for each token).
        unknown_score: added for each word that the model does not know, and already while a word
            in progress can only become such a one. Natural logarithm, not weighted by alpha.
        known_words: the words that count as known. None: those of the model.
        lm_unit: "word" or "token", what an `NGram` is of. A model of tokens may call the space "|",
            "▁" or "<space>".
        sentence_ends: whether transcripts begin after `<s>` and end with `</s>`.
        hotword_weight: added for each hotword that has no weight of its own; its beginnings get
            their share.
        beam_size: prefixes kept after each frame.
        n_best: transcripts of each row.
        top_n: of each frame only so many of the most probable tokens are looked at. None: all.
        min_log_prob: and only those that reach it, and always the best. None: all.
        beam_threshold: prefixes more than this below the best are dropped. None: none.
        blank: its id. None: where the vocabulary has "".
        word_boundary: the token between words (" ", "|"), or the character that begins a word in
            some tokens ("▁" of sentencepiece). "auto": the first of " ", "▁" and "|" that is there.
            None: no words, for languages that do not part them.

    Raises:
        TypeError: a wrong type.
        ValueError: a vocabulary without a blank or with a token twice, a word that its tokens
            cannot spell, a number out of range.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import CtcDecoder, NGram
        >>> lm = NGram.train(["a b", "a b a"], order=2)
        >>> decoder = CtcDecoder(["", " ", "a", "b"], lm=lm)
        >>> frames = [[0.1, 0.1, 0.7, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]]
        >>> decoder(np.log([frames])).texts
        ['a b']
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        lm: NGram | Model | None = None,
        lexicon: Iterable[str] | None = None,
        alpha: float = 0.5,
        beta: float = 1.0,
        unknown_score: float = -10.0,
        known_words: Iterable[str] | None = None,
        lm_unit: str = "word",
        sentence_ends: bool = True,
        hotword_weight: float = 10.0,
        beam_size: int = 100,
        n_best: int = 1,
        top_n: int | None = None,
        min_log_prob: float | None = None,
        beam_threshold: float | None = None,
        blank: int | None = None,
        word_boundary: str | None = "auto",
    ) -> None:
        self._spelling = Spelling(vocabulary, blank, word_boundary)
        check_choice(_OPERATION, "lm_unit", lm_unit, ("word", "token"))
        check_flag(_OPERATION, "sentence_ends", sentence_ends)
        self.hotword_weight = check_number(_OPERATION, "hotword_weight", hotword_weight, FINITE)
        self._model: Model | None = None
        ngram = lm if isinstance(lm, NGram) else None
        if lm is not None and ngram is None:
            if not callable(lm):
                raise TypeError(
                    f"{_OPERATION}: lm must be an NGram or callable, got {type(lm).__name__}: "
                    "NGram.load reads ARPA files"
                )
            self._model = lm
        words = None if lexicon is None else self._lexicon(lexicon)
        self._letters = self._spelling.letters
        self._language = self._language_of(
            ngram if lm_unit == "word" else None,
            ngram if lm_unit == "token" else None,
            words,
            known_words,
            sentence_ends,
        )
        self._set_weights(alpha, beta, unknown_score)
        self._options: dict[str, Any] = {
            "blank": self._spelling.blank,
            "beam_size": beam_size,
            "n_best": n_best,
            "top_n": top_n,
            "min_log_prob": min_log_prob,
            "beam_threshold": beam_threshold,
            "model": self._model,
            "operation": _OPERATION,
        }
        Search(0, self._language, **self._options)  # for its checks

    def __call__(
        self, log_probs: Array, lengths: Any = None, *, hotwords: Hotwords | None = None
    ) -> CtcTranscripts:
        """Decodes whole utterances.

        Args:
            log_probs: [batch, frames, vocab] as `log_softmax` gives them, a NumPy array or a torch
                tensor on the CPU.
            lengths: [batch] integers, frames of each row, in an array, a list or a tuple.
                None: all.
            hotwords: words that are to be heard, for all rows, or a list of words for each row;
                with weights where they are a mapping. Phrases count word by word.

        Returns:
            The transcripts.

        Raises:
            TypeError: a wrong type or dtype.
            ValueError: a wrong shape or length, what is no log-probability, a hotword that the
                vocabulary cannot spell.
        """
        chunk = chunk_of(_OPERATION, log_probs, lengths, None, len(self._spelling.tokens))
        search = self._search(chunk.batch, hotwords)
        search.feed(chunk)
        return CtcTranscripts(search.results(finish=True), self._spelling)

    def stream(self, batch: int = 1, *, hotwords: Hotwords | None = None) -> CtcStream:
        """Begins to decode frames as they come.

        Args:
            batch: how many utterances at a time.
            hotwords: as for a call.

        Returns:
            What the chunks are fed to. The final result is the same bits however they are cut.

        Raises:
            TypeError: a wrong type.
            ValueError: a batch below 1, or a hotword that the vocabulary cannot spell.
        """
        check_whole(f"{_OPERATION}.stream", "batch", batch, 1)
        search = self._search(batch, hotwords)
        search.operation = f"{_OPERATION}.stream"
        return CtcStream(search, self._spelling)

    def __repr__(self) -> str:
        parts = [f"{len(self._spelling.tokens)} tokens"]
        if self._language.ngram is not None:
            parts.append("n-gram model")
        if self._model is not None:
            parts.append("callable model")
        if self._language.lexicon:
            parts.append("lexicon")
        return f"CtcDecoder({', '.join(parts)}, beam_size={self._options['beam_size']})"

    def _with(self, **options: Any) -> CtcDecoder:
        """The same words, searched with other options."""
        other = copy.copy(self)
        other._options = self._options | options
        Search(0, other._language, **other._options)
        return other

    def _search(self, batch: int, hotwords: Hotwords | None) -> Search:
        language = self._language
        if hotwords is not None:
            language = self._with_hotwords(batch, hotwords)
        return Search(batch, language, **self._options)

    def _set_weights(self, alpha: float, beta: float, unknown_score: float) -> None:
        unknown = check_number(_OPERATION, "unknown_score", unknown_score, FINITE)
        self._language = dataclasses.replace(
            self._language,
            alpha=check_number(_OPERATION, "alpha", alpha, NOT_NEGATIVE),
            beta=check_number(_OPERATION, "beta", beta, FINITE),
            unknown_word=unknown,
            unknown_part=unknown,
        )

    def _lexicon(self, lexicon: Iterable[str]) -> list[str]:
        if isinstance(lexicon, (str, bytes)):
            raise TypeError(f"{_OPERATION}: lexicon must be words, got one string: pass a list")
        words = list(dict.fromkeys(lexicon))
        for word in words:
            if not isinstance(word, str):
                raise TypeError(f"{_OPERATION}: lexicon must be words, got {word!r}")
            if not word or word.split() != [word]:
                raise ValueError(
                    f"{_OPERATION}: lexicon must be words without white space, got {word!r}"
                )
        if not words:
            raise ValueError(f"{_OPERATION}: lexicon must have words, got none: pass None for any")
        if not self._spelling.has_words:
            raise ValueError(
                f"{_OPERATION}: lexicon needs words, but no token parts them: pass word_boundary="
            )
        self._check_spelling(
            "lexicon", words, "leave them out, or write them as the vocabulary does"
        )
        return words

    def _check_spelling(self, name: str, words: Sequence[str], remedy: str) -> None:
        impossible = self._spelling.impossible(words)
        if impossible:
            shown = ", ".join(f"{word!r} (at {at!r})" for word, at in list(impossible.items())[:3])
            more = f" and {len(impossible) - 3} more" if len(impossible) > 3 else ""
            raise ValueError(
                f"{_OPERATION}: {name} must be words that the vocabulary's tokens spell, "
                f"got {shown}{more}: {remedy}"
            )

    def _language_of(
        self,
        word_lm: NGram | None,
        token_lm: NGram | None,
        lexicon: list[str] | None,
        known: Iterable[str] | None,
        sentence_ends: bool,
    ) -> Language:
        spelling = self._spelling
        if word_lm is not None:
            self._check_lm_words(word_lm)
            strays = codes_of(lm_words(word_lm))[0]
            self._letters = np.union1d(self._letters, strays)
        counts = np.where(np.arange(len(spelling.tokens)) == spelling.blank, 0, spelling.counts)
        language = Language(
            letter_starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            letters=np.searchsorted(self._letters, spelling.codes).astype(np.int32),
            begins=spelling.begins.astype(np.uint8) if spelling.mark else None,
            boundary=spelling.boundary,
            lexicon=lexicon is not None,
        )
        lm = word_lm or token_lm
        if lm is not None:
            language = dataclasses.replace(
                language,
                ngram=lm.tables(),
                start=lm.start() if sentence_ends else 0,
                unknown=int(lm.ids(["<unk>"])[0]),
                end=int(lm.ids([END])[0]) if sentence_ends else -1,
                token_words=None if token_lm is None else self._token_words(token_lm),
            )
        if word_lm is not None or lexicon is not None:
            tree, word_of, flags = word_tree(word_lm, known, lexicon or [], self._letters)
            language = dataclasses.replace(language, words=tree, word_of=word_of, flags=flags)
        return language

    def _check_lm_words(self, lm: NGram) -> None:
        if not self._spelling.has_words:
            raise ValueError(
                f"{_OPERATION}: lm is of words, but no token of the vocabulary parts them: pass "
                "word_boundary=, or lm_unit='token'"
            )
        known = frozenset(map(chr, self._spelling.letters.tolist()))
        words = lm_words(lm)
        if words and not any(known.issuperset(word) for word in words):
            raise ValueError(
                f"{_OPERATION}: lm must have words that the vocabulary can spell, got "
                f"{words[0]!r} and {len(words) - 1} more that it cannot: are they written "
                "differently (upper case)? A model of tokens needs lm_unit='token'"
            )

    def _token_words(self, lm: NGram) -> np.ndarray[Any, Any]:
        names = list(self._spelling.tokens)
        known = frozenset(lm.vocabulary)
        for id, name in enumerate(names):
            if name in _SPACES and name not in known:
                names[id] = next((space for space in _SPACES if space in known), name)
        if not known.intersection(names):
            raise ValueError(
                f"{_OPERATION}: lm must be of the vocabulary's tokens, got a model that knows none "
                "of them: train it on sequences of tokens, or pass lm_unit='word'"
            )
        return lm.ids(names).astype(np.int32)

    def _with_hotwords(self, batch: int, hotwords: Hotwords) -> Language:
        rows = hotword_rows(_OPERATION, hotwords, self.hotword_weight, batch)
        words = sorted({word for row in rows for word in row})
        if not words:
            return self._language
        if not self._spelling.has_words:
            raise ValueError(
                f"{_OPERATION}: hotwords need words, but no token parts them: pass word_boundary="
            )
        self._check_spelling("hotwords", words, "leave them out")
        trees = HotwordTrees(rows, self._letters)
        return dataclasses.replace(
            self._language,
            hotwords=trees.tree,
            hot_roots=trees.roots,
            hot_parts=trees.parts,
            hot_words=trees.whole,
        )


class CtcStream:
    """Utterances that are decoded as their frames come; made by `CtcDecoder.stream`.

    Args:
        search: the search, at its beginning.
        spelling: the vocabulary.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import CtcDecoder
        >>> stream = CtcDecoder(["", "a", " "]).stream(1)
        >>> stream.step(np.log([[[0.1, 0.8, 0.1]]])).texts
        ['a']
        >>> stream.finish().texts
        ['a']
    """

    def __init__(self, search: Search, spelling: Spelling) -> None:
        self._search, self._spelling = search, spelling
        self._over = ""

    def step(self, log_probs: Array, lengths: Any = None) -> CtcTranscripts:
        """Reads the next frames.

        Args:
            log_probs: [batch, frames, vocab]; any number of frames.
            lengths: [batch] integers, frames of each row in this chunk. None: all.

        Returns:
            What would be the best so far: the last word may be cut off.

        Raises:
            TypeError: a wrong type or dtype; nothing has been read then.
            ValueError: a wrong shape or batch, what is no log-probability: nothing has been read
                then; and after `finish`.
        """
        self._check_open("step")
        chunk: Chunk = self._search.chunk(log_probs, lengths)
        self._over = "an error in its language model"
        self._search.feed(chunk)
        found = self._search.results(finish=False)
        self._over = ""
        return CtcTranscripts(found, self._spelling)

    def finish(self) -> CtcTranscripts:
        """Ends all words and sentences.

        Returns:
            What one call with all frames gives.

        Raises:
            ValueError: where the stream has ended before.
        """
        self._check_open("finish")
        found = self._search.results(finish=True)
        self._over = "finish()"
        return CtcTranscripts(found, self._spelling)

    def _check_open(self, method: str) -> None:
        if self._over:
            raise ValueError(
                f"{self._search.operation}: {method} must not be called after {self._over}: begin "
                "another one with decoder.stream(batch)"
            )

"""CTC decoding into words in plain Python: what `seqfast.ops.ctc_decoder` must return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["Transcript", "Words", "ctc_decode"]

Array = np.ndarray[Any, Any]
Prefix = tuple[int, ...]
Spans = tuple[tuple[int, int], ...]
_NEVER = -np.inf


class Transcript(NamedTuple):
    """One text of a row; see the comment beside each field.

    Example:
        >>> from seqfast.reference.ctc_decoder import Transcript
        >>> Transcript("a", (1,), -0.5, 0.0, ((0, 0),)).text
        'a'
    """

    text: str  # words with a space between them
    tokens: Prefix  # of the best of the prefixes that are this text
    score: float  # of all of them
    language_score: float  # what Words.score gives, without alignments
    spans: Spans  # first and last frame of each token in the best alignment


class LanguageModel(Protocol):
    """What is asked of a model of words: `seqfast.decoding.NGram` has it."""

    def logprob(self, word: str, context: Sequence[str]) -> float: ...


@dataclass
class Words:
    """Tokens as words, and what words are worth; the names are those of `CtcDecoder`.

    Example:
        >>> from seqfast.reference.ctc_decoder import Words
        >>> Words(["", " ", "a"], boundary=" ").split((2, 1, 2))
        (['a'], 'a')
    """

    vocabulary: Sequence[str]
    """The tokens by id."""
    boundary: str = ""
    """The token that ends words; "": none."""
    mark: str = ""
    """What tokens that begin a word begin with; "": none does."""
    lm: LanguageModel | None = None
    """A model of words."""
    alpha: float = 0.5
    """The model's weight."""
    beta: float = 1.0
    """Added for each word that the model scores."""
    unknown_score: float = -10.0
    """Added for each word that is not known, and for the part of a word that begins none."""
    known: frozenset[str] = frozenset()
    """The words that count as known."""
    lexicon: frozenset[str] | None = None
    """The only words that may be; None: any."""
    hotwords: Mapping[str, float] = field(default_factory=dict)
    """Words that add something."""
    sentence_ends: bool = True
    """Whether transcripts begin after `<s>` and end with `</s>`."""

    def split(self, prefix: Prefix) -> tuple[list[str], str]:
        """The words of a prefix that have ended, and the part of one that has not."""
        words, part = [], ""
        for id in prefix:
            token = self.vocabulary[id]
            ends = bool(self.boundary) and token == self.boundary
            begins = bool(self.mark) and token.startswith(self.mark)
            if (ends or begins) and part:
                words.append(part)
                part = ""
            part += "" if ends else token.removeprefix(self.mark) if begins else token
        return words, part

    def text(self, prefix: Prefix) -> str:
        """The words with one space between them."""
        words, part = self.split(prefix)
        return " ".join([*words, part] if part else words)

    def score(self, prefix: Prefix, *, finished: bool) -> float:
        """log P_lm of the words, weighted, and all that is added; -inf for what must not be."""
        words, part = self.split(prefix)
        if finished:
            words, part = ([*words, part] if part else words), ""
        context = ["<s>"] if self.sentence_ends else []
        score = 0.0
        for word in words:
            if self.lexicon is not None and word not in self.lexicon:
                return _NEVER
            if self.lm is not None:
                score += self.alpha * self.lm.logprob(word, context) + self.beta
                score += 0.0 if word in self.known else self.unknown_score
            score += self.hotwords.get(word, 0.0)
            context.append(word)
        if finished and self.lm is not None and self.sentence_ends:
            score += self.alpha * self.lm.logprob("</s>", context)
        return score + self._part_score(part)

    def _part_score(self, part: str) -> float:
        """What is expected of the word that it will be."""
        if not part:
            return 0.0
        if self.lexicon is not None and not any(w.startswith(part) for w in self.lexicon):
            return _NEVER
        shares = [
            weight * len(part) / len(word)
            for word, weight in self.hotwords.items()
            if word.startswith(part)
        ]
        if shares:
            return max(shares)
        if self.lm is None or any(word.startswith(part) for word in self.known):
            return 0.0
        return self.unknown_score


@dataclass
class State:
    """What a beam knows of a prefix, with the letters of docs/equations.md."""

    b: float = _NEVER  # log-probability of all alignments that end in a blank
    e: float = _NEVER  # of those that end in its last token
    best_b: tuple[float, Spans] = (_NEVER, ())
    best_e: tuple[float, Spans] = (_NEVER, ())

    @property
    def s(self) -> float:
        return float(np.logaddexp(self.b, self.e))

    @property
    def best(self) -> tuple[float, Spans]:
        return max(self.best_b, self.best_e, key=lambda best: best[0])


def ctc_decode(
    log_probs: Array,
    lengths: Sequence[int] | None = None,
    *,
    words: Words,
    blank: int = 0,
    beam_size: int = 100,
    n_best: int = 1,
    top_n: int | None = None,
    min_log_prob: float | None = None,
    beam_threshold: float | None = None,
) -> list[list[Transcript]]:
    """Prefix beam search with a language beside it (Hannun et al. 2014).

    b(l) and e(l) are the sums over the alignments of a prefix l that end in a blank and in its last
    token, s = b + e. A frame with log-probabilities p adds
    b'(l) = p(blank) s(l), e'(l) = p(last) e(l) and e'(l c) = p(c) s(l), but p(c) b(l) where c is
    the last token of l. A boundary after a boundary, or before the first word, is the same one:
    e'(l) = p(boundary) s(l). The `beam_size` prefixes with the highest
    log s(l) + words.score(l) stay.

    Args:
        log_probs: [batch, frames, vocab] floating.
        lengths: [batch] integers, frames of each row. None: all.
        words: what a prefix is worth.
        blank: the blank's token.
        beam_size: prefixes kept after each frame.
        n_best: texts returned for each row.
        top_n: tokens of a frame that count. None: all.
        min_log_prob: of these the ones that reach it, and always the best. None: all.
        beam_threshold: prefixes more than this below the best are dropped. None: none.

    Returns:
        For each row its best texts. Prefixes that are the same text are added up.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.ctc_decoder import Words, ctc_decode
        >>> log_probs = np.log([[[0.1, 0.1, 0.8], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]])
        >>> ctc_decode(log_probs, words=Words(["", " ", "a"], boundary=" "))[0][0].text
        'a'
    """
    counts = [log_probs.shape[1]] * len(log_probs) if lengths is None else lengths
    results = []
    for row, count in zip(log_probs.astype(np.float64), counts, strict=True):
        beam: dict[Prefix, State] = {(): State(b=0.0, best_b=(0.0, ()))}
        for frame, logp in enumerate(row[:count]):
            allowed = _allowed(logp, top_n, min_log_prob)
            logp = np.where(allowed, logp, _NEVER)
            beam = _pruned(
                _after_frame(beam, logp, frame, words, blank), words, beam_size, beam_threshold
            )
        results.append(_texts(beam, words)[:n_best])
    return results


def _after_frame(
    beam: dict[Prefix, State], logp: Array, frame: int, words: Words, blank: int
) -> dict[Prefix, State]:
    new: dict[Prefix, State] = {}
    for prefix, state in beam.items():
        _, part = words.split(prefix)
        last = words.vocabulary[prefix[-1]] if prefix else words.boundary
        # A blank.
        here = new.setdefault(prefix, State())
        here.b = np.logaddexp(here.b, state.s + logp[blank])
        here.best_b = _better(here.best_b, (state.best[0] + logp[blank], state.best[1]))
        for token, log_prob in enumerate(logp):
            if token == blank:
                continue
            name = words.vocabulary[token]
            if words.boundary and name == words.boundary and not part:
                # The boundary again.
                score, spans = state.best
                _join(here, state.s + log_prob, (score + log_prob, _longer(spans, frame)))
                continue
            if name == last:
                # The last token goes on.
                score, spans = state.best_e
                _join(here, state.e + log_prob, (score + log_prob, _longer(spans, frame)))
            # Another token; after its own like only behind a blank.
            source, (score, spans) = (
                (state.b, state.best_b) if name == last else (state.s, state.best)
            )
            there = new.setdefault((*prefix, token), State())
            best = (score + log_prob, (*spans, (frame, frame)))
            _join(there, source + log_prob, best)
    return new


def _join(state: State, e: float, best: tuple[float, Spans]) -> None:
    state.e = float(np.logaddexp(state.e, e))
    state.best_e = _better(state.best_e, best)


def _better(one: tuple[float, Spans], other: tuple[float, Spans]) -> tuple[float, Spans]:
    return other if other[0] > one[0] else one


def _longer(spans: Spans, frame: int) -> Spans:
    return (*spans[:-1], (spans[-1][0], frame)) if spans else ()


def _pruned(
    beam: dict[Prefix, State], words: Words, beam_size: int, threshold: float | None
) -> dict[Prefix, State]:
    scores = {
        prefix: state.s + words.score(prefix, finished=False) for prefix, state in beam.items()
    }
    order = sorted(beam, key=lambda prefix: -scores[prefix])[:beam_size]
    lowest = _NEVER if threshold is None or not order else scores[order[0]] - threshold
    return {p: beam[p] for p in order if scores[p] > _NEVER and scores[p] >= lowest}


def _texts(beam: dict[Prefix, State], words: Words) -> list[Transcript]:
    """The texts, the best first; of prefixes that are the same text, the sum and the best one."""
    groups: dict[str, list[tuple[float, Prefix]]] = {}
    for prefix, state in beam.items():
        score = state.s + words.score(prefix, finished=True)
        if score > _NEVER:
            groups.setdefault(words.text(prefix), []).append((score, prefix))
    found = []
    for text, members in groups.items():
        _, prefix = max(members, key=lambda member: member[0])
        total = float(np.logaddexp.reduce([score for score, _ in members]))
        language = words.score(prefix, finished=True)
        found.append(Transcript(text, prefix, total, language, beam[prefix].best[1]))
    return sorted(found, key=lambda transcript: -transcript.score)


def _allowed(logp: Array, top_n: int | None, min_log_prob: float | None) -> Array:
    ranked = np.argsort(-logp, kind="stable")[:top_n]
    allowed = np.zeros(len(logp), np.bool_)
    allowed[ranked] = True if min_log_prob is None else logp[ranked] >= min_log_prob
    allowed[ranked[0]] = True
    return allowed

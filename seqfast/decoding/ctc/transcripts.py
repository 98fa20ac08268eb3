"""What a CTC decoder has found: texts, words with their frames, scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from seqfast.decoding.ctc.spelling import Spelling
from seqfast.ops.ctc_decoder import Transcripts

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Timed:
    """A token or a word, and where it is heard; see the comment beside each field.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import CtcDecoder
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> CtcDecoder(["", "a", " "])(log_probs).words[0]
        [Timed(text='a', first_frame=0, last_frame=1, confidence=0.8)]
    """

    text: str  # of a token its name
    first_frame: int  # counted from the first frame of all
    last_frame: int  # the last frame of its last token; blanks may follow
    # Of a token exp of the mean log-probability of its frames; of a word its least sure token's.
    confidence: float  # from 0 to 1

    def __repr__(self) -> str:
        return (
            f"Timed(text={self.text!r}, first_frame={self.first_frame}, "
            f"last_frame={self.last_frame}, confidence={self.confidence:.4g})"
        )


@dataclass(frozen=True)
class CtcTranscript:
    """One transcript; see the comment beside each field.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import CtcDecoder
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> CtcDecoder(["", "a", " "])(log_probs).n_best[0][0].text
        'a'
    """

    text: str
    words: list[Timed]
    tokens: list[Timed]  # without those that only end a word
    score: float  # the sum of the two below
    acoustic_score: float  # log-probability of all alignments that the search has kept
    language_score: float  # of the language model and hotwords, weighted


class CtcTranscripts:
    """Transcripts of a batch. The best of each row: `texts` and `words`; all of them: `n_best`.

    Args:
        found: what the search gave.
        spelling: the vocabulary.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import CtcDecoder
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> CtcDecoder(["", "a", " "])(log_probs).texts
        ['a']
    """

    def __init__(self, found: Transcripts, spelling: Spelling) -> None:
        self._found, self._spelling = found, spelling

    @property
    def scores(self) -> Array:
        """[batch, n_best], falling; -inf where there are fewer transcripts."""
        return self._found.scores

    @property
    def language_scores(self) -> Array:
        """[batch, n_best], of the language model and hotwords, weighted."""
        return self._found.language_scores

    @property
    def acoustic_scores(self) -> Array:
        """[batch, n_best], log-probabilities of the alignments."""
        return self._found.scores - self._found.language_scores

    @property
    def tokens(self) -> Array:
        """[batch, n_best, longest] ids; -1 behind the last."""
        return self._found.tokens

    @property
    def lengths(self) -> Array:
        """[batch, n_best], tokens of each transcript."""
        return self._found.lengths

    @property
    def timesteps(self) -> Array:
        """[batch, n_best, longest], the first frame of each token; -1 behind the last."""
        return self._found.firsts

    @cached_property
    def texts(self) -> list[str]:
        """The best text of each row; '' where there is none, and the score is -inf."""
        return [
            self._spelling.text(row[0, : counts[0]].tolist())
            for row, counts in zip(self._found.tokens, self._found.lengths, strict=True)
        ]

    @cached_property
    def words(self) -> list[list[Timed]]:
        """The words of the best text of each row."""
        return [self._words(self._timed(row, 0)) for row in range(len(self._found.tokens))]

    @cached_property
    def n_best(self) -> list[list[CtcTranscript]]:
        """All transcripts of each row, the best first; as many as were found."""
        rows, width = self._found.scores.shape
        return [
            [
                self._transcript(row, place)
                for place in range(width)
                if self._found.scores[row, place] > -math.inf
            ]
            for row in range(rows)
        ]

    def __repr__(self) -> str:
        rows, n_best = self._found.scores.shape
        text = f"CtcTranscripts({rows} rows, {n_best} each"
        if rows:
            best = self.texts[0]
            shown = best if len(best) <= 40 else best[:37] + "..."
            text += f"; first: {shown!r} {self._found.scores[0, 0]:.4g}"
        return text + ")"

    def _transcript(self, row: int, place: int) -> CtcTranscript:
        found, timed = self._found, self._timed(row, place)
        score, language = float(found.scores[row, place]), float(found.language_scores[row, place])
        ids = found.tokens[row, place, : found.lengths[row, place]].tolist()
        return CtcTranscript(
            text=self._spelling.text(ids),
            words=self._words(timed),
            tokens=[token for id, token in timed if id != self._spelling.boundary],
            score=score,
            acoustic_score=score - language,
            language_score=language,
        )

    def _timed(self, row: int, place: int) -> list[tuple[int, Timed]]:
        found, names = self._found, self._spelling.tokens
        fields = (found.tokens, found.firsts, found.lasts, found.confidences)
        count = found.lengths[row, place]
        columns = [field[row, place, :count].tolist() for field in fields]
        return [
            (id, Timed(names[id], first, last, math.exp(mean)))
            for id, first, last, mean in zip(*columns, strict=True)
        ]

    def _words(self, timed: list[tuple[int, Timed]]) -> list[Timed]:
        groups: list[list[tuple[int, Timed]]] = [[]]
        for id, token in timed:
            if id == self._spelling.boundary or self._spelling.begins[id]:
                groups.append([])
            if id != self._spelling.boundary:
                groups[-1].append((id, token))
        words = []
        for group in groups:
            text = "".join(self._spelling.texts[id] for id, _ in group)
            if text:
                confidence = min(token.confidence for _, token in group)
                first, last = group[0][1], group[-1][1]
                words.append(Timed(text, first.first_frame, last.last_frame, confidence))
        return words

"""BLEU of translations, through sacrebleu, so that scores can be compared with other people's."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqfast.ops.base.checks import check_choice

# Those of sacrebleu's that neither download a model nor need another package.
_TOKENIZERS = ("13a", "intl", "zh", "char", "none")


@dataclass(frozen=True)
class Bleu:
    """A BLEU score with its parts, and the signature that says how it was computed.

    `str()` prints them, `float()` is the score.

    Attributes:
        score: in per cent.
        signature: sacrebleu's.
        precisions: of n-grams of 1 to 4 tokens, in per cent.
        counts: n-grams of 1 to 4 tokens that match.
        totals: n-grams of 1 to 4 tokens in the hypotheses.
        brevity_penalty: from 0 to 1.
        hypothesis_length: tokens of the whole corpus.
        reference_length: tokens of the whole corpus.

    Example:
        >>> import sacrebleu
        >>> from seqfast.decoding import bleu
        >>> bleu(["the cat sat on the mat"], ["the cat sat on the mat"]).brevity_penalty
        1.0
    """

    score: float
    signature: str
    precisions: tuple[float, ...]
    counts: tuple[int, ...]
    totals: tuple[int, ...]
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int

    def __float__(self) -> float:
        return self.score

    def __str__(self) -> str:
        precisions = "/".join(f"{value:.1f}" for value in self.precisions)
        return (
            f"BLEU {self.score:.2f} {precisions} (brevity penalty {self.brevity_penalty:.3f}, "
            f"{self.hypothesis_length} tokens against {self.reference_length}) {self.signature}"
        )


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str | None]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> Bleu:
    """Corpus BLEU (Papineni et al. 2002) as sacrebleu (Post 2018) computes it.

    Args:
        hypotheses: detokenised sentences, since sacrebleu splits them itself.
        references: a list with one sentence for each hypothesis, or, as in sacrebleu, several such
            lists, with None where a sentence has fewer references than others.
        tokenize: "13a" (WMT's), "intl", "zh", "char" or "none".
        lowercase: case does not count.

    Returns:
        The score with its parts.

    Raises:
        ImportError: sacrebleu is missing (`pip install seqfast[decoding]`).
        TypeError: arguments that are not lists of strings.
        ValueError: no sentences, lists of different length, a sentence without a reference or an
            unknown tokenizer.

    Example:
        >>> import sacrebleu
        >>> from seqfast.decoding import bleu
        >>> round(bleu(["The cat sat on the mat."], ["The cat sat on a mat."]).score, 2)
        48.89
    """
    check_choice("bleu", "tokenize", tokenize, _TOKENIZERS)
    sentences = _sentences("hypotheses", hypotheses)
    for i, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"bleu: hypotheses[{i}] must be a string, got {_kind(sentence)}")
    if not sentences:
        raise ValueError("bleu: hypotheses must have at least one sentence, got none")
    streams = _streams(references, len(sentences))
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ImportError("bleu needs sacrebleu: pip install seqfast[decoding]") from error
    metric: Any = BLEU(tokenize=tokenize, lowercase=lowercase)
    return _made(metric, metric.corpus_score(sentences, streams))


def _made(metric: Any, found: Any) -> Bleu:
    return Bleu(
        float(found.score),
        str(metric.get_signature()),
        tuple(map(float, found.precisions)),
        tuple(map(int, found.counts)),
        tuple(map(int, found.totals)),
        float(found.bp),
        int(found.sys_len),
        int(found.ref_len),
    )


def _kind(value: object) -> str:
    return type(value).__name__


def _sentences(name: str, value: object) -> list[object]:
    if isinstance(value, (str, bytes)):
        # Each character would count as a sentence.
        raise TypeError(f"bleu: {name} must be a list of sentences, got a single {_kind(value)}")
    try:
        return list(value)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise TypeError(f"bleu: {name} must be a list of sentences, got {_kind(value)}") from None


def _streams(references: object, count: int) -> list[list[str | None]]:
    """The references in sacrebleu's form: lists as long as the hypotheses."""
    given = _sentences("references", references)
    if not given:
        raise ValueError(f"bleu: references must have {count} sentences, got none")
    if isinstance(given[0], str):
        named = {"references": given}
    else:
        named = {f"references[{i}]": _sentences(f"references[{i}]", v) for i, v in enumerate(given)}
    streams: list[list[str | None]] = []
    for name, stream in named.items():
        if len(stream) != count:
            raise ValueError(
                f"bleu: {name} must have a sentence for each of {count} hypotheses, "
                f"got {len(stream)}"
            )
        checked: list[str | None] = []
        for i, sentence in enumerate(stream):
            if sentence is not None and not isinstance(sentence, str):
                wanted = "must be a string" if len(named) == 1 else "must be a string or None"
                raise TypeError(f"bleu: {name}[{i}] {wanted}, got {_kind(sentence)}")
            checked.append(sentence)
        streams.append(checked)
    for i, choices in enumerate(zip(*streams, strict=True)):
        if all(choice is None for choice in choices):
            raise ValueError(f"bleu: hypotheses[{i}] must have a reference, got None in all lists")
    return streams


def sentence_bleu(
    hypothesis: str,
    references: str | Sequence[str],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> Bleu:
    """BLEU of one sentence, smoothed exponentially, as sacrebleu computes it. Use it to compare
    hypotheses of the same sentence (as in `mbr`), not systems.

    Args:
        hypothesis: a detokenised sentence.
        references: one, or several of them.
        tokenize: as for `bleu`.
        lowercase: as for `bleu`.

    Returns:
        The score with its parts.

    Raises:
        ImportError: sacrebleu is missing (`pip install seqfast[decoding]`).
        TypeError: an argument that is not a string.
        ValueError: no reference, or an unknown tokenizer.

    Example:
        >>> from seqfast.decoding import sentence_bleu
        >>> round(sentence_bleu("the cat sat here", "the cat sat there").score, 1)
        59.5
    """
    check_choice("sentence_bleu", "tokenize", tokenize, _TOKENIZERS)
    several = [references] if isinstance(references, str) else list(references)
    for name, sentence in (
        ("hypothesis", hypothesis),
        *((f"references[{i}]", reference) for i, reference in enumerate(several)),
    ):
        if not isinstance(sentence, str):
            raise TypeError(f"sentence_bleu: {name} must be a string, got {_kind(sentence)}")
    if not several:
        raise ValueError("sentence_bleu: references must have at least one sentence, got none")
    metric = _sentence_metric(tokenize, lowercase)
    return _made(metric, metric.sentence_score(hypothesis, several))


@functools.cache
def _sentence_metric(tokenize: str, lowercase: bool) -> Any:
    """Made once: it costs more than a score."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ImportError("sentence_bleu needs sacrebleu: pip install seqfast[decoding]") from error
    return BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)

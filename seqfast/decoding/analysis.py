"""Why something else than the reference was found: by the search's fault, or by the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqfast.decoding._inputs import padded, to_host
from seqfast.decoding.result import BeamResult
from seqfast.decoding.sampling import score


@dataclass(frozen=True)
class ErrorAnalysis:
    """What `error_analysis` returns; NumPy arrays and lists of one entry for each sentence.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import ErrorAnalysis
        >>> ErrorAnalysis(["equal", "search"], np.zeros(2), np.zeros(2)).search_errors
        1
    """

    classes: list[str]
    """"equal": the reference was found; "search": it is more probable than what was found, so the
    search missed it; "model": it is not, so the model would rather say something else."""
    reference_logprobs: Any
    """float64 [batch]"""
    found_logprobs: Any
    """float64 [batch]"""

    @property
    def counts(self) -> dict[str, int]:
        return {name: self.classes.count(name) for name in ("equal", "search", "model")}

    @property
    def search_errors(self) -> int:
        return self.classes.count("search")

    @property
    def model_errors(self) -> int:
        return self.classes.count("model")

    def __str__(self) -> str:
        counts, n = self.counts, max(len(self.classes), 1)
        return ", ".join(f"{name} {count} ({count / n:.1%})" for name, count in counts.items())


def error_analysis(
    decoder: Any,
    source: Any,
    reference: Any,
    out: Any,
    *,
    reference_lengths: Any = None,
    eos: Any = None,
    tolerance: float = 1e-5,
) -> ErrorAnalysis:
    """A search error if P(reference) > P(found), else a model error (Stahlberg & Byrne 2019).

    Both are scored by the model, because the scores of a search may include penalties.

    Args:
        decoder: an object with `score(source, sequences, lengths)` that returns log-probabilities
            [batch], or such a function, or a step function.
        source: is passed to it; for a step function `(start_ids, state)`.
        reference: a list of tokens for each sentence, or integers [batch, any]. They must end in
            EOS if the hypotheses found do.
        out: a `BeamResult`, whose first hypotheses are used, or a list of tokens for each sentence.
        reference_lengths: [batch], if `reference` is integers.
        eos: the token, or several, that end a sequence; needed for a step function.
        tolerance: how much more probable the reference must be, relative to its own
            log-probability.

    Returns:
        A class and two log-probabilities for each sentence.

    Raises:
        TypeError: a decoder or sequences of a wrong type.
        ValueError: different numbers of sequences, or `eos` missing.

    Example:
        >>> import numpy as np
        >>> from seqfast import decoding
        >>> table = np.log([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2], [0.9, 0.05, 0.05]])
        >>> step = lambda ids, state, t: (table[ids], state)
        >>> start = np.array([0])
        >>> decoding.error_analysis(step, (start, None), [[1, 0]], [[2, 0]], eos=0).classes
        ['search']
    """
    references = _lists(reference, reference_lengths)
    found = _found(out)
    if len(found) != len(references):
        raise ValueError(
            f"error_analysis: reference must have {len(found)} sequences, got {len(references)}"
        )
    sums = [_scored(decoder, source, sequences, eos) for sequences in (references, found)]
    for values in sums:
        if values.shape != (len(found),):
            raise ValueError(
                f"error_analysis: score must return log-probabilities [{len(found)}], "
                f"got {list(values.shape)}"
            )
    classes = []
    for one, other, p, q in zip(references, found, *sums, strict=True):
        if one == other:
            classes.append("equal")
        else:
            classes.append("search" if p - q > tolerance * max(1.0, abs(p)) else "model")
    return ErrorAnalysis(classes, *sums)


def _scored(decoder: Any, source: Any, sequences: list[list[int]], eos: Any) -> Any:
    if eos is not None:
        start_ids, state = source
        values = score(decoder, sequences, start_ids, state, eos=eos).logprobs
    else:
        tokens, lengths = padded("error_analysis", "sequences", sequences)
        function = getattr(decoder, "score", decoder)
        values = function(source, tokens, lengths)
        values = getattr(values, "logprobs", values)
    return np.asarray(to_host(values), np.float64)


def _found(out: Any) -> list[list[int]]:
    if isinstance(out, BeamResult):
        tokens, lengths = to_host(out.tokens), to_host(out.lengths)
        return [row[0, : n[0]].tolist() for row, n in zip(tokens, lengths, strict=True)]
    return _lists(out, None)


def _lists(sequences: Any, lengths: Any) -> list[list[int]]:
    if isinstance(sequences, (list, tuple)):
        return [np.asarray(to_host(row)).reshape(-1).astype(int).tolist() for row in sequences]
    tokens = np.asarray(to_host(sequences))
    if tokens.ndim != 2:
        raise ValueError(
            f"error_analysis: reference must be [batch, any], got {list(tokens.shape)}"
        )
    counts = (
        np.full(len(tokens), tokens.shape[1]) if lengths is None else np.asarray(to_host(lengths))
    )
    return [row[:n].tolist() for row, n in zip(tokens, counts, strict=True)]

"""What decides what a Word2Vec learns, and the errors for what cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from seqfast.embeddings.base.checks import check_rate, check_whole
from seqfast.ops.base.checks import is_number

OPERATION = "Word2Vec"
# Name: smallest and largest value. The largest keep what kernels count with within 32 bits.
_WHOLE = {
    "vector_size": (1, 1 << 20),
    "window": (1, 10_000),
    "min_count": (0, None),
    "negative": (0, 1000),
    "epochs": (1, (1 << 31) - 1),
    "seed": (-(1 << 63), (1 << 63) - 1),
}
_WHOLE_OR_NONE = ("max_vocab_size", "max_final_vocab", "tokens_per_period")
_FLAGS = (
    "sg",
    "hs",
    "cbow_mean",
    "shared_negatives",
    "legacy_cbow",
    "shrink_windows",
    "deterministic",
)
_RATES = ("alpha", "min_alpha", "sample")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `Word2Vec` that a checkpoint carries, in its order.

    Those with a default are not in the first checkpoints.
    """

    vector_size: int
    alpha: float
    window: int
    min_count: int
    max_vocab_size: int | None
    max_final_vocab: int | None
    sample: float
    seed: int
    min_alpha: float
    sg: int
    hs: int
    negative: int
    ns_exponent: float
    cbow_mean: int
    shared_negatives: bool
    legacy_cbow: bool
    epochs: int
    shrink_windows: bool
    deterministic: bool
    tokens_per_period: int | None = None
    comment: str | None

    def check(self) -> None:
        """Raises TypeError or ValueError for a setting that cannot be."""
        values = vars(self)
        for name, (smallest, largest) in _WHOLE.items():
            check_whole(OPERATION, name, values[name], smallest, largest)
        for name in _WHOLE_OR_NONE:
            if values[name] is not None:
                check_whole(OPERATION, name, values[name], 1, None, " or None")
        for name in _FLAGS:
            if values[name] not in (0, 1):
                raise ValueError(f"Word2Vec: {name} must be 0 or 1, got {values[name]!r}")
        for name in _RATES:
            check_rate(OPERATION, name, values[name])
        exponent = self.ns_exponent
        if not is_number(exponent) or not math.isfinite(exponent):
            raise ValueError(f"Word2Vec: ns_exponent must be a finite number, got {exponent!r}")
        if self.window * 2 * self.negative >= 1 << 26:
            raise ValueError(
                "Word2Vec: window * 2 * negative must be below 2**26, got "
                f"{self.window * 2 * self.negative}"
            )
        if self.comment is not None and not isinstance(self.comment, str):
            raise TypeError(
                f"Word2Vec: comment must be a str or None, got {type(self.comment).__name__}"
            )


def default_alpha(sg: int, cbow_mean: int, legacy_cbow: bool) -> float:
    """CBOW's true gradient is divided by the number of contexts, and wants larger steps."""
    return 0.025 if sg or legacy_cbow or not cbow_mean else 0.1


def check_unused(sorted_vocab: Any, batch_words: Any, hashfxn: Any, null_word: Any) -> None:
    """gensim's arguments that mean nothing here are accepted as long as they ask for nothing."""
    if sorted_vocab not in (0, 1):
        raise ValueError(f"Word2Vec: sorted_vocab must be 0 or 1, got {sorted_vocab!r}")
    if not sorted_vocab:
        raise ValueError(
            "Word2Vec: sorted_vocab must be 1, got 0: the vocabulary is always sorted by count"
        )
    if null_word:
        raise ValueError(f"Word2Vec: null_word must be 0, got {null_word!r}")
    if hashfxn is not None and hashfxn is not hash:
        raise ValueError(
            "Word2Vec: hashfxn must be None or hash: first vectors are drawn by counter from seed "
            f"and row, got {hashfxn!r}"
        )
    if batch_words is not None:
        check_whole(OPERATION, "batch_words", batch_words, 1, None, " or None")

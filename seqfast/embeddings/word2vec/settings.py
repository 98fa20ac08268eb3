"""What decides what a Word2Vec learns, and the errors for what cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqfast.ops.base.checks import (
    NOT_NEGATIVE,
    check_choice,
    check_number,
    check_type,
    check_whole,
)

OPERATION = "Word2Vec"
# Name: smallest and largest value. The largest keep what kernels count with within 32 bits.
_WHOLE = {
    "vector_size": (1, 1 << 20),
    "window": (1, (1 << 30) - 1),
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
    cbow_step: float = 1.0  # CBOW's learning rate is so many times `alpha`

    def check(self) -> None:
        """Raises TypeError or ValueError for a setting that cannot be."""
        values = vars(self)
        for name, (smallest, largest) in _WHOLE.items():
            check_whole(OPERATION, name, values[name], smallest, largest)
        for name in _WHOLE_OR_NONE:
            if values[name] is not None:
                check_whole(OPERATION, name, values[name], 1, also=", or None")
        for name in _FLAGS:
            check_choice(OPERATION, name, values[name], (0, 1))
        for name in _RATES:
            check_number(OPERATION, name, values[name], NOT_NEGATIVE)
        check_number(OPERATION, "ns_exponent", self.ns_exponent)
        check_number(OPERATION, "cbow_step", self.cbow_step, NOT_NEGATIVE)
        if self.comment is not None:
            check_type(OPERATION, "comment", self.comment, str, "a str or None")


def cbow_step_of(sg: int, cbow_mean: int, legacy_cbow: bool) -> float:
    """The factor with which gensim's rate gives gensim's quality, measured on 12 million words.

    Each of gensim's threads counts only its own words, so the rate decays more slowly than planned.
    A gradient that is divided by the number of contexts needs larger steps.
    """
    if sg or not cbow_mean:
        return 1.0
    return 1.4 if legacy_cbow else 4.0


def check_few_words(settings: Settings, words: int, alpha: float) -> None:
    """Raises ValueError for so few words and so large steps that training would diverge.

    `push` is the sum of the steps that windows computed together add to a row. In trials with 2 to
    20 words the loss became infinite beyond 4.
    """
    if not settings.negative or not 2 <= words < 64:
        return
    windows = 32 if settings.deterministic else 1
    pairs = settings.window + 1 if settings.shrink_windows else 2 * settings.window
    together = windows * (pairs if settings.sg and settings.shared_negatives else 1)
    push = alpha * settings.cbow_step * together * (settings.negative + 1) / max(words, 1)
    if push > 4:
        raise ValueError(
            f"{OPERATION}: a vocabulary of {words} words cannot be trained with "
            f"alpha={alpha}, window={settings.window}, negative={settings.negative}, "
            f"deterministic={settings.deterministic}: the loss would diverge; pass "
            f"alpha={4 * alpha / push:.2g}, fewer negatives, a smaller window, "
            "shared_negatives=False or deterministic=False"
        )


def check_unused(sorted_vocab: Any, batch_words: Any, hashfxn: Any, null_word: Any) -> None:
    """gensim's arguments that mean nothing here are accepted as long as they ask for nothing."""
    check_choice(OPERATION, "sorted_vocab", sorted_vocab, (0, 1))
    if not sorted_vocab:
        raise ValueError(
            "Word2Vec: sorted_vocab must be 1, got 0: the vocabulary is always sorted by count"
        )
    if null_word:
        raise ValueError(f"Word2Vec: null_word must be 0, got {null_word!r}")
    if hashfxn is not None and hashfxn is not hash:
        raise ValueError(
            f"Word2Vec: hashfxn must be None or hash, got {hashfxn!r}: initial vectors depend on "
            "seed and row only"
        )
    if batch_words is not None:
        check_whole(OPERATION, "batch_words", batch_words, 1, also=", or None")

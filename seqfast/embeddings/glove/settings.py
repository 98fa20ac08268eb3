"""What decides what a GloVe learns, and the errors for what cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from seqfast.ops.base.checks import (
    FINITE,
    POSITIVE,
    check_choice,
    check_number,
    check_type,
    check_whole,
)

OPERATION = "GloVe"
COMBINATIONS = ("mean", "sum", "words")
_WHOLE = {
    "vector_size": (1, 1 << 20),
    "window": (1, (1 << 30) - 1),
    "min_count": (0, None),
    "epochs": (1, (1 << 31) - 1),
    "seed": (-(1 << 63), (1 << 63) - 1),
}
_WHOLE_OR_NONE = ("max_vocab_size", "max_final_vocab")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `GloVe` that a checkpoint carries."""

    vector_size: int
    window: int
    min_count: int
    x_max: float
    alpha: float
    learning_rate: float
    epochs: int
    symmetric: bool
    distance_weighting: bool
    max_vocab_size: int | None
    max_final_vocab: int | None
    seed: int
    combine: str
    grad_clip: float
    deterministic: bool
    comment: str | None
    tokens_per_period: int | None = None

    def check(self) -> None:
        """Raises TypeError or ValueError for a setting that cannot be."""
        values = vars(self)
        for name, (smallest, largest) in _WHOLE.items():
            check_whole(OPERATION, name, values[name], smallest, largest)
        for name in _WHOLE_OR_NONE:
            if values[name] is not None:
                check_whole(OPERATION, name, values[name], 1, also=", or None")
        for name in ("symmetric", "distance_weighting", "deterministic"):
            check_choice(OPERATION, name, values[name], (0, 1))
        for name in ("x_max", "learning_rate", "grad_clip"):
            check_number(OPERATION, name, values[name], POSITIVE)
        check_number(OPERATION, "alpha", self.alpha, FINITE)
        check_choice(OPERATION, "combine", self.combine, COMBINATIONS)
        if self.comment is not None:
            check_type(OPERATION, "comment", self.comment, str, "a str or None")

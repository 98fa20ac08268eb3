"""A call of `train` as far as it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass
class Run:
    """All that continuing a call of `train` needs beside the matrices; a checkpoint carries it.

    An epoch goes by rounds of `tokens_per_round`, which a class of runs says.
    """

    tokens_per_round: ClassVar[int]

    epochs: int
    alpha: float
    min_alpha: float
    first_epoch: int  # what random numbers are drawn by: epochs of earlier runs count
    tokens: int
    raw_words: int
    fingerprint: str
    epoch: int = 0
    next_round: int = 0
    # of the epoch so far
    loss: float = 0.0
    kept: int = 0
    examples: int = 0
    # of the epochs before it
    loss_before: float = 0.0
    kept_before: int = 0

    @property
    def rounds(self) -> int:
        return -(-self.tokens // self.tokens_per_round)

    @property
    def tokens_done(self) -> int:
        done = min(self.next_round * self.tokens_per_round, self.tokens)
        return self.epoch * self.tokens + done

    @property
    def words(self) -> int:
        """Raw words so far: those that are in no vocabulary are spread evenly."""
        return self.tokens_done * self.raw_words // self.tokens if self.tokens else 0

    @property
    def effective_words(self) -> int:
        return self.kept_before + self.kept

    @property
    def total_loss(self) -> float:
        return self.loss_before + self.loss

    def learning_rate(self) -> float:
        """The next round's, as the kernels compute it."""
        if not self.tokens:
            return self.alpha
        progress = min(self.tokens_done / (self.epochs * self.tokens), 1.0)
        return self.alpha - (self.alpha - self.min_alpha) * progress

    def add(self, losses: Array, kept: int, examples: int) -> None:
        """Losses one after another in the order of the text: how they came makes no difference."""
        self.loss = float(np.cumsum(np.concatenate(([self.loss], losses)))[-1])
        self.kept += kept
        self.examples += examples

    def end_epoch(self) -> None:
        self.epoch += 1
        self.next_round = 0
        self.loss_before += self.loss
        self.kept_before += self.kept
        self.loss, self.kept, self.examples = 0.0, 0, 0

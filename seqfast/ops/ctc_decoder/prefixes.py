"""A language model that is called from Python: what it is asked, and where its answers stand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from seqfast import _C
from seqfast.ops.ctc_decoder.arguments import CtcDecodeArgs
from seqfast.ops.ctc_decoder.language import Array, Language, Model


class Prefixes:
    """The prefixes of all beams, and what the model gives the tokens after each.

    The kernel says after each frame where its prefixes come from; this follows.
    """

    def __init__(
        self,
        operation: str,
        model: Model,
        language: Language,
        batch: int,
        beam_size: int,
        blank: int,
    ) -> None:
        self.operation, self.model, self.blank = operation, model, blank
        self.alpha, self.beta = language.alpha, language.beta
        self.vocab = len(language.letter_starts) - 1
        places = (batch, beam_size)
        self.rows = np.broadcast_to(np.arange(batch)[:, None], places)
        self.table = np.zeros((*places, self.vocab))
        self.source, self.added = np.empty(places, np.int64), np.empty(places, np.int64)
        self.lengths = np.zeros(places, np.int64)
        self.prefixes = np.full((*places, 16), blank, np.int64)
        self.there = np.zeros(places, np.bool_)
        self.there[:, 0] = True
        if batch:
            self.table[self.there] = self._ask(self.there)

    def with_addresses(self, args: CtcDecodeArgs) -> CtcDecodeArgs:
        return args._replace(
            table=_C.numpy_address(self.table),
            source=_C.numpy_address(self.source),
            added=_C.numpy_address(self.added),
        )

    def before_frame(self) -> None:
        """Rows that read no frame stay as they are."""
        self.source[:] = np.arange(self.source.shape[1])
        self.added[:] = -1

    def after_frame(self) -> None:
        self.there = np.take_along_axis(self.there, self.source, 1)
        self.lengths = np.take_along_axis(self.lengths, self.source, 1)
        self.prefixes = np.take_along_axis(self.prefixes, self.source[..., None], 1)
        self.table = np.take_along_axis(self.table, self.source[..., None], 1)
        new = self.added >= 0
        if not new.any():
            return
        if int(self.lengths.max()) == self.prefixes.shape[2]:
            more = np.full_like(self.prefixes, self.blank)
            self.prefixes = np.concatenate([self.prefixes, more], 2)
        row, place = np.nonzero(new)
        self.prefixes[row, place, self.lengths[new]] = self.added[new]
        self.lengths[new] += 1
        self.table[new] = self._ask(new)

    def final(self) -> Array | None:
        """[batch, beam_size], what the model gives the end of each prefix, weighted."""
        final = getattr(self.model, "final", None)
        if final is None:
            return None
        result = np.zeros(self.there.shape)
        if self.there.any():
            asked = self._of(self.there)
            scores = self._checked("lm.final", final(*asked), (len(asked[1]),))
            result[self.there] = self._weighted(scores)
        return result

    def _ask(self, which: Array) -> Array:
        asked = self._of(which)
        scores = self._checked("lm", self.model(*asked), (len(asked[1]), self.vocab))
        return self._weighted(scores) + self.beta

    def _of(self, which: Array) -> tuple[Array, Array, Array]:
        lengths = self.lengths[which]
        return self.prefixes[which][:, : int(lengths.max(initial=0))], lengths, self.rows[which]

    def _weighted(self, scores: Array) -> Array:
        return np.zeros_like(scores) if self.alpha == 0 else self.alpha * scores

    def _checked(self, name: str, scores: Any, shape: tuple[int, ...]) -> Array:
        if hasattr(scores, "detach"):
            scores = scores.detach().cpu().double().numpy()
        found = np.asarray(scores)
        if found.dtype.kind != "f":
            raise TypeError(
                f"{self.operation}: {name} must return floating numbers, got {found.dtype}"
            )
        if found.shape != shape:
            raise ValueError(
                f"{self.operation}: {name} must return {list(shape)}, a row for each prefix, "
                f"got {list(found.shape)}"
            )
        if not bool((found < math.inf).all()):
            raise ValueError(
                f"{self.operation}: {name} must return log-probabilities below infinity, got "
                f"{found[~(found < math.inf)][0]}"
            )
        return found.astype(np.float64)

"""The step function of a decoder with attention; its whole search is one native operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from seqfast.ops.base.arrays import library_of
from seqfast.ops.beam_search.beams import Beams
from seqfast.ops.decoder import Decoder, DecoderState, Memory, decode

Array = Any  # a numpy.ndarray or a torch.Tensor


class NativeDecoder(NamedTuple):
    """A decoder and where it stands, as the native operation takes them."""

    weights: Decoder
    memory: Memory
    state: DecoderState


class DecoderStep:
    """What `BeamSearch` is called with: `step(ids, state)`, and the whole search where there is a
    `native` decoder."""

    def __init__(
        self, step: Callable[[Array, Any], tuple[Array, Any]], native: NativeDecoder | None
    ) -> None:
        self._step, self._native = step, native

    def __call__(self, ids: Array, state: Any, t: Any) -> tuple[Array, Any]:
        return self._step(ids, state)

    def search_to_end(self, start_ids: Array, begin: Callable[[Array], Beams]) -> Beams | None:
        """The beams at the end of the search, or None where it must go step by step.

        `begin` makes them from logits, of which dtype, place and vocabulary count.
        """
        if self._native is None:
            return None
        weights, memory, state = self._native
        xp = library_of(weights.head, "decode", "head")
        beams = begin(xp.empty(weights.head, (0, weights.head.shape[0])))
        decode(weights, memory, state, start_ids, beams)
        return beams

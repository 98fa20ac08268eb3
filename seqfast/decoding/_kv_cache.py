"""A growing key-value cache of `transformers` that appends in place instead of copying itself.

Imports transformers, so only what has a model of it may import this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

_ROOM = 64  # positions, at least, between two moves to a larger place


class _Growing:
    """A tensor [rows, heads, length, size] with room behind its length.

    Beams of a sentence agree on the first `common` positions, so what changes places among them is
    only what follows; it goes to a second place of the same size, and the two swap.
    """

    def __init__(self, begun: Tensor) -> None:
        self.common = self.length = begun.shape[2]
        self._place = begun
        self._spare: Tensor | None = None

    @property
    def value(self) -> Tensor:
        return self._place[:, :, : self.length]

    def append(self, new: Tensor) -> None:
        end = self.length + new.shape[2]
        if end > self._place.shape[2]:
            old = self.value
            self._place = self._empty(len(old), end + max(_ROOM, self.length - self.common))
            self._place[:, :, : self.length] = old
        self._place[:, :, self.length : end] = new
        self.length = end

    def select(self, rows: Tensor) -> None:
        place = self._empty(len(rows), max(self._place.shape[2], self.length + _ROOM))
        torch.index_select(self.value, 0, rows, out=place[:, :, : self.length])
        self._place, self._spare = place, None

    def reorder_beams(self, rows: Tensor) -> None:
        shape = self._place.shape
        if self._spare is None or self._spare.shape != shape:
            self._spare = torch.empty_like(self._place)
            self._spare[:, :, : self.common] = self._place[:, :, : self.common]
        changing = slice(self.common, self.length)
        torch.index_select(self._place[:, :, changing], 0, rows, out=self._spare[:, :, changing])
        self._place, self._spare = self._spare, self._place

    def _empty(self, rows: int, positions: int) -> Tensor:
        _, heads, _, size = self._place.shape
        return self._place.new_empty((rows, heads, positions, size))


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Of one layer of a model, going on from what another cache holds."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.__dict__.update(layer.__dict__)
        self._parts = _Growing(layer.keys), _Growing(layer.values)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        for part, new in zip(self._parts, (key_states, value_states), strict=True):
            part.append(new)
        return self._seen()

    # A model may be spread over devices, each layer's keys and values on its own.
    def reorder_cache(self, beam_idx: Tensor) -> None:
        for part in self._parts:
            part.select(beam_idx.to(self.device))
        self._seen()

    def reorder_beams(self, rows: Tensor) -> None:
        for part in self._parts:
            part.reorder_beams(rows.to(self.device))
        self._seen()

    def _seen(self) -> tuple[Tensor, Tensor]:
        """`keys` and `values` as the other methods know them."""
        self.keys, self.values = (part.value for part in self._parts)
        return self.keys, self.values


class GrowingCache(DynamicCache):  # type: ignore[misc]
    """In place of a DynamicCache, for a search."""

    def __init__(self, cache: DynamicCache) -> None:
        self.__dict__.update(cache.__dict__)
        self.layers = [GrowingLayer(layer) for layer in cache.layers]

    def reorder_beams(self, rows: Tensor) -> None:
        """As `reorder_cache`, of rows that all come from their own sentence."""
        for layer in self.layers:
            layer.reorder_beams(rows)


def growing(cache: Any) -> Any:
    """The cache in another form where it is made of plain growing layers, else as it is."""
    inner = getattr(cache, "self_attention_cache", None)
    if inner is not None:
        cache.self_attention_cache = growing(inner)
        return cache
    if type(cache) is not DynamicCache or not cache.layers:
        return cache
    plain = all(type(layer) is DynamicLayer and layer.is_initialized for layer in cache.layers)
    return GrowingCache(cache) if plain else cache

"""Words with their vectors: what a file holds, ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from seqfast.embeddings.vectors.queries import Queries


@dataclass
class WordVectors(Queries):
    """Words with their vectors, and what `Queries` can ask them."""

    index_to_key: list[str]
    vectors: Any  # float32 [V, size]
    counts: Any = None  # int64 [V], or None where nobody knows
    key_to_index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.key_to_index = {word: place for place, word in enumerate(self.index_to_key)}

    def __len__(self) -> int:
        return len(self.index_to_key)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index

    def __getitem__(self, words: str | Sequence[str]) -> Any:
        """[size] of a word, [words, size] of several; KeyError names one that is not there."""
        ids = self.ids([words] if isinstance(words, str) else words)
        return self.vectors[ids[0] if isinstance(words, str) else ids]

"""Texts, matrices and first values for GloVe, small and awkward."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqfast.ops.word2vec.matrix import matrix
from seqfast.reference import glove as twin

Array = npt.NDArray[Any]


class Text(NamedTuple):
    ids: Array
    offsets: Array
    vocabulary: int


def text_of(vocabulary: int, tokens: int, sentences: int, seed: int = 0) -> Text:
    """Ids by Zipf's law, in sentences of any length, none too."""
    generator = np.random.default_rng(seed)
    ids = (generator.zipf(1.3, tokens) % vocabulary).astype(np.int32)
    cuts = np.sort(generator.integers(0, tokens + 1, max(sentences - 1, 0)))
    return Text(ids, np.concatenate([[0], cuts, [tokens]]).astype(np.int64), vocabulary)


class GloveCase(NamedTuple):
    tiles: Array
    entries: Array
    matrices: list[Array]
    size: int
    options: dict[str, Any]

    def run(self, train: Any, **options: Any) -> tuple[Array, list[Array]]:
        """Loss and matrices afterwards; the case stays as it is."""
        matrices = []
        for array in self.matrices:
            mine = matrix(len(array), self.size + 1)
            mine[...] = array
            matrices.append(mine)
        loss = train(
            self.tiles, self.entries, *matrices, size=self.size, **{**self.options, **options}
        )
        return loss, matrices


def case_of(
    words: int = 40, tokens: int = 400, size: int = 20, blocks: int = 3, **options: Any
) -> GloveCase:
    generator = np.random.default_rng(words + size)
    found = twin.cooccurrences(*text_of(words, tokens, 9), window=4)
    tiles, entries = twin.schedule(*found, blocks=blocks, seed=3)
    matrices = [matrix(words, size + 1) for _ in range(4)]
    for array in matrices[:2]:
        array[:, : size + 1] = generator.uniform(-0.5, 0.5, (words, size + 1)) / size**0.5
    for array in matrices[2:]:
        array.fill(1)
    return GloveCase(tiles, entries, matrices, size, {"x_max": 5.0, **options})


def assert_same_training(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4)
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=3e-4, atol=3e-5)

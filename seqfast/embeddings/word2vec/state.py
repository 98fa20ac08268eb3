"""The state of a Word2Vec: which matrices it has, what they begin with, and its rounds."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.state import State
from seqfast.embeddings.formats.safetensors import FileKind
from seqfast.embeddings.word2vec.settings import OPERATION, Settings
from seqfast.ops.word2vec import first_vectors, huffman_paths
from seqfast.ops.word2vec.matrix import matrix
from seqfast.ops.word2vec.training import ROUND

Array = npt.NDArray[Any]


class Word2VecRun(Run):
    tokens_per_round: ClassVar[int] = ROUND


class Word2VecState(State):
    model_name = OPERATION
    file_kind = FileKind(name="seqfast.word2vec", version=1, writer="seqfast.Word2Vec")
    run_class = Word2VecRun
    # A new tree has new nodes: what the old ones have learnt is of no use to it.
    begun_anew = frozenset({"nodes"})

    settings: Settings

    def new_matrices(self, words: int) -> dict[str, Array]:
        settings = self.settings
        matrices = {"vectors": matrix(words, settings.vector_size)}
        if settings.negative or not settings.hs:
            matrices["output"] = matrix(words, settings.vector_size)
        if settings.hs:
            # A row more than there are nodes, which is never used: gensim's syn1 has it.
            matrices["nodes"] = matrix(max(words, 1), settings.vector_size)[: max(words - 1, 1)]
        return matrices

    def draw_first_values(self, matrices: dict[str, Array], known: int) -> None:
        vectors = matrices["vectors"][:, : self.settings.vector_size]
        first_vectors(vectors[known:], self.settings.seed, known, threads=self.runtime.workers)

    def derived_attribute(self, name: str) -> Array:
        """The "code" and "point" of each word in the tree: from the root, which is the last node,
        0 where the way goes to the rarer side."""
        if name in ("code", "point") and self.settings.hs:
            offsets, nodes, codes = huffman_paths(self.vocabulary.counts)
            values = codes if name == "code" else nodes.astype(np.uint32)
            found = np.empty(len(self), object)
            for row in range(len(self)):
                found[row] = values[offsets[row] : offsets[row + 1]]
            return found
        return super().derived_attribute(name)

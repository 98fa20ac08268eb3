"""The state of a GloVe: its matrices, what they begin with, what comes of them, and its rounds."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.state import State
from seqfast.embeddings.corpus.vocabulary import Corpus
from seqfast.embeddings.formats.safetensors import FileKind
from seqfast.embeddings.glove.cooccurrences import Cooccurrences
from seqfast.embeddings.glove.settings import OPERATION, Settings
from seqfast.ops.glove.training import BLOCK_WORDS
from seqfast.ops.word2vec import first_vectors
from seqfast.ops.word2vec.matrix import matrix

Array = npt.NDArray[Any]

# What trains, each row with its bias behind the vector.
MATRICES = ("word_rows", "context_rows", "word_squares", "context_squares")
# Of the words, for tiles that fit into a core's cache. A GPU takes a warp for each block.
_BLOCKS = {"cpu": 64, "cuda": 512}
_FIRST_CONTEXT = 1 << 31  # the number of the first row of contexts, as first values are drawn


class GloVeRun(Run):
    """Its tokens are strata: as many as there are blocks."""

    tokens_per_round: ClassVar[int] = 1


class GloVeState(State):
    model_name = OPERATION
    file_kind = FileKind(name="seqfast.glove", version=1, writer="seqfast.GloVe")
    run_class = GloVeRun
    rate_name = "learning_rate"

    settings: Settings

    cooccurrences: Cooccurrences | None = None  # counted or given last

    def width(self, name: str) -> int:
        """The bias stands behind its vector."""
        return self.settings.vector_size + (name != "vectors")

    def new_matrices(self, words: int) -> dict[str, Array]:
        size = self.settings.vector_size
        matrices = {name: matrix(words, size + 1) for name in MATRICES}
        for name in MATRICES[2:]:
            matrices[name].fill(1)
        return {"vectors": matrix(words, size), **matrices}

    def draw_first_values(self, matrices: dict[str, Array], known: int) -> None:
        width, threads = self.settings.vector_size + 1, self.runtime.workers
        for name, first in (("word_rows", 0), ("context_rows", _FIRST_CONTEXT)):
            rows = matrices[name][known:, :width]
            first_vectors(rows, self.settings.seed, first + known, threads=threads)
        self.combine(matrices, slice(known, None))

    def combine(self, matrices: dict[str, Array], rows: Any = slice(None)) -> None:
        """Vectors from words and contexts."""
        size = self.settings.vector_size
        matrices["vectors"][rows, :size] = self._combined(matrices, rows)

    def _combined(self, matrices: dict[str, Array], rows: Any) -> Array:
        size = self.settings.vector_size
        words, contexts = (matrices[name][rows, :size] for name in MATRICES[:2])
        if self.settings.combine == "words":
            return words
        both: Array = words + contexts
        return both if self.settings.combine == "sum" else both * np.float32(0.5)

    def take_over_vectors(self) -> None:
        """What was written to vectors goes to words and contexts: each moves by as much."""
        size = self.settings.vector_size
        change = self.matrices["vectors"][:, :size] - self._combined(self.matrices, slice(None))
        rows = np.flatnonzero(change.any(1))
        if not len(rows):
            return
        share = np.float32(0.5 if self.settings.combine == "sum" else 1)
        for name in MATRICES[:2]:
            self.matrices[name][rows, :size] += change[rows] * share

    def new_run(self, corpus: Corpus, *, epochs: int, alpha: float, min_alpha: float) -> Run:
        run = super().new_run(corpus, epochs=epochs, alpha=alpha, min_alpha=min_alpha)
        words = len(self)
        blocks = min(_BLOCKS[self.runtime.device.partition(":")[0]], max(words, 1))
        run.tokens = max(blocks, -(-words // BLOCK_WORDS))
        return run

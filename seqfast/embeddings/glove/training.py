"""The kernels of a GloVe, and the training of a state with them: first counting, then the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base import loop
from seqfast.embeddings.base.checkpoint import Checkpoints
from seqfast.embeddings.base.kernels import Kernels
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.callbacks import Progress, reading_bar
from seqfast.embeddings.corpus.vocabulary import Corpus
from seqfast.embeddings.distributed import Group
from seqfast.embeddings.glove.cooccurrences import Cooccurrences, count, source_of
from seqfast.embeddings.glove.settings import OPERATION
from seqfast.embeddings.glove.state import MATRICES, GloVeState
from seqfast.embeddings.glove.storage import Storage
from seqfast.ops import glove as ops
from seqfast.ops.glove.scheduling import make_schedule
from seqfast.ops.glove.training import checked_threads

Array = npt.NDArray[Any]


class GloVeKernels(Kernels):
    """A run's matrices and the order of its entries on their device, and the kernels for them."""

    def __init__(self, state: GloVeState, counted: Cooccurrences, run: Run) -> None:
        settings, runtime = state.settings, state.runtime
        super().__init__({name: state.matrices[name] for name in MATRICES}, runtime.device)
        self._state, self._threads, self._seed = state, runtime.workers, int(settings.seed)
        self._blocks = run.tokens
        storage = Storage(OPERATION, runtime.cache_folder, runtime.memory_limit)
        entries = storage.empty(len(counted.columns), np.uint64)
        tiles = make_schedule(
            counted.offsets,
            counted.columns,
            counted.values,
            entries,
            self._blocks,
            self._seed,
            checked_threads(OPERATION, self._threads),
        )
        # What one stratum brings a row; squares are sums, whoever has added to them.
        of_rows = np.diff(counted.offsets) / self._blocks
        of_columns = counted.column_sizes() / self._blocks
        nothing = np.zeros(len(state))
        self._updates = dict(zip(MATRICES, (of_rows, of_columns, nothing, nothing), strict=True))
        self._sizes = np.diff(tiles).reshape(self._blocks, self._blocks)
        self._training = ops.Training(
            self.place(tiles),
            self.place(entries),
            *self.matrices.values(),
            size=int(settings.vector_size),
            x_max=float(settings.x_max),
            alpha=float(settings.alpha),
            learning_rate=float(settings.learning_rate),
            clip=float(settings.grad_clip),
            locked=self.place(state.locked_rows()),
        )

    def train(self, run: Run, first: int, last: int) -> tuple[Array, int, int]:
        """Rounds [first, last) of the run's epoch: losses by round, entries twice over."""
        order = ops.strata(self._blocks, seed=self._seed, epoch=run.first_epoch + run.epoch)
        done = order[first:last]
        loss = self._training.run(done, self._threads)
        row_blocks = np.arange(self._blocks)
        columns = (row_blocks + done[:, None]) % self._blocks
        examples = int(self._sizes[row_blocks, columns].sum())
        return loss, examples, examples

    def updates_per_token(self) -> dict[str, Array]:
        """Of each row of each matrix, float64 [rows]: updates that a stratum is expected to bring,
        none of squares, which add up as they are."""
        return self._updates

    def fetch(self) -> None:
        super().fetch()
        self._state.combine(self._state.matrices)


def train(
    state: GloVeState,
    corpus: Corpus,
    run: Run,
    tell: Callable[[str, Progress], None],
    checkpoints: Checkpoints | None,
    group: Group | None,
) -> None:
    """`loop.train` with the kernels of a GloVe, on co-occurrences counted before it."""
    state.take_over_vectors()
    if checkpoints is not None and run.epoch == run.next_round == 0:
        checkpoints.write()  # counting may take long, and then it is known what was to be done
    state.cooccurrences = cooccurrences_of(state, corpus)
    loop.train(state, run, GloVeKernels(state, state.cooccurrences, run), tell, checkpoints, group)


def cooccurrences_of(state: GloVeState, corpus: Corpus) -> Cooccurrences:
    """Those at hand, if they are of this corpus, else counted."""
    settings, runtime = state.settings, state.runtime
    way = (int(settings.window), bool(settings.symmetric), bool(settings.distance_weighting))
    known = state.cooccurrences
    if known is not None and known.source in (corpus.fingerprint, source_of(corpus, *way)):
        return known
    window, symmetric, distance_weighting = way
    with reading_bar(runtime.shows_progress()) as bar:
        counted = count(
            corpus,
            state.vocabulary.words,
            window=window,
            symmetric=symmetric,
            distance_weighting=distance_weighting,
            progress=bar,
            **runtime.reading(),
        )
    if not len(counted.columns):
        raise ValueError(
            f"{OPERATION}: corpus must have words beside each other, got {len(corpus.ids)} words "
            "that are each alone in their sentence"
        )
    return counted

"""The kernels of a Word2Vec with their tables, and the training of a state with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base import loop
from seqfast.embeddings.base.checkpoint import Checkpoints
from seqfast.embeddings.base.kernels import Kernels, on_host
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.callbacks import Progress
from seqfast.embeddings.corpus.vocabulary import Corpus
from seqfast.embeddings.distributed import Group
from seqfast.embeddings.word2vec.state import Word2VecState
from seqfast.ops import word2vec as ops

Array = npt.NDArray[Any]


def noise_weights(counts: Array, exponent: float) -> Array:
    """What negatives are drawn in proportion to; a word that never occurs is no negative."""
    weights = np.zeros(len(counts))
    seen = counts > 0
    with np.errstate(over="ignore"):
        weights[seen] = counts[seen].astype(np.float64) ** exponent
    if not np.isfinite(weights.sum()) or (seen.any() and not weights.any()):
        raise ValueError(
            f"Word2Vec: ns_exponent must leave weights of negatives that are finite and above 0, "
            f"got {exponent:g} with counts up to {counts.max()}; gensim's default is 0.75"
        )
    return weights if seen.any() else np.ones(len(counts))


class Word2VecKernels(Kernels):
    """A run's arrays and tables on their device, and the kernels that train them."""

    def __init__(self, state: Word2VecState, corpus: Corpus) -> None:
        settings, counts = state.settings, state.vocabulary.counts
        super().__init__(state.matrices, state.runtime.device)
        keep = paths = alias = None
        if settings.sample > 0 and counts.any():
            keep = ops.keep_thresholds(counts, settings.sample)
        if settings.negative:
            alias = ops.alias_table(noise_weights(counts, settings.ns_exponent))
        if settings.hs:
            paths = ops.huffman_paths(counts)
        self._training = ops.Training(
            self.place(corpus.ids),
            self.place(corpus.offsets),
            self.matrices["vectors"],
            self.matrices.get("output"),
            self.matrices.get("nodes"),
            size=int(settings.vector_size),
            cbow=not settings.sg,
            window=int(settings.window),
            negative=int(settings.negative),
            shared_negatives=bool(settings.shared_negatives),
            shrink_windows=bool(settings.shrink_windows),
            cbow_mean=bool(settings.cbow_mean),
            legacy_cbow=bool(settings.legacy_cbow),
            deterministic=bool(settings.deterministic),
            keep=self.place(keep),
            alias=self.place(alias),
            paths=self.place(paths),
            locked=self.place(state.locked_rows()),
        )
        self._seed = int(settings.seed)
        self._step = float(settings.cbow_step)
        self._threads = state.runtime.workers
        pairs = settings.window + 1 if settings.shrink_windows else 2 * settings.window
        self._pairs = 1 if settings.cbow_mean and not settings.sg else pairs
        self._counts, self._keep, self._paths = counts, keep, paths

    def train(self, run: Run, first: int, last: int) -> tuple[Array, int, int]:
        """Rounds [first, last) of the run's epoch: losses by round, words kept, examples."""
        loss, kept, examples = self._training.run(
            seed=self._seed,
            epoch=run.first_epoch + run.epoch,
            tokens_before=run.epoch * run.tokens,
            tokens_total=max(run.epochs * run.tokens, 1),
            alpha=run.alpha * self._step,
            min_alpha=run.min_alpha * self._step,
            first_round=first,
            last_round=last,
            threads=self._threads,
        )
        return on_host(loss), int(kept.sum()), int(examples.sum())

    def updates_per_token(self) -> dict[str, Array]:
        """Of each row of each matrix, float64 [rows]: how many updates one token of the text is
        expected to bring, those of negatives not counted."""
        share = self._counts / max(self._counts.sum(), 1)
        if self._keep is not None:
            share = share * ((self._keep + 1.0) / 2.0**32)
        updates = dict.fromkeys(self.matrices, share * self._pairs)
        if self._paths is not None:
            offsets, nodes, _ = self._paths
            weights = np.repeat(updates["vectors"], np.diff(offsets))
            rows = len(self.matrices["nodes"])
            updates["nodes"] = np.bincount(nodes, weights, minlength=rows)
        return updates


def train(
    state: Word2VecState,
    corpus: Corpus,
    run: Run,
    tell: Callable[[str, Progress], None],
    checkpoints: Checkpoints | None,
    group: Group | None,
) -> None:
    """`loop.train` with the kernels of a Word2Vec."""
    loop.train(state, run, Word2VecKernels(state, corpus), tell, checkpoints, group)

"""The training loop, in spans: between them callbacks, checkpoints and Ctrl-C get their turn."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings import callbacks as _callbacks
from seqfast.embeddings.callbacks import Progress
from seqfast.ops import word2vec as ops
from seqfast.ops.word2vec.training import ROUND

if TYPE_CHECKING:
    from seqfast.embeddings._checkpoint import Checkpoints
    from seqfast.embeddings.corpus import Corpus
    from seqfast.embeddings.distributed import Group
    from seqfast.embeddings.word2vec import Word2Vec

Array = npt.NDArray[Any]

_SPAN_SECONDS = 0.3
_FREQUENT = 64  # words; what is wrong anywhere soon reaches them
_FIRST_SPAN = 64  # rounds; enough to learn how fast they go


@dataclass
class Run:
    """A call of `train` as far as it has come: all that continuing it needs beside the matrices."""

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
        return ops.rounds_of(self.tokens)

    @property
    def tokens_done(self) -> int:
        return self.epoch * self.tokens + min(self.next_round * ROUND, self.tokens)

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


def noise_weights(counts: Array, exponent: float) -> Array:
    """What negatives are drawn in proportion to; a word that never occurs is no negative."""
    weights = np.zeros(len(counts))
    seen = counts > 0
    weights[seen] = counts[seen].astype(np.float64) ** exponent
    return weights if seen.any() else np.ones(len(counts))


class Kernels:
    """A run's arrays and tables on their device, and the kernels that train them."""

    def __init__(self, model: Word2Vec, corpus: Corpus) -> None:
        counts = model.counts
        keep = paths = alias = None
        if model.sample > 0 and counts.any():
            keep = ops.keep_thresholds(counts, model.sample)
        self._host = model._matrices
        self.device = model.device
        self.matrices: dict[str, Any] = {k: self._place(v) for k, v in self._host.items()}
        if model.negative:
            alias = ops.alias_table(noise_weights(counts, model.ns_exponent))
        if model.hs:
            paths = ops.huffman_paths(counts)
        self._training = ops.Training(
            self._place(corpus.ids),
            self._place(corpus.offsets),
            self.matrices["vectors"],
            self.matrices.get("output"),
            self.matrices.get("nodes"),
            size=int(model.vector_size),
            cbow=not model.sg,
            window=int(model.window),
            negative=int(model.negative),
            shared_negatives=bool(model.shared_negatives),
            shrink_windows=bool(model.shrink_windows),
            cbow_mean=bool(model.cbow_mean),
            legacy_cbow=bool(model.legacy_cbow),
            deterministic=bool(model.deterministic),
            keep=self._place(keep),
            alias=self._place(alias),
            paths=self._place(paths),
            locked=self._place(model._locked_rows()),
        )
        self._seed = int(model.seed)
        self._threads = model.workers
        pairs = model.window + 1 if model.shrink_windows else 2 * model.window
        self._pairs = 1 if model.cbow_mean and not model.sg else pairs
        self._counts, self._keep, self._paths = counts, keep, paths

    def _place(self, value: Any) -> Any:
        """Arrays as they are on the CPU, else as tensors on the device."""
        if value is None or self.device == "cpu":
            return value
        if isinstance(value, tuple):
            return tuple(self._place(part) for part in value)
        import torch

        with warnings.catch_warnings():
            # Ids mapped from a file may only be read, and are only read here.
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(value).to(self.device)

    def train(self, run: Run, first: int, last: int) -> tuple[Array, int, int]:
        """Rounds [first, last) of the run's epoch: losses by round, words kept, examples."""
        loss, kept, examples = self._training.run(
            seed=self._seed,
            epoch=run.first_epoch + run.epoch,
            tokens_before=run.epoch * run.tokens,
            tokens_total=max(run.epochs * run.tokens, 1),
            alpha=run.alpha,
            min_alpha=run.min_alpha,
            first_round=first,
            last_round=last,
            threads=self._threads,
        )
        return _on_host(loss), int(kept.sum()), int(examples.sum())

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

    def finite(self, rows: int | None) -> bool:
        """Whether so many rows of each matrix are (None: all); NaN is both least and largest."""
        parts = (matrix[:rows] for matrix in self.matrices.values())
        return all(math.isfinite(part.min()) and math.isfinite(part.max()) for part in parts)

    def fetch(self) -> None:
        """Brings matrices from the device to the model's arrays."""
        if self.device != "cpu":
            for name, array in self._host.items():
                array[...] = self.matrices[name].cpu().numpy()


def _on_host(values: Any) -> Array:
    return np.asarray(values if isinstance(values, np.ndarray) else values.cpu().numpy())


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[list[tuple[int, FrameType | None]]]:
    """Ctrl-C takes effect where the block ends, not within it; the list says whether one waits."""
    waiting: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield waiting
        return
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append((number, frame)))
    try:
        yield waiting
    finally:
        signal.signal(signal.SIGINT, handler)
    if waiting:
        handler(*waiting[0])


class _Clock:
    """Rates since a call of `train` began."""

    def __init__(self, run: Run) -> None:
        self._start = time.perf_counter()
        self._words, self._effective = run.words, run.effective_words

    def progress(self, run: Run) -> Progress:
        seconds = max(time.perf_counter() - self._start, 1e-9)
        return Progress(
            epoch=run.epoch,
            epochs=run.epochs,
            words=run.words,
            words_total=run.raw_words * run.epochs,
            effective_words=run.effective_words,
            examples=run.examples,
            loss=run.loss,
            alpha=run.learning_rate(),
            seconds=seconds,
            raw_words_per_second=(run.words - self._words) / seconds,
            effective_words_per_second=(run.effective_words - self._effective) / seconds,
        )


class _Spans:
    """How many rounds to do at a time, from how long the last ones took."""

    def __init__(self) -> None:
        self._rounds = _FIRST_SPAN

    @contextlib.contextmanager
    def next(self) -> Iterator[int]:
        start = time.perf_counter()
        yield self._rounds
        seconds = max(time.perf_counter() - start, 1e-6)
        factor = min(max(_SPAN_SECONDS / seconds, 0.25), 4.0)
        self._rounds = max(int(self._rounds * factor), 1)


def train(
    model: Word2Vec,
    corpus: Corpus,
    run: Run,
    listeners: list[Any],
    checkpoints: Checkpoints | None,
    group: Group | None,
) -> None:
    """Does what is left of `run`.

    Whatever ends it early leaves the model as it is between two spans, so that the run can go on.
    Raises FloatingPointError where the loss is no longer finite.
    """
    kernels = Kernels(model, corpus)
    model._kernels = kernels
    spans = _Spans()

    def tell(hook: str, progress: Progress) -> None:
        _callbacks.notify(listeners, hook, model, progress)

    def write_checkpoint(written: Checkpoints) -> None:
        # What can be resumed is never replaced by what cannot.
        _check_finite(kernels, run, None)
        written.write(model)

    try:
        with contextlib.ExitStack() as stack:
            if group is not None:
                # A process that left its group at once would keep the others waiting.
                waiting = stack.enter_context(interrupts_deferred())
                group.begin(model, kernels, run, waiting)
            clock = _Clock(run)
            progress = clock.progress(run)
            tell("on_train_begin", progress)
            while run.epoch < run.epochs:
                if run.next_round == 0:
                    tell("on_epoch_begin", clock.progress(run))
                while run.next_round < run.rounds:
                    if group is not None:
                        group.advance(kernels, run)
                    else:
                        with interrupts_deferred(), spans.next() as count:
                            last = min(run.next_round + count, run.rounds)
                            run.add(*kernels.train(run, run.next_round, last))
                            run.next_round = last
                    # All rows in a group: all find the same, and none waits for one that raised.
                    _check_finite(kernels, run, _FREQUENT if group is None else None)
                    tell("on_span_end", clock.progress(run))
                    if checkpoints is not None and checkpoints.due(False):
                        write_checkpoint(checkpoints)
                _check_finite(kernels, run, None)
                progress = clock.progress(run)
                with interrupts_deferred():
                    model._end_epoch(run)
                tell("on_epoch_end", progress)
                # The last one is written when everything else is done.
                if checkpoints is not None and run.epoch < run.epochs and checkpoints.due(True):
                    write_checkpoint(checkpoints)
        model._end_run(run)
        tell("on_train_end", progress)
    except KeyboardInterrupt:
        if checkpoints is not None:
            try:
                write_checkpoint(checkpoints)
            except FloatingPointError as error:
                warnings.warn(
                    f"checkpoint: {checkpoints.path} stays as it was ({error})",
                    RuntimeWarning,
                    stacklevel=2,
                )
        raise
    finally:
        try:
            kernels.fetch()
        finally:
            model._kernels = None
    if checkpoints is not None:
        checkpoints.write(model)


def _check_finite(kernels: Kernels, run: Run, rows: int | None) -> None:
    """Of the loss, and of so many rows of each matrix (None: all)."""
    if math.isfinite(run.loss) and kernels.finite(rows):
        return
    raise FloatingPointError(
        f"Word2Vec: loss and vectors must be finite, got a loss of {run.loss} in epoch "
        f"{run.epoch + 1} of {run.epochs}, after {run.words} words: lower alpha, which is "
        f"{run.learning_rate():.4g}; the last checkpoint, if any, is from before"
    )

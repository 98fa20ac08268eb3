"""The training loop, in spans: between them listeners, checkpoints and Ctrl-C get their turn."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import FrameType

from seqfast.embeddings.base.checkpoint import Checkpoints
from seqfast.embeddings.base.kernels import Kernels
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.state import State
from seqfast.embeddings.callbacks import Progress
from seqfast.embeddings.distributed import Group

_SPAN_SECONDS = 0.3
_FIRST_SPAN_ROUNDS = 64  # enough to learn how fast they go
_MOST_SPAN_ROUNDS = 1 << 20  # a corpus of few rounds takes no time at all, however many are allowed
_FREQUENT_WORDS = 64  # what is wrong anywhere soon reaches them


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


class _RateClock:
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


class _SpanLengths:
    """How many rounds to do at a time, from how long the last ones took."""

    def __init__(self) -> None:
        self._rounds = _FIRST_SPAN_ROUNDS

    @contextlib.contextmanager
    def next(self) -> Iterator[int]:
        start = time.perf_counter()
        yield self._rounds
        seconds = max(time.perf_counter() - start, 1e-6)
        factor = min(max(_SPAN_SECONDS / seconds, 0.25), 4.0)
        self._rounds = min(max(int(self._rounds * factor), 1), _MOST_SPAN_ROUNDS)


def train(
    state: State,
    run: Run,
    kernels: Kernels,
    tell: Callable[[str, Progress], None],
    checkpoints: Checkpoints | None,
    group: Group | None,
) -> None:
    """Does what is left of `run`; `tell` is called with the name of each hook of a `Callback`.

    Whatever ends it early leaves the state as it is between two spans, so that the run can go on.
    Raises FloatingPointError where the loss is no longer finite.
    """
    state.kernels = kernels
    spans = _SpanLengths()

    def write_checkpoint(written: Checkpoints) -> None:
        # What can be resumed is never replaced by what cannot.
        _check_finite(state, kernels, run, None)
        written.write()

    try:
        with contextlib.ExitStack() as stack:
            if group is not None:
                # A process that left its group at once would keep the others waiting.
                waiting = stack.enter_context(interrupts_deferred())
                group.begin(state, kernels, run, waiting)
            clock = _RateClock(run)
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
                    _check_finite(state, kernels, run, _FREQUENT_WORDS if group is None else None)
                    tell("on_span_end", clock.progress(run))
                    if checkpoints is not None and checkpoints.due(False):
                        write_checkpoint(checkpoints)
                _check_finite(state, kernels, run, None)
                progress = clock.progress(run)
                with interrupts_deferred():
                    state.end_epoch(run)
                tell("on_epoch_end", progress)
                # The last one is written when everything else is done.
                if checkpoints is not None and run.epoch < run.epochs and checkpoints.due(True):
                    write_checkpoint(checkpoints)
        state.end_run(run)
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
            state.kernels = None
    if checkpoints is not None:
        checkpoints.write()


def _check_finite(state: State, kernels: Kernels, run: Run, rows: int | None) -> None:
    """Of the loss, and of so many rows of each matrix (None: all)."""
    if math.isfinite(run.loss) and kernels.finite(rows):
        return
    raise FloatingPointError(
        f"{state.model_name}: loss and vectors must be finite, got a loss of {run.loss} in epoch "
        f"{run.epoch + 1} of {run.epochs}, after {run.words} words: lower "
        f"{state.rate_name}, which is {run.learning_rate():.4g}; the last checkpoint, if any, is "
        "from before"
    )

"""What a training run reports to: callbacks, the progress bar, TensorBoard."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

LOGGER = logging.getLogger("seqfast.embeddings")
_SECONDS_PER_LINE = 10.0  # without a terminal


@dataclass(frozen=True)
class Progress:
    """How far a training run has come.

    Attributes:
        epoch: from 0.
        epochs: of the run.
        words: raw words, in the vocabulary or not, since the run began.
        words_total: raw words of the whole run.
        effective_words: words that subsampling kept, since the run began.
        examples: pairs (skip-gram) or windows (CBOW) of the epoch so far.
        loss: the sum over them, in float64.
        alpha: the learning rate.
        seconds: since `train` was called.
        raw_words_per_second: since `train` was called, everything included.
        effective_words_per_second: likewise.

    Example:
        >>> from seqfast.embeddings import Progress
        >>> Progress(0, 5, 100, 500, 80, 40, 120.0, 0.025, 0.1, 1000.0, 800.0).mean_loss
        3.0
    """

    epoch: int  # from 0
    epochs: int
    words: int
    words_total: int
    effective_words: int
    examples: int
    loss: float
    alpha: float
    seconds: float
    raw_words_per_second: float
    effective_words_per_second: float

    @property
    def mean_loss(self) -> float:
        """Loss per example of the epoch so far; 0 before the first."""
        return self.loss / self.examples if self.examples else 0.0


class Callback:
    """Base of callbacks: override the methods you need.

    `model` is the model in training, such as a `Word2Vec`; `progress` is a `Progress`. The model is
    consistent at each call, so a callback may read `model.vectors`, save the model, or raise: an
    error stops the run, and `model.train(resume=True)` continues it. Other objects are called as
    gensim calls its `CallbackAny2Vec`, with the model only: `on_train_begin`, `on_epoch_begin`,
    `on_epoch_end` and `on_train_end`, if they have them, and `on_span_end` and `on_batch_end` about
    three times a second.

    Example:
        >>> import seqfast
        >>> class Print(seqfast.embeddings.Callback):
        ...     def on_epoch_end(self, model, progress):
        ...         print("epoch", progress.epoch)
        >>> text = [["a", "b", "c", "d"]] * 5
        >>> options = {"min_count": 1, "epochs": 2, "progress": False, "workers": 1}
        >>> model = seqfast.Word2Vec(text, callbacks=[Print()], **options)
        epoch 0
        epoch 1
    """

    def on_train_begin(self, model: Any, progress: Progress) -> None:
        """Before the first word of a call of `train`."""

    def on_epoch_begin(self, model: Any, progress: Progress) -> None:
        """Before the first word of an epoch; not if a resumed run starts within the epoch."""

    def on_span_end(self, model: Any, progress: Progress) -> None:
        """About three times a second."""

    def on_epoch_end(self, model: Any, progress: Progress) -> None:
        """`model.loss_per_epoch[-1]` is the loss of this epoch."""

    def on_train_end(self, model: Any, progress: Progress) -> None:
        """After the last epoch; not after an error."""


class TensorBoard(Callback):
    """Writes loss, learning rate and words per second to TensorBoard, against words read.

    Without torch or tensorboard (`pip install seqfast[tensorboard]`) the start of training raises
    ImportError, unless `writer` is given.

    Args:
        log_dir: as for `torch.utils.tensorboard.SummaryWriter`.
        writer: an object with the methods `add_scalar` and `flush` to use instead; it is not
            closed.

    Example:
        >>> from seqfast.embeddings import TensorBoard
        >>> callback = TensorBoard("runs/word2vec")  # Word2Vec(..., callbacks=[callback])
    """

    def __init__(self, log_dir: str | None = None, *, writer: Any = None) -> None:
        self.log_dir = log_dir
        self.writer = writer
        self._own = writer is None

    def on_train_begin(self, model: Any, progress: Progress) -> None:
        if self.writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard: needs torch and tensorboard: pip install seqfast[tensorboard]"
            ) from error
        self.writer = SummaryWriter(self.log_dir)

    def on_span_end(self, model: Any, progress: Progress) -> None:
        for name, value in (
            ("loss", progress.mean_loss),
            ("alpha", progress.alpha),
            ("raw words per second", progress.raw_words_per_second),
            ("effective words per second", progress.effective_words_per_second),
        ):
            self.writer.add_scalar(_tag(model, name), value, progress.words)

    def on_epoch_end(self, model: Any, progress: Progress) -> None:
        self.writer.add_scalar(_tag(model, "loss of the epoch"), progress.mean_loss, progress.epoch)
        self.writer.flush()

    def on_train_end(self, model: Any, progress: Progress) -> None:
        if self._own:
            self.writer.close()
            self.writer = None


class ProgressBar(Callback):
    """The progress: tqdm's bar in a terminal or notebook, else a line now and then.

    Without a terminal (a log file), or without tqdm, a line is written after an epoch if ten
    seconds have passed since the last one, and at the end. All on standard error; where that is
    closed, training goes on in silence.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._written = 0.0
        self._line: str | None = None  # of the latest epoch, not written yet

    def on_train_begin(self, model: Any, progress: Progress) -> None:
        self._written = time.monotonic()
        if not shows_bars():
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        with _silently():
            self._bar = tqdm(
                total=progress.words_total,
                initial=progress.words,
                unit="word",
                unit_scale=True,
                desc=_epoch_of(progress),
                bar_format="{desc}{percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]",
            )

    def on_epoch_begin(self, model: Any, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.set_description(_epoch_of(progress), refresh=False)

    def on_span_end(self, model: Any, progress: Progress) -> None:
        if self._bar is not None:
            with _silently():
                self._bar.set_postfix_str(_figures(progress), refresh=False)
                self._bar.update(progress.words - self._bar.n)

    def on_epoch_end(self, model: Any, progress: Progress) -> None:
        if self._bar is None:
            self._line = f"{_epoch_of(progress)}: {_figures(progress)}"
            if time.monotonic() - self._written >= _SECONDS_PER_LINE:
                self._write()

    def on_train_end(self, model: Any, progress: Progress) -> None:
        self.close()

    def close(self) -> None:
        """After an error or an interrupt, too: the bar must not keep the terminal's line."""
        if self._bar is not None:
            with _silently():
                self._bar.close()
            self._bar = None
        self._write()

    def _write(self) -> None:
        if self._line is not None and sys.stderr is not None:
            with _silently():
                print(self._line, file=sys.stderr, flush=True)
        self._line, self._written = None, time.monotonic()


class Log(Callback):
    """What the logger "seqfast.embeddings" is told, at level INFO."""

    def on_train_begin(self, model: Any, progress: Progress) -> None:
        LOGGER.info(
            "%s: training on %d words, %d epochs, alpha %.4g",
            model.state.model_name,
            progress.words_total // max(progress.epochs, 1),
            progress.epochs,
            progress.alpha,
        )

    def on_epoch_end(self, model: Any, progress: Progress) -> None:
        LOGGER.info("%s: %s: %s", model.state.model_name, _epoch_of(progress), _figures(progress))

    def on_train_end(self, model: Any, progress: Progress) -> None:
        LOGGER.info(
            "%s: trained on %d raw and %d effective words in %.1f s",
            model.state.model_name,
            progress.words,
            progress.effective_words,
            progress.seconds,
        )


def shows_bars() -> bool:
    """Whether a bar can be drawn again and again: in a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        return True
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except (AttributeError, ValueError):  # closed, or no stream at all
        return False


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """What cannot be shown is no reason to end a training."""
    with contextlib.suppress(OSError, ValueError):
        yield


@contextlib.contextmanager
def reading_bar(wanted: bool) -> Iterator[Callable[[int, int | None, str], None] | None]:
    """What `seqfast.embeddings.corpus.read` tells its progress, shown by tqdm if it is there."""
    wanted = wanted and shows_bars()
    if wanted:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            wanted = False
    if not wanted:
        yield None
        return
    # It shows itself only where reading takes long enough to be asked about.
    bar: Any = None
    with _silently():
        bar = tqdm(desc="reading", unit_scale=True, leave=False, delay=1.0)
    if bar is None:
        yield None
        return

    def show(done: int, total: int | None, unit: str) -> None:
        with _silently():
            bar.total, bar.unit = total, unit
            bar.update(done - bar.n)

    try:
        yield show
    finally:
        with _silently():
            bar.close()


def _tag(model: Any, name: str) -> str:
    return f"{model.state.model_name.lower()}/{name}"


def _epoch_of(progress: Progress) -> str:
    return f"epoch {progress.epoch + 1}/{progress.epochs}"


def _figures(progress: Progress) -> str:
    return (
        f"loss {progress.mean_loss:.4f}, alpha {progress.alpha:.5f}, "
        f"{progress.raw_words_per_second / 1e3:.0f}k raw and "
        f"{progress.effective_words_per_second / 1e3:.0f}k effective words/s"
    )


HOOKS = ("on_train_begin", "on_epoch_begin", "on_span_end", "on_epoch_end", "on_train_end")
_NAMES_OF_OTHERS = {"on_span_end": ("on_span_end", "on_batch_end")}  # of callbacks not ours


def checked_callbacks(operation: str, callbacks: Any) -> list[Any]:
    """The callbacks as a list. Raises TypeError for what has none of the methods."""
    listed: list[Any] = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for callback in listed:
        if hasattr(callback, "on_batch_begin"):
            raise TypeError(
                f"{operation}: callbacks must not have on_batch_begin, which is never called; "
                f"on_batch_end is called about three times a second; got {callback!r}"
            )
        known = (*HOOKS, "on_batch_end")
        if isinstance(callback, type) or not any(hasattr(callback, hook) for hook in known):
            raise TypeError(
                f"{operation}: callbacks must have one of the methods {', '.join(HOOKS)}, got "
                f"{callback!r}"
            )
    return listed


def notify(callbacks: list[Any], model: Any, hook: str, progress: Progress) -> None:
    """Calls a method of each: ours with model and progress, gensim's with the model."""
    for callback in callbacks:
        if isinstance(callback, Callback):
            getattr(callback, hook)(model, progress)
            continue
        for name in _NAMES_OF_OTHERS.get(hook, (hook,)):
            if hasattr(callback, name):
                getattr(callback, name)(model)

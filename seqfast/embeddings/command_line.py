"""What command lines of word vectors share: messages, exit status, checks of files, classes."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from seqfast.embeddings.files import PathLike, check_writable

_FAILURES = (OSError, ValueError, RuntimeError, ImportError, ArithmeticError, MemoryError)


@dataclass
class Outcome:
    """Exit status of a program: 0, 1 after an error, 130 after Ctrl-C."""

    status: int = 0


@contextlib.contextmanager
def told_on_standard_error(program: str, checkpoint: PathLike | None) -> Iterator[Outcome]:
    """Errors, warnings and Ctrl-C of the block become lines of the program, and its status."""
    outcome = Outcome()

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        say(program, f"warning: {message}")

    with warnings.catch_warnings():
        for kind in (RuntimeWarning, UnicodeWarning):
            warnings.simplefilter("always", kind)
        warnings.showwarning = show_warning
        try:
            yield outcome
        except KeyboardInterrupt:
            kept = checkpoint is not None and os.path.exists(checkpoint)
            say(
                program,
                f"interrupted; --resume continues from {checkpoint}"
                if kept
                else "interrupted; there are no vectors",
            )
            outcome.status = 130
        except _FAILURES as error:
            say(program, f"error: {error or type(error).__name__}")
            outcome.status = 1


def say(program: str, text: str) -> None:
    print(f"{program}: {text}", file=sys.stderr, flush=True)


def seconds_or_epoch(text: str) -> float | str:
    return text if text == "epoch" else float(text)


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_distinct(parser: argparse.ArgumentParser, written: Mapping[str, str | None]) -> None:
    """Exits where two options name one file to be written."""
    given = [(name, path) for name, path in written.items() if path]
    for (one, path), (other, again) in itertools.combinations(given, 2):
        # A device takes all of it; in a file what is written last would replace the rest.
        special = os.path.exists(path) and not os.path.isfile(path)
        if not special and _same_file(path, again):
            parser.error(f"{one} and {other} must be different files, got {path} for both")


def _same_file(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def check_files(*, read: Iterable[str | None], written: Iterable[str | None]) -> None:
    """What cannot be written is found out before the training, not after it."""
    sources = list(read)
    for path in written:
        if path is None:
            continue
        check_writable(path)
        for source in sources:
            if source and os.path.exists(path) and os.path.samefile(path, source):
                raise ValueError(f"{path} is an input, so it must not be an output too")


def check_classes_can_be_found() -> None:
    """Before the training, not after it: raises ImportError without scikit-learn."""
    from sklearn.cluster import KMeans  # noqa: F401


def write_classes(file: BinaryIO, model: Any, classes: int, seed: int) -> None:
    """K-means of the directions of the vectors, a word and its class a line."""
    from sklearn.cluster import KMeans

    vectors = np.array(model.vectors)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    clusters = KMeans(classes, n_init=1, random_state=seed % 2**32).fit_predict(vectors)
    for word, cluster in zip(model.index_to_key, clusters.tolist(), strict=True):
        file.write(f"{word} {cluster}\n".encode())

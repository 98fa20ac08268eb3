"""A state in one of our files and back, and files that are replaced while a training goes on."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.state import Settings, State
from seqfast.embeddings.corpus.vocabulary import Vocabulary
from seqfast.embeddings.files import PathLike, remove_partial
from seqfast.embeddings.formats import safetensors
from seqfast.embeddings.formats.safetensors import StoredFile

Array = npt.NDArray[Any]

_WHOLE_NUMBERS = (
    "epochs_trained",
    "train_count",
    "corpus_count",
    "corpus_total_words",
    "raw_types",
)


def save(path: PathLike, state: State) -> None:
    """Writes all of a state that decides its result, whole or not at all. Raises OSError."""
    state.fetch()
    data, offsets = safetensors.pack_words(state.vocabulary.words)
    tensors = {name: array[:, : state.width(name)] for name, array in state.matrices.items()}
    tensors |= {"counts": state.vocabulary.counts, "words": data, "word_offsets": offsets}
    whole = np.array([not isinstance(word, str) for word in state.vocabulary.words], np.uint8)
    if whole.any():
        tensors["int_words"] = whole
    locked = state.locked_rows()
    if locked is not None:
        tensors["locked"] = locked
    contents = {
        "settings": {name: _json_value(v) for name, v in vars(state.settings).items()},
        "run": None if state.run is None else vars(state.run),
        "trained_on": state.trained_on,
        "loss_per_epoch": state.loss_per_epoch,
        "mean_loss_per_epoch": state.mean_loss_per_epoch,
        "epochs_trained": state.epochs_trained,
        "train_count": state.train_count,
        "latest_loss": state.latest_loss,
        "corpus_count": state.corpus_count,
        "corpus_total_words": state.corpus_total_words or 0,
        "raw_types": state.vocabulary.raw_types,
    }
    safetensors.write(path, state.file_kind, tensors, contents)


def _json_value(value: Any) -> Any:
    """What JSON knows: NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def settings_of(stored: StoredFile, settings_class: Callable[..., Settings]) -> dict[str, Any]:
    """The settings of a file, each looked at; without those that it is too old to carry."""
    with stored.damage_named("a setting"):
        carried = stored.state["settings"]
        settings = {
            field.name: carried[field.name]
            for field in dataclasses.fields(settings_class)  # type: ignore[arg-type]
            if field.name in carried or field.default is dataclasses.MISSING
        }
        settings_class(**settings).check()
    return settings


def restore(state: State, stored: StoredFile) -> None:
    """Gives a new state of the file's settings the words, matrices and progress of the file."""
    with stored.damage_named("its state"):
        contents = stored.state
        words = _words(stored)
        size = state.settings.vector_size
        # Before there is room for it: a damaged size may ask for more than there is memory.
        if stored.shape("vectors") != (len(words), size):
            raise ValueError(f"vectors are {list(stored.shape('vectors'))}")
        counts = stored.array("counts")
        if counts.dtype != np.int64 or (counts < 0).any():
            raise ValueError("a count is below 0 or no integer")
        numbers = {name: _whole(contents, name) for name in _WHOLE_NUMBERS}
        state.vocabulary = Vocabulary(
            words,
            counts,
            raw_words=numbers["corpus_total_words"],
            raw_types=numbers["raw_types"],
            raw_sentences=numbers["corpus_count"],
            min_count=state.settings.min_count,
        )
        state.matrices = state.new_matrices(len(words))
        known = {"counts", "words", "word_offsets", "int_words", "locked", *state.matrices}
        if strange := sorted(stored.tensors.keys() - known):
            raise ValueError(f"these settings have no {', '.join(strange)}")
        for name, array in state.matrices.items():
            stored.fill(name, array[:, : state.width(name)])
        if "locked" in stored:
            state.locked = stored.array("locked").astype(bool)
            state.locked_rows()
        state.loss_per_epoch = _losses(contents, "loss_per_epoch")
        state.mean_loss_per_epoch = _losses(contents, "mean_loss_per_epoch")
        state.epochs_trained = numbers["epochs_trained"]
        state.train_count = numbers["train_count"]
        state.corpus_count = numbers["corpus_count"]
        state.corpus_total_words = numbers["corpus_total_words"]
        state.latest_loss = _real(contents, "latest_loss")
        trained_on = contents["trained_on"]
        state.trained_on = None if trained_on is None else _text(contents, "trained_on")
        if contents["run"] is not None:
            state.run = _run(state.run_class, contents["run"], state.trained_on)


def _words(stored: StoredFile) -> list[Any]:
    """str, and int where the file says so."""
    words: list[Any] = safetensors.unpack_words(stored.array("words"), stored.array("word_offsets"))
    if "int_words" in stored:
        whole = stored.array("int_words")
        if whole.shape != (len(words),):
            raise ValueError(f"int_words are {list(whole.shape)}")
        words = [int(word) if flag else word for word, flag in zip(words, whole, strict=True)]
    return words


def _run(run_class: type[Run], fields: dict[str, Any], trained_on: str | None) -> Run:
    checks: dict[str, Callable[..., Any]] = {"int": _whole, "float": _real, "str": _text}
    kinds = {field.name: str(field.type) for field in dataclasses.fields(run_class)}
    if fields.keys() != kinds.keys():
        raise ValueError(f"run has {', '.join(fields)}")
    run = run_class(**{name: checks[kind](fields, name) for name, kind in kinds.items()})
    if run.fingerprint != trained_on:
        raise ValueError(f"run has the corpus {run.fingerprint}, the model {trained_on}")
    if run.epoch > run.epochs or run.next_round > run.rounds:
        raise ValueError(f"run is in epoch {run.epoch} and round {run.next_round}")
    return run


def _whole(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{name} is {value!r}")
    return value


def _real(values: Mapping[str, Any], name: str) -> float:
    value = values[name]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}")
    return float(value)


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}")
    return value


def _losses(values: Mapping[str, Any], name: str) -> list[float]:
    if not isinstance(values[name], list):
        raise ValueError(f"{name} is {values[name]!r}")
    return [_real({name: value}, name) for value in values[name]]


class Checkpoints:
    """Has a model written to `path` every `every` seconds, or after each epoch ("epoch").

    A checkpoint that cannot be written is a RuntimeWarning; the one before it stays.
    """

    def __init__(
        self, path: PathLike, every: float | str, save: Callable[[PathLike], None]
    ) -> None:
        self.path = path
        self._save = save
        self.every = every
        self._last = time.monotonic()
        remove_partial(path)  # a run has its checkpoint for itself

    def due(self, epoch_ended: bool) -> bool:
        if isinstance(self.every, str):
            return epoch_ended
        return time.monotonic() - self._last >= self.every

    def write(self) -> bool:
        """Whether it could be written."""
        try:
            self._save(self.path)
        except OSError as error:
            warnings.warn(
                f"checkpoint: {self.path} could not be written ({error}); the previous one is "
                "kept, and training continues",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        finally:
            self._last = time.monotonic()
        return True

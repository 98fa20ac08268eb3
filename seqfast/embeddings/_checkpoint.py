"""One file for a model and the state of its training: safetensors with a JSON header, no pickle."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings import _settings
from seqfast.embeddings._files import PathLike, atomic_file, remove_partial
from seqfast.embeddings._training import Run
from seqfast.embeddings.corpus import Vocabulary
from seqfast.ops.corpus import fingerprint

if TYPE_CHECKING:
    from seqfast.embeddings.word2vec import Word2Vec

Array = npt.NDArray[Any]

FORMAT = "seqfast.word2vec"
VERSION = 1
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_DIGITS = 16  # of a fingerprint
_BLOCK = 1 << 24  # bytes of rows that are made contiguous, and have a sum, at a time
_WHOLE = ("epochs_trained", "train_count", "corpus_count", "corpus_total_words", "raw_types")
_LONGEST_HEADER = 100_000_000  # what the safetensors library reads


def write(path: PathLike, tensors: Mapping[str, Array], state: Mapping[str, Any]) -> None:
    """Writes arrays and `state` (what JSON can say) to `path`, whole or not at all.

    The file is a safetensors file (https://github.com/huggingface/safetensors): the tensors by
    their names, `state` as JSON in the metadata entry "state". In the entry "sums" are
    fingerprints of the state and of each block of rows of a tensor. Arrays may be views with padded
    rows. Raises OSError, and then `path` is as it was.
    """
    arrays = {name: _storable(name, array) for name, array in tensors.items()}
    text_of_state = json.dumps(state, allow_nan=False)
    sums = {"state": _sum_of_text(text_of_state)}
    for name, array in arrays.items():
        sums[name] = "".join(map(fingerprint, _blocks(array)))
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "version": str(VERSION),
            "state": text_of_state,
            "sums": json.dumps(sums),
        }
    }
    offset = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            for block in _blocks(array):
                file.write(block.data)


def _storable(name: str, array: Array) -> Array:
    little = array.dtype.newbyteorder("<")
    if little not in _NAMES:
        raise TypeError(f"checkpoint: {name} must be float32, int64 or uint8, got {array.dtype}")
    return array.astype(little, copy=False)


def _blocks(array: Array) -> Iterator[Array]:
    """Its rows without what pads them, some at a time."""
    rows = _rows_of_block(array.nbytes // max(len(array), 1))
    for first in range(0, len(array), rows):
        yield np.ascontiguousarray(array[first : first + rows])


def _rows_of_block(width: int) -> int:
    return max(_BLOCK // max(width, 1), 1)


def _sum_of_text(text: str) -> str:
    return fingerprint(np.frombuffer(text.encode(), np.uint8))


@dataclass
class Stored:
    """What `read` found: the state, and tensors that are read when they are asked for."""

    path: Path
    state: dict[str, Any]
    tensors: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]  # dtype, shape, first byte
    sums: dict[str, str]  # a fingerprint for each block; empty in files of older versions

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1]

    def array(self, name: str) -> Array:
        dtype, shape, _ = self.tensors[name]
        array = np.empty(shape, dtype)
        self.fill(name, array)
        return array

    def fill(self, name: str, array: Array) -> None:
        """Reads a tensor into an array of its shape, which may be a view with padded rows."""
        dtype, shape, first = self.tensors[name]
        if shape != array.shape:
            raise ValueError(
                f"checkpoint: {name} of {self.path} must be {list(array.shape)}, got {list(shape)}"
            )
        width = dtype.itemsize * int(np.prod(shape[1:]))
        rows = _rows_of_block(width)
        with open(self.path, "rb") as file:
            file.seek(first)
            for row in range(0, len(array), rows):
                part = array[row : row + rows]
                data = file.read(width * len(part))
                if len(data) != width * len(part):
                    raise _damaged(self.path, "it ends early")
                block = np.frombuffer(data, dtype)
                place = row // rows * _DIGITS
                if self.sums and fingerprint(block) != self.sums[name][place : place + _DIGITS]:
                    raise ValueError(f"{name} is not what was written")
                part[...] = block.reshape(part.shape)


def read(path: PathLike) -> Stored:
    """Opens a file that `write` made.

    Raises OSError, and ValueError for a file of another kind, a newer version or one cut short.
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(_LONGEST_HEADER, size - 8):
            raise _damaged(path, "its first 8 bytes are no length of a header")
        text = file.read(length)
    with _understood(path, "its header"):
        header = _parsed(text)
        metadata = header.pop("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        version = int(metadata["version"])
        if version < 1:
            raise ValueError(f"its version is {version}")
    if version > VERSION:
        raise ValueError(f"checkpoint: {path} must be of version {VERSION} or older, got {version}")
    with _understood(path, "its header"):
        state = _parsed(metadata["state"])
        if not isinstance(state, dict):
            raise TypeError(f"its state is {type(state).__name__}")
        sums = _parsed(metadata.get("sums", "{}"))
        if sums and sums["state"] != _sum_of_text(metadata["state"]):
            raise ValueError("its state is not what was written")
        return Stored(path, state, _placed(header, 8 + length, size), sums)


def _parsed(text: bytes | str) -> Any:
    """JSON without NaN and Infinity, which `write` does not write."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    return json.loads(text, parse_constant=refuse)


def _placed(
    header: Mapping[str, Any], start: int, size: int
) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]:
    """Each tensor's dtype, shape and first byte; together they are the file from `start` on."""
    placed, spans = {}, []
    for name, entry in header.items():
        dtype, shape, offsets = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        for numbers in (shape, offsets):
            if not isinstance(numbers, list) or any(
                type(number) is not int or number < 0 for number in numbers
            ):
                raise ValueError(f"shape and offsets of {name} are {shape} and {offsets}")
        first, last = offsets
        if last - first != dtype.itemsize * math.prod(shape):
            raise ValueError(f"{name} does not end where it should")
        spans.append((first, last, name))
        placed[name] = (dtype, tuple(shape), start + first)
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise ValueError(f"{name} does not begin where it should")
        end = last
    if start + end != size:
        raise ValueError(f"it has {size} bytes in place of {start + end}")
    return placed


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"checkpoint: {path} must be a file of seqfast.Word2Vec, and whole: {why}")


@contextlib.contextmanager
def _understood(path: Path, what: str) -> Iterator[None]:
    """What goes wrong where a file is taken apart is the file's fault, and names it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(path, f"{what} is not understood: {error}") from error
    except RecursionError as error:
        raise _damaged(path, f"{what} is too deep") from error


def pack_words(words: list[str]) -> tuple[Array, Array]:
    """The words' UTF-8 bytes one after another, uint8, and where each begins, int64 [words + 1]."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(word) for word in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def unpack_words(data: Array, offsets: Array) -> list[str]:
    """The reverse of `pack_words`. Raises ValueError for what it did not make."""
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != data.size:
        raise ValueError("the words do not begin and end where they should")
    if (offsets[1:] < offsets[:-1]).any():
        raise ValueError("a word ends before it begins")
    text = data.tobytes()
    ends = offsets.tolist()
    return [
        text[first:last].decode("utf-8", "surrogatepass")
        for first, last in itertools.pairwise(ends)
    ]


def contents(model: Word2Vec) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the state that `write` is to write of a model."""
    data, offsets = pack_words(model.index_to_key)
    tensors = {name: array[:, : model.vector_size] for name, array in model._matrices.items()}
    tensors |= {"counts": model.counts, "words": data, "word_offsets": offsets}
    locked = model._locked_rows()
    if locked is not None:
        tensors["locked"] = locked
    state = {
        "settings": {name: _plain(getattr(model, name)) for name in _settings.NAMES},
        "run": None if model._run is None else vars(model._run),
        "trained_on": model._trained_on,
        "loss_per_epoch": model.loss_per_epoch,
        "mean_loss_per_epoch": model.mean_loss_per_epoch,
        "epochs_trained": model.epochs_trained,
        "train_count": model.train_count,
        "latest_loss": model._latest_loss,
        "corpus_count": model.corpus_count,
        "corpus_total_words": model.corpus_total_words,
        "raw_types": model.vocabulary.raw_types,
    }
    return tensors, state


def _plain(value: Any) -> Any:
    """What JSON knows: NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def settings_of(stored: Stored, others: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file, each looked at; `others`: those that a file does not carry."""
    with _understood(stored.path, "a setting"):
        carried = stored.state["settings"]
        # Files of older versions do not have all of them.
        names = [name for name in _settings.NAMES if name in carried or name not in _settings.LATER]
        settings = {name: carried[name] for name in names}
        _settings.check({**others, **settings})
    return settings


def restore(model: Word2Vec, stored: Stored) -> None:
    """Gives a new model of the file's settings the words, matrices and state of the file."""
    with _understood(stored.path, "its state"):
        state = stored.state
        words = unpack_words(stored.array("words"), stored.array("word_offsets"))
        # Before there is room for it: a damaged size may ask for more than there is memory.
        if stored.shape("vectors") != (len(words), model.vector_size):
            raise ValueError(f"vectors are {list(stored.shape('vectors'))}")
        counts = stored.array("counts")
        if counts.dtype != np.int64 or (counts < 0).any():
            raise ValueError("a count is below 0 or no integer")
        numbers = {name: _whole(state, name) for name in _WHOLE}
        model.vocabulary = Vocabulary(
            words,
            counts,
            raw_words=numbers["corpus_total_words"],
            raw_types=numbers["raw_types"],
            raw_sentences=numbers["corpus_count"],
            min_count=model.min_count,
        )
        model._matrices = model._new_matrices(len(words))
        known = {"counts", "words", "word_offsets", "locked", *model._matrices}
        if strange := sorted(stored.tensors.keys() - known):
            raise ValueError(f"these settings have no {', '.join(strange)}")
        for name, array in model._matrices.items():
            stored.fill(name, array[:, : model.vector_size])
        if "locked" in stored:
            model.locked = stored.array("locked").astype(bool)
            model._locked_rows()
        model.loss_per_epoch = _losses(state, "loss_per_epoch")
        model.mean_loss_per_epoch = _losses(state, "mean_loss_per_epoch")
        model.epochs_trained = numbers["epochs_trained"]
        model.train_count = numbers["train_count"]
        model.corpus_count = numbers["corpus_count"]
        model.corpus_total_words = numbers["corpus_total_words"]
        model._latest_loss = _real(state, "latest_loss")
        model._trained_on = None if state["trained_on"] is None else _text(state, "trained_on")
        model._run = None if state["run"] is None else _run(state["run"], model._trained_on)


def _run(fields: dict[str, Any], trained_on: str | None) -> Run:
    checks: dict[str, Callable[..., Any]] = {"int": _whole, "float": _real, "str": _text}
    kinds = {field.name: str(field.type) for field in dataclasses.fields(Run)}
    if fields.keys() != kinds.keys():
        raise ValueError(f"run has {', '.join(fields)}")
    run = Run(**{name: checks[kind](fields, name) for name, kind in kinds.items()})
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
    """Writes a model to `path` every `every` seconds, or after each epoch ("epoch").

    A checkpoint that cannot be written is a RuntimeWarning; the one before it stays.
    """

    def __init__(self, path: PathLike, every: float | str) -> None:
        self.path = path
        self.every = every
        self._last = time.monotonic()
        remove_partial(path)  # a run has its checkpoint for itself

    def due(self, epoch_ended: bool) -> bool:
        if isinstance(self.every, str):
            return epoch_ended
        return time.monotonic() - self._last >= self.every

    def write(self, model: Any) -> bool:
        """Whether it could be written."""
        try:
            model.save(self.path)
        except OSError as error:
            warnings.warn(
                f"checkpoint: {self.path} could not be written ({error}); the one before it "
                "stays, and training goes on",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        finally:
            self._last = time.monotonic()
        return True

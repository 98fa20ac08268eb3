"""One file for a model and the state of its training: safetensors with a JSON header, no pickle."""

from __future__ import annotations

import itertools
import json
import struct
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from seqfast.embeddings._files import PathLike, atomic_file, remove_partial

Array = npt.NDArray[Any]

FORMAT = "seqfast.word2vec"
VERSION = 1
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_BLOCK = 1 << 24  # bytes of rows that are made contiguous at a time
_LONGEST_HEADER = 100_000_000  # what the safetensors library reads


def write(path: PathLike, tensors: Mapping[str, Array], state: Mapping[str, Any]) -> None:
    """Writes arrays and `state` (what JSON can say) to `path`, whole or not at all.

    The file is a safetensors file (https://github.com/huggingface/safetensors): the tensors by
    their names, `state` as JSON in the metadata entry "state". Arrays may be views with padded
    rows. Raises OSError, and then `path` is as it was.
    """
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "version": str(VERSION),
            "state": json.dumps(state, allow_nan=False),
        }
    }
    arrays = {name: _storable(name, array) for name, array in tensors.items()}
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
            _write_rows(file, array)


def _storable(name: str, array: Array) -> Array:
    little = array.dtype.newbyteorder("<")
    if little not in _NAMES:
        raise TypeError(f"checkpoint: {name} must be float32, int64 or uint8, got {array.dtype}")
    return array.astype(little, copy=False)


def _write_rows(file: BinaryIO, array: Array) -> None:
    rows = max(_BLOCK * len(array) // max(array.nbytes, 1), 1)
    for first in range(0, len(array), rows):
        file.write(np.ascontiguousarray(array[first : first + rows]).data)


@dataclass
class Stored:
    """What `read` found: the state, and tensors that are read when they are asked for."""

    path: Path
    state: dict[str, Any]
    tensors: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]  # dtype, shape, first byte

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
        rows = max(_BLOCK // max(width, 1), 1)
        with open(self.path, "rb") as file:
            file.seek(first)
            for row in range(0, len(array), rows):
                part = array[row : row + rows]
                data = file.read(width * len(part))
                if len(data) != width * len(part):
                    raise _damaged(self.path, "it ends early")
                part[...] = np.frombuffer(data, dtype).reshape(part.shape)


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
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            if metadata.get("format") != FORMAT:
                raise _damaged(path, f"its format is {metadata.get('format')!r}")
            if int(metadata["version"]) > VERSION:
                raise ValueError(
                    f"checkpoint: {path} must be of version {VERSION} or older, got "
                    f"{metadata['version']}"
                )
            state = json.loads(metadata["state"])
            tensors = {
                name: (_DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"])
                for name, entry in header.items()
            }
        except (UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, f"its header is not understood: {error}") from error
        except json.JSONDecodeError as error:
            raise _damaged(path, f"its header is no JSON: {error}") from error
    placed = {}
    for name, (dtype, shape, (first, last)) in tensors.items():
        if last - first != dtype.itemsize * int(np.prod(shape)) or 8 + length + last > size:
            raise _damaged(path, f"{name} does not end where it should")
        placed[name] = (dtype, shape, 8 + length + first)
    return Stored(path, state, placed)


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"checkpoint: {path} must be a file of seqfast.Word2Vec, and whole: {why}")


def pack_words(words: list[str]) -> tuple[Array, Array]:
    """The words' UTF-8 bytes one after another, uint8, and where each begins, int64 [words + 1]."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(word) for word in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def unpack_words(data: Array, offsets: Array) -> list[str]:
    """The reverse of `pack_words`."""
    text = data.tobytes()
    ends = offsets.tolist()
    return [
        text[first:last].decode("utf-8", "surrogatepass")
        for first, last in itertools.pairwise(ends)
    ]


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

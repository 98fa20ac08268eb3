"""Our own files: arrays and a state as JSON in one safetensors file, no pickle, with sums."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.files import PathLike, atomic_file
from seqfast.ops.corpus import fingerprint

Array = npt.NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_SUM_DIGITS = 16  # of a fingerprint
_BLOCK_BYTES = 1 << 24  # bytes of rows that are made contiguous, and have a sum, at a time
_LONGEST_HEADER = 100_000_000  # what the safetensors library reads


@dataclass(frozen=True)
class FileKind:
    """What a file says that it is, so that one of another class is not taken for it."""

    name: str  # seqfast.word2vec
    version: int  # the newest that is read, and the one that is written
    writer: str  # the class whose files these are, as errors name it


def write(
    path: PathLike, kind: FileKind, tensors: Mapping[str, Array], state: Mapping[str, Any]
) -> None:
    """Writes arrays and `state` (what JSON can say) to `path`, whole or not at all.

    The file is a safetensors file (https://github.com/huggingface/safetensors): the tensors by
    their names, `state` as JSON in the metadata entry "state". In the entry "sums" are
    fingerprints of the state and of each block of rows of a tensor. Arrays may be views with padded
    rows. Raises OSError, and then `path` is as it was.
    """
    arrays = {name: _as_stored(name, array) for name, array in tensors.items()}
    text_of_state = json.dumps(state, allow_nan=False)
    sums = {"state": _sum_of_text(text_of_state)}
    for name, array in arrays.items():
        sums[name] = "".join(map(fingerprint, _blocks(array)))
    header: dict[str, Any] = {
        "__metadata__": {
            "format": kind.name,
            "version": str(kind.version),
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


def _as_stored(name: str, array: Array) -> Array:
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
    return max(_BLOCK_BYTES // max(width, 1), 1)


def _sum_of_text(text: str) -> str:
    return fingerprint(np.frombuffer(text.encode(), np.uint8))


@dataclass
class StoredFile:
    """What `read` found: the state, and tensors that are read when they are asked for."""

    path: Path
    kind: FileKind
    state: dict[str, Any]
    tensors: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]  # dtype, shape, first byte
    sums: dict[str, str]  # a fingerprint for each block; empty in files of older versions

    def damage_named(self, what: str) -> contextlib.AbstractContextManager[None]:
        """What goes wrong in the block is a ValueError that names the file and `what` of it."""
        return _damage_named(self.path, self.kind, what)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1]

    def array(self, name: str) -> Array:
        dtype, shape, _ = self.tensors[name]
        array = np.empty(shape, dtype)
        self.fill(name, array)
        return array

    def mapped(self, name: str) -> Array:
        """The tensor where it lies in the file, which is read page by page as it is looked at.

        It may only be read, and its sums are not checked: that would read all of it.
        """
        dtype, shape, first = self.tensors[name]
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        return np.memmap(self.path, dtype, "r", first, shape)

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
                    raise _damaged(self.path, self.kind, "it ends early")
                block = np.frombuffer(data, dtype)
                place = row // rows * _SUM_DIGITS
                if self.sums and fingerprint(block) != self.sums[name][place : place + _SUM_DIGITS]:
                    raise ValueError(f"{name} is not what was written")
                part[...] = block.reshape(part.shape)


def read(path: PathLike, kind: FileKind) -> StoredFile:
    """Opens a file that `write` made of this kind.

    Raises OSError, and ValueError for a file of another kind, a newer version or one cut short.
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(_LONGEST_HEADER, size - 8):
            raise _damaged(
                path,
                kind,
                (
                    "its first 8 bytes are not the length of a header; "
                    "seqfast.embeddings.WordVectors.load reads word vectors of other programs"
                ),
            )
        text = file.read(length)
    with _damage_named(path, kind, "its header"):
        header = _parsed_json(text)
        metadata = header.pop("__metadata__", {})
        if metadata.get("format") != kind.name:
            name = metadata.get("format")
            other = "; load it with the class that saved it" if _is_of_ours(name) else ""
            raise ValueError(f"its format is {name!r}{other}")
        version = int(metadata["version"])
        if version < 1:
            raise ValueError(f"its version is {version}")
    if version > kind.version:
        raise ValueError(
            f"checkpoint: {path} must be of version {kind.version} or older, got {version}"
        )
    with _damage_named(path, kind, "its header"):
        state = _parsed_json(metadata["state"])
        if not isinstance(state, dict):
            raise TypeError(f"its state is {type(state).__name__}")
        sums = _parsed_json(metadata.get("sums", "{}"))
        if sums and sums["state"] != _sum_of_text(metadata["state"]):
            raise ValueError("its state is not what was written")
        return StoredFile(path, kind, state, _tensor_places(header, 8 + length, size), sums)


def _parsed_json(text: bytes | str) -> Any:
    """JSON without NaN and Infinity, which `write` does not write."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    return json.loads(text, parse_constant=refuse)


def _tensor_places(
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


def _is_of_ours(name: Any) -> bool:
    return isinstance(name, str) and name.startswith("seqfast.")


def _damaged(path: Path, kind: FileKind, why: str) -> ValueError:
    return ValueError(f"checkpoint: {path} must be a file of {kind.writer}, and whole: {why}")


@contextlib.contextmanager
def _damage_named(path: Path, kind: FileKind, what: str) -> Iterator[None]:
    """What goes wrong where a file is taken apart is the file's fault, and names it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(path, kind, f"{what} is not understood: {error}") from error
    except RecursionError as error:
        raise _damaged(path, kind, f"{what} is too deep") from error


def pack_words(words: list[Any]) -> tuple[Array, Array]:
    """The words' UTF-8 bytes one after another, uint8, and where each begins, int64 [words + 1].

    Raises TypeError for words that are neither str nor int.
    """
    for word in words:
        if not isinstance(word, (str, int)):
            raise TypeError(
                f"save: words must be str or int to be kept in a file, got {type(word).__name__} "
                f"{word!r}; a pickle keeps any"
            )
    encoded = [str(word).encode("utf-8", "surrogatepass") for word in words]
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

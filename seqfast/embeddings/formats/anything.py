"""Word vectors in whatever file they are: told apart by content, not by name."""

from __future__ import annotations

import os
import re
import struct
from typing import Any

import numpy as np

from seqfast.embeddings.files import PathLike, damage_named, open_by_suffix
from seqfast.embeddings.formats import safetensors
from seqfast.embeddings.formats.base import FileReading, Loaded
from seqfast.embeddings.formats.gensim import from_gensim, unpickled
from seqfast.embeddings.formats.safetensors import FileKind
from seqfast.embeddings.formats.word2vec import load_word2vec_format, looks_like_text
from seqfast.ops.base.checks import check_choice

_NUMBER = re.compile(rb"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(nan|inf)", re.I)
_HEADER = re.compile(rb"[ \t]*\d{1,18}[ \t]+(\d{1,18})[ \t]*\r?\n")
_KINDS = ("seqfast.word2vec", "seqfast.glove")
_WANTED = (
    "word2vec text or binary, GloVe, fastText .vec, gensim's KeyedVectors or models, seqfast's "
    "models, plain or packed by gzip, bzip2, xz or zstd"
)


def load_any(
    path: PathLike, limit: int | None = None, mmap: str | None = None
) -> tuple[Loaded, str]:
    """Words and vectors of a file, and its format; see `WordVectors.load`."""
    check_choice("load", "mmap", mmap, (None, "r"))
    reading = FileReading(os.fspath(path), "utf-8", "replace")
    with damage_named(path), open_by_suffix(path) as file:
        head = file.read(1 << 16)
    if not head:
        raise reading.damaged("it is empty")
    if head[:4] == b"\xba\x16\x4f\x2f":
        raise reading.damaged("it is a fastText model (.bin); its .vec file has the vectors")
    if head[:4] == b"PK\x03\x04":
        raise reading.damaged("it is a zip archive; unpack it first")
    if head[257:262] == b"ustar":
        raise reading.damaged("it is a tar archive; unpack it first")
    if _is_safetensors(head):
        return _first(_of_ours(path, reading, mmap), limit), "seqfast"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        found = unpickled(path, mmap)
        return _first(from_gensim(getattr(found, "wv", found), mmap is None), limit), "gensim"
    if mmap is not None:
        raise ValueError(
            f"load: {reading.path} must be a file of seqfast's or gensim's to be mapped, "
            f"got one that has to be converted; save a model of it, or leave mmap=None"
        )
    header = _HEADER.match(head)
    options: dict[str, Any] = {"limit": limit, "unicode_errors": "replace"}
    if header:
        place = head.find(b" ", header.end()) + 1
        row = head[place : place + 4 * int(header[1])]
        binary = not looks_like_text(row[:64]) and b"\n" not in row[-1:]
        text = looks_like_text(row[:64]) or len(row) < 8
        text = text or _is_row(head[header.end() :], int(header[1]))
        name = "word2vec text" if text else "word2vec binary"
        return load_word2vec_format(path, binary=binary and not text, **options), name
    line = head.split(b"\n", 1)[0].rstrip()
    if re.search(rb" [-+]?[0-9.]+([eE][-+]?[0-9]+)?$", line):
        return load_word2vec_format(path, no_header=True, **options), "GloVe text"
    raise reading.damaged(f"its first bytes, {head[:24]!r}, are of none of: {_WANTED}")


def _is_row(head: bytes, size: int) -> bool:
    """Whether the first line ends with `size` numbers; those of few digits are a short line."""
    numbers = head.split(b"\n", 1)[0].split()[-size:]
    return len(numbers) == size and all(map(_NUMBER.fullmatch, numbers))


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and struct.unpack("<Q", head[:8])[0] < 1 << 32 and head[8:9] == b"{"


def _of_ours(path: PathLike, reading: FileReading, mmap: str | None) -> Loaded:
    problems = []
    for name in _KINDS:
        try:
            stored = safetensors.read(path, FileKind(name, 1 << 30, name))
        except ValueError as error:
            problems.append(str(error))
            continue
        with stored.damage_named("its vectors"):
            words = safetensors.unpack_words(stored.array("words"), stored.array("word_offsets"))
            read = stored.array if mmap is None else stored.mapped
            vectors = np.asarray(read("vectors"), np.float32)
            counts = stored.array("counts")
            if len(words) != len(vectors) or len(counts) != len(words):
                raise ValueError(f"{len(words)} words, {len(vectors)} vectors")
        return Loaded(words, vectors, counts)
    raise reading.damaged(f"it is a safetensors file, but not a seqfast model ({problems[0]})")


def _first(loaded: Loaded, limit: int | None) -> Loaded:
    counts = None if loaded.counts is None else loaded.counts[:limit]
    return Loaded(loaded.words[:limit], loaded.vectors[:limit], counts)

"""Every reader of files, on files that were changed anywhere: what is wrong is a ValueError."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seqfast
from seqfast.embeddings import Cooccurrences, WordVectors, corpus, formats
from seqfast.embeddings.vectors import evaluate_analogies, evaluate_pairs

from . import planted

WORDS = ["the", "of", "naïve", "paris", "rome", "king"]
VECTORS = np.random.default_rng(0).standard_normal((len(WORDS), 5)).astype(np.float32)
TEXT = planted.text(30).encode()
QUIET: dict[str, Any] = {"min_count": 1, "vector_size": 4, "epochs": 1, "progress": False}
PAIRS = b"# pairs\nthe\tof\t3.5\nparis\trome\t9\nking\tof\t0.5\n"
ANALOGIES = b": one\nthe of paris rome\nof the rome paris\n: two\nking the rome of\n"
SECONDS = 20.0  # a reading that takes longer hangs, or goes through what is not there


def vectors_file(folder: Path, **options: Any) -> bytes:
    formats.save_word2vec_format(folder / "file", VECTORS, WORDS, **options)
    return (folder / "file").read_bytes()


def saved(folder: Path, model: Any) -> bytes:
    model.save(folder / "file")
    return bytes((folder / "file").read_bytes())


def word2vec(folder: Path) -> bytes:
    return saved(folder, seqfast.Word2Vec(planted.sentences(20), **QUIET))


def glove(folder: Path) -> bytes:
    return saved(folder, seqfast.GloVe(planted.sentences(20), **QUIET))


def counted(folder: Path, c_format: bool) -> bytes:
    found = seqfast.GloVe(planted.sentences(5), **QUIET).cooccurrences
    assert found is not None
    if not c_format:
        return saved(folder, found)
    found.save_c_format(folder / "file")
    return (folder / "file").read_bytes()


def gensim_model(folder: Path) -> bytes:
    gensim = pytest.importorskip("gensim.models", reason="needs gensim")
    theirs = gensim.Word2Vec([WORDS] * 3, vector_size=4, min_count=1)
    return pickled(theirs)


def pickled(model: Any) -> bytes:
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


def of_stored(path: Path) -> Any:
    return seqfast.Word2Vec.load(path, progress=False)


def whatever(path: Path) -> Any:
    return WordVectors.load(path)


def mapped(path: Path) -> Any:
    return WordVectors.load(path, mmap="r")


# Name: what makes a good file, and what reads one.
READERS: dict[str, tuple[Callable[[Path], bytes], Callable[[Path], Any]]] = {
    "text of a corpus": (lambda _: TEXT, lambda path: corpus.read(path, min_count=1)),
    "gzip corpus": (lambda _: gzip.compress(TEXT), lambda path: corpus.read(path, min_count=1)),
    "bzip2 corpus": (lambda _: bz2.compress(TEXT), lambda path: corpus.read(path, min_count=1)),
    "xz corpus": (lambda _: lzma.compress(TEXT), lambda path: corpus.read(path, min_count=1)),
    "word2vec text": (vectors_file, formats.load_word2vec_format),
    "word2vec binary": (
        lambda folder: vectors_file(folder, binary=True),
        lambda path: formats.load_word2vec_format(path, binary=True),
    ),
    "GloVe text": (
        lambda folder: vectors_file(folder, write_header=False),
        lambda path: formats.load_word2vec_format(path, no_header=True),
    ),
    "packed vectors": (lambda folder: gzip.compress(vectors_file(folder)), whatever),
    "any: text": (vectors_file, whatever),
    "any: binary": (lambda folder: vectors_file(folder, binary=True), whatever),
    "any: GloVe": (lambda folder: vectors_file(folder, write_header=False), whatever),
    "any: ours": (word2vec, whatever),
    "any: mapped": (word2vec, mapped),
    "any: gensim's": (gensim_model, whatever),
    "counts": (lambda _: b"the 12\nof 7\nna\xc3\xafve 3\n", formats.load_counts),
    "Word2Vec": (word2vec, of_stored),
    "Word2Vec of gensim's": (gensim_model, of_stored),
    "GloVe": (glove, lambda path: seqfast.GloVe.load(path, progress=False)),
    "co-occurrences": (lambda folder: counted(folder, False), Cooccurrences.load),
    "C co-occurrences": (
        lambda folder: counted(folder, True),
        lambda path: Cooccurrences.load_c_format(path, 40),
    ),
    "pairs": (lambda _: PAIRS, lambda path: evaluate_pairs(VECTORS, WORDS, path)),
    "analogies": (lambda _: ANALOGIES, lambda path: evaluate_analogies(VECTORS, WORDS, path)),
}
INTERESTING = [b"", b"\0", b"\n", b" ", b"\t", b"\xff\xff\xff\xff", b"-1", b"99999999999999999999"]
INTERESTING += [b"nan", b"1e999", b"\x80\x04", b"\x1f\x8b\x08", b"PK\x03\x04", b"{" * 500]
INTERESTING += [struct.pack("<Q", 1 << 62), struct.pack("<i", -(1 << 31)), b"\xef\xbb\xbf"]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Where (as a share of the file), how many bytes go, and what comes in their place."""
    change = st.tuples(
        st.floats(0, 1),
        st.sampled_from([0, 1, 1, 2, 4, 8, 64, 1 << 30]),
        st.sampled_from(INTERESTING) | st.binary(max_size=9),
    )
    return draw(st.lists(change, min_size=1, max_size=4))


def changed(data: bytes, how: list[tuple[float, int, bytes]]) -> bytes:
    for share, gone, new in how:
        place = round(share * len(data))
        data = data[:place] + new + data[place + gone :]
    return data


@pytest.fixture(scope="module", params=READERS)
def reader(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, Callable[[Path], Any], Path]:
    make, read = READERS[request.param]
    folder = tmp_path_factory.mktemp("fuzz")
    whole = make(folder)
    (folder / "whole").write_bytes(whole)
    read(folder / "whole")
    return whole, read, folder / "changed"


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(how=changes())
def test_a_changed_file_is_read_or_refused(
    how: list[tuple[float, int, bytes]], reader: tuple[bytes, Callable[[Path], Any], Path]
) -> None:
    whole, read, path = reader
    path.write_bytes(changed(whole, how))
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bytes that are no UTF-8, and of another Huffman tree
        # An ImportError: a magic number of zstd, which no package here may read.
        with contextlib.suppress(ValueError, ImportError):
            read(path)
    assert time.monotonic() - start < SECONDS

"""Files of word vectors: what is written is read again, gensim agrees, and damage is named."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from seqfast.embeddings import formats
from seqfast.embeddings.formats import load_word2vec_format, save_word2vec_format, word2vec
from seqfast.embeddings.vectors import WordVectors

ONE_FILE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
UNPACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}


def draw(rows: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, size)).astype(np.float32)


WORDS = ["the", "日本", "naïve", "</s>", "a_b", "\U0001f600", "x" * 300]
VECTORS = draw(len(WORDS), 5)
VECTORS[1] = [0, -0.0, 1e-30, np.inf, np.nan]
COUNTS = [50, 40, 40, 7, 7, 7, 1]


def same(loaded: formats.Loaded, words: list[str], vectors: np.ndarray) -> None:
    assert loaded.words == words
    assert loaded.vectors.dtype == np.float32
    np.testing.assert_array_equal(loaded.vectors, vectors)
    np.testing.assert_array_equal(np.signbit(loaded.vectors), np.signbit(vectors))


# ---- there and back ----


@pytest.mark.parametrize("suffix", UNPACKED)
@pytest.mark.parametrize("binary", [False, True])
def test_round_trip(tmp_path: Path, binary: bool, suffix: str) -> None:
    path, fvocab = tmp_path / f"vectors{suffix}", tmp_path / f"counts{suffix}"
    save_word2vec_format(path, VECTORS, WORDS, COUNTS, fvocab, binary=binary)
    loaded = load_word2vec_format(path, fvocab, binary=binary)
    same(loaded, WORDS, VECTORS)
    assert loaded.counts is not None
    assert loaded.counts.tolist() == COUNTS
    assert UNPACKED[suffix](path.read_bytes()).startswith(b"7 5\n")
    assert WordVectors(*loaded)["the"].tolist() == VECTORS[0].tolist()
    for limit in (0, 1, 3, 100):
        some = load_word2vec_format(path, binary=binary, limit=limit)
        same(some, WORDS[:limit], VECTORS[:limit])
        assert some.counts is None
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, fvocab.name])


def test_large_blocks(tmp_path: Path) -> None:
    # Over the border of what is read at once, and of what is written at once.
    words, vectors = [f"word{i}" for i in range(23000)], draw(23000, 70)
    for binary in (False, True):
        path = tmp_path / "vectors"
        save_word2vec_format(path, vectors, words, binary=binary)
        assert path.stat().st_size > 4 << 20
        same(load_word2vec_format(path, binary=binary), words, vectors)


def test_long_rows(tmp_path: Path) -> None:
    vectors = draw(3, 1_500_000)
    path = tmp_path / "vectors"
    save_word2vec_format(path, vectors, ["a", "b", "c"], binary=True)
    same(load_word2vec_format(path, binary=True), ["a", "b", "c"], vectors)


def test_frequent_words_come_first(tmp_path: Path) -> None:
    path, fvocab = tmp_path / "vectors.txt", tmp_path / "counts.txt"
    save_word2vec_format(path, draw(4, 2), list("abcd"), np.array([3, 9, 3, 10]), fvocab)
    assert load_word2vec_format(path).words == list("dbac")
    assert fvocab.read_text() == "d 10\nb 9\na 3\nc 3\n"


def test_no_words(tmp_path: Path) -> None:
    for binary in (False, True):
        save_word2vec_format(tmp_path / "v", np.zeros((0, 3)), [], binary=binary)
        assert load_word2vec_format(tmp_path / "v", binary=binary).vectors.shape == (0, 3)


def test_tensors_and_other_dtypes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "vectors"
    tensor = torch.nn.Parameter(torch.from_numpy(VECTORS.copy()))
    for vectors in (tensor, VECTORS.astype(np.float64), np.asfortranarray(VECTORS)):
        for binary in (False, True):
            save_word2vec_format(path, vectors, WORDS, binary=binary)
            same(load_word2vec_format(path, binary=binary), WORDS, VECTORS)


# ---- text ----


@ONE_FILE
@given(
    rows=arrays.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.floats(width=32)
    )
)
@example(rows=np.array([[0, -0.0, np.nan, np.inf, -np.inf]], np.float32))
@example(rows=np.array([[1e-4, 9.9999997e-05, 1e6, 999999.94, 1e16, 1e-45, 3.4028235e38]], "f4"))
@example(rows=np.array([[0.1, 1, 10, 100, 123456, 16777216, 0.001, 999999.9]], np.float32))
def test_numbers_are_written_as_numpy_says(rows: np.ndarray) -> None:
    wanted = "".join(" ".join(str(x) for x in row) + "\n" for row in rows)
    assert formats.number_lines(rows).decode() == wanted


def test_many_numbers_are_written_as_numpy_says() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(40000) * 10.0 ** rng.integers(-6, 8, 40000)
    powers = np.concatenate([2.0 ** np.arange(-20, 20), 10.0 ** np.arange(-6, 8)])
    rows = np.concatenate([x, np.round(x[:2000], 3), powers]).astype(np.float32)
    rows = np.concatenate([rows, np.nextafter(rows, np.float32(0))])[None]
    wanted = " ".join(str(x) for x in rows[0]) + "\n"
    assert formats.number_lines(rows).decode() == wanted


def test_words_with_spaces_in_text(tmp_path: Path) -> None:
    path, words = tmp_path / "vectors", ["new york", ". . .", "plain", "1 2 3"]
    save_word2vec_format(path, draw(4, 3), words)
    same(load_word2vec_format(path), words, draw(4, 3))
    path.write_text("new york 1 2\n. . 3 4\n")
    # Without a header the first line tells the columns.
    with pytest.raises(ValueError, match="line 1 must be a word and 3 numbers, got b'new york 1 2"):
        load_word2vec_format(path, no_header=True)


def test_what_other_programs_write(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    for text in (
        "2 3\na 1 2 3\nb 4 5 6\n",
        "2 3 \na 1.0 2e0 3 \nb 4 5 6 \n",  # word2vec.c ends lines in a space
        "2 3\r\na 1 2 3\r\nb 4 5 6\r\n",
        "2 3\na\t1\t2\t3\nb  4 5  6",
        "2 3\na 1 2 3\nb 4 5 6\nmore than the header says",
    ):
        path.write_bytes(text.encode())
        same(load_word2vec_format(path), ["a", "b"], np.arange(1, 7, dtype="f4").reshape(2, 3))
    path.write_text("a 1 2 3\nb 4 5 6\n")
    loaded = load_word2vec_format(path, no_header=True)
    same(loaded, ["a", "b"], np.arange(1, 7, dtype="f4").reshape(2, 3))
    assert load_word2vec_format(path, no_header=True, limit=1).words == ["a"]
    save_word2vec_format(path, VECTORS, WORDS, write_header=False)
    same(load_word2vec_format(path, no_header=True), WORDS, VECTORS)


def test_newlines_between_words_in_binary(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    rows = [
        name.encode() + b" " + row.tobytes() for name, row in zip("abc", draw(3, 4), strict=True)
    ]
    for end in (b"", b"\n"):
        path.write_bytes(b"3 4\n" + b"".join(row + end for row in rows))
        same(load_word2vec_format(path, binary=True), list("abc"), draw(3, 4))


def test_words_that_come_twice(tmp_path: Path) -> None:
    for binary in (False, True):
        save_word2vec_format(tmp_path / "v", draw(4, 2), ["a", "b", "a", "c"], binary=binary)
        same(
            load_word2vec_format(tmp_path / "v", binary=binary),
            ["a", "b", "c"],
            draw(4, 2)[[0, 1, 3]],
        )


def test_words_of_broken_letters(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    for binary in (False, True):
        values = draw(1, 2).tobytes() if binary else b"1 2\n"
        path.write_bytes(b"1 2\ncut\xe6\x97 " + values)
        with pytest.raises(ValueError, match=r"vectors cannot be read: a word is not utf-8.*cut"):
            load_word2vec_format(path, binary=binary)
        loaded = load_word2vec_format(path, binary=binary, unicode_errors="replace")
        assert loaded.words == ["cut\ufffd"]
        loaded = load_word2vec_format(path, binary=binary, unicode_errors="surrogateescape")
        save_word2vec_format(
            tmp_path / "again", loaded.vectors, loaded.words, unicode_errors="surrogateescape"
        )
        assert b"cut\xe6\x97 " in (tmp_path / "again").read_bytes()
        loaded = load_word2vec_format(path, binary=binary, encoding="latin-1")
        assert loaded.words == ["cut\xe6\x97"]


# ---- gensim ----


@pytest.mark.parametrize("counts", [None, COUNTS, COUNTS[::-1]])
@pytest.mark.parametrize("binary", [False, True])
def test_bytes_are_gensims(tmp_path: Path, binary: bool, counts: Any) -> None:
    pytest.importorskip("gensim")
    keyed = formats.to_gensim(VECTORS, WORDS, counts)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    vocabularies = (tmp_path / "our words", tmp_path / "their words") if counts else (None, None)
    save_word2vec_format(ours, VECTORS, WORDS, counts, vocabularies[0], binary=binary)
    keyed.save_word2vec_format(
        str(theirs), fvocab=str(vocabularies[1]) if counts else None, binary=binary
    )
    assert ours.read_bytes() == theirs.read_bytes()
    if counts:
        assert vocabularies[0].read_bytes() == vocabularies[1].read_bytes()
    read = type(keyed).load_word2vec_format(str(ours), binary=binary)
    same(load_word2vec_format(theirs, binary=binary), read.index_to_key, read.vectors)


def test_keyed_vectors(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    vectors = draw(len(WORDS), 5)
    keyed = formats.to_gensim(vectors, WORDS, COUNTS)
    assert np.shares_memory(keyed.vectors, vectors)
    assert keyed.get_vecattr("naïve", "count") == 40
    assert len(keyed) == len(WORDS)
    found = WordVectors(*formats.from_gensim(keyed)).most_similar("the", topn=3)
    assert [word for word, _ in found] == [word for word, _ in keyed.most_similar("the", topn=3)]
    keyed.add_vectors(["new"], np.ones((1, 5), np.float32))
    assert keyed["new"].tolist() == [1] * 5
    path = tmp_path / "vectors.kv"
    formats.save_gensim(path, vectors, WORDS, COUNTS)
    loaded = formats.load_gensim(path)
    same(loaded, WORDS, vectors)
    assert loaded.counts is not None
    assert loaded.counts.tolist() == COUNTS
    formats.save_gensim(path, vectors, WORDS)
    assert formats.load_gensim(path).counts is None
    with pytest.raises(ValueError, match="counts must be"):
        formats.to_gensim(vectors, WORDS, [1])
    with pytest.raises(ValueError, match="words must be as many as vectors, 7, got 1"):
        formats.to_gensim(vectors, ["a"])
    with pytest.raises(ValueError, match="words must be distinct"):
        formats.to_gensim(vectors, ["a"] * 7)


def test_gensims_models_are_read(tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim")
    model = gensim.models.Word2Vec([list("abc")] * 9, vector_size=4, min_count=1, workers=1)
    model.save(str(tmp_path / "model"))
    loaded = formats.load_gensim(tmp_path / "model")
    same(loaded, model.wv.index_to_key, model.wv.vectors)
    dictionary = gensim.corpora.Dictionary([["a"]])
    dictionary.save(str(tmp_path / "other"))
    with pytest.raises((ValueError, AttributeError)):
        formats.load_gensim(tmp_path / "other")


def test_without_gensim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    for call in (lambda: formats.to_gensim(VECTORS, WORDS), lambda: formats.load_gensim("x")):
        with pytest.raises(ImportError, match=r"needs gensim: pip install seqfast\[embeddings\]"):
            call()


# ---- damage ----

DAMAGED: list[tuple[bytes, bool, str]] = [
    (b"", False, "line 1 must be numbers of words and columns, got b''"),
    (b"", True, "line 1 must be numbers"),
    (b"\n", False, "line 1 must be numbers"),
    (b"5\n", False, "line 1 must be numbers"),
    (b"1 2 3\n", False, "line 1 must be numbers"),
    (b"-1 2\n", False, "line 1 must be numbers"),
    (b"1 2", False, "line 1 must be numbers"),
    (b"\xd9\xa1 \xd9\xa2\n", False, "line 1 must be numbers"),
    (b"1" * 5000 + b" 1\n", False, "line 1 must be numbers"),
    (b"3 0\n", False, "line 1 promises vectors of no columns"),
    (b"2 2\na 1 2\n", False, "it ends after 1 of 2 words"),
    (b"1000000000000 2\na 1 2\n", False, "it ends after 1 of 1000000000000 words"),
    (b"1 1000000000000\na 1 2\n", False, "line 2 must be a word and 1000000000000 numbers"),
    (b"2 2\na 1 2\nb 1\n", False, "line 3 must be a word and 2 numbers, got b'b 1"),
    (b"2 2\na 1 2\nb 1 x\n", False, "line 3 must be a word and 2 numbers, got b'b 1 x"),
    (b"2 2\na 1 2\n\n", False, "line 3 must be a word and 2 numbers"),
    (b"2 2\na 1-2 3\nb 1\n", False, "line 2 must be a word and 2 numbers"),
    (b"2 2\na 1-2 3\nb 1 \n", False, "line 2 must be a word and 2 numbers"),
    (b"2 1\na \nb 1-2\n", False, "line 2 must be a word and 1 numbers"),
    (b"1000000000000 100\na ", True, "1000000000000 vectors of 100 columns do not fit into the 2"),
    (b"1 999999999999999999\na ", True, "do not fit"),
    (b"2 2\na 12345678", True, "do not fit"),
    (b"2 2\na 12345678bbbbbbbbbbbb", True, "it ends in word 2 of 2"),
    (b"1 2\n" + b"a" * 3_000_000, True, "more than 1048576 bytes; is it a text file"),
]


@pytest.mark.parametrize(("content", "binary", "message"), DAMAGED, ids=[d[2] for d in DAMAGED])
def test_damage_is_named(tmp_path: Path, content: bytes, binary: bool, message: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="vectors cannot be read: ") as error:
        load_word2vec_format(path, binary=binary)
    assert message in str(error.value)
    # Without knowing the size in advance.
    with gzip.open(tmp_path / "v.gz", "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match=r"v\.gz cannot be read: "):
        load_word2vec_format(tmp_path / "v.gz", binary=binary)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_damaged_archives(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vectors{suffix}"
    save_word2vec_format(path, VECTORS, WORDS)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive at all", whole[:40] + b"\0" * 40):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read: (the archive is damaged|line 1)"):
            load_word2vec_format(path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    for binary in (False, True):
        path = tmp_path / "vectors"
        save_word2vec_format(path, draw(3, 2), ["a", "bc", "d"], binary=binary)
        whole = path.read_bytes()
        # Text may lose the digits of its last number.
        last = len(whole) if binary else whole.rindex(b" ")
        for length in range(last):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match="cannot be read"):
                load_word2vec_format(path, binary=binary)


def test_damaged_counts(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    for content, message in (
        (b"a 1\nb\n", "line 2 is not a word and count: b'b"),
        (b"a x\n", "line 1"),
        (b"a -1\n", "line 1"),
        (b"a \xff 1\n", "not utf-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"counts cannot be read: .*{message}"):
            formats.load_counts(path)
    path.write_bytes(b"a 1\n\nnew york 2\n")
    assert formats.load_counts(path) == {"a": 1, "new york": 2}
    save_word2vec_format(tmp_path / "v", draw(2, 2), ["a", "z"])
    loaded = load_word2vec_format(tmp_path / "v", path)
    assert loaded.counts is not None
    assert loaded.counts.tolist() == [1, 0]


numbers = st.sampled_from(
    [b"0", b"1", b"2", b"3", b"10", b"1000000000000", b"99999999999999999999"]
)
headers = st.builds(lambda rows, size, end: rows + b" " + size + end, numbers, numbers,
                    st.sampled_from([b"\n", b" \n", b"\r\n", b""]))  # fmt: skip
fields = st.one_of(
    st.sampled_from([b"a", b"1", b"-1.5e3", b" ", b"\n", b"\r", b"\t", b"nan", b"1e999", b"1-2"]),
    st.binary(max_size=12),
)
contents = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda head, body: head + b"".join(body), headers, st.lists(fields, max_size=30)),
    st.builds(lambda head, body: head + b" ".join(body), headers, st.lists(fields, max_size=30)),
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=contents, binary=st.booleans(), no_header=st.booleans(), packed=st.booleans())
def test_any_bytes(
    tmp_path: Path, content: bytes, binary: bool, no_header: bool, packed: bool
) -> None:
    path = tmp_path / ("vectors.gz" if packed else "vectors")
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    try:
        loaded = load_word2vec_format(path, binary=binary, no_header=no_header and not binary)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - most bytes are no file of vectors
        return
    assert loaded.vectors.shape[0] == len(loaded.words) == len(set(loaded.words))
    assert loaded.vectors.size <= len(content)


def test_a_promise_costs_no_memory(tmp_path: Path) -> None:
    for rows, size in ((10**12, 1000), (10**5, 1000), (3, 10**8), (1, 10**12)):
        content = b"%d %d\na " % (rows, size) + bytes(4000)
        (tmp_path / "plain").write_bytes(content)
        (tmp_path / "packed.gz").write_bytes(gzip.compress(content))
        for name in ("plain", "packed.gz"):
            for binary in (False, True):
                tracemalloc.start()  # knows of NumPy's memory too, used or not
                try:
                    with pytest.raises(ValueError, match="cannot be read"):
                        load_word2vec_format(tmp_path / name, binary=binary)
                    assert tracemalloc.get_traced_memory()[1] < 20 << 20
                finally:
                    tracemalloc.stop()


def test_arguments(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    with pytest.raises(FileNotFoundError):
        load_word2vec_format(path)
    with pytest.raises(IsADirectoryError):
        load_word2vec_format(tmp_path)
    with pytest.raises(ValueError, match="limit must be 0 or more, got -1"):
        load_word2vec_format(path, limit=-1)
    with pytest.raises(ValueError, match="no_header must be False for binary"):
        load_word2vec_format(path, binary=True, no_header=True)
    for vectors, words, counts, message in (
        (draw(2, 2), ["a"], None, "words must be as many as vectors, 2, got 1"),
        (draw(2, 2)[0], ["a", "b"], None, r"vectors must be \[any, size\], got \[2\]"),
        (draw(2, 0), ["a", "b"], None, r"vectors must be \[any, size\], got \[2, 0\]"),
        (draw(2, 2), ["a", "b"], [1], r"counts must be \[2\], got \[1\]"),
        (draw(2, 2), ["a", ""], None, "words must be without newlines .* got ''"),
        (draw(2, 2), ["a", "b\nc"], None, "words must be without newlines .* got 'b"),
        (draw(2, 2), ["a", " b"], None, "words must be without newlines .* got ' b'"),
    ):
        with pytest.raises(ValueError, match=f"^save_word2vec_format: {message}"):
            save_word2vec_format(path, vectors, words, counts)
    with pytest.raises(ValueError, match="words must be without spaces and not empty, got 'b c'"):
        save_word2vec_format(path, draw(2, 2), ["a", "b c"], binary=True)
    with pytest.raises(ValueError, match="counts must be given for fvocab"):
        save_word2vec_format(path, draw(1, 2), ["a"], fvocab=tmp_path / "counts")
    assert os.listdir(tmp_path) == []


# ---- whole or not there ----


def test_an_error_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fvocab = tmp_path / "vectors", tmp_path / "counts"
    save_word2vec_format(path, VECTORS, WORDS, COUNTS, fvocab)
    before = path.read_bytes(), fvocab.read_bytes()

    def full(*arguments: object) -> Any:
        yield b"something"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(word2vec, "_text_blocks", full)
    with pytest.raises(OSError, match="No space left"):
        save_word2vec_format(path, draw(2, 2), ["a", "b"], [2, 1], fvocab)
    assert (path.read_bytes(), fvocab.read_bytes()) == before
    assert sorted(os.listdir(tmp_path)) == ["counts", "vectors"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk() -> None:
    with pytest.raises(OSError, match="No space left"):
        save_word2vec_format("/dev/full", VECTORS, WORDS)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_word2vec_format(tmp_path / "missing" / "vectors", VECTORS, WORDS)


def test_the_same_vectors_are_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one.gz", "two.gz"):
        save_word2vec_format(tmp_path / name, VECTORS, WORDS)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]

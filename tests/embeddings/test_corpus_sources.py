"""Whatever comes as a corpus: told apart by what is in it, decoded, or refused with a way out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast.embeddings.corpus import Decoding, read

SENTENCES = [["the", "cat", "sat"], ["the", "dog"], ["a", "cat", "ran", "off"]]
TEXT = "".join(" ".join(words) + "\n" for words in SENTENCES)
WORDS = ["the", "cat", "sat", "dog", "a", "ran", "off"]


def words_of(source: Any, **options: Any) -> list[Any]:
    return read(source, min_count=1, **options)[0].words


class Unmeasurable:
    """As gensim's Phrases gives it: sentences, and a length that cannot be had."""

    def __iter__(self) -> Iterator[list[str]]:
        return iter(SENTENCES)

    def __len__(self) -> int:
        raise TypeError("object of type 'LineSentence' has no len()")


def objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    "source",
    [
        Unmeasurable(),
        objects(SENTENCES),
        objects([np.array(words) for words in SENTENCES]),
        (np.array(words) for words in SENTENCES),
        {i: words for i, words in enumerate(SENTENCES)}.values(),
        tuple(map(tuple, SENTENCES)),
        map(iter, SENTENCES),
    ],
    ids=["no-len", "objects", "arrays", "generator", "values", "tuples", "iterators"],
)
def test_sentences_of_any_class(source: Any) -> None:
    assert words_of(source) == WORDS


def test_arrays_of_words() -> None:
    assert words_of(np.array([["a", "b"], ["a", "c"]])) == ["a", "b", "c"]
    assert words_of((np.array(["a", "b"]), np.array(["a"]))) == ["a", "b"]
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    table = pandas.DataFrame({"tokens": SENTENCES})
    assert words_of(table["tokens"]) == WORDS
    assert words_of(table["tokens"].values) == WORDS


def test_words_of_any_class() -> None:
    assert words_of([[1, 2, (3, "x")], [np.int64(1)]]) == [1, 2, (3, "x")]
    assert all(type(word) is int for word in words_of(np.array([[5, 6], [5, 7]])))
    assert words_of([np.array(["a", "b"])]) == ["a", "b"]
    for wrong in (None, float("nan"), b"a", ["a"]):
        with pytest.raises(TypeError, match="word 1 of sentence 0 must be a str, or another"):
            read([["a", wrong]])


def test_paths_of_any_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for place, words in enumerate(SENTENCES):
        (folder / f"{place}.txt").write_text(" ".join(words))
    (folder / ".hidden").write_text("no")
    (folder / "folder").mkdir()
    files = sorted(folder.glob("*.txt"))
    for source in (folder, str(folder), [folder], iter(files), map(str, files), files):
        assert words_of(source) == WORDS
    monkeypatch.setenv("HOME", str(tmp_path))
    assert words_of("~/texts/0.txt") == SENTENCES[0]
    assert words_of("~/texts") == WORDS


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"a": ["b"]}, "got dict"),
        (io.StringIO("a b"), "got an open file; pass its path"),
        (io.BytesIO(b"a b"), "got an open file"),
        (np.zeros((2, 3)), "got ndarray of float64"),
        (np.array("a"), "got ndarray"),
        (iter(["a b", "c d"]), "sentence 0 must be a list of words, got the str 'a b'"),
    ],
    ids=["dict", "text-file", "binary-file", "floats", "scalar", "lines"],
)
def test_no_sentences(source: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        read(source)


def test_a_table_is_not_its_columns() -> None:
    class Table:
        iloc = columns = None

        def __iter__(self) -> Iterator[str]:
            return iter(["tokens"])

    with pytest.raises(TypeError, match="must be one column of a table"):
        read(Table())


# ---- bytes and encodings ----


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_mark_of_the_encoding_is_no_word(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "text").write_bytes(pack(b"\xef\xbb\xbf" + TEXT.encode()))
    assert words_of(tmp_path / "text") == WORDS
    (tmp_path / "mark").write_bytes(pack(b"\xef\xbb\xbf"))
    assert words_of(tmp_path / "mark") == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "shift-jis"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = {"latin-1": "café cafè\n", "shift-jis": "日本 語\n"}.get(
        encoding, "日本 café\n"
    ) * 20_000
    (tmp_path / "text").write_bytes(text.encode(encoding))
    found = words_of(tmp_path / "text", decoding=Decoding(encoding))
    assert found == text.split()[:2]
    (tmp_path / "packed").write_bytes(gzip.compress(text.encode(encoding)))
    assert words_of(tmp_path / "packed", decoding=Decoding(encoding)) == found


def test_some_wrong_bytes_are_a_warning(tmp_path: Path) -> None:
    lines = [b"caf\xc3\xa9 the"] * 200_000
    lines[150_000] = b"caf\xe9 \xe8"
    path = tmp_path / "text"
    path.write_bytes(b"\n".join(lines))
    place = (
        f"2 bytes are not valid utf-8 and are read as U.FFFD, the first in line 150001 of {path}"
    )
    with pytest.warns(UnicodeWarning, match=place):
        assert words_of(path) == ["café", "the", "caf\ufffd", "\ufffd"]
    assert len(words_of(path, decoding=Decoding(errors="replace"))) == 4
    assert words_of(path, decoding=Decoding(errors="ignore")) == ["café", "the", "caf"]
    with pytest.raises(ValueError, match=r"not valid utf-8, the first in line 150001 .*encoding="):
        words_of(path, decoding=Decoding(errors="strict"))
    with pytest.raises(ValueError, match="encoding must be one that Python knows, got 'none'"):
        words_of(path, decoding=Decoding("none"))
    with pytest.raises(ValueError, match=r"errors must be None, .*got 'x'"):
        words_of(path, decoding=Decoding(errors="x"))


def zip_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("text.txt", data)
    return file.getvalue()


def tar_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("text.txt")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zip_of(TEXT.encode()), "is a zip archive, not plain text: unpack it first"),
        (tar_of(TEXT.encode()), "is a tar archive"),
        (TEXT.encode("utf-16"), r"is a text in UTF-16.*encoding='utf-16'"),
        ((TEXT * 9).encode("utf-16-le"), "NUL bytes .*utf-16-le"),
        (("日本語" * 99).encode("shift-jis"), "seems to be in another encoding than utf-8"),
        (b"%PDF-1.4 " + bytes(99), "is a PDF"),
        (b"\x93NUMPY\1", "is a NumPy array"),
        (gzip.compress(gzip.compress(b"a b")), "gzip file in another packed file"),
    ],
    ids=["zip", "tar.gz", "utf-16", "utf-16-le", "shift-jis", "pdf", "npy", "twice"],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "text", min_count=1)


def test_zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqfast.embeddings import files

    (tmp_path / "text.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(9))
    monkeypatch.setattr(files, "_ZSTD_MODULES", ())
    with pytest.raises(ImportError, match=r"text\.zst is a zstd file, which needs zstandard"):
        read(tmp_path / "text.zst")
    monkeypatch.undo()
    zstandard = pytest.importorskip("zstandard", reason="needs zstandard")
    whole = zstandard.ZstdCompressor().compress((TEXT * 99).encode())
    (tmp_path / "text.zst").write_bytes(whole)
    assert words_of(tmp_path / "text.zst") == WORDS
    (tmp_path / "text.zst").write_bytes(whole[:9] + b"\xff" * 9 + whole[9:])
    with pytest.raises(ValueError, match=r"text\.zst must be a whole zstd file"):
        read(tmp_path / "text.zst")


def test_changed_bytes_never_crash(tmp_path: Path) -> None:
    """Files of which some bytes were changed, cut out or doubled: words, or an error that says."""
    draw = random.Random(3)
    plain = (TEXT * 50).encode()
    packed = [plain, gzip.compress(plain), bz2.compress(plain), lzma.compress(plain)]
    path = tmp_path / "text"
    refused = 0
    for turn in range(200):
        data = bytearray(packed[turn % 4])
        for _ in range(draw.choice((1, 1, 3, 20))):
            place = draw.randrange(len(data))
            data[place : place + draw.choice((0, 1, 1, 9))] = draw.randbytes(draw.choice((0, 1, 4)))
        path.write_bytes(data)
        try:
            vocabulary, corpus = read(path, min_count=1, decoding=Decoding(errors="replace"))
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
        else:
            assert vocabulary.counts.sum() == len(corpus.ids) == corpus.raw_words
    assert refused > 50

"""Co-occurrences: within a limit of memory, in files, of damaged files, on a full disk."""

from __future__ import annotations

import contextlib
import errno
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqfast.embeddings import Cooccurrences, Corpus, corpus
from seqfast.embeddings.glove import cooccurrences, storage
from seqfast.embeddings.glove.cooccurrences import count
from seqfast.ops import glove

from .. import planted


@pytest.fixture(scope="module")
def read() -> tuple[list[str], Corpus]:
    vocabulary, text = corpus.read(planted.sentences(), min_count=1)
    return vocabulary.words, text


def of(read: Any, **options: Any) -> Cooccurrences:
    words, text = read
    return count(text, words, window=4, **options)


def assert_same(one: Cooccurrences, other: Cooccurrences) -> None:
    assert one.source == other.source
    for name in ("offsets", "columns", "values"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_counts_are_the_operation_s(read: Any) -> None:
    words, text = read
    found = of(read)
    wanted = glove.cooccurrences(text.ids, text.offsets, len(words), window=4)
    for name, array in zip(("offsets", "columns", "values"), wanted, strict=True):
        np.testing.assert_array_equal(getattr(found, name), array)
    assert repr(found) == f"Cooccurrences({len(words)} words, {len(found.columns)} entries)"
    assert found.source != of(read, symmetric=False).source
    np.testing.assert_array_equal(found.column_sizes(), np.diff(found.offsets))


@pytest.mark.parametrize("limit", [0, 4000, 30_000])
def test_neither_limit_nor_workers_change_a_bit(
    read: Any, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[int] = []
    kept = tempfile.TemporaryFile

    def counted(*arguments: Any, **options: Any) -> Any:
        assert options["dir"] == tmp_path
        files.append(1)
        return kept(*arguments, **options)

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", counted)
    monkeypatch.setattr(cooccurrences, "_LEAST_TOKENS", 100)
    told: list[tuple[int, Any, str]] = []
    found = of(
        read,
        memory_limit=limit,
        cache_folder=tmp_path,
        workers=3,
        progress=lambda *values: told.append(values),
    )
    assert len(files) >= 8
    assert list(tmp_path.iterdir()) == []
    assert_same(found, of(read))
    done = [value for value, _, unit in told if unit == "words"]
    assert done == sorted(done)


def test_files(read: Any, tmp_path: Path) -> None:
    found = of(read)
    found.save(tmp_path / "own")
    again = Cooccurrences.load(tmp_path / "own")
    assert_same(again, found)
    assert again.words == found.words
    found.save_c_format(tmp_path / "c")
    entries = len(found.columns)
    assert (tmp_path / "c").stat().st_size == 16 * entries
    records = np.fromfile(tmp_path / "c", [("a", "<i4"), ("b", "<i4"), ("x", "<f8")])
    assert (records["a"][0], records["b"][0]) == (1, found.columns[0] + 1)
    for words in (len(found), found.words):
        again = Cooccurrences.load_c_format(tmp_path / "c", words)  # type: ignore[arg-type]
        for name in ("offsets", "columns", "values"):
            np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    generator = np.random.default_rng(0)
    generator.permutation(np.concatenate([records, records])).tofile(tmp_path / "shuffled")
    twice = Cooccurrences.load_c_format(tmp_path / "shuffled", len(found))
    np.testing.assert_allclose(twice.values, 2 * found.values)


def test_damaged_c_files(read: Any, tmp_path: Path) -> None:
    found = of(read)
    path = tmp_path / "c"
    found.save_c_format(path)
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(ValueError, match=r"c must be records of 16 bytes, got .*: it is truncated"):
        Cooccurrences.load_c_format(path, len(found))
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"c must have word1 from 1 to the 9 words .* another"):
        Cooccurrences.load_c_format(path, 9)
    for bad in (0.0, -1.0, np.nan, np.inf):
        path.write_bytes(data[:-8] + np.float64(bad).tobytes())
        with pytest.raises(ValueError, match=r"c is damaged: .*values must be above 0 and finite"):
            Cooccurrences.load_c_format(path, len(found))
    path.write_bytes(b"")
    assert len(Cooccurrences.load_c_format(path, 3).columns) == 0
    with pytest.raises(FileNotFoundError):
        Cooccurrences.load_c_format(tmp_path / "absent", 3)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_damage_is_an_error_or_harmless(
    data: Any, read: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    found = of(read)
    for name, write, load in (
        ("own", found.save, Cooccurrences.load),
        ("c", found.save_c_format, lambda path: Cooccurrences.load_c_format(path, len(found))),
    ):
        write(folder / name)
        whole = bytearray((folder / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(whole) - 1))
            whole[place] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(whole)))
        for content in (whole, whole[:cut]):
            (folder / name).write_bytes(content)
            with contextlib.suppress(ValueError):
                again = load(folder / name)
                assert (again.values > 0).all()
                assert len(again) == len(found)


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [1000, 6000])
def test_a_full_disk(
    read: Any, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrences, "_LEAST_TOKENS", 1000)
    words, text = read
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"cooccurrences: .*cache_folder= .*memory_limit"
        ) as caught:
            count(text, words, window=30, memory_limit=0, cache_folder=tmp_path)
        assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
        with pytest.raises(OSError, match=r"File too large|No space"):
            of(read).save(tmp_path / "kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="cooccurrences: "):
        of(read, memory_limit=0, cache_folder=tmp_path / "absent")


def test_what_cannot_be(read: Any) -> None:
    for options, message in (
        ({"window": 0}, "window must be"),
        ({"workers": 0}, "threads must be"),
        ({"memory_limit": -1}, "memory_limit must be 0 or more"),
    ):
        words, text = read
        with pytest.raises(ValueError, match=f"cooccurrences: {message}"):
            count(text, words, **options)
    offsets, columns, values = np.array([0, 1, 2]), np.array([0, 1], np.int32), np.ones(2)
    with pytest.raises(ValueError, match="columns must be from 0 to 1, got 0 to 2"):
        Cooccurrences(offsets, columns * 2, values)
    with pytest.raises(ValueError, match="offsets must go from 0 to 2"):
        Cooccurrences(offsets[:-1], columns, values)
    with pytest.raises(ValueError, match="offsets must not decrease"):
        Cooccurrences(np.array([0, 3, 2]), columns, values)
    with pytest.raises(ValueError, match="words must be 2, got 1"):
        Cooccurrences(offsets, columns, values, ["a"])

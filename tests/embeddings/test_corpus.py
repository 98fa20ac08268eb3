"""Corpora: all kinds of sources give the same, gensim counts the same, errors say what to do."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import re
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast.embeddings.corpus import (
    RULE_DEFAULT,
    RULE_DISCARD,
    RULE_KEEP,
    Corpus,
    Vocabulary,
    count,
    encode,
    id_store,
    read,
    sources,
)
from seqfast.embeddings.corpus import text as text_files

Sentences = list[list[str]]


def some_sentences(seed: int = 0, sentences: int = 300, types: int = 200) -> Sentences:
    """Words by Zipf's law, in several scripts; some sentences are empty."""
    draw = random.Random(seed)
    words = [f"{'aäя文'[i % 4]}{i}" for i in range(types)]
    weights = [1 / (i + 1) for i in range(types)]
    return [draw.choices(words, weights, k=draw.randrange(20)) for _ in range(sentences)]


def text_of(sentences: Sentences) -> bytes:
    return "".join(" ".join(words) + "\n" for words in sentences).encode()


def words_of(vocabulary: Vocabulary, corpus: Corpus) -> Sentences:
    words = [vocabulary.words[number] for number in corpus.ids]
    return [words[a:b] for a, b in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and pieces so small that a toy corpus has many."""
    monkeypatch.setattr(sources, "_BLOCK", 40)
    monkeypatch.setattr(sources, "PIECE_TOKENS", 64)
    monkeypatch.setattr(id_store, "PIECE_TOKENS", 64)


@pytest.mark.parametrize("memory_limit", [None, 0])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.usefixtures("small_pieces")
def test_all_sources_give_the_same(tmp_path: Path, memory_limit: int | None, workers: int) -> None:
    sentences = some_sentences()
    text = text_of(sentences)
    (tmp_path / "plain.txt").write_bytes(text)
    (tmp_path / "a.gz").write_bytes(gzip.compress(text))
    (tmp_path / "a.bz2").write_bytes(bz2.compress(text))
    (tmp_path / "a.xz").write_bytes(lzma.compress(text))
    (tmp_path / "lies.txt").write_bytes(gzip.compress(text))
    (tmp_path / "lies.gz").write_bytes(text)
    half = text_of(sentences[:100]).rstrip(b"\n")
    (tmp_path / "first").write_bytes(half)
    (tmp_path / "second").write_bytes(text_of(sentences[100:]))
    types = list(dict.fromkeys(word for words in sentences for word in words))
    number = {word: place for place, word in enumerate(types)}
    ids = np.array([number[word] for words in sentences for word in words])
    offsets = np.cumsum([0, *map(len, sentences)])
    same: list[Any] = [
        str(tmp_path / "plain.txt"),
        *[tmp_path / name for name in ("a.gz", "a.bz2", "a.xz", "lies.txt", "lies.gz")],
        [tmp_path / "first", str(tmp_path / "second")],
        sentences,
        iter(sentences),
        (map(str, words) for words in sentences),
        (ids, offsets),
    ]
    kept = [words for words in sentences if words]
    for source in same:
        extra = {"words": types} if isinstance(source, tuple) else {}
        vocabulary, corpus = read(
            source, min_count=3, workers=workers, memory_limit=memory_limit, **extra
        )
        counts = {word: sum(words.count(word) for words in sentences) for word in types}
        expected = sorted((w for w in types if counts[w] >= 3), key=lambda word: -counts[word])
        assert vocabulary.words == expected
        assert vocabulary.counts.tolist() == [counts[word] for word in expected]
        assert vocabulary.index == {word: place for place, word in enumerate(expected)}
        in_vocabulary = [[w for w in words if w in vocabulary.index] for words in kept]
        assert words_of(vocabulary, corpus) == [words for words in in_vocabulary if words]
        assert corpus.ids.dtype == np.int32
        assert corpus.offsets.dtype == np.int64
        assert vocabulary.raw_types == len(types)
        assert vocabulary.raw_words == corpus.raw_words == len(ids)
        assert vocabulary.raw_sentences == corpus.raw_sentences == len(sentences)
        if isinstance(source, (str, Path, list, tuple)):
            again = encode(source, vocabulary, workers=2, memory_limit=memory_limit, **extra)
            assert again.fingerprint == corpus.fingerprint
            assert again.ids.tolist() == corpus.ids.tolist()
            assert again.offsets.tolist() == corpus.offsets.tolist()
            assert again.raw_words == corpus.raw_words
            everything = count(source, workers=workers, **extra)
            assert dict(zip(everything.words, everything.counts.tolist(), strict=True)) == counts


def test_encode_leaves_out_other_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a b\nc\n\nb d b\n")
    vocabulary = Vocabulary(["b", "never", "a"], np.array([3, 2, 1]))
    for source in (
        tmp_path / "text",
        [["a", "b"], ["c"], [], ["b", "d", "b"]],
        (np.array([0, 1, 2, 1, 3, 1]), np.array([0, 2, 3, 3, 6])),
    ):
        extra = {"words": ["a", "b", "c", "d"]} if isinstance(source, tuple) else {}
        corpus = encode(source, vocabulary, **extra)
        assert words_of(vocabulary, corpus) == [["a", "b"], ["b", "b"]]
        assert (corpus.raw_words, corpus.raw_sentences) == (6, 4)


def test_ids_without_words_and_far_apart() -> None:
    ids = np.array([5, 2**40, 5, 3, 2**40, 5], np.int64)
    vocabulary, corpus = read((ids, np.array([0, 3, 6])), min_count=2)
    assert vocabulary.words == ["5", str(2**40)]
    assert corpus.ids.tolist() == [0, 1, 0, 1, 0]
    assert corpus.offsets.tolist() == [0, 3, 5]


@pytest.mark.parametrize("one_shot", [False, True])
@pytest.mark.parametrize("as_file", [False, True])
def test_known_words_stay_in_front(tmp_path: Path, as_file: bool, one_shot: bool) -> None:
    known, _ = read([["b", "b", "a"]], min_count=1)
    sentences = [["new", "a", "newer"], ["newer", "a", "rare"], ["newer", "new"]]
    (tmp_path / "text").write_bytes(text_of(sentences))
    source: Any = tmp_path / "text" if as_file else iter(sentences) if one_shot else sentences
    vocabulary, corpus = read(source, min_count=2, known=known)
    assert vocabulary.words == ["b", "a", "newer", "new"]
    assert vocabulary.counts.tolist() == [2, 3, 3, 2]
    assert words_of(vocabulary, corpus) == [["new", "a", "newer"], ["newer", "a"], ["newer", "new"]]
    if not one_shot:
        again, encoded = read(source, min_count=2, known=known, max_vocab_size=99)
        assert again.words == vocabulary.words
        assert again.counts.tolist() == vocabulary.counts.tolist()
        assert encoded.fingerprint == corpus.fingerprint


@pytest.mark.parametrize("two_readings", [False, True])
def test_max_final_vocab_is_of_the_new_words(two_readings: bool) -> None:
    known, _ = read([["b", "b", "a"]], min_count=1)
    text = [["b"] * 9, ["a"] * 8, ["x"] * 3, ["y"] * 2, ["z"]]
    more = {"max_vocab_size": 99} if two_readings else {}
    for most, words in ((1, ["x"]), (2, ["x", "y"]), (3, ["x", "y", "z"])):
        vocabulary, _ = read(text, min_count=1, max_final_vocab=most, known=known, **more)
        assert vocabulary.words == ["b", "a", *words]
        assert vocabulary.counts.tolist()[:2] == [11, 9]


# gensim.


def gensim_counts(sentences: Sentences, **settings: Any) -> tuple[dict[str, int], int]:
    word2vec = pytest.importorskip("gensim.models.word2vec")
    rule = settings.pop("trim_rule", None)
    model = word2vec.Word2Vec(vector_size=1, workers=1, **settings)
    model.build_vocab(sentences, trim_rule=rule)
    counts = {word: model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key}
    return counts, model.effective_min_count


def name_of(parameter: object) -> str:
    """The same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(parameter))


def odd_rule(word: str, times: int, min_count: int) -> int:
    if word.endswith("7"):
        return RULE_DISCARD
    return RULE_KEEP if word.endswith("3") else RULE_DEFAULT


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings",
    [
        {"min_count": 1},
        {"min_count": 5},
        {"min_count": 2, "max_vocab_size": 60},
        {"min_count": 1, "max_vocab_size": 15},
        {"min_count": 3, "max_final_vocab": 20},
        {"min_count": 1, "max_final_vocab": 10_000},
        {"min_count": 3, "trim_rule": odd_rule},
        {"min_count": 3, "trim_rule": odd_rule, "max_vocab_size": 40, "max_final_vocab": 30},
    ],
    ids=name_of,
)
@pytest.mark.parametrize("as_file", [False, True])
def test_equals_gensim(tmp_path: Path, settings: dict[str, Any], as_file: bool, seed: int) -> None:
    sentences = some_sentences(seed)
    expected, least = gensim_counts(sentences, **settings)
    (tmp_path / "text").write_bytes(text_of(sentences))
    vocabulary, corpus = read(tmp_path / "text" if as_file else sentences, **settings)
    assert dict(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True)) == expected
    assert vocabulary.min_count == least
    assert np.all(np.diff(vocabulary.counts) <= 0)
    in_vocabulary = [[word for word in words if word in expected] for words in sentences]
    assert words_of(vocabulary, corpus) == [words for words in in_vocabulary if words]


def test_rules_are_gensims() -> None:
    utils = pytest.importorskip("gensim.utils")
    assert RULE_DEFAULT == utils.RULE_DEFAULT
    assert RULE_DISCARD == utils.RULE_DISCARD
    assert RULE_KEEP == utils.RULE_KEEP


IN_SILENCE = text_files.Decoding(errors="replace")


# Bad input.


def test_empty_and_tiny(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for text, words in ((b"", []), (b"\n \n", []), (b"one", ["one"]), (b"\0\xff\n", ["\0\ufffd"])):
        path.write_bytes(text)
        vocabulary, corpus = read(path, min_count=1, decoding=IN_SILENCE)
        assert vocabulary.words == words
        assert corpus.ids.tolist() == [0] * len(words)
        assert corpus.offsets.tolist() == list(range(len(words) + 1))
        assert corpus.invalid_bytes == text.count(b"\xff")
        assert len(read(path, memory_limit=0, decoding=IN_SILENCE)[1].ids) == 0
    for empty in ([], iter(()), [[]], (np.zeros(0, int), np.zeros(1, int))):
        vocabulary, corpus = read(empty)
        assert (len(vocabulary), len(corpus.ids), corpus.offsets.tolist()) == (0, 0, [0])


def test_binary_junk(tmp_path: Path) -> None:
    junk = random.Random(0).randbytes(300_000)
    (tmp_path / "junk").write_bytes(junk)
    vocabulary, corpus = read(tmp_path / "junk", min_count=1, workers=2, decoding=IN_SILENCE)
    words = junk.decode("utf-8", "replace").split()
    assert [vocabulary.words[number] for number in corpus.ids] == words
    assert 0 < corpus.invalid_bytes < len(junk)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("no/such", FileNotFoundError, "no such file .*: 'no/such'"),
        (["no/such", "x"], FileNotFoundError, "no such file .*: 'no/such'"),
        ("two words" * 999, FileNotFoundError, r"a sentence is a list of words.*\.\.\.'"),
        ("zero\0", FileNotFoundError, "no such file"),
        (iter(["two words"]), TypeError, "sentence 0 must be a list of words, got the str 'two wo"),
        ([["a"], "b c"], TypeError, "sentence 1 must be a list of words, got the str 'b c'"),
        ([["a"], None], TypeError, "sentence 1 must be a list of words, got NoneType None"),
        (
            [["a"], ["b", None]],
            TypeError,
            "word 1 of sentence 1 must be a str.*, got NoneType None",
        ),
        ([["a", ["b"]]], TypeError, "word 1 of sentence 0 must be a str.*, got list"),
        (iter([["a", b"b"]]), TypeError, "word 1 of sentence 0 must be a str.*, got bytes b'b'"),
        (3, TypeError, "source must be a path, .* got int"),
        (b"text", TypeError, "source must be .* got bytes"),
        (np.arange(3), TypeError, "source must be .* got ndarray"),
        ((np.arange(3.0), np.arange(2)), TypeError, "ids must be integers in one dim.* float64"),
        ((np.arange(3), np.zeros((1, 2), int)), TypeError, r"offsets must be .* int64 \[1, 2\]"),
        ((np.arange(3), np.array([0, 2])), ValueError, r"begin with 0 and end with 3, got \[0, 2"),
        ((np.arange(3), np.array([], int)), ValueError, r"end with 3, got \[\]"),
        ((np.arange(3), np.array([0, 2, 1, 3])), ValueError, "offsets must not decrease"),
        ((np.array([0, -1]), np.array([0, 2])), ValueError, "ids must be 0 or more, got -1"),
    ],
    ids=name_of,
)
def test_what_is_no_corpus(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(source, min_count=1)


def test_bad_arguments(tmp_path: Path) -> None:
    for wrong in (
        {"min_count": -1},
        {"max_vocab_size": 0},
        {"max_final_vocab": 0},
        {"workers": 0},
        {"memory_limit": -1},
    ):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"corpus: {name} must be"):
            read([["a"]], **wrong)
    with pytest.raises(TypeError, match=r"corpus: min_count must be an integer, got 1\.5"):
        read([["a"]], min_count=1.5)
    with pytest.raises(
        ValueError, match=r"max_vocab_size reads the source twice.* got a generator"
    ):
        read((words for words in [["a"]]), max_vocab_size=3)
    with pytest.raises(TypeError, match="words goes with"):
        read([["a"]], words=["a"])
    with pytest.raises(ValueError, match="ids must be below 1, as words are, got 1"):
        read((np.array([0, 1]), np.array([0, 2])), words=["a"])
    two = (np.array([0, 1]), np.array([0, 2]))
    for words, message in (
        (["a", 3], r"words\[1\] must be a str, got int 3"),
        ([None, "b"], r"words\[0\] must be a str, got NoneType None"),
        ("ab", "words must be a list of str, got str"),
        ({"a", "b"}, "words must be a list of str, got set"),
    ):
        with pytest.raises(TypeError, match=message):
            read(two, words=words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="words must be distinct, got 'a' at 0 and at 2"):
        read(two, words=["a", "b", "a"])
    with pytest.raises(ValueError, match=r"trim_rule must return .* got 5 for 'a'"):
        read([["a"]], trim_rule=lambda word, times, least: 5)
    with pytest.raises(ValueError, match="words must be distinct, got 'a' twice"):
        Vocabulary(["a", "a"], np.array([1, 1]))
    with pytest.raises(ValueError, match=r"counts must be \[1\], got \[2\]"):
        Vocabulary(["a"], np.array([1, 1]))
    with pytest.raises(FileNotFoundError, match=r"the folder has no files.*" + tmp_path.name):
        read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user who may not read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a")
    (tmp_path / "text").chmod(0)
    with pytest.raises(PermissionError, match="text"):
        read(tmp_path / "text")


@pytest.mark.parametrize(
    ("kind", "suffix", "compress"),
    [
        ("gzip", ".gz", gzip.compress),
        ("bzip2", ".bz2", bz2.compress),
        ("xz", ".xz", lzma.compress),
    ],
)
def test_damaged_archives(
    tmp_path: Path, kind: str, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    packed = compress(random.Random(0).randbytes(20_000))
    path = tmp_path / f"text{suffix}"
    middle = len(packed) // 2
    before = open_files()
    for damaged in (
        packed[:middle],
        packed[:2],
        packed[:middle] + bytes(99) + packed[middle + 99 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"text{suffix} must be a whole {kind} file, got"):
            read(path)
    assert open_files() == before
    path.write_bytes(compress(b""))
    assert len(read(path)[0]) == 0


@pytest.mark.usefixtures("small_pieces")
def test_word_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_LONGEST_WORD", 1000)
    (tmp_path / "text").write_bytes(b"a " + b"x" * 900 + b" b")
    assert len(read(tmp_path / "text", min_count=1)[0]) == 3
    (tmp_path / "text").write_bytes(b"a " + b"x" * 5000 + b" b")
    with pytest.raises(ValueError, match=r"words must have at most 1000 bytes, .*text; is it a"):
        read(tmp_path / "text")


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("grows", [False, True])
def test_file_changes_while_it_is_read(tmp_path: Path, grows: bool) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"word " * 1000)
    done: list[int] = []

    def change(position: int, total: int | None, unit: str) -> None:
        done.append(position)
        assert (total, unit) == (5000, "bytes")
        if len(done) == 3:
            if grows:
                with open(path, "ab") as text:
                    text.write(b"more " * 10)
            else:
                os.truncate(path, 60)

    vocabulary, _ = read(path, min_count=1, workers=1, progress=change)
    assert done == sorted(done)
    if grows:
        assert dict(zip(vocabulary.words, vocabulary.counts, strict=True)) == {
            "word": 1000,
            "more": 10,
        }
    else:
        # What the file's own buffer held is read; nothing of it is lost or made up.
        assert set(vocabulary.words) <= {"word", "w", "wo", "wor"}
        assert 12 <= vocabulary.raw_words <= 1000


@pytest.mark.usefixtures("small_pieces")
def test_interrupted(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"word " * 1000)

    def interrupt(done: int, total: int | None, unit: str) -> None:
        if done > 2000:
            raise KeyboardInterrupt

    def sentences() -> Iterator[list[str]]:
        yield from [["a", "b"]] * 100
        raise ZeroDivisionError("mine")

    before = open_files()
    folder = tmp_path / "cache"
    folder.mkdir()
    for limit in (0, None):
        with pytest.raises(KeyboardInterrupt):
            read(
                tmp_path / "text",
                workers=1,
                progress=interrupt,
                memory_limit=limit,
                cache_folder=folder,
            )
        with pytest.raises(ZeroDivisionError, match="mine"):
            read(sentences(), memory_limit=limit, cache_folder=folder)
    assert open_files() == before
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("small_pieces")
def test_cache_file_has_no_name_and_cannot_be_written(tmp_path: Path) -> None:
    before = open_files()
    _, corpus = read([["a", "b"]] * 100, min_count=1, memory_limit=0, cache_folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert corpus.ids.tolist() == [0, 1] * 100
    assert not corpus.ids.flags.writeable
    assert type(corpus.ids) is np.ndarray
    del corpus
    assert open_files() == before
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read([["a"]], memory_limit=0, cache_folder=tmp_path / "nowhere")


@pytest.mark.usefixtures("small_pieces")
def test_disk_full(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"4 bytes a word; give cache_folder=") as error:
            read([["a", "b"]] * 1000, memory_limit=0, cache_folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(gzip.compress(b"a b a\n" * 5000),))
    writer.start()
    vocabulary, corpus = read(path, min_count=1)
    writer.join()
    assert vocabulary.counts.tolist() == [10_000, 5000]
    assert corpus.raw_sentences == 5000
    with pytest.raises(
        ValueError, match=r"max_vocab_size reads the source twice.*which is not a regular file"
    ):
        read(path, max_vocab_size=5)


def test_memory_that_is_free() -> None:
    assert 0 < id_store.free_memory() < 1 << 62


def test_special_tokens_come_first() -> None:
    words = Vocabulary.of(["b", "a", "c", "a", "b", "a"], ["<pad>", "<unk>"], min_count=2)
    assert words.words == ["<pad>", "<unk>", "a", "b"]
    assert words.counts.tolist() == [0, 0, 3, 2]
    assert words.specials == ("<pad>", "<unk>")
    assert (words.raw_words, words.raw_types, len(words)) == (6, 3, 4)
    ids = words.encode(["b", "c", "<pad>", "a"], unknown="<unk>")
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 1, 0, 2]
    assert words.decode(ids) == ["b", "<unk>", "<pad>", "a"]
    assert words.decode(ids, skip_specials=True) == ["b", "a"]
    assert words.encode([]).tolist() == []
    again = Vocabulary.of(["<s>", "x", "<s>"], ["<s>"])  # a special token that occurs
    assert again.words == ["<s>", "x"]


def test_special_tokens_before_the_words_of_a_text() -> None:
    plain = Vocabulary(["a", "b"], np.array([2, 1]))
    words = plain.with_specials(["</s>"])
    assert (words.words, plain.words) == (["</s>", "a", "b"], ["a", "b"])
    assert words.encode(["b", "</s>"]).tolist() == [2, 0]


def test_bad_special_tokens() -> None:
    plain = Vocabulary(["a", "b"], np.array([2, 1]))
    with pytest.raises(ValueError, match="words must be distinct, got 'a' twice"):
        plain.with_specials(["a"])
    with pytest.raises(ValueError, match="there must be none yet"):
        plain.with_specials(["<s>"]).with_specials(["</s>"])
    with pytest.raises(ValueError, match="specials must be the first words, got \\('b',\\)"):
        Vocabulary(["a", "b"], np.array([2, 1]), specials=("b",))
    with pytest.raises(ValueError, match="min_count must be"):
        Vocabulary.of(["a"], min_count=0)
    with pytest.raises(KeyError, match="'c' is not in the vocabulary: name the token"):
        plain.encode(["a", "c"])
    with pytest.raises(KeyError, match="unknown '<unk>' is not in the vocabulary"):
        plain.encode(["a"], unknown="<unk>")
    for bad in (-1, 2):
        with pytest.raises(IndexError, match=f"from 0 to 1, got {bad}"):
            plain.decode([bad])

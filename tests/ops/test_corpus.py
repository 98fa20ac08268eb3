"""The native word reader equals its twin: any bytes, blocks of any size, one to three threads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqfast.ops import corpus as fast
from seqfast.reference import corpus as twin

# What words, sentences and characters may meet at: white space of every length, cut characters,
# zeros, words of 7, 8, 9, 15, 16 and 17 bytes, and the same words written in two ways.
PIECES = [
    *[bytes([byte]) for byte in (*range(9, 14), *range(28, 33), 0, 1, 8, 14, 27, 33, 127)],
    *[s.encode() for s in "\x85\xa0\u1680\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u3000"],
    *[s.encode() for s in ("ä", "я", "中", "文字", "😀", "\ufffd", "\u2027", "\u2060", "\ufeff")],
    *[bytes([byte]) for byte in (0x80, 0xBF, 0xC0, 0xC2, 0xE0, 0xE2, 0xED, 0xF0, 0xF4, 0xF5, 0xFF)],
    *[b"\xe2\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe0\x80"],
    *[b"a" * size for size in (1, 2, 7, 8, 9, 15, 16, 17, 40)],
    *[b"the", b"of", b"word", b" ", b" ", b"\n", b"a\0", b"a\0\0"],
]
texts = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


def feed(reader: Any, text: bytes, blocks: Sequence[int]) -> None:
    start, turn = 0, 0
    while start < len(text):
        part = text[start : start + blocks[turn % len(blocks)]]
        reader.space(len(part))[:] = part
        reader.feed(len(part))
        start, turn = start + len(part), turn + 1
    reader.end()


def found(reader: Any, final: bool = False) -> dict[str, Any]:
    """All a reader has found; `final`: there are no ids, or they are frozen."""
    ids = reader.take()
    assert ids.dtype == np.int32
    types = reader.types
    if not final:
        assert reader.renumber(ids, np.arange(types, dtype=np.int32)) == len(ids)
    return {
        "words": reader.words(np.arange(types)),
        "counts": reader.counts().tolist(),
        "ids": ids.tolist(),
        "offsets": reader.offsets().tolist(),
        "read": (reader.raw_words, reader.raw_sentences, reader.invalid_bytes),
    }


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    st.lists(texts, min_size=1, max_size=3),
    st.lists(st.integers(1, 70), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 40),
)
def test_equals_its_twin(
    files: list[bytes], blocks: list[int], threads: int, part_bytes: int
) -> None:
    reader, slow = fast.WordReader(threads=threads, part_bytes=part_bytes), twin.WordReader()
    for text in files:
        feed(reader, text, blocks)
        feed(slow, text, [1000])
    assert found(reader) == found(slow)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts, st.integers(1, 90), st.integers(1, 3))
def test_split_words(text: bytes, block: int, threads: int) -> None:
    sentences = fast.split_words(text, block=block, threads=threads, part_bytes=5)
    assert sentences == twin.split_words(text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts, st.lists(st.text(max_size=20), unique=True, max_size=8), st.integers(1, 3), st.data())
def test_known_words(text: bytes, others: list[str], threads: int, data: st.DataObject) -> None:
    there = [word for sentence in twin.split_words(text) for word in sentence]
    picked = data.draw(st.lists(st.sampled_from(there), unique=True)) if there else []
    known = list(dict.fromkeys([*others, *picked, "\udc80", ""]))
    for frozen in (False, True):
        reader = fast.WordReader(known, frozen=frozen, threads=threads, part_bytes=7)
        slow = twin.WordReader(known, frozen=frozen)
        feed(reader, text, [50])
        feed(slow, text, [50])
        assert found(reader, frozen) == found(slow, frozen)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts, st.integers(1, 40), st.integers(1, 3), st.data())
def test_renumber(text: bytes, block: int, threads: int, data: st.DataObject) -> None:
    reader, slow = fast.WordReader(threads=threads, part_bytes=9), twin.WordReader()
    feed(reader, text, [block])
    feed(slow, text, [block])
    ids, same = reader.take(), slow.take()
    numbers = np.array(
        data.draw(st.lists(st.integers(-2, 9), min_size=slow.types, max_size=slow.types)), np.int32
    )
    cut = data.draw(st.integers(0, len(ids)))
    for piece in (slice(0, cut), slice(cut, None)):
        left = reader.renumber(ids[piece], numbers)
        assert left == slow.renumber(same[piece], numbers)
        assert ids[piece][:left].tolist() == same[piece][:left].tolist()
    assert reader.offsets().tolist() == slow.offsets().tolist()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts, st.integers(1, 60), st.integers(1, 5))
def test_prune(text: bytes, block: int, max_types: int) -> None:
    results = []
    for reader in (
        fast.WordReader(max_types=max_types, threads=2, part_bytes=1),
        twin.WordReader(max_types=max_types),
    ):
        least = 1
        for start in range(0, len(text) + block, block):
            part = text[start : start + block]
            reader.space(len(part))[:] = part
            reader.feed(len(part))
            if start + block >= len(text):
                reader.end()
            while reader.full:
                reader.prune(reader.counts() >= least)
                least += 1
                if start + block >= len(text):
                    reader.end()
                else:
                    reader.feed(0)
        results.append((least, found(reader, final=True)))
    assert results[0] == results[1]


def test_large_parts_and_growing_tables() -> None:
    draw = random.Random(0)
    words = [
        "".join(draw.choices("abcdefghij" if i % 3 else "абвгде\0", k=draw.randrange(1, 30)))
        for i in range(30_000)
    ]
    text = "".join(draw.choice(words) + draw.choice("  \n") for _ in range(150_000)).encode()
    slow = twin.WordReader()
    feed(slow, text, [1 << 20])
    expected = found(slow)
    for threads in (1, 2, 3):
        reader = fast.WordReader(threads=threads)
        feed(reader, text, [300_000])
        assert found(reader) == expected


def test_one_long_word_and_a_long_line() -> None:
    reader = fast.WordReader(threads=2)
    feed(reader, b"a " + b"x" * 10_000_000 + b" a", [1 << 20])
    assert reader.types == 2
    assert len(reader.words(np.array([1]))[0]) == 10_000_000
    reader = fast.WordReader(threads=2, part_bytes=1000)
    feed(reader, b"one two " * 100_000, [1 << 18])
    result = found(reader)
    assert result["ids"] == [0, 1] * 100_000
    assert result["offsets"] == [0, 200_000]


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=100))
def test_fingerprint(data: bytes) -> None:
    array = np.frombuffer(data, np.uint8)
    assert fast.fingerprint(array) == twin.fingerprint(array)


def test_errors() -> None:
    for wrong, message in (
        ({"max_types": 0}, "max_types must be 1 or more, got 0"),
        ({"threads": 0}, "threads must be 1 or more, got 0"),
        ({"part_bytes": 0}, "part_bytes must be 1 or more, got 0"),
        ({"known": ["a", "a"]}, "known must be distinct"),
    ):
        with pytest.raises(ValueError, match=message):
            fast.WordReader(**wrong)
    reader = fast.WordReader()
    with pytest.raises(ValueError, match="size must be from 0 to 0, got 1"):
        reader.feed(1)
    stale = reader.space(3)
    stale[:] = b"a b"
    with pytest.raises(ValueError, match="size must be from 0 to 3, got 4"):
        reader.feed(4)
    with pytest.raises(ValueError, match="released"):
        stale[0] = 0
    reader.space(3)[:] = b"a b"
    reader.feed(3)
    reader.end()
    with pytest.raises(IndexError, match="no such word"):
        reader.words(np.array([2]))
    with pytest.raises(ValueError, match=r"numbers must be int32 \[2\], got int64 \[2\]"):
        reader.renumber(reader.take(), np.zeros(2, np.int64))
    with pytest.raises(RuntimeError, match="once"):
        reader.renumber(np.zeros(3, np.int32), np.zeros(2, np.int32))
    with pytest.raises(IndexError, match="what take gave"):
        reader.renumber(np.array([5, -1], np.int32), np.zeros(2, np.int32))
    with pytest.raises(RuntimeError, match="must come before counts"):
        reader.end()
    with pytest.raises(RuntimeError, match="prune needs max_types"):
        reader.prune(np.ones(2, bool))

"""The word reader's twin against Python's own splitting and counting, written out plainly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqfast.reference.corpus import WordReader, fingerprint, split_words


def feed(reader: WordReader, text: bytes, block: int) -> None:
    for start in range(0, len(text), block):
        part = text[start : start + block]
        reader.space(block)[: len(part)] = part
        reader.feed(len(part))
    reader.end()


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=60), st.integers(1, 9))
def test_blocks_change_nothing(text: bytes, block: int) -> None:
    reader = WordReader()
    feed(reader, text, block)
    sentences = [line.split() for line in text.decode("utf-8", "replace").split("\n")]
    words = [word for sentence in sentences for word in sentence]
    found = reader.words(np.arange(reader.types))
    assert found == list(dict.fromkeys(words))
    assert [found[number] for number in reader.take()] == words
    assert reader.counts().tolist() == [Counter(words)[word] for word in found]
    assert reader.raw_words == len(words)
    assert reader.offsets().tolist() == [0, *np.cumsum([len(s) for s in sentences if s])]
    assert split_words(text) == [sentence for sentence in sentences if sentence]


def test_invalid_bytes_are_counted_singly() -> None:
    reader = WordReader()
    # A lone continuation; a character cut after two of its bytes; a surrogate; U+FFFD itself.
    feed(reader, b"a\x80 \xe2\x82 \xed\xa0\x80 \xef\xbf\xbd", 5)
    assert reader.words(np.arange(reader.types)) == ["a\ufffd", "\ufffd", "\ufffd\ufffd\ufffd"]
    assert reader.take().tolist() == [0, 1, 2, 1]
    assert reader.invalid_bytes == 1 + 2 + 3


def test_lines_are_counted_as_files_count_them(tmp_path) -> None:
    for text in (b"", b"\n", b"a", b"a\n", b"a\n\n b", b" \n \n ", b"a\rb\x85c"):
        (tmp_path / "text").write_bytes(text)
        reader = WordReader()
        feed(reader, text, 3)
        with open(tmp_path / "text", "rb") as lines:
            assert reader.raw_sentences == len(list(lines)), text


def test_known_and_frozen() -> None:
    reader = WordReader(["b", "zz"])
    feed(reader, b"a b\nc b a\n", 4)
    assert reader.words(np.arange(reader.types)) == ["b", "zz", "a", "c"]
    assert reader.counts().tolist() == [2, 0, 2, 1]
    frozen = WordReader(["b", "zz"], frozen=True)
    feed(frozen, b"a b\nc a\nb b\n", 4)
    assert frozen.take().tolist() == [0, 0, 0]
    assert frozen.offsets().tolist() == [0, 1, 3]
    assert (frozen.types, frozen.raw_words, frozen.raw_sentences) == (2, 6, 3)
    with pytest.raises(ValueError, match="known must be distinct"):
        WordReader(["a", "a"])


def test_full_after_a_sentence() -> None:
    reader = WordReader(max_types=2)
    reader.space(99)[:13] = b"a b c c\nb d\na"
    reader.feed(13)
    assert reader.full
    assert reader.counts().tolist() == [1, 1, 2]
    reader.prune(np.array([False, True, True]))
    assert reader.words(np.arange(reader.types)) == ["b", "c"]
    reader.feed(0)
    assert reader.full
    assert reader.counts().tolist() == [2, 2, 1]
    reader.prune(np.array([True, True, False]))
    reader.feed(0)
    assert not reader.full
    reader.end()
    assert reader.full
    reader.end()
    assert not reader.full
    assert reader.words(np.arange(reader.types)) == ["b", "c", "a"]
    assert reader.pending == 0


def test_renumber_in_pieces() -> None:
    reader = WordReader()
    feed(reader, b"a b c\nb b\nc a\n", 99)
    ids = reader.take()
    numbers = np.array([7, -1, 5], np.int32)
    first, second = ids[:4], ids[4:]
    kept = [first[: reader.renumber(first, numbers)], second[: reader.renumber(second, numbers)]]
    assert np.concatenate(kept).tolist() == [7, 5, 5, 7]
    assert reader.offsets().tolist() == [0, 2, 4]


def test_fingerprint_sees_every_byte_and_the_length() -> None:
    data = np.arange(11, dtype=np.int32)
    prints = {fingerprint(data), fingerprint(data[:10]), fingerprint(np.append(data, np.int32(0)))}
    for place in range(data.nbytes):
        changed = data.copy()
        changed.view(np.uint8)[place] ^= 1
        prints.add(fingerprint(changed))
    assert len(prints) == data.nbytes + 3
    assert fingerprint(data) == fingerprint(data.copy())

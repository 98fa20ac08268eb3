"""What the CTC decoder's kernels rely on is refused before them; results: tests/decoding."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from seqfast.ops.ctc_decoder import Language, Ngram, Search, Tree, ctc_decode, functions

LOG_PROBS = np.log(np.full((2, 5, 4), 0.25))
TREE = Tree(np.array([0, 2, 2, 2], np.int32), np.array([0, 1], np.int32))
NODES = 3
LANGUAGE = Language(
    np.array([0, 0, 0, 1, 2], np.int32),  # the blank, the boundary, two letters
    np.array([0, 1], np.int32),
    boundary=1,
    words=TREE,
    word_of=np.array([-1, 1, 2], np.int32),
    flags=np.array([2, 3, 3], np.uint8),
    ngram=Ngram(TREE, np.zeros(NODES), np.zeros(NODES), np.zeros(NODES, np.int64), 1),
    hotwords=TREE,
    hot_roots=np.array([0, -1], np.int32),
    hot_parts=np.zeros(NODES),
    hot_words=np.ones(NODES),
)


def test_a_complete_language_is_taken() -> None:
    found = ctc_decode(LOG_PROBS, language=LANGUAGE, n_best=3)
    assert found.scores.shape == (2, 3)
    assert found.scores[0, 0] > found.scores[1, 0]  # with hotwords


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"letter_starts": np.array([0, 0, 0, 1, 2])}, TypeError, "letter_starts must be int32"),
    ({"letter_starts": np.array([0, 0, 2, 1, 2], np.int32)}, ValueError, "must begin with 0 and"),
    ({"letters": np.array([0], np.int32)}, ValueError, "letters must be [2], got [1]"),
    ({"letters": np.arange(4, dtype=np.int32)[::2]}, ValueError, "letters must be contiguous"),
    ({"boundary": 4}, ValueError, "boundary must be from -1 to 3, got 4"),
    ({"begins": np.zeros(3, np.uint8)}, ValueError, "begins must be [4], got [3]"),
    ({"flags": None}, TypeError, "flags must be a NumPy array, got NoneType"),
    ({"word_of": np.zeros(NODES)}, TypeError, "word_of must be int32, got float64"),
    ({"words": Tree(TREE.starts, TREE.starts)}, ValueError, "words.labels must be [2], got [4]"),
    ({"start": 3}, ValueError, "start must be from 0 to 2, a node of the model, got 3"),
    ({"token_words": np.zeros(3, np.int32)}, ValueError, "token_words must be [4], got [3]"),
    (
        {"ngram": None, "token_words": np.zeros(4, np.int32)},
        ValueError,
        "ngram must be given with token_words",
    ),
    (
        {"ngram": LANGUAGE.ngram._replace(suffixes=np.zeros(2, np.int64))},  # type: ignore[union-attr]
        ValueError,
        "ngram.suffixes must be [3], got [2]",
    ),
    ({"hotwords": None}, ValueError, "hotwords must be given with hot_roots"),
    ({"hot_roots": np.zeros(1, np.int32)}, ValueError, "hot_roots must be [2], got [1]"),
    ({"hot_roots": np.array([0, 3], np.int32)}, ValueError, "nodes from 0 to 2, or -1, got 3"),
    ({"hot_words": np.zeros(2)}, ValueError, "hot_words must be [3], got [2]"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD, ids=[m for _, _, m in BAD])
def test_what_kernels_could_not_read(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match="^ctc_decode: language.*" + re.escape(message)):
        ctc_decode(LOG_PROBS, language=dataclasses.replace(LANGUAGE, **changes))


@pytest.mark.parametrize("blank", [-1, 4, 1.0])
def test_a_blank_that_is_no_token(blank: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^ctc_decode: blank must be"):
        ctc_decode(LOG_PROBS, language=LANGUAGE, blank=blank)


def test_a_search_that_cannot_grow_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(2, LANGUAGE)
    search.feed(search.chunk(LOG_PROBS))
    wanted, before = search.results(finish=True), search._memory

    def full(size: int) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(functions, "Workspace", full)
        with pytest.raises(MemoryError):
            search._grow()
    assert search._memory is before
    search._grow()
    assert search._memory is not before
    for one, other in zip(search.results(finish=True), wanted, strict=True):
        np.testing.assert_array_equal(one, other)

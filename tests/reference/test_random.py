"""Philox against Random123's published vectors, and what the operations draw with it."""

from __future__ import annotations

import numpy as np
import pytest

from seqfast.reference import dropout as twin

# counter, key and result, from the file kat_vectors of Random123.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: str, key: str, wanted: str) -> None:
    low, high = _words(key)
    counters = np.array([_words(counter)] * 2, np.uint32)
    np.testing.assert_array_equal(twin.philox(counters, (low, high)), [_words(wanted)] * 2)


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3, -1, -(2**63)])
def test_a_unit_finds_its_word_where_documented(seed: int) -> None:
    steps, rows, units, stream, p = 3, 2, 150, 29, 0.37
    drawn = twin.events(p, np.array([seed]), stream, steps, rows, units)
    assert drawn.shape == (steps, rows, units)
    key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    for step, row, unit in np.ndindex(drawn.shape):
        counter = np.array([unit // 64 * 16 + unit % 16, row, step, stream], np.uint32)
        word = int(twin.philox(counter, key)[unit // 16 % 4])
        assert drawn[step, row, unit] == (word >> 8 < int(p * 2**24))


def test_places_in_larger_arrays_keep_their_numbers() -> None:
    large = twin.events(0.5, 5, 3, 4, 3, 200)
    np.testing.assert_array_equal(twin.events(0.5, 5, 3, 2, 2, 70), large[:2, :2, :70])
    np.testing.assert_array_equal(twin.events(0.5, 5, 3, None, 3, 200), large[:1])


def test_seeds_and_streams_differ() -> None:
    masks = [
        twin.events(0.5, seed, stream, 2, 3, 64).tobytes()
        for seed in (0, 1, 2**32)
        for stream in range(8)
    ]
    assert len(set(masks)) == len(masks)
    streams = {
        twin.stream_of(draw, layer, direction)
        for draw in twin.Draw
        for layer in range(4)
        for direction in range(2)
    }
    assert streams == set(range(64))
    assert twin.stream_of(twin.Draw.ZONEOUT_CELL, 2, 1) == 43


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_events_come_as_often_as_asked(p: float) -> None:
    drawn = twin.events(p, 11, 0, 20, 10, 500)
    # Five standard deviations; none at 0 and 1.
    assert abs(drawn.mean() - p) <= 5 * np.sqrt(p * (1 - p) / drawn.size)
    for axis in range(3):
        along = drawn.mean(axis)
        assert np.abs(along - p).max() <= 6 * np.sqrt(p * (1 - p) / drawn.shape[axis])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("per_step", [True, False])
def test_dropout(dtype: type, per_step: bool) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 70)).astype(dtype)
    y = twin.dropout(x, 0.25, 9, stream=6, per_step=per_step)
    assert y.dtype == dtype
    dropped = twin.events(0.25, 9, 6, 5 if per_step else None, 3, 70)
    accumulate = np.float64 if dtype == np.float64 else np.float32
    wanted = (x.astype(accumulate) * accumulate(1 / 0.75)).astype(dtype)
    np.testing.assert_array_equal(y, np.where(dropped, 0, wanted))


def test_dropout_at_its_ends() -> None:
    x = np.array([[[1.0, np.inf, np.nan, -2.0]]])
    np.testing.assert_array_equal(twin.dropout(x, 1.0, 3, stream=0), np.zeros_like(x))
    np.testing.assert_array_equal(twin.dropout(x, 0.0, 3, stream=0), x)
    np.testing.assert_array_equal(twin.dropout(x, 0.5, None, stream=0), x)
    assert twin.dropout(np.zeros((0, 2, 3)), 0.5, 1, stream=0).shape == (0, 2, 3)

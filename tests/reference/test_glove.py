"""The twin of GloVe: against a count by hand, gradients by finite differences, and orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.glove_cases import case_of, text_of

from seqfast.reference import glove


def dense(found: Any, vocabulary: int) -> Any:
    offsets, columns, values = found
    whole = np.zeros((vocabulary, vocabulary))
    whole[np.repeat(np.arange(vocabulary), np.diff(offsets)), columns] = values
    return whole


def test_a_count_by_hand() -> None:
    ids, offsets = np.array([0, 1, 0, 2, 1], np.int32), np.array([0, 4, 5])
    behind = dense(glove.cooccurrences(ids, offsets, 3, window=2, symmetric=False), 3)
    np.testing.assert_array_equal(behind, [[0.5, 1, 1], [1, 0, 0.5], [0, 0, 0]])
    both = dense(glove.cooccurrences(ids, offsets, 3, window=2), 3)
    np.testing.assert_array_equal(both, behind + behind.T)
    equal = glove.cooccurrences(ids, offsets, 3, window=2, distance_weighting=False)
    np.testing.assert_array_equal(dense(equal, 3), [[2, 2, 1], [2, 0, 1], [1, 1, 0]])


def test_weights_are_within_their_unit() -> None:
    text = text_of(20, 300, 7)
    found = dense(glove.cooccurrences(*text, window=6), 20)
    exact = np.zeros((20, 20))
    for begin, end in zip(text.offsets[:-1], text.offsets[1:], strict=True):
        for p in range(begin, end):
            for q in range(max(begin, p - 6), p):
                exact[text.ids[p], text.ids[q]] += 1 / (p - q)
                exact[text.ids[q], text.ids[p]] += 1 / (p - q)
    np.testing.assert_allclose(found, exact, rtol=1e-8)


@pytest.mark.parametrize("blocks", [1, 3, 50])
def test_a_schedule_has_each_entry_once(blocks: int) -> None:
    found = glove.cooccurrences(*text_of(30, 300, 5), window=3)
    tiles, entries = glove.schedule(*found, blocks=blocks, seed=2)
    rows, columns, values = [], [], []
    for tile in range(blocks * blocks):
        for entry in entries[tiles[tile] : tiles[tile + 1]].tolist():
            rows.append((entry & 0xFFFF) * blocks + tile // blocks)
            columns.append((entry >> 16 & 0xFFFF) * blocks + tile % blocks)
            values.append(np.uint32(entry >> 32).view(np.float32))
    order = np.lexsort((columns, rows))
    np.testing.assert_array_equal(np.array(columns)[order], found[1])
    np.testing.assert_allclose(np.array(values)[order], found[2], rtol=1e-6)
    other = glove.schedule(*found, blocks=blocks, seed=3)[1]
    assert (other != entries).any() or blocks == 50
    np.testing.assert_array_equal(np.sort(other), np.sort(entries))


def test_shuffles_are_even() -> None:
    orders = np.array([glove.strata(4, seed=1, epoch=epoch) for epoch in range(2400)])
    assert {tuple(order) for order in orders.tolist()} == {
        (a, b, c, d) for a in range(4) for b in range(4) for c in range(4) for d in range(4)
        if len({a, b, c, d}) == 4
    }  # fmt: skip
    for place in range(4):
        np.testing.assert_allclose(np.bincount(orders[:, place]) / 2400, 0.25, atol=0.04)


def loss_of(words: Any, contexts: Any, x: float, size: int, x_max: float = 5.0) -> float:
    w, v = words[0].astype(float), contexts[0].astype(float)
    error = w[:size] @ v[:size] + w[size] + v[size] - np.log(x)
    return 0.5 * min((x / x_max) ** 0.75, 1.0) * error**2


@pytest.mark.parametrize("x", [0.5, 7.0])
def test_a_step_follows_the_gradient(x: float) -> None:
    size = 5
    case = case_of(words=1, tokens=1, size=size, blocks=1)
    bits = np.array([x], np.float32).view(np.uint32).astype(np.uint64) << np.uint64(32)
    case = case._replace(tiles=np.array([0, 1]), entries=bits)
    before = [array.astype(np.float64) for array in case.matrices[:2]]
    loss, after = case.run(glove.train, learning_rate=1.0)
    assert loss[0] == pytest.approx(loss_of(*before, x, size), rel=1e-5)
    for which in range(2):
        for column in range(size + 1):
            shifted = [array.copy() for array in before]
            shifted[which][0, column] += 1e-5
            up = loss_of(*shifted, x, size)
            shifted[which][0, column] -= 2e-5
            gradient = (up - loss_of(*shifted, x, size)) / 2e-5
            step = after[which][0, column] - before[which][0, column]
            assert step == pytest.approx(-gradient, rel=1e-3, abs=1e-6)
            assert after[2 + which][0, column] == pytest.approx(1 + gradient**2, rel=1e-3)


def test_clipping_and_locks() -> None:
    case = case_of(locked=np.arange(40) % 2)
    _, after = case.run(glove.train, clip=1e-3, learning_rate=1.0)
    for old, new, square in zip(case.matrices[:2], after[:2], after[2:], strict=True):
        np.testing.assert_array_equal(new[1::2], old[1::2])
        assert (new[::2, :21] != old[::2, :21]).any(1).sum() > 10
        assert square[:, :20].max() <= 1 + 1e-6 * len(case.entries) * 1.01
        assert square[:, 20].max() > 1.1  # biases are not cut off

"""The twin of the selection against the definition, element by element."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seqfast.reference.top_k import top_k

NAN, INF = math.nan, math.inf


def by_definition(row: list[float], k: int, exclude: list[int]) -> list[tuple[float, int]]:
    left = [(x, c) for c, x in enumerate(row) if not math.isnan(x) and c not in exclude]
    found = []
    for _ in range(k):
        best = None
        for x, column in left:
            if best is None or x > best[0]:
                best = (x, column)
        if best is None:
            found.append((-INF, -1))
        else:
            found.append(best)
            left.remove(best)
    return found


@pytest.mark.parametrize(
    ("row", "exclude"),
    [
        ([3.0, 1.0, 2.0], []),
        ([1.0, 1.0, 1.0, 1.0], []),
        ([0.0, -0.0, 0.0, -1.0], []),
        ([-INF, NAN, INF, -INF, INF, 0.0], []),
        ([NAN, NAN], []),
        ([5.0, 4.0, 5.0, 3.0], [0]),
        ([5.0, 4.0, 5.0, 3.0], [0, 2, 2, 0]),
        ([5.0, 4.0], [0, 1]),
        ([1.0, 2.0, NAN], [-1, 3, 10**12, 2]),
        ([], []),
    ],
)
def test_finds_what_the_definition_says(row: list[float], exclude: list[int]) -> None:
    scores = np.array([row], np.float32)
    for k in range(len(row) + 1):
        values, indices = top_k(scores, k, np.array([exclude], np.int64) if exclude else None)
        assert (values.dtype, indices.dtype) == (np.float32, np.int64)
        wanted = by_definition(row, k, exclude)
        assert list(zip(values[0].tolist(), indices[0].tolist(), strict=True)) == wanted


def test_rows_know_nothing_of_each_other() -> None:
    scores = np.random.default_rng(0).standard_normal((5, 30)).astype(np.float32)
    exclude = scores.argmax(1)[:, None]
    values, indices = top_k(scores, 4, exclude)
    for row in range(5):
        wanted = by_definition(scores[row].tolist(), 4, exclude[row].tolist())
        assert indices[row].tolist() == [column for _, column in wanted]
        np.testing.assert_array_equal(values[row], scores[row, indices[row]])


def test_no_rows() -> None:
    values, indices = top_k(np.zeros((0, 3), np.float32), 2)
    assert values.shape == indices.shape == (0, 2)

"""Rows of the matrix of co-occurrences, from a text or from the runs of its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast import _C
from seqfast.ops.base.arrays import Workspace
from seqfast.ops.glove.arguments import CooccurrenceArgs, TextIndexArgs

Array = npt.NDArray[Any]

UNIT = 2**32  # sums of weights are whole numbers of so many to one
MOST_WINDOW = 2**30 - 1
MOST_TOKENS = 2**30 - 1  # of a text that is counted at once: 32 bits hold them and as many marks
_EVENTS_AT_ONCE = 1 << 26  # pairs of words that a call goes through: some tenths of a second


def reach_of(window: int, offsets: Array) -> int:
    """How far a window goes at most: no farther than the longest sentence."""
    longest = int(np.diff(offsets).max()) if len(offsets) > 1 else 0
    return max(min(window, longest - 1), 1)


def weights_of(window: int, distance_weighting: bool) -> Array:
    """By distance, uint64 [window + 1], in units; the first is not used."""
    distances = np.arange(1, window + 1)
    units = np.round(UNIT / distances) if distance_weighting else np.full(window, float(UNIT))
    return np.concatenate([[0], units]).astype(np.uint64)


class Rows:
    """What `_C.cooccurrences` reads: checked by who makes it, its arrays kept.

    `events`, int64 [vocabulary + 1]: how much work there is before each row.
    """

    def __init__(self, vocabulary: int, events: Array, arrays: dict[str, Any], **plain: Any):
        self.vocabulary = vocabulary
        self.events = events
        self._arrays = arrays
        none: dict[str, Any] = dict.fromkeys(CooccurrenceArgs._fields, 0)
        addresses = {name: array.ctypes.data for name, array in arrays.items()}
        self._args = CooccurrenceArgs(**{**none, **addresses, **plain, "vocabulary": vocabulary})

    def parts(self) -> list[tuple[int, int]]:
        """Rows in pieces, between which a caller has its turn."""
        borders = np.arange(_EVENTS_AT_ONCE, self.events[-1], _EVENTS_AT_ONCE)
        rows = np.searchsorted(self.events, borders, side="right")
        cuts = np.unique(
            np.concatenate([[0], np.minimum(rows, self.vocabulary), [self.vocabulary]])
        )
        return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))

    def count_sizes(self, first: int, last: int, sizes: Array, threads: int) -> None:
        """Entries of the rows [first, last) to `sizes`, int64 [V]."""
        self._call(first, last, threads, sizes=sizes[first:].ctypes.data)

    def write(
        self,
        first: int,
        last: int,
        offsets: Array,
        columns: Array,
        threads: int,
        *,
        sums: Array | None = None,
        values: Array | None = None,
    ) -> None:
        """The rows [first, last), where `offsets` says: columns, and sums in units or values."""
        self._call(
            first,
            last,
            threads,
            offsets=offsets[first:].ctypes.data,
            columns=columns.ctypes.data,
            sums=0 if sums is None else sums.ctypes.data,
            values=0 if values is None else values.ctypes.data,
        )

    def _call(self, first: int, last: int, threads: int, **addresses: Any) -> None:
        if first >= last:
            return
        args = self._args._replace(
            first_row=first, last_row=last, threads=min(threads, last - first), **addresses
        )
        size = _C.cooccurrences_workspace_size(args)
        with Workspace(size) as workspace:
            _C.cooccurrences(args, workspace, size)


def rows_of_text(
    ids: Array, offsets: Array, vocabulary: int, weights: Array, symmetric: bool
) -> Rows:
    """Of sentences that `offsets` names, the first of which may begin anywhere in `ids`."""
    first, last = int(offsets[0]), int(offsets[-1])
    tokens, sentences = last - first, len(offsets) - 1
    ids = np.ascontiguousarray(ids[first:last], np.int32)
    offsets = np.ascontiguousarray(offsets, np.int64)
    text = np.empty(tokens + sentences + 1, np.int32)
    places = np.empty(tokens, np.int32)
    starts = np.empty(vocabulary + 1, np.int64)
    _C.text_index(
        TextIndexArgs(
            vocabulary=vocabulary,
            sentences=sentences,
            ids=ids.ctypes.data,
            offsets=offsets.ctypes.data,
            text=text.ctypes.data,
            places=places.ctypes.data,
            starts=starts.ctypes.data,
        )
    )
    window = len(weights) - 1
    arrays = {"text": text, "places": places, "starts": starts, "weights": weights}
    events = starts * (min(window, tokens) * (1 + symmetric))
    return Rows(vocabulary, events, arrays, window=window, symmetric=symmetric)


def rows_of_runs(offsets: Array, columns: Array, sums: Array) -> Rows:
    """Of runs whose rows lie where `offsets`, int64 [runs, V + 1], says."""
    arrays = {"run_offsets": offsets, "run_columns": columns, "run_sums": sums}
    events = (offsets - offsets[:, :1]).sum(0)
    return Rows(offsets.shape[1] - 1, events, arrays, runs=len(offsets))

"""What a search is called with, checked and brought into the kernels' form."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqfast.decoding.options import MOST_STEPS, SearchOptions
from seqfast.ops.base.arrays import library_of
from seqfast.ops.base.checks import check_whole

Array = Any  # a numpy.ndarray or a torch.Tensor


class Inputs:
    """Of one search. `ids` int64 [batch]; the rest int32 on the host."""

    def __init__(
        self,
        options: SearchOptions,
        start_ids: Any,
        prefix: Any,
        prefix_lengths: Any,
        max_length: Any,
        history: Any,
        history_lengths: Any,
    ) -> None:
        self._operation, self._eos = options.operation, options.eos
        self._xp = library_of(start_ids, self._operation, "start_ids")
        if not self._xp.is_integer(start_ids):
            raise TypeError(f"{self._operation}: start_ids must be integers, got {start_ids.dtype}")
        if start_ids.ndim != 1:
            raise ValueError(
                f"{self._operation}: start_ids must be [batch], one token for each sentence, "
                f"got {list(start_ids.shape)}"
            )
        self.ids = self._xp.int64(start_ids)
        self.batch = int(start_ids.shape[0])
        limits = self._row_limits(options, max_length)
        self.capacity = options.steps_for(int(limits.max(initial=1)))
        self.max_lengths = _int32(limits + (self.capacity - limits.max(initial=1)))
        self.prefix, self.prefix_lengths = self._prefix(prefix, prefix_lengths, limits)
        given = 0
        if self.prefix_lengths is not None and not options.score_prefix and self.batch:
            given = int(self.prefix_lengths.min())
        self.longest = self.capacity - given
        self._history_is_start = history is None
        self.history, self.history_lengths = self._history(history, history_lengths)

    def check_vocabulary(self, vocabulary: int, remembers: bool) -> None:
        """Tokens given must be in it; `remembers`: the history counts."""
        if remembers and self._history_is_start:
            # A start token need not be one that can be chosen.
            outside = (self.history[:, 0] < 0) | (self.history[:, 0] >= vocabulary)
            self.history = np.where(outside[:, None], 0, self.history)
            self.history_lengths = _int32(~outside)
        given = {"prefix": self.prefix, "history": self.history if remembers else None}
        for name, tokens in given.items():
            if tokens is None or 0 in tokens.shape:
                continue
            least, most = int(tokens.min()), int(tokens.max())
            if least < 0 or most >= vocabulary:
                raise ValueError(
                    f"{self._operation}: {name} must hold tokens in range [0, {vocabulary}), got "
                    f"{least if least < 0 else most}"
                )

    def _integers(self, name: str, values: Any, ndim: int) -> Any:
        """int64 on the host, [batch] or [batch, any]."""
        try:
            array = np.asarray(to_host(values))
        except ValueError:
            array = np.empty(0, object)
        if array.dtype.kind not in "iu":
            got = array.dtype if array.dtype != object else "rows of different lengths"
            raise TypeError(f"{self._operation}: {name} must be integers, got {got}")
        wanted = [self.batch] if ndim == 1 else [self.batch, "any"]
        if array.ndim != ndim or array.shape[0] != self.batch:
            shown = str(wanted).replace("'", "")
            raise ValueError(f"{self._operation}: {name} must be {shown}, got {list(array.shape)}")
        return array.astype(np.int64)

    def _tokens_and_counts(self, name: str, tokens: Any, lengths: Any) -> tuple[Any, Any]:
        """Tokens [batch, any], 0 behind the first of each row that count, and how many do."""
        tokens = self._integers(name, tokens, 2)
        width = tokens.shape[1]
        if lengths is None:
            return tokens, np.full(self.batch, width, np.int64)
        counts = self._integers(f"{name}_lengths", lengths, 1)
        if self.batch and not 0 <= counts.min() <= counts.max() <= width:
            raise ValueError(
                f"{self._operation}: {name}_lengths must be from 0 to {width}, got "
                f"{counts.min() if counts.min() < 0 else counts.max()}"
            )
        return np.where(np.arange(width) < counts[:, None], tokens, 0), counts

    def _row_limits(self, options: SearchOptions, max_length: Any) -> Any:
        if max_length is None:
            max_length = options.max_length
        if isinstance(max_length, (int, np.integer)) and not isinstance(max_length, bool):
            check_whole(self._operation, "max_length", max_length, 1, MOST_STEPS)
            return np.full(self.batch, max_length, np.int64)
        limits = self._integers("max_length", max_length, 1)
        if self.batch and not 1 <= limits.min() <= limits.max() <= MOST_STEPS:
            wrong = limits[(limits < 1) | (limits > MOST_STEPS)][0]
            raise ValueError(
                f"{self._operation}: max_length must be from 1 to {MOST_STEPS}, got {wrong}"
            )
        return limits

    def _prefix(self, prefix: Any, lengths: Any, limits: Any) -> tuple[Array | None, Array | None]:
        if prefix is None:
            if lengths is not None:
                raise ValueError(f"{self._operation}: prefix_lengths must be None without a prefix")
            return None, None
        if isinstance(prefix, (list, tuple)):
            if lengths is not None:
                raise ValueError(f"{self._operation}: prefix_lengths must be None for lists")
            if len(prefix) != self.batch:
                raise ValueError(
                    f"{self._operation}: prefix must have a list for each of {self.batch} "
                    f"sentences, got {len(prefix)}"
                )
            tokens, counts = padded(self._operation, "prefix", prefix)
        else:
            tokens, counts = self._tokens_and_counts("prefix", prefix, lengths)
        self._check_ends(tokens, counts)
        if (counts > limits).any():
            worst = int(np.argmax(counts > limits))
            raise ValueError(
                f"{self._operation}: prefix must not be longer than max_length, got "
                f"{counts[worst]} tokens for sentence {worst} of at most {limits[worst]}"
            )
        if not tokens.shape[1]:
            return None, None
        return _int32(tokens), _int32(counts)

    def _check_ends(self, tokens: Any, counts: Any) -> None:
        """A hypothesis ends with its EOS, so what stood behind one would be lost."""
        inside = np.isin(tokens, self._eos) & (np.arange(tokens.shape[1]) < counts[:, None] - 1)
        if inside.any():
            row, place = (int(i) for i in np.argwhere(inside)[0])
            raise ValueError(
                f"{self._operation}: prefix must hold EOS only as a sentence's last token, got "
                f"{tokens[row, place]} at place {place} of {counts[row]} for sentence {row}; pass "
                "the tokens that a decoder begins with as start_ids (decoder_input_ids of "
                "transformers_step), not as prefix"
            )

    def _history(self, history: Any, lengths: Any) -> tuple[Array, Array]:
        if history is None:
            if lengths is not None:
                raise ValueError(
                    f"{self._operation}: history_lengths must be None without a history"
                )
            start = self._integers("start_ids", self.ids, 1)
            return _int32(start[:, None]), _int32(np.ones(self.batch))
        tokens, counts = self._tokens_and_counts("history", history, lengths)
        return _int32(tokens), _int32(counts)


def padded(operation: str, name: str, rows: Any) -> tuple[Any, Any]:
    """int64 [rows, any] of a list of lists, 0 behind their ends, and the length of each."""
    arrays = [np.asarray(to_host(row)) for row in rows]
    for array in arrays:
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise TypeError(f"{operation}: {name} must hold lists of tokens")
    counts = np.array([array.size for array in arrays], np.int64)
    tokens = np.zeros((len(arrays), int(counts.max(initial=0))), np.int64)
    for row, array in enumerate(arrays):
        tokens[row, : array.size] = array
    return tokens, counts


def to_host(array: Any) -> Any:
    """A tensor as a NumPy array; anything else as it is."""
    return array.detach().cpu().numpy() if hasattr(array, "detach") else array


def _int32(array: Any) -> Any:
    return np.ascontiguousarray(array, np.int32)

"""Co-occurrences: counted within a limit of memory, kept in a file, read again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.corpus.vocabulary import Corpus
from seqfast.embeddings.files import PathLike, atomic_file
from seqfast.embeddings.formats import safetensors
from seqfast.embeddings.formats.safetensors import FileKind
from seqfast.embeddings.glove.storage import Storage
from seqfast.ops.base.checks import check_flag, check_whole
from seqfast.ops.corpus import fingerprint
from seqfast.ops.glove.counting import (
    MOST_TOKENS,
    MOST_WINDOW,
    Rows,
    reach_of,
    rows_of_runs,
    rows_of_text,
    weights_of,
)
from seqfast.ops.glove.training import checked_threads

Array = npt.NDArray[Any]
CountingProgress = Callable[[int, int | None, str], None]

OPERATION = "cooccurrences"
FILE = FileKind(name="seqfast.cooccurrences", version=1, writer="seqfast.embeddings.Cooccurrences")
# The record of the C tools, whose words begin with 1.
RECORD = np.dtype([("word1", "<i4"), ("word2", "<i4"), ("value", "<f8")])
_RECORDS_AT_ONCE = 1 << 20
_TOKEN_BYTES = 8  # of a text that is counted: where each word stands, and the text with marks
_LEAST_TOKENS = 1 << 16  # of a run


@dataclass(frozen=True, eq=False)
class Cooccurrences:
    """How often words occur near each other: a sparse matrix (CSR), words by id.

    Attributes:
        offsets: int64 [V + 1]; row r has the entries from offsets[r] to offsets[r + 1].
        columns: int32 [entries], increasing in each row.
        values: float64 [entries], above 0.
        words: [V], if they are known: a file of the C tools has none.
        source: the fingerprint of the text and of the counting options; else of the matrix itself.

    Raises:
        ValueError: arrays that do not fit each other, a column that is not an id, a value that is
            not above 0 and finite.

    Example:
        >>> import seqfast
        >>> text = [["red", "apple"], ["green", "apple"]] * 3
        >>> seqfast.GloVe(text, min_count=1, epochs=1, progress=False).cooccurrences
        Cooccurrences(3 words, 4 entries)
    """

    offsets: Array
    columns: Array
    values: Array
    words: Sequence[str] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        offsets, entries = self.offsets, len(self.columns)
        if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != entries:
            raise ValueError(f"Cooccurrences: offsets must go from 0 to {entries}")
        if len(self.values) != entries or (np.diff(offsets) < 0).any():
            raise ValueError("Cooccurrences: offsets must not decrease, and each entry has a value")
        if self.words is not None and len(self.words) != len(self):
            raise ValueError(f"Cooccurrences: words must be {len(self)}, got {len(self.words)}")
        if entries:
            low, high = int(self.columns.min()), int(self.columns.max())
            if low < 0 or high >= len(self):
                raise ValueError(
                    f"Cooccurrences: columns must be from 0 to {len(self) - 1}, got {low} to {high}"
                )
            least, most = float(self.values.min()), float(self.values.max())
            if not 1e-37 < least <= most < 3e38:
                raise ValueError(
                    "Cooccurrences: values must be above 0 and finite, got one of "
                    f"{least if not least > 1e-37 else most}"
                )
        if not self.source:
            parts = (offsets, self.columns, self.values)
            object.__setattr__(self, "source", "".join(map(fingerprint, parts)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return f"Cooccurrences({len(self)} words, {len(self.columns)} entries)"

    def column_sizes(self) -> Array:
        """Entries of each column, int64 [V]."""
        sizes = np.zeros(len(self), np.int64)
        for begin in range(0, len(self.columns), _RECORDS_AT_ONCE):  # bincount makes int64 of them
            some = self.columns[begin : begin + _RECORDS_AT_ONCE]
            sizes += np.bincount(some, minlength=len(self))
        return sizes

    # ---- files ----

    def save(self, path: PathLike) -> None:
        """Writes matrix and words to a safetensors file; after an OSError the old file is kept."""
        tensors = {
            "offsets": self.offsets,
            "columns": np.ascontiguousarray(self.columns).view(np.uint8),
            "values": np.ascontiguousarray(self.values).view(np.uint8),
        }
        if self.words is not None:
            data, places = safetensors.pack_words(list(self.words))
            tensors |= {"words": data, "word_offsets": places}
        safetensors.write(path, FILE, tensors, {"source": self.source})

    @classmethod
    def load(cls, path: PathLike) -> Cooccurrences:
        """Reads a file of `save`. Raises OSError, and ValueError for another kind of file."""
        stored = safetensors.read(path, FILE)
        with stored.damage_named("its arrays"):
            words = None
            if "words" in stored:
                words = safetensors.unpack_words(
                    stored.array("words"), stored.array("word_offsets")
                )
            source = stored.state["source"]
            if not isinstance(source, str):
                raise ValueError(f"source is {source!r}")
            return cls(
                stored.array("offsets"),
                stored.array("columns").view(np.int32),
                stored.array("values").view(np.float64),
                words,
                source,
            )

    def save_c_format(self, path: PathLike) -> None:
        """Writes the records of the C tools of Pennington et al., {int32 word1, int32 word2,
        float64 value}, words from 1, in rising order. After an OSError the old file is kept."""
        with atomic_file(path) as file:
            for records in self.records():
                file.write(records.data)

    def records(self) -> Any:
        """The records of `save_c_format`, some at a time."""
        for begin in range(0, len(self.columns), _RECORDS_AT_ONCE):
            end = min(begin + _RECORDS_AT_ONCE, len(self.columns))
            records = np.empty(end - begin, RECORD)
            places = np.arange(begin, end)
            records["word1"] = np.searchsorted(self.offsets, places, side="right")
            records["word2"] = self.columns[begin:end] + 1
            records["value"] = self.values[begin:end]
            yield records.view(np.uint8)

    @classmethod
    def load_c_format(cls, path: PathLike, words: int | Sequence[str]) -> Cooccurrences:
        """Reads records of the C tools, in any order; the values of a pair that appears twice are
        added.

        `words`: the words of the vocabulary that the file was made with, or their number; the file
        contains only numbers. Raises OSError; ValueError for a truncated file, a word outside the
        vocabulary, or a value that is not above 0 and finite.
        """
        count = words if isinstance(words, int) else len(words)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size % RECORD.itemsize:
                raise ValueError(
                    f"{OPERATION}: {os.fspath(path)} must be records of {RECORD.itemsize} bytes, "
                    f"got {size} bytes: it is truncated, or of another kind"
                )
            records = np.fromfile(file, RECORD)
        return cls.of_records(os.fspath(path), records, count, words)

    @classmethod
    def of_records(
        cls, name: str, records: Array, count: int, words: int | Sequence[str]
    ) -> Cooccurrences:
        """Of records that came from `name`."""
        rows, columns = records["word1"], records["word2"]
        for which, numbers in (("word1", rows), ("word2", columns)):
            if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= count:
                raise ValueError(
                    f"{OPERATION}: {name} must have {which} from 1 to the {count} words of the "
                    f"vocabulary, got {numbers.min()} to {numbers.max()}: it belongs to another "
                    "vocabulary, or is damaged"
                )
        keys = (rows.astype(np.int64) - 1) * count + (columns - 1)
        values = records["value"]
        if len(keys) and not (keys[1:] > keys[:-1]).all():
            keys, places = np.unique(keys, return_inverse=True)
            values = np.bincount(places, values, minlength=len(keys))
        sizes = np.bincount(keys // max(count, 1), minlength=count)
        try:
            return cls(
                np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
                (keys % max(count, 1)).astype(np.int32),
                np.ascontiguousarray(values, np.float64),
                None if isinstance(words, int) else words,
            )
        except ValueError as error:
            raise ValueError(f"{OPERATION}: {name} is damaged: {error}") from None


def source_of(text: Corpus, window: int, symmetric: bool, distance_weighting: bool) -> str:
    """`Cooccurrences.source` of a text and a way of counting."""
    return f"{text.fingerprint}-{window}-{int(symmetric)}-{int(distance_weighting)}"


def count(
    text: Corpus,
    words: Sequence[str],
    *,
    window: int = 15,
    symmetric: bool = True,
    distance_weighting: bool = True,
    workers: int | None = None,
    memory_limit: int | None = None,
    cache_folder: PathLike | None = None,
    progress: CountingProgress | None = None,
) -> Cooccurrences:
    """The co-occurrences of a text, as of `seqfast.ops.glove.cooccurrences`.

    `text`, `words`: as `seqfast.embeddings.corpus.read` gave them. Parts of the text that fit into
    a quarter of `memory_limit` bytes (None: half of what is free) are counted one after another;
    what does not fit goes to files without a name in `cache_folder`: sorted runs of the parts,
    merged in the end, and the result. Neither the limit nor `workers` changes a bit of it.
    `progress`: called with (words counted, all of them, "words") now and then.

    Raises TypeError and ValueError for arguments that cannot be, OSError where a disk is full.
    """
    window = check_whole(OPERATION, "window", window, 1, MOST_WINDOW)
    for flag, value in (("symmetric", symmetric), ("distance_weighting", distance_weighting)):
        check_flag(OPERATION, flag, value)
    threads = checked_threads(OPERATION, workers)
    storage = Storage(OPERATION, cache_folder, memory_limit)
    storage.used = storage.limit // 4  # the text of a part
    weights = weights_of(reach_of(window, text.offsets), bool(distance_weighting))
    parts = _parts(text.offsets, max(storage.limit // (4 * _TOKEN_BYTES), _LEAST_TOKENS))
    tell = _Tell(progress, len(text.ids) * (2 if len(parts) == 1 else 4))
    vocabulary = len(words)

    def rows(first: int, last: int) -> Rows:
        offsets = text.offsets[first : last + 1]
        return rows_of_text(text.ids, offsets, vocabulary, weights, bool(symmetric))

    if len(parts) == 1:
        found = rows(*parts[0])
    else:
        run_offsets = np.empty((len(parts), vocabulary + 1), np.int64)
        runs = []
        for number, part in enumerate(parts):
            run = _Run(rows(*part), storage, threads, tell, "sums")
            run_offsets[number] = run.offsets
            runs.append(run)
        found = _joined(runs, run_offsets, storage)
        del runs
    whole = _Run(found, storage, threads, tell, "values")
    source = source_of(text, window, bool(symmetric), bool(distance_weighting))
    return Cooccurrences(whole.offsets, whole.columns, whole.numbers, words, source)


class _Tell:
    """Progress, in words of the text over all passes."""

    def __init__(self, progress: CountingProgress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0.0

    def __call__(self, share: float) -> None:
        self._done += share * self._total
        if self._progress is not None:
            self._progress(min(int(self._done), self._total), self._total, "words")


class _Run:
    """Rows as they were counted: how many there are first, then where they belong."""

    def __init__(self, rows: Rows, storage: Storage, threads: int, tell: _Tell, kind: str) -> None:
        sizes = np.zeros(rows.vocabulary, np.int64)
        self.offsets = np.zeros(rows.vocabulary + 1, np.int64)
        parts = rows.parts()
        for first, last in parts:
            rows.count_sizes(first, last, sizes, threads)
            tell(0.5 / len(parts) / 2)
        np.cumsum(sizes, out=self.offsets[1:])
        entries = int(self.offsets[-1])
        self.columns = storage.empty(entries, np.int32)
        self.numbers = storage.empty(entries, np.uint64 if kind == "sums" else np.float64)
        for first, last in parts:
            rows.write(first, last, self.offsets, self.columns, threads, **{kind: self.numbers})
            tell(0.5 / len(parts) / 2)


def _joined(runs: list[_Run], offsets: Array, storage: Storage) -> Rows:
    """The rows of all runs, one behind the other in one array."""
    ends = np.cumsum([len(run.columns) for run in runs])
    offsets[1:] += ends[:-1, None]
    columns = storage.empty(int(ends[-1]), np.int32)
    sums = storage.empty(int(ends[-1]), np.uint64)
    for run, end in zip(runs, ends.tolist(), strict=True):
        columns[end - len(run.columns) : end] = run.columns
        sums[end - len(run.columns) : end] = run.numbers
        run.columns = run.numbers = np.empty(0)
    return rows_of_runs(offsets, columns, sums)


def _parts(offsets: Array, tokens: int) -> list[tuple[int, int]]:
    """Sentences in pieces of at most so many tokens, but at least one sentence."""
    tokens = min(tokens, MOST_TOKENS)
    cuts = [0]
    sentences = len(offsets) - 1
    if sentences and int(np.diff(offsets).max()) > MOST_TOKENS:
        raise ValueError(f"{OPERATION}: a sentence must have at most {MOST_TOKENS} words")
    while cuts[-1] < sentences:
        end = int(np.searchsorted(offsets, offsets[cuts[-1]] + tokens, side="right")) - 1
        cuts.append(min(max(end, cuts[-1] + 1), sentences))
    return list(itertools.pairwise(cuts)) or [(0, 0)]

"""N-gram language models: read from ARPA files, or trained by modified Kneser-Ney."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqfast.decoding import _kenlm
from seqfast.decoding._kenlm import LN10, NEVER
from seqfast.ops.base.checks import check_whole
from seqfast.ops.ctc_decoder.language import Ngram, Tree

PathLike = str | os.PathLike[str]
Ids = NDArray[np.int64]

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
_SPECIAL = (UNKNOWN, BEGIN, END)  # ids 0, 1, 2


class NGram:
    """A language model that looks back `order - 1` words.

    The n-grams are a tree: each is a node, and its children are the n-grams that are one word
    longer. Each node also points to the node of its longest proper suffix. A model's state is a
    node. A word that is not a child of it costs the node's back-off weight and is looked up in the
    suffix (Katz 1987). So a state is all that the model remembers: it scores two hypotheses with
    the same state alike.

    Create it by `NGram.train` or `NGram.load`.

    Args:
        vocabulary: the words by id, with `<unk>`, `<s>` and `</s>` among them.
        levels: the n-grams of each length from 1 on, sorted by their rows of ids. Their number
            is the attribute `order`.

    Example:
        >>> from seqfast.decoding import NGram
        >>> lm = NGram.train([["the", "cat", "sat"], ["the", "dog", "sat"]], order=2)
        >>> lm.logprob("cat", ["the"]) > lm.logprob("sat", ["the"])
        True
    """

    def __init__(self, vocabulary: Sequence[str], levels: Sequence[Level]) -> None:
        self.vocabulary = list(vocabulary)
        self.order = len(levels)
        self._ids = {word: id for id, word in enumerate(self.vocabulary)}
        self._unknown = self._ids[UNKNOWN]
        counts = [len(level.words) for level in levels]
        starts = np.concatenate([[0], np.cumsum([1, *counts])])  # of the root, of each level
        self._first_of_last_level = int(starts[-2])
        self._logprobs = np.concatenate([[0.0], *(level.logprobs for level in levels)])
        self._backoffs = np.concatenate([[0.0], *(level.backoffs for level in levels)])
        # Sorted, for parents come before their children and both are in order.
        self._keys = np.full(int(starts[-1]) - 1, np.iinfo(np.int64).max)
        self._suffixes = np.zeros(int(starts[-1]), dtype=np.int64)
        self._tables: Ngram | None = None
        for n, level in enumerate(levels, 1):
            here = slice(int(starts[n]), int(starts[n + 1]))
            parents = self._nodes(level.words[:, :-1])
            self._keys[int(starts[n]) - 1 : int(starts[n + 1]) - 1] = (
                parents * len(self.vocabulary) + level.words[:, -1]
            )
            if n > 1:
                self._suffixes[here] = self._longest(level.words[:, 1:])

    @classmethod
    def train(
        cls,
        sentences: Iterable[str | Sequence[str]],
        order: int = 3,
        *,
        min_count: int = 1,
        vocabulary: Iterable[str] | None = None,
    ) -> NGram:
        """Counts n-grams and smooths them by interpolated, modified Kneser-Ney.

        Kneser & Ney 1995 with the three discounts of Chen & Goodman 1998, estimated as KenLM's
        `lmplz` does (Heafield et al. 2013): what an n-gram loses goes to the shorter ones, whose
        counts are those of the different words before them. Where a corpus is too small to
        estimate discounts they are 0.5, 1 and 1.5.

        Args:
            sentences: each a string, cut at white space, or a sequence of words.
            order: the longest n-gram, at least 1.
            min_count: rarer words count as `<unk>`.
            vocabulary: the words to know; all others are `<unk>`. None: all of the corpus.

        Returns:
            An `NGram`.

        Raises:
            TypeError: a sentence that is neither, or a word that is not a string.
            ValueError: no sentences, an order or min_count below 1, and words that are empty,
                contain white space, or are `<s>` or `</s>`.
        """
        order = check_whole("NGram.train", "order", order, 1)
        min_count = check_whole("NGram.train", "min_count", min_count, 1)
        words, ends = _read_sentences(sentences)
        counts: dict[str, int] = {}
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        kept = counts if vocabulary is None else dict.fromkeys(vocabulary)
        for word in kept:
            _check_word("NGram.train", word)
        chosen = [w for w in kept if counts.get(w, 0) >= min_count or vocabulary is not None]
        names = [*_SPECIAL, *sorted(set(chosen) - set(_SPECIAL))]
        ids = {word: id for id, word in enumerate(names)}
        text = np.fromiter((ids.get(w, 0) for w in words), dtype=np.int64, count=len(words))
        return cls(names, _kneser_ney(text, np.array(ends), order, len(names)))

    @classmethod
    def load(cls, path: PathLike) -> NGram:
        """Reads an ARPA file, plain or .gz, or a binary of KenLM.

        Args:
            path: the file. A binary needs the package `kenlm`, which answers questions but lists
                nothing: such a model has in its `vocabulary` only the words that it has been asked
                for, cannot be saved, and is slower than the ARPA file is.

        Returns:
            An `NGram` with the file's probabilities. Unknown words are `<unk>`; if the file has no
            `<unk>`, their probability is 0.

        Raises:
            OSError: the file cannot be read.
            ValueError: a file that is not ARPA or is truncated, a wrong count, an invalid number,
                an n-gram without its prefix; it names the line. And a KenLM binary if `kenlm` is
                not installed.
        """
        if _kenlm.is_binary(path):
            return _KenLm(path)
        return cls(*_read_arpa(Path(path)))

    def save(self, path: PathLike) -> None:
        """Writes an ARPA file, compressed if the name ends in .gz.

        Args:
            path: of the file.

        Raises:
            OSError: the file cannot be written; an existing file is then unchanged.
        """
        path = Path(path)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(part, "wt", encoding="utf-8", newline="\n") as file:
                file.writelines(self._arpa())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def __len__(self) -> int:
        """How many n-grams there are."""
        return len(self._keys)

    def __repr__(self) -> str:
        return f"NGram(order={self.order}, {len(self.vocabulary)} words, {len(self)} n-grams)"

    def ids(self, words: Iterable[str]) -> Ids:
        """Ids of words; that of `<unk>` for unknown words."""
        return np.array([self._ids.get(word, self._unknown) for word in words], dtype=np.int64)

    def start(self) -> int:
        """The state at the beginning of a sentence, after `<s>`."""
        return self.state([BEGIN])

    def state(self, context: Iterable[str]) -> int:
        """The state after these words; only the last `order - 1` matter."""
        ids = self.ids(context)
        if self.order == 1 or len(ids) == 0:
            return 0
        return int(self._longest(ids[None, 1 - self.order :])[0])

    def step(self, states: ArrayLike, words: ArrayLike) -> tuple[Ids, NDArray[np.float64]]:
        """Goes on by one word from each state.

        Args:
            states: integers of any shape, from `start`, `state` or this method.
            words: ids of words, of a shape that broadcasts with it.

        Returns:
            The new states, and the natural logarithms of the probabilities of the words.

        Raises:
            ValueError: for a state or an id out of range.
        """
        at, word = np.broadcast_arrays(
            np.asarray(states, dtype=np.int64), np.asarray(words, dtype=np.int64)
        )
        self._check_range("states", at, len(self._logprobs))
        self._check_range("words", word, len(self.vocabulary))
        shape, at, word = at.shape, at.ravel().copy(), word.ravel()
        total = np.zeros(len(at))
        found = np.zeros(len(at), dtype=np.int64)
        left = np.arange(len(at))
        while len(left):
            place, there = self._child(at[left], word[left])
            hit = left[there]
            found[hit] = place[there]
            total[hit] += self._logprobs[place[there]]
            left = left[~there]
            total[left] += self._backoffs[at[left]]
            impossible = at[left] == 0  # not even a word by itself
            total[left[impossible]] = -np.inf
            left = left[~impossible]
            at[left] = self._suffixes[at[left]]
        # The longest n-grams have no children: what is remembered is one word less.
        longest = found >= self._first_of_last_level
        found[longest] = self._suffixes[found[longest]]
        return found.reshape(shape), total.reshape(shape)

    def logprob(self, word: str, context: Iterable[str] = ()) -> float:
        """Natural logarithm of the probability of a word after others.

        Args:
            word: the word; `</s>` for the end of the sentence.
            context: the words before it, with `<s>` where they begin a sentence.

        Returns:
            The logarithm; -inf for probability 0.
        """
        _, found = self.step(self.state(context), self._ids.get(word, self._unknown))
        return float(found)

    def score(
        self, sentence: str | Sequence[str], *, begin: bool = True, end: bool = True
    ) -> float:
        """Natural logarithm of the probability of a sentence.

        Args:
            sentence: a string, cut at white space, or words.
            begin: whether it begins after `<s>`.
            end: whether `</s>` follows.

        Returns:
            The sum over its words.
        """
        words = sentence.split() if isinstance(sentence, str) else list(sentence)
        state, total = np.array(self.start() if begin else 0), 0.0
        for id in self.ids([*words, END] if end else words):
            state, gained = self.step(state, id)
            total += float(gained)
        return total

    def perplexity(self, sentences: Iterable[str | Sequence[str]]) -> float:
        """exp of minus the mean logarithm over all words of the sentences and their ends.

        Args:
            sentences: strings, cut at white space, or sequences of words.

        Returns:
            The perplexity.

        Raises:
            ValueError: no sentences.
        """
        words, ends = _read_sentences(sentences, "NGram.perplexity")
        total = 0.0
        for start, stop in itertools.pairwise([0, *ends]):
            total += self.score(words[start:stop])
        return math.exp(-total / (len(words) + len(ends)))

    def tables(self) -> Ngram:
        """The arrays that native decoders read; made once, of 32 bits where numbers are.

        Returns:
            The tree of n-grams, and the numbers of its nodes. A state is a node.

        Raises:
            ValueError: for 2**31 n-grams or more.
        """
        if self._tables is None:
            if len(self._logprobs) >= 2**31:
                raise ValueError(f"NGram.tables: must have less than 2**31 n-grams, got {self!r}")
            parents = np.arange(len(self._logprobs) + 1) * len(self.vocabulary)
            tree = Tree(
                np.searchsorted(self._keys, parents).astype(np.int32),
                (self._keys % len(self.vocabulary)).astype(np.int32),
            )
            self._tables = Ngram(
                tree, self._logprobs, self._backoffs, self._suffixes, self._first_of_last_level
            )
        return self._tables

    # --- the tree -----------------------------------------------------------------------------

    def _child(self, nodes: Ids, words: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """The children by these words, and whether they are there."""
        keys = nodes * len(self.vocabulary) + words
        place = np.searchsorted(self._keys, keys)
        there = place < len(self._keys)
        there[there] = self._keys[place[there]] == keys[there]
        return place + 1, there

    def _nodes(self, rows: Ids) -> Ids:
        """The node of each row of word ids [count, n]; -1 where there is none."""
        nodes = np.zeros(len(rows), dtype=np.int64)
        for column in rows.T:
            place, there = self._child(nodes, column)
            nodes = np.where(there & (nodes >= 0), place, -1)
        return nodes

    def _longest(self, rows: Ids) -> Ids:
        """The node of the longest suffix of each row that there is; the root has none shorter."""
        nodes = np.zeros(len(rows), dtype=np.int64)
        for start in reversed(range(rows.shape[1])):
            longer = self._nodes(rows[:, start:])
            nodes = np.where(longer > 0, longer, nodes)
        return nodes

    def _check_range(self, name: str, values: Ids, end: int) -> None:
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < end:
            bad = int(values.min()) if int(values.min()) < 0 else int(values.max())
            raise ValueError(f"NGram.step: {name} must be from 0 to {end - 1}, got {bad}")

    # --- files --------------------------------------------------------------------------------

    def _levels(self) -> Iterator[Level]:
        rows, nodes = np.zeros((1, 0), dtype=np.int64), np.zeros(1, dtype=np.int64)
        for _ in range(self.order):
            first = np.searchsorted(self._keys, nodes * len(self.vocabulary))
            last = np.searchsorted(self._keys, (nodes + 1) * len(self.vocabulary))
            parent = np.repeat(np.arange(len(nodes)), last - first)
            children = np.arange(first[0] if len(first) else 0, last[-1] if len(last) else 0)
            words = self._keys[children] % len(self.vocabulary)
            rows = np.concatenate([rows[parent], words[:, None]], axis=1)
            nodes = children + 1
            yield Level(rows, self._logprobs[nodes], self._backoffs[nodes])

    def _arpa(self) -> Iterator[str]:
        levels = list(self._levels())
        yield "\\data\\\n"
        for n, level in enumerate(levels, 1):
            yield f"ngram {n}={len(level.words)}\n"
        for n, level in enumerate(levels, 1):
            yield f"\n\\{n}-grams:\n"
            rows = zip(
                level.words.tolist(), level.logprobs.tolist(), level.backoffs.tolist(), strict=True
            )
            for ids, logprob, backoff in rows:
                text = " ".join(self.vocabulary[id] for id in ids)
                value = NEVER if logprob == -math.inf else logprob / LN10
                tail = f"\t{backoff / LN10:.9g}" if n < self.order and backoff != 0 else ""
                yield f"{value:.9g}\t{text}{tail}\n"
        yield "\n\\end\\\n"


class _KenLm(NGram):
    """A binary of KenLM. A state is the number of one that has been met."""

    def __init__(self, path: PathLike) -> None:
        self._model = _kenlm.Model(path)
        self.order = int(self._model.model.order)
        self.vocabulary = list(_SPECIAL)
        self._ids = _kenlm.Words(self._model.model, self.vocabulary)
        self._unknown = 0
        self._path = path

    def save(self, path: PathLike) -> None:
        raise self._lists_nothing("save")

    def tables(self) -> Any:
        raise self._lists_nothing("tables")

    def __len__(self) -> int:
        raise self._lists_nothing("len")

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"NGram(order={self.order}, a binary of KenLM: {self._path})"

    def start(self) -> int:
        return self._model.after_begin()

    def state(self, context: Iterable[str]) -> int:
        state = 0
        for word in [*context][-self.order :]:
            state = self.start() if word == BEGIN else self._model.step(state, word)[0]
        return state

    def step(self, states: ArrayLike, words: ArrayLike) -> tuple[Ids, NDArray[np.float64]]:
        at, word = np.broadcast_arrays(
            np.asarray(states, dtype=np.int64), np.asarray(words, dtype=np.int64)
        )
        self._check_range("states", at, len(self._model))
        self._check_range("words", word, len(self.vocabulary))
        pairs = zip(at.ravel().tolist(), word.ravel().tolist(), strict=True)
        found = [self._model.step(state, self.vocabulary[id]) for state, id in pairs]
        new, logprobs = [each[0] for each in found], [each[1] for each in found]
        return (
            np.array(new, dtype=np.int64).reshape(at.shape),
            np.array(logprobs, dtype=np.float64).reshape(at.shape),
        )

    def _lists_nothing(self, what: str) -> ValueError:
        return ValueError(
            f"NGram.{what}: kenlm does not list the n-grams of a binary; load the ARPA file that "
            f"{self._path} was built from"
        )


class Level(NamedTuple):
    """All n-grams of one length, sorted by their words."""

    words: Ids  # [count, n]
    logprobs: NDArray[np.float64]  # [count], natural
    backoffs: NDArray[np.float64]  # [count], natural


def _read_sentences(
    sentences: Iterable[str | Sequence[str]], operation: str = "NGram.train"
) -> tuple[list[str], list[int]]:
    """All words one after the other, and where each sentence ends."""
    if isinstance(sentences, (str, bytes)):
        raise TypeError(f"{operation}: sentences must be an iterable of sentences, got one string")
    words: list[str] = []
    ends: list[int] = []
    seen: set[str] = set()
    for sentence in sentences:
        these = sentence.split() if isinstance(sentence, str) else list(sentence)
        for word in these:
            if word not in seen:
                _check_word(operation, word)
                seen.add(word)
        words += these
        ends.append(len(words))
    if not ends:
        raise ValueError(f"{operation}: sentences must be at least one sentence, got none")
    return words, ends


def _check_word(operation: str, word: Any) -> None:
    if not isinstance(word, str):
        raise TypeError(f"{operation}: words must be strings, got {word!r}")
    if word.split() != [word] or word in (BEGIN, END):
        raise ValueError(
            f"{operation}: words must not be empty, {BEGIN} or {END}, nor contain white space, "
            f"got {word!r}"
        )


# --- modified Kneser-Ney -----------------------------------------------------------------------


def _kneser_ney(text: Ids, ends: Ids, order: int, vocabulary: int) -> list[Level]:
    """Levels of the words `text`, cut into sentences at `ends`; ids 0 to 2 are the special ones."""
    sentence = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    # <s> and </s> around each sentence.
    padded = np.full(len(text) + 2 * len(ends), 2, dtype=np.int64)
    padded[np.arange(len(text)) + 2 * sentence + 1] = text
    starts = np.concatenate([[0], ends[:-1]]) + 2 * np.arange(len(ends))
    padded[starts] = 1
    which = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0) + 2)
    counted = [_count(padded, which, n) for n in range(1, order + 1)]
    levels: list[Level] = []
    lower: Level | None = None
    for n, (rows, raw) in enumerate(counted, 1):
        counts = raw if n == order else _continuations(rows, raw, counted[n][0])
        if n == 1:
            rows, counts = _all_words(rows, counts, vocabulary)
        lower = _smoothed(rows, counts, lower, vocabulary)
        levels.append(lower)
    return levels


def _count(padded: Ids, which: Ids, n: int) -> tuple[Ids, Ids]:
    """Different n-grams within sentences, sorted, and how often each is there."""
    if len(padded) < n:
        return np.zeros((0, n), dtype=np.int64), np.zeros(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n)
    whole = which[: len(windows)] == which[n - 1 :]
    rows, counts = np.unique(windows[whole], axis=0, return_counts=True)
    return rows, counts.astype(np.int64)


def _continuations(rows: Ids, raw: Ids, longer: Ids) -> Ids:
    """How many different words stand before each n-gram; raw counts where <s> begins it."""
    before = np.zeros(len(rows), dtype=np.int64)
    np.add.at(before, _places(rows, longer[:, 1:]), 1)
    return np.where(rows[:, 0] == 1, raw, before)


def _all_words(rows: Ids, counts: Ids, vocabulary: int) -> tuple[Ids, Ids]:
    """Every word of the vocabulary; <s> is never predicted, so it counts nothing."""
    every = np.zeros(vocabulary, dtype=np.int64)
    every[rows[:, 0]] = counts
    every[1] = 0
    return np.arange(vocabulary)[:, None], every


def _discounts(counts: Ids) -> NDArray[np.float64]:
    """What an n-gram that is there 0, 1, 2, 3 or more times loses (Chen & Goodman 1998)."""
    n = [int((counts == k).sum()) for k in range(5)]
    fallback = np.array([0, 0.5, 1.0, 1.5])
    if min(n[1:]) == 0:
        return fallback
    y = n[1] / (n[1] + 2 * n[2])
    found = np.array([0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))])
    return found if all(0 <= found[k] <= k for k in (1, 2, 3)) else fallback


def _smoothed(rows: Ids, counts: Ids, lower: Level | None, vocabulary: int) -> Level:
    """Probabilities of one length, interpolated with those that are one word shorter.

    The back-off weights of `lower` are set: what its n-grams as contexts have left over.
    """
    discounts = _discounts(counts)
    lost = discounts[np.minimum(counts, 3)]
    if lower is None:
        total = max(int(counts.sum()), 1)
        rest = lost.sum() / total if counts.sum() else 1.0
        share = np.full(vocabulary, rest / (vocabulary - 1))  # of all but <s>
        probabilities = (counts - lost) / total + share
        probabilities[1] = 0
        with np.errstate(divide="ignore"):
            return Level(rows, np.log(probabilities), np.zeros(len(rows)))
    context = _places(lower.words, rows[:, :-1])
    shorter = _places(lower.words, rows[:, 1:])
    totals = np.bincount(context, counts, len(lower.words))
    left = np.bincount(context, lost, len(lower.words))
    used = totals > 0
    rest = np.ones(len(lower.words))
    rest[used] = left[used] / totals[used]
    with np.errstate(divide="ignore"):
        lower.backoffs[:] = np.log(rest)
        probabilities = (counts - lost) / np.maximum(totals[context], 1)
        probabilities += rest[context] * np.exp(lower.logprobs[shorter])
        return Level(rows, np.log(probabilities), np.zeros(len(rows)))


def _places(sorted_rows: Ids, rows: Ids) -> Ids:
    """Where each of `rows` is among the sorted ones, all of which are there."""
    return _ranges(sorted_rows, rows)[0]


def _ranges(sorted_rows: Ids, rows: Ids) -> tuple[Ids, Ids]:
    """From where to where the sorted ones equal each of `rows`."""
    low, high = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), len(sorted_rows))
    for column in range(rows.shape[1]):
        low, high = _narrowed(sorted_rows[:, column], low, high, rows[:, column])
    return low, high


def _narrowed(values: Ids, low: Ids, high: Ids, wanted: Ids) -> tuple[Ids, Ids]:
    """Within each [low, high), where `values` is sorted, the part that equals what is wanted."""

    def bisect(right: bool) -> Ids:
        a, b = low.copy(), high.copy()
        while (open_ := a < b).any():
            middle = (a + b) // 2
            there = values[np.minimum(middle, len(values) - 1)]
            goes = (there <= wanted) if right else (there < wanted)
            a = np.where(open_ & goes, middle + 1, a)
            b = np.where(open_ & ~goes, middle, b)
        return a

    return bisect(False), bisect(True)


# --- ARPA ----------------------------------------------------------------------------------------


class _Lines:
    """The lines of a file with their numbers, so that errors can name the place."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        with path.open("rb") as file:
            head = file.read(64)
        packed = head.startswith(b"\x1f\x8b")
        self._file = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def next(self) -> str | None:
        """The next line that is not empty; None at the end."""
        while True:
            try:
                line = self._file.readline()
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise self.error(f"the file is damaged or cut: {error}") from None
            if not line:
                return None
            self.number += 1
            try:
                text = line.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise self.error(f"not UTF-8 text: {error.reason}") from None
            if text:
                return text

    def error(self, message: str) -> ValueError:
        return ValueError(f"NGram.load: {self.path}, line {self.number}: {message}")


def _read_arpa(path: Path) -> tuple[list[str], list[Level]]:
    with _Lines(path) as lines:
        counts = _read_header(lines)
        names: list[str] = []
        ids: dict[str, int] = {}
        levels: list[Level] = []
        for n, count in enumerate(counts, 1):
            rows, numbers = _read_section(lines, n, len(counts), count, names, ids)
            order = np.lexsort(rows.T[::-1])
            rows, numbers = rows[order], numbers[order]
            same = np.flatnonzero((rows[1:] == rows[:-1]).all(axis=1))
            if len(same):
                raise lines.error(f"the {n}-gram {_text(names, rows[same[0]])!r} is there twice")
            if n > 1:
                _check_contexts(lines, n, rows, levels[-1].words, names)
            levels.append(Level(rows, numbers[:, 0] * LN10, numbers[:, 1] * LN10))
    return names, levels


def _read_header(lines: _Lines) -> list[int]:
    line = lines.next()
    while line is not None and line != "\\data\\":  # what stands before is a comment
        line = lines.next()
    if line is None:
        raise lines.error("there is no \\data\\: this is not an ARPA file")
    counts: list[int] = []
    while (line := lines.next()) is not None and line.startswith("ngram "):
        left, _, right = line[len("ngram ") :].partition("=")
        if left.strip() != str(len(counts) + 1) or not right.strip().isdigit():
            raise lines.error(f"wanted 'ngram {len(counts) + 1}=<count>', got {line!r}")
        counts.append(int(right))
    if not counts or line != "\\1-grams:":
        raise lines.error(f"wanted the counts and then \\1-grams:, got {line!r}")
    return counts


def _read_section(
    lines: _Lines, n: int, order: int, count: int, names: list[str], ids: dict[str, int]
) -> tuple[Ids, NDArray[np.float64]]:
    """Word ids [count, n], and log10 of probabilities and back-off weights [count, 2]."""
    rows: list[list[int]] = []
    numbers: list[tuple[float, float]] = []
    ending = f"\\{n + 1}-grams:" if n < order else "\\end\\"
    while (line := lines.next()) != ending:
        if line is None or (line.startswith("\\") and line.endswith((":", "\\"))):
            raise lines.error(f"wanted {ending} after {len(rows)} {n}-grams, got {line!r}")
        parts = line.split()
        if len(parts) not in (n + 1, n + 2) or (len(parts) == n + 2 and n == order):
            raise lines.error(f"wanted a number, {n} words and a back-off weight, got {line!r}")
        try:
            logprob = float(parts[0])
            backoff = float(parts[n + 1]) if len(parts) == n + 2 else 0.0
        except ValueError:
            raise lines.error(f"wanted numbers around {n} words, got {line!r}") from None
        if math.isnan(logprob) or logprob > 1e-6 or math.isnan(backoff) or backoff == math.inf:
            raise lines.error(f"wanted a logarithm of a probability, at most 0, got {line!r}")
        words = parts[1 : n + 1]
        if n == 1:
            if words[0] in ids:
                raise lines.error(f"the word {words[0]!r} is there twice")
            ids[words[0]] = len(names)
            names.append(words[0])
        try:
            rows.append([ids[word] for word in words])
        except KeyError as error:
            raise lines.error(f"the word {error} is not among the 1-grams") from None
        numbers.append((-math.inf if logprob <= NEVER else min(logprob, 0.0), backoff))
    if len(rows) != count:
        raise lines.error(f"the header says {count} {n}-grams, there are {len(rows)}")
    if n == 1:
        for word in _SPECIAL:  # a model must know them; what the file lacks is impossible
            if word not in ids:
                ids[word] = len(names)
                names.append(word)
                rows.append([ids[word]])
                numbers.append((-math.inf, 0.0))
    shaped = np.array(rows, dtype=np.int64).reshape(len(rows), n)
    return shaped, np.array(numbers, dtype=np.float64).reshape(len(rows), 2)


def _check_contexts(lines: _Lines, n: int, rows: Ids, shorter: Ids, names: list[str]) -> None:
    """Each n-gram must extend one that is there: else it could never be found."""
    low, high = _ranges(shorter, rows[:, :-1])
    missing = np.flatnonzero(low >= high)
    if len(missing):
        row = rows[missing[0]]
        raise lines.error(
            f"the {n}-gram {_text(names, row)!r} has no back-off weight: the file lacks "
            f"{_text(names, row[:-1])!r}"
        )


def _text(names: list[str], row: Ids) -> str:
    return " ".join(names[id] for id in row)

"""seqfast's word vectors against gensim's: the goals on a whole corpus, a grid on its beginning.

gensim has its fast path: `corpus_file`, as many workers as ours, and vectors so short that its BLAS
starts no threads of its own. Both sides read the same file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks import corpora, harness

gensim_models = pytest.importorskip("gensim.models")

import seqfast  # noqa: E402
from seqfast.ops.word2vec import huffman_paths  # noqa: E402

EPOCHS = 5  # of "everything": the default of both sides
FEWEST_GOAL_PAIRS, FEWEST_GRID_PAIRS, VOCABULARY_PAIRS = 2, 2, 5
LEAST_WORDS = 100_000  # from which on both sides can be compared
GRID_WORDS = 600_000
SIZES, WINDOWS = (32, 100, 300), (2, 5, 10)
SAMPLE, MIN_COUNT = 1e-3, 5
# A goal takes minutes: no limit for one test.
pytestmark = pytest.mark.timeout(0)


class Side(NamedTuple):
    """A way of ours to train; `goal`: the ratio to gensim that it is to have."""

    name: str
    options: dict[str, Any]
    goal: float | None = None
    in_grid: bool = True


@dataclass(frozen=True)
class Method:
    """What gensim is asked for, in its own words, and the ways of ours that are held against it."""

    name: str
    options: dict[str, int]
    sides: tuple[Side, ...]
    is_goal: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def skip_gram(self) -> bool:
        return bool(self.options["sg"])


METHODS = [
    Method(
        "skip-gram NS",
        {"sg": 1, "hs": 0, "negative": 5},
        (
            Side("skip-gram NS", {}, 7.0),
            Side("skip-gram NS, per-pair negatives", {"shared_negatives": False}, 2.5),
            Side("skip-gram NS, deterministic", {"deterministic": True}, in_grid=False),
        ),
    ),
    Method("CBOW NS", {"sg": 0, "hs": 0, "negative": 5}, (Side("CBOW NS", {}, 2.5),)),
    Method("skip-gram HS", {"sg": 1, "hs": 1, "negative": 0}, (Side("skip-gram HS", {}, 2.0),)),
    Method("CBOW HS", {"sg": 0, "hs": 1, "negative": 0}, (Side("CBOW HS", {}),), is_goal=False),
]
VOCABULARY_GOAL = 8.0


class Text(NamedTuple):
    path: Path
    words: int
    name: str


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("word2vec")


@pytest.fixture(scope="session")
def whole(folder: Path, smoke: bool) -> Text:
    path = folder / "whole.txt"
    if smoke:
        return Text(path, corpora.write(path, corpora.drawn_lines(200), 5_000), "drawn words")
    if corpora.is_there():
        return Text(path, corpora.write(path, corpora.lines()), "the corpus")
    words = corpora.write(path, corpora.drawn_lines(100_000), 4_000_000)
    return Text(path, words, "words drawn by Zipf's law")


@pytest.fixture(scope="session")
def beginning(folder: Path, whole: Text) -> Text:
    path = folder / "beginning.txt"
    with whole.path.open(encoding="utf-8") as file:
        words = corpora.write(path, map(str.split, file), min(GRID_WORDS, whole.words))
    return Text(path, words, f"the first {words:,} words")


@dataclass
class Run:
    """One model and the seconds that its parts took."""

    vocabulary: float = 0.0
    training: list[float] = field(default_factory=list)
    words: list[tuple[int, int]] = field(default_factory=list)  # kept, and read, in each epoch

    def everything(self) -> float:
        """From the open file to the vectors after EPOCHS epochs, of which the first is measured."""
        return self.vocabulary + EPOCHS * self.training[0]


def settings(method: Method, size: int, window: int, threads: int) -> dict[str, Any]:
    """What both sides are told by the same names."""
    common = {"min_count": MIN_COUNT, "sample": SAMPLE, "seed": 1}
    sizes = {"vector_size": size, "window": window, "workers": threads}
    return {**common, **sizes, **method.options}


class Peer(Run):
    def __init__(self, text: Text, method: Method, size: int, window: int, threads: int) -> None:
        super().__init__()
        self.file = str(text.path)
        start = time.perf_counter()
        self.model = gensim_models.Word2Vec(**settings(method, size, window, threads))
        self.model.build_vocab(corpus_file=self.file)
        self.vocabulary = time.perf_counter() - start

    def counts(self) -> dict[str, int]:
        keyed = self.model.wv
        return {word: keyed.get_vecattr(word, "count") for word in keyed.index_to_key}

    def vectors(self) -> np.ndarray:
        return np.asarray(self.model.wv.vectors)

    def train(self) -> None:
        start = time.perf_counter()
        words = self.model.train(
            corpus_file=self.file,
            total_words=self.model.corpus_total_words,
            total_examples=self.model.corpus_count,
            epochs=1,
        )
        self.training.append(time.perf_counter() - start)
        self.words.append(words)


class Ours(Run):
    def __init__(
        self, text: Text, method: Method, side: Side, size: int, window: int, threads: int
    ) -> None:
        super().__init__()
        self.file = str(text.path)
        start = time.perf_counter()
        self.model = seqfast.Word2Vec(
            progress=False, **settings(method, size, window, threads), **side.options
        )
        self.model.build_vocab(self.file)
        self.vocabulary = time.perf_counter() - start

    def counts(self) -> dict[str, int]:
        return dict(zip(self.model.index_to_key, map(int, self.model.counts), strict=True))

    def vectors(self) -> np.ndarray:
        return np.asarray(self.model.vectors)

    def train(self) -> None:
        start = time.perf_counter()
        words = self.model.train(epochs=1)
        self.training.append(time.perf_counter() - start)
        self.words.append(words)


def check(ours: Run, peer: Run) -> None:
    """The same words, as often, and as many trained; vectors that have come as far."""
    assert isinstance(ours, Ours)
    assert isinstance(peer, Peer)
    assert ours.counts() == peer.counts()
    assert ours.vectors().shape == peer.vectors().shape
    assert np.isfinite(ours.vectors()).all()
    assert all(0 < kept <= read for kept, read in ours.words)
    # Where gensim's workers part a small file, words go to both or to none.
    if ours.words[0][1] < LEAST_WORDS:
        return
    for (kept, read), (kept_by_peer, read_by_peer) in zip(ours.words, peer.words, strict=True):
        assert 0.95 < read / read_by_peer < 1.05
        assert 0.95 < kept / kept_by_peer < 1.05
    # First vectors are some fifty times shorter than trained ones.
    lengths = [float(np.abs(vectors).mean()) for vectors in (ours.vectors(), peer.vectors())]
    assert 1 / 3 < lengths[0] / lengths[1] < 3


def work(
    counts: np.ndarray, method: Method, size: int, window: int, per_pair: bool
) -> dict[str, float]:
    """What an epoch must compute and, were all caches cold, move: expected, sentence ends ignored.

    A context and a target take three products of `size` multiply-adds: the score and two gradients;
    CBOW adds up its contexts and gives the gradient to each. Bytes: every row of a window is read
    and written once; per pair, those of each pair.
    """
    frequency = counts / counts.sum()
    kept = counts * np.minimum(1, (np.sqrt(frequency / SAMPLE) + 1) * SAMPLE / frequency)
    windows = float(kept.sum())
    contexts = window + 1.0  # the mean of twice a number drawn from 1 to `window`
    targets = 1.0 + method.options["negative"]
    if method.options["hs"]:
        offsets = np.asarray(huffman_paths(counts)[0])
        targets = float((kept * np.diff(offsets)).sum() / windows)
    if method.skip_gram:
        flop = 6.0 * size * contexts * targets
        rows = contexts * (1 + targets) if per_pair else contexts + targets
    else:
        flop = 6.0 * size * targets + 2.0 * size * contexts
        rows = contexts + targets
    return {"gflop": 1e-9 * windows * flop, "gbyte": 1e-9 * windows * rows * 8 * size}


@pytest.fixture
def add(record: Callable[[dict[str, Any]], None], smoke: bool) -> Callable[..., None]:
    """add(group, mode, case, text, threads, ours, peer, ...): a row of seconds taken in turns."""
    peaks: dict[int, float] = {}

    def add(
        group: str,
        mode: str,
        case: str,
        text: Text,
        threads: int,
        ours: list[float],
        peer: list[float],
        **facts: Any,
    ) -> None:
        if threads not in peaks:
            peaks[threads] = harness.measure_fma_peak(threads, 0.001 if smoke else 0.1)
        row = {
            "group": group,
            "case": case,
            "mode": mode,
            "dtype": "float32",
            "threads": threads,
            "words": text.words,
            "text": text.name,
            "roof_gflops": peaks[threads],
            "goal": None,
            **facts,
        }
        record(row | harness.pair_statistics(ours, peer))

    return add


@pytest.mark.parametrize("threads", [1, 2], ids=["one-thread", "two-threads"])
@pytest.mark.parametrize("method", [m for m in METHODS if m.is_goal], ids=str)
def test_goal(
    method: Method, threads: int, whole: Text, add: Callable[..., None], smoke: bool
) -> None:
    """An epoch of the whole corpus, by a new model in every turn."""
    size, window = (8, 3) if smoke else (100, 5)
    peers: list[Run] = []
    ours: dict[str, list[Run]] = {side.name: [] for side in method.sides}
    counts = np.zeros(0)
    for _ in range(1 if smoke else FEWEST_GOAL_PAIRS):
        peer = Peer(whole, method, size, window, threads)
        peer.train()
        peers.append(Run(peer.vocabulary, peer.training))
        for side in method.sides:
            run = Ours(whole, method, side, size, window, threads)
            run.train()
            check(run, peer)
            counts = np.asarray(run.model.counts)
            ours[side.name].append(Run(run.vocabulary, run.training))
    for side in method.sides:
        facts = work(counts, method, size, window, "shared_negatives" in side.options)
        facts |= {"goal": side.goal, "size": size, "window": window}
        runs = ours[side.name]
        case = f"{side.name}"
        training = [run.training[0] for run in runs], [run.training[0] for run in peers]
        add("goals", "training", case, whole, threads, *training, **facts)
        everything = [run.everything() for run in runs], [run.everything() for run in peers]
        facts |= {"gflop": EPOCHS * facts["gflop"], "gbyte": EPOCHS * facts["gbyte"]}
        facts["passes"] = EPOCHS
        add("goals", "everything", case, whole, threads, *everything, **facts)


@pytest.mark.parametrize("threads", [1, 2], ids=["one-thread", "two-threads"])
def test_vocabulary(threads: int, whole: Text, add: Callable[..., None], smoke: bool) -> None:
    """From the open file to the sorted vocabulary and the first vectors; ours has the ids too."""
    method, size, window = METHODS[0], 8 if smoke else 100, 5
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(1 if smoke else VOCABULARY_PAIRS):
        peer = Peer(whole, method, size, window, threads)
        ours = Ours(whole, method, method.sides[0], size, window, threads)
        assert ours.counts() == peer.counts()
        seconds[0].append(ours.vocabulary)
        seconds[1].append(peer.vocabulary)
    add("goals", "vocabulary", "the vocabulary", whole, threads, *seconds, goal=VOCABULARY_GOAL)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_grid(
    method: Method,
    size: int,
    window: int,
    beginning: Text,
    add: Callable[..., None],
    threads: int,
    smoke: bool,
    request: pytest.FixtureRequest,
) -> None:
    """Training alone: each side goes on with one model, an epoch in every turn."""
    size = 8 + size // 100 if smoke else size
    sides = [side for side in method.sides if side.in_grid]
    peer = Peer(beginning, method, size, window, threads)
    ours = [Ours(beginning, method, side, size, window, threads) for side in sides]
    seconds = 0.0 if smoke else float(request.config.getoption("--bench-seconds"))
    start, pairs = time.perf_counter(), 0
    while not pairs or (
        not smoke and (pairs < FEWEST_GRID_PAIRS or time.perf_counter() - start < seconds)
    ):
        for run in (peer, *ours):
            run.train()
        pairs += 1
    for side, run in zip(sides, ours, strict=True):
        check(run, peer)
        counts = np.asarray(run.model.counts)
        facts = work(counts, method, size, window, "shared_negatives" in side.options)
        facts |= {"size": size, "window": window}
        case = f"{side.name}, d {size}, window {window}"
        add("grid", "training", case, beginning, threads, run.training, peer.training, **facts)

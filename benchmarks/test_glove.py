"""seqfast's GloVe against the C programs of stanfordnlp/GloVe, on the corpus of the word vectors.

SEQFAST_GLOVE names the folder in which their Makefile has built vocab_count, cooccur, shuffle and
glove. Both sides read the same file; theirs write files in between, as they are meant to.
SEQFAST_GLOVE_WORDS cuts the text, for a machine that has other work; rows say how long it was.
SEQFAST_GLOVE_QUALITY=5x1 scores vectors of five epochs and one seed: of 15 and three, theirs take
an hour of two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import seqfast
from benchmarks import corpora, harness, word2vec_quality
from seqfast.embeddings import Callback, Cooccurrences, WordVectors
from seqfast.embeddings.glove import training

PEER = "stanfordnlp/GloVe"
PROGRAMS = ("vocab_count", "cooccur", "shuffle", "glove")
EPOCHS = 25  # of "everything": the default of both sides
MEASURED = 2  # epochs of a turn
SIZE, WINDOW, X_MAX, MIN_COUNT, MEMORY = 100, 15, 100.0, 5, 4.0
GOALS = {"co-occurrences": 5.0, "training": 3.0, "peak memory": 1.0}
FOLDER = os.environ.get("SEQFAST_GLOVE", "")
MOST_WORDS = int(os.environ.get("SEQFAST_GLOVE_WORDS", "0")) or None
QUALITY_EPOCHS, QUALITY_SEEDS = map(int, os.environ.get("SEQFAST_GLOVE_QUALITY", "15x3").split("x"))
pytestmark = [
    pytest.mark.timeout(0),
    pytest.mark.skipif(
        not all((Path(FOLDER) / name).is_file() for name in PROGRAMS) or not FOLDER,
        reason="needs stanfordnlp/GloVe, built, in the folder that SEQFAST_GLOVE names",
    ),
]


class Ended(NamedTuple):
    seconds: float
    processor: float  # seconds of all threads
    megabytes: float
    lines: list[tuple[float, str]]  # of standard error, with the time each came


# A process begins with the peak of the one that it was forked from, so a small one is between.
STARTER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("peak", used.ru_maxrss, used.ru_utime + used.ru_stime, file=sys.stderr)
sys.exit(status)
"""


def run(command: list[str], source: Path | None = None, target: Path | None = None) -> Ended:
    """A program from standard input to standard output."""
    with (
        open(source or os.devnull, "rb") as stdin,
        open(target or os.devnull, "wb") as stdout,
        subprocess.Popen(
            [sys.executable, "-S", "-c", STARTER, *command],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stderr is not None
        start = time.perf_counter()
        lines = [(time.perf_counter() - start, line) for line in process.stderr]
        seconds = time.perf_counter() - start
    assert process.returncode == 0, "".join(line for _, line in lines)
    _, peak, processor = lines[-1][1].split()
    return Ended(seconds, float(processor), int(peak) / 1024, lines[:-1])


class Peer:
    """What the C programs take, from the text to the vectors."""

    def __init__(self, text: Path, folder: Path, threads: int, sizes: dict[str, Any]) -> None:
        self.vocabulary, self.counted = folder / "vocab.txt", folder / "cooccurrence.bin"
        self._shuffled, self._folder = folder / "shuffled.bin", folder
        self._text, self._threads, self._sizes = text, threads, sizes
        self.megabytes = 0.0
        self.processor: dict[str, float] = {}

    def _tool(self, name: str, *flags: Any, **streams: Path) -> Ended:
        command = [str(Path(FOLDER) / name), *map(str, flags)]
        ended = run(command, **streams)
        self.megabytes = max(self.megabytes, ended.megabytes)
        self.processor[name] = ended.processor
        return ended

    def count(self) -> float:
        quiet, text = ("-verbose", 0), self._text
        first = self._tool("vocab_count", "-min-count", MIN_COUNT, *quiet, source=text,
                           target=self.vocabulary)  # fmt: skip
        flags = ["-memory", MEMORY, "-vocab-file", self.vocabulary, "-window-size", WINDOW]
        flags += ["-overflow-file", self._folder / "overflow"]
        second = self._tool("cooccur", *flags, *quiet, source=text, target=self.counted)
        return first.seconds + second.seconds

    def shuffle(self) -> float:
        flags = ["-memory", MEMORY, "-verbose", 0, "-temp-file", self._folder / "part", "-seed", 1]
        return self._tool("shuffle", *flags, source=self.counted, target=self._shuffled).seconds

    def train(self, epochs: int = MEASURED, seed: int = 1) -> tuple[list[float], float]:
        """Seconds of each epoch, and the mean loss of the last."""
        flags = ["-input-file", self._shuffled, "-vocab-file", self.vocabulary, "-seed", seed]
        flags += ["-save-file", self._folder / "vectors", "-threads", self._threads]
        flags += ["-iter", epochs, "-vector-size", self._sizes["vector_size"], "-binary", 0]
        flags += ["-x-max", X_MAX, "-verbose", 2]
        lines = self._tool("glove", *flags).lines
        ends = [at for at, line in lines if "iter:" in line]
        begin = max(at for at, line in lines if "alpha:" in line)
        loss = float(lines[[at for at, _ in lines].index(ends[-1])][1].rsplit("cost:", 1)[1])
        return np.diff([begin, *ends]).tolist(), loss

    def vectors(self) -> WordVectors:
        return WordVectors.load(self._folder / "vectors.txt")


class Ours:
    """The same by the class, whose parts are timed."""

    def __init__(self, text: Path, threads: int, sizes: dict[str, Any]) -> None:
        self._text = str(text)
        self.processor: dict[str, float] = {}
        self.model = seqfast.GloVe(
            window=WINDOW,
            x_max=X_MAX,
            min_count=MIN_COUNT,
            workers=threads,
            progress=False,
            **sizes,
        )

    def count(self) -> float:
        start, used = time.perf_counter(), time.process_time()
        self.model.build_vocab(self._text)
        state = self.model.state
        assert state.corpus is not None
        state.cooccurrences = training.cooccurrences_of(state, state.corpus)
        self.processor["count"] = time.process_time() - used
        return time.perf_counter() - start

    def train(self) -> tuple[float, list[float], float]:
        """Seconds before the first epoch, of each epoch, and the mean loss of the last."""
        times, used = [time.perf_counter()], time.process_time()

        class Watch(Callback):
            def on_train_begin(self, model: Any, progress: Any) -> None:
                times.append(time.perf_counter())

            def on_epoch_end(self, model: Any, progress: Any) -> None:
                times.append(time.perf_counter())

        self.model.train(epochs=MEASURED, callbacks=[Watch()])
        self.processor["train"] = time.process_time() - used
        before, *epochs = np.diff(times).tolist()
        return before, epochs, self.model.mean_loss_per_epoch[-1]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory, smoke: bool) -> tuple[Path, int, str]:
    path = tmp_path_factory.mktemp("glove") / "text.txt"
    if smoke:
        return path, corpora.write(path, corpora.drawn_lines(200), 5_000), "drawn words"
    if corpora.is_there():
        name = "the corpus" if MOST_WORDS is None else "the beginning of the corpus"
        return path, corpora.write(path, corpora.lines(), MOST_WORDS), name
    words = corpora.write(path, corpora.drawn_lines(100_000), 4_000_000)
    return path, words, "words drawn by Zipf's law"


def check_counts(ours: Ours, peer: Peer, entirely: bool) -> None:
    """The same words and co-occurrences; in the order of theirs where all are compared."""
    lines = [line.split() for line in peer.vocabulary.read_text().splitlines()]
    counts = {word: int(number) for word, number in lines}
    model, counted = ours.model, ours.model.cooccurrences
    assert counted is not None
    assert dict(zip(model.index_to_key, model.counts.tolist(), strict=True)) == counts
    assert peer.counted.stat().st_size == 16 * len(counted.columns)
    if not entirely:
        return
    theirs = Cooccurrences.load_c_format(peer.counted, list(counts))
    place = np.array([model.key_to_index[word] for word in counts])

    def dense(of: Cooccurrences) -> np.ndarray:
        whole = np.zeros((len(of), len(of)))
        whole[np.repeat(np.arange(len(of)), np.diff(of.offsets)), of.columns] = of.values
        return whole

    mine, wanted = dense(counted)[np.ix_(place, place)], dense(theirs)
    # cooccur reads the first record twice where its overflow file is empty.
    wanted[0, 0] = mine[0, 0]
    np.testing.assert_allclose(mine, wanted, rtol=1e-6)


def test_goal(
    text: tuple[Path, int, str],
    tmp_path: Path,
    record: Callable[[dict[str, Any]], None],
    threads: int,
    smoke: bool,
) -> None:
    """From the open file to vectors after two epochs, in turns."""
    path, words, name = text
    sizes = {"vector_size": 8 if smoke else SIZE}
    peer, ours = Peer(path, tmp_path, threads, sizes), Ours(path, threads, sizes)
    counting: tuple[list[float], list[float]] = [], []
    for _ in range(1 if smoke else 2):
        counting[1].append(peer.count())
        counting[0].append(ours.count())
    check_counts(ours, peer, smoke)
    shuffling = peer.shuffle()
    epochs_of_peer, loss_of_peer = peer.train()
    before, epochs, loss = ours.train()
    assert 0.9 < loss / loss_of_peer < 1.1
    assert np.isfinite(ours.model.vectors).all()
    command = [sys.executable, "-m", "seqfast.embeddings.glove", "train", "-train", str(path)]
    command += ["-min-count", str(MIN_COUNT), "-window-size", str(WINDOW), "-iter", "1"]
    command += ["-vector-size", str(sizes["vector_size"]), "-threads", str(threads)]
    command += ["-save-file", str(tmp_path / "ours"), "-memory", str(MEMORY), "-verbose", "0"]
    memory = run(command).megabytes

    def facts_of(mode: str) -> dict[str, Any]:
        return {
            "group": "goals",
            "mode": mode,
            "case": f"GloVe, {mode}",
            "dtype": "float32",
            "threads": threads,
            "words": words,
            "text": name,
            "goal": GOALS.get(mode),
            "size": sizes["vector_size"],
            "window": WINDOW,
        }

    def add(mode: str, mine: list[float], theirs: list[float], **facts: Any) -> None:
        record(facts_of(mode) | facts | harness.pair_statistics(mine, theirs))

    used = peer.processor
    add("co-occurrences", *counting, ours_cpu=ours.processor["count"],
        peer_cpu=used["vocab_count"] + used["cooccur"])  # fmt: skip
    # With what comes before the first epoch on both sides.
    add("training", epochs, epochs_of_peer, ours_cpu=ours.processor["train"],
        peer_cpu=used["shuffle"] + used["glove"])  # fmt: skip
    whole = counting[0][-1] + before + EPOCHS * epochs[-1]
    whole_of_peer = counting[1][-1] + shuffling + EPOCHS * epochs_of_peer[-1]
    add("everything", [whole], [whole_of_peer], passes=EPOCHS)
    peak = {"ours_mib": memory, "peer_mib": peer.megabytes, "ratio": peer.megabytes / memory}
    record({**facts_of("peak memory"), **peak})


def test_quality(
    text: tuple[Path, int, str],
    tmp_path: Path,
    record: Callable[[dict[str, Any]], None],
    threads: int,
    smoke: bool,
) -> None:
    """Vectors of several seeds, theirs and ours, of the same co-occurrences."""
    path, words, name = text
    folder = corpora.data_folder() / "embed-eval"
    if not smoke and not folder.is_dir():
        pytest.skip("needs the test sets of word vectors")
    sizes = {"vector_size": 8 if smoke else SIZE}
    epochs, seeds = (2, [1]) if smoke else (QUALITY_EPOCHS, list(range(1, QUALITY_SEEDS + 1)))
    peer = Peer(path, tmp_path, threads, sizes)
    peer.count()
    peer.shuffle()
    ours = Ours(path, threads, sizes)
    ours.count()
    counted = ours.model.cooccurrences
    found: dict[str, list[dict[str, float]]] = {PEER: [], "seqfast": []}
    for seed in seeds:
        peer.train(epochs, seed)
        model = seqfast.GloVe(
            x_max=X_MAX, min_count=MIN_COUNT, epochs=epochs, seed=seed, workers=threads,
            combine="sum", progress=False, **sizes,
        )  # fmt: skip
        model.build_vocab(str(path))
        model.train(cooccurrences=counted)
        for side, vectors in ((PEER, peer.vectors()), ("seqfast", model)):
            assert len(vectors.vectors) == len(ours.model)
            if not smoke:
                scores = word2vec_quality.evaluate(vectors.index_to_key, vectors.vectors, folder)
                found[side].append(scores)
    for side, scores in found.items():
        if scores:
            record(
                {
                    "group": "quality",
                    "mode": f"GloVe, {epochs} epochs, {words / 1e6:.1f} million words",
                    "case": side,
                    "text": name,
                    "seeds": seeds,
                    "scores": {which: [s[which] for s in scores] for which in scores[0]},
                }
            )

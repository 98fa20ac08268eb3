"""The text of the word vectors' benchmarks, the work that is counted, the scores and verdicts."""

from __future__ import annotations

import json
import lzma
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gensim")

from benchmarks import corpora, word2vec_quality

# Words on a circle, so that similarity is the angle between them.
PLACES = {"north": 0, "norther": 10, "east": 90, "easter": 100, "south": 180, "southern": 190}


def circle(turned: float = 0.0) -> tuple[list[str], np.ndarray]:
    angles = np.radians(np.array(list(PLACES.values())) + turned)
    return list(PLACES), np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    pairs = "north\tnorther\t9\nnorth\teast\t5\nNorth\tsouth\t1\nunknown\teast\t3\n"
    for file in word2vec_quality.PAIRS.values():
        (folder / file).write_text(pairs, encoding="utf-8")
    (folder / "EN-MEN-TR-3k.txt").write_text(pairs.replace("9", "0"), encoding="utf-8")
    questions = ": turns\nnorth norther east easter\neast easter south southern\n"
    questions += "north east norther easter\nnorth south east easter\nnorth a b c\n"
    (folder / "questions-words.txt").write_text(questions, encoding="utf-8")
    return folder


# --- text ---------------------------------------------------------------------------------------


def test_corpus_is_cut_into_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQFAST_DATA", str(tmp_path))
    assert not corpora.is_there()
    (tmp_path / "w2v").mkdir()
    for part in corpora.PARTS:
        text = f"{part} x\n\n" + "y " * 2500 + "\n"
        (tmp_path / "w2v" / f"{part}.norm.txt.xz").write_bytes(lzma.compress(text.encode()))
    assert corpora.is_there()
    lengths = [len(words) for words in corpora.lines()]
    assert lengths == [2, 1000, 1000, 500] * 3
    path = tmp_path / "new" / "corpus.txt"
    assert corpora.write(path, corpora.lines()) == 3 * 2502
    assert len(path.read_text().split()) == 3 * 2502
    assert corpora.write(path, corpora.lines(), 1003) == 1003
    assert [len(line.split()) for line in path.read_text().splitlines()] == [2, 1000, 1]


def test_drawn_words_follow_zipf() -> None:
    words = [word for line in islice(corpora.drawn_lines(50), 5000) for word in line]
    counts = [words.count(f"w{rank}") for rank in range(4)]
    assert counts[0] == pytest.approx(2 * counts[1], rel=0.1)
    assert counts[0] == pytest.approx(4 * counts[3], rel=0.15)
    again = [word for line in islice(corpora.drawn_lines(50), 10) for word in line]
    assert again == words[:200]


# --- speed --------------------------------------------------------------------------------------


def test_work_is_counted() -> None:
    from benchmarks.test_word2vec import METHODS, work

    counts = np.array([10.0, 10.0])  # of 20 words each is kept with (sqrt(f/s) + 1) s/f
    share = (np.sqrt(0.5 / 1e-3) + 1) * 1e-3 / 0.5
    kept = 20 * share
    skip_gram, cbow, hierarchical, _ = METHODS
    found = work(counts, skip_gram, 10, 4, per_pair=False)
    assert found["gflop"] == pytest.approx(1e-9 * kept * 6 * 10 * 5 * 6)
    assert found["gbyte"] == pytest.approx(1e-9 * kept * (5 + 6) * 10 * 8)
    assert work(counts, skip_gram, 10, 4, per_pair=True)["gbyte"] == pytest.approx(
        1e-9 * kept * 5 * (1 + 6) * 10 * 8
    )
    found = work(counts, cbow, 10, 4, per_pair=False)
    assert found["gflop"] == pytest.approx(1e-9 * kept * (6 * 10 * 6 + 2 * 10 * 5))
    # Two words: one node, and so one target.
    found = work(counts.astype(np.int64), hierarchical, 10, 4, per_pair=False)
    assert found["gflop"] == pytest.approx(1e-9 * kept * 6 * 10 * 5 * 1)


# --- quality ------------------------------------------------------------------------------------


def test_scores(evaluation: Path) -> None:
    scores = word2vec_quality.evaluate(*circle(), evaluation)
    assert scores["WordSim-353"] == pytest.approx(1.0)
    assert scores["MEN"] == pytest.approx(-0.5)  # ranks 1, 3, 2 by people
    # The last question is left out; of the others the third and fourth have no such answer.
    assert scores["analogies"] == pytest.approx(0.75)
    assert word2vec_quality.evaluate(*circle(30.0), evaluation) == pytest.approx(scores)


def test_scores_are_those_of_our_own_functions(evaluation: Path) -> None:
    """What a user of seqfast's evaluation gets is what the table says."""
    from seqfast.embeddings import vectors

    generator = np.random.default_rng(0)
    words, _ = circle()
    table = generator.normal(size=(len(words), 8)).astype(np.float32)
    scores = word2vec_quality.evaluate(words, table, evaluation)
    pairs = vectors.evaluate_pairs(table, words, evaluation / "EN-WS-353-ALL.txt")
    assert pairs.spearman[0] == pytest.approx(scores["WordSim-353"])
    share, _ = vectors.evaluate_analogies(table, words, evaluation / "questions-words.txt")
    assert share == pytest.approx(scores["analogies"])


def test_verdicts() -> None:
    assert word2vec_quality.verdict([0.5, 0.52, 0.54], [0.48, 0.5]) == "within"
    assert word2vec_quality.verdict([0.5, 0.52, 0.54], [0.47]) == "below"
    assert word2vec_quality.verdict([0.5, 0.52, 0.54], [0.57]) == "above"
    assert word2vec_quality.score_text("MEN", [0.5, 0.52]) == "0.510 ± 0.010"
    assert word2vec_quality.score_text("analogies", [0.25]) == "25.0 %"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    path = tmp_path / "text.txt"
    words = [*PLACES, *(f"word{k}" for k in range(60))]  # very few words alone are refused
    lines = (list(line) for line in generator.choice(words, (1000, 10)))
    corpora.write(path, lines)
    return path


def test_from_training_to_the_table(
    corpus: Path, evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All sides of one mode; a second run trains nothing again and says the same."""
    cache, results = tmp_path / "cache", tmp_path / "results"
    arguments = ["--corpus", str(corpus), "--evaluation", str(evaluation), "--cache", str(cache)]
    arguments += ["--modes", "sg-ns", "--seeds", "2", "--epochs", "1", "--workers", "1"]
    assert word2vec_quality.main([*arguments, "--results", str(results)]) == 0
    said = capsys.readouterr().out
    (path,) = results.glob("*/word2vec_quality-*.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert {"gensim", "seqfast", "numpy", "scipy"} <= set(result["versions"])
    sides = {row["case"]: row for row in result["rows"]}
    assert list(sides) == ["gensim", "seqfast", "per-pair negatives", "deterministic"]
    assert [row["seeds"] for row in sides.values()] == [[1, 2], [1, 2], [1, 2], [1]]
    for row in sides.values():
        assert set(row["scores"]) == {*word2vec_quality.PAIRS, "analogies"}
        assert all(-1 <= score <= 1 for scores in row["scores"].values() for score in scores)
    first = {path: path.stat().st_mtime_ns for path in cache.glob("*.npz")}
    assert len(first) == 7
    assert word2vec_quality.main(arguments) == 0
    again = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.npz")} == first
    assert again.splitlines()[:-1] == said.splitlines()[:-1]
    assert "partial run: results not written" in again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--modes", "sg-ns,dance"], r"--modes: got \['dance'\], wanted some of"),
        (["--sides", "nobody"], r"--sides: got \['nobody'\], wanted some of"),
        (["--seeds", "0"], "--seeds must be positive, got 0"),
    ],
)
def test_wrong_use(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        word2vec_quality.main(options)
    assert re.search(message, capsys.readouterr().err)


def test_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQFAST_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"EN-WS-353-ALL.txt.*; --evaluation says where"):
        word2vec_quality.main(["--quick"])


def test_missing_corpus_is_named(
    evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQFAST_DATA", str(tmp_path))
    arguments: list[Any] = ["--evaluation", str(evaluation), "--cache", str(tmp_path / "cache")]
    with pytest.raises(SystemExit, match=r"no corpus in .*; --corpus names one"):
        word2vec_quality.main(arguments)
    with pytest.raises(SystemExit, match=r"no corpus at .*nowhere"):
        word2vec_quality.main([*arguments, "--corpus", str(tmp_path / "nowhere")])

"""The GPU benchmark of word vectors at toy size on the CPU, from the text to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("gensim")
pytest.importorskip("matplotlib")

from benchmarks import gpu_word2vec, harness, report


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = gpu_word2vec.main(["--device", "cpu", "--out", str(folder), *arguments])
    (path,) = folder.glob("*.json")
    return status, json.loads(path.read_text(encoding="utf-8"))


def test_from_the_text_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, result = run(tmp_path / "results" / "gpu", "--repeats", "3", "--seconds", "200")
    assert status == 0, result["failures"]
    assert result["finished"]
    assert result["self_test"]
    assert not result["left_out"]
    assert {"gensim", "torch"} <= set(result["versions"])
    assert len(result["alone"]) == len(gpu_word2vec.CASES)
    assert all(rate > 0 for rate in result["alone"].values())
    rows = result["rows"]
    assert len(rows) == 2 * len(gpu_word2vec.CASES)
    for row in rows:
        assert row["threads"] == harness.usable_cores()
        assert row["words"] == 5_000
        assert row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"])
        rate = result["alone"][row["case"]]
        if row["mode"] == "training":
            assert row["words"] / row["ours_ms"] == pytest.approx(rate / 1e3)
    assert [row["goal"] for row in rows if row["goal"]] == [gpu_word2vec.GOAL]
    assert "words/s, gensim" in capsys.readouterr().out

    # Not a self-test: then it has its section.
    facts = {key: value for key, value in result.items() if key != "self_test"}
    harness.write_json(tmp_path / "results" / "gpu" / "word2vec_cuda-9.json", facts)
    assert report.main(["--results", str(tmp_path / "results"), "--root", str(tmp_path)]) == 0
    (path,) = (tmp_path / "docs" / "performance").glob("*.md")
    page = path.read_text(encoding="utf-8")
    _, section = page.split("\n## Word vectors on a GPU\n")
    assert "| skip-gram, negative sampling | 50 |" in section
    assert "| CBOW, hierarchical softmax |" in section
    assert not (tmp_path / "README.md").exists()


def test_no_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_word2vec, "CASES", gpu_word2vec.CASES[:2])
    status, result = run(tmp_path, "--repeats", "1", "--seconds", "0.001")
    assert status == 1
    assert result["left_out"] == list(gpu_word2vec.MODE_NAMES.values())[:2]
    assert not result["rows"]


def test_a_case_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_word2vec, "CASES", gpu_word2vec.CASES[:2])
    original = gpu_word2vec.measure_ours

    def measure(path: Path, mode: str, *others: Any) -> list[float]:
        if mode == "sg-ns":
            raise ValueError("wrong: on purpose")
        return original(path, mode, *others)

    monkeypatch.setattr(gpu_word2vec, "measure_ours", measure)
    status, result = run(tmp_path, "--repeats", "1")
    assert status == 1
    assert list(result["failures"].values()) == ["ValueError: wrong: on purpose"]
    assert list(result["alone"]) == ["CBOW, negative sampling"]


def test_without_gensim_our_rates_stand_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_word2vec, "CASES", gpu_word2vec.CASES[:1])
    monkeypatch.setattr(gpu_word2vec.importlib.util, "find_spec", lambda name: None)
    status, result = run(tmp_path, "--repeats", "1")
    assert status == 0
    assert not result["rows"]
    assert len(result["alone"]) == 1


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch sees no GPU"):
        gpu_word2vec.main(["--out", str(tmp_path)])

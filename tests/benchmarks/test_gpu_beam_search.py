"""The GPU benchmark of beam search at toy size on the CPU, from the first step to the page."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

import torch

from benchmarks import gpu, gpu_beam_search, harness, report


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = gpu_beam_search.main(["--device", "cpu", "--out", str(folder), *arguments])
    (path,) = folder.glob("*.json")
    return status, json.loads(path.read_text(encoding="utf-8"))


def test_from_the_first_step_to_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, result = run(tmp_path / "results" / "gpu", "--seconds", "200")
    assert status == 0, result["failures"]
    assert result["finished"]
    assert result["self_test"]
    assert not result["left_out"]
    rows = [row for row in result["rows"] if row["mode"] == "step"]
    count = len(gpu_beam_search.TOY_STEPS) * len(gpu_beam_search.DTYPES)
    assert len(rows) == count * len(gpu_beam_search.PEERS)
    for row in rows:
        assert row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"])
        size = {"float32": 4, "float16": 2}[row["dtype"]]
        for part in row["case"].split(":")[0].split("x"):
            size *= int(part)
        assert row["roofline_ms"] == pytest.approx(1e-6 * size / result["copy_gbs"])
        assert row["of_roofline"] == pytest.approx(row["ours_ms"] / row["roofline_ms"])
    searches = [row["case"] for row in result["rows"] if row["mode"] == "search"]
    assert len(searches) == 1 + bool(importlib.util.find_spec("transformers"))
    assert searches[0] == "2x3x40, 5 steps: LSTM decoder, a loop in torch"
    assert "times the roofline" in capsys.readouterr().out

    # Not a self-test: then it has its section, and a goal that is missed is said.
    facts = {key: value for key, value in result.items() if key != "self_test"}
    facts["rows"][0] |= {"of_roofline": 1.41, "most_of_roofline": gpu_beam_search.GOAL}
    harness.write_json(tmp_path / "results" / "gpu" / "beam_search_cuda-9.json", facts)
    assert report.main(["--results", str(tmp_path / "results"), "--root", str(tmp_path)]) == 0
    (path,) = (tmp_path / "docs" / "performance").glob("*.md")
    page = path.read_text(encoding="utf-8")
    _, section = page.split("\n## Beam search on a GPU\n")
    assert "| **1.41, over 1.4** |" in section
    assert "| 1x4x33: topk of rows, float16 |" in section


def test_no_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_beam_search, "DTYPES", {"float32": torch.float32})
    status, result = run(tmp_path, "--seconds", "0.000001")
    assert status == 1
    assert not result["rows"]
    assert {"2x3x100, float32", "1x4x33, float32"} <= set(result["left_out"])


def test_a_case_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(logits: Any, sizes: gpu_beam_search.Sizes) -> None:
        if sizes.batch == 2 and logits.dtype == torch.float16:
            raise ValueError("wrong: on purpose")

    monkeypatch.setattr(gpu_beam_search, "check_step", check)
    monkeypatch.setattr(gpu_beam_search.importlib.util, "find_spec", lambda name: None)
    status, result = run(tmp_path)
    assert status == 1
    assert result["failures"] == {"2x3x100, float16": "ValueError: wrong: on purpose"}
    assert len(result["rows"]) == 6


def test_a_wrong_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = gpu_beam_search.Sizes(2, 3, 50)
    logits = torch.randn(6, 50)
    logits[:, 0] = -30
    gpu_beam_search.check_step(logits, sizes)
    monkeypatch.setitem(
        gpu_beam_search.PEERS, "wrong", lambda x, scores: gpu_beam_search.by_row(x + x, scores)
    )
    with pytest.raises(ValueError, match=r"^wrong: scores differ"):
        gpu_beam_search.check_step(logits, sizes)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch sees no GPU"):
        gpu_beam_search.main(["--out", str(tmp_path)])


def test_all_kinds_of_jobs_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_beam_search.importlib.util, "find_spec", lambda name: True)
    names = [name for name, _ in gpu_beam_search.jobs(gpu.Cpu(), 1.0)]
    assert names[2:5] == ["nobody waits", "loop", "generate"]

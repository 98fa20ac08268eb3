"""The benchmarks at toy size, from measuring to the rendered page, so that they cannot rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytest_benchmark")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[2]


def test_measures_and_renders(tmp_path: Path) -> None:
    results = tmp_path / "results"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks"]
    command += ["--bench-smoke", "--bench-threads", "1", "--bench-results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = results.glob("*/rnn-*.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["threads"] == 1
    assert {"cpu_isa", "cpu_flags", "versions", "commit", "date", "copy_gbs"} <= set(result)
    groups = {(row["group"], row["mode"]) for row in result["rows"]}
    for group in ("grid", "ragged", "projected", "bidirectional", "dtypes"):
        assert {(group, "forward"), (group, "training")} <= groups
    assert ("one step", "forward") in groups
    assert ("memory", "training") in groups or sys.platform != "linux"
    assert all(row["ratio"] > 0 for row in result["rows"])

    (tmp_path / "README.md").write_text("<!-- table:begin -->\n<!-- table:end -->\n")
    command = [sys.executable, "-m", "benchmarks.report", "--results", str(results)]
    subprocess.run([*command, "--root", str(tmp_path)], cwd=ROOT, check=True, timeout=100)
    page = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert all(row["case"] in page for row in result["rows"])


def test_work_is_counted() -> None:
    from benchmarks.cases import Case

    forward = Case("grid", 100, 32, 128, 128).row("forward", 3200)
    training = Case("grid", 100, 32, 128, 128).row("training", 3200)
    assert forward["gflop"] == pytest.approx(2e-9 * 3200 * 512 * 256)
    assert training["gflop"] == pytest.approx(3 * forward["gflop"])
    projected = Case("", 1, 1, 10, 20, layers=2, bidirectional=True, proj_size=5).row("forward", 1)
    layers = 2 * (80 * 15 + 100) + 2 * (80 * 15 + 100)
    assert projected["gflop"] == pytest.approx(2e-9 * layers)

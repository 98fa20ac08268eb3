"""The benchmarks at toy size, from measuring to the rendered page, so that they cannot rot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytest_benchmark")
pytest.importorskip("matplotlib")
pytest.importorskip("gensim")

from benchmarks import report_tables

ROOT = Path(__file__).resolve().parents[2]


def test_measures_and_renders(tmp_path: Path) -> None:
    results = tmp_path / "results"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks"]
    command += ["--bench-smoke", "--bench-threads", "1", "--bench-results", str(results)]
    # pytest-benchmark refuses to measure where it sees that several processes share the tests.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    suites = {}
    for path in results.glob("*/*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert result["threads"] == 1
        assert {"cpu_isa", "cpu_flags", "versions", "commit", "date", "copy_gbs"} <= set(result)
        assert all(row["ratio"] > 0 for row in result["rows"])
        suites[result["suite"]] = result["rows"]
    for suite in ("beam_generate", "ctc", "ctc_align"):  # only where their peers are
        suites.pop(suite, None)
    layers = {"rnn", "rnn_variants", "rnn_loops", "rnn_steps", "rnn_stream", "rnn_int8"}
    assert set(suites) == layers | {"beam_decoder", "beam_search", "word2vec"}
    groups = {row["group"] for row in suites["beam_search"]}
    assert groups == {"log_softmax, topk", "topk of rows", "plain read"}
    found = {(row["cell"], row["group"], row["mode"]) for row in suites["rnn"]}
    for cell in ("LSTM", "GRU", "RNN"):
        for group in ("grid", "ragged", "bidirectional", "dtypes"):
            assert {(cell, group, "forward"), (cell, group, "training")} <= found
        assert (cell, "one step", "forward") in found
    assert ("LSTM", "projected", "training") in found
    assert ("LSTM", "memory", "training") in found or sys.platform != "linux"
    for suite, count in (("rnn_variants", 20), ("rnn_loops", 5)):
        modes = [
            {r["variant"] for r in suites[suite] if r["mode"] == m} for m in report_tables.MODES
        ]
        assert modes[0] == modes[1]
        assert len(modes[0]) == count
    found = {(r["mode"], r["case"], r["threads"]) for r in suites["word2vec"] if r["goal"]}
    for case in ("skip-gram NS", "skip-gram NS, per-pair negatives", "CBOW NS", "skip-gram HS"):
        for mode in ("training", "everything"):
            assert {(mode, case, 1), (mode, case, 2)} <= found
    assert ("vocabulary", "the vocabulary", 2) in found
    grid = [row for row in suites["word2vec"] if row["group"] == "grid"]
    assert len(grid) == len({row["case"] for row in grid}) == 5 * 9

    (tmp_path / "README.md").write_text("<!-- table:begin -->\n<!-- table:end -->\n")
    command = [sys.executable, "-m", "benchmarks.report", "--results", str(results)]
    subprocess.run([*command, "--root", str(tmp_path)], cwd=ROOT, check=True, timeout=100)
    (path,) = (tmp_path / "docs" / "performance").glob("*.md")
    page = path.read_text(encoding="utf-8")
    titles = ["LSTM", "GRU", "RNN", "Variants", "Against loops in Python", "Single steps"]
    titles += [
        "Streams",
        "8 bits",
        "Word vectors",
        "Beam search",
        "Beam search over an attention decoder",
    ]
    written = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    with_their_peers = {
        "Beam search around transformers",
        "CTC prefix beam search",
        "CTC alignment",
    }
    assert [title for title in written if title not in with_their_peers] == titles
    for rows in suites.values():
        assert all(report_tables.case_text(row) in page for row in rows)


@pytest.mark.parametrize(("cell", "gates", "kept"), [("lstm", 4, 5), ("gru", 3, 4), ("rnn", 1, 1)])
def test_work_is_counted(cell: str, gates: int, kept: int) -> None:
    from benchmarks.cases import Case

    case = Case("grid", 100, 32, 128, 128, cell=cell)
    forward, training = (case.row(mode, 3200) for mode in report_tables.MODES)
    weights = gates * 128 * 256
    assert forward["gflop"] == pytest.approx(2e-9 * 3200 * weights)
    assert training["gflop"] == pytest.approx(3 * forward["gflop"])
    assert forward["gbyte"] == pytest.approx(4e-9 * (weights + 3200 * 256))
    elements = 3 * (weights + 3200 * 256) + 2 * kept * 3200 * 128
    assert training["gbyte"] == pytest.approx(4e-9 * elements)


def test_work_of_stacked_projected_layers_is_counted() -> None:
    from benchmarks.cases import Case

    projected = Case("", 1, 1, 10, 20, layers=2, bidirectional=True, proj_size=5).row("forward", 1)
    layers = 2 * (80 * 15 + 100) + 2 * (80 * 15 + 100)
    assert projected["gflop"] == pytest.approx(2e-9 * layers)

"""The rendered page: losses are marked, equal results give equal files, the README is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, report

pytest.importorskip("matplotlib")

ENVIRONMENT = {
    "machine": "m",
    "device": "CPU",
    "cores": 2,
    "threads": 2,
    "cpu_isa": "avx2",
    "compiler": "gcc",
    "system": "Linux",
    "python": "3.11",
    "versions": {"seqfast": "0.1", "torch": "2"},
    "commit": "abc",
    "date": "2030-01-01T00:00:00+00:00",
    "copy_gbs": 10.0,
    "fma_gflops": 100.0,
}


def row(mode: str, ratio: float, **changes: Any) -> dict[str, Any]:
    return {
        "group": "grid",
        "case": "1x2x3x4",
        "mode": mode,
        "dtype": "float32",
        "gflop": 1.0,
        "gbyte": 0.01,
        "ours_ms": 20.0,
        "peer_ms": 20.0 * ratio,
        "ratio": ratio,
        "ratio_low": ratio,
        "ratio_high": ratio,
        "pairs": 9,
        **changes,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [row(mode, ratio) for mode in report.MODES for ratio in (0.5, 2.0)]
    rows.append(row("forward", 3.0, dtype="float64", group="dtypes"))
    rows.append(
        {"group": "memory", "case": "9x9", "mode": "training", "dtype": "float32"}
        | {"ours_mib": 20.0, "peer_mib": 10.0, "ratio": 0.5}
    )
    harness.write_results("rnn", rows, ENVIRONMENT, tmp_path / "results")
    (tmp_path / "README.md").write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    return tmp_path


def render(root: Path) -> dict[str, str]:
    assert report.main(["--results", str(root / "results"), "--root", str(root)]) == 0
    files = ("README.md", "docs/performance.md", "docs/performance.svg")
    return {name: (root / name).read_text(encoding="utf-8") for name in files}


def test_page(root: Path) -> None:
    page = render(root)["docs/performance.md"]
    assert "| 1x2x3x4 | 20 | 10 | **0.50, slower** | 0.50 - 0.50 | 50 | 50 % | 10 |" in page
    assert "| 1x2x3x4 | 20 | 40 | 2.00 | 2.00 - 2.00 | 50 | 50 % | 10 |" in page
    assert "| 1x2x3x4, float64 | 20 | 60 | 3.00 | 3.00 - 3.00 | 50 | 100 % | 20 |" in page
    assert "| 2 shapes: geometric mean | 1.00 | 1.00 |" in page
    assert "| 2 shapes: the worst | **0.50, slower** | **0.50, slower** |" in page
    assert "| 9x9 | 20 | 10 | **0.50, more** |" in page


def test_readme_keeps_what_is_outside_the_block(root: Path) -> None:
    readme = render(root)["README.md"]
    assert readme.startswith(f"above\n{report.BEGIN}\n|")
    assert readme.endswith(f"\n{report.END}\nbelow\n")
    assert "old" not in readme
    assert "float64" not in readme


def test_rendering_again_changes_nothing(root: Path) -> None:
    assert render(root) == render(root)


def test_peak_may_be_unknown(root: Path) -> None:
    harness.write_results(
        "rnn",
        [row(mode, 2.0) for mode in report.MODES],
        ENVIRONMENT | {"fma_gflops": None, "date": "2031-01-01T00:00:00+00:00"},
        root / "results",
    )
    page = render(root)["docs/performance.md"]
    assert "| 1x2x3x4 | 20 | 40 | 2.00 | 2.00 - 2.00 | 50 | - | - |" in page


def test_a_peak_that_is_passed_is_an_error(root: Path) -> None:
    harness.write_results(
        "rnn",
        [row("forward", 2.0)],
        ENVIRONMENT | {"fma_gflops": 45.0, "date": "2031-01-01T00:00:00+00:00"},
        root / "results",
    )
    with pytest.raises(ValueError, match=r"1x2x3x4, forward, runs at 50 GFLOP/s.* is 45"):
        render(root)


def test_a_readme_without_the_marks_is_an_error(root: Path) -> None:
    (root / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match=r"README\.md must contain <!-- table:begin -->"):
        render(root)


def test_no_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no results under"):
        report.main(["--results", str(tmp_path), "--root", str(tmp_path)])

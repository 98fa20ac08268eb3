"""tests/run.py: two stages, what each stage's tests find, one report of both, its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("xdist")

RUN = Path(__file__).with_name("run.py")
SETTINGS = """
[pytest]
addopts = -p xdist.plugin
markers = alone: by itself
"""
TESTS = """
import os
import pytest

def test_together():
    assert os.environ["PYTEST_XDIST_WORKER"].startswith("gw")
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "1"

@pytest.mark.alone
def test_alone():
    assert "PYTEST_XDIST_WORKER" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "3"

@pytest.mark.skip(reason="no time")
def test_skipped(): ...

@pytest.mark.alone
@pytest.mark.skip(reason="no room")
def test_skipped_alone(): ...

def test_wrong():
    assert "wrong" not in os.environ
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "test_them.py").write_text(TESTS)
    return tmp_path


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # What this very run tells its processes is not for those of the other.
    ours = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, str(RUN), *words],
        cwd=folder,
        # Without the plugins that they do not need, which take a second to load.
        env={**ours, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "3", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def test_both_stages_and_one_report(folder: Path) -> None:
    done = run(folder, "-n", "2", "--junitxml=build/results.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("All tests take about ")
    assert last_line(done).startswith("3 passed, 0 failed, 2 skipped in 0 min ")
    assert "no time" in done.stdout
    report = folder / "build" / "results.xml"
    names = [case.get("name", "") for case in ET.parse(report).iter("testcase")]
    assert sorted(names[:3]) == ["test_skipped", "test_together", "test_wrong"]
    assert sorted(names[3:]) == ["test_alone", "test_skipped_alone"]

    told = run(folder, "--summary", str(report))
    assert told.returncode == 0
    assert told.stdout.splitlines()[1:] == [
        "Skipped, and why:",
        "      1 x no time",
        "      1 x no room",
        "3 passed, 0 failed, 2 skipped",
    ]


def test_a_failure_counts_and_may_end_the_run(folder: Path) -> None:
    done = run(folder, "-n", "2", "--junitxml=all.xml", wrong="1")
    assert done.returncode == 1
    assert last_line(done).startswith("2 passed, 1 failed, 2 skipped in ")
    told = run(folder, "--summary", "all.xml")
    assert told.returncode == 1
    assert told.stdout.splitlines()[-1] == "2 passed, 1 failed, 2 skipped"
    stopped = run(folder, "-n", "2", "-x", "-k", "wrong or alone", wrong="1")
    assert stopped.returncode != 0
    assert last_line(stopped).startswith("0 passed, 1 failed, 0 skipped in ")


@pytest.mark.parametrize(
    ("words", "status", "counts"),
    [
        (["-k", "test_alone"], 0, "1 passed, 0 failed, 0 skipped"),
        (["-k", "none_such"], 5, "0 passed, 0 failed, 0 skipped"),
        (["-m", "alone"], 0, "1 passed, 0 failed, 1 skipped"),
    ],
)
def test_a_part(folder: Path, words: list[str], status: int, counts: str) -> None:
    done = run(folder, "-n", "2", *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert last_line(done).startswith(f"{counts} in ")


def test_a_forecast_runs_nothing(folder: Path) -> None:
    done = run(folder, "--forecast")
    assert done.returncode == 0
    build, tests = done.stdout.splitlines()
    assert build.startswith("The build takes about ")
    assert tests.startswith("All tests take about ")


def test_a_summary_of_nothing(folder: Path) -> None:
    done = run(folder, "--summary", "nowhere.xml")
    assert done.returncode == 1
    assert done.stdout == "no test ran\n"

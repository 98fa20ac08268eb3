"""Order and limits of the tests on a GPU: calls that never come back, a device that is lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("xdist")

from benchmarks import gpu_tests, harness

FIRST = """
import ctypes, sys, types
import pytest
pytestmark = pytest.mark.cuda

def test_passes(): pass
def test_fails(): assert not "a reason"
def test_blocks_for_ever(): ctypes.CDLL(None).pause()
def test_blocks_and_holds_the_lock(): ctypes.PyDLL(None).pause()

def test_loses_the_device(monkeypatch):
    def synchronize(): raise RuntimeError("CUDA error: an illegal memory access")
    cuda = types.SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
    sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
"""
LAST = """
import sys
import pytest

@pytest.mark.cuda
@pytest.mark.parametrize("number", range(6))
def test_passes(number): assert "torch" not in sys.modules

def test_is_not_for_a_gpu(): assert False
"""


def run(folder: Path, *words: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.gpu_tests", "--out", str(folder / "out"),
            "--processes", "2", *words, str(folder),
        ],
        env=environment, cwd=harness.ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def outcomes(folder: Path) -> dict[str, str]:
    found = {}
    for case in ET.parse(folder / "out" / "test.xml").iter("testcase"):
        kind = "passed" if len(case) == 0 else case[0].tag
        found[f"{case.get('classname')}.{case.get('name')}".split("/")[-1]] = kind
    return found


def make_folder(folder: Path, first: str) -> Path:
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = cuda\n")
    (folder / "test_first.py").write_text(first)
    (folder / "test_last.py").write_text(LAST)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, str]]:
    """Both at once, as they mostly wait: where calls hang, and where time is too little."""
    base = tmp_path_factory.mktemp("runs")
    folders = {
        "hang": make_folder(base / "hang", FIRST),
        "cut": make_folder(base / "cut", FIRST.replace("test_blocks_for_ever", "test_aa")),
    }
    words = {
        "hang": ["--timeout", "2"],
        "cut": ["--seconds", "12", "--grace", "2", "--timeout", "100"],
    }
    with ThreadPoolExecutor() as pool:
        started = {name: pool.submit(run, folders[name], *words[name]) for name in folders}
        return {name: (folders[name], *done.result()) for name, done in started.items()}


@pytest.mark.alone
def test_what_hangs_costs_one_worker(runs: dict[str, tuple[Path, int, str]]) -> None:
    folder, status, text = runs["hang"]
    assert status == 1, text
    found = outcomes(folder)
    assert {name for name, kind in found.items() if kind == "passed"} == {
        "test_first.test_passes",
        *(f"test_last.test_passes[{number}]" for number in range(6)),
    }, text
    # A worker that ends is named with the test it was in.
    failed = [name for name, kind in found.items() if kind in ("failure", "error")]
    assert len(failed) == 4
    for name in ("fails", "loses_the_device", "blocks_for_ever", "blocks_and_holds_the_lock"):
        assert any(f"test_{name}" in one for one in failed), text
    assert "the device is of no use after this test" in text
    assert "8 passed, 4 failed, 0 skipped" in text.splitlines()


@pytest.mark.alone
def test_too_little_time_leaves_what_there_is(runs: dict[str, tuple[Path, int, str]]) -> None:
    folder, status, text = runs["cut"]
    assert status == 124, text
    # pytest had no time to write a report: this one is made of the lines that it left.
    assert outcomes(folder)["test_first.py.test_passes"] == "passed", text
    assert re.search(r"^[1-9]\d* passed, .*, cut$", text, re.M)


def test_the_most_important_come_first() -> None:
    class Item:
        def __init__(self, nodeid: str) -> None:
            self.nodeid = nodeid

    names = ["tests/nn/test_gpu.py::a", "tests/nn/test_lstm.py::b", "tests/ops/test_cuda_rnn.py::d"]
    names += ["tests/ops/test_cuda_rnn.py::c", "tests/ops/test_ctc.py::e"]
    items = [Item(name) for name in names]
    gpu_tests.pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert "".join(item.nodeid[-1] for item in items) == "dceab"


def test_every_file_of_the_order_is_there() -> None:
    for name in gpu_tests.ORDER:
        assert list((harness.ROOT / "tests").glob(f"{name}*.py")), name


def test_the_report_of_what_ended(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(
        '{"test": "a.py::b[c::d]", "outcome": "failed", "seconds": 1.5, "text": "why\\u0000"}\n'
        '{"test": "a.py::e", "outcome": "passed", "seconds": 0.1, "text": ""}\n{"test": "a.'
    )
    gpu_tests.write_xml(gpu_tests.read_lines(path), tmp_path / "test.xml")
    cases = list(ET.parse(tmp_path / "test.xml").iter("testcase"))
    assert [(case.get("classname"), case.get("name"), len(case)) for case in cases] == [
        ("a.py", "b[c::d]", 1),
        ("a.py", "e", 0),
    ]
    assert cases[0][0].text == "why"

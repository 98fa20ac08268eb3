"""The smoke run on the host executor, and its children when they hang, crash and fail."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import seqfast  # noqa: E402
from benchmarks import gpu_smoke  # noqa: E402

needs_executor = pytest.mark.skipif(
    not seqfast.build_info().get("host_executor"), reason="needs a build with SEQFAST_CUDA=HOST"
)
SOME = r"^(lstm|gru), (block|cluster|grid), float16|^(rnn|.* .*), stepwise, float32, training"


def read(path: Path) -> dict[str, str]:
    return {row["case"]: row["state"] for row in json.loads(path.read_text())["smoke"]}


@needs_executor
def test_every_way_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--host", "--here", "--cases", SOME, "--out", str(tmp_path / "smoke.json")]
    assert gpu_smoke.main(words) == 0, capsys.readouterr().out
    states = read(tmp_path / "smoke.json")
    # Two cells, three ways, both modes; four more cells; and the clusters.
    assert set(states.values()) == {"ok"}
    assert len(states) == 12 + 4 + 1
    printed = capsys.readouterr().out
    assert re.search(r"resident clusters .* 44 of 3, 33 of 4, .* 8 of 16\n", printed)
    assert re.search(r"lstm, grid, float16, forward +ok .* 9 x 3 blocks, output off by", printed)


@needs_executor
def test_what_is_wrong_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gpu_smoke.gpu.TOLERANCE, "float16", 1e-9)
    words = ["--host", "--here", "--cases", "^gru, block, float16, training"]
    assert gpu_smoke.main([*words, "--out", str(tmp_path / "smoke.json")]) == 1
    states = read(tmp_path / "smoke.json")
    assert states["gru, block, float16, training"] == "failed"
    assert "of its norm, at most 4e-09" in capsys.readouterr().out


@pytest.mark.alone
def test_children_that_do_not_come_back() -> None:
    assert gpu_smoke.in_a_child(max, "a", "b", seconds=100) == ("ok", "b")
    assert gpu_smoke.in_a_child(time.sleep, 600, seconds=1) == ("hangs", "no result in 1 s")
    assert gpu_smoke.in_a_child(os._exit, 3, seconds=100) == ("crashed", "exit status 3")
    state, words = gpu_smoke.in_a_child(int, "x", seconds=100)
    assert (state, words[:10]) == ("failed", "ValueError")


def test_a_case_that_hangs_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_a_child(job: Any, *arguments: Any, seconds: float) -> tuple[str, str]:
        hangs = str(arguments[0]) == "lstm, cluster, float16, forward"
        return ("hangs", f"no result in {seconds:.0f} s") if hangs else ("ok", "")

    monkeypatch.setattr(gpu_smoke, "in_a_child", in_a_child)
    path = tmp_path / "smoke.json"
    assert gpu_smoke.main(["--cases", "lstm, cluster, ", "--seconds", "7", "--out", str(path)]) == 1
    states = read(path)
    assert len(states) == 1 + 3 * 2
    assert {name for name, state in states.items() if state != "ok"} == {
        "lstm, cluster, float16, forward"
    }
    printed = capsys.readouterr().out
    assert re.search(r"lstm, cluster, float16, forward +hangs .* no result in 7 s", printed)
    assert printed.endswith("6 of 7 ok\n  not ok: lstm, cluster, float16, forward\n")


def test_no_time_is_said(tmp_path: Path) -> None:
    path = tmp_path / "smoke.json"
    assert gpu_smoke.main(["--cases", "rnn", "--total", "-1", "--out", str(path)]) == 1
    assert set(read(path).values()) == {"left out"}


def test_wrong_use() -> None:
    with pytest.raises(SystemExit, match="no case matches 'nothing'"):
        gpu_smoke.main(["--cases", "nothing"])


def test_every_cell_way_type_and_mode_once() -> None:
    names = [str(smoke) for smoke in gpu_smoke.smokes()]
    assert len(set(names)) == len(names) == 3 * 2 * (4 * 5 + 2)

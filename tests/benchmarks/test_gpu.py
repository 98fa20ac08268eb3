"""The GPU benchmark at toy size on the CPU, and its CUDA calls against a stand-in for torch's."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import seqfast.nn  # noqa: E402
from benchmarks import gpu, gpu_grid, harness, report  # noqa: E402
from seqfast.ops.rnn.arguments import GpuCall, RnnSizes  # noqa: E402
from seqfast.ops.rnn.options import RnnOptions  # noqa: E402

SOME = r"^(1024x16x768x768, float16|256x128x512.*lengths, float32, |512x1x256x256.*graph)"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SHORTEST", 0.001)
    monkeypatch.setattr(gpu, "LONGEST", 0.001)


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = gpu.main(["--device", "cpu", "--out", str(folder), *arguments])
    (path,) = folder.glob("*.json")
    return status, json.loads(path.read_text(encoding="utf-8"))


def test_from_the_grid_to_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, result = run(tmp_path / "machine", "--cases", SOME, "--seconds", "100")
    assert status == 0, result["failures"]
    assert result["finished"]
    assert not result["failures"]
    assert not result["left_out"]
    assert result["suite"] == "rnn_cuda"
    assert {"matmul_gflops", "copy_gbs", "commit", "date", "versions"} <= set(result)
    rows = result["rows"]
    # One layer and lengths (one layer, two in both directions), forward and training; two graphs.
    assert len(rows) == 2 + 4 + 2
    assert {row["group"] for row in rows} == {"cuDNN's best", "ragged", "captured"}
    for row in rows:
        assert row["ours_us_per_step"] == pytest.approx(1e3 * row["ours_ms"] / 3)
        assert row["pairs"] >= gpu.FEWEST_PAIRS
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["roofline"] > 0
        low, expected, high = row["predicted_us_per_step"]
        assert low <= expected <= high
        errors = row["ours_errors"]
        assert {"largest", "output"} <= set(errors)
        assert ("grad weight_hh_l0" in errors) == (row["mode"] == "training")
        assert all(error < 0.01 for error in errors.values())
    printed = capsys.readouterr().out
    assert "measured/predicted, cpu, mostly launch" in printed
    assert "8 rows, 0 left out for time, 0 failed" in printed


def test_every_cell_and_variant_runs(tmp_path: Path) -> None:
    status, result = run(
        tmp_path,
        "--cases",
        "^[a-z ]+ (512x64x256x256|1024x16x768x768), float32",
        "--seconds",
        "200",
    )
    assert status == 0, result["failures"]
    kinds = {row["case"].rsplit(" ", 1)[0] for row in result["rows"]}
    assert kinds == {"gru", "rnn", *gpu_grid.VARIANTS}
    gru = next(row for row in result["rows"] if row["case"].startswith("gru 3x"))
    # Three gates of eight units, eight inputs, eight states; three steps of four rows.
    assert gru["gflop"] == pytest.approx(2e-9 * 3 * 8 * 16 * 12)


def test_a_self_test_is_never_rendered(tmp_path: Path) -> None:
    run(tmp_path / "machine", "--cases", "^1024x16x768x768, float16, forward", "--seconds", "100")
    assert harness.read_newest(tmp_path) == []
    with pytest.raises(SystemExit, match="no results under"):
        report.main(["--results", str(tmp_path), "--root", str(tmp_path)])


def test_no_time_left(tmp_path: Path) -> None:
    status, result = run(tmp_path, "--cases", "^1024x16x768x768, float16", "--seconds", "0")
    assert status == 1
    assert result["finished"]
    assert result["rows"] == []
    assert result["left_out"] == [f"3x4x8x8, float16, {mode}" for mode in gpu.MODES]


def off(output: Any, states: Any) -> tuple[Any, Any]:
    return output + 0.1, states


def not_a_number(output: Any, states: Any) -> tuple[Any, Any]:
    poison = torch.zeros_like(output)
    poison[-1, -1, -1] = torch.nan
    return output + poison, states


def wrong_gradient(output: Any, states: Any) -> tuple[Any, Any]:
    if output.requires_grad:
        output.register_hook(lambda gradient: 1.2 * gradient)
    return output, states


@pytest.mark.parametrize("cases", ["^1024x16x768x768, float32", "lengths, float32"])
@pytest.mark.parametrize(
    ("change", "mode", "why"),
    [
        (off, "forward", "output is off by"),
        (off, "training", "output is off by"),
        (not_a_number, "forward", "output is off by nan"),
        (wrong_gradient, "training", "grad input is off by 0.2"),
    ],
)
def test_a_wrong_result_has_no_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any, Any], tuple[Any, Any]],
    mode: str,
    why: str,
    cases: str,
) -> None:
    right = seqfast.nn.LSTM.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return change(*right(self, *args, **kwargs))

    monkeypatch.setattr(seqfast.nn.LSTM, "forward", forward)
    status, result = run(tmp_path, "--cases", f"({cases}), {mode}$", "--seconds", "100")
    assert status == 1
    assert result["rows"] == []
    assert result["failures"]
    assert all(why in text for text in result["failures"].values())


def test_a_wrong_replay_has_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = gpu.Cpu.capture

    def stale(self: gpu.Cpu, call: Any, input: Any) -> Callable[[int], Any]:
        return lambda index: capture(self, call, input)(index) + 0.1

    monkeypatch.setattr(gpu.Cpu, "capture", stale)
    status, result = run(tmp_path, "--cases", "^512x1x256.*float32.*graph", "--seconds", "100")
    assert status == 1
    assert ["the replayed output is off" in why for why in result["failures"].values()] == [True]


@pytest.mark.parametrize("usable", [True, False])
def test_one_failure_costs_one_row_unless_the_device_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    chosen = gpu_grid.jobs(lambda name: "1024x16x768x768, float" in name, smallest=True)
    measure = gpu.measure

    def fails_first(job: gpu_grid.Job, *rest: Any) -> dict[str, Any]:
        (path,) = tmp_path.glob("*.json")
        result = json.loads(path.read_text(encoding="utf-8"))
        done = len(result["rows"]) + len(result["failures"])
        assert not result["finished"]
        assert done == chosen.index(job)
        if done == 0:
            raise RuntimeError("an illegal memory access was encountered")
        return measure(job, *rest)

    monkeypatch.setattr(gpu, "measure", fails_first)
    monkeypatch.setattr(gpu.Cpu, "still_works", lambda self: usable)
    assert gpu.run(chosen, gpu.Cpu(), 100, tmp_path) == 1
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert list(result["failures"]) == [str(chosen[0])]
    assert "illegal memory access" in result["failures"][str(chosen[0])]
    assert result["finished"] is usable
    rest = len(chosen) - 1
    assert (len(result["rows"]), len(result["left_out"])) == ((rest, 0) if usable else (0, rest))


def test_the_most_important_comes_first() -> None:
    found = gpu_grid.jobs()
    cells, variants = 2 * 4 * 11 * 2, len(gpu_grid.VARIANTS) * 2 * 3 * 2
    lstm = 11 * 4 * 2 * 2 + 2 * 3 * 4 * 2 * 2 + 6
    assert len(set(found)) == len(found) == lstm + cells + variants
    assert [str(job) for job in found[:4]] == [
        f"1024x16x768x768, {dtype}, {mode}"
        for dtype in ("float16", "bfloat16")
        for mode in ("forward", "training")
    ]
    early = found[:90]
    assert {job.case.dtype_name for job in early} == set(gpu_grid.PRECISIONS)
    assert {job.case.bidirectional for job in early} == {False, True}
    assert {job.case.ragged for job in early} == {"", "lengths", "packed before"}
    assert {job.case.cell for job in early} == set(gpu_grid.GATES)
    assert {job.case.variant for job in early} > {"", "lstm zoneout"}
    assert found[-1].case.steps == 65543


def test_dry_run_lists_floors_and_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--dry-run", "--cases", "^1024x16x768x768, bfloat16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" floor ")[0].strip() for line in lines] == [
        "1024x16x768x768, bfloat16, forward",
        "1024x16x768x768, bfloat16, training",
    ]
    assert all("predicted" in line and "us/step" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "no such case"], "no case matches 'no such case'"),
        (["--cases", "^1024"], "--out DIR"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        gpu.main(arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_no_gpu_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="torch sees no GPU"):
        gpu.main(["--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.cuda
@pytest.mark.skipif(
    not torch.cuda.is_available() or seqfast.build_info()["cuda"] != "on",
    reason="needs a GPU, a torch that sees it and a build with CUDA",
)
def test_on_a_gpu(tmp_path: Path) -> None:
    """The same at toy size, with the clock, the graphs and the memory of a real device."""
    chosen = gpu_grid.jobs(re.compile(SOME).search, smallest=True)
    status = gpu.run(chosen, gpu.Cuda(), 100, tmp_path)
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert status == 0, result["failures"]
    assert {"architecture", "cudnn", "l2_mib", "smi"} <= set(result)
    for row in result["rows"]:
        assert set(row["strategies"]) <= set(gpu.STRATEGIES.values())
        assert (row["ours_peak_mib"] is None) == row["case"].endswith(", graph")


class FakeGpu:
    """Records what is asked of torch.cuda; every event is 2 ms after the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.memory = [100 << 20, 350 << 20]
        fake = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                fake.log.append("record")

            def synchronize(self) -> None:
                fake.log.append("wait")

            def elapsed_time(self, end: Event) -> float:
                return 2.0

        class Stream:
            def wait_stream(self, other: Stream) -> None:
                fake.log.append("wait stream")

        class Graph:
            def replay(self) -> None:
                fake.log.append("replay")

        @contextlib.contextmanager
        def within(thing: Stream | Graph) -> Iterator[None]:
            fake.log.append(f"in {type(thing).__name__}")
            yield
            fake.log.append(f"out of {type(thing).__name__}")

        class Properties:
            L2_cache_size = 60 << 20

        for name, value in {
            "Event": Event,
            "Stream": Stream,
            "CUDAGraph": Graph,
            "stream": within,
            "graph": within,
            "current_stream": Stream,
            "current_device": lambda: 0,
            "synchronize": lambda: fake.log.append("synchronize"),
            "reset_peak_memory_stats": lambda: fake.log.append("reset"),
            "memory_allocated": lambda: fake.memory[0],
            "max_memory_allocated": lambda: fake.memory[1],
            "mem_get_info": lambda: (100 << 30, 140 << 30),
            "get_device_properties": lambda index: Properties,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(monkeypatch)


def test_events_enclose_the_work_alone(fake: FakeGpu) -> None:
    assert harness.EventTimer()(lambda: fake.log.append("work")) == 0.002
    assert fake.log == ["synchronize", "record", "work", "record", "wait"]


def test_memory_is_what_the_call_adds(fake: FakeGpu) -> None:
    assert gpu.Cuda().peak_mib(lambda: fake.log.append("work")) == 250
    assert fake.log == ["synchronize", "reset", "work", "synchronize"]


@pytest.mark.parametrize(
    ("size", "sets"), [(60 << 20, 3), (200 << 20, 3), (20 << 20, 9), (1 << 10, gpu.MOST_INPUTS)]
)
def test_inputs_outgrow_the_cache(fake: FakeGpu, size: int, sets: int) -> None:
    assert gpu.Cuda().input_sets(size) == sets


def test_a_graph_is_captured_warm_and_replayed(fake: FakeGpu) -> None:
    def call(input: Any) -> Any:
        fake.log.append("call")
        return input + 1

    replay = gpu.Cuda().capture(call, torch.ones(2))
    assert fake.log == [
        *("wait stream", "in Stream", "call", "call", "call", "out of Stream", "wait stream"),
        *("in Graph", "call", "out of Graph"),
    ]
    fake.log.clear()
    assert replay(7).tolist() == [2, 2]
    assert fake.log == ["replay"]


def test_tf32_is_put_back() -> None:
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for allowed in (True, False):
        with gpu.tf32(allowed):
            assert [backend.allow_tf32 for backend in backends] == [allowed, allowed]
    assert [backend.allow_tf32 for backend in backends] == before


def test_way_asks_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def strategy(call: GpuCall, sizes: RnnSizes, options: RnnOptions, backward: bool) -> int:
        asked.append((call, sizes, backward))
        assert isinstance(options, RnnOptions)
        return 1 if backward else 3

    monkeypatch.setattr(seqfast._C, "cuda_rnn_strategy", strategy, raising=False)
    case = gpu_grid.build_case((256, 64, 1024), "tf32", bidirectional=True)
    assert gpu.strategies(case, "training", 1) == ["grid", "stepwise"]
    assert asked == [
        (GpuCall(1, 0, True, 0, False, False), RnnSizes(0, 256, 64, 0, 1024, 0, 2, 0), backward)
        for backward in (False, True)
    ]

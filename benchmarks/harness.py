"""Shared by all benchmarks: interleaved timing, ratio statistics, machine facts, result files."""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHORTEST_SAMPLE = 1e-3  # seconds; a shorter call is repeated inside one sample
FEWEST_PAIRS, MOST_PAIRS = 7, 200


class WallTimer:
    """Seconds by the processor's clock, for work that is done when its call returns."""

    def __call__(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start


class EventTimer:
    """Seconds between two events on torch's current CUDA stream, around the work queued there."""

    def __call__(self, work: Callable[[], object]) -> float:
        import torch

        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1e3


class Duel:
    """Two callables that take turns: peer, ours, peer, ours; one sample of each makes a pair.

    Both get the same running index of the call, so that they work on the same ones of several
    inputs. `timer` tells how many seconds a piece of work takes.
    """

    def __init__(
        self,
        ours: Callable[[int], object],
        peer: Callable[[int], object],
        timer: Callable[[Callable[[], object]], float] | None = None,
    ) -> None:
        self._ours, self._peer = ours, peer
        self._timer = timer or WallTimer()
        self.calls = 1  # in one sample
        self.ours: list[float] = []  # seconds per call
        self.peer: list[float] = []

    def warm_up(self, seconds: float, fewest: int = FEWEST_PAIRS) -> int:
        """Calls both untimed and returns how many pairs fit into `seconds` (0: a single pair)."""
        for _ in range(3 if seconds > 0 else 1):
            pair = self._sample(self._peer, 0, 1), self._sample(self._ours, 0, 1)
            if sum(pair) > seconds:
                break
        if seconds <= 0:
            return 1
        self.calls = max(1, round(SHORTEST_SAMPLE / min(pair)))
        fitting = int(seconds / (sum(pair) * self.calls))
        return min(max(fitting, fewest), MOST_PAIRS)

    def sample_peer(self) -> None:
        self.peer.append(self._sample(self._peer, len(self.peer), self.calls))

    def sample_ours(self) -> None:
        self.ours.append(self._sample(self._ours, len(self.ours), self.calls))

    def run(self, seconds: float, fewest: int = FEWEST_PAIRS) -> None:
        for _ in range(self.warm_up(seconds, fewest)):
            self.sample_peer()
            self.sample_ours()

    def _sample(self, function: Callable[[int], object], pair: int, calls: int) -> float:
        def work() -> None:
            for index in range(pair * calls, (pair + 1) * calls):
                function(index)

        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._timer(work) / calls
        finally:
            if collecting:
                gc.enable()

    def statistics(self) -> dict[str, Any]:
        return pair_statistics(self.ours, self.peer)


def pair_statistics(ours: list[float], peer: list[float]) -> dict[str, Any]:
    """Of seconds taken in turns: medians in milliseconds; median and quartiles of peer / ours."""
    ratios = [theirs / mine for theirs, mine in zip(peer, ours, strict=True)]
    low, ratio, high = quartiles(ratios)
    return {
        "ours_ms": 1e3 * statistics.median(ours),
        "peer_ms": 1e3 * statistics.median(peer),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "pairs": len(ratios),
    }


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def floor_ms(gflop: float, gbyte: float, roof_gflops: float, copy_gbs: float) -> float:
    """No call is faster: the operations at the roof, or the bytes at the speed of a copy."""
    return 1e3 * max(gflop / roof_gflops, gbyte / copy_gbs)


def measure_fma_peak(threads: int, seconds: float) -> float:
    """float32 GFLOP/s of nothing but multiply-adds at the active instruction set."""
    import seqfast

    native: Any = seqfast._C
    return float(native.measure_fma_peak(seconds, threads))


def measure_copy(megabytes: int = 256) -> float:
    """GB/s, read plus written, of a copy at torch's thread count: the best of three."""
    import torch

    source = torch.zeros(megabytes << 18)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(4):  # the first one maps the pages
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    return 2 * source.nbytes / min(seconds[1:]) / 1e9


def cpu_facts() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines}


def cpu_name(facts: dict[str, str]) -> str:
    """The model name, with AMD's core generation, which cloud machines leave out of theirs."""
    name = facts.get("model name") or platform.processor() or platform.machine()
    name = re.sub(r"\((R|TM|r|tm)\)|\bCPU\b|@.*| with .*| \d+-Core Processor", "", name)
    if facts.get("vendor_id") == "AuthenticAMD":
        family, model = int(facts["cpu family"]), int(facts["model"])
        zen4 = model in range(0x10, 0x20) or model in range(0x60, 0x80) or model >= 0xA0
        zen = {23: "Zen 1/2", 25: "Zen 4" if zen4 else "Zen 3", 26: "Zen 5"}.get(family)
        name += f" {zen}" if zen else ""
    return " ".join(name.split())


def machine_slug(*names: str) -> str:
    """A folder name: `AMD EPYC Zen 5`, `2c` -> `amd-epyc-zen5-2c`."""
    joined = re.sub(r"zen (\d)", r"zen\1", " ".join(names).lower())
    return re.sub(r"[^a-z0-9]+", "-", joined).strip("-")


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """Of the checkout; of a copy without history what SEQFAST_COMMIT says."""
    if told := os.environ.get("SEQFAST_COMMIT"):
        return told
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--match="]
    try:
        return subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def environment(
    threads: int, device: str = "cpu", packages: tuple[str, ...] = ("torch", "numpy")
) -> dict[str, Any]:
    """What a figure depends on, recorded beside it. `packages`: whose versions matter."""
    import seqfast

    facts, build, cores = cpu_facts(), seqfast.build_info(), usable_cores()
    name = cpu_name(facts)
    slug = machine_slug(name, f"{cores}c")
    if device == "cuda":
        import torch

        slug = machine_slug(torch.cuda.get_device_name())
    return {
        "machine": slug,
        "device": name if device == "cpu" else torch.cuda.get_device_name(),
        "cpu": name,
        "cores": cores,
        "cpu_flags": [f for f in facts.get("flags", "").split() if f.startswith(("avx", "fma"))],
        "cpu_isa": build["cpu_isa"],
        "compiler": build["compiler"],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {
            "seqfast": build["version"],
            **{package: metadata.version(package) for package in packages},
        },
        "threads": threads,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def write_results(
    suite: str, rows: list[dict[str, Any]], environment: dict[str, Any], folder: Path = RESULTS
) -> Path:
    """Writes `folder`/<machine>/<suite>-<date>.json and returns its path.

    Every row has `group`, `case`, `mode`, `dtype`, `ratio` (peer / ours: above 1 ours is better)
    and either Duel.statistics() with `gflop` and `gbyte` of the work, or `ours_mib`, `peer_mib`.
    """
    path: Path = folder / environment["machine"] / result_name(suite, environment)
    write_json(path, {"suite": suite, **environment, "rows": rows})
    return path


def result_name(suite: str, environment: dict[str, Any]) -> str:
    stamp = re.sub(r"[^0-9T]", "", environment["date"].split("+")[0])
    return f"{suite}-{stamp}.json"


def write_json(path: Path, result: dict[str, Any]) -> None:
    """All or nothing: whoever reads the file never finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_newest(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The newest result of every machine and suite, sorted by suite, then machine.

    Left out: files that hold no rows, and self-tests, whose figures mean nothing.
    """
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for path in folder.glob("*/*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "rows" not in result or result.get("self_test"):
            continue
        key = result["suite"], result["machine"]
        if key not in newest or result["date"] > newest[key]["date"]:
            newest[key] = result
    return [newest[key] for key in sorted(newest)]

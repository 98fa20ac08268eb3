"""Options of the benchmarks, the fixture that measures a row, and the writing of the results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import harness

# Suites whose peer is not torch, and the packages whose versions matter there.
PACKAGES = {
    "beam_generate": ("transformers", "numpy", "torch"),
    "ctc": ("flashlight-text", "numpy", "torch"),
    "ctc_align": ("torchaudio", "torch"),
    "glove": ("numpy",),
    "word2vec": ("gensim", "numpy", "scipy", "torch"),
}
ROWS: pytest.StashKey[dict[str, list[dict[str, Any]]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("seqfast")
    group.addoption("--bench-threads", type=int, default=2, help="threads of both sides (2)")
    group.addoption("--bench-seconds", type=float, default=2.5, help="time for each row (2.5)")
    group.addoption("--bench-results", type=Path, help="folder of the results; a partial run too")
    group.addoption(
        "--bench-smoke", action="store_true", help="tiny sizes, one pair: does it still run?"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}


@pytest.fixture(scope="session")
def smoke(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--bench-smoke"))


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--bench-threads"))
    yield torch.get_num_threads()
    torch.set_num_threads(before)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], None]:
    """Adds a row to the results; the suite is the module's name: test_rnn -> rnn."""
    suite = request.path.stem.removeprefix("test_")
    return request.config.stash[ROWS].setdefault(suite, []).append


@pytest.fixture
def compare(
    request: pytest.FixtureRequest,
    benchmark: Any,
    threads: int,
    smoke: bool,
    record: Callable[[dict[str, Any]], None],
) -> Callable[..., None]:
    """compare(row, ours, peer): measures in turns and adds the row."""
    seconds = 0.0 if smoke else request.config.getoption("--bench-seconds")

    def compare(
        row: dict[str, Any], ours: Callable[[int], object], peer: Callable[[int], object]
    ) -> None:
        benchmark.group = row["group"]
        peak = harness.measure_fma_peak(threads, 0.001 if smoke else 0.1)
        duel = harness.Duel(ours, peer)
        rounds = duel.warm_up(seconds)
        # pytest-benchmark leaves the setup out of its own times: there the peer has its turn.
        benchmark.pedantic(duel.sample_ours, setup=duel.sample_peer, rounds=rounds)
        row |= duel.statistics() | {"fma_gflops": peak}
        benchmark.extra_info.update(row)
        record(row)

    return compare


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    suites = {suite: rows for suite, rows in config.stash[ROWS].items() if rows}
    folder = config.getoption("--bench-results")
    for rows in suites.values():
        for row in rows:
            name = f"{row['group']} {row['case']} {row['mode']} {row['dtype']}"
            name += f" {row['threads']}t" if "threads" in row else ""
            unit = next(u for u in ("ms", "mib", "perplexity") if f"ours_{u}" in row)
            terminalreporter.write_line(
                f"{name:62} {row[f'ours_{unit}']:9.3f} {row[f'peer_{unit}']:9.3f} {unit:3} "
                f"ratio {row['ratio']:5.2f}"
                + ("" if round(row["ratio"], 2) >= 1 else "  slower" if unit == "ms" else "  more")
            )
    if not suites:
        return
    partial = exitstatus != 0 or terminalreporter.stats.get("deselected") or config.option.keyword
    if folder is None and (partial or config.getoption("--bench-smoke")):
        terminalreporter.write_line("partial run: results not written (--bench-results DIR does)")
        return
    copy_gbs = harness.measure_copy(1 if config.getoption("--bench-smoke") else 256)
    for suite, rows in suites.items():
        packages = PACKAGES.get(suite, ("torch", "numpy"))
        environment = harness.environment(config.getoption("--bench-threads"), packages=packages)
        environment["copy_gbs"] = copy_gbs
        peaks = [row["fma_gflops"] for row in rows if row.get("fma_gflops")]
        environment["fma_gflops"] = statistics.median(peaks) if peaks else None
        path = harness.write_results(suite, rows, environment, folder or harness.RESULTS)
        terminalreporter.write_line(f"results: {path}")

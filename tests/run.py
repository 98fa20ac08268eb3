"""Runs the tests in two stages: most on all cores at once, then those marked `alone` one by one.

python tests/run.py [what pytest takes]    both stages; -n sets how many processes share the first
python tests/run.py --summary FILE         what such a run has left in --junitxml FILE
python tests/run.py --forecast             how long a build of everything takes, and the tests
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

# Of the whole suite on one core, so that a run can say beforehand how long it will take.
PARALLEL_MINUTES, ALONE_MINUTES = 16.5, 1.2
# Of a build of everything without a compiler cache, on one core; nvcc where there is one.
BUILD_MINUTES, NVCC_MINUTES = 8.0, 10.0
PASSED, FAILED, NO_TESTS = 0, 1, 5  # exit statuses of pytest


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the stages differ in or share, and the words that go to both as they are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--numprocesses", default=str(usable_cores()))
    parser.add_argument("-m", dest="marks", default="")
    parser.add_argument("--junitxml", "--junit-xml", type=Path)
    parser.add_argument("--summary", type=Path)
    parser.add_argument("--forecast", action="store_true")
    return parser.parse_known_args(arguments)


def stage(words: list[str], report: Path, threads: str | None) -> int:
    """Exit status of a pytest of its own; `threads`: what OpenMP may use, None for its default."""
    environment = dict(os.environ)
    # Else each process, and each that a test starts, compiles every test and module anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if threads is not None:
        # Its processes share the cores: a thread that waits for another must not keep one busy.
        environment |= {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "pytest", "-rfEs", f"--junitxml={report}", *words]
    # Ctrl-C reaches pytest too; its report is worth waiting for.
    with subprocess.Popen(command, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def with_mark(marks: str, mark: str) -> list[str]:
    return ["-m", f"({marks}) and {mark}" if marks else mark]


def stops_at_a_failure(words: list[str]) -> bool:
    return any(word in ("-x", "--exitfirst") or word.startswith("--maxfail") for word in words)


def run(options: argparse.Namespace, words: list[str], folder: Path) -> tuple[int, list[Path]]:
    """The worse exit status of the stages, and their reports."""
    stages = (
        (["-n", options.numprocesses, "--dist", "worksteal"], "not alone", "1"),
        (["-n", "0"], "alone", None),
    )
    worst, reports = NO_TESTS, []
    for processes, mark, threads in stages:
        reports.append(folder / f"{len(reports)}.xml")
        words_of_stage = [*processes, *words, *with_mark(options.marks, mark)]
        status = stage(words_of_stage, reports[-1], threads)
        if status != NO_TESTS:
            worst = status if worst == NO_TESTS else max(worst, status)
        failed = status == FAILED and stops_at_a_failure(words)
        if failed or status not in (PASSED, FAILED, NO_TESTS):
            break
    return worst, reports


def merge(reports: list[Path], target: Path) -> None:
    """One JUnit file of several."""
    together = ET.Element("testsuites")
    for report in reports:
        if report.exists():
            together.extend(ET.parse(report).getroot())
    target.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(together).write(target, encoding="utf-8", xml_declaration=True)


def outcomes(report: Path) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """How many tests passed, failed and were skipped; how many for each reason."""
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    for case in ET.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is not None:
            counts["skipped"] += 1
            reasons[skipped.get("message") or "no reason given"] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        else:
            counts["passed"] += 1
    return counts, reasons


def plain_line(counts: collections.Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped"))


def summary(report: Path) -> int:
    """Says what was skipped and why; 1 if a test failed or none passed."""
    if not report.exists():
        print("no test ran")
        return 1
    counts, reasons = outcomes(report)
    print("\nSkipped, and why:" if reasons else "\nNothing was skipped.")
    for reason, count in reasons.most_common():
        print(f"  {count:5} x {reason}")
    print(plain_line(counts))
    return int(not counts["passed"] or bool(counts["failed"]))


def say_how_long(with_build: bool) -> None:
    cores = usable_cores()
    minutes = PARALLEL_MINUTES / cores + ALONE_MINUTES
    if with_build:
        nvcc = shutil.which(os.environ.get("CUDACXX") or "nvcc") or list(
            Path("/usr/local").glob("cuda*/bin/nvcc")
        )
        build = (BUILD_MINUTES + (NVCC_MINUTES if nvcc else 0.0)) / cores
        print(f"The build takes about {build:.0f} minutes, less with a compiler cache.")
    print(f"All tests take about {minutes:.0f} minutes on {cores} cores with nothing else to do.")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    options, words = parse(arguments)
    if options.summary is not None:
        return summary(options.summary)
    say_how_long(options.forecast)
    if options.forecast:
        return PASSED
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        status, reports = run(options, words, Path(folder))
        together = options.junitxml or Path(folder) / "all.xml"
        merge(reports, together)
        counts, _ = outcomes(together)
    seconds = time.monotonic() - begin
    print(f"{plain_line(counts)} in {seconds // 60:.0f} min {seconds % 60:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The tests that need a GPU, where time on one is short: the most important first; what hangs or
breaks the device costs one worker; the report is there whatever happens. Also a pytest plugin.

python -m benchmarks.gpu_tests --out DIR [--seconds N] [--timeout 30] [--processes 4] [PATH ...]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness

ORDER = (
    "ops/test_cuda_rnn",
    "ops/test_cuda_word2vec",
    "ops/test_cuda_beam_search",
    "ops/test_top_k",
    "ops/test_ctc",
    "nn/test_gpu",
)
LINES, DEADLINE = "SEQFAST_TEST_LINES", "SEQFAST_TEST_DEADLINE"  # variables that the plugin reads
LOST_DEVICE = 86  # exit status of a worker

# ---- The plugin ---------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(ORDER) if name in item.nodeid), len(ORDER))

    items.sort(key=place)


def device_is_lost() -> bool:
    """After an error that stays, every later test of the process would be blamed for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        print(f"the device is of no use after this test: {error}", file=sys.stderr, flush=True)
        return True
    return False


# Innermost, so that the time limit counts here too.
@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    # A thread of C, for calls that block and hold the interpreter's lock.
    deadline = float(os.environ.get(DEADLINE, "0"))
    if deadline:
        faulthandler.dump_traceback_later(deadline, exit=True, file=sys.__stderr__)
    try:
        result = yield
        if device_is_lost():
            os._exit(LOST_DEVICE)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Line by line, in the process that gathers the reports."""
    path = os.environ.get(LINES)
    if not path or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if report.when == "call" or report.outcome != "passed":
        line = {
            "test": report.nodeid,
            "outcome": report.outcome,
            "seconds": report.duration,
            "text": str(report.longrepr)[-4000:] if report.longrepr else "",
        }
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


# ---- The run ------------------------------------------------------------------------------------


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Complete lines; the last one may be cut."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def write_xml(rows: list[dict[str, Any]], path: Path) -> None:
    """What pytest would have written, of the tests that ended."""
    suite = ET.Element("testsuite", name="pytest", tests=str(len(rows)))
    for row in rows:
        where, _, name = row["test"].partition("::")
        seconds = f"{row['seconds']:.3f}"
        case = ET.SubElement(suite, "testcase", classname=where, name=name, time=seconds)
        if row["outcome"] != "passed":
            kind = "skipped" if row["outcome"] == "skipped" else "failure"
            text = "".join(c for c in row["text"] if c.isprintable() or c in "\n\t")
            ET.SubElement(case, kind, message=text[-200:]).text = text
    root = ET.Element("testsuites")
    root.append(suite)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def has_xdist() -> bool:
    try:
        import xdist  # noqa: F401
    except ImportError:
        return False
    return True


def command(args: argparse.Namespace, report: Path) -> list[str]:
    words = [sys.executable, "-m", "pytest", "-p", "benchmarks.gpu_tests", "-m", "cuda"]
    # Warnings of versions that no one has seen yet are shown, and fail nothing.
    words += ["-W", "default", "-p", "no:cacheprovider", f"--junitxml={report}", "-rfE"]
    # A signal never comes while a call blocks; many failures say no more than some.
    words += [f"--timeout={args.timeout}", "--timeout-method=thread", f"--maxfail={args.maxfail}"]
    if has_xdist():
        # One after the other in their order, each to whoever is free.
        words += ["-n", str(args.processes), "--dist", "load", "--maxschedchunk", "1"]
    return [*words, *args.words, *map(str, args.paths)]


def run(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    report, lines = args.out.resolve() / "test.xml", args.out.resolve() / "test.jsonl"
    for path in (report, lines):
        path.unlink(missing_ok=True)
    # Four processes share the cores, where a test sets no number of its own.
    environment = {"OMP_NUM_THREADS": "4"} | dict(os.environ)
    environment |= {LINES: str(lines), DEADLINE: str(args.timeout + 5.0)}
    cut = False
    with subprocess.Popen(
        command(args, report), env=environment, cwd=harness.ROOT, start_new_session=True
    ) as process:
        try:
            status = process.wait(args.seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            cut = True
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(args.grace)
            # The workers too, which a hanging kernel may hold.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    rows = read_lines(lines)
    if not report.exists():
        write_xml(rows, report)
    outcomes = collections.Counter(row["outcome"] for row in rows)
    counts = ", ".join(f"{outcomes[name]} {name}" for name in ("passed", "failed", "skipped"))
    print("\n" * cut + counts + (", cut" if cut else ""))  # pytest was cut amid a line
    if cut:
        return 124
    return int(status != 0 or not outcomes["passed"] or bool(outcomes["failed"]))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(";")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of test.xml, test.jsonl")
    parser.add_argument("--seconds", type=float, default=1e6, help="for all tests together")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds of one test (30)")
    parser.add_argument("--grace", type=float, default=10.0, help="from interrupt to kill (10)")
    parser.add_argument("--processes", type=int, default=4, help="that share the GPU (4)")
    parser.add_argument("--maxfail", type=int, default=40, help="failures after which to stop (40)")
    parser.add_argument("paths", nargs="*", default=[harness.ROOT / "tests"])
    args, args.words = parser.parse_known_args(argv)
    return run(args)


if __name__ == "__main__":
    sys.exit(main())

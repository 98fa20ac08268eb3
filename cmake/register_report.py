"""Keeps what ptxas says of every kernel: registers, stack, spills, shared memory.

    register_report.py compile nvcc -c FILE.cu -o FILE.o ...   runs it, writes FILE.o.registers
    register_report.py merge REPORT FILE.o ...                 gathers the pieces into one table

The build puts the first before nvcc (with `-Xptxas -v` among its options) and runs the second when
the module is linked. Standard library only: this runs wherever seqfast is built.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

COLUMNS = ("registers", "stack", "spill_stores", "spill_loads", "shared")
ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
# Everything ptxas prints with -v that is neither a warning nor an error.
CHATTER = re.compile(r"^ptxas info\s*:|^\s+\d+ bytes stack frame")


def parse(text: str) -> list[dict[str, object]]:
    """One row per kernel and architecture; a ValueError where the text is not what it should be."""
    rows: list[dict[str, object]] = []
    row: dict[str, object] | None = None
    frame = None
    for line in text.splitlines():
        if match := ENTRY.search(line):
            if row is not None:
                raise ValueError(f"ptxas gave no registers for {row['kernel']}")
            row, frame = {"kernel": match[1], "architecture": match[2]}, None
        elif match := FRAME.search(line):
            # A function that is not inlined reports its frame too: the kernel's own comes first.
            frame = frame or [int(number) for number in match.groups()]
        elif (match := USED.search(line)) and row is not None:
            if frame is None:
                raise ValueError(f"ptxas gave no stack frame for {row['kernel']}")
            shared = SHARED.search(line)
            numbers = [int(match[1]), *frame, int(shared[1]) if shared else 0]
            rows.append({**row, **dict(zip(COLUMNS, numbers, strict=True))})
            row = None
    if row is not None:
        raise ValueError(f"ptxas gave no registers for {row['kernel']}")
    return rows


def piece_of(target: str) -> Path:
    return Path(target + ".registers")


def compile_and_keep(command: list[str]) -> int:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    rest = [line for line in done.stderr.splitlines() if not CHATTER.match(line)]
    if rest:
        print("\n".join(rest), file=sys.stderr)
    if done.returncode == 0 and "-c" in command and "-o" in command:
        source, target = command[command.index("-c") + 1], command[command.index("-o") + 1]
        rows = [{"file": Path(source).name, **row} for row in parse(done.stderr)]
        piece_of(target).write_text(json.dumps(rows), encoding="utf-8")
    return done.returncode


def demangle(names: list[str]) -> list[str]:
    """Readable names where binutils is there, the mangled ones elsewhere."""
    tool = shutil.which("c++filt")
    if tool is None or not names:
        return names
    done = subprocess.run([tool], input="\n".join(names), capture_output=True, text=True)
    readable = done.stdout.splitlines()
    return readable if done.returncode == 0 and len(readable) == len(names) else names


def merge(report: str, targets: list[str]) -> None:
    rows = [row for target in targets for row in json.loads(piece_of(target).read_text("utf-8"))]
    for row, name in zip(rows, demangle([row["kernel"] for row in rows]), strict=True):
        row["kernel"] = name
    rows.sort(key=lambda row: (row["file"], row["kernel"], row["architecture"]))
    header = ["file", "architecture", *COLUMNS, "kernel"]
    table = [header, *([str(row[name]) for name in header] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(header) - 1)]
    text = "".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:]), line[-1]])
        + "\n"
        for line in table
    )
    title = "# Of every kernel and architecture, by ptxas: registers of a thread; the rest in bytes"
    Path(report).write_text(f"{title}\n{text}", encoding="utf-8")


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "compile":
        sys.exit(compile_and_keep(words))
    merge(words[0], words[1:])

"""Prints the MiB that training a layer adds to a fresh process (Linux only).

python -m benchmarks.memory torch.nn.LSTM THREADS STEPS BATCH INPUT_SIZE HIDDEN_SIZE
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import ROOT


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in KiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RuntimeError(f"memory: no {field} in /proc/self/status")


def main(
    name: str, threads: int, steps: int, batch: int, input_size: int, hidden_size: int
) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module, _, attribute = name.rpartition(".")
    layer = getattr(importlib.import_module(module), attribute)(input_size, hidden_size)
    input = torch.randn(steps, batch, input_size, requires_grad=True)
    gradient = torch.randn(steps, batch, hidden_size)

    def train(steps: int) -> None:
        layer.zero_grad()
        input.grad = None
        layer(input[:steps])[0].backward(gradient[:steps])

    train(1)  # libraries, threads and code are in memory from here on
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM
    baseline = resident("VmRSS")
    train(steps)
    train(steps)
    print((resident("VmHWM") - baseline) / 1024)


def measure(name: str, *sizes: int) -> float:
    """What `main` prints, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", name, *map(str, sizes)]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(result.stdout)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

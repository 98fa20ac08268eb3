"""The first minute on a GPU: every cell, way and type of the recurrent kernels, each in a process
of its own, against the CPU's float64. What hangs is named and ended, and the rest goes on.

python -m benchmarks.gpu_smoke [--out FILE] [--cases REGEX] [--seconds 20] [--here] [--host]
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

import seqfast.nn
from benchmarks import gpu
from benchmarks.gpu_grid import GpuCase, build_case
from seqfast.ops.base.backend import forced_strategy, on_host_executor

# Plain cells first; a variant of "lstm" stands for the kernels with options.
CELLS = {"lstm": "", "gru": "", "rnn": "", "lstm peephole": "", "lstm layer norm": "stepwise"}
CELLS |= {"gru reset before": "stepwise"}
# Ways to walk, by a hidden size that goes so: one block, 8 and 12 of a cluster, 36 of a grid.
WAYS = {"block": 40, "cluster": 250, "cluster of 12": 380, "grid": 570, "stepwise": 200}
STEPS, BATCH = 20, 33  # not all rows are as long, and slabs are not full
DIES_IN = 15.0  # seconds after its end by force


class Smoke(NamedTuple):
    """One line of the output."""

    cell: str
    way: str
    dtype: str
    mode: str  # forward, or training: backward behind it

    def __str__(self) -> str:
        return ", ".join(self)

    @property
    def strategy(self) -> str:
        return "cluster" if self.way == "block" else self.way.split()[0]

    def case(self, tiny: bool) -> GpuCase:
        variant = self.cell if " " in self.cell else ""
        hidden = 72 if tiny and WAYS[self.way] > 72 else WAYS[self.way]
        shape = (3, 9, hidden) if tiny else (STEPS, BATCH, hidden)
        return build_case(shape, self.dtype, cell=self.cell.split()[0], variant=variant)


def smokes() -> Iterator[Smoke]:
    for dtype, way, cell, mode in itertools.product(
        ("float16", "float32", "bfloat16"), WAYS, CELLS, gpu.MODES
    ):
        if CELLS[cell] in ("", way):
            yield Smoke(cell, way, dtype, mode)


def check(smoke: Smoke, host: bool = False) -> str:
    """How it went; raises where it is wrong."""
    case = replace(smoke.case(host), input_size=16)
    device, training = "cpu" if host else "cuda", smoke.mode == "training"
    codes = {name: code for code, name in gpu.STRATEGIES.items()}
    call = gpu.native_call(case, smoke.mode, 0, host, codes[smoke.strategy])
    blocks, groups = seqfast._C.cuda_rnn_groups(*call, training)
    torch.manual_seed(0)
    exact = gpu.build_layer(seqfast.nn, case, "cpu", case.variant).double()
    layer = copy.deepcopy(exact).to(device)
    lengths = torch.randint(1, case.steps + 1, (case.batch,))
    x = torch.randn(case.steps, case.batch, case.input_size, dtype=case.dtype).double()

    def results(layer: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
        leaf = x.detach().requires_grad_(training)
        with torch.set_grad_enabled(training):
            output = layer(leaf, lengths=lengths.to(x.device))[0]
        if not training:
            return {"output": output}
        output.float().sin().sum().backward()
        grads = {name: value.grad for name, value in layer.named_parameters()}
        return {"output": output.detach(), "grad input": leaf.grad, **grads}

    wanted = results(exact, x)
    with on_host_executor() if host else nullcontext(), forced_strategy(smoke.strategy):
        found = results(layer.to(case.dtype), x.to(device, case.dtype))
        errors = {name: gpu.relative_error(found[name].cpu(), wanted[name]) for name in wanted}
    worst = max(errors, key=lambda name: errors[name])
    limit = 4 * gpu.TOLERANCE[smoke.dtype]
    # Written so that NaN is an error too.
    if not all(error <= limit for error in errors.values()):
        raise ValueError(f"{worst} is off by {errors[worst]:.2g} of its norm, at most {limit:.2g}")
    return f"{groups} x {blocks} blocks, {worst} off by {errors[worst]:.1g}"


def resident_clusters(host: bool = False) -> str:
    """How many clusters of each size the device holds at once, as the policy is told."""
    found = {}
    for blocks in range(3, 17):  # a layer of 64 units is one block, of 65 three
        case = build_case((2, 100_000, 32 * blocks), "float16")
        call = gpu.native_call(case, "forward", 0, host, 2)
        _, found[blocks] = seqfast._C.cuda_rnn_groups(*call, False)
    return ", ".join(f"{count} of {blocks}" for blocks, count in found.items())


Work = Callable[..., str]


def work(send: Any, job: Work, arguments: tuple[Any, ...]) -> None:
    """What a child does: a pair of state and words to its parent."""
    try:
        send.send(("ok", job(*arguments)))
    except BaseException as error:
        send.send(("failed", f"{type(error).__name__}: {error}"))


def in_a_child(job: Work, *arguments: Any, seconds: float) -> tuple[str, str]:
    """State and words of a job that may hang, crash, or leave the device in an error."""
    # A server that has torch in its memory and no GPU yet makes each child in a moment.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.gpu_smoke"])
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(send, job, arguments), daemon=True)
    child.start()
    send.close()
    state, words = "crashed", ""
    try:
        if receive.poll(seconds):
            state, words = receive.recv()
        else:
            state, words = "hangs", f"no result in {seconds:.0f} s"
    except EOFError:
        child.join(DIES_IN)
        words = f"exit status {child.exitcode}"
    if state == "hangs":
        child.kill()
    child.join(DIES_IN)
    if child.is_alive():
        child.kill()
        words += ", and does not die"
    return state, words


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(".")[0])
    parser.add_argument("--out", type=Path, help="JSON of the results, written after each case")
    parser.add_argument("--cases", default="", help="only those whose name this regex finds")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one case (20)")
    parser.add_argument("--total", type=float, default=1e9, help="seconds after which it stops")
    parser.add_argument("--here", action="store_true", help="in this process, for a sanitizer")
    parser.add_argument("--host", action="store_true", help="toy sizes on the host executor")
    args = parser.parse_args(argv)
    chosen = [smoke for smoke in smokes() if re.search(args.cases, str(smoke))]
    if not chosen:
        sys.exit(f"benchmarks.gpu_smoke: no case matches {args.cases!r}")
    end, rows = time.monotonic() + args.total, []
    for name, job, arguments in (
        ("resident clusters", resident_clusters, (args.host,)),
        *((str(smoke), check, (smoke, args.host)) for smoke in chosen),
    ):
        start = time.monotonic()
        if start > end:
            state, words = "left out", "no time"
        elif args.here:
            try:
                state, words = "ok", job(*arguments)
            except Exception as error:
                state, words = "failed", f"{type(error).__name__}: {error}"
        else:
            state, words = in_a_child(job, *arguments, seconds=args.seconds)
        took = time.monotonic() - start
        rows.append({"case": name, "state": state, "words": words, "seconds": round(took, 2)})
        print(f"{name:44} {state:8} {took:5.1f} s  {words}", flush=True)
        if args.out:
            args.out.write_text(json.dumps({"smoke": rows}, indent=1) + "\n", encoding="utf-8")
    bad = [row["case"] for row in rows if row["state"] != "ok"]
    print(f"{len(rows) - len(bad)} of {len(rows)} ok" + "".join(f"\n  not ok: {x}" for x in bad))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

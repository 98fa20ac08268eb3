"""Measures seqfast's recurrent layers against cuDNN's on a GPU, the most important cases first.

python -m benchmarks.gpu --out DIR [--seconds N] [--cases REGEX] [--dry-run] [--device cpu]

`--device cpu` is a self-test of this program: toy sizes on the CPU, figures that mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import seqfast.nn
from benchmarks import harness
from benchmarks.cases import (
    Call,
    forward,
    packed_call,
    packed_leaves,
    padded_call,
    ragged_lengths,
    repacked_call,
    training,
)
from benchmarks.cuda_model import predict
from benchmarks.gpu_grid import MODES, PRECISIONS, VARIANTS, GpuCase, Job, jobs
from seqfast.ops.rnn.arguments import GpuCall, RnnSizes
from seqfast.ops.rnn.cells import cell_of
from seqfast.ops.rnn.options import Options

SUITE = "rnn_cuda"
# Of the norm of what was computed wrong to that of the float64 result.
TOLERANCE = {"float16": 5e-3, "bfloat16": 3e-2, "float32": 2e-5, "tf32": 1e-2}
CODES = {torch.float32: 0, torch.bfloat16: 2, torch.float16: 3}  # DType of csrc/core/rnn.h
STRATEGIES = {1: "stepwise", 2: "cluster", 3: "grid"}  # RnnStrategy of csrc/core/rnn.h
SHORTEST, LONGEST = 0.1, 1.5  # seconds for the pairs of a row
FEWEST_PAIRS = 3
FEWEST_INPUTS, MOST_INPUTS = 3, 256


class Cpu:
    """What the self-test runs on."""

    name = "cpu"
    timer = harness.WallTimer()
    matmul_size, copy_bytes = 64, 1 << 20

    def input_sets(self, size: int) -> int:
        return FEWEST_INPUTS

    def poison(self) -> None:
        pass

    def peak_mib(self, work: Callable[[], object]) -> float | None:
        work()
        return None

    def capture(self, call: Call, input: torch.Tensor) -> Callable[[int], Any]:
        """No graphs here, so that the same thing happens call by call."""
        return lambda index: call(input)

    def strategies(self, case: GpuCase, mode: str) -> list[str]:
        return ["cpu"]

    def still_works(self) -> bool:
        return True

    def facts(self) -> dict[str, Any]:
        return {"self_test": True}


class Cuda:
    """torch's current CUDA device."""

    name = "cuda"
    timer = harness.EventTimer()
    matmul_size, copy_bytes = 8192, 4 << 30

    def input_sets(self, size: int) -> int:
        """As many inputs of `size` bytes as hold three times the cache, in a part of the memory."""
        cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        free, _ = torch.cuda.mem_get_info()
        wanted = min(math.ceil(3 * cache / size), MOST_INPUTS, free // (16 * size))
        return max(FEWEST_INPUTS, wanted)

    def poison(self) -> None:
        """Fills the memory that the next allocations get, so that no stale result looks right."""
        torch.full((1 << 28,), math.nan, device=self.name)

    def peak_mib(self, work: Callable[[], object]) -> float | None:
        """What `work` allocates at its peak, beyond what stood before, by torch's allocator."""
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def capture(self, call: Call, input: torch.Tensor) -> Callable[[int], Any]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                call(input)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = call(input)

        def replay(index: int) -> torch.Tensor:
            graph.replay()
            return output

        return replay

    def strategies(self, case: GpuCase, mode: str) -> list[str]:
        return strategies(case, mode, torch.cuda.current_device())

    def still_works(self) -> bool:
        """False after an error that stays, such as a wild access in a kernel."""
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
        return True

    def facts(self) -> dict[str, Any]:
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {
            "architecture": f"sm_{properties.major}{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "l2_mib": properties.L2_cache_size / 2**20,
            "memory_gib": properties.total_memory / 2**30,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "built_for": seqfast.build_info().get("cuda_architectures"),
            "smi": smi(),
        }


Device = Cpu | Cuda


def native_call(
    case: GpuCase, mode: str, index: int = 0, host: bool = False, strategy: int = 0
) -> tuple[Any, ...]:
    """Call, sizes and options of a layer as `_C` takes them, for that device or the host executor.

    strategy: the code of RnnStrategy; 0 leaves it to the policy.
    """
    variant = VARIANTS.get(case.variant)
    call = GpuCall(
        device=index,
        stream=0,
        tf32=case.tf32,
        strategy=strategy,
        extras=bool(variant and variant.extras),
        on_host=host,
    )
    sizes = RnnSizes(
        dtype=CODES[case.dtype],
        steps=case.steps,
        batch=case.batch,
        input_size=0,
        hidden_size=case.hidden_size,
        proj_size=case.proj_size,
        directions=case.directions,
        threads=0,
    )
    options = Options(**variant.options) if variant else Options()
    native_options = cell_of(case.cell, options, bool(variant and variant.layer_norm)).native
    if mode == "training":
        native_options = native_options._replace(seed=1)  # an address that nobody looks at
    return call, sizes, native_options


def strategies(case: GpuCase, mode: str, index: int = 0, host: bool = False) -> list[str]:
    """How seqfast's kernels go on that device, or on the host executor's: forward, then backward.

    Backward only in training.
    """
    native: Any = seqfast._C
    call = native_call(case, mode, index, host)
    passes = (False, True) if mode == "training" else (False,)
    return [STRATEGIES[native.cuda_rnn_strategy(*call, backward)] for backward in passes]


def smi() -> dict[str, str]:
    """Driver, clocks and power as nvidia-smi has them now; empty without it."""
    fields = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
    command = ["nvidia-smi", "--id=0", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = (value.strip() for value in done.stdout.strip().split(","))
    return dict(zip(fields.split(","), values, strict=False))


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products, torch's and cuDNN's, may round their factors to TF32."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def measure_ceilings(device: Device) -> dict[str, Any]:
    """GFLOP/s of one large product in every precision, GB/s (read and written) of one copy."""

    def median(work: Callable[[], object]) -> float:
        return statistics.median([device.timer(work) for _ in range(7)][2:])

    size, products = device.matmul_size, {}
    for name, (dtype, allowed) in PRECISIONS.items():
        a, b = (torch.randn(size, size, device=device.name, dtype=dtype) for _ in range(2))
        with tf32(allowed):
            seconds = median(partial(torch.matmul, a, b))
        products[name] = 2e-9 * size**3 / seconds
    source = torch.ones(device.copy_bytes // 4, device=device.name)
    target = torch.empty_like(source)
    seconds = median(partial(target.copy_, source))
    return {"matmul_gflops": products, "copy_gbs": 2e-9 * source.nbytes / seconds}


def roof_gflops(case: GpuCase, ceilings: dict[str, Any]) -> float:
    """Of the fastest unit that gives this precision: float32 also as three TF32 products."""
    products: dict[str, float] = ceilings["matmul_gflops"]
    name = case.dtype_name
    return max(products[name], products["tf32"] / 3) if name == "float32" else products[name]


LAYERS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def build_layer(module: Any, case: GpuCase, device: str, variant: str = "") -> torch.nn.Module:
    """A layer of `torch.nn` or `seqfast.nn`."""
    layer: torch.nn.Module = getattr(module, LAYERS[case.cell])(
        case.input_size,
        case.hidden_size,
        case.layers,
        bidirectional=case.bidirectional,
        dtype=case.dtype,
        device=device,
        **(VARIANTS[variant].layer if variant else {}),
    )
    return layer


class Contest:
    """Both layers with the same weights, and what they are called with.

    The peer of a variant is our own plain layer, with weights of its own."""

    def __init__(self, job: Job, device: Device) -> None:
        case = job.case
        torch.manual_seed(0)
        self.job, self.case, self.device = job, case, device
        self.training = job.mode == "training"
        self.ours = build_layer(seqfast.nn, case, device.name, case.variant).train(self.training)
        peer = seqfast.nn if case.variant else torch.nn
        self.peer = build_layer(peer, case, device.name).train(self.training)
        if not case.variant:
            self.ours.load_state_dict(self.peer.state_dict())
            self.peer.flatten_parameters()  # type: ignore[operator]

        # Each side has the lengths where it wants them.
        self.lengths = ragged_lengths(case.steps, case.batch) if case.ragged else None
        self.tokens = case.steps * case.batch if self.lengths is None else int(self.lengths.sum())
        self.our_call, self.peer_call = padded_call(self.ours), padded_call(self.peer)
        if self.lengths is not None:
            self.our_call = padded_call(self.ours, lengths=self.lengths.to(device.name))
            self.peer_call = repacked_call(self.peer, self.lengths)

        shape = case.steps, case.batch, case.input_size
        count = device.input_sets(math.prod(shape) * case.dtype.itemsize)
        inputs = torch.randn(count, *shape, device=device.name, dtype=case.dtype)
        self.inputs = [x.detach().requires_grad_(self.training) for x in inputs]

    def layers(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        return self.ours, self.peer

    def forget_gradients(self) -> None:
        for layer in self.layers():
            layer.zero_grad()
        for input in self.inputs:
            input.grad = None

    def errors(self) -> tuple[dict[str, float], dict[str, float]]:
        """Ours and the peer's against float64, for some rows of the whole batch.

        The output's gradient is zero elsewhere, so that the gradients of the weights depend on
        these rows alone.
        """
        case, name = self.case, self.device.name
        # What a variant draws depends on the row's number.
        rows = sorted({0, case.batch // 2, case.batch - 1})
        if case.variant:
            rows = list(range(case.batch))
        gradient = torch.randn(
            case.steps,
            len(rows),
            case.directions * case.hidden_size,
            device=name,
            dtype=case.dtype,
        )
        exact_layer = build_layer(torch.nn, case, name).double()
        if case.variant:
            exact_layer = build_layer(seqfast.nn, case, name, case.variant).double()
            exact_layer.train(self.training).load_state_dict(self.ours.state_dict())
        else:
            exact_layer.load_state_dict(self.peer.state_dict())
        exact_call = padded_call(exact_layer)
        if self.lengths is not None:
            exact_call = repacked_call(exact_layer, self.lengths[rows])
        input = self.inputs[0]
        exact = self.results(exact_layer, exact_call, input[:, rows].double(), gradient.double())

        whole = torch.zeros(*input.shape[:2], gradient.shape[2], device=name, dtype=case.dtype)
        whole[:, rows] = gradient
        sides = []
        contestants = list(zip(self.layers(), (self.our_call, self.peer_call), strict=True))
        if case.variant:  # the peer is another layer
            contestants = contestants[:1]
        for layer, call in contestants:
            self.device.poison()
            found = self.results(layer, call, input, whole)
            for key in ("output", "grad input"):
                if key in found:
                    found[key] = found[key][:, rows]
            largest = (found["output"].double() - exact["output"]).abs().max().item()
            relative = {key: relative_error(found[key], value) for key, value in exact.items()}
            sides.append({"largest": largest, **relative})
        self.forget_gradients()
        return sides[0], sides[1] if len(sides) > 1 else dict.fromkeys(sides[0], 0.0)

    def results(
        self, layer: torch.nn.Module, call: Call, input: torch.Tensor, gradient: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)  # of the masks, if there are any
        if not self.training:
            with torch.no_grad():
                return {"output": call(input)}
        leaf = input.detach().requires_grad_()
        layer.zero_grad()
        output = call(leaf)
        output.backward(gradient)
        found = {"output": output.detach(), "grad input": leaf.grad}
        found |= {f"grad {key}": value.grad for key, value in layer.named_parameters()}
        return {key: value for key, value in found.items() if value is not None}

    def runs(self) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
        """What is timed: a call of each side, by its index."""
        our_inputs: list[Any] = self.inputs
        peer_inputs: list[Any] = self.inputs
        peer_call = self.peer_call
        if self.case.ragged == "packed before" and self.lengths is not None:
            peer_inputs = packed_leaves(self.inputs, self.lengths, self.training)
            peer_call = packed_call(self.peer)
        if self.job.graph:
            return self.captured(self.our_call), self.captured(peer_call)
        if not self.training:
            return forward(self.our_call, our_inputs), forward(peer_call, peer_inputs)
        with torch.no_grad():
            gradients = [
                torch.randn_like(call(inputs[0]))
                for call, inputs in ((self.our_call, our_inputs), (peer_call, peer_inputs))
            ]
        return (
            training(self.ours, self.our_call, our_inputs, gradients[0]),
            training(self.peer, peer_call, peer_inputs, gradients[1]),
        )

    def captured(self, call: Call) -> Callable[[int], Any]:
        replay = self.device.capture(call, self.inputs[0])
        eager, precision = call(self.inputs[0]).double(), self.case.dtype_name
        self.device.poison()
        error = relative_error(replay(0), eager)
        if not error <= TOLERANCE[precision]:
            raise ValueError(f"wrong: the replayed output is off by {error:.2g} of its norm")
        return replay


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    error: float = ((found.double() - exact).norm() / exact.norm().clamp(min=1e-30)).item()
    return error


def check(precision: str, ours: dict[str, float], peer: dict[str, float]) -> None:
    """ValueError where ours is further from float64 than its precision or the peer explains."""
    for key, error in ours.items():
        limit = max(TOLERANCE[precision], 3 * peer[key])
        if key != "largest" and not error <= limit:
            raise ValueError(f"wrong: {key} is off by {error:.2g} of its norm, at most {limit:.2g}")


def measure(job: Job, device: Device, ceilings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A row of the results. ValueError, and no time, where the result is wrong."""
    case = job.case
    with tf32(case.tf32), torch.set_grad_enabled(job.mode == "training"):
        contest = Contest(job, device)
        our_errors, peer_errors = contest.errors()
        check(case.dtype_name, our_errors, peer_errors)
        ours, peer = contest.runs()
        peaks = []
        for run in (ours, peer):
            contest.forget_gradients()
            # A graph's memory was allocated when it was captured.
            peaks.append(None if job.graph else device.peak_mib(partial(run, 0)))
        duel = harness.Duel(ours, peer, device.timer)
        duel.run(seconds, FEWEST_PAIRS)

    row = case.row(job.mode, contest.tokens) | duel.statistics()
    if job.graph:
        row["case"] += ", graph"
    predicted = predict(case, job.mode, contest.tokens)
    roof = roof_gflops(case, ceilings)
    floor = harness.floor_ms(row["gflop"], row["gbyte"], roof, ceilings["copy_gbs"])
    step = 1e3 / case.steps
    return row | {
        "ours_us_per_step": step * row["ours_ms"],
        "peer_us_per_step": step * row["peer_ms"],
        "roof_gflops": roof,
        "roofline": floor / row["ours_ms"],
        "strategies": device.strategies(case, job.mode),
        "predicted_strategies": list(predicted.strategies),
        "predicted_us_per_step": [predicted.low, predicted.expected, predicted.high],
        "predicted_most": predicted.most,
        "ours_peak_mib": peaks[0],
        "peer_peak_mib": peaks[1],
        "ours_errors": our_errors,
        "peer_errors": peer_errors,
        "inputs": 1 if job.graph else len(contest.inputs),
    }


def row_text(row: dict[str, Any]) -> str:
    name = f"{row['case']} {row['dtype']} {row['mode']}"
    quotient = row["ours_us_per_step"] / row["predicted_us_per_step"][1]
    return (
        f"{name:62} {row['ours_us_per_step']:9.3f} {row['peer_us_per_step']:9.3f} us/step  "
        f"ratio {row['ratio']:5.2f} ({row['ratio_low']:.2f} - {row['ratio_high']:.2f})  "
        f"measured/predicted {quotient:5.2f}  roofline {row['roofline']:6.1%}  "
        f"{'+'.join(dict.fromkeys(row['strategies']))}"
    )


def summary_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The groups' ratios, and the measured over the predicted time by what should take most."""
    for group in dict.fromkeys(row["group"] for row in rows):
        for mode in MODES:
            found = [r["ratio"] for r in rows if (r["group"], r["mode"]) == (group, mode)]
            if found:
                mean = statistics.geometric_mean(found)
                text = f"ratio {mean:.2f} geometric mean, {min(found):.2f} worst of {len(found)}"
                yield f"{group}, {mode}: {text}"
    quotients: dict[str, list[float]] = {}
    for row in rows:
        key = f"{'+'.join(dict.fromkeys(row['strategies']))}, mostly {row['predicted_most']}"
        quotient = row["ours_us_per_step"] / row["predicted_us_per_step"][1]
        quotients.setdefault(key, []).append(quotient)
    for key, values in sorted(quotients.items()):
        low, middle, high = harness.quartiles(values)
        yield (
            f"measured/predicted, {key}: {middle:.2f} ({low:.2f} - {high:.2f}), {len(values)} rows"
        )


def describe(job: Job) -> str:
    case = job.case
    tokens = int(ragged_lengths(case.steps, case.batch).sum()) if case.ragged else None
    predicted = predict(case, job.mode, tokens)
    return (
        f"{job!s:62} floor {predicted.floor:8.3f}, predicted {predicted.low:8.3f} < "
        f"{predicted.expected:8.3f} < {predicted.high:8.3f} us/step, mostly {predicted.most}, "
        f"{'+'.join(dict.fromkeys(predicted.strategies))}"
    )


def run(chosen: list[Job], device: Device, seconds: float, folder: Path) -> int:
    """Measures as many as the time allows; the results are complete on disk after every row."""
    deadline = time.monotonic() + seconds
    ceilings = measure_ceilings(device)
    environment = harness.environment(torch.get_num_threads(), device.name)
    result = {
        "suite": SUITE,
        **environment,
        **device.facts(),
        **ceilings,
        "finished": False,
        "failures": {},
        "left_out": [],
        "rows": [],
    }
    path = folder / harness.result_name(SUITE, environment)
    rows: list[dict[str, Any]] = result["rows"]
    for place, job in enumerate(chosen):
        harness.write_json(path, result)
        left = deadline - time.monotonic()
        # The checks, the warm-up and the fewest pairs, with a peer some times slower than us.
        if left < 40e-6 * job.case.steps * predict(job.case, job.mode).expected:
            result["left_out"].append(str(job))
            continue
        share = left / (len(chosen) - place) / 3
        try:
            row = measure(job, device, ceilings, min(max(share, SHORTEST), LONGEST))
        except Exception as error:  # one case must not take the others with it
            result["failures"][str(job)] = f"{type(error).__name__}: {error}"
            print(f"{job!s:62} FAILED: {error}", flush=True)
            if not device.still_works():
                result["left_out"] += map(str, chosen[place + 1 :])
                harness.write_json(path, result)
                print("the device is of no use after this error", flush=True)
                return 1
            continue
        rows.append(row)
        print(row_text(row), flush=True)
    facts = device.facts()
    result |= {"finished": True, "smi_at_the_end": facts.get("smi")}
    harness.write_json(path, result)
    for line in summary_lines(rows):
        print(line)
    left_out, failures = len(result["left_out"]), len(result["failures"])
    print(f"{len(rows)} rows, {left_out} left out for time, {failures} failed: {path}")
    return 1 if failures or not rows else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=240.0, help="for all of it (240)")
    parser.add_argument("--cases", default="", help="only those whose name this regex finds")
    parser.add_argument("--dry-run", action="store_true", help="list the cases and predictions")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: self-test")
    args = parser.parse_args(argv)
    chosen = jobs(re.compile(args.cases).search, smallest=args.device == "cpu")
    if not chosen:
        sys.exit(f"benchmarks.gpu: no case matches {args.cases!r}")
    if args.dry_run:
        print(*map(describe, chosen), sep="\n")
        return 0
    if args.out is None:
        sys.exit("benchmarks.gpu: --out DIR says where the results go")
    if args.device == "cuda":
        if not torch.cuda.is_available():
            sys.exit("benchmarks.gpu: torch sees no GPU")
        if seqfast.build_info()["cuda"] != "on":
            sys.exit("benchmarks.gpu: seqfast was built without CUDA")
        return run(chosen, Cuda(), args.seconds, args.out)
    return run(chosen, Cpu(), args.seconds, args.out)


if __name__ == "__main__":
    sys.exit(main())

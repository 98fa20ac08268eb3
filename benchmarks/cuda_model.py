"""Predicts the CUDA kernels' microseconds a step from bytes, operations and latencies.

python -m benchmarks.cuda_model [--write]      prints, or writes, docs/develop/cuda_predictions.md
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks import harness
from benchmarks.cases import Case
from benchmarks.gpu_grid import (
    PRECISIONS,
    SHAPES,
    VARIANTS,
    VARIED,
    build_case,
    grid,
)

PAGE = harness.ROOT / "docs" / "develop" / "cuda_predictions.md"
PARTS = ("compute", "exchange", "epilogue", "memory", "launch", "products")
MULTIPROCESSORS = 132
SHARED_BYTES = 227 * 1024  # of a block
SHARED_RATE = 128  # bytes a clock
SHARED_LATENCY = 30  # clocks
SPECIAL_RATE = 16  # exponentials and reciprocals a clock
INTEGER_RATE = 64  # of their operations a clock
DRAW = 80  # integer operations of a random number: ten rounds of Philox
WARPS = 8
CHUNK = 64  # bytes of k
# cuDNN at (1024, 16, 768), one layer, float16, on an H100: milliseconds.
CUDNN_MS = {"forward": 2.0, "training": 5.2}

HOPPER_1 = "[arXiv 2402.13499](https://arxiv.org/abs/2402.13499)"
HOPPER_2 = "[arXiv 2501.12084](https://arxiv.org/abs/2501.12084)"
CLUSTER_FUSION = "[arXiv 2508.18850](https://arxiv.org/abs/2508.18850)"
CREDIT = "[arXiv 2609.01864](https://arxiv.org/abs/2609.01864)"
NUMA = "[arXiv 2607.19922](https://arxiv.org/abs/2607.19922)"
GRACE = "[arXiv 2408.11556](https://arxiv.org/abs/2408.11556)"
NO_BUBBLES = "[Hazy Research](https://hazyresearch.stanford.edu/blog/2025-05-27-no-bubbles)"
DATASHEET = "[H200 datasheet](https://www.nvidia.com/en-us/data-center/h200/)"


class Constant(NamedTuple):
    """`low` makes the prediction low, `high` makes it high, whichever of them is larger."""

    low: float
    expected: float
    high: float
    unit: str
    source: str


CONSTANTS = {
    "clock": Constant(
        1.98, 1.98, 1.755, "GHz", f"boost clock, read on an H200 under load; H100 {DATASHEET}"
    ),
    "copy": Constant(4800, 4300, 4000, "GB/s", f"a copy on an H200, both ways; low: {DATASHEET}"),
    "matmul_16bit": Constant(
        790, 700, 500, "TFLOP/s", "8192 x 8192 x 8192 in bfloat16 on an H200: 769 to 798"
    ),
    "matmul_tf32": Constant(
        400, 350, 250, "TFLOP/s", f"bfloat16's share of the peak, half the rate; {DATASHEET}"
    ),
    "matmul_float32": Constant(60, 50, 35, "TFLOP/s", f"three quarters of 67; {DATASHEET}"),
    "mma_16bit": Constant(
        1290,
        1270,
        900,
        "multiply-adds a clock and multiprocessor",
        f"mma.sync reaches 62.9 % of 2048 on Hopper, {HOPPER_1}; high: too few accumulators to "
        "hide the 24 clocks of one; TF32 half of it, TF32 in three products a sixth",
    ),
    "dsm_latency": Constant(
        140,
        230,
        450,
        "clocks",
        f"a load from another block of the cluster takes 180 to 213, {HOPPER_1}, {HOPPER_2}, "
        f"{CLUSTER_FUSION}; a store goes one way, then a poll of shared memory (29) must come "
        f"by; high: blocks out of step (cluster.sync: 851, {CREDIT})",
    ),
    "dsm_rate": Constant(
        21.4,
        13,
        6,
        "bytes a clock and multiprocessor",
        f"stores of one pair, {CREDIT}; 2.9 TB/s on about 112 multiprocessors in clusters of 16, "
        f"{CLUSTER_FUSION}; high: everybody to everybody falls further, {HOPPER_2}",
    ),
    "l2_latency": Constant(
        500,
        1110,
        1980,
        "clocks",
        f"one store and one load through global memory: 1110, {HOPPER_2}; low: one way of a "
        f"ping-pong, 160 ns, {GRACE}, and the far half of the L2 (295 against 470, {NUMA}); "
        "high: 1 us, polls that just missed and blocks out of step",
    ),
    "l2_rate": Constant(
        39,
        26,
        13,
        "bytes a clock and multiprocessor",
        f"4472 bytes a clock on 114 multiprocessors, {HOPPER_2}; expected: every other load is "
        "a poll that came too early; high: all blocks ask the same slice at once",
    ),
    "l2_hit": Constant(
        280, 370, 470, "clocks", f"a load that finds its line in L2, near or far half, {NUMA}"
    ),
    "own_latency": Constant(
        50, 70, 150, "clocks", "estimate: a store to the block's own shared memory, and a poll"
    ),
    "walk": Constant(
        100,
        250,
        600,
        "clocks a chunk",
        "estimate: stepwise, 64 bytes of k, one to four loads from L2 or memory under way",
    ),
    "l2_size": Constant(50, 40, 25, "MB", "60 on an H200, in two halves that may both hold a line"),
    "epilogue": Constant(
        190,
        330,
        450,
        "clocks",
        "estimate: two barriers, two trips through shared memory, five functions in a row, "
        "rounding, store; in machine code 165 instructions from barrier to store",
    ),
    "boundary": Constant(
        1.3, 2.1, 3.0, "us", f"kernel after kernel in a stream 2.1, in a graph 1.3, {NO_BUBBLES}"
    ),
    "start": Constant(
        4, 8, 15, "us", "estimate: launch of a cooperative or cluster kernel, its end"
    ),
    "host_forward": Constant(25, 50, 100, "us a layer", "estimate: Python, checks, allocations"),
    "host_training": Constant(
        100, 200, 400, "us a layer", "estimate: the same, backward and autograd included"
    ),
}


def constants(scenario: str = "expected") -> dict[str, float]:
    """One value of each: "low", "expected" or "high"."""
    return {name: getattr(constant, scenario) for name, constant in CONSTANTS.items()}


@dataclass(frozen=True)
class Cell:
    """What the kernels have for a cell: csrc/cuda/rnn/kernels.cuh."""

    slots: int  # products of a unit, and gradients it hands on
    gates: int
    saved: int
    special: tuple[int, int]  # exponentials and reciprocals of a unit, forward and backward
    planes: int = 2  # numbers a unit carries from step to step
    general: bool = True  # compiled with options
    draws: int = 0
    launches: int = 0  # stepwise only: so many launches a step
    peephole: bool = False


CELLS = {
    "lstm": Cell(4, 4, 4, (10, 2), 1, general=False),
    "gru": Cell(4, 3, 4, (6, 0)),
    "rnn": Cell(1, 1, 1, (2, 0)),
}


def cell_of(case: Case) -> Cell:
    name = getattr(case, "variant", "")
    cell = CELLS[getattr(case, "cell", "lstm")]
    if not name:
        return cell
    variant = VARIANTS[name]
    launches = 2 if variant.layer_norm or not variant.options.get("reset_after", True) else 0
    has_cell = variant.cell == "lstm"
    return replace(
        cell,
        gates=variant.gates or cell.gates,
        saved=variant.gates or cell.saved,
        planes=3 if has_cell else 2,
        general=True,
        draws=variant.draws,
        launches=launches,
        peephole=has_cell,
    )


@dataclass(frozen=True)
class Block:
    """How a block of 8 warps shares out its product: Geometry in cuda/base/tile_product.cuh."""

    units: int
    outputs: int  # rows of weights of a unit: its gates forward, 1 backward
    n_tiles: int  # of 8 rows of the batch, of a pass
    chunks: int  # of k

    @property
    def rows(self) -> int:
        return 8 * self.n_tiles

    @property
    def warps_m(self) -> int:
        return self.units // 16 if self.outputs == 4 else 2 if self.units == 64 else 1

    @property
    def warps_k(self) -> int:
        return WARPS // self.warps_m

    @property
    def m_tiles(self) -> int:
        return self.units * self.outputs // 16 // self.warps_m

    @property
    def longest(self) -> int:
        """Chunks of the busiest warp."""
        return math.ceil(self.chunks / self.warps_k)

    def register_chunks(self, size: int) -> int:
        most, fewer = 16 // self.m_tiles, 12 // self.m_tiles
        room = not (size == 4 and self.n_tiles == 2)
        return most if room and self.longest <= most else fewer

    def windows(self, size: int) -> int:
        """How often a warp waits for rows to come from elsewhere."""
        kept = self.register_chunks(size)
        window = 4 // self.n_tiles if kept % (4 // self.n_tiles) == 0 else 3 // self.n_tiles
        if size == 4 and self.n_tiles == 2:
            window = 1
        extra = max(0, self.longest - kept)
        return math.ceil(min(self.longest, kept) / window) + math.ceil(extra / window)

    def kept_bytes(self, size: int) -> int:
        """Weights in shared memory, read again in every pass."""
        extra = max(0, self.longest - self.register_chunks(size))
        return WARPS * self.m_tiles * extra * 1024

    def shared_bytes(
        self, size: int, passes: int, cluster: bool, cell: Cell = CELLS["lstm"]
    ) -> int:
        """persistent_layout in csrc/cuda/rnn/persistent_block.cuh."""
        rows = passes * self.rows
        partial = 2 * self.warps_k * self.rows * (self.units * self.outputs + 4) * 4
        exchange = 2 * rows * self.chunks * CHUNK if cluster else 0
        bias = 16 * self.units * (1 + cell.peephole)
        state = cell.planes * rows * self.units * 4 + rows * 8 + passes * 4 + 4
        return self.kept_bytes(size) + partial + exchange + bias + state


@dataclass(frozen=True)
class Plan:
    """How a recurrence is laid over the chip: Policy in csrc/cuda/rnn/policy.h."""

    strategy: str  # "cluster", "grid" or "stepwise", as _C.cuda_rnn_strategy numbers them
    block: Block
    group: int = 0  # blocks that own all units for the rows of a slab
    groups: int = 0
    passes: int = 0  # of a slab
    items: int = 0  # slabs of all directions; each group has them one after the other

    @property
    def rounds(self) -> int:
        return math.ceil(self.items / self.groups)


def resident_clusters(blocks: int, shared_bytes: int) -> int:
    """A cluster lies among 16 or 18 neighbours on the chip, of which not all are there."""
    return (112 if blocks > 8 else 128) // blocks


def plan(
    case: Case, backward: bool, clusters: Callable[[int, int], int] = resident_clusters
) -> Plan:
    hidden, size, cell = case.hidden_size, case.dtype.itemsize, cell_of(case)
    of_32 = cell.slots == 1 or (hidden * size <= 2048 if backward else hidden <= 512)
    units = 64 if hidden <= 64 else 32 if of_32 else 16
    outputs, unit_bytes = (1, cell.slots * size) if backward else (cell.slots, size)
    group = math.ceil(hidden / units)
    chunks = math.ceil(group * units * unit_bytes / CHUNK)
    least = Block(units, outputs, 1, chunks)

    def fit(strategy: str) -> Plan | None:
        cluster = strategy == "cluster"
        if group > (16 if cluster else MULTIPROCESSORS) or (group == 1 and not cluster):
            return None
        if least.shared_bytes(size, 1, cluster, cell) > SHARED_BYTES:
            return None

        def resident(block: Block, passes: int) -> int:
            if not cluster or group == 1:
                return MULTIPROCESSORS // group
            return clusters(group, block.shared_bytes(size, passes, cluster, cell))

        rows = math.ceil(case.batch / max(1, resident(least, 1) // case.directions))
        # Options and two row tiles are too much together in the grid's kernels.
        one = units == 64 or rows <= 8 or (cell.general and not cluster)
        for n_tiles in (1,) if one else (2, 1):
            block = replace(least, n_tiles=n_tiles)
            passes = min(64, math.ceil(rows / block.rows))
            while passes > 0 and block.shared_bytes(size, passes, cluster, cell) > SHARED_BYTES:
                passes -= 1
            if passes > 0:
                break
        groups = resident(block, passes)
        # As thin as gives every group a slab.
        slab_rows = min(
            block.rows * passes, math.ceil(case.batch / max(1, groups // case.directions))
        )
        items = math.ceil(case.batch / slab_rows) * case.directions
        return Plan(strategy, block, group, min(items, groups), passes, items)

    stepwise = case.proj_size or size == 8 or cell.launches
    found = [] if stepwise else [fit("cluster"), fit("grid")]
    plans = [plan for plan in found if plan is not None]
    if not plans:
        return Plan("stepwise", Block(16, outputs, 1 if case.batch <= 8 else 4, chunks))
    return min(plans, key=lambda plan: plan.rounds)


def mma_rate(case: Case, c: dict[str, float]) -> float:
    """Multiply-adds a clock and multiprocessor: float32 is TF32 in three products."""
    if case.dtype.itemsize == 2:
        return c["mma_16bit"]
    return c["mma_16bit"] / (2 if case.tf32 else 6)


def matmul_rate(case: Case, c: dict[str, float]) -> float:
    name = "16bit" if case.dtype.itemsize == 2 else "tf32" if case.tf32 else "float32"
    return c[f"matmul_{name}"]


def persistent_step(
    case: Case, where: Plan, backward: bool, training: bool, c: dict[str, float]
) -> dict[str, float]:
    """Microseconds of one step of all that runs at once."""
    size, block, passes, cell = case.dtype.itemsize, where.block, where.passes, cell_of(case)
    cluster = where.strategy == "cluster"
    running = min(block.rows, math.ceil(case.batch * case.directions / where.items / passes))

    # Of one pass, in clocks. All rows of its tiles are multiplied; with one round to go, only those
    # that run are sent.
    moved = running if where.rounds == 1 else block.rows
    arriving = WARPS * block.longest * moved * CHUNK
    operands = WARPS * block.longest * block.rows * CHUNK
    multiply_adds = WARPS * 16 * block.m_tiles * block.longest * CHUNK / size * block.rows
    from_shared = block.kept_bytes(size) + (operands if cluster else 0)
    compute = max(multiply_adds / mma_rate(case, c), from_shared / SHARED_RATE)

    # The warps' sums are written and read. Of an LSTM forward three sigmoids and two tanh, each an
    # exponential and a reciprocal; backward one tanh.
    sums = 2 * block.warps_k * block.rows * block.units * block.outputs * 4
    special = cell.special[backward] * block.units * running
    epilogue = c["epilogue"] + sums / SHARED_RATE + special / SPECIAL_RATE
    drawn = cell.draws * training * DRAW * block.units * running / INTEGER_RATE

    waits = block.windows(size) - 1
    if cluster:
        sent = block.units * (cell.slots if backward else 1) * size * moved * where.group
        latency = c["dsm_latency" if where.group > 1 else "own_latency"]
        again = float(SHARED_LATENCY)
        traffic = sent / c["dsm_rate"] + waits * SHARED_LATENCY
    else:
        latency, again = c["l2_latency"], c["l2_hit"]
        traffic = max(arriving / c["l2_rate"], waits * c["l2_hit"])
    busy = compute + epilogue + traffic
    # What one pass sends is on its way while the others work.
    # So it is while random numbers are drawn for the next step.
    step = max(passes * (busy + again + drawn), busy + max(latency, drawn))

    # Read ahead and written behind: counts only where it outlasts all the rest.
    if backward:
        # Gates and their gradients, the output's gradient, cells or hidden states.
        bytes_moved = size * (2 * cell.saved + 1) + 4
    else:
        bytes_moved = size * (cell.gates + 1) + (size * cell.saved + 4 if training else 0)
    rows_at_once = case.batch * case.directions / where.rounds
    streamed = 1e-3 * bytes_moved * rows_at_once * case.hidden_size / c["copy"]

    clocks = {"compute": passes * compute, "epilogue": passes * epilogue}
    clocks["exchange"] = step - sum(clocks.values())
    parts = {name: 1e-3 * value / c["clock"] for name, value in clocks.items()}
    return parts | {"memory": max(0, streamed - sum(parts.values()))}


def stepwise_step(case: Case, where: Plan, c: dict[str, float]) -> dict[str, float]:
    """Microseconds of a step: all directions, weights read again for every 8 or 32 rows."""
    block, size, cell = where.block, case.dtype.itemsize, cell_of(case)
    passes = math.ceil(case.batch / block.rows)
    launches = max(1, cell.launches)
    # Gates that a cell does not have are zeros, packed and multiplied.
    weights = cell.slots * case.hidden_size**2 * case.directions
    in_l2 = weights * size <= 1e6 * c["l2_size"]
    from_l2 = 1e-3 * c["l2_rate"] * MULTIPROCESSORS * c["clock"]  # TB/s
    memory = 1e-6 * weights * size * passes / from_l2
    if not in_l2:
        memory = max(memory, 1e-3 * weights * size / c["copy"])
    # A warp goes from chunk to chunk with few loads under way; the second launch of a reset gate
    # before the product walks as far, that of layer normalisation not at all.
    walks = 2 if launches == 2 and cell.slots == 4 and not cell.peephole else 1
    walk = 1e-3 * walks * block.longest * c["walk"] / c["clock"]
    rate = 1e3 * mma_rate(case, c) * MULTIPROCESSORS * c["clock"]  # a microsecond
    compute = weights * passes * block.rows / rate
    return {
        "compute": compute,
        "epilogue": 1e-3 * launches * c["epilogue"] / c["clock"],
        "memory": max(0, memory - compute, walk - compute),
        "launch": launches * c["boundary"],
    }


def recurrence(case: Case, backward: bool, training: bool, c: dict[str, float]) -> dict[str, float]:
    """Microseconds of one layer's pass over all steps, in all directions."""
    where = plan(case, backward)
    # Weights are packed first, each direction's by a launch, and what is traded is cleared.
    slots = cell_of(case).slots
    packed = slots * case.hidden_size**2 * case.dtype.itemsize * case.directions
    begin = (case.directions + 1) * c["boundary"] + 2e-3 * packed / c["copy"]
    if where.strategy == "stepwise":
        turns, step = 1, stepwise_step(case, where, c)
    else:
        turns, step = where.rounds, persistent_step(case, where, backward, training, c)
        held = where.block.units * case.hidden_size * slots * case.dtype.itemsize
        begin += c["start"] + 1e-3 * held / c["l2_rate"] / c["clock"]
    parts = {name: turns * case.steps * value for name, value in step.items()}
    parts["launch"] = parts.get("launch", 0) + begin
    return parts


def products(case: Case, input_size: int, training: bool, c: dict[str, float]) -> float:
    """Microseconds of the products over all steps at once, around the recurrence."""
    tokens, hidden, size = case.steps * case.batch, case.hidden_size, case.dtype.itemsize
    rows = cell_of(case).gates * hidden
    gates = rows * case.directions

    def product(rows: int, depth: int, columns: int) -> float:
        operations = 2e-6 * rows * depth * columns / matmul_rate(case, c)
        moved = 1e-3 * size * (rows * depth + depth * columns + rows * columns) / c["copy"]
        return max(operations, moved) + c["boundary"]

    total = product(tokens, input_size, gates)
    if training:
        total += product(tokens, gates, input_size) + product(gates, tokens, input_size)
        total += case.directions * product(rows, tokens, hidden)
        total += 1e-3 * size * tokens * gates / c["copy"] + c["boundary"]  # the biases' gradient
    return total


@dataclass(frozen=True)
class Prediction:
    """Microseconds a step of the whole call, all layers and directions together."""

    strategies: tuple[str, ...]  # forward, and in training backward
    parts: dict[str, float]  # they add up to the expected time
    low: float
    expected: float
    high: float
    floor: float  # harness.floor_ms with the expected constants

    @property
    def most(self) -> str:
        return max(self.parts, key=lambda name: self.parts[name])


def call_parts(
    case: Case, mode: str, c: dict[str, float], tokens: int | None = None
) -> dict[str, float]:
    """Microseconds of one call, by what they are spent on."""
    training = mode == "training"
    # Ragged rows end one by one: as if the average of them ran all the time.
    running = replace(case, batch=math.ceil(tokens / case.steps)) if tokens else case
    parts = dict.fromkeys(PARTS, 0.0)
    for layer in range(case.layers):
        input_size = case.directions * case.hidden_size if layer else case.input_size
        for backward in (False, True) if training else (False,):
            for name, value in recurrence(running, backward, training, c).items():
                parts[name] += value
        parts["products"] += products(case, input_size, training, c)
    host = case.layers * c["host_training" if training else "host_forward"]
    parts["launch"] += max(0, host - sum(parts.values()))
    return parts


def roof_gflops(case: Case, c: dict[str, float]) -> float:
    """Of the fastest unit that gives this precision: float32 also as three TF32 products."""
    roof = matmul_rate(case, c)
    if case.dtype.itemsize == 4 and not case.tf32:
        roof = max(roof, c["matmul_tf32"] / 3)
    return 1e3 * roof


def predict(case: Case, mode: str, tokens: int | None = None) -> Prediction:
    """`mode`: "forward" or "training". `tokens`: steps of all rows, where they are ragged."""
    c = constants()
    parts = call_parts(case, mode, c, tokens)
    low, high = (
        sum(call_parts(case, mode, constants(end), tokens).values()) for end in ("low", "high")
    )
    row = case.row(mode, tokens or case.steps * case.batch)
    floor = harness.floor_ms(row["gflop"], row["gbyte"], roof_gflops(case, c), c["copy"])
    passes = (False, True) if mode == "training" else (False,)
    return Prediction(
        strategies=tuple(plan(case, backward).strategy for backward in passes),
        parts={name: value / case.steps for name, value in parts.items()},
        low=low / case.steps,
        expected=sum(parts.values()) / case.steps,
        high=high / case.steps,
        floor=1e3 * floor / case.steps,
    )


# ---- The page ------------------------------------------------------------------------------------

TEXT = """\
# Predictions for the CUDA kernels

Written by `python -m benchmarks.cuda_model --write`; not edited by hand.

**No GPU has confirmed anything on this page.** The kernels were written on a machine without one.
Every time below is arithmetic over bytes, operations and latencies, for an H200
({processors} multiprocessors); none is a measurement. What was measured, if anything was, stands in
[performance.md](../performance.md).

## Holding a run against it

`python -m benchmarks.gpu --out DIR --seconds N` on a machine with the GPU prints for each case
the measured time over the predicted one, and at the end the median of that quotient for each way
and for what was predicted to take most of the time; the results file has both beside every row.
Then correct the constants in `CONSTANTS` of `benchmarks/cuda_model.py` and write this page again.

**Which first.** The table is sorted by how much all predictions of the grid change (geometric mean)
when one constant goes from the end that makes them low to the one that makes them high.

| constant | low | expected | high | unit | all predictions | source |
| --- | ---: | ---: | ---: | --- | ---: | --- |
{constants}

"Estimate" means that nobody measured it. Of some papers only summaries were at hand.

**Where it shows.** The case of the grid, forward, in which a part takes the largest share:

| part | constants | case | share |
| --- | --- | --- | ---: |
{isolating}

Go from short steps to long ones: one block alone trades with itself, so all it takes is compute
and epilogue; a short exchange in a cluster is latency, a long one rate; then the same through L2.

## What is modelled

The plan is the kernels' own (`csrc/cuda/rnn/policy.h`, `tile_product.cuh`): a block of 256 threads
has a multiprocessor to itself and owns some hidden units with all their gates, the blocks that
own all units are a group, and groups share the batch. A group takes its rows in passes of 8 or 16.

- *compute*: the recurrent product by `mma.sync`, or its operands out of shared memory at
  {shared} bytes a clock, whichever takes longer. float32 is TF32 in three products.
- *exchange*: every block's part of the state to every block of its group (backward the gradients of
  four gates), through distributed shared memory in a cluster, else through the L2 cache (grid).
  Bytes at a multiprocessor's rate in every pass, and a latency that other passes hide.
- *epilogue*: sums over the warps, exponentials at {special} a clock, and what else comes in turn.
- *memory*: what a step reads and writes in device memory, as far as the rest does not hide it.
- *launch*: packing of the weights, the start of a kernel, stepwise one launch a step, and what
  Python takes where the GPU would be done sooner.
- *products*: input, dx and all dW as one `torch.mm` each, the gradient of the biases.

Stepwise is what does not fit: weights are read again in each step, from L2 or from memory.
All times are a call's time over its steps, both layers and both directions together. *floor* is
the larger of operations at the rate of a large product and bytes at that of a large copy, as
performance.md has it; it knows nothing of steps that wait for each other.

## Against cuDNN

One figure for cuDNN is known: {cudnn_forward} ms forward and {cudnn_training} ms with backward at
1024 steps, batch 16, hidden size 768, one layer, float16, on an H100: the case that
[FlashRNN](https://arxiv.org/abs/2412.07752) plots. Against it:

| | predicted, ms | cuDNN, ms | ratio | range |
| --- | ---: | ---: | ---: | ---: |
{cudnn}

No ratio is predicted for the other cases.

## Variants against the plain cell

Predicted time over that of the plain cell of the same name, training; the goal is 1.3. Layer
normalisation and a reset gate before the product go step by step, two launches a step.

{variants}
"""
TITLES = {
    (False, "forward"): "One layer, forward",
    (False, "training"): "One layer, forward and backward",
    (True, "forward"): "Two layers, bidirectional, forward",
    (True, "training"): "Two layers, bidirectional, forward and backward",
}


def line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def microseconds(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def influence(name: str) -> float:
    """All predictions with the constant at its high end over those at its low end."""
    logarithms = []
    for job in grid():
        low, high = (
            sum(call_parts(job.case, job.mode, constants() | {name: end}).values())
            for end in (CONSTANTS[name].low, CONSTANTS[name].high)
        )
        logarithms.append(math.log(high / low))
    return math.exp(sum(logarithms) / len(logarithms))


def constant_lines() -> Iterator[str]:
    ranked = sorted(CONSTANTS, key=lambda name: -influence(name))
    for name in ranked:
        low, expected, high, unit, source = CONSTANTS[name]
        values = map(short, (low, expected, high))
        yield line(f"`{name}`", *values, unit, f"x {influence(name):.2f}", source)


def isolating_lines() -> Iterator[str]:
    """For each part of a step the case in which it takes the largest share."""
    predictions = {job.case: predict(job.case, "forward") for job in grid()}
    for part, strategy, names in (
        ("epilogue", "", "`epilogue`"),
        ("compute", "", "`mma_16bit`"),
        ("exchange", "cluster", "`dsm_latency`, `dsm_rate`"),
        ("exchange", "grid", "`l2_latency`, `l2_rate`"),
        ("memory", "stepwise", "`copy`, `l2_size`"),
        ("launch", "", "`boundary`, `start`, `host_forward`"),
        ("products", "", "`matmul_16bit`, `matmul_tf32`, `matmul_float32`"),
    ):
        share = {
            case: 100 * p.parts[part] / p.expected
            for case, p in predictions.items()
            if strategy in ("", p.strategies[0])
        }
        case = max(share, key=lambda case: share[case])
        label = f"{part} ({strategy})" if strategy else part
        yield line(label, names, f"{case.name}, {case.dtype_name}", f"{share[case]:.0f} %")


def cudnn_lines() -> Iterator[str]:
    case = build_case(SHAPES[0], "float16")
    for mode, measured in CUDNN_MS.items():
        p = predict(case, mode)
        low, expected, high = (1e-3 * case.steps * t for t in (p.low, p.expected, p.high))
        ratios = f"{measured / high:.2f} - {measured / low:.2f}"
        yield line(mode, f"{expected:.2f}", measured, f"{measured / expected:.2f}", ratios)


def variant_lines() -> Iterator[str]:
    names = [f"{'x'.join(map(str, shape))}, {dtype}" for shape, dtype in varied()]
    yield line("variant", "strategy", *names)
    yield line("---", "---", *["---:"] * len(names))
    for variant, (cell, *_) in VARIANTS.items():
        ratios: list[str] = []
        found: list[str] = []
        for shape, precision in varied():
            p = predict(build_case(shape, precision, variant=variant), "training")
            plain = predict(build_case(shape, precision, cell=cell), "training")
            ratios.append(f"{p.expected / plain.expected:.2f}")
            found += p.strategies
        yield line(variant, ", ".join(dict.fromkeys(found)), *ratios)


def varied() -> Iterator[tuple[tuple[int, int, int], str]]:
    for precision in ("float16", "float32"):
        for shape in VARIED:
            yield shape, precision


def table(bidirectional: bool, mode: str, cell: str = "lstm") -> Iterator[str]:
    yield line("case", "type", "strategy", "low", "expected", "high", *PARTS, "most", "floor")
    yield line("---", "---", "---", *["---:"] * (3 + len(PARTS)), "---", "---:")
    for shape in SHAPES:
        for precision in PRECISIONS:
            if precision == "bfloat16":
                continue  # the same bytes and rates as float16
            p = predict(build_case(shape, precision, bidirectional, cell=cell), mode)
            values = (p.low, p.expected, p.high, *(p.parts[name] for name in PARTS))
            yield line(
                "x".join(map(str, shape)),
                "float16, bfloat16" if precision == "float16" else precision,
                ", ".join(dict.fromkeys(p.strategies)),
                *map(microseconds, values),
                p.most,
                f"{p.floor:.3f}",
            )


def page() -> str:
    text = TEXT.format(
        processors=MULTIPROCESSORS,
        shared=SHARED_RATE,
        special=SPECIAL_RATE,
        constants="\n".join(constant_lines()),
        isolating="\n".join(isolating_lines()),
        cudnn_forward=CUDNN_MS["forward"],
        cudnn_training=CUDNN_MS["training"],
        cudnn="\n".join(cudnn_lines()),
        variants="\n".join(variant_lines()),
    )
    for (bidirectional, mode), title in TITLES.items():
        text += f"\n## {title}\n\nMicroseconds a step; steps x batch x hidden size.\n\n"
        text += "\n".join(table(bidirectional, mode)) + "\n"
    for cell in ("gru", "rnn"):
        for mode in ("forward", "training"):
            title = f"{cell.upper()}, {TITLES[False, mode][0].lower()}{TITLES[False, mode][1:]}"
            text += f"\n## {title}\n\nMicroseconds a step; steps x batch x hidden size.\n\n"
            text += "\n".join(table(False, mode, cell)) + "\n"
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    if parser.parse_args(argv).write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Renders the newest results into docs/performance.md, its pictures and the table of README.md.

python -m benchmarks.report [--results DIR] [--root DIR]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness

Result = dict[str, Any]
Row = dict[str, Any]
Column = tuple[str, Callable[[Result, Row], str]]

# Of the suites, in the order of the page.
TITLES = {"rnn": "LSTM", "rnn_cuda": "LSTM on a GPU"}
PEERS = {"rnn": "torch.nn.LSTM", "rnn_cuda": "torch.nn.LSTM"}
PICTURES = {"rnn": "performance.svg", "rnn_cuda": "performance_rnn_cuda.svg"}
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
MODES = ("forward", "training")
TICKS = (0.25, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 12, 16)
COLOURS = {"better": "#2a7ab9", "worse": "#c8553d"}

PAGE = """\
# Speed

Written by `make report` from `benchmarks/results/`, which `make bench` fills; not edited by hand.

Every figure is a ratio against a peer, measured in one run: above 1 seqfast is faster, below 1 it
is slower, and the row says so. Nothing that was measured is left out.

{pictures}

{suites}
## How it is measured

- **In turns.** Peer, seqfast, peer, seqfast: two neighbouring samples make a pair, and the ratio is
  the median of the pairs' ratios, so that a change of the machine's speed hits both sides. The
  spread is the range of the middle half of them. Times are medians. A call shorter than a
  millisecond is repeated within its sample. Both sides work on the same three inputs in turn,
  warmed up, with Python's garbage collection off and the same number of threads. Their results are
  compared before they are timed.
- **What is timed.** *forward*: one call under `torch.no_grad()`. *training*: gradients set to
  `None`, forward, and backward from a given gradient of the output to the input and to all
  parameters; no optimizer. Shapes read `steps x batch x input_size x hidden_size`. *packed*: a
  `PackedSequence` in and out. *lengths*: padded in and out; the peer packs and unpacks, seqfast
  takes `lengths=`. *One step*: batch 1, the state carried from call to call.
- **GFLOP/s** count two for each multiply-add of the matrix products, for the steps that are really
  there (past a row's length there is nothing to do), and three times the forward's for training.
  Gates, biases and additions are not counted.
- **FMA peak** is what nothing but multiply-adds on registers reach with the same threads and
  instruction set; it is measured before every row, and the run's median counts. Half of it for
  float64; float32's for bfloat16, which accumulates in float32 (with the processor's bfloat16
  instructions, which the peer uses throughout and seqfast in the forward pass, it may be passed).
- **Floor**: the larger of two times, the operations at FMA peak, and the bytes that must move at
  the speed of a large plain copy, measured in the same run. Bytes count each operand once, as if
  all caches were cold; training also writes and reads back the activated gates and the cells. Where
  everything fits into the caches a warm run may beat the second. What no floor here sees: every
  step waits for the one before and reads all of `weight_hh` again from a cache, which is what binds
  batches of a few rows.
- **Memory** is the high-water mark of a process that trains twice less what stood there before, in
  a process of each side's own; the median of three.
"""

# What else there is to say of a suite's measurements.
NOTES = {
    "rnn_cuda": """
On a GPU:

- **Clock.** CUDA events around a sample, on the stream that both sides use. What Python needs to
  launch counts where the GPU would be done sooner. *graph*: both sides captured in a CUDA graph
  and replayed, always on the same input.
- **Inputs** are as many as fill three times the second-level cache, taken in turn.
- **The peer** has its weights flattened, the same types and TF32 setting, and for *forward* is in
  `eval()` as seqfast is. *lengths*: the peer packs and unpacks inside the measurement. *packed
  before*: the peer's input came packed and its output stays packed, which costs it nothing here;
  seqfast takes padded input and `lengths=` in both.
- **Correct first.** Outputs, and for training all gradients, are compared with float64 for some
  rows of the whole batch; a case that is off has no time.
- **of roof**: the floor over the time. Operations at the rate of a large product of that type in
  the same run (float32: or a third of TF32's, if that is more), bytes at that of a large copy.
- **predicted**: microseconds a step as `benchmarks/cuda_model.py` has them, and what was measured
  over their expected value; see [cuda_predictions.md](cuda_predictions.md).
- **Memory** is the most that torch's allocator handed out during a call, beyond inputs and weights.
""",
}

SUITE = """\
## {title}

{machine}

{summary}

{tables}"""


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def ratio_text(ratio: float, worse: str = "slower") -> str:
    """Two digits; below 1 in bold with the plain word, so that no loss is overlooked."""
    return f"{ratio:.2f}" if round(ratio, 2) >= 1 else f"**{ratio:.2f}, {worse}**"


def table(lines: list[list[str]]) -> str:
    """Markdown; the first line is the head, all columns but the first are numbers."""
    head, *body = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    rows = ["| " + " | ".join(line) + " |" for line in [head, rule, *body]]
    return "\n".join(rows)


def peak(result: Result, row: Row) -> float | None:
    """GFLOP/s of pure multiply-adds in the row's type."""
    if "roof_gflops" in row:
        return float(row["roof_gflops"])
    measured: float | None = result.get("fma_gflops")
    return measured and measured * (0.5 if row["dtype"] == "float64" else 1.0)


def floor_ms(result: Result, row: Row) -> float | None:
    roof = peak(result, row)
    return roof and harness.floor_ms(row["gflop"], row["gbyte"], roof, result["copy_gbs"])


def timed_rows(result: Result, mode: str, group: str | None = None) -> list[Row]:
    rows = [row for row in result["rows"] if "ours_ms" in row and row["mode"] == mode]
    return [row for row in rows if group in (None, row["group"])]


def milliseconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def speed(row: Row) -> float:
    """GFLOP/s."""
    return float(1e3 * row["gflop"] / row["ours_ms"])


def of_peak(result: Result, row: Row) -> str:
    roof = peak(result, row)
    return f"{100 * speed(row) / roof:.0f} %" if roof else "-"


def floor_text(result: Result, row: Row) -> str:
    floor = floor_ms(result, row)
    return milliseconds(floor) if floor else "-"


def predicted_text(result: Result, row: Row) -> str:
    low, expected, high = row["predicted_us_per_step"]
    quotient = row["ours_us_per_step"] / expected
    return f"{low:.2f} - {high:.2f} (x {quotient:.2f})"


def peaks_text(result: Result, row: Row) -> str:
    peaks = row["ours_peak_mib"], row["peer_peak_mib"]
    return "-" if None in peaks else " / ".join(f"{mib:.0f}" for mib in peaks)


COMMON: list[Column] = [
    ("case", lambda result, row: case_text(row)),
    ("ours, ms", lambda result, row: milliseconds(row["ours_ms"])),
    ("peer, ms", lambda result, row: milliseconds(row["peer_ms"])),
    ("ratio", lambda result, row: ratio_text(row["ratio"])),
    ("spread", lambda result, row: f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}"),
]
COLUMNS: dict[str, list[Column]] = {
    "rnn": [
        ("GFLOP/s", lambda result, row: f"{speed(row):.0f}"),
        ("of FMA peak", of_peak),
        ("floor, ms", floor_text),
    ],
    "rnn_cuda": [
        ("us a step", lambda result, row: f"{row['ours_us_per_step']:.2f}"),
        ("predicted", predicted_text),
        ("of roof", lambda result, row: f"{100 * row['roofline']:.1f} %"),
        ("way", lambda result, row: ", ".join(dict.fromkeys(row["ways"]))),
        ("memory, MiB, ours / peer", peaks_text),
    ],
}


def timed_table(result: Result, mode: str) -> str:
    columns = COMMON + COLUMNS[result["suite"]]
    rows = timed_rows(result, mode)
    return table(
        [[head for head, _ in columns], *([text(result, r) for _, text in columns] for r in rows)]
    )


def memory_table(result: Result) -> str:
    lines = [["case", "ours, MiB", "peer, MiB", "ratio"]]
    for row in result["rows"]:
        if "ours_mib" in row:
            ratio = ratio_text(row["ratio"], "more")
            lines.append([row["case"], f"{row['ours_mib']:.0f}", f"{row['peer_mib']:.0f}", ratio])
    return table(lines) if len(lines) > 1 else ""


def case_text(row: Row) -> str:
    case: str = row["case"]
    return case if row["dtype"] == "float32" else f"{case}, {row['dtype']}"


def summary(result: Result, without: tuple[str, ...] = ()) -> str:
    """Geometric mean and worst of the grid's groups, then the other groups' cases one by one."""
    lines = [["", *MODES]]
    groups = dict.fromkeys(row["group"] for row in result["rows"])
    grid = ["grid"] if result["suite"] == "rnn" else list(groups)
    for group in grid:
        ratios = [[row["ratio"] for row in timed_rows(result, mode, group)] for mode in MODES]
        if not any(ratios):
            continue
        cases = max(map(len, ratios))
        name = f"{cases} shapes" if group == "grid" else f"{group}, {cases} case{'s' * (cases > 1)}"
        for text, number in (("geometric mean", geometric_mean), ("the worst", min)):
            cells = [ratio_text(number(r)) if r else "" for r in ratios]
            lines.append([f"{name}: {text}", *cells])
    others: dict[str, dict[str, str]] = {}
    for row in result["rows"]:
        if "ours_ms" in row and row["group"] not in (*grid, *without):
            others.setdefault(case_text(row), {})[row["mode"]] = ratio_text(row["ratio"])
    for case, texts in others.items():
        lines.append([case, *(texts.get(mode, "") for mode in MODES)])
    for row in result["rows"]:
        if "ours_mib" in row:
            lines.append([f"peak memory, {row['case']}", "", ratio_text(row["ratio"], "more")])
    return table(lines)


def missing_text(result: Result) -> str:
    """What a run did not get through or got wrong; empty if nothing."""
    lines = []
    if not result.get("finished", True):
        lines.append("**The run did not finish.**")
    if left_out := result.get("left_out"):
        lines.append(f"Left out for time: {'; '.join(left_out)}.")
    failures = result.get("failures", {})
    lines += [f"**Failed: {name}: {why}**" for name, why in failures.items()]
    return "\n\n".join(lines)


def machine_text(result: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    run = (
        f"{versions}, {result['compiler']}, Python {result['python']}, {result['system']}. "
        f"Commit {result['commit']}, {result['date'][:10]}. Peer: `{PEERS[result['suite']]}`"
    )
    if result["suite"] == "rnn_cuda":
        smi = result["smi"]
        products = ", ".join(f"{n} {g / 1e3:.0f}" for n, g in result["matmul_gflops"].items())
        return (
            f"{result['device']}, {result['multiprocessors']} multiprocessors, "
            f"{result['l2_mib']:.0f} MiB of second-level cache; driver "
            f"{smi.get('driver_version', 'unknown')}, CUDA {result['cuda']}, at most "
            f"{smi.get('clocks.max.sm', 'unknown')}. Products, TFLOP/s: {products}; copy "
            f"{result['copy_gbs']:.0f} GB/s. {run} (cuDNN {result['cudnn']})."
        )
    roof = result.get("fma_gflops")
    roofs = f"FMA peak {roof:.0f} GFLOP/s, " if roof else ""
    return (
        f"{result['device']}, {result['cores']} cores, {result['threads']} threads, "
        f"{result['cpu_isa']} kernels; {roofs}copy {result['copy_gbs']:.0f} GB/s. {run}."
    )


def suite_text(result: Result) -> str:
    tables = [
        f"### {mode.capitalize()}\n\n{timed_table(result, mode)}\n"
        for mode in MODES
        if timed_rows(result, mode)
    ]
    if memory := memory_table(result):
        tables.append(f"### Peak memory of training\n\n{memory}\n")
    if missing := missing_text(result):
        tables.append(f"### Missing\n\n{missing}\n")
    return SUITE.format(
        title=TITLES[result["suite"]],
        machine=machine_text(result),
        summary=summary(result),
        tables="\n".join(tables),
    )


def readme_text(result: Result) -> str:
    """The summary without the types other than float32, and where it was measured."""
    where = f"{result['device']}, {result['threads']} threads, {result['cpu_isa']} kernels"
    return (
        summary(result, without=("dtypes",)) + "\n\n"
        f"Shapes are steps x batch x input x hidden, in float32. {where}, "
        f"torch {result['versions']['torch']}, {result['date'][:10]}."
    )


def draw(results: list[Result], path: Path) -> None:
    """One bar for each case: its ratio on a logarithmic axis, with its spread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "seqfast"  # equal results give equal files
    matplotlib.rcParams["svg.fonttype"] = "none"
    bars = max(len(timed_rows(result, mode)) for result in results for mode in MODES)
    figure, grid = pyplot.subplots(
        len(results),
        len(MODES),
        figsize=(12, len(results) * (1.2 + 0.3 * bars)),
        layout="constrained",
        squeeze=False,
    )
    for result, line in zip(results, grid, strict=True):
        for mode, axes in zip(MODES, line, strict=True):
            rows = timed_rows(result, mode)[::-1]
            ratios = [row["ratio"] for row in rows]
            spread = [
                [ratio - row["ratio_low"] for ratio, row in zip(ratios, rows, strict=True)],
                [row["ratio_high"] - ratio for ratio, row in zip(ratios, rows, strict=True)],
            ]
            colours = [COLOURS["better" if ratio >= 1 else "worse"] for ratio in ratios]
            lengths = [ratio - 1 for ratio in ratios]
            places = range(len(rows))
            axes.barh(places, lengths, left=1, color=colours, xerr=spread, ecolor="#555555")
            axes.set_yticks(places, [case_text(row) for row in rows])
            axes.set_xscale("log", base=2)
            axes.set_xlim(min([0.7, *ratios]) / 1.1, max([1.4, *ratios]) * 1.2)
            axes.set_xticks([t for t in TICKS if axes.get_xlim()[0] < t < axes.get_xlim()[1]])
            axes.xaxis.set_major_formatter("{x:g}")
            axes.axvline(1, color="black", linewidth=1)
            axes.grid(axis="x", alpha=0.3)
            axes.set_title(f"{TITLES[result['suite']]}, {mode}, {result['device']}")
            axes.set_xlabel(f"time of {PEERS[result['suite']]} / time of seqfast")
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def check_peak(result: Result) -> None:
    """ValueError where seqfast passes the measured peak: then something else was measured.

    bfloat16 on the CPU is left out, as processors have instructions of their own for it.
    """
    for mode in MODES:
        for row in timed_rows(result, mode):
            roof = peak(result, row)
            exempt = result["suite"] == "rnn" and row["dtype"] == "bfloat16"
            if roof and not exempt and speed(row) > 1.02 * roof:
                raise ValueError(
                    f"report: {case_text(row)}, {mode}, runs at {speed(row):.0f} GFLOP/s, which "
                    f"cannot be: the FMA peak of this run is {roof:.0f}"
                )


def replace_block(text: str, block: str) -> str:
    """`text` with what stands between the two marks replaced. ValueError without the marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"report: README.md must contain {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=harness.RESULTS)
    parser.add_argument("--root", type=Path, default=harness.ROOT, help="where README.md is")
    args = parser.parse_args(argv)
    results = [r for r in harness.read_newest(args.results) if r["suite"] in TITLES]
    if not results:
        sys.exit(f"report: no results under {args.results}; `make bench` writes them")
    results.sort(key=lambda result: list(TITLES).index(result["suite"]))
    for result in results:
        check_peak(result)
    docs: Path = args.root / "docs"
    docs.mkdir(exist_ok=True)
    pictures = []
    suites = list(dict.fromkeys(result["suite"] for result in results))
    for suite in suites:
        of_suite = [result for result in results if result["suite"] == suite]
        draw(of_suite, docs / PICTURES[suite])
        pictures.append(f"![The ratio of every case]({PICTURES[suite]})")
    page = PAGE.format(pictures="\n".join(pictures), suites="\n".join(map(suite_text, results)))
    page += "".join(NOTES.get(suite, "") for suite in suites)
    (docs / "performance.md").write_text(page, encoding="utf-8")
    if results[0]["suite"] == "rnn":
        readme = args.root / "README.md"
        text = replace_block(readme.read_text(encoding="utf-8"), readme_text(results[0]))
        readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

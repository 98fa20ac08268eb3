"""Renders the newest results into docs/performance.md and .svg and the table of README.md.

python -m benchmarks.report [--results DIR] [--root DIR]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness

Result = dict[str, Any]
Row = dict[str, Any]

TITLES = {"rnn": "LSTM"}  # of the suites, in the order of the page
PEERS = {"rnn": "torch.nn.LSTM"}
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
MODES = ("forward", "training")
TICKS = (0.25, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 12, 16)
COLOURS = {"better": "#2a7ab9", "worse": "#c8553d"}

PAGE = """\
# Speed

Written by `make report` from `benchmarks/results/`, which `make bench` fills; not edited by hand.

Every figure is a ratio against a peer, measured in one run: above 1 seqfast is faster, below 1 it
is slower, and the row says so. Nothing that was measured is left out.

![The ratio of every case](performance.svg)

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
    measured: float | None = result.get("fma_gflops")
    return measured and measured * (0.5 if row["dtype"] == "float64" else 1.0)


def floor_ms(result: Result, row: Row) -> float | None:
    roof = peak(result, row)
    return roof and 1e3 * max(row["gflop"] / roof, row["gbyte"] / result["copy_gbs"])


def timed_rows(result: Result, mode: str, group: str | None = None) -> list[Row]:
    rows = [row for row in result["rows"] if "ours_ms" in row and row["mode"] == mode]
    return [row for row in rows if group in (None, row["group"])]


def milliseconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def timed_table(result: Result, mode: str) -> str:
    lines = [
        ["case", "ours, ms", "peer, ms", "ratio", "spread", "GFLOP/s", "of FMA peak", "floor, ms"]
    ]
    for row in timed_rows(result, mode):
        speed = 1e3 * row["gflop"] / row["ours_ms"]
        roof, floor = peak(result, row), floor_ms(result, row)
        lines.append(
            [
                case_text(row),
                milliseconds(row["ours_ms"]),
                milliseconds(row["peer_ms"]),
                ratio_text(row["ratio"]),
                f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}",
                f"{speed:.0f}",
                f"{100 * speed / roof:.0f} %" if roof else "-",
                milliseconds(floor) if floor else "-",
            ]
        )
    return table(lines)


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
    """The grid's geometric mean and worst shape, then the other groups' cases one by one."""
    lines = [["", *MODES]]
    grid = [[row["ratio"] for row in timed_rows(result, mode, "grid")] for mode in MODES]
    if all(grid):
        means = [ratio_text(geometric_mean(ratios)) for ratios in grid]
        lines.append([f"{len(grid[0])} shapes: geometric mean", *means])
        lines.append([f"{len(grid[0])} shapes: the worst", *(ratio_text(min(r)) for r in grid)])
    others: dict[str, dict[str, str]] = {}
    for row in result["rows"]:
        if "ours_ms" in row and row["group"] not in ("grid", *without):
            others.setdefault(case_text(row), {})[row["mode"]] = ratio_text(row["ratio"])
    for case, texts in others.items():
        lines.append([case, *(texts.get(mode, "") for mode in MODES)])
    for row in result["rows"]:
        if "ours_mib" in row:
            lines.append([f"peak memory, {row['case']}", "", ratio_text(row["ratio"], "more")])
    return table(lines)


def machine_text(result: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    roof = result.get("fma_gflops")
    roofs = f"FMA peak {roof:.0f} GFLOP/s, " if roof else ""
    return (
        f"{result['device']}, {result['cores']} cores, {result['threads']} threads, "
        f"{result['cpu_isa']} kernels; {roofs}copy {result['copy_gbs']:.0f} GB/s. {versions}, "
        f"{result['compiler']}, Python {result['python']}, {result['system']}. "
        f"Commit {result['commit']}, {result['date'][:10]}. Peer: `{PEERS[result['suite']]}`."
    )


def suite_text(result: Result) -> str:
    tables = [
        f"### {mode.capitalize()}\n\n{timed_table(result, mode)}\n"
        for mode in MODES
        if timed_rows(result, mode)
    ]
    if memory := memory_table(result):
        tables.append(f"### Peak memory of training\n\n{memory}\n")
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

    bfloat16 is left out, as processors have instructions of their own for it.
    """
    for mode in MODES:
        for row in timed_rows(result, mode):
            speed, roof = 1e3 * row["gflop"] / row["ours_ms"], peak(result, row)
            if roof and row["dtype"] != "bfloat16" and speed > 1.02 * roof:
                raise ValueError(
                    f"report: {case_text(row)}, {mode}, runs at {speed:.0f} GFLOP/s, which cannot "
                    f"be: the FMA peak of this run is {roof:.0f}"
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
    page = PAGE.format(suites="\n".join(map(suite_text, results)))
    (args.root / "docs").mkdir(exist_ok=True)
    (args.root / "docs" / "performance.md").write_text(page, encoding="utf-8")
    draw(results, args.root / "docs" / "performance.svg")
    readme = args.root / "README.md"
    text = replace_block(readme.read_text(encoding="utf-8"), readme_text(results[0]))
    readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

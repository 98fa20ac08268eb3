"""Renders the newest results into a page for each machine, their index and README.md's table.

python -m benchmarks.report [--results DIR] [--root DIR]

Pages are docs/performance/<machine>.md, the index docs/performance.md. The pictures, which git
does not keep, are build/report/<machine>/<suite>.svg.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from benchmarks import harness
from benchmarks.report_pictures import draw_all
from benchmarks.report_summary import readme_text, summary_text
from benchmarks.report_tables import (
    PICTURED,
    Result,
    case_text,
    memory_table,
    modes,
    peak,
    perplexity_table,
    sections,
    speed,
    summary,
    table,
    timed_rows,
    timed_table,
    wrapped,
)
from benchmarks.report_texts import INDEX, NOTES, PAGE, PICTURES, SUITE

# In the order of a page.
SUITES = (
    "rnn",
    "rnn_variants",
    "rnn_loops",
    "rnn_steps",
    "rnn_stream",
    "rnn_int8",
    "rnn_cuda",
    "word2vec",
    "word2vec_quality",
    "word2vec_arguments",
    "glove",
    "word2vec_cuda",
    "beam_search",
    "beam_decoder",
    "beam_generate",
    "ctc",
    "ctc_align",
    "beam_search_cuda",
)
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"


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
        f"Commit {result['commit']}, {result['date'][:10]}. Peer: {result['peer']}"
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
    where = f"{result['device']}, {result['cores']} cores, {result['threads']} threads"
    if "copy_gbs" not in result:
        return f"{where}, {result['cpu_isa']} kernels. {run}."
    roof = result.get("fma_gflops")
    roofs = f"FMA peak {roof:.0f} GFLOP/s, " if roof else ""
    if result["suite"] == "word2vec":
        peaks = {row["threads"]: row["roof_gflops"] for row in result["rows"]}
        each = ", ".join(f"{gflops:.0f} with {n}" for n, gflops in sorted(peaks.items()))
        roofs = f"FMA peak, GFLOP/s by threads: {each}; "
        where = f"{result['device']}, {result['cores']} cores"
    return (
        f"{where}, {result['cpu_isa']} kernels; {roofs}copy {result['copy_gbs']:.0f} GB/s. {run}."
    )


def suite_text(result: Result) -> str:
    tables = [
        f"### {mode.capitalize()}\n\n{timed_table(result, mode)}\n"
        for mode in modes(result)
        if timed_rows(result, mode)
    ]
    if memory := memory_table(result):
        tables.append(f"### Peak memory of training\n\n{memory}\n")
    if perplexities := perplexity_table(result):
        tables.append(f"### Perplexity\n\n{perplexities}\n")
    if missing := missing_text(result):
        tables.append(f"### Missing\n\n{missing}\n")
    return SUITE.format(
        title=result["title"],
        machine=wrapped(machine_text(result)),
        summary=summary(result),
        tables="\n".join(tables),
    )


def page_text(machine: str, results: list[Result]) -> str:
    """Everything that was measured on one machine."""
    pictured = [f"`{r['suite']}.svg`" for r in results if r["suite"] in PICTURED]
    pictures = PICTURES.format(machine=machine, names=", ".join(pictured)) if pictured else ""
    suites = "\n".join(suite_text(part) for result in results for part in sections(result))
    return PAGE.format(device=results[0]["device"], pictures=pictures, suites=suites)


def anchor(title: str) -> str:
    """The name that a heading has in a link to it."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def index_text(results: list[Result]) -> str:
    """What is measured, the pages that have it, and how to read them."""
    lines: dict[str, list[str]] = {}
    for part in (part for result in results for part in sections(result)):
        link = f"performance/{part['machine']}.md#{anchor(part['title'])}"
        name = f"{part['device']}, {part['date'][:10]}"
        lines.setdefault(part["title"], [part["peer"], ""])[1] += f"[{name}]({link})<br>"
    rows = [[title, peer, links.removesuffix("<br>")] for title, (peer, links) in lines.items()]
    text = INDEX.format(
        measured=table([["what", "peer", "where"], *rows], "---"), summary=summary_text(results)
    )
    suites = dict.fromkeys(result["suite"] for result in results)
    return text + "".join(NOTES.get(suite, "") for suite in suites)


def check_peak(result: Result) -> None:
    """ValueError where seqfast passes the measured peak: then something else was measured.

    bfloat16 on the CPU is left out, as processors have instructions of their own for it.
    """
    for mode in modes(result):
        for row in timed_rows(result, mode):
            if "gflop" not in row:
                continue
            roof = peak(result, row)
            exempt = result["suite"] != "rnn_cuda" and row["dtype"] == "bfloat16"
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
    results = [r for r in harness.read_newest(args.results) if r["suite"] in SUITES]
    if not results:
        sys.exit(f"report: no results under {args.results}; `make bench` writes them")
    results.sort(key=lambda result: SUITES.index(result["suite"]))
    for result in results:
        check_peak(result)
    pages: Path = args.root / "docs" / "performance"
    pages.mkdir(parents=True, exist_ok=True)
    machines: dict[str, list[Result]] = {}
    for result in results:
        machines.setdefault(result["machine"], []).append(result)
    for page in pages.glob("*.md"):
        if page.stem not in machines:
            page.unlink()
    for machine, measured in machines.items():
        text = page_text(machine, measured)
        (pages / f"{machine}.md").write_text(text, encoding="utf-8")
        draw_all(measured, args.root / "build" / "report" / machine)
    pages.with_suffix(".md").write_text(index_text(results), encoding="utf-8")
    if results[0]["suite"] == "rnn":
        readme = args.root / "README.md"
        text = replace_block(readme.read_text(encoding="utf-8"), readme_text(results))
        readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

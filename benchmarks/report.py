"""Renders the newest results into a page for each machine, their index and README.md's tables.

python -m benchmarks.report [--results DIR] [--root DIR]

Pages are docs/performance/<machine>.md, the index docs/performance.md. The pictures, which git
does not keep, are build/report/<machine>/<suite>.svg.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness, word2vec_quality
from benchmarks.report_texts import INDEX, NOTES, PAGE, PICTURES, SUITE

Result = dict[str, Any]
Row = dict[str, Any]
Column = tuple[str, Callable[[Result, Row], str]]

# In the order of a page.
SUITES = (
    "rnn",
    "rnn_variants",
    "rnn_loops",
    "rnn_cuda",
    "word2vec",
    "word2vec_quality",
    "word2vec_cuda",
    "beam_search",
    "beam_decoder",
    "beam_generate",
    "ctc",
    "beam_search_cuda",
)
PICTURED = {"rnn", "rnn_variants", "rnn_loops", "rnn_cuda", "word2vec"}
LAYERS = ("LSTM", "GRU", "RNN")  # sections of the suite rnn
# Title and peer of the other suites, each of one section.
HEADS = {
    "rnn_variants": ("Variants", "our own plain layer"),
    "rnn_loops": ("Against loops in Python", "`benchmarks/loops.py`"),
    "rnn_cuda": ("On a GPU", "`torch.nn`, of variants our own plain layer"),
    "word2vec": ("Word vectors", "gensim's `Word2Vec` with `corpus_file` and as many workers"),
    "word2vec_quality": ("How good the word vectors are", "gensim's `Word2Vec`"),
    "word2vec_cuda": (
        "Word vectors on a GPU",
        "gensim's `Word2Vec` with `corpus_file` on all cores",
    ),
    "beam_search": ("Beam search", "torch's two formulations of a step, and a plain read"),
    "beam_decoder": ("Beam search over an attention decoder", "`benchmarks/beam_loops.py`"),
    "beam_generate": ("Beam search around transformers", "`model.generate(num_beams=5)`"),
    "ctc": ("CTC prefix beam search", "flashlight-text and pyctcdecode"),
    "beam_search_cuda": ("Beam search on a GPU", "as each row says"),
}
LARGE = "100x64x512x512"  # the shape whose part of the peak stands in the summary
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
MODES = ("forward", "training")  # of most suites
STEP_MEAN_GOAL = 6.0
PLAIN_READ = "plain read"  # what a step of beam search cannot do without
BEAM_SEARCH_MODES = ("step", "search")
WORD2VEC_MODES = ("training", "everything", "vocabulary")
TICKS = (0.25, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 12, 16)
COLOURS = {"better": "#2a7ab9", "worse": "#c8553d"}


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def ratio_text(ratio: float, worse: str = "slower") -> str:
    """Two digits; below 1 in bold with the plain word, so that no loss is overlooked."""
    return f"{ratio:.2f}" if round(ratio, 2) >= 1 else f"**{ratio:.2f}, {worse}**"


def table(lines: list[list[str]], others: str = "---:") -> str:
    """Markdown; the first line is the head, all columns but the first are numbers or `others`."""
    head, *body = lines
    rule = ["---", *[others] * (len(head) - 1)]
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


def factor_text(factor: float, most: float) -> str:
    """Two digits; above `most` in bold, with what was wanted."""
    return f"{factor:.2f}" if round(factor, 2) <= most else f"**{factor:.2f}, over {most:g}**"


def words_text(row: Row, side: str) -> str:
    """Thousand words of the text in a second, with all passes over it."""
    return f"{row['words'] * row.get('passes', 1) / row[side]:,.0f}"


def goal_text(row: Row) -> str:
    """The ratio; below its goal in bold, with what was wanted."""
    goal = row.get("goal")
    if goal is None or round(row["ratio"], 2) >= goal:
        return ratio_text(row["ratio"])
    return f"**{row['ratio']:.2f}, below {goal:g}**"


def roofline_text(row: Row) -> str:
    """What has a goal: in bold above it, with what was wanted."""
    times, most = row.get("of_roofline"), row.get("most_of_roofline")
    if times is None:
        return ""
    return f"{times:.2f}" if most is None else factor_text(times, most)


def read_text(row: Row) -> str:
    """Against a plain read the time factor, against anything else the ratio."""
    if row["group"] == PLAIN_READ:
        return f"{factor_text(1 / row['ratio'], row.get('most', math.inf))} reads"
    return goal_text(row)


def is_good(row: Row) -> bool:
    """At least as fast as the peer; what has a goal: within it."""
    if "most" in row:
        return bool(round(1 / row["ratio"], 2) <= row["most"])
    goal = row.get("goal")
    return bool(row["ratio"] >= 1 if goal is None else round(row["ratio"], 2) >= goal)


def modes(result: Result) -> tuple[str, ...]:
    if result["suite"].startswith("beam_search"):
        return BEAM_SEARCH_MODES
    if result["suite"] == "beam_generate":
        return ("decoding",)
    if result["suite"] == "beam_decoder":
        return ("search",)
    if result["suite"] == "ctc":
        return ("flashlight-text", "pyctcdecode")
    return WORD2VEC_MODES if result["suite"] in ("word2vec", "word2vec_cuda") else MODES


COMMON: list[Column] = [
    ("case", lambda result, row: case_text(row)),
    ("ours, ms", lambda result, row: milliseconds(row["ours_ms"])),
    ("peer, ms", lambda result, row: milliseconds(row["peer_ms"])),
    ("ratio", lambda result, row: ratio_text(row["ratio"])),
    ("spread", lambda result, row: f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}"),
]
ROOFS: list[Column] = [
    ("GFLOP/s", lambda result, row: f"{speed(row):.0f}"),
    ("of FMA peak", of_peak),
    ("floor, ms", floor_text),
]
COLUMNS: dict[str, list[Column]] = {
    "rnn": COMMON + ROOFS,
    "rnn_variants": [
        ("case", lambda result, row: case_text(row)),
        ("variant, ms", lambda result, row: milliseconds(row["ours_ms"])),
        ("plain, ms", lambda result, row: milliseconds(row["peer_ms"])),
        ("time factor", lambda result, row: factor_text(1 / row["ratio"], row["most"])),
        ("spread", lambda result, row: f"{1 / row['ratio_high']:.2f} - {1 / row['ratio_low']:.2f}"),
        *ROOFS,
    ],
    "rnn_loops": COMMON + ROOFS,
    "word2vec": [
        ("case", lambda result, row: case_text(row)),
        ("threads", lambda result, row: str(row["threads"])),
        ("ours, 1000 words/s", lambda result, row: words_text(row, "ours_ms")),
        ("peer, 1000 words/s", lambda result, row: words_text(row, "peer_ms")),
        ("ratio", lambda result, row: goal_text(row)),
        ("spread", lambda result, row: f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}"),
        ("GFLOP/s", lambda result, row: f"{speed(row):.0f}" if "gflop" in row else ""),
        ("of FMA peak", lambda result, row: of_peak(result, row) if "gflop" in row else ""),
    ],
    "rnn_cuda": [
        *COMMON,
        ("us a step", lambda result, row: f"{row['ours_us_per_step']:.2f}"),
        ("predicted", predicted_text),
        ("of roof", lambda result, row: f"{100 * row['roofline']:.1f} %"),
        ("strategy", lambda result, row: ", ".join(dict.fromkeys(row["strategies"]))),
        ("memory, MiB, ours / peer", peaks_text),
    ],
}
COLUMNS["beam_search"] = [
    ("batch x beams x vocabulary", lambda result, row: case_text(row)),
    ("against", lambda result, row: row["group"]),
    *COMMON[1:3],
    ("ratio", lambda result, row: read_text(row)),
    COMMON[4],
]
COLUMNS["word2vec_cuda"] = COLUMNS["word2vec"][:6]
for suite in ("beam_decoder", "beam_generate", "ctc"):
    COLUMNS[suite] = [*COMMON[:3], ("ratio", lambda _, row: goal_text(row)), COMMON[4]]
COLUMNS["beam_search_cuda"] = [*COMMON, ("times the roofline", lambda _, row: roofline_text(row))]


def timed_table(result: Result, mode: str) -> str:
    columns = COLUMNS[result["suite"]]
    rows = timed_rows(result, mode)
    return table(
        [[head for head, _ in columns], *([text(result, r) for _, text in columns] for r in rows)]
    )


def memory_table(result: Result) -> str:
    lines = [["case", "ours, MiB", "peer, MiB", "ratio"]]
    for row in result["rows"]:
        if "ours_mib" in row:
            ratio = ratio_text(row["ratio"], "more")
            lines.append(
                [case_text(row), f"{row['ours_mib']:.0f}", f"{row['peer_mib']:.0f}", ratio]
            )
    return table(lines) if len(lines) > 1 else ""


def case_text(row: Row) -> str:
    """Without the layer's name where a section is about that layer alone."""
    case: str = row["case"]
    if "variant" not in row:
        for layer in LAYERS:
            case = case.removeprefix(f"{layer} ")
    return case if row["dtype"] == "float32" else f"{case}, {row['dtype']}"


def spread_lines(
    ratios: list[list[float]], name: str, text: Callable[[float], str] = ratio_text
) -> dict[str, list[str]]:
    """Geometric mean and worst of each mode's ratios."""
    kinds = (("geometric mean", geometric_mean), ("the worst", min))
    return {
        f"{name}: {kind}": [text(number(r)) if r else "" for r in ratios] for kind, number in kinds
    }


def layer_lines(result: Result, without: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Of a section of the suite rnn: the grid, then all other cases one by one."""
    rows = [row for row in result["rows"] if row["group"] not in without]
    grid = [timed_rows(result, mode, "grid") for mode in MODES]
    lines: dict[str, list[str]] = {}
    if any(grid):
        ratios = [[row["ratio"] for row in mode] for mode in grid]
        lines |= spread_lines(ratios, f"{max(map(len, ratios))} shapes")
    peaks = [[of_peak(result, r) for r in mode if case_text(r) == LARGE] for mode in grid]
    if any(peaks):
        lines[f"{LARGE}: of FMA peak"] = [(*texts, "")[0] for texts in peaks]
    for row in rows:
        if "ours_ms" in row and row["group"] != "grid":
            texts = lines.setdefault(case_text(row), [""] * len(MODES))
            texts[MODES.index(row["mode"])] = ratio_text(row["ratio"])
    for row in rows:
        if "ours_mib" in row:
            lines[f"peak memory, {case_text(row)}"] = ["", ratio_text(row["ratio"], "more")]
    return lines


def group_lines(result: Result, key: str) -> dict[str, list[str]]:
    """Geometric mean and worst of all rows that agree on `key`."""
    lines: dict[str, list[str]] = {}
    for group in dict.fromkeys(row[key] for row in result["rows"] if "ours_ms" in row):
        ratios = [
            [row["ratio"] for row in timed_rows(result, mode) if row[key] == group]
            for mode in MODES
        ]
        cases = max(map(len, ratios))
        lines |= spread_lines(ratios, f"{group}, {cases} case{'s' * (cases > 1)}")
    return lines


def variant_lines(result: Result) -> list[list[str]]:
    """Geometric mean and largest of each variant's time factors."""
    lines = [["time factor", *(f"{mode}{kind}" for mode in MODES for kind in ("", ", the worst"))]]
    for variant in dict.fromkeys(row["variant"] for row in result["rows"]):
        cells = [variant]
        for mode in MODES:
            rows = [row for row in timed_rows(result, mode) if row["variant"] == variant]
            factors = [1 / row["ratio"] for row in rows]
            for number in (geometric_mean, max):
                cells.append(factor_text(number(factors), rows[0]["most"]) if rows else "")
        lines.append(cells)
    return lines


def goal_lines(result: Result) -> list[list[str]]:
    """Every case with a goal: training and everything, with each number of threads."""
    rows = [row for row in result["rows"] if row["group"] == "goals"]
    threads = sorted({row["threads"] for row in rows})
    counts = [f"{count} thread{'s' * (count > 1)}" for count in threads]
    kinds = ("training", "everything")
    lines = [["", "goal", *(f"{kind}, {count}" for kind in kinds for count in counts)]]
    for case in dict.fromkeys(row["case"] for row in rows):
        cells, goals = {}, []
        for row in rows:
            if row["case"] == case:
                kind = "everything" if row["mode"] == "vocabulary" else row["mode"]
                cells[kind, row["threads"]] = goal_text(row)
                goals += [f"{row['goal']:g}"] if row["goal"] else []
        texts = [cells.get((kind, count), "") for kind in kinds for count in threads]
        lines.append([case, goals[0] if goals else "", *texts])
    return lines


def grid_lines(result: Result) -> list[list[str]]:
    """The grid's ratios: a line for each way of training, a column for each size and window."""
    rows = [row for row in result["rows"] if row["group"] == "grid"]
    places = dict.fromkeys((row["size"], row["window"]) for row in rows)
    lines = [["ratio", *(f"d {size}, w {window}" for size, window in places)]]
    for case in dict.fromkeys(row["case"].split(", d ")[0] for row in rows):
        cells = {
            (row["size"], row["window"]): ratio_text(row["ratio"])
            for row in rows
            if row["case"].split(", d ")[0] == case
        }
        lines.append([case, *(cells.get(place, "") for place in places)])
    return lines


def step_lines(result: Result) -> list[list[str]]:
    """Each size's ratio to the faster formulation, and its time in plain reads of the logits."""
    lines = [["", "goal", "ratio", "plain reads"]]
    nearest = []
    for case in dict.fromkeys(row["case"] for row in result["rows"]):
        rows = {row["group"]: row for row in result["rows"] if row["case"] == case}
        read = rows.pop(PLAIN_READ)
        nearest.append(min(rows.values(), key=lambda row: row["ratio"]))
        reads = factor_text(1 / read["ratio"], read.get("most", math.inf))
        lines.append([case, f"{nearest[-1]['goal']:g}", goal_text(nearest[-1]), reads])
    mean = geometric_mean([row["ratio"] for row in nearest])
    text = goal_text({"ratio": mean, "goal": STEP_MEAN_GOAL})
    return [*lines, ["geometric mean", f"{STEP_MEAN_GOAL:g}", text, ""]]


def summary(result: Result) -> str:
    if result["suite"] == "beam_search":
        return table(step_lines(result))
    if result["suite"] == "rnn_variants":
        return table(variant_lines(result))
    if result["suite"] in ("word2vec", "word2vec_cuda"):
        parts = [goal_lines(result), grid_lines(result)]
        return "\n\n".join(table(lines) for lines in parts if len(lines) > 1)
    if result["suite"].startswith(("beam_", "ctc")):
        ratios = [[row["ratio"] for row in timed_rows(result, m)] for m in modes(result)]
        lines = spread_lines(ratios, "all cases")
        return table([["", *modes(result)], *([name, *cells] for name, cells in lines.items())])
    if result["suite"] == "word2vec_quality":
        return table(word2vec_quality.table_lines(result["rows"]))
    if result["suite"] == "rnn":
        lines = layer_lines(result)
    else:
        lines = group_lines(result, "variant" if result["suite"] == "rnn_loops" else "group")
    return table([["", *MODES], *([name, *cells] for name, cells in lines.items())])


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
    if missing := missing_text(result):
        tables.append(f"### Missing\n\n{missing}\n")
    return SUITE.format(
        title=result["title"],
        machine=machine_text(result),
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
    text = INDEX.format(measured=table([["what", "peer", "where"], *rows], "---"))
    suites = dict.fromkeys(result["suite"] for result in results)
    return text + "".join(NOTES.get(suite, "") for suite in suites)


def sections(result: Result) -> list[Result]:
    """What has a title of its own: `result` with the rows that belong there, title and peer."""
    if result["suite"] in HEADS:
        title, peer = HEADS[result["suite"]]
        return [{**result, "title": title, "peer": peer}]
    found = []
    for layer in LAYERS:
        rows = [row for row in result["rows"] if row.get("cell", LAYERS[0]) == layer]
        if rows:
            found.append({**result, "rows": rows, "title": layer, "peer": f"`torch.nn.{layer}`"})
    return found


def variants_text(result: Result) -> str:
    """The cheapest and the dearest, and which of them miss their goal at some shape."""
    ranges = []
    for mode in MODES:
        ratios: dict[str, list[float]] = {}
        for row in timed_rows(result, mode):
            ratios.setdefault(row["variant"], []).append(row["ratio"])
        means = sorted((1 / geometric_mean(values), name) for name, values in ratios.items())
        if means:
            ends = (f"{factor:.2f} ({name})" for factor, name in (means[0], means[-1]))
            ranges.append(f"{mode} {' to '.join(ends)}")
    count = len(dict.fromkeys(row["variant"] for row in result["rows"]))
    text = f"{count} variants take, of the plain layer's time: {'; '.join(ranges)}."
    slow = dict.fromkeys(row["variant"] for row in result["rows"] if not is_good(row))
    return text + (f" **Over their goal at some shape: {', '.join(slow)}.**" if slow else "")


def readme_text(results: list[Result]) -> str:
    """Of the machine measured last: layers side by side, in float32; loops, variants; word vectors.

    The machine measured last is one for the layers and one for the word vectors.
    """
    texts = [layers_text([r for r in results if r["suite"].startswith("rnn")])]
    others = (
        ("word2vec", speed_text),
        ("word2vec_quality", quality_text),
        ("beam_search", steps_text),
        ("beam_decoder", searches_text),
        ("beam_generate", searches_text),
        ("ctc", searches_text),
    )
    for suite, text in others:
        if found := [result for result in results if result["suite"] == suite]:
            newest = max(found, key=lambda result: result["date"])
            texts.append(text(sections(newest)[0]))
    return "\n\n".join(texts)


def speed_text(result: Result) -> str:
    """Word vectors against gensim."""
    lines = goal_lines(result)
    lines[0][0] = f"word vectors, ratio to gensim {result['versions']['gensim']}"
    text = next(row["text"] for row in result["rows"] if row["group"] == "goals")
    words = next(row["words"] for row in result["rows"] if row["group"] == "goals")
    where = f"{result['device']}, {result['cpu_isa']} kernels, {result['date'][:10]}"
    return (
        f"{table(lines)}\n\n{text[0].upper()}{text[1:]}: {words:,} words; d 100, window 5. {where}."
    )


def quality_text(result: Result) -> str:
    """Which means differ from gensim's by more than the range of gensim's seeds."""
    found: dict[str, list[str]] = {"within": [], "above": [], "below": []}
    for row in result["rows"]:
        peers = [r for r in result["rows"] if (r["mode"], r["case"]) == (row["mode"], "gensim")]
        if row["case"] == "seqfast" and peers and len(peers[0]["seeds"]) > 1:
            for name, scores in row["scores"].items():
                how = word2vec_quality.verdict(peers[0]["scores"][name], scores)
                found[how].append(f"{name} ({word2vec_quality.MODE_NAMES[row['mode']]})")
    count = sum(map(len, found.values()))
    text = f"How good the vectors are, {count} scores against gensim's: "
    text += (
        f"{len(found['within'])} within the noise of its seeds, {len(found['above'])} above it, "
    )
    text += f"{len(found['below'])} below it"
    return f"{text}: **{', '.join(found['below'])}**." if found["below"] else f"{text}."


def steps_text(result: Result) -> str:
    """A step of beam search against torch."""
    lines = step_lines(result)
    lines[0][0] = f"a step of beam search, ratio to torch {result['versions']['torch']}"
    where = f"{result['device']}, {result['threads']} threads, {result['cpu_isa']} kernels"
    return (
        f"{table(lines)}\n\nSizes are batch x beams x vocabulary, in float32; the peer is the "
        f"faster of torch's two formulations, a plain read `logits.max()`. {where}, "
        f"{result['date'][:10]}."
    )


def searches_text(result: Result) -> str:
    """Whole searches against their peers: the cases that have a goal."""
    lines = [[f"{result['title']}, ratio to {result['peer']}", "goal", "ratio"]]
    for row in result["rows"]:
        if row.get("goal"):
            name = case_text(row) + (f", {row['mode']}" if len(modes(result)) > 1 else "")
            lines.append([name, f"{row['goal']:g}", goal_text(row)])
    where = f"{result['device']}, {result['threads']} thread{'s' * (result['threads'] > 1)}"
    return f"{table(lines)}\n\n{where}, {result['cpu_isa']} kernels, {result['date'][:10]}."


def layers_text(results: list[Result]) -> str:
    machine = max(results, key=lambda result: result["date"])["machine"]
    of_machine = [r for r in results if r["machine"] == machine]
    layers = [section for result in of_machine[:1] for section in sections(result)]
    columns = [layer_lines(section, without=("dtypes",)) for section in layers]
    names = dict.fromkeys(name for lines in columns for name in lines)
    head = ["", *(f"{section['title']}, {mode}" for section in layers for mode in MODES)]
    blank = [""] * len(MODES)
    body = [[name, *(cell for c in columns for cell in c.get(name, blank))] for name in names]
    first = of_machine[0]
    where = f"{first['device']}, {first['threads']} threads, {first['cpu_isa']} kernels"
    texts = [table([head, *body])]
    for result in of_machine[1:]:
        if result["suite"] == "rnn_loops":
            lines = group_lines(result, "variant")
            means = [[name.split(",")[0], *c] for name, c in lines.items() if "mean" in name]
            texts.append(table([["against a loop in Python, geometric mean", *MODES], *means]))
        elif result["suite"] == "rnn_variants":
            texts.append(variants_text(result))
    texts.append(
        f"Shapes are steps x batch x input x hidden, in float32. {where}, "
        f"torch {first['versions']['torch']}, {first['date'][:10]}."
    )
    return "\n\n".join(texts)


def draw(parts: list[Result], path: Path) -> None:
    """One bar for each case, with its spread: its ratio, or time factor, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "seqfast"  # equal results give equal files
    matplotlib.rcParams["svg.fonttype"] = "none"
    pictured = ("training",) if parts[0]["suite"] == "word2vec" else MODES
    heights = [1.2 + 0.3 * max(len(timed_rows(part, m)) for m in pictured) for part in parts]
    figure, grid = pyplot.subplots(
        len(parts),
        len(pictured),
        figsize=(12, sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for part, line in zip(parts, grid, strict=True):
        factors = part["suite"] == "rnn_variants"
        for mode, axes in zip(pictured, line, strict=True):
            rows = timed_rows(part, mode)[::-1]
            names = ("ratio_low", "ratio", "ratio_high")
            values = [[row[name] for name in names] for row in rows]
            if factors:
                values = [[1 / value for value in reversed(row)] for row in values]
            spread = [[row[k + 1] - row[k] for row in values] for k in (0, 1)]
            ratios = [ratio for _, ratio, _ in values]
            colours = [COLOURS["better" if is_good(row) else "worse"] for row in rows]
            lengths = [ratio - 1 for ratio in ratios]
            places = range(len(rows))
            axes.barh(places, lengths, left=1, color=colours, xerr=spread, ecolor="#555555")
            axes.set_yticks(places, [label_text(row) for row in rows])
            axes.set_xscale("log", base=2)
            axes.set_xlim(min([0.7, *ratios]) / 1.1, max([1.4, *ratios]) * 1.2)
            axes.set_xticks([t for t in TICKS if axes.get_xlim()[0] < t < axes.get_xlim()[1]])
            axes.xaxis.set_major_formatter("{x:g}")
            axes.axvline(1, color="black", linewidth=1)
            axes.grid(axis="x", alpha=0.3)
            axes.set_title(f"{part['title']}, {mode}, {part['device']}")
            peer = part["peer"].replace("`", "")
            axes.set_xlabel("variant / plain layer" if factors else f"time of {peer} / seqfast's")
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def draw_all(results: list[Result], folder: Path) -> None:
    """A picture for each suite that has one."""
    for result in results:
        if result["suite"] in PICTURED:
            folder.mkdir(parents=True, exist_ok=True)
            draw(sections(result), folder / f"{result['suite']}.svg")


def label_text(row: Row) -> str:
    """A case of a picture."""
    if "threads" not in row:
        return case_text(row)
    return f"{case_text(row)}, {row['threads']} thread{'s' * (row['threads'] > 1)}"


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

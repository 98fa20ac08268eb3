"""The tables of the pages about speed: what each kind of measurement shows, row by row."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from typing import Any

from benchmarks import harness, word2vec_quality

Result = dict[str, Any]
Row = dict[str, Any]
Column = tuple[str, Callable[[Result, Row], str]]

PICTURED = {"rnn", "rnn_variants", "rnn_loops", "rnn_cuda", "word2vec"}
LAYERS = ("LSTM", "GRU", "RNN")  # sections of the suite rnn
# Title and peer of the other suites, each of one section.
HEADS = {
    "rnn_variants": ("Variants", "our own plain layer"),
    "rnn_loops": ("Against loops in Python", "`benchmarks/loops.py`"),
    "rnn_steps": ("Single steps", "`torch.nn`'s cells and layers"),
    "rnn_stream": ("Streams", "`torch.nn`'s and our own layers, called a step at a time"),
    "rnn_int8": ("8 bits", "our float32, and `torch.ao`'s dynamic quantisation"),
    "rnn_cuda": ("On a GPU", "`torch.nn`, of variants our own plain layer"),
    "word2vec": ("Word vectors", "gensim's `Word2Vec` with `corpus_file` and as many workers"),
    "word2vec_quality": ("How good the word vectors are", "gensim's `Word2Vec`"),
    "word2vec_arguments": (
        "CBOW with the arguments that gensim gets",
        "gensim's `Word2Vec` with the same arguments",
    ),
    "glove": ("GloVe", "the C programs of stanfordnlp/GloVe"),
    "word2vec_cuda": (
        "Word vectors on a GPU",
        "gensim's `Word2Vec` with `corpus_file` on all cores",
    ),
    "beam_search": ("Beam search", "torch's two formulations of a step, and a plain read"),
    "beam_decoder": ("Beam search over an attention decoder", "`benchmarks/beam_loops.py`"),
    "beam_generate": ("Beam search around transformers", "`model.generate(num_beams=5)`"),
    "ctc": ("CTC prefix beam search", "flashlight-text and pyctcdecode"),
    "ctc_align": ("CTC alignment", "`torchaudio.functional.forced_align`"),
    "beam_search_cuda": ("Beam search on a GPU", "as each row says"),
}
GLOVE_PEER = "stanfordnlp/GloVe"
LARGE = "100x64x512x512"  # the shape whose part of the peak stands in the summary
MODES = ("forward", "training")  # of most suites
STEP_MEAN_GOAL = 6.0
PLAIN_READ = "plain read"  # what a step of beam search cannot do without
BEAM_SEARCH_MODES = ("step", "search")
WORD2VEC_MODES = ("training", "everything", "vocabulary")


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


def wrapped(text: str) -> str:
    """A paragraph in lines of at most 100 columns."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


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


def processor_text(row: Row) -> str:
    """Of all threads together, which other work on the machine does not lengthen."""
    if "ours_cpu" not in row:
        return ""
    return (
        f"{row['ours_cpu']:.3g} / {row['peer_cpu']:.3g} ({row['peer_cpu'] / row['ours_cpu']:.1f})"
    )


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
    if result["suite"] in ("rnn_stream", "rnn_int8"):
        return ("forward",)
    if result["suite"] == "glove":
        return ("co-occurrences", "training", "everything")
    if result["suite"] == "ctc":
        known = ("flashlight-text", "pyctcdecode", "pyctcdecode, words", "without a model")
        there = {row["mode"] for row in result["rows"]}
        return tuple(mode for mode in known if mode in there)
    if result["suite"] == "ctc_align":
        return ("torchaudio",)
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
    "rnn_steps": [*COMMON[:3], ("ratio", lambda result, row: goal_text(row)), COMMON[4]],
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
for suite in ("rnn_stream", "rnn_int8"):
    COLUMNS[suite] = [
        COMMON[0],
        ("against", lambda result, row: row["group"]),
        *COLUMNS["rnn_steps"][1:],
    ]
COLUMNS["beam_search"] = [
    ("batch x beams x vocabulary", lambda result, row: case_text(row)),
    ("against", lambda result, row: row["group"]),
    *COMMON[1:3],
    ("ratio", lambda result, row: read_text(row)),
    COMMON[4],
]
COLUMNS["word2vec_cuda"] = COLUMNS["word2vec"][:6]
COLUMNS["glove"] = [
    ("case", lambda result, row: case_text(row)),
    ("threads", lambda result, row: str(row["threads"])),
    ("ours, s", lambda result, row: f"{row['ours_ms'] / 1e3:.3g}"),
    ("peer, s", lambda result, row: f"{row['peer_ms'] / 1e3:.3g}"),
    ("ratio", lambda result, row: goal_text(row)),
    ("spread", lambda result, row: f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}"),
    ("processor time, ours / peer, s", lambda result, row: processor_text(row)),
]
for suite in ("beam_decoder", "beam_generate", "ctc", "ctc_align"):
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


def perplexity_table(result: Result) -> str:
    """Of language models in 8 bits and before; above its goal in bold."""
    lines = [["model", "8 bits", "float32", "factor"]]
    for row in result["rows"]:
        if "ours_perplexity" in row:
            ours, peer = row["ours_perplexity"], row["peer_perplexity"]
            factor, most = ours / peer, row["most"]
            text = f"{factor:.4f}" if factor <= most else f"**{factor:.4f}, over {most:g}**"
            lines.append([row["case"], f"{ours:.4f}", f"{peer:.4f}", text])
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
    if result["suite"] == "glove":
        speeds = [row for row in result["rows"] if "ratio" in row]
        lines = [["", "goal", "ratio"]]
        lines += [[r["mode"], f"{r['goal']:g}" if r["goal"] else "", goal_text(r)] for r in speeds]
        scored = [row for row in result["rows"] if "scores" in row]
        tables = [table(lines)]
        if scored:
            tables.append(table(word2vec_quality.table_lines(scored, GLOVE_PEER)))
        return "\n\n".join(tables)
    if result["suite"] in ("word2vec_quality", "word2vec_arguments"):
        return table(word2vec_quality.table_lines(result["rows"]))
    if result["suite"] == "rnn":
        lines = layer_lines(result)
    else:
        lines = group_lines(result, "variant" if result["suite"] == "rnn_loops" else "group")
    return table([["", *MODES], *([name, *cells] for name, cells in lines.items())])


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

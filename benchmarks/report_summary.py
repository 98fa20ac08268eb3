"""The newest results in short: the README's six rows, and the summary on the page about speed."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import word2vec_quality
from benchmarks.report_tables import (
    MODES,
    PLAIN_READ,
    Result,
    Row,
    case_text,
    geometric_mean,
    goal_lines,
    goal_text,
    group_lines,
    is_good,
    layer_lines,
    modes,
    ratio_text,
    sections,
    step_lines,
    table,
    timed_rows,
    wrapped,
)

# The README's rows: name, peer, suite, and which cases of it count.
GAINS: tuple[tuple[str, str, str, Callable[[Row], bool]], ...] = (
    (
        "LSTM, training, float32",
        "`torch.nn.LSTM`",
        "rnn",
        lambda row: is_training(row, "LSTM", "grid"),
    ),
    (
        "GRU, training, float32",
        "`torch.nn.GRU`",
        "rnn",
        lambda row: is_training(row, "GRU", "grid"),
    ),
    (
        "LSTM, training, rows of different lengths",
        "`torch.nn.LSTM`, packed",
        "rnn",
        lambda row: is_training(row, "LSTM", "ragged"),
    ),
    (
        "Word vectors, skip-gram, an epoch",
        "gensim, `corpus_file`",
        "word2vec",
        lambda row: (row["mode"], row["case"]) == ("training", "skip-gram NS"),
    ),
    (
        "Beam search, a step",
        "`log_softmax` and `topk`",
        "beam_search",
        lambda row: True,
    ),
    (
        "CTC prefix beam search",
        "flashlight-text, pyctcdecode",
        "ctc",
        lambda row: bool(row.get("goal")),
    ),
)


def is_training(row: Row, cell: str, group: str) -> bool:
    """Whether it is a training case of `group`; without a cell's name it is an LSTM's."""
    return (row["mode"], row.get("cell", "LSTM"), row["group"]) == ("training", cell, group)


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
    text = f"Time factors of {count} variants relative to the plain layer: {'; '.join(ranges)}."
    slow = dict.fromkeys(row["variant"] for row in result["rows"] if not is_good(row))
    text += f" **Above their goal at some shape: {', '.join(slow)}.**" if slow else ""
    return wrapped(text)


def newest(results: list[Result], suite: str) -> Result | None:
    """Of the machine measured last; each suite has one of its own."""
    found = [result for result in results if result["suite"] == suite]
    return max(found, key=lambda result: result["date"]) if found else None


def summary_text(results: list[Result]) -> str:
    """What the newest runs found: layers, variants, word vectors, beam search, CTC."""
    layers = [r for r in results if r["suite"] in ("rnn", "rnn_loops", "rnn_variants")]
    texts = [layers_text(layers)] if newest(results, "rnn") else []
    others = (
        ("word2vec", speed_text),
        ("word2vec_quality", quality_text),
        ("beam_search", steps_text),
        ("beam_decoder", searches_text),
        ("beam_generate", searches_text),
        ("ctc", searches_text),
        ("ctc_align", searches_text),
    )
    for suite, text in others:
        if result := newest(results, suite):
            texts.append(text(sections(result)[0]))
    return "\n\n".join(texts)


def readme_text(results: list[Result]) -> str:
    """Six rows of what is measured most, and all that is slower than torch."""
    lines: list[list[str]] = []
    places: dict[str, None] = {}
    threads = 1
    for name, peer, suite, wanted in GAINS:
        result = newest(results, suite)
        rows = [row for row in step_rows(result) if wanted(row)] if result else []
        if result and rows:
            ratios = [row["ratio"] for row in rows]
            ends = ratio_text(geometric_mean(ratios)), ratio_text(min(ratios))
            lines.append([name, peer, *ends])
            threads = max(threads, *(row.get("threads", result["threads"]) for row in rows))
            places[f"{result['device']} ({result['date'][:10]})"] = None
    text = table([["", "peer", "mean ratio", "worst ratio"], *lines])
    note = "Ratio: time of the peer / time of seqfast, in one interleaved run; above 1 seqfast is "
    note += f"faster. Measured on {' and '.join(places)}, at most {threads} threads."
    if result := newest(results, "rnn"):
        note += f" {slower_text(result)}"
    return f"{text}\n\n{wrapped(note)}"


def step_rows(result: Result) -> list[Row]:
    """All timed rows; of a step of beam search those against the faster formulation."""
    rows = [row for row in result["rows"] if "ours_ms" in row]
    if result["suite"] != "beam_search":
        return rows
    best: dict[str, Row] = {}
    for row in rows:
        if row["group"] != PLAIN_READ:
            case = row["case"]
            best[case] = min(best.get(case, row), row, key=lambda r: r["ratio"])
    return list(best.values())


def slower_text(result: Result) -> str:
    """Which recurrent layers torch runs faster, by what they have in common."""
    rows = [row for row in result["rows"] if "ours_ms" in row]
    slow: dict[str, list[float]] = {}
    for row in rows:
        if round(row["ratio"], 2) < 1:
            name = case_text(row).split(", ")[-1]
            slow.setdefault(name, []).append(row["ratio"])
    if not slow:
        return f"None of {len(rows)} cases with recurrent layers is slower than torch."
    texts = [f"{name} (down to {min(ratios):.2f})" for name, ratios in slow.items()]
    count = sum(map(len, slow.values()))
    return (
        f"**Slower than torch in {count} of {len(rows)} cases with recurrent layers: "
        f"{'; '.join(texts)}.**"
    )


def speed_text(result: Result) -> str:
    """Word vectors against gensim."""
    lines = goal_lines(result)
    lines[0][0] = f"word vectors, ratio to gensim {result['versions']['gensim']}"
    text = next(row["text"] for row in result["rows"] if row["group"] == "goals")
    words = next(row["words"] for row in result["rows"] if row["group"] == "goals")
    where = f"{result['device']}, {result['cpu_isa']} kernels, {result['date'][:10]}"
    note = f"{text[0].upper()}{text[1:]}: {words:,} words; d 100, window 5. {where}."
    return f"{table(lines)}\n\n{wrapped(note)}"


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
    text = f"Quality of the vectors, {count} scores compared with gensim's: "
    text += f"{len(found['within'])} within the noise of its seeds, {len(found['above'])} above, "
    text += f"{len(found['below'])} below"
    return wrapped(f"{text}: **{', '.join(found['below'])}**." if found["below"] else f"{text}.")


def steps_text(result: Result) -> str:
    """A step of beam search against torch."""
    lines = step_lines(result)
    lines[0][0] = f"a step of beam search, ratio to torch {result['versions']['torch']}"
    where = f"{result['device']}, {result['threads']} threads, {result['cpu_isa']} kernels"
    note = (
        "Sizes are batch x beams x vocabulary, in float32. The peer is the faster of torch's two "
        f"formulations; a plain read is `logits.max()`. {where}, {result['date'][:10]}."
    )
    return f"{table(lines)}\n\n{wrapped(note)}"


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
    measured = newest(results, "rnn")
    of_machine = [r for r in results if measured and r["machine"] == measured["machine"]]
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
    note = f"Shapes are steps x batch x input x hidden, in float32. {where}, "
    texts.append(wrapped(f"{note}torch {first['versions']['torch']}, {first['date'][:10]}."))
    return "\n\n".join(texts)

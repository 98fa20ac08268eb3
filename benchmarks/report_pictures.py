"""The pictures of the pages about speed: a bar for each case, with its spread."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report_tables import (
    MODES,
    PICTURED,
    Result,
    Row,
    case_text,
    is_good,
    sections,
    timed_rows,
)

TICKS = (0.25, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 12, 16)
COLOURS = {"better": "#2a7ab9", "worse": "#c8553d"}


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

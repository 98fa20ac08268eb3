"""The rendered pages: losses are marked, equal results give equal files, the README is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, report, report_tables

pytest.importorskip("matplotlib")

ENVIRONMENT = {
    "machine": "m",
    "device": "CPU",
    "cores": 2,
    "threads": 2,
    "cpu_isa": "avx2",
    "compiler": "gcc",
    "system": "Linux",
    "python": "3.11",
    "versions": {"seqfast": "0.1", "torch": "2"},
    "commit": "abc",
    "date": "2030-01-01T00:00:00+00:00",
    "copy_gbs": 10.0,
    "fma_gflops": 100.0,
}


def row(mode: str, ratio: float, **changes: Any) -> dict[str, Any]:
    return {
        "group": "grid",
        "case": "1x2x3x4",
        "mode": mode,
        "dtype": "float32",
        "gflop": 1.0,
        "gbyte": 0.01,
        "ours_ms": 20.0,
        "peer_ms": 20.0 * ratio,
        "ratio": ratio,
        "ratio_low": ratio,
        "ratio_high": ratio,
        "pairs": 9,
        **changes,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [row(mode, ratio) for mode in report_tables.MODES for ratio in (0.5, 2.0)]
    rows.append(row("forward", 3.0, dtype="float64", group="dtypes"))
    rows.append(
        {"group": "memory", "case": "9x9", "mode": "training", "dtype": "float32"}
        | {"ours_mib": 20.0, "peer_mib": 10.0, "ratio": 0.5}
    )
    harness.write_results("rnn", rows, ENVIRONMENT, tmp_path / "results")
    (tmp_path / "README.md").write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    return tmp_path


PAGE = f"docs/performance/{ENVIRONMENT['machine']}.md"


def render(root: Path) -> dict[str, str]:
    """Name of every file that the report writes -> its text."""
    assert report.main(["--results", str(root / "results"), "--root", str(root)]) == 0
    texts = [root / "README.md", *root.glob("docs/**/*"), *root.glob("build/report/**/*")]
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in texts
        if path.is_file()
    }


def test_page(root: Path) -> None:
    page = render(root)[PAGE]
    assert "| 1x2x3x4 | 20 | 10 | **0.50, slower** | 0.50 - 0.50 | 50 | 50 % | 10 |" in page
    assert "| 1x2x3x4 | 20 | 40 | 2.00 | 2.00 - 2.00 | 50 | 50 % | 10 |" in page
    assert "| 1x2x3x4, float64 | 20 | 60 | 3.00 | 3.00 - 3.00 | 50 | 100 % | 20 |" in page
    assert "| 2 shapes: geometric mean | 1.00 | 1.00 |" in page
    assert "| 2 shapes: the worst | **0.50, slower** | **0.50, slower** |" in page
    assert "| 9x9 | 20 | 10 | **0.50, more** |" in page


def test_every_machine_has_a_page_and_the_index_links_them(root: Path) -> None:
    harness.write_results(
        "rnn",
        [row("forward", 2.0)],
        ENVIRONMENT | {"machine": "n", "device": "Other", "date": "2029-01-01T00:00:00+00:00"},
        root / "results",
    )
    files = render(root)
    links = "[CPU, 2030-01-01](performance/m.md#lstm)<br>[Other, 2029-01-01](performance/n.md#lstm)"
    assert f"| LSTM | `torch.nn.LSTM` | {links} |" in files["docs/performance.md"]
    for name in ("m", "n"):
        page = files[f"docs/performance/{name}.md"]
        assert page.count("\n## LSTM\n") == 1
        assert f"into `build/report/{name}/`: `rnn.svg`." in page
        assert "](../performance.md)" in page
        assert f"build/report/{name}/rnn.svg" in files


def test_a_machine_without_results_has_no_page(root: Path) -> None:
    old = root / PAGE.replace("m.md", "old.md")
    old.parent.mkdir(parents=True)
    old.write_text("measured once")
    assert old.name not in [Path(name).name for name in render(root)]


def test_readme_keeps_what_is_outside_the_block(root: Path) -> None:
    readme = render(root)["README.md"]
    assert readme.startswith(f"above\n{report.BEGIN}\n|")
    assert readme.endswith(f"\n{report.END}\nbelow\n")
    assert "old" not in readme
    assert "float64" not in readme


def test_rendering_again_changes_nothing(root: Path) -> None:
    assert render(root) == render(root)


def test_peak_may_be_unknown(root: Path) -> None:
    harness.write_results(
        "rnn",
        [row(mode, 2.0) for mode in report_tables.MODES],
        ENVIRONMENT | {"fma_gflops": None, "date": "2031-01-01T00:00:00+00:00"},
        root / "results",
    )
    page = render(root)[PAGE]
    assert "| 1x2x3x4 | 20 | 40 | 2.00 | 2.00 - 2.00 | 50 | - | - |" in page


def test_a_peak_that_is_passed_is_an_error(root: Path) -> None:
    harness.write_results(
        "rnn",
        [row("forward", 2.0)],
        ENVIRONMENT | {"fma_gflops": 45.0, "date": "2031-01-01T00:00:00+00:00"},
        root / "results",
    )
    with pytest.raises(ValueError, match=r"1x2x3x4, forward, runs at 50 GFLOP/s.* is 45"):
        render(root)


def test_a_readme_without_the_marks_is_an_error(root: Path) -> None:
    (root / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match=r"README\.md must contain <!-- table:begin -->"):
        render(root)


def test_no_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no results under"):
        report.main(["--results", str(tmp_path), "--root", str(tmp_path)])


CUDA = ENVIRONMENT | {
    "machine": "g",
    "device": "GPU",
    "multiprocessors": 132,
    "l2_mib": 60.0,
    "cuda": "13.0",
    "cudnn": 91000,
    "matmul_gflops": {"float16": 700_000.0, "float32": 50_000.0},
    "copy_gbs": 4300.0,
    "smi": {"driver_version": "580.1", "clocks.max.sm": "1980 MHz"},
    "finished": False,
    "left_out": ["a case", "another"],
    "failures": {"a third": "ValueError: wrong: output"},
}


def cuda_row(mode: str, ratio: float, **changes: Any) -> dict[str, Any]:
    return row(mode, ratio, group="others", dtype="float16") | {
        "gflop": 7000.0,
        "roof_gflops": 700_000.0,
        "roofline": 0.5,
        "ours_us_per_step": 1.5,
        "predicted_us_per_step": [0.5, 1.0, 2.0],
        "strategies": ["cluster", "grid"],
        "ours_peak_mib": 10.0,
        "peer_peak_mib": 20.0,
        **changes,
    }


def test_a_gpu_has_a_page_of_its_own(root: Path) -> None:
    before = render(root)
    rows = [cuda_row(mode, ratio) for mode in report_tables.MODES for ratio in (0.5, 2.0)]
    rows.append(cuda_row("forward", 3.0, group="captured", case="1x2x3x4, graph"))
    rows[-1] |= {"ours_peak_mib": None, "peer_peak_mib": None, "strategies": ["grid"]}
    path = root / "results" / "g" / "rnn_cuda-1.json"
    harness.write_json(path, {"suite": "rnn_cuda", **CUDA, "rows": rows})
    after = render(root)
    index = after.pop("docs/performance.md")
    assert {name: after[name] for name in before if name in after} == {
        name: text for name, text in before.items() if name != "docs/performance.md"
    }
    assert set(after) - set(before) == {"docs/performance/g.md", "build/report/g/rnn_cuda.svg"}

    page = after["docs/performance/g.md"]
    assert page.startswith("# Speed: GPU\n")
    _, section = page.split("## On a GPU")
    assert "into `build/report/g/`: `rnn_cuda.svg`." in page
    assert "[GPU, 2030-01-01](performance/g.md#on-a-gpu)" in index
    assert "driver 580.1, CUDA 13.0, at most 1980 MHz" in section
    assert "float16 700, float32 50; copy 4300 GB/s" in section
    cells = "0.50 - 2.00 (x 1.50) | 50.0 % | cluster, grid | 10 / 20 |"
    assert f"| 1x2x3x4, float16 | 20 | 40 | 2.00 | 2.00 - 2.00 | 1.50 | {cells}" in section
    assert f"| 20 | 10 | **0.50, slower** | 0.50 - 0.50 | 1.50 | {cells}" in section
    assert "0.50 - 2.00 (x 1.50) | 50.0 % | grid | - |" in section
    assert "| others, 2 cases: geometric mean | 1.00 | 1.00 |" in section
    assert "| captured, 1 case: the worst | 3.00 |  |" in section
    assert "**The run did not finish.**" in section
    assert "Left out for time: a case; another." in section
    assert "**Failed: a third: ValueError: wrong: output**" in section
    assert "CUDA events around a sample" in index
    assert not any("on a gpu" in text.lower() for text in before.values())


def test_each_layer_has_a_section(root: Path) -> None:
    rows = [
        row(mode, ratio, case=f"{cell} {report_tables.LARGE}", cell=cell)
        for cell, ratio in (("LSTM", 2.0), ("GRU", 0.5))
        for mode in report_tables.MODES
    ]
    rows.append(row("forward", 3.0, case="GRU 1x1x8x8, one step", cell="GRU", group="one step"))
    later = ENVIRONMENT | {"date": "2031-01-01T00:00:00+00:00"}
    harness.write_results("rnn", rows, later, root / "results")
    files = render(root)
    _, lstm, gru = files[PAGE].split("\n## ")
    assert lstm.startswith("LSTM\n")
    assert gru.startswith("GRU\n")
    assert "Peer: `torch.nn.LSTM`." in lstm
    assert "Peer: `torch.nn.GRU`." in gru
    assert "| 1 shapes: geometric mean | 2.00 | 2.00 |" in lstm
    assert "| 1 shapes: the worst | **0.50, slower** | **0.50, slower** |" in gru
    assert f"| {report_tables.LARGE}: of FMA peak | 50 % | 50 % |" in gru
    assert "| 1x1x8x8, one step | 3.00 |  |" in gru
    index = files["docs/performance.md"]
    assert "|  | LSTM, forward | LSTM, training | GRU, forward | GRU, training |" in index
    assert f"| {report_tables.LARGE}: of FMA peak | 50 % | 50 % | 50 % | 50 % |" in index
    assert "| 1x1x8x8, one step |  |  | 3.00 |  |" in index
    readme = files["README.md"]
    assert "| LSTM, training, float32 | `torch.nn.LSTM` | 2.00 | 2.00 |" in readme
    assert "| GRU, training, float32 | `torch.nn.GRU` | **0.50, slower** |" in readme
    assert "Measured on CPU (2031-01-01), at most 2 threads." in " ".join(readme.split())


def variant_row(mode: str, factor: float, **changes: Any) -> dict[str, Any]:
    changes = {"variant": "GRU zoneout", "most": 1.25, **changes}
    case = f"{changes['variant']} 1x2x3x4"
    return row(mode, 1 / factor, case=case, group="variant", **changes)


def test_a_variant_has_a_time_factor_and_a_goal(root: Path) -> None:
    rows = [variant_row(mode, factor) for mode in report_tables.MODES for factor in (1.0, 1.21)]
    rows.append(variant_row("training", 1.6, variant="RNN reset"))
    rows[-1] |= {"ratio_low": 0.5, "ratio_high": 1.0}
    harness.write_results("rnn_variants", rows, ENVIRONMENT, root / "results")
    files = render(root)
    section = files[PAGE].split("\n## Variants\n")[1]
    assert "| GRU zoneout | 1.10 | 1.21 | 1.10 | 1.21 |" in section
    assert "| RNN reset |  |  | **1.60, over 1.25** | **1.60, over 1.25** |" in section
    assert "| case | variant, ms | plain, ms | time factor | spread |" in section
    assert "| RNN reset 1x2x3x4 | 20 | 12.5 | **1.60, over 1.25** | 1.00 - 2.00 |" in section
    assert "Variants:\n\n- **The peer**" in files["docs/performance.md"]
    assert "build/report/m/rnn_variants.svg" in files
    ends = "forward 1.10 (GRU zoneout) to 1.10 (GRU zoneout); "
    ends += "training 1.10 (GRU zoneout) to 1.60 (RNN reset). "
    slow = "**Above their goal at some shape: RNN reset.**"
    text = f"Time factors of 2 variants relative to the plain layer: {ends}{slow}"
    assert text in " ".join(files["docs/performance.md"].split())


def test_loops_have_a_section(root: Path) -> None:
    rows = [
        row(mode, ratio, case="LSTM peephole 1x2x3x4", variant="LSTM peephole", group="loop")
        for mode in report_tables.MODES
        for ratio in (0.5, 8.0)
    ]
    harness.write_results("rnn_loops", rows, ENVIRONMENT, root / "results")
    other = ENVIRONMENT | {"machine": "another"}
    harness.write_results("rnn_variants", [variant_row("forward", 2.0)], other, root / "results")
    files = render(root)
    section = files[PAGE].split("\n## Against loops in Python\n")[1]
    assert "Peer: `benchmarks/loops.py`." in section
    assert "| LSTM peephole, 2 cases: geometric mean | 2.00 | 2.00 |" in section
    assert "| LSTM peephole, 2 cases: the worst | **0.50, slower** | **0.50, slower** |" in section
    assert "| LSTM peephole 1x2x3x4 | 20 | 160 | 8.00 |" in section
    index = files["docs/performance.md"]
    assert "| against a loop in Python, geometric mean | forward | training |" in index
    assert "| LSTM peephole | 2.00 | 2.00 |" in index
    assert "Time factors of" not in index  # measured elsewhere


def test_a_gpu_alone_leaves_the_readme(tmp_path: Path) -> None:
    path = tmp_path / "results" / "g" / "rnn_cuda-1.json"
    rows = [cuda_row(mode, 2.0) for mode in report_tables.MODES]
    harness.write_json(path, {"suite": "rnn_cuda", **CUDA, "rows": rows})
    assert report.main(["--results", str(tmp_path / "results"), "--root", str(tmp_path)]) == 0
    assert "| others, 1 case: the worst | 2.00 | 2.00 |" in (
        tmp_path / "docs" / "performance" / "g.md"
    ).read_text(encoding="utf-8")
    assert not (tmp_path / "README.md").exists()


def word2vec_row(ratio: float, **changes: Any) -> dict[str, Any]:
    facts = {"group": "goals", "case": "CBOW NS", "mode": "training", "threads": 1, "goal": 2.5}
    facts |= {"words": 60_000, "text": "the corpus", "roof_gflops": 100.0, "size": 100, "window": 5}
    return row("training", ratio) | facts | changes


def word2vec_results(root: Path, date: str = ENVIRONMENT["date"]) -> None:
    rows = [word2vec_row(ratio, threads=n) for n, ratio in ((1, 2.496), (2, 2.4))]
    rows.append(word2vec_row(3.0, mode="everything", passes=5))
    vocabulary = word2vec_row(9.0, mode="vocabulary", case="the vocabulary", goal=8.0)
    rows.append({k: v for k, v in vocabulary.items() if k not in ("gflop", "gbyte", "size")})
    for size, ratio in ((32, 0.5), (300, 4.0)):
        case = f"CBOW NS, d {size}, window 5"
        rows.append(word2vec_row(ratio, group="grid", case=case, goal=None, size=size))
    versions = {"seqfast": "0.1", "gensim": "4.4.0"}
    facts = ENVIRONMENT | {"machine": "w", "versions": versions, "date": date}
    harness.write_results("word2vec", rows, facts, root / "results")


def test_word_vectors_have_goals(root: Path) -> None:
    before = render(root)
    word2vec_results(root, "2031-01-01T00:00:00+00:00")
    after = render(root)
    picture = "build/report/m/rnn.svg"
    assert after[picture] == before[picture]
    section = after["docs/performance/w.md"].split("\n## Word vectors\n")[1]
    head = "| goal | training, 1 thread | training, 2 threads | everything, 1 thread |"
    assert head in section
    assert "| CBOW NS | 2.5 | 2.50 | **2.40, below 2.5** | 3.00 |  |" in section
    assert "| the vocabulary | 8 |  |  | 9.00 |  |" in section
    assert "| ratio | d 32, w 5 | d 300, w 5 |" in section
    assert "| CBOW NS | **0.50, slower** | 4.00 |" in section
    line = "| CBOW NS | 1 | 3,000 | 1,202 | 2.50 | 2.50 - 2.50 | 50 | 50 % |"
    assert line in section.split("### Training")[1]
    assert "| CBOW NS | 1 | 15,000 | 5,000 | 3.00 |" in section.split("### Everything")[1]
    line = "| the vocabulary | 1 | 3,000 | 333 | 9.00 | 9.00 - 9.00 |  |  |"
    assert line in section.split("### Vocabulary")[1]
    assert "FMA peak, GFLOP/s by threads: 100 with 1, 100 with 2;" in section
    assert "build/report/w/word2vec.svg" in after
    # Measured on another machine, later: the layers keep theirs.
    index = after["docs/performance.md"]
    assert "| 2 shapes: geometric mean | 1.00 | 1.00 |" in index
    assert "| word vectors, ratio to gensim 4.4.0 | goal |" in index
    assert "The corpus: 60,000 words; d 100, window 5. CPU, avx2 kernels" in index


def test_word_vectors_cannot_pass_the_peak(root: Path) -> None:
    rows = [word2vec_row(2.0, roof_gflops=45.0)]
    harness.write_results("word2vec", rows, ENVIRONMENT, root / "results")
    with pytest.raises(ValueError, match=r"CBOW NS, training, runs at 50 GFLOP/s.* is 45"):
        render(root)


def quality_row(side: str, scores: list[float]) -> dict[str, Any]:
    names = ("WordSim-353", "SimLex-999", "MEN", "RareWord", "analogies")
    values = dict.fromkeys(names, scores) | {"MEN": [0.5] * len(scores)}
    seeds = list(range(1, len(scores) + 1))
    return {"group": "quality", "mode": "sg-ns", "case": side, "seeds": seeds, "scores": values}


def test_quality_is_held_or_not(root: Path) -> None:
    rows = [quality_row("gensim", [0.50, 0.52, 0.54]), quality_row("seqfast", [0.55, 0.57, 0.59])]
    rows += [quality_row("per-pair negatives", [0.46, 0.48, 0.47])]
    rows += [quality_row("deterministic", [0.53])]
    facts = {k: v for k, v in ENVIRONMENT.items() if k not in ("copy_gbs", "fma_gflops")}
    harness.write_results("word2vec_quality", rows, facts, root / "results")
    files = render(root)
    _, section = files[PAGE].split("\n## How good the word vectors are\n")
    name = "skip-gram, negative sampling"
    assert f"| {name}: gensim | 3 | 0.520 ± 0.020 | 0.520 ± 0.020 | 0.500 ± 0.000 |" in section
    assert f"| {name}: seqfast | 3 | 0.570 ± 0.020, above | " in section
    assert f"| {name}: per-pair negatives | 3 | **0.470 ± 0.010, below** | " in section
    assert "| **47.0 ± 1.0 %, below** |" in section
    assert f"| {name}: deterministic | 1 | 0.530 | 0.530 | 0.500 | 0.530 | 53.0 % |" in section
    index = " ".join(files["docs/performance.md"].split())
    assert "gensim's: 1 within the noise of its seeds, 4 above, 0 below. " in index


def step_row(group: str, ratio: float, **changes: Any) -> dict[str, Any]:
    return row("step", ratio, group=group, **changes)


def test_steps_of_beam_search_have_goals(root: Path) -> None:
    rows = [
        step_row("log_softmax, topk", 9.0, case="1x2x3", goal=4.0),
        step_row("topk of rows", 8.0, case="1x2x3", goal=4.0),
        step_row("plain read", 0.8, case="1x2x3", most=2.0),
        step_row("log_softmax, topk", 2.0, case="4x5x6", goal=4.0),
        step_row("topk of rows", 3.0, case="4x5x6", goal=4.0),
        step_row("plain read", 0.4, case="4x5x6", most=2.0),
    ]
    harness.write_results("beam_search", rows, ENVIRONMENT, root / "results")
    files = render(root)
    for text in (files[PAGE], files["docs/performance.md"]):
        assert "| 1x2x3 | 4 | 8.00 | 1.25 |" in text
        assert "| 4x5x6 | 4 | **2.00, below 4** | **2.50, over 2** |" in text
        assert "| geometric mean | 6 | **4.00, below 6** |  |" in text
    # The README compares with the faster formulation of each size.
    assert "| Beam search, a step | `log_softmax` and `topk` | 4.00 | 2.00 |" in files["README.md"]
    page = files[PAGE]
    assert "| 4x5x6 | topk of rows | 20 | 60 | **3.00, below 4** | 3.00 - 3.00 |" in page
    assert "| 1x2x3 | plain read | 20 | 16 | 1.25 reads | 0.80 - 0.80 |" in page


def test_whole_searches_have_goals(root: Path) -> None:
    decoder = [row("search", 2.5, case="B32", goal=3.0), row("search", 3.5, case="B1", goal=None)]
    ctc = [row("flashlight-text", 9.0, case="a", goal=3.0)]
    ctc.append(row("pyctcdecode", 2.0, case="b", goal=3.0))
    harness.write_results("beam_decoder", decoder, ENVIRONMENT, root / "results")
    harness.write_results("ctc", ctc, ENVIRONMENT | {"threads": 1}, root / "results")
    align = [row("torchaudio", 5.0, case="c", goal=3.0)]
    harness.write_results("ctc_align", align, ENVIRONMENT | {"threads": 1}, root / "results")
    files = render(root)
    index, page = files["docs/performance.md"], files[PAGE]
    assert "| B32 | 3 | **2.50, below 3** |" in index
    assert "B1 " not in index
    assert "| a, flashlight-text | 3 | 9.00 |" in index
    assert "| b, pyctcdecode | 3 | **2.00, below 3** |" in index
    assert "| c | 3 | 5.00 |" in index
    assert "CPU, 1 thread, avx2 kernels, 2030-01-01." in index
    assert "| flashlight-text, pyctcdecode | 4.24 | 2.00 |" in files["README.md"]
    assert "| B1 | 20 | 70 | 3.50 | 3.50 - 3.50 |" in page
    assert "| all cases: the worst | 2.50 |" in page
    assert "### Flashlight-text" in page
    assert "## CTC alignment" in page

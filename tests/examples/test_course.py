"""The lessons at toy size: each runs, draws, and finds what it is there to show."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.example_cases import EXAMPLES, load_program

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytestmark = pytest.mark.usefixtures("one_thread")


class Lesson(NamedTuple):
    arguments: str
    holds: Callable[[Any], bool]  # of what its main returns
    needs: tuple[str, ...] = ()


LESSONS = {
    "by_hand": Lesson("", lambda worst: worst < 1e-12),
    "shapes": Lesson("--epochs 1 --steps 40 --hidden 24", lambda found: found["many to one"] > 0.6),
    "vanishing": Lesson(
        "--steps 60",
        lambda found: (
            found[0]["RNN"] < 1e-9 < 1e3 < found[0]["RNN, weights x 5"]
            and found[0]["LSTM"] > 1e-2
            and found[1]["clipped to 0.1"] < 0.101 < found[1]["as it is"]
        ),
    ),
    "lee": Lesson(
        "--epochs 1",
        lambda found: found[0] == [4, 12, 32] and found[1] == pytest.approx([0, 0, 0, 7, 0]),
    ),
    "variants": Lesson(
        "--epochs 1 --batches 2 --layers 2",
        lambda found: len(found) == 16 and all(0 < error < 100 for error in found.values()),
    ),
    "glove": Lesson(
        "--epochs 4 --size 10",
        lambda found: found["10 numbers a word"] < 0.9 * found["biases alone"],
    ),
    "debias": Lesson(
        "--sentences 4000 --epochs 12",
        lambda found: found[0][0] > 0.1 and found[1][0] < 1e-5 and found[0][1] > 1 > found[1][1],
    ),
    "language_models": Lesson(
        "--words 4000 --epochs 1 --hidden 16",
        lambda found: found["3-gram"] < found["1-gram"] and math.isfinite(found["LSTM"]),
    ),
    "names": Lesson("--epochs 3 --hidden 32", lambda found: found[0] < 20 and len(found[1]) == 3),
    "music": Lesson("--tunes 150 --epochs 3", lambda found: found[0][-1] < found[0][0]),
    "dropouts": Lesson("--epochs 1 --hidden 16", lambda found: len(found) == 10),
    "awd_lstm": Lesson(
        "--words 4000 --epochs 2 --size 16 --hidden 16",
        lambda found: all(second < first for first, second in found.values()),
    ),
    "word_vectors": Lesson(
        "--epochs 1 --size 8 --min-count 1 --probe file --data {corpus}",
        lambda found: len(found[0]) == 3,
        ("sklearn",),
    ),
    "transfer": Lesson(
        "--plain 500 --steps 100",
        lambda found: found["learnt, frozen"][0] > found["random, fine-tuned"][0],
    ),
    "sentiment": Lesson("--epochs 2", lambda found: found["LSTM"] > found["mean"]),
    "emoji": Lesson("--epochs 10", lambda found: found["learnt vectors"] > found["random vectors"]),
    "slots": Lesson(
        "--epochs 2 --sentences 600", lambda found: found["LSTM"] > 0.9 > found["feed-forward"]
    ),
    "tagging": Lesson("--epochs 2", lambda found: found["CRF"] > 0.2, ("seqeval",)),
    "key_terms": Lesson(
        "--documents 400 --epochs 6", lambda found: found[1]["attention"] > found[1]["tf-idf"]
    ),
    "dates": Lesson("--epochs 1 --steps 5 --test 8", lambda right: 0 <= right <= 8),
    "translate": Lesson(
        "--epochs 1 --hidden 32", lambda found: 0 <= found[0][5] <= 100, ("sacrebleu",)
    ),
    "parsing": Lesson("--epochs 1 --pairs 300 --hidden 32", lambda found: set(found) == {1, 5}),
    "text_autoencoder": Lesson("--epochs 2 --sentences 500", lambda found: 0 <= found[0] <= 1),
    "speech_autoencoder": Lesson(
        "--epochs 2 --takes 4",
        lambda found: found[1]["code of the auto-encoder"] > found[1]["mean of the features"],
    ),
    "captions": Lesson("--epochs 3", lambda found: found[0] > 0.3, ("sklearn",)),
    "memory_reading": Lesson(
        "--epochs 4 --stories 600 --hidden 32 --facts 6",
        lambda found: found["memory, 2 hops"] > found["LSTM, no memory"],
    ),
    "speech": Lesson("--epochs 1 --utterances 40", lambda found: found["greedy"] <= 1, ("jiwer",)),
    "trigger_words": Lesson("--epochs 2 --batches 3", lambda found: found["stretched"] >= 0),
    "bleu": Lesson("", lambda found: found[0] == pytest.approx(found[1]), ("sacrebleu",)),
}
PICTURES = {
    "vanishing",
    "music",
    "dropouts",
    "word_vectors",
    "transfer",
    "dates",
    "speech_autoencoder",
    "captions",
    "memory_reading",
    "trigger_words",
    "variants",
    "glove",
    "debias",
}


@pytest.mark.parametrize("name", LESSONS)
def test_lesson(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lesson = LESSONS[name]
    for package in lesson.needs:
        pytest.importorskip(package)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "one two three four five list tuple dict set file path read write call\n" * 50
    )
    words = lesson.arguments.format(corpus=corpus).split()
    found = load_program(name).main([*words, "--out", str(tmp_path)])
    assert lesson.holds(found), found
    printed = capsys.readouterr().out
    assert printed.strip()
    if name in PICTURES:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in printed


def test_every_lesson_is_short_and_known() -> None:
    shared = {"common"}
    names = {path.stem for path in EXAMPLES.glob("*.py")} - shared
    assert names == set(LESSONS)
    for name in names:
        text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 120, name
        assert ast.get_docstring(ast.parse(text)), name


def test_training_goes_on_after_an_interrupt(tmp_path: Path) -> None:
    import torch

    common = load_program("common")

    def run(epochs: int, checkpoint: Path | None) -> tuple[list[float], Any]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        data = [(torch.tensor([1.0, k, k * k]) / 9, torch.tensor([k / 3.0])) for k in range(4)]

        def loss_of(pair: Any) -> Any:
            return (model(pair[0]) - pair[1]).pow(2).sum()

        losses = common.train(model, lambda: data, loss_of, epochs=epochs, checkpoint=checkpoint)
        return losses, model.weight.detach().clone()

    whole, weight = run(4, None)
    path = tmp_path / "folder" / "run.pt"
    run(2, path)
    again, resumed = run(4, path)
    assert again == whole
    assert torch.equal(weight, resumed)


def test_training_keeps_the_best_weights_and_stops_early() -> None:
    import torch

    common = load_program("common")
    model = torch.nn.Linear(1, 1, bias=False)
    scores = iter([1.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    seen = []

    def score() -> float:
        seen.append(model.weight.item())
        return next(scores)

    losses = common.train(
        model, lambda: [1.0], lambda _: model.weight.sum(), epochs=6, score=score, patience=1
    )
    assert len(losses) == 4
    assert model.weight.item() == seen[1]


def test_reads_what_taggers_learn_from(tmp_path: Path) -> None:
    common = load_program("common")
    (tmp_path / "a.conll").write_text("New\tB-place\nYork\tI-place\n\nhi\tO\n\n", encoding="utf-8")
    wanted = [(["New", "York"], ["B-place", "I-place"]), (["hi"], ["O"])]
    assert common.tagged_sentences(tmp_path / "a.conll") == wanted
    (tmp_path / "b.json").write_text(
        '{"Go": [{"data": [{"text": "fly to "}, {"text": "New York", "entity": "place"}]}]}',
        encoding="utf-8",
    )
    wanted = [(["fly", "to", "New", "York"], ["O", "O", "B-place", "I-place"])]
    assert common.tagged_sentences(tmp_path / "b.json") == wanted


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"cannot read .*nothing\.txt"):
        load_program("common").read_text(tmp_path / "nothing.txt")


@pytest.mark.parametrize("name", ["broken.zip", "broken.tar.xz", "broken.tar"])
def test_a_broken_archive_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(SystemExit, match=f"cannot read .*{name}"):
        load_program("common").read_archive(tmp_path / name)


def test_counts_are_positive(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_program("bleu").arguments("", ["--epochs", "0"], epochs=3)
    assert "must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (FileExistsError("output is a file"), "output is a file"),
        (ModuleNotFoundError("No module named 'jiwer'"), "pip install '.[course]'"),
        (ZeroDivisionError("a fault of the lesson"), "Traceback|ZeroDivisionError"),
    ],
    ids=["interrupt", "file", "package", "fault"],
)
def test_what_is_no_fault_of_a_lesson_is_said_in_a_line(
    error: BaseException, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load_program("common").explain(type(error), error, None)
    printed = capsys.readouterr().err
    assert re.search(said.replace("[", r"\[").replace(".", r"\."), printed)


def test_the_course_page_has_all_items_and_no_empty_cell() -> None:
    page = EXAMPLES.parent / "docs" / "course.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if re.match(r"\| \d+ \|", line)
    ]
    assert [int(row[0]) for row in rows] == list(range(1, 46))
    linked = set()
    for row in rows:
        _, item, library, lesson, score, _baseline = row
        assert all(row), item
        assert "`" in library or "torch" in library, item
        assert re.search(r"\d", score), item
        scripts = re.findall(r"\(\.\./examples/(\w+)\.py\)", lesson)
        assert scripts, item
        linked.update(scripts)
    assert linked == set(LESSONS)


def test_records_are_of_lessons() -> None:
    records = sorted((EXAMPLES.parent / "docs" / "course").glob("*.txt"))
    assert len(records) > 20
    for path in records:
        assert path.stem in LESSONS
        first, *others = path.read_text(encoding="utf-8").splitlines()
        assert first.startswith(f"$ python examples/{path.stem}.py")
        assert any(line.strip() for line in others), path.stem

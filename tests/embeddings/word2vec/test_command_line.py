"""The command line: word2vec.c's arguments and files, and the manners of a good tool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast import Word2Vec
from seqfast.embeddings import files
from seqfast.embeddings.base import loop
from seqfast.embeddings.word2vec import __main__, training
from seqfast.embeddings.word2vec.__main__ import main

from .. import planted

PROGRAM = [sys.executable, "-m", "seqfast.embeddings.word2vec"]
COMMON = ["-size", "16", "-min-count", "2", "-iter", "2", "-threads", "1", "-debug", "0"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(planted.text())
    return path


def run(corpus: Path, *arguments: Any) -> int:
    return main(["-train", str(corpus), *COMMON, *map(str, arguments)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def by_class(corpus: Path, **options: Any) -> Word2Vec:
    common: dict[str, Any] = {
        "vector_size": 16, "min_count": 2, "epochs": 2, "workers": 1, "sg": 0, "alpha": 0.05,
        "min_alpha": 0.05 * 1e-4, "legacy_cbow": True, "progress": False,
    }  # fmt: skip
    return Word2Vec(corpus, **{**common, **options})


# ---- files ----


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="needs /dev/stdin")
def test_text_from_standard_input(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, "-output", tmp_path / "from file") == 0
    command = [*PROGRAM, "-train", "-", *COMMON, "-output", str(tmp_path / "from pipe")]
    subprocess.run(command, input=corpus.read_bytes(), check=True)
    assert (tmp_path / "from pipe").read_bytes() == (tmp_path / "from file").read_bytes()
    with corpus.open("rb") as file:
        subprocess.run(command, stdin=file, check=True)
    assert (tmp_path / "from pipe").read_bytes() == (tmp_path / "from file").read_bytes()
    done = subprocess.run(command, input="", stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_text_is_that_of_word2vec_c(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, "-output", tmp_path / "vectors") == 0
    model = by_class(corpus)
    lines = [f"{len(model)} 16\n"]
    lines += [
        f"{word} " + "".join(f"{value:f} " for value in model[word].tolist()) + "\n"
        for word in model
    ]
    assert (tmp_path / "vectors").read_text() == "".join(lines)
    assert names(tmp_path) == {"corpus.txt", "vectors"}


def test_binary_is_that_of_word2vec_c(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, "-output", tmp_path / "vectors", "-binary", 1) == 0
    model = by_class(corpus)
    rows = [f"{word} ".encode() + model[word].tobytes() + b"\n" for word in model]
    header = f"{len(model)} 16\n".encode()
    assert (tmp_path / "vectors").read_bytes() == header + b"".join(rows)


@pytest.mark.parametrize("binary", [0, 1])
def test_gensim_reads_it(binary: int, corpus: Path, tmp_path: Path) -> None:
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors", reason="needs gensim")
    assert run(corpus, "-output", tmp_path / "vectors", "-binary", binary) == 0
    found = keyedvectors.KeyedVectors.load_word2vec_format(
        str(tmp_path / "vectors"), binary=bool(binary)
    )
    model = by_class(corpus)
    assert found.index_to_key == model.index_to_key
    np.testing.assert_allclose(found.vectors, model.vectors, atol=0 if binary else 1e-6)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["-cbow", 0], {"sg": 1, "alpha": 0.025, "min_alpha": 0.025e-4}),
        (["-alpha", 0.01], {"alpha": 0.01, "min_alpha": 0.01e-4}),
        (["-hs", 1, "-negative", 0], {"hs": 1, "negative": 0}),
        (["-window", 2, "-sample", 0.01], {"window": 2, "sample": 0.01}),
        (["--seed", 7, "--mean-cbow"],
         {"seed": 7, "legacy_cbow": False, "alpha": 0.025, "min_alpha": 0.025e-4}),
        (["--deterministic", "-alpha", 0.02],
         {"deterministic": True, "alpha": 0.02, "min_alpha": 0.02e-4}),
        (["-cbow", 0, "--per-pair-negatives"],
         {"sg": 1, "shared_negatives": False, "alpha": 0.025, "min_alpha": 0.025e-4}),
    ],
    ids=str,
)  # fmt: skip
def test_arguments(
    arguments: list[Any], options: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    assert run(corpus, "-output", tmp_path / "vectors", "-binary", 1, *arguments) == 0
    model = by_class(corpus, **options)
    assert model["the"].tobytes() in (tmp_path / "vectors").read_bytes()


def test_defaults_are_word2vec_cs() -> None:
    parser = __main__._parser()
    options = parser.parse_args(["-train", "x", "-output", "y"])
    model = __main__._model(parser, options)
    assert (model.vector_size, model.window, model.sample) == (100, 5, 1e-3)
    assert (model.hs, model.negative, model.epochs, model.min_count) == (0, 5, 5, 5)
    assert (model.sg, model.alpha, model.min_alpha) == (0, 0.05, 0.05e-4)
    assert model.workers is not None
    assert 1 <= model.workers <= 12


def test_vocabulary_is_saved_and_read(corpus: Path, tmp_path: Path) -> None:
    saved, output = tmp_path / "words", tmp_path / "vectors"
    assert run(corpus, "-save-vocab", saved) == 0
    assert names(tmp_path) == {"corpus.txt", "words"}
    model = by_class(corpus)
    expected = [f"{w} {c}\n" for w, c in zip(model, model.counts.tolist(), strict=True)]
    assert saved.read_text() == "".join(expected)
    # As word2vec.c saves it: ends of lines are its first word.
    saved.write_text("</s> 600\n" + "".join(expected[:10]))
    assert run(corpus, "-read-vocab", saved, "-output", output) == 0
    words = [line.split()[0] for line in output.read_text().splitlines()]
    assert words == ["10", *model.index_to_key[:10]]


def test_classes(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    assert run(corpus, "-output", tmp_path / "classes", "-classes", 4) == 0
    pairs = [line.split(" ") for line in (tmp_path / "classes").read_text().splitlines()]
    assert [word for word, _ in pairs] == by_class(corpus).index_to_key
    assert {number for _, number in pairs} == set("0123")
    assert run(corpus, "-output", tmp_path / "classes", "-classes", 4000) == 1
    assert "-classes must be at most the" in capsys.readouterr().err


def test_packed_and_foreign_text(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gzip

    packed = tmp_path / "corpus.txt.gz"
    packed.write_bytes(gzip.compress(corpus.read_bytes() + b"\xff\xfe caf\xc3\xa9 caf\xc3\xa9\n"))
    assert run(packed, "-output", tmp_path / "vectors") == 0
    assert "caf\u00e9 " in (tmp_path / "vectors").read_text(encoding="utf-8")
    said = capsys.readouterr().err
    assert said.startswith(
        "word2vec: warning: corpus: 2 bytes are not valid utf-8 and are read as U+FFFD"
    )
    assert f"the first in line 601 of {packed}" in said


def test_what_it_says(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*COMMON[:-1], "1", "-train", str(corpus), "-output", str(tmp_path / "v")]
    assert main(arguments) == 0
    model = by_class(corpus)
    assert capsys.readouterr() == (
        f"Starting training using file {corpus}\n"
        f"Vocab size: {len(model)}\nWords in train file: {model.counts.sum()}\n",
        "",
    )
    arguments[arguments.index("-debug") + 1] = "2"
    assert main(arguments) == 0
    assert "epoch 2/2" in capsys.readouterr().err
    assert main([]) == 0
    assert "-read-vocab FILE" in capsys.readouterr().out


# ---- errors ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-output", "x"], "the following arguments are required: -train"),
        (["-train", "x"], "one of -output and -save-vocab is required"),
        (["-train", "x", "-output", "y", "-size", "ten"], "invalid int value: 'ten'"),
        (["-train", "x", "-output", "y", "-size", "0"], "vector_size must be from 1"),
        (["-train", "x", "-output", "y", "-window", "-5"], "window must be from 1 to 1073741823"),
        (
            ["-train", "x", "-output", "y", "-alpha", "nan"],
            "alpha must be a finite number, at least 0, got nan",
        ),
        (["-train", "x", "-output", "y", "-cbow", "2"], "-cbow must be 0 or 1, got 2"),
        (["-train", "x", "-output", "y", "-classes", "-1"], "-classes must be at least 0"),
        (["-train", "x", "-output", "y", "--resume"], "--resume needs --checkpoint"),
        (["-train", "x", "-output", "y", "--checkpoint", "y"],
         "-output and --checkpoint must be different files, got y for both"),
        (["-train", "x", "-output", "y", "-save-vocab", "./y"],
         "-output and -save-vocab must be different files, got y for both"),
        (["-train", "x", "-save-vocab", "y", "--checkpoint", "y"],
         "-save-vocab and --checkpoint must be different files, got y for both"),
        (["-train", "x", "-output", "y", "-fast"], "unrecognized arguments: -fast"),
        (["-train", "x", "-output", "y", "--device", "tpu"], "device must be cpu or cuda"),
        (["-train", "x", "-output", "y", "--checkpoint-every", "-1"], "checkpoint_every must be"),
    ],
)  # fmt: skip
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    written = capsys.readouterr().err
    assert "usage: word2vec" in written
    assert message in written


def test_links_to_one_file_are_one_file(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    with pytest.raises(SystemExit) as caught:
        run(corpus, "-output", tmp_path / "one", "-save-vocab", tmp_path / "link")
    assert caught.value.code == 2
    assert "must be different files" in capsys.readouterr().err
    assert (tmp_path / "one").read_text() == "kept"
    if os.path.exists("/dev/null"):
        assert run(corpus, "-output", "/dev/null", "-save-vocab", "/dev/null") == 0


def test_a_damaged_checkpoint_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint"
    arguments = ["-output", tmp_path / "vectors", "--checkpoint", path]
    assert run(corpus, *arguments) == 0
    path.write_bytes(path.read_bytes().replace(b'"words":', b'"wards":'))
    assert run(corpus, *arguments, "--resume") == 1
    assert f"error: checkpoint: {path} must be a file of" in capsys.readouterr().err


def test_what_is_not_there(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "absent", "-output", tmp_path / "vectors") == 1
    assert run(corpus, "-output", tmp_path / "vectors", "-min-count", 10_000) == 1
    assert run(corpus, "-read-vocab", tmp_path / "none", "-output", tmp_path / "vectors") == 1
    (tmp_path / "empty").touch()
    assert run(tmp_path / "empty", "-output", tmp_path / "vectors") == 1
    first, second, third, fourth = capsys.readouterr().err.splitlines()
    assert first.startswith("word2vec: error: ")
    assert "absent" in first
    assert "min_count must leave some words, got 10000 for a corpus of 3864 words" in second
    assert "none" in third
    assert "corpus must have words, got an empty one" in fourth
    assert not (tmp_path / "vectors").exists()


def test_unwritable_output_is_found_before_training(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(*_: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(training, "train", train)
    text = corpus.read_text()
    assert run(corpus, "-output", tmp_path / "absent" / "vectors") == 1
    assert run(corpus, "-output", tmp_path) == 1
    assert run(corpus, "-output", tmp_path / "v", "-save-vocab", tmp_path / "absent" / "w") == 1
    assert run(corpus, "-output", tmp_path / "v", "--checkpoint", tmp_path / "absent" / "c") == 1
    assert run(corpus, "-output", corpus) == 1
    messages = capsys.readouterr().err.splitlines()
    assert [message.startswith("word2vec: error: ") for message in messages] == [True] * 5
    assert "is an input, so it must not be an output too" in messages[-1]
    assert corpus.read_text() == text
    assert names(tmp_path) == {"corpus.txt"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(corpus, "-output", "/dev/full") == 1
    assert "No space left" in capsys.readouterr().err


def test_an_output_that_cannot_be_finished(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "vectors").write_text("before")

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fsync)
    assert run(corpus, "-output", tmp_path / "vectors") == 1
    assert (tmp_path / "vectors").read_text() == "before"
    assert names(tmp_path) == {"corpus.txt", "vectors"}
    # With a checkpoint that cannot be written either, one hears of both.
    assert run(corpus, "-output", tmp_path / "vectors", "--checkpoint", tmp_path / "c") == 1
    assert "warning: checkpoint: " in capsys.readouterr().err


# ---- interrupted ----


def test_interrupted_and_resumed(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common = ["-alpha", 0.02, "--deterministic", "--checkpoint", tmp_path / "c", "--resume"]
    assert run(corpus, "-output", tmp_path / "whole", *common) == 0
    (tmp_path / "c").unlink()
    train = training.Word2VecKernels.train
    calls = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        return train(*arguments)

    monkeypatch.setattr(loop, "_FIRST_SPAN_ROUNDS", 1)
    monkeypatch.setattr(loop, "_SPAN_SECONDS", 0.0)
    monkeypatch.setattr(training.Word2VecKernels, "train", interrupted)
    output = tmp_path / "vectors"
    assert run(corpus, "-output", output, *common) == 130
    message = f"word2vec: interrupted; --resume continues from {tmp_path / 'c'}\n"
    assert capsys.readouterr().err == message
    assert not output.exists()
    assert run(corpus, "-output", output, *common, "-window", 3) == 1
    assert "was made with window = 5, --resume got 3" in capsys.readouterr().err
    other = tmp_path / "other.txt"
    other.write_text(planted.text(seed=1))
    assert run(other, "-output", output, *common) == 1
    assert "corpus must be the one that the run began with" in capsys.readouterr().err
    assert run(corpus, "-output", output, *common) == 0
    assert output.read_bytes() == (tmp_path / "whole").read_bytes()
    calls = 2
    assert run(corpus, "-output", output) == 130
    assert capsys.readouterr().err == "word2vec: interrupted; there are no vectors\n"


@pytest.mark.alone
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_as_a_program(corpus: Path, tmp_path: Path) -> None:
    arguments = ["-train", str(corpus), "-output", str(tmp_path / "vectors")]
    done = subprocess.run(
        [*PROGRAM, *arguments, *COMMON], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len((tmp_path / "vectors").read_text().splitlines()) == len(by_class(corpus)) + 1
    wrong = subprocess.run([*PROGRAM, "-size"], capture_output=True, timeout=60, check=False)
    assert wrong.returncode == 2
    # Ctrl-C while it trains.
    arguments += [*COMMON, "-iter", "100000000", "-debug", "1"]
    arguments += ["--checkpoint", str(tmp_path / "c"), "--checkpoint-every", "0"]
    with subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "c").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        message = process.stderr.read()
    assert (process.returncode, message.count("\n")) == (130, 1), message
    assert "--resume continues from" in message
    assert Word2Vec.load(tmp_path / "c").state.run is not None

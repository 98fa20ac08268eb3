"""The command line: the authors' four tools in a pipe, all at once, resumed, and wrong uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast import GloVe
from seqfast.embeddings import formats
from seqfast.embeddings.glove.__main__ import main

from .. import planted

PROGRAM = [sys.executable, "-m", "seqfast.embeddings.glove"]
TRAINING = ["-vector-size", "12", "-iter", "2", "-threads", "1", "-verbose", "0", "-x-max", "10"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(planted.text())
    return path


def tool(name: str, *arguments: Any, text: bytes = b"") -> bytes:
    command = [*PROGRAM, name, *map(str, arguments), "-verbose", "0"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/stdin")
def test_four_tools_in_a_pipe(corpus: Path, tmp_path: Path) -> None:
    text = corpus.read_bytes()
    vocab, counted = tmp_path / "vocab.txt", tmp_path / "counted"
    vocab.write_bytes(tool("vocab_count", "-min-count", 2, text=text))
    lines = [line.split() for line in vocab.read_text().splitlines()]
    assert lines == sorted(lines, key=lambda line: (-int(line[1]), line[0]))
    counted.write_bytes(
        tool("cooccur", "-vocab-file", vocab, "-window-size", 4, "-memory", 0.5, text=text)
    )
    shuffled = tool("shuffle", "-seed", 3, text=counted.read_bytes())
    assert sorted(shuffled[i : i + 16] for i in range(0, len(shuffled), 16)) == sorted(
        counted.read_bytes()[i : i + 16] for i in range(0, len(shuffled), 16)
    )
    assert shuffled != counted.read_bytes()
    (tmp_path / "shuffled").write_bytes(shuffled)
    for source in ("counted", "shuffled"):
        arguments = ["glove", "-input-file", tmp_path / source, "-vocab-file", vocab, *TRAINING]
        arguments += ["-save-file", tmp_path / source, "-binary", 2, "-write-header", 1]
        assert main(list(map(str, arguments))) == 0
    words, vectors, _ = formats.load_word2vec_format(tmp_path / "counted.txt")
    assert words == [word for word, _ in lines]
    again = formats.load_word2vec_format(tmp_path / "shuffled.txt")
    np.testing.assert_array_equal(again.vectors, vectors)
    binary = np.fromfile(tmp_path / "counted.bin").reshape(2, len(words), 13)
    np.testing.assert_allclose(binary.sum(0)[:, :12], vectors, rtol=1e-5, atol=1e-6)


def test_all_at_once_is_the_class(corpus: Path, tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "out", tmp_path / "checkpoint"
    arguments = ["train", "-train", corpus, "-min-count", 2, "-window-size", 4, *TRAINING]
    arguments += ["-save-file", out, "-write-header", 1, "-model", 1, "--checkpoint", checkpoint]
    assert main(list(map(str, arguments))) == 0
    model = GloVe(
        corpus, vector_size=12, window=4, min_count=2, epochs=2, x_max=10, combine="words",
        workers=1, progress=False,
    )  # fmt: skip
    words, vectors, _ = formats.load_word2vec_format(f"{out}.txt")
    assert words == model.index_to_key
    np.testing.assert_array_equal(vectors, model.vectors)
    assert formats.load_counts(f"{out}.vocab")[words[0]] == model.counts[0]
    assert main([*map(str, arguments), "--resume"]) == 0
    assert main([*map(str, arguments), "--resume", "-eta", "0.1"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glove", "-x-max", "0"], "x_max must be a finite number above 0"),
        (["glove", "-eta", "nan"], "learning_rate must be"),
        (["glove", "-iter", "0"], "epochs must be"),
        (["glove", "-model", "3"], "-model must be 1 or 2"),
        (["glove", "-binary", "3"], "-binary must be 0, 1 or 2"),
        (["glove", "--resume"], "--resume needs --checkpoint"),
        (["train", "-train", "text", "-window-size", "0"], "window must be"),
        (["unknown"], "invalid choice"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) and len(value) > 1 else None,
)
def test_wrong_uses(arguments: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_errors_are_one_line(tmp_path: Path, capsys: Any, corpus: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("a 3\nb 2\n")
    cut = tmp_path / "cut"
    cut.write_bytes(b"\x01\0\0\0\x03\0\0\0" + np.float64(1).tobytes())
    arguments = ["glove", "-vocab-file", str(vocab), "-save-file", str(tmp_path / "out")]
    for content, message in (
        (cut.read_bytes()[:-3], "must be records of 16 bytes, got 13 bytes"),
        (cut.read_bytes(), "must have word2 from 1 to the 2 words of the vocabulary, got 3 to 3"),
    ):
        cut.write_bytes(content)
        assert main([*arguments, "-input-file", str(cut)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("glove: error: ")
        assert error.count("\n") == 1
    for content in ("", "a\n", "a b\n", "a 1\x00\n"):
        vocab.write_text(content)
        assert main([*arguments, "-input-file", str(cut)]) == 1
    assert main([]) == 0
    assert "vocab_count" in capsys.readouterr().out

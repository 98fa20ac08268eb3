"""The example at toy size: it reads what it should, answers honestly, and names what is wrong."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gensim")
pytest.importorskip("matplotlib")
pytest.importorskip("safetensors")
pytest.importorskip("sklearn")
pytest.importorskip("tqdm")

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "word_vectors.py"
TOY = ["--size", "12", "--epochs", "2", "--min-count", "1", "--workers", "1", "--window", "3"]

MODULE = '''
"""Opens a file and reads each row.

>>> read("a file")
"not a word of this"
... nor of this

The row has a key and a value.
"""

def read(path):
    """Returns the rows of the file's directory."""
    "This string is no docstring at all."

class Row:
    """Too short."""

async def write(path):
    """Writes the rows into the file's directory."""
'''


@pytest.fixture(scope="module")
def word_vectors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("word_vectors", PROGRAM)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "inner").mkdir(parents=True)
    (folder / "module.py").write_text(MODULE, encoding="utf-8")
    (folder / "copy.py").write_text(MODULE, encoding="utf-8")
    (folder / "broken.py").write_text("def (", encoding="utf-8")
    (folder / "binary.py").write_bytes(b"\x00\xff\x00")
    (folder / "data.json").write_text('"these words are not read"')
    text = "Keys and values: a key of a dict.\n\nFiles, directories; é, the file of a directory.\n"
    (folder / "inner" / "page.rst").write_bytes(text.encode() + b"\n\xff\xff\n")
    return folder


def test_paragraphs_are_read_once(word_vectors: ModuleType, docs: Path, tmp_path: Path) -> None:
    target = tmp_path / "corpus.txt"
    words = word_vectors.write_corpus(word_vectors.files_in([docs]), target, processes=1)
    lines = target.read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == [
        "files directories the file of a directory",
        "keys and values a key of a dict",
        "opens a file and reads each row",
        "returns the rows of the file directory",
        "the row has a key and a value",
        "writes the rows into the file directory",
    ]
    assert words == sum(len(line.split()) for line in lines)


def test_from_documentation_to_vectors(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    command = [sys.executable, str(PROGRAM), "--docs", str(docs), "--out", str(out), *TOY, "--peer"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert re.search(r"^44 words of 5 files in \d+ s: ", said, re.M)
    assert re.search(r"^\d+ different words; 2 epochs in [\d.]+ s, [\d,]+ words/s", said, re.M)
    assert re.search(r"^speed, seqfast / gensim: [\d.]+$", said, re.M)
    assert re.search(r"^  file +\w+(, \w+){5}$", said, re.M)
    assert "not in the vocabulary: array, string, function" in said
    assert re.search(r"key : keys = value : \?  (right|\w+; values is number \d+)$", said, re.M)
    assert "array : arrays = tensor : tensors, not asked: no array, arrays, tensor" in said
    assert re.search(r"^  \d of 2 right$", said, re.M)
    assert (out / "word_vectors.png").read_bytes().startswith(b"\x89PNG")

    import seqfast

    model = seqfast.Word2Vec.load(out / "word_vectors.safetensors")
    assert model.vectors.shape[1] == 12
    assert "directory" in model
    assert model.epochs_trained == 2


def test_processes_share_the_reading(docs: Path, tmp_path: Path) -> None:
    """In a process of its own, since the workers import the program by its path."""
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import word_vectors as w\n"
        "w.FILES_AT_ONCE = 1\n"
        "if __name__ == '__main__':\n"
        "    folder, target = map(pathlib.Path, sys.argv[2:])\n"
        "    print(w.write_corpus(w.files_in([folder]), target, 2))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    command = [sys.executable, str(script), str(PROGRAM.parent), str(docs), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "44\n"


class Model:
    """As much of Word2Vec as the analogies look at."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.index_to_key = list(vectors)
        self.key_to_index = {word: i for i, word in enumerate(vectors)}
        self.vectors = np.array(list(vectors.values()), np.float32)

    def __len__(self) -> int:
        return len(self.vectors)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index


def test_ranks_are_those_of_the_offset(word_vectors: ModuleType) -> None:
    vectors = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [1, 0, 0.1], "d": [0, 5, 0.5], "e": [0, 1, -1]}
    model: Any = Model(vectors)
    assert word_vectors.rank_of(model, "a", "b", "c", "d") == (1, "d")
    assert word_vectors.rank_of(model, "a", "b", "c", "e") == (2, "d")


def test_a_failed_analogy_is_shown(
    word_vectors: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(word_vectors, "ANALOGIES", ("a b c e", "a b c d", "a b c z"))
    vectors = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [1, 0, 0.1], "d": [0, 5, 0.5], "e": [0, 1, -1]}
    word_vectors.print_analogies(Model(vectors))
    said = capsys.readouterr().out
    assert "a : b = c : ?  d; e is number 2\n" in said
    assert "a : b = c : ?  right\n" in said
    assert "a : b = c : z, not asked: no z in the vocabulary\n" in said
    assert "1 of 2 right\n" in said


def test_documentation_of_python_is_found(word_vectors: ModuleType) -> None:
    found = word_vectors.documented_files()
    assert len(found) == len(set(found)) > 100
    assert Path(np.__file__) in found
    assert any(path.name == "argparse.py" for path in found)


def test_bad_corpus(word_vectors: ModuleType, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out"), *TOY]
    with pytest.raises(SystemExit, match=r"word_vectors: .*missing\.txt"):
        word_vectors.main(["--corpus", str(tmp_path / "missing.txt"), *out])
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(SystemExit, match=r"word_vectors: .*(empty|no words)"):
        word_vectors.main(["--corpus", str(tmp_path / "empty.txt"), *out])
    with pytest.raises(SystemExit, match=r"no folder at .*nowhere"):
        word_vectors.main(["--docs", str(tmp_path / "nowhere"), *out])


@pytest.mark.parametrize("option", ["epochs", "size", "window", "workers", "neighbours"])
def test_bad_option(
    option: str, word_vectors: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        word_vectors.main([f"--{option}", "0"])
    assert f"--{option} must be positive, got 0" in capsys.readouterr().err


def test_a_text_or_documentation(
    word_vectors: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        word_vectors.main(["--corpus", "a", "--docs", "b"])
    assert "exclude each other" in capsys.readouterr().err

"""Binaries of KenLM through its package: through a stand-in that knows an ARPA file, and itself."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast.decoding import CtcDecoder, NGram

SENTENCES = ["the cat sat on the mat", "the dog sat on the log", "a cat saw a dog", "a mat"]
MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"


class State:
    """KenLM's are equal where they remember the same words."""

    node = -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.node == other.node

    def __hash__(self) -> int:
        return hash(self.node)


class Model:
    """What `kenlm.Model` offers, answered by an `NGram`: base-10 logarithms, words as strings."""

    def __init__(self, path: str) -> None:
        arpa = Path(path).with_suffix(".arpa")
        if not arpa.exists():
            raise OSError(f"Cannot read model '{path}'")
        self.lm = NGram.load(arpa)
        self.order = self.lm.order

    def __contains__(self, word: str) -> bool:
        return word in self.lm.vocabulary

    def BeginSentenceWrite(self, state: State) -> None:
        state.node = self.lm.start()

    def NullContextWrite(self, state: State) -> None:
        state.node = 0

    def BaseScore(self, before: State, word: str, after: State) -> float:
        state, logprob = self.lm.step(before.node, self.lm.ids([word])[0])
        after.node = int(state)
        return max(float(logprob) / math.log(10), -100.0)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("kenlm")
    module.Model, module.State = Model, State
    monkeypatch.setitem(sys.modules, "kenlm", module)


def written(folder: Path, order: int = 3) -> tuple[NGram, Path]:
    lm = NGram.train(SENTENCES, order=order)
    lm.save(folder / "lm.arpa")
    (folder / "lm.bin").write_bytes(MAGIC + bytes(64))
    return lm, folder / "lm.bin"


def agree(found: NGram, lm: NGram) -> None:
    assert found.order == lm.order
    texts = [*SENTENCES, "", "a dog sat on a zebra", "zebra zebra the", "mat the a log log"]
    for text in texts:
        for begin, end in ((True, True), (True, False), (False, True)):
            wanted = lm.score(text, begin=begin, end=end)
            assert found.score(text, begin=begin, end=end) == pytest.approx(wanted, abs=1e-5)
        assert found.logprob("cat", text.split()) == pytest.approx(
            lm.logprob("cat", text.split()), abs=1e-5
        )
    assert found.logprob("sat", ["<s>", "the", "cat"]) == pytest.approx(
        lm.logprob("sat", ["<s>", "the", "cat"]), abs=1e-5
    )
    assert found.perplexity(texts) == pytest.approx(lm.perplexity(texts), rel=1e-4)
    words = ["cat", "zebra", "</s>"]
    states = [found.start(), found.state(["the"]), found.state([])]
    new, logprobs = found.step(np.array(states)[:, None], found.ids(words))
    assert new.shape == logprobs.shape == (3, 3)
    wanted_states = [lm.start(), lm.state(["the"]), lm.state([])]
    _, wanted_scores = lm.step(np.array(wanted_states)[:, None], lm.ids(words))
    np.testing.assert_allclose(logprobs, wanted_scores, atol=1e-5)
    assert found.ids(["zebra", "<s>", "</s>"]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.usefixtures("stand_in")
def test_a_binary_answers_as_its_file_does(tmp_path: Path, order: int) -> None:
    lm, path = written(tmp_path, order)
    found = NGram.load(path)
    assert isinstance(found, NGram)
    agree(found, lm)
    assert repr(found) == f"NGram(order={order}, a binary of KenLM: {path})"
    assert found  # it cannot be counted, but it is there
    assert set(found.vocabulary) <= set(lm.vocabulary)


@pytest.mark.usefixtures("stand_in")
def test_what_a_binary_cannot_do(tmp_path: Path) -> None:
    found = NGram.load(written(tmp_path)[1])
    for call in (lambda: found.save(tmp_path / "x"), lambda: len(found), lambda: found.tables()):
        with pytest.raises(ValueError, match=r"kenlm does not list .*; load the ARPA file that"):
            call()
    for states, words in (([0, 99], 0), ([-1], 0), ([0], 99)):
        with pytest.raises(ValueError, match=r"NGram.step: (states|words) must be from 0 to"):
            found.step(states, words)
    with pytest.raises(ValueError, match=r"NGram.tables: kenlm does not list .*; load the ARPA fi"):
        CtcDecoder(["", " ", *"abcdeghlmnostw"], lm=found)
    (tmp_path / "other.bin").write_bytes(MAGIC)
    with pytest.raises(ValueError, match=r"kenlm cannot read .*other.bin: Cannot read model"):
        NGram.load(tmp_path / "other.bin")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(ValueError, match="a binary of KenLM; pip install kenlm, or give the ARPA"):
        NGram.load(written(tmp_path)[1])


def test_with_kenlm_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kenlm = pytest.importorskip("kenlm", reason="needs kenlm")
    lm, path = written(tmp_path)
    if build := shutil.which("build_binary"):
        subprocess.run([build, str(tmp_path / "lm.arpa"), str(path)], check=True)
    else:  # it reads ARPA files, too
        model = kenlm.Model
        monkeypatch.setattr(
            kenlm, "Model", lambda path: model(str(Path(path).with_suffix(".arpa")))
        )
    agree(NGram.load(path), lm)

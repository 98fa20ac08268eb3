"""Word errors of a recogniser of handwriting: greedily, by the beam, with a model, a lexicon."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from seqfast.decoding import CtcDecoder, NGram, ctc_greedy

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SEQFAST_DATA", ROOT.parent / "shared" / "data")) / "ctc-handwriting"
# The blank is the last.
CHARACTERS = " !\"#&'()*+,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TRUTHS = {"line": "the fake friend of the family, like the", "word": "aircraft"}
# Of each way: what is read, and how many words of it are wrong.
EXPECTED = {
    "line": {
        "greedy": ("the fak friend of the fomly hae tC", 4),
        "beam": ("the fak friend of the fomcly hae tC", 4),
        "model": ("the fake friend of the family, hae the", 1),
        "lexicon": ("the fake friend of the family, fake the", 1),
    },
    "word": {
        "greedy": ("aircrapt", 1),
        "beam": ("aircrapt", 1),
        "model": ("aircraft", 0),
        "lexicon": ("aircraft", 0),
    },
}


def words_wrong(found: str, truth: str) -> int:
    """Fewest words put in, left out or replaced."""
    one, other = found.split(), truth.split()
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != right))
    return row[-1]


@pytest.mark.parametrize("name", ["line", "word"])
def test_word_errors(name: str) -> None:
    path = DATA / f"{name}_rnnOutput.csv"
    if not path.exists():
        pytest.skip(f"needs {path.name} of githubharald/CTCDecoder in {DATA}")
    scores = np.genfromtxt(path, delimiter=";")[:, :-1]
    log_probs = (scores - np.logaddexp.reduce(scores, 1, keepdims=True))[None]
    words = [
        word
        for word in (DATA / f"{name}_corpus.txt").read_text(encoding="utf-8").split()
        if set(word) <= set(CHARACTERS)
    ]
    # A line of words is one sentence, a list of words is many.
    lm = NGram.train([words] if name == "line" else [[word] for word in words], order=1)
    vocabulary = [*CHARACTERS, ""]
    greedy = ctc_greedy(log_probs, blank=len(CHARACTERS)).lists()[0]
    found = {
        "greedy": "".join(CHARACTERS[token] for token in greedy),
        "beam": CtcDecoder(vocabulary)(log_probs).texts[0],
        "model": CtcDecoder(vocabulary, lm=lm, unknown_score=-5.0)(log_probs).texts[0],
        "lexicon": CtcDecoder(vocabulary, lm=lm, lexicon=words)(log_probs).texts[0],
    }
    errors = {way: (text, words_wrong(text, TRUTHS[name])) for way, text in found.items()}
    assert errors == EXPECTED[name]

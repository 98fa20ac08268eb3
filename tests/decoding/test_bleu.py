"""BLEU against what sacrebleu gave real systems, against its definition, and its refusals."""

from __future__ import annotations

import dataclasses
import importlib
import json
import lzma
import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import seqfast
from seqfast.decoding import Bleu, bleu

SYSTEMS = Path(__file__).resolve().parents[3] / "shared/data/bleu/wmt17_en_de_systems.json.xz"


@pytest.fixture
def sacrebleu() -> Any:
    return pytest.importorskip("sacrebleu")


def ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def slow_bleu(hypotheses: list[str], references: list[str]) -> float:
    """Papineni et al. 2002 for one reference; words between spaces; no precision may be zero."""
    logarithms = 0.0
    pairs = [(h.split(), r.split()) for h, r in zip(hypotheses, references, strict=True)]
    for n in range(1, 5):
        matched = sum((ngrams(h, n) & ngrams(r, n)).total() for h, r in pairs)
        logarithms += math.log(matched / sum(ngrams(h, n).total() for h, _ in pairs)) / 4
    lengths = [sum(len(h) for h, _ in pairs), sum(len(r) for _, r in pairs)]
    return 100 * math.exp(logarithms + min(0.0, 1 - lengths[1] / lengths[0]))


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices("abc", k=draw.randint(4, 12))) for _ in range(count)]


@pytest.mark.skipif(not SYSTEMS.is_file(), reason="the shared data are not here")
def test_systems_of_wmt17(sacrebleu: Any) -> None:
    data = json.loads(lzma.decompress(SYSTEMS.read_bytes()))
    expected = data["expected_bleu_none_13a"]
    assert len(data["systems"]) == len(expected) == 16
    signature = "nrefs:1|case:mixed|eff:no|tok:{}|smooth:exp|version:" + sacrebleu.__version__
    for system, translations in data["systems"].items():
        found = bleu(translations, data["refs"])
        assert found.score == pytest.approx(expected[system][1], abs=1e-9), system
        assert found.signature == signature.format("13a")
    found = bleu(translations, data["refs"][0], tokenize="none")
    assert found.score == pytest.approx(expected[system][0], abs=1e-9)
    assert found.signature == signature.format("none")


@pytest.mark.parametrize("seed", range(5))
def test_is_what_papineni_defines(seed: int, sacrebleu: Any) -> None:
    hypotheses, references = sentences(20, seed), sentences(20, seed + 100)
    found = bleu(hypotheses, references, tokenize="none")
    assert found.score == pytest.approx(slow_bleu(hypotheses, references), rel=1e-12)
    shorter = [sentence[: len(sentence) // 2] for sentence in references]
    found = bleu(shorter, references, tokenize="none")
    assert found.score == pytest.approx(slow_bleu(shorter, references), rel=1e-12)
    assert found.brevity_penalty < 1


def test_parts(sacrebleu: Any) -> None:
    found = bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    assert found.counts == (5, 3, 2, 1)
    assert found.totals == (6, 5, 4, 3)
    assert found.precisions == pytest.approx((500 / 6, 60, 50, 100 / 3))
    assert (found.hypothesis_length, found.reference_length, found.brevity_penalty) == (6, 6, 1)
    assert float(found) == found.score
    assert str(found).startswith("BLEU 53.73 83.3/60.0/50.0/33.3 (brevity penalty 1.000, 6 tokens")
    assert str(found).endswith(found.signature)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.score = 100.0


def test_perfect_and_hopeless(sacrebleu: Any) -> None:
    text = sentences(3, 0)
    assert bleu(text, text).score == pytest.approx(100)
    assert bleu(["x y z w"] * 3, text).score == 0
    assert bleu(["", "", ""], text).score == 0
    assert bleu(("Ça va bien, toi ?",), ("Ça va bien, toi ?",)).score == pytest.approx(100)


def test_options_stand_in_the_signature(sacrebleu: Any) -> None:
    hypotheses, references = ["The Cat sat, happily."], ["the cat sat , happily ."]
    exact, lower = (bleu(hypotheses, references, lowercase=flag) for flag in (False, True))
    assert exact.score < lower.score
    assert lower.score == pytest.approx(100)
    assert "case:lc" in lower.signature
    for tokenize in ("13a", "intl", "zh", "char", "none"):
        found = bleu(hypotheses, references, tokenize=tokenize)
        assert f"tok:{tokenize}|" in found.signature


def test_several_references(sacrebleu: Any) -> None:
    hypotheses, other = sentences(4, 1), sentences(4, 2)
    assert bleu(hypotheses, [other, hypotheses]).score == pytest.approx(100)
    some = bleu(hypotheses, [other, [hypotheses[0], None, None, None]])
    assert bleu(hypotheses, other).score < some.score < 100
    assert some.signature.startswith("nrefs:var|")


def test_bad_input() -> None:
    def fails(kind: type[Exception], match: str, *args: Any, **options: Any) -> None:
        with pytest.raises(kind, match=match):
            bleu(*args, **options)

    fails(TypeError, "bleu: hypotheses must be a list of sentences, got a single str", "a", ["a"])
    fails(TypeError, "bleu: references must be a list of sentences, got a single str", ["a"], "a")
    fails(TypeError, "bleu: hypotheses must be a list of sentences, got int", 3, ["a"])
    fails(TypeError, r"bleu: hypotheses\[1\] must be a string, got int", ["a", 1], ["a", "b"])
    fails(TypeError, r"bleu: references\[1\] must be a string, got list", ["a", "b"], ["a", ["b"]])
    fails(TypeError, r"bleu: references\[0\] must be a list .*got NoneType", ["a"], [None])
    fails(
        TypeError,
        r"bleu: references\[1\]\[0\] must be a string or None, got int",
        ["a"],
        [["a"], [1]],
    )
    fails(ValueError, "bleu: hypotheses must have at least one sentence, got none", [], [])
    fails(ValueError, "bleu: references must have 1 sentences, got none", ["a"], [])
    fails(
        ValueError,
        r"bleu: references must have a sentence for each of 2 hypotheses, got 1",
        ["a", "b"],
        ["a"],
    )
    fails(
        ValueError,
        r"bleu: references\[1\] must have a sentence for each of 1 hypotheses, got 2",
        ["a"],
        [["a"], ["b", "c"]],
    )
    fails(
        ValueError,
        r"bleu: hypotheses\[1\] must have a reference, got None in all lists",
        ["a", "b"],
        [["a", None], ["a", None]],
    )
    fails(ValueError, "bleu: tokenize must be '13a', .*got 'spm'", ["a"], ["a"], tokenize="spm")


def test_without_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "sacrebleu":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"bleu needs sacrebleu: pip install seqfast\[decoding\]"):
        bleu(["a"], ["a"])


def test_the_package_offers_it() -> None:
    decoding = importlib.import_module("seqfast.decoding")
    assert seqfast.decoding is decoding
    assert {"Bleu", "bleu"} <= set(dir(decoding)) & set(decoding.__all__)
    assert decoding.Bleu is Bleu
    with pytest.raises(AttributeError, match="has no attribute 'blue'"):
        _ = decoding.blue


def test_importing_it_is_light() -> None:
    code = (
        "import sys, seqfast.decoding; seqfast.decoding.bleu\n"
        "assert not {'torch', 'sacrebleu'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

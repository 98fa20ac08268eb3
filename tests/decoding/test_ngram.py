"""N-gram models: against Kneser-Ney by its formulas, ARPA files there and back, broken files."""

from __future__ import annotations

import gzip
import itertools
import math
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from seqfast.decoding import NGram

SENTENCES = [
    "the cat sat on the mat",
    "the dog sat on the log",
    "a cat saw a dog",
    "",
    "the cat saw the mat on the log",
]


def random_sentences(seed: int, count: int, words: int = 12) -> list[list[str]]:
    rng = random.Random(seed)
    weights = [1 / (k + 1) for k in range(words)]
    names = [f"w{k}" for k in range(words)]
    return [rng.choices(names, weights, k=rng.randrange(0, 9)) for _ in range(count)]


class ByFormula:
    """Interpolated modified Kneser-Ney, word by word: p(w | h) by recursion."""

    def __init__(self, sentences: list[list[str]], order: int) -> None:
        self.order = order
        padded = [["<s>", *s, "</s>"] for s in sentences]
        self.words = sorted({w for s in padded for w in s} - {"<s>"} | {"<unk>"})
        grams = {
            n: Counter(tuple(s[i : i + n]) for s in padded for i in range(len(s) - n + 1))
            for n in range(1, order + 1)
        }
        self.counts: dict[int, dict[tuple[str, ...], int]] = {order: dict(grams[order])}
        for n in range(1, order):
            before = defaultdict(set)
            for gram in grams[n + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[n] = {
                g: c if g[0] == "<s>" else len(before[g]) for g, c in grams[n].items()
            }
        self.counts[1].pop(("<s>",), None)
        self.followers = {n: defaultdict(dict) for n in self.counts}
        for n, counts in self.counts.items():
            for gram, count in counts.items():
                self.followers[n][gram[:-1]][gram[-1]] = count

    def discount(self, n: int, count: int) -> float:
        of = Counter(self.counts[n].values())
        fallback = [0, 0.5, 1, 1.5]
        if not all(of[k] for k in (1, 2, 3, 4)):
            return fallback[min(count, 3)]
        y = of[1] / (of[1] + 2 * of[2])
        found = [0] + [k - (k + 1) * y * of[k + 1] / of[k] for k in (1, 2, 3)]
        if not all(0 <= found[k] <= k for k in (1, 2, 3)):
            found = fallback
        return found[min(count, 3)]

    def probability(self, word: str, context: tuple[str, ...]) -> float:
        n = len(context) + 1
        shorter = self.probability(word, context[1:]) if n > 1 else 1 / len(self.words)
        followers = self.followers[n].get(context)
        if not followers:
            return shorter
        total = sum(followers.values())
        lost = sum(self.discount(n, c) for c in followers.values())
        count = followers.get(word, 0)
        return (count - self.discount(n, count)) / total + lost / total * shorter


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 5, 400])
def test_matches_the_formulas(order: int, count: int) -> None:
    sentences = random_sentences(order + count, count)
    lm, wanted = NGram.train(sentences, order), ByFormula(sentences, order)
    assert sorted(set(lm.vocabulary) - {"<s>"}) == wanted.words
    rng = random.Random(count)
    for _ in range(60):
        context = rng.choices(wanted.words, k=rng.randrange(order + 1))
        context = ["<s>", *context] if rng.random() < 0.3 else context
        word = rng.choice(wanted.words)
        recent = tuple(context[max(0, len(context) + 1 - order) :])
        found = lm.logprob(word, context)
        assert found == pytest.approx(math.log(wanted.probability(word, recent)), abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    lm = NGram.train(SENTENCES, order)
    words = [w for w in lm.vocabulary if w != "<s>"]
    for context in ([], ["<s>"], ["the"], ["on", "the"], ["never", "seen"], ["<s>", "the", "cat"]):
        total = sum(math.exp(lm.logprob(word, context)) for word in words)
        assert total == pytest.approx(1, abs=1e-9)


def test_steps_in_batches_are_the_same_as_one_by_one() -> None:
    lm = NGram.train(random_sentences(1, 100), 3)
    rng = np.random.default_rng(0)
    states = np.full(50, lm.start())
    contexts = [["<s>"] for _ in range(50)]
    for _ in range(6):
        words = rng.integers(0, len(lm.vocabulary), 50)
        new, logprobs = lm.step(states, words)
        for k, word in enumerate(words):
            name = lm.vocabulary[word]
            assert logprobs[k] == lm.logprob(name, contexts[k]) or name == "<s>"
            contexts[k].append(name)
            assert new[k] == lm.state(contexts[k])
        states = new
    grid, _ = lm.step(states[:5, None], np.arange(7))
    assert grid.shape == (5, 7)


def test_score_and_perplexity() -> None:
    lm = NGram.train(SENTENCES, 3)
    by_hand = 0.0
    for word, context in zip(
        ["the", "cat", "sat", "</s>"],
        [["<s>"], ["<s>", "the"], ["the", "cat"], ["cat", "sat"]],
        strict=True,
    ):
        by_hand += lm.logprob(word, context)
    assert lm.score("the cat sat") == pytest.approx(by_hand)
    assert lm.perplexity(["the cat sat"]) == pytest.approx(math.exp(-by_hand / 4))
    assert lm.perplexity(SENTENCES) < lm.perplexity(["mat the the on dog"])
    assert NGram.train(SENTENCES, 3).perplexity(SENTENCES) < NGram.train(SENTENCES, 1).perplexity(
        SENTENCES
    )


def test_min_count_and_vocabulary() -> None:
    lm = NGram.train(SENTENCES, 2, min_count=2)
    assert "a" in lm.vocabulary
    assert "dog" in lm.vocabulary
    closed = NGram.train(SENTENCES, 2, vocabulary=["cat", "zebra"])
    assert closed.vocabulary == ["<unk>", "<s>", "</s>", "cat", "zebra"]
    assert closed.logprob("<unk>", ["cat"]) > closed.logprob("zebra", ["cat"]) > -math.inf
    assert closed.logprob("never", ["cat"]) == closed.logprob("<unk>", ["cat"])


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_there_and_back(name: str, order: int, tmp_path: Path) -> None:
    lm = NGram.train(random_sentences(2, 60), order)
    lm.save(tmp_path / name)
    again = NGram.load(tmp_path / name)
    assert sorted(again.vocabulary) == sorted(lm.vocabulary)
    assert (again.order, len(again)) == (lm.order, len(lm))
    rng = random.Random(3)
    for _ in range(200):
        context = ["<s>", *rng.choices(lm.vocabulary[2:], k=3)][-rng.randrange(1, 5) :]
        word = rng.choice(lm.vocabulary)
        assert again.logprob(word, context) == pytest.approx(lm.logprob(word, context), abs=1e-7)
    assert [path.name for path in tmp_path.iterdir()] == [name]


# The probabilities of Katz back-off, worked out by hand from the file.
ARPA = """a comment before the data

\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.5
-1 </s>
-0.5 a -0.25
-0.75 b

\\2-grams:
-0.1 <s> a
-0.2 a b

\\end\\
"""


def test_reads_what_others_wrote(tmp_path: Path) -> None:
    path = tmp_path / "small.arpa"
    path.write_text(ARPA)
    lm, ten = NGram.load(path), math.log(10)
    assert lm.logprob("a", ["<s>"]) == pytest.approx(-0.1 * ten)
    assert lm.logprob("b", ["<s>"]) == pytest.approx((-0.5 - 0.75) * ten)
    assert lm.logprob("b", ["b", "a"]) == pytest.approx(-0.2 * ten)
    assert lm.logprob("a", ["a"]) == pytest.approx((-0.25 - 0.5) * ten)
    assert lm.logprob("a", ["b"]) == pytest.approx(-0.5 * ten)
    assert lm.logprob("zebra") == -math.inf
    assert lm.score("a b") == pytest.approx((-0.1 - 0.2 - 1) * ten)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ngram 2=2", "ngram 2=3"), "line 17: the header says 3 2-grams, there are 2"),
        (("-0.2 a b", "-0.2 a c"), "line 15: the word 'c' is not among the 1-grams"),
        (("-0.2 a b", "nan a b"), "line 15: wanted a logarithm of a probability"),
        (("-0.2 a b", "0.2 a b"), "line 15: wanted a logarithm of a probability"),
        (("-0.2 a b", "x a b"), "line 15: wanted numbers around 2 words"),
        (("-0.2 a b", "-0.2 a"), "line 15: wanted a number, 2 words"),
        (("-0.2 a b", "-0.1 <s> a"), "2-gram '<s> a' is there twice"),
        (("-0.75 b", "-0.75 a"), "the word 'a' is there twice"),
        (("\\end\\", ""), "got None"),
        (("\\2-grams:", "\\3-grams:"), r"wanted \\2-grams: after 4 1-grams"),
        (("\\data\\", "data"), "this is not an ARPA file"),
        (("ngram 2=2", "ngram 3=2"), "wanted 'ngram 2=<count>'"),
    ],
    ids=lambda v: v[1] if isinstance(v, tuple) else "",
)
def test_broken_files_are_refused(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.arpa"
    path.write_text(ARPA.replace(*change))
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        NGram.load(path)
    assert str(path) in str(error.value)


def test_a_missing_context_is_named(tmp_path: Path) -> None:
    text = ARPA.replace("ngram 2=2", "ngram 2=2\nngram 3=1")
    text = text.replace("\\end\\", "\\3-grams:\n-0.3 b a b\n\n\\end\\")
    path = tmp_path / "broken.arpa"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"3-gram 'b a b' has no back-off weight.*lacks 'b a'"):
        NGram.load(path)


def test_cut_and_foreign_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = NGram.train(random_sentences(5, 80), 3)
    lm.save(tmp_path / "lm.arpa.gz")
    packed = (tmp_path / "lm.arpa.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="damaged or cut"):
        NGram.load(tmp_path / "cut.gz")
    (tmp_path / "kenlm.bin").write_bytes(
        b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100)
    )
    monkeypatch.setitem(sys.modules, "kenlm", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"kenlm.bin is a binary of KenLM"):
        NGram.load(tmp_path / "kenlm.bin")
    (tmp_path / "latin").write_bytes(ARPA.replace("b", "é").encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        NGram.load(tmp_path / "latin")
    with pytest.raises(FileNotFoundError):
        NGram.load(tmp_path / "nothing")


def test_mutated_files_never_crash(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "mutated.arpa"
    for _ in range(300):
        data = bytearray(ARPA.encode())
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(data))
            data[place : place + rng.randrange(3)] = bytes(
                rng.choices(b"\\-0123 .\nagnr=:\xff", k=2)
            )
        path.write_bytes(gzip.compress(bytes(data), 1) if rng.random() < 0.2 else bytes(data))
        try:
            lm = NGram.load(path)
        except ValueError as error:
            if str(path) not in str(error):
                raise
        else:
            for word, before in itertools.product(lm.vocabulary, repeat=2):
                assert not math.isnan(lm.logprob(word, [before]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NGram.train([]), ValueError, "at least one sentence"),
        (lambda: NGram.train("one string"), TypeError, "got one string"),
        (lambda: NGram.train([["a", 3]]), TypeError, "words must be strings, got 3"),
        (lambda: NGram.train([["a b"]]), ValueError, "got 'a b'"),
        (lambda: NGram.train([["<s>", "a"]]), ValueError, "got '<s>'"),
        (lambda: NGram.train(["a"], 0), ValueError, "order must be at least 1, got 0"),
        (lambda: NGram.train(["a"], min_count=0), ValueError, "min_count must be at least 1"),
        (lambda: NGram.train(["a"]).step(10**6, 0), ValueError, "states must be from 0"),
        (lambda: NGram.train(["a"]).step(0, -1), ValueError, "words must be from 0 to 3, got -1"),
        (lambda: NGram.train(["a"]).perplexity([]), ValueError, "NGram.perplexity: sentences"),
    ],
    ids=["none", "string", "number", "space", "begin", "order", "min", "state", "word", "empty"],
)
def test_errors(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


def test_saving_fails_without_loss(tmp_path: Path) -> None:
    lm = NGram.train(SENTENCES, 2)
    path = tmp_path / "lm.arpa"
    lm.save(path)
    before = path.read_bytes()
    lm.vocabulary[3] = "\ud800"  # cannot be written as UTF-8
    with pytest.raises(UnicodeEncodeError):
        lm.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["lm.arpa"]

"""Minimum Bayes risk over hypotheses, sentence BLEU, and weighted ensembles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import BeamSearch, mbr, sample, sentence_bleu

from .models import HashModel, hypotheses

EOS = 2
START = np.array([0, 3, 4])


def overlap(one: Any, other: Any) -> float:
    return len(set(one) & set(other)) / len(set(one) | set(other))


def test_mbr_by_hand() -> None:
    rng = np.random.default_rng(0)
    lists = [[rng.integers(0, 6, 4).tolist() for _ in range(n)] for n in (3, 5, 1)]
    logprobs = [rng.normal(size=len(found)).tolist() for found in lists]
    for weights in (None, logprobs):
        found = mbr(lists, overlap, weights, temperature=0.5)
        for n, given in enumerate(lists):
            share = np.exp(np.array(logprobs[n]) / 0.5) if weights else np.ones(len(given))
            share = share / share.sum()
            expected = [
                sum(s * overlap(one, other) for s, other in zip(share, given, strict=True))
                for one in given
            ]
            np.testing.assert_allclose(found.utilities[n], expected)
            assert found.best[n] == int(np.argmax(expected))
            assert found.chosen[n] == given[found.best[n]]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_mbr_of_a_search(library: str) -> None:
    model = HashModel(7, seed=3)
    torches = library == "torch"
    start: Any = torch.from_numpy(START) if torches else START
    step = model.torch_step if torches else model.step
    state = model.torch_state(3) if torches else model.state(3)
    drawn = sample(step, start, state, n=8, eos=EOS, max_length=6)
    found = mbr(drawn, overlap)
    assert [c in lists for c, lists in zip(found.chosen, drawn.lists(), strict=True)] == [True] * 3
    best = BeamSearch(5, eos=EOS, max_length=6, n_best=5)(step, start, state)
    weighted = mbr(best, overlap, best.logprobs)
    sharp = mbr(best, overlap, best.logprobs, temperature=1e-3)
    assert len(weighted.best) == 3
    tops = [int(np.argmax(row)) for row in np.asarray(best.logprobs)]
    assert sharp.chosen == [found[i] for found, i in zip(best.lists(), tops, strict=True)]


def test_wrong_hypotheses() -> None:
    with pytest.raises(ValueError, match=r"hypotheses\[1\] must not be empty"):
        mbr([[[1]], []], overlap)
    with pytest.raises(TypeError, match=r"hypotheses\[0\] must be a list, got str"):
        mbr(["ab"], overlap)
    with pytest.raises(TypeError, match="hypotheses must be lists of lists, got int"):
        mbr(3, overlap)
    with pytest.raises(TypeError, match="utility must be callable"):
        mbr([[[1]]], 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="utility must return a number, got str"):
        mbr([[[1]]], lambda a, b: "x")  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="a finite number, got nan"):
        mbr([[[1]]], lambda a, b: float("nan"))
    with pytest.raises(ValueError, match=r"logprobs\[0\] must be 1 numbers"):
        mbr([[[1]]], overlap, [[0.0, 1.0]])
    with pytest.raises(ValueError, match="logprobs must have 1 sentences, got 2"):
        mbr([[[1]]], overlap, [[0.0], [1.0]])


def test_sentence_bleu_is_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="needs sacrebleu")
    one, several = "the cat sat on a mat", ["the cat is on the mat", "a cat sat there"]
    for references in (several, several[:1]):
        wanted = sacrebleu.sentence_bleu(one, references).score
        assert sentence_bleu(one, references).score == pytest.approx(wanted)
    assert sentence_bleu(one, several[0]).score == sentence_bleu(one, several[:1]).score
    assert sentence_bleu("The Cat", "the cat", lowercase=True).score == pytest.approx(100)
    with pytest.raises(TypeError, match=r"references\[1\] must be a string, got int"):
        sentence_bleu(one, ["a", 3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="references must have at least one sentence"):
        sentence_bleu(one, [])
    with pytest.raises(ValueError, match="tokenize must be"):
        sentence_bleu(one, several, tokenize="words")


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("ensemble", ["probabilities", "logprobs"])
def test_weighted_ensembles(library: str, ensemble: str) -> None:
    """Against every sequence, by the two models' own numbers; shallow fusion is the second kind."""
    one, two = HashModel(5, seed=1), HashModel(5, seed=2)
    weights = [1.0, 0.3]
    search = BeamSearch(300, eos=EOS, max_length=4, length_norm="none", n_best=4,
                        ensemble=ensemble, weights=weights)  # fmt: skip
    start = np.array([0, 3])
    if library == "torch":
        out = search([one.torch_step, two.torch_step], torch.from_numpy(start),
                     [one.torch_state(2), two.torch_state(2)])  # fmt: skip
    else:
        out = search([one.step, two.step], start, [one.state(2), two.state(2)])

    def logprob(tokens: tuple[int, ...], first: int) -> float:
        total = 0.0
        for n, token in enumerate(tokens):
            a, b = (m.log_softmax(tokens[:n], first) for m in (one, two))
            if ensemble == "logprobs":
                mixed = weights[0] * a + weights[1] * b
                mixed = mixed - np.log(np.exp(mixed).sum())
            else:
                mixed = np.log((weights[0] * np.exp(a) + weights[1] * np.exp(b)) / 1.3)
            total += float(mixed[token])
        return total

    for row, first in enumerate(start.tolist()):
        every = sorted(((logprob(s, first), s) for s in one.sequences((EOS,), 4)), reverse=True)[:4]
        assert hypotheses(out, row) == [s for _, s in every]
        np.testing.assert_allclose(out.logprobs[row], [v for v, _ in every], rtol=1e-4)


def test_wrong_weights() -> None:
    one, other = HashModel(7), HashModel(8)
    with pytest.raises(ValueError, match="weights must be one for each of 1 step functions, got 2"):
        BeamSearch(2, eos=EOS, weights=[1, 2])(one.step, START, one.state(3))
    with pytest.raises(ValueError, match="weights must be a finite number above 0"):
        BeamSearch(2, eos=EOS, weights=[1, 0])
    with pytest.raises(TypeError, match="weights must be a list of numbers"):
        BeamSearch(2, eos=EOS, weights="ab")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="an ensemble must share one vocabulary"):
        BeamSearch(2, eos=EOS, weights=[1, 0.2], ensemble="logprobs")(
            [one.step, other.step], START, [one.state(3), other.state(3)]
        )

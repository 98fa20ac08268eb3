"""Phrases that must appear: against every sequence there is, and what cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import Ban, BeamSearch, NoRepeat, Phrases, StopAt

from .models import HashModel, hypotheses

EOS, LENGTH = 2, 5
START = np.array([0, 3, 4])


def holds(sequence: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(sequence[i : i + len(part)] == part for i in range(len(sequence)))


def searched(search: BeamSearch, library: str, seed: int, vocabulary: int = 5, **given: Any) -> Any:
    dtype = np.float64 if library == "float64" else np.float32
    model = HashModel(vocabulary, seed=seed, dtype=dtype)
    if library == "torch":
        return search(model.torch_step, torch.from_numpy(START), model.torch_state(3), **given)
    return search(model.step, START, model.state(3), **given)


CASES: list[list[Any]] = [
    [[1]],
    [[1, 3]],
    [[1, 3], [3, 3]],
    [[[4, 4], [1, 0, 1]]],
    [[0], [[3], [4, 1]]],
    [[1, 1, 1], [1, 1]],
    [[3, 1, 4, 0]],
    [[1, 3, 1, 3, 4]],
]


@pytest.mark.parametrize("library", ["numpy", "torch", "float64"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_best_of_all_that_hold_them(library: str, case: int) -> None:
    entries = [e if isinstance(e[0], list) else [e] for e in CASES[case]]
    constraints: list[Any] = [Phrases(CASES[case])]
    search = BeamSearch(300, eos=EOS, max_length=LENGTH, length_norm="none", n_best=4,
                        constraints=constraints)  # fmt: skip
    out = searched(search, library, case)
    model = HashModel(5, seed=case)
    for row, start in enumerate(START.tolist()):
        every = [
            (model.logprob(s, start), s)
            for s in model.sequences((EOS,), LENGTH)
            if all(any(holds(s, tuple(a)) for a in entry) for entry in entries)
        ]
        every.sort(reverse=True)
        assert hypotheses(out, row)[: len(every)] == [s for _, s in every[:4]]
        scores = [v for v, _ in every[:4]]
        np.testing.assert_allclose(out.scores[row][: len(every)], scores, rtol=1e-4)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("beams", [1, 2, 5, 12])
@pytest.mark.parametrize("at_max", ["cut", "eos"])
def test_they_are_always_there(library: str, beams: int, at_max: str) -> None:
    """Whatever the beam, and though the model thinks little of them."""
    entries = [[9, 8], [[7], [5, 5, 5]], [1]]
    for seed in range(4):
        search = BeamSearch(beams, eos=EOS, max_length=7, at_max=at_max, constraints=[
            Phrases(entries)])  # fmt: skip
        out = searched(search, library, seed, 11)
        for row in range(3):
            tokens = hypotheses(out, row)[0]
            assert holds(tokens, (9, 8))
            assert holds(tokens, (7,)) or holds(tokens, (5, 5, 5))
            assert holds(tokens, (1,))
            if at_max == "eos":
                assert tokens[-1] == EOS
        assert not out.dead_ends.any()
        assert float(abs(out.token_logprobs.sum(2) - out.logprobs).max()) < 1e-4


def test_each_sentence_has_its_own() -> None:
    phrases = [[[5, 6]], [], [[7], [1, 9]]]
    search = BeamSearch(4, eos=EOS, max_length=8, constraints=[Phrases(phrases, per_sentence=True)])
    out = searched(search, "numpy", 0, 11)
    assert holds(hypotheses(out, 0)[0], (5, 6))
    assert holds(hypotheses(out, 2)[0], (7,))
    assert holds(hypotheses(out, 2)[0], (1, 9))
    free = searched(BeamSearch(4, eos=EOS, max_length=8), "numpy", 0, 11)
    assert hypotheses(out, 1) == hypotheses(free, 1)
    with pytest.raises(ValueError, match="phrases for each of 3 sentences, got 2"):
        searched(BeamSearch(4, eos=EOS, constraints=[Phrases(phrases[:2], True)]), "numpy", 0, 11)


@pytest.mark.parametrize("library", ["numpy", "torch", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"stop": "first_k"}, {"stop": "top_beam"}, {"stop": "hf"}, {"eos_pool": "top2k"},
        {"eos_pool": "any"}, {"length_norm": "gnmt"}, {"at_max": "eos"}, {"min_length": 4},
        {"no_repeat_ngram": 2}, {"banned": [1, 4]}, {"temperature": 0.7},
        {"renormalize": True, "banned": [3]}, {"alpha": 0.0, "count_eos": False},
    ],
    ids=str,
)  # fmt: skip
def test_without_phrases_it_is_the_kernels_search(library: str, options: dict[str, Any]) -> None:
    """A phrase of no sentence changes nothing: the selection is that of `beam_step`."""
    common: dict[str, Any] = {"eos": EOS, "max_length": 9, "n_best": 3, **options}
    wanted = searched(BeamSearch(4, **common), library, 6, 9)
    nothing = Phrases([[], [], []], per_sentence=True)
    out = searched(BeamSearch(4, **common, constraints=[nothing]), library, 6, 9)
    for row in range(3):
        assert hypotheses(out, row) == hypotheses(wanted, row)
    np.testing.assert_allclose(out.scores, wanted.scores, rtol=1e-5)
    np.testing.assert_allclose(out.token_logprobs, wanted.token_logprobs, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out.parents, wanted.parents)
    np.testing.assert_array_equal(out.certified, wanted.certified)


def test_beside_other_constraints() -> None:
    search = BeamSearch(8, eos=EOS, max_length=8, constraints=[
        Phrases([[5, 6]]), Ban([[6, 7], 9]), NoRepeat(2), StopAt([[8]])])  # fmt: skip
    for seed in range(5):
        out = searched(search, "numpy", seed, 11)
        for row in range(3):
            tokens = hypotheses(out, row)[0]
            assert holds(tokens, (5, 6))
            assert not holds(tokens, (6, 7))
            assert 9 not in tokens


def test_what_cannot_be() -> None:
    def refused(message: str, constraints: list[Any], **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            BeamSearch(4, eos=EOS, **{"max_length": 6, **options}, constraints=constraints)

    refused("longer than max_length = 6, got 7 tokens", [Phrases([[1, 3, 4, 4, 4, 4, 4]])])
    refused(r"must not hold EOS.*\[3, 2\]", [Phrases([[3, EOS]])])
    refused("exclude each other: token 3 of the phrase", [Phrases([[1, 3]]), Ban(3)])
    refused(r"exclude each other: the phrase \[1, 3, 4\] holds \[3, 4\]",
            [Phrases([[1, 3, 4]]), Ban([[3, 4]])])  # fmt: skip
    refused("n-gram of 2 tokens twice", [Phrases([[1, 1, 1]]), NoRepeat(2)])
    refused("one Phrases, with all of them", [Phrases([[1]]), Phrases([[3]])])
    refused("cannot be combined with groups", [Phrases([[1]])], groups=2)
    for wrong in (3, [], [[]], [["a"]], "ab"):
        with pytest.raises((TypeError, ValueError), match="Phrases: "):
            Phrases(wrong)  # type: ignore[arg-type]
    search = BeamSearch(4, eos=EOS, max_length=6, constraints=[Phrases([[1, 3]])])
    with pytest.raises(ValueError, match="cannot be combined with a prefix"):
        searched(search, "numpy", 0, prefix=[[1], [1], [1]])
    with pytest.raises(ValueError, match="max_length of sentence 1 must hold its phrases, 2 tok"):
        searched(search, "numpy", 0, max_length=np.array([4, 1, 4]))
    with pytest.raises(ValueError, match="tokens must be from 0 to 4, the vocabulary, got 9"):
        searched(BeamSearch(4, eos=EOS, constraints=[Phrases([[9]])]), "numpy", 0)

    def poisoned(ids: Any, state: Any, t: int) -> Any:
        logits = np.zeros((len(ids), 5), np.float32)
        logits[4, 3] = np.nan if t == 1 else 0
        return logits, state

    with pytest.raises(ValueError, match="got one at t = 1 for sentence 1, beam 0"):
        search(poisoned, START)

"""Greedy search, sampling with and without replacement, diverse groups, scores."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import BeamSearch, Sampler, greedy, sample, score

from .models import HashModel, hypotheses

EOS = 2
START = np.array([0, 1, 3])


def test_greedy_takes_the_largest() -> None:
    model = HashModel(7, seed=1)
    out = greedy(model.step, START, model.state(3), eos=EOS, max_length=9)
    for sentence, start in enumerate(START):
        tokens: tuple[int, ...] = ()
        while len(tokens) < 9 and tokens[-1:] != (EOS,):
            tokens += (int(model.log_softmax(tokens, int(start)).argmax()),)
        assert hypotheses(out, sentence) == [tokens]
        np.testing.assert_allclose(
            out.scores[sentence, 0], model.logprob(tokens, int(start)), rtol=1e-5
        )
    limits = greedy(model.step, START, model.state(3), eos=EOS, max_length=np.array([1, 2, 3]))
    assert (limits.lengths[:, 0] <= [1, 2, 3]).all()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_sampling_follows_the_model(library: str) -> None:
    model = HashModel(4, seed=2, scale=1.0)
    torches = library == "torch"
    start = torch.tensor([0]) if torches else np.array([0])
    step = model.torch_step if torches else model.step
    state = model.torch_state(1) if torches else model.state(1)
    drawn: Counter[tuple[int, ...]] = Counter()
    for seed in range(4):
        out = sample(step, start, state, n=500, eos=EOS, max_length=3, seed=seed)
        drawn.update(hypotheses(out, 0))
    total = sum(drawn.values())
    assert total == 2000
    chi = 0.0
    cells = 0
    for tokens in model.sequences((EOS,), 3):
        expected = total * np.exp(model.logprob(tokens, 0))
        chi += (drawn[tokens] - expected) ** 2 / expected
        cells += 1
    # The mean of chi squared is its degrees of freedom, the variance twice that.
    assert chi < cells - 1 + 5 * np.sqrt(2 * cells)


def test_samples_repeat_by_seed_and_whatever_the_batch() -> None:
    model = HashModel(9, seed=3)
    options: dict[str, Any] = {"eos": EOS, "max_length": 8}
    one = sample(model.step, START, model.state(3), n=4, seed=7, **options)
    two = sample(
        model.torch_step, torch.from_numpy(START), model.torch_state(3), n=4, seed=7, **options
    )
    np.testing.assert_array_equal(one.tokens, two.tokens.numpy())
    other = sample(model.step, START, model.state(3), n=4, seed=8, **options)
    assert hypotheses(one, 0) != hypotheses(other, 0)
    alone = sample(model.step, START[:1], model.state(1), n=4, seed=7, **options)
    assert hypotheses(alone, 0) == hypotheses(one, 0)
    for sentence, start in enumerate(START):
        for h, tokens in enumerate(hypotheses(one, sentence)):
            logprob = model.logprob(tokens, int(start))
            np.testing.assert_allclose(one.scores[sentence, h], logprob, rtol=1e-4)


def allowed_by(
    model: HashModel, tokens: tuple[int, ...], k: int | None, p: float | None, temperature: float
) -> set[int]:
    logits = model.log_softmax(tokens, 0) / temperature
    order = np.argsort(-logits, kind="stable")[:k]
    share = np.exp(logits[order] - logits[order].max())
    share /= share.sum()
    if p is None:
        return set(order.tolist())
    kept = int((share.cumsum() < p).sum()) + 1
    return set(order[:kept].tolist())


@pytest.mark.parametrize(
    ("k", "p", "temperature"), [(3, None, 1.0), (None, 0.6, 1.0), (5, 0.7, 1.5), (1, None, 1.0)]
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_top_k_and_top_p(library: str, k: int | None, p: float | None, temperature: float) -> None:
    model = HashModel(8, seed=4, scale=1.0)
    torches = library == "torch"
    start = torch.tensor([0]) if torches else np.array([0])
    step = model.torch_step if torches else model.step
    state = model.torch_state(1) if torches else model.state(1)
    out = sample(
        step, start, state, n=200, eos=EOS, max_length=4, top_k=k, top_p=p, temperature=temperature
    )
    seen: dict[tuple[int, ...], set[int]] = {}
    for tokens in hypotheses(out, 0):
        for n, token in enumerate(tokens):
            seen.setdefault(tokens[:n], set()).add(token)
    for before, tokens in seen.items():
        assert tokens <= allowed_by(model, before, k, p, temperature)
    assert seen[()] == allowed_by(model, (), k, p, temperature)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 0.5}])
def test_top_k_and_top_p_count_what_may_be_chosen(library: str, cut: dict[str, Any]) -> None:
    """The largest being excluded, the largest of the rest is drawn, not nothing."""

    def drawn(largest: list[int], **options: Any) -> Any:
        logits = np.full(6, -9.0, np.float32)
        logits[largest] = 40.0, 20.0

        def step(ids: Any, state: Any, t: int) -> Any:
            rows = np.tile(logits, (len(ids), 1))
            return rows if library == "numpy" else torch.from_numpy(rows), state

        start: Any = np.zeros(2, np.int64) if library == "numpy" else torch.zeros(2).long()
        out = sample(step, start, n=2, eos=EOS, max_length=3, **cut, **options)
        return [row.tolist() for row in np.asarray(out.tokens).reshape(4, -1)]

    assert drawn([EOS, 5], min_length=2) == [[5, 5, EOS]] * 4
    assert drawn([4, 5], banned=4) == [[5, 5, 5]] * 4
    assert drawn([4, 5], at_max="eos") == [[4, 4, 4, EOS]] * 4
    prefix = {"prefix": [[1], [1]], "min_length": 1}
    assert drawn([EOS, 5], **prefix) == [[1, 5, EOS]] * 4
    allowed = {"allowed": lambda t, rows: [[0, 5]] * len(rows.ids)}
    assert drawn([4, 5], **allowed) == [[5, 5, 5]] * 4


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_top_k_sees_repetitions(library: str, n: int) -> None:
    """The one token that is left is what greedy search takes, so no row is ever left with none."""
    model = HashModel(6, seed=11, scale=4.0)
    torches = library == "torch"
    start: Any = torch.from_numpy(START) if torches else START
    step = model.torch_step if torches else model.step
    options: dict[str, Any] = {
        "eos": EOS, "max_length": 14, "min_length": 4, "no_repeat_ngram": n,
        "prefix": [[4], [], [3, 4, 3]],
    }  # fmt: skip

    def state() -> Any:
        return model.torch_state(3) if torches else model.state(3)

    # With n = 1 two sentences run out of tokens, which is said each time.
    said = pytest.warns(RuntimeWarning, match="sentences") if n == 1 else nullcontext()
    with said:
        wanted = greedy(step, start, state(), **options)
    for cut in ({"top_k": 1}, {"top_p": 1e-9}):
        said = pytest.warns(RuntimeWarning, match="sentences") if n == 1 else nullcontext()
        with said:
            drawn = sample(step, start, state(), n=2, **cut, **options)
        for sentence in range(len(START)):
            assert hypotheses(drawn, sentence) == 2 * hypotheses(wanted, sentence)
    if n == 2:
        for tokens in (hypotheses(wanted, sentence)[0] for sentence in range(len(START))):
            pairs = list(pairwise(tokens))
            assert len(set(pairs)) == len(pairs) > 4


def test_sampling_without_replacement() -> None:
    model = HashModel(4, seed=5, scale=1.0)
    everything = sorted(model.sequences((EOS,), 3))
    sampler = Sampler(seed=1)
    search = BeamSearch(len(everything), eos=EOS, max_length=3, sampler=sampler)
    out = search(model.step, np.array([0]), model.state(1))
    assert sorted(hypotheses(out, 0)) == everything  # each once
    firsts: Counter[tuple[int, ...]] = Counter()
    pairs = 0
    for seed in range(400):
        search = BeamSearch(2, eos=EOS, max_length=3, sampler=Sampler(seed=seed))
        found = hypotheses(search(model.step, np.array([0]), model.state(1)), 0)
        assert len(set(found)) == 2
        firsts[found[0]] += 1
        pairs += 1
    # The first is a plain sample.
    for tokens in everything:
        expected = np.exp(model.logprob(tokens, 0))
        sigma = np.sqrt(expected * (1 - expected) / pairs)
        assert abs(firsts[tokens] / pairs - expected) < 4.5 * sigma


def test_groups_are_diverse() -> None:
    model = HashModel(12, seed=6)
    plain = BeamSearch(4, eos=EOS, max_length=6, n_best=4, groups=4)
    diverse = BeamSearch(4, eos=EOS, max_length=6, n_best=4, groups=4, diversity=5.0)
    one = plain(model.step, START, model.state(3))
    two = diverse(model.step, START, model.state(3))
    for sentence in range(3):
        assert len(set(hypotheses(one, sentence))) == 1
        assert len({tokens[0] for tokens in hypotheses(two, sentence)}) == 4


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_scores_of_given_sequences(library: str) -> None:
    model = HashModel(7, seed=7, dtype=np.float64)
    torches = library == "torch"
    start = torch.from_numpy(START) if torches else START
    step = model.torch_step if torches else model.step
    state = model.torch_state(3) if torches else model.state(3)
    sequences = [[5, 6, 3, EOS], [], [4, 4]]
    found = score(step, sequences, start, state, eos=EOS)
    for row, (tokens, first) in enumerate(zip(sequences, START, strict=True)):
        each = [
            model.log_softmax(tuple(tokens[:n]), int(first))[token]
            for n, token in enumerate(tokens)
        ]
        np.testing.assert_allclose(float(found.logprobs[row]), sum(each))
        values = np.asarray(found.token_logprobs[row])
        np.testing.assert_allclose(values, each + [0] * (4 - len(tokens)))
    padded = np.array([[5, 6, 3, EOS], [0, 0, 0, 0], [4, 4, EOS, EOS]])
    again = score(step, padded, start, state, eos=EOS, lengths=np.array([4, 0, 2]))
    np.testing.assert_array_equal(np.asarray(again.logprobs), np.asarray(found.logprobs))


def test_scores_of_what_a_search_found() -> None:
    model = HashModel(9, seed=8)
    out = BeamSearch(3, eos=EOS, max_length=7)(model.step, START, model.state(3))
    found = score(
        model.step, out.tokens[:, 0], START, model.state(3), eos=EOS, lengths=out.lengths[:, 0]
    )
    np.testing.assert_array_equal(found.logprobs, out.logprobs[:, 0])
    np.testing.assert_array_equal(found.token_logprobs, out.token_logprobs[:, 0])


def test_impossible_sequences() -> None:
    model = HashModel(6, seed=9)
    model.table[:, 4] = -np.inf
    found = score(model.step, [[3, 4, 5]], START[:1], model.state(1), eos=EOS)
    assert found.logprobs.tolist() == [-np.inf]
    assert found.token_logprobs.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("sequences", "lengths", "message"),
    [
        ([[1], [1]], None, r"score: sequences must be \[3, any\]"),
        ([[1, EOS, 1], [1], [1]], None, "only at their end, got it earlier in sequence 0"),
        ([[1], [1], [9]], None, r"tokens in range \[0, 7\), got 9"),
        (np.zeros((3, 2), np.int64), np.array([1, 2, 3]), "lengths must be from 0 to 2"),
        (np.zeros(3, np.int64), None, r"sequences must be \[batch, any\], got \[3\]"),
    ],
)
def test_wrong_sequences(sequences: Any, lengths: Any, message: str) -> None:
    model = HashModel(7)
    with pytest.raises(ValueError, match=message):
        score(model.step, sequences, START, model.state(3), eos=EOS, lengths=lengths)


def test_wrong_options() -> None:
    model = HashModel(7)
    with pytest.raises(TypeError, match="greedy: unknown option beam_size"):
        greedy(model.step, START, model.state(3), eos=EOS, beam_size=2)
    with pytest.raises(ValueError, match=r"Sampler: top_p must be .* 0, at most 1, got 1\.5"):
        sample(model.step, START, model.state(3), eos=EOS, top_p=1.5)
    with pytest.raises(ValueError, match="Sampler: top_k must be from 1 to 2147483647, got 0"):
        sample(model.step, START, model.state(3), eos=EOS, top_k=0)
    with pytest.raises(ValueError, match="sample: eos must be from 0 to 6, the vocabulary"):
        sample(model.step, START, model.state(3), eos=7)

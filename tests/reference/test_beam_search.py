"""The twin of beam search against enumeration of all sequences, exact probabilities, and beam
search written out over whole sequences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support import search_cases as cases
from support.search_cases import Markov, Oracle, draw_options, length_tables

from seqfast.reference import beam_search as ops
from seqfast.reference.beam_search import BeamOptions, start_beams

F64 = {"change": lambda logits: logits}


def assert_same(actual: Any, wanted: Any) -> None:
    assert [tokens for tokens, _ in actual] == [tokens for tokens, _ in wanted]
    np.testing.assert_allclose([s for _, s in actual], [s for _, s in wanted], rtol=1e-9)


@pytest.mark.parametrize(
    ("vocabulary", "steps", "eos"), [(3, 4, (0,)), (4, 3, (1, 3)), (2, 5, (1,))]
)
@pytest.mark.parametrize("eos_pool", ["topk", "top2k", "any"])
def test_wide_beam_is_enumeration(
    vocabulary: int, steps: int, eos: tuple[int, ...], eos_pool: str
) -> None:
    model = Markov(2, vocabulary, steps)
    wanted = [
        sorted(cases.every_sequence(model, eos, s), key=lambda entry: -entry[1]) for s in range(2)
    ]
    count = len(wanted[0])
    options = BeamOptions(
        beams=vocabulary**steps, vocabulary=vocabulary, eos=eos, eos_pool=eos_pool,
        pool=count, wanted=count,
    )  # fmt: skip
    beams = start_beams(options, 2, steps, np.float64)
    for sentence, (pool,) in enumerate(cases.search(ops, model, beams, **F64)):
        assert_same(pool, wanted[sentence])
    assert beams.certified.all()
    assert np.exp(beams.pool_logprobs).sum(axis=(1, 2)) == pytest.approx(1)


def test_bound_is_exact() -> None:
    """What stops early and is certified holds the best of all sequences."""
    stopped_early = 0
    for seed in range(20):
        model = Markov(1, 3, 4, seed)
        options = BeamOptions(beams=27, vocabulary=3, eos=(0,), eos_pool="any")
        tables = length_tables(4, 0.7)
        for name in ("divisor", "addend"):
            tables[f"bound_{name}"] = tables[f"certain_{name}"]
        beams = start_beams(options, 1, 4, np.float64, tables=tables)
        ((pool,),) = cases.search(ops, model, beams, **F64)
        every = [(t, p / len(t) ** 0.7) for t, p in cases.every_sequence(model, (0,), 0)]
        assert_same(pool, [max(every, key=lambda entry: entry[1])])
        assert beams.certified.all()
        stopped_early += int(beams.step[0]) < 4
    assert 3 < stopped_early < 20


@pytest.mark.parametrize("seed", range(100))
def test_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocabulary, steps, sentences = 6, 6, 3
    o = BeamOptions(**draw_options(rng, vocabulary))
    model = Markov(sentences, vocabulary, steps, seed)
    tables = length_tables(steps, rng.choice([0, 0.6, 1]))
    most = rng.integers(2, steps + 1, sentences).astype(np.int32)
    prefix = lengths = allowed = history = before = None
    if rng.random() < 0.4:
        prefix = rng.integers(0, vocabulary, (sentences, 3)).astype(np.int32)
        lengths = rng.integers(0, 4, sentences).astype(np.int32)
    if rng.random() < 0.3:
        allowed = rng.random(vocabulary) < 0.7
    if rng.random() < 0.4:
        history = rng.integers(0, vocabulary, (sentences, 4)).astype(np.int32)
        before = rng.integers(0, 5, sentences).astype(np.int32)
    beams = start_beams(
        o, sentences, steps, np.float64, max_lengths=most, tables=tables, prefix=prefix,
        prefix_lengths=lengths, history=history, history_lengths=before,
    )  # fmt: skip
    mask = None if allowed is None else np.tile(allowed, (sentences * o.beams, 1))
    pools = cases.search(ops, model, beams, allowed=mask, **F64)
    for s in range(sentences):
        oracle = Oracle(
            model, o, s, int(most[s]), tables, allowed=allowed,
            prefix=() if prefix is None else tuple(prefix[s, : lengths[s]].tolist()),
            history=() if history is None else tuple(history[s, : before[s]].tolist()),
        )  # fmt: skip
        for group in range(o.groups):
            assert_same(pools[s][group], oracle.pools[group])
        assert (beams.done[s] == 1).tolist() == oracle.done
        assert beams.certified[s].astype(bool).tolist() == oracle.certified


def test_ties_go_to_the_lower_index() -> None:
    options = BeamOptions(beams=3, vocabulary=5, eos=(4,), pool=3, wanted=3)
    beams = start_beams(options, 1, 4)
    ops.beam_step(np.zeros((3, 5), np.float32), beams)
    assert beams.next_tokens.tolist() == [[0, 1, 2]]
    ops.beam_step(np.zeros((3, 5), np.float32), beams)
    assert beams.next_tokens.tolist() == [[0, 1, 2]]
    assert beams.next_rows.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_row(value: float) -> None:
    options = BeamOptions(beams=2, vocabulary=3, eos=(0,))
    beams = start_beams(options, 2, 4)
    logits = np.zeros((4, 3), np.float32)
    logits[1], logits[2, 1] = np.nan, value  # row 1 does not live yet
    before = {name: np.copy(x) for name, x in vars(beams).items() if isinstance(x, np.ndarray)}
    with pytest.raises(ValueError, match=r"got one in row 2$"):
        ops.beam_step(logits, beams)
    for name, array in before.items():
        np.testing.assert_array_equal(array, getattr(beams, name))


def test_rows_without_choice() -> None:
    """-inf in all columns: the hypothesis dies, and a sentence of such is done."""
    options = BeamOptions(beams=2, vocabulary=3, eos=(0,), pool=2, wanted=2)
    beams = start_beams(options, 2, 4)
    logits = np.zeros((4, 3), np.float32)
    logits[:, 0] = -1  # EOS
    logits[2] = -np.inf
    ops.beam_step(logits, beams)
    assert beams.done.tolist() == [[0], [1]]
    assert beams.living[0] == 1
    assert np.isinf(beams.scores[1]).all()


def without_replacement(p: list[float], k: int) -> dict[tuple[int, ...], float]:
    """Probability of each ordered draw of k."""
    draws = {}
    for draw in itertools.permutations(range(len(p)), k):
        left, probability = 1.0, 1.0
        for i in draw:
            probability, left = probability * p[i] / left, left - p[i]
        draws[draw] = probability
    return draws


def test_stochastic_beams_sample_without_replacement() -> None:
    sentences, k = 300, 2
    model = Markov(1, 3, 2, seed=3)
    model.table = np.repeat(model.table, sentences, 0)
    every = cases.every_sequence(model, (0,), 0)
    wanted = without_replacement([np.exp(p) for _, p in every], k)
    options = BeamOptions(
        beams=k, vocabulary=3, eos=(0,), eos_pool="competing", pool=k, wanted=k, noise=True
    )
    beams = start_beams(options, sentences, 2, np.float64, seed=5)
    index = {tokens: i for i, (tokens, _) in enumerate(every)}
    counts = dict.fromkeys(wanted, 0)
    for (pool,) in cases.search(ops, model, beams, **F64):
        counts[tuple(index[tokens] for tokens, _ in pool)] += 1
        for tokens, score in pool:
            assert score == pytest.approx(every[index[tokens]][1])
    check_counts(counts, wanted, sentences)


def test_groups_of_one_sample_with_replacement() -> None:
    sentences, groups = 100, 3
    model = Markov(1, 3, 2, seed=4)
    model.table = np.repeat(model.table, sentences, 0)
    every = dict(cases.every_sequence(model, (0,), 0))
    options = BeamOptions(
        beams=groups, groups=groups, vocabulary=3, eos=(0,), eos_pool="competing", noise=True
    )
    beams = start_beams(options, sentences, 2, np.float64, seed=6)
    counts = dict.fromkeys(every, 0)
    for pools in cases.search(ops, model, beams, **F64):
        for pool in pools:
            counts[pool[0][0]] += 1
    check_counts(counts, {t: np.exp(p) for t, p in every.items()}, sentences * groups)


def check_counts(counts: dict[Any, int], wanted: dict[Any, float], total: int) -> None:
    assert sum(wanted.values()) == pytest.approx(1)
    assert sum(counts.values()) == total
    for what, probability in wanted.items():
        deviation = np.sqrt(total * probability * (1 - probability))
        assert abs(counts[what] - total * probability) < 4.5 * deviation + 1, what


def test_competing_without_noise_keeps_the_most_probable() -> None:
    model = Markov(3, 4, 4, seed=1)
    options = BeamOptions(beams=5, vocabulary=4, eos=(0,), eos_pool="competing", pool=6, wanted=5)
    beams = start_beams(options, 3, 4, np.float64)
    for sentence, (pool,) in enumerate(cases.search(ops, model, beams, **F64)):
        assert len(pool) == 5
        for tokens, score in pool:
            assert score == pytest.approx(cases.log_probability(model, sentence, tokens))
        best = max(cases.every_sequence(model, (0,), sentence), key=lambda entry: entry[1])
        assert pool[0][1] <= best[1] + 1e-12
        assert [s for _, s in pool] == sorted((s for _, s in pool), reverse=True)


def test_scores_of_given_sequences() -> None:
    """A prefix to the end, scored: log-probabilities of sequences."""
    model = Markov(3, 5, 4, seed=2)
    sequences = np.array([[1, 2, 3, 0], [2, 0, 0, 0], [4, 4, 4, 4]], np.int32)
    lengths = np.array([4, 2, 3], np.int32)
    options = BeamOptions(beams=1, vocabulary=5, eos=(0,), score_prefix=True)
    beams = start_beams(
        options, 3, 4, np.float64, prefix=sequences, prefix_lengths=lengths, max_lengths=lengths
    )
    for s, ((entry,),) in enumerate(cases.search(ops, model, beams, **F64)):
        tokens = tuple(sequences[s, : lengths[s]].tolist())
        assert entry[0] == tokens
        assert entry[1] == pytest.approx(cases.log_probability(model, s, tokens))


def test_log_softmax() -> None:
    x = np.array([1e4, 1e4 - 1, -np.inf, -1e4])
    total = np.log1p(np.exp(-1))
    np.testing.assert_allclose(ops._log_softmax(x), [-total, -1 - total, -np.inf, -2e4 - total])
    assert (ops._log_softmax(np.full(3, -np.inf)) == -np.inf).all()

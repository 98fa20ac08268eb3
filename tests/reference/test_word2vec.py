"""The NumPy twin of word vectors: against finite differences, torch's autograd, plain loops in the
manner of word2vec.c, and gensim."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.word_cases import (
    LEGACY,
    MODES,
    WordCase,
    assert_same_training,
    case_of,
    filled,
    make_words,
)

from seqfast.reference import word2vec as reference

modes = pytest.mark.parametrize("mode", MODES)
all_modes = pytest.mark.parametrize("mode", [*MODES, *LEGACY])


# ---- the same in plain loops, one number at a time ----


def philox_word(counter: tuple[int, int, int, int], word: int, seed: int) -> int:
    """Salmon et al. 2011, section 3.3, on Python's integers."""
    left0, right0, left1, right1 = counter
    key0, key1 = seed % 2**64 % 2**32, seed % 2**64 >> 32
    for _ in range(10):
        product0, product1 = 0xD2511F53 * left0, 0xCD9E8D57 * left1
        left0, right0 = (product1 >> 32) ^ right0 ^ key0, product1 % 2**32
        left1, right1 = (product0 >> 32) ^ right1 ^ key1, product0 % 2**32
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return (left0, right0, left1, right1)[word]


def is_kept(case: WordCase, place: int) -> bool:
    if "keep" not in case.options:
        return True
    group = place // 64 * 16 + place % 16
    counter = (group % 2**32, group >> 32, case.options.get("epoch", 0), 0xF0000000)
    word = philox_word(counter, place // 16 % 4, case.options["seed"])
    return word <= int(case.options["keep"][case.ids[place]])


def centre_word(case: WordCase, place: int, w: int) -> int:
    counter = (place % 2**32, place >> 32, case.options.get("epoch", 0), 0xF1000000 + w // 4)
    return philox_word(counter, w % 4, case.options["seed"])


def drawn_negative(case: WordCase, place: int, w: int) -> int:
    threshold, other = case.options["alias"]
    product = centre_word(case, place, w) * len(threshold)
    i, fraction = product >> 32, product % 2**32
    return i if fraction <= int(threshold[i]) else int(other[i])


Target = tuple[str, int, int]  # matrix, row, label


def plain_examples(case: WordCase) -> Iterator[tuple[int, list[int], list[Target]]]:
    """(place of the centre, contexts, targets) of each window, or pair, of the corpus."""
    options = case.options
    window, negative = options.get("window", 5), options["negative"]
    by_pairs = not options.get("cbow") and not options.get("shared_negatives", True)

    def targets_of(place: int, pair: int) -> list[Target]:
        centre = int(case.ids[place])
        if not negative and "paths" not in options:
            return [("output", row, int(row == centre)) for row in range(len(case.counts))]
        found: list[Target] = [("output", centre, 1)] if negative else []
        for k in range(negative):
            word = drawn_negative(case, place, 1 + pair * negative + k)
            if word != centre:
                found.append(("output", word, 0))
        if "paths" in options:
            offsets, nodes, codes = options["paths"]
            for i in range(offsets[centre], offsets[centre + 1]):
                found.append(("nodes", int(nodes[i]), 1 - int(codes[i])))
        return found

    for begin, end in zip(case.offsets[:-1], case.offsets[1:], strict=True):
        sentence = [place for place in range(begin, end) if is_kept(case, place)]
        for at, place in enumerate(sentence):
            reach = window
            if options.get("shrink_windows", True):
                reach -= centre_word(case, place, 0) * window >> 32
            contexts = [
                int(case.ids[sentence[other]])
                for other in range(at - reach, at + reach + 1)
                if 0 <= other < len(sentence) and other != at
            ]
            if by_pairs:
                for pair, context in enumerate(contexts):
                    yield place, [context], targets_of(place, pair)
            elif contexts:
                yield place, contexts, targets_of(place, 0)


def learning_rate(case: WordCase, place: int) -> float:
    alpha, min_alpha = case.options["alpha"], case.options["min_alpha"]
    return alpha - (alpha - min_alpha) * (place // 256 * 256) / len(case.ids)


def plain_update(case: WordCase, old: Any, new: Any, example: Any) -> float:
    """Reads `old`, changes `new` (both by name), returns the loss: word2vec.c's loops."""
    place, contexts, targets = example
    options, size, rate = case.options, case.size, learning_rate(case, place)
    cbow, mean = options.get("cbow"), options.get("cbow_mean", True)
    count = len(contexts) if cbow and mean else 1
    hiddens = [[context] for context in contexts]
    if cbow:
        hiddens = [contexts]
    softmax = not options["negative"] and "paths" not in options
    loss = 0.0
    changes = []
    for rows in hiddens:
        hidden = [sum(float(old["input"][row, d]) for row in rows) / count for d in range(size)]
        error = [0.0] * size
        logits = [
            sum(hidden[d] * float(old[name][row, d]) for d in range(size))
            for name, row, _ in targets
        ]
        for (name, row, label), logit in zip(targets, logits, strict=True):
            if softmax:
                probability = math.exp(logit) / sum(map(math.exp, logits))
                loss -= math.log(probability) if label else 0
            else:
                probability = 1 / (1 + math.exp(-logit))
                loss -= math.log(probability if label else 1 - probability)
            g = rate * (label - probability)
            for d in range(size):
                error[d] += g * float(old[name][row, d])
                changes.append((name, row, d, g * hidden[d]))
        share = count if not options.get("legacy_cbow") else 1
        for row in rows:
            if "locked" in options and options["locked"][row]:
                continue
            changes += [("input", row, d, error[d] / share) for d in range(size)]
    for name, row, d, change in changes:
        new[name][row, d] += change
    return loss


def plain_train(case: WordCase, deterministic: bool = False) -> Any:
    names = ("input", "output", "nodes")
    arrays = case.matrices()
    new = {n: a.astype(np.float64) for n, a in zip(names, arrays, strict=True) if a is not None}
    old = new
    rounds = -(-len(case.ids) // 256)
    loss, examples, kept = np.zeros(rounds), np.zeros(rounds, np.int64), np.zeros(rounds, np.int64)
    for place in range(len(case.ids)):
        kept[place // 256] += is_kept(case, place)
    before = -1
    for example in plain_examples(case):
        r, batch = example[0] // 256, example[0] // 32
        if deterministic and batch != before:
            old, before = {name: array.copy() for name, array in new.items()}, batch
        loss[r] += plain_update(case, old, new, example)
        examples[r] += 1 if case.options.get("cbow") else len(example[1])
    return (loss, kept, examples), [
        None if a is None else new[n].astype(np.float32) for n, a in zip(names, arrays, strict=True)
    ]


@all_modes
def test_matches_plain_loops(mode: str) -> None:
    case = case_of(mode, 330, 12, 4, window=3, locked=True)
    assert_same_training(case.run(reference.train), plain_train(case), case.size)


@all_modes
def test_a_batch_has_the_sum_of_its_frozen_gradients(mode: str) -> None:
    case = case_of(mode, 330, 12, 4, window=2, sample=0.05, locked=True)
    wanted = plain_train(case, deterministic=True)
    assert_same_training(case.run(reference.train, deterministic=True), wanted, case.size)


@pytest.mark.parametrize(
    "options",
    [
        {"shrink_windows": False},
        {"window": 1},
        {"window": 50, "longest": 12},
        {"sample": 0},
        {"epoch": 2**32 - 1, "seed": -(2**63)},
        {"epoch": 3, "seed": 2**62 + 12345},
        {"negative": 20},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["skip-gram", "pairs", "cbow"])
def test_options_match_plain_loops(mode: str, options: dict[str, Any]) -> None:
    case = make_words(150, 12, 3, **{**MODES[mode], **options})
    assert_same_training(case.run(reference.train), plain_train(case), case.size)


# ---- gradients ----


def changes_of(case: WordCase, **more: Any) -> tuple[float, list[Any]]:
    """The loss of one batch (a corpus of at most 32 tokens), and its changes at a rate of 1."""
    before = case.matrices()
    (loss, _, _), after = case.run(
        reference.train, deterministic=True, alpha=1.0, min_alpha=1.0, last_round=1, **more
    )
    return float(loss[0]), [
        None if a is None else a.astype(np.float64) - b for a, b in zip(after, before, strict=True)
    ]


@modes
def test_gradients_against_finite_differences(mode: str) -> None:
    case = case_of(mode, 14, 5, 3, sample=0, longest=7, window=2)
    _, changes = changes_of(case)
    step = 2.0**-8  # exact in float32
    checked = 0
    for which, change in enumerate(changes):
        if change is None:
            continue
        for row, column in np.ndindex(len(change), case.size):
            losses = []
            for sign in (1, -1):
                matrices = case.matrices()
                matrices[which] = np.round(matrices[which] * 2**12) / 2**12
                matrices[which][row, column] += sign * step
                (loss, _, _) = reference.train(
                    case.ids,
                    case.offsets,
                    *matrices,
                    size=case.size,
                    **{**case.options, "deterministic": True, "alpha": 0, "min_alpha": 0},
                )
                losses.append(loss[0])
            slope = (losses[0] - losses[1]) / (2 * step)
            assert change[row, column] == pytest.approx(-slope, abs=5e-3, rel=5e-3)
            checked += abs(slope) > 0.05
    assert checked > 10  # most slopes are well above what may be wrong


@modes
def test_gradients_against_autograd(mode: str) -> None:
    torch = pytest.importorskip("torch")
    case = case_of(mode, 32, 20, 6, sample=0.2)
    loss, changes = changes_of(case)
    parameters = {
        name: torch.from_numpy(array[:, : case.size]).double().requires_grad_()
        for name, array in zip(("input", "output", "nodes"), case.matrices(), strict=True)
        if array is not None
    }
    total = torch.zeros((), dtype=torch.float64)
    functional = torch.nn.functional
    for _, contexts, targets in plain_examples(case):
        hidden = parameters["input"][contexts]
        if case.options.get("cbow"):
            mean = case.options.get("cbow_mean", True)
            hidden = hidden.mean(0, keepdim=True) if mean else hidden.sum(0, keepdim=True)
        rows = torch.stack([parameters[name][row] for name, row, _ in targets])
        labels = torch.tensor([label for _, _, label in targets]).double().expand(len(hidden), -1)
        logits = hidden @ rows.T
        if not case.options["negative"] and "paths" not in case.options:
            total = total + functional.cross_entropy(logits, labels, reduction="sum")
        else:
            total = total + functional.binary_cross_entropy_with_logits(
                logits, labels, reduction="sum"
            )
    total.backward()
    assert loss == pytest.approx(total.item(), rel=1e-12)
    for name, change in zip(("input", "output", "nodes"), changes, strict=True):
        if change is not None:
            wanted = -parameters[name].grad.numpy()
            assert np.abs(wanted).max() > 0.1
            np.testing.assert_allclose(change[:, : case.size], wanted, rtol=1e-5, atol=2e-5)


def test_legacy_gradient_is_as_often_as_there_are_contexts() -> None:
    case = make_words(3, 3, 4, sample=0, cbow=True, shrink_windows=False)
    case.ids, case.offsets = np.array([0, 1, 2], np.int32), np.array([0, 3])
    _, right = changes_of(case)
    _, legacy = changes_of(case, legacy_cbow=True)
    np.testing.assert_allclose(legacy[0], 2 * right[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(legacy[1], right[1])
    _, summed = changes_of(case, cbow_mean=False)
    assert_array = changes_of(case, cbow_mean=False, legacy_cbow=True)[1]
    np.testing.assert_array_equal(summed[0], assert_array[0])


# ---- sentences, rows, rounds ----


def test_sentence_borders() -> None:
    """Words of different sentences do not meet, whatever is between their borders."""
    ids = np.array([0, 1, 2, 3, 4, 5], np.int32)
    for offsets in ([0, 3, 6], [0, 0, 3, 3, 3, 6, 6]):
        case = make_words(6, 6, 4, sample=0, negative=0, window=9)
        case.ids, case.offsets = ids, np.array(offsets)
        (_, kept, examples), _ = case.run(reference.train, shrink_windows=False)
        assert (kept.tolist(), examples.tolist()) == ([6], [12])
    case.offsets = np.arange(7)
    before = case.matrices()
    (loss, kept, examples), after = case.run(reference.train)
    assert (loss.tolist(), kept.tolist(), examples.tolist()) == ([0.0], [6], [0])
    np.testing.assert_array_equal(after[0], before[0])


def test_windows_reach_over_borders_of_rounds() -> None:
    """Round by round is the same as at once, and the split of the corpus is seen nowhere."""
    case = make_words(800, 20, 4, sample=0.01, longest=600)
    together = case.run(reference.train)
    matrices, parts = case.matrices(), []
    for first, last in ((0, 1), (1, 3), (3, 3), (3, 4)):
        parts.append(
            reference.train(
                case.ids,
                case.offsets,
                *matrices,
                size=case.size,
                first_round=first,
                last_round=last,
                **case.options,
            )
        )
    joined = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
    assert_same_training((joined, matrices), together, case.size, tolerance=0)
    assert joined[2].min() > 0


def test_locked_rows_stay() -> None:
    case = make_words(300, 12, 4, locked=True)
    before = case.matrices()
    _, after = case.run(reference.train)
    moved = (after[0] != before[0]).any(1)
    np.testing.assert_array_equal(moved, ~case.options["locked"])
    assert (after[1] != before[1]).any()
    case.options["locked"] = case.options["locked"].astype(np.uint8)
    assert_same_training(case.run(reference.train), (case.run(reference.train)), 4, tolerance=0)


@pytest.mark.parametrize("cbow", [False, True])
def test_duplicates_add_up(cbow: bool) -> None:
    """A word that is context twice gets two gradients, a negative drawn twice counts twice."""
    case = make_words(3, 2, 3, sample=0, negative=2, shrink_windows=False, window=1, cbow=cbow)
    case.ids, case.offsets = np.array([1, 0, 1], np.int32), np.array([0, 3])
    case.options["alias"] = (np.zeros(2, np.uint32), np.array([1, 1], np.int32))  # always word 1
    before = [None if a is None else a[:, :3].astype(np.float64) for a in case.matrices()]
    _, changes = changes_of(case)
    # Word 1 is a context of word 0 alone, and word 0 no negative.
    context, centre, other = before[0][1], before[1][0], before[1][1]
    right, wrong = 1 / (1 + math.exp(context @ centre)), -1 / (1 + math.exp(-context @ other))
    times = 1 if cbow else 2  # two pairs, or one window whose mean gives half to each
    wanted = times * (right * centre + 2 * wrong * other)
    np.testing.assert_allclose(changes[0][1, :3], wanted, rtol=1e-5, atol=1e-6)
    wanted = times * right * context
    np.testing.assert_allclose(changes[1][0, :3], wanted, rtol=1e-5, atol=1e-6)


@all_modes
def test_a_single_word(mode: str) -> None:
    """Of one word nothing is left but itself: no other negative, an empty path, probability 1."""
    case = case_of(mode, 20, 1, 4, sample=0)
    found = case.run(reference.train)
    assert_same_training(found, plain_train(case), 4)
    (loss, kept, examples), _ = found
    assert kept.tolist() == [20]
    assert examples[0] > 0
    assert (loss[0] > 0) == (case.options["negative"] > 0)


@all_modes
def test_nothing_to_train_on(mode: str) -> None:
    for offsets in ([0], [0, 0, 0]):
        case = case_of(mode, 0, 5, 4)
        case.offsets = np.array(offsets)
        before = case.matrices()
        results, after = case.run(reference.train)
        assert [(len(part), part.dtype.name) for part in results] == [
            (0, "float64"),
            (0, "int64"),
            (0, "int64"),
        ]
        for one, other in zip(before, after, strict=True):
            assert one is other is None or np.array_equal(one, other)


@all_modes
def test_a_round_of_which_nothing_is_kept(mode: str) -> None:
    case = case_of(mode, 600, 5, 4)
    case.options["keep"] = np.zeros(5, np.uint32)
    before = case.matrices()
    results, after = case.run(reference.train)
    assert [part.tolist() for part in results] == [[0, 0, 0]] * 3
    for one, other in zip(before, after, strict=True):
        assert one is other is None or np.array_equal(one, other)


def test_padding_is_left_alone() -> None:
    case = make_words(100, 9, 5)
    matrices = case.matrices()
    for array in matrices[:2]:
        array[:, 5:] = 77
    reference.train(case.ids, case.offsets, *matrices, size=5, **case.options)
    for array in matrices[:2]:
        assert (array[:, 5:] == 77).all()
    wanted = case.run(reference.train)[1]
    np.testing.assert_array_equal(matrices[0][:, :5], wanted[0][:, :5])


@pytest.mark.parametrize(
    ("alpha", "min_alpha", "before", "total", "rates"),
    [
        (0.1, 0.02, 0, None, [0.1, 0.1 - 0.08 * 256 / 600, 0.1 - 0.08 * 512 / 600]),
        (0.1, 0.02, 1200, 2400, [0.06, 0.06 - 0.08 * 256 / 2400, 0.06 - 0.08 * 512 / 2400]),
        (0.1, 0.02, 300, 556, [0.1 - 0.08 * 300 / 556, 0.02, 0.02]),
        (0.02, 0.1, 300, 556, [0.02 + 0.08 * 300 / 556, 0.1, 0.1]),
        (0.1, 0.1, 0, None, [0.1, 0.1, 0.1]),
    ],
)
def test_learning_rate(
    alpha: float, min_alpha: float, before: int, total: int | None, rates: list[float]
) -> None:
    """Each round moves the parameters as much as it would at that one rate."""
    case = make_words(600, 12, 4, tokens_before=before, tokens_total=total)
    matrices = case.matrices()
    for r, rate in enumerate(rates):
        wanted = [None if a is None else a.copy() for a in matrices]
        span = {"first_round": r, "last_round": r + 1, "size": 4, "deterministic": True}
        options = {**case.options, **span, "alpha": alpha, "min_alpha": min_alpha}
        reference.train(case.ids, case.offsets, *matrices, **options)
        options.update(alpha=rate, min_alpha=rate)
        reference.train(case.ids, case.offsets, *wanted, **options)
        assert np.abs(wanted[0] - case.matrices()[0]).max() > 1e-3
        np.testing.assert_allclose(matrices[0], wanted[0], rtol=0, atol=1e-7)
        np.testing.assert_allclose(matrices[1], wanted[1], rtol=0, atol=1e-7)


def test_far_from_zero() -> None:
    """Where a sigmoid is 0 or 1 in every precision, the loss is the logit, the gradient exact."""
    case = make_words(2, 2, 2, sample=0, negative=1, window=1)
    case.ids, case.offsets = np.array([0, 1], np.int32), np.array([0, 2])
    case.options["alias"] = (np.full(2, 2**32 - 1, np.uint32), np.arange(2, dtype=np.int32))
    matrices = [filled(np.array([[40.0, 0], [40, 0]])), filled(np.array([[-40.0, 0], [-40, 0]]))]
    case.options.update(alpha=1.0, min_alpha=1.0, deterministic=True)
    (loss, _, _) = reference.train(case.ids, case.offsets, *matrices, size=2, **case.options)
    np.testing.assert_allclose(loss, [3200.0])
    np.testing.assert_allclose(matrices[0][:, 0], 0.0)
    np.testing.assert_allclose(matrices[1][:, 0], 0.0)


# ---- tables ----


def test_rounds() -> None:
    assert [reference.rounds_of(n) for n in (0, 1, 255, 256, 257, 512, 10**12)] == [
        *(0, 1, 1, 1, 2, 2),
        10**12 // 256,
    ]


WEIGHTS = {
    "zipf": 1 / np.arange(1.0, 41) ** 0.75,
    "zipf, mixed": np.random.default_rng(0).permutation(1 / np.arange(1.0, 41)),
    "alike": np.full(7, 0.3),
    "one": np.array([5.0]),
    "two": np.array([1.0, 3.0]),
    "wide": np.array([1e-30, 1e30, 1.0, 0.0, 1e29]),
    "rising": np.arange(1.0, 30),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_alias_table_has_the_weights(weights: np.ndarray) -> None:
    """What the table gives out, in exact fractions, is within rounding of what was asked for."""
    threshold, other = reference.alias_table(weights)
    assert (threshold.dtype, other.dtype) == (np.uint32, np.int32)
    places = len(weights)
    found = [Fraction(0)] * places
    for i in range(places):
        stays = Fraction(int(threshold[i]) + 1, 2**32)
        found[i] += stays / places
        found[other[i]] += (1 - stays) / places
        assert (other[i] == i) == (stays == 1)
    assert sum(found) == 1
    whole = sum(Fraction(w) for w in weights.tolist())
    step = Fraction(1, 2**32 * places)
    for share, weight in zip(found, weights.tolist(), strict=True):
        assert share >= step
        # Half a step by rounding, or one to be there at all; the largest gets what is left over.
        allowed = places if weight == weights.max() else 1
        assert abs(share - Fraction(weight) / whole) <= allowed * step


def test_alias_table_draws_as_told() -> None:
    """Words of equal distance draw each number as often as it should be."""
    table = reference.alias_table(WEIGHTS["zipf"])
    words = np.arange(0, 2**32, 40009, dtype=np.uint32)
    drawn = np.bincount(reference._negatives(words, table), minlength=40) / len(words)
    np.testing.assert_allclose(drawn, WEIGHTS["zipf"] / WEIGHTS["zipf"].sum(), atol=1e-3)


def test_keep_thresholds() -> None:
    counts = np.array([50_000, 9_000, 1_000, 30, 1, 1])
    threshold = reference.keep_thresholds(counts, 1e-3)
    assert threshold.dtype == np.uint32
    for word, count in enumerate(counts.tolist()):
        share = count / 60_032
        wanted = min(1.0, (math.sqrt(share / 1e-3) + 1) * 1e-3 / share)
        assert (int(threshold[word]) + 1) / 2**32 == pytest.approx(wanted, abs=2**-32)
    assert (reference.keep_thresholds(counts, 0) == 2**32 - 1).all()
    assert reference.keep_thresholds(np.zeros(0, np.int64), 1e-3).shape == (0,)


@pytest.mark.parametrize("sample", [1e-3, 0.05, 1, 3.5])
def test_keep_thresholds_against_gensim(sample: float) -> None:
    gensim = pytest.importorskip("gensim.models")
    counts = {"a": 5000, "b": 700, "c": 70, "d": 7, "e": 1}
    model = gensim.Word2Vec(min_count=1, sample=sample)
    model.build_vocab_from_freq(dict(counts))
    wanted = [model.wv.get_vecattr(word, "sample_int") / (2**32 - 1) for word in counts]
    found = reference.keep_thresholds(np.array(list(counts.values())), sample)
    np.testing.assert_allclose((found.astype(float) + 1) / 2**32, wanted, atol=1e-9)


COUNTS = {
    "zipf": (1000 / np.arange(1, 60)).astype(int),
    "alike": np.full(13, 4),
    "doubling": 2 ** np.arange(20)[::-1],
    "with zeros": np.array([9, 4, 0, 0, 0, 2]),
    "any order": np.random.default_rng(1).integers(1, 50, 40),
}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_huffman_paths_are_a_code(counts: np.ndarray) -> None:
    """From the root to each word and to no other, at the cost of any optimal code."""
    offsets, nodes, codes = reference.huffman_paths(counts)
    assert (offsets.dtype, nodes.dtype, codes.dtype) == (np.int64, np.int32, np.uint8)
    assert offsets[0] == 0
    assert offsets[-1] == len(nodes) == len(codes)
    leads_to: dict[tuple[int, int], tuple[str, int]] = {}
    for word, (begin, end) in enumerate(itertools.pairwise(offsets)):
        path = list(zip(nodes[begin:end].tolist(), codes[begin:end].tolist(), strict=True))
        assert path[0][0] == len(counts) - 2
        for here, after in zip(path, [*path[1:], None], strict=True):
            goal = ("word", word) if after is None else ("node", after[0])
            assert leads_to.setdefault(here, goal) == goal
    assert len(leads_to) == 2 * (len(counts) - 1)
    # The cost of an optimal code is the sum of all inner nodes.
    cost, heap = 0, sorted(counts.tolist())
    while len(heap) > 1:
        both = heap[0] + heap[1]
        cost += both
        heap = sorted([both, *heap[2:]])
    assert int((np.diff(offsets) * counts).sum()) == cost


def test_huffman_ties() -> None:
    """By hand: counts 2 1 1 1. Words 3 and 2 make node 0, then word 1 comes with word 0, which is
    before node 0 though as large, and node 1 with node 0."""
    offsets, nodes, codes = reference.huffman_paths(np.array([2, 1, 1, 1]))
    paths = [
        list(zip(nodes[b:e].tolist(), codes[b:e].tolist(), strict=True))
        for b, e in itertools.pairwise(offsets)
    ]
    assert paths == [
        [(2, 1), (1, 1)],
        [(2, 1), (1, 0)],
        [(2, 0), (0, 1)],
        [(2, 0), (0, 0)],
    ]
    for counts in ([], [3]):
        offsets, nodes, codes = reference.huffman_paths(np.array(counts, np.int64))
        assert offsets.tolist() == [0] * (len(counts) + 1)
        assert len(nodes) == len(codes) == 0


def test_huffman_against_gensim() -> None:
    """Counts of which no two sums are alike have one optimal tree."""
    models = pytest.importorskip("gensim.models")
    counts = np.array([3001, 1607, 809, 401, 211, 101, 53, 29, 13, 7, 3])
    model = models.Word2Vec(min_count=1, hs=1, negative=0)
    model.build_vocab_from_freq({f"w{i}": int(count) for i, count in enumerate(counts)})
    offsets, nodes, codes = reference.huffman_paths(counts)
    for i in range(len(counts)):
        part = slice(offsets[i], offsets[i + 1])
        np.testing.assert_array_equal(codes[part], model.wv.get_vecattr(f"w{i}", "code"))
        np.testing.assert_array_equal(nodes[part], model.wv.get_vecattr(f"w{i}", "point"))


# ---- counters ----


def test_counters_of_far_places() -> None:
    """Places past 2**32 have counters of their own, each as the equations say."""
    places = np.array([0, 15, 16, 63, 64, 1000, 2**32 + 5, 2**40 + 77])
    draws = reference._Draws(-3, 2**32 - 1)
    kept, centres = draws.of_tokens(places), draws.of_centres(places, 11)
    for i, place in enumerate(places.tolist()):
        group = place // 64 * 16 + place % 16
        counter = (group % 2**32, group >> 32, 2**32 - 1, 0xF0000000)
        assert kept[i] == philox_word(counter, place // 16 % 4, -3)
        for w in range(11):
            counter = (place % 2**32, place >> 32, 2**32 - 1, 0xF1000000 + w // 4)
            assert centres[i, w] == philox_word(counter, w % 4, -3)


def test_first_vectors() -> None:
    """Even, between -1/2 and 1/2 over the size, each by a counter as the equations say."""
    vectors = np.empty((400, 70), np.float32)
    reference.first_vectors(vectors, -3, 2**32 - 400)
    for row, column in itertools.product((0, 1, 399), (0, 15, 16, 63, 64, 69)):
        counter = (column // 64 * 16 + column % 16, 2**32 - 400 + row, 0, 0xF2000000)
        draw = philox_word(counter, column // 16 % 4, -3) // 2**9
        exact = Fraction(2 * draw + 1, 2**24) - Fraction(1, 2)
        assert vectors[row, column] == np.float32(float(exact)) / np.float32(70)
    assert np.abs(vectors).max() < 0.5 / 70
    assert abs(vectors.mean()) < 1e-4
    assert vectors.std() == pytest.approx(1 / 70 / 12**0.5, rel=0.01)
    assert len(np.unique(vectors)) > 0.99 * vectors.size


def test_as_many_are_kept_and_windows_as_large_as_said() -> None:
    words = make_words(200_000, 10, 1, negative=0, sample=0.1)
    corpus = reference._kept_corpus(
        words.ids, words.offsets, words.options["keep"], reference._Draws(5, 0)
    )
    for word in range(3):
        wanted = (int(words.options["keep"][word]) + 1) / 2**32
        share = np.mean(np.isin(np.flatnonzero(words.ids == word), corpus.places))
        assert share == pytest.approx(wanted, abs=0.01)
    reach = reference._Draws(5, 0).of_centres(np.arange(50_000), 1)[:, 0].astype(np.uint64)
    sizes = 7 - (reach * np.uint64(7) >> np.uint64(32))
    shares = np.bincount(sizes.astype(int), minlength=8)[1:] / 50_000
    np.testing.assert_allclose(shares, 1 / 7, atol=0.01)

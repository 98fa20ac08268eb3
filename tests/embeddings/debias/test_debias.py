"""Debiasing: on arrays, words and tensors; the paper's equations; bad input."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import Backend

from seqfast import GloVe
from seqfast.embeddings import debias
from seqfast.embeddings.vectors import WordVectors

PAIRS = [("she", "he"), ("woman", "man"), ("her", "his")]
WORDS = [
    "she", "he", "woman", "man", "her", "his", "nurse", "engineer", "doctor", "queen", "king",
    "poem", "algebra", "art", "physics", "novel", "logic", "aunt", "uncle",
]  # fmt: skip
NEUTRAL = ["nurse", "engineer", "doctor", "poem", "algebra", "art", "physics", "novel", "logic"]


def planted(size: int = 12, seed: int = 0) -> WordVectors:
    """Vectors with a bias along the first axis."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(len(WORDS), size)) * 0.4
    bias = {"she": 2, "he": -2, "woman": 2, "man": -2, "her": 2, "his": -2, "queen": 1, "king": -1}
    bias |= {"nurse": 0.7, "engineer": -0.7, "poem": 0.5, "art": 0.5, "novel": 0.5}
    bias |= {"algebra": -0.5, "physics": -0.5, "logic": -0.5, "aunt": 1, "uncle": -1}
    for row, word in enumerate(WORDS):
        vectors[row, 0] = bias.get(word, 0)
    return WordVectors(WORDS, vectors.astype(np.float32), np.arange(len(WORDS))[::-1])


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# ---- the direction ----


def test_the_direction_of_one_pair_is_their_difference() -> None:
    given = planted()
    g = debias.direction(given, [("she", "he")])
    wanted = unit(unit(given["she"]) - unit(given["he"]))
    np.testing.assert_allclose(g, wanted, atol=1e-12)


def test_the_direction_of_pairs_is_the_first_principal_component() -> None:
    given = planted()
    differences = np.stack([unit(given[a]) - unit(given[b]) for a, b in PAIRS])
    _, vectors = np.linalg.eigh(differences.T @ differences)
    g = debias.direction(given, PAIRS)
    assert abs(abs(g @ vectors[:, -1]) - 1) < 1e-12
    assert g[0] > 0.9  # towards the first words
    both = debias.direction(given, PAIRS, components=2)
    np.testing.assert_allclose(both @ both.T, np.eye(2), atol=1e-12)
    assert abs(abs(both[1] @ vectors[:, -2]) - 1) < 1e-12
    assert both.shape == (2, 12)
    triple = debias.direction(given, [("she", "he", "man")], components=2)
    assert triple.shape == (2, 12)


# ---- what is taken out ----


def test_neutralised_words_have_no_part_along_the_direction() -> None:
    given = planted()
    g = debias.direction(given, PAIRS)
    found = debias.neutralize(given, g * 7, NEUTRAL)
    assert np.abs(unit(found[NEUTRAL]) @ g).max() < 1e-6
    for word in set(WORDS) - set(NEUTRAL):
        np.testing.assert_array_equal(found[word], given[word])
    np.testing.assert_array_equal(found.counts, given.counts)
    wanted = given["nurse"] - (given["nurse"] @ g) * g
    np.testing.assert_allclose(found["nurse"], wanted, atol=1e-6)
    assert debias.neutralize(given, g, []).vectors.tolist() == given.vectors.tolist()
    both = debias.direction(given, PAIRS, components=2)
    found = debias.neutralize(given, both, NEUTRAL)
    assert np.abs(unit(found[NEUTRAL]) @ both.T).max() < 1e-6


def test_equalised_pairs_are_equally_far_from_neutral_words() -> None:
    given = planted()
    g = debias.direction(given, PAIRS)
    neutral = debias.neutralize(given, g, NEUTRAL)
    found = debias.equalize(neutral, g, [("queen", "king"), ("aunt", "uncle")])
    for one, other in (("queen", "king"), ("aunt", "uncle")):
        for word in NEUTRAL:
            near = np.linalg.norm(found[word].astype(float) - found[one])
            far = np.linalg.norm(found[word].astype(float) - found[other])
            assert abs(near - far) < 1e-6
        assert np.linalg.norm(found[one]) == pytest.approx(1, abs=1e-6)
        # The paper's equation: a part in common, and opposite parts along the direction.
        mean = (unit(given[one]) + unit(given[other])) / 2
        common = mean - (mean @ g) * g
        wanted = common + math.sqrt(1 - common @ common) * g
        np.testing.assert_allclose(found[one], wanted, atol=1e-6)
        assert found[other] @ g == pytest.approx(-(found[one] @ g), abs=1e-6)
    three = debias.equalize(given, both_of(given), [("queen", "king", "aunt")])
    lengths = np.linalg.norm(three[["queen", "king", "aunt"]], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def both_of(given: Any) -> Any:
    return debias.direction(given, PAIRS, components=2)


def test_hard_debiasing_is_its_steps() -> None:
    given = planted()
    specific = [word for pair in PAIRS for word in pair]
    pairs = [("queen", "king"), ("aunt", "uncle"), ("absent", "missing")]
    found = debias.hard(given, PAIRS, pairs, [*specific, "absent"], missing="ignore")
    g = debias.direction(given, PAIRS)
    units = WordVectors(WORDS, unit(given.vectors))
    steps = debias.neutralize(units, g, NEUTRAL)
    steps = debias.equalize(WordVectors(WORDS, unit(steps.vectors)), g, pairs[:2])
    np.testing.assert_allclose(found.vectors, steps.vectors, atol=1e-6)
    assert debias.direct_bias(found, g, NEUTRAL) < 1e-6 < debias.direct_bias(given, g, NEUTRAL)
    again = debias.hard(given, [], pairs[:2], specific, g=g)
    np.testing.assert_allclose(again.vectors, found.vectors, atol=1e-6)


def test_soft_debiasing_minimises_what_it_says() -> None:
    given = planted()
    g = debias.direction(given, PAIRS)
    units = unit(given.vectors)
    chosen = units[[WORDS.index(word) for word in NEUTRAL]]

    def loss(x: Any) -> float:
        near = units @ (x - np.eye(12)) @ units.T
        return float((near**2).sum() + 3 * ((chosen @ x @ g) ** 2).sum())

    found = debias.soft(given, g, NEUTRAL, strength=3.0)
    # The map is known but for lengths: it is found again from the directions.
    before = debias.direct_bias(given, g, NEUTRAL)
    assert debias.direct_bias(found, g, NEUTRAL) < before
    strong = debias.soft(given, g, NEUTRAL, strength=1e6)
    assert debias.direct_bias(strong, g, NEUTRAL) < debias.direct_bias(found, g, NEUTRAL)
    same = debias.soft(given, g, NEUTRAL, strength=0)
    np.testing.assert_allclose(same.vectors, units, atol=1e-5)
    from seqfast.embeddings.debias import projection

    kept = {}
    apply = projection._conjugate_gradients

    def keep(gradient: Any, target: Any) -> Any:
        kept["x"] = apply(gradient, target)
        return kept["x"]

    projection._conjugate_gradients = keep
    try:
        debias.soft(given, g, NEUTRAL, strength=3.0)
    finally:
        projection._conjugate_gradients = apply
    values, turned = np.linalg.eigh(units.T @ units)
    scale = 1 / np.sqrt(values)
    x = turned @ (scale[:, None] * kept["x"] * scale) @ turned.T
    best = loss(x)
    assert best < loss(np.eye(12))
    generator = np.random.default_rng(0)
    for _ in range(20):
        change = generator.normal(size=(12, 12)) * 1e-3
        assert loss(x + (change + change.T)) > best


# ---- measures ----


def test_direct_and_indirect_bias() -> None:
    given = planted()
    g = debias.direction(given, PAIRS)
    cosines = np.abs(unit(given[NEUTRAL]) @ g)
    assert debias.direct_bias(given, g, NEUTRAL) == pytest.approx(cosines.mean())
    assert debias.direct_bias(given, g, NEUTRAL, strictness=2) == pytest.approx((cosines**2).mean())
    w, v = unit(given["nurse"]), unit(given["poem"])
    left = unit(w - (w @ g) * g) @ unit(v - (v @ g) * g)
    beta = debias.indirect_bias(given, g, "nurse", "poem")
    assert beta == pytest.approx((w @ v - left) / (w @ v))


X, Y, A, B = ["poem", "art", "novel"], ["algebra", "physics", "logic"], ["she", "her"], ["he"]


def by_hand(given: Any, x: list[str], y: list[str]) -> tuple[float, float, float]:
    """Caliskan et al. 2017, with loops."""

    def association(word: str) -> float:
        w = unit(given[word])
        return float(
            np.mean([w @ unit(given[a]) for a in A]) - np.mean([w @ unit(given[b]) for b in B])
        )

    of = {word: association(word) for word in x + y}
    statistic = sum(of[w] for w in x) - sum(of[w] for w in y)
    mean = np.mean([of[w] for w in x]) - np.mean([of[w] for w in y])
    larger = total = 0
    for chosen in itertools.combinations(x + y, len(x)):
        other = sum(of[w] for w in chosen) - sum(of[w] for w in set(x + y) - set(chosen))
        larger, total = larger + (other > statistic + 1e-9), total + 1
    return float(mean / np.std(list(of.values()))), larger / total, statistic


def test_weat_is_that_of_the_paper() -> None:
    given = planted()
    for x, y in ((X, Y), (X, Y[:2]), (["poem", "physics", "novel"], ["algebra", "art", "logic"])):
        effect, p_value, statistic = by_hand(given, x, y)
        found = debias.weat(given, x, y, A, B)
        assert found.effect_size == pytest.approx(effect, abs=1e-9)
        assert found.p_value == pytest.approx(p_value, abs=1e-12)
        assert found.statistic == pytest.approx(statistic, abs=1e-9)
        assert found.exact
        assert found.partitions == math.comb(len(x) + len(y), len(x))
        drawn = debias.weat(given, x, y, A, B, exact_limit=0, partitions=4000)
        assert not drawn.exact
        assert drawn.p_value == pytest.approx(p_value, abs=0.04)
        assert drawn == debias.weat(given, x, y, A, B, exact_limit=0, partitions=4000)
    found = debias.weat(given, X, Y, A, B)
    other = debias.weat(given, Y, X, A, B)
    assert other.effect_size == pytest.approx(-found.effect_size)
    assert found.effect_size > 1.5
    # Whatever rounding has left, there is no association after equalising.
    fair = debias.hard(given, PAIRS, PAIRS, [])
    assert debias.weat(fair, X, Y, ["she", "her"], ["he", "his"])[:2] == (0.0, 1.0)


def test_weat_is_wefe_s() -> None:
    wefe = pytest.importorskip("wefe", reason="needs the package wefe")
    from gensim.models import KeyedVectors

    given = planted()
    keyed = KeyedVectors(12)
    keyed.add_vectors(WORDS, given.vectors)
    model = wefe.word_embedding_model.WordEmbeddingModel(keyed, "planted")
    query = wefe.query.Query([X, Y], [A, B])
    found = debias.weat(model, X, Y, A, B)
    wanted = wefe.metrics.WEAT().run_query(query, model)
    assert found.statistic == pytest.approx(wanted["weat"], abs=1e-6)
    assert found.effect_size == pytest.approx(wanted["effect_size"], abs=1e-6)


def test_analogies() -> None:
    given = planted(size=3)
    found = debias.analogies(given, ("she", "he"), topn=5, delta=1.4)
    assert found == sorted(found, key=lambda one: -one.score)
    g = unit(unit(given["she"]) - unit(given["he"]))
    for one in found:
        apart = unit(given[one.first]) - unit(given[one.second])
        assert np.linalg.norm(apart) <= 1.4 + 1e-6
        assert one.score == pytest.approx(unit(apart) @ g, abs=1e-4)
        assert not {"she", "he"} & {one.first, one.second}
    best = 0.0
    for x, y in itertools.permutations([word for word in WORDS if word not in ("she", "he")], 2):
        apart = unit(given[x]) - unit(given[y])
        if np.linalg.norm(apart) <= 1.4:
            best = max(best, float(unit(apart) @ g))
    assert found[0].score == pytest.approx(best, abs=1e-4)
    ids = debias.analogies(given.vectors, (0, 1), topn=5, delta=1.4)
    assert [(WORDS[one.first], WORDS[one.second]) for one in ids] == [
        (one.first, one.second) for one in found
    ]


# ---- what vectors may be ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_with_words_or_ids(dtype: str) -> None:
    given = planted()
    array = given.vectors.astype(dtype)
    wanted = debias.neutralize(given, debias.direction(given, PAIRS), NEUTRAL).vectors
    ids = [[WORDS.index(a), WORDS.index(b)] for a, b in PAIRS]
    g = debias.direction(array, ids)
    found = debias.neutralize(array, g, [WORDS.index(word) for word in NEUTRAL])
    assert found.dtype == array.dtype
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    named = debias.neutralize(array, g, NEUTRAL, words=WORDS)
    np.testing.assert_array_equal(named, found)
    assert (array == given.vectors).all()


def test_tensors_on_every_device(device: Backend) -> None:
    given = planted()
    tensor = torch.from_numpy(given.vectors).to(device.device)
    options: dict[str, Any] = {"words": WORDS}
    g = debias.direction(tensor, PAIRS, **options)
    assert g.device == tensor.device
    wanted = debias.direction(given, PAIRS)
    np.testing.assert_allclose(g.cpu(), wanted, atol=1e-9)
    specific = [word for pair in PAIRS for word in pair]
    for name, arguments in (
        ("neutralize", (g, NEUTRAL)),
        ("equalize", (g, [("queen", "king")])),
        ("hard", (PAIRS, [("queen", "king")], specific)),
        ("soft", (g, NEUTRAL)),
    ):
        found = getattr(debias, name)(tensor, *arguments, **options)
        on_cpu = tuple(wanted if argument is g else argument for argument in arguments)
        same = getattr(debias, name)(given, *on_cpu).vectors
        assert found.device == tensor.device
        assert found.dtype == tensor.dtype
        np.testing.assert_allclose(found.cpu(), same, atol=1e-5)
    assert debias.direct_bias(tensor, g, NEUTRAL, **options) == pytest.approx(
        debias.direct_bias(given, wanted, NEUTRAL), abs=1e-6
    )
    found = debias.weat(tensor, X, Y, A, B, **options)
    assert found.effect_size == pytest.approx(debias.weat(given, X, Y, A, B).effect_size, abs=1e-6)
    assert len(debias.analogies(tensor, ("she", "he"), topn=3, **options)) == 3


def test_models_and_gensim_s() -> None:
    gensim = pytest.importorskip("gensim", reason="needs the package gensim")
    given = planted()
    keyed = gensim.models.KeyedVectors(12)
    keyed.add_vectors(WORDS, given.vectors)
    g = debias.direction(keyed, PAIRS)
    np.testing.assert_allclose(g, debias.direction(given, PAIRS))
    assert isinstance(debias.neutralize(keyed, g, NEUTRAL), WordVectors)
    model = GloVe([WORDS] * 3, min_count=1, vector_size=12, epochs=1, progress=False)
    fair = debias.neutralize(model, debias.direction(model, PAIRS), NEUTRAL)
    assert model.set_vectors(fair) == len(WORDS)
    np.testing.assert_array_equal(model.vectors, fair[model.index_to_key])


# ---- bad input ----


def test_missing_words_are_all_named() -> None:
    given = planted()
    g = debias.direction(given, PAIRS)
    with pytest.raises(KeyError, match=r"neutralize: neutral .*'gone', 'lost'"):
        debias.neutralize(given, g, ["nurse", "gone", "lost", "gone"])
    with pytest.raises(KeyError, match=r"direction: pairs .*'gone'"):
        debias.direction(given, [*PAIRS, ("gone", "he")])
    with pytest.raises(KeyError, match=r"weat: a .*'gone'"):
        debias.weat(given, X, Y, ["gone"], B)
    same = debias.direction(given, [*PAIRS, ("gone", "he")], missing="ignore")
    np.testing.assert_array_equal(same, g)
    with pytest.raises(ValueError, match=r"direction: pairs must have at least 1 .* got 0 of 1"):
        debias.direction(given, [("gone", "he")], missing="ignore")
    with pytest.raises(ValueError, match="weat: x must have at least 1"):
        debias.weat(given, [], Y, A, B)
    with pytest.raises(ValueError, match="missing must be"):
        debias.direction(given, PAIRS, missing="drop")


def test_directions_that_are_none() -> None:
    given = planted()
    for g, message in (
        (np.zeros(12), "longer than 0, got a length of 0.0"),
        (np.full(12, np.nan), "finite and longer than 0"),
        (np.ones(5), r"g must be \[12\] or \[k, 12\], got \[1, 5\]"),
        (np.ones((2, 12)), "must be independent"),
    ):
        with pytest.raises(ValueError, match=f"neutralize: .*{message}"):
            debias.neutralize(given, g, NEUTRAL)
    with pytest.raises(ValueError, match="direction: pairs must differ"):
        debias.direction(given, [("she", "she")])
    with pytest.raises(ValueError, match="direction: components must be"):
        debias.direction(given, PAIRS, components=9)


def test_vectors_that_cannot_be() -> None:
    given = planted()
    g = debias.direction(given, PAIRS)
    vectors = given.vectors.copy()
    vectors[WORDS.index("nurse")] = g
    along = WordVectors(WORDS, vectors)
    with pytest.raises(ValueError, match="neutralize: 'nurse' lies along g"):
        debias.neutralize(along, g, NEUTRAL)
    vectors[WORDS.index("she")] = 0
    with pytest.raises(ValueError, match=r"direction: vectors must be .*'she' is not"):
        debias.direction(along, PAIRS)
    vectors[WORDS.index("poem")] = np.nan
    with pytest.raises(ValueError, match=r"weat: vectors must be .*'poem' is not"):
        debias.weat(along, X, Y, ["her"], B)
    vectors[3] = vectors[2]
    with pytest.raises(ValueError, match="equalize: 'woman', 'man' must differ along g"):
        debias.equalize(along, g, [("woman", "man")])
    with pytest.raises(TypeError, match="pass words= with an array to look up 'she'"):
        debias.direction(given.vectors, PAIRS)
    with pytest.raises(TypeError, match="words must be None: vectors have their own"):
        debias.direction(given, PAIRS, words=WORDS)
    with pytest.raises(ValueError, match="words must be 19, as vectors are, got 2"):
        debias.direction(given.vectors, PAIRS, words=["a", "b"])
    with pytest.raises(TypeError, match="must hold floating-point numbers"):
        debias.direction(np.ones((3, 3), int), [(0, 1)])
    with pytest.raises(ValueError, match="x and y must have no word in common, got 'poem'"):
        debias.weat(given, X, [*Y, "poem"], A, B)
    with pytest.raises(TypeError, match="neutral must be a list of words, got 'nurse'"):
        debias.neutralize(given, g, "nurse")
    with pytest.raises(KeyError, match=r"has words without a vector .*99"):
        debias.neutralize(given, g, [99])
    with pytest.raises(ValueError, match="pair must be two words, got 3"):
        debias.analogies(given, ("she", "he", "man"))  # type: ignore[arg-type]


def test_a_word_is_in_one_pair_only() -> None:
    given = planted()
    g = debias.direction(given, PAIRS)
    twice = [("queen", "king"), ("queen", "uncle")]
    for call in (
        lambda: debias.equalize(given, g, twice),
        lambda: debias.hard(given, PAIRS, twice, []),
    ):
        with pytest.raises(ValueError, match=r"a word must be in one pair only.*'queen' more than"):
            call()
    # The paper's list in lower case has pairs twice, which changes nothing.
    once = debias.equalize(given, g, twice[:1])
    again = debias.equalize(given, g, [*twice[:1], ("king", "queen")])
    np.testing.assert_allclose(once.vectors, again.vectors, atol=1e-6)


def test_targets_that_are_one_set_lose_their_effect() -> None:
    given = planted()
    x, y, a, b = ["queen", "aunt"], ["king", "uncle"], ["poem", "novel"], ["algebra", "logic"]
    before = debias.weat(given, x, y, a, b).statistic
    fair = debias.hard(given, PAIRS, [*PAIRS, (*x, *y)], [])
    assert abs(debias.weat(fair, x, y, a, b).statistic) < 1e-6 < abs(before)

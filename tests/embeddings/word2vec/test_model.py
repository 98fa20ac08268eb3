"""The class Word2Vec: it learns what was planted, keeps gensim's names, and says what is wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqfast
from seqfast import Word2Vec
from seqfast.embeddings.base import wv as model_wv
from seqfast.embeddings.corpus import RULE_DISCARD, RULE_KEEP
from seqfast.embeddings.vectors import WordVectors
from seqfast.reference import word2vec as twin

from .. import planted

SENTENCES = planted.sentences()
SMALL: dict[str, Any] = {
    "vector_size": 24,
    "window": 4,
    "min_count": 1,
    "sample": 0,
    "workers": 1,
    "progress": False,
}


def small(**options: Any) -> Word2Vec:
    return Word2Vec(SENTENCES[:100], **{**SMALL, "epochs": 2, **options})


@pytest.fixture(scope="module")
def model() -> Word2Vec:
    return small()


# ---- what it learns ----


@pytest.mark.parametrize("sg", [1, 0], ids=["skip-gram", "cbow"])
@pytest.mark.parametrize(
    "how",
    [{"negative": 5}, {"negative": 0, "hs": 1}, {"negative": 0}, {"negative": 5, "hs": 1}],
    ids=["negatives", "hierarchy", "softmax", "both"],
)
def test_finds_what_was_planted(sg: int, how: dict[str, int]) -> None:
    model = Word2Vec(SENTENCES, **SMALL, sg=sg, alpha=0.05, epochs=20, **how)
    assert planted.twins_found(model) >= 0.9  # by chance 1 / 15
    assert model.mean_loss_per_epoch[-1] < 0.9 * model.mean_loss_per_epoch[0]


@pytest.mark.parametrize("sg", [1, 0], ids=["skip-gram", "cbow"])
@pytest.mark.parametrize(
    "options",
    [
        {"deterministic": True, "workers": 2, "alpha": 0.02},
        {"shared_negatives": False, "alpha": 0.05},
        {"workers": 2, "alpha": 0.05},
        {"legacy_cbow": False, "alpha": 0.025},
        {"cbow_mean": 0, "alpha": 0.03},
        {"shrink_windows": False, "alpha": 0.05},
        {"sample": 0.05, "alpha": 0.05},
    ],
    ids=lambda options: next(iter(options)),
)
def test_variants_find_it_too(sg: int, options: dict[str, Any]) -> None:
    model = Word2Vec(SENTENCES, **{**SMALL, "sg": sg, "epochs": 25, **options})
    assert planted.twins_found(model) >= 0.9


# ---- words and vectors ----


def test_words_are_sorted_by_count(model: Word2Vec) -> None:
    counts: dict[str, int] = {}
    for sentence in SENTENCES[:100]:
        for word in sentence:
            counts[word] = counts.get(word, 0) + 1
    assert model.index_to_key == sorted(counts, key=lambda word: -counts[word])
    assert model.counts.tolist() == sorted(counts.values(), reverse=True)
    assert model.key_to_index == {word: id for id, word in enumerate(model.index_to_key)}
    assert len(model) == len(counts)
    assert list(model) == model.index_to_key
    assert model.corpus_count == 100
    assert model.corpus_total_words == sum(counts.values())
    assert repr(model) == f"Word2Vec(vocab={len(counts)}, vector_size=24, alpha=0.025)"


def test_vectors_by_word_and_id(model: Word2Vec) -> None:
    assert model.vectors.shape == (len(model), 24)
    assert model.vectors.dtype == np.float32
    word = model.index_to_key[3]
    np.testing.assert_array_equal(model[word], model.vectors[3])
    np.testing.assert_array_equal(model[3], model.vectors[3])
    np.testing.assert_array_equal(model[[word, 0]], model.vectors[[3, 0]])
    length = np.linalg.norm(model.vectors[3])
    np.testing.assert_array_equal(model.get_vector(word, norm=True), model.vectors[3] / length)
    assert word in model
    assert "absent" not in model


def test_vectors_may_be_written() -> None:
    model = small()
    model.vectors[:] = 1
    model["the"][:] = 2
    assert model.vectors[model.key_to_index["the"]].tolist() == [2] * 24
    assert model.vectors.sum() == 24 * (len(model) + 1)


def test_unknown_words_are_named(model: Word2Vec) -> None:
    with pytest.raises(KeyError, match=f"'absent' is not in the vocabulary of {len(model)} words"):
        model["absent"]
    with pytest.raises(KeyError, match="'absent'"):
        model[["the", "absent"]]
    with pytest.raises(IndexError, match=f"from 0 to {len(model) - 1}, got {len(model)}"):
        model[len(model)]
    with pytest.raises(KeyError, match=r"1\.5 is not in the vocabulary"):
        model[1.5]
    with pytest.raises(TypeError, match="must be a str, another hashable object or an id"):
        model.get_vector({})


def test_only_the_matrices_that_are_used_exist(model: Word2Vec) -> None:
    assert model.syn1neg.shape == (len(model), 24)
    with pytest.raises(AttributeError, match="hs=0 and negative=5 has no nodes"):
        _ = model.syn1
    tree = small(hs=1, negative=0)
    assert tree.syn1.shape == (len(tree), 24)  # as in gensim: the last row is no node
    assert tree.syn1[:-1].any(1).all()
    assert not tree.syn1[-1].any()
    with pytest.raises(AttributeError, match="hs=1 and negative=0 has no output"):
        _ = tree.syn1neg
    assert small(negative=0).syn1neg.any()
    with pytest.raises(RuntimeError, match="call build_vocab first"):
        _ = Word2Vec().vectors


def test_first_vectors_are_those_of_the_twin() -> None:
    """Also of words that come later, by their ids."""
    model = Word2Vec(**{**SMALL, "workers": 3})
    model.build_vocab(SENTENCES[:100])
    model.build_vocab([["a", "word", "not", "met"]], update=True)
    wanted = np.empty((len(model), 24), np.float32)
    twin.first_vectors(wanted, model.seed)
    np.testing.assert_array_equal(model.vectors, wanted)


def test_to_embedding(model: Word2Vec) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    embedding = model.to_embedding()
    assert not embedding.weight.requires_grad
    ids = torch.tensor([[2, 0]])
    np.testing.assert_array_equal(embedding(ids).numpy()[0], model.vectors[[2, 0]])
    free = model.to_embedding(freeze=False)
    assert free.weight.requires_grad
    with torch.no_grad():
        free.weight.zero_()
    assert model.vectors.any()


# ---- gensim ----


def test_wv_is_gensims() -> None:
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors", reason="needs gensim")
    model = small()
    wv = model.wv
    assert isinstance(wv, keyedvectors.KeyedVectors)
    assert wv is model.wv
    assert wv.index_to_key == model.index_to_key
    assert np.shares_memory(wv.vectors, model.vectors)
    assert wv.get_vecattr("the", "count") == model.counts[model.key_to_index["the"]]
    before = wv.most_similar("left0", topn=3)
    model.train(epochs=3)
    after = model.wv.most_similar("left0", topn=3)
    assert before != after
    cosine = model.get_vector("left0", norm=True) @ model.get_vector(after[0][0], norm=True)
    assert after[0][1] == pytest.approx(cosine, abs=1e-5)


def test_wv_without_gensim(model: Word2Vec, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == "gensim" or name.startswith("gensim."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gensim", None)
    monkeypatch.setattr(model, "_wv", None)
    monkeypatch.setattr(model_wv, "_class_with_gensim", model_wv._class_with_gensim.__wrapped__)
    assert isinstance(model.wv, WordVectors)
    assert model.wv.most_similar("the") == model.most_similar("the")
    assert model.wv.get_vecattr("the", "count") == model.counts[model.get_index("the")]
    assert pickle.loads(pickle.dumps(model.wv)).index_to_key == model.index_to_key


@pytest.mark.parametrize(
    "options",
    [{}, {"min_count": 4}, {"max_final_vocab": 20}, {"trim_rule": None}],
    ids=["plain", "min_count", "max_final_vocab", "trim_rule"],
)
def test_vocabulary_is_gensims(options: dict[str, Any]) -> None:
    gensim = pytest.importorskip("gensim.models", reason="needs gensim")
    if "trim_rule" in options:
        options["trim_rule"] = lambda word, count, least: {
            "the": RULE_DISCARD,
            "left0": RULE_KEEP,
        }.get(word, 0)
        options["min_count"] = 15
    options = {"min_count": 1, "vector_size": 8, "sg": 1, **options}
    theirs = gensim.Word2Vec(**{k: v for k, v in options.items() if k != "trim_rule"})
    theirs.build_vocab(SENTENCES, trim_rule=options.get("trim_rule"))
    ours = Word2Vec(**options)
    ours.build_vocab(SENTENCES)
    assert set(ours.index_to_key) == set(theirs.wv.index_to_key)
    for word in ours:
        assert ours.counts[ours.key_to_index[word]] == theirs.wv.get_vecattr(word, "count")
    assert ours.corpus_count == theirs.corpus_count
    assert ours.corpus_total_words == theirs.corpus_total_words


@pytest.mark.parametrize("library", ["gensim", "seqfast"])
def test_the_same_program_runs_on_both(library: str, tmp_path: Path) -> None:
    """What programs written for gensim do, up to the progress they want to see."""
    if library == "gensim":
        name = pytest.importorskip("gensim.models", reason="needs gensim").Word2Vec
        quiet = {}
    else:
        name, quiet = Word2Vec, {"progress": False}
    model = name(
        sentences=SENTENCES[:200], vector_size=16, window=3, min_count=1, workers=1, sg=1, hs=0,
        negative=5, seed=3, sample=1e-3, alpha=0.05, min_alpha=1e-4, epochs=2, cbow_mean=1,
        ns_exponent=0.75, shrink_windows=True, compute_loss=True, batch_words=1000, comment="x",
        sorted_vocab=1, null_word=0, hashfxn=hash, callbacks=(), **quiet,
    )  # fmt: skip
    assert model.get_latest_training_loss() > 0
    assert model.comment == "x"
    later = name(min_count=2, vector_size=16, workers=1, **quiet)
    later.build_vocab(SENTENCES, progress_per=100, keep_raw_vocab=False)
    trained = later.train(
        SENTENCES, total_examples=later.corpus_count, epochs=later.epochs, compute_loss=True
    )
    assert trained[1] == 5 * later.corpus_total_words
    assert 0 < trained[0] < trained[1]
    path = tmp_path / "corpus.txt"
    path.write_text(planted.text())
    filed = name(corpus_file=str(path), vector_size=16, min_count=2, epochs=1, **quiet)
    assert len(filed.wv) == len(later.wv)
    later.build_vocab([["the", "novel", "novel"], ["novel"]], update=True)
    later.train([["the", "novel", "novel"]], total_examples=1, epochs=1)
    assert later.wv.index_to_key[-1] == "novel"
    filed.save(str(tmp_path / "model"))
    loaded = name.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.wv["the"], filed.wv["the"])


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("sorted_vocab", 0, "sorted_vocab must be 1, got 0"),
        ("null_word", 1, "null_word must be 0, got 1"),
        ("hashfxn", len, "hashfxn must be None or hash"),
        ("batch_words", 0, "batch_words must be at least 1, or None, got 0"),
    ],
)
def test_what_gensim_has_and_we_have_not(argument: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Word2Vec(**{argument: value})


# ---- vocabularies ----


def test_update_appends_and_keeps() -> None:
    model = small(min_count=2)
    words, vectors, output = list(model), model.vectors.copy(), model.syn1neg.copy()
    counts = model.counts.copy()
    more = [["the", "newer", "newest"], ["newest", "newer", "left0"], ["newest", "once"]]
    model.build_vocab(more, update=True)
    assert list(model) == [*words, "newest", "newer"]
    assert model.counts[-2:].tolist() == [3, 2]
    gained = np.array([(word in ("the", "left0")) for word in words])
    np.testing.assert_array_equal(model.counts[: len(words)], counts + gained)
    np.testing.assert_array_equal(model.vectors[: len(words)], vectors)
    np.testing.assert_array_equal(model.syn1neg[: len(words)], output)
    assert not model.syn1neg[len(words) :].any()
    assert model.vectors[len(words) :].all()
    model.train(epochs=2)
    assert model["newest"] @ model["newest"] > 0
    assert model.syn1neg[model.key_to_index["newest"]].any()
    assert model.epochs_trained == 4


def test_update_makes_the_tree_anew() -> None:
    model = small(hs=1, negative=0)
    assert model.syn1.any()
    model.build_vocab([["newer"] * 500], update=True)
    assert model.syn1.shape == (len(model), 24)
    assert not model.syn1.any()
    model.train(SENTENCES[:100], epochs=2)
    assert np.isfinite(model.loss_per_epoch).all()


def test_an_update_needs_something() -> None:
    with pytest.raises(RuntimeError, match="update needs a vocabulary"):
        Word2Vec(min_count=1).build_vocab([["a", "b"]], update=True)


def test_a_second_vocabulary_replaces_the_first() -> None:
    model = small()
    model.build_vocab([["x", "y", "x"]])
    assert list(model) == ["x", "y"]
    assert model.loss_per_epoch == []
    assert model.epochs_trained == 0


def test_vocabulary_from_counts() -> None:
    model = Word2Vec(**{**SMALL, "min_count": 2})
    model.build_vocab_from_freq({"the": 3, "left0": 5, "rare": 1, "of": 3}, corpus_count=7)
    assert list(model) == ["left0", "the", "of"]
    assert model.corpus_count == 7
    with pytest.raises(ValueError, match="corpus must be given, got None"):
        model.train()
    effective, raw = model.train(SENTENCES[:50], epochs=1)
    assert raw == sum(map(len, SENTENCES[:50]))
    known = sum(word in model for sentence in SENTENCES[:50] for word in sentence)
    assert effective == known
    model.build_vocab_from_freq({"the": 3, "new": 4}, update=True)
    assert list(model) == ["left0", "the", "of", "new"]
    assert model.counts.tolist() == [5, 6, 3, 4]
    with pytest.raises(ValueError, match="min_count must leave some words, got 2 for 1 words"):
        model.build_vocab_from_freq({"x": 1})
    with pytest.raises(ValueError, match="count of 'x' must be at least 0, got -1"):
        model.build_vocab_from_freq({"x": -1})
    with pytest.raises(TypeError, match="must be str, got 3"):
        model.build_vocab_from_freq({3: 1})


def test_corpora_of_every_kind_are_the_same(tmp_path: Path, model: Word2Vec) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(planted.text(100))
    reference = small()
    ids = [model.key_to_index[word] for sentence in SENTENCES[:100] for word in sentence]
    offsets = np.cumsum([0, *map(len, SENTENCES[:100])])
    options = {**SMALL, "epochs": 2}
    others = [
        Word2Vec(str(path), **options),
        Word2Vec(corpus_file=path, **options),
        Word2Vec([path], **options),
        Word2Vec((sentence for sentence in SENTENCES[:100]), **options),
        Word2Vec((np.array(ids, np.int32), offsets), words=list(model), **options),
    ]
    for other in others:
        assert list(other) == list(reference)
        np.testing.assert_array_equal(other.vectors, reference.vectors)


def test_a_corpus_is_given_once() -> None:
    with pytest.raises(TypeError, match="got corpus and sentences"):
        Word2Vec(SENTENCES, sentences=SENTENCES)
    with pytest.raises(TypeError, match="build_vocab: corpus must be given"):
        Word2Vec().build_vocab()


# ---- rows that stay, vectors to begin with ----


@pytest.mark.parametrize("as_what", ["words", "ids", "mask", "array of ids"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_locked_rows_stay(model: Word2Vec, as_what: str, deterministic: bool) -> None:
    words = ["the", "left0", "topic1a"]
    rows = [model.key_to_index[word] for word in words]
    mask = np.zeros(len(model), bool)
    mask[rows] = True
    locked = {"words": words, "ids": rows, "mask": mask, "array of ids": np.array(rows)}[as_what]
    mine = Word2Vec(**SMALL, locked=locked, deterministic=deterministic, alpha=0.01)
    mine.build_vocab(SENTENCES[:100])
    before = mine.vectors.copy()
    mine.train()
    np.testing.assert_array_equal(mine.vectors[mask], before[mask])
    assert (mine.vectors[~mask] != before[~mask]).any(1).all()


@pytest.mark.parametrize(
    ("locked", "error", "message"),
    [
        (["absent"], KeyError, "'absent' is not in the vocabulary"),
        ([10_000], IndexError, "got 10000"),
        (np.zeros(3, bool), ValueError, r"locked must be \[\d+\], got \[3\]"),
        ("the", TypeError, "must be words, ids or a bool array, got 'the'"),
        (3, TypeError, "must be words, ids or a bool array, got 3"),
    ],
)
def test_locked_errors(locked: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small(locked=locked)


def test_locks_last_through_an_update() -> None:
    model = small(locked=["the"])
    before = model["the"].copy()
    model.build_vocab([["newer", "newest", "the"]] * 20, update=True)
    first = model["newer"].copy()
    model.train(epochs=3)
    np.testing.assert_array_equal(model["the"], before)
    assert (model["newer"] != first).all()


def test_initial_vectors(model: Word2Vec) -> None:
    mine = {"the": np.full(24, 0.5), "left0": np.arange(24.0), "absent": np.zeros(24)}
    begun = Word2Vec(**SMALL, initial_vectors=mine)
    begun.build_vocab(SENTENCES[:100])
    plain = Word2Vec(**SMALL)
    plain.build_vocab(SENTENCES[:100])
    for word in plain:
        expected = mine[word].astype(np.float32) if word in mine else plain[word]
        np.testing.assert_array_equal(begun[word], expected)
    begun.build_vocab([["absent"]], update=True)
    assert not begun["absent"].any()
    other = Word2Vec(**SMALL, initial_vectors=model)
    other.build_vocab(SENTENCES[:100])
    np.testing.assert_array_equal(other.vectors, model.vectors)
    assert other.set_vectors({"the": np.ones(24), "absent": np.ones(24)}) == 1
    assert other["the"].sum() == 24


def test_initial_vectors_of_gensim(model: Word2Vec) -> None:
    pytest.importorskip("gensim", reason="needs gensim")
    other = Word2Vec(**SMALL, initial_vectors=model.wv)
    other.build_vocab(SENTENCES[:100])
    np.testing.assert_array_equal(other.vectors, model.vectors)


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        ({"the": np.zeros(3)}, ValueError, r"the vector of 'the' must be \[24\], got \[3\]"),
        ({"the": np.full(24, np.nan)}, ValueError, "the vector of 'the' must be finite"),
        ([1, 2], TypeError, "must be a mapping of words to vectors"),
    ],
)
def test_initial_vector_errors(vectors: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small(initial_vectors=vectors)


@pytest.mark.parametrize("lockf", [0.0, 1.0])
def test_intersecting(tmp_path: Path, lockf: float) -> None:
    path = tmp_path / "vectors.txt"
    row = " ".join(["0.25"] * 24)
    path.write_text(f"2 24\nthe {row}\nabsent {row}\n")
    model = Word2Vec(**SMALL)
    model.build_vocab(SENTENCES[:100])
    assert model.intersect_word2vec_format(path, lockf=lockf) == 1
    assert model["the"].tolist() == [0.25] * 24
    assert "absent" not in model
    model.train()
    assert (model["the"] == 0.25).all() == (lockf == 0)
    with pytest.raises(ValueError, match=r"lockf must be 0 or 1, got 0\.5"):
        model.intersect_word2vec_format(path, lockf=0.5)


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": float("nan")}, ValueError, "alpha must be a finite number, at least 0, got nan"),
        ({"alpha": -0.1}, ValueError, r"alpha must be a finite number, at least 0, got -0\.1"),
        ({"alpha": "fast"}, TypeError, "alpha must be a finite number, at least 0, got 'fast'"),
        ({"min_alpha": float("inf")}, ValueError, "min_alpha must be a finite number"),
        ({"sample": -1}, ValueError, "sample must be a finite number, at least 0, got -1"),
        ({"ns_exponent": float("nan")}, ValueError, "ns_exponent must be a finite number, got nan"),
        ({"window": -3}, ValueError, "window must be from 1 to 1073741823, got -3"),
        ({"window": 2.5}, TypeError, r"window must be an integer, got 2\.5"),
        ({"vector_size": 0}, ValueError, "vector_size must be from 1 to 1048576, got 0"),
        ({"negative": -1}, ValueError, "negative must be from 0 to 1000, got -1"),
        ({"epochs": 0}, ValueError, "epochs must be from 1"),
        ({"min_count": -1}, ValueError, "min_count must be at least 0, got -1"),
        ({"max_final_vocab": 0}, ValueError, "max_final_vocab must be at least 1, or None, got 0"),
        ({"workers": 0}, ValueError, "workers must be at least 1, or None, got 0"),
        ({"workers": True}, TypeError, "workers must be an integer, or None, got True"),
        ({"seed": 2**63}, ValueError, "seed must be from"),
        ({"sg": 2}, ValueError, "sg must be 0 or 1, got 2"),
        ({"hs": "yes"}, ValueError, "hs must be 0 or 1, got 'yes'"),
        ({"window": 1 << 30}, ValueError, "window must be from 1 to 1073741823"),
        ({"negative": 1000 * 4}, ValueError, "negative must be from"),
        ({"device": "tpu"}, ValueError, "device must be cpu or cuda, got 'tpu'"),
        ({"device": "cuda:99"}, RuntimeError, "cuda:99"),
        ({"checkpoint_every": "hour"}, ValueError, "checkpoint_every must be seconds"),
        ({"tokens_per_period": 0}, ValueError, "tokens_per_period must be at least 1, or None"),
        ({"comment": 3}, TypeError, "comment must be a str or None, got int"),
        ({"callbacks": [3]}, TypeError, "callbacks must have one of the methods"),
        ({"iter": 5}, TypeError, "iter"),
    ],
)
def test_settings_that_cannot_be(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Word2Vec(**options)


def test_settings_are_looked_at_again() -> None:
    model = small()
    model.alpha = float("nan")
    with pytest.raises(ValueError, match="alpha must be a finite number, at least 0, got nan"):
        model.train()


@pytest.mark.parametrize("corpus", [[], [[]], [[], []]])
def test_empty_corpora(corpus: Any) -> None:
    with pytest.raises(ValueError, match="corpus must have words, got an empty one"):
        Word2Vec(corpus, progress=False)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text(" \n\n")
    with pytest.raises(ValueError, match="corpus must have words, got an empty one"):
        Word2Vec(path, progress=False)
    with pytest.raises(FileNotFoundError, match="absent"):
        Word2Vec(tmp_path / "absent", progress=False)


def test_min_count_that_leaves_nothing() -> None:
    message = "got 7 for a corpus of 4 words, 3 of them different"
    with pytest.raises(ValueError, match=message):
        Word2Vec([["a", "b"], ["a", "c"]], min_count=7, progress=False)


@pytest.mark.parametrize("how", [{"negative": 5}, {"negative": 0, "hs": 1}, {"negative": 0}])
@pytest.mark.parametrize("sg", [0, 1])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("corpus", [[["a"]], [["a", "a", "a"], ["a"]]], ids=["word", "words"])
def test_a_vocabulary_of_one(
    corpus: Any, sg: int, how: dict[str, int], deterministic: bool
) -> None:
    options = {**SMALL, **how, "sg": sg, "deterministic": deterministic}
    model = Word2Vec(corpus, **options)
    assert list(model) == ["a"]
    assert np.isfinite(model.vectors).all()
    assert np.isfinite(model.mean_loss_per_epoch).all()


def test_training_what_is_not_there(model: Word2Vec) -> None:
    with pytest.raises(RuntimeError, match="train needs a vocabulary"):
        Word2Vec().train([["a"]])
    with pytest.raises(ValueError, match="must have words of the vocabulary, got none among 2"):
        small().train([["absent", "missing"]])
    with pytest.raises(ValueError, match="word_count must be 0"):
        model.train(word_count=5)
    with pytest.raises(RuntimeError, match="no unfinished run"):
        model.train(resume=True)
    with pytest.raises(ValueError, match="epochs and alphas must be None with resume=True"):
        model.train(resume=True, epochs=3)
    with pytest.raises(ValueError, match="epochs must be from 1"):
        model.train(epochs=0)
    with pytest.raises(ValueError, match="start_alpha must be a finite number"):
        model.train(start_alpha=float("nan"))


def test_lazy_imports() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import seqfast, seqfast.embeddings\n"
        "seqfast.Word2Vec; seqfast.embeddings.callbacks; seqfast.embeddings.Vocabulary\n"
        "heavy = {'torch', 'gensim', 'sklearn', 'matplotlib', 'scipy', 'tqdm'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert 'Word2Vec' in dir(seqfast) and 'TensorBoard' in dir(seqfast.embeddings)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = seqfast.embeddings.absent


@pytest.mark.parametrize("options", [{}, {"sg": 0}, {"shared_negatives": False}, {"hs": 1}])
@pytest.mark.parametrize("deterministic", [False, True])
def test_windows_of_any_width(options: dict[str, Any], deterministic: bool) -> None:
    """One that is wider than every sentence sees all of it, however wide it is."""
    common = {**options, "deterministic": deterministic, "shrink_windows": False, "workers": 1}
    wide, wider = (small(window=window, **common) for window in (50, (1 << 30) - 1))
    np.testing.assert_array_equal(wide.vectors, wider.vectors)
    assert wide.loss_per_epoch == wider.loss_per_epoch


def test_an_exponent_that_overflows_is_named() -> None:
    with pytest.raises(ValueError, match=r"ns_exponent must leave weights .* got 1000"):
        Word2Vec([["a", "b"] * 9] * 9, min_count=1, ns_exponent=1e3, progress=False)

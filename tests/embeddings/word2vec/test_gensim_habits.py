"""What gensim's users do with a model, its `.wv` and its callbacks, and what comes of it."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast import Word2Vec
from seqfast.embeddings import callbacks
from seqfast.embeddings.base import loop
from seqfast.embeddings.base.wv import ModelVectors

from .. import planted

SENTENCES = planted.sentences(150)
SMALL: dict[str, Any] = {
    "vector_size": 20,
    "window": 3,
    "min_count": 1,
    "sample": 0,
    "workers": 1,
    "progress": False,
    "epochs": 2,
}


def small(**options: Any) -> Word2Vec:
    return Word2Vec(SENTENCES, **{**SMALL, **options})


@pytest.fixture(params=["gensim", "without"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Makes a `.wv` of a model, with gensim's class and with our own."""
    if request.param == "gensim":
        pytest.importorskip("gensim", reason="needs gensim")
        return lambda model: model.wv
    return lambda model: ModelVectors(model.state)


# ---- a `.wv` that is held ----


def test_a_held_wv_is_never_stale(kind: Any) -> None:
    model = small()
    wv = kind(model)
    before = wv.most_similar("the", topn=5)
    assert wv.get_vector("the", norm=True) @ wv["the"] == pytest.approx(np.linalg.norm(wv["the"]))
    model.train(epochs=20, start_alpha=0.2)
    after = wv.most_similar("the", topn=5)
    assert after != before
    assert all(-1 <= cosine <= 1.000001 for _, cosine in after)
    assert after == model.most_similar("the", topn=5)
    np.testing.assert_allclose(np.linalg.norm(wv.get_normed_vectors(), axis=1), 1, atol=1e-5)
    model.build_vocab([["fresh", "the"]], update=True)
    assert "fresh" in wv
    assert len(wv) == len(model)
    assert wv["fresh"].shape == (20,)
    assert wv.get_vecattr("fresh", "count") == 1
    model.build_vocab([["x", "y"]])
    assert list(wv.index_to_key) == ["x", "y"]


def test_what_is_stored_through_wv_is_stored(kind: Any) -> None:
    model = small()
    wv, one = kind(model), np.ones(20, np.float32)
    wv["the"] = one
    assert (model["the"] == one).all()
    wv[["the", "of"]] = np.stack([2 * one, 3 * one])
    assert model["of"][0] == 3
    wv.vectors = np.full((len(model), 20), 5)
    assert (model.vectors == 5).all()
    wv.vectors[1] = 7
    assert (model.vectors[1] == 7).all()
    size = len(model)
    assert wv.add_vector("new", one) == size
    wv["newer"] = 2 * one
    wv.add_vectors(["newest", "the"], np.stack([one, one]))
    assert (len(wv), len(model), model.counts[-1]) == (size + 3, size + 3, 0)
    assert (model["newest"] == 1).all()
    assert (model["the"] != 1).all()  # is there: stays without `replace`
    model.train(SENTENCES)
    wv.set_vecattr("new", "weight", 0.5)
    assert (wv.get_vecattr("new", "weight"), wv.get_vecattr("the", "weight")) == (0.5, 0)
    for wrong in (np.ones((2, 3)), "abc", np.ones((size, 21))):
        with pytest.raises(ValueError, match=r"vectors must be|could not convert"):
            wv.vectors = wrong
    with pytest.raises(ValueError, match=r"add_vectors: vectors must be \[1, 20\]"):
        wv["the"] = np.ones(3)
    with pytest.raises(KeyError, match="'what'"):
        wv.get_vecattr("the", "what")


def test_wv_before_there_are_words(kind: Any) -> None:
    wv = kind(Word2Vec(vector_size=7))
    assert (len(wv), list(wv.index_to_key), wv.vectors.shape) == (0, [], (0, 7))
    assert "the" not in wv


def test_wv_stands_alone_when_it_is_copied(kind: Any, tmp_path: Path) -> None:
    model = small()
    wv = kind(model)
    for copied in (copy.deepcopy(wv), pickle.loads(pickle.dumps(wv))):
        kept = np.array(copied["the"])
        model.train()
        assert (copied["the"] == kept).all()
        assert copied.most_similar("the")


def test_wv_takes_other_vectors() -> None:
    first, second = small(), Word2Vec()
    second.wv = first.wv
    assert second.vector_size == 20
    assert second.index_to_key == first.index_to_key
    np.testing.assert_array_equal(second.vectors, first.vectors)
    np.testing.assert_array_equal(second.counts, first.counts)
    second.progress = False
    second.train(SENTENCES)


def test_vectors_lockf(kind: Any, tmp_path: Path) -> None:
    model = small()
    wv = kind(model)
    wv.vectors_lockf[0] = 0
    before = model.vectors.copy()
    model.train()
    still = (model.vectors == before).all(1)
    assert still.tolist() == [True] + [False] * (len(model) - 1)
    wv.vectors_lockf = np.zeros(1)  # gensim's shape for all words
    before = model.vectors.copy()
    model.train()
    np.testing.assert_array_equal(model.vectors, before)
    with pytest.raises(ValueError, match=r"vectors_lockf must be 0 \(locked\) or 1, got 0.5"):
        wv.vectors_lockf = np.full(len(model), 0.5)
    wv.vectors_lockf = np.ones(len(model))
    path = tmp_path / "vectors"
    small(seed=5).save_word2vec_format(path)
    assert wv.intersect_word2vec_format(path) == len(model)
    before = model.vectors.copy()
    model.train()
    np.testing.assert_array_equal(model.vectors, before)


# ---- copies ----


@pytest.mark.parametrize("options", [{}, {"hs": 1, "negative": 0, "sg": 0}], ids=["ns", "hs"])
def test_copies_train_on(options: dict[str, Any]) -> None:
    model = small(**options)
    text = pickle.dumps(model)
    assert len(text) < 3 * sum(matrix.nbytes for matrix in model.state.matrices.values())
    copies = [copy.deepcopy(model) for _ in range(8)] + [pickle.loads(text) for _ in range(8)]
    model.train(SENTENCES)
    for copied in copies:
        copied.train(SENTENCES)
        np.testing.assert_array_equal(copied.vectors, model.vectors)
    copies[0].train()  # a copy knows the text, a pickle does not carry it
    fresh = pickle.loads(text)
    with pytest.raises(ValueError, match="corpus must be given"):
        fresh.train()


def trained_there(model: Word2Vec) -> Any:
    model.train(SENTENCES)
    return model.vectors.sum()


@pytest.mark.alone
def test_a_model_goes_to_other_processes() -> None:
    model = small()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(trained_there, [model])
    assert found == trained_there(model)


def test_hundreds_of_epochs_of_very_little() -> None:
    model = Word2Vec([["a", "b", "c"]] * 9, **{**SMALL, "epochs": 700})
    assert len(model.loss_per_epoch) == 700
    spans = loop._SpanLengths()
    for _ in range(3000):
        with spans.next() as rounds:
            assert 1 <= rounds < 1 << 31


# ---- callbacks, losses, messages ----


def test_running_training_loss_can_be_set_to_nothing() -> None:
    seen = []

    class Loss:
        def on_epoch_end(self, model: Word2Vec) -> None:
            seen.append(model.get_latest_training_loss())
            model.running_training_loss = 0.0

    model = small(epochs=3, callbacks=[Loss()])
    np.testing.assert_allclose(seen, model.loss_per_epoch, rtol=1e-6)
    assert model.running_training_loss == pytest.approx(0, abs=1e-6 * seen[0])
    model.train(epochs=1, callbacks=[])
    assert model.get_latest_training_loss() == model.loss_per_epoch[-1]


def test_callbacks_of_batches() -> None:
    calls = []

    class Batches:
        def on_batch_end(self, model: Word2Vec) -> None:
            calls.append(model)

    model = small(callbacks=[Batches()])
    assert calls
    assert set(map(id, calls)) == {id(model)}

    class Begins(Batches):
        def on_batch_begin(self, model: Word2Vec) -> None: ...

    with pytest.raises(TypeError, match="must not have on_batch_begin"):
        small(callbacks=[Begins()])


def test_a_log_file_is_not_filled(capsys: pytest.CaptureFixture[str]) -> None:
    small(progress=True, epochs=30)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("epoch 30/30: loss")


def test_messages(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "seqfast.embeddings"):
        small(epochs=3)
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith(f"Word2Vec: {len(small())} words of")
    assert told[1].startswith("Word2Vec: training on")
    assert sum("epoch" in line and "loss" in line for line in told) == 3
    assert "effective words in" in told[-1]


def test_a_closed_terminal_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="needs tqdm")

    class Closed:
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    for stream in (Closed(), None):
        monkeypatch.setattr(callbacks.sys, "stderr", stream)
        small(progress=True)


# ---- methods and attributes ----


def test_scores_of_sentences_are_gensims() -> None:
    gensim = pytest.importorskip("gensim.models", reason="needs gensim")
    for options in ({"sg": 1}, {"sg": 0}, {"sg": 0, "cbow_mean": 0}):
        ours = small(hs=1, negative=0, **options)
        theirs = gensim.Word2Vec(
            vector_size=20, window=3, min_count=1, hs=1, negative=0, sample=0, **options
        )
        theirs.build_vocab(SENTENCES)
        # gensim's tree by our nodes.
        theirs.wv.vectors[:] = ours.wv.vectors_for_all(theirs.wv.index_to_key).vectors
        for word in theirs.wv.index_to_key:
            theirs.wv.expandos["point"][theirs.wv.get_index(word)] = ours.wv.get_vecattr(
                word, "point"
            )
            theirs.wv.expandos["code"][theirs.wv.get_index(word)] = ours.wv.get_vecattr(
                word, "code"
            )
        theirs.syn1[:] = ours.syn1
        some = [*SENTENCES[:9], ["the"], ["unknown", "the", "of"]]
        wanted = theirs.score(some, len(some))
        # gensim takes logarithms from a table of 1000 entries, rounded down.
        np.testing.assert_allclose(ours.score(some), wanted, rtol=0.03)
    with pytest.raises(RuntimeError, match="score needs the tree of hs=1"):
        small().score([["the"]])


def test_predictions_are_gensims() -> None:
    gensim = pytest.importorskip("gensim.models", reason="needs gensim")
    for options in ({}, {"cbow_mean": 0}):
        ours = small(**options)
        theirs = gensim.Word2Vec(vector_size=20, min_count=1, **options)
        theirs.build_vocab(SENTENCES)
        order = [ours.get_index(word) for word in theirs.wv.index_to_key]
        theirs.wv.vectors[:] = ours.vectors[order]
        theirs.syn1neg[:] = ours.syn1neg[order]
        wanted = theirs.predict_output_word(["the", "of", "nothing"], topn=4)
        found = ours.predict_output_word(["the", "of", "nothing"], topn=4)
        assert found is not None
        assert [word for word, _ in found] == [word for word, _ in wanted]
        np.testing.assert_allclose([p for _, p in found], [p for _, p in wanted], rtol=1e-3)
    assert ours.predict_output_word([0, "of"]) == ours.predict_output_word(
        [ours.index_to_key[0], "of"]
    )
    assert ours.predict_output_word(["nothing"]) is None
    for model in (small(hs=1, negative=0), Word2Vec()):
        with pytest.raises(RuntimeError, match="predict_output_word needs a model"):
            model.predict_output_word(["the"])


def test_names_that_gensim_has() -> None:
    model = small(hs=1)
    assert model.layer1_size == model.vector_size == 20
    assert set(model.estimate_memory()) == {"vocab", "vectors", "syn1", "syn1neg", "total"}
    assert model.estimate_memory(10**6)["vectors"] >= 80 * 10**6
    assert model.total_train_time > 0
    assert model.min_alpha_yet_reached == model.min_alpha
    table = model.cum_table
    assert table.dtype == np.uint32
    assert table[-1] == 2**31 - 1
    assert (np.diff(table.astype(np.int64)) >= 0).all()
    model.init_sims(replace=True)
    np.testing.assert_allclose(np.linalg.norm(model.vectors, axis=1), 1, atol=1e-5)
    other = Word2Vec(**SMALL)
    other.reset_from(model)
    assert other.index_to_key == model.index_to_key
    other.train(SENTENCES)


def test_words_of_any_class_are_kept_in_files(tmp_path: Path) -> None:
    model = Word2Vec([[1, 2, "1"], [2, 3, "1"]] * 9, **SMALL)
    assert model[2].shape == (20,)
    assert (model[2] == model.vectors[model.key_to_index[2]]).all()
    model.save(tmp_path / "model")
    again = Word2Vec.load(tmp_path / "model", progress=False)
    assert again.index_to_key == model.index_to_key
    assert [type(word) for word in again.index_to_key] == [type(w) for w in model.index_to_key]
    model.save_word2vec_format(tmp_path / "text")
    again.train([[1, 2]])
    pairs = Word2Vec([[(1, "a"), (2, "b")]] * 9, **SMALL)
    assert pairs[(1, "a")].shape == (20,)
    assert pairs.wv.most_similar((1, "a"))[0][0] == (2, "b")
    with pytest.raises(TypeError, match="words must be str or int to be kept in a file, got tuple"):
        pairs.save(tmp_path / "pairs")
    assert pickle.loads(pickle.dumps(pairs)).index_to_key == pairs.index_to_key


@pytest.mark.parametrize("sg", [0, 1])
@pytest.mark.parametrize("words", [2, 4, 20])
@pytest.mark.parametrize("deterministic", [False, True])
def test_very_few_words_hold_or_are_refused(words: int, sg: int, deterministic: bool) -> None:
    text = [[f"w{k % words}" for k in range(start, start + 40)] for start in range(50)]
    options = {**SMALL, "sg": sg, "negative": 20, "window": 25, "deterministic": deterministic}
    try:
        model = Word2Vec(text, **options)
    except ValueError as error:
        assert "cannot be trained with alpha=0.025" in str(error)  # noqa: PT017
        assert words < 20 or deterministic
        model = Word2Vec(text, **{**options, "negative": 1, "window": 2, "alpha": 0.005})
    assert np.isfinite(model.vectors).all()

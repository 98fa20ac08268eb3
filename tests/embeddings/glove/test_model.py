"""GloVe: what it learns, what it is told, what survives, what is refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import Backend

import seqfast
from seqfast import GloVe
from seqfast.embeddings import Callback, Cooccurrences, Interrupted, Progress
from seqfast.embeddings.base import loop
from seqfast.embeddings.glove import cooccurrences, training
from seqfast.ops.base import backend
from seqfast.reference import glove as twin

from .. import planted

SENTENCES = planted.sentences()
SMALL: dict[str, Any] = {
    "vector_size": 20,
    "window": 5,
    "min_count": 1,
    "x_max": 20,
    "epochs": 4,
    "workers": 1,
    "progress": False,
}


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds at a time, so that even a small text has several spans."""
    monkeypatch.setattr(loop, "_FIRST_SPAN_ROUNDS", 4)
    monkeypatch.setattr(loop, "_SPAN_SECONDS", 0.0)


def small(source: Any = SENTENCES, **options: Any) -> GloVe:
    return GloVe(source, **{**SMALL, **options})


def assert_same(one: GloVe, other: GloVe) -> None:
    """Bit for bit."""
    assert one.index_to_key == other.index_to_key
    for name, array in one.state.matrices.items():
        np.testing.assert_array_equal(array, other.state.matrices[name])
    for name in ("loss_per_epoch", "mean_loss_per_epoch", "epochs_trained", "train_count"):
        assert getattr(one, name) == getattr(other, name)


class StopAfter(Callback):
    def __init__(self, spans: int) -> None:
        self.left = spans

    def on_span_end(self, model: GloVe, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


# ---- what it learns ----


def test_it_learns_which_words_are_alike() -> None:
    """Which topic a word belongs to, where every word may stand beside every other."""
    generator = random.Random(0)
    text = []
    for _ in range(1500):
        topic = generator.randrange(5)
        topics = [topic if generator.random() < 0.8 else generator.randrange(5) for _ in range(8)]
        text.append([f"topic{t}{generator.choice('abcdef')}" for t in topics])
    model = small(text, vector_size=5, epochs=15)
    for word in model:
        assert model.most_similar(word, topn=1)[0][0][:6] == word[:6]
    assert model.loss_per_epoch[-1] < 0.2 * model.loss_per_epoch[0]
    assert repr(model).startswith("GloVe(vocab=30, vector_size=5, window=5")


def test_it_is_the_twin_trained_on_the_counts() -> None:
    """Vectors, biases and the exact loss of each epoch."""
    model = small(SENTENCES[:60], epochs=2)
    counted = model.cooccurrences
    assert counted is not None
    fresh = small(None)
    fresh.build_vocab(SENTENCES[:60])
    matrices = [fresh.state.matrices[name].copy() for name in training.MATRICES]
    blocks = min(64, len(model))
    found = twin.schedule(counted.offsets, counted.columns, counted.values, blocks=blocks, seed=1)
    for epoch in range(2):
        order = twin.strata(blocks, seed=1, epoch=epoch)
        loss = twin.train(*found, *matrices, size=20, x_max=20, order=order)
        assert model.loss_per_epoch[epoch] == pytest.approx(loss.sum(), rel=1e-4)
        assert model.mean_loss_per_epoch[epoch] == model.loss_per_epoch[epoch] / len(found[1])
    words, contexts, *_ = matrices
    np.testing.assert_allclose(model.word_vectors, words[:, :20], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.context_vectors, contexts[:, :20], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.word_biases, words[:, 20], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.context_biases, contexts[:, 20], rtol=1e-3, atol=1e-4)
    mean = (model.word_vectors + model.context_vectors) * np.float32(0.5)
    np.testing.assert_array_equal(model.vectors, mean)


@pytest.mark.parametrize("combine", ["mean", "sum", "words"])
def test_vectors_are_combined_and_may_be_written(combine: str) -> None:
    model = small(combine=combine, epochs=1)
    both = model.word_vectors + model.context_vectors
    wanted = {"mean": both / 2, "sum": both, "words": model.word_vectors}[combine]
    np.testing.assert_array_equal(model.vectors, wanted)
    row, given = model.key_to_index["left0"], np.arange(20, dtype=np.float32)
    assert model.set_vectors({"left0": given}) == 1
    model.locked = ["left0"]
    others = model.vectors.copy()
    model.train()
    np.testing.assert_allclose(model["left0"], given, atol=1e-5)
    moved = ~np.isclose(model.vectors, others, rtol=1e-4, atol=1e-5).all(1)
    assert np.flatnonzero(~moved).tolist() == [row]
    initial = small(initial_vectors={"left1": given}, locked=["left1"], combine=combine)
    np.testing.assert_allclose(initial["left1"], given, atol=1e-5)


@pytest.mark.alone
def test_any_number_of_workers_gives_the_same_bits() -> None:
    one = small()
    for options in ({"workers": 2}, {"workers": 3, "memory_limit": 0}, {"deterministic": True}):
        assert_same(small(**options), one)
    assert (small(seed=2).vectors != one.vectors).any()


def test_callbacks_are_told_of_entries() -> None:
    told: list[Progress] = []

    class Listener(Callback):
        def on_epoch_end(self, model: GloVe, progress: Progress) -> None:
            told.append(progress)

    model = small(callbacks=[Listener()])
    assert model.cooccurrences is not None
    entries, words = len(model.cooccurrences.columns), sum(map(len, SENTENCES))
    assert [(p.examples, p.words, p.effective_words) for p in told] == [
        (entries, words * epoch, entries * epoch) for epoch in range(1, 5)
    ]
    assert told[0].alpha == 0.05
    assert model.train(epochs=2) == (2 * entries, 2 * words)


def test_new_words_join() -> None:
    model = small()
    before = model.state.matrices["word_squares"].copy()
    model.build_vocab([["fresh", "the"]] * 3, update=True)
    assert model.index_to_key[-1] == "fresh"
    np.testing.assert_array_equal(model.state.matrices["word_squares"][: len(before)], before)
    np.testing.assert_array_equal(model.state.matrices["word_squares"][-1], 1)
    model.train()
    assert model.cooccurrences is not None
    assert len(model.cooccurrences.columns) == 2


# ---- files, interrupts, kill -9 ----


def test_files(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "model")
    loaded = GloVe.load(tmp_path / "model", progress=False)
    assert_same(loaded, model)
    loaded.workers = model.workers = 1
    loaded.train(SENTENCES)
    model.train()
    assert_same(loaded, model)
    model.save_word2vec_format(tmp_path / "text")
    words, vectors, _ = seqfast.embeddings.formats.load_word2vec_format(tmp_path / "text")
    assert words == model.index_to_key
    np.testing.assert_array_equal(vectors, model.vectors)
    with pytest.raises(ValueError, match=r"must be a file of seqfast\.Word2Vec, and whole"):
        seqfast.Word2Vec.load(tmp_path / "model")


@pytest.mark.parametrize("spans", [1, 7, 30])
def test_interrupted_and_resumed(spans: int, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    whole = small()
    with pytest.raises(Interrupted) as caught:
        small(checkpoint=path, callbacks=[StopAfter(spans)])
    stopped = caught.value.model
    resumed = GloVe.resume(path, SENTENCES, progress=False, workers=2)
    stopped.train(resume=True, callbacks=[])
    assert_same(resumed, whole)
    assert_same(stopped, whole)
    with pytest.raises(ValueError, match="GloVe: corpus must be the one that the run began with"):
        GloVe.load(path).finish_run(SENTENCES[1:])


def test_interrupted_while_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint"
    whole = small()
    rows = cooccurrences.Rows.write

    def interrupted(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cooccurrences.Rows, "write", interrupted)
    with pytest.raises(Interrupted) as caught:
        small(checkpoint=path)
    monkeypatch.setattr(cooccurrences.Rows, "write", rows)
    resumed = GloVe.resume(path, SENTENCES, progress=False, workers=1)
    caught.value.model.train(resume=True)
    assert_same(resumed, whole)
    assert_same(caught.value.model, whole)


@pytest.mark.alone
@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
@pytest.mark.parametrize("where", ["counting", "training"])
def test_killed_and_resumed(where: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(planted.text())
    program = textwrap.dedent(
        """
        import sys, time
        from seqfast import GloVe
        from seqfast.embeddings import Callback
        from seqfast.embeddings.glove import cooccurrences

        class Wait(Callback):
            def on_epoch_begin(self, model, progress):
                if progress.epoch == 2:
                    print("here", flush=True)
                    time.sleep(60)

        if sys.argv[1] == "counting":
            def wait(*arguments, **options):
                print("here", flush=True)
                time.sleep(60)
            cooccurrences.Rows.write = wait
        options = {"vector_size": 20, "window": 5, "min_count": 1, "x_max": 20, "epochs": 4}
        GloVe("text", **options, workers=1, progress=False, checkpoint="checkpoint",
              checkpoint_every="epoch", callbacks=[Wait()])
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, where],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    path = tmp_path / "checkpoint"
    loaded = GloVe.load(path)
    assert loaded.epochs_trained == (0 if where == "counting" else 2)
    resumed = GloVe.resume(path, tmp_path / "text", progress=False, workers=1)
    assert_same(resumed, small(tmp_path / "text"))


def test_a_full_disk_loses_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrences, "_LEAST_TOKENS", 500)
    model = small(None, memory_limit=0, cache_folder=tmp_path)
    model.build_vocab(SENTENCES)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(
            OSError, match="cooccurrences: No space left on device; give cache_folde"
        ):
            model.train()
    model.train(resume=True)
    assert_same(model, small())


# ---- co-occurrences that are given ----


def test_given_cooccurrences(tmp_path: Path) -> None:
    whole = small()
    assert whole.cooccurrences is not None
    whole.cooccurrences.save(tmp_path / "own")
    whole.cooccurrences.save_c_format(tmp_path / "c")
    counts = dict(zip(whole.index_to_key, whole.counts.tolist(), strict=True))
    for counted in (
        Cooccurrences.load(tmp_path / "own"),
        Cooccurrences.load_c_format(tmp_path / "c", len(whole)),
    ):
        model = small(None)
        model.build_vocab_from_freq(counts)
        model.train(cooccurrences=counted)
        np.testing.assert_array_equal(model.vectors, whole.vectors)
        model.train()
        assert model.epochs_trained == 8
        path = tmp_path / "checkpoint"
        stopped = small(None, checkpoint=path)
        stopped.build_vocab_from_freq(counts)
        with pytest.raises(KeyboardInterrupt):
            stopped.train(cooccurrences=counted, callbacks=[StopAfter(5)])
        resumed = GloVe.load(path, progress=False, workers=1)
        resumed.train(cooccurrences=counted, resume=True)
        np.testing.assert_array_equal(resumed.vectors, whole.vectors)
    other = small([["a", "b"]] * 9)
    with pytest.raises(ValueError, match=r"of the vocabulary of 2 words, got \d+ words"):
        other.train(cooccurrences=counted)
    renamed = Cooccurrences(
        counted.offsets, counted.columns, counted.values, list(reversed(whole.index_to_key))
    )
    with pytest.raises(ValueError, match="of which number 0 is"):
        whole.train(cooccurrences=renamed)
    with pytest.raises(TypeError, match=r"must be Cooccurrences, got str; .*load"):
        whole.train(cooccurrences="file")  # type: ignore[arg-type]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 0}, ValueError, "window must be"),
        ({"x_max": 0}, ValueError, "x_max must be a finite number above 0, got 0"),
        ({"x_max": float("nan")}, ValueError, "x_max must be a finite number above 0, got nan"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be a finite number"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be a finite number above 0"),
        ({"alpha": float("inf")}, ValueError, "alpha must be a finite number"),
        ({"epochs": 0}, ValueError, "epochs must be"),
        ({"vector_size": 2.5}, TypeError, "vector_size must be"),
        ({"combine": "max"}, ValueError, "combine must be"),
        ({"workers": 0}, ValueError, "workers must be"),
        ({"device": "tpu"}, ValueError, "device must be cpu or cuda"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"GloVe: {message}"):
        small(None, **options)


def test_empty_and_lonely_corpora() -> None:
    with pytest.raises(ValueError, match="GloVe: corpus must have words, got an empty one"):
        small([])
    with pytest.raises(ValueError, match="GloVe: min_count must leave some words"):
        small(min_count=10**6)
    with pytest.raises(ValueError, match="GloVe: corpus must have words beside each other"):
        small([["a"], ["b"], ["a"]])
    model = small(None)
    with pytest.raises(RuntimeError, match="GloVe: train needs a vocabulary"):
        model.train()
    with pytest.raises(RuntimeError, match="there are no vectors yet; call build_vocab first"):
        _ = model.word_biases
    with pytest.raises(RuntimeError, match="GloVe: there is no unfinished run"):
        small(epochs=1).train(resume=True)


def test_what_runs_away_is_an_error() -> None:
    model = small(None, learning_rate=1e30, grad_clip=1e30)
    model.build_vocab(SENTENCES)
    with pytest.raises(FloatingPointError, match=r"GloVe: loss .* lower learning_rate, which is"):
        model.train()
    assert model.state.run is None


def test_a_group_of_one(tmp_path: Path) -> None:
    dist = pytest.importorskip("torch.distributed", reason="needs torch")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = small(distributed=True)
    finally:
        dist.destroy_process_group()
    np.testing.assert_allclose(model.vectors, small().vectors, rtol=1e-3, atol=1e-4)


def test_no_time_is_lost_before_the_loop() -> None:
    """A corpus that was counted is not counted again."""
    model = small()
    counted = model.cooccurrences
    start = time.perf_counter()
    model.train()
    assert model.cooccurrences is counted
    assert time.perf_counter() - start < 30


def test_the_cuda_kernel_trains_it(cuda_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    found = small(SENTENCES[:60], epochs=2, device=cuda_backend.device)
    # Undone here: `monkeypatch` outlives the backend, and would leave the host executor on.
    with monkeypatch.context() as patched, torch.device("cpu"):
        patched.setattr(backend._Switches, "on_host", False)
        wanted = small(SENTENCES[:60], epochs=2)
    # A GPU has other blocks, and so another order.
    tolerance = 0.2 if cuda_backend.name == "cuda" else 1e-3
    np.testing.assert_allclose(found.loss_per_epoch, wanted.loss_per_epoch, rtol=tolerance)

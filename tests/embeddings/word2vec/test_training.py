"""A training run: the same as the twin's, in any spans; what it reports; how it ends early."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqfast
from seqfast import Word2Vec
from seqfast.embeddings import Callback, Interrupted, Progress, TensorBoard, callbacks
from seqfast.embeddings.base import loop
from seqfast.embeddings.corpus import read
from seqfast.embeddings.word2vec import training
from seqfast.embeddings.word2vec.state import Word2VecRun
from seqfast.ops.word2vec.matrix import matrix
from seqfast.reference import word2vec as twin

from .. import planted

SENTENCES = planted.sentences()
WORDS = sum(map(len, SENTENCES))
SMALL: dict[str, Any] = {
    "vector_size": 20,
    "window": 3,
    "min_count": 1,
    "sample": 0.01,
    "workers": 1,
    "epochs": 2,
    "progress": False,
}


def small(**options: Any) -> Word2Vec:
    return Word2Vec(SENTENCES, **{**SMALL, **options})


def assert_same(one: Word2Vec, other: Word2Vec) -> None:
    """Bit for bit."""
    assert one.state.matrices.keys() == other.state.matrices.keys()
    for name, array in one.state.matrices.items():
        np.testing.assert_array_equal(array, other.state.matrices[name])
    assert one.loss_per_epoch == other.loss_per_epoch
    assert one.mean_loss_per_epoch == other.mean_loss_per_epoch


@pytest.fixture
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round at a time, so that even a small text has several."""
    monkeypatch.setattr(loop, "_FIRST_SPAN_ROUNDS", 1)
    monkeypatch.setattr(loop, "_SPAN_SECONDS", 0.0)


# ---- results ----


def by_twin(sentences: list[list[str]], epochs: int, **options: Any) -> tuple[Any, list[float]]:
    """Vectors, and losses of the epochs, of the twin told the same."""
    vocabulary, corpus = read(sentences, min_count=1)
    counts, size = vocabulary.counts, SMALL["vector_size"]
    vectors, output = (matrix(len(vocabulary), size) for _ in range(2))
    nodes = matrix(len(vocabulary) - 1, size)
    twin.first_vectors(vectors[:, :size], 1)
    hs, negative = options.pop("hs", 0), options.get("negative", 5)
    alpha = options.pop("alpha", 0.025)
    losses = []
    for epoch in range(epochs):
        loss, _, _ = twin.train(
            corpus.ids,
            corpus.offsets,
            vectors,
            output if negative or not hs else None,
            nodes if hs else None,
            size=size,
            window=SMALL["window"],
            keep=twin.keep_thresholds(counts, SMALL["sample"]),
            alias=twin.alias_table(counts**0.75) if negative else None,
            paths=twin.huffman_paths(counts) if hs else None,
            epoch=epoch,
            tokens_before=epoch * len(corpus.ids),
            tokens_total=epochs * len(corpus.ids),
            alpha=alpha,
            **options,
        )
        losses.append(math.fsum(loss))
    return vectors[:, :size], losses


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("sg", [1, 0], ids=["skip-gram", "cbow"])
@pytest.mark.parametrize(
    "how", [{"negative": 3}, {"negative": 0, "hs": 1}, {"negative": 0}], ids=str
)
def test_one_worker_is_the_twin(sg: int, how: dict[str, int], deterministic: bool) -> None:
    sentences = SENTENCES[:120]
    options = {**how, "deterministic": deterministic, "alpha": 0.01}
    model = Word2Vec(sentences, **{**SMALL, **options, "sg": sg})
    options |= {"alpha": 0.01 * model.cbow_step, "min_alpha": 1e-4 * model.cbow_step}
    options |= {"cbow": not sg, "legacy_cbow": model.legacy_cbow}
    vectors, losses = by_twin(sentences, 2, **options)
    np.testing.assert_allclose(model.vectors, vectors, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.loss_per_epoch, losses, rtol=1e-5)


@pytest.mark.parametrize("deterministic", [False, True])
def test_spans_make_no_difference(
    deterministic: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(deterministic=deterministic)
    request.getfixturevalue("short_spans")
    calls = []
    train = training.Word2VecKernels.train
    monkeypatch.setattr(
        training.Word2VecKernels, "train", lambda *args: (calls.append(args[2:]), train(*args))[1]
    )
    assert_same(small(deterministic=deterministic), whole)
    rounds = -(-WORDS // 256)
    assert calls == [(first, first + 1) for first in range(rounds)] * 2


@pytest.mark.alone
def test_deterministic_whoever_works() -> None:
    one = small(deterministic=True)
    assert_same(small(deterministic=True, workers=2), one)
    assert not (small(deterministic=True, seed=2).vectors == one.vectors).all()


def test_spans_take_about_as_long() -> None:
    spans = loop._SpanLengths()
    for _ in range(40):
        with spans.next():
            pass
    assert spans._rounds > 10_000


def test_more_epochs_draw_anew() -> None:
    twice = small()
    first = twice.vectors.copy()
    assert twice.epochs_trained == 2
    effective, raw = twice.train(epochs=3, start_alpha=0.02, end_alpha=0.01)
    assert raw == 3 * WORDS
    assert 0 < effective < raw
    assert twice.epochs_trained == 5
    assert len(twice.loss_per_epoch) == len(twice.mean_loss_per_epoch) == 5
    assert len(set(twice.loss_per_epoch)) == 5
    assert twice.train_count == 2
    assert not (twice.vectors == first).all()
    assert twice.get_latest_training_loss() == sum(twice.loss_per_epoch[2:])
    assert (twice.alpha, twice.epochs) == (0.025, 2)


def test_an_unfinished_epoch_is_not_drawn_again(short_spans: None) -> None:
    class Stop(Callback):
        def on_span_end(self, model: Word2Vec, progress: Progress) -> None:
            raise RuntimeError("enough")

    model = Word2Vec(**SMALL)
    model.build_vocab(SENTENCES)
    with pytest.raises(RuntimeError, match="enough"):
        model.train(callbacks=[Stop()])
    assert model.epochs_trained == 0
    model.train(callbacks=())
    assert model.epochs_trained == 3
    with pytest.raises(RuntimeError, match="no unfinished run"):
        model.train(resume=True)


def test_learning_rate_is_the_kernels() -> None:
    run = Word2VecRun(3, 0.5, 0.1, 0, tokens=1000, raw_words=2000, fingerprint="")
    assert run.learning_rate() == 0.5
    run.epoch, run.next_round = 1, 2
    assert run.tokens_done == 1512
    assert run.words == 3024
    assert run.learning_rate() == pytest.approx(0.5 - 0.4 * 1512 / 3000)
    run.next_round = 4
    assert run.tokens_done == 2000


# ---- callbacks ----


class Notes(Callback):
    def __init__(self) -> None:
        self.calls: list[tuple[str, Progress]] = []

    def on_train_begin(self, model: Word2Vec, progress: Progress) -> None:
        self.calls.append(("train begin", progress))

    def on_epoch_begin(self, model: Word2Vec, progress: Progress) -> None:
        self.calls.append(("epoch begin", progress))

    def on_span_end(self, model: Word2Vec, progress: Progress) -> None:
        self.calls.append(("span end", progress))

    def on_epoch_end(self, model: Word2Vec, progress: Progress) -> None:
        assert model.loss_per_epoch[-1] == progress.loss
        assert model.mean_loss_per_epoch[-1] == progress.mean_loss
        self.calls.append(("epoch end", progress))

    def on_train_end(self, model: Word2Vec, progress: Progress) -> None:
        self.calls.append(("train end", progress))


def test_callbacks_hear_everything(short_spans: None) -> None:
    notes = Notes()
    model = small(callbacks=notes)
    rounds = -(-WORDS // 256)
    epoch = ["epoch begin", *["span end"] * rounds, "epoch end"]
    assert [name for name, _ in notes.calls] == ["train begin", *epoch, *epoch, "train end"]
    spans = [progress for name, progress in notes.calls if name == "span end"]
    assert [progress.words for progress in spans[:3]] == [256, 512, 768]
    assert [progress.epoch for progress in spans] == [0] * rounds + [1] * rounds
    assert spans[-1].words == spans[-1].words_total == 2 * WORDS
    assert 0 < spans[-1].effective_words < 2 * WORDS
    assert spans[0].alpha > spans[-1].alpha
    assert spans[-1].alpha == pytest.approx(1e-4)
    for progress in spans:
        assert progress.raw_words_per_second == pytest.approx(progress.words / progress.seconds)
        assert progress.effective_words_per_second < progress.raw_words_per_second
    assert spans[rounds - 1].loss == model.loss_per_epoch[0]
    # They stay for later calls, unless others are given.
    model.train(epochs=1)
    assert len(notes.calls) > 2 * len(epoch) + 2
    before = len(notes.calls)
    model.train(epochs=1, callbacks=[])
    assert len(notes.calls) == before


def test_callbacks_see_the_model(short_spans: None, tmp_path: Any) -> None:
    class Saves(Callback):
        def on_span_end(self, model: Word2Vec, progress: Progress) -> None:
            model.save(tmp_path / "model")
            np.testing.assert_array_equal(Word2Vec.load(tmp_path / "model").vectors, model.vectors)
            with pytest.raises(RuntimeError, match="called while it is running"):
                model.train()

    small(epochs=1, callbacks=[Saves()])
    assert (tmp_path / "model").exists()


def test_gensims_callbacks() -> None:
    base = pytest.importorskip("gensim.models.callbacks", reason="needs gensim").CallbackAny2Vec

    class Losses(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.losses: list[float] = []
            self.ended = 0

        def on_epoch_end(self, model: Any) -> None:
            self.losses.append(model.get_latest_training_loss())

        def on_train_end(self, model: Any) -> None:
            self.ended += 1

    losses = Losses()
    model = small(callbacks=[losses], epochs=3)
    np.testing.assert_allclose(losses.losses, np.cumsum(model.loss_per_epoch))
    assert losses.ended == 1


def test_any_object_with_a_hook_will_do() -> None:
    class Begin:
        heard: Any = None

        def on_epoch_begin(self, model: Word2Vec) -> None:
            self.heard = model

    begin = Begin()
    assert small(callbacks=[begin]) is begin.heard
    for wrong in (object(), Callback, print):
        with pytest.raises(TypeError, match="callbacks must have one of the methods"):
            small(callbacks=[wrong])


class Writer:
    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[float, int]]] = {}
        self.flushed = self.closed = 0

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, []).append((value, step))

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1


def test_tensorboard(short_spans: None) -> None:
    writer = Writer()
    model = small(callbacks=[TensorBoard(writer=writer)])
    assert writer.scalars.keys() == {
        "word2vec/loss",
        "word2vec/alpha",
        "word2vec/raw words per second",
        "word2vec/effective words per second",
        "word2vec/loss of the epoch",
    }
    steps = [step for _, step in writer.scalars["word2vec/alpha"]]
    assert steps[0] == 256
    assert steps == sorted(steps)
    assert writer.scalars["word2vec/loss of the epoch"] == [
        (loss, epoch) for epoch, loss in enumerate(model.mean_loss_per_epoch)
    ]
    assert (writer.flushed, writer.closed) == (2, 0)


def test_tensorboard_opens_its_own_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    pytest.importorskip("torch", reason="needs torch")
    module = ModuleType("torch.utils.tensorboard")
    opened = []

    def open_writer(log_dir: str | None) -> Writer:
        opened.append((log_dir, Writer()))
        return opened[-1][1]

    module.SummaryWriter = open_writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    small(callbacks=[TensorBoard("here")])
    [(folder, writer)] = opened
    assert folder == "here"
    assert writer.closed == 1
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install seqfast\[tensorboard\]"):
        small(callbacks=[TensorBoard()])


def test_real_tensorboard(tmp_path: Any) -> None:
    pytest.importorskip("torch.utils.tensorboard", reason="needs tensorboard")
    small(callbacks=[TensorBoard(str(tmp_path))])
    assert list(tmp_path.iterdir())


# ---- the progress bar ----


def test_bar(
    short_spans: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm", reason="needs tqdm")
    monkeypatch.setattr(callbacks, "shows_bars", lambda: True)
    small(progress=True)
    written = capsys.readouterr().err
    for part in ("epoch 1/2", "epoch 2/2", "100%", "loss ", "alpha 0.00010", "effective words/s"):
        assert part in written


def test_lines_without_tqdm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(callbacks, "_SECONDS_PER_LINE", 0)
    model = small(progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert f"loss {model.mean_loss_per_epoch[1]:.4f}, alpha 0.00010" in lines[1]


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    small(progress=False)
    assert capsys.readouterr() == ("", "")


# ---- early ends ----


def interrupting(after: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """SIGINT while the kernels of span `after` run."""
    train = training.Word2VecKernels.train
    count = 0

    def interrupted(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == after:
            signal.raise_signal(signal.SIGINT)
        return train(*args)

    monkeypatch.setattr(training.Word2VecKernels, "train", interrupted)
    return lambda: count


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("after", [1, 5, 16, 17, 32])
def test_resumed_after_an_interrupt(
    after: int, deterministic: bool, short_spans: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(deterministic=deterministic)
    model = Word2Vec(**SMALL, deterministic=deterministic)
    model.build_vocab(SENTENCES)
    count = interrupting(after, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.train()
    assert count() == after
    assert len(model.loss_per_epoch) == (after - 1) // (-(-WORDS // 256))
    assert model.get_latest_training_loss() > 0
    effective, raw = model.train(resume=True)
    assert count() == 2 * -(-WORDS // 256)
    assert_same(model, whole)
    assert raw == 2 * WORDS - min(after * 256, 2 * WORDS) or after > 15
    assert effective <= raw


def test_the_constructor_gives_the_model_away(
    short_spans: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small()
    interrupting(4, monkeypatch)
    with pytest.raises(Interrupted) as caught:
        small()
    caught.value.model.train(resume=True)
    assert_same(caught.value.model, whole)


def test_what_a_callback_raises_can_be_resumed(short_spans: None) -> None:
    class Stop(Callback):
        def __init__(self, hook: str) -> None:
            setattr(self, hook, self.stop)
            self.left = 2

        def stop(self, model: Word2Vec, progress: Progress) -> None:
            self.left -= 1
            if not self.left:
                raise OSError("no more")

    whole = small()
    for hook in ("on_epoch_begin", "on_span_end", "on_epoch_end"):
        model = Word2Vec(**SMALL)
        model.build_vocab(SENTENCES)
        with pytest.raises(OSError, match="no more"):
            model.train(callbacks=[Stop(hook)])
        model.train(resume=True)
        assert_same(model, whole)


def test_resume_wants_the_same_text(short_spans: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Word2Vec(**SMALL)
    model.build_vocab(SENTENCES)
    interrupting(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.train()
    with pytest.raises(ValueError, match="corpus must be the one that the run began with"):
        model.train(SENTENCES[1:], resume=True)
    model.train(SENTENCES, resume=True)
    assert model.epochs_trained == 2


def test_an_update_ends_the_run(short_spans: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Word2Vec(**SMALL)
    model.build_vocab(SENTENCES)
    interrupting(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.train()
    model.build_vocab([["another", "word"]], update=True)
    with pytest.raises(RuntimeError, match="no unfinished run"):
        model.train(resume=True)


def test_interrupts_wait_for_the_end_of_a_block() -> None:
    seen = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), loop.interrupts_deferred() as waiting:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        seen.append(len(waiting))
    assert seen == [1]
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with loop.interrupts_deferred() as waiting:
            signal.raise_signal(signal.SIGINT)
        assert waiting == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_a_thread() -> None:
    models = []
    thread = threading.Thread(target=lambda: models.append(small()))
    thread.start()
    thread.join()
    assert_same(models[0], small())


@pytest.mark.parametrize("sg", [0, 1])
def test_a_loss_without_bounds(sg: int, tmp_path: Any) -> None:
    path = tmp_path / "checkpoint"
    model = Word2Vec(**{**SMALL, "sg": sg, "alpha": 1e30}, checkpoint=path)
    model.build_vocab(SENTENCES)
    model.save(path)
    before = path.read_bytes()
    message = r"loss and vectors must be finite, got .* in epoch 1 of 2.*lower alpha"
    with pytest.raises(FloatingPointError, match=message):
        model.train()
    assert path.read_bytes() == before
    with pytest.raises(RuntimeError, match="no unfinished run"):
        model.train(resume=True)


class BreaksLast(Callback):
    """NaN in the row that is looked at last, in span `spans`."""

    def __init__(self, spans: int) -> None:
        self.left = spans

    def on_span_end(self, model: Word2Vec, progress: Progress) -> None:
        self.left -= 1
        if not self.left:
            model.vectors[-1] = np.nan


@pytest.mark.parametrize("every", [0, "epoch"])
def test_a_checkpoint_is_not_replaced_by_nan(
    every: Any, short_spans: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loop, "_FREQUENT_WORDS", 1)
    path = tmp_path / "checkpoint"
    model = Word2Vec(**SMALL, checkpoint=path, checkpoint_every=every)
    model.build_vocab(SENTENCES)
    model.save(path)
    with pytest.raises(FloatingPointError, match="loss and vectors must be finite"):
        model.train(callbacks=[BreaksLast(3)])
    kept = Word2Vec.load(path)
    assert np.isfinite(kept.vectors).all()
    assert kept.state.run is None or kept.state.run.next_round == 2


def test_ctrl_c_does_not_write_nan(
    short_spans: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    model = Word2Vec(**SMALL, checkpoint=path)
    model.build_vocab(SENTENCES)
    model.save(path)
    before = path.read_bytes()
    train = training.Word2VecKernels.train

    def broken(kernels: Any, *args: Any) -> Any:
        result = train(kernels, *args)
        kernels.matrices["vectors"][-1] = np.nan
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(training.Word2VecKernels, "train", broken)
    with (
        pytest.warns(RuntimeWarning, match="stays as it was .*loss and vectors must be"),
        pytest.raises(KeyboardInterrupt),
    ):
        model.train()
    assert path.read_bytes() == before


def test_a_start_that_is_refused_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        rank = 0

        def begin(self, *args: Any) -> None:
            raise ValueError("not the same")

    whole = small()
    model = Word2Vec(**SMALL)
    model.build_vocab(SENTENCES)
    with monkeypatch.context() as patch:
        patch.setattr(model, "_join_group", Refusing)
        with pytest.raises(ValueError, match="not the same"):
            model.train()
    model.train()
    assert_same(model, whole)


# ---- other devices ----


@pytest.mark.parametrize("sg", [1, 0], ids=["skip-gram", "cbow"])
@pytest.mark.parametrize("how", [{"negative": 3}, {"negative": 0, "hs": 1}], ids=str)
def test_on_the_host_executor(sg: int, how: dict[str, int]) -> None:
    pytest.importorskip("torch", reason="needs torch")
    if not seqfast.build_info().get("host_executor"):
        pytest.skip("needs a build with SEQFAST_CUDA=HOST")
    from seqfast.ops.base.backend import on_host_executor

    options = {**SMALL, **how, "deterministic": True, "epochs": 1, "sg": sg, "alpha": 0.01}
    cpu = Word2Vec(SENTENCES[:60], **options)
    with on_host_executor():
        host = Word2Vec(SENTENCES[:60], **options)
    np.testing.assert_allclose(host.vectors, cpu.vectors, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(host.loss_per_epoch, cpu.loss_per_epoch, rtol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(seqfast.build_info()["cuda"] != "on", reason="seqfast was built without CUDA")
def test_on_a_gpu(short_spans: None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU and a torch that sees it")
    options = {"deterministic": True, "alpha": 0.01}
    cpu = small(**options)
    whole = small(**options, device="cuda")
    np.testing.assert_allclose(whole.vectors, cpu.vectors, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(whole.loss_per_epoch, cpu.loss_per_epoch, rtol=1e-4)
    interrupting(5, monkeypatch)
    with pytest.raises(Interrupted) as caught:
        small(**options, device="cuda")
    caught.value.model.train(resume=True)
    assert_same(caught.value.model, whole)

"""What models of word vectors share is tied to none of them: here a toy is built on it."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import seqfast
from seqfast import Word2Vec
from seqfast.embeddings import Callback, Interrupted, Progress, TensorBoard
from seqfast.embeddings.base import loop
from seqfast.embeddings.base.kernels import Kernels
from seqfast.embeddings.base.model import Delegated, WordVectorModel
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.runtime import Runtime
from seqfast.embeddings.base.state import State
from seqfast.embeddings.callbacks import checked_callbacks
from seqfast.embeddings.corpus import Corpus
from seqfast.embeddings.formats.safetensors import FileKind

SENTENCES = [["the", "cat"], ["the", "dog", "and", "the", "cat"]] * 40
TOKENS = sum(map(len, SENTENCES))


@dataclass(frozen=True, kw_only=True)
class TallySettings:
    vector_size: int = 2
    alpha: float = 1.0
    min_count: int = 1
    max_vocab_size: int | None = None
    max_final_vocab: int | None = None
    tokens_per_period: int | None = None

    def check(self) -> None:
        if self.alpha < 0:
            raise ValueError(f"Tally: alpha must be 0 or more, got {self.alpha}")


class TallyRun(Run):
    tokens_per_round: ClassVar[int] = 32


class TallyState(State):
    model_name = "Tally"
    file_kind = FileKind("seqfast.tally", 1, "Tally")
    run_class = TallyRun

    def new_matrices(self, words: int) -> dict[str, Any]:
        return {"vectors": np.zeros((words, self.settings.vector_size), np.float32)}

    def draw_first_values(self, matrices: dict[str, Any], known: int) -> None:
        matrices["vectors"][known:] = 100


class TallyKernels(Kernels):
    """Adds the learning rate to the vector of each word that comes."""

    def __init__(self, state: State, corpus: Corpus) -> None:
        super().__init__(state.matrices, state.runtime.device)
        self._ids = corpus.ids

    def train(self, run: Run, first: int, last: int) -> tuple[Any, int, int]:
        size = run.tokens_per_round
        ids = self._ids[first * size : last * size]
        np.add.at(self.matrices["vectors"], ids, np.float32(run.alpha))
        return np.ones(last - first), len(ids), len(ids)

    def updates_per_token(self) -> dict[str, Any]:
        rows = len(self.matrices["vectors"])
        return {"vectors": np.full(rows, 1 / rows)}


class Tally(WordVectorModel):
    state_class = TallyState
    settings_class = TallySettings
    alpha = Delegated[float]("settings")

    def __init__(self, corpus: Any = None, **options: Any) -> None:
        names = {field.name for field in dataclasses.fields(TallySettings)}
        settings = TallySettings(**{key: options.pop(key) for key in names & options.keys()})
        callbacks = checked_callbacks("Tally", options.pop("callbacks", ()))
        runtime = Runtime(callbacks=callbacks, **{"progress": False, **options})
        super().__init__(TallyState(settings, runtime), None, None)
        if corpus is not None:
            self._begin_with(corpus, None)

    def train(self, *, resume: bool = False) -> tuple[int, int]:
        corpus = self._training_corpus(None, None)
        run = self.state.run if resume else None
        if run is None:
            alpha = self.state.settings.alpha
            run = self.state.new_run(corpus, epochs=3, alpha=alpha, min_alpha=alpha)

        def train(state: State, corpus: Corpus, run: Run, *rest: Any) -> None:
            loop.train(state, run, TallyKernels(state, corpus), *rest)

        return self._carry_out(run, corpus, self.callbacks, train)


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_FIRST_SPAN_ROUNDS", 1)
    monkeypatch.setattr(loop, "_SPAN_SECONDS", 0.0)


class Stop(Callback):
    def __init__(self, spans: int) -> None:
        self.left = spans

    def on_span_end(self, model: Tally, progress: Progress) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def expected(counts: Any) -> Any:
    return np.repeat(100 + 3 * counts[:, None], 2, axis=1)


def test_a_model_is_trained_and_asked() -> None:
    told = []

    class Listener(Callback):
        def on_epoch_end(self, model: Tally, progress: Progress) -> None:
            told.append((progress.epoch, progress.words, model.loss_per_epoch[-1]))

    model = Tally(SENTENCES, callbacks=[Listener()])
    assert model.index_to_key == ["the", "cat", "dog", "and"]
    np.testing.assert_array_equal(model.vectors, expected(model.counts))
    rounds = -(-TOKENS // 32)
    assert told == [(epoch, TOKENS * (epoch + 1), rounds) for epoch in range(3)]
    assert model.train() == (3 * TOKENS, 3 * TOKENS)
    assert model.epochs_trained == 6
    assert model.most_similar("the", topn=1)[0][1] == pytest.approx(1)
    model.build_vocab([["a", "the"]], update=True)
    np.testing.assert_array_equal(model["a"], [100, 100])
    with pytest.raises(KeyError, match="Tally: 'absent' is not in the vocabulary of 5 words"):
        _ = model["absent"]
    with pytest.raises(ValueError, match="Tally: alpha must be 0 or more"):
        Tally(alpha=-1)
    with pytest.raises(ValueError, match="Tally: checkpoint_every must be seconds"):
        Tally(checkpoint_every="hour")


def test_tensorboard_has_its_name() -> None:
    class Writer:
        names: ClassVar[set[str]] = set()

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.names.add(name)

        def flush(self) -> None: ...

    Tally(SENTENCES, callbacks=[TensorBoard(writer=Writer())])
    assert {"tally/loss", "tally/alpha", "tally/loss of the epoch"} <= Writer.names
    assert all(name.startswith("tally/") for name in Writer.names)


def test_files_and_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    whole = Tally(SENTENCES)
    with pytest.raises(Interrupted) as caught:
        Tally(SENTENCES, checkpoint=path, callbacks=[Stop(7)])
    stopped = caught.value.model
    assert stopped.state.run is not None
    loaded = Tally.load(path)
    assert loaded.state.run == stopped.state.run
    np.testing.assert_array_equal(loaded.vectors, stopped.vectors)
    with pytest.raises(ValueError, match="Tally: corpus must be the one that the run began with"):
        loaded.finish_run(SENTENCES[1:])
    resumed = Tally.resume(path, SENTENCES)
    stopped.train(resume=True)
    for model in (resumed, stopped):
        np.testing.assert_array_equal(model.vectors, whole.vectors)
        assert model.loss_per_epoch == whole.loss_per_epoch
    whole.save_word2vec_format(tmp_path / "text")
    found = seqfast.embeddings.formats.load_word2vec_format(tmp_path / "text")
    np.testing.assert_array_equal(found.vectors, whole.vectors)


def test_a_file_of_another_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    Tally(SENTENCES).save(path)
    with pytest.raises(ValueError, match=r"must be a file of seqfast\.Word2Vec, and whole"):
        Word2Vec.load(path)
    Word2Vec(SENTENCES, vector_size=2, min_count=1, epochs=1, progress=False).save(path)
    with pytest.raises(ValueError, match=r"must be a file of Tally, and whole"):
        Tally.load(path)


def test_a_group_of_one(tmp_path: Path) -> None:
    dist = pytest.importorskip("torch.distributed", reason="needs torch")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = Tally(SENTENCES, distributed=True)
    finally:
        dist.destroy_process_group()
    np.testing.assert_allclose(model.vectors, expected(model.counts), rtol=1e-6)


def test_settings_are_replaced_not_changed() -> None:
    model = Word2Vec()
    before = model.state.settings
    model.window = 9
    assert (model.window, before.window, model.state.settings.window) == (9, 5, 9)
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.window = 3  # type: ignore[misc]
    model.workers = 2
    assert model.state.runtime.workers == 2
    assert isinstance(Word2Vec.window, Delegated)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_only_word2vec_knows_word2vec() -> None:
    """GloVe is to find everything else as it is: no file outside its folder imports Word2Vec's."""
    folder = Path(seqfast.embeddings.__path__[0])
    own = "seqfast.embeddings.word2vec"
    found = []
    for path in sorted(folder.rglob("*.py")):
        if path.is_relative_to(folder / "word2vec"):
            continue
        tree = ast.parse(path.read_text())
        # What only a type checker reads is no import.
        tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
        for node in ast.walk(tree):
            names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            if isinstance(node, ast.Import | ast.ImportFrom):
                found += [f"{path.name}: {name}" for name in names if name.startswith(own)]
    assert len(list(folder.rglob("*.py"))) > 20
    assert found == []


def test_a_pickle_of_an_earlier_layout_says_what_to_do() -> None:
    model = Word2Vec([["a", "b"]] * 20, min_count=1, epochs=1, progress=False)
    earlier = Word2Vec.__new__(Word2Vec)
    with pytest.raises(
        ValueError, match=r"^Word2Vec: a pickle must have this version.s layout.* load\(\) the file"
    ):
        earlier.__setstate__({"vocabulary": None, "input": None})
    earlier.__setstate__(vars(model))
    np.testing.assert_array_equal(earlier.vectors, model.vectors)

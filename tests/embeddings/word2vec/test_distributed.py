"""Two processes (gloo) train one model as well as one process does, and stay in step."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no gloo", allow_module_level=True)

from seqfast import Word2Vec  # noqa: E402
from seqfast.embeddings.distributed import Group, scale_of_changes  # noqa: E402
from seqfast.embeddings.word2vec.state import Word2VecRun  # noqa: E402
from seqfast.embeddings.word2vec.training import Word2VecKernels  # noqa: E402

from .. import planted  # noqa: E402

OPTIONS: dict[str, Any] = {
    "vector_size": 24,
    "window": 4,
    "min_count": 1,
    "sample": 0,
    "epochs": 20,
    "workers": 1,
    "progress": False,
}
CASES: dict[str, dict[str, Any]] = {
    "skip-gram": {"alpha": 0.05},
    "cbow": {"sg": 0, "alpha": 0.1},
    "hierarchy": {"hs": 1, "negative": 0, "alpha": 0.05},
    "deterministic": {"deterministic": True, "alpha": 0.02},
}

# Each process is told of the other as torchrun would tell it.
WORKER = """
    import signal
    import sys
    import numpy as np
    import torch
    from pathlib import Path

    sys.path.insert(0, sys.argv[2])
    from embeddings import planted
    from embeddings.word2vec.test_distributed import CASES, OPTIONS
    from seqfast import Word2Vec
    from seqfast.embeddings import Callback, Interrupted
    from seqfast.embeddings.word2vec import training

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    sentences = planted.sentences()

    def train(text=sentences, **options):
        return Word2Vec(text, **{**OPTIONS, **options}, distributed=True)

    for name, options in CASES.items():
        model = train(**options)
        rank = torch.distributed.get_rank()
        model.save(folder / f"{name}-{rank}")

    options = {"epochs": 4, "tokens_per_period": 1000}
    whole = train(**options)
    assert (train(**options).vectors == whole.vectors).all()

    # One is interrupted: both stop at the same place, and go on from one checkpoint.
    calls = 0
    kernel = training.Word2VecKernels.train

    def interrupted(*arguments):
        global calls
        calls += 1
        if rank == 1 and calls == 6:
            signal.raise_signal(signal.SIGINT)
        return kernel(*arguments)

    training.Word2VecKernels.train = interrupted
    path = folder / "checkpoint"
    try:
        train(**options, checkpoint=path)
        raise AssertionError("not interrupted")
    except Interrupted as error:
        run = error.model.state.run
        where = (run.epoch, run.next_round)
    torch.distributed.barrier()
    model = Word2Vec.resume(path, sentences, distributed=True, workers=1, progress=False)
    assert model.tokens_per_period == 1000
    assert (model.vectors == whole.vectors).all()
    assert model.loss_per_epoch == whole.loss_per_epoch

    # Ctrl-C that comes to one between two periods stops both after the next.
    training.Word2VecKernels.train = kernel

    class Late(Callback):
        left = 3

        def on_span_end(self, model, progress):
            self.left -= 1
            if rank == 1 and not self.left:
                signal.raise_signal(signal.SIGINT)

    try:
        train(**options, callbacks=[Late()])
        raise AssertionError("not interrupted")
    except Interrupted as error:
        late = error.model.state.run
        assert (late.epoch, late.next_round) == (0, 4 * 4), late

    # Not told the same.
    for name, values in (
        ("window", (4, 2)), ("tokens_per_period", (1000, 2000)), ("vector_size", (24, 40)),
        ("hs", (0, 1)), ("locked", (None, ["the"])),
    ):
        try:
            train(**{**options, name: values[rank]})
            raise AssertionError(f"{name} not refused")
        except ValueError as error:
            message = str(error)
        assert "every process must have the same" in message, message
        if name == "locked":
            assert "got locked None in process 0 and locked '" in message, message
        else:
            assert f"got {name} {values[0]}" in message, message
            assert f"{name} {values[1]}" in message.split("process 0")[1], message

    # Not the same text.
    try:
        train(sentences[rank:])
        raise AssertionError("not refused")
    except ValueError as error:
        assert "every process must have the same" in str(error), error
    # A learning rate without sense is found by both.
    try:
        train(alpha=1e30)
        raise AssertionError("not found")
    except FloatingPointError:
        pass
    (folder / f"done-{rank}").write_text(repr(where))
    torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what both processes have saved."""
    folder = tmp_path_factory.mktemp("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if sys.platform == "linux":
        common["GLOO_SOCKET_IFNAME"] = "lo"
    arguments = [str(folder), str(Path(__file__).parents[2])]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), *arguments],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=150)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors
    return folder


@pytest.mark.alone
@pytest.mark.parametrize("name", CASES)
def test_as_good_as_one_process(name: str, trained: Path) -> None:
    two = Word2Vec.load(trained / f"{name}-0")
    one = Word2Vec(planted.sentences(), **{**OPTIONS, **CASES[name]})
    assert planted.twins_found(one) >= 0.9
    assert planted.twins_found(two) >= 0.9
    assert two.mean_loss_per_epoch[-1] < 1.05 * one.mean_loss_per_epoch[-1]


@pytest.mark.alone
@pytest.mark.parametrize("name", CASES)
def test_both_have_the_same_model(name: str, trained: Path) -> None:
    one, other = (Word2Vec.load(trained / f"{name}-{rank}") for rank in range(2))
    assert one.vectors.any()
    for key, matrix in one.state.matrices.items():
        np.testing.assert_array_equal(matrix, other.state.matrices[key])
    assert one.loss_per_epoch == other.loss_per_epoch


@pytest.mark.alone
def test_both_stopped_at_the_same_place(trained: Path) -> None:
    places = [(trained / f"done-{rank}").read_text() for rank in range(2)]
    assert places[0] == places[1] != "(0, 0)"


def test_it_needs_somebody_to_talk_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    model = Word2Vec(**{**OPTIONS, "distributed": True})
    model.build_vocab(planted.sentences(20))
    with pytest.raises(RuntimeError, match="start the program with torchrun"):
        model.train()


def test_periods() -> None:
    group = Group.__new__(Group)
    group.size = 4
    run = Word2VecRun(1, 0.1, 0.0, 0, tokens=64 * 256 * 4 * 10, raw_words=0, fingerprint="")
    group._tokens_per_period = None
    assert group.rounds_of_period(run) == 10
    group._tokens_per_period = 256 * 4 * 3 + 1
    assert group.rounds_of_period(run) == 4
    group._tokens_per_period = 1
    assert group.rounds_of_period(run) == 1
    group._tokens_per_period = None
    run.tokens = 1 << 40
    assert group.rounds_of_period(run) == 1024


def test_changes_are_added_or_averaged() -> None:
    scale = scale_of_changes(np.array([0.0, 1e-4, 1.0, 1e9]), 4)
    assert scale[0] == pytest.approx(1, abs=1e-4)  # added
    assert scale[1] == pytest.approx(1, abs=1e-3)
    assert 0.25 < scale[2] < 1
    assert scale[3] == pytest.approx(0.25)  # averaged
    np.testing.assert_allclose(scale_of_changes(np.array([0.0, 1.0, 1e9]), 1), 1)


def test_updates_are_counted() -> None:
    model = Word2Vec(vector_size=8, window=3, min_count=1, sample=0, hs=1, progress=False)
    model.build_vocab([["a", "a", "a", "b", "b", "c"]])
    assert model.state.corpus is not None
    updates = Word2VecKernels(model.state, model.state.corpus).updates_per_token()
    np.testing.assert_allclose(updates["vectors"], [4 / 2, 4 / 3, 4 / 6])
    np.testing.assert_allclose(updates["output"], updates["vectors"])
    np.testing.assert_allclose(updates["nodes"], [4 / 2, 4])  # the root comes last


def test_a_group_of_one(tmp_path: Path) -> None:
    """Nothing to average: the same as without a group."""
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        alone = Word2Vec(planted.sentences(50), **{**OPTIONS, "epochs": 2})
        group = Word2Vec(
            planted.sentences(50), **{**OPTIONS, "epochs": 2}, process_group=dist.group.WORLD
        )
    finally:
        dist.destroy_process_group()
    np.testing.assert_allclose(group.vectors, alone.vectors, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(group.loss_per_epoch, alone.loss_per_epoch)

"""What survives: an interrupt, kill -9, a full disk; and what is refused."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqfast import Word2Vec
from seqfast.embeddings import Callback, Progress, files
from seqfast.embeddings.base import loop
from seqfast.embeddings.formats import safetensors
from seqfast.ops.corpus import fingerprint

from .. import planted

SENTENCES = planted.sentences()
ROUNDS = -(-sum(map(len, SENTENCES)) // 256)
SMALL: dict[str, Any] = {
    "vector_size": 20,
    "window": 3,
    "min_count": 1,
    "sample": 0.01,
    "epochs": 3,
    "alpha": 0.01,
    "workers": 1,
    "progress": False,
}


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round at a time, so that even a small text has several."""
    monkeypatch.setattr(loop, "_FIRST_SPAN_ROUNDS", 1)
    monkeypatch.setattr(loop, "_SPAN_SECONDS", 0.0)


def small(**options: Any) -> Word2Vec:
    return Word2Vec(SENTENCES, **{**SMALL, **options})


def assert_same(one: Word2Vec, other: Word2Vec) -> None:
    """Bit for bit."""
    assert one.index_to_key == other.index_to_key
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.state.matrices.keys() == other.state.matrices.keys()
    for name, array in one.state.matrices.items():
        np.testing.assert_array_equal(array, other.state.matrices[name])
    for name in ("loss_per_epoch", "mean_loss_per_epoch", "epochs_trained", "train_count"):
        assert getattr(one, name) == getattr(other, name)
    assert one.get_latest_training_loss() == other.get_latest_training_loss()


class StopAfter(Callback):
    def __init__(self, spans: int) -> None:
        self.left = spans

    def on_span_end(self, model: Word2Vec, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


# ---- files ----


@pytest.mark.parametrize(
    "options",
    [{}, {"hs": 1, "negative": 0, "sg": 0}, {"hs": 1, "locked": ["the"], "comment": "a \u00e9"}],
    ids=["skip-gram", "tree", "both"],
)
def test_saved_and_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    model = small(**options)
    model.save(tmp_path / "model")
    loaded = Word2Vec.load(tmp_path / "model", workers=1, progress=False)
    assert_same(loaded, model)
    for name in ("sg", "hs", "alpha", "comment", "corpus_count", "corpus_total_words"):
        assert getattr(loaded, name) == getattr(model, name)
    for each in (model, loaded):
        each.train(SENTENCES[:50], epochs=2)
    assert_same(loaded, model)
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_words_of_any_kind(tmp_path: Path) -> None:
    words = ["", " ", "a b", "line\nline", "\x00", "\ud800", "\u00e9", "\U0001f600", "nul\x00l"]
    model = Word2Vec([words] * 3, vector_size=4, min_count=1, progress=False)
    model.save(tmp_path / "model")
    assert Word2Vec.load(tmp_path / "model").index_to_key == words


def test_numpy_settings_are_saved(tmp_path: Path) -> None:
    model = small(alpha=np.float32(0.01), window=np.int64(2), epochs=1, sg=np.bool_(True))
    model.save(tmp_path / "model")
    assert Word2Vec.load(tmp_path / "model").window == 2


def test_it_is_a_safetensors_file(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    model = small(epochs=1)
    model.save(tmp_path / "model.safetensors")
    tensors = library.load_file(tmp_path / "model.safetensors")
    assert tensors.keys() == {"vectors", "output", "counts", "words", "word_offsets"}
    np.testing.assert_array_equal(tensors["vectors"], model.vectors)
    np.testing.assert_array_equal(tensors["counts"], model.counts)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    small(epochs=1).save(path)
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    message = "must be a file of seqfast.Word2Vec, and whole"
    cuts = [0, 3, 8, 9, length, 8 + length, len(whole) // 2, len(whole) - 1]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=message):
            Word2Vec.load(path)
    foreign = [
        b"the quick brown fox jumps over the lazy dog",
        struct.pack("<Q", 2**63) + whole[8:],
        struct.pack("<Q", 8) + b"[1, 2]  ",
        struct.pack("<Q", 8) + b"\xff\xfe\x00\x00    ",
        struct.pack("<Q", 24) + b'{"__metadata__":{}}     ',
        whole.replace(b'"F32"', b'"F99"'),
        whole.replace(b'"data_offsets":[0,', b'"data_offsets":[4,'),
        whole.replace(b"seqfast.word2vec", b"another.word2vec"),
    ]
    for data in foreign:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            Word2Vec.load(path)
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(ValueError, match="must be of version 1 or older, got 9"):
        Word2Vec.load(path)
    with pytest.raises(FileNotFoundError):
        Word2Vec.load(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        Word2Vec.load(tmp_path)


def test_a_byte_that_is_another_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is: in any block of any tensor, and in the state."""
    monkeypatch.setattr(safetensors, "_BLOCK_BYTES", 1000)
    path = tmp_path / "model"
    small(epochs=1, locked=["the"]).save(path)
    whole = path.read_bytes()
    header, _, _ = header_of(whole)
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for name in header.keys() - {"__metadata__"}:
        first, last = header[name]["data_offsets"]
        for place in {first, (first + last) // 2, last - 1}:
            bad = bytearray(whole)
            bad[start + place] ^= 1
            path.write_bytes(bad)
            with pytest.raises(ValueError, match=f"model must be .* whole.*{name} is not what"):
                Word2Vec.load(path)
    path.write_bytes(whole.replace(b'\\"epochs_trained\\": 1', b'\\"epochs_trained\\": 2'))
    with pytest.raises(ValueError, match="its state is not what was written"):
        Word2Vec.load(path)
    path.write_bytes(whole)
    assert len(Word2Vec.load(path))


def test_files_of_the_first_version_are_read(tmp_path: Path) -> None:
    """They had no sums, and did not say how long a period is."""
    model = small(epochs=1, tokens_per_period=700)
    model.save(tmp_path / "new")
    header, state, data = header_of((tmp_path / "new").read_bytes())
    del header["__metadata__"]["sums"], state["settings"]["tokens_per_period"]
    (tmp_path / "old").write_bytes(with_header(header, state, data))
    assert_same(Word2Vec.load(tmp_path / "old", tokens_per_period=700), model)
    assert Word2Vec.load(tmp_path / "old").tokens_per_period is None
    assert Word2Vec.load(tmp_path / "new").tokens_per_period == 700


def test_load_is_not_told_what_the_file_knows(tmp_path: Path) -> None:
    small(epochs=1).save(tmp_path / "model")
    with pytest.raises(TypeError, match="window must not be given: the file"):
        Word2Vec.load(tmp_path / "model", window=3)
    with pytest.raises(TypeError, match="initial_vectors must not be given: the file"):
        Word2Vec.load(tmp_path / "model", initial_vectors={"the": np.ones(20)})
    for name in ("corpus", "sentences", "corpus_file", "words"):
        with pytest.raises(TypeError, match=f"load: pass {name} to train or resume instead"):
            Word2Vec.load(tmp_path / "model", **{name: SENTENCES})
    with pytest.raises(RuntimeError, match="nothing to save; call build_vocab first"):
        Word2Vec().save(tmp_path / "model")


def test_locks_are_the_files_or_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "model"
    small(epochs=1).save(path)
    assert np.flatnonzero(Word2Vec.load(path, locked=iter([3])).state.locked_rows()).tolist() == [3]
    with pytest.raises(KeyError, match="'nope' is not in the vocabulary"):
        Word2Vec.load(path, locked=["nope"])
    small(epochs=1, locked=["the"]).save(path)
    for load in (Word2Vec.load, lambda path, **how: Word2Vec.resume(path, SENTENCES, **how)):
        with pytest.raises(TypeError, match="locked must not be given: the file"):
            load(path, locked=["nope"])


def header_of(whole: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header, the state in it, and what follows."""
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8:end])
    return header, json.loads(header["__metadata__"]["state"]), whole[end:]


def with_header(header: dict[str, Any], state: Any, data: bytes) -> bytes:
    if isinstance(header.get("__metadata__"), dict) and "state" in header["__metadata__"]:
        header["__metadata__"]["state"] = json.dumps(state)
        try:
            sums = json.loads(header["__metadata__"]["sums"])
            sums["state"] = fingerprint(
                np.frombuffer(header["__metadata__"]["state"].encode(), np.uint8)
            )
            header["__metadata__"]["sums"] = json.dumps(sums)
        except (KeyError, TypeError, ValueError):
            pass  # damaged themselves
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all there can be: locks, a tree, losses and a run that is not at its end."""
    path = tmp_path_factory.mktemp("unfinished") / "model"
    model = small(hs=1, locked=["the"], comment="c")
    with pytest.raises(KeyboardInterrupt):
        model.train(callbacks=[StopAfter(2)])
    model.save(path)
    return path


DAMAGE: list[tuple[str, Any]] = [
    ("vectors/shape", "ab"),
    ("vectors/shape", [-1, -20]),
    ("vectors/shape", [True, 20]),
    ("vectors/data_offsets", ["0", "96"]),
    ("vectors/data_offsets", [0, 1, 2]),
    ("vectors/data_offsets", [-96, 0]),
    ("vectors/data_offsets", None),
    ("counts", 3),
    ("__metadata__", []),
    ("__metadata__/version", "x"),
    ("__metadata__/version", "-1"),
    ("__metadata__/state", "[]"),
    ("state/run", {"another": 1}),
    ("state/run", "x"),
    ("state/run/epoch", "x"),
    ("state/run/next_round", -1),
    ("state/run/next_round", 10**6),
    ("state/run/fingerprint", "other"),
    ("state/settings", {}),
    ("state/settings/window", "x"),
    ("state/settings/alpha", None),
    ("state/settings/hs", 0),
    ("state/settings/vector_size", 1 << 20),
    ("state/loss_per_epoch", "12"),
    ("state/loss_per_epoch", [None]),
    ("state/latest_loss", float("nan")),
    ("state/epochs_trained", -1),
    ("state/trained_on", 7),
]
DROPPED = object()


def put(tree: Any, path: list[Any], value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    if value is DROPPED:
        del tree[path[-1]]
    else:
        tree[path[-1]] = value


@pytest.mark.parametrize(("place", "value"), DAMAGE, ids=repr)
def test_damaged_headers_are_refused(
    place: str, value: Any, unfinished: Path, tmp_path: Path
) -> None:
    header, state, data = header_of(unfinished.read_bytes())
    tree = {**header, "state": state}
    put(tree, place.split("/"), value)
    state = tree.pop("state")
    if place == "__metadata__/state":
        state = []
    (tmp_path / "bad").write_bytes(with_header(tree, state, data))
    with pytest.raises(ValueError, match=r"bad must be a file of seqfast.Word2Vec, and whole"):
        Word2Vec.load(tmp_path / "bad")


@pytest.mark.parametrize("name", ["words", "word_offsets", "counts", "vectors", "output", "locked"])
def test_a_missing_tensor_is_refused(name: str, unfinished: Path, tmp_path: Path) -> None:
    header, state, data = header_of(unfinished.read_bytes())
    header["strange"] = header.pop(name)
    (tmp_path / "bad").write_bytes(with_header(header, state, data))
    with pytest.raises(ValueError, match=r"bad must be a file of seqfast.Word2Vec, and whole"):
        Word2Vec.load(tmp_path / "bad")


def places_of(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in pairs:
        found.append((*before, key))
        if isinstance(value, (dict, list)):
            found += places_of(value, (*before, key))
    return found


ODD = st.one_of(
    st.sampled_from([DROPPED, None, True, -1, 0, 1, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308]),
    st.sampled_from([float("nan"), float("inf"), "", "x", "1", [], [0], [0, 0], {}, {"x": 1}]),
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    ),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_damage_of_the_header_is_an_error_or_nothing(data: Any, unfinished: Path) -> None:
    header, state, rest = header_of(unfinished.read_bytes())
    tree = {**header, "state": state}
    place = data.draw(st.sampled_from(places_of(tree)))
    put(tree, list(place), data.draw(ODD))
    state = tree.pop("state", None)
    bad = unfinished.parent / "damaged"
    bad.write_bytes(with_header(tree, state, rest))
    try:
        model = Word2Vec.load(bad)
    except ValueError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert str(bad) in said
        return
    # A setting or a number may be another one that can be as well; the rest is as it was.
    whole = Word2Vec.load(unfinished)
    assert model.index_to_key == whole.index_to_key
    np.testing.assert_array_equal(model.counts, whole.counts)
    np.testing.assert_array_equal(model.locked, whole.locked)
    assert model.state.matrices.keys() == whole.state.matrices.keys()
    for name, array in model.state.matrices.items():
        np.testing.assert_array_equal(array, whole.state.matrices[name])
    if place[0] != "state":
        assert_same(model, whole)
    model.save(bad)
    assert_same(Word2Vec.load(bad), model)


# ---- whole or not at all ----


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_device() -> None:
    with pytest.raises(OSError, match="No space left"):
        small(epochs=1).save("/dev/full")


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fsync)


def test_an_error_of_saving_names_the_file(tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        small(epochs=1).save(absent)
    assert caught.value.filename == str(absent)


def test_saving_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    model = small(epochs=1)
    model.save(path)
    before = path.read_bytes()
    vectors = model.vectors.copy()
    model.train(epochs=1)
    full_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(Word2Vec.load(path).vectors, vectors)


def test_a_full_disk_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small()
    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        small(checkpoint=path, checkpoint_every=0, callbacks=[StopAfter(5)])
    before = path.read_bytes()
    full_disk(monkeypatch)
    with pytest.warns(
        RuntimeWarning, match="could not be written.*No space left.*training continues"
    ):
        model = Word2Vec.resume(
            path, SENTENCES, checkpoint_every="epoch", workers=1, progress=False
        )
    assert_same(model, whole)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert_same(Word2Vec.resume(path, SENTENCES, workers=1, progress=False), whole)


LIMITED = """
    import resource, sys, warnings
    from seqfast import Word2Vec

    sys.path.insert(0, sys.argv[2])
    from embeddings import planted

    path = sys.argv[1]
    options = dict(vector_size=100, min_count=1, epochs=2, progress=False, workers=1)
    model = Word2Vec(planted.sentences(), checkpoint=path, **options)
    before = open(path, "rb").read()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2,) * 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.train()
    assert len(caught) == 1 and "File too large" in str(caught[0].message), caught
    assert model.epochs_trained == 4
    assert open(path, "rb").read() == before
    try:
        model.save(path)
    except OSError:
        print("refused")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
def test_a_write_cut_short_by_the_system(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "model"), str(Path(__file__).parents[2])]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.stdout, result.returncode) == ("refused\n", 0), result.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


# ---- going on ----


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("spans", [1, ROUNDS, ROUNDS + 1, 3 * ROUNDS - 1, 3 * ROUNDS])
def test_resumed_from_a_checkpoint(spans: int, deterministic: bool, tmp_path: Path) -> None:
    options = {"deterministic": deterministic, "workers": 1 + deterministic}
    whole = small(**options)
    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        small(**options, checkpoint=path, callbacks=[StopAfter(spans)])
    loaded = Word2Vec.load(path)
    assert len(loaded.loss_per_epoch) == (spans - 1) // ROUNDS
    model = Word2Vec.resume(path, SENTENCES, workers=1, progress=False)
    assert_same(model, whole)
    finished = path.read_bytes()
    # What is finished is read, not trained.
    again = Word2Vec.resume(path, iter(SENTENCES), workers=1, progress=False)
    assert_same(again, whole)
    assert path.read_bytes() == finished


def test_resuming_keeps_locks_and_several_runs(tmp_path: Path) -> None:
    options = {"locked": ["the", "left0"], "hs": 1}
    whole = small(**options)
    whole.train(epochs=2, start_alpha=0.02)
    path = tmp_path / "checkpoint"
    part = small(**options)
    part.checkpoint = path
    with pytest.raises(KeyboardInterrupt):
        part.train(epochs=2, start_alpha=0.02, callbacks=[StopAfter(ROUNDS + 2)])
    model = Word2Vec.resume(path, SENTENCES, workers=1, progress=False)
    assert_same(model, whole)


def test_another_corpus_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        small(checkpoint=path, callbacks=[StopAfter(3)])
    with pytest.raises(ValueError, match="corpus must be the one that the run began with"):
        Word2Vec.resume(path, SENTENCES[::-1], progress=False)
    with pytest.raises(TypeError, match="resume: corpus must be given"):
        Word2Vec.resume(path)
    Word2Vec.resume(path, SENTENCES, progress=False)
    with pytest.raises(ValueError, match="corpus must be the one that the run began with"):
        Word2Vec.resume(path, SENTENCES[1:], progress=False)


def test_a_refused_corpus_changes_nothing() -> None:
    whole = small()
    model = Word2Vec(**SMALL)
    model.build_vocab(iter(SENTENCES))  # which is read once, and then gone
    with pytest.raises(KeyboardInterrupt):
        model.train(callbacks=[StopAfter(ROUNDS + 2)])
    run = model.state.run
    with pytest.raises(ValueError, match="corpus must be the one that the run began with"):
        model.train(SENTENCES[1:], resume=True)
    with pytest.raises(ValueError, match="must have words of the vocabulary"):
        model.train([["absent"]])
    model.locked = ["nope"]
    with pytest.raises(KeyError, match="'nope' is not in the vocabulary"):
        model.train()
    with pytest.raises(KeyError, match="'nope' is not in the vocabulary"):
        model.train(SENTENCES[1:])
    model.locked = None
    model.checkpoint = "/absent/folder/file"
    with pytest.raises(FileNotFoundError):
        model.train()
    model.checkpoint = None
    assert model.state.run is run
    model.train(resume=True)
    assert_same(model, whole)


def test_nothing_to_resume_is_found_out_before_the_text_is_read() -> None:
    text = iter(SENTENCES)
    with pytest.raises(RuntimeError, match="no unfinished run"):
        small(epochs=1).train(text, resume=True)
    assert next(text) == SENTENCES[0]


class Count(Callback):
    """Counts how often the file has become another one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: set[int] = set()

    def on_span_end(self, model: Word2Vec, progress: Progress) -> None:
        if self.path.exists():
            self.seen.add(self.path.stat().st_mtime_ns)

    on_epoch_begin = on_span_end


@pytest.mark.parametrize(("every", "times"), [("epoch", 2), (0, 3 * ROUNDS - 1), (3600, 0)])
def test_how_often(every: Any, times: int, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    count = Count(path)
    small(checkpoint=path, checkpoint_every=every, callbacks=[count])
    assert len(count.seen) == times
    assert path.exists()  # written at the end, too


def test_an_unwritable_checkpoint_is_found_before_training(tmp_path: Path) -> None:
    begun = []

    class Begun(Callback):
        def on_train_begin(self, model: Word2Vec, progress: Progress) -> None:
            begun.append(progress)

    with pytest.raises(FileNotFoundError):
        small(checkpoint=tmp_path / "absent" / "file", callbacks=[Begun()])
    model = small(epochs=1)
    model.checkpoint = tmp_path
    with pytest.raises(IsADirectoryError):
        model.train(callbacks=[Begun()])
    assert begun == []


KILLED = """
    import sys
    from seqfast import Word2Vec
    from seqfast.embeddings.base import loop

    sys.path.insert(0, sys.argv[2])
    from embeddings import planted

    loop._FIRST_SPAN_ROUNDS, loop._SPAN_SECONDS = 1, 0.0
    print("ready", flush=True)
    Word2Vec(planted.sentences(), checkpoint=sys.argv[1], checkpoint_every=0, **eval(sys.argv[3]))
"""


@pytest.mark.alone
@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_killed_and_resumed(tmp_path: Path) -> None:
    options = {**SMALL, "deterministic": True, "epochs": 60}
    path = tmp_path / "checkpoint"
    arguments = [str(path), str(Path(__file__).parents[2]), repr({**options, "workers": 2})]
    program = [sys.executable, "-c", textwrap.dedent(KILLED), *arguments]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        written = set()
        # After some checkpoints, at whatever moment it is then.
        while len(written) < 5 and time.monotonic() < deadline:
            if path.exists():
                written.add(path.stat().st_mtime_ns)
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (tmp_path / ".checkpoint.left.partial").touch()  # as if it had been writing
    epochs = Word2Vec.load(path).epochs_trained
    assert epochs < 60
    model = Word2Vec.resume(path, SENTENCES, workers=1, progress=False, checkpoint_every=600.0)
    assert_same(model, small(**options))
    assert list(tmp_path.iterdir()) == [path]

"""Maps of words and files for the projector."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast.embeddings import plotting
from seqfast.embeddings.vectors import WordVectors

WORDS = ["up", "down", "left", "right", "in $ and _out_", "日本"]


@pytest.fixture
def model() -> WordVectors:
    vectors = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    return WordVectors(WORDS, vectors, np.arange(60, 0, -10))


@pytest.fixture
def libraries() -> None:
    pytest.importorskip("sklearn")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")


def labels(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_plot(model: WordVectors, tmp_path: Path, method: str) -> None:
    words = WORDS[:5]  # whose letters every font has
    figure = plotting.plot(model, words, method, tmp_path / "map.png", title="a map")
    assert labels(figure) == words
    assert figure.axes[0].get_title() == "a map"
    points = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert points.shape == (5, 2)
    assert np.isfinite(points).all()
    for text, point in zip(figure.axes[0].texts, points, strict=True):
        np.testing.assert_array_equal(text.xy, point)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    plotting.plot(model, words, method, tmp_path / "map.svg")
    assert b"<svg" in (tmp_path / "map.svg").read_bytes()
    again = plotting.plot(model, words, method)
    np.testing.assert_array_equal(again.axes[0].collections[0].get_offsets(), points)
    assert "5 words" in again.axes[0].get_title()


@pytest.mark.usefixtures("libraries")
def test_near_words_lie_near() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2, 20)) * 5
    vectors = np.concatenate([centre + rng.standard_normal((15, 20)) for centre in centres])
    for method in ("pca", "tsne"):
        points = plotting.project(vectors, method)
        groups = points[:15], points[15:]
        apart = np.linalg.norm(groups[0].mean(0) - groups[1].mean(0))
        assert apart > 2 * max(group.std() for group in groups)


@pytest.mark.usefixtures("libraries")
def test_what_can_be_drawn(model: WordVectors) -> None:
    torch = pytest.importorskip("torch")
    table = {word: vector for word, vector in zip(WORDS[:5], model.vectors[:5], strict=True)}
    tensors = WordVectors(WORDS, torch.from_numpy(model.vectors))
    wanted = plotting.plot(model, WORDS[:5]).axes[0].collections[0].get_offsets()
    for other in (table, tensors):
        figure = plotting.plot(other, WORDS[:5])
        np.testing.assert_array_equal(figure.axes[0].collections[0].get_offsets(), wanted)
    assert labels(plotting.plot(table)) == WORDS[:5]
    many = WordVectors([f"w{i}" for i in range(150)], np.eye(150, 3, dtype=np.float32))
    assert labels(plotting.plot(many)) == many.index_to_key[:100]
    line = {"a": [1.0], "b": [-1.0]}
    assert np.asarray(plotting.plot(line).axes[0].collections[0].get_offsets())[:, 1].any() == 0


@pytest.mark.usefixtures("libraries")
def test_groups_have_colours_of_their_own(model: WordVectors) -> None:
    groups = {"ways": ["up", "down", "up"], "sides": ["left", "up", "right"]}
    axes = plotting.plot(model, groups).axes[0]
    assert [text.get_text() for text in axes.texts] == ["up", "down", "left", "right"]
    colours = [text.get_color() for text in axes.texts]
    assert colours == ["C0", "C0", "C1", "C1"]
    assert len({tuple(colour) for colour in axes.collections[0].get_facecolors()}) == 2
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ways", "sides"]
    with pytest.raises(TypeError, match="words of group 'ways' must be a list, got 'up'"):
        plotting.plot(model, {"ways": "up"})
    with pytest.raises(KeyError, match="'over' has no vector"):
        plotting.plot(model, {"ways": ["up", "over"]})


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("kind", ["drawn", "one place", "line"])
def test_labels_cover_neither_labels_nor_points(kind: str) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((80, 6))
    if kind == "one place":
        vectors = np.ones((12, 6)) + 1e-3 * rng.standard_normal((12, 6))
    if kind == "line":
        vectors = np.stack([np.linspace(1, 2, 40), np.ones(40)], axis=1)
    words = [f"word{i}" * (1 + i % 2) for i in range(len(vectors))]
    figure = plotting.plot(WordVectors(words, vectors.astype(np.float32)), words)
    figure.canvas.draw()
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    # Without the lines, which belong to a label's extent.
    boxes = [text.get_bbox_patch() or text for text in axes.texts]
    extents = np.array(
        [type(text).__mro__[1].get_window_extent(text, renderer).extents for text in boxes]
    )
    low = np.maximum(extents[:, None, :2], extents[None, :, :2])
    high = np.minimum(extents[:, None, 2:], extents[None, :, 2:])
    shared = np.clip(high - low - 0.5, 0, None).prod(2)
    np.fill_diagonal(shared, 0)
    assert shared.max() == 0
    marks = axes.transData.transform(np.asarray(axes.collections[0].get_offsets()))
    inside = ((marks > extents[:, None, :2] + 1) & (marks < extents[:, None, 2:] - 1)).all(2)
    assert not inside.any()
    frame = axes.get_window_extent().extents
    assert (extents[:, :2] > frame[:2] - 1).all()
    assert (extents[:, 2:] < frame[2:] + 1).all()


@pytest.mark.usefixtures("libraries")
def test_gensims_vectors(model: WordVectors, tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    from seqfast.embeddings.formats import to_gensim

    keyed = to_gensim(model.vectors, WORDS, model.counts)
    assert labels(plotting.plot(keyed, ["down", "up"])) == ["down", "up"]
    plotting.export_projector(tmp_path, keyed, ["down"])
    assert (tmp_path / "metadata.tsv").read_text() == "word\tcount\ndown\t50\n"


@pytest.mark.usefixtures("libraries")
def test_bad_input(model: WordVectors, tmp_path: Path) -> None:
    for call, error, message in (
        (lambda: plotting.plot(model, method="umap"), ValueError, "'pca' or 'tsne', got 'umap'"),
        (lambda: plotting.plot(model, ["up"]), ValueError, "words must be two or more, got 1"),
        (lambda: plotting.plot(model, ["up", "over"]), KeyError, "'over' has no vector"),
        (lambda: plotting.plot(model, "up"), TypeError, "words must be a list of words, got 'up'"),
        (lambda: plotting.plot(model.vectors), TypeError, "model must have vectors.*got ndarray"),
        (
            lambda: plotting.plot(model, WORDS[:5], "tsne", perplexity=5),
            ValueError,
            "perplexity must be above 0 and below 5, the words, got 5",
        ),
        (
            lambda: plotting.plot(model, WORDS[:5], path=tmp_path / "map.txt"),
            ValueError,
            "path must end in the name of a picture format",
        ),
        (
            lambda: plotting.plot(model, WORDS[:5], path=tmp_path / "missing" / "map.png"),
            FileNotFoundError,
            "missing",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
    assert os.listdir(tmp_path) == []


def test_without_libraries(model: WordVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (("sklearn.decomposition", "scikit-learn"), ("matplotlib.figure", "matpl")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"needs {name}.*pip install seqfast\[embeddings\]"):
            plotting.plot(model)


def test_projector(model: WordVectors, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    model.index_to_key[4] = "tab\there\nand\u2028there"
    model = WordVectors(model.index_to_key, model.vectors, model.counts)
    plotting.export_projector(folder, model)
    rows = [line.split("\t") for line in (folder / "vectors.tsv").read_text().splitlines()]
    np.testing.assert_array_equal(np.array(rows, np.float32), model.vectors)
    lines = (folder / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "word\tcount"
    assert lines[1:] == [
        "up\t60",
        "down\t50",
        "left\t40",
        "right\t30",
        "tab here and there\t20",
        "日本\t10",
    ]
    config = (folder / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "vectors.tsv"' in config
    # One column has no heading.
    plotting.export_projector(folder, {"a": [1.0, 2.0], "b": [3.0, 4.0]}, ["b"])
    assert (folder / "metadata.tsv").read_text() == "b\n"
    assert (folder / "vectors.tsv").read_text() == "3.0\t4.0\n"
    with pytest.raises(KeyError, match="'c' has no vector"):
        plotting.export_projector(folder, model, ["c"])


def test_tensorboard_reads_the_configuration(model: WordVectors, tmp_path: Path) -> None:
    projector = pytest.importorskip("tensorboard.plugins.projector.projector_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    plotting.export_projector(tmp_path, model)
    config = text_format.Parse(
        (tmp_path / "projector_config.pbtxt").read_text(), projector.ProjectorConfig()
    )
    assert config.embeddings[0].metadata_path == "metadata.tsv"

"""Pictures of word vectors: a map in two dimensions, and files for TensorBoard's projector."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from seqfast.embeddings.files import PathLike, atomic_file
from seqfast.embeddings.formats.decimals import number_lines
from seqfast.embeddings.vectors import normalise
from seqfast.ops.base.checks import check_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

_DEFAULT_WORDS = 100  # that are drawn where nobody says which
_METHODS = ("pca", "tsne")


def plot(
    model: Any,
    words: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    method: str = "pca",
    path: PathLike | None = None,
    *,
    perplexity: float | None = None,
    seed: int = 0,
    title: str | None = None,
    figsize: tuple[float, float] = (10.0, 8.0),
) -> Figure:
    """A map of words; words whose vectors have similar directions are close.

    Labels are put where they cover neither a point nor another label; one that finds no room beside
    its point is tied to it by a line.

    Args:
        model: a Word2Vec, a `WordVectors`, gensim's KeyedVectors or another object with `vectors`,
            `index_to_key` and `key_to_index`; or a dict of words to vectors.
        words: which words, or words by the name of their group, which then has a colour of its own
            and stands in the legend; a word belongs to the first group that has it. None: the
            first 100.
        method: "pca", the two directions in which the normalised vectors differ most, or "tsne"
            (van der Maaten & Hinton 2008), both by scikit-learn.
        path: also writes the picture there, in the format of its suffix.
        perplexity: of t-SNE, about how many neighbours count. None: 30, or less for few words.
        seed: of t-SNE.
        title: of the picture.
        figsize: in inches.

    Returns:
        The matplotlib Figure.

    Raises:
        ImportError: scikit-learn or matplotlib is missing (`pip install seqfast[embeddings]`).
        KeyError: a word without a vector; it names it.
        OSError: a file that cannot be written.
        ValueError: an unknown method or fewer than two words.

    Example:
        >>> import matplotlib, sklearn
        >>> from seqfast.embeddings import plot
        >>> vectors = {"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 2.0], "x": [2.0, 1.0, 0.0]}
        >>> figure = plot(vectors, {"first": ["a", "b"], "last": ["x"]}, path="words.png")
    """
    check_choice("plot", "method", method, _METHODS)
    groups = _groups(words)
    listed = words if groups is None else [name for group in groups.values() for name in group]
    names, vectors = _chosen_words("plot", model, cast(Any, listed), _DEFAULT_WORDS)
    if len(names) < 2:
        raise ValueError(f"plot: words must be two or more, got {len(names)}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install seqfast[embeddings]") from error
    points = project(normalise(vectors), method, perplexity=perplexity, seed=seed)
    # Not by pyplot, which would keep the figure and choose a backend for everybody.
    figure = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(figure)  # which measures the labels
    axes = figure.add_subplot()
    axes.margins(0.1)
    colours = ["C0"] * len(names)
    if groups is not None:
        colours = [f"C{i % 10}" for i, group in enumerate(groups.values()) for _ in group]
    axes.scatter(points[:, 0], points[:, 1], s=12, c=colours)
    if groups is not None:
        for i, group in enumerate(groups):
            axes.scatter([], [], s=12, c=f"C{i % 10}", label=group)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_title(title or f"{len(names)} words by {'PCA' if method == 'pca' else 't-SNE'}")
    axes.set_xticks([])
    axes.set_yticks([])
    _add_labels(figure, names, points, colours)
    if path is not None:
        kind = Path(path).suffix[1:] or "png"
        if kind not in figure.canvas.get_supported_filetypes():
            raise ValueError(f"plot: path must end in the name of a picture format, got {path!r}")
        with atomic_file(path) as file:
            figure.savefig(file, format=kind, dpi=150)
    return figure


def _groups(words: Any) -> dict[str, list[str]] | None:
    """Words by group, each in the first that has it; None where they are a plain list."""
    if not isinstance(words, Mapping):
        return None
    seen: set[str] = set()
    groups: dict[str, list[str]] = {}
    for name, members in words.items():
        if isinstance(members, (str, bytes)):
            raise TypeError(f"plot: words of group {name!r} must be a list, got {members!r}")
        groups[str(name)] = [word for word in dict.fromkeys(members) if word not in seen]
        seen.update(groups[str(name)])
    return groups


_LABEL_GAP = 4.0  # points of a label from its word's mark
_POINT = 3.0  # about half of what a mark is wide


def _add_labels(figure: Any, names: list[str], points: Array, colours: list[str]) -> None:
    """Writes each word beside its point: the nearest place where it covers nothing."""
    axes = figure.axes[0]
    labels = [
        axes.annotate(
            name, point, (0, 0), textcoords="offset points", fontsize=9, parse_math=False,
            color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "shrinkA": 0, "shrinkB": 2},
        )
        for name, point, colour in zip(names, points.tolist(), colours, strict=True)
    ]  # fmt: skip
    for label in labels:
        label.set_in_layout(False)
    figure.draw_without_rendering()  # places the axes
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    marks = axes.transData.transform(points) / scale
    frame = np.asarray(axes.get_window_extent().get_points()).reshape(4) / scale
    renderer = figure.canvas.get_renderer()
    taken = np.concatenate([marks - _POINT, marks + _POINT], axis=1)
    for label, mark in zip(labels, marks, strict=True):
        bounds = label.get_window_extent(renderer)
        size = np.array([bounds.width, bounds.height]) / scale
        place, far = _free_place(mark, size, taken, frame)
        taken = np.concatenate([taken, [[*place, *(place + size)]]])
        label.set_position(tuple(place - mark))
        label.set_verticalalignment("bottom")
        if not far:
            label.arrow_patch.set_visible(False)


def _free_place(mark: Array, size: Array, taken: Array, frame: Array) -> tuple[Array, bool]:
    """The lower left corner for a label of that size, and whether it is away from its mark.

    Places lie on ever larger ellipses; where all are taken, the one that covers least.
    """
    least, best, best_far = math.inf, mark, False
    for ring in range(24):
        angles = np.linspace(0, 2 * np.pi, 8 * (ring + 1), endpoint=False) + np.pi / 8
        ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        # From the mark to the label's middle, so that the label's edge keeps the distance.
        reach = 1 / np.maximum(*(np.abs(ways) / (size / 2)).T)
        distance = reach + _LABEL_GAP + 7.0 * ring
        corners = mark + ways * distance[:, None] - size / 2
        ends = corners + size
        low = np.maximum(corners[:, None], taken[None, :, :2])
        high = np.minimum(ends[:, None], taken[None, :, 2:])
        covered = np.clip(high - low, 0, None).prod(2).sum(1)
        outside = np.clip(frame[:2] - corners, 0, None) + np.clip(ends - frame[2:], 0, None)
        covered += outside.sum(1) * size.max()
        place = int(covered.argmin())
        if covered[place] < least:
            least, best, best_far = float(covered[place]), corners[place], ring > 0
        if least == 0:
            break
    return best, best_far


def project(
    vectors: Array, method: str = "pca", *, perplexity: float | None = None, seed: int = 0
) -> Array:
    """Points in the plane for vectors, by "pca" or "tsne" of scikit-learn.

    Args:
        vectors: [any, size].
        method: "pca" or "tsne".
        perplexity: of t-SNE. None: 30, or less for few vectors.
        seed: of t-SNE.

    Returns:
        float64 [any, 2].

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: a perplexity out of t-SNE's range.

    Example:
        >>> import numpy as np, sklearn
        >>> from seqfast.embeddings.plotting import project
        >>> project(np.eye(5)).shape
        (5, 2)
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError("plot needs scikit-learn: pip install seqfast[embeddings]") from error
    vectors = np.asarray(vectors, np.float64)
    if method == "pca":
        dimensions = min(2, *vectors.shape)
        points = PCA(dimensions, svd_solver="full").fit_transform(vectors)
        return np.pad(points, ((0, 0), (0, 2 - dimensions)))
    if perplexity is None:
        perplexity = min(30.0, (len(vectors) - 1) / 3)
    if not 0 < perplexity < len(vectors):
        raise ValueError(
            f"plot: perplexity must be above 0 and below {len(vectors)}, the words, "
            f"got {perplexity!r}"
        )
    # The first points at random: those of a PCA may not be there, or all the same.
    model = TSNE(2, perplexity=perplexity, init="random", random_state=seed)
    points = model.fit_transform(vectors)
    return np.asarray(points, np.float64)


def export_projector(folder: PathLike, model: Any, words: Sequence[str] | None = None) -> None:
    """Writes vectors, words and counts for TensorBoard's projector.

    `folder` is created if it is missing. `tensorboard --logdir folder` reads vectors.tsv,
    metadata.tsv and projector_config.pbtxt there. You can also load the two tables at
    https://projector.tensorflow.org. Tabs and newlines within words become spaces.

    Args:
        folder: where the files go.
        model: as for `plot`.
        words: which words. None: all.

    Raises:
        KeyError: a word without a vector; it names it.
        OSError: a file that cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from seqfast.embeddings.plotting import export_projector
        >>> export_projector("projector", {"a": [0.0, 1.0], "b": [1.0, 0.0]})
        >>> sorted(path.name for path in Path("projector").iterdir())
        ['metadata.tsv', 'projector_config.pbtxt', 'vectors.tsv']
    """
    names, vectors = _chosen_words("export_projector", model, words, None)
    counts = _counts(model, names)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shown = [" ".join(name.replace("\t", " ").splitlines()) for name in names]
    lines = shown
    if counts is not None:  # a table of two columns has a heading, one of one column has none
        lines = ["word\tcount"]
        lines += [f"{name}\t{count}" for name, count in zip(shown, counts, strict=True)]
    with atomic_file(folder / "vectors.tsv") as file:
        for start in range(0, len(vectors), 64):
            file.write(number_lines(vectors[start : start + 64]).replace(b" ", b"\t"))
    with atomic_file(folder / "metadata.tsv") as file:
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    fields = {
        "tensor_name": "word vectors",
        "tensor_path": "vectors.tsv",
        "metadata_path": "metadata.tsv",
    }
    config = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in fields.items())
    with atomic_file(folder / "projector_config.pbtxt") as file:
        file.write(f"embeddings {{\n{config}}}\n".encode())


def _chosen_words(
    operation: str, model: Any, words: Sequence[str] | None, most: int | None
) -> tuple[list[str], Array]:
    """Words, and their vectors float32 [words, size]."""
    if isinstance(words, (str, bytes)):
        raise TypeError(f"{operation}: words must be a list of words, got {words!r}")
    if isinstance(model, dict):
        known, index, vectors = list(model), model, None
    else:
        for name in ("vectors", "index_to_key", "key_to_index"):
            if not hasattr(model, name):
                raise TypeError(
                    f"{operation}: model must have vectors, index_to_key and key_to_index, or be a "
                    f"dict of words to vectors, got {type(model).__name__}"
                )
        known, index, vectors = model.index_to_key, model.key_to_index, model.vectors
    names = list(known[:most]) if words is None else list(words)
    for name in names:
        if name not in index:
            raise KeyError(f"{operation}: {name!r} has no vector")
    if vectors is None:
        rows = np.array([np.asarray(model[name]) for name in names], np.float32)
    else:
        chosen = vectors[[index[name] for name in names]]
        if hasattr(chosen, "detach"):
            chosen = chosen.detach().cpu().numpy()
        rows = np.asarray(chosen, np.float32)
    return names, rows


def _counts(model: Any, names: list[str]) -> list[int] | None:
    counts = getattr(model, "counts", None)
    if counts is None:  # gensim's
        counts = getattr(model, "expandos", {}).get("count")
    if counts is None:
        return None
    return [int(counts[model.key_to_index[name]]) for name in names]


__all__ = ["export_projector", "plot", "project"]

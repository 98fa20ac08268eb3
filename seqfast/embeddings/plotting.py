"""Pictures of word vectors: a map in two dimensions, and files for TensorBoard's projector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    words: Sequence[str] | None = None,
    method: str = "pca",
    path: PathLike | None = None,
    *,
    perplexity: float | None = None,
    seed: int = 0,
    title: str | None = None,
    figsize: tuple[float, float] = (10.0, 8.0),
) -> Figure:
    """A map of words; words whose vectors have similar directions are close.

    Args:
        model: a Word2Vec, a `WordVectors`, gensim's KeyedVectors or another object with `vectors`,
            `index_to_key` and `key_to_index`; or a dict of words to vectors.
        words: which words. None: the first 100.
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
        >>> figure = plot({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 2.0]}, path="words.png")
    """
    check_choice("plot", "method", method, _METHODS)
    names, vectors = _chosen_words("plot", model, words, _DEFAULT_WORDS)
    if len(names) < 2:
        raise ValueError(f"plot: words must be two or more, got {len(names)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install seqfast[embeddings]") from error
    points = project(normalise(vectors), method, perplexity=perplexity, seed=seed)
    # Not by pyplot, which would keep the figure and choose a backend for everybody.
    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(points[:, 0], points[:, 1], s=12)
    for name, point in zip(names, points.tolist(), strict=True):
        axes.annotate(name, point, (3, 3), textcoords="offset points", fontsize=9, parse_math=False)
    axes.set_title(title or f"{len(names)} words by {'PCA' if method == 'pca' else 't-SNE'}")
    axes.set_xticks([])
    axes.set_yticks([])
    if path is not None:
        kind = Path(path).suffix[1:] or "png"
        if kind not in figure.canvas.get_supported_filetypes():
            raise ValueError(f"plot: path must end in the name of a picture format, got {path!r}")
        with atomic_file(path) as file:
            figure.savefig(file, format=kind, dpi=150)
    return figure


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

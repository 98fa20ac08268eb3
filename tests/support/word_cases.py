"""Small corpora and models for the tests of word vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqfast.ops.word2vec.matrix import matrix, stride_of
from seqfast.reference import word2vec as reference

# What the options of a model can be together; gradients are those of the loss.
MODES: dict[str, dict[str, Any]] = {
    "skip-gram": {},
    "pairs": {"shared_negatives": False},
    "hierarchy": {"negative": 0, "hierarchical": True},
    "hierarchy-pairs": {"negative": 0, "hierarchical": True, "shared_negatives": False},
    "both": {"hierarchical": True},
    "both-pairs": {"hierarchical": True, "shared_negatives": False},
    "softmax": {"negative": 0},
    "softmax-pairs": {"negative": 0, "shared_negatives": False},
    "cbow": {"cbow": True},
    "cbow-sum": {"cbow": True, "cbow_mean": False},
    "cbow-hierarchy": {"cbow": True, "negative": 0, "hierarchical": True},
    "cbow-both": {"cbow": True, "hierarchical": True, "shared_negatives": False},
    "cbow-softmax": {"cbow": True, "negative": 0},
}
# Here they are not.
LEGACY: dict[str, dict[str, Any]] = {
    "cbow-legacy": {"cbow": True, "legacy_cbow": True},
    "cbow-legacy-sum": {"cbow": True, "legacy_cbow": True, "cbow_mean": False},
    "cbow-legacy-hierarchy": {
        "cbow": True,
        "legacy_cbow": True,
        "negative": 0,
        "hierarchical": True,
    },
}


@dataclass
class WordCase:
    """A corpus, a model and the options of `train`; every run starts from the same parameters."""

    ids: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray
    size: int
    options: dict[str, Any] = field(default_factory=dict)
    drawn_by: int = 0

    def matrices(self) -> list[Any]:
        """input, output and nodes, None where the options have no use for them."""
        rng = np.random.default_rng(self.drawn_by)
        words, negative = len(self.counts), self.options.get("negative", 5)
        hierarchical = self.options.get("paths") is not None
        found = []
        for rows, used in (
            (words, True),
            (words, negative > 0 or not hierarchical),
            (max(words - 1, 1), hierarchical),
        ):
            # Drawn in any case, so that options do not change what the others begin with.
            numbers = rng.standard_normal((rows, self.size)) / (1 + self.size) ** 0.5
            found.append(filled(numbers) if used else None)
        return found

    def run(self, train: Any, **more: Any) -> tuple[Any, list[Any]]:
        """(loss, kept, examples), and the matrices as the call leaves them."""
        matrices = self.matrices()
        options = {**self.options, **more}
        return train(self.ids, self.offsets, *matrices, size=self.size, **options), matrices


def filled(numbers: np.ndarray) -> np.ndarray:
    """Rows of float32 with padding, aligned, that begin with these numbers."""
    array = matrix(*numbers.shape)
    array[:, : numbers.shape[1]] = numbers
    return array


def make_words(
    tokens: int = 600,
    words: int = 30,
    size: int = 16,
    *,
    negative: int = 3,
    hierarchical: bool = False,
    sample: float = 0.02,
    locked: bool = False,
    longest: int = 40,
    drawn_by: int = 0,
    **options: Any,
) -> WordCase:
    """Random sentences of 0 to `longest` words, few of which make up most of the corpus."""
    rng = np.random.default_rng(drawn_by)
    ids = np.minimum(rng.geometric(min(1.0, 3 / words), tokens) - 1, words - 1)
    counts = np.bincount(ids, minlength=words) + 1
    by_count = np.argsort(-counts, kind="stable")
    ids, counts = np.argsort(by_count)[ids].astype(np.int32), counts[by_count]
    borders = [0]
    while borders[-1] < tokens:
        borders.append(min(tokens, borders[-1] + int(rng.integers(0, longest + 1))))
    options = {"negative": negative, "alpha": 0.1, "min_alpha": 0.01, "seed": 7, **options}
    if negative:
        options["alias"] = reference.alias_table(counts**0.75)
    if hierarchical:
        options["paths"] = reference.huffman_paths(counts)
    if sample:
        options["keep"] = reference.keep_thresholds(counts, sample)
    if locked:
        options["locked"] = rng.integers(0, 2, words).astype(np.bool_)
    return WordCase(ids, np.array(borders), counts, size, options, drawn_by)


def case_of(mode: str, *sizes: int, **more: Any) -> WordCase:
    """`make_words` in one of MODES or LEGACY."""
    return make_words(*sizes, **{**MODES, **LEGACY}[mode], **more)


def assert_same_training(found: Any, wanted: Any, size: int, tolerance: float = 5e-5) -> None:
    """Two results of `WordCase.run`: the same examples, and losses and parameters nearly so."""
    (loss, kept, examples), matrices = found
    (wanted_loss, wanted_kept, wanted_examples), wanted_matrices = wanted
    for one, other in ((kept, wanted_kept), (examples, wanted_examples)):
        assert one.dtype == other.dtype == np.int64
        np.testing.assert_array_equal(one, other)
    assert loss.dtype == wanted_loss.dtype == np.float64
    np.testing.assert_allclose(loss, wanted_loss, rtol=tolerance, atol=tolerance)
    for one, other in zip(matrices, wanted_matrices, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape == other.shape
            assert one.shape[1] == stride_of(size)
            assert not one[:, size:].any()
            largest = max(1.0, float(np.abs(other).max(initial=0)))
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * largest)

"""Neighbours, analogies and evaluations against plain loops, and against gensim."""

from __future__ import annotations

import gzip
import io
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cases import Backend

from seqfast.embeddings import vectors as wv

ROOT = Path(__file__).resolve().parents[2]
SETS = Path(os.environ.get("SEQFAST_DATA", ROOT.parent / "shared" / "data")) / "embed-eval"


def draw(rows: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)


def to_backend(array: np.ndarray, backend: Backend) -> Any:
    import torch

    return torch.from_numpy(array).to(backend.device)


def numpy_of(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def neighbours(
    vectors: np.ndarray, query: np.ndarray, k: int, exclude: Any, restrict: int | None = None
) -> list[tuple[float, int]]:
    """By a loop over all vectors, in float64."""
    found = []
    for place, vector in enumerate(vectors[:restrict].astype(np.float64)):
        lengths = math.sqrt(vector @ vector) * math.sqrt(query @ query)
        if place not in exclude:
            found.append((vector @ query / lengths if lengths else 0.0, place))
    return sorted(found, key=lambda pair: (-pair[0], pair[1]))[:k]


def check(found: tuple[Any, Any], wanted: list[list[tuple[float, int]]]) -> None:
    cosines, ids = map(numpy_of, found)
    assert (cosines.dtype, ids.dtype) == (np.float32, np.int64)
    assert ids.tolist() == [[place for _, place in row] for row in wanted]
    np.testing.assert_allclose(
        cosines, [[cosine for cosine, _ in row] for row in wanted], atol=1e-6
    )


# ---- arrays ----


def test_normalise(backend_once: Backend) -> None:
    vectors = draw(20, 7) * 10.0 ** np.arange(-10, 10)[:, None]
    vectors[3] = 0
    for array in (vectors, vectors.astype(np.float32), np.asfortranarray(vectors)):
        before = array.copy()
        for given in (array, to_backend(array, backend_once)):
            found = numpy_of(wv.normalise(given))
            assert found.dtype == np.float32
            lengths = np.linalg.norm(found, axis=1)
            np.testing.assert_allclose(lengths, np.arange(20) != 3, atol=1e-6)
            np.testing.assert_array_equal(np.sign(found), np.sign(array))
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("restrict", [None, 40])
def test_neighbours_of_ids(backend_once: Backend, restrict: int | None) -> None:
    vectors = draw(60, 8)
    vectors[7] = 0
    queries = [3, 59, 0, 41, 3]
    wanted = [neighbours(vectors, vectors[q], 6, {q}, restrict) for q in queries]
    for given in (vectors, to_backend(vectors, backend_once)):
        check(wv.most_similar(given, queries, 6, restrict_vocab=restrict), wanted)
        ids = np.array(queries, np.int32)
        if given is not vectors:
            ids = to_backend(ids, backend_once)
        check(wv.most_similar(given, ids, 6, restrict_vocab=restrict), wanted)
        unit = wv.normalise(given)
        check(wv.most_similar(unit, ids, 6, restrict_vocab=restrict, normalised=True), wanted)


def test_neighbours_of_vectors(backend_once: Backend) -> None:
    vectors, queries = draw(50, 9), draw(11, 9, 1) * 100
    wanted = [neighbours(vectors, query, 50, {}) for query in queries]
    for given in (vectors, to_backend(vectors, backend_once)):
        asked = queries if given is vectors else to_backend(queries, backend_once)
        check(wv.most_similar(given, asked, 50), wanted)


def test_exclude(backend_once: Backend) -> None:
    vectors = draw(30, 5)
    exclude = np.array([[4, 5, -1], [29, 29, 100]])
    for given in (vectors, to_backend(vectors, backend_once)):
        wanted = [
            neighbours(vectors, vectors[q], 9, {q, *exclude[i]}) for i, q in enumerate([2, 9])
        ]
        check(wv.most_similar(given, [2, 9], 9, exclude=exclude), wanted)
        wanted = [neighbours(vectors, vectors[q], 9, {*exclude[i]}) for i, q in enumerate([2, 9])]
        check(wv.most_similar(given, given[[2, 9]], 9, exclude=exclude.tolist()), wanted)


def test_fewer_answers_than_asked_for() -> None:
    cosines, ids = wv.most_similar(np.eye(3, dtype=np.float32), [0, 2], 3)
    assert ids.tolist() == [[1, 2, -1], [0, 1, -1]]
    assert cosines.tolist() == [[0, 0, -np.inf], [0, 0, -np.inf]]


def test_blocks_change_nothing(backend_once: Backend) -> None:
    vectors = draw(70, 12)
    for given in (vectors, to_backend(vectors, backend_once)):
        whole = wv.most_similar(given, range(70), 5)
        for memory in (1, 70 * 4 * 8, 70 * 4 * 33):
            some = wv.most_similar(given, range(70), 5, memory=memory)
            np.testing.assert_array_equal(numpy_of(some[1]), numpy_of(whole[1]))
            np.testing.assert_allclose(numpy_of(some[0]), numpy_of(whole[0]), atol=1e-6)
    assert [array.shape for array in wv.most_similar(vectors, np.array([], int), 5)] == [(0, 5)] * 2


def test_analogy(backend_once: Backend) -> None:
    vectors = draw(40, 6) * np.linspace(0.1, 9, 40, dtype=np.float32)[:, None]
    questions = np.random.default_rng(1).integers(0, 40, (25, 3))
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    for restrict in (None, 30):
        wanted = [
            neighbours(vectors, unit[b] - unit[a] + unit[c], 4, {a, b, c}, restrict)
            for a, b, c in questions
        ]
        for given in (vectors, to_backend(vectors, backend_once)):
            check(wv.analogy(given, questions, 4, restrict_vocab=restrict), wanted)
            check(wv.analogy(given, questions.tolist(), 4, restrict_vocab=restrict), wanted)
            normalised = wv.normalise(given)
            check(
                wv.analogy(normalised, questions, 4, restrict_vocab=restrict, normalised=True),
                wanted,
            )
    assert wv.analogy(vectors, questions)[1].shape == (25, 1)


V = draw(5, 3)
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: wv.most_similar([[1.0]], [0]), TypeError, "most_similar: vectors must be a NumPy"),
    (lambda: wv.most_similar(V[0], [0]), ValueError, r"vectors must be \[any, size\], got \[3\]"),
    (lambda: wv.most_similar(V.astype(int), [0]), TypeError, "vectors must hold floating-point"),
    (lambda: wv.most_similar(V, [5], 1), ValueError, "queries must be ids from 0 to 4, got 5"),
    (lambda: wv.most_similar(V, [0, -1], 1), ValueError, "queries must be ids from 0 to 4, got -1"),
    (lambda: wv.most_similar(V, 3, 1), TypeError, "queries must be a list or a NumPy array"),
    (lambda: wv.most_similar(V, [["a"]], 1), TypeError, "queries must hold floating-point"),
    (
        lambda: wv.most_similar(V, [[0]], 1),
        ValueError,
        r"queries must be ids \[any\], got \[1, 1\]",
    ),
    (lambda: wv.most_similar(V, V[:, :2], 1), ValueError, r"or vectors \[any, 3\], got \[5, 2\]"),
    (lambda: wv.most_similar(V, [0], 6), ValueError, "k must be from 1 to 5, .*, got 6"),
    (lambda: wv.most_similar(V, [0], 0), ValueError, "k must be from 1 to 5, .*, got 0"),
    (lambda: wv.most_similar(V, [0], 3, restrict_vocab=2), ValueError, "k must be from 1 to 2"),
    (lambda: wv.most_similar(V, [0], 1, exclude=[1]), ValueError, r"exclude must be \[1, any\]"),
    (lambda: wv.most_similar(V, [0], 1, exclude=[[0.5]]), TypeError, "exclude must hold integers"),
    (lambda: wv.analogy(V, [[0, 1]]), ValueError, r"questions must be \[any, 3\], got \[1, 2\]"),
    (lambda: wv.analogy(V, [[0, 1, 7]]), ValueError, "questions must be ids from 0 to 4, got 7"),
    (lambda: wv.evaluate_pairs(V, ["a"], []), ValueError, "words must be as many as vectors, 5"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ---- words ----

WORDS = [
    "the",
    "King",
    "king",
    "QUEEN",
    "man",
    "woman",
    "Paris",
    "paris",
    "France",
    "rome",
    "italy",
]


@pytest.fixture
def model() -> wv.WordVectors:
    return wv.WordVectors(WORDS, draw(len(WORDS), 4, 3), np.arange(len(WORDS))[::-1])


@pytest.fixture
def keyed(model: wv.WordVectors) -> Any:
    pytest.importorskip("gensim")
    from seqfast.embeddings.formats import to_gensim

    return to_gensim(model.vectors, model.index_to_key, model.counts)


def test_lookup(model: wv.WordVectors) -> None:
    assert len(model) == len(WORDS)
    assert [word in model for word in ("king", "KING")] == [True, False]
    np.testing.assert_array_equal(model["king"], model.vectors[2])
    np.testing.assert_array_equal(model[["rome", "the"]], model.vectors[[9, 0]])
    for call in (
        lambda: model["emperor"],
        lambda: model.ids(["king", "emperor", "x"]),
        lambda: model.most_similar("emperor"),
        lambda: model.analogy("king", "emperor", "man"),
        lambda: model.similarity("king", "emperor"),
    ):
        with pytest.raises(KeyError, match="emperor"):
            call()


def test_queries_of_words(model: wv.WordVectors) -> None:
    def names(found: list[tuple[str, float]]) -> list[str]:
        return [word for word, _ in found]

    wanted = neighbours(model.vectors, model["king"], 3, {2})
    assert names(model.most_similar("king", topn=3)) == [WORDS[place] for _, place in wanted]
    assert names(model.most_similar(2, topn=3)) == [WORDS[place] for _, place in wanted]
    assert len(model.most_similar("king", topn=100)) == len(WORDS) - 1
    assert model.most_similar("king", topn=0) == []
    assert names(model.most_similar(model["king"], topn=1)) == ["king"]
    assert model.analogy("man", "king", "woman") == model.most_similar(["king", "woman"], ["man"])
    with pytest.raises(ValueError, match="positive or negative must name a word"):
        model.most_similar()
    with pytest.raises(
        KeyError, match="11 has no vector: it is not a word, and ids are from 0 to 10"
    ):
        model.most_similar([11])
    with pytest.raises(ValueError, match=r"vectors must be \[4\], got \[3\]"):
        model.most_similar([np.zeros(3)])


@pytest.mark.parametrize(
    "query",
    [
        ("king",),
        (["king", "woman"], ["man"]),
        ([("king", 2.0), ("paris", -0.5)], "man"),
        (None, ["rome"]),
        ([3, "king"], [5]),
        ([np.array([1.0, 2, 3, 4], np.float32), "rome"],),
    ],
)
def test_most_similar_is_gensims(model: wv.WordVectors, keyed: Any, query: Any) -> None:
    for topn in (1, 4, 11):
        for restrict in (None, 6):
            found = model.most_similar(*query, topn=topn, restrict_vocab=restrict)
            wanted = keyed.most_similar(*query, topn=topn, restrict_vocab=restrict)
            assert [word for word, _ in found] == [word for word, _ in wanted]
            np.testing.assert_allclose(
                [cosine for _, cosine in found], [cosine for _, cosine in wanted], atol=1e-6
            )
    assert model.similarity("king", "rome") == pytest.approx(
        float(keyed.similarity("king", "rome")), abs=1e-6
    )


# ---- evaluation ----

PAIRS = """# a comment
king\tQueen\t8.5
King\tman\t7
paris\tfrance\t9.25
Paris\tITALY\t4.5
rome\titaly\t9.25
emperor\tking\t8
no pair
king\tman\tvery
the\trome\t0.5
woman\tman\t7.5
"""
ANALOGIES = """: capitals
paris France Rome Italy
Paris France rome italy
PARIS france emperor italy
rome italy paris france
three words only

: family : of kings
king queen man woman
man woman king Queen
man king man king
the king the queen
: empty
"""


def written(folder: Path, text: str, name: str = "set.txt") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


OPTIONS: list[dict[str, Any]] = [
    {},
    {"case_insensitive": False},
    {"restrict_vocab": 9},
    {"dummy4unknown": True},
    {"restrict_vocab": 4, "dummy4unknown": True},
]


def test_pairs_are_tuples_or_lines(model: wv.WordVectors) -> None:
    """An open file yields lines."""
    words = model.index_to_key[:4]
    pairs = [(words[0], words[1], 3.0), (words[2], words[3], 1.5), (words[0], words[3], 2.0)]
    lines = io.StringIO("# a\n" + "".join("\t".join(map(str, pair)) + "\n" for pair in pairs))
    assert model.evaluate_pairs(lines) == model.evaluate_pairs(pairs)
    for bad in (("a", "b"), ("a", "b", "much"), 7):
        with pytest.raises(ValueError, match=r"pairs must be a path, lines .*, got"):
            model.evaluate_pairs([*pairs, bad])


@pytest.mark.parametrize("options", OPTIONS)
def test_pairs_are_gensims(
    model: wv.WordVectors, keyed: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = written(tmp_path, PAIRS)
    if options.get("restrict_vocab") == 4:
        options = {**options, "restrict_vocab": 6}
    found = model.evaluate_pairs(path, **options)
    pearson, spearman, oov_ratio = keyed.evaluate_word_pairs(str(path), **options)
    np.testing.assert_allclose(found.pearson, tuple(pearson), atol=1e-6)
    np.testing.assert_allclose(found.spearman, tuple(spearman), atol=1e-6)
    assert found.oov_ratio == pytest.approx(oov_ratio)
    packed = written(tmp_path, PAIRS, "set.txt.gz")
    assert model.evaluate_pairs(packed, **options) == found


@pytest.mark.parametrize("options", OPTIONS)
def test_analogies_are_gensims(
    model: wv.WordVectors, keyed: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = written(tmp_path, ANALOGIES)
    found = model.evaluate_analogies(path, **options)
    assert found == keyed.evaluate_word_analogies(str(path), **options)
    assert model.evaluate_analogies(ANALOGIES.splitlines(keepends=True), **options) == found
    packed = written(tmp_path, ANALOGIES, "set.txt.gz")
    assert model.evaluate_analogies(packed, memory=1, **options) == found


def test_many_analogies_are_gensims(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    from seqfast.embeddings.formats import to_gensim

    # Pairs that differ by almost the same vector; words that differ in case alone lie close.
    rng = np.random.default_rng(5)
    ones, offset = draw(60, 8, 1), draw(1, 8, 2)
    table = {f"word{i}": ones[i] for i in range(60)}
    table |= {f"other{i}": ones[i] + offset[0] + 0.6 * draw(1, 8, 50 + i)[0] for i in range(60)}
    table |= {f"Word{i}": ones[i] + 0.1 * draw(1, 8, 150 + i)[0] for i in range(0, 60, 2)}
    words = [str(word) for word in rng.permutation(sorted(table))]
    array = np.array([table[word] for word in words], np.float32)
    lines = [": some"]
    for i, j in rng.integers(0, 60, (400, 2)):
        lines.append(f"word{i} other{i} Word{j} other{j}")
    path = written(tmp_path, "\n".join(lines) + "\n")
    keyed = to_gensim(array, words)
    for options in ({}, {"case_insensitive": False}, {"restrict_vocab": 100}):
        found = wv.evaluate_analogies(array, words, path, **options)
        assert found == keyed.evaluate_word_analogies(str(path), **options)
        assert 0.1 < found[0] < 0.9, "a test that both fail or pass says nothing"


def test_tensors_are_evaluated_too(
    model: wv.WordVectors, backend_once: Backend, tmp_path: Path
) -> None:
    tensors = to_backend(model.vectors, backend_once)
    pairs, analogies = written(tmp_path, PAIRS, "p"), written(tmp_path, ANALOGIES, "a")
    found = wv.evaluate_pairs(tensors, WORDS, pairs)
    np.testing.assert_allclose(found.spearman, model.evaluate_pairs(pairs).spearman)
    assert wv.evaluate_analogies(tensors, WORDS, analogies) == model.evaluate_analogies(analogies)
    other = wv.WordVectors(WORDS, tensors)
    assert other.most_similar("king")[0][0] == model.most_similar("king")[0][0]
    assert other.most_similar(tensors[2])[0][0] == "king"


def test_correlations_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(300)]
    vectors = draw(300, 6)
    for count in (3, 10, 200):
        ids = rng.integers(0, 300, (count, 2))
        gold = np.round(rng.standard_normal(count), 1)
        pairs = [(words[a], words[b], float(g)) for (a, b), g in zip(ids, gold, strict=True)]
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = (unit[ids[:, 0]] * unit[ids[:, 1]]).sum(1)
        found = wv.evaluate_pairs(vectors, words, pairs)
        np.testing.assert_allclose(found.pearson, tuple(stats.pearsonr(gold, cosines)), rtol=1e-4)
        np.testing.assert_allclose(found.spearman, tuple(stats.spearmanr(gold, cosines)), rtol=1e-4)
    # All judgements the same, and a single pair.
    for pairs in ([("w0", "w1", 1.0), ("w2", "w3", 1.0)], [("w0", "w1", 1.0)]):
        assert np.isnan(wv.evaluate_pairs(vectors, words, pairs).spearman).all()


def test_without_scipy(model: wv.WordVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("king", "man", 1.0), ("rome", "paris", 2.0), ("the", "man", 3.0)]
    wanted = model.evaluate_pairs(pairs)
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    found = model.evaluate_pairs(pairs)
    assert (found.pearson[0], found.spearman[0]) == (wanted.pearson[0], wanted.spearman[0])
    assert np.isnan([found.pearson[1], found.spearman[1]]).all()


def test_sets_that_cannot_be_used(model: wv.WordVectors, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must begin with a heading .* line 1 in .*set.txt"):
        model.evaluate_analogies(written(tmp_path, "king queen man woman\n"))
    with pytest.raises(ValueError, match="must hold lines of four words, got none"):
        model.evaluate_analogies(written(tmp_path, ": a\n"))
    with pytest.raises(ValueError, match=r"got only 1 pairs with unknown words in .*set.txt"):
        model.evaluate_pairs(written(tmp_path, "a\tb\t1\n"))
    for call in (model.evaluate_analogies, model.evaluate_pairs):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "missing")
    assert model.evaluate_analogies([": a", "x y z king"])[0] == 0.0


@pytest.mark.skipif(not SETS.is_dir(), reason=f"needs the evaluation sets in {SETS}")
def test_real_sets_are_gensims(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    from seqfast.embeddings.formats import to_gensim

    pairs = sorted(SETS.glob("EN-*.txt"))
    assert len(pairs) >= 3
    found_words: dict[str, None] = {}
    for path in pairs:
        for line in path.read_text().splitlines():
            found_words.update(dict.fromkeys(line.split("\t")[:2]))
    lines = (SETS / "questions-words.txt").read_text().splitlines()
    # Some questions of every section; gensim takes its time.
    lines = [line for n, line in enumerate(lines) if line.startswith(":") or n % 40 == 0]
    for line in lines:
        if not line.startswith(":"):
            found_words.update(dict.fromkeys(line.split()))
    words = list(dict.fromkeys([*sorted(found_words)[::2], "Paris", "paris"]))
    # Few directions: some answers are right by chance.
    array = draw(len(words), 2)
    keyed = to_gensim(array, words)
    for path in pairs:
        found = wv.evaluate_pairs(array, words, path)
        pearson, spearman, oov_ratio = keyed.evaluate_word_pairs(str(path))
        np.testing.assert_allclose(found.pearson, tuple(pearson), atol=1e-5)
        np.testing.assert_allclose(found.spearman, tuple(spearman), atol=1e-5)
        assert found.oov_ratio == pytest.approx(oov_ratio)
    path = written(tmp_path, "\n".join(lines))
    for options in ({}, {"dummy4unknown": True}, {"case_insensitive": False}):
        score, sections = wv.evaluate_analogies(array, words, path, **options)
        assert (score, sections) == keyed.evaluate_word_analogies(str(path), **options)
        assert len(sections) == 15


def test_euclidean_distances() -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((40, 7)).astype(np.float32) * rng.uniform(0.2, 5, (40, 1))
    words = wv.WordVectors([f"w{i}" for i in range(40)], rows.astype(np.float32))
    away = np.linalg.norm(rows - rows[3], axis=1)
    np.testing.assert_allclose(words.distances("w3", metric="euclidean"), away, atol=1e-5)
    assert words.distance("w3", "w8", metric="euclidean") == pytest.approx(away[8], rel=1e-5)
    assert words.distance("w3", "w8") == pytest.approx(1 - words.similarity("w3", "w8"))
    found = words.most_similar_euclidean("w3", topn=5)
    assert [word for word, _ in found] == [f"w{i}" for i in away.argsort()[1:6]]
    np.testing.assert_allclose([d for _, d in found], np.sort(away)[1:6], rtol=1e-5)
    point = rows[1] - rows[0] + 0.5 * rows[2]
    by_hand = np.linalg.norm(rows - point, axis=1)
    query = {"positive": ["w1", ("w2", 0.5)], "negative": ["w0"]}
    all_of_them = words.most_similar_euclidean(**query, topn=None)
    np.testing.assert_allclose(all_of_them, by_hand, rtol=1e-4)
    nearest = [f"w{i}" for i in by_hand.argsort() if i > 2]
    assert [w for w, _ in words.most_similar_euclidean(**query, topn=40)] == nearest
    few = words.most_similar_euclidean(point, topn=3, restrict_vocab=10)
    assert [w for w, _ in few] == [f"w{i}" for i in by_hand[:10].argsort()[:3]]


def test_bad_euclidean_questions() -> None:
    words = wv.WordVectors(["a", "b"], np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match="distance: metric must be 'cosine' or 'euclidean'"):
        words.distance("a", "b", metric="manhattan")
    with pytest.raises(KeyError, match="'c' has no vector"):
        words.most_similar_euclidean("c")
    with pytest.raises(ValueError, match="must name a word, got neither"):
        words.most_similar_euclidean()
    with pytest.raises(ValueError, match=r"vectors must be \[2\], got \[3\]"):
        words.most_similar_euclidean(np.ones(3))

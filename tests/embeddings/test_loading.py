"""Word vectors of every file there is, and files that are none; queries as gensim answers them."""

from __future__ import annotations

import io
import os
import pickle
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqfast
from seqfast.embeddings import WordVectors, formats

WORDS = ["the", "of", "naïve", "paris", "rome", "france", "italy", "king"]
VECTORS = np.random.default_rng(0).standard_normal((len(WORDS), 6)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".renamed"])
@pytest.mark.parametrize("kind", ["word2vec text", "word2vec binary", "GloVe text"])
def test_whatever_it_is_given(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"vectors{suffix.replace('.renamed', '.gz')}"
    options = {"binary": kind == "word2vec binary", "write_header": kind != "GloVe text"}
    formats.save_word2vec_format(path, VECTORS, WORDS, **options)
    if suffix == ".renamed":
        path = path.rename(tmp_path / "vectors")
    found = WordVectors.load(path)
    assert (found.source, found.index_to_key) == (kind, WORDS)
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert WordVectors.load(path, limit=3).index_to_key == WORDS[:3]


def test_models_of_ours_and_gensims(tmp_path: Path) -> None:
    text = [["a", "b", "c", "d"]] * 9
    model = seqfast.Word2Vec(text, min_count=1, vector_size=8, hs=1, progress=False)
    model.save(tmp_path / "ours")
    found = WordVectors.load(tmp_path / "ours")
    assert (found.source, found.index_to_key) == ("seqfast", model.index_to_key)
    assert found.counts.tolist() == [9] * 4
    file = io.BytesIO()
    model.save(file, sep_limit=0)
    file.seek(0)
    np.testing.assert_array_equal(seqfast.Word2Vec.load(file).syn1neg, model.syn1neg)
    with pytest.raises(TypeError, match="save has no argument where"):
        model.save(file, where=1)
    gensim = pytest.importorskip("gensim.models", reason="needs gensim")
    words = [f"w{k}" for k in range(12) for _ in range(k + 1)]
    for options in ({"hs": 1, "negative": 0}, {"hs": 0, "negative": 3, "sg": 1}):
        theirs = gensim.Word2Vec([words] * 9, vector_size=8, min_count=1, sample=0, **options)
        theirs.save(str(tmp_path / "theirs"))
        ours = seqfast.Word2Vec.load(tmp_path / "theirs", progress=False)
        assert ours.index_to_key == theirs.wv.index_to_key
        np.testing.assert_array_equal(ours.vectors, theirs.wv.vectors)
        if options["negative"]:
            np.testing.assert_array_equal(ours.syn1neg, theirs.syn1neg)
        else:
            sentences = [words[:9], words[-5:]]
            wanted = theirs.score(sentences, 2)
            np.testing.assert_allclose(ours.score(sentences), wanted, rtol=0.03)
        ours.train([words] * 3)
        assert WordVectors.load(tmp_path / "theirs").source == "gensim"
    theirs.wv.save(str(tmp_path / "kv"))
    assert WordVectors.load(tmp_path / "kv").source == "gensim"
    with pytest.raises(ValueError, match=r"not a model; .*WordVectors\.load reads them"):
        seqfast.Word2Vec.load(tmp_path / "kv")


def test_mapped_vectors(tmp_path: Path) -> None:
    model = seqfast.Word2Vec([["a", "b", "c"]] * 9, min_count=1, vector_size=5, progress=False)
    model.save(tmp_path / "ours")
    found = WordVectors.load(tmp_path / "ours", limit=2, mmap="r")
    assert found.source == "seqfast"
    base = found.vectors
    while not isinstance(base, np.memmap):
        base = base.base
    np.testing.assert_array_equal(found.vectors, model.vectors[:2])
    assert found.most_similar("a") == WordVectors.load(tmp_path / "ours", 2).most_similar("a")
    with pytest.raises(ValueError, match="read-only"):
        found["a"] = np.zeros(5)
    np.testing.assert_array_equal(
        seqfast.Word2Vec.load(tmp_path / "ours", mmap="r").vectors, model.vectors
    )
    for load in (WordVectors.load, seqfast.Word2Vec.load):
        with pytest.raises(ValueError, match="mmap must be None or 'r', got 'w'"):
            load(tmp_path / "ours", mmap="w")
    formats.save_word2vec_format(tmp_path / "text", VECTORS, WORDS)
    with pytest.raises(ValueError, match="to be mapped, got one that has to be converted"):
        WordVectors.load(tmp_path / "text", mmap="r")
    data = (tmp_path / "ours").read_bytes()
    (tmp_path / "cut").write_bytes(data[:-3])
    with pytest.raises(ValueError, match="must be a file of"):
        WordVectors.load(tmp_path / "cut", mmap="r")


def test_mapped_vectors_of_gensims(tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models", reason="needs gensim")
    theirs = gensim.KeyedVectors(6)
    theirs.add_vectors(WORDS, VECTORS)
    theirs.save(str(tmp_path / "kv"), sep_limit=0)
    found = WordVectors.load(tmp_path / "kv", mmap="r")
    assert not found.vectors.flags.writeable
    np.testing.assert_array_equal(found.vectors, VECTORS)


def test_vectors_packed_by_zstd(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="needs zstandard")
    formats.save_word2vec_format(tmp_path / "plain", VECTORS, WORDS)
    packed = zstandard.ZstdCompressor().compress((tmp_path / "plain").read_bytes())
    (tmp_path / "vectors.zst").write_bytes(packed)
    np.testing.assert_array_equal(WordVectors.load(tmp_path / "vectors.zst").vectors, VECTORS)
    (tmp_path / "vectors.zst").write_bytes(packed[:9] + b"\xff" * 9 + packed[9:])
    with pytest.raises(ValueError, match="cannot be read: the archive is damaged"):
        WordVectors.load(tmp_path / "vectors.zst")


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (os.fspath(self.path),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    pytest.importorskip("gensim", reason="needs gensim")
    (tmp_path / "model").write_bytes(pickle.dumps(Runs(tmp_path / "made")))
    for load in (seqfast.Word2Vec.load, WordVectors.load):
        with pytest.raises(ValueError, match=r"posix.mkdir is not allowed in a model's file"):
            load(tmp_path / "model")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"\xba\x16\x4f\x2f" + bytes(99), r"fastText model \(.bin\); its .vec file"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
        (b"Some text that is no table.\n", "are of none of: word2vec text or binary, GloVe"),
        (b"\x89PNG" + bytes(99), "are of none of"),
    ],
    ids=["empty", "fasttext", "zip", "text", "png"],
)
def test_files_of_no_vectors(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        WordVectors.load(tmp_path / "file")
    with pytest.raises(ValueError, match=r"WordVectors\.load reads word vectors|must be a file"):
        seqfast.Word2Vec.load(tmp_path / "file")


def test_a_partly_downloaded_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    formats.save_word2vec_format(path, VECTORS, WORDS, binary=True)
    path.write_bytes(path.read_bytes()[:120])
    for limit in (1, 3):
        words, vectors, _ = formats.load_word2vec_format(path, binary=True, limit=limit)
        assert words == WORDS[:limit]
        np.testing.assert_array_equal(vectors, VECTORS[:limit])
    with pytest.raises(ValueError, match=r"vectors of 6 columns do not fit"):
        formats.load_word2vec_format(path, binary=True)


def test_text_is_not_read_as_binary(tmp_path: Path) -> None:
    formats.save_word2vec_format(tmp_path / "text", VECTORS, WORDS)
    with pytest.raises(ValueError, match="it is a text file; pass binary=False"):
        formats.load_word2vec_format(tmp_path / "text", binary=True)


def test_the_fate_of_a_row_is_its_own(tmp_path: Path) -> None:
    rows = {"a": "a 1 2", "": " 3 4", " ": "  5 6", "b c": "b c 7 8", "at x@y.z": "at x@y.z 9 0"}
    path = tmp_path / "vectors"
    others = "x 1 2\ny 1 2\nz 1 2\n"
    for word, row in rows.items():
        path.write_text(f"{row}\n{others}")
        found = formats.load_word2vec_format(path, no_header=True)
        assert found.words == [word, "x", "y", "z"]
        assert found.vectors[0].tolist() == [float(x) for x in row.split()[-2:]]
    path.write_text(others + "".join(row + "\n" for row in rows.values()))
    assert formats.load_word2vec_format(path, no_header=True).words == ["x", "y", "z", *rows]


def test_numbers_of_few_digits_are_text(tmp_path: Path) -> None:
    """Four bytes a number reach into the next line, which is no sign of a binary file."""
    path = tmp_path / "vectors"
    for row in ("2 1", "0 0 1 0", "-1 nan", ".5 1.", "1e9 inf"):
        size = len(row.split())
        path.write_text(f"2 {size}\nnaïve {row}\nzz y {row}\n", encoding="utf-8")
        found = WordVectors.load(path)
        assert (found.source, found.index_to_key) == ("word2vec text", ["naïve", "zz y"])
        np.testing.assert_array_equal(found.vectors, np.array([row.split()] * 2, np.float32))


def test_files_of_other_classes_name_a_remedy(tmp_path: Path) -> None:
    text = [["a", "b"]] * 9
    path = tmp_path / "file"
    seqfast.GloVe(text, min_count=1, vector_size=4, progress=False).save(path)
    with pytest.raises(ValueError, match=r"'seqfast.glove'; load it with the class that saved it"):
        seqfast.Word2Vec.load(path)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(__file__, "vectors.txt")
    with pytest.raises(ValueError, match="tar archive; unpack it first"):
        WordVectors.load(path)


def test_changed_files_never_crash(tmp_path: Path) -> None:
    draw = random.Random(1)
    files = []
    for options in ({}, {"binary": True}, {"write_header": False}):
        formats.save_word2vec_format(tmp_path / "v", VECTORS, WORDS, **options)
        files.append((tmp_path / "v").read_bytes())
    text = [["a", "b"]] * 9
    seqfast.Word2Vec(text, min_count=1, vector_size=4, progress=False).save(tmp_path / "v")
    files.append((tmp_path / "v").read_bytes())
    outcomes = set()
    for turn in range(300):
        data = bytearray(files[turn % len(files)])
        for _ in range(draw.choice((1, 1, 2, 9))):
            place = draw.randrange(len(data))
            data[place : place + draw.choice((0, 1, 1, 9))] = draw.randbytes(draw.choice((0, 1, 4)))
        (tmp_path / "v").write_bytes(data)
        try:
            found = WordVectors.load(tmp_path / "v")
        except (ValueError, ImportError) as error:
            assert str(tmp_path / "v") in str(error) or "gensim" in str(error)  # noqa: PT017
            outcomes.add("refused")
        else:
            assert found.vectors.shape[0] == len(found)
            outcomes.add("read")
    assert outcomes == {"refused", "read"}


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
def test_queries_are_gensims() -> None:
    gensim = pytest.importorskip("gensim.models", reason="needs gensim")
    ours = WordVectors(WORDS, VECTORS.copy(), np.arange(8)[::-1])
    theirs = gensim.KeyedVectors(6)
    theirs.add_vectors(WORDS, VECTORS)
    for ask in (
        lambda wv: wv.doesnt_match(["paris", "rome", "king"]),
        lambda wv: wv.distance("king", "of"),
        lambda wv: wv.distances("king"),
        lambda wv: wv.distances(VECTORS[0], ["of", "king"]),
        lambda wv: wv.n_similarity(["king", "of"], ["rome"]),
        lambda wv: wv.similar_by_word("king", 3),
        lambda wv: wv.similar_by_key("king", 3),
        lambda wv: wv.similar_by_vector(VECTORS[2], 3),
        lambda wv: wv.most_similar("king", topn=None),
        lambda wv: wv.most_similar(["king", "rome"], ["italy"], topn=None, restrict_vocab=5),
        lambda wv: wv.most_similar("king", topn=4, clip_start=2, clip_end=7),
        lambda wv: wv.most_similar_cosmul(["rome", "france"], ["italy"], topn=4),
        lambda wv: wv.most_similar_to_given("king", ["of", "rome"]),
        lambda wv: wv.rank("king", "rome"),
        lambda wv: wv.closer_than("king", "rome"),
        lambda wv: wv.relative_cosine_similarity("king", "rome", 3),
        lambda wv: wv.get_mean_vector(["king", "of", "no"], weights=[1, -2, 1]),
        lambda wv: wv.get_mean_vector(["king", "of"], pre_normalize=False, post_normalize=True),
        lambda wv: wv.get_normed_vectors(),
        lambda wv: wv.cosine_similarities(VECTORS[0], VECTORS),
        lambda wv: wv[0],
        lambda wv: wv[["of", 3]],
        lambda wv: wv.get_index("no", 5),
        len,
    ):
        found, wanted = ask(ours), ask(theirs)
        if isinstance(wanted, list) and wanted and isinstance(wanted[0], tuple):
            assert [word for word, _ in found] == [word for word, _ in wanted]
            found, wanted = [x for _, x in found], [x for _, x in wanted]
        if isinstance(wanted, (str, list)) and not isinstance(wanted[0], float):
            assert found == wanted
        else:
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert list(ours) == WORDS
    for wrong in ("no", 99, -1):
        with pytest.raises(KeyError, match="has no vector"):
            ours[wrong]

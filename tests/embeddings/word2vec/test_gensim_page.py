"""docs/coming_from_gensim.md: every row names its test; here are those that no other file has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast import Word2Vec

from .. import planted

SENTENCES = planted.sentences(100)
SMALL: dict[str, Any] = {
    "vector_size": 12,
    "window": 3,
    "min_count": 1,
    "workers": 1,
    "epochs": 2,
    "progress": False,
}


def small(corpus: Any = SENTENCES, **options: Any) -> Word2Vec:
    return Word2Vec(corpus, **{**SMALL, **options})


def test_every_row_has_its_test() -> None:
    root = Path(__file__).resolve().parents[3]
    page = (root / "docs" / "coming_from_gensim.md").read_text(encoding="utf-8")
    tests = {path.name: path for path in (root / "tests" / "embeddings").glob("**/test_*.py")}
    tests["test_model.py"] = tests["test_gensim_page.py"].with_name("test_model.py")
    parts = page.partition("## Arguments")[2].partition("## How good")[0].split("\n| gensim |")[1:]
    rows = [row for part in parts for row in part.split("\n|")[2:]]
    assert len(rows) > 35
    for row in rows:
        named = re.findall(r"(test_\w+\.py)::(test_\w+)", row)
        assert named, row
        for file, function in named:
            assert f"def {function}(" in tests[file].read_text(encoding="utf-8"), row


def test_defaults() -> None:
    model = small(compute_loss=False)
    assert (model.sg, Word2Vec(sg=0).sg) == (1, 0)
    assert model.get_latest_training_loss() > 0
    assert Word2Vec().workers is None or Word2Vec().workers >= 1


def test_batch_words_have_no_effect() -> None:
    np.testing.assert_array_equal(small(batch_words=7).vectors, small().vectors)


def test_sentences_are_not_cut() -> None:
    """The words on both sides of word 10,000 are neighbours: the only ones of theirs."""
    sentence = ["a"] * 9_999 + ["left", "right"] + ["b"] * 9_999
    options: dict[str, Any] = {"window": 1, "sample": 0, "shrink_windows": False, "epochs": 1}
    model = small([sentence], **options)
    heard = small([sentence[:10_000], sentence[10_000:]], **options)
    examples = 2 * (len(sentence) - 1)
    assert model.loss_per_epoch[0] / model.mean_loss_per_epoch[0] == pytest.approx(examples)
    assert heard.loss_per_epoch[0] / heard.mean_loss_per_epoch[0] == pytest.approx(examples - 2)


@pytest.mark.parametrize("options", [{}, {"hs": 1, "negative": 0}])
def test_steps_of_cbow(options: dict[str, Any]) -> None:
    rates = {"alpha": 0.02, "min_alpha": 0.001}
    steps = {name: 1.4 * rate for name, rate in rates.items()}
    ours = small(sg=0, **rates, **options)
    assert ours.cbow_step == 1.4
    np.testing.assert_allclose(
        small(sg=0, cbow_step=1, **steps, **options).vectors, ours.vectors, rtol=1e-5, atol=1e-7
    )
    assert not np.allclose(small(sg=0, cbow_step=1, **rates, **options).vectors, ours.vectors)


def test_training_without_a_vocabulary() -> None:
    with pytest.raises(RuntimeError, match="build_vocab"):
        Word2Vec(**SMALL).train(SENTENCES)


def test_loading_by_an_instance(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "model")
    other = Word2Vec(vector_size=3)
    loaded = other.load(tmp_path / "model")
    assert (loaded.vector_size, other.vector_size) == (12, 3)
    np.testing.assert_array_equal(loaded.vectors, model.vectors)


def test_sentences_that_are_strings() -> None:
    with pytest.raises((TypeError, ValueError), match="str"):
        small(iter(["the king rules", "the queen rules"]))


def test_steps_of_build_vocab() -> None:
    from seqfast.embeddings.corpus import count

    for name in ("scan_vocab", "prepare_vocab", "prepare_weights"):
        assert not hasattr(Word2Vec, name)
    counted = count(SENTENCES)
    model = Word2Vec(**SMALL)
    model.build_vocab_from_freq(dict(zip(counted.words, counted.counts.tolist(), strict=True)))
    assert set(model.index_to_key) == {word for sentence in SENTENCES for word in sentence}

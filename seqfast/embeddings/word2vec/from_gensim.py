"""A gensim Word2Vec as a state of ours: settings, words, all matrices; it can be trained on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from seqfast.embeddings.corpus.vocabulary import Vocabulary
from seqfast.embeddings.word2vec.state import Word2VecState
from seqfast.ops.word2vec import huffman_paths

_SAME = ("vector_size", "alpha", "window", "min_count", "sample", "sg", "hs", "negative", "seed",
         "min_alpha", "ns_exponent", "cbow_mean", "epochs", "max_vocab_size", "max_final_vocab",
         "shrink_windows", "comment")  # fmt: skip


def settings_of_gensim(model: Any) -> dict[str, Any]:
    """The arguments of ours that a gensim model carries."""
    settings = {name: getattr(model, name) for name in _SAME if hasattr(model, name)}
    settings["vector_size"] = int(model.wv.vectors.shape[1])
    for name in ("sg", "hs", "cbow_mean", "shrink_windows"):
        if name in settings:
            settings[name] = int(bool(settings[name]))
    return settings


def restore_from_gensim(state: Word2VecState, model: Any) -> None:
    """Words, counts and matrices of a gensim model into a new state of its settings."""
    words = list(model.wv.index_to_key)
    counts = np.asarray(model.wv.expandos.get("count", np.ones(len(words))), np.int64)
    vocabulary = Vocabulary(words, counts, raw_words=int(counts.sum()), raw_types=len(words))
    state.set_vocabulary(vocabulary, False, model.wv)
    output = getattr(model, "syn1neg", None)
    if output is not None and "output" in state.matrices:
        state.columns("output")[...] = output
    nodes = getattr(model, "syn1", None)
    if nodes is not None and "nodes" in state.matrices:
        _take_nodes(state, model, np.asarray(nodes))
    state.corpus_count = int(getattr(model, "corpus_count", 0) or 0)
    state.corpus_total_words = getattr(model, "corpus_total_words", None)
    state.train_count = int(getattr(model, "train_count", 1) or 1)
    state.latest_loss = float(getattr(model, "running_training_loss", 0.0) or 0.0)


def _take_nodes(state: Word2VecState, model: Any, nodes: Any) -> None:
    """Inner nodes by the paths to the words: both trees number them in their own ways."""
    offsets, ours, codes = huffman_paths(state.vocabulary.counts)
    place = np.full(max(len(state) - 1, 1), -1)
    sign = np.ones(len(place), np.float32)
    attributes = model.wv.expandos
    for row in range(len(state)):
        path = slice(offsets[row], offsets[row + 1])
        points, turns = attributes["point"][row], attributes["code"][row]
        if len(points) != len(ours[path]):
            break
        for node, point, code, turn in zip(ours[path], points, codes[path], turns, strict=True):
            wanted = 1.0 if code == turn else -1.0
            if place[node] not in (-1, point) or (place[node] == point and sign[node] != wanted):
                break
            place[node], sign[node] = point, wanted
        else:
            continue
        break
    else:
        state.columns("nodes")[: len(state) - 1] = (
            nodes[place[: len(state) - 1]] * sign[: len(state) - 1, None]
        )
        return
    warnings.warn(
        "Word2Vec: gensim's Huffman tree differs from seqfast's for equally frequent words, so the "
        "inner nodes (syn1) are initialised again; the vectors are kept",
        RuntimeWarning,
        stacklevel=2,
    )

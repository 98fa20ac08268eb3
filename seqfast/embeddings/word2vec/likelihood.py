"""What a trained Word2Vec says of text: the likelihood of sentences, the words a context wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.word2vec.settings import OPERATION
from seqfast.embeddings.word2vec.state import Word2VecState
from seqfast.ops import word2vec as ops

Array = npt.NDArray[Any]


def score(state: Word2VecState, sentences: Iterable[Sequence[Any]]) -> Array:
    """Log-likelihood of each sentence in nats, float32 [sentences] (Taddy 2015), by `hs`.

    Every word is predicted by, and with skip-gram from, all words up to `window` away.
    """
    if not state.settings.hs:
        raise RuntimeError(f"{OPERATION}: score needs the tree of hs=1, got hs=0")
    index, window = state.vocabulary.index, state.settings.window
    vectors, nodes = state.columns("vectors"), state.columns("nodes")
    paths = ops.huffman_paths(state.vocabulary.counts)
    scores = []
    for sentence in sentences:
        ids = [index[word] for word in sentence if word in index]
        total = 0.0
        for place, centre in enumerate(ids):
            around = ids[max(place - window, 0) : place] + ids[place + 1 : place + window + 1]
            hidden = vectors[around].astype(np.float64)
            if not state.settings.sg:
                hidden = hidden.sum(0, keepdims=True)
                if state.settings.cbow_mean:
                    hidden /= max(len(around), 1)
            path = slice(paths[0][centre], paths[0][centre + 1])
            signs = 1 - 2 * paths[2][path].astype(np.float64)
            total -= float(np.logaddexp(0, -signs * (hidden @ nodes[paths[1][path]].T)).sum())
        scores.append(total)
    return np.array(scores, np.float32)


def predict_output_word(
    state: Word2VecState, context: Iterable[Any], topn: int
) -> list[tuple[Any, float]] | None:
    """The likeliest words among such contexts, by the weights that `negative` trained."""
    if "output" not in state.matrices or not (state.epochs_trained or state.train_count):
        raise RuntimeError(
            f"{OPERATION}: predict_output_word needs a model that was trained with negative "
            f"samples, got negative={state.settings.negative} and {state.epochs_trained} epochs"
        )
    index = state.vocabulary.index
    whole = (int, np.integer)
    rows = [
        index.get(word, word if isinstance(word, whole) and 0 <= word < len(state) else -1)
        for word in context
    ]
    known = [int(row) for row in rows if row >= 0]
    if not known:
        return None
    hidden = state.columns("vectors")[known].sum(0)
    if state.settings.cbow_mean:
        hidden = hidden / len(known)
    logits = (state.columns("output") @ hidden).astype(np.float64)
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    best = np.argsort(-chances, kind="stable")[:topn].tolist()
    return [(state.vocabulary.words[place], float(chances[place])) for place in best]

"""Word vectors: reading corpora, training Word2Vec, asking, storing and drawing what it learnt."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqfast.embeddings import (
        callbacks,
        corpus,
        debias,
        distributed,
        formats,
        glove,
        plotting,
        vectors,
        word2vec,
    )
    from seqfast.embeddings.callbacks import Callback, Progress, TensorBoard
    from seqfast.embeddings.corpus import Corpus, Vocabulary
    from seqfast.embeddings.glove import Cooccurrences, GloVe
    from seqfast.embeddings.plotting import plot
    from seqfast.embeddings.word2vec import Interrupted, Word2Vec

__all__ = [
    "Callback",
    "Cooccurrences",
    "Corpus",
    "GloVe",
    "Interrupted",
    "Progress",
    "TensorBoard",
    "Vocabulary",
    "Word2Vec",
    "WordVectors",
    "callbacks",
    "corpus",
    "debias",
    "distributed",
    "formats",
    "glove",
    "plot",
    "plotting",
    "vectors",
    "word2vec",
]

_HOMES = {
    "Callback": "callbacks",
    "Cooccurrences": "glove",
    "Corpus": "corpus",
    "GloVe": "glove",
    "Interrupted": "word2vec",
    "Progress": "callbacks",
    "TensorBoard": "callbacks",
    "Vocabulary": "corpus",
    "Word2Vec": "word2vec",
    "WordVectors": "vectors",
    "plot": "plotting",
}


# At first use: `python -m seqfast.embeddings.word2vec` must find its module not yet imported.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(f"seqfast.embeddings.{_HOMES[name]}"), name)
        if name in __all__:
            return importlib.import_module(f"seqfast.embeddings.{name}")
        raise AttributeError(f"module 'seqfast.embeddings' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

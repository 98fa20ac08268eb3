"""Word2Vec: `model` is its face; `python -m seqfast.embeddings.word2vec` its command line."""

from seqfast.embeddings.base.model import Interrupted
from seqfast.embeddings.word2vec.model import Word2Vec

__all__ = ["Interrupted", "Word2Vec"]

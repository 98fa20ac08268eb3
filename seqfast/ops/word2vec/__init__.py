"""Training of word vectors."""

from seqfast.ops.word2vec.functions import (
    alias_table,
    first_vectors,
    huffman_paths,
    keep_thresholds,
    rounds_of,
    train,
)
from seqfast.ops.word2vec.training import Training

__all__ = [
    "Training",
    "alias_table",
    "first_vectors",
    "huffman_paths",
    "keep_thresholds",
    "rounds_of",
    "train",
]

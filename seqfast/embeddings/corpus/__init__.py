"""Corpora of word vectors: where words come from, which make the vocabulary, and their ids."""

from seqfast.embeddings.corpus.reading import count, encode, read
from seqfast.embeddings.corpus.selection import RULE_DEFAULT, RULE_DISCARD, RULE_KEEP
from seqfast.embeddings.corpus.text import Decoding
from seqfast.embeddings.corpus.vocabulary import Corpus, Vocabulary

__all__ = [
    "RULE_DEFAULT",
    "RULE_DISCARD",
    "RULE_KEEP",
    "Corpus",
    "Decoding",
    "Vocabulary",
    "count",
    "encode",
    "read",
]

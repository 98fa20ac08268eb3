"""NumPy twins of the operations in `seqfast.ops`: slow, and reading like docs/equations.md."""

from seqfast.reference import corpus, ctc, dropout, glove, random, rnn, top_k, word2vec

__all__ = ["corpus", "ctc", "dropout", "glove", "random", "rnn", "top_k", "word2vec"]

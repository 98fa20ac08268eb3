"""NumPy twins of the operations in `seqfast.ops`: slow, and reading like docs/equations.md."""

from seqfast.reference import corpus, ctc, ctc_decoder, dropout, glove, random, rnn, top_k, word2vec

__all__ = ["corpus", "ctc", "ctc_decoder", "dropout", "glove", "random", "rnn", "top_k", "word2vec"]

"""The checked border to the native kernels: shapes, dtypes and allocation, for NumPy and torch."""

from seqfast.ops import corpus, ctc, ctc_decoder, dropout, glove, random, rnn, top_k, word2vec

__all__ = ["corpus", "ctc", "ctc_decoder", "dropout", "glove", "random", "rnn", "top_k", "word2vec"]

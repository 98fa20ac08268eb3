"""The checked border to the native kernels: shapes, dtypes and allocation, for NumPy and torch."""

from seqfast.ops import random, rnn

__all__ = ["random", "rnn"]

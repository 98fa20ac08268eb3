"""The checked border to the native kernels: shapes, dtypes and allocation, for NumPy and torch."""

from seqfast.ops import rnn

__all__ = ["rnn"]

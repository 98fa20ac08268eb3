"""NumPy twins of the operations in `seqfast.ops`: slow, and reading like docs/equations.md."""

from seqfast.reference import rnn

__all__ = ["rnn"]

"""NumPy twins of the operations in `seqfast.ops`: slow, and reading like docs/equations.md."""

from seqfast.reference import random, rnn

__all__ = ["random", "rnn"]

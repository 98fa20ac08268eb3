"""`seqfast.ops.dropout` under the name it had at first."""

from seqfast.ops.dropout import dropout

__all__ = ["dropout"]

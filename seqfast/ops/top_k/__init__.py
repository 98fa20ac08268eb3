"""The k largest of each row."""

from seqfast.ops.top_k.functions import top_k

__all__ = ["top_k"]

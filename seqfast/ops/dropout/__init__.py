"""Dropout by counter."""

from seqfast.ops.dropout.functions import dropout

__all__ = ["dropout"]

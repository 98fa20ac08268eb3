"""`seqfast.reference.dropout` under the name it had at first."""

from seqfast.reference.dropout import Draw, dropout, events, philox, stream_of

__all__ = ["Draw", "dropout", "events", "philox", "stream_of"]

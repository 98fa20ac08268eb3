"""Recurrent layers over whole sequences, forward and backward, in one or both directions."""

from seqfast.ops.rnn.functions import (
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
)
from seqfast.ops.rnn.layer import Weights
from seqfast.ops.rnn.options import Options

__all__ = [
    "Options",
    "Weights",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]

"""Torch modules on seqfast's kernels: drop-in recurrent layers, and regularisers for them."""

from seqfast.nn.accelerate import accelerate
from seqfast.nn.cells import GRUCell, LSTMCell, RNNCell
from seqfast.nn.regularisers import EmbeddingDropout, LockedDropout, activation_regularization
from seqfast.nn.rnn import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "EmbeddingDropout",
    "GRUCell",
    "LSTMCell",
    "LockedDropout",
    "RNNCell",
    "accelerate",
    "activation_regularization",
]

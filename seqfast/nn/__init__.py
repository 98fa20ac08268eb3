"""Torch modules on seqfast's kernels: drop-in recurrent layers, regularisers, attention."""

from seqfast.nn.accelerate import accelerate
from seqfast.nn.attention import Attention
from seqfast.nn.attention_decoder import AttentionDecoder
from seqfast.nn.cells import GRUCell, LSTMCell, RNNCell
from seqfast.nn.regularisers import EmbeddingDropout, LockedDropout, activation_regularization
from seqfast.nn.rnn import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "AttentionDecoder",
    "EmbeddingDropout",
    "GRUCell",
    "LSTMCell",
    "LockedDropout",
    "RNNCell",
    "accelerate",
    "activation_regularization",
]

"""Torch modules on seqfast's kernels: drop-in recurrent layers, regularisers, attention."""

from seqfast.nn._dynamo import let_compile_trace_layers
from seqfast.nn.accelerate import accelerate
from seqfast.nn.attention import Attention
from seqfast.nn.attention_decoder import AttentionDecoder
from seqfast.nn.gru import GRU, GRUCell
from seqfast.nn.lstm import LSTM, LSTMCell
from seqfast.nn.regularisers import EmbeddingDropout, LockedDropout, activation_regularization
from seqfast.nn.rnn import RNN, RNNCell

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

let_compile_trace_layers()

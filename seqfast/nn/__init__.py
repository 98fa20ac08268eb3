"""Torch modules on seqfast's kernels: drop-in recurrent layers."""

from seqfast.nn.accelerate import accelerate
from seqfast.nn.rnn import LSTM, LSTMCell

__all__ = ["LSTM", "LSTMCell", "accelerate"]

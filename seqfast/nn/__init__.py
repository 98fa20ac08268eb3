"""Torch modules on seqfast's kernels: drop-in recurrent layers, regularisers, attention."""

from typing import TYPE_CHECKING, Any

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    message = "seqfast.nn needs torch: pip install seqfast[torch]"
    raise ModuleNotFoundError(message, name="torch") from error

from seqfast.nn._accelerate import Report, accelerate, restore
from seqfast.nn._dynamo import let_compile_trace_layers
from seqfast.nn._stream import Stream
from seqfast.nn._torch_tools import teach_torchs_tools
from seqfast.nn.attention import Attention
from seqfast.nn.attention_decoder import AttentionDecoder
from seqfast.nn.crf import CRF
from seqfast.nn.gru import GRU, GRUCell
from seqfast.nn.lstm import LSTM, LSTMCell
from seqfast.nn.quantized import (
    QuantizedGRU,
    QuantizedGRUCell,
    QuantizedLSTM,
    QuantizedLSTMCell,
    QuantizedRNN,
    QuantizedRNNCell,
    quantize,
)
from seqfast.nn.regularisers import (
    DropConnectLinear,
    EmbeddingDropout,
    LockedDropout,
    activation_regularization,
)
from seqfast.nn.rnn import RNN, RNNCell
from seqfast.ops.rnn.flops import count_layers

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "AttentionDecoder",
    "DropConnectLinear",
    "EmbeddingDropout",
    "GRUCell",
    "LSTMCell",
    "LockedDropout",
    "QuantizedGRU",
    "QuantizedGRUCell",
    "QuantizedLSTM",
    "QuantizedLSTMCell",
    "QuantizedRNN",
    "QuantizedRNNCell",
    "RNNCell",
    "Report",
    "Stream",
    "accelerate",
    "activation_regularization",
    "quantize",
    "restore",
]

let_compile_trace_layers()
teach_torchs_tools()
count_layers()

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Says what this module is to who has taken it for torch.nn."""
        missing = f"module 'seqfast.nn' has no attribute {name!r}"
        if not name.startswith("_") and hasattr(torch.nn, name):
            missing += (
                f": it has recurrent layers and their companions ({', '.join(__all__)}) to be "
                f"used beside torch.nn, and does not take its place. Use torch.nn.{name}"
            )
        raise AttributeError(missing)

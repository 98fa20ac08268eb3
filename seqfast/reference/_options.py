"""What a recurrent layer does beyond its sizes: the twin of `seqfast.ops.rnn.options`."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Variants and regularisers of a recurrent layer; equations in docs/equations.md.

    Arguments and results are those of
    `seqfast.ops.rnn.options.Options`.

    Example:
        >>> from seqfast.reference.rnn import Options
        >>> Options(zoneout=(0.1, 0.0)).forget_gate
        True
    """

    gate_clip: float = 0.0
    """lstm: pre-activations are clamped to [-gate_clip, gate_clip]; 0 for none (ONNX's clip)."""
    cell_clip: float = 0.0
    """lstm: the cell state is clamped to [-cell_clip, cell_clip]; 0 for none (Sak et al. 2014)."""
    coupled_gates: bool = False
    """lstm: f = 1 - i, gates in the order i g o (Greff et al. 2017; ONNX's input_forget)."""
    forget_gate: bool = True
    """lstm: False for f = 1, gates in the order i g o (Hochreiter & Schmidhuber 1997)."""
    reset_after: bool = True
    """gru: the reset gate comes after the recurrent product (torch, cuDNN) or before (Cho 2014)."""
    reset_gate: bool = True
    """gru: False for an update gate alone, gates in the order z n."""
    nonlinearity: str = "tanh"
    """rnn: "tanh" or "relu"."""
    output_nonlinearity: str = "identity"
    """rnn with a projection (Jordan 1986): "identity", "tanh", "relu" or "sigmoid"."""
    zoneout: tuple[float, float] = (0.0, 0.0)
    """Probabilities that a unit of the hidden and of the cell state stands still (Krueger 2017)."""
    recurrent_dropout: float = 0.0
    """Probability of dropout inside the recurrence, in training alone."""
    recurrent_dropout_on: str = "hidden"
    """"hidden" (Gal & Ghahramani 2016), "update" (Semeniuta et al. 2016), "cell" (Moon 2015)."""
    layer: int = 0
    """The layer's number in its stack, by which its random numbers differ from other layers'."""
    output_activation: str = "tanh"
    """lstm: what the output gate lets through of the cell state: its "tanh", or "identity"."""
    peephole_on: str = "current"
    """lstm with peepholes: whether the output gate sees the "current" or the "previous" c."""


PLAIN = Options()

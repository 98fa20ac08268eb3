"""What a recurrent layer does beyond its sizes and weights."""

from __future__ import annotations

from typing import NamedTuple

from seqfast.ops.base.arguments import Address


class Options(NamedTuple):
    """Variants and regularisers of a recurrent layer; equations in docs/equations.md.

    Attributes:
        gate_clip: of an LSTM, the limit of every gate's pre-activation. 0: none.
        cell_clip: of an LSTM, the limit of c[t]. 0: none.
        coupled_gates: of an LSTM, forget gate = 1 - input gate.
        forget_gate: of an LSTM, whether there is one.
        reset_after: of a GRU, whether the reset gate acts after the recurrent product.
        reset_gate: of a GRU, whether there is one.
        nonlinearity: of an RNN, "tanh" or "relu".
        output_nonlinearity: of a projection's result: "identity", "tanh", "relu" or "sigmoid".
        zoneout: probabilities for the hidden and for the cell state.
        recurrent_dropout: probability.
        recurrent_dropout_on: "hidden" (one mask a sequence on h[t-1]), "update" (one each step on
            the candidate) or, of an LSTM, "cell" (one a sequence on c[t], without scale; in
            evaluation c[t] times 1 - p).
        layer: the layer's number in its stack; masks of different layers differ.
        output_activation: of an LSTM, what is done to c[t] in the output: "tanh" or "identity".
        peephole_on: of an LSTM with peepholes, which cell state the output gate sees: the "current"
            or the "previous" one.

    Example:
        >>> from seqfast.ops.rnn import Options
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

ACTIVATIONS = ("identity", "tanh", "relu", "sigmoid")  # in the order of csrc/core/rnn.h

# Options that only one operation has.
OWNERS = {
    "gate_clip": "lstm",
    "cell_clip": "lstm",
    "coupled_gates": "lstm",
    "forget_gate": "lstm",
    "reset_after": "gru",
    "reset_gate": "gru",
    "nonlinearity": "rnn",
    "output_nonlinearity": "rnn",
    "output_activation": "lstm",
    "peephole_on": "lstm",
}
FLAGS = ("coupled_gates", "forget_gate", "reset_after", "reset_gate")
CLIPS = ("gate_clip", "cell_clip")
CHOICES = {
    "nonlinearity": ("tanh", "relu"),
    "output_nonlinearity": ACTIVATIONS,
    "recurrent_dropout_on": ("hidden", "update", "cell"),
    "output_activation": ("tanh", "identity"),
    "peephole_on": ("current", "previous"),
}


class RnnOptions(NamedTuple):
    """Options as the kernels are told of them: csrc/core/rnn.h."""

    cell: int
    coupled: bool
    activation: int
    output_activation: int
    layer_norm: bool
    gate_clip: float
    cell_clip: float
    zoneout_hidden: float
    zoneout_cell: float
    dropout_hidden: float
    dropout_update: float
    seed: Address
    layer: int
    cell_activation: int = ACTIVATIONS.index("tanh")
    peephole_previous: bool = False
    dropout_cell: float = 0.0

    @classmethod
    def of(cls, kind: int, options: Options, layer_norm: bool) -> RnnOptions:
        """Of a cell and its checked options; in evaluation, without a seed."""
        zoneout_hidden, zoneout_cell = options.zoneout
        dropout = float(options.recurrent_dropout)
        on = options.recurrent_dropout_on
        return cls(
            cell=kind,
            coupled=options.coupled_gates,
            activation=ACTIVATIONS.index(options.nonlinearity),
            output_activation=ACTIVATIONS.index(options.output_nonlinearity),
            layer_norm=layer_norm,
            gate_clip=float(options.gate_clip),
            cell_clip=float(options.cell_clip),
            zoneout_hidden=float(zoneout_hidden),
            zoneout_cell=float(zoneout_cell),
            dropout_hidden=dropout if on == "hidden" else 0.0,
            dropout_update=dropout if on == "update" else 0.0,
            seed=0,
            layer=options.layer,
            cell_activation=ACTIVATIONS.index(options.output_activation),
            peephole_previous=options.peephole_on == "previous",
            dropout_cell=dropout if on == "cell" else 0.0,
        )

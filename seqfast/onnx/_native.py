"""A recurrent layer as ONNX's own node: LSTM, GRU or RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from seqfast.onnx._graph import INT32, Recorder, Term, joined
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.options import Options
from seqfast.ops.rnn.torch import ForwardCall


class Operator(NamedTuple):
    """How ONNX calls and orders what a cell has."""

    name: str
    gates: str  # its order of the blocks of rows


OPERATORS = {
    "lstm": Operator("LSTM", "iofg"),
    "gru": Operator("GRU", "zrn"),
    "rnn": Operator("RNN", "h"),
}
NAMES = frozenset(operator.name for operator in OPERATORS.values())
WEIGHT_INPUTS = {"W": 1, "R": 2, "B": 3, "P": 7}  # and which input of the node each is
LAYER = "seqfast.layer"  # metadata of a node: its number in the stack
PEEPHOLES = "iof"  # its order of their blocks
NONLINEARITIES = {"tanh": "Tanh", "relu": "Relu"}


def gates_of(cell: str, options: Options) -> str:
    """Our order of the blocks of rows of weights and biases; that of peepholes is i f o."""
    if cell == "lstm":
        return "igo" if options.coupled_gates or not options.forget_gate else "ifgo"
    if cell == "gru":
        return "rzn" if options.reset_gate else "zn"
    return "h"


def native(graph: Recorder, call: ForwardCall, rows: tuple[RnnWeights, ...]) -> list[Term]:
    """The node with what is around it: output, hidden_n and, of an LSTM, cell_n.

    Tensors of the call are terms of that graph.
    """
    cell, options = call.cell, call.options
    input, hidden, cell_state, lengths, *_ = cast(Sequence[Any], call.inputs)
    size: int = rows[0].weight_hh.size(1)
    start = len(graph.nodes)
    given = [_packed(cell, row, options, size) for row in rows]
    weights, recurrent, biases, peepholes = (_stacked(each) for each in zip(*given, strict=True))
    graph.mark(start)
    if lengths is not None:
        lengths = lengths.cast(INT32)
    inputs = [input, weights, recurrent, biases, lengths, hidden]
    attributes: dict[str, Any] = {"hidden_size": size}
    if len(rows) == 2:
        attributes["direction"] = "bidirectional"
    if cell == "lstm":
        inputs += [cell_state, peepholes]
        if options.gate_clip > 0:
            attributes["clip"] = float(options.gate_clip)
        if options.coupled_gates:
            attributes["input_forget"] = 1
    elif cell == "gru":
        attributes["linear_before_reset"] = int(options.reset_after)
    elif options.nonlinearity != "tanh":
        attributes["activations"] = [NONLINEARITIES[options.nonlinearity]] * len(rows)
    states = [state for state in (hidden, cell_state) if state is not None]
    output, *last = graph.apply(
        OPERATORS[cell].name, inputs, 3 if cell == "lstm" else 2, **attributes
    )
    graph.nodes[-1].metadata_props[LAYER] = str(options.layer)
    if lengths is not None and states:
        # ONNX Runtime gives zeros for a row without steps.
        ran = lengths.apply("Greater", graph.constant(0, INT32)).unsqueezed(1)
        last = [after.where(ran, before) for after, before in zip(last, states, strict=True)]
    if len(rows) == 1:
        return [output.squeezed(1), *last]
    shape = output.integers(0, 0, len(rows) * size)  # 0: as it is
    return [output.transposed(0, 2, 1, 3).apply("Reshape", shape), *last]


def fixed(weight: Term) -> tuple[int, ...]:
    """The shape of a weight, which is known."""
    return tuple([size for size in weight.shape if size is not None])


def _stacked(directions: Sequence[Term | None]) -> Term | None:
    """Of all directions, where there is one of each."""
    there = [each for each in directions if each is not None]
    return joined(there, 0) if there else None


def _packed(
    cell: str, row: RnnWeights, options: Options, size: int
) -> tuple[Term, Term, Term | None, Term | None]:
    """W, R, B and P of one direction."""
    ours, theirs = gates_of(cell, options), OPERATORS[cell].gates

    def reordered(weight: Term) -> Term:
        missing = len(theirs) - len(ours)
        if missing:
            weight = joined([weight, weight.zeros(missing * size, *fixed(weight)[1:])], 0)
        # A gate that ours lack is the block of zeros behind them: find says -1.
        places = [ours.find(gate) % len(theirs) for gate in theirs]
        rows = [place * size + k for place in places for k in range(size)]
        return weight.apply("Gather", weight.integers(*rows), axis=0)

    bias = None
    if row.bias_ih is not None or row.bias_hh is not None:
        like = row.bias_hh if row.bias_ih is None else row.bias_ih
        both = [like.zeros(*fixed(like)) if b is None else b for b in (row.bias_ih, row.bias_hh)]
        bias = joined([reordered(each) for each in both], 0).unsqueezed(0)
    peephole = None
    if row.weight_peephole is not None:
        order = row.weight_peephole.integers(*["ifo".index(gate) for gate in PEEPHOLES])
        gathered = row.weight_peephole.apply("Gather", order, axis=0)
        peephole = gathered.apply("Reshape", gathered.integers(1, 3 * size))
    return (
        reordered(row.weight_ih).unsqueezed(0),
        reordered(row.weight_hh).unsqueezed(0),
        bias,
        peephole,
    )

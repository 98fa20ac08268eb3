"""A recurrent layer by ordinary ONNX operators: one Scan for each direction, a step in its body."""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx_ir as ir

from seqfast.onnx._graph import BOOL, DOUBLE, FLOAT, INT64, Recorder, Term, joined
from seqfast.onnx._native import gates_of
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.options import Options
from seqfast.ops.rnn.torch import ForwardCall

_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "identity": "Identity"}
_EPSILON = 1e-5


class Walked(NamedTuple):
    """What comes of one direction, or of all; cells None where nobody asks for them."""

    output: Term | None
    hidden_n: Term | None
    cell_n: Term | None
    cells: Term | None


class Sequences(NamedTuple):
    """What a step sees of its own time, before all steps [steps, batch, ...]."""

    product: Term  # of the input and weight_ih, with bias_ih
    on: Term | None  # bool [..., 1]: within the row's length
    again: Term | None  # bool [..., 1]: the states are zero before this step


class States(NamedTuple):
    """[batch, features] in the accumulating dtype; `cell` of an LSTM alone."""

    hidden: Term
    cell: Term | None


def needs_steps(call: ForwardCall) -> bool:
    """Whether the layer does something that ONNX's own operator cannot do."""
    options, weights = call.options, call.weights
    return (
        call.inputs.reset is not None
        or weights.weight_ih is None
        or weights.weight_hr is not None
        or weights.weight_norm_hh is not None
        or options.cell_clip > 0
        or any(options.zoneout)
        or options.output_activation != "tanh"
        or options.peephole_on != "current"
        or (options.recurrent_dropout_on == "cell" and options.recurrent_dropout > 0)
        or not options.forget_gate
        or not options.reset_gate
    )


def by_steps(
    graph: Recorder, call: ForwardCall, rows: tuple[RnnWeights, ...], cells: bool
) -> Walked:
    """The layer; tensors of the call are terms of that graph. `cells`: every c[t] too.

    The equations are those of `seqfast.ops.rnn.torch_plain`, in float64 for float64, else in
    float32.
    """
    walked = [_Direction(graph, call, row, d).walk(cells) for d, row in enumerate(rows)]

    def all_of(name: str, axis: int, new: bool) -> Any:
        terms = [getattr(each, name) for each in walked]
        if terms[0] is None:
            return None
        return joined([term.unsqueezed(0) for term in terms] if new else terms, axis)

    return Walked(
        all_of("output", -1, False),
        all_of("hidden_n", 0, True),
        all_of("cell_n", 0, True),
        all_of("cells", -1, False),
    )


class _Direction:
    """One direction of a layer: its weights, ready for a step, and its walk."""

    def __init__(self, graph: Recorder, call: ForwardCall, row: RnnWeights, direction: int) -> None:
        self.graph, self.call, self.direction = graph, call, direction
        self.options: Options = call.options
        input: Any = call.inputs.input
        self.given_dtype: ir.DataType = input.value.dtype
        self.dtype = DOUBLE if self.given_dtype == DOUBLE else FLOAT
        self.gates = gates_of(call.cell, call.options)
        self.rows, self.output_size = row.weight_hh.shape
        self.hidden_size = self.rows // len(self.gates)
        start = len(graph.nodes)
        weights = RnnWeights._make([None if w is None else w.cast(self.dtype) for w in row])
        self.bias_hh = weights.bias_hh
        # The candidate of a GRU whose reset gate comes first has a product of its own.
        self.split = call.cell == "gru" and not call.options.reset_after
        self.recurrent = weights.weight_hh.transposed(1, 0)
        if self.split:
            sizes = [2 * self.hidden_size, self.hidden_size]
            both = weights.weight_hh.cut(sizes, 0)
            self.recurrent, self.second = [each.transposed(1, 0) for each in both]
            self.biases = [None, None]
            if self.bias_hh is not None:
                self.biases = self.bias_hh.cut(sizes, 0)
        self.projection = None
        if weights.weight_hr is not None:
            self.projection = weights.weight_hr.transposed(1, 0)
        self.peepholes = None
        if weights.weight_peephole is not None:
            self.peepholes = weights.weight_peephole.cut([1, 1, 1], 0)
        self.norms: list[Term] = []
        if weights.weight_norm_hh is not None:
            self.norms = weights.weight_norm_hh.cut(self._norm_sizes(), 0)
        self.weights = weights
        of_input = None if weights.weight_ih is None else weights.weight_ih.transposed(1, 0)
        graph.mark(start)
        self.product = input.cast(self.dtype)
        if of_input is not None:
            self.product = self.product @ of_input
        else:
            self.product = self.product.sliced(
                direction * self.rows, (direction + 1) * self.rows, 2
            )
        if weights.bias_ih is not None:
            self.product = self.product + weights.bias_ih

    def _norm_sizes(self) -> list[int]:
        """Of the parts of the recurrent product that are normalised each by itself."""
        if self.call.cell == "gru" and len(self.gates) == 3:
            return [2 * self.hidden_size, self.hidden_size]
        return [self.rows]

    # The walk over the steps.

    def walk(self, cells: bool) -> Walked:
        input: Any = self.call.inputs.input
        steps = input.size(0)
        sequences, states = self._sequences(), self._initial_states()
        if steps != 1:
            return self._scan(sequences, states, cells)
        first = Sequences._make([None if s is None else s.squeezed(0) for s in sequences])
        after, output, cell = self._advance(self.graph, first, states)
        return Walked(
            output.unsqueezed(0),
            after.hidden.cast(self.given_dtype),
            None if after.cell is None else after.cell.cast(self.given_dtype),
            cell.unsqueezed(0) if cells and cell is not None else None,
        )

    def _sequences(self) -> Sequences:
        _, _, _, lengths, reset, _ = self.call.inputs
        on: Any = None
        again: Any = None
        if lengths is not None:
            given: Any = lengths
            count = self.product.apply("Shape", start=0, end=1).squeezed(0)
            zero, one = (self.graph.constant(number, INT64) for number in (0, 1))
            times = zero.apply("Range", count, one).unsqueezed(1)
            on = times.apply("Less", given.cast(INT64).unsqueezed(0)).unsqueezed(2)
        if reset is not None:
            given = reset
            again = given.cast(BOOL).unsqueezed(2)
        return Sequences(self.product, on, again)

    def _initial_states(self) -> States:
        _, hidden, cell_state, _, _, _ = self.call.inputs

        def state(given: Any, size: int) -> Any:
            if given is not None:
                return given.cast(self.dtype).sliced(*self._own, 0).squeezed(0)
            batch = self.product.apply("Shape", start=1, end=2)
            shape = joined([batch, batch.integers(size)], 0)
            zero = self.graph.constant(0, self.dtype)
            return zero.apply("Expand", shape)

        is_lstm = self.call.cell == "lstm"
        return States(
            state(hidden, self.output_size),
            state(cell_state, self.hidden_size) if is_lstm else None,
        )

    @property
    def _own(self) -> tuple[int, int]:
        return self.direction, self.direction + 1

    def _scan(self, sequences: Sequences, states: States, cells: bool) -> Walked:
        weight: Any = self.call.weights.weight_hh
        input: Any = self.call.inputs.input
        # Not the name of anything outside: a name means one value, in the body too.
        prefix = f"steps_{self.direction}_{input.value.name}_{weight.value.name}"
        body = Recorder()
        inputs: list[ir.Value] = []

        def entering(outside: Term | None, sizes: tuple[int | None, ...]) -> Any:
            if outside is None:
                return None
            dtype = BOOL if outside.value.dtype == BOOL else self.dtype
            inner = ir.Value(
                name=f"{prefix}_in{len(inputs)}",
                type=ir.TensorType(dtype),
                shape=ir.Shape(sizes),
            )
            inputs.append(inner)
            return body.term(inner)

        flags = (None, 1)
        h = entering(states.hidden, (None, self.output_size))
        c = entering(states.cell, (None, self.hidden_size))
        x = entering(sequences.product, (None, self.rows))
        on = entering(sequences.on, flags)
        again = entering(sequences.again, flags)
        after, output, cell = self._advance(body, Sequences(x, on, again), States(h, c))
        kept = [state for state in after if state is not None]
        found = [output] + ([cell] if cells and cell is not None else [])
        results = [each.apply("Identity") for each in (*kept, *found)]
        of_states = [state for state in states if state is not None]
        of_steps = [sequence for sequence in sequences if sequence is not None]
        number = 0
        for node in body.nodes:
            for value in node.outputs:
                value.name = f"{prefix}_{number}"
                number += 1
        way = self.direction
        made = self.graph.apply(
            "Scan",
            [*of_states, *of_steps],
            len(results),
            body=ir.Graph(inputs, [each.value for each in results], nodes=body.nodes, name=prefix),
            num_scan_inputs=len(of_steps),
            scan_input_directions=[way] * len(of_steps),
            scan_output_directions=[way] * len(found),
        )
        last = [term.cast(self.given_dtype) for term in made[: len(kept)]]
        output, *others = made[len(kept) :]
        output.value.dtype = self.given_dtype
        return Walked(output, last[0], next(iter(last[1:]), None), next(iter(others), None))

    def _advance(
        self, graph: Recorder, now: Sequences, states: States
    ) -> tuple[States, Term, Term | None]:
        """The states after a step; what it puts out, in the layer's dtype; its cell state."""
        h, c = states
        if now.again is not None:
            zero = graph.constant(0, self.dtype)
            h = zero.where(now.again, h)
            c = None if c is None else zero.where(now.again, c)
        step = _Step(self, graph)
        h_next, c_next = step.step(now.product, h, c)
        output, cell = h_next, c_next
        if now.on is not None:
            zero = graph.constant(0, self.dtype)
            output = h_next.where(now.on, zero)
            h_next = h_next.where(now.on, states.hidden)
            if c_next is not None and states.cell is not None:
                cell = c_next.where(now.on, zero)
                c_next = c_next.where(now.on, states.cell)
        return States(h_next, c_next), output.cast(self.given_dtype), cell


class _Step:
    """The equations of one step, recorded in that graph."""

    def __init__(self, direction: _Direction, graph: Recorder) -> None:
        self.of, self.graph, self.options = direction, graph, direction.options

    def here(self, term: Term) -> Term:
        """A value of the graph around this one."""
        return self.graph.term(term.value)

    def number(self, value: float) -> Term:
        return self.graph.constant(value, self.of.dtype)

    def step(self, x: Term, h: Term, c: Term | None) -> tuple[Term, Term | None]:
        options, of = self.options, self.of
        c_next = c
        if c is not None:
            h_next, c_next = self.lstm(x, h, c)
        elif of.call.cell == "gru":
            h_next = self.gru(x, h)
        else:
            h_next = (x + self.product(h)).apply(_ACTIVATIONS[options.nonlinearity])
        if of.projection is not None:
            h_next = h_next @ self.here(of.projection)
            if of.weights.bias_hr is not None:
                h_next = h_next + self.here(of.weights.bias_hr)
            h_next = h_next.apply(_ACTIVATIONS[options.output_nonlinearity])
        zoneout_hidden, _ = options.zoneout
        if zoneout_hidden > 0:
            h_next = h_next + self.number(zoneout_hidden) * (h - h_next)
        return self.rounded(h_next), c_next

    def lstm(self, x: Term, h: Term, c: Term) -> tuple[Term, Term]:
        options, of = self.options, self.of
        gates = self.gates(x + self.product(h))
        i, g, o, f = gates["i"], gates["g"], gates["o"], gates.get("f")
        seen_by = {}
        if of.peepholes is not None:
            seen_by = dict(zip("ifo", map(self.here, of.peepholes), strict=True))
            i = i + seen_by["i"] * c
            f = None if f is None else f + seen_by["f"] * c
            if options.peephole_on == "previous":
                o = o + seen_by["o"] * c
        i, g = self.clipped(i).apply("Sigmoid"), self.clipped(g).apply("Tanh")
        kept = c
        if f is not None:
            kept = self.clipped(f).apply("Sigmoid") * c
        elif options.coupled_gates:
            kept = (self.number(1) - i) * c
        new = kept + i * g
        if options.recurrent_dropout_on == "cell" and options.recurrent_dropout > 0:
            new = self.number(1 - options.recurrent_dropout) * new
        if options.cell_clip > 0:
            new = self.clamped(new, options.cell_clip)
        if seen_by and options.peephole_on == "current":
            o = o + seen_by["o"] * new
        o = self.clipped(o).apply("Sigmoid")
        seen = new
        if of.weights.weight_norm_cell is not None:
            scale, shift = of.weights.weight_norm_cell, of.weights.bias_norm_cell
            seen = self.norm(new, self.here(scale), self.here(shift))
        _, zoneout_cell = options.zoneout
        if zoneout_cell > 0:
            new = new + self.number(zoneout_cell) * (c - new)
        return o * seen.apply(_ACTIVATIONS[options.output_activation]), new

    def gru(self, x: Term, h: Term) -> Term:
        of, size = self.of, self.of.hidden_size
        if len(of.gates) == 2:
            gates = self.gates(x + self.product(h))
            z, n = gates["z"].apply("Sigmoid"), gates["n"]
        elif of.split:
            before, candidate = x.blocks([2 * size, size], -1)
            of_gates, of_candidate = of.biases
            product = self.plus(h @ self.here(of.recurrent), of_gates)
            r, z = (before + product).apply("Sigmoid").blocks([size, size], -1)
            again = self.rounded(r * h) @ self.here(of.second)
            n = self.plus(candidate + again, of_candidate)
        else:
            of_input, of_hidden = self.gates(x), self.gates(self.product(h))
            r, z = ((of_input[gate] + of_hidden[gate]).apply("Sigmoid") for gate in "rz")
            n = of_input["n"] + r * of_hidden["n"]
        return (self.number(1) - z) * n.apply("Tanh") + z * h

    def gates(self, values: Term) -> dict[str, Term]:
        of = self.of
        blocks = values.blocks([of.hidden_size] * len(of.gates), -1)
        return dict(zip(of.gates, blocks, strict=True))

    def product(self, h: Term) -> Term:
        """The recurrent share of the pre-activations."""
        of = self.of
        found = h @ self.here(of.recurrent)
        if of.norms:
            parts = zip(found.blocks(of._norm_sizes(), -1), of.norms, strict=True)
            found = joined([self.norm(part, self.here(scale)) for part, scale in parts], -1)
        return self.plus(found, of.bias_hh)

    def plus(self, value: Term, bias: Term | None) -> Term:
        return value if bias is None else value + self.here(bias)

    def norm(self, value: Term, scale: Term, shift: Term | None = None) -> Term:
        return value.apply("LayerNormalization", scale, shift, axis=-1, epsilon=_EPSILON)

    def clipped(self, value: Term) -> Term:
        clip = self.options.gate_clip
        return self.clamped(value, clip) if clip > 0 else value

    def clamped(self, value: Term, bound: float) -> Term:
        return value.apply("Clip", self.number(-bound), self.number(bound))

    def rounded(self, value: Term) -> Term:
        """To the layer's dtype and back, as the kernels keep it."""
        return value.cast(self.of.given_dtype).cast(self.of.dtype)

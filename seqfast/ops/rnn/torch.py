"""Recurrent layers as torch operators: schema, kernel, fake kernel and autograd for each.

The named tuples below describe the operators; schemas, kernels and gradients are made from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from seqfast.ops.base.torch_dispatch import can_skip_dispatcher, is_batched, needs_plain_torch
from seqfast.ops.base.torch_schema import flat, grouped, schema_of
from seqfast.ops.rnn import dispatch, torch_plain
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.cells import Traits, traits_of
from seqfast.ops.rnn.layer import (
    STATISTICS,
    Kept,
    Layer,
    Needs,
    ResultGradients,
    Results,
    check_layer,
    check_ranks,
)
from seqfast.ops.rnn.options import PLAIN, Options

Row = Sequence[Tensor | None]  # one direction's weights
Rows = tuple[RnnWeights, ...]  # of each direction


class Inputs(NamedTuple):
    """The tensors of a layer but for its weights; the first three can have a gradient."""

    input: Tensor
    hidden: Tensor | None
    cell_state: Tensor | None
    lengths: Tensor | None
    reset: Tensor | None
    seed: Tensor | None


class ForwardCall(NamedTuple):
    """The operator rnn_forward.

    `cell`: lstm, gru or rnn. With one direction weights_reverse holds None alone. Of the results,
    `Results`, those that the cell does not have come back empty; so do cells, gates and statistics
    without `save`, and then there is no backward.
    """

    cell: str
    inputs: Inputs
    weights: RnnWeights
    weights_reverse: RnnWeights
    options: Options
    save: bool


class BackwardCall(NamedTuple):
    """The operator rnn_backward."""

    cell: str
    grads: ResultGradients
    inputs: Inputs
    weights: RnnWeights
    weights_reverse: RnnWeights
    kept: Kept
    options: Options
    needs: Needs


class BackwardResults(NamedTuple):
    """What rnn_backward returns: empty where it is not needed or there is no such argument.

    Where both biases have one gradient, as all cells but the GRU that resets after the product have
    it, that of bias_hh is empty.
    """

    grad_input: Tensor
    grad_hidden: Tensor
    grad_cell: Tensor
    weights: RnnWeights
    weights_reverse: RnnWeights


_library = torch.library.Library("seqfast", "FRAGMENT")
for _name, _described, _results in (
    ("rnn_forward", ForwardCall, Results),
    ("rnn_backward", BackwardCall, BackwardResults),
):
    _library.define(schema_of(_name, _described, _results), tags=(torch.Tag.pt2_compliant_tag,))

_NO_WEIGHTS = RnnWeights._make([None] * len(RnnWeights._fields))
_NO_INPUTS = Inputs._make([None] * len(Inputs._fields))


class _Cell(NamedTuple):
    """The arguments of a call that are not tensors."""

    name: str
    options: Options

    @property
    def traits(self) -> Traits:
        return traits_of(self.name, self.options)

    @property
    def has_state(self) -> bool:
        return self.traits.has_cell_state

    @property
    def has_split_bias(self) -> bool:
        """Whether the two biases have gradients of their own."""
        return self.traits.has_split_candidate

    def checked(self, inputs: Inputs, rows: Rows) -> Layer:
        input, hidden, cell_state, lengths, reset, seed = inputs
        return check_layer(
            self.name, input, hidden, cell_state, rows, lengths, reset, seed, self.options
        )


def layer(
    cell: str,
    input: Tensor,
    hidden: Tensor | None,
    cell_state: Tensor | None,
    weights: Sequence[Row],
    lengths: Tensor | None,
    *,
    reset: Tensor | None = None,
    seed: Tensor | None = None,
    options: Options = PLAIN,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """`output, hidden_n, cell_n, cells` of a layer: by the operator, or straight by its kernel.

    `cell`: "lstm", "gru" or "rnn". Shapes, dtypes, errors: `seqfast.ops.rnn.lstm_forward` and its
    like; `weights` has five to ten per direction. cell_n and cells are None but for an LSTM.
    `save`: keep what the backward pass needs; without it `cells` is None.
    """
    rows = tuple([row if type(row) is RnnWeights else RnnWeights(*row) for row in weights])
    if needs_plain_torch():
        return torch_plain.layer(
            cell, input, hidden, cell_state, rows, lengths, reset, seed, options
        )
    every_weight = rows[0] if len(rows) == 1 else [weight for row in rows for weight in row]
    if can_skip_dispatcher(input, hidden, cell_state, lengths, reset, seed, *every_weight):
        if not save:
            checked = check_layer(
                cell, input, hidden, cell_state, rows, lengths, reset, seed, options
            )
            found = dispatch.forward(checked, False)
            return found.output, found.hidden_n, found.cell_n, found.cells
        eager = _EagerCall(
            _Cell(cell, options), Inputs(input, hidden, cell_state, lengths, reset, seed), rows
        )
        results: tuple[Tensor, Tensor, Tensor | None, Tensor | None] = _apply_eager(
            eager, *eager.inputs, *every_weight
        )
        return results
    inputs = Inputs(input, hidden, cell_state, lengths, reset, seed)
    call = ForwardCall(cell, inputs, *_both_directions(rows), options, save)
    found = Results._make(torch.ops.seqfast.rnn_forward(*flat(call)))
    # The operator keeps its output, and the caller may write to it; compilers take the copy out.
    output = found.output.clone() if save else found.output
    if cell != "lstm":
        return output, found.hidden_n, None, None
    return output, found.hidden_n, found.cell_n, found.cells if save else None


def is_tracing() -> bool:
    """Whether torch.jit.trace is under way."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _both_directions(rows: Rows) -> tuple[RnnWeights, RnnWeights]:
    forward, *reverse = rows
    return forward, next(iter(reverse), _NO_WEIGHTS)


def _directions_of(call: ForwardCall | BackwardCall) -> Rows:
    """The weights of the directions that there are."""
    if all(weight is None for weight in call.weights_reverse):
        return (call.weights,)
    return call.weights, call.weights_reverse


def _rows_of(weights: Sequence[Any]) -> Rows:
    """A flat sequence, as long as all weights of one or two directions, by direction."""
    count = len(RnnWeights._fields)
    starts = range(0, len(weights), count)
    return tuple([RnnWeights._make(weights[start : start + count]) for start in starts])


def _cell_of(call: ForwardCall | BackwardCall) -> _Cell:
    # A list is what the dispatcher makes of a tuple.
    zoneout_hidden, zoneout_cell = call.options.zoneout
    return _Cell(call.cell, call.options._replace(zoneout=(zoneout_hidden, zoneout_cell)))


def _accumulate_dtype(input: Tensor) -> torch.dtype:
    return torch.float64 if input.dtype == torch.float64 else torch.float32


# The forward operator.


@torch.library.impl(_library, "rnn_forward", "CPU")
@torch.library.impl(_library, "rnn_forward", "CUDA")
def _forward_kernel(*arguments: Any) -> tuple[Tensor, ...]:
    call = grouped(ForwardCall, arguments)
    checked = _cell_of(call).checked(call.inputs, _directions_of(call))
    results = dispatch.forward(checked, call.save)
    # An operator must put out tensors: empty ones for what there is not.
    dtypes = _result_dtypes(call.inputs.input)
    return tuple(
        call.inputs.input.new_empty(0, dtype=dtype) if result is None else result
        for result, dtype in zip(results, dtypes, strict=True)
    )


def _result_dtypes(input: Tensor) -> Results:
    accumulator = _accumulate_dtype(input)
    of_input = Results._make([input.dtype] * len(Results._fields))
    return of_input._replace(cells=accumulator, statistics=accumulator)


@torch.library.register_fake("seqfast::rnn_forward", lib=_library)
def _forward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    call = grouped(ForwardCall, arguments)
    cell, rows = _cell_of(call), _directions_of(call)
    input, weight_hh = call.inputs.input, call.weights.weight_hh
    if weight_hh is None:
        raise TypeError(f"{cell.name}: weight_hh must be a torch tensor, got NoneType")
    hidden_size, output_size = check_ranks(cell.name, cell.traits.gates, input, rows)
    steps, batch, _ = input.shape
    layer_norm = call.weights.weight_norm_hh is not None
    saved = cell.traits.saved_with(layer_norm)

    def sequence(features: int, there: bool) -> tuple[int, ...]:
        return (steps, batch, len(rows) * features) if there else (0,)

    shapes = Results(
        output=sequence(output_size, True),
        hidden_n=(len(rows), batch, output_size),
        cell_n=(len(rows), batch, hidden_size) if cell.has_state else (0,),
        cells=sequence(hidden_size, call.save and cell.has_state),
        gates=sequence(saved * hidden_size, call.save),
        statistics=sequence(STATISTICS, call.save and layer_norm),
    )
    return tuple(
        input.new_empty(shape, dtype=dtype)
        for shape, dtype in zip(shapes, _result_dtypes(input), strict=True)
    )


def _forward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call, results = grouped(ForwardCall, inputs), Results._make(output)
    ctx.save, ctx.cell = call.save, _cell_of(call)
    every_weight = [weight for row in _directions_of(call) for weight in row]
    ctx.save_for_backward(*call.inputs, *Kept.of(results), *every_weight)
    ctx.set_materialize_grads(False)
    without_gradient = [results.gates, results.statistics]
    if not (call.save and ctx.cell.has_state):
        without_gradient.append(results.cells)
    if not ctx.cell.has_state:
        without_gradient.append(results.cell_n)
    ctx.mark_non_differentiable(*without_gradient)


def _forward_gradients(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    if not ctx.save:
        raise RuntimeError(
            f"{ctx.cell.name}: backward needs what the forward pass kept, but it ran with "
            "save=False"
        )
    of_results = Results._make(grads)
    upstream = ResultGradients(
        of_results.output, of_results.hidden_n, of_results.cell_n, of_results.cells
    )
    needs = grouped(ForwardCall, ctx.needs_input_grad)
    saved = _Saved.of(ctx.saved_tensors)
    need_rows = (needs.weights, needs.weights_reverse)[: len(saved.rows)]
    inputs, rows = _gradients(ctx.cell, saved, upstream, needs.inputs, need_rows, True)
    nothing = Options._make([None] * len(Options._fields))
    none = cast(Any, None)
    return flat(ForwardCall(none, inputs, *_both_directions(rows), nothing, none))


class _Saved(NamedTuple):
    """What the pass forward leaves for the pass backward."""

    inputs: Inputs
    kept: Kept
    rows: Rows

    @classmethod
    def of(cls, tensors: Sequence[Any]) -> _Saved:
        begin, end = len(Inputs._fields), len(Inputs._fields) + len(Kept._fields)
        inputs, kept = Inputs._make(tensors[:begin]), Kept._make(tensors[begin:end])
        return cls(inputs, kept, _rows_of(tensors[end:]))

    def made_again(self, cell: _Cell) -> _Saved:
        """With what was kept as it was before somebody wrote to the output."""
        results = dispatch.forward(cell.checked(self.inputs, self.rows), True)
        return self._replace(kept=Kept.of(results))


_NOTHING = torch.empty(0, device="cpu")


def _witness_of(tensor: Tensor) -> Tensor:
    """A tensor without elements whose version counts the writes to `tensor`: it keeps no memory."""
    witness = tensor.detach()
    witness.data = _NOTHING
    return witness


class _EagerCall(NamedTuple):
    """A call with its tensors by name; autograd sees them one by one as well."""

    cell: _Cell
    inputs: Inputs
    rows: Rows


class _EagerRnn(torch.autograd.Function):
    """The operator's forward and backward without the dispatcher, which costs as much as a short
    sequence; only where `can_skip_dispatcher`."""

    @staticmethod
    def forward(ctx: Any, call: _EagerCall, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        results = dispatch.forward(call.cell.checked(call.inputs, call.rows), True)
        ctx.cell = call.cell
        # The output is the caller's to write to: what is kept has no version, the witness has.
        kept = results.output.data, results.cells, results.gates, results.statistics
        ctx.witness = _witness_of(results.output)
        count = len(Inputs._fields)
        ctx.save_for_backward(*tensors[:count], *kept, *tensors[count:])
        ctx.set_materialize_grads(False)
        return results.output, results.hidden_n, results.cell_n, results.cells

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        _, *needs = ctx.needs_input_grad  # the first is the call's
        count = len(Inputs._fields)
        need_inputs, need_rows = Inputs._make(needs[:count]), _rows_of(needs[count:])
        saved = _Saved.of(ctx.saved_tensors)  # once: checkpointing unpacks them only once
        if ctx.witness._version:
            saved = saved.made_again(ctx.cell)
        # Only the operator can be differentiated again.
        inputs, rows = _gradients(
            ctx.cell,
            saved,
            ResultGradients._make(grads),
            need_inputs,
            need_rows,
            by_operator=torch.is_grad_enabled(),
        )
        return (None, *inputs, *[grad for row in rows for grad in row])


# Past Function.apply, which looks once more for transforms that `can_skip_dispatcher` rules out.
_apply_eager = cast(Any, super(torch.autograd.Function, _EagerRnn).apply)


def _gradients(
    cell: _Cell,
    saved: _Saved,
    grads: ResultGradients,
    need_inputs: Any,
    need_rows: Sequence[Any],
    by_operator: bool,
) -> tuple[Inputs, Rows]:
    """Of inputs and weights, None where not needed. `need_inputs`, `need_rows`: in their places,
    whether they are."""
    if is_batched(*grads):
        return _plain_gradients(cell, saved, grads, need_inputs, need_rows)
    need_states = need_inputs.hidden or need_inputs.cell_state
    need_weights = any(any(row) for row in need_rows)
    needs = Needs(need_inputs.input, need_states, need_weights)
    found_rows: Sequence[RnnWeights] | None
    if by_operator:
        call = BackwardCall(
            cell.name,
            grads,
            saved.inputs,
            *_both_directions(saved.rows),
            saved.kept,
            cell.options,
            needs,
        )
        results = grouped(BackwardResults, torch.ops.seqfast.rnn_backward(*flat(call)))
        of_inputs = results.grad_input, results.grad_hidden, results.grad_cell
        found_rows = [results.weights, results.weights_reverse] if need_weights else None
    else:
        layer = cell.checked(saved.inputs, saved.rows)
        found = dispatch.backward(layer, grads, saved.kept, needs)
        of_inputs = found.input, found.hidden, found.cell
        found_rows = found.weights
    grad_input, grad_hidden, grad_cell = of_inputs
    inputs = Inputs(
        cast(Tensor, grad_input if need_inputs.input else None),
        grad_hidden if need_inputs.hidden else None,
        grad_cell if need_inputs.cell_state else None,
        None,
        None,
        None,
    )
    if found_rows is None:
        return inputs, (_NO_WEIGHTS,) * len(saved.rows)
    rows = []
    for row, weights, need in zip(found_rows, saved.rows, need_rows, strict=False):
        if _shares_bias(cell, weights) and need.bias_hh:
            # A copy: gradients may be changed in place, and these are two parameters' own.
            row = row._replace(bias_hh=row.bias_ih.clone())
        asked = [grad if wanted else None for grad, wanted in zip(row, need, strict=True)]
        rows.append(RnnWeights._make(asked))
    return inputs, tuple(rows)


def _shares_bias(cell: _Cell, weights: RnnWeights) -> bool:
    """Whether the gradient of bias_ih is that of bias_hh as well."""
    both = weights.bias_ih is not None and weights.bias_hh is not None
    return both and not cell.has_split_bias


def _differentiable(inputs: Any, rows: Sequence[Any]) -> list[Any]:
    """What can have a gradient, or what else stands in its places."""
    weights = [weight for row in rows for weight in row]
    return [inputs.input, inputs.hidden, inputs.cell_state, *weights]


def _by_place(values: Sequence[Any]) -> tuple[Inputs, Rows]:
    """The way back from `_differentiable`."""
    input, hidden, cell_state, *weights = values
    inputs = _NO_INPUTS._replace(input=input, hidden=hidden, cell_state=cell_state)
    return inputs, _rows_of(weights)


def _plain_gradients(
    cell: _Cell,
    saved: _Saved,
    grads: ResultGradients,
    need_inputs: Any,
    need_rows: Sequence[Any],
) -> tuple[Inputs, Rows]:
    """`_gradients` of batched gradients (`is_grads_batched`), which no kernel can read."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch_plain.no_autocast(saved.inputs.input):
        inputs, rows, used = _replay(cell, saved.inputs, saved.rows, grads)
        needs = _differentiable(need_inputs, need_rows)
        leaves = _differentiable(inputs, rows)
        wanted = [x for x, need in zip(leaves, needs, strict=True) if need]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in used],
                wanted,
                [g for _, g in used],
                create_graph=create_graph,
                allow_unused=True,
            )
            if used and wanted
            else [None] * len(wanted)
        )
    return _by_place([next(found) if need else None for need in needs])


torch.library.register_autograd(
    "seqfast::rnn_forward", _forward_gradients, setup_context=_forward_context, lib=_library
)


# The backward operator.


@torch.library.impl(_library, "rnn_backward", "CPU")
@torch.library.impl(_library, "rnn_backward", "CUDA")
def _backward_kernel(*arguments: Any) -> tuple[Tensor, ...]:
    call = grouped(BackwardCall, arguments)
    cell, rows = _cell_of(call), _directions_of(call)
    checked = cell.checked(call.inputs, rows)
    found = dispatch.backward(checked, call.grads, call.kept, call.needs)
    given = found.weights or ()
    own_rows = [_own_gradients(cell, row, of) for row, of in zip(given, rows, strict=False)]
    empty = call.inputs.input.new_empty

    def row_or_empty(direction: int) -> RnnWeights:
        row = own_rows[direction] if direction < len(own_rows) else _NO_WEIGHTS
        return RnnWeights._make([empty(0) if grad is None else grad for grad in row])

    grad_input, grad_hidden, grad_cell = (
        empty(0) if grad is None else grad for grad in (found.input, found.hidden, found.cell)
    )
    results = BackwardResults(grad_input, grad_hidden, grad_cell, row_or_empty(0), row_or_empty(1))
    return flat(results)


def _own_gradients(cell: _Cell, grads: RnnWeights, weights: RnnWeights) -> RnnWeights:
    """Each in memory of its own: an operator's results may not share theirs."""
    if _shares_bias(cell, weights):
        grads = grads._replace(bias_hh=None)
    return RnnWeights._make(None if grad is None else _own(grad) for grad in grads)


def _own(grad: Tensor) -> Tensor:
    alone = grad.untyped_storage().nbytes() == grad.numel() * grad.element_size()
    return grad if alone else grad.clone(memory_format=torch.contiguous_format)


@torch.library.register_fake("seqfast::rnn_backward", lib=_library)
def _backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    call = grouped(BackwardCall, arguments)
    cell, rows, needs = _cell_of(call), _directions_of(call), call.needs
    input = call.inputs.input
    gate_rows, output_size = call.weights.weight_hh.shape
    _, batch, _ = input.shape
    hidden_size = gate_rows // cell.traits.gates
    has_cell = needs.states and cell.has_state

    def of(weights: RnnWeights) -> RnnWeights:
        if not needs.weights:
            weights = _NO_WEIGHTS
        elif _shares_bias(cell, weights):
            weights = weights._replace(bias_hh=None)
        return RnnWeights._make(
            input.new_empty(0 if weight is None else weight.shape) for weight in weights
        )

    results = BackwardResults(
        grad_input=input.new_empty(input.shape if needs.input else (0,)),
        grad_hidden=input.new_empty((len(rows), batch, output_size) if needs.states else (0,)),
        grad_cell=input.new_empty((len(rows), batch, hidden_size) if has_cell else (0,)),
        weights=of(call.weights),
        weights_reverse=of(call.weights_reverse),
    )
    return flat(results)


def _backward_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    call = grouped(BackwardCall, inputs)
    ctx.cell, ctx.needs = _cell_of(call), call.needs
    every_weight = [weight for row in _directions_of(call) for weight in row]
    ctx.save_for_backward(*call.grads, *call.inputs, *every_weight)
    ctx.set_materialize_grads(False)


def _backward_gradients(ctx: Any, *grad_grads: Tensor | None) -> tuple[Any, ...]:
    """Second derivatives, rare enough to be left to torch: autograd twice through plain torch code.

    output, cells, gates and statistics get no gradient: they are functions of the other arguments,
    and what flows through them is in those arguments' gradients.
    """
    create_graph = torch.is_grad_enabled()
    cell, needs = ctx.cell, ctx.needs
    left = iter(ctx.saved_tensors)
    upstream = ResultGradients._make([next(left) for _ in ResultGradients._fields])
    given_inputs = Inputs._make([next(left) for _ in Inputs._fields])
    given_rows = _rows_of(tuple(left))
    of_results = grouped(BackwardResults, grad_grads)
    with torch.enable_grad(), torch_plain.no_autocast(given_inputs.input):
        grads = ResultGradients._make(map(_leaf, upstream))
        inputs, rows, used = _replay(cell, given_inputs, given_rows, grads)
        pairs: list[tuple[Any, Any]] = []
        if needs.input:
            pairs.append((inputs.input, of_results.grad_input))
        if needs.states:
            pairs.append((inputs.hidden, of_results.grad_hidden))
            pairs.append((inputs.cell_state, of_results.grad_cell))
        if needs.weights:
            both = of_results.weights, of_results.weights_reverse
            for row, of_row in zip(rows, both, strict=False):
                if _shares_bias(cell, row):
                    of_row = of_row._replace(bias_hh=None)
                pairs += zip(row, of_row, strict=True)
        pairs = [(x, grad) for x, grad in pairs if x is not None and grad is not None]
        targets = [*grads, *_differentiable(inputs, rows)]
        second = iter(_second_gradients(used, pairs, targets, create_graph))
    filled = [None if x is None else next(second) for x in targets]
    count = len(ResultGradients._fields)
    of_inputs, of_rows = _by_place(filled[count:])
    call = BackwardCall(
        cast(Any, None),
        ResultGradients._make(filled[:count]),
        of_inputs,
        *_both_directions(of_rows),
        Kept._make([None] * len(Kept._fields)),
        Options._make([None] * len(Options._fields)),
        Needs._make([None] * len(Needs._fields)),
    )
    return flat(call)


def _second_gradients(
    used: list[tuple[Tensor, Tensor]],
    pairs: list[tuple[Any, Any]],
    targets: list[Any],
    create_graph: bool,
) -> Sequence[Tensor | None]:
    """The gradients of the gradients of `used`, of each target that there is. `pairs`: what the
    first gradients are of, and what they are multiplied with."""
    present = [x for x in targets if x is not None]
    if not (used and pairs):
        return [None] * len(present)
    listed, grad_grads = zip(*pairs, strict=True)
    first = torch.autograd.grad(
        [r for r, _ in used],
        listed,
        [g for _, g in used],
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    # Without steps or rows gradients are constants.
    moving = [(f, g) for f, g in zip(first, grad_grads, strict=True) if f.requires_grad]
    if not moving:
        return [None] * len(present)
    return torch.autograd.grad(
        [f for f, _ in moving],
        present,
        [g for _, g in moving],
        create_graph=create_graph,
        allow_unused=True,
    )


def _replay(
    cell: _Cell, inputs: Inputs, rows: Rows, grads: ResultGradients
) -> tuple[Inputs, Rows, list[tuple[Tensor, Tensor]]]:
    """New leaves for what can have a gradient; the layer's results from them, in plain torch code,
    each with its gradient where there is one."""
    leaves = inputs._replace(
        input=_leaf(inputs.input),
        hidden=_leaf(inputs.hidden),
        cell_state=_leaf(inputs.cell_state),
    )
    leaf_rows = tuple(RnnWeights._make(map(_leaf, row)) for row in rows)
    input, hidden, cell_state, lengths, reset, seed = leaves
    results = torch_plain.layer(
        cell.name, input, hidden, cell_state, leaf_rows, lengths, reset, seed, cell.options
    )
    used = [
        (r, g)
        for r, g in zip(results, grads, strict=True)
        if r is not None and r.requires_grad and g is not None
    ]
    return leaves, leaf_rows, used


def _leaf(tensor: Tensor | None) -> Any:
    # A view is a new node: a gradient by one does not pass through another to its ancestors.
    if tensor is None:
        return None
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


torch.library.register_autograd(
    "seqfast::rnn_backward", _backward_gradients, setup_context=_backward_context, lib=_library
)

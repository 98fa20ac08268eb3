"""Recurrent layers as torch operators: schema, kernel, fake kernel and autograd for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from seqfast.ops.base.torch_dispatch import can_skip_dispatcher, is_batched, needs_plain_torch
from seqfast.ops.rnn import dispatch, torch_plain
from seqfast.ops.rnn.cells import GATES, GRU, kind_of, saved_of
from seqfast.ops.rnn.layer import check_layer
from seqfast.ops.rnn.options import PLAIN, Options

_library = torch.library.Library("seqfast", "FRAGMENT")
_tags = (torch.Tag.pt2_compliant_tag,)

# Options, field by field.
_OPTIONS = (
    "float gate_clip, float cell_clip, bool coupled_gates, bool forget_gate, bool reset_after, "
    "bool reset_gate, str nonlinearity, str output_nonlinearity, float zoneout_hidden, "
    "float zoneout_cell, float recurrent_dropout, str recurrent_dropout_on, int layer"
)
# cell: lstm, gru or rnn. weights: those there are, one direction after another; bit 10 * direction
# + k of `present` says whether the direction has the k-th of `seqfast.ops.rnn`'s ten.
# What a cell does not have comes back empty; with save=False so do cells, gates and statistics, and
# there is no backward.
_library.define(
    "rnn_forward(str cell, Tensor input, Tensor? hidden, Tensor? cell_state, Tensor[] weights, "
    f"int present, Tensor? lengths, Tensor? reset, Tensor? seed, {_OPTIONS}, bool save) "
    "-> (Tensor output, Tensor hidden_n, Tensor cell_n, Tensor cells, Tensor gates, "
    "Tensor statistics)",
    tags=_tags,
)
# Gradients that are not needed come back empty. Both biases have one gradient, listed once, but for
# the GRU that resets after the product.
_library.define(
    "rnn_backward(str cell, Tensor? grad_output, Tensor? grad_hidden_n, Tensor? grad_cell_n, "
    "Tensor? grad_cells, Tensor input, Tensor? hidden, Tensor? cell_state, Tensor[] weights, "
    "int present, Tensor? lengths, Tensor? reset, Tensor? seed, Tensor output, Tensor cells, "
    f"Tensor gates, Tensor statistics, {_OPTIONS}, bool need_input, bool need_states, "
    "bool need_weights) "
    "-> (Tensor grad_input, Tensor grad_hidden, Tensor grad_cell, Tensor[] grad_weights)",
    tags=_tags,
)

Row = Sequence[Tensor | None]  # one direction's weights
_HH, _BIAS_IH, _BIAS_HH, _HR, _NORM_HH = 1, 2, 3, 4, 7
_MOST = 10


class _Call(NamedTuple):
    """What of a call is no tensor."""

    cell: str
    present: int
    options: Options

    @property
    def directions(self) -> int:
        return 2 if self.present >> _MOST else 1

    @property
    def kind(self) -> int:
        return kind_of(self.cell, self.options)

    @property
    def has_cell(self) -> bool:
        return self.cell == "lstm"

    @property
    def layer_norm(self) -> bool:
        return bool(self.present >> _NORM_HH & 1)

    def scalars(self) -> tuple[Any, ...]:
        """The options as the operators' schema has them."""
        o = self.options
        return (*o[:8], *o.zoneout, o.recurrent_dropout, o.recurrent_dropout_on, o.layer)

    @classmethod
    def of(cls, cell: str, present: int, scalars: Sequence[Any]) -> _Call:
        zoneout_hidden, zoneout_cell, *rest = scalars[8:]
        fields = (*scalars[:8], (zoneout_hidden, zoneout_cell), *rest)
        return cls(cell, present, Options._make(fields))

    def rows(self, weights: Sequence[Any]) -> list[tuple[Any, ...]]:
        """An operator's flat list as ten weights for each direction, None where absent."""
        if weights and len(weights) == self.present.bit_count() and self.present >> 2 * _MOST == 0:
            left = iter(weights)
            slots = [
                next(left) if self.present >> bit & 1 else None
                for bit in range(self.directions * _MOST)
            ]
            return [tuple(slots[:_MOST]), tuple(slots[_MOST:])][: self.directions]
        raise ValueError(
            f"{self.cell}: weights must be as many as the bits of present, {self.present:#b}, "
            f"got {len(weights)}"
        )

    def single(self, row: Sequence[Any]) -> list[Any]:
        """What the backward operator lists of one direction: without a second equal bias."""
        one_bias = self.kind != GRU and row[_BIAS_IH] is not None
        return [
            weight
            for slot, weight in enumerate(row)
            if weight is not None and not (one_bias and slot == _BIAS_HH)
        ]


def _flat(rows: Sequence[Row]) -> tuple[list[Tensor], int]:
    """The operators' `weights` and `present`."""
    weights, present = [], 0
    for d, row in enumerate(rows):
        for slot, weight in enumerate(row):
            if weight is not None:
                weights.append(weight)
                present |= 1 << (d * _MOST + slot)
    return weights, present


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
    if needs_plain_torch():
        return torch_plain.layer(
            cell, input, hidden, cell_state, _tens(weights), lengths, reset, seed, options
        )
    flat, present = _flat(weights)
    if can_skip_dispatcher(input, hidden, cell_state, lengths, reset, seed, *flat):
        arrays = input, hidden, cell_state, weights, lengths, reset, seed, options
        if not save:
            found = dispatch.forward(check_layer(cell, *arrays), False)
            return found[:4]
        apply = cast(Any, _EagerRnn.apply)
        call = _Call(cell, present, options)
        results: tuple[Tensor, Tensor, Tensor | None, Tensor | None] = apply(
            input, hidden, cell_state, lengths, reset, seed, weights, call, *flat
        )
        return results
    call = _Call(cell, present, options)
    output, hidden_n, cell_n, cells, _, _ = torch.ops.seqfast.rnn_forward(
        cell,
        input,
        hidden,
        cell_state,
        flat,
        present,
        lengths,
        reset,
        seed,
        *call.scalars(),
        save,
    )
    if cell != "lstm":
        return output, hidden_n, None, None
    return output, hidden_n, cell_n, cells if save else None


def is_tracing() -> bool:
    """Whether torch.jit.trace is under way."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _tens(rows: Sequence[Row]) -> list[Row]:
    return [(*row, *(None,) * (_MOST - len(row))) for row in rows]


def _accumulate_dtype(input: Tensor) -> torch.dtype:
    return torch.float64 if input.dtype == torch.float64 else torch.float32


# The forward operator.


@torch.library.impl(_library, "rnn_forward", "CPU")
@torch.library.impl(_library, "rnn_forward", "CUDA")
def _forward_kernel(
    cell: str,
    input: Tensor,
    hidden: Tensor | None,
    cell_state: Tensor | None,
    weights: list[Tensor],
    present: int,
    lengths: Tensor | None,
    reset: Tensor | None,
    seed: Tensor | None,
    *scalars: Any,
) -> tuple[Tensor, ...]:
    *flat_options, save = scalars
    call = _Call.of(cell, present, flat_options)
    rows = call.rows(weights)
    checked = check_layer(cell, input, hidden, cell_state, rows, lengths, reset, seed, call.options)
    return _without_none(dispatch.forward(checked, save), input)


def _without_none(results: tuple[Tensor | None, ...], input: Tensor) -> tuple[Tensor, ...]:
    """An operator must put out tensors: empty ones for what there is not."""
    dtypes = [input.dtype] * 6
    dtypes[3] = dtypes[5] = _accumulate_dtype(input)
    return tuple(
        input.new_empty(0, dtype=dtype) if result is None else result
        for result, dtype in zip(results, dtypes, strict=True)
    )


@torch.library.register_fake("seqfast::rnn_forward", lib=_library)
def _forward_fake(
    cell: str,
    input: Tensor,
    hidden: Tensor | None,
    cell_state: Tensor | None,
    weights: list[Tensor],
    present: int,
    lengths: Tensor | None,
    reset: Tensor | None,
    seed: Tensor | None,
    *scalars: Any,
) -> tuple[Tensor, ...]:
    *flat_options, save = scalars
    call = _Call.of(cell, present, flat_options)
    first = call.rows(weights)[0]
    steps, batch, _ = input.shape
    directions, output_size = call.directions, first[_HH].shape[1]
    hidden_size = first[_HH].shape[0] // GATES[call.kind]
    saved = saved_of(call.kind, call.layer_norm)

    def sequence(features: int, there: bool, dtype: torch.dtype) -> Tensor:
        shape = (steps, batch, directions * features) if there else (0,)
        return input.new_empty(shape, dtype=dtype)

    accumulator = _accumulate_dtype(input)
    return (
        sequence(output_size, True, input.dtype),
        input.new_empty((directions, batch, output_size)),
        input.new_empty((directions, batch, hidden_size) if call.has_cell else (0,)),
        sequence(hidden_size, save and call.has_cell, accumulator),
        sequence(saved * hidden_size, save, input.dtype),
        sequence(4, save and call.layer_norm, accumulator),
    )


def _forward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    cell, input, hidden, cell_state, weights, present, lengths, reset, seed, *scalars = inputs
    *flat_options, ctx.save = scalars
    ctx.call = _Call.of(cell, present, flat_options)
    result, _, cell_n, cells, gates, statistics = output
    kept = result, cells, gates, statistics
    ctx.save_for_backward(input, hidden, cell_state, lengths, reset, seed, *kept, *weights)
    ctx.set_materialize_grads(False)
    extras = [gates, statistics]
    if not (ctx.save and ctx.call.has_cell):
        extras.append(cells)
    if not ctx.call.has_cell:
        extras.append(cell_n)
    ctx.mark_non_differentiable(*extras)


def _forward_gradients(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    if not ctx.save:
        raise RuntimeError(
            f"{ctx.call.cell}: backward needs what the forward pass kept, but it ran with "
            "save=False"
        )
    needs, need_weights = ctx.needs_input_grad[1:4], ctx.needs_input_grad[4]
    *of_inputs, of_weights = _gradients(ctx, grads[:4], needs, need_weights, by_operator=True)
    return (None, *of_inputs, of_weights, *(None,) * (len(ctx.needs_input_grad) - 5))


class _EagerRnn(torch.autograd.Function):
    """The operator's forward and backward without the dispatcher, which costs as much as a short
    sequence; only where `can_skip_dispatcher`."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        hidden: Tensor | None,
        cell_state: Tensor | None,
        lengths: Tensor | None,
        reset: Tensor | None,
        seed: Tensor | None,
        rows: Sequence[Row],
        call: _Call,
        *weights: Tensor,
    ) -> tuple[Tensor | None, ...]:
        checked = check_layer(
            call.cell, input, hidden, cell_state, rows, lengths, reset, seed, call.options
        )
        results = dispatch.forward(checked, True)
        ctx.call = call
        kept = results[0], *results[3:]
        ctx.save_for_backward(input, hidden, cell_state, lengths, reset, seed, *kept, *weights)
        ctx.set_materialize_grads(False)
        return results[:4]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        needs, need_weights = ctx.needs_input_grad[:3], ctx.needs_input_grad[8:]
        # Only the operator can be differentiated again.
        *of_inputs, of_weights = _gradients(
            ctx, grads, needs, need_weights, by_operator=torch.is_grad_enabled()
        )
        return (*of_inputs, *(None,) * 5, *of_weights)


def _gradients(
    ctx: Any,
    grads: tuple[Tensor | None, ...],
    needs: Sequence[bool],
    need_weights: Sequence[bool],
    by_operator: bool,
) -> tuple[Any, ...]:
    """Of input, hidden, cell_state and the flat list of weights, None where not needed."""
    call, saved = ctx.call, ctx.saved_tensors  # once: checkpointing unpacks them only once
    if is_batched(*grads):
        return _plain_gradients(call, saved, grads, needs, need_weights)
    input, hidden, cell_state, lengths, reset, seed = saved[:6]
    kept, weights = saved[6:10], saved[10:]
    need_input, need_hidden, need_cell = needs
    wanted = need_input, need_hidden or need_cell, any(need_weights)
    grad_weights: list[Tensor | None] = [None] * len(weights)
    if by_operator:
        grad_input, grad_hidden, grad_cell, listed = torch.ops.seqfast.rnn_backward(
            call.cell,
            *grads,
            input,
            hidden,
            cell_state,
            weights,
            call.present,
            lengths,
            reset,
            seed,
            kept[0],
            *_without_none((None, None, None, *kept[1:]), input)[3:],
            *call.scalars(),
            *wanted,
        )
        if listed:
            grad_weights = _each_bias(call, listed, call.rows(weights))
    else:
        rows = call.rows(weights)
        checked = check_layer(
            call.cell, input, hidden, cell_state, rows, lengths, reset, seed, call.options
        )
        grad_input, grad_hidden, grad_cell, by_row = dispatch.backward(checked, grads, kept, wanted)
        if by_row is not None:
            found = (call.single(row) for row in by_row)
            grad_weights = _each_bias(call, [grad for row in found for grad in row], rows)
    return (
        grad_input if need_input else None,
        grad_hidden if need_hidden else None,
        grad_cell if need_cell else None,
        [g if need else None for g, need in zip(grad_weights, need_weights, strict=True)],
    )


def _each_bias(call: _Call, listed: list[Tensor], rows: list[Row]) -> list[Tensor | None]:
    """The gradients of the backward operator, one for each weight."""
    left = iter(listed)
    result: list[Tensor | None] = []
    for row in rows:
        one_bias = call.kind != GRU and row[_BIAS_IH] is not None
        for slot, weight in enumerate(row):
            if weight is None:
                continue
            if one_bias and slot == _BIAS_HH:
                # A copy: gradients may be changed in place, and these are two parameters' own.
                result.append(cast(Tensor, result[-1]).clone())
            else:
                result.append(next(left))
    return result


def _plain_gradients(
    call: _Call,
    saved: tuple[Any, ...],
    grads: tuple[Tensor | None, ...],
    needs: Sequence[bool],
    need_weights: Sequence[bool],
) -> tuple[Any, ...]:
    """`_gradients` of batched gradients (`is_grads_batched`), which no kernel can read."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch_plain.no_autocast(saved[0]):
        leaves, used = _replay(call, (*saved[:3], *saved[10:]), saved[3:6], grads)
        all_needs = [*needs, *need_weights]
        wanted = [x for x, need in zip(leaves, all_needs, strict=True) if need]
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
    filled = [next(found) if need else None for need in all_needs]
    return (*filled[:3], filled[3:])


torch.library.register_autograd(
    "seqfast::rnn_forward", _forward_gradients, setup_context=_forward_context, lib=_library
)


# The backward operator.


@torch.library.impl(_library, "rnn_backward", "CPU")
@torch.library.impl(_library, "rnn_backward", "CUDA")
def _backward_kernel(
    cell: str,
    grad_output: Tensor | None,
    grad_hidden_n: Tensor | None,
    grad_cell_n: Tensor | None,
    grad_cells: Tensor | None,
    input: Tensor,
    hidden: Tensor | None,
    cell_state: Tensor | None,
    weights: list[Tensor],
    present: int,
    lengths: Tensor | None,
    reset: Tensor | None,
    seed: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    kept, flat_options, needs = rest[:4], rest[4:-3], rest[-3:]
    call = _Call.of(cell, present, flat_options)
    rows = call.rows(weights)
    checked = check_layer(cell, input, hidden, cell_state, rows, lengths, reset, seed, call.options)
    grads = grad_output, grad_hidden_n, grad_cell_n, grad_cells
    *of_inputs, of_weights = dispatch.backward(checked, grads, kept, needs)
    grad_input, grad_hidden, grad_cell = (
        input.new_empty(0) if grad is None else grad for grad in of_inputs
    )
    flat = [_own(grad) for row in of_weights or () for grad in call.single(row)]
    return grad_input, grad_hidden, grad_cell, flat


def _own(grad: Tensor) -> Tensor:
    """The tensor in memory of its own: an operator's results may not share theirs."""
    alone = grad.untyped_storage().nbytes() == grad.numel() * grad.element_size()
    return grad if alone else grad.clone(memory_format=torch.contiguous_format)


@torch.library.register_fake("seqfast::rnn_backward", lib=_library)
def _backward_fake(
    cell: str,
    grad_output: Tensor | None,
    grad_hidden_n: Tensor | None,
    grad_cell_n: Tensor | None,
    grad_cells: Tensor | None,
    input: Tensor,
    hidden: Tensor | None,
    cell_state: Tensor | None,
    weights: list[Tensor],
    present: int,
    lengths: Tensor | None,
    reset: Tensor | None,
    seed: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    flat_options, (need_input, need_states, need_weights) = rest[4:-3], rest[-3:]
    call = _Call.of(cell, present, flat_options)
    rows = call.rows(weights)
    size, output_size = rows[0][_HH].shape
    state = call.directions, input.shape[1]
    grad_weights = [input.new_empty(w.shape) for row in rows for w in call.single(row)]
    has_cell = need_states and call.has_cell
    return (
        input.new_empty(input.shape if need_input else (0,)),
        input.new_empty((*state, output_size) if need_states else (0,)),
        input.new_empty((*state, size // GATES[call.kind]) if has_cell else (0,)),
        grad_weights if need_weights else [],
    )


def _backward_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    cell, *grads_and_states = inputs[:8]
    weights, present, lengths, reset, seed = inputs[8:13]
    ctx.call = _Call.of(cell, present, inputs[17:-3])
    ctx.needs = inputs[-3:]
    ctx.save_for_backward(*grads_and_states, lengths, reset, seed, *weights)
    ctx.set_materialize_grads(False)


def _backward_gradients(
    ctx: Any,
    grad_grad_input: Tensor | None,
    grad_grad_hidden: Tensor | None,
    grad_grad_cell: Tensor | None,
    grad_grad_weights: list[Tensor | None],
) -> tuple[Any, ...]:
    """Second derivatives, rare enough to be left to torch: autograd twice through plain torch code.

    output, cells, gates and statistics get no gradient: they are functions of the other arguments,
    and what flows through them is in those arguments' gradients.
    """
    create_graph = torch.is_grad_enabled()
    call, saved = ctx.call, ctx.saved_tensors
    need_input, need_states, need_weights = ctx.needs
    after = len(ctx.needs_input_grad) - 9
    with torch.enable_grad(), torch_plain.no_autocast(saved[4]):
        grads = [_leaf(x) for x in saved[:4]]
        leaves, used = _replay(call, (*saved[4:7], *saved[10:]), saved[7:10], grads)
        input, hidden, cell_state, *weights = leaves

        single = [w for row in call.rows(weights) for w in call.single(row)]
        pairs = [
            *([(input, grad_grad_input)] if need_input else []),
            *([(hidden, grad_grad_hidden)] if need_states and hidden is not None else []),
            *([(cell_state, grad_grad_cell)] if need_states and cell_state is not None else []),
            *(zip(single, grad_grad_weights, strict=True) if need_weights else []),
        ]
        pairs = [(tensor, grad) for tensor, grad in pairs if grad is not None]
        if not (used and pairs):
            return (*(None,) * 8, [None] * len(weights), *(None,) * after)
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
        targets = [*grads, input, hidden, cell_state, *weights]
        present = [x for x in targets if x is not None]
        second = (
            torch.autograd.grad(
                [f for f, _ in moving],
                present,
                [g for _, g in moving],
                create_graph=create_graph,
                allow_unused=True,
            )
            if moving
            else [None] * len(present)
        )
    found = iter(second)
    filled = [None if x is None else next(found) for x in targets]
    return (None, *filled[:7], filled[7:], *(None,) * after)


def _replay(
    call: _Call,
    arguments: Sequence[Tensor | None],
    masks: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
) -> tuple[list[Any], list[tuple[Tensor, Tensor]]]:
    """New leaves for input, hidden, cell_state and weights; the layer's results from them and from
    lengths, reset, seed, in plain torch code, each with its gradient where there is one."""
    leaves = [_leaf(x) for x in arguments]
    input, hidden, cell_state, *weights = leaves
    lengths, reset, seed = masks
    results = torch_plain.layer(
        call.cell,
        input,
        hidden,
        cell_state,
        call.rows(weights),
        lengths,
        reset,
        seed,
        call.options,
    )
    used = [
        (r, g)
        for r, g in zip(results, grads, strict=True)
        if r is not None and r.requires_grad and g is not None
    ]
    return leaves, used


def _leaf(tensor: Tensor | None) -> Any:
    # A view is a new node: a gradient by one does not pass through another to its ancestors.
    if tensor is None:
        return None
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


torch.library.register_autograd(
    "seqfast::rnn_backward", _backward_gradients, setup_context=_backward_context, lib=_library
)

"""Recurrent layers as torch operators: schema, kernel, fake kernel and autograd for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from seqfast.ops import rnn

try:
    from torch._C import _get_tracing_state, _len_torch_dispatch_stack
    from torch._C._functorch import is_legacy_batchedtensor, peek_interpreter_stack
except ImportError:  # Private names of torch: without them every call goes to the dispatcher.
    peek_interpreter_stack = None  # type: ignore[assignment]

_library = torch.library.Library("seqfast", "FRAGMENT")
_tags = (torch.Tag.pt2_compliant_tag,)

# weights: weight_ih, weight_hh, (bias_ih, bias_hh), (weight_hr), one direction after another.
# save=False: cells and gates come back empty, and there is no backward.
_library.define(
    "lstm_forward(Tensor input, Tensor? hidden, Tensor? cell, Tensor[] weights, Tensor? lengths, "
    "int directions, bool save) "
    "-> (Tensor output, Tensor hidden_n, Tensor cell_n, Tensor cells, Tensor gates)",
    tags=_tags,
)
# Gradients that are not needed come back empty; both biases have one gradient, listed once.
_library.define(
    "lstm_backward(Tensor? grad_output, Tensor? grad_hidden_n, Tensor? grad_cell_n, "
    "Tensor? grad_cells, Tensor input, Tensor? hidden, Tensor? cell, Tensor[] weights, "
    "Tensor? lengths, int directions, Tensor output, Tensor cells, Tensor gates, "
    "bool need_input, bool need_states, bool need_weights) "
    "-> (Tensor grad_input, Tensor grad_hidden, Tensor grad_cell, Tensor[] grad_weights)",
    tags=_tags,
)

Direction = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]


def split_weights(weights: Sequence[Tensor], directions: int) -> list[Direction]:
    """The flat list of an operator as one `(ih, hh, bias_ih, bias_hh, hr)` per direction."""
    count = len(weights) // directions
    if count not in (2, 3, 4, 5) or len(weights) != count * directions:
        raise ValueError(f"lstm: {directions} directions cannot share {len(weights)} weights")
    parts: list[Direction] = []
    for start in range(0, len(weights), count):
        ih, hh, *rest = weights[start : start + count]
        bias_ih, bias_hh = rest[:2] if count >= 4 else (None, None)
        parts.append((ih, hh, bias_ih, bias_hh, rest[-1] if count in (3, 5) else None))
    return parts


def _accumulate_dtype(input: Tensor) -> torch.dtype:
    return torch.float64 if input.dtype == torch.float64 else torch.float32


@torch.library.impl(_library, "lstm_forward", "CPU")
@torch.library.impl(_library, "lstm_forward", "CUDA")
def _lstm_forward_kernel(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    directions: int,
    save: bool,
) -> tuple[Tensor, ...]:
    parts = split_weights(weights, directions)
    output, hidden_n, cell_n, cells, gates = rnn.lstm_forward(
        input, hidden, cell, parts, lengths, save=save
    )
    if cells is None or gates is None:
        cells, gates = input.new_empty(0, dtype=_accumulate_dtype(input)), input.new_empty(0)
    return output, hidden_n, cell_n, cells, gates


@torch.library.register_fake("seqfast::lstm_forward", lib=_library)
def _lstm_forward_fake(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    directions: int,
    save: bool,
) -> tuple[Tensor, ...]:
    steps, batch, _ = input.shape
    hidden_size, output_size = weights[0].shape[0] // 4, weights[1].shape[1]
    cells = (steps, batch, directions * hidden_size) if save else (0,)
    gates = (steps, batch, 4 * directions * hidden_size) if save else (0,)
    return (
        input.new_empty((steps, batch, directions * output_size)),
        input.new_empty((directions, batch, output_size)),
        input.new_empty((directions, batch, hidden_size)),
        input.new_empty(cells, dtype=_accumulate_dtype(input)),
        input.new_empty(gates),
    )


@torch.library.impl(_library, "lstm_backward", "CPU")
@torch.library.impl(_library, "lstm_backward", "CUDA")
def _lstm_backward_kernel(
    grad_output: Tensor | None,
    grad_hidden_n: Tensor | None,
    grad_cell_n: Tensor | None,
    grad_cells: Tensor | None,
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    directions: int,
    output: Tensor,
    cells: Tensor,
    gates: Tensor,
    need_input: bool,
    need_states: bool,
    need_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    grad_input, grad_hidden, grad_cell, grad_weights = rnn.lstm_backward(
        grad_output,
        grad_hidden_n,
        grad_cell_n,
        grad_cells,
        input,
        hidden,
        cell,
        split_weights(weights, directions),
        lengths,
        output,
        cells,
        gates,
        needs=(need_input, need_states, need_weights),
    )
    flat = [
        grad
        for ih, hh, bias_ih, _, hr in grad_weights or ()
        for grad in (ih, hh, bias_ih, hr)
        if grad is not None
    ]
    return (
        input.new_empty(0) if grad_input is None else grad_input,
        input.new_empty(0) if grad_hidden is None else grad_hidden,
        input.new_empty(0) if grad_cell is None else grad_cell,
        flat,
    )


@torch.library.register_fake("seqfast::lstm_backward", lib=_library)
def _lstm_backward_fake(
    grad_output: Tensor | None,
    grad_hidden_n: Tensor | None,
    grad_cell_n: Tensor | None,
    grad_cells: Tensor | None,
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    directions: int,
    output: Tensor,
    cells: Tensor,
    gates: Tensor,
    need_input: bool,
    need_states: bool,
    need_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    batch = input.shape[1]
    hidden_size, output_size = weights[0].shape[0] // 4, weights[1].shape[1]
    grad_hidden = (directions, batch, output_size) if need_states else (0,)
    grad_cell = (directions, batch, hidden_size) if need_states else (0,)
    grad_weights = [
        input.new_empty(weight.shape)
        for ih, hh, bias_ih, _, hr in split_weights(weights, directions)
        for weight in (ih, hh, bias_ih, hr)
        if weight is not None
    ]
    return (
        input.new_empty(input.shape if need_input else (0,)),
        input.new_empty(grad_hidden),
        input.new_empty(grad_cell),
        grad_weights if need_weights else [],
    )


def _forward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, hidden, cell, weights, lengths, ctx.directions, ctx.save = inputs
    result, _, _, cells, gates = output
    ctx.save_for_backward(input, hidden, cell, lengths, result, cells, gates, *weights)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*((gates,) if ctx.save else (cells, gates)))


def _forward_gradients(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    if not ctx.save:
        raise RuntimeError(
            "lstm: backward needs what the forward pass kept, but it ran with save=False"
        )
    *of_inputs, of_weights = _gradients(ctx, grads[:4], ctx.needs_input_grad[3], by_operator=True)
    return (*of_inputs, of_weights, None, None, None)


def _gradients(
    ctx: Any, grads: tuple[Tensor | None, ...], need_weights: Sequence[bool], by_operator: bool
) -> tuple[Any, ...]:
    """Of input, hidden, cell and the list of weights, None where not needed."""
    if peek_interpreter_stack is not None and (
        peek_interpreter_stack() is not None
        or any(grad is not None and is_legacy_batchedtensor(grad) for grad in grads)
    ):
        return _plain_gradients(ctx, grads, need_weights)
    input, hidden, cell, lengths, output, cells, gates, *weights = ctx.saved_tensors
    need_input, need_hidden, need_cell = ctx.needs_input_grad[:3]
    backward: Any = torch.ops.seqfast.lstm_backward if by_operator else _lstm_backward_kernel
    grad_input, grad_hidden, grad_cell, listed = backward(
        *grads,
        input,
        hidden,
        cell,
        weights,
        lengths,
        ctx.directions,
        output,
        cells,
        gates,
        need_input,
        need_hidden or need_cell,
        any(need_weights),
    )
    grad_weights: list[Tensor | None] = [None] * len(weights)
    if listed:
        grad_weights = _double_bias(listed, len(weights), ctx.directions)
        grad_weights = [
            g if need else None for g, need in zip(grad_weights, need_weights, strict=True)
        ]
    return (
        grad_input if need_input else None,
        grad_hidden if need_hidden else None,
        grad_cell if need_cell else None,
        grad_weights,
    )


def _plain_gradients(
    ctx: Any, grads: tuple[Tensor | None, ...], need_weights: Sequence[bool]
) -> tuple[Any, ...]:
    """`_gradients` of batched gradients (`is_grads_batched`), which no kernel can read."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        arguments = (*ctx.saved_tensors[:3], *ctx.saved_tensors[7:])
        leaves, used = _replay(arguments, ctx.saved_tensors[3], ctx.directions, grads)
        needs = [*ctx.needs_input_grad[:3], *need_weights]
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
    filled = [next(found) if need else None for need in needs]
    return (*filled[:3], filled[3:])


def _double_bias(listed: list[Tensor], count: int, directions: int) -> list[Tensor | None]:
    """The gradients of `lstm_backward` as one for each weight: both biases have a bias's."""
    if count == len(listed):
        return list(listed)
    result: list[Tensor | None] = []
    each = len(listed) // directions
    for start in range(0, len(listed), each):
        ih, hh, bias, *rest = listed[start : start + each]
        # A copy: gradients may be changed in place, and these are two parameters' own.
        result += [ih, hh, bias, bias.clone(), *rest]
    return result


torch.library.register_autograd(
    "seqfast::lstm_forward", _forward_gradients, setup_context=_forward_context, lib=_library
)


def _backward_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    (*grads, input, hidden, cell, weights, lengths, ctx.directions) = inputs[:10]
    ctx.needs = inputs[13:]
    ctx.save_for_backward(*grads, input, hidden, cell, lengths, *weights)
    ctx.set_materialize_grads(False)


def _backward_gradients(
    ctx: Any,
    grad_grad_input: Tensor | None,
    grad_grad_hidden: Tensor | None,
    grad_grad_cell: Tensor | None,
    grad_grad_weights: list[Tensor | None],
) -> tuple[Any, ...]:
    """Second derivatives, rare enough to be left to torch: autograd twice through plain torch code.

    output, cells and gates get no gradient: they are functions of the other arguments, and what
    flows through them is in those arguments' gradients.
    """
    create_graph = torch.is_grad_enabled()
    need_input, need_states, need_weights = ctx.needs
    with torch.enable_grad():
        grads = [_leaf(x) for x in ctx.saved_tensors[:4]]
        arguments = (*ctx.saved_tensors[4:7], *ctx.saved_tensors[8:])
        leaves, used = _replay(arguments, ctx.saved_tensors[7], ctx.directions, grads)
        input, hidden, cell, *weights = leaves

        parts = split_weights(weights, ctx.directions)
        single = [w for ih, hh, b, _, hr in parts for w in (ih, hh, b, hr) if w is not None]
        pairs = [
            *([(input, grad_grad_input)] if need_input else []),
            *([(hidden, grad_grad_hidden)] if need_states and hidden is not None else []),
            *([(cell, grad_grad_cell)] if need_states and cell is not None else []),
            *(zip(single, grad_grad_weights, strict=True) if need_weights else []),
        ]
        pairs = [(tensor, grad) for tensor, grad in pairs if grad is not None]
        if not (used and pairs):
            return (*(None,) * 7, [None] * len(weights), *(None,) * 8)
        listed, grad_grads = zip(*pairs, strict=True)
        first = torch.autograd.grad(
            [r for r, _ in used],
            listed,
            [g for _, g in used],
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        targets = [*grads, input, hidden, cell, *weights]
        present = [x for x in targets if x is not None]
        second = torch.autograd.grad(
            first, present, grad_grads, create_graph=create_graph, allow_unused=True
        )
    found = iter(second)
    filled = [None if x is None else next(found) for x in targets]
    return (*filled[:7], filled[7:], *(None,) * 8)


def _replay(
    arguments: Sequence[Tensor | None],
    lengths: Tensor | None,
    directions: int,
    grads: Sequence[Tensor | None],
) -> tuple[list[Any], list[tuple[Tensor, Tensor]]]:
    """New leaves for input, hidden, cell and weights; the layer's results from them, in plain torch
    code, each with its gradient where there is one."""
    leaves = [_leaf(x) for x in arguments]
    input, hidden, cell, *weights = leaves
    results = _lstm_plain(input, hidden, cell, weights, lengths, directions)
    used = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None]
    return leaves, used


def _leaf(tensor: Tensor | None) -> Any:
    # A view is a new node: a gradient by one does not pass through another to its ancestors.
    if tensor is None:
        return None
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


torch.library.register_autograd(
    "seqfast::lstm_backward", _backward_gradients, setup_context=_backward_context, lib=_library
)


def _lstm_plain(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    directions: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`output, hidden_n, cell_n, cells` of `lstm_forward` in differentiable torch code."""
    steps, batch, _ = input.shape
    dtype = _accumulate_dtype(input)
    if lengths is not None:
        # A short type would wrap the steps it is compared with.
        lengths = lengths.to(input.device, torch.int64)
    if hidden is None:
        hidden = input.new_zeros((directions, batch, weights[1].shape[1]))
    if cell is None:
        cell = input.new_zeros((directions, batch, weights[0].shape[0] // 4))
    outputs, cells, last_hidden, last_cell = [], [], [], []
    for d, (ih, hh, bias_ih, bias_hh, hr) in enumerate(split_weights(weights, directions)):
        h, c = hidden[d].to(dtype), cell[d].to(dtype)
        h_all, c_all = [h.new_zeros(h.shape)] * steps, [c.new_zeros(c.shape)] * steps
        for t in range(steps) if d == 0 else reversed(range(steps)):
            x = input[t].to(dtype)
            if lengths is not None:
                # What stands in the padding may be NaN, and 0 * NaN is NaN.
                on = (lengths > t)[:, None]
                x = torch.where(on, x, 0)
            z = x @ ih.to(dtype).T + h @ hh.to(dtype).T
            if bias_ih is not None and bias_hh is not None:
                z = z + (bias_ih.to(dtype) + bias_hh.to(dtype))
            i, f, g, o = z.chunk(4, dim=-1)
            c_next = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h_next = o.sigmoid() * c_next.tanh()
            if hr is not None:
                h_next = h_next @ hr.to(dtype).T
            h_next = h_next.to(input.dtype).to(dtype)  # the next step sees what the user sees
            if lengths is None:
                h, c = h_next, c_next
                h_all[t], c_all[t] = h, c
            else:
                h_all[t], c_all[t] = h_next * on, c_next * on
                h, c = torch.where(on, h_next, h), torch.where(on, c_next, c)
        outputs.append(torch.stack(h_all))
        cells.append(torch.stack(c_all))
        last_hidden.append(h)
        last_cell.append(c)
    return (
        torch.cat(outputs, dim=-1).to(input.dtype),
        torch.stack(last_hidden).to(input.dtype),
        torch.stack(last_cell).to(input.dtype),
        torch.cat(cells, dim=-1),
    )


class _EagerLstm(torch.autograd.Function):
    """The operator's forward and backward without the dispatcher, which costs as much as a short
    sequence; only where `_nobody_looks`."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        hidden: Tensor | None,
        cell: Tensor | None,
        lengths: Tensor | None,
        directions: int,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        results = _lstm_forward_kernel(
            input, hidden, cell, list(weights), lengths, directions, True
        )
        ctx.directions = directions
        ctx.save_for_backward(input, hidden, cell, lengths, results[0], *results[3:], *weights)
        ctx.set_materialize_grads(False)
        return results[:4]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        # Only the operator can be differentiated again.
        *of_inputs, of_weights = _gradients(
            ctx, grads, ctx.needs_input_grad[5:], by_operator=torch.is_grad_enabled()
        )
        return (*of_inputs, None, None, *of_weights)


def lstm(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    directions: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """`output, hidden_n, cell_n, cells` of a layer: by the operator, or straight by its kernel.

    Shapes, dtypes, errors: `seqfast.ops.rnn.lstm_forward`; `weights` is the operators' flat list.
    `save`: keep what the backward pass needs; without it `cells` is None.
    """
    if not torch.compiler.is_compiling() and peek_interpreter_stack is not None:
        if peek_interpreter_stack() is not None or _forward_mode():
            # Every transform of torch.func, and forward-mode AD, knows plain torch.
            return _lstm_plain(input, hidden, cell, weights, lengths, directions)
        if _nobody_looks(input, hidden, cell, lengths, *weights):
            if save:
                apply = cast(Any, _EagerLstm.apply)
                results: tuple[Tensor, Tensor, Tensor, Tensor] = apply(
                    input, hidden, cell, lengths, directions, *weights
                )
                return results
            parts = split_weights(weights, directions)
            return rnn.lstm_forward(input, hidden, cell, parts, lengths, save=False)[:4]
    output, hidden_n, cell_n, cells, _ = torch.ops.seqfast.lstm_forward(
        input, hidden, cell, weights, lengths, directions, save
    )
    return output, hidden_n, cell_n, cells if save else None


_PLAIN = {Tensor, torch.nn.Parameter}


def _nobody_looks(input: Tensor, *others: Tensor | None) -> bool:
    """Whether the dispatcher would only call our kernel; it costs as much as a short step."""
    if _len_torch_dispatch_stack() or _get_tracing_state() is not None:
        return False
    # Others on another device are the border's to refuse.
    if not (input.is_cpu or input.is_cuda) or type(input) not in _PLAIN:
        return False
    return all(other is None or type(other) in _PLAIN for other in others)


def is_tracing() -> bool:
    """Whether torch.jit.trace is under way."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _forward_mode() -> bool:
    return getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0

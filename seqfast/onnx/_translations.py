"""What torch's ONNX exporter is told of seqfast's operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch

from seqfast.onnx._graph import BFLOAT16, BOOL, DOUBLE, FLOAT, INT32, INT64, Recorder
from seqfast.onnx._native import native
from seqfast.onnx._steps import Walked, by_steps, needs_steps
from seqfast.ops.base.torch_schema import grouped
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.layer import Results
from seqfast.ops.rnn.torch import ForwardCall

Translation = Callable[..., Any]
_SHORT = {BOOL, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16}

_EVALUATION = (
    "export the model in evaluation: model.eval() before torch.onnx.export, or "
    "seqfast.onnx.export, which sees to it"
)


class ExportError(ValueError):
    """A model, or a call of one, that ONNX cannot express; the message has the remedy.

    `seqfast.onnx.export` raises it directly; `torch.onnx.export` wraps it in its own exception.

    Example:
        >>> import seqfast, torch
        >>> packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(3, 4)])
        >>> try:
        ...     seqfast.onnx.export(seqfast.nn.GRU(4, 8), (packed,))
        ... except seqfast.onnx.ExportError as error:
        ...     print(str(error).partition(":")[0])
        GRU
    """


def translations() -> dict[Callable[..., Any], Translation]:
    """Translations of seqfast's operators for `torch.onnx.export(..., dynamo=True)`.

    Pass them as `custom_translation_table`. LSTM, GRU and RNN become ONNX's own nodes if these can
    express the layer, else a Scan of ordinary operators with the same results; docs/onnx.md has a
    list. For models in evaluation mode, and opset 18 or newer. The table follows the ONNX
    standard: https://onnx.ai/onnx/operators/.

    A model in training mode that draws random masks cannot be exported: the export raises
    `ExportError`, inside torch's own exception.

    Returns:
        A dict from torch's operators to functions that record ONNX nodes: of `seqfast::*`, and of
        `aten::sort.stable`, which `mask=` needs and torch's own table lacks.

    Example:
        >>> import seqfast, torch
        >>> table = seqfast.onnx.translations()
        >>> model, x = seqfast.nn.LSTM(4, 8).eval(), torch.zeros(5, 2, 4)
        >>> program = torch.onnx.export(
        ...     model, (x,), dynamo=True, verbose=False, custom_translation_table=table
        ... )
        >>> [node.op_type for node in program.model_proto.graph.node]
        ['LSTM', 'Squeeze']
    """
    return table(cells_are_asked_for=False)


def table(cells_are_asked_for: bool) -> dict[Callable[..., Any], Translation]:
    """`cells_are_asked_for`: whether an operator that saves does so because of return_cells=True,
    as without gradients, or maybe for a backward pass that the export does not have."""

    def rnn_forward(*arguments: Any) -> Any:  # the exporter reads hints, but not all
        return _rnn_forward(arguments, cells_are_asked_for)

    operators: Any = torch.ops  # `seqfast.ops` defines ours when it is imported
    return {
        operators.seqfast.rnn_forward.default: rnn_forward,
        operators.seqfast.dropout.default: _dropout,
        operators.aten.sort.stable: _sort_stable,
    }


def _rnn_forward(arguments: Sequence[Any], cells_are_asked_for: bool) -> Sequence[ir.Value]:
    given = grouped(ForwardCall, arguments)
    if given.inputs.seed is not None:
        raise ExportError(
            f"{given.cell}: zoneout and recurrent_dropout draw random numbers in training, for "
            f"which ONNX has no operator: {_EVALUATION}"
        )
    graph = Recorder()

    def on_graph(dtype: ir.DataType | None) -> tuple[ForwardCall, tuple[RnnWeights, ...]]:
        """The call and its directions with terms for tensors, floating ones cast where asked."""
        terms = [_term(graph, argument, dtype) for argument in arguments]
        call = grouped(ForwardCall, terms)
        every = call.weights, call.weights_reverse
        return call, tuple(row for row in every if any(weight is not None for weight in row))

    input: Any = given.inputs.input
    dtype: ir.DataType = input.dtype
    is_lstm = given.cell == "lstm"
    cells = given.save and is_lstm
    found = Walked(None, None, None, None)
    # ONNX Runtime runs the nodes in float32, and in float16 by way of it.
    by_node = not needs_steps(given) and dtype != DOUBLE and not (cells and cells_are_asked_for)
    if by_node:
        call, rows = on_graph(FLOAT if dtype == BFLOAT16 else None)
        found = Walked._make([*native(graph, call, rows), None, None][:4])
    if not by_node or cells:
        walked = by_steps(graph, *on_graph(None), cells)
        # Beside a node: unused where only a backward pass would need them, and then left out.
        found = found._replace(cells=walked.cells) if by_node else walked
    accumulator = DOUBLE if dtype == DOUBLE else FLOAT
    dtypes = Results(dtype, dtype, dtype, accumulator, dtype, accumulator)
    results = Results(*found, None, None)
    values = []
    for result, wanted in zip(results, dtypes, strict=True):
        # Empty for what there is not, as the operator itself has it.
        term = graph.constant([], wanted) if result is None else result.cast(wanted)
        values.append(term.value)
    graph.hand_over()
    return values


def _term(graph: Recorder, argument: Any, dtype: ir.DataType | None) -> Any:
    if not isinstance(argument, ir.Value):
        return argument
    term = graph.term(argument)
    if dtype is None or argument.dtype is None or not argument.dtype.is_floating_point():
        return term
    return term.cast(dtype)


def _dropout(*arguments: Any) -> Any:
    raise ExportError(
        "dropout, input_dropout and weight_dropout draw random numbers in training, for which ONNX "
        f"has no operator: {_EVALUATION}"
    )


def _sort_stable(
    values: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Any:
    """By TopK, which leaves equal elements in their order."""
    graph = Recorder()
    given = graph.term(values)
    # It knows no bool and few of the short types.
    short = values.dtype in _SHORT
    keys = given.cast(INT32) if short else given
    count = given.apply("Shape").apply("Gather", graph.constant([dim], INT64))
    ordered, order = graph.apply("TopK", [keys, count], 2, axis=dim, largest=int(descending))
    order.value.dtype = INT64
    graph.hand_over()
    return [ordered.cast(values.dtype).value, order.value]

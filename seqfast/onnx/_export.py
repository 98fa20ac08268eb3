"""A model with seqfast's layers as an ONNX file."""

from __future__ import annotations

import ast
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import PackedSequence

from seqfast.nn._layer import RecurrentLayer
from seqfast.onnx._graph import OF_WEIGHTS
from seqfast.onnx._native import LAYER, WEIGHT_INPUTS
from seqfast.onnx._translations import ExportError, table
from seqfast.ops.base.checks import check_type

_PACKED = (
    "a PackedSequence has no form in ONNX: give the layer the padded batch and lengths=, from "
    "which the same states come and an output that is zero past each row's length"
)


_MOST_IN_ONE_FILE = 3 << 29  # bytes of weights; a protobuf message ends at 2 GiB


def export(
    model: Module,
    args: tuple[Any, ...] | Tensor = (),
    path: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    external_data: bool | None = None,
    custom_translation_table: Mapping[Any, Any] | None = None,
    **options: Any,
) -> torch.onnx.ONNXProgram:
    """Exports a model with seqfast's layers to ONNX, by `torch.onnx.export(..., dynamo=True)`.

    The model is exported in evaluation mode: nothing is dropped, and zoneout uses the expected
    state. The model itself is not changed. LSTM, GRU and RNN become ONNX's own nodes if these can
    express the layer, with the weights in ONNX's order as initialisers; otherwise ordinary
    operators give the same results. docs/onnx.md has a list.

    Args:
        model: any `torch.nn.Module` with seqfast's layers, created as such or by
            `seqfast.accelerate`.
        args: example arguments of the model, a tuple or one tensor; they set dtypes and ranks.
        path: of the file; None: no file.
        kwargs: named arguments of the call, such as `{"lengths": lengths}`.
        dynamic_shapes: the dynamic dimensions, as for `torch.onnx.export`, such as
            `{"input": {0: "steps", 1: "batch"}}`. All others keep the size that they have in
            `args`.
        external_data: True: write the weights to a second file; None: only above 2 GB.
        custom_translation_table: for the model's own operators, in addition to seqfast's.
        options: other arguments of `torch.onnx.export` (`input_names`, `output_names`,
            `opset_version`, `verify`, ...).

    Returns:
        The `torch.onnx.ONNXProgram`: `program(x)` runs it, `program.model_proto` is the
        `onnx.ModelProto`. Layer k of the module `encoder.rnn` is the node `encoder.rnn.l{k}`.

    Raises:
        ExportError: (a ValueError) a call that ONNX cannot express, such as packed sequences; the
            message has the remedy.
        ValueError: `dynamo=False`: torch's older exporter does not support translations.
        TypeError: a model that is not a `torch.nn.Module`.
        FileNotFoundError: a path in a folder that does not exist.
        ImportError: at the import of `seqfast.onnx`, without the extra `seqfast[onnx]`.

    Other errors of torch's exporter are passed on.

    Example:
        >>> import seqfast, torch
        >>> model = seqfast.nn.LSTM(16, 32, batch_first=True, peephole=True)
        >>> shapes = {"input": {0: "batch", 1: "steps"}}
        >>> program = seqfast.onnx.export(
        ...     model, (torch.zeros(2, 5, 16),), "lstm.onnx", dynamic_shapes=shapes
        ... )
        >>> [node.op_type for node in program.model_proto.graph.node]
        ['Transpose', 'LSTM', 'Squeeze', 'Transpose']
    """
    check_type("onnx.export", "model", model, Module, "a torch.nn.Module")
    if options.pop("dynamo", True) is not True:
        raise ValueError(
            "onnx.export: dynamo must be True, got False: torch's older exporter "
            "does not support translations"
        )
    place = None if path is None else Path(path)
    if place is not None and not place.parent.is_dir():
        raise FileNotFoundError(f"onnx.export: path must be in an existing folder, got {place}")
    given = {**table(cells_are_asked_for=True), **(custom_translation_table or {})}
    with _in_evaluation(model), _without_packing(model), _without_noise(), torch.no_grad():
        try:
            program = torch.onnx.export(
                model,
                (args,) if isinstance(args, Tensor) else args,
                kwargs=None if kwargs is None else dict(kwargs),
                dynamo=True,
                dynamic_shapes=dynamic_shapes,
                custom_translation_table=given,
                **{"verbose": False, **options},
            )
        except Exception as error:
            ours = _reason(error)
            if ours is None:
                raise
            raise ours from None
    assert program is not None
    _fold_weights(program.model)
    if place is not None:
        _save(program, place, external_data)
    return program


@contextmanager
def _in_evaluation(model: Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _without_packing(model: Module) -> Iterator[None]:
    """Refuses packed sequences where a layer sees one, before torch loses itself in their sizes."""

    def refuse(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(isinstance(value, PackedSequence) for value in (*args, *kwargs.values())):
            raise ExportError(f"{type(module).__name__}: {_PACKED}")

    layers = [module for module in model.modules() if isinstance(module, RecurrentLayer)]
    hooks = [layer.register_forward_pre_hook(refuse, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _without_noise() -> Iterator[None]:
    """Without what torch's exporter warns of itself, and of one name for two equal sizes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*isinstance.treespec, LeafSpec", FutureWarning)
        same = r"# The axis name: (\w+) will not be used, .* with another axis: \1\."
        warnings.filterwarnings("ignore", same, UserWarning)
        yield


def _reason(error: BaseException) -> ExportError | None:
    """Our own error at the bottom of torch's, or what it stands for."""
    seen: list[BaseException] = []
    below: BaseException | None = error
    while below is not None and below not in seen:
        if isinstance(below, ExportError):
            return below
        seen.append(below)
        below = below.__cause__ or below.__context__
    if any("_pack_padded_sequence" in str(each) for each in seen):
        return ExportError(f"pack_padded_sequence: {_PACKED}")
    return None


def _fold_weights(model: ir.Model) -> None:
    """Puts the weights into ONNX's order once and for all, and names nodes and weights after the
    modules: layer 0 of `encoder.rnn` is the node `encoder.rnn.l0`."""
    nodes = [node for node in model.graph.all_nodes() if LAYER in node.metadata_props]
    times: Counter[str] = Counter()
    for node in nodes:
        name = _name_of(node)
        # A layer that is called again.
        node.name = f"{name}.{times[name]}" if times[name] else name
        times[name] += 1

    def of_weights(node: ir.Node) -> bool | None:
        return True if OF_WEIGHTS in node.metadata_props else None

    optimizer.fold_constants_ir(model, should_fold=of_weights)
    passes.RemoveUnusedNodesPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in nodes:
        for letter, place in WEIGHT_INPUTS.items():
            value = node.inputs[place] if place < len(node.inputs) else None
            if value is not None and value.name is not None and value.is_initializer():
                model.graph.initializers.pop(value.name)
                value.name = f"{node.name}.{letter}"
                model.graph.register_initializer(value)


def _name_of(node: ir.Node) -> str:
    """What torch's exporter notes of every node: the modules it is in, then itself."""
    noted = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
    scopes: list[str] = ["", "", *ast.literal_eval(noted)]
    module, layer = scopes[-2], f"l{node.metadata_props[LAYER]}"
    return f"{module}.{layer}" if module else layer


def _save(program: torch.onnx.ONNXProgram, path: Path, external_data: bool | None) -> None:
    """Where it is one file, whole or not at all."""
    tensors = [value.const_value for value in program.model.graph.initializers.values()]
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if external_data or size > _MOST_IN_ONE_FILE:
        program.save(path, external_data=True)
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        program.save(partial, external_data=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

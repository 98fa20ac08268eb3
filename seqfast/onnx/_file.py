"""What an ONNX file says of one recurrent node: where it stands, its attributes, its constants."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from seqfast.onnx._native import NAMES

Array = np.ndarray[Any, np.dtype[Any]]
Source = str | os.PathLike[str] | onnx.ModelProto | onnx.GraphProto | onnx.NodeProto

_OPERATION = "load_rnn"
_DOMAINS = ("", "ai.onnx")
_DEFAULT_OPSET = 18  # to compute constants with, where the source says none


class Scope:
    """The names that a node sees: those of its graph and of the graphs around it."""

    def __init__(self, graph: onnx.GraphProto | None, outer: Scope | None = None) -> None:
        self.outer = outer
        self.tensors: dict[str, onnx.TensorProto | Array] = {}
        self.makers: dict[str, onnx.NodeProto] = {}
        self.inputs: set[str] = set()
        self.sparse: set[str] = set()
        if graph is not None:
            self.tensors.update((tensor.name, tensor) for tensor in graph.initializer)
            self.makers.update((name, node) for node in graph.node for name in node.output)
            self.inputs.update(value.name for value in graph.input)
            self.sparse.update(tensor.values.name for tensor in graph.sparse_initializer)

    def home(self, name: str) -> Scope | None:
        """The innermost scope that knows the name."""
        if any(name in known for known in (self.tensors, self.makers, self.inputs, self.sparse)):
            return self
        return None if self.outer is None else self.outer.home(name)


@dataclass(frozen=True)
class Node:
    """One recurrent node, and what its names stand for."""

    proto: onnx.NodeProto
    scope: Scope
    file: str
    opset: int

    @property
    def kind(self) -> str:
        return self.proto.op_type

    @property
    def name(self) -> str:
        return self.proto.name or next(iter(self.proto.output), "")

    def refuse(self, what: str) -> NoReturn:
        raise ValueError(f"{_OPERATION}: {self.file}: {self.kind} node {self.name!r}: {what}")

    def input(self, place: int) -> str:
        """The name of an input, "" where there is none."""
        return self.proto.input[place] if place < len(self.proto.input) else ""

    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for attribute in self.proto.attribute:
            if attribute.ref_attr_name:
                self.refuse(
                    f"{attribute.name} must be a value, got the attribute "
                    f"{attribute.ref_attr_name!r} of a function: inline the model's functions "
                    "(onnx.inliner.inline_local_functions)"
                )
            value = helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                value = value.decode(errors="replace")
            elif isinstance(value, list) and all(isinstance(each, bytes) for each in value):
                value = [each.decode(errors="replace") for each in value]
            found[attribute.name] = value
        return found

    def is_constant(self, place: int) -> bool:
        """Whether the file itself says what that input is."""
        name = self.input(place)
        return bool(name) and self._missing(name, self.scope) is None

    def constant(self, place: int, called: str) -> Array:
        """The value of an input: of an initialiser, or computed from such."""
        name = self.input(place)
        if not name:
            self.refuse(f"{called} must be given, got none")
        missing = self._missing(name, self.scope)
        if missing is not None:
            self.refuse(f"{called} must be an initialiser, or computed from such; {missing}")
        try:
            return self._value(name, self.scope)
        except ValueError:
            raise
        except Exception as error:
            self.refuse(f"{called}, {name!r}, cannot be read: {_words(error)}")

    def _missing(self, name: str, scope: Scope) -> str | None:
        """What is in the way of a constant, in words."""
        seen: set[str] = set()
        left = [(name, scope)]
        while left:
            wanted, at = left.pop()
            home = at.home(wanted)
            if home is None:
                return f"{wanted!r} is nowhere in the file"
            if wanted in home.sparse:
                return f"{wanted!r} is sparse"
            if wanted in home.tensors or wanted in seen:
                continue
            if wanted in home.inputs:
                return f"{wanted!r} is an input of the graph, known when it runs alone"
            seen.add(wanted)
            maker = home.makers[wanted]
            if any(a.type in (a.GRAPH, a.GRAPHS) for a in maker.attribute):
                return f"{wanted!r} is the result of {maker.op_type}, known when it runs alone"
            left += [(each, home) for each in maker.input if each]
        return None

    def _value(self, name: str, scope: Scope) -> Array:
        home = scope.home(name)
        assert home is not None
        if name in home.tensors:
            tensor = home.tensors[name]
            if not isinstance(tensor, onnx.TensorProto):
                return np.asarray(tensor)
            try:
                return numpy_helper.to_array(tensor)
            except Exception as error:
                self.refuse(f"the initialiser {name!r} cannot be read: {_words(error)}")
        nodes: list[onnx.NodeProto] = []
        leaves: dict[str, Array] = {}
        self._collect(name, home, nodes, leaves)
        output = helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
        tensors = [numpy_helper.from_array(value, leaf) for leaf, value in leaves.items()]
        graph = helper.make_graph(nodes, "constants", [], [output], tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        (value,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, {})
        return np.asarray(value)

    def _collect(
        self, name: str, scope: Scope, nodes: list[onnx.NodeProto], leaves: dict[str, Array]
    ) -> None:
        """The nodes that make it, in their order, and the tensors they begin with."""
        home = scope.home(name)
        assert home is not None
        if name in leaves or any(name in node.output for node in nodes):
            return
        if name in home.tensors:
            leaves[name] = self._value(name, home)
            return
        maker = home.makers[name]
        for each in maker.input:
            if each:
                self._collect(each, home, nodes, leaves)
        nodes.append(maker)


def find_node(source: Any, name: str | None, weights: Any) -> Node:
    """The recurrent node of that name in a file, model or graph; the node itself, if it is one."""
    if isinstance(source, onnx.NodeProto):
        return _given_node(source, weights)
    if weights is not None:
        raise ValueError(f"{_OPERATION}: weights must be None unless source is a NodeProto")
    model, file = _model_of(source)
    graph = model.graph if isinstance(model, onnx.ModelProto) else model
    opset = _opset_of(model)
    nodes = [Node(proto, scope, file, opset) for proto, scope in _walk(graph, None)]
    found = [n for n in nodes if n.kind in NAMES and n.proto.domain in _DOMAINS]
    listed = ", ".join(f"{node.kind} {node.name!r}" for node in found)
    if name is not None:
        of_name = [n for n in found if name in (n.proto.name, *n.proto.output)]
        if len(of_name) != 1:
            many = "no" if not of_name else str(len(of_name))
            raise ValueError(
                f"{_OPERATION}: {file} has {many} LSTM, GRU or RNN nodes of the name {name!r}; "
                f"it has {listed or 'none at all'}"
            )
        return of_name[0]
    if not found:
        raise ValueError(f"{_OPERATION}: {file} has no LSTM, GRU or RNN node{_others(nodes)}")
    if len(found) > 1:
        raise ValueError(
            f"{_OPERATION}: name must be given for {file}, which has {len(found)} nodes: {listed}"
        )
    return found[0]


def _given_node(proto: onnx.NodeProto, weights: Any) -> Node:
    scope, opset = Scope(None), _DEFAULT_OPSET
    if isinstance(weights, onnx.ModelProto):
        scope, opset = Scope(weights.graph), _opset_of(weights)
    elif isinstance(weights, onnx.GraphProto):
        scope = Scope(weights)
    elif isinstance(weights, Mapping):
        scope.tensors.update(weights)
    elif weights is not None:
        raise TypeError(
            f"{_OPERATION}: weights must be a mapping from names to arrays, an onnx.GraphProto or "
            f"an onnx.ModelProto, got {type(weights).__name__}"
        )
    node = Node(proto, scope, "the NodeProto", opset)
    if proto.op_type not in NAMES or proto.domain not in _DOMAINS:
        domain = f"{proto.domain}." if proto.domain else ""
        raise ValueError(
            f"{_OPERATION}: {node.file} {node.name!r} must be an LSTM, GRU or RNN, "
            f"got {domain}{proto.op_type}"
        )
    return node


def _model_of(source: Any) -> tuple[onnx.ModelProto | onnx.GraphProto, str]:
    """The model, and what messages call it."""
    if isinstance(source, (onnx.ModelProto, onnx.GraphProto)):
        return source, f"the {type(source).__name__}"
    if isinstance(getattr(source, "model_proto", None), onnx.ModelProto):
        return source.model_proto, "the ONNXProgram"
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"{_OPERATION}: source must be a path, an onnx.ModelProto, GraphProto or NodeProto, or "
            f"an ONNXProgram, got {type(source).__name__}"
        )
    path = Path(source)
    file = os.fspath(source)
    content = path.read_bytes()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(f"{_OPERATION}: {file} is not an ONNX model, or truncated") from error
    if not model.HasField("graph") or not model.ir_version:
        raise ValueError(f"{_OPERATION}: {file} is not an ONNX model: it has no graph")
    try:
        onnx.load_external_data_for_model(model, os.fspath(path.parent))
    except Exception as error:
        raise ValueError(
            f"{_OPERATION}: {file} keeps weights in another file, which cannot be read: "
            f"{_words(error)}"
        ) from error
    return model, file


def _opset_of(model: onnx.ModelProto | onnx.GraphProto) -> int:
    imports = model.opset_import if isinstance(model, onnx.ModelProto) else ()
    return next((each.version for each in imports if each.domain in _DOMAINS), _DEFAULT_OPSET)


def _walk(graph: onnx.GraphProto, outer: Scope | None) -> Iterator[tuple[onnx.NodeProto, Scope]]:
    """Every node, those of inner graphs too, with what it sees."""
    scope = Scope(graph, outer)
    for node in graph.node:
        yield node, scope
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else [*attribute.graphs]
            for each in inner:
                yield from _walk(each, scope)


def _others(nodes: list[Node]) -> str:
    """What recurrent nodes of other kinds there are, for a message."""
    kinds = {f"{n.proto.domain}.{n.kind}" for n in nodes if any(k in n.kind for k in NAMES)}
    return f", but {', '.join(sorted(kinds))}" if kinds else ""


def _words(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

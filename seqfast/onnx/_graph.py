"""ONNX nodes written as arithmetic: a recorder of nodes, and values that know their recorder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript import evaluator

BFLOAT16, FLOAT16 = ir.DataType.BFLOAT16, ir.DataType.FLOAT16
FLOAT, DOUBLE = ir.DataType.FLOAT, ir.DataType.DOUBLE
INT32, INT64, BOOL = ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL

_DTYPES = {"Less": BOOL, "Greater": BOOL, "Shape": INT64}  # of results

# What is computed from weights alone carries this mark: `export` folds it, however large it is.
OF_WEIGHTS = "seqfast.of_weights"


class Recorder:
    """Nodes of one graph, in their order."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def node(
        self, kind: str, inputs: Sequence[ir.Value | None], outputs: int = 1, **attributes: Any
    ) -> Sequence[ir.Value]:
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        made = ir.Node(
            "", kind, given, ir.convenience.convert_attributes(attributes), num_outputs=outputs
        )
        self.nodes.append(made)
        return made.outputs

    def constant(self, value: Any, dtype: ir.DataType) -> Term:
        array = np.asarray(value, dtype.numpy())
        tensor = ir.tensor(array)
        (made,) = self.node("Constant", [], value=tensor)
        made.dtype, made.shape, made.const_value = dtype, ir.Shape(array.shape), tensor
        return Term(self, made)

    def term(self, value: ir.Value) -> Term:
        return Term(self, value)

    def apply(
        self, kind: str, inputs: Sequence[Term | None], outputs: int, **attributes: Any
    ) -> list[Term]:
        """Every output of that operator, first inputs in front; all have the dtype of the first,
        where it is not said otherwise here."""
        values = [None if term is None else term.value for term in inputs]
        like = inputs[1 if kind == "Where" else 0]
        made = self.node(kind, values, outputs, **attributes)
        dtype = _DTYPES.get(kind, None if like is None else like.value.dtype)
        if dtype is not None:
            for value in made:
                value.dtype = dtype
        return [Term(self, value) for value in made]

    def hand_over(self) -> None:
        """To torch's exporter, which records what a translation does."""
        tracer: Any = evaluator.default()
        tracer.nodes.extend(self.nodes)

    def mark(self, since: int) -> None:
        """Says of the nodes from that place on that they are computed from weights alone."""
        for node in self.nodes[since:]:
            node.metadata_props[OF_WEIGHTS] = "1"


@dataclass(frozen=True)
class Term:
    """A value in a graph that is being recorded; arithmetic on it records nodes there."""

    graph: Recorder
    value: ir.Value

    def apply(self, kind: str, *others: Term | None, **attributes: Any) -> Term:
        """The only output of that operator; `self` is its first input."""
        (made,) = self.graph.apply(kind, [self, *others], 1, **attributes)
        return made

    def __add__(self, other: Term) -> Term:
        return self.apply("Add", other)

    def __sub__(self, other: Term) -> Term:
        return self.apply("Sub", other)

    def __mul__(self, other: Term) -> Term:
        return self.apply("Mul", other)

    def __matmul__(self, other: Term) -> Term:
        return self.apply("MatMul", other)

    def integers(self, *values: int) -> Term:
        """A constant beside it."""
        return self.graph.constant(values, INT64)

    def cast(self, dtype: ir.DataType) -> Term:
        if self.value.dtype == dtype:
            return self
        made = self.apply("Cast", to=int(dtype))
        made.value.dtype, made.value.shape = dtype, self.value.shape
        return made

    def transposed(self, *order: int) -> Term:
        return self.apply("Transpose", perm=order)

    def unsqueezed(self, axis: int) -> Term:
        return self.apply("Unsqueeze", self.integers(axis))

    def squeezed(self, axis: int) -> Term:
        return self.apply("Squeeze", self.integers(axis))

    def sliced(self, start: int, stop: int, axis: int) -> Term:
        bounds = [self.integers(number) for number in (start, stop, axis)]
        return self.apply("Slice", *bounds)

    def blocks(self, sizes: Sequence[int], axis: int) -> list[Term]:
        """Cut along an axis."""
        if len(sizes) == 1:
            return [self]
        return self.graph.apply("Split", [self, self.integers(*sizes)], len(sizes), axis=axis)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """None where a size is known at run time alone."""
        sizes = () if self.value.shape is None else self.value.shape
        return tuple([size if isinstance(size, int) else None for size in sizes])

    def size(self, axis: int) -> int | None:
        return self.shape[axis]

    def zeros(self, *shape: int) -> Term:
        """Of its dtype."""
        assert self.value.dtype is not None
        return self.graph.constant(np.zeros(shape), self.value.dtype)

    def cut(self, sizes: Sequence[int], axis: int) -> list[Term]:
        """`blocks` by one operator for each, which exporters fold where it is of weights."""
        ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        return [self.sliced(e - s, e, axis) for s, e in zip(sizes, ends, strict=True)]

    def where(self, condition: Term, otherwise: Term) -> Term:
        """Itself where the condition holds."""
        return condition.apply("Where", self, otherwise)


def joined(terms: Sequence[Term], axis: int) -> Term:
    first, *others = terms
    return first.apply("Concat", *others, axis=axis) if others else first

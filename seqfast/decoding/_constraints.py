"""The constraints of one search: their states beside the model's, and what they leave of a step."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqfast.decoding._masks import allowed_mask
from seqfast.decoding._model import StepError
from seqfast.decoding.options import SearchOptions
from seqfast.decoding.state import Node, Rows, begin_state, is_tensor
from seqfast.decoding.strategies import Begun

Array = Any  # a numpy.ndarray or a torch.Tensor


class Constraints:
    """Of a search that has seen its first logits."""

    def __init__(self, options: SearchOptions, begun: Begun) -> None:
        self._options = options
        self._all = options.constraints
        self._names = [f"constraints[{i}], {type(c).__name__}," for i, c in enumerate(self._all)]
        self._nodes: list[Node] = []
        self._states: list[Any] = []
        self._flat = begun.rows
        for constraint, name in zip(self._all, self._names, strict=True):
            state = self._asked(name, "begin", constraint.begin, begun)
            node, own = begin_state(state, begun.rows, 1, begun.like, options.operation)
            self._nodes.append(node)
            self._states.append(own)

    def apply(self, t: int, logits: Array, mask: Array | None) -> tuple[Array, Array | None]:
        """The logits and the mask that a step is to choose by."""
        operation = self._options.operation
        for constraint, name, state in zip(self._all, self._names, self._states, strict=True):
            given = self._asked(name, "allowed", constraint.allowed, state, t)
            left = allowed_mask(operation, given, logits, f"allowed of {name}")
            if left is not None:
                mask = left if mask is None else mask & left
        over: Array | None = None
        for constraint, name, state in zip(self._all, self._names, self._states, strict=True):
            ends = getattr(constraint, "ends", None)
            if ends is None:
                continue
            rows = self._asked(name, "ends", ends, state, t)
            if rows is None:
                continue
            if tuple(rows.shape) != (logits.shape[0],):
                raise ValueError(
                    f"{operation}: ends of {name} must return bool [{logits.shape[0]}], got "
                    f"{list(rows.shape)}"
                )
            over = rows if over is None else over | rows
        if over is None or (not _on_gpu(logits) and not bool(over.any())):
            return logits, mask
        return self._ended(logits, mask, over)

    def advance(self, rows: Rows, tokens: Array) -> None:
        """By the rows that go on and the tokens that they have chosen, [rows]."""
        operation = self._options.operation
        count = int(tokens.shape[0])
        for i, constraint in enumerate(self._all):
            node, name = self._nodes[i], self._names[i]
            state = node.select(self._states[i], rows)
            after = self._asked(name, "advance", constraint.advance, state, tokens)
            node.check(after, f"{operation}: state that advance of {name} returned", (count, count))
            self._states[i] = node.kept(after, state)

    def _ended(self, logits: Array, mask: Array | None, over: Array) -> tuple[Array, Array | None]:
        """Rows that are over have nothing but an EOS of probability 1 before them."""
        eos, low = self._options.eos[0], -float("inf")
        if is_tensor(logits):
            logits = logits.masked_fill(over[:, None], low)
            logits[:, eos] = logits[:, eos].masked_fill(over, 0)
        else:
            logits = np.where(over[:, None], np.array(low, logits.dtype), logits)
            logits[over, eos] = 0
        return logits, mask if mask is None else mask | over[:, None]

    def _asked(self, name: str, what: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            # The project's own say by themselves what was wrong with them.
            if function.__module__.startswith("seqfast.") and isinstance(error, ValueError):
                raise
            when = f" at t = {arguments[-1]}" if what in ("allowed", "ends") else ""
            raise StepError(
                f"{self._options.operation}: {what} of {name} raised {type(error).__name__}{when}: "
                f"{error}"
            ) from error


def _on_gpu(array: Array) -> bool:
    return is_tensor(array) and array.is_cuda

"""A step function, or several averaged, whose every answer is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqfast.decoding.options import SearchOptions
from seqfast.decoding.state import Node, Rows, begin_state, is_tensor
from seqfast.ops.base.arrays import library_of

Array = Any  # a numpy.ndarray or a torch.Tensor
Step = Callable[[Array, Any, Any], tuple[Array, Any]]


class StepError(RuntimeError):
    """A step function raised an error; that error is the `__cause__`.

    Example:
        >>> import numpy as np, seqfast
        >>> try:
        ...     seqfast.BeamSearch(2, eos=0)(lambda ids, state, t: 1 / 0, np.array([1]))
        ... except seqfast.decoding.StepError as error:
        ...     type(error.__cause__)
        <class 'ZeroDivisionError'>
    """


class Model:
    """Step functions with their states; `beams` rows of each sentence.

    Several are an ensemble: their probabilities are averaged, or their log-probabilities.
    """

    def __init__(
        self, step: Step | Sequence[Step], state: Any, batch: int, like: Array, o: SearchOptions
    ) -> None:
        self._operation, self._like, self._options = o.operation, like, o
        several = not callable(step)
        steps = list(step) if not callable(step) else [step]
        if not steps or not all(callable(one) for one in steps):
            raise TypeError(f"{self._operation}: step must be callable, or a sequence of callables")
        states = list(state) if several and isinstance(state, (list, tuple)) else [state]
        if several and state is None:
            states = [None] * len(steps)
        if len(states) != len(steps):
            raise ValueError(
                f"{self._operation}: state must have one state for each of {len(steps)} step "
                f"functions, got {len(states)}"
            )
        self._steps = steps
        self._names = [f"step[{i}]" if several else "step" for i in range(len(steps))]
        self._temperature = float(o.temperature)
        if o.weights is not None and len(o.weights) != len(steps):
            raise ValueError(
                f"{self._operation}: weights must be one for each of {len(steps)} step functions, "
                f"got {len(o.weights)}"
            )
        mixes = o.ensemble == "probabilities"
        weights = o.weights or (1 / len(steps),) * len(steps)
        total = sum(weights) if mixes else 1.0
        self._weights = [weight / total for weight in weights]
        begun = [begin_state(one, batch, o.beam_size, like, self._operation) for one in states]
        self.nodes: list[Node] = [node for node, _ in begun]
        self.states: list[Any] = [one for _, one in begun]
        self.vocabulary = -1
        self._dtypes: list[Any] = [None] * len(steps)

    @property
    def whose(self) -> str:
        """Whose the logits are, in an error's words."""
        return "step" if len(self._steps) == 1 else f"the {len(self._steps)} steps together"

    @property
    def averaged(self) -> bool:
        """Whether logits are log-probabilities already, over the temperature."""
        return len(self._steps) > 1 or self._weights != [1.0]

    def __call__(
        self, ids: Array, states: list[Any], t: Any, batch: int
    ) -> tuple[Array, list[Any]]:
        """Logits [rows, vocabulary] and the states after it, of `batch` sentences. Changes nothing
        of this object but what the first call learns."""
        results, after = [], []
        for i in range(len(self._steps)):
            logits, state = self._one(i, ids, states[i], t, batch)
            results.append(logits)
            after.append(state)
        if not self.averaged:
            return results[0], after
        return self._average(results), after

    def select(self, states: list[Any], rows: Rows) -> list[Any]:
        return [node.select(s, rows) for node, s in zip(self.nodes, states, strict=True)]

    def _one(self, i: int, ids: Array, state: Any, t: Any, batch: int) -> tuple[Array, Any]:
        operation, name = self._operation, self._names[i]
        rows = ids.shape[0]
        try:
            result = self._steps[i](ids, state, t)
        except Exception as error:
            raise StepError(
                f"{operation}: {name} raised {type(error).__name__} at t = {t}: {error}"
            ) from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"{operation}: {name} must return a tuple (logits, state), "
                f"got {type(result).__name__}"
            )
        logits, after = result
        self._check_logits(logits, rows, name)
        before = self._dtypes[i] = self._dtypes[i] or logits.dtype
        if logits.dtype != before:
            raise TypeError(
                f"{operation}: logits of {name} must be {before}, as at the first step, "
                f"got {logits.dtype}"
            )
        node = self.nodes[i]
        node.check(after, f"{operation}: state that {name} returned", (rows, batch))
        return logits, node.kept(after, state)

    def _check_logits(self, logits: Any, rows: int, name: str) -> None:
        operation = self._operation
        numpy = isinstance(self._like, np.ndarray)
        if not (isinstance(logits, np.ndarray) if numpy else is_tensor(logits)):
            wanted = "a NumPy array" if numpy else "a torch tensor"
            raise TypeError(
                f"{operation}: logits of {name} must be {wanted}, as the start ids are, "
                f"got {type(logits).__name__}"
            )
        xp = library_of(logits, operation, f"logits of {name}")
        if xp.dtype_code(logits) is None:
            raise TypeError(
                f"{operation}: logits of {name} must be float32, float64, bfloat16 or float16, "
                f"got {logits.dtype}"
            )
        wanted_size = "vocabulary" if self.vocabulary < 0 else str(self.vocabulary)
        right = logits.ndim == 2 and logits.shape[0] == rows and logits.shape[1] > 0
        if right and self.vocabulary < 0:
            self.vocabulary = logits.shape[1]
        if not right or logits.shape[1] != self.vocabulary:
            shared = self.averaged and logits.ndim == 2 and logits.shape[0] == rows
            hint = "; models of an ensemble must share one vocabulary" if shared else ""
            raise ValueError(
                f"{operation}: logits of {name} must be [{rows}, {wanted_size}], "
                f"got {list(logits.shape)}{hint}"
            )
        place = xp.place(self._like)
        if xp.place(logits) != place:
            raise ValueError(
                f"{operation}: logits of {name} must be on {place}, as the start ids are, "
                f"got {xp.place(logits)}"
            )

    def _average(self, results: list[Array]) -> Array:
        """Log-probabilities of the weighted mean; the temperature divides each model's logits."""
        t, by_logs = self._temperature, self._options.ensemble == "logprobs"
        if isinstance(results[0], np.ndarray):
            logs = [log_softmax(x, t) for x in results]
            real = logs[0].dtype.type
            if by_logs:
                parts = [real(w) * x for w, x in zip(self._weights, logs, strict=True)]
                return sum(parts[1:], parts[0])
            parts = [x + real(math.log(w)) for w, x in zip(self._weights, logs, strict=True)]
            return np.logaddexp.reduce(parts)
        import torch

        wide = torch.float64 if any(x.dtype == torch.float64 for x in results) else torch.float32
        logs = [torch.log_softmax(x.to(wide) / t, 1) for x in results]
        if by_logs:
            parts = [w * x for w, x in zip(self._weights, logs, strict=True)]
            return sum(parts[1:], parts[0])
        parts = [x + math.log(w) for w, x in zip(self._weights, logs, strict=True)]
        return torch.logsumexp(torch.stack(parts), 0)


def log_softmax(logits: Array, temperature: float) -> Array:
    """Of NumPy arrays, in float64 for float64, else float32; NaN where all of a row is -inf."""
    real = np.float64 if logits.dtype == np.float64 else np.float32
    x = logits.astype(real) / real(temperature)
    largest = x.max(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x - np.where(largest == -np.inf, 0, largest)
        return np.asarray(x - np.log(np.exp(x).sum(1, keepdims=True)))

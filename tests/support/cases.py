"""Random layers for the operation tests, on any backend, and how close results must come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqfast.reference import rnn as reference

# Of the largest value expected, and of each value.
TOLERANCE = {
    "float64": {"atol": 1e-12, "rtol": 1e-10},
    "float32": {"atol": 3e-6, "rtol": 1e-4},
    "float16": {"atol": 4e-3, "rtol": 1e-2},
    "bfloat16": {"atol": 3e-2, "rtol": 5e-2},
}
DTYPES = tuple(TOLERANCE)


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Whatever would wait for a GPU is an error."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@dataclass(frozen=True)
class Backend:
    """What the fixtures of conftest hand to a test."""

    name: str  # cpu, cuda-host or cuda
    device: str  # where its tensors are: cpu or cuda

    def on(self, layer: Layer) -> Layer:
        """A layer of NumPy arrays in float64 as this backend takes it: tensors for a GPU."""
        return layer if self.device == "cpu" else torch_layer(layer, "float64", self.device)


@dataclass
class Layer:
    """One layer's arguments and the gradients that come back to it, in float64."""

    input: Any
    hidden: Any
    cell: Any
    weights: list[tuple[Any, ...]]
    lengths: Any
    grads: tuple[Any, Any, Any, Any]

    def forward_args(self) -> tuple[Any, ...]:
        return self.input, self.hidden, self.cell, self.weights, self.lengths

    def backward_args(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        output, _, _, cells, gates = results
        return (*self.grads, *self.forward_args(), output, cells, gates)


def make_layer(
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    proj_size: int = 0,
    directions: int = 1,
    *,
    bias: bool = True,
    states: bool = True,
    ragged: bool = False,
    seed: int = 0,
) -> Layer:
    rng = np.random.default_rng(seed)
    output_size = proj_size or hidden_size

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        # Multiples of 1/64 below 2 are exact in every dtype: all start from the same numbers.
        return np.clip(np.round(rng.standard_normal(shape) * scale * 64) / 64, -1.98, 1.98)

    scale = 1 / np.sqrt(max(hidden_size, input_size, 4))
    gates = 4 * hidden_size
    weights = [
        (
            draw(gates, input_size, scale=scale),
            draw(gates, output_size, scale=scale),
            draw(gates, scale=0.5) if bias else None,
            draw(gates, scale=0.5) if bias else None,
            draw(proj_size, hidden_size, scale=scale) if proj_size else None,
        )
        for _ in range(directions)
    ]
    lengths = None
    if ragged:
        lengths = rng.integers(0, steps + 1, batch)
        lengths[: min(2, batch)] = [0, steps][: min(2, batch)]
        lengths = rng.permutation(lengths)
    return Layer(
        draw(steps, batch, input_size),
        draw(directions, batch, output_size) if states else None,
        draw(directions, batch, hidden_size) if states else None,
        weights,
        lengths,
        (
            draw(steps, batch, directions * output_size),
            draw(directions, batch, output_size),
            draw(directions, batch, hidden_size),
            draw(steps, batch, directions * hidden_size, scale=0.1),
        ),
    )


def to_torch(value: Any, dtype: str, device: str = "cpu") -> Any:
    """Arrays, lists and tuples of arrays as torch tensors; floats in `dtype`."""
    if isinstance(value, (tuple, list)):
        return type(value)(to_torch(item, dtype, device) for item in value)
    if isinstance(value, np.ndarray):
        tensor = torch.from_numpy(value).to(device)
        return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
    return value


def torch_layer(layer: Layer, dtype: str, device: str = "cpu") -> Layer:
    grads = to_torch(layer.grads, dtype, device)
    if dtype in ("bfloat16", "float16") and grads[3] is not None:
        grads = (*grads[:3], grads[3].float())  # cells are kept in float32
    arguments = (to_torch(value, dtype, device) for value in layer.forward_args())
    return Layer(*arguments, grads)


def assert_close(actual: Any, wanted: Any, dtype: str) -> None:
    """Nested tuples of arrays or None, near each other by `TOLERANCE`."""
    if wanted is None:
        assert actual is None
    elif isinstance(wanted, (tuple, list)):
        assert len(actual) == len(wanted)
        for one, other in zip(actual, wanted, strict=True):
            assert_close(one, other, dtype)
    else:
        if isinstance(actual, torch.Tensor):
            actual = actual.detach().double().cpu().numpy()
        assert actual.shape == wanted.shape
        tolerance = TOLERANCE[dtype]
        largest = float(np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(
            actual, wanted, rtol=tolerance["rtol"], atol=tolerance["atol"] * max(1.0, largest)
        )


def assert_same_bits(actual: Any, wanted: Any) -> None:
    """Nested tuples of arrays or None, equal in every bit; NaN where NaN is wanted."""
    if isinstance(wanted, (tuple, list)):
        for one, other in zip(actual, wanted, strict=True):
            assert_same_bits(one, other)
    elif wanted is None:
        assert actual is None
    else:
        one, other = (torch.as_tensor(x, device="cpu") for x in (actual, wanted))
        if one.dtype != other.dtype or not torch.equal(one, other):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def reference_results(layer: Layer) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The twin's forward and backward results, in float64."""
    forward = reference.lstm_forward(*layer.forward_args())
    return forward, reference.lstm_backward(*layer.backward_args(forward))

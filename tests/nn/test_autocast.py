"""Autocast: the dtypes torch.nn's layers give, and results near the exact ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.cases import TOLERANCE, Backend
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqfast.nn


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


def near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted.double(), **TOLERANCE["bfloat16"])


def pair(kind: str = "LSTM", **options: Any) -> tuple[Any, Any]:
    theirs = getattr(nn, kind)(8, 12, 2, **options)
    ours = getattr(seqfast.nn, kind)(8, 12, 2, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_bfloat16_as_torch(
    backend: Backend, input_dtype: torch.dtype, states: bool, grad: bool
) -> None:
    theirs, ours = pair(bidirectional=True)
    x = torch.randn(5, 3, 8).to(input_dtype)
    hx = (torch.randn(4, 3, 12), torch.randn(4, 3, 12)) if states else None
    with torch.set_grad_enabled(grad), torch.autocast(backend.device, torch.bfloat16):
        output, (h_n, c_n) = ours(x, hx)
        wanted, (h_wanted, c_wanted) = theirs(x, hx)
    for one, other in ((output, wanted), (h_n, h_wanted), (c_n, c_wanted)):
        assert one.dtype == other.dtype == torch.bfloat16
        near(one, other)


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
@pytest.mark.parametrize("grad", [True, False])
def test_other_layers_give_autocasts_dtype(backend: Backend, kind: str, grad: bool) -> None:
    """As the LSTM does, on every device; torch's on the CPU may give float32."""
    theirs, ours = pair(kind, bidirectional=True)
    x, hx = torch.randn(5, 3, 8), torch.randn(4, 3, 12)
    with torch.set_grad_enabled(grad), torch.autocast(backend.device, torch.bfloat16):
        output, h_n = ours(x, hx)
    wanted, h_wanted = theirs(x, hx)
    for one, other in ((output, wanted), (h_n, h_wanted)):
        assert one.dtype == torch.bfloat16
        near(one, other)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_and_gradients_stay_float32(
    backend: Backend, kind: str, dtype: torch.dtype
) -> None:
    theirs, ours = pair(kind, bidirectional=True)
    x = torch.randn(5, 3, 8)
    with torch.autocast(backend.device, dtype):
        output, _ = ours(x)
        loss = output.float().pow(2).sum()
    assert output.dtype == dtype
    loss.backward()
    theirs(x)[0].pow(2).sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.dtype == one.grad.dtype == torch.float32
        bound = TOLERANCE["bfloat16"]["atol"] * max(1.0, other.grad.abs().max().item())
        torch.testing.assert_close(one.grad, other.grad, rtol=5e-2, atol=bound)


def test_float64_is_not_cast(backend: Backend) -> None:
    theirs, ours = pair()
    x = torch.randn(5, 3, 8).double()
    with torch.autocast(backend.device, torch.bfloat16):
        output, (h_n, c_n) = ours.double()(x)
        wanted, _ = theirs.double()(x)
    assert output.dtype == h_n.dtype == c_n.dtype == wanted.dtype == torch.float64
    torch.testing.assert_close(output, wanted)


def test_packed(backend: Backend) -> None:
    theirs, ours = pair()
    packed = pack_padded_sequence(torch.randn(5, 3, 8), [5, 3, 2])
    with torch.autocast(backend.device, torch.bfloat16):
        output, (h_n, _) = ours(packed)
        wanted, (h_wanted, _) = theirs(packed)
    assert output.data.dtype == h_n.dtype == torch.bfloat16
    near(output.data, wanted.data)
    near(h_n, h_wanted)


def test_switched_off_inside(backend: Backend) -> None:
    _, ours = pair()
    x = torch.randn(5, 3, 8)
    with (
        torch.autocast(backend.device, torch.bfloat16),
        torch.autocast(backend.device, enabled=False),
    ):
        torch.testing.assert_close(ours(x), ours(x))
        assert ours(x)[0].dtype == torch.float32
        with pytest.raises(ValueError, match="does not match weight dtype"):
            ours(x.bfloat16())


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("states", [None, torch.float32, torch.bfloat16])
def test_cell_as_torch(
    backend: Backend, kind: str, input_dtype: torch.dtype, states: torch.dtype | None
) -> None:
    torch.manual_seed(3)
    theirs = getattr(nn, kind)(8, 12)
    torch.manual_seed(3)
    ours = getattr(seqfast.nn, kind)(8, 12)
    x = torch.randn(3, 8).to(input_dtype)
    hx: Any = None
    if states is not None:
        hx = torch.randn(3, 12).to(states)
        hx = (hx, torch.randn(3, 12).to(states)) if kind == "LSTMCell" else hx
    with torch.autocast(backend.device, torch.bfloat16):
        found, wanted = (
            result if isinstance(result, tuple) else (result,)
            for result in (ours(x, hx), theirs(x, hx))
        )
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        near(one, other)


@pytest.mark.parametrize("grad", [True, False])
def test_compiled(backend: Backend, grad: bool) -> None:
    _, ours = pair()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 3, 8)
    with torch.set_grad_enabled(grad), torch.autocast(backend.device, torch.bfloat16):
        torch.testing.assert_close(compiled(x), ours(x))

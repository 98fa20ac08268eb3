"""A row's bits do not depend on its batch on the CPU, among many rows and among few."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqfast
import seqfast.nn

KINDS = ("LSTM", "GRU", "RNN")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# steps, batch, input size, hidden size; of the first three a single row has more than 32 steps, of
# the others all rows together have no more. Odd sizes, more than one panel.
SHAPES = ((33, 7, 5, 7), (34, 3, 64, 130), (40, 6, 16, 33), (1, 32, 33, 64), (4, 8, 16, 33))
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "both directions": ("GRU", {"num_layers": 2, "bidirectional": True}),
    "projection": ("LSTM", {"proj_size": 5, "peephole": True}),
    "reset before": ("GRU", {"reset_after": False}),
    "zoneout": ("LSTM", {"zoneout": 0.1}),
}


def parts(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [x for r in result for x in parts(r)]


def of_rows(layer: Any, x: Tensor, grad: bool) -> list[Tensor]:
    """Output, states and the input's gradient of some rows, each with the rows second."""
    x = x.clone().requires_grad_(grad)
    with torch.set_grad_enabled(grad):
        found = parts(layer(x))
        if grad:
            found[0].backward(torch.cos(3 * found[0].detach()))
            assert x.grad is not None
            found.append(x.grad)
    return [part.detach() for part in found]


def assert_invariant(layer: Any, x: Tensor, grad: bool) -> None:
    """Rows one by one, and cut in two, have the bits of all together."""
    batch = x.shape[1]
    together = of_rows(layer, x, grad)
    for cuts in ([1] * batch, [batch // 3, batch - batch // 3]):
        pieces = [of_rows(layer, piece, grad) for piece in x.split(cuts, 1) if piece.shape[1]]
        for k, whole in enumerate(together):
            assert torch.equal(torch.cat([piece[k] for piece in pieces], 1), whole)


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_any_shape(kind: str, dtype: torch.dtype, grad: bool, cpu_isa: str) -> None:
    for steps, batch, input_size, hidden_size in SHAPES:
        layer = getattr(seqfast.nn, kind)(input_size, hidden_size, dtype=dtype)
        assert_invariant(layer, torch.randn(steps, batch, input_size, dtype=dtype), grad)


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case: str) -> None:
    kind, options = OPTIONS[case]
    layer = getattr(seqfast.nn, kind)(9, 21, **options).eval()
    for steps, batch in ((35, 5), (2, 16)):
        assert_invariant(layer, torch.randn(steps, batch, 9), True)


def test_ragged_rows() -> None:
    layer = seqfast.nn.GRU(9, 21)
    x, lengths = torch.randn(40, 12, 9), torch.randint(33, 41, (12,))
    with torch.no_grad():
        together = layer(x, lengths=lengths)[0]
        for row, length in enumerate(lengths.tolist()):
            alone = layer(x[:length, row : row + 1])[0]
            assert torch.equal(alone[:, 0], together[:length, row])


@pytest.mark.parametrize("kind", KINDS)
def test_8_bits_and_streams(kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(16, 33).eval()
    with torch.no_grad():
        assert_invariant(seqfast.quantize(layer), torch.randn(3, 40, 16), False)
        assert_invariant(
            lambda x: layer.stream(x.shape[1]).step(x).clone(), torch.randn(3, 40, 16), False
        )

"""Random shapes and options, thrown at our layer and at torch's: the same comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import Backend
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqfast.nn

SIZES = st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 31, 32, 33, 64, 65, 100]))


@st.composite
def layers(draw: Any) -> dict[str, Any]:
    hidden_size = draw(SIZES)
    num_layers = draw(st.integers(1, 3))
    return {
        "input_size": draw(SIZES),
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.3, 1.0])) if num_layers > 1 else 0.0,
        "bidirectional": draw(st.booleans()),
        "proj_size": draw(st.integers(0, hidden_size - 1)),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
    }


ANY_LAYER = given(
    options=layers(),
    steps=st.integers(1, 12),
    batch=st.one_of(st.integers(0, 7), st.sampled_from([16, 33])),
    form=st.sampled_from(["batched", "unbatched", "packed", "lengths"]),
    states=st.booleans(),
    training=st.booleans(),
    requires=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    strided=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # torch's own


def test_same_as_torch() -> None:
    settings(max_examples=120, deadline=None, derandomize=True)(ANY_LAYER(check))()


def test_same_as_torch_on_cuda_kernels(cuda_backend: Backend) -> None:
    settings(max_examples=25, deadline=None, derandomize=True)(ANY_LAYER(check))()


def check(
    options: dict[str, Any],
    steps: int,
    batch: int,
    form: str,
    states: bool,
    training: bool,
    requires: tuple[bool, bool, bool],
    strided: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    theirs, ours = nn.LSTM(**options), seqfast.nn.LSTM(**options)
    ours.load_state_dict(theirs.state_dict())
    dtype, batch_first = options["dtype"], options["batch_first"]
    if form in ("packed", "lengths"):
        batch = max(batch, 1)
        if form == "lengths":  # torch knows them by packing, which does dropout on fewer rows
            training = False
    lengths = torch.randint(1, steps + 1, (batch,)) if form in ("packed", "lengths") else None
    batches = () if form == "unbatched" else (batch,)
    shape = (steps, *batches, options["input_size"])
    if batch_first and batches:
        shape = (batch, steps, options["input_size"])
    x = torch.randn(*shape, dtype=dtype)
    if strided:
        x = torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]
    rows = options["num_layers"] * (2 if options["bidirectional"] else 1)
    hx = None
    if states:
        hx = (
            torch.randn(
                rows, *batches, options["proj_size"] or options["hidden_size"], dtype=dtype
            ),
            torch.randn(rows, *batches, options["hidden_size"], dtype=dtype),
        )

    def run(module: Any, fast: bool) -> list[Any]:
        module.train(training).requires_grad_(requires[2])
        leaf = x.detach().requires_grad_(requires[0])
        state = None if hx is None else tuple(s.detach().requires_grad_(requires[1]) for s in hx)
        torch.manual_seed(seed)
        if lengths is None:
            output, (h_n, c_n) = module(leaf, state)
        elif form == "lengths" and fast:
            output, (h_n, c_n) = module(leaf, state, lengths=lengths)
        else:
            packed = pack_padded_sequence(leaf, lengths.cpu(), batch_first, enforce_sorted=False)
            result, (h_n, c_n) = module(packed, state)
            output, _ = pad_packed_sequence(result, batch_first, total_length=steps)
        results = [output, h_n, c_n]
        wanted = [t for t in (leaf, *(state or ()), *module.parameters()) if t.requires_grad]
        if wanted:
            loss = output.pow(2).sum() + h_n.sin().sum() + (c_n * h_n.sum()).sum()
            results += torch.autograd.grad(loss, wanted)
        return results

    tolerance = {torch.float32: (1e-4, 2e-5), torch.float64: (1e-9, 1e-11)}[dtype]
    for one, other in zip(run(ours, True), run(theirs, False), strict=True):
        atol = tolerance[1] * max(1.0, other.abs().max().item() if other.numel() else 0.0)
        torch.testing.assert_close(one, other, rtol=tolerance[0], atol=atol)

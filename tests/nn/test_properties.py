"""Random shapes and options, thrown at our layer and at torch's: the same comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import Backend
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqfast.nn

SIZES = st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 31, 32, 33, 64, 65, 100]))


@st.composite
def layers(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(["LSTM", "LSTM", "GRU", "RNN"]))
    hidden_size = draw(SIZES)
    num_layers = draw(st.integers(1, 3))
    options = {
        "kind": kind,
        "input_size": draw(SIZES),
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.3, 1.0])) if num_layers > 1 else 0.0,
        "bidirectional": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
    }
    if kind == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden_size - 1))
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    return options


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
    kind = options["kind"]
    options = {name: value for name, value in options.items() if name != "kind"}
    theirs, ours = getattr(nn, kind)(**options), getattr(seqfast.nn, kind)(**options)
    # torch's masks are its own.
    training = training and options["dropout"] in (0.0, 1.0)
    ours.load_state_dict(theirs.state_dict())
    dtype, batch_first = options["dtype"], options["batch_first"]
    if form in ("packed", "lengths"):
        batch = max(batch, 1)
    lengths = torch.randint(1, steps + 1, (batch,)) if form in ("packed", "lengths") else None
    batches = () if form == "unbatched" else (batch,)
    shape = (steps, *batches, options["input_size"])
    if batch_first and batches:
        shape = (batch, steps, options["input_size"])
    x = torch.randn(*shape, dtype=dtype)
    if strided:
        x = torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]
    rows = options["num_layers"] * (2 if options["bidirectional"] else 1)
    sizes = [options.get("proj_size", 0) or options["hidden_size"], options["hidden_size"]]
    hx = None
    if states:
        count = 2 if kind == "LSTM" else 1
        hx = [torch.randn(rows, *batches, size, dtype=dtype) for size in sizes[:count]]

    def run(module: Any, fast: bool) -> list[Any]:
        module.train(training).requires_grad_(requires[2])
        leaf = x.detach().requires_grad_(requires[0])
        first = [s.detach().requires_grad_(requires[1]) for s in hx or ()]
        state = None if hx is None else tuple(first) if kind == "LSTM" else first[0]
        if lengths is None:
            output, last = module(leaf, state)
        elif form == "lengths" and fast:
            output, last = module(leaf, state, lengths=lengths)
        else:
            packed = pack_padded_sequence(leaf, lengths.cpu(), batch_first, enforce_sorted=False)
            result, last = module(packed, state)
            output, _ = pad_packed_sequence(result, batch_first, total_length=steps)
        last = last if isinstance(last, tuple) else (last,)
        results = [output, *last]
        wanted = [t for t in (leaf, *first, *module.parameters()) if t.requires_grad]
        if wanted:
            loss = output.pow(2).sum() + last[0].sin().sum() + (last[-1] * last[0].sum()).sum()
            results += torch.autograd.grad(loss, wanted)
        return results

    tolerance = {torch.float32: (1e-4, 2e-5), torch.float64: (1e-9, 1e-11)}[dtype]
    for one, other in zip(run(ours, True), run(theirs, False), strict=True):
        atol = tolerance[1] * max(1.0, other.abs().max().item() if other.numel() else 0.0)
        torch.testing.assert_close(one, other, rtol=tolerance[0], atol=atol)

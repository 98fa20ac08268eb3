"""Dropout by counter: against its twin, bit for bit, and as a torch operator."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import DTYPES, Backend, assert_same_bits, to_torch
from torch import Tensor

from seqfast import ops, reference
from seqfast.ops.dropout import torch as torch_random

SEED = -(2**50) + 3
# Units on both sides of a counter's 16 and of a group's 64.
SHAPES = [(1, 1, 1), (3, 2, 15), (2, 5, 17), (4, 3, 64), (2, 2, 65), (1, 7, 130), (5, 1, 48)]
EMPTY = [(0, 3, 4), (3, 0, 4), (3, 4, 0)]


def array(*shape: int) -> np.ndarray:
    return np.round(np.random.default_rng(0).standard_normal(shape) * 64) / 64


def seed_of(device: str = "cpu", value: int = SEED) -> Tensor:
    return torch.tensor([value], device=device)


def test_twins_have_the_same_signature() -> None:
    fast = inspect.signature(ops.random.dropout)
    twin = inspect.signature(reference.random.dropout)
    assert list(fast.parameters) == list(twin.parameters)
    for one, other in zip(fast.parameters.values(), twin.parameters.values(), strict=True):
        assert (one.kind, one.default) == (other.kind, other.default)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_step", [True, False])
def test_matches_reference(kernels: Backend, per_step: bool, dtype: str) -> None:
    for shape in [*SHAPES, *EMPTY]:
        for probability in (0.0, 0.3, 0.999, 1.0):
            x = array(*shape)
            how: Any = {"stream": 2**31 + 5, "per_step": per_step}
            tensor = to_torch(x, dtype, kernels.device)
            found = ops.random.dropout(tensor, probability, seed_of(kernels.device), **how)
            if dtype == "bfloat16":
                wanted = reference.random.dropout(
                    x.astype(np.float32), probability, np.array(SEED), **how
                )
                wanted = torch.from_numpy(wanted).bfloat16()
            else:
                wanted = reference.random.dropout(
                    x.astype(dtype), probability, np.array(SEED), **how
                )
            assert_same_bits(found, wanted)


def test_numpy(backend: Backend) -> None:
    if backend.device != "cpu":
        pytest.skip("NumPy arrays are in the CPU's memory")
    x = array(4, 3, 70)
    found = ops.random.dropout(x, 0.4, np.array(SEED), stream=3)
    assert isinstance(found, np.ndarray)
    assert_same_bits(found, reference.random.dropout(x, 0.4, np.array([SEED]), stream=3))
    assert_same_bits(ops.random.dropout(x, 0.4, None, stream=3), x)
    strided = np.ascontiguousarray(x.T).T
    assert_same_bits(ops.random.dropout(strided, 0.4, np.array(SEED), stream=3), found)


def test_same_bits_with_any_thread_count(cpu_isa: str, set_threads: Any) -> None:
    x = torch.from_numpy(array(50, 30, 100))
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        found.append(ops.random.dropout(x, 0.5, seed_of(), stream=1))
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_drops_what_is_not_a_number(backend: Backend) -> None:
    x = torch.full((2, 3, 40), torch.nan, device=backend.device)
    found = ops.random.dropout(x, 0.5, seed_of(backend.device), stream=1)
    dropped = torch_random.events(0.5, seed_of(backend.device), 1, 2, 3, 40)
    assert torch.equal(found == 0, dropped)
    assert torch.equal(found.isnan(), ~dropped)


def test_events_in_torch_code_are_the_twins(backend: Backend) -> None:
    for steps in (3, None):
        for value in (SEED, 0, 2**63 - 1, -1):
            found = torch_random.events(0.3, seed_of(backend.device, value), 77, steps, 5, 150)
            wanted = reference.random.events(0.3, np.array(value), 77, steps, 5, 150)
            assert_same_bits(found, wanted)


def test_as_many_events_as_asked_for() -> None:
    for probability in (0.1, 0.5, 0.9):
        x = torch.ones(100, 100, 100)
        kept = ops.random.dropout(x, probability, seed_of(), stream=0) != 0
        # Five deviations of a mean of 10**6 numbers, and of the means of 100 and of 10**4.
        deviation = (probability * (1 - probability)) ** 0.5
        for dims, count in (((0, 1, 2), 10**6), ((0, 1), 10**4), ((1, 2), 10**4), ((0, 2), 10**4)):
            error = (kept.double().mean(dims) - (1 - probability)).abs().max()
            assert error < 5 * deviation / count**0.5


Z = torch.zeros
BAD: list[tuple[Any, type[Exception], str]] = [
    ((1.0, 0.5, seed_of()), TypeError, "input must be a NumPy array or a torch tensor, got float"),
    ((Z(2, 2, 2).int(), 0.5, seed_of()), TypeError, "input must be float32, float64"),
    ((Z(2, 2), 0.5, seed_of()), ValueError, r"input must be \[steps, rows, units\], got \[2, 2\]"),
    ((Z(2, 2, 2, device="meta"), 0.5, seed_of()), ValueError, "input must be a dense array"),
    ((Z(2, 2, 2), 1.5, seed_of()), ValueError, "probability must be from 0 to 1, got 1.5"),
    ((Z(2, 2, 2), float("nan"), seed_of()), ValueError, "probability must be from 0 to 1, got nan"),
    ((Z(2, 2, 2), "half", seed_of()), ValueError, "probability must be from 0 to 1, got 'half'"),
    ((Z(2, 2, 2), 0.5, 3), TypeError, "seed must be a torch tensor, got int"),
    ((Z(2, 2, 2), 0.5, np.array(3)), TypeError, "seed must be a torch tensor, got ndarray"),
    ((Z(2, 2, 2), 0.5, seed_of().int()), TypeError, "seed must be int64, got torch.int32"),
    ((Z(2, 2, 2), 0.5, Z(2).long()), ValueError, r"seed must be one number, got \[2\]"),
    ((Z(2, 2, 2), 0.5, seed_of("meta")), ValueError, "seed must be a dense array on the CPU"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_bad_input(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^dropout: {message}"):
        ops.random.dropout(*arguments, stream=0)


@pytest.mark.parametrize("stream", [-1, 2**32, 1.5])
def test_bad_stream(stream: Any) -> None:
    with pytest.raises(ValueError, match=r"^dropout: stream must be an integer from 0 to 2\*\*32"):
        ops.random.dropout(Z(2, 2, 2), 0.5, seed_of(), stream=stream)


# The operator.


@pytest.mark.parametrize("per_step", [True, False])
def test_gradients(backend: Backend, per_step: bool) -> None:
    x = torch.from_numpy(array(3, 2, 20)).to(backend.device).requires_grad_()
    seed = seed_of(backend.device)

    def function(x: Tensor) -> Tensor:
        return torch_random.dropout(x, 0.4, seed, stream=6, per_step=per_step)

    assert torch.autograd.gradcheck(function, (x,), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, (x,))
    for other in (x, x.detach()):  # by the operator and straight by the kernel
        wanted = ops.random.dropout(x.detach(), 0.4, seed, stream=6, per_step=per_step)
        assert_same_bits(function(other).detach(), wanted)


def test_opcheck(backend: Backend) -> None:
    x = torch.from_numpy(array(3, 2, 5)).to(backend.device).requires_grad_()
    arguments = (x, 0.4, seed_of(backend.device), 6, True)
    torch.library.opcheck(torch.ops.seqfast.dropout.default, arguments)


def test_compiles(backend_once: Backend) -> None:
    torch._dynamo.reset()
    device = backend_once.device

    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def compiled(x: Tensor, seed: Tensor) -> Tensor:
        return torch_random.dropout(x.sin(), 0.4, seed, stream=6)

    for shape in ((3, 2, 20), (4, 5, 6)):
        x = torch.from_numpy(array(*shape)).to(device).requires_grad_()
        found = compiled(x, seed_of(device))
        wanted = torch_random.dropout(x.sin(), 0.4, seed_of(device), stream=6)
        torch.testing.assert_close(found, wanted)
        grads = [torch.autograd.grad(y.cos().sum(), x)[0] for y in (found, wanted)]
        torch.testing.assert_close(*grads)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_transforms(backend: Backend) -> None:
    x = torch.from_numpy(array(3, 2, 20)).to(backend.device)
    seed = seed_of(backend.device)

    def function(x: Tensor) -> Tensor:
        return torch_random.dropout(x, 0.4, seed, stream=6).sin()

    wanted = function(x)
    torch.testing.assert_close(torch.func.vmap(function)(x[None].expand(2, *x.shape))[1], wanted)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(function(leaf).sum(), leaf)
    torch.testing.assert_close(torch.func.grad(lambda x: function(x).sum())(x), grad)
    _, tangent = torch.func.jvp(function, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, grad)

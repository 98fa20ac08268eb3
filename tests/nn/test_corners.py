"""What is easily got wrong where the layer meets torch: transforms, traces, padding, devices."""

from __future__ import annotations

import pytest
import torch
from support.cases import Backend
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_padded_sequence

import seqfast


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


KINDS = ("LSTM", "GRU", "RNN")


def pair(kind: str = "LSTM", **options: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(3, 4, dtype=torch.float64, **options)
    ours = getattr(seqfast.nn, kind)(3, 4, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int64])
def test_short_length_types_under_torch_func(backend: Backend, dtype: torch.dtype) -> None:
    _, layer = pair()
    x = torch.randn(300, 2, 3, dtype=torch.float64)
    lengths = torch.tensor([5, 100], dtype=dtype)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, (x,), {"lengths": lengths})[0].sum()

    grads = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_padding_stays_there(backend: Backend, kind: str) -> None:
    _, layer = pair(kind, bidirectional=True)
    lengths = torch.tensor([2, 0, 5])
    clean = torch.randn(5, 3, 3, dtype=torch.float64)
    dirty = clean.clone()
    for row, length in enumerate(lengths.tolist()):
        dirty[length:, row] = torch.nan
    results = []
    for x in (clean, dirty):
        x.requires_grad_()
        output = layer(x, lengths=lengths)[0]
        (first,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        weights = list(layer.parameters())
        results.append([output, first, *torch.autograd.grad(first.square().sum(), weights)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode_has_a_tangent(backend: Backend, kind: str) -> None:
    theirs, layer = pair(kind)
    layer.requires_grad_(False)
    x, tangent = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    with forward_ad.dual_level():
        output = layer(forward_ad.make_dual(x, tangent))[0]
        found = forward_ad.unpack_dual(output).tangent
    step = 1e-6
    expected = (theirs(x + step * tangent)[0] - theirs(x - step * tangent)[0]) / (2 * step)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("create_graph", [False, True])
def test_batched_gradients(backend: Backend, kind: str, create_graph: bool) -> None:
    theirs, ours = pair(kind)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    grads = torch.randn(5, 4, 2, 4, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(
            layer(x)[0],
            [x, *layer.parameters()],
            grads,
            is_grads_batched=True,
            create_graph=create_graph,
        )
        for layer in (ours, theirs)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_vectorized_jacobian(backend: Backend, kind: str) -> None:
    theirs, ours = pair(kind)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian
    found = jacobian(lambda x: ours(x)[0], x, vectorize=True)
    torch.testing.assert_close(found, jacobian(lambda x: theirs(x)[0], x))


@pytest.mark.parametrize("kind", KINDS)
def test_packed_input_under_another_default_device(backend: Backend, kind: str) -> None:
    theirs, ours = pair(kind)
    packed = pack_padded_sequence(torch.randn(4, 2, 3, dtype=torch.float64), [4, 2])
    expected = theirs(packed)[0].data
    with torch.device("meta"):
        found = ours(packed)[0].data
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace")
@pytest.mark.parametrize("kind", KINDS)
def test_trace_with_gradients(backend: Backend, kind: str) -> None:
    theirs, ours = pair(kind)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    traced = torch.jit.trace(ours, (x,))
    torch.testing.assert_close(traced(x)[0], theirs(x)[0])


def test_transforms_see_the_same_masks(backend: Backend) -> None:
    """torch.func takes the plain path, whose masks are the kernels'."""
    options = {"num_layers": 2, "dropout": 0.3, "zoneout": 0.3, "recurrent_dropout": 0.3}
    layer = seqfast.nn.LSTM(
        3, 4, **options, input_dropout=0.3, weight_dropout=0.3, layer_norm=True, dtype=torch.float64
    )
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    call = {"mask": torch.rand(5, 2) > 0.3, "reset": torch.rand(5, 2) > 0.7}

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(5)
        return torch.func.functional_call(layer, parameters, (x,), call)[0].square().sum()

    parameters = dict(layer.named_parameters())
    grads, value = torch.func.grad_and_value(loss)(parameters)
    wanted = loss(parameters)
    torch.testing.assert_close(value, wanted)
    wanted.backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(grads[name], parameter.grad)


def test_each_model_of_an_ensemble_has_masks_of_its_own(backend: Backend) -> None:
    layer = seqfast.nn.GRU(3, 64, input_dropout=0.5, weight_dropout=0.5)
    x = torch.randn(4, 2, 3)

    def run(x: torch.Tensor) -> torch.Tensor:
        return layer(x)[0]

    one, other = torch.func.vmap(run, randomness="different")(torch.stack([x, x]))
    assert not torch.equal(one, other)
    one, other = torch.func.vmap(run, randomness="same")(torch.stack([x, x]))
    assert torch.equal(one, other)


def test_a_fake_state_makes_the_result_fake() -> None:
    from torch._subclasses import FakeTensor, FakeTensorMode

    layer = seqfast.nn.LSTM(3, 4)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        state = mode.from_tensor(torch.zeros(1, 2, 4))
    with torch.no_grad():
        try:
            output = layer(torch.zeros(5, 2, 3), (state, state))[0]
        except Exception as error:  # torch refuses to mix real weights and fake states
            assert "FakeTensor" in str(error) or "fake" in str(error).lower()  # noqa: PT017
        else:
            assert isinstance(output, FakeTensor)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_what_a_transform_left_behind(kind: str, grad: bool) -> None:
    """A tensor kept from within torch.func.grad, used after it, has no memory of its own."""
    module = getattr(seqfast.nn, kind)(4, 5)
    left = []

    def loss(x: torch.Tensor) -> torch.Tensor:
        left.append(x)
        return x.sum()

    plain = torch.randn((2, 4) if "Cell" in kind else (3, 2, 4))
    torch.func.grad(loss)(plain)
    results = []
    for x in (left[0], plain):
        with torch.set_grad_enabled(grad):
            found = torch.utils._pytree.tree_leaves(module(x))
        if grad:
            found += torch.autograd.grad(found[0].sum(), tuple(module.parameters()))
        results.append(found)
    torch.testing.assert_close(*results)

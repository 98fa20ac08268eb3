"""PyTorch's own samples of its recurrent modules (ModuleInfo), ours in the place of torch's.

The checks of its test_modules.py, written anew: results, gradients against torch's and against
differences, inputs and gradients that are not contiguous, what constructors are told, memory
formats, copies and files, conversions in place and by swapping, the meta device, wrong inputs. In
torch 2.13 there are 87 samples and 58 wrong inputs (`test_how_many`), in two dtypes and both modes.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import seqfast.nn

pytest.importorskip("expecttest", reason="needs expecttest, for torch.testing._internal")
common_modules = pytest.importorskip(
    "torch.testing._internal.common_modules",
    reason="needs torch's test suite",
    exc_type=ImportError,
)

# torch's test suite forbids setting flags of backends for the rest of the process.
torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True

INFOS = {
    info.module_cls.__name__: info
    for info in common_modules.module_db
    if issubclass(info.module_cls, (torch.nn.RNNBase, torch.nn.RNNCellBase))
    and "quantiz" not in info.module_cls.__module__
}
pytestmark = pytest.mark.parametrize("kind", INFOS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float", "double"])
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def samples(kind: str, dtype: torch.dtype, training: bool, grad: bool) -> Iterator[Any]:
    info = INFOS[kind]
    found = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=grad, training=training
    )
    yield from (sample for sample in found if sample.forward_input is not None)


def pair(kind: str, sample: Any, dtype: torch.dtype, training: bool) -> tuple[Any, Any]:
    arguments, options = sample.constructor_input.args, sample.constructor_input.kwargs
    theirs = getattr(torch.nn, kind)(*arguments, **{**options, "dtype": dtype}).train(training)
    ours = getattr(seqfast.nn, kind)(*arguments, **{**options, "dtype": dtype}).train(training)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


@DTYPES
@MODES
def test_the_kinds_are_all(kind: str, dtype: torch.dtype, training: bool) -> None:
    assert len(INFOS) == 6
    assert list(samples(kind, dtype, training, False))


@DTYPES
@MODES
def test_forward(kind: str, dtype: torch.dtype, training: bool) -> None:
    for sample in samples(kind, dtype, training, False):
        ours, theirs = pair(kind, sample, dtype, training)
        arguments, options = sample.forward_input.args, sample.forward_input.kwargs
        torch.testing.assert_close(ours(*arguments, **options), theirs(*arguments, **options))
        assert repr(ours) == repr(theirs)


@DTYPES
@MODES
def test_gradients(kind: str, dtype: torch.dtype, training: bool) -> None:
    for sample in samples(kind, dtype, training, True):
        ours, theirs = pair(kind, sample, dtype, training)
        arguments, options = sample.forward_input.args, sample.forward_input.kwargs
        found = []
        for module in (ours, theirs):
            leaves = [*tensors((arguments, options)), *module.parameters()]
            results = tensors(module(*arguments, **options))
            loss = sum(result.sin().sum() for result in results)
            found.append(torch.autograd.grad(loss, [x for x in leaves if x.requires_grad]))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def on(module: Any, sample: Any, given: Sequence[Tensor]) -> Any:
    """The module's results with other tensors in the sample's places."""
    left = iter(given)
    arguments, options = sample.forward_input.args, sample.forward_input.kwargs
    assert not tensors(options)
    others = torch.utils._pytree.tree_map_only(Tensor, lambda _: next(left), arguments)
    return module(*others, **options)


def by_backward(module: Any, sample: Any, inputs: list[Tensor], upstream: list[Tensor]) -> Any:
    """Results, and gradients of inputs and parameters that `upstream` gives."""
    leaves = [*inputs, *module.parameters()]
    for leaf in leaves:
        leaf.grad = None
    results = tensors(on(module, sample, inputs))
    for result, grad in zip(results, upstream, strict=True):
        result.backward(grad, retain_graph=True)
    return [*results, *[leaf.grad for leaf in leaves]]


def spread(tensor: Tensor) -> Tensor:
    """The same values in every other place of memory."""
    wide = torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1).flatten(-2)
    return wide[..., ::2].detach().requires_grad_(tensor.requires_grad)


def test_non_contiguous(kind: str) -> None:
    for sample in samples(kind, torch.float64, True, True):
        ours, _ = pair(kind, sample, torch.float64, True)
        inputs = [x.detach().requires_grad_() for x in tensors(sample.forward_input.args)]
        upstream = [torch.randn_like(result) for result in tensors(on(ours, sample, inputs))]
        wanted = by_backward(ours, sample, inputs, upstream)
        for given in (inputs, [*map(spread, inputs)]):
            for grads in (upstream, [*map(spread, upstream)]):
                found = by_backward(ours, sample, given, grads)
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_derivatives(kind: str, check: Any) -> None:
    """Against differences, of all inputs and weights, and of the inputs alone."""
    every = [*samples(kind, torch.float64, True, True)]
    for sample in every if check is torch.autograd.gradcheck else every[::7]:
        ours, _ = pair(kind, sample, torch.float64, True)
        weights = dict(ours.named_parameters())
        leaves = [*tensors(sample.forward_input.args), *weights.values()]
        results = partial(of_leaves, ours, sample, [*weights])
        assert check(results, leaves, fast_mode=True)
        for weight in weights.values():
            weight.requires_grad_(False)
        assert check(results, leaves, fast_mode=True)


def of_leaves(ours: Any, sample: Any, names: list[str], *given: Tensor) -> tuple[Tensor, ...]:
    """Results, of inputs followed by weights."""
    inputs, weights = given[: -len(names)], dict(zip(names, given[-len(names) :], strict=True))

    def module(*args: Any, **options: Any) -> Any:
        return torch.func.functional_call(ours, weights, args, options)

    return tuple(tensors(on(module, sample, inputs)))


@DTYPES
@MODES
def test_copies(kind: str, dtype: torch.dtype, training: bool) -> None:
    for sample in samples(kind, dtype, training, False):
        ours, _ = pair(kind, sample, dtype, training)
        arguments, options = sample.forward_input.args, sample.forward_input.kwargs
        wanted = ours(*arguments, **options)
        file, weights = io.BytesIO(), io.BytesIO()
        torch.save(ours, file)
        torch.save(ours.state_dict(), weights)
        file.seek(0)
        weights.seek(0)
        loaded = torch.load(weights, weights_only=True)
        torch.testing.assert_close(loaded, ours.state_dict(), rtol=0, atol=0)
        for other in (
            copy.deepcopy(ours),
            pickle.loads(pickle.dumps(ours)),
            torch.load(file, weights_only=False),
        ):
            assert other.training is training
            torch.testing.assert_close(other(*arguments, **options), wanted, rtol=0, atol=0)


@DTYPES
def test_arguments_of_the_constructor(kind: str, dtype: torch.dtype) -> None:
    for sample in samples(kind, dtype, True, False):
        arguments, options = sample.constructor_input.args, sample.constructor_input.kwargs
        ours, theirs = (
            getattr(home, kind)(*arguments, **{**options, "device": "cpu", "dtype": dtype})
            for home in (seqfast.nn, torch.nn)
        )
        with torch.device("meta"):
            meta = getattr(seqfast.nn, kind)(*arguments, **{**options, "dtype": dtype})
        every = zip(
            ours.named_parameters(), theirs.named_parameters(), meta.parameters(), strict=True
        )
        for (name, one), (other_name, other), shaped in every:
            assert name == other_name
            assert one.dtype == other.dtype == shaped.dtype == dtype
            assert (one.device.type, shaped.device.type) == ("cpu", "meta")
            assert one.shape == other.shape == shaped.shape
            assert one.stride() == other.stride() == shaped.stride()
            assert type(one) is type(other) is type(shaped) is torch.nn.Parameter


def test_memory_formats(kind: str) -> None:
    for sample in samples(kind, torch.float32, True, True):
        ours, _ = pair(kind, sample, torch.float32, True)
        arguments, options = sample.forward_input.args, sample.forward_input.kwargs
        wanted = ours(*arguments, **options)
        for format in (torch.preserve_format, torch.contiguous_format):
            ours.to(memory_format=format)
            found = ours(*arguments, **options)
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
            for one, other in zip(tensors(found), tensors(wanted), strict=True):
                assert one.stride() == other.stride()


def test_who_asks_for_the_training_flag(kind: str) -> None:
    """Nobody where there is nothing that training changes, as ModuleInfo says of the cells."""
    if INFOS[kind].train_and_eval_differ:
        return
    for sample in samples(kind, torch.float32, True, False):
        ours, _ = pair(kind, sample, torch.float32, True)
        del ours.training
        ours(*sample.forward_input.args, **sample.forward_input.kwargs)


@contextmanager
def swapping(swap: bool) -> Iterator[None]:
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(swap)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


@pytest.mark.parametrize("swap", [True, False], ids=["swapped", "data"])
@pytest.mark.parametrize("with_grad", [True, False], ids=["grad", "no grad"])
def test_to(kind: str, swap: bool, with_grad: bool) -> None:
    for sample in samples(kind, torch.float32, True, False):
        ours, _ = pair(kind, sample, torch.float32, True)
        arguments, options = sample.forward_input.args, sample.forward_input.kwargs
        with swapping(swap):
            if with_grad:
                sum(result.sum() for result in tensors(ours(*arguments, **options))).backward()
            with torch.no_grad():  # a graph would hold the weights, which then cannot be swapped
                wanted = ours(*arguments, **options)
            weights = [*ours.parameters()]
            before = [weight._cdata for weight in weights]
            for to in (torch.float16, torch.float64, torch.float32):
                ours.to(dtype=to)
                assert {weight.dtype for weight in ours.parameters()} == {to}
                if with_grad:
                    assert {weight.grad.dtype for weight in ours.parameters()} == {to}
                assert [id(weight) for weight in ours.parameters()] == [*map(id, weights)]
                after = [weight._cdata for weight in ours.parameters()]
                assert all((one != two) == swap for one, two in zip(before, after, strict=True))
                before = after
        torch.testing.assert_close(ours(*arguments, **options), wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("swap", [True, False], ids=["swapped", "new"])
def test_to_empty(kind: str, swap: bool) -> None:
    for sample in samples(kind, torch.float32, True, False):
        arguments, options = sample.constructor_input.args, sample.constructor_input.kwargs
        _, theirs = pair(kind, sample, torch.float32, True)
        with torch.device("meta"):
            ours = getattr(seqfast.nn, kind)(*arguments, **{**options, "dtype": torch.float32})
        before = [*ours.parameters()]
        with swapping(swap):
            ours.to_empty(device="cpu")
        same = [one is two for one, two in zip(before, ours.parameters(), strict=True)]
        assert all(same) if swap else not any(same)
        ours.load_state_dict(theirs.state_dict())
        given, options = sample.forward_input.args, sample.forward_input.kwargs
        torch.testing.assert_close(ours(*given, **options), theirs(*given, **options))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@DTYPES
def test_between_devices(kind: str, dtype: torch.dtype) -> None:
    for sample in samples(kind, dtype, True, False):
        ours, _ = pair(kind, sample, dtype, True)
        arguments, options = sample.forward_input.args, sample.forward_input.kwargs
        wanted = ours(*arguments, **options)
        there = torch.utils._pytree.tree_map_only(Tensor, Tensor.cuda, (arguments, options))
        found = ours.cuda()(*there[0], **there[1])
        back = torch.utils._pytree.tree_map_only(Tensor, Tensor.cpu, found)
        torch.testing.assert_close(back, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.cpu()(*arguments, **options), wanted)


@DTYPES
@MODES
def test_errors(kind: str, dtype: torch.dtype, training: bool) -> None:
    info = INFOS[kind]
    errors = info.module_error_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=False, training=training
    )
    for error in errors:
        sample = error.module_error_input
        arguments, options = sample.constructor_input.args, sample.constructor_input.kwargs
        of_constructor = error.error_on == common_modules.ModuleErrorEnum.CONSTRUCTION_ERROR
        made = None if of_constructor else getattr(seqfast.nn, kind)(*arguments, **options)
        with pytest.raises(error.error_type, match=error.error_regex):  # noqa: PT012
            if made is None:
                getattr(seqfast.nn, kind)(*arguments, **options)
            else:
                made(*sample.forward_input.args, **sample.forward_input.kwargs)


@DTYPES
@MODES
def test_how_many(kind: str, dtype: torch.dtype, training: bool) -> None:
    """87 samples and 58 wrong inputs, each in two dtypes, in training and in evaluation."""
    if kind != next(iter(INFOS)):
        return
    info: Any
    found, wrong = 0, 0
    for name, info in INFOS.items():
        found += len([*samples(name, dtype, training, False)])
        wrong += len(
            info.module_error_inputs_func(
                info, device="cpu", dtype=dtype, requires_grad=False, training=training
            )
        )
    print(f"{found} samples, {wrong} wrong inputs")
    assert (found, wrong) >= (87, 58)

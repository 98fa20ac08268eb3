"""PyTorch's own samples of its recurrent modules (ModuleInfo), ours in the place of torch's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
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
pytestmark = [
    pytest.mark.parametrize("kind", INFOS),
    pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float", "double"]),
    pytest.mark.parametrize("training", [True, False], ids=["train", "eval"]),
]


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


def test_the_kinds_are_all(kind: str, dtype: torch.dtype, training: bool) -> None:
    assert len(INFOS) == 6
    assert list(samples(kind, dtype, training, False))


def test_forward(kind: str, dtype: torch.dtype, training: bool) -> None:
    for sample in samples(kind, dtype, training, False):
        ours, theirs = pair(kind, sample, dtype, training)
        arguments, options = sample.forward_input.args, sample.forward_input.kwargs
        torch.testing.assert_close(ours(*arguments, **options), theirs(*arguments, **options))
        assert repr(ours) == repr(theirs)


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


def test_copies(kind: str, dtype: torch.dtype, training: bool) -> None:
    sample = next(samples(kind, dtype, training, False))
    ours, _ = pair(kind, sample, dtype, training)
    arguments, options = sample.forward_input.args, sample.forward_input.kwargs
    wanted = ours(*arguments, **options)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(other(*arguments, **options), wanted, rtol=0, atol=0)


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

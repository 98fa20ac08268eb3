"""Recurrent layers under torch's machinery: autograd twice, opcheck, compile, torch.func."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from support.cases import Backend, assert_same_bits
from support.operator_calls import backward_arguments, forward_arguments, forward_call
from support.variants import VARIANTS, Case, make_case
from torch import Tensor

from seqfast import ops
from seqfast.ops.base.torch_schema import flat
from seqfast.ops.rnn import torch as torch_rnn

SOME = ["lstm", "lstm-everything", "lstm-projection-everything", "gru-everything", "gru_before"]
MORE = [*SOME, "lstm-coupled-everything", "gru", "gru_update-everything", "rnn-norm", "jordan"]
# Each variant in one direction or in both, by turns.
ONE_OR_TWO = [(name, 1 + k % 2) for k, name in enumerate(VARIANTS)]


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


def small_case(backend: Backend, name: str, directions: int = 1, **more: bool) -> Case:
    """In float64; everything that can requires a gradient."""
    more.setdefault("ragged", True)
    more.setdefault("resets", directions == 1)
    case = make_case(name, 3, 2, 2, 3, directions, **more).tensors("float64", backend.device)
    for tensor in leaves(case):
        tensor.requires_grad_()
    return case


def leaves(case: Case) -> list[Tensor]:
    weights = (weight for row in case.weights for weight in row)
    every = (case.input, case.hidden, case.cell, *weights)
    return [tensor for tensor in every if tensor is not None]


def run(case: Case, *tensors: Tensor, save: bool = True) -> tuple[Tensor, ...]:
    """Its results, of the case's tensors or of others in their place."""
    left = iter(tensors or leaves(case))

    def taken(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else next(left)

    input, hidden, cell = (taken(x) for x in (case.input, case.hidden, case.cell))
    weights = [[taken(weight) for weight in row] for row in case.weights]
    assert input is not None
    found = torch_rnn.layer(
        case.variant.operation,
        input,
        hidden,
        cell,
        weights,
        case.lengths,
        reset=case.reset,
        seed=case.seed,
        options=case.variant.options,
        save=save,
    )
    return tuple(result for result in found if result is not None)


# gradcheck's fast mode takes few directions instead of each number by itself.
@pytest.mark.parametrize(("name", "directions"), ONE_OR_TWO)
def test_gradcheck_with_masks_held_by_the_seed(
    backend: Backend, name: str, directions: int
) -> None:
    case = small_case(backend, name, directions)

    def function(*tensors: Tensor) -> Any:
        return run(case, *tensors)

    fast_mode = backend.name != "cpu"
    assert torch.autograd.gradcheck(function, leaves(case), fast_mode=fast_mode)


@pytest.mark.parametrize("name", MORE)
def test_gradgradcheck_with_masks_held_by_the_seed(backend: Backend, name: str) -> None:
    case = small_case(backend, name)

    def function(*tensors: Tensor) -> Any:
        return run(case, *tensors)

    assert torch.autograd.gradgradcheck(function, leaves(case), fast_mode=True)


@pytest.mark.parametrize("name", SOME)
def test_batched_gradients(backend: Backend, name: str) -> None:
    case = small_case(backend, name)
    output = run(case)[0]
    tensors = leaves(case)
    grads = torch.stack([torch.ones_like(output), output.detach().sin()])
    found = torch.autograd.grad(output, tensors, grads, is_grads_batched=True, retain_graph=True)
    for k, grad in enumerate(grads):
        wanted = torch.autograd.grad(output, tensors, grad, retain_graph=True)
        torch.testing.assert_close([f[k] for f in found], list(wanted))


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("save", [True, False])
def test_opcheck_forward(backend: Backend, name: str, save: bool) -> None:
    case = small_case(backend, name, 1 + (name in ("lstm", "gru", "jordan")))
    arguments = forward_arguments(case, save)
    if not save:  # there is no backward then
        arguments = torch.utils._pytree.tree_map_only(Tensor, Tensor.detach, arguments)
    # aot_dispatch: the other tests of this file compile forward and backward passes.
    torch.library.opcheck(
        torch.ops.seqfast.rnn_forward.default,
        arguments,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@pytest.mark.parametrize("name", MORE)
def test_opcheck_backward(backend: Backend, name: str) -> None:
    case = small_case(backend, name, 1 + (name in ("lstm", "gru", "jordan")))
    check_backward(case, (True, True, True))


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False)])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_opcheck_backward_in_part(backend: Backend, name: str, needs: tuple[bool, ...]) -> None:
    case = small_case(backend, name)
    case.grads = (None, case.grads[1], *(None,) * (len(case.grads) - 2))
    check_backward(case, needs)


def check_backward(case: Case, needs: tuple[bool, ...]) -> None:
    torch.library.opcheck(
        torch.ops.seqfast.rnn_backward.default,
        backward_arguments(case, needs),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@pytest.mark.parametrize("name", ["lstm-everything", "gru", "jordan-everything"])
def test_opcheck_under_aot_dispatch(backend: Backend, name: str) -> None:
    torch.library.opcheck(
        torch.ops.seqfast.rnn_forward.default,
        forward_arguments(small_case(backend, name)),
        test_utils="test_aot_dispatch_dynamic",
    )


@pytest.mark.parametrize(("name", "directions"), ONE_OR_TWO)
def test_eager_path_operator_and_kernel_agree(backend: Backend, name: str, directions: int) -> None:
    case = small_case(backend, name, directions)
    results = run(case)
    many = 1 + len(case.states)
    operator = torch.ops.seqfast.rnn_forward(*forward_arguments(case))
    assert_same_bits([*results], [*operator[: len(results)]])
    without = run(case, save=False)
    assert_same_bits([*without], [*results[:many]])
    states = {"lstm": 4}.get(case.variant.operation, 2)
    kernel = case.forward(ops)
    assert_same_bits([*results], [*kernel[:states]])
    # And their gradients, which are the kernel's own.
    grads = case.grads
    found = torch.autograd.grad(results, leaves(case), grads)
    again = torch.autograd.grad(operator[: len(results)], leaves(case), grads)
    assert_same_bits([*found], [*again])
    *of_inputs, of_weights = case.backward(ops, kernel)
    wanted = [*of_inputs, *(grad for row in of_weights for grad in row if grad is not None)]
    assert_same_bits([*found], wanted)
    pointers = [grad.data_ptr() for grad in found]
    assert len(set(pointers)) == len(pointers)


@pytest.fixture
def _fresh_dynamo() -> None:
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.parametrize("name", MORE)
def test_compiles_in_one_graph(device: Backend, name: str) -> None:
    directions = 1 + (name in ("lstm", "gru-everything", "jordan"))
    results = []
    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    for steps, batch in ((3, 2), (5, 4)):
        case = make_case(name, steps, batch, 2, 5, directions, ragged=True)
        case = case.tensors("float32", device.device)
        for tensor in leaves(case):
            tensor.requires_grad_()
        for function in (compiled, run):
            found = function(case)
            grads = torch.autograd.grad(found, leaves(case), case.grads)
            results.append([*found, *grads])
        assert_same_bits(results[-2], results[-1])


@pytest.mark.parametrize("name", SOME)
def test_functional_gradients(backend: Backend, name: str) -> None:
    case = small_case(backend, name)
    tensors = leaves(case)

    def loss(*tensors: Tensor) -> Tensor:
        return sum((result.sin().sum() for result in run(case, *tensors)), torch.zeros(()))

    wanted = torch.autograd.grad(loss(*tensors), tensors)
    plain = tuple(tensor.detach() for tensor in tensors)
    every = tuple(range(len(plain)))
    found = torch.func.grad(loss, every)(*plain)
    torch.testing.assert_close(found, wanted)
    # One gradient for each of two inputs.
    two = torch.stack([plain[0], plain[0].cos()])
    grads = torch.func.vmap(torch.func.grad(loss), (0, *(None,) * (len(plain) - 1)))
    torch.testing.assert_close(grads(two, *plain[1:])[0], wanted[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["lstm-everything", "gru-everything", "jordan"])
def test_forward_mode(backend: Backend, name: str) -> None:
    case = small_case(backend, name)
    tensors = leaves(case)
    plain = tuple(tensor.detach() for tensor in tensors)
    tangents = tuple(torch.randn_like(tensor) for tensor in plain)
    results, found = torch.func.jvp(lambda *t: run(case, *t), plain, tangents)
    torch.testing.assert_close(results, run(case))
    grads = torch.autograd.grad(run(case)[0].sum(), tensors)
    wanted = sum((g * t).sum() for g, t in zip(grads, tangents, strict=True))
    torch.testing.assert_close(found[0].sum(), wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["lstm-everything", "gru_before-everything", "jordan-everything"])
def test_plain_code_rounds_as_the_kernels(backend: Backend, name: str, dtype: str) -> None:
    """What torch.func sees is what everybody else sees, but for sums in another order."""
    case = make_case(name, 5, 3, 4, 17, resets=True).tensors(dtype, backend.device)
    fast = run(case)
    plain = torch.func.vmap(lambda x: run(case, x, *leaves(case)[1:]))(case.input[None])
    for one, other in zip(fast, plain, strict=True):
        assert one.dtype == other.dtype
        tolerance = 1e-5 if dtype == "float32" else 2e-2
        torch.testing.assert_close(other[0], one, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_autocast_leaves_second_derivatives_alone(backend: Backend, name: str) -> None:
    found = []
    for enabled in (False, True):
        case = make_case(name, 3, 2, 4, 5).tensors("float32", backend.device)
        for tensor in leaves(case):
            tensor.requires_grad_()
        with torch.autocast(backend.device, torch.bfloat16, enabled=enabled):
            grads = torch.autograd.grad(run(case), leaves(case), case.grads, create_graph=True)
            total = sum((grad.sin().sum() for grad in grads), torch.zeros(()))
            found.append([*torch.autograd.grad(total, leaves(case))])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", SOME)
def test_checkpointing(backend: Backend, name: str) -> None:
    case = small_case(backend, name)
    wanted = torch.autograd.grad(run(case), leaves(case), case.grads)
    again = torch.utils.checkpoint.checkpoint(run, case, use_reentrant=False)
    assert_same_bits([*torch.autograd.grad(again, leaves(case), case.grads)], [*wanted])


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_what_was_not_kept_has_no_backward(backend: Backend, name: str) -> None:
    case = small_case(backend, name)
    output = torch.ops.seqfast.rnn_forward(*forward_arguments(case, save=False))[0]
    message = f"^{name}: backward needs what the forward pass kept, but it ran with save=False"
    with pytest.raises(RuntimeError, match=message):
        output.sum().backward()


def test_no_steps_and_no_rows(backend: Backend) -> None:
    for name in ("lstm-everything", "gru", "jordan"):
        for shape in ((0, 2, 3, 4), (3, 0, 3, 4)):
            case = make_case(name, *shape).tensors("float64", backend.device)
            for tensor in leaves(case):
                tensor.requires_grad_()
            results = run(case)
            grads = torch.autograd.grad(results, leaves(case), case.grads, create_graph=True)
            assert not grads[0].any()
            again = [(grad * grad).sum() for grad in grads if grad.requires_grad]
            torch.autograd.grad(again, leaves(case), allow_unused=True)


def test_operator_refuses_a_layer_without_recurrent_weights() -> None:
    case = make_case("gru", 2, 2, 3, 4).tensors("float32")
    call = forward_call(case)
    odd = call._replace(weights=call.weights._replace(weight_hh=None))
    with pytest.raises(TypeError, match=r"^gru: weight_hh must be a torch tensor, got NoneType"):
        torch.ops.seqfast.rnn_forward(*flat(odd))
    with pytest.raises(TypeError, match=r"^gru: weight_hh must be a torch tensor, got NoneType"):
        torch.ops.seqfast.rnn_forward(
            *flat(odd._replace(inputs=call.inputs._replace(input=case.input.to("meta"))))
        )


def test_operator_refuses_half_a_second_direction() -> None:
    case = make_case("gru", 2, 2, 3, 4, 2).tensors("float32")
    call = forward_call(case)
    odd = call._replace(weights_reverse=call.weights_reverse._replace(weight_hh=None))
    with pytest.raises(TypeError, match=r"^gru: weight_hh_reverse must be a torch tensor"):
        torch.ops.seqfast.rnn_forward(*flat(odd))


def test_operator_refuses_a_cell_it_does_not_know() -> None:
    case = make_case("gru", 2, 2, 3, 4).tensors("float32")
    with pytest.raises(ValueError, match=r"^sru: cell must be lstm, gru or rnn"):
        torch.ops.seqfast.rnn_forward("sru", *forward_arguments(case)[1:])


def test_operator_without_a_kernel_for_a_layout_says_so() -> None:
    case = make_case("rnn", 2, 2, 3, 4).tensors("float32")
    cell, input, *rest = forward_arguments(case)
    with pytest.raises(NotImplementedError, match=r"seqfast::rnn_forward"):
        torch.ops.seqfast.rnn_forward(cell, input.to_sparse(), *rest)


def test_bad_input_by_every_path(backend: Backend) -> None:
    case = small_case(backend, "gru")
    case.hidden = torch.zeros(1, 2, 4, dtype=torch.float64, device=backend.device)
    message = r"^gru: hidden must be \[1, 2, 3\], got \[1, 2, 4\]"
    for save in (True, False):
        with pytest.raises(ValueError, match=message):
            run(case, save=save)
        with pytest.raises(ValueError, match=message):
            torch.ops.seqfast.rnn_forward(*forward_arguments(case, save))


def test_gradients_are_the_same_every_time(backend: Backend) -> None:
    steps = 3 if backend.name == "cuda-host" else 20
    case = make_case("gru-everything", steps, 16, 20, 33, resets=True)
    case = case.tensors("float32", backend.device)
    for tensor in leaves(case):
        tensor.requires_grad_()
    first = torch.autograd.grad(run(case)[0].sin().sum(), leaves(case))
    for _ in range(3):
        assert_same_bits([*torch.autograd.grad(run(case)[0].sin().sum(), leaves(case))], [*first])


def test_another_seed_is_another_mask(backend: Backend) -> None:
    case = make_case("lstm-on_hidden", 3, 4, 5, 20).tensors("float64", backend.device)
    first = run(case)[0]
    case.seed = torch.tensor(5, device=backend.device)
    assert not torch.equal(run(case)[0], first)

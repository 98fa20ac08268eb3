"""The operators under torch's machinery: opcheck, gradcheck, compile, export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.cases import Backend
from support.operator_calls import backward_arguments, forward_arguments, forward_call
from support.variants import Case, Variant, make_case
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import seqfast.nn
from seqfast import ops
from seqfast.ops.base.torch_schema import flat
from seqfast.ops.rnn.arguments import RnnWeights

from .test_options import EVERYTHING

LSTM_PROJECTION = Variant("lstm", gates=4, proj_size=2, bias=False)


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


# Variant, directions, and what else of `make_case`.
WAYS = [
    pytest.param(variant, directions, {"states": states, "ragged": ragged, **more}, id=name)
    for name, variant, directions, states, ragged, more in [
        ("plain", "lstm", 1, True, False, {}),
        ("nothing", "lstm-nobias", 1, False, False, {}),
        ("both", "lstm", 2, True, True, {}),
        ("projection", LSTM_PROJECTION, 2, False, True, {}),
        ("everything", "lstm-everything", 1, True, True, {"product": True, "resets": True}),
        ("gru", "gru", 2, True, True, {}),
        ("gru-everything", "gru-everything", 1, True, True, {"resets": True}),
        ("gru-before", "gru_before-everything", 2, False, False, {}),
        ("gru-update", "gru_update-everything", 1, True, False, {"product": True}),
        ("rnn", "rnn", 1, False, True, {"resets": True}),
        ("jordan", "jordan-everything", 2, True, True, {}),
    ]
]


def operator_case(
    backend: Backend, variant: Any, directions: int, more: dict[str, Any], steps: int = 2
) -> tuple[Case, list[Any]]:
    """A layer in float64, and the forward operator's arguments; everything requires grad."""
    case = make_case(variant, steps, 3, 2, 3, directions, **more)
    case = case.tensors("float64", backend.device)
    weights = [weight for row in case.weights for weight in row]
    for tensor in (case.input, case.hidden, case.cell, *weights):
        if tensor is not None:
            tensor.requires_grad_()
    return case, list(forward_arguments(case))


@pytest.mark.parametrize(("variant", "directions", "more"), WAYS)
@pytest.mark.parametrize("save", [True, False])
def test_opcheck_forward(
    backend: Backend, variant: Any, directions: int, more: dict[str, Any], save: bool
) -> None:
    _, arguments = operator_case(backend, variant, directions, more)
    if not save:  # there is no backward then
        arguments = torch.utils._pytree.tree_map_only(Tensor, Tensor.detach, arguments)
        arguments[-1] = False
    torch.library.opcheck(torch.ops.seqfast.rnn_forward.default, tuple(arguments))


# Tracing second derivatives takes long: one way of each kind of gradients.
@pytest.mark.parametrize(("variant", "directions", "more"), [WAYS[1], WAYS[3], WAYS[5]])
def test_opcheck_backward(
    backend: Backend, variant: Any, directions: int, more: dict[str, Any]
) -> None:
    case, _ = operator_case(backend, variant, directions, more)
    check_backward(case, (1, 1, 1))


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False)])
@pytest.mark.parametrize("variant", ["lstm", "gru"])
def test_opcheck_backward_in_part(backend: Backend, variant: str, needs: tuple[int, ...]) -> None:
    case, _ = operator_case(backend, variant, 1, {})
    case.grads = (None, case.grads[1], None, None)
    check_backward(case, needs)


def check_backward(case: Case, needs: tuple[int, ...]) -> None:
    torch.library.opcheck(
        torch.ops.seqfast.rnn_backward.default,
        backward_arguments(case, [bool(need) for need in needs]),
    )


@pytest.mark.parametrize(("variant", "directions", "more"), WAYS)
def test_gradcheck(backend: Backend, variant: Any, directions: int, more: dict[str, Any]) -> None:
    case, _ = operator_case(backend, variant, directions, more, steps=4)
    call = forward_call(case)
    results = 4 if call.cell == "lstm" else 2
    every_weight = [*call.weights, *call.weights_reverse]

    def function(input: Tensor, hidden: Any, cell: Any, *weights: Tensor) -> Any:
        inputs = call.inputs._replace(input=input, hidden=hidden, cell_state=cell)
        left = iter(weights)
        filled = [None if weight is None else next(left) for weight in every_weight]
        count = len(filled) // 2
        rows = RnnWeights._make(filled[:count]), RnnWeights._make(filled[count:])
        changed = call._replace(inputs=inputs, weights=rows[0], weights_reverse=rows[1])
        return torch.ops.seqfast.rnn_forward(*flat(changed))[:results]

    there = [weight for weight in every_weight if weight is not None]
    leaves = (case.input, case.hidden, case.cell, *there)
    # Few directions instead of each number by itself.
    fast_mode = backend.name != "cpu" or len(leaves) > 8
    assert torch.autograd.gradcheck(function, leaves, fast_mode=fast_mode)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("variant", ["lstm-projection", "gru", "jordan"])
def test_operator_equals_kernel(backend: Backend, variant: str) -> None:
    case, arguments = operator_case(backend, variant, 2, {"ragged": True})
    with torch.no_grad():
        found = torch.ops.seqfast.rnn_forward(*arguments)
        wanted = case.forward(ops)
    there = [tensor for tensor in found if tensor.numel()]
    torch.testing.assert_close(there, list(wanted), rtol=0, atol=0)


def test_operator_refuses_odd_weights(backend: Backend) -> None:
    case, _ = operator_case(backend, "lstm", 2, {})
    call = forward_call(case)
    odd = call._replace(weights_reverse=call.weights_reverse._replace(weight_hh=None))
    with pytest.raises(TypeError, match="lstm: weight_hh_reverse must be a torch tensor"):
        torch.ops.seqfast.rnn_forward(*flat(odd))


def test_operator_without_a_kernel_for_a_layout_says_so(backend: Backend) -> None:
    _, arguments = operator_case(backend, "lstm", 1, {})
    arguments[1] = torch.zeros(4, 3, 2).to_sparse()
    with torch.no_grad(), pytest.raises(NotImplementedError, match=r"seqfast::rnn_forward"):
        torch.ops.seqfast.rnn_forward(*arguments)


def test_backward_without_save_is_refused(backend: Backend) -> None:
    _, arguments = operator_case(backend, "lstm", 1, {})
    output, *_ = torch.ops.seqfast.rnn_forward(*arguments[:-1], False)
    with pytest.raises(RuntimeError, match="save=False"):
        output.sum().backward()


LAYERS = [
    pytest.param("LSTM", {}, id="plain"),
    pytest.param("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}, id="deep"),
    pytest.param("LSTM", {"num_layers": 2, "proj_size": 3, "bias": False}, id="projection"),
    pytest.param("GRU", {"num_layers": 2, "bidirectional": True}, id="gru"),
    pytest.param("GRU", {"reset_after": False, "num_layers": 2, "residual": True}, id="before"),
    pytest.param("RNN", {"nonlinearity": "relu", "hidden_size": (5, 3)}, id="rnn"),
    pytest.param("RNN", {"feedback": "output", "output_size": 3, "num_layers": 2}, id="jordan"),
    *(pytest.param(kind, options, id=f"{kind}-all") for kind, options in EVERYTHING.items()),
]


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_compile_in_one_graph_with_any_sizes(
    device: Backend, kind: str, options: dict[str, Any]
) -> None:
    layer = getattr(seqfast.nn, kind)(4, **{"hidden_size": 5, **options})
    graphs = 0

    def count_graphs(graph: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return torch._dynamo.backends.debugging.aot_eager(graph, inputs)

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=count_graphs)
    first = 0
    for steps, batch in ((3, 2), (7, 5), (4, 9)):
        x = torch.randn(batch, steps, 4) if layer.batch_first else torch.randn(steps, batch, 4)
        results = []
        for module in (compiled, layer):
            leaf = x.clone().requires_grad_()
            torch.manual_seed(7)
            output, states = module(leaf)
            states = torch.utils._pytree.tree_leaves(states)
            (output.sin().sum() + sum(state.cos().sum() for state in states)).backward()
            results.append([output, *states, leaf.grad, *(p.grad for p in layer.parameters())])
            layer.zero_grad()
        torch.testing.assert_close(results[0], results[1])
        first = first or graphs
    assert graphs == first
    with torch.no_grad():
        torch.testing.assert_close(compiled.eval()(x), layer.eval()(x))


@pytest.mark.parametrize("kind", EVERYTHING)
def test_compile_with_masks_and_resets(device: Backend, kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5, **EVERYTHING[kind])
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for steps, batch in ((3, 2), (7, 5)):
        x = torch.randn(steps, batch, 4)
        call = {
            "lengths": torch.randint(0, steps + 1, (batch,)),
            "mask": torch.rand(steps, batch) > 0.3,
            "reset": torch.rand(steps, batch) > 0.7,
        }
        results = []
        for module in (compiled, layer):
            torch.manual_seed(7)
            layer.zero_grad()
            output, states = module(x, **call)
            output.sin().sum().backward()
            leaves = torch.utils._pytree.tree_leaves(states)
            results.append([output, *leaves, *(p.grad for p in layer.parameters())])
        torch.testing.assert_close(*results)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_inductor_draws_once_for_forward_and_backward() -> None:
    """inductor has random numbers of its own, but one seed must serve both passes."""
    layer = seqfast.nn.LockedDropout(0.5)
    cell = seqfast.nn.RNN(8, 8, zoneout=0.5, input_dropout=0.5, weight_dropout=0.5)
    with torch.no_grad():
        cell.weight_ih_l0.copy_(torch.eye(8) * 1e-3)
        for other in (cell.weight_hh_l0, cell.bias_ih_l0, cell.bias_hh_l0):
            other.zero_()

    @torch.compile(fullgraph=True)
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        return layer(x), cell(x)[0]

    x = torch.rand(3, 4, 8).add_(1.0).requires_grad_()
    dropped, output = run(x)
    (grad,) = torch.autograd.grad(dropped.sum(), x, retain_graph=True)
    torch.testing.assert_close(grad * x, dropped)
    # Of the first step: as small as it is, tanh is the identity.
    (grad,) = torch.autograd.grad(output[0].sum(), x)
    torch.testing.assert_close((grad * x)[0], output[0], rtol=1e-3, atol=1e-7)
    assert 0 < (output[0] == 0).sum() < output[0].numel()
    again, _ = run(x)
    assert not torch.equal(again, dropped)


def test_compile_with_everything(backend: Backend) -> None:
    layer = seqfast.nn.LSTM(4, 5, 2, bidirectional=True)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for steps, batch in ((3, 2), (7, 5)):
        x = torch.randn(steps, batch, 4)
        hx = (torch.randn(4, batch, 5), torch.randn(4, batch, 5))
        lengths = torch.randint(0, steps + 1, (batch,))
        torch.testing.assert_close(
            compiled(x, hx, lengths=lengths, return_cells=True),
            layer(x, hx, lengths=lengths, return_cells=True),
        )
    if backend.device == "cpu":  # nobody looks at a GPU's lengths
        with pytest.raises(ValueError, match="lengths must be from 0 to 7, got 8"):
            compiled(x, hx, lengths=lengths + 8 - lengths.max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_compile_with_inductor(backend: Backend) -> None:
    if backend.name == "cuda-host":
        pytest.skip("inductor makes the same graph as on the CPU")
    layer = seqfast.nn.LSTM(4, 5, 2)
    head = torch.nn.Linear(5, 3)

    @torch.compile(fullgraph=True, dynamic=True)
    def step(x: Tensor) -> Tensor:
        return head(layer(x)[0].relu()).sin().sum()

    for shape in ((3, 2, 4), (6, 5, 4)):
        x = torch.randn(shape)
        step(x).backward()
        found = [p.grad for p in layer.parameters()]
        layer.zero_grad()
        head(layer(x)[0].relu()).sin().sum().backward()
        torch.testing.assert_close(found, [p.grad for p in layer.parameters()])
        layer.zero_grad()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTMCell", {}),
        ("LSTMCell", {"layer_norm": True, "peephole": True, "zoneout": 0.3}),
        ("GRUCell", {}),
        ("GRUCell", {"layer_norm": True, "recurrent_dropout": 0.3}),
        ("RNNCell", {}),
        ("RNNCell", {"layer_norm": True, "nonlinearity": "relu"}),
    ],
)
def test_compile_cell_loop(device: Backend, kind: str, options: dict[str, Any]) -> None:
    cell = getattr(seqfast.nn, kind)(4, 5, **options)

    def run(x: Tensor) -> Tensor:
        state = None
        for step in x:
            state = cell(step, state)
        return state[0] if isinstance(state, tuple) else state

    x = torch.randn(3, 2, 4)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found = []
    for function in (compiled, run):
        torch.manual_seed(7)
        cell.zero_grad()
        output = function(x)
        output.sum().backward()
        found.append([output, *(p.grad for p in cell.parameters())])
    torch.testing.assert_close(*found)


def test_compile_regularisers(backend: Backend) -> None:
    embedding = seqfast.nn.EmbeddingDropout(0.4, torch.nn.Embedding(20, 4))
    locked = seqfast.nn.LockedDropout(0.4, batch_first=True)

    def run(ids: Tensor, lengths: Tensor) -> Tensor:
        output = locked(embedding(ids))
        penalty = seqfast.nn.activation_regularization(
            output, output, batch_first=True, lengths=lengths
        )
        return output.sum() + penalty

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    ids, lengths = torch.randint(0, 20, (3, 6)), torch.tensor([6, 0, 3])
    found = []
    for function in (compiled, run):
        torch.manual_seed(7)
        found.append(function(ids, lengths))
    torch.testing.assert_close(*found)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo's own
def test_compile_packed(backend: Backend) -> None:
    """How many rows are packed is data: not one graph, but the right answer."""
    layer = seqfast.nn.LSTM(4, 5)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        return layer(pack_padded_sequence(x, lengths, enforce_sorted=False))[0].data

    x, lengths = torch.randn(4, 3, 4), torch.tensor([1, 4, 2], device="cpu")
    torch.testing.assert_close(torch.compile(run, backend="aot_eager")(x, lengths), run(x, lengths))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_export_with_any_sizes(backend: Backend, strict: bool, grad: bool) -> None:
    layer = seqfast.nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True)
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps")
    with torch.set_grad_enabled(grad):
        program = torch.export.export(
            layer,
            (torch.randn(3, 6, 4),),
            {"lengths": torch.tensor([1, 6, 3])},
            dynamic_shapes={"input": {0: batch, 1: steps}, "lengths": {0: batch}},
            strict=strict,
        )
    x, lengths = torch.randn(5, 9, 4), torch.tensor([9, 0, 3, 1, 7])
    torch.testing.assert_close(program.module()(x, lengths=lengths), layer(x, lengths=lengths))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names.count("seqfast.rnn_forward.default") == 2

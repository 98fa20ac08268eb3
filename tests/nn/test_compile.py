"""The operators under torch's machinery: opcheck, gradcheck, compile, export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import Backend, make_layer, torch_layer
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import seqfast.nn
from seqfast import ops


@pytest.fixture
def backend(backend_once: Backend) -> Backend:
    return backend_once


WAYS = [
    pytest.param(directions, proj_size, bias, states, ragged, id=name)
    for name, directions, proj_size, bias, states, ragged in [
        ("plain", 1, 0, True, True, False),
        ("nothing", 1, 0, False, False, False),
        ("both", 2, 0, True, True, True),
        ("projection", 1, 2, True, False, True),
        ("projection-nobias", 2, 2, False, True, False),
    ]
]


def flat_layer(
    backend: Backend, directions: int, proj_size: int, bias: bool, states: bool, ragged: bool
) -> tuple[Any, list[Tensor]]:
    """A layer in float64, and the operators' flat list of weights; everything requires grad."""
    layer = torch_layer(
        make_layer(4, 3, 2, 3, proj_size, directions, bias=bias, states=states, ragged=ragged),
        "float64",
        backend.device,
    )
    weights = [w.requires_grad_() for row in layer.weights for w in row if w is not None]
    for tensor in (layer.input, layer.hidden, layer.cell):
        if tensor is not None:
            tensor.requires_grad_()
    return layer, weights


@pytest.mark.parametrize(("directions", "proj_size", "bias", "states", "ragged"), WAYS)
@pytest.mark.parametrize("save", [True, False])
def test_opcheck_forward(
    backend: Backend,
    directions: int,
    proj_size: int,
    bias: bool,
    states: bool,
    ragged: bool,
    save: bool,
) -> None:
    layer, weights = flat_layer(backend, directions, proj_size, bias, states, ragged)
    arguments = [layer.input, layer.hidden, layer.cell, weights, layer.lengths, directions, save]
    if not save:  # there is no backward then
        detached = torch.utils._pytree.tree_map_only(Tensor, Tensor.detach, arguments)
        torch.library.opcheck(torch.ops.seqfast.lstm_forward.default, tuple(detached))
    else:
        torch.library.opcheck(torch.ops.seqfast.lstm_forward.default, tuple(arguments))


@pytest.mark.parametrize(("directions", "proj_size", "bias", "states", "ragged"), WAYS)
def test_opcheck_backward(
    backend: Backend, directions: int, proj_size: int, bias: bool, states: bool, ragged: bool
) -> None:
    check_backward(
        flat_layer(backend, directions, proj_size, bias, states, ragged), directions, (1, 1, 1)
    )


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False)])
def test_opcheck_backward_in_part(backend: Backend, needs: tuple[int, ...]) -> None:
    layer, weights = flat_layer(backend, 1, 0, True, True, False)
    layer.grads = (None, layer.grads[1], None, None)
    check_backward((layer, weights), 1, needs)


def check_backward(case: Any, directions: int, needs: tuple[int, ...]) -> None:
    layer, weights = case
    forward = (layer.input, layer.hidden, layer.cell, weights, layer.lengths, directions)
    output, _, _, cells, gates = torch.ops.seqfast.lstm_forward(*forward, True)
    kept = (output.detach(), cells.detach(), gates.detach())
    grads = [None if grad is None else grad.requires_grad_() for grad in layer.grads]
    arguments = (*grads, *forward, *kept, *(bool(need) for need in needs))
    torch.library.opcheck(torch.ops.seqfast.lstm_backward.default, arguments)


@pytest.mark.parametrize(("directions", "proj_size", "bias", "states", "ragged"), WAYS)
def test_gradcheck(
    backend: Backend, directions: int, proj_size: int, bias: bool, states: bool, ragged: bool
) -> None:
    layer, weights = flat_layer(backend, directions, proj_size, bias, states, ragged)

    def function(input: Tensor, hidden: Any, cell: Any, *weights: Tensor) -> Any:
        results = torch.ops.seqfast.lstm_forward(
            input, hidden, cell, [*weights], layer.lengths, directions, True
        )
        return results[:4]

    arguments = (layer.input, layer.hidden, layer.cell, *weights)
    fast_mode = backend.name != "cpu"  # few directions instead of each number by itself
    assert torch.autograd.gradcheck(function, arguments, fast_mode=fast_mode)
    assert torch.autograd.gradgradcheck(function, arguments, fast_mode=fast_mode)


def test_operator_equals_kernel(backend: Backend) -> None:
    layer = torch_layer(make_layer(5, 4, 6, 7, 3, 2, ragged=True), "float32", backend.device)
    weights = [w for row in layer.weights for w in row]
    found = torch.ops.seqfast.lstm_forward(
        layer.input, layer.hidden, layer.cell, weights, layer.lengths, 2, True
    )
    torch.testing.assert_close(found, ops.rnn.lstm_forward(*layer.forward_args()), rtol=0, atol=0)


def test_operator_refuses_odd_weights() -> None:
    with pytest.raises(ValueError, match="lstm: 2 directions cannot share 3 weights"):
        torch.ops.seqfast.lstm_forward(
            torch.zeros(2, 2, 3), None, None, [torch.zeros(4, 3)] * 3, None, 2, False
        )


def test_operator_without_a_kernel_for_a_layout_says_so() -> None:
    sparse = torch.zeros(2, 2, 3).to_sparse()
    with pytest.raises(NotImplementedError, match=r"seqfast::lstm_forward"):
        torch.ops.seqfast.lstm_forward(sparse, None, None, [], None, 1, False)


LAYERS = [
    pytest.param({}, id="plain"),
    pytest.param({"num_layers": 2, "bidirectional": True, "batch_first": True}, id="deep"),
    pytest.param({"num_layers": 2, "proj_size": 3, "bias": False}, id="projection"),
]


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("options", LAYERS)
def test_compile_in_one_graph_with_any_sizes(backend: Backend, options: dict[str, Any]) -> None:
    layer = seqfast.nn.LSTM(4, 5, **options)
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
            output, (h_n, c_n) = module(leaf)
            (output.sin().sum() + h_n.sum() + c_n.cos().sum()).backward()
            results.append([output, h_n, c_n, leaf.grad, *(p.grad for p in layer.parameters())])
            layer.zero_grad()
        torch.testing.assert_close(results[0], results[1])
        first = first or graphs
    assert graphs == first
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x))


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


def test_compile_cell_loop(backend: Backend) -> None:
    cell = seqfast.nn.LSTMCell(4, 5)

    def run(x: Tensor) -> Tensor:
        state = None
        for step in x:
            state = cell(step, state)
        return state[0]

    x = torch.randn(3, 2, 4)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), run(x))


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
    assert names.count("seqfast.lstm_forward.default") == 2

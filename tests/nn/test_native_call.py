"""The native way in: the same results as through Python, never of stale weights, and only of calls
that nothing but a kernel wants to see."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import seqfast
from seqfast import _C
from seqfast.ops.rnn import native_call
from seqfast.ops.rnn.options import PLAIN

pytestmark = pytest.mark.skipif(
    not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"),
    reason="needs torch 2.10, whose tensors have DLPack's exchange API",
)

KINDS = ["LSTM", "GRU", "RNN"]
INPUT, HIDDEN = 5, 7


@contextmanager
def through_python() -> Iterator[None]:
    _C.allow_plain_calls(False)
    try:
        yield
    finally:
        _C.allow_plain_calls(True)


def states(kind: str, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
    hidden = torch.randn(shape, dtype=dtype)
    return (hidden, torch.randn(shape, dtype=dtype)) if kind == "LSTM" else hidden


def tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [x for part in result for x in tensors(part)]


def by_native(module: Any, input: Tensor, hx: Any = None) -> Any:
    """What the native way in says: None if it declines."""
    return (module._native.layer if hasattr(module, "num_layers") else module._native.cell)(
        module, input, hx
    )


def assert_same(module: Any, input: Tensor, hx: Any = None) -> None:
    """A plain call: the native way takes it, and finds what Python finds, bit for bit."""
    with torch.no_grad():
        found = by_native(module, input, hx)
        assert found is not None
        with through_python():
            wanted = module(input, hx)
        for one, other in zip(tensors(found), tensors(wanted), strict=True):
            assert torch.equal(one, other)
            assert one.dtype == other.dtype
            assert one.is_contiguous() == other.is_contiguous()
        for one, other in zip(tensors(module(input, hx)), tensors(wanted), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_cells(kind: str, bias: bool, dtype: torch.dtype) -> None:
    cell = getattr(seqfast.nn, f"{kind}Cell")(INPUT, HIDDEN, bias=bias, dtype=dtype)
    for shape in ((), (1,), (3,), (40,)):
        input = torch.randn(*shape, INPUT, dtype=dtype)
        assert_same(cell, input)
        assert_same(cell, input, states(kind, *shape, HIDDEN, dtype=dtype))
    spread = torch.randn(3, 2 * INPUT, dtype=dtype)[:, :INPUT]
    assert_same(cell, spread, states(kind, 3, HIDDEN, dtype=dtype))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("both", [False, True], ids=["one direction", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_layers(kind: str, both: bool, layers: int) -> None:
    module = getattr(seqfast.nn, kind)(INPUT, HIDDEN, layers, bidirectional=both)
    first = getattr(seqfast.nn, kind)(INPUT, HIDDEN, layers, bidirectional=both, batch_first=True)
    for steps, batch in ((1, 1), (1, 6), (9, 1), (9, 4)):
        hx = states(kind, layers * (2 if both else 1), batch, HIDDEN)
        input = torch.randn(steps, batch, INPUT)
        assert_same(module, input)
        assert_same(module, input, hx)
        assert_same(module, input.transpose(0, 1).contiguous().transpose(0, 1), hx)
        if steps == 1 or batch == 1:
            assert_same(first, input.transpose(0, 1).contiguous(), hx)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_ordinary_tensors(kind: str) -> None:
    cell = getattr(seqfast.nn, f"{kind}Cell")(INPUT, HIDDEN)
    input = torch.randn(3, INPUT)
    with torch.no_grad():
        for result in tensors(cell(input)):
            assert type(result) is Tensor
            assert not result.requires_grad
            assert result.is_leaf
            assert not result.is_inference()
            assert torch.equal(pickle.loads(pickle.dumps(result)), result)
            result.requires_grad_()
            kept = result.detach().clone()
            cell(input)
            assert torch.equal(result, kept)
    with torch.inference_mode():
        assert all(result.is_inference() for result in tensors(cell(input)))


@pytest.mark.skipif(sys.platform == "win32", reason="needs the names that its compiler gives")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_results_have_memory_of_torchs(kind: str, dtype: torch.dtype) -> None:
    cell = getattr(seqfast.nn, f"{kind}Cell")(INPUT, HIDDEN, dtype=dtype)
    layer = getattr(seqfast.nn, kind)(INPUT, HIDDEN, 2, dtype=dtype)
    with torch.no_grad():
        found = [by_native(cell, torch.randn(3, INPUT, dtype=dtype))]
        found.append(by_native(layer, torch.randn(4, 3, INPUT, dtype=dtype)))
    for result in tensors(found):
        values = result.clone()
        assert result.untyped_storage().resizable()
        assert result.untyped_storage().nbytes() == result.numel() * result.element_size()
        assert result._version == 0
        assert weakref.ref(result)() is result
        result.resize_(2 * HIDDEN, *result.shape)
        assert torch.equal(result.flatten()[: values.numel()], values.flatten())
        result.untyped_storage().resize_(0)
        result.set_(values)
        other = torch.zeros(3)
        torch.utils.swap_tensors(result, other)
        assert torch.equal(other.share_memory_(), values)


@pytest.fixture
def without_torchs_allocator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As with a torch that has one of the names no longer."""
    gone = "_Z16THPVariable_WrapOfAnotherVersion"
    monkeypatch.setattr(native_call, "_ALLOCATION", (*native_call._ALLOCATION[:3], gone))
    native_call._torch_allocator.cache_clear()
    yield
    native_call._torch_allocator.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("without_torchs_allocator")
def test_without_torchs_allocator_dlpack_makes_the_results(kind: str, dtype: torch.dtype) -> None:
    cell = getattr(seqfast.nn, f"{kind}Cell")(INPUT, HIDDEN, dtype=dtype)
    input = torch.randn(3, INPUT, dtype=dtype)
    assert native_call._torch_allocator() is None
    native = native_call.native_call(kind.lower(), PLAIN, *cell._plain_attributes())
    assert native is not None
    with torch.no_grad():
        found, wanted = native.cell(cell, input, None), by_native(cell, input)
    for one, other in zip(tensors(found), tensors(wanted), strict=True):
        assert torch.equal(one, other)
        assert one.dtype == dtype
        assert not one.untyped_storage().resizable()


def memory_in_use() -> int:
    """Bytes that the process has in memory now; its peak would hide a leak behind older tests."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_results_are_freed() -> None:
    cell = seqfast.nn.LSTMCell(30, 500)
    input = torch.randn(100, 30)
    with torch.no_grad():
        held = [weakref.ref(result) for result in tensors(by_native(cell, input))]
        assert not any(ref() is not None for ref in held)
        before = memory_in_use()
        for _ in range(200):
            cell(input)
        assert memory_in_use() - before < 20e6  # of 80 MB


def hand_over(queue: Any, taken: Any, cell: Any) -> None:
    with torch.no_grad():
        queue.put(cell(torch.ones(2, INPUT)))
    taken.wait(60)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_results_go_to_another_process() -> None:
    cell = seqfast.nn.GRUCell(INPUT, HIDDEN)
    context = torch.multiprocessing.get_context("fork")
    queue, taken = context.Queue(), context.Event()
    process = context.Process(target=hand_over, args=(queue, taken, cell))
    process.start()
    found = queue.get(timeout=60)
    taken.set()
    process.join()
    with torch.no_grad():
        torch.testing.assert_close(found, cell(torch.ones(2, INPUT)))


class OfStates(torch.utils.data.Dataset[Tensor]):
    def __init__(self) -> None:
        self.cell = seqfast.nn.RNNCell(INPUT, HIDDEN)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.cell(torch.full((INPUT,), float(index)))


@pytest.mark.parametrize("workers", [0, 2])
def test_results_in_a_data_loader(workers: int) -> None:
    """Batches that workers stack are made in memory that they resize."""
    data = OfStates()
    (batch,) = torch.utils.data.DataLoader(data, batch_size=4, num_workers=workers)
    torch.testing.assert_close(batch, torch.stack([data[k] for k in range(4)]))


def written_by_optimiser(cell: Any) -> None:
    optimiser = torch.optim.SGD(cell.parameters(), lr=0.5)
    for parameter in cell.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()


def written_through_data(cell: Any) -> None:
    cell.weight_hh.data.mul_(-2)
    cell.weight_ih.data = torch.randn_like(cell.weight_ih)


def written_by_state_dict(cell: Any) -> None:
    cell.load_state_dict({k: torch.randn_like(v) for k, v in cell.state_dict().items()})
    cell.load_state_dict(
        {k: torch.randn_like(v) for k, v in cell.state_dict().items()}, assign=True
    )


def written_by_hook(cell: Any) -> None:
    def hook(module: Any, arguments: Any) -> None:
        with torch.no_grad():
            module.weight_hh.fill_(0.25)

    cell.register_forward_pre_hook(hook)


def written_in_place(cell: Any) -> None:
    with torch.no_grad():
        cell.weight_hh.uniform_(-1, 1)


def written_through_view(cell: Any) -> None:
    view = cell.weight_hh.detach()[1:3]
    view.copy_(torch.randn_like(view))
    cell.weight_ih.detach().numpy()[:] *= 3


def replaced(cell: Any) -> None:
    cell.weight_hh = nn.Parameter(torch.randn_like(cell.weight_hh))
    cell._parameters["bias_hh"] = nn.Parameter(torch.randn_like(cell.bias_hh))


def parametrized(cell: Any) -> None:
    parametrizations.weight_norm(cell, "weight_hh")
    cell.parametrizations.weight_hh.original0.data.mul_(2)


WAYS: list[Callable[[Any], None]] = [
    written_by_optimiser, written_through_data, written_by_state_dict, written_by_hook,
    written_in_place, written_through_view, replaced, parametrized,
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_no_product_is_stale(kind: str, way: Callable[[Any], None], batch: int) -> None:
    cell = getattr(seqfast.nn, f"{kind}Cell")(INPUT, HIDDEN)
    input, hx = torch.randn(batch, INPUT), states(kind, batch, HIDDEN)
    with torch.no_grad():
        before = tensors(cell(input, hx))
    way(cell)
    with torch.no_grad():
        found = tensors(cell(input, hx))
        peer = getattr(nn, f"{kind}Cell")(INPUT, HIDDEN)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(peer, name).copy_(getattr(cell, name))
        wanted = tensors(peer(input, hx))
    for one, other, old in zip(found, wanted, before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(one, old)


def test_functional_call_uses_what_it_is_given() -> None:
    cell = seqfast.nn.GRUCell(INPUT, HIDDEN)
    other = {name: torch.randn_like(p) for name, p in cell.named_parameters()}
    input = torch.randn(2, INPUT)
    with torch.no_grad():
        found = torch.func.functional_call(cell, other, (input,))
        cell.load_state_dict(other)
        assert torch.equal(found, cell(input))


class OtherTensor(Tensor):
    pass


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class WatchingFunctions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "gradients": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "dispatch mode": Watching,
    "function mode": WatchingFunctions,
    "forward mode": torch.autograd.forward_ad.dual_level,
    "through Python": through_python,
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_that_want_to_see_more(name: str) -> None:
    cell, layer = seqfast.nn.GRUCell(INPUT, HIDDEN), seqfast.nn.GRU(INPUT, HIDDEN)
    with torch.no_grad(), SURROUNDINGS[name]():
        assert by_native(cell, torch.randn(2, INPUT)) is None
        assert by_native(layer, torch.randn(1, 2, INPUT)) is None
    with torch.no_grad():
        assert by_native(cell, torch.randn(2, INPUT)) is not None
        assert by_native(layer, torch.randn(1, 2, INPUT)) is not None


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_transforms_and_traces() -> None:
    cell = seqfast.nn.GRUCell(INPUT, HIDDEN).requires_grad_(False)  # constants of the trace
    input = torch.randn(4, 2, INPUT)
    seen = []

    def call(x: Tensor) -> Tensor:
        seen.append(by_native(cell, x))
        result: Tensor = cell(x)
        return result

    with torch.no_grad():
        wanted = torch.stack([cell(x) for x in input])
        torch.testing.assert_close(torch.vmap(call)(input), wanted)
        torch.jit.trace(call, input[0], check_trace=False)
        _, tangent = torch.func.jvp(call, (input[0],), (torch.ones_like(input[0]),))
    assert tangent.abs().max() > 0
    assert len(seen) == 3
    assert all(found is None for found in seen)


INPUTS: dict[str, Callable[[], Any]] = {
    "subclass": lambda: torch.randn(2, INPUT).as_subclass(OtherTensor),
    "negated": lambda: torch._neg_view(torch.randn(2, INPUT)),
    "another dtype": lambda: torch.randn(2, INPUT, dtype=torch.float64),
    "integers": lambda: torch.ones(2, INPUT, dtype=torch.int64),
    "another size": lambda: torch.randn(2, INPUT + 1),
    "four dimensions": lambda: torch.randn(1, 1, 2, INPUT),
    "columns apart": lambda: torch.randn(INPUT, 2).t(),
    "one row, repeated": lambda: torch.randn(1, INPUT).expand(2, INPUT),
    "no row": lambda: torch.randn(0, INPUT),
    "sparse": lambda: torch.randn(2, INPUT).to_sparse(),
    "meta": lambda: torch.randn(2, INPUT, device="meta"),
    "no tensor": lambda: [[0.0] * INPUT] * 2,
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_are_left_to_python(name: str) -> None:
    cell, input = seqfast.nn.GRUCell(INPUT, HIDDEN), INPUTS[name]()
    layer = seqfast.nn.GRU(INPUT, HIDDEN)
    with torch.no_grad():
        assert by_native(cell, input) is None
        assert by_native(layer, input[None] if isinstance(input, Tensor) else input) is None
        with pytest.raises(Exception, match=r"\w") if refused(name) else nullcontext():
            found = cell(input)
        if not refused(name):
            torch.testing.assert_close(found.as_subclass(Tensor), cell(input.clone() + 0))


def refused(name: str) -> bool:
    return name in {
        "another dtype", "integers", "another size", "four dimensions", "sparse", "meta",
        "no tensor",
    }  # fmt: skip


@pytest.mark.parametrize(
    "hx",
    [
        torch.zeros(2, HIDDEN),
        (torch.zeros(2, HIDDEN),),
        [torch.zeros(2, HIDDEN), torch.zeros(2, HIDDEN)],
        (torch.zeros(2, HIDDEN), torch.zeros(2, HIDDEN + 1)),
        (torch.zeros(2, HIDDEN), torch.zeros(2, HIDDEN, dtype=torch.float64)),
        (torch.zeros(2, HIDDEN), None),
        (torch.zeros(HIDDEN), torch.zeros(HIDDEN)),
        (torch.zeros(3, HIDDEN), torch.zeros(3, HIDDEN)),
    ],
    ids=["one", "one in a tuple", "a list", "size", "dtype", "None", "dimensions", "rows"],
)
def test_states_that_are_left_to_python(hx: Any) -> None:
    with torch.no_grad():
        assert by_native(seqfast.nn.LSTMCell(INPUT, HIDDEN), torch.randn(2, INPUT), hx) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zoneout", (0.1, 0.1)), ("cell_clip", 1.0), ("gate_clip", 1.0), ("peephole", True),
        ("coupled_gates", True), ("forget_gate", False), ("layer_norm", True),
    ],
)  # fmt: skip
def test_options_are_left_to_python(name: str, value: Any) -> None:
    cell = seqfast.nn.LSTMCell(INPUT, HIDDEN, **{name: value})
    input = torch.randn(2, INPUT)
    with torch.no_grad():
        assert by_native(cell, input) is None
        plain = seqfast.nn.LSTMCell(INPUT, HIDDEN)
        assert by_native(plain, input) is not None
        if name in {"zoneout", "cell_clip", "gate_clip"}:
            setattr(plain, name, value)  # set anew
            assert by_native(plain, input) is None


def test_dropout_counts_in_training_alone() -> None:
    cell = seqfast.nn.LSTMCell(INPUT, HIDDEN, recurrent_dropout=0.5)
    stack = seqfast.nn.LSTM(INPUT, HIDDEN, 2, dropout=0.5)
    with torch.no_grad():
        for module, input in ((cell, torch.randn(2, INPUT)), (stack, torch.randn(1, 2, INPUT))):
            assert by_native(module.train(), input) is None
            assert_same(module.eval(), input)


def test_layers_that_are_left_to_python() -> None:
    input = torch.randn(3, 2, INPUT)
    made = [
        seqfast.nn.LSTM(INPUT, (HIDDEN, HIDDEN)),
        seqfast.nn.LSTM(INPUT, HIDDEN, proj_size=3),
        seqfast.nn.LSTM(INPUT, HIDDEN, 2, residual=True),
        seqfast.nn.LSTM(INPUT, HIDDEN, batch_first=True),
        parametrize.register_parametrization(
            seqfast.nn.LSTM(INPUT, HIDDEN), "weight_hh_l0", nn.Identity()
        ),
    ]
    swapped = seqfast.nn.LSTM(INPUT, HIDDEN)
    swapped._flat_weights = [torch.zeros_like(weight) for weight in swapped._flat_weights]
    with torch.no_grad():
        for module in (*made, swapped):
            assert by_native(module, input) is None
            module(input)
        assert swapped(input)[0].abs().max() == 0


def test_copies_and_pickles_are_plain_too() -> None:
    cell = seqfast.nn.LSTMCell(INPUT, HIDDEN)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert_same(other, torch.randn(2, INPUT))


def test_module_hooks_are_called() -> None:
    cell = seqfast.nn.GRUCell(INPUT, HIDDEN)
    cell.register_forward_hook(lambda module, arguments, result: result + 1)
    input = torch.randn(2, INPUT)
    with torch.no_grad():
        assert torch.equal(cell(input), by_native(cell, input) + 1)

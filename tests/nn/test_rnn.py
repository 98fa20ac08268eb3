"""seqfast.nn's layers and cells beside torch.nn's: same numbers, same manners, same refusals."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import TOLERANCE, Backend
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import seqfast.nn
from seqfast import reference

STEPS, BATCH, INPUT, HIDDEN = 6, 3, 4, 5

NAMES = ("kind", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
GRID = [
    dict(zip(NAMES, ("LSTM", *options), strict=True))
    for options in itertools.product(
        (1, 3), (True, False), (True, False), (0.0, 0.4), (True, False), (0, 2)
    )
    if options[0] > 1 or options[3] == 0.0
]
for kind, num_layers, bias, batch_first, bidirectional in itertools.product(
    ("GRU", "RNN"), (1, 3), (True, False), (True, False), (True, False)
):
    options = (kind, num_layers, bias, batch_first, 0.4 if num_layers > 1 else 0.0, bidirectional)
    GRID.append(dict(zip(NAMES, options, strict=False)))
    if kind == "RNN" and bias:
        GRID[-1]["nonlinearity"] = "relu"
KINDS = ("LSTM", "GRU", "RNN")


def options_id(options: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items())


def pair(dtype: torch.dtype = torch.float64, kind: str = "LSTM", **options: Any) -> tuple[Any, Any]:
    """torch's module and ours with the same parameters; in evaluation where there is dropout, whose
    masks are torch's own (ours: test_options.py)."""
    training = options.get("dropout", 0.0) == 0.0
    theirs = getattr(nn, kind)(INPUT, HIDDEN, **options, dtype=dtype).train(training)
    ours = getattr(seqfast.nn, kind)(INPUT, HIDDEN, **options, dtype=dtype).train(training)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def random_states(module: Any, *batch: int, dtype: torch.dtype = torch.float64) -> Any:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    hidden = torch.randn(rows, *batch, module.proj_size or HIDDEN, dtype=dtype)
    if module.mode != "LSTM":
        return hidden
    return hidden, torch.randn(rows, *batch, HIDDEN, dtype=dtype)


def listed(states: Any) -> list[Tensor]:
    """hx, or what comes back in its place, as a list."""
    return [states] if isinstance(states, Tensor) else list(states or ())


def run(module: Any, x: Tensor, hx: Any, wrap: Callable[[Tensor], Any] | None = None) -> list[Any]:
    """Outputs, then gradients of everything."""
    x = x.clone().requires_grad_()
    leaves = [state.clone().requires_grad_() for state in listed(hx)]
    hx = None if hx is None else leaves[0] if isinstance(hx, Tensor) else tuple(leaves)
    module.zero_grad()
    output, states = module(x if wrap is None else wrap(x), hx)
    if isinstance(output, PackedSequence):
        assert output.batch_sizes.dtype == torch.int64
        output = output.data
    h_n, *c_n = listed(states)
    loss = output.pow(2).sum() + h_n.pow(3).sum()
    for cell in c_n:
        loss = loss + cell.sin().sum()
    loss.backward()
    grads = [x.grad, *(leaf.grad for leaf in leaves)]
    return [output, h_n, *c_n, *grads, *(p.grad for p in module.parameters())]


def assert_same(ours: list[Any], theirs: list[Any], **tolerance: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


# Results.


@pytest.mark.parametrize("options", GRID, ids=options_id)
@pytest.mark.parametrize("with_states", [False, True], ids=["zeros", "hx"])
def test_same_as_torch(backend_once: Backend, options: dict[str, Any], with_states: bool) -> None:
    theirs, ours = pair(**options)
    first, second = (BATCH, STEPS) if options["batch_first"] else (STEPS, BATCH)
    x = torch.randn(first, second, INPUT, dtype=torch.float64)
    hx = random_states(theirs, BATCH) if with_states else None
    assert_same(run(ours, x, hx), run(theirs, x, hx))
    theirs.eval()
    ours.eval()
    assert_same(run(ours, x, hx), run(theirs, x, hx))
    with torch.no_grad():
        torch.testing.assert_close(ours(x, hx), theirs(x, hx))


@pytest.mark.parametrize("options", GRID, ids=options_id)
@pytest.mark.parametrize("with_states", [False, True], ids=["zeros", "hx"])
def test_same_as_torch_unbatched(
    backend_once: Backend, options: dict[str, Any], with_states: bool
) -> None:
    theirs, ours = pair(**options)
    x = torch.randn(STEPS, INPUT, dtype=torch.float64)
    hx = random_states(theirs) if with_states else None
    assert_same(run(ours, x, hx), run(theirs, x, hx))


@pytest.mark.parametrize("options", GRID, ids=options_id)
@pytest.mark.parametrize("with_states", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize(
    ("lengths", "enforce_sorted"), [((6, 4, 1), True), ((2, 6, 3), False), ((6, 6, 6), True)]
)
def test_same_as_torch_packed(
    backend_once: Backend,
    options: dict[str, Any],
    with_states: bool,
    lengths: tuple[int, ...],
    enforce_sorted: bool,
) -> None:
    theirs, ours = pair(**options)
    first, second = (BATCH, STEPS) if options["batch_first"] else (STEPS, BATCH)
    x = torch.randn(first, second, INPUT, dtype=torch.float64)
    hx = random_states(theirs, BATCH) if with_states else None

    def pack(x: Tensor) -> PackedSequence:
        return pack_padded_sequence(x, lengths, options["batch_first"], enforce_sorted)

    assert_same(run(ours, x, hx, pack), run(theirs, x, hx, pack))
    packed = ours(pack(x))[0]
    padded, found = pad_packed_sequence(packed, options["batch_first"])
    assert found.tolist() == list(lengths)
    assert packed._fields == PackedSequence._fields
    assert padded.shape[:2] == (first, second)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_same_as_torch_in_other_dtypes(backend: Backend, kind: str, dtype: torch.dtype) -> None:
    """Against torch in float64: torch itself has no float16 LSTM on many CPUs."""
    exact, ours = pair(kind=kind, num_layers=2, bidirectional=True)
    ours.load_state_dict(exact.state_dict())
    ours.to(dtype)
    exact.load_state_dict(ours.state_dict())
    x = torch.randn(STEPS, BATCH, INPUT).to(dtype)
    hx = random_states(ours, BATCH, dtype=dtype)
    found = run(ours, x, hx)
    doubled = [state.double() for state in listed(hx)]
    wanted = run(exact, x.double(), tuple(doubled) if kind == "LSTM" else doubled[0])
    name = str(dtype).removeprefix("torch.")
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype
        scale = max(1.0, other.abs().max().item())
        bounds = {"rtol": TOLERANCE[name]["rtol"], "atol": TOLERANCE[name]["atol"] * scale}
        torch.testing.assert_close(one.double(), other, **bounds)


@pytest.mark.parametrize("options", GRID[::5], ids=options_id)
def test_lengths_are_packing_without_sorting(backend: Backend, options: dict[str, Any]) -> None:
    _, ours = pair(**options)
    ours.eval()
    first, second = (BATCH, STEPS) if options["batch_first"] else (STEPS, BATCH)
    x = torch.randn(first, second, INPUT, dtype=torch.float64)
    hx = random_states(ours, BATCH)
    lengths = torch.tensor([2, 6, 3])
    packed = pack_padded_sequence(x, lengths.cpu(), options["batch_first"], enforce_sorted=False)
    wanted, states = ours(packed, hx)
    wanted, _ = pad_packed_sequence(wanted, options["batch_first"])
    # On CUDA's path the input's product is torch's, where a row's place may decide its last bit.
    bounds = {"rtol": 0, "atol": 0} if backend.name == "cpu" else {}
    torch.testing.assert_close(ours(x, hx, lengths=lengths), (wanted, states), **bounds)


@pytest.mark.parametrize("kind", KINDS)
def test_length_zero_gives_the_initial_state(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind, num_layers=2, bidirectional=True)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    hx = random_states(ours, BATCH)
    output, states = ours(x, hx, lengths=torch.tensor([0, 6, 0]))
    assert not output[:, [0, 2]].any()
    for last, first in zip(listed(states), listed(hx), strict=True):
        torch.testing.assert_close(last[:, [0, 2]], first[:, [0, 2]], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 3, STEPS])
def test_unbatched_length(backend: Backend, kind: str, length: int) -> None:
    _, ours = pair(kind=kind, bidirectional=True)
    x = torch.randn(STEPS, INPUT, dtype=torch.float64)
    output, states = ours(x, lengths=torch.tensor(length))
    assert output.shape == (STEPS, 2 * HIDDEN)
    assert not output[length:].any()
    if length:
        torch.testing.assert_close((output[:length], states), ours(x[:length]))


@pytest.mark.parametrize("batch_first", [False, True])
def test_return_cells(backend: Backend, batch_first: bool) -> None:
    _, ours = pair(num_layers=2, bidirectional=True, batch_first=batch_first, proj_size=3)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    lengths = torch.tensor([2, 6, 0])
    shaped = x.transpose(0, 1) if batch_first else x
    output, _, cells = ours(shaped, lengths=lengths, return_cells=True)

    def weights(layer: int) -> list[Any]:
        names = [
            tuple(
                f"{kind}_l{layer}{end}"
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
            )
            for end in ("", "_reverse")
        ]
        return [tuple(getattr(ours, n).detach().cpu().numpy() for n in row) for row in names]

    steps = lengths.cpu().numpy()
    below = reference.rnn.lstm_forward(x.cpu().numpy(), None, None, weights(0), steps)
    above = reference.rnn.lstm_forward(below[0], None, None, weights(1), steps)
    wanted = torch.from_numpy(np.stack([below[3], above[3]])).to(x.device)
    torch.testing.assert_close(cells, wanted.transpose(1, 2) if batch_first else wanted)
    assert output.shape[:2] == cells.shape[1:3]

    found = torch.autograd.grad(cells.pow(2).sum(), [*ours.parameters()], allow_unused=True)
    used = {
        name
        for (name, _), g in zip(ours.named_parameters(), found, strict=True)
        if g is not None and g.any()
    }
    assert used == dict(ours.named_parameters()).keys()
    with torch.no_grad():
        torch.testing.assert_close(ours(shaped, lengths=lengths, return_cells=True)[2], cells)


def test_return_cells_unbatched_and_packed(backend: Backend) -> None:
    _, ours = pair(num_layers=2)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    lengths = torch.tensor([2, 6, 3])
    cells = ours(x, lengths=lengths, return_cells=True)[2]
    alone = ours(x[:, 1], return_cells=True)[2]
    torch.testing.assert_close(alone, cells[:, :, 1])
    packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
    output, _, rows = ours(packed, return_cells=True)
    assert rows.shape == (2, len(output.data), HIDDEN)
    for layer in range(2):
        unpacked, _ = pad_packed_sequence(output._replace(data=rows[layer]))
        torch.testing.assert_close(unpacked, cells[layer])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_cells_are_kept_exact(backend: Backend, dtype: torch.dtype) -> None:
    _, ours = pair(dtype)
    cells = ours(torch.randn(STEPS, BATCH, INPUT, dtype=dtype), return_cells=True)[2]
    assert cells.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [0, 3])
def test_empty_batch(backend: Backend, kind: str, steps: int) -> None:
    theirs, ours = pair(kind=kind, num_layers=2, bidirectional=True)
    x = torch.randn(max(steps, 1), 0, INPUT, dtype=torch.float64)
    assert_same(run(ours, x, None), run(theirs, x, None))


# Manners of a module.


@pytest.mark.parametrize("options", GRID, ids=options_id)
def test_same_module_as_torch(options: dict[str, Any]) -> None:
    options = dict(options)
    kind = options.pop("kind")
    their_kind, our_kind = getattr(nn, kind), getattr(seqfast.nn, kind)
    torch.manual_seed(3)
    theirs = their_kind(INPUT, HIDDEN, **options)
    torch.manual_seed(3)
    ours = our_kind(INPUT, HIDDEN, **options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
    theirs.load_state_dict(our_kind(INPUT, HIDDEN, **options).state_dict())
    ours.load_state_dict(theirs.state_dict())
    for one, other in zip(ours.all_weights, theirs.all_weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert len(ours._flat_weights) == len(theirs._flat_weights)
    assert ours.flatten_parameters() is None
    names = ("mode", "input_size", "hidden_size", "_flat_weights_names", "_all_weights", *options)
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name)


def test_arguments_may_be_positional() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = seqfast.nn.LSTM(3, 4, 2, False, True, 0.5, True, 2, "cpu", torch.float64)
        theirs = nn.LSTM(3, 4, 2, False, True, 0.5, True, 2, "cpu", torch.float64)
    assert repr(ours) == repr(theirs)
    assert ours.weight_hr_l1_reverse.dtype == torch.float64
    gru = seqfast.nn.GRU(3, 4, 2, False, True, 0.5, True, "cpu", torch.float64)
    assert repr(gru) == "GRU(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, " + (
        "bidirectional=True)"
    )
    rnn = seqfast.nn.RNN(3, 4, 2, "relu", False, True, 0.5, True, "cpu", torch.float64)
    assert rnn.mode == "RNN_RELU"
    assert repr(rnn).removeprefix("RNN") == repr(gru).removeprefix("GRU")
    assert gru.weight_ih_l0.dtype == rnn.weight_hh_l1_reverse.dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles(kind: str) -> None:
    _, ours = pair(kind=kind, num_layers=2, **({"proj_size": 2} if kind == "LSTM" else {}))
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    wanted = ours(x)
    stream = io.BytesIO()
    torch.save(ours, stream)
    stream.seek(0)
    copies = (
        copy.deepcopy(ours),
        pickle.loads(pickle.dumps(ours)),
        torch.load(stream, weights_only=False),
    )
    for other in copies:
        assert other.weight_ih_l0 is not ours.weight_ih_l0
        torch.testing.assert_close(other(x), wanted, rtol=0, atol=0)
        assert repr(other) == repr(ours)


@pytest.mark.parametrize("kind", KINDS)
def test_conversions(kind: str) -> None:
    ours = getattr(seqfast.nn, kind)(INPUT, HIDDEN)
    for convert, dtype in (
        (ours.half, torch.float16),
        (ours.bfloat16, torch.bfloat16),
        (ours.double, torch.float64),
        (lambda: ours.to("cpu", torch.float32), torch.float32),
    ):
        assert convert() is ours
        output, states = ours(torch.randn(STEPS, BATCH, INPUT, dtype=dtype))
        assert {output.dtype, *(state.dtype for state in listed(states))} == {dtype}
    ours.to_empty(device="meta")
    assert ours(torch.empty(STEPS, BATCH, INPUT, device="meta"))[0].shape == (STEPS, BATCH, HIDDEN)


def test_hooks() -> None:
    _, ours = pair()
    seen: list[str] = []
    ours.register_forward_pre_hook(lambda module, args: seen.append("before"))
    ours.register_forward_hook(lambda module, args, result: seen.append("after"))
    ours.register_full_backward_hook(lambda module, into, out: seen.append("backward"))
    ours.weight_hh_l0.register_hook(lambda grad: seen.append("weight"))
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    ours(x)[0].sum().backward()
    assert sorted(seen) == ["after", "backward", "before", "weight"]


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l1", "bias_ih_l0", "bias_hh_l1"])
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters(backend: Backend, kind: str, frozen: str) -> None:
    theirs, ours = pair(kind=kind, num_layers=2)
    for module in (theirs, ours):
        getattr(module, frozen).requires_grad_(False)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    assert_same(run(ours, x, None), run(theirs, x, None))
    assert getattr(ours, frozen).grad is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("only", ["input", "hidden", "cell", "weights"])
def test_gradient_of_one_argument_only(backend: Backend, kind: str, only: str) -> None:
    theirs, ours = pair(kind=kind, num_layers=2, bidirectional=True)
    if only == "cell" and kind != "LSTM":
        pytest.skip(f"a {kind} has no cell state")
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    hx = dict(zip(("hidden", "cell"), listed(random_states(theirs, BATCH)), strict=False))
    grads = []
    for module in (ours, theirs):
        module.requires_grad_(only == "weights")
        arguments = {name: value.clone() for name, value in {"input": x, **hx}.items()}
        wanted = [*module.parameters()] if only == "weights" else [arguments[only].requires_grad_()]
        states = (arguments["hidden"], arguments["cell"]) if kind == "LSTM" else arguments["hidden"]
        output, _ = module(arguments["input"], states)
        grads.append(torch.autograd.grad(output.sin().sum(), wanted))
    assert_same(*grads)


class Calls(TorchDispatchMode):
    """Records the arguments of every seqfast operator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "seqfast":
            self.seen.append((func._opname, args))
        return func(*args, **(kwargs or {}))


def test_only_training_keeps_gates(backend: Backend) -> None:
    _, ours = pair(num_layers=2)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    with Calls() as calls:
        ours(x)
        with torch.no_grad():
            ours(x)
        ours.requires_grad_(False)(x)
    saved = [args[-1] for name, args in calls.seen if name == "rnn_forward"]
    assert saved == [True, True, False, False, False, False]


def test_backward_computes_only_what_is_needed(backend: Backend) -> None:
    _, ours = pair()
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    with Calls() as calls:
        ours(x)[0].sum().backward()
        ours.requires_grad_(False)
        ours(x.requires_grad_())[0].sum().backward()
    needs = [args[-3:] for name, args in calls.seen if name == "rnn_backward"]
    assert needs == [(False, False, True), (True, False, False)]


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_with_and_without_gradients(backend: Backend, kind: str) -> None:
    ours = getattr(seqfast.nn, kind)(17, 33, 2, bidirectional=True)
    x = torch.randn(STEPS, BATCH, 17)
    wanted = ours(x)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), wanted, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_biases_have_gradients_of_their_own(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind)
    ours(torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64))[0].sum().backward()
    before = ours.bias_hh_l0.grad.clone()
    ours.bias_ih_l0.grad.zero_()
    torch.testing.assert_close(ours.bias_hh_l0.grad, before)
    one, other = torch.autograd.grad(
        ours(torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64))[0].sum(),
        (ours.bias_ih_l0, ours.bias_hh_l0),
    )
    assert one.data_ptr() != other.data_ptr()


@pytest.mark.parametrize("kind", KINDS)
def test_changing_a_weight_before_backward_is_noticed(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind)
    loss = ours(torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64))[0].sum()
    with torch.no_grad():
        ours.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", KINDS)
def test_second_backward_needs_retain_graph(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind)
    loss = ours(torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64))[0].sum()
    loss.backward(retain_graph=True)
    first = ours.weight_hh_l0.grad.clone()
    loss.backward()
    torch.testing.assert_close(ours.weight_hh_l0.grad, 2 * first)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_penalty(backend: Backend, kind: str) -> None:
    """Double backward, as a gradient penalty takes it."""
    options = {"proj_size": 2} if kind == "LSTM" else {}
    theirs, ours = pair(kind=kind, num_layers=2, bidirectional=True, **options)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    results = []
    for module in (theirs, ours):
        leaf = x.clone().requires_grad_()
        output, _ = module(leaf)
        (grad,) = torch.autograd.grad(output.pow(2).sum(), leaf, create_graph=True)
        grad.pow(2).sum().backward()
        results.append([leaf.grad, *(p.grad for p in module.parameters())])
    assert_same(*results)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    again = torch.utils.checkpoint.checkpoint(lambda x: ours(x)[0], x, use_reentrant=False)
    (found,) = torch.autograd.grad(again.sum(), x)
    (wanted,) = torch.autograd.grad(ours(x)[0].sum(), x)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        pytest.param(
            nn.utils.weight_norm,
            marks=pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
        ),
    ],
    ids=["weight_norm", "spectral_norm", "hook weight_norm"],
)
def test_reparametrized_weights(wrap: Any) -> None:
    theirs, ours = pair()
    torch.manual_seed(5)
    theirs = wrap(theirs, "weight_hh_l0")
    torch.manual_seed(5)
    ours = wrap(ours, "weight_hh_l0")
    # In training, spectral_norm steps at every look at the weight, and torch looks more than once.
    theirs.eval()
    ours.eval()
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    for _ in range(2):
        assert_same(run(ours, x, None), run(theirs, x, None))


@pytest.mark.parametrize("kind", KINDS)
def test_functional_call_and_transforms(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind, num_layers=2)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    other = {n: torch.randn_like(p, requires_grad=True) for n, p in ours.named_parameters()}

    def loss(parameters: Any, x: Tensor = x) -> Tensor:
        output, states = torch.func.functional_call(ours, parameters, (x,))
        return output.pow(2).sum() + listed(states)[-1].sum()

    value = loss(other)
    wanted = dict(zip(other, torch.autograd.grad(value, [*other.values()]), strict=True))
    found, found_value = torch.func.grad_and_value(loss)(other)
    torch.testing.assert_close(found_value, value)
    torch.testing.assert_close(found, wanted)
    per_row = torch.func.vmap(lambda row: loss(other, row.unsqueeze(1)), in_dims=1)(x)
    torch.testing.assert_close(per_row.sum(), value)


@pytest.mark.parametrize("kind", KINDS)
def test_default_device_is_not_taken(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind, num_layers=2, bidirectional=True)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    hx, lengths = random_states(ours, BATCH), torch.tensor([2, STEPS, 0])
    with torch.device("meta"):
        output, _ = ours(x, hx, lengths=lengths)
        output.sum().backward()
        with torch.no_grad():
            assert ours(x)[0].device.type == output.device.type == backend.device
    assert ours.weight_hh_l0.grad.device.type == backend.device


@pytest.mark.parametrize("kind", KINDS)
def test_tracing(backend: Backend, kind: str) -> None:
    _, ours = pair(kind=kind, num_layers=2)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(ours, x)
        other = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
        torch.testing.assert_close(traced(other), ours(other))


def test_training_learns(backend: Backend) -> None:
    if backend.name == "cuda-host":
        pytest.skip("too long for the host executor")
    ours = seqfast.nn.LSTM(1, 16, 2)
    head = nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*ours.parameters(), *head.parameters()], 0.01)
    x = torch.randn(20, 32, 1)
    target = x.cumsum(0).tanh()
    losses = []
    for _ in range(150):
        loss = (head(ours(x)[0]) - target).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


# The cell.


CELLS = [
    ("LSTMCell", {}),
    ("GRUCell", {}),
    ("RNNCell", {}),
    ("RNNCell", {"nonlinearity": "relu"}),
]


def cell_pair(bias: bool, kind: str = "LSTMCell", **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    theirs = getattr(nn, kind)(INPUT, HIDDEN, bias, **options, dtype=torch.float64)
    torch.manual_seed(3)
    return theirs, getattr(seqfast.nn, kind)(INPUT, HIDDEN, bias, **options, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "options"), CELLS, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("with_states", [True, False])
@pytest.mark.parametrize("batch", [(BATCH,), (), (0,)], ids=["batched", "unbatched", "empty"])
def test_cell_same_as_torch(
    backend: Backend,
    kind: str,
    options: dict[str, Any],
    bias: bool,
    with_states: bool,
    batch: tuple[int, ...],
) -> None:
    theirs, ours = cell_pair(bias, kind, **options)
    assert repr(theirs) == repr(ours)
    torch.testing.assert_close(dict(theirs.state_dict()), dict(ours.state_dict()), rtol=0, atol=0)
    inputs = torch.randn(3, *batch, INPUT, dtype=torch.float64)
    count = 2 if kind == "LSTMCell" else 1
    start = [torch.randn(*batch, HIDDEN, dtype=torch.float64) for _ in range(count)]
    results = []
    for module in (ours, theirs):
        x = inputs.clone().requires_grad_()
        leaves = [s.clone().requires_grad_() for s in start] if with_states else []
        hx: Any = leaves[0] if len(leaves) == 1 else tuple(leaves) or None
        state = hx
        for step in x:
            state = module(step, state)
        h, *c = listed(state)
        (h.pow(2).sum() + sum(cell.sin().sum() for cell in c)).backward()
        grads = [x.grad, *(leaf.grad for leaf in leaves), *(p.grad for p in module.parameters())]
        results.append([h, *c, *grads])
        with torch.no_grad():
            results[-1] += listed(module(x[0], hx))
    assert_same(*results)


@pytest.mark.parametrize(("kind", "options"), CELLS, ids=str)
def test_cell_copies_and_attributes(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = cell_pair(False, kind, **options)
    assert ours.bias_ih is None
    assert "bias_ih" in ours._parameters
    assert (ours.input_size, ours.hidden_size, ours.bias) == (INPUT, HIDDEN, False)
    x = torch.randn(BATCH, INPUT, dtype=torch.float64)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(other(x), ours(x), rtol=0, atol=0)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())


# Mistakes: what torch refuses we refuse with the same exception, and say what came.

BAD_OPTIONS = [
    {"input_size": 0},
    {"input_size": -1},
    {"input_size": 3.0},
    {"hidden_size": 0},
    {"hidden_size": "x"},
    {"num_layers": 0},
    {"num_layers": 1.5},
    {"num_layers": "a"},
    {"proj_size": -1},
    {"proj_size": 4},
    {"proj_size": 1.5},
    {"bias": 1},
    {"batch_first": 1},
    {"dropout": 2},
    {"dropout": -0.5},
    {"dropout": True},
    {"dropout": "a"},
    {"dropout": 0.5},
    {"dtype": torch.int32},
    {"dtype": "x"},
    {"device": "nowhere"},
    {"nonsense": 1},
    {"nonlinearity": "sigmoid"},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_constructor_refuses_as_torch_does(kind: str, options: dict[str, Any]) -> None:
    arguments = {"input_size": 3, "hidden_size": 4, **options}
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever torch raises
        getattr(nn, kind)(**arguments)
    with pytest.raises(theirs.type) as ours:
        getattr(seqfast.nn, kind)(**arguments)
    assert ours.type is theirs.type


def zeros(*shape: int, **options: Any) -> Tensor:
    return torch.zeros(*shape, **options)


GOOD = (1, 2, 4)
# Where torch leaves it to a kernel to refuse, in words that are about the kernel.
WORDS_OF_KERNELS = (
    "mkldnn",
    "primitive",
    "shapes cannot be multiplied",
    "number of RNN parameters",
    "size of tensor",
    "lstm_cell():",
)
BAD_CALLS: dict[str, tuple[Any, ...]] = {
    "1-D": (zeros(3),),
    "4-D": (zeros(1, 1, 1, 3),),
    "input size": (zeros(2, 2, 5),),
    "input size unbatched": (zeros(2, 5),),
    "no steps": (zeros(0, 2, 3),),
    "no steps unbatched": (zeros(0, 3),),
    "float64": (zeros(2, 2, 3).double(),),
    "int": (zeros(2, 2, 3).int(),),
    "hidden features": (zeros(2, 2, 3), (zeros(1, 2, 5), zeros(*GOOD))),
    "hidden batch": (zeros(2, 2, 3), (zeros(1, 3, 4), zeros(*GOOD))),
    "hidden layers": (zeros(2, 2, 3), (zeros(2, 2, 4), zeros(*GOOD))),
    "cell features": (zeros(2, 2, 3), (zeros(*GOOD), zeros(1, 2, 5))),
    "states 2-D": (zeros(2, 2, 3), (zeros(2, 4), zeros(2, 4))),
    "states 3-D unbatched": (zeros(2, 3), (zeros(*GOOD), zeros(*GOOD))),
    "hidden dtype": (zeros(2, 2, 3), (zeros(*GOOD).double(), zeros(*GOOD))),
    "cell dtype": (zeros(2, 2, 3), (zeros(*GOOD), zeros(*GOOD).bfloat16())),
    "three states": (zeros(2, 2, 3), (zeros(*GOOD),) * 3),
    "input on meta": (zeros(2, 2, 3, device="meta"),),
    "hidden on meta": (zeros(2, 2, 3), (zeros(*GOOD, device="meta"), zeros(*GOOD))),
    "cell on meta": (zeros(2, 2, 3), (zeros(*GOOD), zeros(*GOOD, device="meta"))),
    "packed size": (pack_padded_sequence(zeros(2, 2, 5), torch.tensor([2, 1])),),
    "packed hidden": (
        pack_padded_sequence(zeros(2, 2, 3), torch.tensor([2, 1])),
        (zeros(1, 2, 5), zeros(*GOOD)),
    ),
    "packed 3-D": (PackedSequence(zeros(3, 3, 3), torch.tensor([2, 1])),),
}


@pytest.mark.parametrize("name", BAD_CALLS)
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("kind", KINDS)
def test_call_refuses_as_torch_does(kind: str, name: str, grad: bool) -> None:
    theirs, ours = getattr(nn, kind)(3, 4), getattr(seqfast.nn, kind)(3, 4)
    arguments = for_kind(kind, BAD_CALLS[name])
    with torch.set_grad_enabled(grad), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as wanted:  # noqa: PT011 - whatever torch raises
            theirs(*arguments)
        with pytest.raises(Exception, match=f"^{kind}: ") as found:
            ours(*arguments)
    assert found.type is wanted.type
    if not any(words in str(wanted.value) for words in WORDS_OF_KERNELS):
        assert str(wanted.value) in str(found.value)


def for_kind(kind: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of an LSTM as another layer or cell takes them: its states are the hidden ones."""
    if kind.startswith("LSTM") or len(arguments) < 2 or isinstance(arguments[1], Tensor):
        return arguments
    if len(arguments[1]) != 2:
        pytest.skip("has no tuple of states")
    hidden, cell = arguments[1]
    # A mistake in the cell state is made in the hidden state then.
    right = hidden.dtype == torch.float32 and hidden.shape == GOOD and not hidden.is_meta
    return arguments[0], cell if right else hidden


BAD_CELL_CALLS: dict[str, tuple[Any, ...]] = {
    "3-D": (zeros(2, 2, 3),),
    "0-D": (torch.tensor(1.0),),
    "input size": (zeros(2, 5),),
    "float64": (zeros(2, 3).double(),),
    "hidden features": (zeros(2, 3), (zeros(2, 5), zeros(2, 4))),
    "hidden batch": (zeros(2, 3), (zeros(3, 4), zeros(2, 4))),
    "cell batch": (zeros(2, 3), (zeros(2, 4), zeros(3, 4))),
    "states 3-D": (zeros(2, 3), (zeros(1, 2, 4), zeros(1, 2, 4))),
    "states 2-D unbatched": (zeros(3), (zeros(1, 4), zeros(1, 4))),
    "states 1-D batched": (zeros(2, 3), (zeros(4), zeros(4))),
    "hidden dtype": (zeros(2, 3), (zeros(2, 4).double(), zeros(2, 4))),
    "states are one tensor": (zeros(2, 3), zeros(2, 2, 4)),
}


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("name", BAD_CELL_CALLS)
def test_cell_refuses_as_torch_does(kind: str, name: str) -> None:
    theirs, ours = getattr(nn, kind)(3, 4), getattr(seqfast.nn, kind)(3, 4)
    arguments = for_kind(kind, BAD_CELL_CALLS[name])
    if name == "cell batch" and kind != "LSTMCell":
        pytest.skip("has no cell state")
    with pytest.raises(Exception) as wanted:  # noqa: PT011 - whatever torch raises
        theirs(*arguments)
    with pytest.raises(Exception, match=f"^{kind}: ") as found:
        ours(*arguments)
    assert found.type is wanted.type
    if not any(words in str(wanted.value) for words in WORDS_OF_KERNELS):
        assert str(wanted.value) in str(found.value)


def test_unknown_nonlinearity_of_a_cell() -> None:
    cell = seqfast.nn.RNNCell(3, 4, nonlinearity="sigmoid")
    with pytest.raises(RuntimeError, match=r"^RNNCell: Unknown nonlinearity: sigmoid"):
        cell(zeros(2, 3))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([[1.0]],), {}, TypeError, "input must be a torch tensor, got list"),
        ((np.zeros((2, 2, 3)),), {}, TypeError, "input must be a torch tensor, got ndarray"),
        ((None,), {}, TypeError, "input must be a torch tensor, got NoneType"),
        ((zeros(2, 2, 3), zeros(*GOOD)), {}, TypeError, "hx must be a tuple of two"),
        ((zeros(2, 2, 3), (zeros(*GOOD), None)), {}, TypeError, r"hx\[1\] must be a torch tensor"),
        ((zeros(2, 2, 3), (zeros(*GOOD),)), {}, RuntimeError, "two hidden states, got 1"),
        ((zeros(2, 2, 3),), {"lengths": "ab"}, TypeError, "lengths must be a torch tensor, a list"),
        ((zeros(2, 2, 3),), {"lengths": torch.ones(2)}, TypeError, "lengths must be integers"),
        ((zeros(2, 2, 3),), {"lengths": torch.ones(3).int()}, ValueError, r"\[2\], got \[3\]"),
        ((zeros(2, 2, 3),), {"lengths": torch.tensor(1)}, ValueError, r"\[batch\], got \[\]"),
        ((zeros(2, 3),), {"lengths": torch.tensor([1])}, ValueError, r"unbatched input, got \[1\]"),
        ((zeros(2, 2, 3),), {"lengths": torch.tensor([1, 3])}, ValueError, "from 0 to 2, got 3"),
        ((zeros(2, 2, 3),), {"lengths": torch.tensor([-1, 1])}, ValueError, "from 0 to 2, got -1"),
        (
            (pack_padded_sequence(zeros(2, 2, 3), torch.tensor([2, 1])),),
            {"lengths": torch.tensor([2, 1])},
            ValueError,
            "which has its own lengths",
        ),
        (
            (pack_padded_sequence(zeros(2, 2, 3).double(), torch.tensor([2, 1])),),
            {},
            ValueError,
            "input dtype .* does not match weight dtype",
        ),
        (
            (PackedSequence(zeros(5, 3), torch.tensor([2, 1])),),
            {},
            RuntimeError,
            "make 3 rows, but its data has 5",
        ),
    ],
)
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_own_refusals(
    arguments: Any, options: Any, error: type[Exception], message: str, grad: bool
) -> None:
    ours = seqfast.nn.LSTM(3, 4)
    with torch.set_grad_enabled(grad), pytest.raises(error, match=f"(?i)^lstm: .*{message}"):
        ours(*arguments, **options)


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_hh_l0", nn.Parameter(zeros(16, 5))),
        ("weight_ih_l0", nn.Parameter(zeros(12, 3))),
        ("bias_hh_l0", nn.Parameter(zeros(15))),
        ("weight_hh_l0", nn.Parameter(zeros(16, 4).double())),
    ],
)
def test_spoilt_weights(name: str, value: Any, grad: bool) -> None:
    ours = seqfast.nn.LSTM(3, 4)
    setattr(ours, name, value)
    with torch.set_grad_enabled(grad), pytest.raises((ValueError, TypeError), match=r"^lstm: "):
        ours(zeros(2, 2, 3))


def test_meta_weight_is_refused() -> None:
    ours = seqfast.nn.LSTM(3, 4)
    ours.weight_hh_l0 = nn.Parameter(zeros(16, 4, device="meta"))
    with torch.no_grad(), pytest.raises(ValueError, match=r"weight_hh must be .* got meta"):
        ours(zeros(2, 2, 3))

"""Random masks: seeds, threads, checkpoints, gradients; and the regularisers beside the layers."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch
from support.cases import Backend
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import seqfast.nn

from . import plain
from .test_options import EVERYTHING, case_id, make

STEPS, BATCH, INPUT = 5, 3, 4
DTYPE = torch.float64

REGULARISERS: list[dict[str, Any]] = [
    {"dropout": 0.4, "num_layers": 2},
    {"input_dropout": 0.4},
    {"recurrent_dropout": 0.4},
    {"zoneout": 0.4},
    {"weight_dropout": 0.4},
]
CASES = [
    *((kind, options) for kind in ("LSTM", "GRU", "RNN") for options in REGULARISERS),
    ("LSTM", {"recurrent_dropout": 0.4, "recurrent_dropout_on": "update"}),
    ("GRU", {"recurrent_dropout": 0.4, "recurrent_dropout_on": "update"}),
    ("LSTM", {"recurrent_dropout": 0.4, "recurrent_dropout_on": "cell"}),
    ("LSTM", {"weight_dropout": 0.4, "weight_dropout_on": "row"}),
]


def sequence(dtype: torch.dtype = DTYPE) -> Tensor:
    return torch.randn(STEPS, BATCH, INPUT, dtype=dtype)


def drawn(layer: Any, x: Tensor, seed: int = 5, **options: Any) -> Any:
    torch.manual_seed(seed)
    return layer(x, **options)


# Seeds.


@pytest.mark.parametrize(("kind", "options"), CASES, ids=case_id)
def test_the_seed_decides(backend_once: Backend, kind: str, options: dict[str, Any]) -> None:
    layer, x = make(kind, options), sequence()
    first, again, other = (drawn(layer, x, seed)[0] for seed in (5, 5, 6))
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert not torch.equal(other, first)
    torch.manual_seed(5)
    assert torch.equal(layer(x)[0], first)
    assert not torch.equal(layer(x)[0], first)  # each forward pass has masks of its own


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_evaluation_draws_nothing(kind: str) -> None:
    plain_layer = make(kind, {"num_layers": 2})
    names = ("dropout", "input_dropout", "recurrent_dropout", "weight_dropout")
    layer = make(kind, {"num_layers": 2, **dict.fromkeys(names, 0.4)}).eval()
    layer.load_state_dict(plain_layer.state_dict())
    x = sequence()
    before = torch.get_rng_state()
    torch.testing.assert_close(layer(x), plain_layer(x), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)
    layer.train()(x)
    assert not torch.equal(torch.get_rng_state(), before)


def test_training_without_masks_draws_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = seqfast.nn.LSTM(INPUT, 4, dropout=0.5)  # of one layer: there is no between
    x = sequence(torch.float32)
    before = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", EVERYTHING)
def test_any_number_of_threads(kind: str, set_threads: Any) -> None:
    layer = getattr(seqfast.nn, kind)(33, 70, **EVERYTHING[kind])
    x = torch.randn(20, 37, 33)
    found = []
    for count in (1, 2, 5):
        set_threads(count)
        layer.zero_grad()
        output = drawn(layer, x)[0]
        output.sum().backward()
        # torch's own products may depend on the number of threads; the kernels do not.
        found.append([output, layer.weight_hh_l0.grad.clone()])
    for other in found[1:]:
        for one, wanted in zip(other, found[0], strict=True):
            torch.testing.assert_close(one, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=case_id)
def test_same_bits_for_any_number_of_threads(
    kind: str, options: dict[str, Any], set_threads: Any
) -> None:
    layer = getattr(seqfast.nn, kind)(33, 70, **options)
    x = torch.randn(20, 37, 33)
    found = []
    for count in (1, 3):
        set_threads(count)
        found.append(drawn(layer, x)[0])
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_directions_and_layers_have_masks_of_their_own() -> None:
    layer = seqfast.nn.RNN(INPUT, 64, 2, bidirectional=True, recurrent_dropout=0.5, dtype=DTYPE)
    seed = plain.seed_of(5)
    masks = [
        plain.events(seed, "hidden", 0.5, *at, (1, BATCH, 64)) for at in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(masks))
    x = sequence()
    wanted = plain.run(layer, x, seed=seed)[0]
    torch.testing.assert_close(drawn(layer, x)[0], wanted)


# Gradients.


@pytest.mark.parametrize(
    ("kind", "options"), [*CASES, *EVERYTHING.items()], ids=case_id
)  # everything: all of them at once
def test_gradcheck_with_the_seed_held(
    backend_once: Backend, kind: str, options: dict[str, Any]
) -> None:
    if backend_once.name != "cpu" and options not in EVERYTHING.values():
        pytest.skip("each by itself on the CPU")
    torch.manual_seed(1)
    layer = getattr(seqfast.nn, kind)(2, 2, **options, dtype=DTYPE)
    names = [name for name, _ in layer.named_parameters()]
    # Away from the initial zeros and ones, and from the edges of clips.
    parameters = [torch.randn_like(p).mul_(0.5).requires_grad_() for p in layer.parameters()]
    x = torch.randn(3, 2, 2, dtype=DTYPE, requires_grad=True)
    mask = torch.tensor([[True, False], [False, True], [True, True]])
    reset = torch.tensor([[False, False], [False, False], [True, False]])

    def function(x: Tensor, *parameters: Tensor) -> Any:
        torch.manual_seed(3)
        values = dict(zip(names, parameters, strict=True))
        call = {"mask": mask, "reset": reset}
        output, states = torch.func.functional_call(layer, values, (x,), call)
        return output, *(states if isinstance(states, tuple) else (states,))

    # Few directions instead of each number by itself, where there are many.
    fast_mode = options in EVERYTHING.values()
    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=fast_mode)


@pytest.mark.parametrize(("kind", "options"), CASES[:5], ids=case_id)
def test_second_derivatives_with_the_seed_held(kind: str, options: dict[str, Any]) -> None:
    layer = getattr(seqfast.nn, kind)(2, 2, **options, dtype=DTYPE)
    x = torch.randn(3, 2, 2, dtype=DTYPE, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: drawn(layer, x)[0], (x,), fast_mode=True)


@pytest.mark.parametrize("kind", EVERYTHING)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints_draw_the_same_again(
    backend_once: Backend, kind: str, use_reentrant: bool
) -> None:
    layer, x = make(kind, EVERYTHING[kind]), sequence().requires_grad_()
    lengths, mask = torch.tensor([5, 3, 4]), torch.rand(STEPS, BATCH) > 0.3

    def function(x: Tensor) -> Tensor:
        return layer(x, lengths=lengths, mask=mask)[0]

    found = []
    for call in (function, lambda x: checkpoint(function, x, use_reentrant=use_reentrant)):
        layer.zero_grad()
        x.grad = None
        torch.manual_seed(5)
        output = call(x)
        torch.manual_seed(6)  # what was drawn since then must not matter
        output.sin().sum().backward()
        found.append([output, x.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


# DropConnect.


def test_weight_dropout_is_a_mask_on_the_raw_weight(backend_once: Backend) -> None:
    layer, x = make("LSTM", {"weight_dropout": 0.5, "bidirectional": True}), sequence()
    names = [name for name, _ in layer.named_parameters()]
    raw = layer.weight_hh_l0_reverse
    before = raw.detach().clone()
    output, _ = drawn(layer, x)
    output.sum().backward()
    assert layer.weight_hh_l0_reverse is raw
    assert torch.equal(raw, before)
    assert [name for name, _ in layer.named_parameters()] == names
    dropped = plain.events(plain.seed_of(5), "weight", 0.5, 0, 1, (1, *raw.shape))[0]
    assert torch.equal(raw.grad == 0, dropped)
    assert 0.3 < dropped.double().mean() < 0.7
    assert not torch.equal(layer.eval()(x)[0], output)


@pytest.mark.parametrize("on", ["element", "row"])
def test_drop_connect_linear(on: str, backend_once: Backend) -> None:
    torch.manual_seed(3)
    layer = seqfast.nn.DropConnectLinear(6, 40, 0.5, on=on).to(DTYPE)
    plain_layer = nn.Linear(6, 40).to(DTYPE)
    plain_layer.load_state_dict(layer.state_dict())
    x = torch.randn(5, 6, dtype=DTYPE)
    torch.testing.assert_close(layer.eval()(x), plain_layer(x))
    torch.manual_seed(5)
    output = layer.train()(x)
    output.sum().backward()
    shape = (1, *layer.weight.shape) if on == "element" else (1, 1, 40)
    kept = ~plain.events(plain.seed_of(5), "other", 0.5, 0, 0, shape)[0]
    mask = (kept if on == "element" else kept.T).double().expand(40, 6) * 2
    torch.testing.assert_close(output, x @ (layer.weight * mask).T + layer.bias)
    torch.testing.assert_close(layer.weight.grad, mask * x.sum(0))
    assert 0.2 < kept.double().mean() < 0.8


def test_drop_connect_linear_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"DropConnectLinear: p must be .* got 2"):
        seqfast.nn.DropConnectLinear(2, 3, 2)
    with pytest.raises(ValueError, match="'element' or 'row', got 'column'"):
        seqfast.nn.DropConnectLinear(2, 3, on="column")
    with pytest.raises(TypeError, match="input must be a torch tensor, got list"):
        seqfast.nn.DropConnectLinear(2, 3)([1.0, 2.0])
    assert "p=0.25, on='row'" in repr(seqfast.nn.DropConnectLinear(2, 3, 0.25, on="row"))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_weight_dropout_leaves_parameters_alone(kind: str) -> None:
    layer = make(kind, {"weight_dropout": 0.5, "num_layers": 2})
    before = {name: (id(p), p.detach().clone()) for name, p in layer.named_parameters()}
    layer.weight_hh_l1 = nn.Parameter(layer.weight_hh_l1[:, :-1].detach())  # fails in the middle
    with pytest.raises(ValueError, match="weight_hh"):
        layer(sequence())
    spoilt = layer.weight_hh_l1
    with pytest.raises(ValueError, match="weight_hh"):
        layer(sequence())
    assert layer.weight_hh_l1 is spoilt
    for name, parameter in layer.named_parameters():
        if name != "weight_hh_l1":
            assert id(parameter) == before[name][0]
            assert torch.equal(parameter, before[name][1])
            assert isinstance(parameter, nn.Parameter)
    assert list(layer.state_dict()) == list(before)


def test_weight_dropout_learns(backend_once: Backend) -> None:
    layer = seqfast.nn.GRU(INPUT, 8, weight_dropout=0.5)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    x = sequence(torch.float32)
    before = layer.weight_hh_l0.detach().clone()
    layer(x)[0].sum().backward()
    optimizer.step()
    moved = layer.weight_hh_l0 != before
    assert torch.equal(moved, layer.weight_hh_l0.grad != 0)
    assert moved.any()


# What each does on average is what evaluation does.


def test_zoneout_stays_in_evaluation_by_its_expectation() -> None:
    layer = seqfast.nn.RNN(1, 1, zoneout=0.25, bias=False, dtype=DTYPE).eval()
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1.0)
        layer.weight_hh_l0.zero_()
    x, h_0 = torch.tensor([[[0.5]], [[-1.0]]], dtype=DTYPE), torch.tensor([[[2.0]]], dtype=DTYPE)
    output, _ = layer(x, h_0)
    first = 0.25 * 2 + 0.75 * x[0].tanh()
    torch.testing.assert_close(output[0], first)
    torch.testing.assert_close(output[1], 0.25 * first + 0.75 * x[1].tanh())
    layer.train()
    many = torch.stack([layer(x, h_0)[0] for _ in range(2000)]).mean(0)
    torch.testing.assert_close(many, output, rtol=0, atol=0.1)


def test_full_strength() -> None:
    """p = 1 drops everything, or keeps the state as it was, and makes no NaN."""
    x, h_0 = sequence(), torch.randn(1, BATCH, 4, dtype=DTYPE)
    kept = make("GRU", {"zoneout": 1.0})
    torch.testing.assert_close(kept(x, h_0)[1], h_0)
    torch.testing.assert_close(kept.eval()(x, h_0)[1], h_0)
    for name in ("input_dropout", "recurrent_dropout", "weight_dropout"):
        layer = make("GRU", {name: 1.0})
        output = layer(x)[0]
        output.sum().backward()
        assert output.isfinite().all()
        assert all(p.grad.isfinite().all() for p in layer.parameters())


# Modules.


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_locked_dropout(backend_once: Backend, batch_first: bool, dtype: torch.dtype) -> None:
    layer = seqfast.nn.LockedDropout(0.3, batch_first)
    assert repr(layer) == "LockedDropout(p=0.3" + ", batch_first=True" * batch_first + ")"
    x = torch.randn(7, 50, 90, dtype=dtype, requires_grad=True)
    shaped = x.transpose(0, 1) if batch_first else x
    found = drawn(layer, shaped)
    found = found.transpose(0, 1) if batch_first else found
    factors = plain.scale(plain.seed_of(5), "other", 0.3, (0, 0), (1, 50, 90))
    wanted = (x.double() * factors).to(dtype)
    torch.testing.assert_close(found, wanted)
    assert 0.27 < (factors == 0).double().mean() < 0.33
    (grad,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(grad, factors.expand(x.shape).to(dtype))
    assert layer.eval()(shaped) is shaped
    assert seqfast.nn.LockedDropout(0.0)(x) is x


def test_locked_dropout_of_a_single_sequence() -> None:
    for batch_first in (False, True):
        layer = seqfast.nn.LockedDropout(0.5, batch_first)
        x = torch.ones(6, 40)
        found = drawn(layer, x)
        assert found.shape == x.shape
        assert torch.equal(found, found[:1].expand(6, -1))
        assert set(found.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("shape", [(), (4,), (4, 6)], ids=str)
def test_embedding_dropout(backend_once: Backend, wrapped: bool, shape: tuple[int, ...]) -> None:
    embedding = nn.Embedding(30, 5, padding_idx=3, dtype=DTYPE)
    layer = seqfast.nn.EmbeddingDropout(0.4, embedding if wrapped else None)
    ids = torch.randint(0, 30, shape)
    arguments = (ids,) if wrapped else (embedding, ids)

    def run() -> Tensor:
        torch.manual_seed(5)
        return layer(*arguments)

    factors = plain.scale(plain.seed_of(5), "other", 0.4, (0, 0), (1, 1, 30))[0, 0]
    wanted = nn.functional.embedding(ids, embedding.weight * factors[:, None], padding_idx=3)
    found = run()
    torch.testing.assert_close(found, wanted)
    (grad,) = torch.autograd.grad(found.sin().sum(), embedding.weight)
    (grad_wanted,) = torch.autograd.grad(wanted.sin().sum(), embedding.weight)
    torch.testing.assert_close(grad, grad_wanted)
    assert {name for name, _ in layer.named_parameters()} == (
        {"embedding.weight"} if wrapped else set()
    )
    torch.testing.assert_close(layer.eval()(*arguments), embedding(ids))


def test_regularisers_refuse() -> None:
    embedding = nn.Embedding(3, 2)
    for make_layer, message in (
        (lambda: seqfast.nn.LockedDropout(1.5), r"LockedDropout: p must be .* got 1.5"),
        (lambda: seqfast.nn.LockedDropout()(torch.zeros(3)), "2D or 3D, got 1D"),
        (lambda: seqfast.nn.EmbeddingDropout(-1), r"EmbeddingDropout: p must be .* got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            make_layer()
    for call, message in (
        (lambda: seqfast.nn.LockedDropout()([1.0]), "input must be a torch tensor, got list"),
        (lambda: seqfast.nn.EmbeddingDropout(0.1, nn.Linear(2, 2)), r"got torch\.nn\..*Linear"),
        (lambda: seqfast.nn.EmbeddingDropout()(nn.Linear(2, 2), torch.tensor(1)), r"got torch\.nn"),
        (lambda: seqfast.nn.EmbeddingDropout()(torch.tensor(1)), "embedding and ids, got 1 arg"),
        (
            lambda: seqfast.nn.EmbeddingDropout(0.1, embedding)(embedding, torch.tensor(1)),
            "wanted ids, got 2 arguments",
        ),
        (lambda: seqfast.nn.EmbeddingDropout(0.1, embedding)([1]), "ids must be a torch tensor"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


# Penalties.


def penalty(output: Tensor, dropped: Tensor, on: Any, alpha: float, beta: float) -> Tensor:
    """One element after another; `on` bool [steps, batch]."""
    squares, changes = [], []
    for t in range(output.shape[0]):
        for n in range(output.shape[1]):
            if on[t][n]:
                squares.append(dropped[t, n].square())
            if t and on[t][n] and on[t - 1][n]:
                changes.append((output[t, n] - output[t - 1, n]).square())
    total = output.new_zeros(())
    for factor, terms in ((alpha, squares), (beta, changes)):
        if terms:
            total = total + factor * torch.cat(terms).mean()
    return total


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_activation_regularization(batch_first: bool, with_lengths: bool, with_mask: bool) -> None:
    output = torch.randn(STEPS, BATCH, 6, dtype=DTYPE, requires_grad=True)
    dropped = torch.randn(STEPS, BATCH, 6, dtype=DTYPE, requires_grad=True)
    on = torch.ones(STEPS, BATCH, dtype=torch.bool)
    call: dict[str, Any] = {}
    if with_lengths:
        call["lengths"] = torch.tensor([4, 0, 5])
        on &= torch.arange(STEPS)[:, None] < call["lengths"]
    if with_mask:
        call["mask"] = torch.rand(STEPS, BATCH) > 0.3
        on = on & call["mask"]
        call["mask"] = call["mask"].T if batch_first else call["mask"]
    turn = (lambda x: x.transpose(0, 1)) if batch_first else (lambda x: x)
    for given in (dropped, None):
        found = seqfast.nn.activation_regularization(
            turn(output), None if given is None else turn(given), 1.5, 0.7, batch_first, **call
        )
        wanted = penalty(output, output if given is None else given, on, 1.5, 0.7)
        torch.testing.assert_close(found, wanted)
        leaves = [output] if given is None else [output, dropped]
        torch.testing.assert_close(
            torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves)
        )


def test_activation_regularization_in_small() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 2.0]])  # unbatched
    found = seqfast.nn.activation_regularization(x, alpha=2.0, beta=3.0)
    assert found.item() == pytest.approx(2 * (1 + 4 + 9 + 4) / 4 + 3 * (4 + 0) / 2)
    length = torch.tensor(1)
    found = seqfast.nn.activation_regularization(x, lengths=length)
    assert found.item() == pytest.approx(2 * (1 + 4) / 2)
    nothing = seqfast.nn.activation_regularization(x, mask=torch.zeros(2, dtype=torch.bool))
    assert nothing.item() == 0
    assert seqfast.nn.activation_regularization(x[:1]).item() == pytest.approx(5.0)
    large = torch.full((2, 1, 1), 300.0, dtype=torch.float16)
    found = seqfast.nn.activation_regularization(large)
    assert found.dtype == torch.float32
    assert found.item() == 180000.0
    dirty = torch.tensor([[[1.0]], [[torch.nan]]], requires_grad=True)
    found = seqfast.nn.activation_regularization(dirty, lengths=torch.tensor([1]))
    assert found.item() == 2.0
    found.backward()
    assert dirty.grad is not None
    assert dirty.grad.flatten().tolist() == [4.0, 0.0]


def test_activation_regularization_refuses() -> None:
    x = torch.zeros(2, 3, 4)
    regularization = seqfast.nn.activation_regularization
    for call, error, message in (
        (lambda: regularization([1.0]), TypeError, "output must be a torch tensor, got list"),
        (lambda: regularization(x[0, 0]), ValueError, "2D or 3D, got 1D"),
        (
            lambda: regularization(x, x[:1]),
            ValueError,
            r"dropped must be \[2, 3, 4\].* \[1, 3, 4\]",
        ),
        (lambda: regularization(x, mask=torch.zeros(2, 3)), TypeError, "mask must be bool"),
        (
            lambda: regularization(x, lengths=torch.tensor([1, 2])),
            ValueError,
            r"lengths must be \[3\], got \[2\]",
        ),
        (lambda: regularization(x, lengths=torch.ones(3)), TypeError, "must be integers"),
    ):
        with pytest.raises(error, match=f"^activation_regularization: .*{message}"):
            call()

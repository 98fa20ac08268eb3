"""The CUDA kernels of the recurrent layers: every way of walking the steps, on a GPU or on the host
executor, against the twin, against one another, and against themselves in another order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import (
    Backend,
    assert_close,
    assert_same_bits,
    make_layer,
    reference_results,
    torch_layer,
)
from support.variants import VARIANTS, check_case, make_case
from torch.utils._python_dispatch import TorchDispatchMode

from seqfast import _C, ops, reference
from seqfast.ops.base.backend import forced_strategy
from seqfast.ops.rnn import cuda
from seqfast.ops.rnn.arguments import GpuCall, RnnSizes
from seqfast.ops.rnn.cells import cell_of
from seqfast.ops.rnn.layer import Kept, Needs, ResultGradients, check_layer
from seqfast.ops.rnn.options import Options

STRATEGIES = ("stepwise", "cluster", "grid")
# A strategy, and a hidden_size: of a layer in one block, or of one whose blocks trade. (72, not 70:
# of rows that are no whole vectors, torch's product of bfloat16 on a CPU reads into the next one.)
WALKS = [("stepwise", 40), ("cluster", 40), ("cluster", 72), ("grid", 72)]
DTYPE_CODES = {"float32": 0, "float64": 1, "bfloat16": 2, "float16": 3}
NARROW = ("float32", "bfloat16", "float16")  # float64 goes stepwise only


def results(layer: Any, **needs: Any) -> tuple[Any, Any]:
    forward = ops.rnn.lstm_forward(*layer.forward_args())
    return forward, ops.rnn.lstm_backward(*layer.backward_args(forward), **needs)


@contextmanager
def few_groups(hidden_size: int) -> Iterator[None]:
    """The host executor as a device with few groups of blocks, whose slabs have many rows."""
    _C.host_executor_set_device(-(-hidden_size // 16), 232448, 90, 16)
    try:
        yield
    finally:
        _C.host_executor_set_device(*DEVICES[0])


def check_strategies(backend: Backend, layer: Any, dtype: str, strategies: tuple[str, ...]) -> None:
    """Each way is near the twin. Clusters and grids have the same bits, in slabs of any number of
    rows; by steps, sums have another order."""
    wanted = reference_results(layer)
    tensors = torch_layer(layer, dtype, backend.device)
    persistent = []
    for strategy in strategies:
        with forced_strategy(strategy):
            found = results(tensors)
            assert_close(found, wanted, dtype)
            if strategy not in ("cluster", "grid"):
                continue
            persistent.append(found)
            if backend.name == "cuda-host":
                with few_groups(layer.weights[0][1].shape[0] // 4):
                    persistent.append(results(tensors))
    for other in persistent[1:]:
        assert_same_bits(other, persistent[0])


def strategies_of(hidden_size: int) -> tuple[str, ...]:
    # A layer in one block has nobody to trade with across the grid.
    return STRATEGIES if hidden_size > 64 else STRATEGIES[:2]


def options_of(operation: str = "lstm", layer_norm: bool = False, **options: Any) -> Any:
    """As `_C` takes them, without a seed."""
    return cell_of(operation, Options(**options), layer_norm).native


PLAIN = options_of()


def call_of(
    backend: Backend,
    dtype: str,
    batch: int,
    hidden_size: int,
    *,
    strategy: str = "automatic",
    steps: int = 10,
    proj_size: int = 0,
    directions: int = 1,
) -> Any:
    """The call and its sizes, as `_C` takes them."""
    call = GpuCall(
        device=0,
        stream=0,
        tf32=False,
        strategy=("automatic", *STRATEGIES).index(strategy),
        extras=False,
        on_host=backend.name == "cuda-host",
    )
    sizes = RnnSizes(
        dtype=DTYPE_CODES[dtype],
        steps=steps,
        batch=batch,
        input_size=0,
        hidden_size=hidden_size,
        proj_size=proj_size,
        directions=directions,
        threads=0,
    )
    return call, sizes


# steps, batch, hidden_size: ones, primes, and both sides of the edges of tiles, blocks and passes.
SHAPES = [
    (1, 1, 1),
    (2, 7, 3),
    (12, 2, 17),
    (3, 33, 17),
    (5, 9, 64),
    (3, 16, 65),
    (2, 17, 100),
    (5, 1, 128),
    (2, 9, 130),
    (3, 2, 200),
]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_way(cuda_backend: Backend, shape: tuple[int, int, int], dtype: str) -> None:
    steps, batch, hidden_size = shape
    layer = make_layer(steps, batch, 5, hidden_size)
    check_strategies(cuda_backend, layer, dtype, strategies_of(hidden_size))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((5, 9, 40), {"directions": 2, "ragged": True}),
        ((4, 17, 33), {"ragged": True, "bias": False}),
        ((3, 16, 65), {"directions": 2, "states": False}),
        ((4, 19, 100), {"directions": 2, "ragged": True}),
        ((12, 3, 17), {"directions": 2, "ragged": True, "states": False}),
    ],
    ids=str,
)
def test_each_way_with_options(
    cuda_backend: Backend, shape: tuple[int, int, int], options: dict[str, Any], dtype: str
) -> None:
    steps, batch, hidden_size = shape
    layer = make_layer(steps, batch, 5, hidden_size, **options)
    check_strategies(cuda_backend, layer, dtype, strategies_of(hidden_size))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    ("shape", "proj_size", "options"),
    [
        ((3, 7, 17), 5, {}),
        ((4, 9, 65), 33, {"directions": 2, "ragged": True}),
        ((2, 17, 100), 99, {"bias": False}),
    ],
    ids=str,
)
def test_projection(
    cuda_backend: Backend,
    shape: tuple[int, int, int],
    proj_size: int,
    options: dict[str, Any],
    dtype: str,
) -> None:
    """The persistent kernels do not project, so that the policy has one way for it."""
    steps, batch, hidden_size = shape
    layer = make_layer(steps, batch, 5, hidden_size, proj_size, **options)
    check_strategies(cuda_backend, layer, dtype, ("automatic", "stepwise"))


@pytest.mark.parametrize(
    ("dtype", "shape", "strategy"),
    [
        ("bfloat16", (2, 3, 500), "cluster"),
        ("float32", (2, 3, 520), "grid"),
        ("float16", (2, 9, 700), "grid"),
    ],
    ids=str,
)
def test_wide_layers(
    cuda_backend: Backend, dtype: str, shape: tuple[int, int, int], strategy: str
) -> None:
    steps, batch, hidden_size = shape
    layer = make_layer(steps, batch, 5, hidden_size)
    check_strategies(cuda_backend, layer, dtype, ("stepwise", strategy))


def test_float64_goes_stepwise(cuda_backend: Backend) -> None:
    call = call_of(cuda_backend, "float64", 4, 32)
    assert [_C.cuda_rnn_strategy(*call, PLAIN, backward) for backward in (False, True)] == [1, 1]


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("strategy", ["cluster", "grid"])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [("float64", {}), ("float32", {"proj_size": 7}), ("bfloat16", {"hidden_size": 30_000})],
    ids=str,
)
def test_a_way_that_cannot_be_gone_says_why(
    cuda_backend: Backend,
    strategy: str,
    dtype: str,
    options: dict[str, int],
    backward: bool,
) -> None:
    arguments = {"batch": 4, "hidden_size": 32, **options}
    call = call_of(cuda_backend, dtype, strategy=strategy, **arguments)
    with pytest.raises(RuntimeError, match=f"(?i)lstm.*{strategy}"):
        _C.cuda_rnn_strategy(*call, PLAIN, backward)
    with pytest.raises(RuntimeError, match=f"(?i)lstm.*{strategy}"):
        _C.cuda_rnn_workspace_size(*call, PLAIN, backward)


def test_forced_way_reaches_the_layer(cuda_backend: Backend) -> None:
    layer = torch_layer(make_layer(2, 3, 4, 5), "float64", cuda_backend.device)
    with forced_strategy("grid"), pytest.raises(RuntimeError, match=r"(?i)lstm.*grid"):
        ops.rnn.lstm_forward(*layer.forward_args())
    with pytest.raises(ValueError, match="sideways"), forced_strategy("sideways"):
        pass
    ops.rnn.lstm_forward(*layer.forward_args())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 6),
    batch=st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 33])),
    input_size=st.integers(0, 20),
    hidden_size=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 96, 129])),
    projected=st.floats(0, 1),
    directions=st.integers(1, 2),
    bias=st.booleans(),
    states=st.booleans(),
    ragged=st.booleans(),
    dtype=st.sampled_from(["float32", "float64", "bfloat16", "float16"]),
    seed=st.integers(0, 2**16),
)
def check_anything(backend: Backend, **drawn: Any) -> None:
    layer, dtype = drawn_layer(**drawn)
    check_strategies(backend, layer, dtype, ("automatic", "stepwise"))


def drawn_layer(projected: float, dtype: str, **sizes: Any) -> tuple[Any, str]:
    proj_size = max(0, int(projected * 2 * sizes["hidden_size"]) - sizes["hidden_size"])
    return make_layer(proj_size=proj_size, **sizes), dtype


def test_random_shapes(cuda_backend: Backend) -> None:
    check_anything(cuda_backend)


# Every cell and option, by every way.

STEPWISE_ONLY = {
    name
    for name, variant in VARIANTS.items()
    if variant.proj_size or variant.layer_norm or not variant.options.reset_after
}
EXACT = ("float32", "float64")
# steps, batch, input_size, hidden_size, directions, and what else there is.
CELL_SHAPES: list[tuple[tuple[int, ...], dict[str, bool]]] = [
    ((4, 9, 3, 33), {"ragged": True, "resets": True}),
    ((3, 5, 3, 70, 2), {"ragged": True}),
]


def check_cell(backend: Backend, case: Any, dtype: str, strategies: tuple[str, ...]) -> None:
    """Each way is near the twin; clusters and grids have the same bits."""
    wanted = case.both(reference)
    tensors = case.tensors(dtype, backend.device)
    persistent = []
    for strategy in strategies:
        with forced_strategy(strategy):
            if dtype in EXACT or not case.variant.options.gate_clip:
                check_case(case, wanted, dtype, backend.device)
            else:
                # Of few bits, gates next to a clip count as clipped: other gradients.
                assert_close(tensors.forward(ops), wanted[0], dtype)
            if strategy in ("cluster", "grid"):
                persistent.append(tensors.both(ops))
    for other in persistent[1:]:
        assert_same_bits(other, persistent[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_cells(cuda_backend: Backend, name: str, dtype: str) -> None:
    for shape, more in CELL_SHAPES:
        strategies = ("stepwise",) if name in STEPWISE_ONLY else strategies_of(shape[3])
        if dtype == "bfloat16" and strategies != ("stepwise",):
            strategies = strategies[1:]
        check_cell(cuda_backend, make_case(name, *shape, **more), dtype, strategies)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_cells_by_the_policy(cuda_backend: Backend, name: str, dtype: str) -> None:
    case = make_case(name, 3, 4, 3, 18, 2, ragged=True, product=dtype == "float64")
    check_cell(cuda_backend, case, dtype, ("automatic",))


# The largest hidden size whose blocks have 32 units, and the next ones; batches of many passes.
@pytest.mark.parametrize(
    ("name", "dtype", "shape", "strategy"),
    [
        ("gru", "bfloat16", (2, 3, 2, 500), "cluster"),
        ("gru-zoneout-on_hidden", "float32", (2, 3, 2, 515), "grid"),
        ("gru", "float16", (2, 9, 2, 530), "grid"),
        ("lstm-peephole", "float16", (2, 3, 2, 520), "grid"),
        ("rnn", "bfloat16", (3, 9, 2, 300), "grid"),
        ("rnn", "float32", (3, 3, 2, 500), "cluster"),
        ("rnn-relu", "float32", (2, 2, 2, 1100), "grid"),
    ],
    ids=str,
)
def test_wide_cells(
    cuda_backend: Backend, name: str, dtype: str, shape: tuple[int, ...], strategy: str
) -> None:
    check_cell(cuda_backend, make_case(name, *shape), dtype, (strategy,))


@pytest.mark.parametrize("name", ["gru", "rnn", "lstm-zoneout", "lstm-on_update"])
@pytest.mark.parametrize("hidden_size", [20, 70])
def test_many_rows(cuda_backend: Backend, name: str, hidden_size: int) -> None:
    """More rows than a slab has, so that a block meets several of them."""
    if cuda_backend.name == "cuda-host":
        _C.host_executor_set_device(5, 101376, 90, 8)
    try:
        case = make_case(name, 2, 150, 2, hidden_size, 2, ragged=True)
        check_cell(cuda_backend, case, "float32", ("automatic",))
    finally:
        if cuda_backend.name == "cuda-host":
            _C.host_executor_set_device(*DEVICES[0])


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", ["gru", "rnn-relu", "lstm-zoneout"])
@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS[1:])
def test_states_beyond_one(
    cuda_backend: Backend, name: str, strategy: str, hidden_size: int, dtype: str
) -> None:
    """What travels may be of any size where the cell does not bound it."""
    case = make_case(name, 3, 9, 3, hidden_size)
    case.hidden *= 64
    for weights in case.weights:
        weights[1][:] /= 16
    wanted = case.forward(reference)
    with forced_strategy(strategy):
        found = case.tensors(dtype, cuda_backend.device).forward(ops)
    assert_close(found[:2], wanted[:2], dtype)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", ["gru", "rnn", "gru_before"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_cells_keep_what_is_not_finite_in_its_row(
    cuda_backend_once: Backend, name: str, dtype: str, value: float
) -> None:
    # 96: see WALKS.
    case = make_case(name, 4, 5, 3, 96)
    device = cuda_backend_once.device
    clean_forward, clean_backward = case.tensors(dtype, device).both(ops)
    case.input[1, 3, 2] = value
    forward, backward = case.tensors(dtype, device).both(ops)
    others = [0, 1, 2, 4]
    for found, clean in zip(
        (*forward, *backward[:2]), (*clean_forward, *clean_backward[:2]), strict=True
    ):
        assert_same_bits(found[:, others], clean[:, others])
    if value != value:
        assert forward[0][1:, 3].isnan().all()
        assert not forward[0][0, 3].isnan().any()


@pytest.mark.parametrize("name", ["gru-zoneout-on_hidden", "rnn", "lstm-everything"])
def test_cells_in_other_orders(cuda_backend: Backend, name: str) -> None:
    case = make_case(name, 3, 17, 3, 70, 2, ragged=True).tensors("bfloat16", cuda_backend.device)
    found = []
    for seed in (1001, 1002, 1003):
        with seed_of_the_executor(cuda_backend, seed):
            found.append(case.both(ops))
    for other in found[1:]:
        assert_same_bits(other, found[0])


@pytest.mark.parametrize(
    ("operation", "layer_norm", "options", "why"),
    [
        ("gru", False, {"reset_after": False}, "reset gate before the product"),
        ("rnn", True, {}, "layer normalisation"),
    ],
)
def test_what_goes_stepwise_says_why(
    cuda_backend: Backend, operation: str, layer_norm: bool, options: dict[str, Any], why: str
) -> None:
    codes = options_of(operation, layer_norm, **options)
    for strategy in ("cluster", "grid"):
        with pytest.raises(RuntimeError, match=f"{operation}_forward: .*{strategy}: .*{why}"):
            _C.cuda_rnn_strategy(
                *call_of(cuda_backend, "float32", 4, 32, strategy=strategy), codes, False
            )
    assert _C.cuda_rnn_strategy(*call_of(cuda_backend, "float32", 4, 32), codes, True) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("per_step", [False, True])
def test_dropout(cuda_backend: Backend, per_step: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.standard_normal((3, 5, 70)) * 64) / 64
    seed = np.array(-7)
    for probability in (0.0, 0.3, 1.0):
        more = {"stream": 5, "per_step": per_step}
        wanted = reference.random.dropout(values, probability, seed, **more)
        tensor = torch.from_numpy(values).to(cuda_backend.device, getattr(torch, dtype))
        found = ops.random.dropout(
            tensor, probability, torch.from_numpy(seed).to(cuda_backend.device), **more
        )
        assert_close(found, wanted, dtype)
        assert_same_bits(found == 0, torch.from_numpy(wanted == 0))


# multiprocessors, bytes of shared memory, architecture, blocks of a cluster.
DEVICES = [
    (132, 232448, 90, 16),
    (108, 166912, 80, 1),
    (5, 101376, 80, 1),
    (9, 101376, 90, 8),
    (1, 101376, 80, 1),
]


@pytest.fixture
def devices(cuda_backend: Backend) -> Iterator[list[tuple[int, ...]]]:
    if cuda_backend.name != "cuda-host":
        pytest.skip("changes the device that the host executor stands for")
    yield DEVICES
    _C.host_executor_set_device(*DEVICES[0])


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float32", (3, 37, 70)),
        ("float64", (2, 37, 20)),
        ("bfloat16", (2, 300, 100)),
        ("float16", (2, 131, 33)),
    ],
    ids=str,
)
def test_other_devices(
    cuda_backend: Backend,
    devices: list[tuple[int, ...]],
    dtype: str,
    shape: tuple[int, int, int],
) -> None:
    """A device decides on the way and on the rows that run at once, never on a bit of one way."""
    steps, batch, hidden_size = shape
    layer = make_layer(steps, batch, 3, hidden_size, directions=2, ragged=True)
    wanted = reference_results(layer)
    tensors = torch_layer(layer, dtype)
    sizes = {"steps": steps, "directions": 2}
    found: dict[bool, tuple[Any, Any]] = {}
    for device in devices:
        _C.host_executor_set_device(*device)
        forward, backward = results(tensors)
        assert_close((forward, backward), wanted, dtype)
        call = call_of(cuda_backend, dtype, batch, hidden_size, **sizes)
        stepwise = _C.cuda_rnn_strategy(*call, PLAIN, False) == 1
        assert stepwise == (_C.cuda_rnn_strategy(*call, PLAIN, True) == 1)
        assert_same_bits((forward, backward), found.setdefault(stepwise, (forward, backward)))


@pytest.fixture
def modes(cuda_backend: Backend) -> Iterator[Any]:
    if cuda_backend.name != "cuda-host":
        pytest.skip("changes how the host executor stores and adds")
    yield _C.host_executor_set_modes
    _C.host_executor_set_modes()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("strategy", ["cluster", "grid"])
def test_weak_memory(cuda_backend: Backend, modes: Any, strategy: str, dtype: str) -> None:
    """What blocks trade may come in any order that PTX leaves open, and no bit changes."""
    layer = torch_layer(make_layer(6, 5, 3, 72, directions=2, ragged=True), dtype)
    with forced_strategy(strategy), few_groups(72):
        wanted = results(layer)
        modes(weak_memory=True)
        assert_same_bits(results(layer), wanted)


@pytest.mark.parametrize("name", ["gru", "rnn", "lstm-zoneout"])
def test_weak_memory_of_other_cells(cuda_backend: Backend, modes: Any, name: str) -> None:
    tensors = make_case(name, 5, 5, 3, 72, ragged=True).tensors("float16", "cpu")
    for strategy in ("cluster", "grid"):
        with forced_strategy(strategy), few_groups(72):
            modes()
            wanted = tensors.both(ops)
            modes(weak_memory=True)
            assert_same_bits(tensors.both(ops), wanted)


@pytest.mark.parametrize("dtype", NARROW)
def test_sums_that_are_cut_off(cuda_backend: Backend, modes: Any, dtype: str) -> None:
    """As tensor cores add: within the tolerances that a GPU is held to, and other bits."""
    layer = make_layer(6, 9, 5, 100)
    rounded = results(torch_layer(layer, dtype))
    modes(cut_off_sums=True)
    check_strategies(cuda_backend, layer, dtype, STRATEGIES)
    found = results(torch_layer(layer, dtype))
    assert any(
        not torch.equal(one, other)
        for one, other in zip(found[0], rounded[0], strict=True)
        if one is not None
    )


# Numbers that are not ordinary.


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
def test_large_states(cuda_backend: Backend, strategy: str, hidden_size: int, dtype: str) -> None:
    """An initial h may be beyond 1, where no later one is."""
    layer = make_layer(3, 9, 5, hidden_size, directions=2)
    layer.hidden *= 64
    layer.cell *= 64
    wanted = reference.rnn.lstm_forward(*layer.forward_args())
    with forced_strategy(strategy):
        found, _ = results(torch_layer(layer, dtype, cuda_backend.device))
    # The product of large numbers is rounded before the gates see it: only where they are steep.
    exact = {"float32": 1e-4, "bfloat16": 0.3, "float16": 0.05}[dtype]
    for one, other in zip(found, wanted, strict=True):
        error = np.abs(one.double().cpu().numpy() - other)
        assert (error <= exact * np.maximum(1, np.abs(other))).all()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["input", "hidden", "cell"])
def test_what_is_not_finite_stays_in_its_row(
    cuda_backend_once: Backend,
    where: str,
    value: float,
    strategy: str,
    hidden_size: int,
    dtype: str,
) -> None:
    """A row's NaN or infinity comes out as the twin has it; all other rows keep every bit."""
    layer = make_layer(4, 9, 5, hidden_size)
    device = cuda_backend_once.device
    with forced_strategy(strategy):
        clean_forward, clean_backward = results(torch_layer(layer, dtype, device))
        getattr(layer, where)[1 if where == "input" else 0, 3, 2] = value
        forward, backward = results(torch_layer(layer, dtype, device))
    with np.errstate(invalid="ignore"):
        wanted_forward, wanted_backward = reference_results(layer)
    assert_nan_as_wanted(forward, wanted_forward, dtype, value)
    if value != value:
        assert_same_bits(backward[0].isnan(), torch.from_numpy(np.isnan(wanted_backward[0])))
    others = [row for row in range(9) if row != 3]
    for found, clean in zip(
        (*forward, *backward[:3]), (*clean_forward, *clean_backward[:3]), strict=True
    ):
        assert_same_bits(found[:, others], clean[:, others])


@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_stays_in_its_row(
    cuda_backend_once: Backend, value: float, strategy: str, hidden_size: int
) -> None:
    layer = torch_layer(make_layer(4, 9, 5, hidden_size), "bfloat16", cuda_backend_once.device)
    with forced_strategy(strategy):
        _, clean = results(layer)
        layer.grads[0][2, 3, 2] = value
        _, found = results(layer)
    assert not found[0][:3, 3].isfinite().all(-1).any()
    assert_same_bits(found[0][3], clean[0][3])
    others = [row for row in range(9) if row != 3]
    for one, other in zip(found[:3], clean[:3], strict=True):
        assert_same_bits(one[:, others], other[:, others])


@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(
    cuda_backend: Backend, value: float, strategy: str, hidden_size: int, dtype: str
) -> None:
    layer = make_layer(3, 5, 4, hidden_size)
    layer.weights[0][1][7, 3] = value  # of an input gate
    with np.errstate(invalid="ignore"):
        wanted = reference.rnn.lstm_forward(*layer.forward_args())
    with forced_strategy(strategy):
        found = ops.rnn.lstm_forward(*torch_layer(layer, dtype, cuda_backend.device).forward_args())
    assert_nan_as_wanted(found, wanted, dtype, value)


def assert_nan_as_wanted(found: Any, wanted: Any, dtype: str, value: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        is_nan, wants_nan = one.isnan().cpu(), torch.from_numpy(np.isnan(other))
        if dtype == "float32" and np.isinf(value):
            # Infinity less its TF32 part is NaN: where the twin saturates, float32 may say NaN.
            assert is_nan[wants_nan].all()
        else:
            assert_same_bits(is_nan, wants_nan)


# The same bits, whatever the order.


@contextmanager
def seed_of_the_executor(backend: Backend, seed: int) -> Iterator[None]:
    if backend.name == "cuda-host":
        _C.host_executor_set_seed(seed)
    yield


@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
@pytest.mark.parametrize("dtype", NARROW)
def test_schedules_do_not_matter(
    cuda_backend: Backend, strategy: str, hidden_size: int, dtype: str
) -> None:
    layer = torch_layer(
        make_layer(4, 17, 5, hidden_size, directions=2, ragged=True), dtype, cuda_backend.device
    )
    found = []
    for seed in (1001, 1002, 1003):
        with seed_of_the_executor(cuda_backend, seed), forced_strategy(strategy):
            found.append(results(layer))
    for other in found[1:]:
        assert_same_bits(other, found[0])


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def rows_of(layer: Any, rows: slice) -> Any:
    """Some rows of the batch, as a layer of their own."""
    lengths = None if layer.lengths is None else layer.lengths[rows]
    arguments = [x[:, rows] for x in (layer.input, layer.hidden, layer.cell)]
    return type(layer)(*arguments, layer.weights, lengths, tuple(g[:, rows] for g in layer.grads))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_row_does_not_depend_on_its_batch(
    cuda_backend_once: Backend,
    strategy: str,
    hidden_size: int,
    dtype: str,
    ragged: bool,
    deterministic: None,
) -> None:
    # Products with input of few bits are exact: what is seen on a CPU is the recurrence alone.
    layer = make_layer(4, 37, 5, hidden_size, directions=2, ragged=ragged)
    check_rows(torch_layer(layer, dtype, cuda_backend_once.device), strategy, kernel_only=True)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_row_does_not_depend_on_its_batch_in_products(
    gpu: Backend, strategy: str, dtype: str, deterministic: None
) -> None:
    layer = torch_layer(make_layer(9, 150, 300, 256, directions=2), dtype, gpu.device)
    layer.input = torch.randn_like(layer.input)
    check_rows(layer, strategy, kernel_only=False)


def check_rows(layer: Any, strategy: str, kernel_only: bool) -> None:
    with forced_strategy(strategy):
        forward, backward = results(layer)
        for rows in (slice(3, 4), slice(5, 14), slice(1, None)):
            part_forward, part_backward = results(rows_of(layer, rows))
            for whole, part in zip(forward, part_forward, strict=True):
                assert_same_bits(part, whole[:, rows])
            grads = zip(backward[:3], part_backward[:3], strict=True)
            for whole, part in list(grads)[2 if kernel_only else 0 :]:
                assert_same_bits(part, whole[:, rows])


class Products(TorchDispatchMode):
    """Records the sizes of every product."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[torch.Size, torch.Size]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._opname == "mm":
            self.sizes.add((args[0].shape, args[1].shape))
        return func(*args, **(kwargs or {}))


def test_blocks_of_rows_make_the_product(deterministic: None) -> None:
    with Products() as products:
        for count in (1, 511, 512, 513, 1500):
            cuda._row_product(torch.randn(count, 7), torch.randn(7, 9))
    assert products.sizes == {(torch.Size([512, 7]), torch.Size([7, 9]))}
    for count in (0, 1, 511, 512, 513, 1024, 1500):
        rows, matrix = torch.randn(count, 7), torch.randn(7, 9)
        torch.testing.assert_close(cuda._row_product(rows, matrix), rows @ matrix)
        assert cuda._row_product(rows.t().contiguous().t(), matrix).is_contiguous()


# How exact.


@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
def test_float32_is_float32(cuda_backend: Backend, strategy: str, hidden_size: int) -> None:
    """Within 1e-5 of float64 on input of the usual scale, though products go through TF32."""
    found, wanted = exact_and_found(cuda_backend, strategy, hidden_size)
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one - other).max() < 1e-5


@pytest.mark.parametrize(("strategy", "hidden_size"), WALKS)
def test_tf32_only_when_allowed(cuda_backend: Backend, strategy: str, hidden_size: int) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found, wanted = exact_and_found(cuda_backend, strategy, hidden_size)
        allowed, _ = exact_and_found(cuda_backend, strategy, hidden_size, "bfloat16")
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    errors = [np.abs(one - other).max() for one, other in zip(found, wanted, strict=True)]
    assert 1e-6 < max(errors) < 5e-3
    narrow, _ = exact_and_found(cuda_backend, strategy, hidden_size, "bfloat16")
    assert_same_bits(allowed, narrow)


def exact_and_found(
    backend: Backend, strategy: str, hidden_size: int, dtype: str = "float32"
) -> tuple[list[Any], list[Any]]:
    """output, cells and the gradient of the input of a layer of arbitrary numbers; the twin's."""
    layer = make_layer(6, 4, 32, hidden_size)
    rng = np.random.default_rng(3)

    def round_off(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(round_off(item) for item in value)
        noise = rng.uniform(0.9, 1.1, np.shape(value))
        return value if value is None else (value * noise).astype(np.float32).astype(np.float64)

    layer = type(layer)(
        *(round_off(value) for value in layer.forward_args()), round_off(layer.grads)
    )
    with forced_strategy(strategy):
        forward, backward = results(torch_layer(layer, dtype, backend.device))
    wanted_forward, wanted_backward = reference_results(layer)
    found = [x.double().cpu().numpy() for x in (forward[0], forward[3], backward[0])]
    return found, [wanted_forward[0], wanted_forward[3], wanted_backward[0]]


# Lengths.


def test_kernels_clamp_lengths(cuda_backend: Backend) -> None:
    """What nobody has checked - on a GPU nobody can - counts as the nearer end."""
    layer = make_layer(5, 6, 4, 18, directions=2)
    layer.lengths = np.array([0, 5, 3, 5, 0, 1])
    tensors = torch_layer(layer, "float32", cuda_backend.device)
    wanted = results(tensors)
    wild = torch.tensor([-7, 2**40, 3, 6, -(2**62), 1], device=cuda_backend.device)
    arguments = tensors.forward_args()
    checked = check_layer("lstm", *arguments, None, None, Options())
    checked = checked._replace(lengths=wild)
    forward = cuda.forward(checked, True)
    grads = ResultGradients._make(tensors.grads)
    *grads, grad_weights = cuda.backward(checked, grads, Kept.of(forward), Needs(True, True, True))
    assert_same_bits((tuple(forward[:5]), grads), (wanted[0], wanted[1][:3]))
    for one, other in zip(grad_weights, wanted[1][3], strict=True):
        assert_same_bits(one[: len(other)], other)


def test_padding_of_input_and_gradient_is_not_read(cuda_backend: Backend) -> None:
    layer = make_layer(5, 6, 4, 18, 7, 2, ragged=True)
    wanted = results(torch_layer(layer, "float32", cuda_backend.device))
    for row, length in enumerate(layer.lengths):
        for array in (layer.input, layer.grads[0], layer.grads[3]):
            array[length:, row] = np.nan
    assert_same_bits(results(torch_layer(layer, "float32", cuda_backend.device)), wanted)


def test_the_state_of_a_row_without_steps_is_not_multiplied(cuda_backend: Backend) -> None:
    layer = make_layer(3, 4, 5, 18, directions=2)
    layer.lengths = np.array([3, 0, 2, 1])
    layer.hidden[:, 1] = np.nan
    _, backward = results(torch_layer(layer, "float32", cuda_backend.device))
    for weights in backward[3]:
        assert all(bool(weight.isfinite().all()) for weight in weights if weight is not None)


# The border.


def test_the_executor_ran(cuda_backend: Backend) -> None:
    """Nothing else would notice if the switch went nowhere: the CPU's kernels are right too."""
    if cuda_backend.name != "cuda-host":
        pytest.skip("asks the host executor")
    layer = torch_layer(make_layer(3, 2, 4, 5, ragged=True), "float32")
    before = _C.host_executor_statistics()["launches"]
    forward = ops.rnn.lstm_forward(*layer.forward_args())
    between = _C.host_executor_statistics()["launches"]
    ops.rnn.lstm_backward(*layer.backward_args(forward))
    assert before < between < _C.host_executor_statistics()["launches"]


def test_read_only_arrays_and_bfloat16_of_numpy(cuda_backend: Backend) -> None:
    if cuda_backend.device != "cpu":
        pytest.skip("NumPy arrays are in the CPU's memory")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    layer = make_layer(3, 2, 4, 5)
    wanted = results(torch_layer(layer, "bfloat16"))

    def narrow(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(narrow(item) for item in value)
        return value if value is None else value.astype(ml_dtypes.bfloat16)

    arguments = [narrow(value) for value in layer.forward_args()]
    grads = (*narrow(layer.grads[:3]), layer.grads[3].astype(np.float32))
    forward, backward = results(type(layer)(*arguments, grads))
    assert forward[0].dtype == ml_dtypes.bfloat16
    for one, other in zip((*forward, *backward[:3]), (*wanted[0], *wanted[1][:3]), strict=True):
        assert_same_bits(one.astype(np.float64), other.double())


def test_ops_take_no_part_in_autograd_or_autocast(cuda_backend: Backend) -> None:
    layer = torch_layer(make_layer(3, 2, 4, 5, directions=2), "float32", cuda_backend.device)
    wanted = results(layer)
    for tensor in (layer.input, layer.hidden, layer.cell, *layer.weights[0][:4]):
        tensor.requires_grad_()
    with torch.autocast(cuda_backend.device, torch.bfloat16):
        found = results(layer)
    assert_same_bits(found, wanted)
    assert not any(tensor.requires_grad for tensor in (*found[0], *found[1][:3]))

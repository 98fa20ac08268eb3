"""The recurrent kernels against their twins, and the border that checks what reaches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import (
    DTYPES,
    Backend,
    assert_close,
    assert_same_bits,
    make_layer,
    reference_results,
    torch_layer,
)

from seqfast import _C, ops

# steps, batch, input, hidden: ones, primes, and both sides of every tile edge.
SHAPES = [
    (1, 1, 1, 1),
    (2, 1, 1, 3),
    (5, 2, 3, 1),
    (3, 7, 5, 7),
    (4, 6, 13, 16),
    (6, 5, 17, 17),
    (3, 11, 31, 31),
    (7, 3, 64, 64),
    (4, 13, 29, 65),
    (2, 33, 100, 100),
    (3, 4, 7, 130),
    (2, 67, 19, 23),
    (9, 1, 40, 48),
    (1, 8, 256, 256),
]
WAYS = [
    pytest.param({}, id="plain"),
    pytest.param({"directions": 2}, id="both"),
    pytest.param({"ragged": True}, id="ragged"),
    pytest.param({"directions": 2, "ragged": True, "bias": False}, id="both-ragged-nobias"),
    pytest.param({"states": False, "bias": False}, id="nostates-nobias"),
]


def results(layer: Any, **needs: Any) -> tuple[Any, Any]:
    forward = ops.rnn.lstm_forward(*layer.forward_args())
    return forward, ops.rnn.lstm_backward(*layer.backward_args(forward), **needs)


def check(backend: Backend, layer: Any, dtype: str, wanted: Any = None) -> None:
    found = results(torch_layer(layer, dtype, backend.device))
    assert_close(found, wanted or reference_results(layer), dtype)


@cache
def layer_and_reference(*sizes: int, **options: Any) -> tuple[Any, Any]:
    """A layer and its twin's results, the same for every backend and dtype."""
    layer = make_layer(*sizes, **options)
    return layer, reference_results(layer)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(
    kernels: Backend, shape: tuple[int, ...], options: dict[str, Any], dtype: str
) -> None:
    layer, wanted = layer_and_reference(*shape, **options)
    check(kernels, layer, dtype, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize(
    ("shape", "proj_size"),
    [((3, 2, 4, 2), 1), ((5, 3, 7, 17), 5), ((4, 9, 16, 64), 33), ((2, 6, 10, 100), 99)],
    ids=str,
)
def test_projection_matches_reference(
    kernels: Backend,
    shape: tuple[int, ...],
    proj_size: int,
    options: dict[str, Any],
    dtype: str,
) -> None:
    layer, wanted = layer_and_reference(*shape, proj_size, **options)
    check(kernels, layer, dtype, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ragged", [False, True])
def test_many_steps(kernels: Backend, ragged: bool, dtype: str) -> None:
    steps = 150 if kernels.name == "cuda-host" else 1000
    layer, wanted = layer_and_reference(steps, 3, 5, 19, ragged=ragged, directions=2)
    check(kernels, layer, dtype, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_batch_splits_over_threads(kernels: Backend, dtype: str) -> None:
    check(kernels, make_layer(5, 130, 20, 40, ragged=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        *((7, 3, 9, 33), (20, 1, 64, 256), (11, 64, 31, 100), (3, 5, 8, 300)),
        *((3, 8, 7, 47), (2, 13, 13, 64), (1, 8, 65, 65)),  # few rows: the unpacked product
    ],
    ids=str,
)
@pytest.mark.parametrize("proj_size", [0, 20])
def test_same_bits_with_any_thread_count(
    cpu_isa: str, shape: tuple[int, ...], proj_size: int, dtype: str, set_threads: Any
) -> None:
    layer = torch_layer(make_layer(*shape, proj_size, 2, ragged=True), dtype)
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        found.append(results(layer))
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_same_bits_every_time(kernels: Backend) -> None:
    on_host = kernels.name == "cuda-host"
    steps = 5 if on_host else 50
    layer = torch_layer(make_layer(steps, 16, 32, 64, directions=2), "float32", kernels.device)
    first = results(layer)
    for _ in range(2 if on_host else 10):
        assert_same_bits(results(layer), first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ragged", [False, True])
def test_inference_gives_the_same_bits(kernels: Backend, ragged: bool, dtype: str) -> None:
    for shape in ((6, 5, 17, 33), (1, 1, 256, 256), (1, 1, 40, 19), (3, 70, 8, 64)):
        layer = torch_layer(make_layer(*shape, directions=2, ragged=ragged), dtype, kernels.device)
        kept = ops.rnn.lstm_forward(*layer.forward_args())
        *outcome, cells, gates = ops.rnn.lstm_forward(*layer.forward_args(), save=False)
        assert cells is None
        assert gates is None
        assert_same_bits(tuple(outcome), kept[:3])


@pytest.mark.parametrize("missing", range(4))
def test_absent_gradients_are_zero(kernels: Backend, missing: int) -> None:
    layer = make_layer(5, 4, 3, 18, 7, 2, ragged=True)
    layer.grads = tuple(g if i != missing else None for i, g in enumerate(layer.grads))
    check(kernels, layer, "float64")
    check(kernels, layer, "float32")


def test_no_gradient_at_all(backend: Backend) -> None:
    layer = backend.on(make_layer(5, 4, 3, 18))
    layer.grads = (None,) * 4
    _, (grad_input, grad_hidden, grad_cell, grad_weights) = results(layer)
    for grad in (grad_input, grad_hidden, grad_cell, *grad_weights[0][:4]):
        assert not grad.any()


@pytest.mark.parametrize(
    "needs", [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]
)
@pytest.mark.parametrize("proj_size", [0, 7])
def test_only_needed_gradients(backend: Backend, needs: Any, proj_size: int) -> None:
    layer = torch_layer(
        make_layer(5, 4, 3, 18, proj_size, 2, ragged=True), "float32", backend.device
    )
    _, everything = results(layer)
    _, some = results(layer, needs=needs)
    needed = (needs[0], needs[1], needs[1], needs[2])
    for grad, full, need in zip(some, everything, needed, strict=True):
        assert_same_bits(grad, full if need else None)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_and_torch_agree(backend: Backend, dtype: Any) -> None:
    if backend.device != "cpu":
        pytest.skip("NumPy arrays are in the CPU's memory")
    layer = make_layer(4, 3, 5, 9, 4, 2, ragged=True)
    tensors = torch_layer(layer, np.dtype(dtype).name)
    arrays = type(layer)(
        *(_numpy(value) for value in tensors.forward_args()), _numpy(tensors.grads)
    )
    forward, backward = results(arrays)
    assert all(isinstance(x, np.ndarray) for x in (*forward, *backward[:3], *backward[3][0]))
    assert_same_bits((forward, backward), results(tensors))


def _numpy(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_numpy(item) for item in value)
    return value if value is None else value.numpy()


# Shapes at the edge.


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (3, 0, 4, 5), (0, 0, 4, 5), (3, 2, 0, 5)], ids=str)
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("ragged", [True, False])
def test_empty_sizes(
    backend: Backend, shape: tuple[int, ...], proj_size: int, states: bool, ragged: bool
) -> None:
    check(backend, make_layer(*shape, proj_size, 2, states=states, ragged=ragged), "float64")


@pytest.mark.parametrize("lengths", [[0, 0, 0], [5, 5, 5], [0, 5, 1]])
def test_lengths_at_both_ends(kernels: Backend, lengths: list[int]) -> None:
    layer = make_layer(5, 3, 4, 18, directions=2)
    layer.lengths = np.array(lengths)
    check(kernels, layer, "float64")
    check(kernels, layer, "float32")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_lengths_of_any_integer_dtype(backend: Backend, dtype: str) -> None:
    layer = make_layer(5, 4, 3, 6, ragged=True)
    wanted = ops.rnn.lstm_forward(*backend.on(layer).forward_args())
    layer.lengths = layer.lengths.astype(dtype)
    assert_same_bits(ops.rnn.lstm_forward(*backend.on(layer).forward_args()), wanted)
    tensors = torch_layer(layer, "float64", backend.device)
    assert_same_bits(ops.rnn.lstm_forward(*tensors.forward_args()), wanted)


def test_lengths_strided(backend: Backend) -> None:
    layer = make_layer(5, 4, 3, 6, ragged=True)
    wanted = ops.rnn.lstm_forward(*backend.on(layer).forward_args())
    layer.lengths = np.repeat(layer.lengths, 2)[::2]
    assert_same_bits(ops.rnn.lstm_forward(*backend.on(layer).forward_args()), wanted)
    tensors = torch_layer(layer, "float64", backend.device)
    tensors.lengths = tensors.lengths.repeat_interleave(2)[::2]
    assert_same_bits(ops.rnn.lstm_forward(*tensors.forward_args()), wanted)


def _strided(array: Any, kind: str) -> Any:
    """The same values in another layout."""
    if array is None or isinstance(array, int):
        return array
    if kind == "transposed":
        return np.ascontiguousarray(array.T).T
    if kind == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1]
    if kind == "gaps":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan)
        wide[..., ::2] = array
        return wide[..., ::2]
    if kind == "cropped":
        wide = np.full(tuple(n + 3 for n in array.shape), np.nan)
        inner = tuple(slice(1, 1 + n) for n in array.shape)
        wide[inner] = array
        return wide[inner]
    if kind == "misaligned":
        raw = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        raw[...] = array
        return raw
    readonly = array.copy()
    readonly.flags.writeable = False
    return readonly


@pytest.mark.parametrize(
    "kind", ["transposed", "reversed", "gaps", "cropped", "misaligned", "readonly"]
)
def test_any_layout(backend: Backend, kind: str) -> None:
    if backend.device != "cpu":
        pytest.skip("NumPy arrays are in the CPU's memory")
    layer = make_layer(5, 4, 6, 7, 3, 2, ragged=True)
    wanted_forward, wanted_backward = results(layer)
    strided = type(layer)(
        _strided(layer.input, kind),
        _strided(layer.hidden, kind),
        _strided(layer.cell, kind),
        [tuple(_strided(w, kind) for w in weights) for weights in layer.weights],
        layer.lengths,
        tuple(_strided(grad, kind) for grad in layer.grads),
    )
    forward = ops.rnn.lstm_forward(*strided.forward_args())
    assert_same_bits(forward, wanted_forward)
    kept = tuple(_strided(array, kind) for array in forward)
    assert_same_bits(ops.rnn.lstm_backward(*strided.backward_args(kept)), wanted_backward)


def _strided_tensor(tensor: Any, kind: str) -> Any:
    if not isinstance(tensor, torch.Tensor):
        return tensor
    if kind == "transposed":
        order = range(tensor.dim() - 1, -1, -1)
        return tensor.permute(*order).contiguous().permute(*order)
    if kind == "gaps":
        return tensor.repeat_interleave(2, -1)[..., ::2]
    wide = torch.nn.functional.pad(tensor, (1, 2) * tensor.dim())
    for dim, size in enumerate(tensor.shape):
        wide = wide.narrow(dim, 1, size)
    return wide


@pytest.mark.parametrize("kind", ["transposed", "gaps", "cropped"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_layout_of_tensors(backend: Backend, kind: str, dtype: str) -> None:
    layer = torch_layer(make_layer(5, 4, 6, 7, 3, 2, ragged=True), dtype, backend.device)
    wanted_forward, wanted_backward = results(layer)

    def strided(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(strided(item) for item in value)
        return _strided_tensor(value, kind)

    other = type(layer)(*(strided(value) for value in layer.forward_args()), strided(layer.grads))
    assert not other.input.is_contiguous()
    forward = ops.rnn.lstm_forward(*other.forward_args())
    assert_same_bits(forward, wanted_forward)
    backward = ops.rnn.lstm_backward(*other.backward_args(strided(forward)))
    assert_same_bits(backward, wanted_backward)


@pytest.mark.parametrize("expand", [0, 1, 2])
def test_expanded_tensors(backend: Backend, expand: int) -> None:
    layer = torch_layer(make_layer(5, 4, 6, 7), "float32", backend.device)
    x = layer.input.narrow(expand, 0, 1).expand_as(layer.input)
    wanted = ops.rnn.lstm_forward(x.clone(), *layer.forward_args()[1:])
    assert_same_bits(ops.rnn.lstm_forward(x, *layer.forward_args()[1:]), wanted)
    grad = layer.grads[0].narrow(expand, 0, 1).expand_as(layer.grads[0])
    rest = layer.backward_args(wanted)[1:]
    assert_same_bits(ops.rnn.lstm_backward(grad, *rest), ops.rnn.lstm_backward(grad.clone(), *rest))


def test_batch_first_needs_no_copy(kernels: Backend) -> None:
    layer = make_layer(6, 4, 5, 9)
    tensors = kernels.on(layer)
    wanted = results(tensors)
    layer.input = np.ascontiguousarray(layer.input.swapaxes(0, 1))
    layer.grads = (np.ascontiguousarray(layer.grads[0].swapaxes(0, 1)), *layer.grads[1:])
    tensors = kernels.on(layer)
    tensors.input = tensors.input.swapaxes(0, 1)
    tensors.grads = (tensors.grads[0].swapaxes(0, 1), *tensors.grads[1:])
    assert_same_bits(results(tensors), wanted)


def test_negative_views(backend: Backend) -> None:
    layer = torch_layer(make_layer(5, 4, 6, 7), "float64", backend.device)
    wanted = ops.rnn.lstm_forward(*layer.forward_args())
    flipped = torch.complex(torch.zeros_like(layer.input), -layer.input).conj().imag
    assert flipped.is_neg()
    assert_same_bits(ops.rnn.lstm_forward(flipped, *layer.forward_args()[1:]), wanted)


def test_default_device_is_not_taken(backend: Backend) -> None:
    layer = torch_layer(make_layer(5, 4, 6, 7, 3, 2, ragged=True), "float32", backend.device)
    wanted = results(layer)
    with torch.device("meta"):
        found = results(layer)
    assert_same_bits(found, wanted)


def test_nothing_is_written_to_arguments(backend: Backend) -> None:
    layer, copies = (backend.on(make_layer(5, 4, 6, 7, 3, 2, ragged=True)) for _ in range(2))
    results(layer)
    assert_same_bits(layer.forward_args(), copies.forward_args())
    assert_same_bits(layer.grads, copies.grads)


def test_not_a_number_stays_in_its_row(kernels: Backend) -> None:
    layer = make_layer(5, 4, 6, 20)
    clean = ops.rnn.lstm_forward(*kernels.on(layer).forward_args())[0]
    layer.input[2, 1, 3] = np.nan
    output = ops.rnn.lstm_forward(*kernels.on(layer).forward_args())[0]
    assert (output[2:, 1] != output[2:, 1]).all()
    output[2:, 1] = clean[2:, 1]
    assert_same_bits(output, clean)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_saturated_gates(kernels: Backend, dtype: str) -> None:
    layer = make_layer(5, 4, 6, 20)
    layer.input *= 1e4
    forward, backward = results(torch_layer(layer, dtype, kernels.device))
    for array in (*forward, *backward[:3], *(g for g in backward[3][0] if g is not None)):
        assert torch.isfinite(array).all()
    # Gates on a flat end have no slope; rounding of h decides the others, so no dtype but this.
    if dtype == "float64":
        assert_close((forward, backward), reference_results(layer), dtype)


# Bad input: an error that says what is wrong, never a crash.


def _layer() -> Any:
    return torch_layer(make_layer(5, 4, 6, 7, 3, 2, ragged=True), "float32")


def _with_weight(position: int, value: Any) -> Any:
    layer = _layer()
    weights = list(layer.weights[1])
    weights[position] = value
    layer.weights[1] = tuple(weights)
    return layer


def _with(**changes: Any) -> Any:
    layer = _layer()
    for name, value in changes.items():
        setattr(layer, name, value)
    return layer


BAD = [
    (lambda: _with(input=[[[1.0]]]), TypeError, "input must be a NumPy array or a torch tensor"),
    (lambda: _with(input=None), TypeError, "input must be"),
    (lambda: _with(input=torch.zeros(5, 4, 6, dtype=torch.int32)), TypeError, "float32, float64"),
    (lambda: _with(input=torch.zeros(5, 4, 6, dtype=torch.complex64)), TypeError, "float32"),
    (lambda: _with(input=np.zeros((5, 4, 6), ">f4")), TypeError, "float32, float64"),
    (lambda: _with(input=torch.zeros(5, 6)), ValueError, r"input must be \[steps, batch"),
    (lambda: _with(input=torch.zeros(5, 4, 6, 1)), ValueError, r"input must be \[steps, batch"),
    (lambda: _with(input=torch.zeros(5, 4, 9)), ValueError, r"weight_ih must be \[28, 9\], got"),
    (lambda: _with(input=torch.zeros(5, 4, 6).double()), TypeError, "must be torch.float64"),
    (
        lambda: _with(input=torch.zeros(5, 4, 6, device="meta")),
        ValueError,
        "on the CPU or on a CUDA device, got meta",
    ),
    (lambda: _with(input=torch.zeros(5, 4, 6).to_sparse()), ValueError, "sparse"),
    (lambda: _with(hidden=torch.zeros(2, 4, 7)), ValueError, r"hidden must be \[2, 4, 3\]"),
    (lambda: _with(hidden=torch.zeros(2, 4, 3, device="meta")), ValueError, "hidden.*got meta"),
    (lambda: _with(hidden=np.zeros((2, 4, 3), np.float32)), TypeError, "hidden must be a torch"),
    (lambda: _with(cell=torch.zeros(2, 4, 3)), ValueError, r"cell must be \[2, 4, 7\], got \[2, 4"),
    (lambda: _with(cell=torch.zeros(2, 4, 7).half()), TypeError, "cell must be torch.float32"),
    (lambda: _with(cell=[0.0]), TypeError, "cell must be a torch tensor, got list"),
    (lambda: _with(weights=[]), TypeError, "one or two tuples"),
    (lambda: _with(weights=torch.zeros(2)), TypeError, "one or two tuples"),
    (lambda: _with(weights=_layer().weights * 2), TypeError, "one or two tuples"),
    (lambda: _with(weights=[_layer().weights[0][:4]]), TypeError, r"\(weight_ih, weight_hh, bias"),
    (lambda: _with(weights=[(None,) * 5]), TypeError, "weight_hh must be a torch tensor, got None"),
    (lambda: _with_weight(0, torch.zeros(28, 5)), ValueError, r"weight_ih_reverse must be \[28, 6"),
    (
        lambda: _with_weight(1, None),
        TypeError,
        "weight_hh_reverse must be a torch tensor, got None",
    ),
    (lambda: _with_weight(1, torch.zeros(28, 7)), ValueError, r"weight_hh_reverse must be \[28, 3"),
    (lambda: _with_weight(2, torch.zeros(27)), ValueError, r"bias_ih_reverse must be \[28\]"),
    (lambda: _with_weight(3, torch.zeros(1, 28)), ValueError, r"bias_hh_reverse must be \[28\]"),
    (lambda: _with_weight(4, torch.zeros(3, 8)), ValueError, r"weight_hr_reverse must be \[3, 7\]"),
    (lambda: _with_weight(0, None), ValueError, "weight_ih must be given for both directions or"),
    (lambda: _with_weight(4, None), ValueError, "weight_hr must be given for both directions or"),
    (lambda: _with_weight(1, torch.zeros(28, 3, device="meta")), ValueError, "got meta"),
    (lambda: _with(lengths=[1, 2, 3, 4]), TypeError, "lengths must be a torch tensor, got list"),
    (lambda: _with(lengths=torch.tensor([1.0, 2, 3, 4])), TypeError, "lengths must be integers"),
    (lambda: _with(lengths=torch.full((4,), torch.nan)), TypeError, "lengths must be integers"),
    (lambda: _with(lengths=torch.ones(4).bool()), TypeError, "lengths must be integers"),
    (lambda: _with(lengths=torch.tensor([1, 2, 3])), ValueError, r"lengths must be \[4\], got \[3"),
    (lambda: _with(lengths=torch.ones(4, 1).int()), ValueError, r"lengths must be \[4\]"),
    (lambda: _with(lengths=torch.tensor(3)), ValueError, r"lengths must be \[4\], got \[\]"),
    (lambda: _with(lengths=torch.tensor([1, 2, 3, 6])), ValueError, "from 0 to 5, got 6"),
    (lambda: _with(lengths=torch.tensor([1, -1, 3, 4])), ValueError, "from 0 to 5, got -1"),
    (lambda: _with(lengths=torch.tensor([1, 2**62, 3, 4])), ValueError, "from 0 to 5"),
    (lambda: _with(lengths=torch.ones(4, dtype=torch.int64, device="meta")), ValueError, "meta"),
    (lambda: _with(lengths=np.array([1, 2, 3, 4])), TypeError, "lengths must be a torch tensor"),
]


@pytest.mark.parametrize(
    ("make", "error", "message"), BAD, ids=[f"{b[1].__name__}-{b[2]}" for b in BAD]
)
def test_bad_input(make: Any, error: type[Exception], message: str) -> None:
    layer = make()
    with pytest.raises(error, match=f"^lstm: .*{message}"):
        ops.rnn.lstm_forward(*layer.forward_args())
    good = ops.rnn.lstm_forward(*_layer().forward_args())
    with pytest.raises(error, match=f"^lstm: .*{message}"):
        ops.rnn.lstm_backward(*layer.backward_args(good))


def test_unsigned_length_past_the_end() -> None:
    layer = make_layer(5, 2, 6, 7)
    layer.lengths = np.array([1, 2**64 - 1], np.uint64)
    with pytest.raises(ValueError, match="lengths must be from 0 to 5"):
        ops.rnn.lstm_forward(*layer.forward_args())


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (0, torch.zeros(5, 4, 5), ValueError, r"grad_output must be \[5, 4, 6\]"),
        (0, torch.zeros(5, 4, 6).double(), TypeError, "grad_output must be torch.float32"),
        (0, [1.0], TypeError, "grad_output must be a torch tensor, got list"),
        (1, torch.zeros(1, 4, 3), ValueError, r"grad_hidden_n must be \[2, 4, 3\]"),
        (2, torch.zeros(2, 4, 3), ValueError, r"grad_cell_n must be \[2, 4, 7\]"),
        (3, torch.zeros(5, 4, 7), ValueError, r"grad_cells must be \[5, 4, 14\]"),
        (3, torch.zeros(5, 4, 14).double(), TypeError, "grad_cells must be torch.float32"),
        (9, torch.zeros(5, 4, 5), ValueError, r"output must be \[5, 4, 6\]"),
        (10, None, TypeError, "cells must be a torch tensor, got NoneType"),
        (11, None, TypeError, "gates must be a torch tensor, got NoneType"),
        (11, torch.zeros(5, 4, 14), ValueError, r"gates must be \[5, 4, 56\]"),
        (11, torch.zeros(5, 4, 56, device="meta"), ValueError, "gates.*got meta"),
    ],
)
def test_bad_backward_input(position: int, value: Any, error: Any, message: str) -> None:
    layer = _layer()
    args = list(layer.backward_args(ops.rnn.lstm_forward(*layer.forward_args())))
    args[position] = value
    with pytest.raises(error, match=f"^lstm: {message}"):
        ops.rnn.lstm_backward(*args)


def test_unknown_instruction_set() -> None:
    with pytest.raises(ValueError, match="sse9"):
        _C.set_cpu_isa("sse9")


# Processes, signals, threads.


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def test_import_needs_no_torch() -> None:
    done = run_python(
        """
        import sys
        sys.modules["torch"] = None
        import numpy as np, seqfast
        w = (np.ones((8, 3)), np.ones((8, 2)), None, None, None)
        output, *_ = seqfast.ops.rnn.lstm_forward(np.ones((4, 1, 3)), None, None, [w])
        wanted, *_ = seqfast.reference.rnn.lstm_forward(np.ones((4, 1, 3)), None, None, [w])
        np.testing.assert_allclose(output, wanted)
        """
    )
    assert done.returncode == 0, done.stderr


def test_import_leaves_torch_out() -> None:
    done = run_python("import sys, seqfast; seqfast.ops; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("isa", _C.build_info()["cpu_isas_available"])
def test_environment_chooses_the_instruction_set(isa: str) -> None:
    done = run_python("import seqfast; print(seqfast.build_info()['cpu_isa'])", SEQFAST_CPU_ISA=isa)
    assert done.stdout.strip() == isa, done.stderr


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("torch_first", [False, True])
def test_child_process_computes_right(torch_first: bool) -> None:
    """A child inherits a thread pool without its threads; it must not wait for them for ever."""
    done = run_python(
        f"""
        import os, warnings
        if {torch_first}:
            import torch
            torch.set_num_threads(2)
        import numpy as np, seqfast
        warnings.simplefilter("ignore")  # Python 3.12 warns of fork with threads: that is the test
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((20, 64, 32)), rng.standard_normal((256, 32)) / 8
        args = (x, None, None, [(w, rng.standard_normal((256, 64)) / 8, None, None, None)])
        wanted = seqfast.ops.rnn.lstm_forward(*args)[0]
        child = os.fork()
        if child == 0:
            same = np.array_equal(seqfast.ops.rnn.lstm_forward(*args)[0], wanted)
            os._exit(0 if same else 7)
        assert os.waitpid(child, 0)[1] == 0, "the child went wrong"
        assert np.array_equal(seqfast.ops.rnn.lstm_forward(*args)[0], wanted)
        """,
        OMP_NUM_THREADS="2",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.alone
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to oneself on Windows")
def test_interrupt_during_a_long_call(request: pytest.FixtureRequest) -> None:
    layer = torch_layer(make_layer(2000, 64, 64, 128), "float32")
    wanted = ops.rnn.lstm_forward(*layer.forward_args(), save=False)[0]
    done = threading.Event()

    def interrupt() -> None:
        time.sleep(0.02)
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    def until_interrupted() -> None:
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            for _ in range(200):
                ops.rnn.lstm_forward(*layer.forward_args(), save=False)
        finally:
            done.set()
            thread.join()

    # A background job of a shell inherits an ignored SIGINT, and Python then leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        until_interrupted()
    assert_same_bits(ops.rnn.lstm_forward(*layer.forward_args(), save=False)[0], wanted)


@pytest.mark.alone
def test_calls_from_many_threads() -> None:
    layer = torch_layer(make_layer(50, 8, 16, 32), "float32")
    wanted = results(layer)
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                assert_same_bits(results(layer), wanted)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _free_memory(backend: Backend) -> int:
    if backend.device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


@pytest.mark.alone
def test_offsets_past_two_to_the_31(backend: Backend) -> None:
    """steps x batch x 4 hidden has 2^31 + elements: offsets of 32 bits would land elsewhere."""
    if backend.name == "cuda-host":
        pytest.skip("too long for the host executor")
    if _free_memory(backend) < 14 * 2**30:
        pytest.skip("needs 14 GiB of free memory")
    steps, batch, hidden_size = 16_600, 1024, 32
    layer = torch_layer(make_layer(1, batch, 1, hidden_size), "bfloat16", backend.device)
    x = layer.input.new_zeros(steps, batch, 1)
    x[-3:] = layer.input
    output, hidden_n, _, cells, gates = ops.rnn.lstm_forward(x, None, None, layer.weights)
    assert gates.numel() > 2**31
    assert torch.equal(output[-1], hidden_n[0])
    assert cells[-1].any()
    # Long before the end the state has settled, so the last steps follow from the one before them.
    again = ops.rnn.lstm_forward(
        x[-3:], output[-4][None], cells[-4][None].bfloat16(), layer.weights
    )
    assert_close(output[-3:], again[0].double().cpu().numpy(), "bfloat16")
    assert_close(gates[-3:], again[4].double().cpu().numpy(), "bfloat16")

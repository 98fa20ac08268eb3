"""Kernels take subnormal numbers for zeros, and leave the caller's own arithmetic as it was."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

import seqfast
from seqfast import _C, reference
from seqfast.ops import rnn, top_k

FENV_BYTES = 64  # glibc's fenv_t has 32 on x86-64, 8 on aarch64
FTZ, DAZ, UPWARD = 1 << 15, 1 << 6, 1 << 14

needs_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or platform.libc_ver()[0] != "glibc",
    reason="needs glibc on x86-64, whose fegetenv reads MXCSR",
)


class FloatingPoint:
    """This thread's MXCSR, which glibc keeps at byte 28 of a fenv_t."""

    def __init__(self) -> None:
        self._libm = ctypes.CDLL("libm.so.6")
        self._environment = (ctypes.c_uint32 * (FENV_BYTES // 4))()

    def read(self) -> int:
        assert self._libm.fegetenv(self._environment) == 0
        return int(self._environment[7])

    def write(self, mxcsr: int) -> None:
        self.read()
        self._environment[7] = mxcsr
        assert self._libm.fesetenv(self._environment) == 0


@pytest.fixture
def state() -> Iterator[FloatingPoint]:
    state = FloatingPoint()
    before = state.read()
    yield state
    state.write(before)


def run_lstm() -> None:
    lstm = seqfast.nn.LSTM(8, 16)
    output, _ = lstm(torch.randn(5, 3, 8))
    output[-1].sum().backward()
    with torch.no_grad():
        lstm(torch.randn(5, 3, 8))


def run_top_k() -> None:
    top_k.top_k(np.random.default_rng(0).normal(size=(3, 700)).astype(np.float32), 5)


def run_ctc() -> None:
    seqfast.decoding.ctc_beam_search(np.log(np.full((2, 6, 5), 0.2, np.float32)), beam_size=3)


def run_beams() -> None:
    def step(ids: np.ndarray, state: object, t: int) -> tuple[np.ndarray, object]:
        return np.zeros((len(ids), 7), np.float32), state

    seqfast.BeamSearch(beam_size=2, eos=1, max_length=3)(step, np.zeros(2, np.int64))


def run_word2vec() -> None:
    sentences = [[f"w{k % 7}" for k in range(40)]] * 5
    seqfast.Word2Vec(sentences, vector_size=8, min_count=1, epochs=1, workers=2, seed=1)


def fail() -> None:
    with pytest.raises(TypeError):
        _C.rnn_forward((), 0, 0)
    with pytest.raises(ValueError, match="weight_hh"):
        rnn.gru_forward(
            np.zeros((1, 1, 1), np.float32), None, [[np.zeros((4, 1))] * 2 + [None] * 3]
        )

    def stumble(ids: np.ndarray, state: object, t: int) -> tuple[np.ndarray, object]:
        if t == 1:
            raise KeyboardInterrupt
        return np.zeros((len(ids), 7), np.float32), state

    with pytest.raises(KeyboardInterrupt):
        seqfast.BeamSearch(beam_size=2, eos=1, max_length=3)(stumble, np.zeros(2, np.int64))


CALLS = [run_lstm, run_top_k, run_ctc, run_beams, run_word2vec, fail]


@needs_x86
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("flags", [0, FTZ, DAZ | UPWARD], ids=["default", "ftz", "daz, upward"])
def test_the_callers_mxcsr_is_untouched(
    state: FloatingPoint, call: Callable[[], None], flags: int
) -> None:
    call()  # what is loaded or started once
    state.write(state.read() | flags)
    # What Python or NumPy computes on the way may leave its mark: the lowest six bits.
    wanted = state.read() >> 6
    call()
    assert state.read() >> 6 == wanted


@needs_x86
def test_the_kernel_alone_leaves_every_bit(state: FloatingPoint) -> None:
    scores = torch.randn(3, 700)
    top_k.top_k(scores, 5)
    before = state.read()
    top_k.top_k(scores, 5)
    assert state.read() == before


def product_of(x: float, weight: float, rows: int, dtype: torch.dtype) -> torch.Tensor:
    """relu(x * weight) in every row and unit: one step of a plain recurrent layer."""
    layer = seqfast.nn.RNN(1, 40, nonlinearity="relu", bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(weight)
        layer.weight_hh_l0.zero_()
        output, _ = layer(torch.full((3, rows, 1), x, dtype=dtype))
    return output


@pytest.mark.parametrize("rows", [1, 5, 500])
def test_subnormal_factors_and_results_are_zeros(cpu_isa: str, rows: int) -> None:
    tiny = float(np.finfo(np.float32).smallest_normal)
    assert (product_of(1e-19, 1e-18, rows, torch.float32) > 0).all()
    assert (product_of(tiny, 1.0, rows, torch.float32) == tiny).all()
    assert (product_of(1e-20, 1e-20, rows, torch.float32) == 0).all()
    assert (product_of(1e-40, 1e20, rows, torch.float32) == 0).all()
    assert (product_of(1e-160, 1e-160, rows, torch.float64) == 0).all()


def test_subnormal_halves_are_numbers(cpu_isa: str) -> None:
    # Of float16; as float32, in which it is computed, they are far from subnormal.
    for k in (1, 2, 3, 511, 1023, 1024, 1025, 2047):
        smallest = 2.0**-24
        assert (product_of(k * smallest, 1.0, 5, torch.float16) == k * smallest).all()


def test_every_half_is_read_and_written_as_it_is(cpu_isa: str) -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    layer = seqfast.nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float16)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.zero_()
        output, _ = layer(torch.from_numpy(halves)[None, :, None])
    np.testing.assert_array_equal(output.numpy().ravel(), halves)


def test_threads_are_given_back_as_they_were(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    product_of(1e-20, 1e-20, 500, torch.float32)
    run_lstm()
    # By all of torch's threads, which are OpenMP's, as those of the kernels are.
    small = torch.full((1 << 20,), 1e-20)
    assert (small * small > 0).all()


def test_gradients_that_fade_away_end_at_zero(cpu_isa: str) -> None:
    lstm = seqfast.nn.LSTM(4, 24)
    input = torch.randn(300, 3, 4, requires_grad=True)
    lstm(input)[0][-1].sum().backward()
    assert input.grad is not None
    gradients = input.grad.abs().numpy()
    assert np.isfinite(gradients).all()
    tiny = np.finfo(np.float32).smallest_normal
    assert not ((gradients > 0) & (gradients < tiny)).any()
    assert (gradients[0] == 0).all()
    assert (gradients[-1] > 0).all()


def test_the_twin_keeps_them_and_differs_by_no_more_than_they_are(cpu_isa: str) -> None:
    rng = np.random.default_rng(3)
    sizes = (20, 4), (20, 5), (20,), (20,)
    weights = [[*(rng.normal(size=size).astype(np.float32) * 0.1 for size in sizes), None]]
    input = (rng.normal(size=(6, 3, 4)) * 1e-38).astype(np.float32)
    found = rnn.lstm_forward(input, None, None, weights)
    wanted = reference.rnn.lstm_forward(input, None, None, weights)
    for one, other in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

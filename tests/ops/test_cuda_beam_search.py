"""Beam search by the CUDA kernels, in any order of their threads, against the twin step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import Backend, no_synchronisation

from seqfast import _C
from seqfast.ops import beam_search as ops
from seqfast.ops.base.cuda import place as place_of
from seqfast.ops.beam_search.arguments import BeamLogits
from seqfast.reference import beam_search as reference

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
INF, NAN = np.inf, np.nan
# What a search is given; of the pool only what has a score counts.
GIVEN = {"options", "seed", "prefix"}
POOLED = {"logprobs", "last", "keys", "steps", "parents", "tokens"}
# Multiprocessors, shared memory, architecture, most blocks of a cluster of what is stood for.
USUAL, SINGLE = (132, 232448, 90, 16), (1, 232448, 90, 16)


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return 2 * rng.standard_normal(shape)


class Search:
    """The same search twice, by the twin and by the kernels."""

    def __init__(
        self,
        backend: Backend,
        *,
        batch: int = 2,
        capacity: int = 4,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        start: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        options = {"beams": 3, "vocabulary": 37, "eos": (1,), **options}
        real = np.float64 if dtype == torch.float64 else np.float32
        begin: dict[str, Any] = {"seed": seed, **(start or {})}
        self.backend, self.dtype, self.capacity = backend, dtype, capacity
        self.shape = (batch * options["beams"], options["vocabulary"])
        self.twin = reference.start_beams(
            reference.BeamOptions(**options), batch, capacity, real, **begin
        )
        self.beams = ops.start_beams(
            ops.BeamOptions(**options),
            batch,
            capacity,
            dtype,
            like=torch.empty(0, device=backend.device),
            **begin,
        )

    def tensor(self, logits: Array) -> torch.Tensor:
        return torch.from_numpy(logits).to(self.backend.device, self.dtype)

    def step(self, logits: Array, allowed: Array | None = None) -> None:
        given = self.tensor(logits)
        wide = given.cpu() if self.dtype == torch.float64 else given.cpu().float()
        reference.beam_step(wide.numpy(), self.twin, allowed=allowed)
        mask = None if allowed is None else torch.from_numpy(allowed).to(self.backend.device)
        ops.beam_step(given, self.beams, allowed=mask)
        assert int(self.beams.status[0]) == -1

    def run(self, draw: Draw = normal, seed: int = 0, share: float | None = None) -> None:
        """All steps, of which each is compared; `share`: of what is allowed."""
        rng = np.random.default_rng(seed)
        for _ in range(self.capacity):
            logits = draw(rng, self.shape)
            allowed = None if share is None else rng.random(self.shape) < share
            self.step(logits, allowed)
            self.compare()
        self.compare_sequences()

    def compare(self, but: str = "") -> None:
        twin = self.twin
        for name in (field.name for field in fields(twin) if field.name not in {*GIVEN, but}):
            wanted, found = getattr(twin, name), getattr(self.beams, name)
            if wanted is None:
                assert found is None
                continue
            found = found.cpu().numpy()
            assert found.shape == wanted.shape
            if name.startswith("pool_") and name.removeprefix("pool_") in POOLED:
                counts = twin.pool_scores > -INF
                wanted, found = wanted[counts], found[counts]
            if name == "keys":
                wanted, found = wanted[twin.scores > -INF], found[twin.scores > -INF]
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(found, wanted, err_msg=name)

    def compare_sequences(self) -> None:
        last = [getattr(self.twin, f"pool_{name}") for name in ("parents", "tokens", "last")]
        steps = np.where(self.twin.pool_scores > -INF, self.twin.pool_steps, -1)
        last = [array.reshape(len(steps), -1) for array in (steps, *last)]
        for length in (self.capacity, self.capacity + 3):
            wanted = reference.beam_backtrack(self.twin, *last, length=length, pad=-7)
            tensors = [torch.from_numpy(array).to(self.backend.device) for array in last]
            found = ops.beam_backtrack(self.beams, *tensors, length=length, pad=-7)
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one.cpu().numpy(), other, rtol=2e-5, atol=2e-5)


def rounded(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.round(rng.standard_normal(shape))


def equal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.full(shape, 0.25)


def gaps(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.where(rng.random(shape) < 0.7, -INF, rng.standard_normal(shape))


def nothing(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.full(shape, -INF)


def rising(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.sort(rng.standard_normal(shape), axis=1)


@pytest.mark.parametrize("stop", ["exact", "first_k", "top_beam"])
@pytest.mark.parametrize("eos_pool", ["topk", "top2k", "any", "inbeam"])
def test_pools_and_stops(cuda_backend: Backend, eos_pool: str, stop: str) -> None:
    for seed in range(2):
        search = Search(
            cuda_backend, capacity=6, vocabulary=7, eos=(1, 4), eos_pool=eos_pool, stop=stop,
            pool=3 + seed, wanted=1 + seed,
        )  # fmt: skip
        search.run(seed=seed)


PREFIX = {
    "prefix": np.array([[3, 5, 2], [9, 9, 1]], np.int32),
    "prefix_lengths": np.array([1, 3], np.int32),
}
HISTORY = {
    "history": np.array([[1, 2, 1, 2, 3], [4, 4, 0, 0, 0]], np.int32),
    "history_lengths": np.array([5, 2], np.int32),
}
TABLES = {
    f"{which}{name}": np.linspace(least, most, 5, dtype=np.float32)
    for which in ("", "bound_", "certain_")
    for name, least, most in (("divisor", 1, 2), ("addend", 0, 0.5))
}
OPTIONS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.7},
    "min length": {"min_length": 2, "eos": (1, 5)},
    "banned": {"banned": (0, 3, 9), "vocabulary": 12},
    "banned and any": {"banned": (1, 3), "eos": (1, 2), "eos_pool": "any", "vocabulary": 9},
    "penalty": {"repetition_penalty": 1.7, "vocabulary": 6},
    "penalty below 1": {"repetition_penalty": 0.6, "vocabulary": 9},
    "penalty and any": {"repetition_penalty": 1.5, "eos": (1, 3), "eos_pool": "any", "pool": 7},
    "penalty and noise": {"repetition_penalty": 1.5, "noise": True, "vocabulary": 9},
    "unigrams": {"no_repeat_ngram": 1, "vocabulary": 9},
    "bigrams": {"no_repeat_ngram": 2, "vocabulary": 5, "start": {"history": HISTORY["history"]}},
    "history": {"no_repeat_ngram": 2, "repetition_penalty": 1.3, "vocabulary": 6, "start": HISTORY},
    "max lengths": {"start": {"max_lengths": np.array([2, 4], np.int32)}, "eos_pool": "any"},
    "last step": {"force_eos": True, "start": {"max_lengths": np.array([1, 3], np.int32)}},
    "last step, penalty": {"force_eos": True, "repetition_penalty": 1.5, "vocabulary": 5},
    "prefix": {"start": PREFIX, "min_length": 1},
    "prefix and any": {"start": PREFIX, "eos_pool": "any"},
    "prefix and noise": {"start": PREFIX, "noise": True},
    "scored prefix": {"start": PREFIX, "score_prefix": True, "min_length": 3},
    "tables": {"start": {"tables": TABLES}, "count_eos": False, "pool": 3, "vocabulary": 5},
    "noise": {"noise": True},
    "competing": {
        "noise": True, "eos_pool": "competing", "pool": 3, "vocabulary": 8, "eos": (0, 3),
    },
    "competing by score": {"eos_pool": "competing", "pool": 4, "vocabulary": 6, "eos": (0, 3)},
    "samples": {"noise": True, "eos_pool": "competing", "groups": 3},
    "groups": {"groups": 2, "beams": 4, "pool": 3},
    "diverse": {"groups": 3, "beams": 6, "diversity": 0.8, "pool": 3, "vocabulary": 9},
    "diverse, top_2k": {
        "groups": 3, "beams": 6, "diversity": 0.8, "pool": 3, "eos_pool": "top2k",
        "stop": "first_k", "vocabulary": 9,
    },
    "diverse, any, noise": {
        "groups": 2, "beams": 4, "diversity": 0.8, "eos_pool": "any", "noise": True,
    },
    "many that end": {"eos": tuple(range(0, 30, 2)), "eos_pool": "any", "pool": 7},
    "all end": {"eos": (0, 1, 2), "vocabulary": 3, "eos_pool": "top2k"},
    "greedy": {"beams": 1},
}  # fmt: skip


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(cuda_backend: Backend, name: str, renormalize: bool) -> None:
    Search(cuda_backend, renormalize=renormalize, **OPTIONS[name]).run(seed=len(name))


@pytest.mark.parametrize("share", [0.5, 0.05, 0.0])
def test_allowed(cuda_backend: Backend, share: float) -> None:
    Search(cuda_backend).run(share=share)
    Search(cuda_backend, renormalize=True, eos_pool="any", repetition_penalty=1.2).run(share=share)


@pytest.mark.parametrize("draw", [rounded, equal, gaps, nothing, rising])
def test_kinds_of_logits(cuda_backend: Backend, draw: Draw) -> None:
    for options in ({}, {"eos_pool": "any", "pool": 5}, {"min_length": 2, "eos_pool": "top2k"}):
        Search(cuda_backend, eos=(3, 8), **options).run(draw)
    Search(cuda_backend, batch=1, capacity=2, vocabulary=9000).run(draw)


# On both sides of a tile of 4096 columns; several tiles are several blocks.
@pytest.mark.parametrize("vocabulary", [1, 2, 31, 4095, 4096, 4097, 12289])
def test_vocabularies(cuda_backend: Backend, vocabulary: int) -> None:
    options = {"batch": 1, "capacity": 2, "beams": 2, "eos": (0,), "vocabulary": vocabulary}
    Search(cuda_backend, **options).run()
    Search(cuda_backend, noise=True, repetition_penalty=1.3, **options).run()


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_dtypes(cuda_backend: Backend, dtype: torch.dtype) -> None:
    Search(cuda_backend, dtype=dtype).run()
    Search(cuda_backend, dtype=dtype, batch=1, capacity=2, beams=2, vocabulary=9001).run()
    more: dict[str, Any] = {"repetition_penalty": 1.3, "noise": True, "eos_pool": "any"}
    Search(cuda_backend, dtype=dtype, **more).run(rounded)
    Search(cuda_backend, dtype=dtype, groups=3, diversity=0.5, stop="first_k").run()


def test_large_vocabulary(cuda_backend: Backend) -> None:
    options = {"batch": 1, "capacity": 2, "beams": 2, "vocabulary": 300_000, "eos": (299_999,)}
    Search(cuda_backend, **options).run()


def test_noise_of_many_beams(cuda_backend: Backend) -> None:
    """Of so many rows some have a second candidate very near the first."""
    sizes = {"batch": 1, "capacity": 2, "beams": 200, "vocabulary": 500}
    Search(cuda_backend, noise=True, **sizes).run()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_strided_rows(cuda_backend: Backend, dtype: torch.dtype) -> None:
    search, other = (Search(cuda_backend, vocabulary=33, dtype=dtype) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(2):
        logits = normal(rng, (6, 33))
        wide = torch.zeros(7, 40, device=cuda_backend.device, dtype=dtype)
        wide[1:, 3:36] = search.tensor(logits)
        mask = wide[1:, 3:36] > -1
        ops.beam_step(wide[1:, 3:36], search.beams, allowed=mask)
        other.step(logits, mask.cpu().numpy())
        search.twin = other.twin
        search.compare()


@pytest.mark.parametrize(
    "options",
    [
        {"beams": 60, "vocabulary": 130, "pool": 60},
        {"beams": 60, "vocabulary": 61, "pool": 60, "eos_pool": "any", "eos": (1, 2, 3)},
        {"beams": 50, "vocabulary": 40, "pool": 3, "eos_pool": "top2k", "eos": tuple(range(20))},
        {"beams": 40, "vocabulary": 90, "pool": 2, "groups": 20, "diversity": 0.5},
        {"beams": 300, "vocabulary": 320, "pool": 9},
    ],
    ids=["topk", "any", "top2k", "diverse", "300"],
)
def test_many_beams(cuda_backend: Backend, options: dict[str, Any]) -> None:
    Search(cuda_backend, batch=1, capacity=3, **options).run()


def test_most_beams(cuda_backend: Backend) -> None:
    """More candidates than a block keeps at once: with all that end before any that goes on."""

    def ends_first(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        logits = rng.standard_normal(shape)
        logits[:, :3] += 20
        return logits

    options: dict[str, Any] = {"beams": 1024, "vocabulary": 40, "eos": (0, 1, 2), "batch": 1}
    search = Search(cuda_backend, capacity=3, pool=6, eos_pool="any", **options)
    rng = np.random.default_rng(0)
    search.step(normal(rng, search.shape))
    search.step(normal(rng, search.shape))
    search.step(ends_first(rng, search.shape))
    search.compare()


def test_what_a_gpu_cannot_take(cuda_backend: Backend) -> None:
    for options, message in (
        ({"beams": 1025}, "beams must be at most 1024 on a GPU, got 1025"),
        (
            {"beams": 1024, "eos": tuple(range(1025)), "vocabulary": 3000},
            "proposals of a row must be at most 2048 on a GPU, got 2049",
        ),
    ):
        search = Search(cuda_backend, batch=1, **options)
        with pytest.raises(ValueError, match=f"^beam_step: {message}"):
            ops.beam_step(search.tensor(np.zeros(search.shape)), search.beams)


# ---- what no launch may change ----


@contextmanager
def on_device(backend: Backend, device: tuple[int, int, int, int]) -> Iterator[None]:
    """The device that the host executor stands for."""
    if backend.name == "cuda":
        yield
        return
    _C.host_executor_set_device(*device)
    try:
        yield
    finally:
        _C.host_executor_set_device(*USUAL)


RESULTS = ("scores", "pool_scores", "pool_last", "pool_steps")  # [sentences, ...]
RECORDS = ("logprobs", "tokens", "parents")  # [capacity, sentences, beams]


def results_of(search: Search, logits: list[Array], sentence: int) -> list[Array]:
    """Of one sentence of a search, after all of its steps if they have not been done."""
    for step in logits if int(search.beams.step[0]) == 0 else ():
        ops.beam_step(search.tensor(step), search.beams)
    beams = search.beams
    found = [getattr(beams, name)[sentence] for name in RESULTS]
    found += [getattr(beams, name)[:, sentence] for name in RECORDS]
    return [array.cpu().numpy() for array in found]


@pytest.mark.parametrize("options", [{}, {"min_length": 2, "renormalize": True}])
def test_batch_of_one_and_of_many(cuda_backend: Backend, options: dict[str, Any]) -> None:
    """Bit for bit, also where several blocks share a row, and whatever the rows' alignment."""
    rng = np.random.default_rng(0)
    sizes: dict[str, Any] = {"vocabulary": 12301, "beams": 2, "capacity": 2, **options}
    logits = [normal(rng, (6, 12301)) for _ in range(2)]
    many = Search(cuda_backend, batch=3, **sizes)
    for sentence in range(3):
        with on_device(cuda_backend, SINGLE):
            wanted = results_of(many, logits, sentence)
        part = [step[2 * sentence : 2 * sentence + 2] for step in logits]
        with on_device(cuda_backend, USUAL):
            found = results_of(Search(cuda_backend, batch=1, **sizes), part, 0)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


def keep(beams: ops.Beams, rows: torch.Tensor) -> None:
    for name in ("sentence", "scores", "keys", "history_start", "next_tokens", "next_rows"):
        if getattr(beams, name) is not None:
            setattr(beams, name, getattr(beams, name).index_select(0, rows))
    if beams.history is not None:
        beams.history = beams.history.index_select(1, rows)


def test_rows_leave_the_batch(cuda_backend: Backend) -> None:
    rng = np.random.default_rng(2)
    options: dict[str, Any] = {"batch": 3, "no_repeat_ngram": 2, "vocabulary": 9, "noise": True}
    options |= {"eos_pool": "any", "pool": 4}
    whole, part = Search(cuda_backend, **options), Search(cuda_backend, **options)
    rows = [2, 0]
    for step in range(4):
        logits = normal(rng, (9, 9))
        whole.step(logits)
        if step == 1:
            keep(part.beams, torch.tensor(rows, device=cuda_backend.device))
        given = logits if step == 0 else logits.reshape(3, 3, 9)[rows].reshape(6, 9)
        ops.beam_step(part.tensor(given), part.beams)
    for name in ("tokens", "parents", "logprobs"):
        for s in rows:
            found, wanted = (getattr(x.beams, name).cpu()[:, s] for x in (part, whole))
            np.testing.assert_array_equal(found, wanted)


def test_calls_hand_on_what_they_have(cuda_backend: Backend) -> None:
    """What is made anew when an array is replaced is neither the tokens nor the workspace."""
    search = Search(cuda_backend, batch=3, banned=(7,))
    beams, rows = search.beams, torch.tensor([2, 0], device=cuda_backend.device)
    logits = search.tensor(normal(np.random.default_rng(0), search.shape))
    ops.beam_step(logits, beams)
    kept, workspace = beams.call.kept, beams.call.kept.workspace
    for left in (rows, rows[1:]):
        keep(beams, left)
        ops.beam_step(logits[: 3 * len(left)], beams)
        assert beams.call.kept is kept
        assert kept.workspace is workspace
    beams.options = ops.BeamOptions(beams=3, vocabulary=37, eos=(2,))
    assert beams.call.kept is not kept
    assert beams.call.kept.tokens["eos"].tolist() == [2]


def test_batch_of_none(cuda_backend: Backend) -> None:
    search = Search(cuda_backend, batch=0)
    search.step(np.zeros((0, 37)))
    search.compare()
    assert int(search.beams.step[0]) == 1


# ---- what must not be ----


@pytest.mark.parametrize("options", [{}, {"renormalize": True, "banned": (9,)}])
def test_bad_rows(cuda_backend: Backend, options: dict[str, Any]) -> None:
    """The first living row with NaN or +inf is named, and nothing has changed."""
    search = Search(cuda_backend, batch=3, vocabulary=8300, **options)
    rng = np.random.default_rng(0)
    bad = normal(rng, search.shape)
    bad[1] = bad[4] = NAN  # not living yet
    search.step(bad)
    search.compare()
    bad = normal(rng, search.shape)
    bad[7, 8299], bad[4, 9], bad[8, 0] = NAN, INF, NAN
    living = int(np.flatnonzero(search.twin.scores.ravel() > -INF)[3])
    bad[:living] = 0
    bad[living, 9] = NAN
    if cuda_backend.name == "cuda":
        ops.beam_step(search.tensor(bad), search.beams)
        assert int(search.beams.status[0]) == living
        ops.beam_step(search.tensor(np.zeros(search.shape)), search.beams)
        with pytest.raises(ValueError, match=f"NaN or .inf, got one in row {living}"):
            search.compare_sequences()
        search.beams.status.fill_(-1)
    else:
        with pytest.raises(ValueError, match=f"NaN or .inf, got one in row {living}"):
            ops.beam_step(search.tensor(bad), search.beams)
        search.beams.status[0] = -1
    search.compare()
    search.step(normal(rng, search.shape))
    search.compare()


def test_the_first_bad_step_stays(cuda_backend: Backend) -> None:
    """Steps that are on their way behind a bad one, where nobody has looked at the status."""
    search = Search(cuda_backend, batch=3)
    rng = np.random.default_rng(0)
    search.step(normal(rng, search.shape))
    on_host = cuda_backend.name == "cuda-host"
    place = place_of(search.beams.scores.device, on_host)
    for row in (5, 2, 7):
        logits = search.tensor(normal(rng, search.shape))
        logits[row:, 3] = NAN
        native = search.beams.call.native
        native.cuda_step(place, BeamLogits(0, logits.data_ptr(), logits.stride(0), 0, 0))
        assert int(search.beams.status[0]) == 5
    search.compare(but="status")
    search.beams.status.fill_(-1)
    for _ in range(3):
        search.step(normal(rng, search.shape))
        search.compare()
    native.cuda_step(
        place, BeamLogits(0, logits.data_ptr(), logits.stride(0), 0, 0)
    )  # no room, nor numbers
    assert int(search.beams.status[0]) == -2


def test_no_step_left(cuda_backend: Backend) -> None:
    search = Search(cuda_backend, capacity=1)
    search.run()
    logits = search.tensor(np.zeros(search.shape))
    if cuda_backend.name == "cuda":
        ops.beam_step(logits, search.beams)
    else:
        with pytest.raises(ValueError, match="must have a step left, got 1 done"):
            ops.beam_step(logits, search.beams)
    assert int(search.beams.status[0]) == -2
    search.beams.status[0] = -1
    search.compare()


def test_arrays_of_numpy(cuda_backend: Backend) -> None:
    if cuda_backend.device != "cpu":
        pytest.skip("NumPy has no arrays on a GPU")
    search = Search(cuda_backend)
    search.beams = ops.start_beams(search.beams.options, 2, 4)
    for step in range(4):
        logits = normal(np.random.default_rng(step), search.shape).astype(np.float32)
        reference.beam_step(logits, search.twin)
        ops.beam_step(logits, search.beams)
    assert isinstance(search.beams.next_tokens, np.ndarray)
    np.testing.assert_array_equal(search.beams.tokens, search.twin.tokens)


# ---- on a GPU ----


def test_nobody_waits(gpu: Backend) -> None:
    """No synchronisation, and a captured step that is replayed does what it says."""
    for options in ({}, {"noise": True, "repetition_penalty": 1.2, "eos_pool": "any"}):
        search, again = Search(gpu, capacity=8, **options), Search(gpu, capacity=8, **options)
        rng = np.random.default_rng(0)
        draws = [search.tensor(normal(rng, search.shape)) for _ in range(8)]
        logits = draws[0].clone()
        with no_synchronisation():
            for draw in draws:
                ops.beam_step(draw, search.beams)
        ops.beam_step(logits, again.beams)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            ops.beam_step(logits, again.beams)
        for draw in draws[1:]:
            logits.copy_(draw)
            graph.replay()
        for name in (*RESULTS, *RECORDS):
            assert torch.equal(getattr(search.beams, name), getattr(again.beams, name))


def test_nobody_waits_when_rows_leave(gpu: Backend) -> None:
    options: dict[str, Any] = {"batch": 3, "noise": True, "no_repeat_ngram": 2, "banned": (7,)}
    whole, part = Search(gpu, **options), Search(gpu, **options)
    rng = np.random.default_rng(0)
    draws = [whole.tensor(normal(rng, whole.shape)) for _ in range(4)]
    rows = torch.tensor([2, 0])
    flat = torch.tensor([6, 7, 8, 0, 1, 2])
    with no_synchronisation():
        for step, draw in enumerate(draws):
            ops.beam_step(draw, whole.beams)
            ops.beam_step(draw if step < 2 else draw.index_select(0, flat), part.beams)
            if step == 1:
                keep(part.beams, rows)
    for name in RECORDS:
        for s in (0, 2):
            one, other = (getattr(x.beams, name)[:, s] for x in (whole, part))
            assert torch.equal(one, other)


def test_on_another_stream(gpu: Backend) -> None:
    """Behind what that stream has to do first, and ahead of what it does next."""
    search, other = Search(gpu, vocabulary=9000), Search(gpu, vocabulary=9000)
    rng = np.random.default_rng(0)
    draws = [search.tensor(normal(rng, search.shape)) for _ in range(4)]
    logits, found = torch.full_like(draws[0], NAN), []
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for draw in draws:
            torch.cuda._sleep(10_000_000)
            logits.copy_(draw)
            ops.beam_step(logits, other.beams)
            found.append(other.beams.next_tokens.clone())
            logits.fill_(NAN)
    torch.cuda.synchronize()
    for draw, tokens in zip(draws, found, strict=True):
        ops.beam_step(draw, search.beams)
        assert torch.equal(search.beams.next_tokens, tokens)
    assert int(other.beams.status[0]) == -1
    for name in (*RESULTS, *RECORDS):
        assert torch.equal(getattr(search.beams, name), getattr(other.beams, name))

"""Steps of beam search against their twin: every instruction set, dtype, shape and rule."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from support import search_cases as cases
from support.search_cases import Markov, draw_options, length_tables

from seqfast.ops import beam_search as ops
from seqfast.ops.beam_search import BeamOptions, Beams
from seqfast.reference import beam_search as reference

INF, NAN = np.inf, np.nan
EMPTY = torch.zeros(1)  # a search is of its library
TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "float16": 2e-5, "bfloat16": 2e-5}


def arrays_of(beams: Any) -> dict[str, np.ndarray]:
    """As NumPy arrays, copied."""
    found = {}
    for field in fields(beams):
        array = getattr(beams, field.name)
        if field.name != "options" and array is not None:
            found[field.name] = np.asarray(array).copy()
    return found


def assert_same_state(actual: Any, wanted: Any, tolerance: float = 0) -> None:
    found = arrays_of(actual)
    for name, array in arrays_of(wanted).items():
        assert found[name].dtype == array.dtype, name
        if array.dtype.kind == "f" and tolerance:
            np.testing.assert_allclose(
                found[name], array, rtol=tolerance, atol=tolerance, err_msg=name
            )
        else:
            np.testing.assert_array_equal(found[name], array, err_msg=name)


class Pair:
    """A search in both twins, ours of tensors, and what both get: float64 logits in a dtype."""

    def __init__(self, dtype: str, options: dict[str, Any], *size: int, **more: Any) -> None:
        self.dtype = getattr(torch, dtype)
        self.tolerance = TOLERANCE[dtype]
        real = np.float64 if dtype == "float64" else np.float32
        if more.get("tables"):
            more["tables"] = {name: x.astype(real) for name, x in more["tables"].items()}
        self.twin = reference.start_beams(reference.BeamOptions(**options), *size, real, **more)
        self.ours = ops.start_beams(BeamOptions(**options), *size, self.dtype, like=EMPTY, **more)
        assert_same_state(self.ours, self.twin)

    def step(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> None:
        rounded = torch.from_numpy(logits).to(self.dtype)
        wide = rounded if self.dtype == torch.float64 else rounded.float()
        reference.beam_step(wide.numpy(), self.twin, allowed=allowed)
        mask = None if allowed is None else torch.from_numpy(allowed)
        ops.beam_step(rounded, self.ours, allowed=mask)
        assert_same_state(self.ours, self.twin, self.tolerance)

    def run(self, model: Markov, allowed: np.ndarray | None = None) -> None:
        last = self.twin.next_tokens.reshape(-1) * 0 + model.vocabulary
        for step in range(model.steps):
            sentence = np.repeat(self.twin.sentence, self.twin.options.beams)
            self.step(model.logits(step, sentence, last), allowed)
            if self.twin.living[0] == 0:
                return
            last = self.twin.next_tokens.reshape(-1)


def test_twins_have_the_same_signature() -> None:
    for name in ("beam_step", "beam_backtrack"):
        fast, twin = (inspect.signature(getattr(x, name)) for x in (ops, reference))
        assert list(fast.parameters) == list(twin.parameters)
    for name in ("BeamOptions", "Beams"):
        fast, twin = (fields(getattr(x, name)) for x in (ops, reference))
        assert [f.name for f in fast] == [f.name for f in twin]
    twin = list(inspect.signature(reference.start_beams).parameters)
    fast = list(inspect.signature(ops.start_beams).parameters)
    assert [name for name in fast if name != "like"] == twin


# Columns on both sides of a vector, of a block of 256, of a tile of 8192.
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("batch", "beams", "vocabulary"),
    [
        (2, 1, 1), (1, 3, 1), (2, 2, 2), (3, 5, 17), (2, 3, 255), (2, 3, 256), (2, 3, 257),
        (1, 100, 600), (1, 2, 8192), (2, 2, 8193), (1, 3, 50257), (0, 2, 7),
    ],
)  # fmt: skip
def test_shapes(cpu_isa: str, dtype: str, batch: int, beams: int, vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    pair = Pair(dtype, {"beams": beams, "vocabulary": vocabulary, "eos": (0,)}, batch, 4)
    for _ in range(4):
        pair.step(3 * rng.standard_normal((batch * beams, vocabulary)))


def test_large_vocabulary(cpu_isa: str) -> None:
    rng = np.random.default_rng(0)
    pair = Pair("float32", {"beams": 2, "vocabulary": 300_000, "eos": (299_999,)}, 1, 2)
    for _ in range(2):
        pair.step(3 * rng.standard_normal((2, 300_000)))


def test_many_beams(cpu_isa: str) -> None:
    rng = np.random.default_rng(0)
    options = {"beams": 1024, "vocabulary": 40, "eos": (3, 7), "pool": 20, "wanted": 20}
    pair = Pair("float32", options, 1, 3)
    for _ in range(3):
        pair.step(3 * rng.standard_normal((1024, 40)))


@pytest.mark.parametrize("seed", range(60))
def test_rules(cpu_isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = ("float32", "float64", "bfloat16", "float16")[seed % 4]
    vocabulary, steps, batch = int(rng.choice([6, 17, 300, 521])), 6, 3
    options = draw_options(rng, vocabulary)
    more: dict[str, Any] = {"tables": length_tables(steps, rng.choice([0, 0.6, 1]))}
    if rng.random() < 0.5:
        more["max_lengths"] = rng.integers(2, steps + 1, batch).astype(np.int32)
    for name, width in (("prefix", 3), ("history", 4)):
        if rng.random() < 0.4:
            lengths = rng.integers(0, width + 1, batch).astype(np.int32)
            tokens = rng.integers(0, vocabulary, (batch, width)).astype(np.int32)
            more[name] = np.where(np.arange(width) < lengths[:, None], tokens, np.int32(0))
            more[f"{name}_lengths"] = lengths
    allowed = None
    if rng.random() < 0.3:
        allowed = rng.random((batch * options["beams"], vocabulary)) < 0.7
    if rng.random() < 0.2:
        options["noise"] = True
    if rng.random() < 0.2:
        options["eos_pool"], options["stop"] = "competing", "exact"
    pair = Pair(dtype, options, batch, steps, **more)
    if options.get("noise"):
        pair.tolerance = max(pair.tolerance, 2e-4 if dtype != "float64" else 1e-9)
    pair.run(Markov(batch, vocabulary, steps, seed), allowed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["equal", "rounded", "few", "none in a block"])
def test_ties(cpu_isa: str, kind: str, dtype: str) -> None:
    """All logits of a row are from a grid, so equal ones are equal in both twins."""
    rng = np.random.default_rng(1)
    vocabulary, beams = 1500, 4
    logits = np.round(2 * rng.standard_normal((2 * beams, vocabulary)))
    if kind == "equal":
        logits[:] = 1
    elif kind == "few":
        logits[:, :] = -INF
        logits[:, [3, 700, 701, 1499]] = [1, 2, 2, 1]
    elif kind == "none in a block":
        logits[:, 256:512] = -INF
        logits[1] = -INF
    # All rows alike: then equal sums of score and value are equal in both twins, too.
    logits[:] = logits[:1]
    for eos in (0, 700):
        pair = Pair(dtype, {"beams": beams, "vocabulary": vocabulary, "eos": (eos,)}, 2, 3)
        for _ in range(3):
            pair.step(logits)


def draw_state(beams: Any, rows: slice | list[int]) -> dict[str, np.ndarray]:
    found = arrays_of(beams)
    own = {name: found[name][rows] for name in ("scores", "next_tokens", "pool_scores", "done")}
    for name in ("tokens", "parents", "logprobs"):
        own[name] = found[name][:, rows]
    return own


@pytest.mark.parametrize("noise", [False, True])
def test_batch_and_threads_change_nothing(cpu_isa: str, set_threads: Any, noise: bool) -> None:
    vocabulary, beams, batch = 20011, 3, 3
    rng = np.random.default_rng(2)
    options = BeamOptions(
        beams=beams, vocabulary=vocabulary, eos=(5,), repetition_penalty=1.2, noise=noise,
        eos_pool="competing" if noise else "topk", pool=3, wanted=3,
    )  # fmt: skip
    logits = [
        torch.from_numpy(rng.standard_normal((batch * beams, vocabulary)).astype(np.float32))
        for _ in range(3)
    ]
    results = []
    for count in (1, 2, 3, 5):
        set_threads(count)
        together = ops.start_beams(options, batch, 3, like=logits[0])
        for x in logits:
            ops.beam_step(x, together)
        results.append(together)
        assert_same_state(together, results[0])
        for b in range(batch):
            alone = ops.start_beams(options, batch, 3, like=logits[0])
            keep(alone, [b])
            for x in logits:
                ops.beam_step(x[b * beams : (b + 1) * beams], alone)
            for name in ("tokens", "parents", "logprobs"):
                one, other = getattr(alone, name)[:, b], getattr(together, name)[:, b]
                assert torch.equal(one, other), name
            assert torch.equal(alone.pool_scores[b], together.pool_scores[b])
            assert torch.equal(alone.scores[0], together.scores[b])


def keep(beams: Beams, rows: list[int]) -> None:
    """Only those sentences stay in the batch."""
    for name in ("sentence", "scores", "keys", "history_start", "next_tokens", "next_rows"):
        array = getattr(beams, name)
        if array is not None:
            setattr(beams, name, array[rows])
    if beams.history is not None:
        beams.history = beams.history[:, rows].contiguous()


def test_sentences_leave_the_batch(cpu_isa: str) -> None:
    model = Markov(4, 30, 8, seed=3)
    options = BeamOptions(beams=3, vocabulary=30, eos=(0,), no_repeat_ngram=2, pool=3, wanted=3)
    most = [8, 2, 5, 3]
    whole = ops.start_beams(options, 4, 8, like=EMPTY, max_lengths=most)
    wanted = cases.search(ops, model, whole, change=tensor)
    beams = ops.start_beams(options, 4, 8, like=EMPTY, max_lengths=most)
    last = np.full(12, 30)
    for step in range(8):
        sentence = np.repeat(beams.sentence.numpy(), 3)
        ops.beam_step(tensor(model.logits(step, sentence, last)), beams)
        rows = [b for b, s in enumerate(beams.sentence.tolist()) if beams.done[s, 0] != 1]
        if not rows:
            break
        keep(beams, rows)
        last = beams.next_tokens.numpy().reshape(-1)
    assert len(beams.sentence) < 3
    assert cases.found(ops, beams) == wanted
    assert torch.equal(beams.done, whole.done)


def tensor(logits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(logits.astype(np.float32))


def test_strided_rows(cpu_isa: str) -> None:
    rng = np.random.default_rng(4)
    wide = torch.from_numpy(rng.standard_normal((12, 2000)).astype(np.float32))
    masks = torch.from_numpy(rng.random((12, 2000)) < 0.5)
    options = BeamOptions(beams=3, vocabulary=700, eos=(1,))
    for view in (
        lambda x: x[::2, 1:701],
        lambda x: x[:6, ::2][:, :700],
        lambda x: x[:7].t()[:6].repeat(1, 100),
        lambda x: x[0, :700].expand(6, 700),
    ):
        for allowed in (None, view(masks)):
            one, other, third = (
                ops.start_beams(options, 2, 2, like=None if i == 2 else wide) for i in range(3)
            )
            for _ in range(2):
                ops.beam_step(view(wide), one, allowed=allowed)
                dense = None if allowed is None else allowed.contiguous()
                ops.beam_step(view(wide).contiguous(), other, allowed=dense)
                mask = None if allowed is None else allowed.numpy()
                ops.beam_step(view(wide).numpy(), third, allowed=mask)
            assert_same_state(one, other)
            assert_same_state(third, other)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("where", [0, 255, 256, 8200, 8299])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_bad_row(cpu_isa: str, dtype: str, where: int, value: float) -> None:
    vocabulary = 8300
    for options in ({}, {"banned": (where,)}, {"banned": (where,), "renormalize": True}):
        o = BeamOptions(beams=2, vocabulary=vocabulary, eos=(3,), **options)
        beams = ops.start_beams(o, 3, 4, dtype, like=EMPTY)
        logits = torch.zeros(6, vocabulary, dtype=getattr(torch, dtype))
        logits[1] = NAN  # it does not live yet
        logits[2, where] = logits[4, 2] = value
        before = arrays_of(beams)
        before.pop("status")
        with pytest.raises(ValueError, match=r"^beam_step: logits must not hold NaN .* in row 2$"):
            ops.beam_step(logits, beams)
        for name, array in before.items():
            np.testing.assert_array_equal(array, np.asarray(getattr(beams, name)), err_msg=name)
        logits[2:] = 0
        ops.beam_step(logits, beams)
        assert int(beams.step[0]) == 1


def test_extreme_logits(cpu_isa: str) -> None:
    largest = float(np.finfo(np.float32).max)
    for row in (
        [largest, -largest, 0, -INF],
        [-largest] * 4,
        [largest] * 4,
        [1e-45, -1e-45, 0, -0.0],
        [-INF, -INF, -INF, 7],
        [88, 89, -104, -87.5],
    ):
        pair = Pair("float32", {"beams": 2, "vocabulary": 4, "eos": (3,), "count_eos": False}, 1, 3)
        for _ in range(2):
            with np.errstate(over="ignore", invalid="ignore"):
                pair.step(np.tile(np.array(row, np.float32), (2, 1)))


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_log_probabilities_are_exact(cpu_isa: str, real: str) -> None:
    rng = np.random.default_rng(5)
    for scale in (0.01, 1, 30):
        logits = (scale * rng.standard_normal((1, 70001))).astype(real)
        options = BeamOptions(beams=1, vocabulary=70001, eos=(0,))
        beams = ops.start_beams(options, 1, 1, real)
        ops.beam_step(logits, beams)
        x = logits[0].astype(np.longdouble)
        wanted = x[int(beams.pool_tokens[0, 0, 0])] - np.log(np.exp(x - x.max()).sum()) - x.max()
        found = beams.pool_logprobs[0, 0, 0]
        assert abs(found - wanted) <= 2 * np.spacing(np.abs(logits).max() + np.abs(found))


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_noise_is_gumbel(cpu_isa: str, real: str) -> None:
    """The best of many perturbed equal logits, against the twin's own noise."""
    vocabulary = 6000
    options = {"beams": 300, "vocabulary": vocabulary, "eos": (0,), "noise": True}
    pair = Pair(real, options, 1, 2)
    pair.tolerance = 1e-5 if real == "float32" else 1e-9
    pair.step(np.zeros((300, vocabulary)))
    assert len(set(pair.twin.next_tokens[0].tolist())) == 300


def test_marginals_of_sampling_without_replacement() -> None:
    sentences = 40000
    model = Markov(1, 3, 2, seed=3)
    model.table = np.repeat(model.table, sentences, 0)
    every = [np.exp(p) for _, p in cases.every_sequence(model, (0,), 0)]
    options = BeamOptions(
        beams=2, vocabulary=3, eos=(0,), eos_pool="competing", pool=2, wanted=2, noise=True
    )
    beams = ops.start_beams(options, sentences, 2, seed=7)
    tokens = [t for t, _ in cases.every_sequence(model, (0,), 0)]
    counts = np.zeros((len(every), len(every)))
    for (pool,) in cases.search(ops, model, beams):
        counts[tokens.index(pool[0][0]), tokens.index(pool[1][0])] += 1
    for i, p in enumerate(every):
        for j, q in enumerate(every):
            wanted = 0 if i == j else p * q / (1 - p)
            deviation = np.sqrt(sentences * wanted * (1 - wanted))
            assert abs(counts[i, j] - sentences * wanted) <= 4.5 * deviation, (i, j)


def test_backtrack(cpu_isa: str) -> None:
    rng = np.random.default_rng(6)
    for real in ("float32", "float64"):
        for sentences, beams, capacity, hypotheses in ((3, 4, 9, 5), (1, 1, 1, 1), (40, 3, 50, 7)):
            options = {"beams": beams, "vocabulary": 99, "eos": (0,)}
            pair = Pair(real, options, sentences, capacity)
            records = (capacity, sentences, beams)
            fill = {
                "tokens": rng.integers(0, 99, records),
                "parents": rng.integers(0, beams, records),
                "logprobs": rng.standard_normal(records),
            }
            for name, values in fill.items():
                getattr(pair.twin, name)[:] = values
                getattr(pair.ours, name)[:] = torch.from_numpy(values)
            shape = (sentences, hypotheses)
            last = [
                rng.integers(-1, capacity, shape).astype(np.int32),
                rng.integers(0, beams, shape).astype(np.int32),
                rng.integers(0, 99, shape).astype(np.int32),
                rng.standard_normal(shape).astype(real),
            ]
            for length in (capacity, capacity + 3):
                wanted = reference.beam_backtrack(pair.twin, *last, length=length, pad=-7)
                tensors = [torch.from_numpy(x) for x in last]
                found = ops.beam_backtrack(pair.ours, *tensors, length=length, pad=-7)
                for one, other in zip(found, wanted, strict=True):
                    assert str(one.dtype) == f"torch.{other.dtype}"
                    np.testing.assert_array_equal(one.numpy(), other)
    nobody = ops.start_beams(BeamOptions(2, 3, (0,)), 0, 4)
    empty = np.zeros((0, 3), np.int32)
    found = ops.beam_backtrack(
        nobody, empty, empty, empty, empty.astype(np.float32), length=2, pad=0
    )
    assert [x.shape for x in found] == [(0, 3, 2)] * 3


def test_numpy_search_is_the_same(cpu_isa: str) -> None:
    model = Markov(3, 40, 7, seed=8)
    options = BeamOptions(beams=4, vocabulary=40, eos=(0, 1), pool=4, wanted=2)
    one = ops.start_beams(options, 3, 7)
    other = ops.start_beams(options, 3, 7, like=EMPTY)
    assert cases.search(ops, model, one) == cases.search(ops, model, other, change=tensor)
    assert isinstance(one.tokens, np.ndarray)
    assert_same_state(one, other)


def test_dtype_may_change_between_steps() -> None:
    beams = ops.start_beams(BeamOptions(2, 50, (0,)), 1, 4, torch.float16, like=EMPTY)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        ops.beam_step(torch.randn(2, 50).to(dtype), beams)
    assert int(beams.step[0]) == 3


def test_no_step_left() -> None:
    beams = ops.start_beams(BeamOptions(1, 5, (0,), min_length=9), 1, 2)
    logits = np.zeros((1, 5), np.float32)
    ops.beam_step(logits, beams)
    ops.beam_step(logits, beams)
    with pytest.raises(ValueError, match="search must have a step left, got 2 done"):
        ops.beam_step(logits, beams)


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"beams": 0}, ValueError, "beams must be from 1 to 2147483647, got 0"),
    ({"beams": 1.5}, TypeError, "beams must be an integer, got 1.5"),
    ({"vocabulary": 2**31}, ValueError, "vocabulary must be from 1 to"),
    ({"eos": ()}, ValueError, "eos must have at least 1 token, got none"),
    ({"eos": (10,)}, ValueError, "eos must be from 0 to 9, the vocabulary, got 10"),
    ({"eos": ("a",)}, TypeError, r"eos must be an integer or .* integers, got \('a',\)"),
    ({"banned": (-1,)}, ValueError, "banned must be from 0 to 9, the vocabulary, got -1"),
    ({"groups": 3}, ValueError, "beams must be a multiple of groups, got 4 beams in 3 groups"),
    ({"eos_pool": "top_k"}, ValueError, "eos_pool must be 'topk', .*, got 'top_k'"),
    ({"stop": "never"}, ValueError, "stop must be 'exact', .*, got 'never'"),
    ({"temperature": 0}, ValueError, "temperature must be a finite number above 0, got 0"),
    (
        {"repetition_penalty": NAN},
        ValueError,
        "repetition_penalty must be a finite number above 0, got nan",
    ),
    ({"diversity": -1}, ValueError, "diversity must be a finite number, at least 0, got -1"),
    ({"noise": 1}, TypeError, "noise must be True or False, got 1"),
    ({"wanted": 2}, ValueError, "wanted must be at most 1, the pool, got 2"),
    ({"eos_pool": "competing"}, ValueError, "pool must be at least 4, .* for 'competing', got 1"),
    ({"stop": "first_k"}, ValueError, "pool must be at least 4, .* for 'first_k', got 1"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS, ids=lambda x: str(x)[:30])
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^beam_search: {message}"):
        BeamOptions(**{"beams": 4, "vocabulary": 10, "eos": (0,), **options})


OPTIONS = BeamOptions(2, 10, (0,), repetition_penalty=2.0)
BAD_START: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"options": None}, TypeError, "options must be BeamOptions, got NoneType"),
    ({"batch": -1}, ValueError, "batch must be from 0 to .*, got -1"),
    ({"capacity": 0}, ValueError, "capacity must be from 1 to .*, got 0"),
    ({"dtype": np.int32}, TypeError, "dtype must be float32, .*, got int32"),
    ({"like": [1]}, TypeError, "like must be a NumPy array or a torch tensor, got list"),
    ({"max_lengths": [1, 6]}, ValueError, "max_lengths must be from 1 to 5, got 6"),
    ({"max_lengths": [1]}, ValueError, r"max_lengths must be \[2\], got \[1\]"),
    ({"max_lengths": [1.0, 2.0]}, TypeError, "max_lengths must hold integers, got float64"),
    ({"prefix": [[1], [10]]}, ValueError, "prefix must be from 0 to 9, got 10"),
    ({"prefix": [1, 2]}, ValueError, r"prefix must be \[2, any\], got \[2\]"),
    ({"prefix": [[1], [1]], "prefix_lengths": [2, 0]}, ValueError, "prefix_lengths must be from"),
    ({"history": [[1]]}, ValueError, r"history must be \[2, any\], got \[1, 1\]"),
    ({"tables": {"norm": [1]}}, ValueError, "tables must be named divisor, .*, got 'norm'"),
    ({"tables": {"divisor": [1]}}, ValueError, r"divisor must be \[6\], got \[1\]"),
    ({"tables": {"divisor": [0] * 6}}, ValueError, "divisor must be above 0, got"),
    ({"tables": {"addend": [NAN] * 6}}, ValueError, "addend must be numbers, got"),
    ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_START, ids=lambda x: str(x)[:30])
def test_bad_start(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^start_beams: {message}"):
        ops.start_beams(**{"options": OPTIONS, "batch": 2, "capacity": 5, **arguments})


Z = torch.zeros
BAD_STEP: list[tuple[Any, Any, type[Exception], str]] = [
    (np.zeros((4, 10)), None, TypeError, "logits must be a torch tensor, got ndarray"),
    (Z(4, 10).double(), None, TypeError, "logits must be float32, bfloat16 or float16, got torch."),
    (Z(4, 10).int(), None, TypeError, "logits must be float32"),
    (Z(4, 9), None, ValueError, r"logits must be \[4, 10\], got \[4, 9\]"),
    (
        Z(4, 10, device="meta"),
        None,
        ValueError,
        "logits must be a dense array on the CPU, got meta",
    ),
    (Z(4, 10), np.ones((4, 10), bool), TypeError, "allowed must be a torch tensor, got ndarray"),
    (Z(4, 10), Z(4, 10), TypeError, "allowed must be bool, got torch.float32"),
    (Z(4, 10), Z(4, 11).bool(), ValueError, r"allowed must be \[4, 10\], got \[4, 11\]"),
]


@pytest.mark.parametrize(("logits", "allowed", "error", "message"), BAD_STEP, ids=lambda x: str(x))
def test_bad_step(logits: Any, allowed: Any, error: type[Exception], message: str) -> None:
    beams = ops.start_beams(OPTIONS, 2, 5, like=EMPTY)
    with pytest.raises(error, match=f"^beam_step: {message}"):
        ops.beam_step(logits, beams, allowed=allowed)


BAD_STATE: list[tuple[str, Any, type[Exception], str]] = [
    ("scores", Z(2, 3), ValueError, r"scores must be \[batch, 2\], got \[2, 3\]"),
    ("scores", Z(2, 2).int(), TypeError, "scores must be float32 or float64, got torch.int32"),
    ("sentence", torch.tensor([0, 2]), ValueError, "sentence must be from 0 to 1, got 2"),
    ("done", np.zeros((2, 1), np.uint8), TypeError, "done must be a torch tensor, got ndarray"),
    ("tokens", Z(5, 2, 2), TypeError, "tokens must be torch.int32|tokens must be int32, got"),
    ("next_rows", Z(3, 2).long(), ValueError, r"next_rows must be \[2, 2\], got \[3, 2\]"),
    ("logprobs", Z(2, 2, 5).permute(2, 0, 1), ValueError, "logprobs must be contiguous"),
    ("living", Z(1, device="meta").long(), ValueError, "living must be a dense array on the CPU"),
]


@pytest.mark.parametrize(("name", "array", "error", "message"), BAD_STATE, ids=lambda x: str(x))
def test_bad_state(name: str, array: Any, error: type[Exception], message: str) -> None:
    beams = ops.start_beams(OPTIONS, 2, 5, like=EMPTY)
    setattr(beams, name, array)
    with pytest.raises(error, match=rf"^beam_step: beams\.(?:{message})"):
        ops.beam_step(Z(4, 10), beams)
    with pytest.raises(TypeError, match=r"^beam_step: beams must be Beams, got dict"):
        ops.beam_step(Z(4, 10), {})  # type: ignore[arg-type]


I = Z(2, 3).int()  # noqa: E741
BAD_WALK: list[tuple[tuple[Any, ...], dict[str, int], type[Exception], str]] = [
    ((I[:1], I, I, Z(2, 3)), {}, ValueError, r"last_steps must be \[2, any\], got \[1, 3\]"),
    ((Z(2, 3), I, I, Z(2, 3)), {}, TypeError, "last_steps must hold integers, got torch.float32"),
    ((I + 5, I, I, Z(2, 3)), {}, ValueError, "last_steps must be from -1 to 4, got 5"),
    ((I, I + 2, I, Z(2, 3)), {}, ValueError, "last_parents must be from 0 to 1, got 2"),
    ((I, I[:, :2], I, Z(2, 3)), {}, ValueError, r"last_parents must be \[2, 3\], got \[2, 2\]"),
    ((I, I, I.numpy(), Z(2, 3)), {}, TypeError, "last_tokens must be a torch tensor, got ndarray"),
    ((I, I, I, Z(2, 3).double()), {}, TypeError, "last_logprobs must be torch.float32, got"),
    ((I + 4, I, I, Z(2, 3)), {"length": 4}, ValueError, "length must be above 4, .*, got 4"),
    ((I, I, I, Z(2, 3)), {"length": -1}, ValueError, "length must be from 0 to .*, got -1"),
    (([], I, I, Z(2, 3)), {}, TypeError, "last_steps must be a torch tensor, got list"),
]


@pytest.mark.parametrize(("last", "more", "error", "message"), BAD_WALK, ids=lambda x: str(x)[-40:])
def test_bad_walk(last: Any, more: Any, error: type[Exception], message: str) -> None:
    beams = ops.start_beams(OPTIONS, 2, 5, like=EMPTY)
    with pytest.raises(error, match=f"^beam_backtrack: {message}"):
        ops.beam_backtrack(beams, *last, **{"length": 5, "pad": 0, **more})

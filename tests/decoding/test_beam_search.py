"""BeamSearch: against every sequence there is, on both libraries, with every kind of state."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from seqfast.decoding import BeamSearch, along, per_sequence, register_state, shared
from seqfast.reference import beam_search as reference

from .models import HashModel, hypotheses

EOS = 2
START = np.array([0, 1, 3, 4])

NORMS: list[tuple[Any, float, Callable[[float, int], float]]] = [
    ("none", 1.0, lambda p, n: p),
    ("avg", 1.0, lambda p, n: p / n),
    ("avg", 0.6, lambda p, n: p / n**0.6),
    ("avg", -0.7, lambda p, n: p / n**-0.7),
    ("gnmt", 0.8, lambda p, n: p / ((5 + n) / 6) ** 0.8),
    ("gnmt", -2.0, lambda p, n: p / ((5 + n) / 6) ** -2.0),
    ("reward", 0.5, lambda p, n: p + 0.5 * n),
    ("reward", -0.3, lambda p, n: p - 0.3 * n),
    (lambda n: 1.0 + n**2, 1.0, lambda p, n: p / (1.0 + n**2)),
    (lambda n: (1.0 + n, 0.2 * n), 1.0, lambda p, n: p / (1.0 + n) + 0.2 * n),
]


def brute(
    model: HashModel, start: int, norm: Callable[[float, int], float], length: int, count_eos: bool
) -> list[tuple[float, tuple[int, ...]]]:
    found = []
    for tokens in model.sequences((EOS,), length):
        n = len(tokens) - (tokens[-1] == EOS and not count_eos)
        if n > 0:
            found.append((norm(model.logprob(tokens, start), n), tokens))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("count_eos", [True, False])
@pytest.mark.parametrize("norm", range(len(NORMS)))
def test_a_wide_beam_finds_the_best_there_is(norm: int, count_eos: bool) -> None:
    name, alpha, function = NORMS[norm]
    model = HashModel(4, seed=norm, dtype=np.float64)
    search = BeamSearch(
        3**4,
        eos=EOS,
        max_length=4,
        min_length=0 if count_eos else 1,
        n_best=3,
        length_norm=name,
        alpha=alpha,
        count_eos=count_eos,
        eos_pool="any",
    )
    out = search(model.step, START, model.state(4))
    for sentence, start in enumerate(START):
        wanted = brute(model, int(start), function, 4, count_eos)[:3]
        assert hypotheses(out, sentence) == [tokens for _, tokens in wanted]
        np.testing.assert_allclose(out.scores[sentence], [score for score, _ in wanted])
        logprobs = [model.logprob(tokens, int(start)) for _, tokens in wanted]
        np.testing.assert_allclose(out.logprobs[sentence], logprobs)
    np.testing.assert_allclose(out.token_logprobs.sum(2), out.logprobs)
    assert out.certified.all()


@pytest.mark.parametrize("norm", range(len(NORMS)))
def test_the_exact_stop_loses_nothing_and_costs_no_more_than_all_steps(norm: int) -> None:
    name, alpha, _ = NORMS[norm]
    stopped = 0
    for seed in range(8):
        model = HashModel(9, seed=seed, scale=3)
        # Half of the models like to end.
        model.table[:, EOS] += 3 * (seed % 2)
        options: dict[str, Any] = {
            "eos": EOS, "max_length": 12, "n_best": 2, "length_norm": name, "alpha": alpha,
        }  # fmt: skip
        exact = BeamSearch(4, **options)(model.step, START, model.state(4))
        # Never enough: it goes on to the last step.
        full = BeamSearch(4, **options, stop="full", enough=64)(model.step, START, model.state(4))
        assert full.steps == 12
        stopped += exact.steps < 12
        for sentence in range(4):
            assert hypotheses(exact, sentence) == hypotheses(full, sentence)
        assert exact.certified.all()
    if name == "none":
        assert stopped > 0


def test_other_stops_may_lose_and_then_do_not_certify() -> None:
    lost = 0
    for seed in range(30):
        model = HashModel(9, seed=seed)
        model.table[:, EOS] += 2
        options: dict[str, Any] = {"eos": EOS, "max_length": 12, "alpha": 1.0}
        exact = BeamSearch(3, **options)(model.step, START, model.state(4))
        hasty = BeamSearch(3, **options, stop="top_beam")(model.step, START, model.state(4))
        for sentence in range(4):
            worse = hasty.scores[sentence, 0] < exact.scores[sentence, 0] - 1e-6
            lost += worse
            assert not (worse and hasty.certified[sentence])
    assert lost > 0


def batches(model: HashModel, search: BeamSearch, start: Any, **given: Any) -> None:
    """A batch gives what its sentences give alone, bit for bit, and torch what NumPy gives."""
    whole = search(model.step, start, model.state(len(start)), **given)
    tensors = search(
        model.torch_step, torch.from_numpy(start), model.torch_state(len(start)), **given
    )
    for name in ("tokens", "lengths", "scores", "logprobs", "token_logprobs", "parents"):
        value = getattr(tensors, name)
        assert isinstance(value, torch.Tensor)
        np.testing.assert_array_equal(getattr(whole, name), value.numpy())
    np.testing.assert_array_equal(whole.certified, tensors.certified.numpy())
    for sentence in range(len(start)):
        own = {
            name: value[sentence : sentence + 1] if isinstance(value, (list, np.ndarray)) else value
            for name, value in given.items()
        }
        alone = search(model.step, start[sentence : sentence + 1], model.state(1), **own)
        assert hypotheses(alone, 0) == hypotheses(whole, sentence)
        np.testing.assert_array_equal(alone.scores[0], whole.scores[sentence])
        assert alone.certified[0] == whole.certified[sentence]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_best": 3, "stop": "hf", "alpha": 0.6},
        {"stop": "first_k", "eos_pool": "top2k", "n_best": 4},
        {"stop": "top_beam", "eos_pool": "inbeam", "min_length": 3},
        {"groups": 2, "diversity": 0.7},
        {"no_repeat_ngram": 2, "repetition_penalty": 1.3, "temperature": 0.7},
        {"banned": [0, 5], "renormalize": True, "at_max": "eos"},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_the_batch_and_the_library_do_not_matter(options: dict[str, Any]) -> None:
    model = HashModel(11, seed=3)
    model.table[:, EOS] += 1
    search = BeamSearch(4, eos=EOS, **{"max_length": 9, **options})
    batches(model, search, np.array([0, 1, 3, 4, 5, 6, 7]))


def test_prefixes_are_ragged_and_do_not_count_unless_told() -> None:
    model = HashModel(8, seed=1)
    prefix = [[5, 6], [], [1, 3, 4], [7]]
    search = BeamSearch(3, eos=EOS, max_length=9, n_best=2)
    batches(model, search, START, prefix=prefix)
    out = search(model.step, START, model.state(4), prefix=prefix)
    for sentence, forced in enumerate(prefix):
        start = int(START[sentence])
        for h, tokens in enumerate(hypotheses(out, sentence)):
            assert tokens[: len(forced)] == tuple(forced)
            free = model.logprob(tokens, start) - model.logprob(tuple(forced), start)
            np.testing.assert_allclose(out.logprobs[sentence, h], free, rtol=1e-5)
            normalised = free / (len(tokens) - len(forced))
            np.testing.assert_allclose(out.scores[sentence, h], normalised, rtol=1e-5)
    padded = np.array([[5, 6, 0], [0, 0, 0], [1, 3, 4], [7, 99, 99]])
    lengths = np.array([2, 0, 3, 1])
    again = search(model.step, START, model.state(4), prefix=padded, prefix_lengths=lengths)
    np.testing.assert_array_equal(again.tokens, out.tokens)
    scored = BeamSearch(3, eos=EOS, max_length=9, n_best=2, score_prefix=True)
    out = scored(model.step, START, model.state(4), prefix=prefix)
    for sentence in range(4):
        for h, tokens in enumerate(hypotheses(out, sentence)):
            logprob = model.logprob(tokens, int(START[sentence]))
            np.testing.assert_allclose(out.scores[sentence, h], logprob / len(tokens), rtol=1e-5)


def test_each_row_has_its_own_max_length() -> None:
    model = HashModel(8, seed=2)
    model.table[:, EOS] -= 20
    limits = np.array([3, 7, 1, 5])
    search = BeamSearch(3, eos=EOS, max_length=100)
    batches(model, search, START, max_length=limits)
    out = search(model.step, START, model.state(4), max_length=limits)
    assert out.lengths[:, 0].tolist() == [3, 7, 1, 5]
    # The last one ends one step behind them.
    forced = BeamSearch(3, eos=EOS, max_length=100, at_max="eos")
    out = forced(model.step, START, model.state(4), max_length=limits)
    assert out.lengths[:, 0].tolist() == [4, 8, 2, 6]
    assert all(hypotheses(out, s)[0][-1] == EOS for s in range(4))


def test_sentences_that_are_done_leave_the_batch() -> None:
    model = HashModel(8, seed=2)
    model.table[:, EOS] -= 20
    BeamSearch(3, eos=EOS)(model.step, START, model.state(4), max_length=np.array([2, 2, 5, 3]))
    assert model.calls == [12, 12, 6, 3, 3]


def test_steps_stop_when_all_are_done() -> None:
    model = HashModel(8, seed=2)
    model.table[:, EOS] += 50
    out = BeamSearch(1, eos=EOS, max_length=50)(model.step, START, model.state(4))
    assert out.steps == 1
    assert len(model.calls) == 1
    assert out.tokens.tolist() == [[[EOS]]] * 4


class Pair(NamedTuple):
    code: Any
    rest: Any


@dataclasses.dataclass(frozen=True)
class Held:
    pair: Pair
    nothing: None
    number: int


class Custom:
    def __init__(self, code: Any) -> None:
        self.code = code


class Cache:
    """As transformers' are: it changes in place."""

    def __init__(self, code: Any) -> None:
        self.code = code

    def reorder_cache(self, rows: Any) -> None:
        self.code = self.code[rows]


class Selecting(Cache):
    reorder_cache = None  # type: ignore[assignment]

    def batch_select_indices(self, rows: Any) -> None:
        self.code = self.code[rows]


register_state(Custom, lambda value, rows: Custom(value.code[rows]))


@pytest.mark.parametrize(
    "kind", ["dict", "ordered", "nested", "custom", "cache", "selecting", "along"]
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_any_state(kind: str, library: str) -> None:
    model = HashModel(9, seed=5)
    model.table[:, EOS] += 1
    wrap: Callable[[Any], Any]
    unwrap: Callable[[Any], Any]
    wrap, unwrap = {
        "dict": (lambda c: {"a": [c]}, lambda s: s["a"][0]),
        "ordered": (lambda c: OrderedDict(z=(c,), a=1.5), lambda s: s["z"][0]),
        "nested": (lambda c: [Held(Pair(c, "text"), None, 3)], lambda s: s[0].pair.code),
        "custom": (lambda c: (Custom(c), None), lambda s: s[0].code),
        "cache": (Cache, lambda s: s.code),
        "selecting": (Selecting, lambda s: s.code),
        "along": (lambda c: (c[None], 0), lambda s: s[0][0]),
    }[kind]
    torches = library == "torch"
    table = model.tensor if torches else model.table
    start = torch.from_numpy(START) if torches else START

    def step(ids: Any, state: Any, t: int) -> tuple[Any, Any]:
        code = model.code(unwrap(state), ids)
        if isinstance(state, Cache):
            state.code = code
            return table[code], state
        return table[code], wrap(code)

    zero = start * 0
    state = wrap(zero)
    if kind == "along":
        state = (along(state[0], 1), 0)
    search = BeamSearch(4, eos=EOS, max_length=8, n_best=2)
    for _ in range(2):  # what was given is as it was
        out = search(step, start, state)
        wanted = search(model.step, START, model.state(4))
        np.testing.assert_array_equal(np.asarray(out.tokens), wanted.tokens)
    if isinstance(state, Cache):
        assert state.code.tolist() == [0, 0, 0, 0]


def test_shared_parts_are_neither_repeated_nor_reordered() -> None:
    model = HashModel(9, seed=6)
    model.table[:, EOS] -= 20
    bias = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    seen: list[tuple[int, int]] = []

    def step(ids: Any, state: Any, t: int) -> tuple[Any, Any]:
        memory, tiled = state["memory"]["bias"], state["tiled"]
        seen.append((len(memory), len(tiled)))
        beams = len(ids) // len(memory)
        np.testing.assert_array_equal(np.repeat(memory, beams, 0), tiled)
        code = model.code(state["code"], ids)
        # What stands in the place of what is shared does not matter.
        return model.table[code] + tiled, {"code": code, "memory": None, "tiled": None}

    state = {
        "code": np.zeros(4, np.int64),
        "memory": shared({"bias": bias}),
        "tiled": shared(bias, tiled=True),
    }

    def returned(ids: Any, state: Any, t: int) -> tuple[Any, Any]:
        logits, after = step(ids, state, t)
        return logits, {**state, "code": after["code"]}

    limits = np.array([2, 5, 5, 2])
    search = BeamSearch(3, eos=EOS, n_best=3)
    for function in (step, returned):
        seen.clear()
        out = search(function, START, state, max_length=limits)
        assert seen == [(4, 12), (4, 12), (2, 6), (2, 6), (2, 6)]
    for sentence in range(4):
        alone = dict(state, code=np.zeros(1, np.int64))
        for name in ("memory", "tiled"):
            part = bias[sentence : sentence + 1]
            alone[name] = shared(
                {"bias": part} if name == "memory" else part, tiled=name == "tiled"
            )
        one = slice(sentence, sentence + 1)
        single = search(step, START[one], alone, max_length=limits[one])
        assert hypotheses(single, 0) == hypotheses(out, sentence)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_allowed_tokens(library: str) -> None:
    model = HashModel(9, seed=7)
    torches = library == "torch"
    start = torch.from_numpy(START) if torches else START
    step = model.torch_step if torches else model.step
    state = model.torch_state(4) if torches else model.state(4)
    histories: list[Any] = []

    def follow(sentence: int, tokens: Any) -> list[int]:
        histories.append((sentence, tuple(tokens.tolist())))
        # The next one is above the last one, or the end.
        return [EOS, *range(int(tokens[-1]) + 1, 9)]

    search = BeamSearch(3, eos=EOS, max_length=9, n_best=3, stop="full", enough=50)
    first = start.reshape(-1, 1)
    out = search(step, start, state, allowed=per_sequence(follow, first))
    for sentence in range(4):
        for tokens in hypotheses(out, sentence):
            body = (int(START[sentence]), *(t for t in tokens if t != EOS))
            assert list(body) == sorted(set(body))
    assert all(tokens[0] == START[sentence] for sentence, tokens in histories)
    assert max(len(tokens) for _, tokens in histories) > 3

    def lists(t: int, rows: Any) -> Any:
        lasts = (rows.ids.tolist(), rows.living.tolist())
        assert t == rows.tokens.shape[1]
        return [
            [EOS, *range(last + 1, 9)] if living else None
            for last, living in zip(*lasts, strict=True)
        ]

    def mask(t: int, rows: Any) -> Any:
        found = np.zeros((len(rows.ids), 9), bool)
        for row, tokens in enumerate(lists(t, rows)):
            found[row, tokens if tokens is not None else slice(None)] = True
        return torch.from_numpy(found) if torches else found

    def firsts(t: int, rows: Any) -> Any:
        return mask(t, rows) if t else [[EOS, *range(int(i) + 1, 9)] for i in rows.ids]

    for function in (firsts,):
        again = search(step, start, state, allowed=function)
        np.testing.assert_array_equal(np.asarray(again.tokens), np.asarray(out.tokens))
    free = search(step, start, state, allowed=lambda t, rows: None)
    plain = search(step, start, state)
    np.testing.assert_array_equal(np.asarray(free.tokens), np.asarray(plain.tokens))


@pytest.mark.parametrize("ensemble", ["probabilities", "logprobs"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_ensembles(ensemble: str, library: str) -> None:
    models = [HashModel(4, seed=s, dtype=np.float64) for s in range(3)]
    torches = library == "torch"
    steps = [m.torch_step if torches else m.step for m in models]
    states = [m.torch_state(2) if torches else m.state(2) for m in models]
    start = torch.tensor([0, 1]) if torches else np.array([0, 1])
    temperature = 0.7
    for model in models:
        model.table /= temperature  # of the reference's model below
    search = BeamSearch(
        27, eos=EOS, max_length=3, n_best=2, length_norm="none", ensemble=ensemble, eos_pool="any",
        temperature=temperature,
    )  # fmt: skip

    def averaged(tokens: tuple[int, ...], start: int) -> float:
        total = 0.0
        for n, token in enumerate(tokens):
            logs = np.array([m.log_softmax(tokens[:n], start) for m in models])
            if ensemble == "probabilities":
                total += np.log(np.exp(logs).mean(0))[token]
            else:
                mean = logs.mean(0)
                total += mean[token] - np.log(np.exp(mean).sum())
        return total

    wanted = [
        sorted(((averaged(x, s), x) for x in models[0].sequences((EOS,), 3)), reverse=True)[:2]
        for s in (0, 1)
    ]
    for model in models:
        model.table *= temperature
    out = search(steps, start, states)
    for sentence in range(2):
        assert hypotheses(out, sentence) == [tokens for _, tokens in wanted[sentence]]
        scores = [score for score, _ in wanted[sentence]]
        np.testing.assert_allclose(np.asarray(out.scores[sentence]), scores)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_logits_of_every_dtype(dtype: str) -> None:
    model = HashModel(9, seed=8)
    kind = getattr(torch, dtype)

    def step(ids: Any, state: Any, t: int) -> tuple[Any, Any]:
        logits, state = model.torch_step(ids, state, t)
        return logits.to(kind), state

    def rounded(ids: Any, state: Any, t: int) -> tuple[Any, Any]:
        logits, state = model.torch_step(ids, state, t)
        return logits.to(kind).to(torch.float64 if dtype == "float64" else torch.float32), state

    search = BeamSearch(3, eos=EOS, max_length=7)
    start = torch.from_numpy(START)
    out = search(step, start, model.torch_state(4))
    wanted = search(rounded, start, model.torch_state(4))
    assert out.scores.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert torch.equal(out.tokens, wanted.tokens)


def test_it_equals_a_loop_over_the_twin() -> None:
    model = HashModel(9, seed=9)
    model.table[:, EOS] += 1
    search = BeamSearch(4, eos=EOS, max_length=6, length_norm="none", stop="first_k", n_best=4)
    out = search(model.step, START, model.state(4))
    options = search.options.for_vocabulary(9)
    twin = reference.start_beams(
        reference.BeamOptions(**{f: getattr(options, f) for f in options.__dataclass_fields__}),
        4, 6, np.float32,
    )  # fmt: skip
    ids, code = np.repeat(START, 4), np.zeros(16, np.int64)
    for _ in range(6):
        code = model.code(code, ids)
        reference.beam_step(model.table[code], twin)
        code, ids = code[twin.next_rows.ravel()], twin.next_tokens.ravel()
    order = np.argsort(-twin.pool_scores[:, 0], axis=1, kind="stable")
    np.testing.assert_allclose(
        np.take_along_axis(twin.pool_scores[:, 0], order, 1), out.scores, rtol=1e-6
    )
    steps = np.take_along_axis(twin.pool_steps[:, 0], order, 1)
    np.testing.assert_array_equal(steps + 1, out.lengths)


def test_the_end_of_sentence_in_the_result() -> None:
    model = HashModel(6, seed=10)
    model.table[:, [EOS, 4]] += 2
    options: dict[str, Any] = {"eos": (4, EOS), "max_length": 8, "n_best": 3}
    kept = BeamSearch(3, **options)(model.step, START, model.state(4))
    bare = BeamSearch(3, **options, keep_eos=False, pad=-7)(model.step, START, model.state(4))
    ended = 0
    for sentence in range(4):
        for one, other in zip(hypotheses(kept, sentence), hypotheses(bare, sentence), strict=True):
            ended += one[-1] in (EOS, 4)
            assert other == tuple(t for t in one if t not in (EOS, 4))
    assert ended > 4
    behind = np.arange(bare.tokens.shape[2]) >= bare.lengths[..., None]
    assert (bare.tokens[behind] == -7).all()
    assert (kept.tokens[np.arange(kept.tokens.shape[2]) >= kept.lengths[..., None]] == EOS).all()
    np.testing.assert_array_equal(kept.token_logprobs, bare.token_logprobs)


def test_parents_lead_back() -> None:
    model = HashModel(7, seed=11)
    out = BeamSearch(3, eos=EOS, max_length=6, n_best=3)(model.step, START, model.state(4))
    within = np.arange(out.parents.shape[2]) < out.lengths[..., None]
    assert (out.parents[~within] == -1).all()
    assert (out.parents[within] >= 0).all()
    assert (out.parents[within] < 3).all()
    assert (out.parents[:, :, 0] == 0).all()


def test_fewer_hypotheses_than_asked_for() -> None:
    model = HashModel(6, seed=12)

    def only(t: int, rows: Any) -> Any:
        return [[EOS] if t == 1 else [3]] * len(rows.ids)

    out = BeamSearch(3, eos=EOS, max_length=6, n_best=3)(
        model.step, START, model.state(4), allowed=only
    )
    assert [hypotheses(out, s) for s in range(4)] == [[(3, EOS), (), ()]] * 4
    assert (out.scores[:, 1:] == -np.inf).all()
    assert (out.logprobs[:, 1:] == -np.inf).all()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_no_sentences(library: str) -> None:
    model = HashModel(6)
    torches = library == "torch"
    start = torch.zeros(0, dtype=torch.int64) if torches else np.zeros(0, np.int64)
    step = model.torch_step if torches else model.step
    state = model.torch_state(0) if torches else model.state(0)
    out = BeamSearch(3, eos=EOS, n_best=2)(step, start, state)
    assert tuple(out.tokens.shape[:2]) == (0, 2)
    assert tuple(out.certified.shape) == (0,)


def test_nothing_is_differentiated() -> None:
    model = HashModel(6)
    weight = torch.nn.Parameter(model.tensor.clone())

    def step(ids: Any, state: Any, t: int) -> tuple[Any, Any]:
        code = model.code(state["code"], ids)
        with torch.enable_grad():
            return weight[code], {"code": code}

    out = BeamSearch(2, eos=EOS, max_length=4)(step, torch.tensor([0]), model.torch_state(1))
    assert not out.scores.requires_grad


def test_history_is_the_start_token_unless_given() -> None:
    model = HashModel(7, seed=13)
    model.table[:, START] += 4
    search = BeamSearch(2, eos=EOS, max_length=6, repetition_penalty=50.0)
    out = search(model.step, START, model.state(4))
    given = search(model.step, START, model.state(4), history=START[:, None])
    np.testing.assert_array_equal(out.tokens, given.tokens)
    for sentence in range(4):
        tokens = [t for t in hypotheses(out, sentence)[0] if t != EOS]
        assert START[sentence] not in tokens[:3]
    none = search(model.step, START, model.state(4), history=np.zeros((4, 0), np.int64))
    counted = search(
        model.step, START, model.state(4), history=np.array([[0, 9]] * 4),
        history_lengths=np.zeros(4, np.int64),
    )  # fmt: skip
    np.testing.assert_array_equal(none.tokens, counted.tokens)
    assert not np.array_equal(none.scores, out.scores)


def test_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from seqfast import BeamSearch\n"
        "from seqfast.decoding import exact_search, greedy, sample, score\n"
        "table = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)\n"
        "step = lambda ids, state, t: (table[ids], state)\n"
        "out = BeamSearch(3, eos=2, max_length=5)(step, np.array([0, 1]))\n"
        "assert out.tokens.shape[0] == 2 and out.certified.all()\n"
        "assert sample(step, np.array([0]), n=3, eos=2, top_k=3).tokens.shape[1] == 3\n"
        "greedy(step, np.array([0]), eos=2)\n"
        "score(step, [[1, 2]], np.array([0]), eos=2)\n"
        "exact_search(step, np.array([0]), eos=2, max_length=3)\n"
        "assert sys.modules['torch'] is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_four_thousand_beams() -> None:
    """As wide a beam as there may be, against every sequence."""
    model = HashModel(7, seed=4, scale=1.0)
    search = BeamSearch(4096, eos=2, max_length=5, length_norm="none", n_best=4096)
    out = search(model.step, np.array([0]), model.state(1))
    every = sorted(
        ((model.logprob(s, 0), s) for s in model.sequences((2,), 5)), key=lambda x: -x[0]
    )[:4096]
    assert {s for _, s in every[:3000]} <= set(hypotheses(out, 0))
    np.testing.assert_allclose(out.logprobs[0], [v for v, _ in every], rtol=2e-5)
    with pytest.raises(ValueError, match="beam_size must be from 1 to 4096, got 4097"):
        BeamSearch(4097, eos=2)

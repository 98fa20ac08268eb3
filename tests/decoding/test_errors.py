"""What cannot be: a clear error that names it, and a search that works right after."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from seqfast.decoding import BeamSearch, Sampler, StepError, along, register_state, shared

from .models import HashModel, hypotheses

EOS = 2
START = np.array([0, 1, 3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"eos": None}, TypeError, "eos must be given"),
        ({"eos": []}, ValueError, "eos must have at least 1 token, got none"),
        ({"eos": -1}, ValueError, "eos must be at least 0 and below the vocabulary, got -1"),
        ({"eos": 1.0}, TypeError, r"eos must be an integer or a sequence of integers, got 1\.0"),
        ({"eos": True}, TypeError, "eos must be an integer or a sequence of integers, got True"),
        ({"beam_size": 0}, ValueError, "beam_size must be from 1 to 4096, got 0"),
        ({"beam_size": 2.0}, TypeError, r"beam_size must be an integer, got 2\.0"),
        ({"max_length": 0}, ValueError, "max_length must be from 1 to 1048576, got 0"),
        ({"max_length": 10**9}, ValueError, "max_length must be from 1 to 1048576, got 10000"),
        ({"min_length": -1}, ValueError, "min_length must be from 0 to 2147483646, got -1"),
        ({"min_length": 9, "max_length": 8}, ValueError, "must not exceed max_length = 8, got 9"),
        ({"n_best": 6}, ValueError, "n_best must be from 1 to 5, got 6"),
        ({"enough": 0}, ValueError, "enough must be from 1 to 16384, got 0"),
        (
            {"length_norm": "mean"},
            ValueError,
            "'none', 'avg', 'gnmt', 'reward' or callable, got",
        ),
        ({"alpha": math.nan}, ValueError, "alpha must be a finite number, got nan"),
        ({"alpha": "1"}, TypeError, "alpha must be a finite number, got '1'"),
        (
            {"stop": "soon"},
            ValueError,
            "stop must be 'exact', 'first_k', 'full', 'top_beam', 'hf'",
        ),
        (
            {"eos_pool": "all"},
            ValueError,
            "eos_pool must be 'topk', 'top2k', 'any' or 'inbeam'",
        ),
        ({"at_max": "drop"}, ValueError, "at_max must be 'cut', 'eos' or 'rest', got 'drop'"),
        (
            {"no_repeat_ngram": -1},
            ValueError,
            "no_repeat_ngram must be from 0 to 2147483647, got -1",
        ),
        (
            {"repetition_penalty": 0},
            ValueError,
            "repetition_penalty must be a finite number above 0",
        ),
        ({"groups": 2}, ValueError, "groups must divide beam_size = 5, got 2"),
        ({"diversity": -1}, ValueError, "diversity must be a finite number, at least 0, got -1"),
        ({"diversity": 0.5}, ValueError, "diversity must be 0 without groups, got 0.5"),
        ({"temperature": 0}, ValueError, "temperature must be a finite number above 0, got 0"),
        ({"sampler": 3}, TypeError, "sampler must be a Sampler or None, got int"),
        (
            {"banned": "ab"},
            TypeError,
            "banned must be an integer or a sequence of integers, got 'ab'",
        ),
        ({"count_eos": 1}, TypeError, "count_eos must be True or False, got 1"),
        ({"ensemble": "max"}, ValueError, "ensemble must be 'probabilities' or 'logprobs'"),
        ({"pad": 0.5}, TypeError, r"pad must be an integer, got 0\.5"),
        ({"cuda_graph": "maybe"}, ValueError, "cuda_graph must be True, False or 'auto'"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^BeamSearch: .*{message}"):
        BeamSearch(**{"eos": EOS, **options})


def test_a_wrong_sampler() -> None:
    with pytest.raises(TypeError, match="Sampler: seed must be an integer, got None"):
        Sampler(seed=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"start_ids": [0, 1, 3]}, TypeError, "start_ids must be a NumPy array or a torch tensor"),
        ({"start_ids": START[:, None]}, ValueError, r"start_ids must be \[batch\].*got \[3, 1\]"),
        ({"start_ids": START / 1}, TypeError, "start_ids must be integers, got float64"),
        ({"state": {"code": np.zeros(2, np.int64)}}, ValueError,
         r"state\['code'\] must have 3 rows \(batch\) in dimension 0, got \[2\]; see along"),
        ({"state": {"code": torch.zeros(3)}}, TypeError,
         r"state\['code'\] must be a NumPy array, as the start ids are, got Tensor"),
        ({"state": {"code": np.zeros(3, np.int64), "set": {1}}}, TypeError,
         r"state\['set'\] must be made of .* got set; register_state"),
        ({"state": {"code": shared(np.zeros(4))}}, ValueError, r"state\['code'\] must have 3 rows"),
        ({"state": along(np.zeros((3, 2)), 1)}, ValueError, r"3 rows \(batch\) in dimension 1"),
        ({"prefix": [[1], [1]]}, ValueError, "prefix must have a list for each of 3 sentences"),
        ({"prefix": [[1], [1], [7]]}, ValueError, r"prefix must hold tokens in range \[0, 7\)"),
        ({"prefix": [[1], [1], [1] * 9]}, ValueError, "longer than max_length, got 9 tokens for"),
        ({"prefix": [[1], [1], ["a"]]}, TypeError, "prefix must hold lists of tokens"),
        ({"prefix": np.zeros((2, 3), np.int64)}, ValueError, r"prefix must be \[3, any\]"),
        ({"prefix": np.zeros((3, 3))}, TypeError, "prefix must be integers, got float64"),
        ({"prefix": np.zeros((3, 3), np.int64), "prefix_lengths": np.array([1, 2, 4])},
         ValueError, "prefix_lengths must be from 0 to 3, got 4"),
        ({"prefix_lengths": np.array([1, 2, 3])}, ValueError, "prefix_lengths must be None"),
        ({"max_length": np.array([1, 2])}, ValueError, r"max_length must be \[3\], got \[2\]"),
        ({"max_length": np.array([1, 2, 0])}, ValueError, "must be from 1 to 1048576, got 0"),
        ({"max_length": np.array([1, 2, 10**9])}, ValueError, "from 1 to 1048576, got 1000000000"),
        ({"max_length": 2.5}, TypeError, "max_length must be integers, got float64"),
        ({"history": np.array([[9], [1], [1]])}, ValueError, r"history must hold .* got 9"),
        ({"history_lengths": np.array([1, 1, 1])}, ValueError, "history_lengths must be None"),
        ({"allowed": 3}, TypeError, "allowed must be callable, got int"),
        ({"allowed": lambda t, rows: [[1]]}, ValueError, "a list for each of 6 rows, got 1"),
        ({"allowed": lambda t, rows: [[9]] * 6}, ValueError, r"range \[0, 7\), got 9"),
        ({"allowed": lambda t, rows: np.zeros((6, 7))}, TypeError, "mask of allowed must be bool"),
        ({"allowed": lambda t, rows: np.zeros((6, 8), bool)}, ValueError, r"must be \[6, 7\]"),
        ({"allowed": lambda t, rows: "x"}, TypeError, "allowed must return a bool mask"),
    ],
)  # fmt: skip
def test_wrong_arguments(given: dict[str, Any], error: type[Exception], message: str) -> None:
    model = HashModel(7)
    search = BeamSearch(2, eos=EOS, max_length=8, no_repeat_ngram=3)
    arguments = {"start_ids": START, "state": model.state(3), **given}
    with pytest.raises(error, match=f"^BeamSearch: .*{message}"):
        search(model.step, arguments.pop("start_ids"), arguments.pop("state"), **arguments)
    works_after(search)


def works_after(search: BeamSearch) -> None:
    model = HashModel(7)
    out = search(model.step, START, model.state(3))
    wanted = BeamSearch.of(search.options)(model.step, START, model.state(3))
    np.testing.assert_array_equal(out.tokens, wanted.tokens)


def test_tokens_outside_the_vocabulary() -> None:
    model = HashModel(7)
    for name in ("eos", "banned"):
        search = BeamSearch(2, **{"eos": EOS, name: [1, 7]})
        with pytest.raises(ValueError, match=f"BeamSearch: {name} must be from 0 to 6, the voc"):
            search(model.step, START, model.state(3))


class Named(NamedTuple):
    code: Any


def failing(change: Callable[[Any, Any, int], Any], at: int) -> Callable[..., Any]:
    """A step that is right but for step `at`."""
    model = HashModel(7, seed=4)
    model.table[:, EOS] -= 9

    def step(ids: Any, state: Any, t: int) -> Any:
        logits, after = model.step(ids, state, t)
        return change(logits, after, t) if t == at else (logits, after)

    return step


def raising(logits: Any, state: Any, t: int) -> Any:
    raise KeyError("weights")


def poisoned(logits: Any, state: Any, t: int) -> Any:
    logits = logits.copy()
    logits[4, 3] = np.nan
    return logits, state


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (raising, StepError, "step raised KeyError at t = {t}: 'weights'"),
        (lambda x, s, t: x, TypeError, r"step must return a tuple \(logits, state\), got ndarray"),
        (lambda x, s, t: (x, s, 1), TypeError, r"step must return a tuple \(logits, state\)"),
        (lambda x, s, t: (x[:4], s), ValueError, r"logits of step must be \[6, \w+\], got \[4, 7"),
        (lambda x, s, t: (x[None], s), ValueError, r"logits of step must be \[6, \w+\], got \[1"),
        (lambda x, s, t: (x.tolist(), s), TypeError, "logits of step must be a NumPy array"),
        (lambda x, s, t: (x.astype(int), s), TypeError, "must be float32, float64, bfloat16 or"),
        (lambda x, s, t: (x, None), ValueError, "that step returned must stay dict, got None"),
        (lambda x, s, t: (x, {}), ValueError, "must keep its parts code, got none"),
        (lambda x, s, t: (x, {"code": s["code"], "b": 1}), ValueError, "parts code, got code, b"),
        (lambda x, s, t: (x, {"code": s["code"][:3]}), ValueError,
         r"state that step returned\['code'\] must have 6 rows in dimension 0, got \[3\]"),
        (lambda x, s, t: (x, {"code": [s["code"]]}), ValueError,
         r"\['code'\] must stay a NumPy array, got list"),
        (lambda x, s, t: (x, Named(s["code"])), ValueError, "must stay dict, got Named"),
        (poisoned, ValueError,
         r"logits of step must not hold NaN .* at t = {t} for sentence 2, beam 0"),
    ],
)  # fmt: skip
def test_wrong_steps(
    change: Callable[..., Any], error: type[Exception], message: str, at: int
) -> None:
    search = BeamSearch(2, eos=EOS, max_length=8)
    with pytest.raises(error, match=message.format(t=at)) as caught:
        search(failing(change, at), START, HashModel(7).state(3))
    if change is raising:
        assert isinstance(caught.value.__cause__, KeyError)
    works_after(search)


def test_another_vocabulary_later_on() -> None:
    search = BeamSearch(2, eos=EOS, max_length=8)
    with pytest.raises(ValueError, match=r"logits of step must be \[6, 7\], got \[6, 5\]"):
        search(failing(lambda x, s, t: (x[:, :5], s), 2), START, HashModel(7).state(3))


def test_another_dtype_later_on() -> None:
    search = BeamSearch(2, eos=EOS, max_length=8)
    with pytest.raises(TypeError, match=r"logits of step must be float32, as at .* got f"):
        search(failing(lambda x, s, t: (x / np.float64(1), s), 2), START, HashModel(7).state(3))
    works_after(search)


def test_ensembles_that_do_not_fit() -> None:
    one, two = HashModel(7), HashModel(8)
    search = BeamSearch(2, eos=EOS)
    with pytest.raises(ValueError, match=r"logits of step\[1\] must be \[6, 7\], got \[6, 8\]"):
        search([one.step, two.step], START, [one.state(3), two.state(3)])
    with pytest.raises(ValueError, match="one state for each of 2 step functions, got 1"):
        search([one.step, two.step], START, [one.state(3)])
    with pytest.raises(TypeError, match="step must be callable, or a sequence of callables"):
        search([], START)
    works_after(search)


def test_length_norms_that_cannot_be() -> None:
    model = HashModel(7)
    for norm, message in (
        (lambda n: n - 3.0, r"finite and > 0, got -3\.0 for length 0"),
        (lambda n: np.ones(3), r"must return divisors \[9\]"),
        (lambda n: (n + 1.0, np.full(len(n), np.inf)), "addends of length_norm must be finite"),
    ):
        search = BeamSearch(2, eos=EOS, max_length=8, length_norm=norm)
        with pytest.raises(ValueError, match=message):
            search(model.step, START, model.state(3))


def test_the_callers_objects_stay_as_they_are_after_an_error() -> None:
    class Cache:
        def __init__(self) -> None:
            self.code = np.zeros(3, np.int64)

        def batch_select_indices(self, rows: Any) -> None:
            self.code = self.code[rows]

    cache = Cache()

    def step(ids: Any, state: Any, t: int) -> Any:
        state.code += 1
        if t == 2:
            raise RuntimeError("no")
        return HashModel(7).table[ids], state

    search = BeamSearch(2, eos=EOS, max_length=8)
    with pytest.raises(StepError, match="step raised RuntimeError at t = 2: no"):
        search(step, START, cache)
    assert cache.code.tolist() == [0, 0, 0]


def test_ctrl_c() -> None:
    model = HashModel(7)
    model.table[:, EOS] -= 9
    search = BeamSearch(2, eos=EOS, max_length=8)

    def step(ids: Any, state: Any, t: int) -> Any:
        if t == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return model.step(ids, state, t)

    with pytest.raises(KeyboardInterrupt):
        search(step, START, model.state(3))
    works_after(search)


def test_marks_and_registration() -> None:
    with pytest.raises(ValueError, match="along: dim must be at least 0, got -1"):
        along(np.zeros(3), -1)
    with pytest.raises(TypeError, match="register_state: kind must be a class, got 3"):
        register_state(3, lambda value, rows: value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="register_state: select must be callable, got None"):
        register_state(dict, None)  # type: ignore[arg-type]


def test_the_result_of_a_search_is_no_ones_memory() -> None:
    model = HashModel(7)
    search = BeamSearch(2, eos=EOS, max_length=8)
    first = search(model.step, START, model.state(3))
    before = [hypotheses(first, s) for s in range(3)]
    search(model.step, START[::-1].copy(), model.state(3))
    assert [hypotheses(first, s) for s in range(3)] == before

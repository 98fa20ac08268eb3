"""What CtcDecoder refuses: each message names the argument, what came, and the way out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import CtcDecoder, NGram

VOCABULARY = ["", " ", "a", "b"]
LOG_PROBS = np.log(np.full((2, 3, 4), 0.25))
LM = NGram.train(["a b", "b a"], order=2)


def refused(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match=re.escape(message))


CONSTRUCTED = [
    ({"vocabulary": "ab"}, TypeError, "vocabulary must be the tokens by id, got one string"),
    ({"vocabulary": ["a", "b"]}, ValueError, "must have '' once, for the blank, got it 0 times"),
    ({"vocabulary": ["", "a", "a"]}, ValueError, "each token once, got 'a' at 1 and 2"),
    ({"vocabulary": ["", 1]}, TypeError, "vocabulary must be strings by id, got 1 at 1"),
    ({"blank": 9}, ValueError, "blank must be from 0 to 3"),
    ({"word_boundary": "|"}, ValueError, "word_boundary must be a token of the vocabulary"),
    ({"lexicon": ["ab", "abc"]}, ValueError, "lexicon must be words that the vocabulary's tokens"),
    ({"lexicon": ["abc"]}, ValueError, "got 'abc' (at 'c'): leave them out"),
    ({"lexicon": []}, ValueError, "lexicon must have words, got none"),
    ({"lexicon": ["a b"]}, ValueError, "words without white space, got 'a b'"),
    ({"lexicon": "ab"}, TypeError, "lexicon must be words, got one string"),
    ({"lexicon": ["a"], "word_boundary": None}, ValueError, "lexicon needs words"),
    ({"lm": LM, "word_boundary": None}, ValueError, "lm is of words, but no token"),
    ({"lm": "3gram.arpa"}, TypeError, "lm must be an NGram or callable, got str: NGram.load"),
    ({"lm": NGram.train(["A B"], order=1)}, ValueError, "(upper case)"),
    ({"lm": NGram.train(["x"], order=1), "lm_unit": "token"}, ValueError, "knows none of them"),
    ({"lm_unit": "piece"}, ValueError, "lm_unit must be 'word' or 'token', got 'piece'"),
    ({"alpha": -1}, ValueError, "alpha must be a finite number, at least 0, got -1"),
    ({"beta": np.nan}, ValueError, "beta must be a finite number, got nan"),
    ({"beam_size": 0}, ValueError, "beam_size must be from 1"),
    ({"n_best": 101}, ValueError, "n_best must be from 1 to 100, the beam_size"),
    ({"beam_threshold": -1.0}, ValueError, "beam_threshold must be a number, at least 0"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "message"), CONSTRUCTED, ids=[m for _, _, m in CONSTRUCTED]
)
def test_constructor(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with refused(error, message):
        CtcDecoder(**({"vocabulary": VOCABULARY} | arguments))


CALLED = [
    ([[[0.0]]], None, TypeError, "log_probs must be a NumPy array or a torch tensor, got list"),
    (LOG_PROBS[0], None, ValueError, "pass log_probs[None] for one row"),
    (LOG_PROBS[:, :, :3], None, ValueError, "must be [batch, frames, 4], as the vocabulary has 4"),
    (LOG_PROBS.astype(int), None, TypeError, "log_probs must be float32"),
    (np.exp(LOG_PROBS), None, ValueError, "at most 0, got 0.25 in row 0, frame 0"),
    (-10 * LOG_PROBS, None, ValueError, "of logits pass .log_softmax(-1)"),
    (LOG_PROBS, [3], ValueError, "lengths must be [2]"),
    (LOG_PROBS, [3, 4], ValueError, "lengths must be from 0 to 3, got 4"),
    (LOG_PROBS, (3, -1), ValueError, "lengths must be from 0 to 3, got -1"),
    (LOG_PROBS, [1.5, 2.0], TypeError, "lengths must be integers"),
]


@pytest.mark.parametrize(
    ("log_probs", "lengths", "error", "message"), CALLED, ids=[m for *_, m in CALLED]
)
def test_call(log_probs: Any, lengths: Any, error: type[Exception], message: str) -> None:
    with refused(error, message):
        CtcDecoder(VOCABULARY)(log_probs, lengths)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_where_it_is_and_not_where_nothing_is_read(value: float) -> None:
    log_probs = LOG_PROBS.copy()
    log_probs[1, 2, 3] = value
    decoder = CtcDecoder(VOCABULARY)
    with refused(ValueError, f"got {value} in row 1, frame 2"):
        decoder(log_probs)
    with refused(ValueError, "in row 1, frame 2"):
        decoder(torch.from_numpy(log_probs).float())
    assert decoder(log_probs, [3, 2]).texts == decoder(LOG_PROBS, [3, 2]).texts


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_lengths_in_any_form(kind: Any) -> None:
    decoder = CtcDecoder(VOCABULARY)
    for log_probs in (LOG_PROBS, torch.from_numpy(LOG_PROBS)):
        found = decoder(log_probs, kind([2, 0]))
        assert found.texts == ["a", ""]


def test_a_gpus_tensor_is_sent_to_the_cpu_by_its_owner() -> None:
    with refused(ValueError, "on the CPU, got meta: pass log_probs.cpu()"):
        CtcDecoder(VOCABULARY)(torch.zeros(1, 2, 4, device="meta"))


HOTWORDS = [
    ("ab", TypeError, "hotwords must be a list of words, got 'ab': pass ['ab']"),
    (["ab", " "], ValueError, "hotwords must be words, got ' ': leave out what is empty"),
    ([["ab"]], ValueError, "one list for each of the 2 rows, got 1 lists"),
    ([["ab"], "ab"], ValueError, None),
    (["abc"], ValueError, "hotwords must be words that the vocabulary's tokens spell"),
    ({"ab": np.inf}, ValueError, "hotwords['ab'] must be a finite number, got inf"),
    ([["ab"], [3]], TypeError, "hotwords[1] must be words, got 3"),
]


@pytest.mark.parametrize(
    ("hotwords", "error", "message"), HOTWORDS, ids=[str(h[0]) for h in HOTWORDS]
)
def test_hotwords(hotwords: Any, error: type[Exception], message: str | None) -> None:
    if message is None:
        error, message = TypeError, "hotwords[1] must be a list of words, got 'ab'"
    with refused(error, message):
        CtcDecoder(VOCABULARY)(LOG_PROBS, hotwords=hotwords)


def test_no_hotwords_are_none() -> None:
    decoder = CtcDecoder(VOCABULARY)
    for nothing in (None, [], {}, [None, []]):
        assert decoder(LOG_PROBS, hotwords=nothing).texts == decoder(LOG_PROBS).texts


def test_streams() -> None:
    decoder = CtcDecoder(VOCABULARY, lm=LM)
    for nothing in (0, np.int64(0)):
        with refused(ValueError, "CtcDecoder.stream: batch must be at least 1, got 0"):
            decoder.stream(nothing)
    stream = decoder.stream(2)
    with refused(ValueError, "CtcDecoder.stream: log_probs must have the 2 rows"):
        stream.step(LOG_PROBS[:1])
    with refused(ValueError, "at most 0, got 0.25 in row 0, frame 0"):
        stream.step(np.exp(LOG_PROBS))
    stream.step(LOG_PROBS)  # what was refused has left no trace
    found = stream.finish()
    np.testing.assert_array_equal(found.scores, decoder(LOG_PROBS).scores)
    for method in (lambda: stream.step(LOG_PROBS), stream.finish):
        with refused(ValueError, "must not be called after finish(): begin another one"):
            method()


def test_models_of_the_users_own() -> None:
    def raising(prefixes: Any, lengths: Any, rows: Any) -> Any:
        if lengths.max() > 0:
            raise RuntimeError("mine")
        return np.zeros((len(lengths), 4))

    stream = CtcDecoder(VOCABULARY, lm=raising).stream(2)
    with refused(RuntimeError, "mine"):
        stream.step(LOG_PROBS)
    with refused(ValueError, "after an error in its language model"):
        stream.step(LOG_PROBS)

    wrong: list[tuple[Any, type[Exception], str]] = [
        (lambda p, n, r: np.zeros((len(n), 3)), ValueError, "lm must return [2, 4]"),
        (lambda p, n, r: np.zeros((len(n), 4), int), TypeError, "floating numbers, got int64"),
        (lambda p, n, r: np.full((len(n), 4), np.nan), ValueError, "below infinity, got nan"),
    ]
    for lm, error, message in wrong:
        with refused(error, message):
            CtcDecoder(VOCABULARY, lm=lm)(LOG_PROBS)

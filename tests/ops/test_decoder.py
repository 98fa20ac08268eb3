"""The native search over a decoder against its twin: every instruction set, any threads, odd
shapes, bad input."""

from __future__ import annotations

import inspect
import signal
import time
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from support.decoder_cases import make

from seqfast.ops import decoder as ops
from seqfast.ops.beam_search import BeamOptions, start_beams
from seqfast.reference import beam_search as reference_beams
from seqfast.reference import decoder as reference

RECORDS = ("tokens", "parents", "pool_steps", "pool_parents", "pool_tokens", "pool_counts")
NUMBERS = ("logprobs", "pool_scores", "pool_logprobs", "pool_last")
SETTINGS = {"eos": (0,), "pool": 2, "wanted": 2}


def ours(case: Any, library: str = "numpy") -> Any:
    """The case as the operation takes it."""
    decoder, memory, state, start = case

    def convert(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(convert(item) for item in x)
        if isinstance(x, np.ndarray) and library == "torch":
            return torch.from_numpy(x)
        return x

    return (
        ops.Decoder(*map(convert, decoder)),
        ops.Memory(*map(convert, memory)),
        ops.DecoderState(*map(convert, state)),
        convert(start),
    )


def native(case: Any, width: int, steps: int, library: str = "numpy", **settings: Any) -> Any:
    arguments = ours(case, library)
    head = arguments[0].head
    options = BeamOptions(beams=width, vocabulary=head.shape[0], **(SETTINGS | settings))
    real = np.float64 if str(head.dtype).endswith("64") else np.float32
    beams = start_beams(options, len(case[3]), steps, real, like=head)
    ops.decode(*arguments, beams)
    return {name: np.asarray(getattr(beams, name)) for name in (*RECORDS, *NUMBERS, "done", "step")}


def twin(case: Any, width: int, steps: int, **settings: Any) -> Any:
    head = case[0].head
    options = reference_beams.BeamOptions(
        beams=width, vocabulary=head.shape[0], **(SETTINGS | settings)
    )
    beams = reference_beams.start_beams(options, len(case[3]), steps, head.dtype)
    reference.decode(*case, beams)
    return {field.name: getattr(beams, field.name) for field in fields(beams)}


def check(case: Any, width: int, steps: int = 8, library: str = "numpy", **settings: Any) -> None:
    found = native(case, width, steps, library, **settings)
    wanted = twin(case, width, steps, **settings)
    for name in (*RECORDS, "done", "step"):
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    tolerance = 1e-9 if case[0].head.dtype == np.float64 else 2e-3
    for name in NUMBERS:
        np.testing.assert_allclose(
            found[name], wanted[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


def test_twins_have_the_same_signature() -> None:
    fast, twin = inspect.signature(ops.decode), inspect.signature(reference.decode)
    assert list(fast.parameters) == list(twin.parameters)
    for name in ("Decoder", "Memory", "DecoderState"):
        assert getattr(ops, name)._fields == getattr(reference, name)._fields


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("order", ["fed", "luong", "bahdanau", "plain"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_matches_reference(cpu_isa: str, cell: str, order: str, additive: bool) -> None:
    how: dict[str, Any] = {"input_feeding": order == "fed", "additive": additive}
    how["order"] = "luong" if order == "fed" else order
    check(make(cell, 3, **how), 4)
    check(make(cell, 1, (3,), bias=False, masked=False, seed=1, **how), 1)
    # Units and columns on both sides of vectors, panels and tiles.
    wide = {"embedding_size": 33, "attentional_size": 70, "memory_size": 65, "memory_steps": 18}
    check(make(cell, 5, (33, 17, 64), vocabulary=131, seed=2, **wide, **how), 3)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_float32(cpu_isa: str, cell: str) -> None:
    for seed in range(3):
        case = make(cell, 4, (40, 40), vocabulary=57, dtype="float32", seed=seed)
        check(case, 5, library="torch")


@pytest.mark.parametrize(
    "settings",
    [
        {"stop": "first_k", "pool": 4},
        {"eos_pool": "top2k", "eos": (0, 3), "min_length": 3},
        {"eos_pool": "inbeam", "banned": (2, 5)},
        {"repetition_penalty": 1.4, "no_repeat_ngram": 2},
        {"groups": 2, "diversity": 0.7},
        {"noise": True, "eos_pool": "competing", "pool": 4},
        {"temperature": 0.6, "force_eos": True},
    ],
    ids=str,
)
def test_options_of_the_search(settings: Any) -> None:
    check(make(batch=4), 4, **settings)
    check(make("gru", 2, (9,), additive=True), 4, library="torch", **settings)


def test_relu_and_odd_sizes() -> None:
    check(make("rnn", 3, (5, 4), nonlinearity="relu"), 3)
    check(make(batch=0), 3)
    check(make(batch=2, memory_steps=0, masked=False), 3)
    check(make(batch=2, memory_steps=0, masked=False, additive=True), 3)
    check(make(batch=2), 3, steps=1)
    check(make(batch=1, vocabulary=1), 3)
    check(make(batch=2, hidden=(2,) * 16), 2, steps=3)


def test_arrays_in_any_layout() -> None:
    case = make(batch=3)
    decoder, memory, state, start = ours(case, "torch")
    spread = decoder._replace(head=decoder.head.t().contiguous().t())
    memory = memory._replace(keys=memory.keys.transpose(0, 1).contiguous().transpose(0, 1))
    options = BeamOptions(beams=3, vocabulary=11, **SETTINGS)
    beams = start_beams(options, 3, 8, np.float64, like=decoder.head)
    ops.decode(spread, memory, state, start.int(), beams)
    np.testing.assert_array_equal(beams.tokens.numpy(), twin(case, 3, 8)["tokens"])


def test_same_bits_for_any_threads_and_batch(cpu_isa: str, set_threads: Any) -> None:
    case = make("lstm", 6, (70, 33), vocabulary=300, attentional_size=40, dtype="float32")
    set_threads(1)
    wanted = native(case, 5, 10)
    for count in (2, 3, 5):
        set_threads(count)
        found = native(case, 5, 10)
        for name in (*RECORDS, *NUMBERS):
            np.testing.assert_array_equal(found[name], wanted[name])
    decoder, memory, state, start = case
    for sentence in (0, 3):
        part = slice(sentence, sentence + 1)
        alone = native(
            (
                decoder,
                reference.Memory(*(x[part] for x in memory)),
                reference.DecoderState(*(tuple(x[part] for x in group) for group in state)),
                start[part],
            ),
            5,
            10,
        )
        for name in ("pool_scores", "pool_logprobs", "pool_tokens", "pool_steps"):
            np.testing.assert_array_equal(alone[name], wanted[name][part])


def test_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make(batch=4)
    wanted = native(case, 3, 12)
    monkeypatch.setattr(ops, "_SECONDS_PER_CALL", 0.0)
    found = native(case, 3, 12)
    for name in (*RECORDS, *NUMBERS):
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.alone
@pytest.mark.parametrize(
    ("sizes", "steps", "options"),
    [
        (
            {"batch": 8, "hidden": (200, 200), "vocabulary": 3000, "attentional_size": 200},
            100_000,
            {},
        ),
        ({"batch": 1, "hidden": (4,), "vocabulary": 5, "attentional_size": 3}, 1_000_000, {}),
        # Its steps take longer and longer.
        ({"batch": 1, "hidden": (4,), "vocabulary": 5}, 100_000, {"no_repeat_ngram": 30}),
    ],
    ids=["large", "small", "history"],
)
def test_interrupt(sizes: dict[str, Any], steps: int, options: dict[str, Any]) -> None:
    """Ctrl-C is heard soon, and the next search is not the worse for it."""
    case = make(**sizes, dtype="float32")

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            # Far more steps than the time allows.
            native(case, 4, steps, min_length=steps, **options)
        # Generous: the machine may have other things to do.
        assert time.monotonic() - start < 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    check(make(batch=2), 3)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_sentences_may_leave_before_the_first_step(library: str) -> None:
    decoder, memory, state, start = case = make(batch=2)
    wanted = native(case, 3, 8)
    parts = ours((decoder, memory, state, start), library)
    options = BeamOptions(beams=3, vocabulary=decoder.head.shape[0], **SETTINGS)
    beams = start_beams(options, 400, 8, np.float64, like=parts[0].head)
    keep: Any = np.array([150, 399])
    for name in ("sentence", "scores", "history_start", "next_tokens", "next_rows"):
        setattr(beams, name, getattr(beams, name)[keep])
    ops.decode(*parts, beams)
    for name in ("pool_tokens", "pool_scores", "pool_steps"):
        np.testing.assert_array_equal(np.asarray(getattr(beams, name))[keep], wanted[name])


def test_numbers_that_are_none() -> None:
    decoder, memory, state, start = make(batch=3)
    state.hidden[0][2] = np.nan
    with pytest.raises(ValueError, match=r"decode: logits must not hold NaN or \+inf, got one in"):
        native((decoder, memory, state, start), 2, 4)


def test_bad_input() -> None:
    good = make(batch=2)
    decoder, memory, state, start = ours(good)
    options = BeamOptions(beams=2, vocabulary=11, **SETTINGS)

    def fails(error: type[Exception], message: str, **change: Any) -> None:
        parts = {"decoder": decoder, "memory": memory, "state": state, "start_ids": start}
        beams = start_beams(options, 2, 4, np.float64, like=decoder.head)
        with pytest.raises(error, match=f"decode: {message}"):
            ops.decode(**{**parts, "beams": beams, **change})

    layers = decoder.layers
    wrong = ((layers[0][0][:, 1:], *layers[0][1:]), layers[1])
    fails(TypeError, "embedding must be float32 or float64", decoder=decoder._replace(
        embedding=decoder.embedding.astype(np.float16)))  # fmt: skip
    fails(ValueError, "weight_ih of layer 0 must be .20, 9., got .20, 8.",
          decoder=decoder._replace(layers=wrong))  # fmt: skip
    fails(ValueError, "layers must be 1 to 16, got 0", decoder=decoder._replace(layers=()))
    fails(TypeError, "combine must be a NumPy array, got Tensor", decoder=decoder._replace(
        combine=torch.from_numpy(decoder.combine)))  # fmt: skip
    fails(TypeError, "head_bias must be float64, got float32", decoder=decoder._replace(
        head_bias=decoder.head_bias.astype(np.float32)))  # fmt: skip
    fails(ValueError, "head must have 11 rows, as the search's vocabulary",
          decoder=decoder._replace(head=decoder.head[1:]))  # fmt: skip
    fails(ValueError, "head must have 11 rows.* and 10", decoder=decoder._replace(
        embedding=decoder.embedding[:10]))  # fmt: skip
    fails(ValueError, "keys must be .2, 5, 7., got .2, 4, 7.",
          memory=memory._replace(keys=memory.keys[:, 1:]))  # fmt: skip
    fails(ValueError, "values must be .2, memory_steps, memory_size., got .1, 5, 4.",
          memory=memory._replace(values=memory.values[1:]))  # fmt: skip
    fails(TypeError, "mask must be a NumPy array of bool, got int64",
          memory=memory._replace(mask=memory.mask.astype(int)))  # fmt: skip
    fails(
        ValueError,
        "hidden must hold 2 arrays, got 1",
        state=state._replace(hidden=state.hidden[1:]),
    )
    fails(ValueError, "cell of layer 1 must be .2, 7., got .2, 5.",
          state=state._replace(cell=(state.cell[0], state.cell[0])))  # fmt: skip
    fails(ValueError, "fed must hold 1 arrays, got 0", state=state._replace(fed=()))
    fails(
        TypeError, "start_ids must be a NumPy array of integers, got float64", start_ids=start * 1.0
    )
    fails(ValueError, "start_ids must be .2., got .1.", start_ids=start[1:])
    fails(ValueError, "start_ids must be from 0 to 12, got 13", start_ids=start + 12)
    fails(ValueError, "start_ids must be from 0 to 12, got -1", start_ids=start - 1)
    done = start_beams(options, 2, 4, np.float64, like=decoder.head)
    ops.decode(decoder, memory, state, start, done)
    fails(ValueError, "beams must not have begun", beams=done)
    single = start_beams(options, 2, 4, np.float32, like=decoder.head.astype(np.float32))
    fails(TypeError, "scores of beams must be float64, got float32", beams=single)

"""The CTC decoders against their twin: every instruction set, order of threads and dtype."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cases import Backend

from seqfast.ops import ctc as ops
from seqfast.reference import ctc as reference

INF, NAN = np.inf, np.nan
DTYPES = ("float32", "float64", "float16", "bfloat16")
# The kernels add in float64 whatever the input is; float32 scores are rounded at the end.
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def draw(batch: int, frames: int, vocab: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((batch, frames, vocab)) * scale
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def peaked(batch: int, frames: int, vocab: int, seed: int = 0) -> np.ndarray:
    """As a trained model's: long runs of sure blanks, few frames in doubt."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, frames, vocab))
    best = np.where(rng.random((batch, frames)) < 0.6, 0, rng.integers(0, vocab, (batch, frames)))
    np.put_along_axis(x, best[..., None], rng.uniform(2, 12, (batch, frames, 1)), -1)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def check(
    function: str, backend: Backend, log_probs: np.ndarray, lengths: Any = None, **options: Any
) -> None:
    """The same from tensors, and on the CPU from arrays, as from the twin."""
    wanted = getattr(reference, function)(log_probs, lengths, **options)
    tensor = torch.from_numpy(log_probs).to(backend.device)
    where = None if lengths is None else torch.tensor(lengths, device=backend.device)
    if lm := options.get("lm"):
        options = options | {"lm": on_tensors(lm)}
    found = getattr(ops, function)(tensor, where, **options)
    compare([x.cpu().numpy() for x in found], wanted)
    assert all(x.device.type == backend.device for x in found)
    if backend.device == "cpu":
        lengths = None if lengths is None else np.array(lengths)
        found = getattr(ops, function)(
            log_probs, lengths, **options | {"lm": lm} if lm else options
        )
        compare(found, wanted)


def compare(found: Any, wanted: Any) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_allclose(found[2], wanted[2], **CLOSE)
    np.testing.assert_array_equal(found[3], wanted[3])


def on_tensors(lm: Callable[..., np.ndarray]) -> Callable[..., torch.Tensor]:
    def call(prefixes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        scores = lm(prefixes.cpu().numpy(), lengths.cpu().numpy())
        return torch.from_numpy(scores).to(prefixes.device)

    return call


def bigram(vocab: int, seed: int = 0) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    table = draw(1, vocab + 1, vocab, seed)[0]

    def lm(prefixes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        last = [p[n - 1] if n else vocab for p, n in zip(prefixes, lengths, strict=True)]
        return np.asarray(table[last])

    return lm


def test_twins_have_the_same_signature() -> None:
    for name in ("ctc_greedy", "ctc_beam_search"):
        fast, twin = (inspect.signature(getattr(m, name)).parameters for m in (ops, reference))
        assert list(fast) == list(twin)
        assert [p.default for p in fast.values()] == [p.default for p in twin.values()]


# Vocabularies on both sides of a block of 16 tokens; beams wider than what exists, and narrower.
@pytest.mark.parametrize(
    ("batch", "frames", "vocab", "beam_size"),
    [
        (1, 1, 1, 1),
        (2, 5, 1, 3),
        (3, 7, 2, 1),
        (2, 11, 3, 8),
        (1, 9, 16, 7),
        (2, 13, 17, 16),
        (3, 20, 31, 5),
        (1, 12, 40, 33),
        (1, 6, 130, 20),
    ],
)
def test_matches_reference(
    kernels: Backend, batch: int, frames: int, vocab: int, beam_size: int
) -> None:
    for maker in (draw, peaked):
        log_probs = maker(batch, frames, vocab, seed=frames)
        check("ctc_greedy", kernels, log_probs)
        check("ctc_beam_search", kernels, log_probs, beam_size=beam_size, n_best=beam_size)


@pytest.mark.parametrize("blank", [0, 5, 19])
def test_prunes_as_the_reference(kernels: Backend, blank: int) -> None:
    log_probs = np.concatenate([draw(2, 12, 20, 1), peaked(2, 12, 20, 2)])
    lengths = [12, 5, 0, 11]
    for options in (
        {"top_n": 1},
        {"top_n": 4},
        {"top_n": 19},
        {"top_n": 30},
        {"min_log_prob": -3.0},
        {"min_log_prob": 5.0},
        {"beam_threshold": 1.5},
        {"beam_threshold": 0.0},
        {"top_n": 6, "min_log_prob": -2.5, "beam_threshold": 4.0},
    ):
        settings: Any = {"beam_size": 9, "n_best": 4, "blank": blank} | options
        check("ctc_beam_search", kernels, log_probs, lengths, **settings)
    check("ctc_greedy", kernels, log_probs, lengths, blank=blank)


@functools.cache
def large_cases() -> list[tuple[np.ndarray, dict[str, Any], Any]]:
    """Many frames, many tokens; once for all instruction sets, as the twin takes its time."""
    cases = []
    for log_probs in (draw(1, 100, 28, 4, scale=3.0), peaked(1, 120, 60, 5)):
        cases += [(log_probs, {"beam_size": 12, "n_best": 12, "top_n": n}) for n in (None, 8)]
    log_probs = draw(1, 4, 1000, 8)
    for top_n in (None, 5, 200):
        cases += [(log_probs, {"beam_size": k, "top_n": top_n}) for k in (3, 30)]
    return [(x, options, reference.ctc_beam_search(x, **options)) for x, options in cases]


def test_matches_reference_on_large_cases(cpu_isa: str) -> None:
    for log_probs, options, wanted in large_cases():
        compare(ops.ctc_beam_search(log_probs, **options), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(kernels: Backend, dtype: str) -> None:
    tensor = torch.from_numpy(draw(2, 10, 18, 3)).to(getattr(torch, dtype)).to(kernels.device)
    wide = tensor.double().cpu().numpy()
    for function, options in (("ctc_greedy", {}), ("ctc_beam_search", {"beam_size": 6})):
        wanted = getattr(reference, function)(wide, **options)
        found = getattr(ops, function)(tensor, **options)
        scores = torch.float64 if dtype == "float64" else torch.float32
        assert [x.dtype for x in found] == [torch.int64, torch.int64, scores, torch.int64]
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.cpu().numpy(), other, **CLOSE)
    if dtype != "bfloat16":
        array = tensor.cpu().numpy()
        for one, other in zip(ops.ctc_beam_search(array, beam_size=6), found, strict=True):
            np.testing.assert_array_equal(one, other.cpu().numpy())


def test_language_model(kernels: Backend) -> None:
    log_probs = np.concatenate([draw(2, 9, 12, 1), peaked(1, 9, 12, 2)])
    for weight in (0.5, -0.3, 0.0):
        for options in ({}, {"top_n": 5, "beam_threshold": 6.0}):
            settings: Any = {"beam_size": 7, "n_best": 3, "lm_weight": weight} | options
            check("ctc_beam_search", kernels, log_probs, [9, 3, 0], lm=bigram(12), **settings)
    forbidding = bigram(12)

    def no_sevens(prefixes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        scores = forbidding(prefixes, lengths)
        scores[:, 7] = -INF
        return scores

    check("ctc_beam_search", kernels, log_probs, beam_size=7, n_best=3, lm=no_sevens)


def test_language_model_is_asked_once_for_what_is_new() -> None:
    asked: list[tuple[int, ...]] = []
    lm = bigram(6)

    def recording(prefixes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        assert prefixes.dtype == lengths.dtype == np.int64
        assert prefixes.shape == (len(lengths), lengths.max())
        asked.extend(tuple(p[:n]) for p, n in zip(prefixes, lengths, strict=True))
        assert all((p[n:] == 0).all() for p, n in zip(prefixes, lengths, strict=True))
        return lm(prefixes, lengths)

    ops.ctc_beam_search(draw(1, 5, 6), beam_size=10**4, lm=recording)
    assert len(asked) == len(set(asked)) > 100
    asked.clear()
    ops.ctc_beam_search(draw(3, 1, 6), beam_size=4, lm=recording)
    assert asked == [(), (), ()]


def test_strides(kernels: Backend) -> None:
    log_probs = draw(3, 8, 10).astype(np.float32)
    wanted = reference.ctc_beam_search(log_probs, beam_size=5)
    dense = torch.from_numpy(log_probs).to(kernels.device)
    wide = torch.zeros(3, 16, 15, device=kernels.device)
    wide[:, ::2, 2:12] = dense
    views = [dense.transpose(0, 1).contiguous().transpose(0, 1), wide[:, ::2, 2:12]]
    views += [dense.permute(2, 0, 1).contiguous().permute(1, 2, 0), dense.clone().requires_grad_()]
    for view in views:
        compare([x.cpu().numpy() for x in ops.ctc_beam_search(view, beam_size=5)], wanted)
        greedy = ops.ctc_greedy(view)
        compare([x.cpu().numpy() for x in greedy], reference.ctc_greedy(log_probs))
    repeated = dense[:1].expand(4, -1, -1)
    found = ops.ctc_beam_search(repeated, beam_size=5)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.cpu().numpy(), np.repeat(other[:1], 4, 0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_rows_that_overlap(kernels: Backend, dtype: str) -> None:
    """Strides that a change of dtype would keep in another order."""
    numbers = -torch.randn(100, device=kernels.device).abs().to(getattr(torch, dtype))
    view = numbers.as_strided((2, 3, 5), (15, 1, 1))
    for function, options in ((ops.ctc_greedy, {}), (ops.ctc_beam_search, {"beam_size": 4})):
        dense = function(view.contiguous(), **options)
        for one, other in zip(function(view, **options), dense, strict=True):
            assert torch.equal(one, other)
        twin = getattr(reference, function.__name__)(view.double().cpu().numpy(), **options)
        for one, other in zip(dense, twin, strict=True):
            np.testing.assert_allclose(one.cpu().numpy(), other, **CLOSE)


def test_empty(kernels: Backend) -> None:
    for batch, frames, vocab in ((0, 5, 3), (2, 0, 3), (0, 0, 1)):
        log_probs = torch.zeros(batch, frames, vocab, device=kernels.device)
        tokens, lengths, scores, timesteps = ops.ctc_beam_search(log_probs, beam_size=3, n_best=2)
        assert tokens.shape == timesteps.shape == (batch, 2, frames)
        assert lengths.tolist() == [[0, 0]] * batch
        assert scores.tolist() == [[0, -INF]] * batch
        tokens, lengths, scores, timesteps = ops.ctc_greedy(log_probs)
        assert tokens.shape == timesteps.shape == (batch, frames)
        assert scores.tolist() == [0] * batch
        with_lm = ops.ctc_beam_search(log_probs, lm=on_tensors(bigram(vocab)))
        assert with_lm[2].tolist() == [[0]] * batch


def test_impossible_frames(kernels: Backend) -> None:
    log_probs = draw(3, 6, 5)
    log_probs[0, 2] = -INF  # no alignment is left
    log_probs[1, 3, 1:] = -INF  # only the blank
    log_probs[2, 4, 0] = -INF  # no blank
    log_probs[2, :, 2] = -INF
    for options in ({}, {"top_n": 2}, {"min_log_prob": -1.0}, {"beam_threshold": 3.0}):
        check("ctc_beam_search", kernels, log_probs, beam_size=8, n_best=8, **options)
    check("ctc_greedy", kernels, log_probs)


def test_far_apart(kernels: Backend) -> None:
    """Probabilities that no float64 can hold, and log-probabilities that are not normalised."""
    log_probs = draw(2, 8, 6) * 300
    log_probs[1] -= 1e4
    check("ctc_beam_search", kernels, log_probs, beam_size=10, n_best=10)
    check(
        "ctc_beam_search", kernels, np.ascontiguousarray(log_probs[:, :3]), beam_size=500, n_best=90
    )


def test_equal_log_probs(kernels: Backend) -> None:
    log_probs = np.full((1, 1, 9), -np.log(9.0))
    check("ctc_beam_search", kernels, log_probs, beam_size=20, n_best=20)
    check("ctc_beam_search", kernels, log_probs, beam_size=4, n_best=4)
    log_probs = np.full((2, 7, 9), -np.log(9.0))
    check("ctc_greedy", kernels, log_probs)
    check("ctc_greedy", kernels, log_probs, blank=3)
    for top_n in (1, 3):
        check("ctc_beam_search", kernels, log_probs, beam_size=4, top_n=top_n, blank=8)
    sure = np.full((1, 6, 4), -INF)
    for t, token in enumerate([1, 1, 0, 1, 3, 2]):
        sure[0, t, token] = 0
    check("ctc_beam_search", kernels, sure, beam_size=5, n_best=5)


def test_nothing_that_is_no_log_probability(kernels: Backend) -> None:
    for bad in (NAN, INF, 0.0011, 1.0):
        for frame, token in ((0, 0), (4, 2), (7, 19)):
            log_probs = draw(3, 8, 20)
            log_probs[1, frame, token] = bad
            tensor = torch.from_numpy(log_probs).to(kernels.device)
            # Behind the end of a row it does not matter.
            lengths = torch.tensor([8, frame, 8], device=kernels.device)
            wanted = reference.ctc_beam_search(log_probs, lengths.tolist(), beam_size=4)
            fine = ops.ctc_beam_search(tensor, lengths, beam_size=4)
            compare([x.cpu().numpy() for x in fine], wanted)
            for function, options in (("ctc_greedy", {}), ("ctc_beam_search", {"beam_size": 4})):
                call = getattr(ops, function)
                if kernels.name == "cpu":
                    message = f"{function}: log_probs .* got {bad:g} in row 1, frame {frame}"
                    if bad <= 1:
                        message += (
                            r"; of logits pass .log_softmax\(-1\), of probabilities .*np.log.*"
                        )
                    message += "$"
                    for x in (tensor, log_probs):
                        with pytest.raises(ValueError, match=message):
                            call(x, **options)
                else:
                    _, counts, scores, _ = call(tensor, **options)
                    assert counts[1].sum() == 0
                    assert scores[1].isnan().all()
                    assert scores[[0, 2]].isfinite().all()


def test_any_batch_and_any_number_of_threads(cpu_isa: str, set_threads: Any) -> None:
    log_probs = np.concatenate([draw(3, 40, 30, 1), peaked(4, 40, 30, 2)]).astype(np.float32)
    lengths = np.array([40, 3, 0, 21, 40, 39, 8])
    options: Any = {"beam_size": 12, "n_best": 3}
    for extra in ({}, {"top_n": 7}, {"lm": bigram(30)}):
        results = []
        for count in (1, 2, 3, 7):
            set_threads(count)
            results.append(ops.ctc_beam_search(log_probs, lengths, **options, **extra))
        alone = [
            ops.ctc_beam_search(log_probs[r : r + 1], lengths[r : r + 1], **options, **extra)
            for r in range(7)
        ]
        results.append(tuple(np.concatenate(parts) for parts in zip(*alone, strict=True)))
        for other in results[1:]:
            for one, two in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(one, two)


def test_beams_of_any_width(kernels: Backend) -> None:
    log_probs = draw(1, 5, 12, 6)
    for beam_size in (2, 15, 16, 17, 100, 1024):
        check("ctc_beam_search", kernels, log_probs, beam_size=beam_size, n_best=beam_size)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_anything(kernels: Backend, data: st.DataObject) -> None:
    batch, frames, vocab = (data.draw(st.integers(1, most)) for most in (3, 9, 21))
    log_probs = draw(batch, frames, vocab, data.draw(st.integers(0, 10**6)))
    if data.draw(st.booleans()):
        log_probs[np.random.default_rng(0).random(log_probs.shape) < 0.4] = -INF
    options: Any = {
        "beam_size": data.draw(st.integers(1, 25)),
        "blank": data.draw(st.integers(0, vocab - 1)),
        "top_n": data.draw(st.none() | st.integers(1, vocab)),
        "min_log_prob": data.draw(st.none() | st.floats(-6, 0)),
        "beam_threshold": data.draw(st.none() | st.floats(0, 8)),
    }
    options["n_best"] = data.draw(st.integers(1, options["beam_size"]))
    if data.draw(st.booleans()):
        options |= {"lm": bigram(vocab), "lm_weight": data.draw(st.floats(-1, 2))}
    lengths = data.draw(
        st.none() | st.lists(st.integers(0, frames), min_size=batch, max_size=batch)
    )
    check("ctc_beam_search", kernels, log_probs, lengths, **options)


def test_other_integers_as_lengths(backend: Backend) -> None:
    log_probs = draw(2, 4, 5)
    wanted = reference.ctc_beam_search(log_probs, [4, 2], beam_size=3)
    others = [np.array([4, 2], dtype) for dtype in (np.int32, np.uint8, ">i2")]
    others += [[4, 2], (4, 2), torch.tensor([4, 2], device="cpu"), [np.int64(4), 2]]
    for lengths in others:
        if backend.device == "cpu":
            compare(ops.ctc_beam_search(log_probs, lengths, beam_size=3), wanted)
        tensor = torch.from_numpy(log_probs).to(backend.device)
        found = ops.ctc_beam_search(tensor, lengths, beam_size=3)
        compare([x.cpu().numpy() for x in found], wanted)
    assert ops.ctc_greedy(log_probs[:0], [])[0].shape == (0, 4)


def test_what_rounding_leaves_of_log_one(kernels: Backend) -> None:
    log_probs = draw(2, 5, 6)
    log_probs[1, 2] = [1e-6, -20, -20, 9e-4, -20, -20]
    check("ctc_greedy", kernels, log_probs)
    check("ctc_beam_search", kernels, log_probs, beam_size=5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_and_probabilities_are_refused(cpu_isa: str, dtype: str) -> None:
    logits = torch.randn(3, 7, 40)
    for values in (logits, logits.softmax(-1), logits[..., :3]):
        for function in (ops.ctc_greedy, ops.ctc_beam_search):
            with pytest.raises(ValueError, match="log_probs must be logarithms of probabilities"):
                function(values.to(getattr(torch, dtype)))


Z = torch.zeros(2, 4, 5)


def returning(value: Any) -> dict[str, Any]:
    return {"lm": lambda prefixes, lengths: value}


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    ((Z[0],), {}, ValueError, r"log_probs must be \[batch, frames, vocab\], got \[4, 5\]"),
    (([1.0],), {}, TypeError, "log_probs must be a NumPy array or a torch tensor, got list"),
    ((Z.long(),), {}, TypeError, "log_probs must be float32, float64, .*, got torch.int64"),
    ((Z.to("meta"),), {}, ValueError, "log_probs must be a dense array .*, got meta"),
    ((Z,), {"blank": 5}, ValueError, "blank must be from 0 to 4, a token of the vocabulary, got 5"),
    ((Z,), {"blank": -1}, ValueError, "blank must be from 0 to 4, a token of the vocabulary, got"),
    ((Z[..., :0],), {}, ValueError, "blank must be from 0 to -1, a token of the vocabulary, got 0"),
    ((Z,), {"blank": 0.5}, TypeError, "blank must be an integer, got 0.5"),
    ((Z, torch.tensor([4])), {}, ValueError, r"lengths must be \[2\], got \[1\]"),
    ((Z, torch.tensor([5, 0])), {}, ValueError, "lengths must be from 0 to 4, got 5"),
    ((Z, torch.tensor([0, -1])), {}, ValueError, "lengths must be from 0 to 4, got -1"),
    ((Z, torch.tensor([0.0, 1.0])), {}, TypeError, "lengths must be integers, got torch.float32"),
    ((Z, [4]), {}, ValueError, r"lengths must be \[2\], got \[1\]"),
    ((Z, (4, 5)), {}, ValueError, "lengths must be from 0 to 4, got 5"),
    ((Z, [4.0, 4.0]), {}, TypeError, r"lengths must be integers, .* or a tuple, got \[4.0, 4.0\]"),
    ((Z, [True, False]), {}, TypeError, "lengths must be integers, .* a list or a tuple, got"),
    ((Z, [[1], [2, 3]]), {}, TypeError, "lengths must be integers on the CPU: "),
    ((Z, 4), {}, TypeError, "lengths must be integers, in a torch tensor, a list or a tuple, got"),
    ((Z, "ab"), {}, TypeError, "lengths must be integers, in a torch tensor, .*, got 'ab'"),
]
BAD_SEARCH: list[tuple[Any, Any, type[Exception], str]] = [
    ((Z,), {"beam_size": 0}, ValueError, "beam_size must be at least 1, got 0"),
    ((Z,), {"beam_size": 2.0}, TypeError, "beam_size must be an integer, got 2.0"),
    ((Z,), {"beam_size": 2**40}, ValueError, "frames times beam_size, .* below .* got 4 \\*"),
    ((Z,), {"beam_size": 3, "n_best": 4}, ValueError, "n_best must be from 1 to 3, the beam_size"),
    ((Z,), {"n_best": 0}, ValueError, "n_best must be from 1 to 50, the beam_size, got 0"),
    ((Z,), {"top_n": 0}, ValueError, "top_n must be at least 1, got 0"),
    ((Z,), {"min_log_prob": NAN}, ValueError, "min_log_prob must be a number, got nan"),
    ((Z,), {"min_log_prob": "x"}, TypeError, "min_log_prob must be a number, got 'x'"),
    ((Z,), {"min_log_prob": "1"}, TypeError, "min_log_prob must be a number, got '1'"),
    (
        (Z,),
        {"beam_threshold": -1},
        ValueError,
        "beam_threshold must be a number, at least 0, got -1",
    ),
    ((Z,), {"lm": 3}, TypeError, "lm must be callable, got int"),
    ((Z,), {"lm_weight": INF}, ValueError, "lm_weight must be a finite number, got inf"),
    ((Z,), returning(np.zeros((2, 5))), TypeError, "lm must return a torch tensor, got ndarray"),
    ((Z,), returning(torch.zeros(2, 4)), ValueError, r"lm must return \[2, 5\], got \[2, 4\]"),
    (
        (Z,),
        returning(Z[:, 0].long()),
        TypeError,
        "lm must return floating numbers, got torch.int64",
    ),
    (
        (Z,),
        returning(Z[:, 0] + NAN),
        ValueError,
        "lm_weight times the result of lm must be below infinity, not NaN",
    ),
    (
        (Z,),
        returning(Z[:, 0] - INF) | {"lm_weight": -1},
        ValueError,
        "lm_weight times the result of lm must be below infinity",
    ),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD, ids=[b[3] for b in BAD])
def test_bad_input(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    for function in (ops.ctc_greedy, ops.ctc_beam_search):
        with pytest.raises(error, match=f"^{function.__name__}: {message}"):
            function(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"), BAD_SEARCH, ids=[b[3] for b in BAD_SEARCH]
)
def test_bad_search(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^ctc_beam_search: {message}"):
        ops.ctc_beam_search(*arguments, **options)


def test_a_language_model_that_raises_is_heard() -> None:
    def broken(prefixes: Any, lengths: Any) -> Any:
        if prefixes.shape[1]:
            raise RuntimeError("out of order")
        return np.zeros((len(lengths), 5))

    log_probs = draw(2, 6, 5)
    with pytest.raises(RuntimeError, match="out of order"):
        ops.ctc_beam_search(log_probs, lm=broken)
    compare(ops.ctc_beam_search(log_probs), reference.ctc_beam_search(log_probs))

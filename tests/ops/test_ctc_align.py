"""The alignment of given tokens against its twin: every instruction set, thread order, dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cases import Backend
from support.ctc_cases import log_softmax

from seqfast.ops import ctc as ops
from seqfast.ops.ctc import functions
from seqfast.reference import ctc as reference

NAN, INF = np.nan, np.inf


def draw(*shape: int, seed: int = 0) -> Any:
    return log_softmax(np.random.default_rng(seed).standard_normal(shape) * 2)


def tokens_for(lengths: Any, longest: int, vocab: int, blank: int = 0, seed: int = 0) -> Any:
    """Targets, some of them repeated, and as many as fit the lengths."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, max(vocab - 1, 1), (len(lengths), longest))
    targets += targets >= blank
    again = rng.random(targets.shape) < 0.3
    for i in range(1, longest):
        targets[:, i] = np.where(again[:, i], targets[:, i - 1], targets[:, i])
    counts = rng.integers(0, longest + 1, len(lengths)) if vocab > 1 else [0] * len(lengths)
    for row, most in enumerate(lengths):
        repeats = np.cumsum(targets[row, 1:] == targets[row, :-1])
        needed = np.arange(longest + 1) + np.concatenate([[0, 0], repeats])[: longest + 1]
        counts[row] = min(counts[row], int((needed <= most).sum()) - 1)
    return targets, np.array(counts)


def check(backend: Backend, log_probs: Any, targets: Any, *lengths: Any, **options: Any) -> None:
    """In every bit the twin's: there is nothing but sums in one order, and comparisons."""
    wanted = reference.ctc_align(log_probs, targets, *lengths, **options)
    tensors = [
        None if x is None else torch.as_tensor(np.array(x), device=backend.device)
        for x in (log_probs, targets, *lengths)
    ]
    found = ops.ctc_align(*tensors, **options)
    assert all(x.device.type == backend.device for x in found)
    results = [tuple(x.cpu().numpy() for x in found)]
    if backend.device == "cpu":
        results.append(ops.ctc_align(log_probs, targets, *lengths, **options))
    for result in results:
        for one, other in zip(result, wanted, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.fixture(params=[None, 1, 2, 5, 16], ids=lambda block: f"block-{block}")
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of how many frames states are kept at a time; short cases would all fit."""
    if request.param:
        monkeypatch.setattr(functions, "_block", lambda frames, longest: request.param)


# Tokens on both sides of a vector's and of a block's; as many as there are frames.
@pytest.mark.parametrize(
    ("batch", "frames", "vocab", "longest"),
    [(1, 1, 2, 1), (3, 7, 3, 3), (2, 17, 5, 8), (2, 33, 12, 16), (1, 40, 30, 40), (4, 25, 9, 0)],
)
@pytest.mark.usefixtures("block")
def test_matches_reference(
    kernels: Backend, batch: int, frames: int, vocab: int, longest: int
) -> None:
    log_probs = draw(batch, frames, vocab, seed=frames)
    full, counts = tokens_for([frames] * batch, longest, vocab, seed=longest)
    check(kernels, log_probs, full, None, counts)
    lengths = np.random.default_rng(1).integers(0, frames + 1, batch)
    targets, counts = tokens_for(lengths, longest, vocab, vocab - 1, seed=longest)
    check(kernels, log_probs, targets, lengths, counts, blank=vocab - 1)


def test_many_frames(kernels: Backend) -> None:
    """So many that not all states are kept."""
    frames, longest = (3001, 150) if kernels.name == "cpu" else (1100, 40)
    log_probs = draw(2, frames, 20, seed=1)
    targets, counts = tokens_for([frames, 500], longest, 20)
    counts[0] = longest
    if kernels.name == "cpu":
        assert functions._block(frames, longest) == 64
    check(kernels, log_probs, targets, [frames, 500], counts)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_anything(kernels: Backend, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    batch, frames, vocab, longest = (data.draw(st.integers(1, most)) for most in (3, 20, 9, 12))
    seed, blank = data.draw(st.integers(0, 10**6)), data.draw(st.integers(0, vocab - 1))
    log_probs = draw(batch, frames, vocab, seed=seed)
    if data.draw(st.booleans()):
        log_probs[np.random.default_rng(seed).random(log_probs.shape) < 0.2] = -INF
    if data.draw(st.booleans()):
        log_probs = np.round(log_probs)  # ties
    lengths = data.draw(st.lists(st.integers(0, frames), min_size=batch, max_size=batch))
    targets, counts = tokens_for(lengths, longest, vocab, blank, seed)
    size = data.draw(st.integers(1, 25))
    with monkeypatch.context() as patch:
        patch.setattr(functions, "_block", lambda frames, longest: size)
        check(kernels, log_probs, targets, lengths, counts, blank=blank)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_dtypes(kernels: Backend, dtype: str) -> None:
    tensor = torch.from_numpy(draw(2, 20, 9)).to(getattr(torch, dtype)).to(kernels.device)
    targets, _ = tokens_for([20, 20], 6, 9)
    wanted = reference.ctc_align(tensor.double().cpu().numpy(), targets)
    found = ops.ctc_align(tensor, torch.tensor(targets, device=kernels.device))
    scores = torch.float64 if dtype == "float64" else torch.float32
    assert [x.dtype for x in found] == [torch.int64, torch.int64, scores, scores]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.cpu().numpy(), other.astype(one.cpu().numpy().dtype))


def test_strides(kernels: Backend) -> None:
    log_probs = draw(3, 8, 10).astype(np.float32)
    targets, _ = tokens_for([8] * 3, 4, 10)
    wanted = reference.ctc_align(log_probs, targets)
    dense = torch.from_numpy(log_probs).to(kernels.device)
    tokens = torch.tensor(targets, device=kernels.device)
    wide = torch.zeros(3, 16, 15, device=kernels.device)
    wide[:, ::2, 2:12] = dense
    for view in (
        dense.transpose(0, 1).contiguous().transpose(0, 1),
        wide[:, ::2, 2:12],
        dense.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        dense.clone().requires_grad_(),
    ):
        for layout in (tokens, tokens.int(), tokens.t().contiguous().t()):
            for one, other in zip(ops.ctc_align(view, layout), wanted, strict=True):
                assert not one.requires_grad
                np.testing.assert_array_equal(one.cpu().numpy(), other)


def test_layouts_of_targets(backend: Backend) -> None:
    log_probs = torch.from_numpy(draw(3, 9, 6)).to(backend.device)
    rows = [[1, 2, 2], [], [5]]
    padded = [[1, 2, 2], [0, 0, 0], [5, 7, -1]]
    wanted = ops.ctc_align(log_probs, padded, None, [3, 0, 1])
    flat = [token for row in rows for token in row]
    others = [np.array(padded), torch.tensor(padded, device="cpu"), flat, np.array(flat, np.uint8)]
    others += [torch.tensor(padded, device=backend.device)]
    others += [torch.tensor(flat, device=backend.device)]
    for targets in others:
        for counts in ([3, 0, 1], np.array([3, 0, 1]), torch.tensor([3, 0, 1], device="cpu")):
            for one, other in zip(
                ops.ctc_align(log_probs, targets, None, counts), wanted, strict=True
            ):
                assert torch.equal(one, other)
    nothing = ops.ctc_align(log_probs, [], None, [0, 0, 0])
    assert nothing[0].tolist() == [[0] * 9] * 3


def test_empty(kernels: Backend) -> None:
    for batch, frames, vocab, longest in ((0, 5, 3, 2), (2, 0, 3, 0), (0, 0, 1, 0), (2, 4, 1, 0)):
        log_probs = torch.zeros(batch, frames, vocab, device=kernels.device)
        targets = torch.zeros(batch, longest, dtype=torch.int64, device=kernels.device)
        paths, spans, token_scores, scores = ops.ctc_align(log_probs, targets)
        assert paths.tolist() == [[0] * frames] * batch
        assert spans.shape == (batch, longest, 2)
        assert token_scores.shape == (batch, longest)
        assert scores.tolist() == [0] * batch
    nothing = np.zeros(0, np.int64)
    check(kernels, np.zeros((0, 5, 3)), nothing, None, nothing)


def test_rows_that_cannot_be_aligned(kernels: Backend) -> None:
    """On the CPU they are errors that name the row; on a GPU they have NaN, and others are fine."""
    log_probs = draw(3, 6, 5)
    targets = np.array([[1, 2, 3, 3], [2, 2, 2, 4], [4, 3, 2, 1]])
    fine: Any = (log_probs, targets, [6, 6, 6], [4, 3, 4])
    bad: list[tuple[int, Any, str]] = [
        (1, {2: [6, 5, 6], 3: [4, 4, 4]}, "row 1 has 5 frames, but its 4 tokens, 2 of them rep"),
        (0, {2: [4, 6, 6]}, "row 0 has 4 frames, but its 4 tokens, 1 of them repeated"),
        (2, {1: (2, 3, 0)}, "targets must be tokens from 0 to 4 and not the blank, got 0 in row 2"),
        (2, {1: (2, 1, 5)}, "targets must be tokens .*, got 5 in row 2, place 1$"),
        (2, {1: (2, 0, -1)}, "targets must be tokens .*, got -1 in row 2, place 0$"),
        (1, {0: (1, 5, 2, NAN)}, "log_probs must hold numbers below infinity, got nan in row 1, f"),
        (1, {0: (1, 5, 0, INF)}, "log_probs must hold .* got inf in row 1, frame 5"),
        (1, {0: (1, 3, 2, 0.5)}, "log_probs must be logarithms .* got 0.5 in row 1, frame 3; of"),
    ]  # fmt: skip
    for row, changes, message in bad:
        arguments = [np.array(x) for x in fine]
        for place, change in changes.items():
            if change is not None and isinstance(change, tuple):
                arguments[place][change[:-1]] = change[-1]
            elif change is not None:
                arguments[place] = np.array(change)
        with pytest.raises(ValueError, match=f"row {row}|of row {row}"):
            reference.ctc_align(*arguments)
        tensors = [torch.from_numpy(x).to(kernels.device) for x in arguments]
        if kernels.name == "cpu":
            for given_ in (arguments, tensors):
                with pytest.raises(ValueError, match=f"^ctc_align: {message}"):
                    ops.ctc_align(*given_)
            continue
        paths, spans, token_scores, scores = ops.ctc_align(*tensors)
        assert scores.isnan().nonzero().flatten().tolist() == [row]
        assert token_scores[row, :3].isnan().all()
        assert (paths[row] == -1).all()
        assert (spans[row] == -1).all()
        assert (paths[(row + 1) % 3] >= 0).any()
    # What nobody asks for does not matter.
    log_probs[1, 2, 1], log_probs[0, 0, 4] = NAN, 7
    check(kernels, *fine)


def test_impossible_rows(kernels: Backend) -> None:
    log_probs = draw(3, 6, 5)
    log_probs[0, 2] = -INF
    log_probs[1, :, 2] = -INF
    check(kernels, log_probs, np.array([[1, 3], [1, 2], [1, 2]]))


def test_any_number_of_threads(cpu_isa: str, set_threads: Any) -> None:
    log_probs, lengths = draw(7, 400, 30).astype(np.float32), [400, 90, 0, 399, 20, 400, 1]
    targets, counts = tokens_for(lengths, 60, 30)
    wanted = reference.ctc_align(log_probs, targets, lengths, counts)
    for count in (1, 2, 3, 7):
        set_threads(count)
        for one, other in zip(
            ops.ctc_align(log_probs, targets, lengths, counts), wanted, strict=True
        ):
            np.testing.assert_array_equal(one, other)


Z = torch.zeros(2, 4, 5)
T = torch.tensor([[1, 2], [1, 2]])
BAD: list[tuple[Any, type[Exception], str]] = [
    ((Z, T.float()), TypeError, "targets must be integers, got torch.float32"),
    ((Z, [[1.5]]), TypeError, "targets must be integers, in a torch tensor, a list or a tuple"),
    ((Z, [[1], [1, 2]]), TypeError, "targets must be integers on the CPU: "),
    ((Z, T[:1]), ValueError, r"targets must be \[2, longest\], got \[1, 2\]"),
    ((Z, T[None]), ValueError, r"targets must be \[batch, longest\] or \[sum of target_lengths\]"),
    ((Z, T.to("meta")), ValueError, "targets must be a dense array on the CPU, got meta"),
    ((Z, T[0]), ValueError, "targets one after the other need target_lengths on the CPU"),
    ((Z, T[0], None, [1, 0]), ValueError, r"targets must be \[1\], the sum of target_lengths, got"),
    ((Z, T, None, [1]), ValueError, r"target_lengths must be \[2\], got \[1\]"),
    ((Z, T, None, [1, 3]), ValueError, "target_lengths must be from 0 to 2, got 3"),
    ((Z, T, None, [1, -1]), ValueError, "target_lengths must be from 0 to 2, got -1"),
    ((Z, T, [5, 1]), ValueError, "lengths must be from 0 to 4, got 5"),
    ((Z[0], T), ValueError, r"log_probs must be \[batch, frames, vocab\], got \[4, 5\]"),
    ((Z.long(), T), TypeError, "log_probs must be float32"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_bad_input(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^ctc_align: {message}"):
        ops.ctc_align(*arguments)

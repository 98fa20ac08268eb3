"""The twins of CTC's alignment and loss against the definition, every alignment, and torch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.ctc_cases import alignments_of, by_definition, log_softmax

from seqfast.reference.ctc import ctc_align, ctc_loss


def draw(*shape: int, seed: int = 0, scale: float = 1.5) -> np.ndarray:
    return log_softmax(np.random.default_rng(seed).standard_normal(shape) * scale)


CASES = [
    (1, 3, [1]), (1, 3, []), (4, 3, [1, 2]), (5, 3, [1, 1]), (6, 3, [2, 1, 2]), (6, 4, [3]),
    (7, 3, [1, 1, 1, 2]), (5, 3, []), (7, 3, [1, 1, 2, 2, 1]), (4, 2, [1, 1]), (3, 4, [1, 2, 3]),
]  # fmt: skip
IDS = [f"{frames}-{vocab}-{target}" for frames, vocab, target in CASES]


@pytest.mark.parametrize(("frames", "vocab", "target"), CASES, ids=IDS)
def test_alignment_is_the_best_of_all(frames: int, vocab: int, target: list[int]) -> None:
    for seed in range(5):
        logp = draw(frames, vocab, seed=seed)
        targets = np.array([target], np.int64).reshape(1, -1)
        paths, spans, token_scores, scores = ctc_align(logp[None], targets)
        path, wanted, score = by_definition(logp, target)
        assert tuple(paths[0]) == path
        assert spans[0].tolist() == [list(span) for span in wanted]
        assert scores[0] == pytest.approx(score, rel=1e-12)
        means = [logp[a : b + 1, c].mean() for (a, b), c in zip(wanted, target, strict=True)]
        np.testing.assert_allclose(token_scores[0], means, rtol=1e-12)


@pytest.mark.parametrize("blank", [1, 2])
def test_another_blank(blank: int) -> None:
    logp = draw(6, 3)
    for target in ([0], [0, 0], [0, 3 - blank]):
        paths, _, _, scores = ctc_align(logp[None], np.array([target]), blank=blank)
        path, _, score = by_definition(logp, target, blank)
        assert tuple(paths[0]) == path
        assert scores[0] == pytest.approx(score)


def test_rows_of_a_batch_are_rows_alone() -> None:
    logp = draw(3, 8, 5)
    targets, lengths, counts = np.array([[1, 2, 3], [4, 4, -9], [0, 0, 0]]), [8, 4, 0], [3, 2, 0]
    together = ctc_align(logp, targets, lengths, counts)
    one_after_the_other = ctc_align(logp, np.array([1, 2, 3, 4, 4]), lengths, counts)
    for row in range(3):
        n, m = lengths[row], counts[row]
        alone = ctc_align(logp[row : row + 1, :n], targets[row : row + 1, :m])
        for results in (together, one_after_the_other):
            for found, wanted in zip(results, alone, strict=True):
                found = found[row]
                if found.ndim:
                    np.testing.assert_array_equal(found[: wanted.shape[1]], wanted[0])
                    assert (
                        found[wanted.shape[1] :] == (0 if found.dtype.kind == "f" else -1)
                    ).all()
                else:
                    assert found == wanted[0]


def test_equal_alignments() -> None:
    """The blank comes last, and what may stay has stayed."""
    logp = np.full((1, 4, 3), -np.log(3.0))
    assert ctc_align(logp, np.array([[1, 2]]))[0].tolist() == [[1, 2, 0, 0]]
    assert ctc_align(logp, np.array([[1, 1]]))[0].tolist() == [[1, 0, 1, 0]]


def test_what_cannot_be_aligned() -> None:
    logp = draw(2, 3, 4)
    with pytest.raises(ValueError, match="row 1 needs 4 frames, has 3"):
        ctc_align(logp, np.array([[1, 2, 3], [1, 1, 2]]))
    with pytest.raises(ValueError, match="token 1 of row 0 is 0"):
        ctc_align(logp, np.array([[1, 0], [1, 2]]))
    with pytest.raises(ValueError, match="token 0 of row 1 is 4"):
        ctc_align(logp, np.array([[1, 2], [4, 2]]))
    logp[1, 2] = [-np.inf, -np.inf, -1, np.nan]  # of token 3 nobody asks
    paths, spans, token_scores, scores = ctc_align(logp, np.array([[1], [1]]))
    assert scores[1] == token_scores[1, 0] == -np.inf
    assert (paths[1] == -1).all()
    assert (spans[1] == -1).all()
    with pytest.raises(ValueError, match="row 1, frame 2"):
        ctc_align(logp, np.array([[1], [3]]))


# ---- the loss ----


def test_loss_is_the_sum_over_all_alignments() -> None:
    for frames, vocab, target in CASES:
        logp = draw(frames, vocab, seed=frames)
        total = np.logaddexp.reduce([score for _, _, score in alignments_of(logp, target)])
        loss, _ = ctc_loss(logp, np.array(target), frames, len(target), reduction="sum")
        assert loss == pytest.approx(-total, rel=1e-12)


def torch_loss(
    logits: np.ndarray, *arguments: Any, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """torch's loss, and its gradients at the logits and at their log_softmax."""
    x = torch.from_numpy(logits).requires_grad_()
    log_probs = x.log_softmax(-1)
    log_probs.retain_grad()
    arguments = tuple(torch.as_tensor(a) for a in arguments)
    loss = F.ctc_loss(log_probs, *arguments, **options)
    loss.sum().backward()
    assert log_probs.grad is not None
    assert x.grad is not None
    return loss.detach().numpy(), x.grad.numpy(), log_probs.grad.numpy()


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("blank", [0, 4])
def test_loss_equals_torchs(blank: int, reduction: str, zero_infinity: bool) -> None:
    frames, batch, vocab = 12, 6, 7
    logits = np.random.default_rng(1).standard_normal((frames, batch, vocab)) * 2
    targets = np.random.default_rng(2).integers(1, 4, (batch, 5))
    targets[0] = 2
    input_lengths = np.array([12, 9, 12, 4, 3, 7])
    target_lengths = np.array([5, 4, 0, 2, 3, 5]) if zero_infinity else np.array([5, 4, 0, 1, 1, 3])
    if zero_infinity:
        targets[4] = 3  # needs 5 frames and has 3
    concatenated = np.concatenate([t[:n] for t, n in zip(targets, target_lengths, strict=True)])
    options: Any = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    for layout in (targets, concatenated):
        arguments = layout, input_lengths, target_lengths
        loss, *gradients = torch_loss(logits, *arguments, **options)
        found, gradient = ctc_loss(log_softmax(logits), *arguments, **options)
        np.testing.assert_allclose(found, loss, rtol=1e-10, atol=1e-12)
        assert found.shape == loss.shape
        for wanted in gradients:
            np.testing.assert_allclose(gradient, wanted, atol=1e-12)


def test_loss_of_one_row_as_torch_takes_it() -> None:
    logits = np.random.default_rng(1).standard_normal((8, 5))
    for target in ([1, 2, 2], [4]):
        for reduction in ("none", "sum", "mean"):
            arguments = np.array(target), np.array(8), np.array(len(target))
            loss, wanted, _ = torch_loss(logits, *arguments, reduction=reduction)
            found, gradient = ctc_loss(log_softmax(logits), *arguments, reduction=reduction)
            assert found.shape == loss.shape == ()
            np.testing.assert_allclose(found, loss, rtol=1e-10)
            np.testing.assert_allclose(gradient, wanted, atol=1e-12)


def test_loss_of_what_does_not_fit_is_infinite() -> None:
    loss, gradient = ctc_loss(draw(2, 4), np.array([1, 1]), 2, 2, reduction="none")
    assert loss == np.inf
    assert np.isnan(gradient).all()
    loss, gradient = ctc_loss(draw(2, 4), np.array([1, 1]), 2, 2, zero_infinity=True)
    assert loss == 0
    assert (gradient == 0).all()


def test_gradient_by_finite_differences() -> None:
    logits = np.random.default_rng(3).standard_normal((6, 4))
    arguments: Any = (np.array([1, 1, 2]), 6, 3)
    _, gradient = ctc_loss(log_softmax(logits), *arguments, reduction="sum")
    for t, c in itertools.product(range(6), range(4)):
        step = np.zeros_like(logits)
        step[t, c] = 1e-5
        more, less = (
            ctc_loss(log_softmax(logits + sign * step), *arguments, reduction="sum")[0]
            for sign in (1, -1)
        )
        assert gradient[t, c] == pytest.approx((more - less) / 2e-5, abs=1e-8)

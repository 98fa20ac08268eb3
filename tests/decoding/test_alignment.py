"""What a user of forced alignment relies on: torch's loss, the search's timesteps, memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.cases import Backend
from support.ctc_cases import by_definition, log_softmax

from seqfast.decoding import ctc_align, ctc_beam_search, ctc_greedy


def draw(*shape: int, seed: int = 0) -> Any:
    return log_softmax(np.random.default_rng(seed).standard_normal(shape) * 2)


def test_the_best_of_all_alignments(backend: Backend) -> None:
    log_probs = draw(3, 7, 4)
    targets = [[1, 1, 3], [], [2, 3]]
    found = ctc_align(torch.from_numpy(log_probs).to(backend.device), targets)
    for row, target in enumerate(targets):
        path, spans, score = by_definition(log_probs[row], target)
        assert found.paths[row].tolist() == list(path)
        assert [(a, b) for a, b, _ in found.lists()[row]] == spans
        assert float(found.scores[row]) == pytest.approx(score)
        for (first, last, mean), token in zip(found.lists()[row], target, strict=True):
            assert mean == pytest.approx(log_probs[row, first : last + 1, token].mean())


def test_torchaudio_gives_the_same() -> None:
    functional = pytest.importorskip("torchaudio.functional", reason="needs torchaudio")
    if not hasattr(functional, "forced_align"):
        pytest.skip("needs torchaudio.functional.forced_align")
    for seed, (frames, vocab, tokens) in enumerate([(9, 4, 4), (120, 30, 40), (700, 12, 100)]):
        log_probs = torch.from_numpy(draw(1, frames, vocab, seed=seed)).float()
        targets = torch.randint(1, vocab, (1, tokens))
        paths, scores = functional.forced_align(log_probs, targets)
        found = ctc_align(log_probs, targets)
        assert torch.equal(found.paths, paths)
        assert float(found.scores[0]) == pytest.approx(float(scores.sum()), rel=1e-4)
        merged = functional.merge_tokens(paths[0], scores[0])
        ours = found.lists()[0]
        assert [(a, b + 1) for a, b, _ in ours] == [(span.start, span.end) for span in merged]
        np.testing.assert_allclose([s for *_, s in ours], [s.score for s in merged], rtol=1e-4)


def test_one_alignment_is_less_probable_than_all(backend_once: Backend) -> None:
    log_probs = torch.from_numpy(draw(4, 30, 9)).to(backend_once.device)
    targets = torch.randint(1, 9, (4, 7), device=backend_once.device)
    lengths, counts = torch.tensor([30, 25, 20, 16]), torch.tensor([7, 5, 0, 7])
    found = ctc_align(log_probs, targets, lengths, counts)
    loss = F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, counts, reduction="none")
    assert (found.scores < -loss + 1e-9).all()
    assert found.scores[2] == pytest.approx(-float(loss[2]))  # blanks alone: there is one way


def test_what_greedy_found_is_aligned_as_it_was() -> None:
    log_probs = draw(5, 40, 6)
    greedy = ctc_greedy(log_probs)
    found = ctc_align(log_probs, greedy.tokens, target_lengths=greedy.lengths)
    np.testing.assert_allclose(found.scores, greedy.scores)
    for row, count in enumerate(greedy.lengths):
        np.testing.assert_array_equal(found.frames[row, :count, 0], greedy.timesteps[row, :count])
        assert [
            token for token, _ in itertools.groupby(found.paths[row]) if token
        ] == greedy.tokens[row, :count].tolist()


def test_the_timesteps_of_an_unpruned_search_are_its_alignment() -> None:
    log_probs = np.round(draw(6, 5, 3, seed=4), 1)  # with ties
    searched = ctc_beam_search(log_probs, beam_size=300, n_best=4)
    for row, place in itertools.product(range(6), range(4)):
        count = searched.lengths[row, place]
        tokens = searched.tokens[row, place, :count]
        found = ctc_align(log_probs[row : row + 1], tokens[None])
        np.testing.assert_array_equal(found.frames[0, :, 0], searched.timesteps[row, place, :count])


def test_rows_do_not_depend_on_their_batch(backend: Backend) -> None:
    log_probs = torch.from_numpy(draw(4, 30, 12)).float().to(backend.device)
    targets = torch.randint(1, 12, (4, 9), device=backend.device)
    lengths = torch.tensor([30, 21, 18, 29], device=backend.device)
    together = ctc_align(log_probs, targets, lengths)
    for row in range(4):
        alone = ctc_align(log_probs[row, None], targets[row, None], lengths[row, None])
        for name in ("frames", "scores", "token_scores", "paths"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row])


def test_targets_as_lists() -> None:
    log_probs = draw(2, 9, 5)
    found = ctc_align(log_probs, [[1, 2, 2], (4,)])
    assert repr(found).startswith("CtcAlignment(2 rows, 3 tokens, 9 frames; first: -")
    same = ctc_align(log_probs, np.array([[1, 2, 2], [4, 0, 0]]), None, [3, 1])
    np.testing.assert_array_equal(found.paths, same.paths)
    assert [len(row) for row in found.lists()] == [3, 1]
    tensors = ctc_align(torch.from_numpy(log_probs), [torch.tensor([1, 2, 2]), [4]])
    assert tensors.paths.tolist() == found.paths.tolist()
    assert ctc_align(log_probs[:0], []).lists() == []
    for bad in ([1, 2], [[1.5]], ["ab", "c"], [[1], None]):
        with pytest.raises(TypeError, match="ctc_align: targets must be an array or a list of int"):
            ctc_align(log_probs, bad)


def test_too_many_tokens() -> None:
    with pytest.raises(ValueError, match="ctc_align: row 1 has 3 frames, but its 3 tokens, 1 of"):
        ctc_align(draw(2, 3, 4), [[1], [1, 1, 2]])
    with pytest.raises(ValueError, match=r"log_softmax\(-1\)"):
        ctc_align(np.array([[[4.0, 3.0, 1.0]]]), [[1]])


PEAK = """
import resource
import numpy as np
from seqfast.decoding import ctc_align
rng = np.random.default_rng(0)
frames, tokens, vocab = {frames}, {tokens}, 8
x = np.full((1, frames, vocab), -6.0, np.float32)
starts = np.sort(rng.choice(frames // 3, tokens, replace=False)) * 3
targets = rng.integers(1, vocab, (1, tokens))
x[0, :, 0] = -0.01
x[0, starts] -= 3
x[0, starts, targets[0]] = -0.02
x[0, starts + 1] = x[0, starts]
ctc_align(x[:, :50], [[1]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = ctc_align(x, targets)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert (found.frames[0, :, 0] == starts).all()
assert (found.frames[0, :, 1] == starts + 1).all()
print(used * 1024)
"""


def test_a_long_recording_in_bounded_memory() -> None:
    """Twenty minutes of 20 ms frames: all states would be 3.2 GB."""
    code = PEAK.format(frames=60_000, tokens=3_300)
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    assert int(done.stdout) < 100e6


def test_works_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, seqfast\n"
        "x = np.log(np.full((1, 3, 2), 0.5, np.float32))\n"
        "assert seqfast.decoding.ctc_align(x, [[1]]).frames.tolist() == [[[0, 0]]]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

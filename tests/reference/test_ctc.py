"""The twin of the CTC decoders against the definition: the sum over every alignment."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from seqfast.reference.ctc import ctc_beam_search, ctc_greedy

WIDE = 10**5  # drops nothing


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def draw(frames: int, vocab: int, seed: int = 0, scale: float = 1.5) -> np.ndarray:
    return log_softmax(np.random.default_rng(seed).standard_normal((frames, vocab)) * scale)


def collapsed(alignment: tuple[int, ...], blank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of an alignment, and where each begins."""
    previous, tokens, beginnings = blank, [], []
    for frame, token in enumerate(alignment):
        if token not in (blank, previous):
            tokens.append(token)
            beginnings.append(frame)
        previous = token
    return tuple(tokens), tuple(beginnings)


def by_definition(logp: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], tuple[float, Any]]:
    """Transcript -> its log-probability, and the beginnings in its best alignment."""
    scores: Any = defaultdict(list)
    for alignment in itertools.product(range(logp.shape[1]), repeat=len(logp)):
        tokens, beginnings = collapsed(alignment, blank)
        scores[tokens].append((sum(logp[t, c] for t, c in enumerate(alignment)), beginnings))
    return {
        tokens: (np.logaddexp.reduce([score for score, _ in found]), max(found)[1])
        for tokens, found in scores.items()
        if max(found)[0] > -np.inf
    }


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize(("frames", "vocab"), [(1, 3), (5, 3), (7, 3), (4, 5), (10, 2), (3, 1)])
def test_a_wide_beam_finds_every_transcript(frames: int, vocab: int, blank: int) -> None:
    blank = min(blank, vocab - 1)
    logp = draw(frames, vocab, frames + vocab)
    wanted = by_definition(logp, blank)
    tokens, lengths, scores, timesteps = ctc_beam_search(
        logp[None], beam_size=WIDE, n_best=len(wanted) + 1, blank=blank
    )
    found = {}
    for k in range(len(wanted)):
        length = lengths[0, k]
        assert (tokens[0, k, length:] == -1).all()
        assert (timesteps[0, k, length:] == -1).all()
        found[tuple(tokens[0, k, :length])] = scores[0, k], tuple(timesteps[0, k, :length])
    assert set(found) == set(wanted)
    for transcript, (score, beginnings) in wanted.items():
        assert found[transcript][0] == pytest.approx(score, rel=1e-12, abs=1e-12)
        assert found[transcript][1] == beginnings
    assert (np.diff(scores[0]) <= 0).all()
    assert scores[0, -1] == -np.inf
    assert np.exp(scores[0]).sum() == pytest.approx(1)


def test_pruned_tokens_have_probability_zero() -> None:
    logp = draw(6, 4, 3)
    for top_n, least in ((1, None), (2, None), (3, None), (None, -1.0), (2, -1.2), (4, 9.0)):
        left = np.full_like(logp, -np.inf)
        for t, row in enumerate(logp):
            order = sorted(range(4), key=lambda c, row=row: (-row[c], c))[:top_n]
            kept = [c for c in order if least is None or row[c] >= least] or order[:1]
            left[t, kept] = row[kept]
        wanted = by_definition(left)
        _, lengths, scores, _ = ctc_beam_search(
            logp[None], beam_size=WIDE, n_best=len(wanted) + 1, top_n=top_n, min_log_prob=least
        )
        np.testing.assert_allclose(
            scores[0, :-1], sorted((s for s, _ in wanted.values()), reverse=True), rtol=1e-12
        )
        assert scores[0, -1] == -np.inf
        assert lengths[0, -1] == 0


def test_a_narrow_beam_is_what_remains_of_every_frame() -> None:
    # By hand: after the first frame only "1" is left, so the "2" of the second has lost its parent.
    probabilities = np.array([[0.3, 0.5, 0.2], [0.4, 0.05, 0.55]])
    tokens, lengths, scores, timesteps = ctc_beam_search(np.log(probabilities)[None], beam_size=1)
    assert tokens[0, 0, : lengths[0, 0]].tolist() == [1, 2]
    assert np.exp(scores[0, 0]) == pytest.approx(0.5 * 0.55)
    assert timesteps[0, 0].tolist() == [0, 1]


def test_beam_threshold() -> None:
    logp = draw(5, 4, 9)
    all_scores = ctc_beam_search(logp[None], beam_size=WIDE, n_best=300)[2][0]
    for threshold in (0.0, 0.5, 2.0):
        scores = ctc_beam_search(logp[None], beam_size=WIDE, n_best=300, beam_threshold=threshold)[
            2
        ]
        kept = scores[0][scores[0] > -np.inf]
        assert len(kept) < (all_scores > -np.inf).sum()
        assert (kept >= kept[0] - threshold).all()


def test_greedy_is_the_best_alignment() -> None:
    for blank in (0, 2):
        for seed in range(5):
            logp = draw(6, 3, seed)
            best = max(
                itertools.product(range(3), repeat=6),
                key=lambda a, logp=logp: sum(logp[t, c] for t, c in enumerate(a)),
            )
            wanted, beginnings = collapsed(best, blank)
            tokens, lengths, scores, timesteps = ctc_greedy(logp[None], blank=blank)
            assert tuple(tokens[0, : lengths[0]]) == wanted
            assert tuple(timesteps[0, : lengths[0]]) == beginnings
            assert (tokens[0, lengths[0] :] == -1).all()
            assert scores[0] == pytest.approx(sum(logp[t, c] for t, c in enumerate(best)))


def test_ties_go_to_the_lower_token_and_the_older_prefix() -> None:
    logp = np.full((1, 3, 4), -np.log(4.0))
    tokens, lengths, scores, _ = ctc_beam_search(logp[:, :1], beam_size=4, n_best=4)
    assert lengths[0].tolist() == [0, 1, 1, 1]
    assert tokens[0, 1:, 0].tolist() == [1, 2, 3]
    assert (scores == scores[0, 0]).all()
    assert ctc_greedy(logp)[1].tolist() == [0]  # the blank is the lowest


def test_the_language_model_is_part_of_the_rank() -> None:
    logp = draw(6, 3, 5)
    table = log_softmax(np.random.default_rng(1).standard_normal((3, 3)))
    asked: set[tuple[int, ...]] = set()

    def bigram(prefixes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        asked.update(tuple(p[:n]) for p, n in zip(prefixes, lengths, strict=True))
        last = [p[n - 1] if n else 0 for p, n in zip(prefixes, lengths, strict=True)]
        return table[last]

    def share(transcript: tuple[int, ...]) -> float:
        return float(sum(table[a, b] for a, b in zip((0, *transcript), transcript, strict=False)))

    wanted = {t: s + 0.7 * share(t) for t, (s, _) in by_definition(logp).items()}
    tokens, lengths, scores, _ = ctc_beam_search(
        logp[None], beam_size=WIDE, n_best=len(wanted), lm=bigram, lm_weight=0.7
    )
    found = {tuple(t[:n]): s for t, n, s in zip(tokens[0], lengths[0], scores[0], strict=True)}
    assert set(found) == set(wanted) <= asked
    for transcript, score in wanted.items():
        assert found[transcript] == pytest.approx(score, rel=1e-12)


def test_lengths_and_impossible_rows() -> None:
    logp = np.stack([draw(4, 3, seed) for seed in range(3)])
    logp[1, 2] = -np.inf
    logp[2, 2] = np.nan  # behind its end
    tokens, lengths, scores, _ = ctc_beam_search(logp, [0, 4, 2], beam_size=9, n_best=2)
    assert scores[0].tolist() == [0, -np.inf]
    assert scores[1].tolist() == [-np.inf, -np.inf]
    assert lengths[:2].tolist() == [[0, 0], [0, 0]]
    alone = ctc_beam_search(logp[2:, :2], beam_size=9, n_best=2)
    np.testing.assert_array_equal(scores[2:], alone[2])
    np.testing.assert_array_equal(tokens[2:, :, :2], alone[0])
    with pytest.raises(ValueError, match="row 2, frame 2"):
        ctc_beam_search(logp)
    with pytest.raises(ValueError, match="row 2, frame 2"):
        ctc_greedy(logp)

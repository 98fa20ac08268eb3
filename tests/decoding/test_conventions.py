"""The presets against each system's own search, written out plainly after its source.

Each function below is one sentence's search in lists, after the named file; `transformers` itself
is tested in test_transformers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqfast.decoding import BeamSearch

from .models import HashModel, hypotheses

EOS = 2
Tokens = tuple[int, ...]
Found = list[tuple[float, Tokens]]


def candidates(
    model: HashModel, start: int, beams: list[tuple[float, Tokens]], ban: Callable[..., Any] | None
) -> list[tuple[float, int, int]]:
    """Of all beams, by falling sum: (sum, beam, token)."""
    found = []
    for k, (total, tokens) in enumerate(beams):
        logs = model.log_softmax(tokens, start)
        if ban is not None:
            logs = ban(logs, tokens)
        found += [(total + p, k, token) for token, p in enumerate(logs) if p > -np.inf]
    return sorted(found, key=lambda c: -c[0])


def fairseq(
    model: HashModel, start: int, size: int, alpha: float, longest: int, shortest: int
) -> Found:
    """fairseq/sequence_generator.py: the first beam_size that end, EOS among the best beam_size."""

    def ban(logs: Any, tokens: Tokens) -> Any:
        logs = logs.copy()
        if len(tokens) >= longest:
            logs[np.arange(len(logs)) != EOS] = -np.inf
        if len(tokens) < shortest:
            logs[EOS] = -np.inf
        return logs

    beams: list[tuple[float, Tokens]] = [(0.0, ())]
    finalized: Found = []
    for step in range(longest + 1):
        best = candidates(model, start, beams, ban)[: 2 * size]
        for total, k, token in best[:size]:
            if token == EOS and len(finalized) < size:
                finalized.append((total / (step + 1) ** alpha, (*beams[k][1], EOS)))
        if len(finalized) == size or step == longest:
            break
        live = [c for c in best if c[2] != EOS][:size]
        beams = [(total, (*beams[k][1], token)) for total, k, token in live]
    return sorted(finalized, reverse=True)


def opennmt(
    model: HashModel, start: int, size: int, norm: str, alpha: float, longest: int, n_best: int
) -> Found:
    """onmt/translate/beam_search.py: what ends takes a beam's place, the top beam decides."""
    length_penalty: Callable[[int], float] = {
        "none": lambda n: 1.0,
        "avg": lambda n: float(n),
        "gnmt": lambda n: ((5 + n) / 6.0) ** alpha,
    }[norm]
    beams: list[tuple[float, Tokens]] = [(0.0, ())]
    hypotheses: Found = []
    top_finished = False
    for length in range(1, longest + 1):
        best = candidates(model, start, beams, None)[:size]
        penalty = length_penalty(length + 1)
        top_finished |= best[0][2] == EOS or length == longest
        live = []
        for total, k, token in best:
            tokens = (*beams[k][1], token)
            if token == EOS or length == longest:
                hypotheses.append((total / penalty, tokens))
            else:
                live.append((total, tokens))
        if top_finished and len(hypotheses) >= n_best:
            break
        beams = live
    return sorted(hypotheses, reverse=True)[:n_best]


def ct2(
    model: HashModel,
    start: int,
    size: int,
    alpha: float,
    longest: int,
    n_best: int,
    patience: float,
) -> Found:
    """src/decoding.cc of CTranslate2: lengths without EOS, the next best fill its place."""
    beams: list[tuple[float, Tokens]] = [(0.0, ())]
    result: Found = []
    top_finished = False
    for step in range(longest):
        best = candidates(model, start, beams, None)[: 2 * size]
        live = []
        spare = size
        for place, (total, k, token) in enumerate(best[:size]):
            chosen: int | None = place
            if token == EOS or step + 1 == longest:
                top_finished |= place == 0
                end = beams[k][1] if token == EOS else (*beams[k][1], token)
                score = total / len(end) ** alpha if end or alpha == 0 else -np.inf
                result.append((score, end))
                chosen = None
                while spare < len(best):
                    spare += 1
                    if best[spare - 1][2] != EOS:
                        chosen = spare - 1
                        break
            if chosen is not None:
                total, k, token = best[chosen]
                live.append((total, (*beams[k][1], token)))
        if alpha == 0:
            done = top_finished and len(result) >= n_best
        else:
            done = len(result) >= round(size * patience)
        if done:
            break
        beams = live
    return sorted(result, key=lambda r: -r[0])[:n_best]


def t5x(model: HashModel, start: int, size: int, alpha: float, longest: int) -> Found:
    """t5x/decoding.py: EOS among the best 2 * beam_size; living ones only where none ended."""
    beams: list[tuple[float, Tokens]] = [(0.0, ())]
    finished: Found = []
    for index in range(longest):
        best = candidates(model, start, beams, None)[: 2 * size]
        ended = [
            (total / ((5 + index + 1) / 6) ** alpha, (*beams[k][1], EOS))
            for total, k, token in best
            if token == EOS
        ]
        finished = sorted(finished + ended, reverse=True)[:size]
        live = [c for c in best if c[2] != EOS][:size]
        beams = [(total, (*beams[k][1], token)) for total, k, token in live]
        # They start with a dummy token, so their longest is one more.
        bound = beams[0][0] / ((5 + longest + 1) / 6) ** alpha
        if len(finished) == size and finished[-1][0] > bound:
            break
    return finished or beams


def models() -> list[HashModel]:
    found = []
    for seed in range(12):
        model = HashModel(8, seed=seed, dtype=np.float64, scale=1.5)
        model.table[:, EOS] += (-2, 0, 1, 2)[seed % 4]
        found.append(model)
    return found


def check(model: HashModel, search: BeamSearch, wanted: Callable[[int], Found]) -> set[int]:
    """The same hypotheses with the same scores; returns the lengths there were."""
    starts = np.array([0, 1, 3])
    out = search(model.step, starts, model.state(3))
    lengths = set()
    for sentence, start in enumerate(starts):
        expected = wanted(int(start))
        expected = [(score, tokens) for score, tokens in expected if score > -1e15]
        got = [t for t in hypotheses(out, sentence)][: len(expected)]
        assert got == [tokens for _, tokens in expected]
        scores = out.scores[sentence, : len(expected)]
        np.testing.assert_allclose(scores, [score for score, _ in expected])
        lengths |= {len(tokens) for tokens in got}
    return lengths


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_fairseq(size: int, alpha: float) -> None:
    lengths = set()
    for i, model in enumerate(models()):
        shortest = (0, 3)[i % 2]
        search = BeamSearch.like(
            "fairseq", size, eos=EOS, alpha=alpha, max_length=7, min_length=shortest, n_best=size
        )
        lengths |= check(
            model,
            search,
            lambda s: fairseq(model, s, size, alpha, 7, shortest),  # noqa: B023
        )
    assert len(lengths) > 2


@pytest.mark.parametrize(("norm", "alpha"), [("none", 0.0), ("avg", 0.3), ("gnmt", 0.9)])
@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize("size", [3, 5])
def test_opennmt(size: int, n_best: int, norm: str, alpha: float) -> None:
    lengths = set()
    for model in models():
        search = BeamSearch.like(
            "opennmt", size, eos=EOS, length_norm=norm, alpha=alpha, max_length=7, n_best=n_best
        )
        lengths |= check(
            model,
            search,
            lambda s: opennmt(model, s, size, norm, alpha, 7, n_best),  # noqa: B023
        )
    assert len(lengths) > 2


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("patience", [1.0, 2.0])
@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize("size", [3, 5])
def test_ct2(size: int, n_best: int, patience: float, alpha: float) -> None:
    lengths = set()
    for model in models():
        search = BeamSearch.like(
            "ct2", size, eos=EOS, alpha=alpha, patience=patience, max_length=7, n_best=n_best
        )
        lengths |= check(
            model,
            search,
            lambda s: ct2(model, s, size, alpha, 7, n_best, patience),  # noqa: B023
        )
    assert len(lengths) > 2


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_t5x(size: int, alpha: float) -> None:
    lengths = set()
    for model in models():
        search = BeamSearch.like("t5x", size, eos=EOS, alpha=alpha, max_length=6, n_best=size)
        lengths |= check(model, search, lambda s: t5x(model, s, size, alpha, 6))  # noqa: B023
    assert len(lengths) > 2


def test_t5x_returns_living_ones_where_none_ended() -> None:
    model = HashModel(8, seed=1, dtype=np.float64)
    model.table[:, EOS] -= 50
    search = BeamSearch.like("t5x", 3, eos=EOS, max_length=4, n_best=3)
    assert check(model, search, lambda s: t5x(model, s, 3, 0.6, 4)) == {4}


def test_ct2_edits_before_the_softmax() -> None:
    model = HashModel(8, seed=1, dtype=np.float64)
    search = BeamSearch.like("ct2", 3, eos=EOS, max_length=4, banned=[5, 6])
    out = search(model.step, np.array([0]), model.state(1))
    model.table[:, [5, 6]] = -np.inf
    plain = BeamSearch.like("ct2", 3, eos=EOS, max_length=4)
    wanted = plain(model.step, np.array([0]), model.state(1))
    assert hypotheses(out, 0) == hypotheses(wanted, 0)
    np.testing.assert_allclose(out.scores, wanted.scores)


def test_options_of_the_caller_go_first() -> None:
    search = BeamSearch.like("opennmt", 4, eos=EOS, enough=4, max_length=9)
    assert (search.options.enough, search.options.max_length) == (4, 9)
    assert BeamSearch.like("hf", 2, eos=EOS, early_stopping=True).options.stop == "full"
    assert BeamSearch.like("hf", 2, eos=EOS, early_stopping="never").options.stop == "longest"


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        (
            "hugging",
            {},
            "system must be 'hf', 'fairseq', 'opennmt', 'ct2' or 't5x', got 'hugging'",
        ),
        ("hf", {"early_stopping": "always"}, "early_stopping must be False, True or 'never'"),
        ("ct2", {"patience": 0}, "patience must be a number above 0, below 100, got 0"),
        ("t5x", {"alpha": -1}, "alpha must be a finite number, at least 0, got -1"),
    ],
)
def test_wrong_presets(system: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BeamSearch.like(system, 3, eos=EOS, **options)


# After each token, and at the start: the probabilities of "$", which ends, of "a" and of "b".
EXAMPLE = np.array([[0.35, 0.45, 0.20], [0.55, 0.10, 0.35], [0.10, 0.80, 0.10]])


@pytest.mark.parametrize(
    ("system", "options", "tokens", "score", "steps"),
    [
        (None, {}, "ababa$", -0.657, 6),
        ("hf", {}, "aba$", -0.667, 4),
        ("hf", {"early_stopping": "never"}, "ababa$", -0.657, 6),
        ("hf", {"early_stopping": True}, "a$", -0.698, 2),
        ("fairseq", {}, "a$", -0.698, 2),
        ("opennmt", {"length_norm": "avg"}, "a$", -0.465, 2),
        ("ct2", {}, "a", -1.396, 2),
        ("t5x", {"alpha": 1.0}, "$", -1.050, 4),
    ],
)
def test_the_example_of_the_documentation(
    system: str | None, options: dict[str, Any], tokens: str, score: float, steps: int
) -> None:
    if system is None:
        search = BeamSearch(2, eos=0, max_length=6)
    else:
        search = BeamSearch.like(system, 2, eos=0, max_length=6, **options)
    table = np.log(EXAMPLE)
    out = search(lambda ids, state, t: (table[ids], state), np.array([0]))
    assert "".join("$ab"[t] for t in hypotheses(out, 0)[0]) == tokens
    np.testing.assert_allclose(out.scores[0, 0], score, atol=5e-4)
    assert out.steps == steps
    row = f"{tokens}` | {score:.3f} | {steps} |"
    page = Path(__file__).resolve().parents[2] / "docs" / "coming_from_fairseq.md"
    assert row in page.read_text(encoding="utf-8")

"""Exact search against every sequence there is, and whose fault a wrong result is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import BeamSearch, error_analysis, exact_search, score, shared

from .models import HashModel, hypotheses
from .test_beam_search import NORMS, Cache, brute

EOS = 2
START = np.array([0, 1, 3])


@pytest.mark.parametrize("count_eos", [True, False])
@pytest.mark.parametrize("norm", range(len(NORMS)))
def test_it_finds_the_best_there_is(norm: int, count_eos: bool) -> None:
    name, alpha, function = NORMS[norm]
    model = HashModel(5, seed=norm, dtype=np.float64)
    out = exact_search(
        model.step, START, model.state(3), eos=EOS, max_length=5, length_norm=name, alpha=alpha,
        count_eos=count_eos, beam_size=1, min_length=0 if count_eos else 1,
    )  # fmt: skip
    for sentence, start in enumerate(START):
        best = brute(model, int(start), function, 5, count_eos)[0]
        assert hypotheses(out, sentence) == [best[1]]
        np.testing.assert_allclose(out.scores[sentence, 0], best[0])
    assert out.certified.all()


def test_on_torch_with_any_state() -> None:
    model = HashModel(6, seed=3)
    bias = torch.randn(3, 6)

    def step(ids: Any, state: Any, t: int) -> tuple[Any, Any]:
        cache, memory = state
        cache.code = model.code(cache.code, ids)
        beams = len(ids) // len(memory)
        return model.tensor[cache.code] + memory.repeat_interleave(beams, 0), state

    start, state = torch.from_numpy(START), (Cache(torch.zeros(3, dtype=torch.int64)), shared(bias))
    options: dict[str, Any] = {"eos": EOS, "max_length": 5, "length_norm": "none"}
    out = exact_search(step, start, state, **options)
    wide = BeamSearch(600, **options, eos_pool="any")(step, start, state)
    assert [hypotheses(out, s) for s in range(3)] == [hypotheses(wide, s) for s in range(3)]
    torch.testing.assert_close(out.scores, wide.scores.double(), rtol=1e-5, atol=1e-5)
    assert out.certified.dtype == torch.bool


def test_a_wrong_beam_is_put_right() -> None:
    wrong = 0
    for seed in range(20):
        model = HashModel(6, seed=seed)
        options: dict[str, Any] = {"eos": EOS, "max_length": 6, "length_norm": "none"}
        beam = BeamSearch(1, **options)(model.step, START, model.state(3))
        out = exact_search(model.step, START, model.state(3), beam_size=1, **options)
        assert (out.scores[:, 0] >= beam.scores[:, 0] - 1e-5).all()
        wrong += int((out.scores[:, 0] > beam.scores[:, 0] + 1e-4).sum())
    assert wrong > 0


def test_too_many_nodes() -> None:
    model = HashModel(9, seed=4, scale=0.1)
    out = exact_search(
        model.step, START, model.state(3), eos=EOS, max_length=9, max_nodes=50, length_norm="avg"
    )
    assert not out.certified.any()
    assert (out.lengths > 0).all()


def test_at_max_and_bans() -> None:
    model = HashModel(6, seed=5)
    out = exact_search(
        model.step, START, model.state(3), eos=EOS, max_length=3, min_length=2, at_max="eos",
        banned=[4], length_norm="reward", alpha=5.0,
    )  # fmt: skip
    for sentence in range(3):
        tokens = hypotheses(out, sentence)[0]
        assert len(tokens) == 4
        assert tokens[-1] == EOS
        assert 4 not in tokens


def test_error_analysis() -> None:
    counts = {"equal": 0, "search": 0, "model": 0}
    for seed in range(25):
        model = HashModel(6, seed=seed)
        options: dict[str, Any] = {"eos": EOS, "max_length": 6, "length_norm": "none"}
        out = BeamSearch(1, **options)(model.step, START, model.state(3))
        best = exact_search(model.step, START, model.state(3), **options)
        references = [list(hypotheses(best, 0)[0]), [5, 5, EOS], list(hypotheses(out, 2)[0])]
        found = error_analysis(model.step, (START, model.state(3)), references, out, eos=EOS)
        for sentence, start in enumerate(START):
            one = tuple(references[sentence])
            other = hypotheses(out, sentence)[0]
            p, q = model.logprob(one, int(start)), model.logprob(other, int(start))
            wanted = "equal" if one == other else "search" if p > q + 1e-4 else "model"
            assert found.classes[sentence] == wanted
            np.testing.assert_allclose(found.reference_logprobs[sentence], p, rtol=1e-4)
            np.testing.assert_allclose(found.found_logprobs[sentence], q, rtol=1e-4)
        assert found.classes[2] == "equal"
        for name in counts:
            counts[name] += found.counts[name]
        assert found.search_errors == found.counts["search"]
    assert min(counts.values()) > 3


def test_error_analysis_of_anything_that_scores() -> None:
    model = HashModel(6, seed=1)

    class Decoder:
        def score(self, source: Any, sequences: Any, lengths: Any) -> Any:
            rows = [s[:n].tolist() for s, n in zip(sequences, lengths, strict=True)]
            return score(model.step, rows, source, model.state(3), eos=EOS)

    out = BeamSearch(2, eos=EOS, max_length=5)(model.step, START, model.state(3))
    references = np.array([[3, EOS, 0], [4, 1, EOS], [1, 3, EOS]])
    counts = np.array([2, 3, 3])
    wanted = error_analysis(
        model.step, (START, model.state(3)), references, out, reference_lengths=counts, eos=EOS
    )
    for decoder in (Decoder(), lambda *given: Decoder().score(*given).logprobs):
        found = error_analysis(decoder, START, references, out, reference_lengths=counts)
        assert found.classes == wanted.classes
        np.testing.assert_array_equal(found.found_logprobs, wanted.found_logprobs)
    assert "model" in str(wanted)
    with pytest.raises(ValueError, match="reference must have 3 sequences, got 2"):
        error_analysis(Decoder(), START, [[1], [2]], out)

"""Strategies as objects: the same as their flat names, against every sequence there is, and a
caller's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import (
    Ban,
    BeamSearch,
    Exact,
    FirstK,
    Full,
    Grammar,
    Hf,
    LengthNorm,
    Longest,
    MinLength,
    NoRepeat,
    Sampler,
    StepError,
    StopAt,
    TopBeam,
    TopK,
    TopP,
    greedy,
    sample,
)
from seqfast.decoding._automata import Automaton

from .models import HashModel, hypotheses

EOS = 2
START = np.array([0, 3, 4])


def run(search: BeamSearch, library: str = "numpy", seed: int = 3, **given: Any) -> Any:
    model = HashModel(7, seed=seed)
    if library == "torch":
        return search(model.torch_step, torch.from_numpy(START), model.torch_state(3), **given)
    return search(model.step, START, model.state(3), **given)


@pytest.mark.parametrize(
    ("objects", "flat"),
    [
        ({"scorer": LengthNorm("gnmt", 0.6)}, {"length_norm": "gnmt", "alpha": 0.6}),
        ({"scorer": LengthNorm("avg", 1.5, count_eos=False, offset=1)},
         {"alpha": 1.5, "count_eos": False, "length_offset": 1}),
        ({"stop": Exact()}, {"stop": "exact"}),
        ({"stop": Exact(3)}, {"stop": "exact", "enough": 3}),
        ({"stop": Hf()}, {"stop": "hf"}),
        ({"stop": Longest()}, {"stop": "longest"}),
        ({"stop": FirstK()}, {"stop": "first_k"}),
        ({"stop": Full(2)}, {"stop": "full", "enough": 2}),
        ({"stop": TopBeam()}, {"stop": "top_beam"}),
        ({"constraints": [MinLength(3), NoRepeat(2), Ban(5)]},
         {"min_length": 3, "no_repeat_ngram": 2, "banned": 5}),
        ({"constraints": [Ban([1, 5])], "banned": 4}, {"banned": [1, 4, 5]}),
        ({"sampler": TopK(2, seed=4)}, {"sampler": Sampler(4, top_k=2)}),
        ({"sampler": TopP(0.7)}, {"sampler": Sampler(0, top_p=0.7)}),
    ],
    ids=str,
)  # fmt: skip
def test_objects_say_what_flat_names_say(objects: dict[str, Any], flat: dict[str, Any]) -> None:
    one = run(BeamSearch(4, eos=EOS, max_length=8, n_best=3, **objects))
    other = run(BeamSearch(4, eos=EOS, max_length=8, n_best=3, **flat))
    assert one.lists() == other.lists()
    np.testing.assert_array_equal(one.scores, other.scores)


def test_what_is_told_twice_or_is_nothing() -> None:
    def refused(error: type[Exception], message: str, **options: Any) -> None:
        with pytest.raises(error, match=message):
            BeamSearch(4, eos=EOS, max_length=8, **options)

    refused(ValueError, "length_norm is given twice, 'none' and by scorer, 'gnmt'",
            length_norm="none", scorer=LengthNorm("gnmt"))  # fmt: skip
    refused(ValueError, "no_repeat_ngram is given twice", no_repeat_ngram=3,
            constraints=[NoRepeat(2)])  # fmt: skip
    refused(TypeError, r"constraints must be a list of them, got Ban", constraints=Ban(3))
    refused(TypeError, r"constraints\[0\] must have begin, allowed and advance, got int",
            constraints=[3])  # fmt: skip
    refused(TypeError, r"constraints\[0\] must have begin.*got MinLength", constraints=[MinLength])
    refused(TypeError, "scorer must be a LengthNorm or a callable", scorer=3)
    refused(TypeError, "stop must be an object, got Exact", stop=Exact)
    refused(ValueError, "stop must be 'exact', .* or an object with done", stop="soon")
    refused(ValueError, "min_length must not exceed", constraints=[MinLength(9)])
    refused(ValueError, "each_group gives one hypothesis of each group", each_group=True, n_best=2)
    for made, message in (
        (lambda: Ban([]), "Ban: sequences must be a token, or a list"),
        (lambda: Ban([[]]), "a sequence must have at least one token"),
        (lambda: StopAt([[-1]]), "StopAt: tokens must be"),
        (lambda: LengthNorm("long"), "LengthNorm: kind must be"),
        (lambda: Grammar(), "either a table or both"),
        (lambda: Grammar([[0, 2]]), "states from -1 to 0, got 0 to 2"),
        (lambda: Grammar({0: {1: -2}}), "states of table must be at least 0"),
        (lambda: Grammar(np.zeros((2, 3))), "table must be integers"),
        (lambda: Grammar({0: {1: 0}}, start=2), "start must be"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            made()  # type: ignore[no-untyped-call]


def test_the_automaton_knows_what_it_has_read() -> None:
    rng = np.random.default_rng(0)
    sequences = [tuple(rng.integers(0, 3, rng.integers(1, 5)).tolist()) for _ in range(12)]
    automaton = Automaton(sequences, 5)
    for _ in range(50):
        text = tuple(rng.integers(0, 5, 12).tolist())
        node = 0
        for n, token in enumerate(text, 1):
            completes = automaton.completing()[node]
            node = int(automaton.next[node, automaton.classes[token]])
            wanted = {i for i, s in enumerate(sequences) if text[:n][-len(s) :] == s}
            assert set(automaton.ended[node]) == wanted
            assert (token in completes) == bool(wanted)
            read = {
                (i, k)
                for i, s in enumerate(sequences)
                for k in range(1, len(s) + 1)
                if text[max(n - k, 0) : n] == s[:k]
            }
            assert set(automaton.paths[node]) == read


LENGTH = 4


def best_of_all(
    allowed: Callable[[tuple[int, ...]], bool], start: int, seed: int
) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence of a small model that `allowed` takes, best first."""
    model = HashModel(5, seed=seed)
    found = [(model.logprob(s, start), s) for s in model.sequences((EOS,), LENGTH) if allowed(s)]
    return sorted(found, reverse=True)


def holds(sequence: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(sequence[i : i + len(part)] == part for i in range(len(sequence)))


def searched(constraints: list[Any], library: str, seed: int, beams: int = 400) -> Any:
    model = HashModel(5, seed=seed)
    search = BeamSearch(
        beams, eos=EOS, max_length=LENGTH, length_norm="none", n_best=6, constraints=constraints
    )
    if library == "numpy":
        return search(model.step, np.array([0, 3]), model.state(2))
    return search(model.torch_step, torch.tensor([0, 3]), model.torch_state(2))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("seed", range(3))
def test_bans_of_sequences(library: str, seed: int) -> None:
    banned = [(1, 3), (3, 3, 4), (0, 1), (4, 4, 4)]
    out = searched([Ban([4, *map(list, banned)]) if seed == 2 else Ban([*map(list, banned)])],
                   library, seed)  # fmt: skip

    def allowed(sequence: tuple[int, ...]) -> bool:
        return not any(holds(sequence, part) for part in banned) and not (
            seed == 2 and 4 in sequence
        )

    # The start ids are history: what begins there is banned too.
    for row, start in enumerate((0, 3)):
        wanted = [s for _, s in best_of_all(lambda s, a=start: allowed((a, *s)), start, seed)[:6]]
        assert hypotheses(out, row) == wanted


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_grammar(library: str) -> None:
    table = {0: {4: 1, EOS: 0}, 1: {3: 0, 1: 1}}
    dense = np.full((2, 5), -1)
    for state, row in table.items():
        for token, after in row.items():
            dense[state, token] = after

    def allowed(sequence: tuple[int, ...]) -> bool:
        state = 0
        for token in sequence:
            if token not in table[state]:
                return False
            state = table[state][token]
        return True

    function = Grammar(allowed=lambda s: list(table[s]), advance=lambda s, token: table[s][token])
    for grammar in (Grammar(table), Grammar(dense), function):
        out = searched([grammar], library, 1)
        for row, start in enumerate((0, 3)):
            wanted = [s for _, s in best_of_all(allowed, start, 1)[:6]]
            assert hypotheses(out, row)[: len(wanted)] == wanted


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_stop_sequences(library: str) -> None:
    """Behind a stop sequence stands an EOS that costs nothing; nothing goes on behind one."""
    stops = [(3, 1), (4,)]
    model = HashModel(5, seed=4)
    out = searched([StopAt([*map(list, stops)])], library, 4)

    def score(sequence: tuple[int, ...], start: int) -> float | None:
        for n in range(1, len(sequence) + 1):
            if any(sequence[:n][-len(s) :] == s for s in stops):
                rest = sequence[n:]
                if rest not in ((EOS,), ()) or (rest == () and len(sequence) < LENGTH):
                    return None
                return model.logprob(sequence[:n], start)
        return model.logprob(sequence, start)

    for row, start in enumerate((0, 3)):
        scored = [(score(s, start), s) for s in model.sequences((EOS,), LENGTH)]
        wanted = sorted(((v, s) for v, s in scored if v is not None), reverse=True)[:6]
        assert hypotheses(out, row) == [s for _, s in wanted]
        np.testing.assert_allclose(out.logprobs[row], [v for v, _ in wanted], rtol=1e-4)


def test_stop_sequences_wait_for_the_least_length() -> None:
    out = run(BeamSearch(4, eos=EOS, max_length=8, n_best=4,
                         constraints=[StopAt([1, 3, 4, 5]), MinLength(4)]))  # fmt: skip
    assert int(out.lengths.min()) >= 5
    assert not out.dead_ends.any()


class Alternate:
    """Odd and even tokens in turn: a constraint of one's own, with a state of its own."""

    def begin(self, search: Any) -> Any:
        self.vocabulary = search.vocabulary
        return {"odd": search.array(np.zeros(search.rows, bool))}

    def allowed(self, state: Any, t: int) -> Any:
        tokens = range(self.vocabulary)
        return [[k for k in tokens if k == EOS or k % 2 == odd] for odd in state["odd"].tolist()]

    def advance(self, state: Any, tokens: Any) -> Any:
        return {"odd": tokens % 2 == 0}


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_constraint_of_ones_own(library: str) -> None:
    out = searched([Alternate()], library, 0)

    def allowed(sequence: tuple[int, ...]) -> bool:
        body = sequence[:-1] if sequence[-1] == EOS else sequence
        return all(token % 2 == n % 2 for n, token in enumerate(body))

    for row, start in enumerate((0, 3)):
        wanted = [s for _, s in best_of_all(allowed, start, 0)[:6]]
        assert hypotheses(out, row)[: len(wanted)] == wanted


class AfterTwo:
    def done(self, progress: Any) -> Any:
        found = (progress.ended > -np.inf).sum((1, 2))
        return found >= 2 if progress.t >= 2 else found < 0


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_stop_rule_of_ones_own(library: str) -> None:
    out = run(BeamSearch(4, eos=EOS, max_length=9, n_best=4, stop=AfterTwo()), library)
    full = run(BeamSearch(4, eos=EOS, max_length=9, n_best=4, stop=Full(2)), library)
    assert out.lists() == full.lists()
    assert 2 <= out.steps < 9


class Smallest:
    seed = 5

    def mask(self, logits: Any) -> Any:
        return logits < np.sort(np.where(np.isfinite(logits), logits, 9), 1)[:, 2:3]


def test_a_sampler_of_ones_own() -> None:
    model = HashModel(7, seed=3)
    out = run(BeamSearch(4, eos=EOS, max_length=6, groups=4, sampler=Smallest()))
    for sentence, start in enumerate(START.tolist()):
        for found in hypotheses(out, sentence):
            for n, token in enumerate(found):
                assert token in np.argsort(model.log_softmax(found[:n], start))[:2]


def test_the_same_by_greedy_search_and_sampling() -> None:
    model = HashModel(7, seed=3)
    out = greedy(
        model.step, START, model.state(3), eos=EOS, constraints=[Ban([[1, 1]]), NoRepeat(2)]
    )
    assert not any(holds(tuple(h[0]), (1, 1)) for h in out.lists())
    drawn = sample(model.step, START, model.state(3), n=5, eos=EOS, constraints=[Alternate()])
    assert drawn.tokens.shape[1] == 5


def test_errors_of_ones_own_are_placed() -> None:
    def search(**options: Any) -> Any:
        return run(BeamSearch(2, eos=EOS, max_length=8, **options))

    class Raises(Alternate):
        def allowed(self, state: Any, t: int) -> Any:
            if t == 1:
                raise KeyError("state")

    class WrongShape(Alternate):
        def allowed(self, state: Any, t: int) -> Any:
            return np.ones((6, 8), bool)

    class WrongState(Alternate):
        def advance(self, state: Any, tokens: Any) -> Any:
            return {"odd": tokens[:-1] % 2 == 0}

    class WrongStop:
        def done(self, progress: Any) -> Any:
            return np.zeros(2, bool)

    class WrongEnds(Alternate):
        def ends(self, state: Any, t: int) -> Any:
            return np.zeros(5, bool)

    with pytest.raises(StepError, match=r"allowed of constraints\[1\], Raises, raised .* t = 1"):
        search(constraints=[Alternate(), Raises()])
    with pytest.raises(ValueError, match=r"mask of allowed of constraints\[0\], WrongShape, must"):
        search(constraints=[WrongShape()])
    with pytest.raises(ValueError, match=r"advance of constraints\[0\], WrongState, returned"):
        search(constraints=[WrongState()])
    with pytest.raises(ValueError, match=r"done of stop must return bool \[3\], got \[2\]"):
        search(stop=WrongStop())
    with pytest.raises(ValueError, match=r"ends of constraints\[0\], WrongEnds, must return bool"):
        search(constraints=[WrongEnds()])
    with pytest.raises(ValueError, match=r"Ban: tokens must be from 0 to 6"):
        search(constraints=[Ban([[3, 9]])])
    with pytest.raises(ValueError, match=r"StopAt: a sequence must not hold EOS"):
        search(constraints=[StopAt([[3, EOS]])])
    with pytest.raises(ValueError, match=r"Grammar: table must be \[states, 7\]"):
        search(constraints=[Grammar([[0, 0]])])
    with pytest.raises(ValueError, match="attention must be given in the call for a coverage"):
        search(scorer=LengthNorm(coverage=0.2))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_groups_and_their_duplicates(library: str) -> None:
    options: dict[str, Any] = {"eos": EOS, "max_length": 6, "groups": 3}
    plain = run(BeamSearch(6, **options, n_best=6), library)
    assert any(len(set(map(tuple, h))) < len(h) for h in plain.lists())
    one = run(BeamSearch(6, **options, n_best=6, distinct=True), library)
    for kept, every, scores in zip(one.lists(), plain.lists(), one.scores, strict=True):
        unique = list(dict.fromkeys(map(tuple, every)))
        assert list(map(tuple, kept))[: len(unique)] == unique
        assert len(set(map(tuple, kept))) == len(kept)
        finite = scores[scores > -np.inf]
        assert (finite[:-1] >= finite[1:]).all()
    each = run(BeamSearch(6, **options, diversity=0.7, each_group=True), library)
    assert each.groups.tolist() == [[0, 1, 2]] * 3
    best = run(BeamSearch(6, **options, diversity=0.7, n_best=6), library)
    for row in range(3):
        for group in range(3):
            of_group = best.scores[row][best.groups[row] == group]
            assert len(of_group) == 0 or each.scores[row, group] == of_group.max()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_attention_and_coverage(library: str) -> None:
    """Weights follow each hypothesis through its beams; coverage by hand of what comes back."""
    model = HashModel(7, seed=3)
    weights = np.random.default_rng(1).dirichlet(np.ones(4), 101).astype(np.float32)
    weights[:, 3] = 0  # a place of padding
    torches = library == "torch"
    table: Any = torch.from_numpy(weights) if torches else weights

    def attention(state: Any) -> Any:
        return table[state["code"]]

    search = BeamSearch(4, eos=EOS, max_length=8, n_best=4)
    out = run(search, library, attention=attention)
    assert run(search, library).attention is None
    for row, start in enumerate(START.tolist()):
        for i, found in enumerate(hypotheses(out, row)):
            code = 0
            for n, token in enumerate((start, *found[:-1])):
                code = int(model.code(code, token))
                np.testing.assert_array_equal(out.attention[row, i, n], weights[code])
            assert not out.attention[row, i, len(found) :].any()
    scorer = LengthNorm("gnmt", 0.6, coverage=0.4)
    covered = run(BeamSearch(4, eos=EOS, max_length=8, n_best=2, scorer=scorer), library,
                  attention=attention)  # fmt: skip
    for row in range(3):
        for i, found in enumerate(hypotheses(covered, row)):
            received = np.minimum(np.asarray(covered.attention[row, i]).sum(0)[:3], 1)
            score = float(covered.logprobs[row, i]) / ((5 + len(found)) / 6) ** 0.6
            score += 0.4 * float(np.log(received).sum())
            assert float(covered.scores[row, i]) == pytest.approx(score, rel=1e-4)
    assert (covered.scores[:, 0] >= covered.scores[:, 1]).all()

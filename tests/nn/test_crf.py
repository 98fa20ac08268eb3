"""The conditional random field: against brute force over all tag sequences, and its errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support import crf_twin as reference

torch = pytest.importorskip("torch")

from seqfast.nn import CRF  # noqa: E402


def random_case(seed: int, steps: int, batch: int, tags: int):
    generator = torch.Generator().manual_seed(seed)
    crf = CRF(tags, dtype=torch.float64)
    for parameter in crf.parameters():
        parameter.data.normal_(generator=generator)
    emissions = torch.randn(steps, batch, tags, generator=generator, dtype=torch.float64)
    lengths = torch.randint(0, steps + 1, (batch,), generator=generator)
    y = torch.randint(tags, (steps, batch), generator=generator)
    return crf, emissions, y, lengths


def weights(crf: CRF) -> tuple[np.ndarray, ...]:
    return tuple(w.detach().numpy() for w in (crf.start, crf.end, crf.transitions))


def all_scores(emissions: np.ndarray, crf: CRF) -> dict[tuple[int, ...], float]:
    sequences = itertools.product(range(crf.tags), repeat=len(emissions))
    return {s: reference.score(emissions, np.array(s, int), *weights(crf)) for s in sequences}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 4), (4, 5, 3), (5, 2, 2), (3, 4, 5)], ids=str)
def test_matches_brute_force(shape: tuple[int, int, int]) -> None:
    crf, emissions, y, lengths = random_case(sum(shape), *shape)
    found, decoded = crf(emissions, y, lengths), crf.decode(emissions, lengths)
    marginals = crf.marginals(emissions, lengths)
    for b, length in enumerate(lengths.tolist()):
        e, tags = emissions[:length, b].numpy(), y[:length, b].numpy()
        scores = all_scores(e, crf)
        values = np.array(list(scores.values()))
        log_total = np.logaddexp.reduce(values)
        wanted = reference.score(e, tags, *weights(crf)) - log_total
        assert found[b].item() == pytest.approx(wanted, abs=1e-10)
        assert reference.log_partition(e, *weights(crf)) == pytest.approx(log_total, abs=1e-10)
        best = max(scores, key=scores.get)
        assert tuple(decoded.lists()[b]) == best
        assert decoded.scores[b].item() == pytest.approx(scores[best], abs=1e-10)
        assert reference.decode(e, *weights(crf)) == (list(best), pytest.approx(scores[best]))
        for t in range(length):
            for tag in range(crf.tags):
                those = [v for s, v in scores.items() if s[t] == tag]
                share = np.exp(np.logaddexp.reduce(those) - log_total)
                assert marginals[t, b, tag].item() == pytest.approx(share, abs=1e-10)
        assert not marginals[length:, b].any()
        assert (decoded.tags[length:, b] == -1).all()


def test_gradients() -> None:
    crf, emissions, y, lengths = random_case(3, 4, 3, 3)

    def run(emissions, start, end, transitions):
        parameters = {"start": start, "end": end, "transitions": transitions}
        return torch.func.functional_call(crf, parameters, (emissions, y, lengths))

    assert torch.autograd.gradcheck(
        run, (emissions.requires_grad_(), crf.start, crf.end, crf.transitions)
    )


def test_batch_first_lists_and_padding_do_not_matter() -> None:
    crf, emissions, y, lengths = random_case(4, 6, 5, 4)
    other = CRF(4, batch_first=True, dtype=torch.float64)
    other.load_state_dict(crf.state_dict())
    dirty = emissions.clone()
    for b, length in enumerate(lengths.tolist()):
        dirty[length:, b] = float("nan")
    wanted = crf(emissions, y, lengths)
    torch.testing.assert_close(other(dirty.transpose(0, 1), y.t(), lengths.tolist()), wanted)
    decoded = other.decode(dirty.transpose(0, 1), lengths.tolist())
    assert decoded.lists(batch_first=True) == crf.decode(emissions, lengths).lists()
    wanted.sum().backward()
    assert all(p.grad.isfinite().all() for p in crf.parameters())


def test_forbidden_transitions_are_never_taken() -> None:
    crf, emissions, _, _ = random_case(5, 9, 7, 4)
    crf.transitions.data[0, 1] = -float("inf")
    crf.start.data[2] = -float("inf")
    for tags in crf.decode(emissions).lists():
        assert tags[0] != 2
        assert (0, 1) not in itertools.pairwise(tags)


def test_learns_what_softmax_cannot() -> None:
    """Two tags that must alternate, and emissions that say nothing of which is which."""
    torch.manual_seed(0)
    crf = CRF(2)
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.1)
    tags = (torch.arange(8)[:, None] + torch.arange(2)) % 2
    for _ in range(60):
        loss = -crf(torch.zeros(8, 2, 2), tags).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hint = torch.zeros(8, 2, 2)
    hint[0, 0, 0] = hint[0, 1, 1] = 1
    assert torch.equal(crf.decode(hint).tags, tags)


def test_empty() -> None:
    crf = CRF(3)
    assert crf(torch.zeros(0, 2, 3), torch.zeros(0, 2, dtype=torch.long)).tolist() == [0, 0]
    assert crf.decode(torch.zeros(0, 2, 3)).lists() == [[], []]
    assert crf(torch.zeros(4, 0, 3), torch.zeros(4, 0, dtype=torch.long)).shape == (0,)
    assert crf.decode(torch.zeros(4, 0, 3)).tags.shape == (4, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(4, 2, 2), torch.zeros(4, 2).long()), ValueError, r"3 tags, got \[4, 2, 2\]"),
        ((torch.zeros(4, 2, 3), torch.zeros(3, 2).long()), ValueError, r"must be \[4, 2\]"),
        ((torch.zeros(4, 2, 3), torch.zeros(4, 2)), TypeError, "tags must be integers"),
        ((torch.zeros(4, 2, 3), torch.full((4, 2), 3)), ValueError, "from 0 to 2, got 3"),
        ((torch.zeros(4, 2, 3), torch.full((4, 2), -1)), ValueError, "from 0 to 2, got -1"),
        ((torch.zeros(4, 2, 3), torch.zeros(4, 2).long(), [4, 5]), ValueError, "from 0 to 4"),
        ((torch.zeros(4, 2, 3), torch.zeros(4, 2).long(), [4]), ValueError, r"must be \[2\]"),
        ((torch.zeros(4, 2, 3).long(), torch.zeros(4, 2).long()), TypeError, "must be floating"),
        (([[0.0]], torch.zeros(4, 2).long()), TypeError, "must be a torch tensor"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_errors(arguments, error, message) -> None:
    with pytest.raises(error, match=f"^CRF: .*{message}"):
        CRF(3)(*arguments)


def test_error_of_the_constructor() -> None:
    with pytest.raises(ValueError, match="CRF: tags must be at least 1, got 0"):
        CRF(0)

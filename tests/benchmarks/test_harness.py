"""The benchmarks' arithmetic: who has which turn, the statistics, the names, the newest result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import harness


def test_duel_takes_turns_on_the_same_input() -> None:
    calls: list[tuple[str, int]] = []
    duel = harness.Duel(lambda i: calls.append(("ours", i)), lambda i: calls.append(("peer", i)))
    for _ in range(2):
        duel.sample_peer()
        duel.sample_ours()
    assert calls == [("peer", 0), ("ours", 0), ("peer", 1), ("ours", 1)]


def test_duel_repeats_short_calls_and_limits_pairs() -> None:
    duel = harness.Duel(lambda i: None, lambda i: None)
    duel.run(0.05)
    assert duel.calls > 100
    assert harness.FEWEST_PAIRS <= len(duel.ours) == len(duel.peer) <= harness.MOST_PAIRS


def test_inputs_go_on_within_a_sample() -> None:
    calls: list[tuple[str, int]] = []
    duel = harness.Duel(lambda i: calls.append(("ours", i)), lambda i: calls.append(("peer", i)))
    duel.calls = 2
    for _ in range(2):
        duel.sample_peer()
        duel.sample_ours()
    assert [i for side, i in calls if side == "ours"] == [0, 1, 2, 3]
    assert [i for side, i in calls if side == "peer"] == [0, 1, 2, 3]


def test_timer_is_the_one_given() -> None:
    """A sample is all its calls in one piece, and its time is theirs divided by their number."""

    def timer(work: Callable[[], object]) -> float:
        done.append(0)
        work()
        return 6.0

    done: list[int] = []

    def count(index: int) -> None:
        done[-1] += 1

    duel = harness.Duel(count, count, timer)
    duel.calls = 3
    duel.sample_peer()
    duel.sample_ours()
    assert done == [3, 3]
    assert duel.peer == duel.ours == [2.0]


def test_slow_calls_have_few_pairs() -> None:
    duel = harness.Duel(lambda i: None, lambda i: None, lambda work: work() or 5.0)
    duel.run(1.0, fewest=3)
    assert len(duel.ours) == len(duel.peer) == 3


def test_statistics_are_of_the_pairs() -> None:
    duel = harness.Duel(lambda i: None, lambda i: None)
    # The machine slows down tenfold halfway: the pairs' ratios do not notice.
    duel.ours, duel.peer = [1.0, 1.0, 10.0, 10.0, 10.0], [2.0, 3.0, 20.0, 20.0, 10.0]
    statistics = duel.statistics()
    assert statistics == {
        "ours_ms": 10_000.0,
        "peer_ms": 10_000.0,
        "ratio": 2.0,
        "ratio_low": 2.0,
        "ratio_high": 2.0,
        "pairs": 5,
    }


@pytest.mark.parametrize(
    ("facts", "name", "slug"),
    [
        (
            {
                "model name": "AMD EPYC",
                "vendor_id": "AuthenticAMD",
                "cpu family": "26",
                "model": "2",
            },
            "AMD EPYC Zen 5",
            "amd-epyc-zen5-2c",
        ),
        (
            {
                "model name": "AMD EPYC 7763 64-Core Processor",
                "vendor_id": "AuthenticAMD",
                "cpu family": "25",
                "model": "1",
            },
            "AMD EPYC 7763 Zen 3",
            "amd-epyc-7763-zen3-2c",
        ),
        (
            {"model name": "Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz", "vendor_id": "GenuineIntel"},
            "Intel Xeon Gold 6230",
            "intel-xeon-gold-6230-2c",
        ),
    ],
)
def test_machine_names(facts: dict[str, str], name: str, slug: str) -> None:
    assert harness.cpu_name(facts) == name
    assert harness.machine_slug(name, "2c") == slug


def test_newest_result_of_each_machine_and_suite(tmp_path: Path) -> None:
    dates = ["2030-01-02T00:00:00+00:00", "2030-01-03T00:00:00+00:00", "2030-01-01T00:00:00+00:00"]
    for suite in ("rnn", "word2vec"):
        for date in dates:
            path = harness.write_results(suite, [], {"machine": "m", "date": date}, tmp_path)
            assert path.parent == tmp_path / "m"
            assert json.loads(path.read_text())["date"] == date
    newest = harness.read_newest(tmp_path)
    assert [(r["suite"], r["date"]) for r in newest] == [("rnn", dates[1]), ("word2vec", dates[1])]


def test_what_is_no_result_is_not_read(tmp_path: Path) -> None:
    machine = tmp_path / "m"
    facts = {"machine": "m", "date": "2030-01-01T00:00:00+00:00"}
    harness.write_json(machine / "summary.json", {"stages": []})
    harness.write_json(
        machine / "rnn-1.json", {"suite": "rnn", **facts, "rows": [], "self_test": True}
    )
    assert harness.read_newest(tmp_path) == []
    assert not list(machine.glob("*.part"))


def test_commit_of_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQFAST_COMMIT", "abc123")
    assert harness.commit() == "abc123"

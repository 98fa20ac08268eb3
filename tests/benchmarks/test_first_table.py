"""The table of `make demo` at toy size: six rows, with gensim and without."""

from __future__ import annotations

import importlib.util
import re

import pytest

pytest.importorskip("torch")

import torch

from benchmarks import first_table, harness

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("gensim", [True, False])
def test_six_rows(
    gensim: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    if gensim:
        pytest.importorskip("gensim")
    else:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a: None if name == "gensim" else find(name)
        )
    assert first_table.main(["--toy"]) == 0
    output = capsys.readouterr().out
    rows = [line for line in output.splitlines() if " ms" in line]
    assert len(rows) == 6
    compared = [row for row in rows if re.search(r"ms +[\d.]+ ms +\d+\.\d\d \w", row)]
    assert len(compared) == 6 - (not gensim)
    assert gensim or "to compare: pip install gensim" in output
    assert "To try next" in output


def test_a_ratio_is_the_others_time_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([2.0, 1.0] * 10)  # the peer's turn comes first
    monkeypatch.setattr(harness.WallTimer, "__call__", lambda self, work: next(clock))
    row = first_table.Row("a", "b", lambda _: None, lambda _: None)
    assert first_table.measured(row, 0.0)["ratio"] == 2.0


def test_wrong_results_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(torch.nn.LSTM):
        def forward(self, *arguments):
            output, state = super().forward(*arguments)
            return output + 0.1, state

    monkeypatch.setattr("seqfast.nn.LSTM", Wrong)
    with pytest.raises(AssertionError):
        next(first_table.rows(None, toy=True))

"""Habits of torch's users: their messages, their forms of lengths, their helps, their names."""

from __future__ import annotations

import pydoc
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import seqfast.nn
from seqfast.ops.rnn import torch as torch_rnn

KINDS = ("LSTM", "GRU", "RNN")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def refusals(call: Any) -> tuple[Exception, Exception]:
    """What torch's module raises, and what ours raises."""
    found = []
    for home in (nn, seqfast.nn):
        with pytest.raises(Exception) as refused:  # noqa: PT011 - whatever torch raises
            call(home)
        found.append(refused.value)
    return found[0], found[1]


@pytest.mark.parametrize(
    "options",
    [
        {"input_size": 0},
        {"input_size": 3.0},
        {"hidden_size": 0},
        {"hidden_size": 2.5},
        {"num_layers": 0},
        {"bias": 0},
        {"batch_first": "x"},
        {"dropout": 2},
        {"dropout": True},
        {"proj_size": -1},
        {"proj_size": 9},
        {"nonlinearity": "sigmoid"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_constructors_say_what_torchs_say(kind: str, options: dict[str, Any]) -> None:
    arguments = {"input_size": 3, "hidden_size": 4, **options}
    wanted, found = refusals(lambda home: getattr(home, kind)(**arguments))
    assert type(found) is type(wanted)
    words = str(wanted).removeprefix("RNNBase.").removeprefix("__init__()")
    assert words in str(found)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((3, 11), (3, 20)), "input has inconsistent input_size: got 11 expected 10"),
        (((3, 10), (3, 21)), "hidden0 has inconsistent hidden_size: got 21, expected 20"),
        (((3, 10), (5, 20)), "Input batch size 3 doesn't match hidden0 batch size 5"),
    ],
)
@pytest.mark.parametrize("kind", CELLS)
def test_cells_say_what_torchs_say(kind: str, shapes: Any, words: str) -> None:
    x, h = (torch.zeros(shape) for shape in shapes)
    wanted, found = refusals(
        lambda home: getattr(home, kind)(10, 20)(x, (h, h) if kind == "LSTMCell" else h)
    )
    assert str(wanted) == words
    assert words in str(found)
    if "hidden0" in words:  # and then in our own
        assert "hidden0 must be [3, 20], got " in str(found)


@pytest.mark.parametrize("kind", CELLS)
def test_plain_cells_do_not_ask_for_the_mode(kind: str) -> None:
    """One of PyTorch's own checks takes the flag away and looks who misses it."""
    cell = getattr(seqfast.nn, kind)(4, 5)
    del cell.training
    cell(torch.randn(3, 4))


# Lengths in every form that pack_padded_sequence takes.

FORMS: dict[str, Any] = {
    "list": [7, 2, 0],
    "tuple": (7, 2, 0),
    "int64": np.array([7, 2, 0]),
    "uint8": np.array([7, 2, 0], dtype=np.uint8),
    "tensors": [torch.tensor(7), torch.tensor(2), torch.tensor(0)],
    "numpy integers": [np.int32(7), np.int64(2), np.int16(0)],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_in_any_form(kind: str, form: str) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5)
    x = torch.randn(7, 3, 4)
    wanted = layer(x, lengths=torch.tensor([7, 2, 0]))
    torch.testing.assert_close(layer(x, lengths=FORMS[form]), wanted)
    mask = torch.ones(7, 3, dtype=torch.bool)
    torch.testing.assert_close(layer(x, lengths=FORMS[form], mask=mask), wanted)


def test_lengths_elsewhere() -> None:
    layer = seqfast.nn.GRU(4, 5)
    x = torch.randn(7, 4)
    torch.testing.assert_close(layer(x, lengths=np.int64(3)), layer(x, lengths=torch.tensor(3)))
    attention = seqfast.nn.Attention("dot", 5, 5)
    query, memory = torch.randn(2, 5), torch.randn(2, 6, 5)
    torch.testing.assert_close(
        attention(query, memory, [3, 6]), attention(query, memory, torch.tensor([3, 6]))
    )
    decoder = seqfast.nn.AttentionDecoder(
        nn.Embedding(9, 4), seqfast.nn.GRU(9, 5), attention, nn.Linear(5, 9)
    )
    ids = torch.randint(9, (2, 3))
    torch.testing.assert_close(
        decoder(ids, memory, [3, 6], lengths=(3, 1)),
        decoder(ids, memory, torch.tensor([3, 6]), lengths=torch.tensor([3, 1])),
    )


@pytest.mark.parametrize(
    ("lengths", "error", "words"),
    [
        ([1.0, 2.0, 3.0], TypeError, "lengths must be integers, got torch.float32"),
        ([True, False, True], TypeError, "lengths must be integers, got torch.bool"),
        (["a", "b", "c"], TypeError, "lengths must be integers, got"),
        ([[1], [2, 3]], TypeError, "lengths must be integers, got"),
        ("abc", TypeError, "a list, a tuple or a NumPy array, got str"),
        ({1, 2, 3}, TypeError, "a list, a tuple or a NumPy array, got set"),
        ([1, 2], ValueError, r"lengths must be \[3\], got \[2\]"),
        ([], ValueError, r"lengths must be \[3\], got \[0\]"),
        ([[1, 2, 3]], ValueError, r"lengths must be \[batch\], got \[1, 3\]"),
        ([1, 2, 8], ValueError, "lengths must be from 0 to 7, got 8"),
        ((1, -2, 3), ValueError, "lengths must be from 0 to 7, got -2"),
        ([1, 2, 10**30], TypeError, "lengths must be integers, got"),
    ],
)
def test_lengths_that_are_none(lengths: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"(?i)lstm: .*{words}"):
        seqfast.nn.LSTM(4, 5)(torch.randn(7, 3, 4), lengths=lengths)


# Names and help.


def test_taken_for_torch_nn() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'Linear'.*Use torch.nn.Linear"):
        seqfast.nn.Linear  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute 'Nonsense'$"):
        seqfast.nn.Nonsense  # noqa: B018
    assert not hasattr(seqfast.nn, "Linear")


@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_help(kind: str) -> None:
    value = getattr(seqfast.nn, kind)
    lines = value.__doc__.splitlines()
    assert sum(">>> " in line for line in lines[:6]) >= 3
    for method in (value.__init__, value.forward):
        text = method.__doc__
        assert "Args:" in text
        assert "Raises:" in text
        assert "Should be overridden" not in text
    assert "Returns:" in value.forward.__doc__
    assert "input_size" in pydoc.plain(pydoc.render_doc(value))


@pytest.mark.parametrize(
    "name", [name for name in seqfast.nn.__all__ if hasattr(getattr(seqfast.nn, name), "forward")]
)
def test_help_of_a_call(name: str) -> None:
    text = getattr(seqfast.nn, name).forward.__doc__
    assert "Args:" in text
    assert "Returns:" in text
    assert "Raises:" in text


# The operator where there are shapes alone.

WRONG = {
    "weight_hh 0-D": (1, ()),
    "weight_hh 1-D": (1, (20,)),
    "weight_hh 3-D": (1, (20, 5, 1)),
    "weight_ih 0-D": (0, ()),
    "weight_ih 1-D": (0, (4,)),
    "bias_ih 0-D": (2, ()),
    "bias_hh 2-D": (3, (20, 1)),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_meta_kernel_refuses_as_the_kernel_does(name: str) -> None:
    place, shape = WRONG[name]
    shapes = [(20, 4), (20, 5), (20,), (20,)]
    shapes[place] = shape
    messages = []
    for device in ("cpu", "meta"):
        weights = [torch.zeros(shape, device=device) for shape in shapes]
        x = torch.zeros(7, 3, 4, device=device)
        with pytest.raises(ValueError, match=name.split()[0]) as refused, torch.no_grad():
            torch_rnn.layer("lstm", x, None, None, [(*weights, None)], None, save=False)
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


# The page for those who come from torch.


def test_every_row_of_the_page_has_its_test() -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "coming_from_torch.md").read_text()
    rows = page.partition("## Habit by habit")[2].split("\n|")[3:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"(test_\w+\.py)::(test_\w+)", row)
        assert named, row
        for file, function in named:
            folder = root / "tests" if file == "test_types.py" else root / "tests" / "nn"
            assert f"def {function}(" in (folder / file).read_text(), row

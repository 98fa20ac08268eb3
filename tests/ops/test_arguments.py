"""Argument structs have the same fields on both sides of `_C`, and what does not fit is refused."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from seqfast import _C
from seqfast.ops.rnn.arguments import RnnSizes
from seqfast.ops.rnn.options import RnnOptions

HOMES = [
    "base.arguments", "beam_search.arguments", "corpus", "ctc.arguments",
    "ctc_decoder.arguments", "decoder",
    "dropout.arguments", "glove.arguments", "rnn.arguments", "rnn.options", "top_k.arguments",
    "word2vec.arguments",
]  # fmt: skip


def mirror_of(struct: str) -> Any:
    """Python's named tuple of that struct."""
    for home in HOMES:
        module = importlib.import_module(f"seqfast.ops.{home}")
        found = getattr(module, struct, None)
        # `Options` of a user may have a struct's name elsewhere: that one has no native fields.
        if found is not None and issubclass(found, tuple):
            return found
    raise AssertionError(f"seqfast.ops has no named tuple for {struct}")


@pytest.mark.parametrize("struct", _C.struct_names())
def test_both_sides_have_the_same_fields(struct: str) -> None:
    mirror = mirror_of(struct)
    assert mirror._fields == _C.field_names(struct)
    annotations = [mirror.__annotations__[name] for name in mirror._fields]
    spelled = [getattr(kind, "__forward_arg__", kind) for kind in annotations]
    # Weights are arrays on their way to being addresses.
    assert ["Address" if kind == "Any" else kind for kind in spelled] == [
        kind.replace("RnnWeightGradients", "RnnWeights")
        if mirror.__name__ == "RnnWeights"
        else kind
        for kind in _C.field_types(struct)
    ]


def test_every_struct_with_a_visitor_is_known() -> None:
    core = Path(__file__).resolve().parents[2] / "csrc" / "core"
    visited = set()
    for header in core.rglob("*.h"):
        visited |= set(re.findall(r"void visit\((\w+)&", header.read_text()))
    assert visited == set(_C.struct_names())


def test_unknown_struct() -> None:
    with pytest.raises(KeyError, match="field_names: no struct is called Attic"):
        _C.field_names("Attic")


SIZES = RnnSizes(0, 1, 1, 1, 1, 0, 1, 1)
OPTIONS = RnnOptions(0, False, 1, 0, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        (SIZES[:-1], OPTIONS, r"RnnSizes must have 8 fields, got 7"),
        ((*SIZES, 1), OPTIONS, r"RnnSizes must have 8 fields, got 9"),
        (SIZES._replace(batch="two"), OPTIONS, r"RnnSizes: batch must be an integer.*, got str"),
        (SIZES._replace(batch=2**70), OPTIONS, r"RnnSizes: batch must be an integer of 64 bits"),
        (
            SIZES._replace(threads=2**40),
            OPTIONS,
            r"RnnSizes: threads must be an integer of 32 bits",
        ),
        (SIZES, OPTIONS._replace(cell_clip=None), r"RnnOptions: cell_clip must be a number"),
        (SIZES, OPTIONS._replace(coupled=[]), r"RnnOptions: coupled must be a bool, got list"),
        (SIZES, OPTIONS._replace(seed="x"), r"RnnOptions: seed must be an address, got str"),
        (list(SIZES), OPTIONS, r"RnnSizes must be a named tuple, got list"),
    ],
)
def test_what_does_not_fit_is_refused(sizes: Any, options: Any, message: str) -> None:
    call = (0, 0, False, 0, False, True)
    with pytest.raises(TypeError, match=message):
        _C.cuda_rnn_strategy(call, sizes, options, False)


def test_too_many_structs() -> None:
    from seqfast.ops.rnn.arguments import RnnForwardArgs, RnnWeights, SequenceView

    weights = (RnnWeights._make([0] * len(RnnWeights._fields)),) * 3
    args = RnnForwardArgs(
        SIZES, OPTIONS, SequenceView(0, 0, 0), 0, 0, 0, 0, weights, 0, 0, 0, 0, 0, 0
    )
    with pytest.raises(
        TypeError, match=r"RnnForwardArgs: weights must be at most 2 structs, got 3"
    ):
        _C.rnn_forward(args, 0, 0)

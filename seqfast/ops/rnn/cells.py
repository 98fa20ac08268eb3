"""Cells and their options as the kernels name them, and which options go together."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from seqfast import _C
from seqfast.ops.base.checks import (
    NOT_NEGATIVE,
    PROBABILITY,
    Numbers,
    check_choice,
    check_flag,
    check_number,
    check_whole,
)
from seqfast.ops.rnn.options import CHOICES, CLIPS, FLAGS, OWNERS, PLAIN, Options, RnnOptions


class Traits(NamedTuple):
    """What is to be known of a cell beside its equations: CellTraits in csrc/core/cells/cell.h."""

    kind: int  # the kernels' code
    name: str
    operation: str  # lstm, gru or rnn
    gates: int  # blocks of rows of weight_ih, weight_hh and the biases
    saved: int  # numbers a unit keeps of each step
    first_gates: int  # gates in the first recurrent product of a step
    has_cell_state: bool
    carries_hidden: bool  # part of h[t-1] reaches h[t] past the products
    has_split_candidate: bool  # the recurrent share of the last gate has a gradient of its own
    has_second_product: bool  # the last gate's recurrent product comes after the first gate

    def saved_with(self, layer_norm: bool) -> int:
        """`saved`, and with layer normalisation the normalised products."""
        return self.saved + self.gates if layer_norm else self.saved


_CELLS = {traits["name"]: Traits(**traits) for traits in _C.cell_traits()}
_OPERATIONS = tuple(dict.fromkeys(traits.operation for traits in _CELLS.values()))

_CLIPS = Numbers("a finite number above 0, or 0 for none", NOT_NEGATIVE.hold)


class Cell(NamedTuple):
    """A cell with its options, checked."""

    traits: Traits
    gates: int  # of the traits
    saved: int  # numbers a unit keeps of each step in the array `gates`, normalised products too
    layer_norm: bool
    native: RnnOptions  # without a seed


def cell_of(operation: str, options: Options, layer_norm: bool) -> Cell:
    """The cell of that operation; TypeError or ValueError for options that cannot be."""
    try:
        return _cell_of(operation, options, layer_norm)
    except TypeError:
        # What cannot be hashed is of a wrong type, which its check says better.
        return _checked_cell(operation, options, layer_norm)


def _checked_cell(operation: str, options: Options, layer_norm: bool) -> Cell:
    _check_options(operation, options)
    traits = traits_of(operation, options)
    if layer_norm and traits.has_second_product:
        raise ValueError(
            f"{operation}: weight_norm_hh must be None with reset_after=False, got layer "
            "normalisation of what the reset gate has already changed"
        )
    native = RnnOptions.of(traits.kind, options, layer_norm)
    return Cell(traits, traits.gates, traits.saved_with(layer_norm), layer_norm, native)


_cell_of = lru_cache(_checked_cell)


def traits_of(operation: str, options: Options) -> Traits:
    """Of the cell that options which need not be checked ask for."""
    return _CELLS[_name_of(operation, options)]


def _name_of(operation: str, options: Options) -> str:
    """The dispatch of cells: a new one gets its line here."""
    if operation == "lstm" and (options.coupled_gates or not options.forget_gate):
        return "lstm_three_gates"
    if operation == "gru" and not options.reset_gate:
        return "gru_update_gate"
    if operation == "gru" and not options.reset_after:
        return "gru_reset_before"
    return operation


def _check_options(operation: str, options: Options) -> None:
    if operation not in _OPERATIONS:
        raise ValueError(f"{operation}: cell must be lstm, gru or rnn, got {operation!r}")
    if getattr(options, "_fields", None) != Options._fields:
        raise TypeError(f"{operation}: options must be Options, got {type(options).__name__}")
    for name in FLAGS:
        check_flag(operation, name, getattr(options, name))
    for name, choices in CHOICES.items():
        check_choice(operation, name, getattr(options, name), choices)
    for name in CLIPS:
        check_number(operation, name, getattr(options, name), _CLIPS)
    zoneout = options.zoneout
    if not isinstance(zoneout, tuple) or len(zoneout) != 2:
        raise TypeError(
            f"{operation}: zoneout must be a tuple of two probabilities, of the hidden and the "
            f"cell state, got {zoneout!r}"
        )
    zoneout_hidden, zoneout_cell = zoneout
    for name, value in (
        ("zoneout[0]", zoneout_hidden),
        ("zoneout[1]", zoneout_cell),
        ("recurrent_dropout", options.recurrent_dropout),
    ):
        check_number(operation, name, value, PROBABILITY)
    check_whole(operation, "layer", options.layer, 0, 2**27 - 1)
    _check_combinations(operation, options)


def _check_combinations(operation: str, options: Options) -> None:
    for name, owner in OWNERS.items():
        value = getattr(options, name)
        if operation != owner and value != getattr(PLAIN, name):
            raise ValueError(
                f"{operation}: {name} is an option of {owner} alone and must be "
                f"{getattr(PLAIN, name)!r}, got {value!r}"
            )
    if options.coupled_gates and not options.forget_gate:
        raise ValueError(
            f"{operation}: forget_gate must be True with coupled_gates, which is a forget gate of "
            "1 - i, got False"
        )
    if not (options.reset_after or options.reset_gate):
        raise ValueError(
            f"{operation}: reset_after must be True with reset_gate=False, got False: without a "
            "reset gate it has no meaning"
        )
    _, zoneout_cell = options.zoneout
    if operation != "lstm" and zoneout_cell != 0:
        raise ValueError(
            f"{operation}: zoneout[1] must be 0 without a cell state, got {zoneout_cell!r}"
        )
    if operation != "lstm" and options.recurrent_dropout_on == "cell":
        raise ValueError(
            f"{operation}: recurrent_dropout_on must not be 'cell' where there is no cell state: "
            "it is an option of lstm alone"
        )
    if operation == "rnn" and options.recurrent_dropout_on == "update":
        raise ValueError(
            "rnn: recurrent_dropout_on must be 'hidden', got 'update': an RNN has no candidate"
        )

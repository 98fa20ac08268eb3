"""Every cell with every option, as a random layer for the operation tests on any backend."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from seqfast import ops, reference
from seqfast.ops.rnn.options import Options
from support.cases import assert_close, to_torch

SEED = -(2**40) + 17


@dataclass(frozen=True)
class Variant:
    """A cell with its options, and which weights there are."""

    operation: str
    options: Options = field(default_factory=Options)
    gates: int = 1
    proj_size: int = 0
    bias: bool = True
    bias_hr: bool = False
    peephole: bool = False
    layer_norm: bool = False
    training: bool = False


def _lstm(gates: int = 4, **changes: Any) -> Variant:
    return _variant("lstm", gates, changes)


def _gru(gates: int = 3, **changes: Any) -> Variant:
    return _variant("gru", gates, changes)


def _rnn(**changes: Any) -> Variant:
    return _variant("rnn", 1, changes)


def _variant(operation: str, gates: int, changes: dict[str, Any]) -> Variant:
    options = {k: v for k, v in changes.items() if k in Options._fields}
    rest = {k: v for k, v in changes.items() if k not in options}
    return Variant(operation, Options(**options), gates, **rest)


_ON_HIDDEN = {"recurrent_dropout": 0.3, "training": True}
_ON_UPDATE = {**_ON_HIDDEN, "recurrent_dropout_on": "update"}
_ON_CELL = {**_ON_HIDDEN, "recurrent_dropout_on": "cell"}
_PREVIOUS = {"peephole": True, "peephole_on": "previous"}
_LINEAR = {"output_activation": "identity"}
_CLIPS = {"gate_clip": 0.875, "cell_clip": 0.625}  # exact in every dtype
_ZONEOUT = {"zoneout": (0.3, 0.2)}
_ZONEOUT_HIDDEN = {"zoneout": (0.3, 0.0)}
_NORM = {"layer_norm": True}

VARIANTS = {
    "lstm": _lstm(),
    "lstm-nobias": _lstm(bias=False),
    "lstm-peephole": _lstm(peephole=True),
    "lstm-clips": _lstm(**_CLIPS),
    "lstm-coupled": _lstm(3, coupled_gates=True, peephole=True),
    "lstm-forgetless": _lstm(3, forget_gate=False),
    "lstm-zoneout": _lstm(**_ZONEOUT, training=True),
    "lstm-zoneout-evaluated": _lstm(**_ZONEOUT),
    "lstm-on_hidden": _lstm(**_ON_HIDDEN),
    "lstm-on_update": _lstm(**_ON_UPDATE),
    "lstm-norm": _lstm(**_NORM),
    "lstm-projection": _lstm(proj_size=5, bias_hr=True),
    "lstm-everything": _lstm(**_CLIPS, **_ZONEOUT, **_ON_UPDATE, **_NORM, peephole=True, layer=3),
    "lstm-evaluated": _lstm(**_CLIPS, **_ZONEOUT, recurrent_dropout=0.3, **_NORM, peephole=True),
    "lstm-coupled-everything": _lstm(
        3, coupled_gates=True, **_CLIPS, **_ZONEOUT, **_ON_HIDDEN, **_NORM, peephole=True
    ),
    "lstm-forgetless-everything": _lstm(
        3, forget_gate=False, **_CLIPS, **_ZONEOUT, **_ON_UPDATE, **_NORM, peephole=True
    ),
    "lstm-projection-everything": _lstm(
        **_CLIPS, **_ZONEOUT, **_ON_HIDDEN, peephole=True, proj_size=3
    ),
    "lstm-new": _lstm(**_PREVIOUS, **_LINEAR, **_ON_CELL),
    "lstm-on_cell-evaluated": _lstm(recurrent_dropout=0.3, recurrent_dropout_on="cell"),
    "lstm-new-everything": _lstm(
        **_PREVIOUS, **_LINEAR, **_CLIPS, **_ZONEOUT, **_ON_CELL, **_NORM, layer=2
    ),
    "lstm-coupled-new": _lstm(3, coupled_gates=True, **_PREVIOUS, **_LINEAR, **_ON_CELL, **_CLIPS),
    "lstm-projection-new": _lstm(**_PREVIOUS, **_LINEAR, **_ON_CELL, proj_size=3),
    "gru": _gru(),
    "gru-nobias": _gru(bias=False),
    "gru-norm": _gru(**_NORM),
    "gru-norm-nobias": _gru(**_NORM, bias=False),
    "gru-zoneout-on_hidden": _gru(**_ZONEOUT_HIDDEN, **_ON_HIDDEN),
    "gru-everything": _gru(**_ZONEOUT_HIDDEN, **_ON_UPDATE, **_NORM, layer=1),
    "gru-evaluated": _gru(**_ZONEOUT_HIDDEN, recurrent_dropout=0.3),
    "gru_before": _gru(reset_after=False),
    "gru_before-nobias": _gru(reset_after=False, bias=False),
    "gru_before-everything": _gru(reset_after=False, **_ZONEOUT_HIDDEN, **_ON_HIDDEN),
    "gru_before-on_update": _gru(reset_after=False, **_ON_UPDATE),
    "gru_update": _gru(2, reset_gate=False),
    "gru_update-everything": _gru(2, reset_gate=False, **_ZONEOUT_HIDDEN, **_ON_UPDATE, **_NORM),
    "gru_update-on_hidden": _gru(2, reset_gate=False, **_ON_HIDDEN),
    "rnn": _rnn(),
    "rnn-relu": _rnn(nonlinearity="relu", bias=False),
    "rnn-norm": _rnn(**_NORM),
    "rnn-everything": _rnn(nonlinearity="relu", **_ZONEOUT_HIDDEN, **_ON_HIDDEN, **_NORM),
    "jordan": _rnn(proj_size=5, bias_hr=True),
    "jordan-relu": _rnn(proj_size=2, output_nonlinearity="relu"),
    "jordan-everything": _rnn(
        nonlinearity="relu",
        output_nonlinearity="sigmoid",
        proj_size=70,
        bias_hr=True,
        **_ZONEOUT_HIDDEN,
        **_ON_HIDDEN,
    ),
    "jordan-tanh": _rnn(proj_size=3, output_nonlinearity="tanh", **_ZONEOUT_HIDDEN),
}


@dataclass
class Case:
    """One layer's arguments and the gradients that come back to it, in float64."""

    variant: Variant
    input: Any
    hidden: Any
    cell: Any
    weights: list[tuple[Any, ...]]
    lengths: Any
    reset: Any
    seed: Any
    grads: tuple[Any, ...]  # of output, hidden_n and, of an LSTM, cell_n, cells

    @property
    def states(self) -> tuple[Any, ...]:
        return (self.hidden, self.cell) if self.variant.operation == "lstm" else (self.hidden,)

    def keywords(self) -> dict[str, Any]:
        return {"reset": self.reset, "seed": self.seed, "options": self.variant.options}

    def forward(self, module: Any, **more: Any) -> tuple[Any, ...]:
        function = getattr(module.rnn, f"{self.variant.operation}_forward")
        call = (self.input, *self.states, self.weights, self.lengths)
        results: tuple[Any, ...] = function(*call, **self.keywords(), **more)
        return results

    def backward(self, module: Any, results: tuple[Any, ...], **more: Any) -> tuple[Any, ...]:
        function = getattr(module.rnn, f"{self.variant.operation}_backward")
        states = len(self.states)
        kept = results[0], *results[1 + states :]
        if self.variant.layer_norm:
            *kept, more["statistics"] = kept
        call = (*self.grads, self.input, *self.states, self.weights, self.lengths, *kept)
        found: tuple[Any, ...] = function(*call, **self.keywords(), **more)
        return found

    def comparable(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """The results without those statistics that the cell has no use for."""
        if not self.variant.layer_norm:
            return results
        *others, statistics = results
        used = [0, 2, 3] if self.variant.operation == "lstm" else [0]
        if self.variant.gates == 3 and self.variant.operation == "gru":
            used = [0, 1]
        per_direction = statistics.reshape(*statistics.shape[:2], len(self.weights), 4)
        return (*others, per_direction[..., used])

    def both(self, module: Any) -> tuple[Any, Any]:
        results = self.forward(module)
        return results, self.backward(module, results)

    def tensors(self, dtype: str, device: str = "cpu") -> Case:
        grads = to_torch(self.grads, dtype, device)
        if dtype in ("bfloat16", "float16") and grads[3:] and grads[3] is not None:
            grads = (*grads[:3], grads[3].float())  # cells are kept in float32
        changes = {
            name: to_torch(getattr(self, name), dtype, device)
            for name in ("input", "hidden", "cell", "weights", "lengths", "reset", "seed")
        }
        return replace(self, **changes, grads=grads)

    def on(self, backend: Any) -> Case:
        """As the backend takes it: NumPy arrays on the CPU, tensors for a GPU."""
        return self if backend.device == "cpu" else self.tensors("float64", backend.device)


def make_case(
    variant: Variant | str,
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    directions: int = 1,
    *,
    states: bool = True,
    ragged: bool = False,
    resets: bool = False,
    product: bool = False,
    rng_seed: int = 0,
) -> Case:
    """`product`: weight_ih is None, and the input what it would have made."""
    if isinstance(variant, str):
        variant = VARIANTS[variant]
    rng = np.random.default_rng(rng_seed)
    proj_size = variant.proj_size
    output_size = proj_size or hidden_size
    rows = variant.gates * hidden_size

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        # Multiples of 1/64 below 2 are exact in every dtype: all start from the same numbers.
        return np.clip(np.round(rng.standard_normal(shape) * scale * 64) / 64, -1.98, 1.98)

    def maybe(there: bool, *shape: int, scale: float = 0.5) -> np.ndarray | None:
        return draw(*shape, scale=scale) if there else None

    scale = 1 / np.sqrt(max(hidden_size, input_size, 4))
    has_cell = variant.operation == "lstm"
    norm = variant.layer_norm
    weights = []
    for _ in range(directions):
        row = (
            maybe(not product, rows, input_size, scale=scale),
            draw(rows, output_size, scale=scale),
            maybe(variant.bias, rows),
            maybe(variant.bias, rows),
            maybe(proj_size > 0, proj_size, hidden_size, scale=scale),
            maybe(variant.bias_hr, proj_size),
            maybe(variant.peephole, 3, hidden_size),
            maybe(norm, rows),
            maybe(norm and has_cell, hidden_size),
            maybe(norm and has_cell, hidden_size),
        )
        last = max(k for k, weight in enumerate(row) if weight is not None)
        weights.append(row[: max(5, last + 1)])
    lengths = reset = None
    if ragged:
        lengths = rng.integers(0, steps + 1, batch)
        lengths[: min(2, batch)] = [0, steps][: min(2, batch)]
        lengths = rng.permutation(lengths)
    if resets:
        reset = rng.random((steps, batch)) < 0.3
    grads = [draw(steps, batch, directions * output_size), draw(directions, batch, output_size)]
    if has_cell:
        grads.append(draw(directions, batch, hidden_size))
        grads.append(draw(steps, batch, directions * hidden_size, scale=0.1))
    return Case(
        variant,
        draw(steps, batch, directions * rows if product else input_size),
        draw(directions, batch, output_size) if states else None,
        draw(directions, batch, hidden_size) if states and has_cell else None,
        weights,
        lengths,
        reset,
        np.array(SEED) if variant.training else None,
        tuple(grads),
    )


# What a layer can meet: steps, batch, input, hidden, directions, and what else there is.
WAYS: dict[str, tuple[tuple[int, ...], dict[str, bool]]] = {
    "small": ((3, 2, 3, 7), {}),
    "reset": ((6, 5, 5, 17), {"ragged": True, "resets": True}),
    "both": ((4, 9, 13, 64, 2), {"ragged": True}),
    "product": ((5, 3, 1, 65), {"product": True, "resets": True}),
    "product-both": ((3, 17, 1, 10, 2), {"product": True, "states": False}),
    "ones": ((1, 1, 1, 1), {}),
    "wide": ((3, 70, 11, 33), {"resets": True, "states": False}),
}


def way_case(name: str, way: str) -> Case:
    shape, more = WAYS[way]
    return make_case(name, *shape, **more)


@cache
def reference_results(name: str, way: str) -> tuple[Any, Any]:
    """The twin's forward and backward results, in float64."""
    return way_case(name, way).both(reference)


def check_case(case: Case, wanted: tuple[Any, Any], dtype: str, device: str) -> None:
    """Both passes against `wanted`, the twin's results in float64."""
    tensors = case.tensors(dtype, device)
    forward = tensors.forward(ops)
    assert_close(case.comparable(forward), case.comparable(wanted[0]), dtype)
    backward = tensors.backward(ops, forward)
    if dtype in ("float32", "float64"):
        assert_close(backward, wanted[1], dtype)
        return
    # With 8 or 11 bits a number may fall on the other side of relu or of a clip, where slopes jump.
    if case.variant.options.gate_clip:
        if case.input.size > 1:  # else all there is may be next to a clip
            assert_norms_close(backward, wanted[1])
    else:
        # So the twin has what this forward pass kept.
        kept = tuple(result.double().cpu().numpy() for result in forward)
        assert_close(backward, case.backward(reference, kept), dtype)


def assert_norms_close(actual: Any, wanted: Any) -> None:
    """For gates kept in few bits, of which those next to a clip count as clipped."""
    if isinstance(wanted, (tuple, list)):
        for one, other in zip(actual, wanted, strict=True):
            assert_norms_close(one, other)
    elif wanted is None:
        assert actual is None
    else:
        difference = np.linalg.norm(actual.double().cpu().numpy() - wanted)
        assert difference <= 0.3 * np.linalg.norm(wanted) + 0.1

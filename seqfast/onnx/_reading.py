"""A recurrent node of an ONNX file as a layer of seqfast.nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils import skip_init

from seqfast.nn.gru import GRU
from seqfast.nn.lstm import LSTM
from seqfast.nn.rnn import RNN
from seqfast.onnx._file import Array, Node, Source, find_node
from seqfast.onnx._native import NONLINEARITIES, OPERATORS, PEEPHOLES, WEIGHT_INPUTS, gates_of
from seqfast.onnx._reverse import ReverseLayer
from seqfast.ops.rnn.options import Options

_LAYERS = {"LSTM": ("lstm", LSTM), "GRU": ("gru", GRU), "RNN": ("rnn", RNN)}
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_SUFFIXES = ("", "_reverse")
_LENGTHS, _HIDDEN, _CELL_STATE = 4, 5, 6  # inputs of a node
# Of each kind, and which of its activations our cell has.
_ACTIVATIONS = {
    "LSTM": (("Sigmoid",), ("Tanh",), ("Tanh",)),
    "GRU": (("Sigmoid",), ("Tanh",)),
    "RNN": (("Tanh", "Relu"),),
}
_KNOWN = {
    *("relu", "tanh", "sigmoid", "affine", "leakyrelu", "thresholdedrelu", "scaledtanh"),
    *("hardsigmoid", "elu", "softsign", "softplus"),
}
_SHARED = {"activation_alpha", "activation_beta", "activations", "clip", "direction"}
_OWN = {"LSTM": {"input_forget"}, "GRU": {"linear_before_reset"}, "RNN": set[str]()}
_NO_CLIP = float(np.finfo(np.float32).max)  # what some exporters write for none


def load_rnn(
    source: Source | Any,
    name: str | None = None,
    *,
    weights: Any = None,
    return_states: bool = False,
    device: Any = None,
) -> Any:
    """Makes a layer from an LSTM, GRU or RNN node of an ONNX model, with its weights and options.

    The operators are those of the ONNX standard: https://onnx.ai/onnx/operators/.

    Args:
        source: a path, an `onnx.ModelProto`, `GraphProto` or `NodeProto`, or the result of
            `seqfast.onnx.export`.
        name: of the node, or of one of its outputs; optional if there is only one such node. Nodes
            inside If, Loop and Scan are found too.
        weights: only for a NodeProto: a mapping of its inputs' names to arrays or TensorProtos, or
            the `GraphProto` or `ModelProto` that it is from.
        return_states: also return the initial states in the file.
        device: of the layer's parameters.

    Returns:
        A `seqfast.nn.LSTM`, `GRU` or `RNN` of one layer, in the dtype of the weights, or a
        `ReverseLayer` around it for a node of direction "reverse". `layout=1` gives
        `batch_first=True`. Pass the node's inputs `sequence_lens` and `initial_h` as `lengths=` and
        `hx` of the call. With `return_states` a pair of the layer and its `hx`: [directions, batch,
        hidden_size], for an LSTM two of them, None if the file has none.

    Raises:
        ValueError: weights or sizes that are not in the file, sizes that do not fit, activations
            and clips that the layer lacks, and a file that is truncated or not an ONNX model; the
            message names file and node.
        TypeError: another type of source or weights.
        OSError: a file that cannot be opened.

    Example:
        >>> import numpy as np, onnx, seqfast
        >>> node = onnx.helper.make_node("GRU", ["X", "W", "R"], ["Y"], linear_before_reset=1)
        >>> weights = {"W": np.ones((1, 24, 4), np.float32), "R": np.ones((1, 24, 8), np.float32)}
        >>> seqfast.onnx.load_rnn(node, weights=weights)
        GRU(4, 8, bias=False)
    """
    node = find_node(source, name, weights)
    reader = _Reader(node)
    states = reader.states()
    if states is not None and not return_states and any(state.any() for state in states):
        node.refuse(
            "initial_h or initial_c is in the file and not zero: ask for it with "
            "return_states=True, and give it to the layer as hx"
        )
    layer = reader.layer(device)
    if not return_states:
        return layer
    if states is None:
        return layer, None
    hx = [_tensor(state).to(device) for state in states]
    return layer, (tuple(hx) if reader.cell == "lstm" else hx[0])


class _Reader:
    """Checks a node, then makes the layer."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cell, self.kind = _LAYERS[node.kind]
        self.given = node.attributes()
        known = _SHARED | _OWN[node.kind] | {"hidden_size", "layout", "output_sequence"}
        unknown = sorted(set(self.given) - known)
        if unknown:
            node.refuse(f"the attribute {unknown[0]} is not one of ONNX's {node.kind}")
        direction = self.given.get("direction", "forward")
        if direction not in _DIRECTIONS:
            node.refuse(f"direction must be one of {', '.join(_DIRECTIONS)}, got {direction!r}")
        self.direction, self.directions = direction, _DIRECTIONS[direction]
        self.batch_first = self._flag("layout")
        self.options = self._options()
        if node.is_constant(_LENGTHS):
            node.refuse(
                "sequence_lens is in the file: a layer takes lengths= with each call; take that "
                "input away from the node"
            )
        self._read_weights()

    # Attributes.

    def _flag(self, name: str) -> bool:
        value = self.given.get(name, 0)
        if value not in (0, 1):
            self.node.refuse(f"{name} must be 0 or 1, got {value!r}")
        return bool(value)

    def _options(self) -> dict[str, Any]:
        """Arguments of the layer's constructor."""
        options: dict[str, Any] = {}
        named = self._activations()
        clip = self.given.get("clip")
        if clip is not None and not (isinstance(clip, float) and clip > 0):
            self.node.refuse(f"clip must be a number above 0, got {clip!r}")
        if clip is not None and clip < _NO_CLIP:
            if self.cell != "lstm":
                self.node.refuse(f"clip must be left out: seqfast's {self.node.kind} has none")
            options["gate_clip"] = clip
        if self.cell == "lstm":
            options["coupled_gates"] = self._flag("input_forget")
        elif self.cell == "gru":
            options["reset_after"] = self._flag("linear_before_reset")
        else:
            ours = {theirs.lower(): name for name, theirs in NONLINEARITIES.items()}
            options["nonlinearity"] = ours[named[0].lower()]
        return options

    def _activations(self) -> list[str]:
        """Of one direction; those of both must be the same."""
        wanted = _ACTIVATIONS[self.node.kind]
        named = self.given.get("activations") or [each[0] for each in wanted] * self.directions
        if len(named) != len(wanted) * self.directions:
            self.node.refuse(
                f"activations must be {len(wanted) * self.directions} names, got {named}"
            )
        for place, name in enumerate(named):
            if name.lower() not in _KNOWN:
                self.node.refuse(f"the activation {name!r} is not one of ONNX's")
            choices = wanted[place % len(wanted)]
            if name.lower() not in [choice.lower() for choice in choices]:
                self.node.refuse(
                    f"activations[{place}] must be {' or '.join(choices)}, which seqfast's "
                    f"{self.node.kind} has, got {name!r}"
                )
        first, second = named[: len(wanted)], named[len(wanted) :]
        if second and [n.lower() for n in first] != [n.lower() for n in second]:
            self.node.refuse(f"activations must be the same in both directions, got {named}")
        return list(first)

    # Weights.

    def _read_weights(self) -> None:
        node = self.node
        read = {
            letter: node.constant(place, letter)
            for letter, place in WEIGHT_INPUTS.items()
            if letter in "WR" or node.input(place)
        }
        dtype = read["R"].dtype
        for letter, array in read.items():
            if _tensor_dtype(array) is None:
                node.refuse(f"{letter} must be of a floating dtype, got {array.dtype}")
            if array.dtype != dtype:
                node.refuse(f"{letter} must be {dtype}, as R is, got {array.dtype}")
        gates, (D, recurrent) = len(OPERATORS[self.cell].gates), (self.directions, read["R"])
        size = recurrent.shape[-1] if recurrent.ndim else 0
        stated = self.given.get("hidden_size")
        if stated is not None and not (isinstance(stated, int) and stated > 0):
            node.refuse(f"hidden_size must be a whole number above 0, got {stated!r}")
        self.hidden_size = int(size if stated is None else stated)
        self.input_size = int(read["W"].shape[-1]) if read["W"].ndim else 0
        rows = gates * self.hidden_size
        wanted = {
            "W": (D, rows, self.input_size),
            "R": (D, rows, self.hidden_size),
            "B": (D, 2 * rows),
            "P": (D, 3 * self.hidden_size),
        }
        for letter, array in read.items():
            if array.shape != wanted[letter] or 0 in array.shape:
                node.refuse(
                    f"{letter} must be {list(wanted[letter])} with hidden_size="
                    f"{self.hidden_size} and direction={self.direction!r}, and not empty, got "
                    f"{list(array.shape)}"
                )
        self.read = read

    def states(self) -> list[Array] | None:
        """Those the file holds, [directions, batch, hidden_size]."""
        places = {"initial_h": _HIDDEN, "initial_c": _CELL_STATE}
        if self.cell != "lstm":
            del places["initial_c"]
        held = {
            name: self.node.constant(place, name)
            for name, place in places.items()
            if self.node.is_constant(place)
        }
        if not held:
            return None
        found = []
        for name in places:
            state = held.get(name, np.zeros_like(next(iter(held.values()))))
            order = ("batch", "directions") if self.batch_first else ("directions", "batch")
            if state.ndim != 3 or state.shape[2] != self.hidden_size:
                self.node.refuse(
                    f"{name} must be [{', '.join(order)}, {self.hidden_size}], "
                    f"got {list(state.shape)}"
                )
            state = state.transpose(1, 0, 2) if self.batch_first else state
            if state.shape[0] != self.directions or state.dtype != self.read["R"].dtype:
                self.node.refuse(
                    f"{name} must be {self.read['R'].dtype} of {self.directions} directions, got "
                    f"{state.dtype} of {state.shape[0]}"
                )
            found.append(state)
        return found

    def layer(self, device: Any) -> Module:
        made: Any = skip_init(
            self.kind,
            self.input_size,
            self.hidden_size,
            bias="B" in self.read,
            batch_first=self.batch_first,
            bidirectional=self.directions == 2,
            **({"peephole": True} if "P" in self.read else {}),
            **self.options,
            device=device if device is not None else "cpu",
            dtype=_tensor_dtype(self.read["R"]),
        )
        with torch.no_grad():
            for name, array in self._parameters().items():
                getattr(made, name).copy_(_tensor(array))
        return ReverseLayer(made) if self.direction == "reverse" else made

    def _parameters(self) -> dict[str, Array]:
        """By our names, in our order."""
        theirs, size = OPERATORS[self.cell].gates, self.hidden_size
        coupled = bool(self.options.get("coupled_gates"))
        ours = gates_of(self.cell, Options(coupled_gates=coupled))

        def reordered(rows: Array) -> Array:
            blocks = {g: rows[k * size : (k + 1) * size] for k, g in enumerate(theirs)}
            return np.concatenate([blocks[gate] for gate in ours])

        found = {}
        for d in range(self.directions):
            of = {"weight_ih": self.read["W"][d], "weight_hh": self.read["R"][d]}
            if "B" in self.read:
                of["bias_ih"], of["bias_hh"] = np.split(self.read["B"][d], 2)
            for name, array in of.items():
                found[f"{name}_l0{_SUFFIXES[d]}"] = reordered(array)
            if "P" in self.read:
                rows = self.read["P"][d].reshape(3, size)
                order = [PEEPHOLES.index(gate) for gate in "ifo"]
                found[f"weight_peephole_l0{_SUFFIXES[d]}"] = rows[order]
        return found


_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
}


def _tensor_dtype(array: Array) -> torch.dtype | None:
    return _DTYPES.get(array.dtype.name)


def _tensor(array: Array) -> Tensor:
    array = np.array(array)  # in memory of its own, that may be written
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)

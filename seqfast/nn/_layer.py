"""The stack of recurrent layers behind RNN, GRU and LSTM."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import Parameter
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from seqfast.nn._base import (
    WEIGHTS,
    RecurrentOptions,
    Weights,
    initialise,
    layer_of,
)
from seqfast.nn._checks import (
    autocast,
    autocast_dtype,
    check_devices,
    check_lengths,
    check_mask,
    check_state_dtypes,
    check_tensor,
    lengths_tensor,
    requires_grad,
)
from seqfast.nn._padding import Compaction, Packing, running
from seqfast.nn._random import draw_seed, drop_weight, dropout
from seqfast.nn._torch_face import TorchFace
from seqfast.nn._tracing import fx_is_on, node_of, profiler_is_on, recorded
from seqfast.ops.base.checks import is_number
from seqfast.ops.dropout.torch import INPUT_DROPOUT, OUTPUT_DROPOUT, WEIGHT_DROPOUT
from seqfast.ops.rnn import torch as torch_rnn

HiddenSize = int | Sequence[int]
State = Tensor | Sequence[Tensor]  # one for each layer where they have sizes of their own
Lengths = Tensor | Sequence[int] | npt.NDArray[Any]


class RecurrentLayer(TorchFace):
    """What RNN, GRU and LSTM have in common: everything but their options' names."""

    mode: str
    input_size: int
    dropout: float
    bidirectional: bool
    proj_size: int

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: Any,
        options: RecurrentOptions,
    ) -> None:
        # Past torch's constructor, whose parameters are not ours.
        super(torch.nn.RNNBase, self).__init__()  # type: ignore[misc]
        if isinstance(hidden_size, (tuple, list)):
            hidden_size = tuple(hidden_size)
            num_layers = self._count_layers(hidden_size, num_layers)
        self._check_arguments(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size
        )
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size  # type: ignore[assignment]  # any other sequence is refused
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._set_options(options)
        self._check_wiring()
        self._flat_weights_names = []
        self._all_weights = []

        def register(name: str, shape: tuple[int, ...]) -> None:
            self.register_parameter(name, Parameter(torch.empty(shape, device=device, dtype=dtype)))

        for layer, size in enumerate(self._hidden_sizes):
            output_size = self._output_sizes[layer]
            projected = proj_size > 0 or self.feedback == "output"
            shapes = self._weight_shapes(self._input_size(layer), size, output_size, projected)
            for suffix in ("", "_reverse")[: self._directions]:
                names = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values(), strict=True):
                    register(name, shape)
                self._flat_weights_names += names
                self._all_weights.append(names)
            if self.highway and layer > 0:
                width = output_size * self._directions
                register(f"weight_highway_l{layer}", (width, width))
                register(f"bias_highway_l{layer}", (width,))
        self._init_flat_weights()
        self.reset_parameters()

    # Sizes.

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _hidden_sizes(self) -> tuple[int, ...]:
        size = self.hidden_size
        return size if isinstance(size, tuple) else (size,) * self.num_layers

    @property
    def _output_sizes(self) -> tuple[int, ...]:
        """Features of each layer's output, for one direction."""
        sizes = self._hidden_sizes
        if self.proj_size:
            return (self.proj_size,) * len(sizes)
        if self.feedback == "output" and self.output_size is not None:
            return (self.output_size,) * len(sizes)
        return sizes

    def _input_size(self, layer: int) -> int:
        widths = [size * self._directions for size in self._output_sizes[:layer]]
        if self.dense:
            return self.input_size + sum(widths)
        return widths[-1] if widths else self.input_size

    # Parameters.

    def reset_parameters(self) -> None:
        """Draws every parameter from U(-k, k), k = 1 / sqrt(hidden_size).

        Scales of layer normalisation start at 1, its shifts at 0, the biases of highway gates at
        -1; `forget_bias` is added to the forget gates' bias_ih.
        """
        sizes = self._hidden_sizes
        for name, parameter in self.named_parameters():
            initialise(parameter, name, 1.0 / math.sqrt(sizes[layer_of(name)]))
        if self.forget_bias is not None:
            with torch.no_grad():
                for names in self._all_weights:
                    bias = getattr(self, names[WEIGHTS.index("bias_ih")])
                    bias.chunk(4)[1].add_(self.forget_bias)

    def _layer_weights(self, layer: int) -> list[Weights]:
        """Read anew at each call: hooks, parametrizations and functional_call may replace them."""
        directions = self._directions
        parameters: Any = self._parameters
        slots = self._slots
        if "_flat_weights" in self.__dict__ and (replaced := self._replaced_weights()):
            parameters = {**parameters, **replaced}
        weights = []
        for names in self._all_weights[layer * directions : (layer + 1) * directions]:
            values: list[Any] = [None] * len(WEIGHTS)
            for slot, name in zip(slots, names, strict=True):
                weight = parameters.get(name)
                values[slot] = self._weight_by_name(name) if weight is None else weight
            weights.append(Weights.of(values))
        return weights

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts + self._options_repr())

    def _options_beyond_torch(self) -> list[str]:
        sizes = [f"hidden_size={self.hidden_size}"] if isinstance(self.hidden_size, tuple) else []
        return sizes + super()._options_beyond_torch()

    # The forward pass.

    def _forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any,
        lengths: Any,
        mask: Tensor | None,
        reset: Tensor | None,
        return_cells: bool,
    ) -> Any:
        """output, states and, where asked for, cells, in the form the input has."""
        nothing_more = lengths is None and mask is None and reset is None and not return_cells
        native = self._native
        if native is not None and nothing_more and not is_compiling():
            found = native.layer(self, input, hx)
            if found is not None:
                return found
        if profiler_is_on():
            with recorded(self._name):
                return self._forward_any(input, hx, lengths, mask, reset, return_cells)
        return self._forward_any(input, hx, lengths, mask, reset, return_cells)

    def _forward_any(
        self,
        input: Tensor | PackedSequence,
        hx: Any,
        lengths: Any,
        mask: Tensor | None,
        reset: Tensor | None,
        return_cells: bool,
    ) -> Any:
        name = self._name
        if isinstance(input, PackedSequence):
            for argument, value in (("lengths", lengths), ("mask", mask), ("reset", reset)):
                if value is not None:
                    raise ValueError(
                        f"{name}: {argument} must be None for a PackedSequence, which has its own "
                        "lengths"
                    )
            return self._forward_packed(input, hx, return_cells)
        if type(input) is not Tensor or fx_is_on():
            rest = {"lengths": lengths, "mask": mask, "reset": reset, "return_cells": return_cells}
            if (node := node_of(self, input, {"hx": hx, **rest})) is not None:
                return node
            check_tensor(name, "input", input)
        lengths = lengths_tensor(name, lengths)
        if input.dim() not in (2, 3):
            got = f"{input.dim()}D tensor" if self._cell == "rnn" else f"{input.dim()}D"
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {got} instead")
        batched = input.dim() == 3
        states = self._flat_states(hx)
        if states is not None and any(state.dim() != input.dim() for state in states):
            kind = "batched 3-D" if batched else "unbatched 2-D"
            self._refuse_rank(f"{kind} input", f"{input.dim()}-D", states)
        if lengths is not None and lengths.dim() != input.dim() - 2:
            wanted = "[batch]" if batched else "[] for unbatched input"
            raise ValueError(f"{name}: lengths must be {wanted}, got {list(lengths.shape)}")
        if mask is not None:
            check_mask(name, "mask", mask, input)
        if reset is not None:
            check_mask(name, "reset", reset, input)
            if self.bidirectional:
                raise ValueError(f"{name}: reset needs bidirectional=False, got bidirectional=True")
        if not batched:
            input = input.unsqueeze(1)
            states = None if states is None else [state.unsqueeze(1) for state in states]
            lengths = None if lengths is None else lengths.unsqueeze(0)
            mask = None if mask is None else mask.unsqueeze(1)
            reset = None if reset is None else reset.unsqueeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1)
            mask = None if mask is None else mask.transpose(0, 1)
            reset = None if reset is None else reset.transpose(0, 1)

        output, states, cells = self._run(input, states, lengths, mask, reset, return_cells)
        if not batched:
            output = output.squeeze(1)
            states = [state.squeeze(1) for state in states]
            cells = [layer.squeeze(1) for layer in cells]
        elif self.batch_first:
            output = output.transpose(0, 1)
            cells = [layer.transpose(0, 1) for layer in cells]
        return self._results(output, states, cells, return_cells)

    def _forward_packed(
        self, packed: PackedSequence, hx: Any, return_cells: bool
    ) -> tuple[Any, ...]:
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        if data.dim() != 2:
            raise RuntimeError(f"{self._name}: input must have 2 dimensions, got {data.dim()}")
        states = self._flat_states(hx)
        if states is not None and any(state.dim() != 3 for state in states):
            self._refuse_rank("packed input", "3-D", states)
        if states is not None and sorted_indices is not None:
            states = [state.index_select(1, sorted_indices) for state in states]
        packing = Packing(self._name, batch_sizes, data)
        output, states, cells = self._run(
            packing.pad(data), states, packing.lengths, None, None, return_cells
        )
        if unsorted_indices is not None:
            states = [state.index_select(1, unsorted_indices) for state in states]
        result = PackedSequence(
            packing.unpad(output), batch_sizes, sorted_indices, unsorted_indices
        )
        return self._results(result, states, [packing.unpad(c) for c in cells], return_cells)

    def _run(
        self,
        input: Tensor,
        states: list[Tensor] | None,
        lengths: Tensor | None,
        mask: Tensor | None,
        reset: Tensor | None,
        return_cells: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """All layers on a time-major batch: output, flat states and, where asked for, cells."""
        weights = [self._layer_weights(layer) for layer in range(self.num_layers)]
        dtype = autocast_dtype(input)
        first, *_ = weights[0]
        self._check_input(input, first.recurrence.weight_ih, states, dtype is not None)
        if dtype is not None:
            input = autocast(input, dtype)

            def cast(weight: Tensor) -> Tensor:
                return autocast(weight, dtype)

            weights = [[row.cast(cast) for row in rows] for rows in weights]
            states = None if states is None else [autocast(state, dtype) for state in states]
        if mask is None:
            return self._run_layers(input, states, weights, lengths, reset, return_cells)
        if lengths is not None:
            check_lengths(self._name, lengths, [input.shape[1]])
        steps = Compaction(mask, lengths, reset)
        output, states, cells = self._run_layers(
            steps.compact(input), states, weights, steps.lengths, steps.reset, return_cells
        )
        return (
            steps.spread(output),
            [steps.final(state) for state in states],
            [steps.spread(layer) for layer in cells],
        )

    def _run_layers(
        self,
        input: Tensor,
        states: list[Tensor] | None,
        weights: list[list[Weights]],
        lengths: Tensor | None,
        reset: Tensor | None,
        return_cells: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        each = [self._layer_states(states, layer) for layer in range(self.num_layers)]
        output, hidden_n, cell_n, cells = self._run_stack(
            input, each, weights, lengths, reset, return_cells
        )
        if isinstance(self.hidden_size, tuple) or self.num_layers == 1:
            return output, hidden_n + cell_n, cells
        return output, [torch.cat(group) for group in (hidden_n, cell_n) if group], cells

    def _run_stack(
        self,
        input: Tensor,
        states: Sequence[tuple[Tensor | None, Tensor | None]],
        weights: list[list[Weights]],
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        return_cells: bool = False,
        *,
        given_product: bool = False,
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Output, then of each layer the last hidden state, the last cell state, every cell.

        `states`: hidden and cell of each layer. With `given_product` the input is its product with
        the first layer's weight_ih already: not with `layer_norm` or `dense`, which need itself.
        """
        # A trace is checked without gradients, and must be the same graph.
        grad = torch.is_grad_enabled() or torch_rnn.is_tracing()
        seed = draw_seed(input) if self.training and self._draws() else None
        kernel_seed = seed if seed is not None and self._kernel_draws() else None
        if self.layer_norm and lengths is not None:
            check_lengths(self._name, lengths, [input.shape[1]])
            # The kernels leave padding alone, but this product reads it, and 0 * NaN is NaN.
            input = torch.where(running(lengths, input.shape[0], input)[:, :, None], input, 0)
        last = self.num_layers - 1
        hidden_n, cell_n, cells = [], [], []
        below, seen = input, [input]  # the layer's input before dropout; all there was, after it
        for layer, rows in enumerate(weights):
            hidden, cell = states[layer]
            shared = input
            if seed is not None:
                if self.input_dropout > 0:
                    shared = dropout(shared, self.input_dropout, seed, INPUT_DROPOUT, layer)
                if self.weight_dropout > 0:
                    rows = self._drop_weights(rows, seed, layer)
            if self.layer_norm:
                shared = self._normalised_product(shared, rows)
                rows = [row.without_input_product() for row in rows]
            elif given_product and layer == 0:
                rows = [row.without_input_product() for row in rows]
            tensors = (tensor for row in rows for tensor in row.recurrence)
            save = return_cells or (grad and requires_grad(shared, hidden, cell, *tensors))
            recurrences = [row.recurrence for row in rows]
            output, h, c, every_c = self._kernel(
                shared, hidden, cell, recurrences, lengths, reset, kernel_seed, layer, save
            )
            hidden_n.append(h)
            if c is not None:
                cell_n.append(c)
            if return_cells and every_c is not None:
                cells.append(every_c)
            if layer > 0:
                if self.residual:
                    output = output + below
                elif self.highway:
                    output = self._pass_highway(output, below, layer)
            below = input = output
            if layer == last:
                break
            if seed is not None and self.dropout > 0:
                input = dropout(input, self.dropout, seed, OUTPUT_DROPOUT, layer, per_step=True)
            if self.dense:
                seen.append(input)
                input = torch.cat(seen, -1)
        return output, hidden_n, cell_n, cells

    def _draws(self) -> bool:
        """Whether a forward pass in training needs a seed."""
        return (
            (self.dropout > 0 and self.num_layers > 1)
            or self.input_dropout > 0
            or self.weight_dropout > 0
            or self._kernel_draws()
        )

    def _drop_weights(self, rows: list[Weights], seed: Tensor, layer: int) -> list[Weights]:
        dropped = []
        for direction, row in enumerate(rows):
            weight = drop_weight(
                row.recurrence.weight_hh,
                self.weight_dropout,
                self.weight_dropout_on,
                seed,
                WEIGHT_DROPOUT,
                layer,
                direction,
            )
            dropped.append(row._replace(recurrence=row.recurrence._replace(weight_hh=weight)))
        return dropped

    def _pass_highway(self, output: Tensor, below: Tensor, layer: int) -> Tensor:
        """Srivastava et al. 2015: T * output + (1 - T) * below, T a gate that sees below."""
        weight, bias = (getattr(self, f"{kind}_highway_l{layer}") for kind in ("weight", "bias"))
        gate = F.linear(below, weight, bias).sigmoid()
        return torch.lerp(below, output, gate)

    # States: one flat list of all hidden states, then all cell states; a tensor each, or one for
    # each layer where the layers have sizes of their own.

    def _flat_states(self, hx: Any) -> list[Tensor] | None:
        if hx is None:
            return None
        name = self._name
        groups = [hx]
        if self._cell == "lstm":
            if not isinstance(hx, (tuple, list)):
                raise TypeError(
                    f"{name}: hx must be a tuple of two states, got {type(hx).__name__}"
                )
            if len(hx) != 2:
                raise RuntimeError(f"{name}: lstm expects two hidden states, got {len(hx)}")
            groups = list(hx)
        flat = []
        for k, group in enumerate(groups):
            label = f"hx[{k}]" if self._cell == "lstm" else "hx"
            if not isinstance(self.hidden_size, tuple):
                check_tensor(name, label, group)
                flat.append(group)
                continue
            if not isinstance(group, (tuple, list)):
                raise TypeError(
                    f"{name}: {label} must be a tuple of one tensor for each layer, "
                    f"got {type(group).__name__}"
                )
            if len(group) != self.num_layers:
                raise RuntimeError(
                    f"{name}: {label} must be {self.num_layers} tensors, one for each layer, "
                    f"got {len(group)}"
                )
            for layer, state in enumerate(group):
                check_tensor(name, f"{label}[{layer}]", state)
                flat.append(state)
        return flat

    def _layer_states(
        self, states: list[Tensor] | None, layer: int
    ) -> tuple[Tensor | None, Tensor | None]:
        if states is None:
            return None, None
        if isinstance(self.hidden_size, tuple):
            found = states[layer :: self.num_layers]
        elif self.num_layers > 1:
            rows = slice(layer * self._directions, (layer + 1) * self._directions)
            found = [state[rows] for state in states]
        else:
            found = states
        return found[0], found[1] if len(found) > 1 else None

    def _results(
        self, output: Any, states: list[Tensor], cells: list[Tensor], return_cells: bool
    ) -> tuple[Any, ...]:
        ragged = isinstance(self.hidden_size, tuple)
        groups: list[Any] = states
        if ragged:
            count = self.num_layers
            groups = [tuple(states[k : k + count]) for k in range(0, len(states), count)]
        result = output, tuple(groups) if self._cell == "lstm" else groups[0]
        if not return_cells:
            return result
        # The caller may write to cells; the backward pass needs them as they were.
        return (*result, tuple(c.clone() for c in cells) if ragged else torch.stack(cells))

    def _state_shapes(self, batch: int) -> list[tuple[int, int, int]]:
        """Of the flat list."""
        rows, groups = self._directions, [self._output_sizes]
        if self._cell == "lstm":
            groups.append(self._hidden_sizes)
        if isinstance(self.hidden_size, tuple):
            return [(rows, batch, size) for sizes in groups for size in sizes]
        return [(self.num_layers * rows, batch, sizes[0]) for sizes in groups]

    def _state_label(self, index: int) -> str:
        """What messages call a state of the flat list."""
        group, layer = index, ""
        if isinstance(self.hidden_size, tuple):
            group, layer = index // self.num_layers, f"[{index % self.num_layers}]"
        return (f"hidden[{group}]" if self._cell == "lstm" else "hidden") + layer

    # What torch.nn checks, with its exceptions; the operation checks the rest.

    def _refuse_rank(self, kind: str, wanted: str, states: list[Tensor]) -> None:
        got = ", ".join(f"{state.dim()}-D" for state in states)
        if self._cell == "lstm":
            which, tensors = "hx and cx", f"({got}) tensors"
        else:
            which, tensors = "hx", f"{got} tensor"
        raise RuntimeError(
            f"{self._name}: For {kind}, {which} should also be {wanted} but got {tensors}"
        )

    def _check_input(
        self,
        input: Tensor,
        weight: Tensor | None,
        states: list[Tensor] | None,
        autocasting: bool,
    ) -> None:
        name = self._name
        assert weight is not None
        if input.dtype != weight.dtype and not autocasting:
            raise ValueError(
                f"{name}: RNN input dtype ({input.dtype}) does not match weight dtype "
                f"({weight.dtype}). Convert input: input.to({weight.dtype}), or convert model: "
                f"model.to({input.dtype})"
            )
        steps, batch, size = input.shape
        if size != self.input_size:
            raise RuntimeError(
                f"{name}: input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {size}"
            )
        if steps == 0:
            raise RuntimeError(f"{name}: Expected sequence length to be larger than 0 in RNN")
        check_devices(name, input, weight, states or (), self._state_label)
        if states is None:
            return
        for k, shape in enumerate(self._state_shapes(batch)):
            if states[k].shape != shape:
                raise RuntimeError(
                    f"{name}: Expected {self._state_label(k)} size {shape}, "
                    f"got {list(states[k].shape)}"
                )
        if not autocasting:
            check_state_dtypes(name, input, states, self._state_label)

    def _count_layers(self, hidden_size: tuple[int, ...], num_layers: int) -> int:
        """As many as there are sizes; `num_layers` may be left as it is by default."""
        if not hidden_size or num_layers not in (1, len(hidden_size)):
            raise ValueError(
                f"{self._name}: hidden_size must be an int or one for each of the {num_layers} "
                f"layers, got {hidden_size}"
            )
        return len(hidden_size)

    def _check_arguments(
        self,
        input_size: int,
        hidden_size: Any,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: Any,
        proj_size: int,
    ) -> None:
        name = self._name
        if not (is_number(dropout) and 0 <= float(dropout) <= 1):
            raise ValueError(
                f"{name}: dropout should be a number in range [0, 1] representing the probability "
                f"of an element being zeroed, got {dropout!r}"
            )
        if float(dropout) > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                f"num_layers={num_layers}",
                stacklevel=4,
            )
        for argument, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(
                    f"{name}: {argument} should be of type bool, got: {type(flag).__name__}"
                )
        hidden_sizes = hidden_size if isinstance(hidden_size, tuple) else (hidden_size,)
        sizes = [
            ("input_size", input_size),
            *(("hidden_size", size) for size in hidden_sizes),
            ("num_layers", num_layers),
            ("proj_size", proj_size),
        ]
        for argument, size in sizes:
            if not isinstance(size, int):
                raise TypeError(
                    f"{name}: {argument} should be of type int, got: {type(size).__name__}"
                )
            if size <= 0 and argument != "proj_size":
                raise ValueError(f"{name}: {argument} must be greater than zero, got {size}")
        if proj_size < 0:
            raise ValueError(
                f"{name}: proj_size should be a positive integer or zero to disable projections, "
                f"got {proj_size}"
            )
        if proj_size >= min(hidden_sizes):
            raise ValueError(
                f"{name}: proj_size has to be smaller than hidden_size, "
                f"got {proj_size} and {hidden_size}"
            )

    def _check_wiring(self) -> None:
        name = self._name
        wirings = [wiring for wiring in ("residual", "dense", "highway") if getattr(self, wiring)]
        if len(wirings) > 1:
            raise ValueError(
                f"{name}: at most one of residual, dense and highway must be True, "
                f"got {' and '.join(wirings)}"
            )
        if wirings and wirings[0] != "dense" and len(set(self._output_sizes)) > 1:
            raise ValueError(
                f"{name}: {wirings[0]}=True needs layers with equal output sizes, "
                f"got {list(self._output_sizes)}"
            )
        if self.layer_norm and (self.proj_size or self.feedback == "output"):
            given = f"proj_size={self.proj_size}" if self.proj_size else "feedback='output'"
            raise ValueError(f"{name}: layer_norm needs a cell without a projection, got {given}")


def refuse_projection(name: str, proj_size: object) -> None:
    """Where torch.nn takes the argument only to refuse it."""
    if proj_size is not None:
        raise ValueError(
            f"{name}: proj_size argument is only supported for LSTM, not RNN or GRU, "
            f"got {proj_size}"
        )

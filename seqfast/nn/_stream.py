"""A sequence that comes in pieces: states, packed weights and buffers are kept between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqfast.ops.base.checks import check_whole
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.layer import Layer, check_layer
from seqfast.ops.rnn.packed import Memory
from seqfast.ops.rnn.stream import StreamLayer

_NO_OPTIONS = ("layer_norm", "highway")  # their products are torch's


class Stream:
    """What `layer.stream(batch_size)` gives: a layer that is fed one piece after another.

    It keeps the states, its own packed copy of the weights and all buffers, so that a step
    allocates no memory once the longest piece has been seen, and weights are not packed again. So
    it does not see when the layer's weights change: `refresh()` takes them over. The results of
    all pieces have the bits of one call over the whole sequence (of more than 32 rows, steps x
    batch; shorter calls multiply with weights that are not packed, in another order of sums). It
    is for inference: there are no gradients, and masks are not drawn.

    Args:
        module: the layer or cell.
        batch_size: rows of each piece, 1 or more.
        hx: the states before the first step, as the module takes them; zeros if None.

    Attributes:
        batch_size: rows of each piece.

    Example:
        >>> import torch, seqfast
        >>> layer = seqfast.nn.GRU(4, 8, num_layers=2)
        >>> stream = layer.stream(batch_size=3)
        >>> stream.step(torch.randn(5, 3, 4)).shape  # five steps
        torch.Size([5, 3, 8])
        >>> stream.step(torch.randn(1, 3, 4)).shape  # one more
        torch.Size([1, 3, 8])
        >>> stream.reset([0])  # row 0 begins anew
    """

    def __init__(self, module: Any, batch_size: int, hx: Any = None) -> None:
        """Called by `stream` of a layer or cell.

        Args:
            module: the layer or cell.
            batch_size: rows of each piece, 1 or more.
            hx: the states before the first step, as the module takes them; zeros if None.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: a batch_size below 1, a layer that cannot be fed in pieces.
            RuntimeError: states of a wrong size.
        """
        self._name = f"{module._name}.stream"
        self._module = module
        self._is_cell = isinstance(module, torch.nn.RNNCellBase)
        self.batch_size = check_whole(self._name, "batch_size", batch_size, 1)
        self._parts: list[StreamLayer] = []
        self._sums: list[Tensor] = []  # with residual and dense: what the next layer sees
        self._workspace = Memory(0)
        self._capacity = 0
        self.refresh()
        states = self._given_states(hx)
        for part, (hidden, cell) in zip(self._parts, states, strict=True):
            part.begin(hidden, cell)

    def step(self, x: Tensor) -> Tensor:
        """Runs the steps of one piece.

        Args:
            x: of a layer [steps, batch_size, input_size], with `batch_first` [batch_size, steps,
                input_size], any number of steps; of a cell [batch_size, input_size]. On the CPU, of
                the weights' dtype.

        Returns:
            The output of these steps, as the module's own. It lies in the stream's buffer, which
            the next step overwrites: clone what is to stay.

        Raises:
            TypeError: an input that is no tensor, or of another dtype.
            ValueError: another batch size, size or device, an input that requires gradients, or
                weights that another instruction set has packed.
        """
        x = self._checked(x)
        steps = x.shape[0]
        if steps > self._capacity:
            self._grow(steps)
        module = self._module
        below, width = x, x.shape[2]
        for k, part in enumerate(self._parts):
            output, self._workspace = part.run(below, self._workspace)
            if k > 0 and module.residual:
                output = torch.add(output, below, out=self._sums[k][:steps])
            if module.dense and k + 1 < len(self._parts):
                seen = self._sums[k][:steps]
                if k == 0:
                    seen[..., :width].copy_(x)
                else:
                    seen[..., :width].copy_(self._sums[k - 1][:steps])
                seen[..., width:].copy_(output)
                output, width = seen, seen.shape[2]
            below = output
        if self._is_cell:
            return below[0]
        return below.transpose(0, 1) if module.batch_first else below

    def reset(self, rows: Sequence[int] | Tensor | None = None) -> None:
        """Sets states to zero.

        Args:
            rows: which rows of the batch, integers; all of them if None.

        Raises:
            TypeError: rows that are no integers.
            ValueError: a row that is not there.
        """
        if rows is None:
            for part in self._parts:
                part.begin(None, None)
            return
        index = torch.as_tensor(rows, device="cpu")
        if index.numel() == 0:
            return
        if index.dtype.is_floating_point or index.dtype in (torch.bool, torch.complex64):
            raise TypeError(f"{self._name}: rows must be integers, got {index.dtype}")
        index = index.reshape(-1).to(torch.int64).contiguous()
        if int(index.min()) < 0 or int(index.max()) >= self.batch_size:
            raise ValueError(
                f"{self._name}: rows must be from 0 to {self.batch_size - 1}, got {index.tolist()}"
            )
        for part in self._parts:
            part.reset(index)

    def refresh(self) -> None:
        """Packs the module's weights again, as they are now; states stay.

        Raises:
            ValueError: weights of another shape, dtype or device than before, or a module that
                cannot be fed in pieces any more.
        """
        self._refuse_what_cannot_be()
        module = self._module
        layers = [self._checked_layer(k) for k in range(1 if self._is_cell else module.num_layers)]
        if self._parts:
            for part, layer in zip(self._parts, layers, strict=True):
                part.check_like(self._name, layer)
        else:
            self._dtype = layers[0].input.dtype
            self._input_size = layers[0].sizes.input_size
            self._parts = [StreamLayer(layer, self.batch_size) for layer in layers]
        for part, layer in zip(self._parts, layers, strict=True):
            part.pack(layer)

    @property
    def state(self) -> Any:
        """A copy of the states after the last step, as the module returns them."""
        hidden = [part.hidden_n.clone() for part in self._parts]
        cells = [part.cell_n.clone() for part in self._parts if part.cell_n is not None]
        groups: list[Any] = [hidden, cells] if cells else [hidden]
        if self._is_cell:
            groups = [group[0][0] for group in groups]
        elif isinstance(self._module.hidden_size, tuple):
            groups = [tuple(group) for group in groups]
        else:
            groups = [torch.cat(group) for group in groups]
        return tuple(groups) if cells else groups[0]

    def _grow(self, steps: int) -> None:
        module, width = self._module, self._input_size
        self._sums = []
        for k, part in enumerate(self._parts):
            size = part.layer_output_size
            part.output = torch.empty(steps, self.batch_size, size, dtype=self._dtype, device="cpu")
            width = width + size if module.dense else size
            self._sums.append(
                torch.empty(
                    steps if module.dense or (module.residual and k > 0) else 0,
                    self.batch_size,
                    width,
                    dtype=self._dtype,
                    device="cpu",
                )
            )
        self._capacity = steps

    def _checked(self, x: Tensor) -> Tensor:
        """Time-major, its rows dense."""
        name = self._name
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: x must be a torch tensor, got {type(x).__name__}")
        if x.dtype is not self._dtype:
            raise TypeError(f"{name}: x must be {self._dtype} as the weights are, got {x.dtype}")
        if not x.is_cpu or x.layout is not torch.strided:
            raise ValueError(f"{name}: x must be a dense tensor on the CPU, got {x.device}")
        batch, size = self.batch_size, self._input_size
        if self._is_cell:
            if x.shape != (batch, size):
                raise ValueError(f"{name}: x must be [{batch}, {size}], got {list(x.shape)}")
            x = x[None]
        else:
            first = self._module.batch_first
            if x.dim() == 3 and first:
                x = x.transpose(0, 1)
            if x.dim() != 3 or x.shape[1:] != (batch, size) or x.shape[0] == 0:
                wanted = f"[{batch}, steps, {size}]" if first else f"[steps, {batch}, {size}]"
                got = list(x.transpose(0, 1).shape if first and x.dim() == 3 else x.shape)
                raise ValueError(f"{name}: x must be {wanted}, one step or more, got {got}")
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name}: x must not require gradients, which a stream does not keep: use "
                "torch.no_grad() or x.detach()"
            )
        steps_apart, rows_apart, together = x.stride()
        if together != 1 or steps_apart <= 0 or rows_apart <= 0 or x.is_neg():
            x = x.resolve_neg().clone(memory_format=torch.contiguous_format)
        return x

    def _refuse_what_cannot_be(self) -> None:
        module, name = self._module, self._name
        if not self._is_cell and module.bidirectional:
            raise ValueError(
                f"{name}: bidirectional must be False, got True: the second direction begins at "
                "the end of the sequence"
            )
        for option in _NO_OPTIONS:
            if getattr(module, option):
                raise ValueError(f"{name}: {option} must be False, got True: call the module")
        draws = module._kernel_draws() if self._is_cell else module._draws()
        if module.training and draws:
            raise ValueError(
                f"{name}: the module must be in evaluation where it has dropout or zoneout, got "
                "training=True: call eval()"
            )

    def _checked_layer(self, layer: int) -> Layer:
        module = self._module
        rows = [module._weights()] if self._is_cell else module._layer_weights(layer)
        row: RnnWeights = rows[0].recurrence
        weights = [None if weight is None else weight.detach() for weight in row]
        weight_ih = weights[0]
        if weight_ih is None or weight_ih.dim() != 2 or not weight_ih.is_cpu:
            got = "None" if weight_ih is None else f"{list(weight_ih.shape)} on {weight_ih.device}"
            raise ValueError(f"{self._name}: weight_ih must be a matrix on the CPU, got {got}")
        size = module.input_size if self._is_cell else module._input_size(layer)
        like = weight_ih.new_empty(1, self.batch_size, size)
        return check_layer(
            module._cell,
            like,
            None,
            None,
            [RnnWeights._make(weights)],
            None,
            None,
            None,
            module._kernel_options(layer),
        )

    def _given_states(self, hx: Any) -> list[tuple[Tensor | None, Tensor | None]]:
        if hx is None:
            return [(None, None)] * len(self._parts)
        has_cell = self._module._cell == "lstm"
        groups = list(hx) if has_cell and isinstance(hx, (tuple, list)) else [hx]
        if len(groups) != 1 + has_cell:
            raise TypeError(f"{self._name}: hx must be a pair (h, c), got {type(hx).__name__}")
        for group in groups:
            if not self._is_cell and len(group) != len(self._parts):
                raise RuntimeError(
                    f"{self._name}: hx must have states of {len(self._parts)} layers, got "
                    f"{len(group)}"
                )
        states = []
        for k, part in enumerate(self._parts):
            own: list[Tensor | None] = []
            for group, like in zip(groups, (part.hidden_n, part.cell_n), strict=False):
                state = group if self._is_cell else group[k]
                assert like is not None
                shape = like[0].shape
                if not isinstance(state, Tensor) or state.shape[-2:] != shape:
                    got = list(getattr(state, "shape", ())) or type(state).__name__
                    raise RuntimeError(f"{self._name}: states must be {list(shape)}, got {got}")
                if state.dtype is not self._dtype or not state.is_cpu:
                    raise TypeError(
                        f"{self._name}: states must be {self._dtype} on the CPU, got "
                        f"{state.dtype} on {state.device}"
                    )
                own.append(state.detach().reshape(1, *shape).clone())
            states.append((own[0], own[1] if has_cell else None))
        return states

"""Recurrent layers in differentiable torch code, for what no kernel knows: second derivatives,
torch.func, forward-mode AD."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqfast.ops.dropout import torch as torch_random
from seqfast.ops.dropout.torch import events, kept_scale
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.cells import traits_of
from seqfast.ops.rnn.options import Options

_ACTIVATIONS = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}
_EPSILON = 1e-5


def layer(
    operation: str,
    input: Tensor,
    hidden: Tensor | None,
    cell_state: Tensor | None,
    weights: Sequence[RnnWeights],
    lengths: Tensor | None,
    reset: Tensor | None,
    seed: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """`output, hidden_n, cell_n, cells` as the kernels compute them."""
    if lengths is not None:
        # A short type would wrap the steps it is compared with.
        lengths = lengths.to(input.device, torch.int64)
    with no_autocast(input):
        results = [
            _Direction(operation, input, row, d, seed, options).walk(
                None if hidden is None else hidden[d],
                None if cell_state is None else cell_state[d],
                lengths,
                reset,
            )
            for d, row in enumerate(weights)
        ]
    outputs, hidden_n, cell_n, cells = zip(*results, strict=True)
    output, last = torch.cat(outputs, -1), torch.stack(hidden_n)
    if operation != "lstm":
        return output.to(input.dtype), last.to(input.dtype), None, None
    return (
        output.to(input.dtype),
        last.to(input.dtype),
        torch.stack(cell_n).to(input.dtype),
        torch.cat(cells, -1),
    )


def no_autocast(input: Tensor) -> AbstractContextManager[Any]:
    """Products in the dtypes of their factors, whatever autocast would make of them."""
    if input.device.type in ("cpu", "cuda"):
        return torch.autocast(input.device.type, enabled=False)
    return nullcontext()


class _Direction:
    """One direction of a layer: its weights in the accumulating type, its masks, its step."""

    def __init__(
        self,
        operation: str,
        input: Tensor,
        row: RnnWeights,
        direction: int,
        seed: Tensor | None,
        options: Options,
    ) -> None:
        self.input, self.direction, self.options = input, direction, options
        self.operation = operation
        self.traits = traits_of(operation, options)
        self.dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
        weights = RnnWeights._make(
            None if weight is None else weight.to(self.dtype) for weight in row
        )
        self.weight_ih, self.weight_hh = weights.weight_ih, weights.weight_hh
        self.weight_hr, self.bias_hr = weights.weight_hr, weights.bias_hr
        self.peephole = weights.weight_peephole
        self.norm_hh = weights.weight_norm_hh
        self.norm_cell, self.bias_cell = weights.weight_norm_cell, weights.bias_norm_cell
        self.rows, self.output_size = self.weight_hh.shape
        self.hidden_size = self.rows // self.traits.gates
        zeros = self.weight_hh.new_zeros(self.rows)
        self.bias_ih = zeros if weights.bias_ih is None else weights.bias_ih
        self.bias_hh = zeros if weights.bias_hh is None else weights.bias_hh
        if self.weight_ih is None:
            self.input = input.narrow(2, direction * self.rows, self.rows)
        self._draw(seed)

    def _draw(self, seed: Tensor | None) -> None:
        """Masks of all steps: scales of dropout, shares of the old state in zoneout."""
        options, steps, batch = self.options, *self.input.shape[:2]
        self.hidden_scale = self.update_scale = self.zoneout_hidden = self.zoneout_cell = None
        self.cell_scale = None
        on = options.recurrent_dropout_on

        def drawn(draw: int, probability: float, steps: int | None, units: int) -> Tensor:
            assert seed is not None
            stream = torch_random.stream_of(draw, options.layer, self.direction)
            return events(probability, seed, stream, steps, batch, units)

        p = options.recurrent_dropout
        if on == "cell" and p > 0:
            self.cell_scale = torch.full((), 1 - p, dtype=self.dtype, device=self.device)
            if seed is not None:
                dropped = drawn(torch_random.HIDDEN_DROPOUT, p, None, self.hidden_size)
                self.cell_scale = 1 - dropped[0].to(self.dtype)
        elif seed is not None and p > 0:
            scale = torch.full((), kept_scale(p), dtype=self.dtype, device=seed.device)
            if on == "hidden":
                dropped = drawn(torch_random.HIDDEN_DROPOUT, p, None, self.output_size)
                self.hidden_scale = torch.where(dropped[0], 0, scale)
            else:
                dropped = drawn(torch_random.UPDATE_DROPOUT, p, steps, self.hidden_size)
                self.update_scale = torch.where(dropped, 0, scale)
        shares: list[Tensor | None] = []
        p_hidden, p_cell = options.zoneout
        for draw, p, units in (
            (torch_random.ZONEOUT_HIDDEN, p_hidden, self.output_size),
            (torch_random.ZONEOUT_CELL, p_cell, self.hidden_size),
        ):
            if p == 0:
                shares.append(None)
            elif seed is None:
                shares.append(torch.full((steps, 1, 1), p, dtype=self.dtype, device=self.device))
            else:
                shares.append(drawn(draw, p, steps, units).to(self.dtype))
        self.zoneout_hidden, self.zoneout_cell = shares

    @property
    def device(self) -> torch.device:
        return self.input.device

    def walk(
        self,
        hidden: Tensor | None,
        cell: Tensor | None,
        lengths: Tensor | None,
        reset: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        steps, batch, _ = self.input.shape

        def state(given: Tensor | None, size: int) -> Tensor:
            if given is not None:
                return given.to(self.dtype)
            return self.input.new_zeros((batch, size), dtype=self.dtype)

        h, c = state(hidden, self.output_size), state(cell, self.hidden_size)
        outputs, cells = [h] * steps, [c] * steps
        for t in range(steps) if self.direction == 0 else reversed(range(steps)):
            x = self.input[t].to(self.dtype)
            on = None
            if lengths is not None:
                # What stands in the padding may be NaN, and 0 * NaN is NaN.
                on = (lengths > t)[:, None]
                x = torch.where(on, x, 0)
            h_before, c_before = h, c
            if reset is not None:
                again = (reset[t] != 0)[:, None]
                h_before, c_before = torch.where(again, 0, h), torch.where(again, 0, c)
            h_next, c_next = self.step(t, x, h_before, c_before)
            if on is None:
                h, c = h_next, c_next
                outputs[t], cells[t] = h, c
            else:
                h, c = torch.where(on, h_next, h), torch.where(on, c_next, c)
                outputs[t], cells[t] = torch.where(on, h_next, 0), torch.where(on, c_next, 0)
        if steps == 0:
            return h.new_zeros((0, *h.shape)), h, c, c.new_zeros((0, *c.shape))
        return torch.stack(outputs), h, c, torch.stack(cells)

    def step(self, t: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        if self.weight_ih is not None:
            x = x @ self.weight_ih.T
        x = x + self.bias_ih
        m = h if self.hidden_scale is None else self.rounded(h * self.hidden_scale)
        c_next = c
        if self.operation == "lstm":
            h_next, c_next = self.lstm(t, x, m, c)
        elif self.operation == "gru":
            h_next = self.gru(t, x, m, h)
        else:
            h_next = _ACTIVATIONS[self.options.nonlinearity](x + self.product(m))
        if self.weight_hr is not None:
            h_next = h_next @ self.weight_hr.T
            if self.bias_hr is not None:
                h_next = h_next + self.bias_hr
            h_next = _ACTIVATIONS[self.options.output_nonlinearity](h_next)
        if self.zoneout_hidden is not None:
            h_next = h_next + self.zoneout_hidden[t] * (h - h_next)
        return self.rounded(h_next), c_next

    def lstm(self, t: int, x: Tensor, m: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, *maybe_f, g, o = (x + self.product(m)).chunk(self.traits.gates, -1)
        if self.peephole is not None:
            of_i, of_f, of_o = self.peephole
            i = i + of_i * c
            maybe_f = [f + of_f * c for f in maybe_f]
            if self.options.peephole_on == "previous":
                o = o + of_o * c
        i, g = self.clipped(i).sigmoid(), self.clipped(g).tanh()
        if maybe_f:
            (f,) = maybe_f
            kept = self.clipped(f).sigmoid() * c
        else:
            kept = (1 - i) * c if self.options.coupled_gates else c
        new = kept + i * self.candidate(t, g)
        if self.cell_scale is not None:
            new = self.cell_scale * new
        if self.options.cell_clip > 0:
            new = new.clamp(-self.options.cell_clip, self.options.cell_clip)
        if self.peephole is not None and self.options.peephole_on == "current":
            o = o + of_o * new
        o = self.clipped(o).sigmoid()
        seen = new
        if self.norm_cell is not None:
            seen = F.layer_norm(new, new.shape[-1:], self.norm_cell, self.bias_cell, _EPSILON)
        if self.zoneout_cell is not None:
            new = new + self.zoneout_cell[t] * (c - new)
        return o * _ACTIVATIONS[self.options.output_activation](seen), new

    def gru(self, t: int, x: Tensor, m: Tensor, h: Tensor) -> Tensor:
        size = self.hidden_size
        if self.traits.has_split_candidate:
            u = self.product(m)
            r, z = (x + u)[..., : 2 * size].sigmoid().chunk(2, -1)
            n = x[..., 2 * size :] + r * u[..., 2 * size :]
        elif self.traits.has_second_product:
            gates, candidate = slice(2 * size), slice(2 * size, None)
            u = m @ self.weight_hh[gates].T + self.bias_hh[gates]
            r, z = (x[..., gates] + u).sigmoid().chunk(2, -1)
            again = self.rounded(r * m) @ self.weight_hh[candidate].T
            n = x[..., candidate] + again + self.bias_hh[candidate]
        else:
            z, n = (x + self.product(m)).chunk(2, -1)
            z = z.sigmoid()
        return (1 - z) * self.candidate(t, n.tanh()) + z * h

    def product(self, m: Tensor) -> Tensor:
        """The recurrent share of the pre-activations."""
        u = m @ self.weight_hh.T
        if self.norm_hh is not None:
            size = self.hidden_size
            parts = [2 * size, size] if self.traits.has_split_candidate else [self.rows]
            normal = [F.layer_norm(p, p.shape[-1:], eps=_EPSILON) for p in u.split(parts, -1)]
            u = self.norm_hh * torch.cat(normal, -1)
        result: Tensor = u + self.bias_hh
        return result

    def candidate(self, t: int, value: Tensor) -> Tensor:
        return value if self.update_scale is None else self.update_scale[t] * value

    def clipped(self, value: Tensor) -> Tensor:
        limit = self.options.gate_clip
        return value.clamp(-limit, limit) if limit > 0 else value

    def rounded(self, value: Tensor) -> Tensor:
        """As it is stored: the next step sees what the user sees."""
        return value.to(self.input.dtype).to(self.dtype)

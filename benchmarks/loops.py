"""LSTMs that torch.nn does not have, as they are usually written: in Python, step by step.

Written with care, as peers: the input's product is one product for all steps, bias and sum go into
`addmm`, each step allocates only what autograd needs, and the outputs are stacked once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn import functional as F


class Loop(Module):
    """The plain LSTM, [steps, batch, input_size] -> output, with copies of a layer's parameters.

    `layer`: a `seqfast.nn.LSTM` of one layer and one direction.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def __init__(self, layer: Module) -> None:
        super().__init__()
        for name, parameter in layer.named_parameters():
            kept = Parameter(parameter.detach().clone())
            self.register_parameter(name.removesuffix("_l0"), kept)
        self.train(layer.training)

    def project(self, input: Tensor) -> Tensor:
        """What the gates get from the input, for all steps."""
        return F.linear(input, self.weight_ih, self.bias_ih + self.bias_hh)

    def prepare(self, hidden: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Once for each sequence: what makes pre-activations of a step's input and the state."""
        weight = self.weight_hh.t()
        return lambda x, hidden: torch.addmm(x, hidden, weight)

    def forward(self, input: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden = cell = input.new_zeros(input.shape[1], self.weight_hh.shape[1])
        gates = self.prepare(hidden)
        outputs = []
        for x in self.project(input).unbind(0):
            hidden, cell = self.step(gates(x, hidden), hidden, cell)
            outputs.append(hidden)
        return torch.stack(outputs), (hidden, cell)

    def step(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The new states, from the gates' pre-activations and the old states."""
        i, f, g, o = gates.chunk(4, 1)
        cell = torch.addcmul(f.sigmoid() * cell, i.sigmoid(), g.tanh())
        return o.sigmoid() * cell.tanh(), cell


class Peephole(Loop):
    """Gers & Schmidhuber 2000."""

    weight_peephole: Tensor

    def step(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates.chunk(4, 1)
        see_i, see_f, see_o = self.weight_peephole
        i = torch.addcmul(i, see_i, cell).sigmoid()
        f = torch.addcmul(f, see_f, cell).sigmoid()
        cell = torch.addcmul(f * cell, i, g.tanh())
        return torch.addcmul(o, see_o, cell).sigmoid() * cell.tanh(), cell


class Zoneout(Loop):
    """Krueger et al. 2017: units keep their old state; in evaluation the expectation of it."""

    def __init__(self, layer: Module, hidden: float, cell: float) -> None:
        super().__init__(layer)
        self.hidden, self.cell = hidden, cell

    def step(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        new_hidden, new_cell = super().step(gates, hidden, cell)
        if not self.training:
            hidden = torch.lerp(new_hidden, hidden, self.hidden)
            return hidden, torch.lerp(new_cell, cell, self.cell)
        hidden = torch.lerp(new_hidden, hidden, torch.empty_like(hidden).bernoulli_(self.hidden))
        return hidden, torch.lerp(new_cell, cell, torch.empty_like(cell).bernoulli_(self.cell))


class HiddenDropout(Loop):
    """Gal & Ghahramani 2016: one mask for the sequence, on the state as the gates see it."""

    def __init__(self, layer: Module, probability: float) -> None:
        super().__init__(layer)
        self.probability = probability

    def prepare(self, hidden: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        plain = super().prepare(hidden)
        if not self.training:
            return plain
        mask = F.dropout(torch.ones_like(hidden), self.probability)
        return lambda x, hidden: plain(x, hidden * mask)


class UpdateDropout(Loop):
    """Semeniuta et al. 2016: a mask for each step, on the candidate."""

    def __init__(self, layer: Module, probability: float) -> None:
        super().__init__(layer)
        self.probability = probability

    def step(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates.chunk(4, 1)
        update = F.dropout(g.tanh(), self.probability, self.training)
        cell = torch.addcmul(f.sigmoid() * cell, i.sigmoid(), update)
        return o.sigmoid() * cell.tanh(), cell


class LayerNorm(Loop):
    """Ba et al. 2016: both products and the cell state are normalised."""

    weight_norm_ih: Tensor
    weight_norm_hh: Tensor
    weight_norm_cell: Tensor
    bias_norm_cell: Tensor

    def project(self, input: Tensor) -> Tensor:
        product = F.linear(input, self.weight_ih)
        return F.layer_norm(product, product.shape[-1:], self.weight_norm_ih, self.bias_ih)

    def prepare(self, hidden: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        weight, scale, shift = self.weight_hh, self.weight_norm_hh, self.bias_hh
        shape = scale.shape
        return lambda x, hidden: x + F.layer_norm(F.linear(hidden, weight), shape, scale, shift)

    def step(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates.chunk(4, 1)
        cell = torch.addcmul(f.sigmoid() * cell, i.sigmoid(), g.tanh())
        normalised = F.layer_norm(cell, cell.shape[-1:], self.weight_norm_cell, self.bias_norm_cell)
        return o.sigmoid() * normalised.tanh(), cell

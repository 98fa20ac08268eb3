"""What the suites have in common: a case, the work in it, and how both sides are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Call = Callable[[Any], torch.Tensor]

INPUTS = 3  # taken in turn, so that no call finds its whole input in the cache
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 5e-2}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# (steps, batch, hidden size) at which a variant of a cell is measured, the input as wide.
VARIED = ((100, 32, 128), (100, 32, 256), (100, 64, 512))


def shape_name(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Case:
    """One layer and one shape; `ragged` says how its lengths are given."""

    group: str
    steps: int
    batch: int
    input_size: int
    hidden_size: int
    layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    dtype: torch.dtype = torch.float32
    tf32: bool = False  # float32 products may round their factors
    # "lengths": padded in and out, the peer packs; "packed": PackedSequence in and out;
    # "packed before": padded in and out, but the peer's input came packed and its output stays so
    ragged: str = ""
    cell: str = "lstm"

    def __str__(self) -> str:
        return f"{self.layer} {self.group} {self.name} {self.dtype_name}"

    @property
    def layer(self) -> str:
        """Its class in torch.nn and seqfast.nn."""
        return self.cell.upper()

    @property
    def gates(self) -> int:
        return GATES[self.cell]

    @property
    def kept(self) -> int:
        """Numbers that training keeps of a unit and step: its gates, and c, or a GRU's n_h."""
        return self.gates + (self.cell == "lstm") + (self.cell == "gru" and self.gates == 3)

    @property
    def dtype_name(self) -> str:
        return "tf32" if self.tf32 else str(self.dtype).removeprefix("torch.")

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def name(self) -> str:
        name = shape_name((self.steps, self.batch, self.input_size, self.hidden_size))
        name += f", {self.layers} layers" if self.layers > 1 else ""
        name += ", bidirectional" if self.bidirectional else ""
        name += f", proj_size {self.proj_size}" if self.proj_size else ""
        return name + (f", {self.ragged}" if self.ragged else "")

    def row(self, mode: str, tokens: int) -> dict[str, Any]:
        """The row's names, multiply-adds x 2, and the bytes that must move if all caches were cold.

        Bytes: each operand once; training also writes and reads back what is kept of each step.
        """
        output_size = self.proj_size or self.hidden_size
        weights = activations = multiply_adds = 0
        for layer in range(self.layers):
            input_size = self.directions * output_size if layer else self.input_size
            per_direction = self.gates * self.hidden_size * (input_size + output_size)
            per_direction += self.hidden_size * self.proj_size
            weights += self.directions * per_direction
            multiply_adds += self.directions * per_direction * tokens
            activations += tokens * (input_size + self.directions * output_size)
        saved = self.kept * self.hidden_size * self.directions * self.layers * tokens
        training = mode == "training"
        elements = 3 * weights + 3 * activations + 2 * saved if training else weights + activations
        return {
            "group": self.group,
            "case": self.name,
            "mode": mode,
            "dtype": self.dtype_name,
            "gflop": 2e-9 * multiply_adds * (3 if training else 1),
            "gbyte": 1e-9 * elements * self.dtype.itemsize,
        }

    def tiny(self) -> Case:
        return replace(
            self,
            steps=min(self.steps, 3),
            batch=min(self.batch, 4),
            input_size=8,
            hidden_size=8,
            proj_size=min(self.proj_size, 4),
        )


def build_layer(module: Any, case: Case, device: str = "cpu", **options: Any) -> torch.nn.Module:
    """A layer of torch.nn or seqfast.nn."""
    if case.proj_size:
        options["proj_size"] = case.proj_size
    layer: torch.nn.Module = getattr(module, case.layer)(
        case.input_size,
        case.hidden_size,
        case.layers,
        bidirectional=case.bidirectional,
        dtype=case.dtype,
        device=device,
        **options,
    )
    return layer


def draw_inputs(case: Case, grad: bool) -> list[torch.Tensor]:
    shape = case.steps, case.batch, case.input_size
    return [torch.randn(shape, dtype=case.dtype).requires_grad_(grad) for _ in range(INPUTS)]


def ragged_lengths(steps: int, batch: int) -> torch.Tensor:
    """Unsorted lengths of which about 58 % is filled, the longest one full."""
    lengths = (torch.linspace(0.16, 1.0, batch) * steps).round().long().clamp(min=1)
    return lengths[torch.randperm(batch)]


def padded_call(layer: torch.nn.Module, **arguments: Any) -> Call:
    return lambda padded: layer(padded, **arguments)[0]


def packed_call(layer: torch.nn.Module) -> Call:
    return lambda packed: layer(packed)[0].data


def repacked_call(layer: torch.nn.Module, lengths: torch.Tensor) -> Call:
    def call(padded: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(padded, lengths, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], total_length=len(padded))[0]

    return call


def packed_leaves(
    inputs: list[torch.Tensor], lengths: torch.Tensor, grad: bool
) -> list[PackedSequence]:
    packed = [pack_padded_sequence(x.detach(), lengths, enforce_sorted=False) for x in inputs]
    return [PackedSequence(p.data.requires_grad_(grad), *p[1:]) for p in packed]


def forward(call: Call, inputs: list[Any]) -> Callable[[int], Any]:
    return lambda index: call(inputs[index % len(inputs)])


def training(
    layer: torch.nn.Module, call: Call, inputs: list[Any], gradient: torch.Tensor
) -> Callable[[int], Any]:
    def step(index: int) -> torch.Tensor:
        input = inputs[index % len(inputs)]
        leaf = input.data if isinstance(input, PackedSequence) else input
        leaf.grad = None
        layer.zero_grad()
        output = call(input)
        output.backward(gradient)
        return output

    return step

"""What is measured on a GPU, the most important first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from benchmarks.cases import Case

# (steps, batch, hidden size), the input as wide as the hidden state; the most important first.
SHAPES = (
    (1024, 16, 768),
    (256, 64, 1024),
    (512, 64, 256),
    (256, 128, 512),
    (100, 20, 650),
    (512, 1, 256),
    (128, 64, 1536),
    (128, 256, 512),
    (4096, 8, 128),
    (64, 32, 2048),
    (65536 + 7, 1, 64),
)
RAGGED = ((512, 64, 256), (256, 128, 512), (256, 64, 1024))
CAPTURED = ((512, 1, 256), (100, 20, 650), (64, 32, 2048))  # short calls, many launches at the peer
PRECISIONS = {
    "float16": (torch.float16, False),
    "bfloat16": (torch.bfloat16, False),
    "float32": (torch.float32, False),
    "tf32": (torch.float32, True),
}
MODES = ("forward", "training")
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class Variant(NamedTuple):
    """A cell that torch has no layer for, so that its peer is our own plain layer."""

    cell: str
    layer: dict[str, Any]  # arguments of the layer in seqfast.nn
    options: dict[str, Any]  # of seqfast.ops
    draws: int = 0  # random numbers of a unit and step
    gates: int = 0  # 0: as many as the plain cell has
    extras: bool = False  # peephole weights or resets
    layer_norm: bool = False


def _same(cell: str, draws: int = 0, gates: int = 0, **options: Any) -> Variant:
    return Variant(cell, options, options, draws, gates)


VARIANTS = {
    "lstm peephole": Variant("lstm", {"peephole": True}, {}, extras=True),
    "lstm clips": _same("lstm", cell_clip=3.0, gate_clip=6.0),
    "lstm coupled": _same("lstm", gates=3, coupled_gates=True),
    "lstm zoneout": _same("lstm", draws=2, zoneout=(0.1, 0.1)),
    "lstm recurrent dropout": _same("lstm", recurrent_dropout=0.2),
    "lstm update dropout": _same(
        "lstm", draws=1, recurrent_dropout=0.2, recurrent_dropout_on="update"
    ),
    "lstm layer norm": Variant("lstm", {"layer_norm": True}, {}, layer_norm=True),
    "gru zoneout": Variant("gru", {"zoneout": 0.1}, {"zoneout": (0.1, 0.0)}, draws=1),
    "gru reset before": _same("gru", reset_after=False),
    "gru update gate": _same("gru", gates=2, reset_gate=False),
}
VARIED = ((1024, 16, 768), (512, 64, 256), (256, 128, 512))


@dataclass(frozen=True)
class GpuCase(Case):
    """A case of any cell; `variant`: a name in VARIANTS, "" for the plain cell."""

    cell: str = "lstm"
    variant: str = ""

    @property
    def name(self) -> str:
        kind = self.variant or ("" if self.cell == "lstm" else self.cell)
        return f"{kind} {super().name}" if kind else super().name

    @property
    def gates(self) -> int:
        varied = VARIANTS[self.variant].gates if self.variant else 0
        return varied or GATES[self.cell]

    def tiny(self) -> GpuCase:
        case = super().tiny()
        assert isinstance(case, GpuCase)
        return case

    def row(self, mode: str, tokens: int) -> dict[str, Any]:
        """As of any case, with the gates of this cell instead of four."""
        row = super().row(mode, tokens)
        if self.gates == 4:
            return row
        training = mode == "training"
        weights = activations = 0
        for layer in range(self.layers):
            input_size = self.directions * self.hidden_size if layer else self.input_size
            weights += (
                self.directions * self.gates * self.hidden_size * (input_size + self.hidden_size)
            )
            activations += tokens * (input_size + self.directions * self.hidden_size)
        saved = 4 if self.cell == "gru" and self.gates == 3 else self.gates
        kept = saved * self.hidden_size * self.directions * self.layers * tokens
        elements = 3 * weights + 3 * activations + 2 * kept if training else weights + activations
        return row | {
            "gflop": 2e-9 * weights * tokens * (3 if training else 1),
            "gbyte": 1e-9 * elements * self.dtype.itemsize,
        }


@dataclass(frozen=True)
class Job:
    """One row of the results; `graph`: both sides are captured in a CUDA graph and replayed."""

    case: GpuCase
    mode: str
    graph: bool = False

    def __str__(self) -> str:
        return f"{self.case.name}, {self.case.dtype_name}, {self.mode}" + ", graph" * self.graph


def build_case(
    shape: tuple[int, int, int],
    precision: str,
    bidirectional: bool = False,
    ragged: str = "",
    cell: str = "lstm",
    variant: str = "",
) -> GpuCase:
    """One layer, or two in both directions, in its group of the summary."""
    steps, batch, hidden = shape
    dtype, tf32 = PRECISIONS[precision]
    best = precision == "float16" and hidden in (768, 1024) and not bidirectional
    group = "ragged" if ragged else "cuDNN's best" if best else "others"
    if variant:
        cell = VARIANTS[variant].cell
        group = "variants against plain"
    elif cell != "lstm":
        group = cell
    return GpuCase(
        group,
        steps,
        batch,
        hidden,
        hidden,
        layers=2 if bidirectional else 1,
        bidirectional=bidirectional,
        dtype=dtype,
        tf32=tf32,
        ragged=ragged,
        cell=cell,
        variant=variant,
    )


def grid(shapes: tuple[tuple[int, int, int], ...] = SHAPES, ragged: str = "") -> Iterator[Job]:
    for bidirectional in (False, True):
        for precision in PRECISIONS:
            for shape in shapes:
                for mode in MODES:
                    yield Job(build_case(shape, precision, bidirectional, ragged), mode)


def other_cells() -> Iterator[Job]:
    """GRU and RNN, one layer."""
    for cell in ("gru", "rnn"):
        for precision in PRECISIONS:
            for shape in SHAPES:
                for mode in MODES:
                    yield Job(build_case(shape, precision, cell=cell), mode)


def variants() -> Iterator[Job]:
    for variant in VARIANTS:
        for precision in ("float16", "float32"):
            for shape in VARIED:
                for mode in MODES:
                    yield Job(build_case(shape, precision, variant=variant), mode)


def distance(job: Job) -> float:
    """How far a job is from the headline, so that a short run still has something of everything."""
    case = job.case
    shape = SHAPES.index((case.steps, case.batch, case.hidden_size))
    precision = {"float16": 0, "bfloat16": 0, "float32": 2, "tf32": 3}[case.dtype_name]
    kind = 3 * case.bidirectional + 2 * bool(case.ragged) + 3 * job.graph
    kind += {"lstm": 0, "gru": 1, "rnn": 3}[case.cell] + 2 * bool(case.variant)
    return shape + precision + kind + 0.5 * (case.ragged == "packed before")


def jobs(wanted: Callable[[str], object] = bool, smallest: bool = False) -> list[Job]:
    """Those whose name is `wanted`. `smallest`: at sizes that any machine gets through."""
    found = [*grid(), *grid(RAGGED, "lengths"), *grid(RAGGED, "packed before")]
    found += [*other_cells(), *variants()]
    for shape in CAPTURED:
        for precision in ("float16", "float32"):
            case = replace(build_case(shape, precision), group="captured")
            found.append(Job(case, "forward", graph=True))
    found = sorted((job for job in found if wanted(str(job))), key=distance)
    return [replace(job, case=job.case.tiny()) for job in found] if smallest else found

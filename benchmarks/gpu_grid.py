"""What is measured on a GPU, the most important first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Job:
    """One row of the results; `graph`: both sides are captured in a CUDA graph and replayed."""

    case: Case
    mode: str
    graph: bool = False

    def __str__(self) -> str:
        return f"{self.case.name}, {self.case.dtype_name}, {self.mode}" + ", graph" * self.graph


def build_case(
    shape: tuple[int, int, int], precision: str, bidirectional: bool = False, ragged: str = ""
) -> Case:
    """One layer, or two in both directions, in its group of the summary."""
    steps, batch, hidden = shape
    dtype, tf32 = PRECISIONS[precision]
    best = precision == "float16" and hidden in (768, 1024) and not bidirectional
    return Case(
        "ragged" if ragged else "cuDNN's best" if best else "others",
        steps,
        batch,
        hidden,
        hidden,
        layers=2 if bidirectional else 1,
        bidirectional=bidirectional,
        dtype=dtype,
        tf32=tf32,
        ragged=ragged,
    )


def grid(shapes: tuple[tuple[int, int, int], ...] = SHAPES, ragged: str = "") -> Iterator[Job]:
    for bidirectional in (False, True):
        for precision in PRECISIONS:
            for shape in shapes:
                for mode in MODES:
                    yield Job(build_case(shape, precision, bidirectional, ragged), mode)


def distance(job: Job) -> float:
    """How far a job is from the headline, so that a short run still has something of everything."""
    case = job.case
    shape = SHAPES.index((case.steps, case.batch, case.hidden_size))
    precision = {"float16": 0, "bfloat16": 0, "float32": 2, "tf32": 3}[case.dtype_name]
    kind = 3 * case.bidirectional + 2 * bool(case.ragged) + 3 * job.graph
    return shape + precision + kind + 0.5 * (case.ragged == "packed before")


def jobs(wanted: Callable[[str], object] = bool, smallest: bool = False) -> list[Job]:
    """Those whose name is `wanted`. `smallest`: at sizes that any machine gets through."""
    found = [*grid(), *grid(RAGGED, "lengths"), *grid(RAGGED, "packed before")]
    for shape in CAPTURED:
        for precision in ("float16", "float32"):
            case = replace(build_case(shape, precision), group="captured")
            found.append(Job(case, "forward", graph=True))
    found = sorted((job for job in found if wanted(str(job))), key=distance)
    return [replace(job, case=job.case.tiny()) for job in found] if smallest else found

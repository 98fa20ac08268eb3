"""A run's matrices on their device, and what trains them there."""

from __future__ import annotations

import abc
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.run import Run

Array = npt.NDArray[Any]


class Kernels(abc.ABC):
    """What the loop and a group of processes train with; a model's own kernels come below it."""

    def __init__(self, matrices: dict[str, Array], device: str) -> None:
        self.device = device
        self._host = matrices
        self.matrices: dict[str, Any] = {name: self.place(m) for name, m in matrices.items()}

    def place(self, value: Any) -> Any:
        """Arrays as they are on the CPU, else as tensors on the device."""
        if value is None or self.device == "cpu":
            return value
        if isinstance(value, tuple):
            return tuple(self.place(part) for part in value)
        import torch

        with warnings.catch_warnings():
            # Ids mapped from a file may only be read, and are only read here.
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(value).to(self.device)

    @abc.abstractmethod
    def train(self, run: Run, first: int, last: int) -> tuple[Array, int, int]:
        """Rounds [first, last) of the run's epoch: losses by round, words kept, examples."""

    @abc.abstractmethod
    def updates_per_token(self) -> dict[str, Array]:
        """Of each row of each matrix, float64 [rows]: how many updates one token of the text is
        expected to bring."""

    def finite(self, rows: int | None) -> bool:
        """Whether so many rows of each matrix are (None: all); NaN is both least and largest."""
        parts = (matrix[:rows] for matrix in self.matrices.values())
        return all(math.isfinite(part.min()) and math.isfinite(part.max()) for part in parts)

    def fetch(self) -> None:
        """Brings matrices from the device to the arrays they came from."""
        if self.device != "cpu":
            for name, array in self._host.items():
                array[...] = self.matrices[name].cpu().numpy()


def on_host(values: Any) -> Array:
    return np.asarray(values if isinstance(values, np.ndarray) else values.cpu().numpy())

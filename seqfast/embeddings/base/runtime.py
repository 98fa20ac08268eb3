"""How a model is trained, as far as the result does not depend on it; no file carries it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seqfast.embeddings.corpus.text import Decoding
from seqfast.embeddings.files import PathLike
from seqfast.ops.base.checks import check_whole, is_number

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True, eq=False, kw_only=True)
class Runtime:
    """Threads, device, other processes, files, and who is told."""

    workers: int | None = None
    device: str = "cpu"
    checkpoint: PathLike | None = None
    checkpoint_every: float | str = 600.0  # seconds, or "epoch"
    distributed: bool = False
    process_group: ProcessGroup | None = None
    cache_folder: PathLike | None = None
    memory_limit: int | None = None
    encoding: str = "utf-8"
    errors: str | None = None  # of texts that are read
    progress: bool = True
    callbacks: list[Any]

    def check(self, operation: str) -> None:
        """Raises TypeError or ValueError, in the name of `operation`, for what cannot be."""
        if self.workers is not None:
            check_whole(operation, "workers", self.workers, 1, also=", or None")
        self.decoding().check()
        every = self.checkpoint_every
        if every != "epoch" and not (is_number(every) and float(every) >= 0):
            raise ValueError(
                f'{operation}: checkpoint_every must be seconds >= 0 or "epoch", got {every!r}'
            )

    def shows_progress(self) -> bool:
        """Whether this process has the bar."""
        return bool(self.progress) and not (self.distributed and os.environ.get("RANK", "0") != "0")

    def reading(self) -> dict[str, Any]:
        """The arguments of `seqfast.embeddings.corpus.read` and `encode` among these."""
        return {
            "workers": self.workers,
            "cache_folder": self.cache_folder,
            "memory_limit": self.memory_limit,
        }

    def decoding(self) -> Decoding:
        """How the bytes of texts become words."""
        return Decoding(self.encoding, self.errors)

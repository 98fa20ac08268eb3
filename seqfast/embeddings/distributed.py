"""Training by several processes, as torchrun starts them: each has the text and does its share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.kernels import Kernels
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.state import State
from seqfast.embeddings.formats.safetensors import pack_words

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

_PERIODS_OF_AN_EPOCH = 64
_LONGEST_PERIOD = 1 << 20  # tokens

Array = npt.NDArray[Any]


def own_device(device: str) -> str:
    """Of several processes on one machine each takes its own CUDA device, unless it names one."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device


class Group:
    """Processes that train one model, and bring their changes together once per period.

    A period is a stretch of the text, `tokens_per_period` long over all processes; each process
    does the rounds of one contiguous part of it, from the same parameters, with learning rates and
    random numbers by position in the text. Then the changes of all N processes are added up, row by
    row, times

        (1 - (1 - f)^N) / (N f),    f = 1 - exp(-alpha u / 2),

    where u is how many updates of the row are expected of one process. If one process takes a row
    the share f of the way to where it is drawn, N in turn take it 1 - (1 - f)^N of that way. So
    changes of rare words are added, as threads would, and frequent words are averaged (McDonald et
    al. 2010); plain averages would learn rare words N times as slowly, and plain sums diverge.

    Given the number of processes, and `deterministic` or one worker in each, the result is always
    the same. A process holds its matrices up to three times. Ctrl-C in one of them takes effect in
    all after the next period; what a callback raises in one only leaves the others waiting for it.

    `group`: of torch.distributed, with gloo for device "cpu" and NCCL for CUDA; None: the default
    group, which is made from torchrun's environment where there is none yet.

    Raises ImportError without torch, RuntimeError where neither a group nor torchrun is there, and
    ValueError if the processes do not have the same text and settings.
    """

    def __init__(
        self,
        group: ProcessGroup | None = None,
        *,
        operation: str,
        device: str = "cpu",
        tokens_per_period: int | None = None,
    ) -> None:
        import torch
        import torch.distributed as dist

        if not dist.is_available():
            raise RuntimeError(f"{operation}: distributed needs a torch with torch.distributed")
        if group is None and not dist.is_initialized():
            if "RANK" not in os.environ:
                raise RuntimeError(
                    f"{operation}: distributed must find a process group or torchrun's "
                    "environment, got neither: start the program with torchrun"
                )
            dist.init_process_group("gloo" if device == "cpu" else "nccl")
        if device != "cpu":
            torch.cuda.set_device(device)  # where objects travel through
        self._torch, self._dist, self._group = torch, dist, group
        self._device, self._operation = device, operation
        self._tokens_per_period = tokens_per_period
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self._matrices: list[torch.Tensor] = []
        self._before: list[torch.Tensor] = []
        self._updates: list[Array] = []  # float64 [rows] for each token
        self._interrupts: Sequence[object] = ()  # interrupts that came since `begin`

    def begin(self, state: State, kernels: Kernels, run: Run, interrupts: Sequence[object]) -> None:
        """Checks that all processes were told the same and are at the same point, takes the
        matrices, and makes them equal by sending those of process 0.

        `interrupts` is what `interrupts_deferred` gave: an interrupt counts as soon as it is there.
        """
        torch = self._torch
        self._interrupts = interrupts
        # Before anything else is sent: what does not fit would be waited for without end.
        all_told: list[Any] = [None] * self.size
        self._dist.all_gather_object(
            all_told, _deciding_values(state, kernels, run), group=self._group
        )
        for rank, told in enumerate(all_told):
            names = [name for name in all_told[0] if told[name] != all_told[0][name]]
            if names:
                raise ValueError(
                    f"{self._operation}: every process must have the same corpus, settings and "
                    f"progress, got {_named_values(all_told[0], names)} in process 0 and "
                    f"{_named_values(told, names)} in process {rank}"
                )
        # A CPU tensor shares the memory of its array.
        self._matrices = [torch.as_tensor(matrix) for matrix in kernels.matrices.values()]
        first = self._dist.get_global_rank(self._group, 0) if self._group is not None else 0
        for matrix in self._matrices:
            self._dist.broadcast(matrix, first, group=self._group)
        self._before = [matrix.clone() for matrix in self._matrices]
        updates = kernels.updates_per_token()
        self._updates = [updates[name] for name in kernels.matrices]

    def rounds_of_period(self, run: Run) -> int:
        """Of each process."""
        tokens = self._tokens_per_period
        if tokens is None:
            tokens = min(run.tokens // _PERIODS_OF_AN_EPOCH, _LONGEST_PERIOD)
        return max(-(-tokens // (run.tokens_per_round * self.size)), 1)

    def advance(self, kernels: Kernels, run: Run) -> None:
        """One period. If any process was interrupted before its end, or in the one before, all
        raise KeyboardInterrupt after it.
        """
        rounds = self.rounds_of_period(run)
        end = min(run.next_round + rounds * self.size, run.rounds)
        # The last period of an epoch is shorter, and shared as evenly.
        rounds = -(-(end - run.next_round) // self.size)
        first = min(run.next_round + self.rank * rounds, end)
        last = min(first + rounds, end)
        losses, kept, examples = np.zeros(0), 0, 0
        if first < last:
            losses, kept, examples = kernels.train(run, first, last)
        interrupted = float(bool(self._interrupts))
        totals = self._gather_numbers(
            [float(losses.sum()), float(kept), float(examples), interrupted]
        )
        self._join_changes(run.learning_rate() * rounds * run.tokens_per_round)
        run.add(totals[:, 0], int(totals[:, 1].sum()), int(totals[:, 2].sum()))
        run.next_round = end
        if totals[:, 3].any():
            raise KeyboardInterrupt

    def _gather_numbers(self, values: list[float]) -> Any:
        """float64 [processes, values]; counts are exact up to 2^53."""
        torch = self._torch
        own = torch.tensor(values, dtype=torch.float64, device=self._device)
        every = [torch.empty_like(own) for _ in range(self.size)]
        self._dist.all_gather(every, own, group=self._group)
        return torch.stack(every).cpu().numpy()

    def _join_changes(self, steps: float) -> None:
        """Brings the changes of a period together, of `steps` tokens times learning rate each."""
        torch = self._torch
        for matrix, before, updates in zip(
            self._matrices, self._before, self._updates, strict=True
        ):
            change = matrix - before
            self._dist.all_reduce(change, group=self._group)
            scale = torch.from_numpy(scale_of_changes(steps * updates, self.size))
            before += change * scale.to(change).unsqueeze(1)
            matrix.copy_(before)


def _deciding_values(state: State, kernels: Kernels, run: Run) -> dict[str, Any]:
    """What decides the result, by name; that of the run counts where the settings' is other."""
    told: dict[str, Any] = {**vars(state.settings), **vars(run)}
    told["shapes"] = {name: list(matrix.shape) for name, matrix in kernels.matrices.items()}
    words, offsets = pack_words(state.vocabulary.words)
    told["index_to_key"] = _fingerprint(words, offsets)
    told["counts"] = _fingerprint(state.vocabulary.counts)
    locked = state.locked_rows()
    told["locked"] = None if locked is None else _fingerprint(locked)
    return told


def _fingerprint(*arrays: Array) -> str:
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _named_values(told: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {told[name]!r}" for name in names)


def scale_of_changes(updates: Array, processes: int) -> Array:
    """What the sum of the changes is multiplied by, for updates times learning rate of each."""
    left = np.exp(-np.maximum(updates, 1e-6) / 2)  # of the way
    scale: Array = (1 - left**processes) / (processes * (1 - left))
    return scale

"""One layer of a stream: its states, its packed weights and its buffer between passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqfast.ops.base.arrays import thread_count
from seqfast.ops.rnn.arguments import RnnForwardArgs, RnnSizes, SequenceView
from seqfast.ops.rnn.layer import Layer
from seqfast.ops.rnn.packed import Memory, pack, reset_state, run, state_for

if TYPE_CHECKING:
    from torch import Tensor


class StreamLayer:
    """A layer that goes on where its last pass ended, with weights that are packed once.

    What it is given is checked by `seqfast.nn`; all tensors are on the CPU.
    """

    output: Tensor  # [most steps, batch, output_size]
    resumes: bool

    def __init__(self, layer: Layer, batch_size: int) -> None:
        self._sizes = layer.sizes._replace(batch=batch_size, threads=0)
        self.layer_output_size = layer.output_size
        empty = layer.input.new_zeros
        self.hidden_n: Tensor = empty(1, batch_size, layer.output_size)
        has_cell = layer.has_cell
        self.cell_n: Tensor | None = (
            empty(1, batch_size, layer.sizes.hidden_size) if has_cell else None
        )
        self._hidden: Tensor | None = None
        self._cell: Tensor | None = None
        self.output = self.hidden_n
        self.resumes = False
        self._state: Memory | None = None

    def check_like(self, name: str, layer: Layer) -> None:
        wanted = self._sizes
        if layer.sizes._replace(threads=0, batch=wanted.batch) != wanted:
            raise ValueError(
                f"{name}: weights must have the sizes and dtype that they had, {wanted}, got "
                f"{layer.sizes}: make another stream"
            )

    def pack(self, layer: Layer) -> None:
        self._packed = pack(layer)
        self._options = layer.options
        if self._state is None:
            args = self._arguments(self.hidden_n, self.hidden_n)
            self._state = state_for(args)

    def begin(self, hidden: Tensor | None, cell: Tensor | None) -> None:
        self._hidden, self._cell, self.resumes = hidden, cell, False
        for mine, given in ((self.hidden_n, hidden), (self.cell_n, cell)):
            if mine is not None:
                mine.zero_() if given is None else mine.copy_(given)

    def reset(self, rows: Tensor) -> None:
        for state in (self._hidden, self._cell, self.hidden_n, self.cell_n):
            if state is not None:
                state[0].index_fill_(0, rows, 0)
        if self.resumes:
            args = self._arguments(self.hidden_n, self.hidden_n)
            reset_state(args, rows.data_ptr(), rows.numel())

    def run(self, x: Tensor, workspace: Memory) -> tuple[Tensor, Memory]:
        """The output of these steps, in the layer's buffer, and the workspace for the next pass."""
        output = self.output[: x.shape[0]]
        workspace = run(self._arguments(x, output), workspace)
        self.resumes = True
        return output, workspace

    def _arguments(self, x: Tensor, output: Tensor) -> RnnForwardArgs:
        steps_apart, rows_apart, _ = x.stride()
        hidden, cell, state = self._hidden, self._cell, self._state
        sizes = RnnSizes(self._sizes.dtype, output.shape[0], *self._sizes[2:7], thread_count())
        return RnnForwardArgs(
            sizes,
            self._options,
            SequenceView(x.data_ptr(), steps_apart, rows_apart),
            0,
            0,
            0 if hidden is None else hidden.data_ptr(),
            0 if cell is None else cell.data_ptr(),
            self._packed.rows,
            output.data_ptr(),
            self.hidden_n.data_ptr(),
            0 if self.cell_n is None else self.cell_n.data_ptr(),
            0,
            0,
            0,
            self._packed.packing,
            self._packed.memory.address,
            True,
            self.resumes,
            0 if state is None else state.address,
        )

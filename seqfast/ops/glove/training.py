"""Training of GloVe: everything that can be wrong is checked once, then kernels are called as often
as one likes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import Array, Shape, dtype_name, library_of, thread_count
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import FINITE, POSITIVE, check_number, check_place, check_whole
from seqfast.ops.glove.arguments import GloveArgs
from seqfast.ops.word2vec.matrix import ALIGNMENT, FLOATS

MATRICES = ("words", "contexts", "word_squares", "context_squares")
BLOCK_WORDS = 1 << 16  # words of a block, at most


def checked_threads(operation: str, threads: int | None) -> int:
    if threads is None:
        return thread_count()
    return check_whole(operation, "threads", threads, 1, 2**31 - 1)


class Training:
    """`seqfast.ops.glove.train` with the arguments that stay from call to call, checked once.

    `Training(...).run(order)` is `train(..., order=order)`. Arrays are kept, not copied; entries
    are taken as `schedule` made them, which `train` looks at.

    Args:
        tiles: as for `train`, like all that follow.
        entries: of `schedule`, too.
        words: the words as rows.
        contexts: the words as columns.
        word_squares: of the steps of words.
        context_squares: of the steps of contexts.
        size: of a vector.
        x_max: the count from which on the weight is 1.
        alpha: the power of the weight.
        learning_rate: of vectors.
        clip: the largest component of a gradient.
        locked: rows that are not trained.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, layout or number.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import glove
        >>> from seqfast.ops.word2vec.matrix import matrix
        >>> counted = glove.cooccurrences(np.array([0, 1, 1], np.int32), np.array([0, 3]), 2)
        >>> matrices = [matrix(2, 9) for _ in range(4)]
        >>> for squares in matrices[2:]:
        ...     squares.fill(1)
        >>> training = glove.Training(*glove.schedule(*counted, blocks=2), *matrices, size=8)
        >>> training.run(np.array([1])).shape
        (1,)
    """

    def __init__(
        self,
        tiles: Array,
        entries: Array,
        words: Array,
        contexts: Array,
        word_squares: Array,
        context_squares: Array,
        *,
        size: int,
        x_max: float = 100.0,
        alpha: float = 0.75,
        learning_rate: float = 0.05,
        clip: float = 100.0,
        locked: Array | None = None,
    ) -> None:
        xp = self._xp = library_of(words, "glove", "words")
        self._place = xp.place(words)
        self._on_cpu = checked_backend("glove", "words", self._place) == "cpu"
        self._on_host = isinstance(words, np.ndarray) and not self._on_cpu
        self._like = words
        size = check_whole("glove", "size", size, 1, 2**31 - 1)
        check_number("glove", "x_max", x_max, POSITIVE)
        check_number("glove", "alpha", alpha, FINITE)
        check_number("glove", "learning_rate", learning_rate, POSITIVE)
        if not clip > 0:
            raise ValueError(f"glove: clip must be above 0, got {clip!r}")
        matrices = dict(
            zip(MATRICES, (words, contexts, word_squares, context_squares), strict=True)
        )
        shape = tuple(words.shape)
        if len(shape) != 2 or shape[1] < size + 1 or shape[1] % FLOATS:
            raise ValueError(
                f"glove: words must be [words, a multiple of {FLOATS} columns, at least "
                f"{size + 1}], got {list(shape)}"
            )
        for name, matrix in matrices.items():
            self._check(name, matrix, "float32", shape)
            if xp.address(matrix) % ALIGNMENT and shape[0]:
                raise ValueError(f"glove: {name} must be at a multiple of {ALIGNMENT} bytes")
        if len({xp.address(matrix) for matrix in matrices.values()}) < 4 and shape[0]:
            raise ValueError("glove: words, contexts and squares must not share memory")
        blocks = math.isqrt(max(tiles.shape[0] - 1, 0))
        self._check("tiles", tiles, "int64", (blocks**2 + 1,))
        self._check("entries", entries, "uint64", (entries.shape[0],))
        if blocks < 1 or shape[0] > blocks * BLOCK_WORDS:
            raise ValueError(
                f"glove: tiles must be of at least {-(-shape[0] // BLOCK_WORDS)} blocks for "
                f"{shape[0]} words, got {blocks}"
            )
        self._check_tiles(tiles, entries)
        if locked is not None:
            self._check("locked", locked, "uint8", (shape[0],))
        self._arrays = {**matrices, "tiles": tiles, "entries": entries, "locked": locked}
        addresses = {
            name: 0 if array is None else xp.address(array) for name, array in self._arrays.items()
        }
        self.blocks = blocks
        self._args = GloveArgs(
            vocabulary=shape[0],
            blocks=blocks,
            strata=0,
            size=size,
            stride=shape[1],
            x_max=float(x_max),
            alpha=float(alpha),
            learning_rate=float(learning_rate),
            clip=float(clip),
            rounds=0,
            loss=0,
            threads=1,
            **addresses,
        )

    def _check(self, name: str, array: Array, dtype: str, shape: Shape) -> None:
        """Of the library and in the place of `words`, contiguous, of this dtype and shape."""
        xp = self._xp
        if not xp.owns(array):
            raise TypeError(f"glove: {name} must be {xp.name}, got {type(array).__name__}")
        if dtype_name(array) != dtype:
            raise TypeError(f"glove: {name} must be {dtype}, got {array.dtype}")
        if tuple(array.shape) != shape:
            raise ValueError(f"glove: {name} must be {list(shape)}, got {list(array.shape)}")
        check_place(xp, "glove", name, array, self._place)
        if xp.contiguous(array) is not array:
            raise ValueError(f"glove: {name} must be contiguous")

    @staticmethod
    def _check_tiles(tiles: Array, entries: Array) -> None:
        steps = tiles[1:] - tiles[:-1]
        if int(tiles[0]) != 0 or int(tiles[-1]) != entries.shape[0] or int(steps.min()) < 0:
            raise ValueError(
                f"glove: tiles must rise from 0 to {entries.shape[0]}, got {int(tiles[0])} to "
                f"{int(tiles[-1])}"
            )

    def run(self, order: Array, threads: int | None = None) -> Array:
        """The strata in `order`, int32 [strata]; their loss, float64."""
        order = np.ascontiguousarray(order, np.int32)
        if order.ndim != 1 or (len(order) and not 0 <= order.min() <= order.max() < self.blocks):
            raise ValueError(f"glove: order must be strata below {self.blocks}, got {order}")
        args = self._args._replace(
            strata=order.ctypes.data,
            rounds=len(order),
            threads=checked_threads("glove", threads),
        )
        if self._on_cpu:
            loss = np.zeros((len(order), self.blocks))
            _C.glove_train(args._replace(loss=loss.ctypes.data))
        else:
            loss = self._run_cuda(args)
        # Tile after tile, in one order.
        return np.cumsum(loss, axis=1)[:, -1]

    def _run_cuda(self, args: GloveArgs) -> Any:
        from seqfast.ops.glove import cuda  # it imports torch

        device = None if self._on_host else self._like.device
        return cuda.train(args, device, self._on_host)

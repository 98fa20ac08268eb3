"""Training of word vectors: everything that can be wrong is checked once, then kernels are called
as often as one likes."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from typing import Any

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import (
    Array,
    ArrayLibrary,
    Shape,
    Workspace,
    dtype_name,
    library_of,
    thread_count,
)
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import NOT_NEGATIVE, check_flag, check_number, check_whole
from seqfast.ops.word2vec.arguments import Word2VecArgs
from seqfast.ops.word2vec.matrix import ALIGNMENT, FLOATS

ROUND = 256  # tokens
_MOST_WORDS = 2**26  # random words of one centre, four to a counter
_FLAGS = (
    "cbow",
    "shared_negatives",
    "shrink_windows",
    "cbow_mean",
    "legacy_cbow",
    "deterministic",
)
# Of Word2VecArgs what each call of `run` brings.
_OF_A_RUN = (
    "seed",
    "epoch",
    "tokens_before",
    "tokens_total",
    "alpha",
    "min_alpha",
    "first_round",
    "last_round",
    "loss",
    "kept",
    "examples",
    "threads",
)


class Training:
    """`seqfast.ops.word2vec.train` with the arguments that stay from call to call, checked once.

    `Training(...).run(...)` is `train(...)`; later runs do not check the arrays again. They are
    kept, not copied (tables are copied where they are not contiguous): the contents of `input`,
    `output`, `nodes` and `locked` may be changed between runs, those of the others not.

    Args:
        ids: as for `train`, like all that follow.
        offsets: where sentences begin and end.
        input: the words as contexts.
        output: the words as centres.
        nodes: the inner nodes of the hierarchy.
        size: of a vector.
        cbow: CBOW rather than skip-gram.
        window: words on each side, at most.
        negative: negatives drawn for each centre.
        shared_negatives: whether the contexts of a window share their negatives.
        shrink_windows: whether a window is drawn from 1 to `window`.
        cbow_mean: whether a context is the mean of its words.
        legacy_cbow: whether each context gets the whole gradient of the mean.
        deterministic: whether results are the same for any number of threads.
        keep: of `keep_thresholds`.
        alias: of `alias_table`.
        paths: of `huffman_paths`.
        locked: rows of `input` that are not trained.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or number, and arrays that are missing or not used.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import word2vec
        >>> from seqfast.ops.word2vec.matrix import matrix
        >>> ids, offsets = np.array([0, 1, 2, 3], np.int32), np.array([0, 4])
        >>> table = word2vec.alias_table(np.ones(4))
        >>> arrays = ids, offsets, matrix(4, 8), matrix(4, 8)
        >>> training = word2vec.Training(*arrays, size=8, alias=table)
        >>> [training.run(epoch=epoch)[1].tolist() for epoch in range(2)]
        [[4], [4]]
    """

    def __init__(
        self,
        ids: Array,
        offsets: Array,
        input: Array,
        output: Array | None = None,
        nodes: Array | None = None,
        *,
        size: int,
        cbow: bool = False,
        window: int = 5,
        negative: int = 5,
        shared_negatives: bool = True,
        shrink_windows: bool = True,
        cbow_mean: bool = True,
        legacy_cbow: bool = False,
        deterministic: bool = False,
        keep: Array | None = None,
        alias: tuple[Array, Array] | None = None,
        paths: tuple[Array, Array, Array] | None = None,
        locked: Array | None = None,
    ) -> None:
        xp = self._xp = library_of(input, "word2vec", "input")
        self._place = xp.place(input)
        backend = checked_backend("word2vec", "input", self._place)
        flags = (cbow, shared_negatives, shrink_windows, cbow_mean, legacy_cbow, deterministic)
        for name, flag in zip(_FLAGS, flags, strict=True):
            check_flag("word2vec", name, flag)
        size = check_whole("word2vec", "size", size, 1, 2**31 - 1)
        window = check_whole("word2vec", "window", window, 1, 2**30 - 1)
        negative = check_whole("word2vec", "negative", negative, 0, _MOST_WORDS - 1)

        words, stride = self._check_matrix("input", input, size, None)
        if words > 2**31 - 1:
            raise ValueError(f"word2vec: input must have less than 2**31 rows, got {words}")
        _check_use("output", output, negative > 0 or paths is None, "with negatives or softmax")
        _check_use("nodes", nodes, paths is not None, "with paths")
        _check_use("alias", alias, negative > 0, "with negatives")
        for name, matrix, rows in (("output", output, words), ("nodes", nodes, max(words - 1, 1))):
            if matrix is not None:
                self._check_matrix(name, matrix, size, (rows, stride))
        _check_apart(xp, {"input": input, "output": output, "nodes": nodes})

        ids, tokens = self._check_ids(ids, words)
        offsets, longest = self._check_offsets("offsets", offsets, None, tokens)
        sets = 1 if cbow or shared_negatives else min(2 * window, max(longest - 1, 1))
        if 1 + sets * negative > _MOST_WORDS:
            raise ValueError(
                "word2vec: negative must be smaller: a window may draw fewer than 2**26 numbers, "
                f"got {negative} for each of {sets} pairs"
            )
        if keep is not None:
            keep = self._table("keep", keep, (words,), "uint32")
        threshold, other = (None, None) if alias is None else self._check_alias(alias, words)
        path_offsets, path_nodes, path_codes, longest_path = None, None, None, 0
        if paths is not None:
            path_offsets, path_nodes, path_codes, longest_path = self._check_paths(paths, words)
        if locked is not None:
            locked = self._table("locked", locked, (words,), "uint8", "bool")

        self._tokens, self._like, self._on_host = tokens, input, backend == "cuda-host"
        self._cpu = backend == "cpu"
        # The kernels know addresses only.
        arrays = {
            "ids": ids,
            "offsets": offsets,
            "keep": keep,
            "alias_threshold": threshold,
            "alias": other,
            "path_offsets": path_offsets,
            "path_nodes": path_nodes,
            "path_codes": path_codes,
            "locked": locked,
            "input": input,
            "output": output,
            "nodes": nodes,
        }
        self._arrays = arrays
        addresses: dict[str, Any] = {name: _address(xp, array) for name, array in arrays.items()}
        of_a_run: dict[str, Any] = dict.fromkeys(_OF_A_RUN, 0)
        self._args = Word2VecArgs(
            tokens=tokens,
            sentences=offsets.shape[0] - 1,
            vocabulary=words,
            size=size,
            stride=stride,
            hierarchical=paths is not None,
            window=window,
            negative=negative,
            longest_path=longest_path,
            **{name: bool(flag) for name, flag in zip(_FLAGS, flags, strict=True)},
            **addresses,
            **of_a_run,
        )

    @property
    def rounds(self) -> int:
        """Rounds of the corpus."""
        return -(-self._tokens // ROUND)

    def run(
        self,
        *,
        seed: int = 1,
        epoch: int = 0,
        tokens_before: int = 0,
        tokens_total: int | None = None,
        alpha: float = 0.025,
        min_alpha: float = 1e-4,
        first_round: int = 0,
        last_round: int | None = None,
        threads: int | None = None,
    ) -> tuple[Array, Array, Array]:
        """As `train`: loss, kept and examples of rounds `first_round` to `last_round`."""
        for name, rate in (("alpha", alpha), ("min_alpha", min_alpha)):
            check_number("word2vec", name, rate, NOT_NEGATIVE)
        last = self.rounds
        if last_round is not None:
            last = check_whole("word2vec", "last_round", last_round, 0, self.rounds)
        first = check_whole("word2vec", "first_round", first_round, 0, last)
        if tokens_total is None:
            tokens_total = max(self._tokens, 1)
        if threads is None:
            threads = thread_count()
        else:
            threads = check_whole("word2vec", "threads", threads, 1, 2**31 - 1)
        args = self._args._replace(
            seed=check_whole("word2vec", "seed", seed, -(2**63), 2**63 - 1),
            epoch=check_whole("word2vec", "epoch", epoch, 0, 2**32 - 1),
            tokens_before=check_whole("word2vec", "tokens_before", tokens_before, 0, 2**62),
            tokens_total=check_whole("word2vec", "tokens_total", tokens_total, 1, 2**63 - 1),
            alpha=float(alpha),
            min_alpha=float(min_alpha),
            first_round=first,
            last_round=last,
            threads=threads,
        )
        if self._cpu:
            results = _train(args)
            return results if self._is_numpy else _as_tensors(results)
        return self._run_cuda(args)

    def _run_cuda(self, args: Word2VecArgs) -> tuple[Array, Array, Array]:
        from seqfast.ops.word2vec import cuda  # it imports torch

        device = None if self._is_numpy else self._like.device
        loss, kept, examples = cuda.train(args, device, self._on_host)
        if self._is_numpy:
            return loss.numpy(), kept.numpy(), examples.numpy()
        return loss, kept, examples

    @property
    def _is_numpy(self) -> bool:
        return isinstance(self._like, np.ndarray)

    # ---- checks of arrays ----

    def _check(self, name: str, array: Array, *dtypes: str) -> None:
        """Of the same library and in the same place as `input`, and of one of these dtypes."""
        xp = self._xp
        if not xp.owns(array):
            raise TypeError(f"word2vec: {name} must be {xp.name}, got {type(array).__name__}")
        # By name: a byte-swapped dtype is called otherwise, and so is refused.
        if dtype_name(array) not in dtypes:
            raise TypeError(f"word2vec: {name} must be {' or '.join(dtypes)}, got {array.dtype}")
        place = xp.place(array)
        if place != self._place:
            where = "the CPU" if self._place == "cpu" else f"{self._place}, as input is"
            raise ValueError(f"word2vec: {name} must be a dense array on {where}, got {place}")

    def _table(self, name: str, array: Array, shape: Shape | None, *dtypes: str) -> Array:
        """What kernels only read: itself or a contiguous copy; shape None for any vector."""
        self._check(name, array, *dtypes)
        if shape is None:
            if len(array.shape) != 1:
                raise ValueError(
                    f"word2vec: {name} must have one dimension, got {list(array.shape)}"
                )
        elif tuple(array.shape) != shape:
            raise ValueError(f"word2vec: {name} must be {list(shape)}, got {list(array.shape)}")
        return self._xp.contiguous(array)

    def _check_matrix(self, name: str, array: Array, size: int, shape: Shape | None) -> Shape:
        """What kernels change: shape `[rows, stride]`, any where `shape` is None."""
        self._check(name, array, "float32")
        if shape is None and len(array.shape) != 2:
            raise ValueError(f"word2vec: {name} must be [words, stride], got {list(array.shape)}")
        if shape is not None and tuple(array.shape) != shape:
            raise ValueError(f"word2vec: {name} must be {list(shape)}, got {list(array.shape)}")
        rows, stride = array.shape
        if stride < size or stride % FLOATS:
            raise ValueError(
                f"word2vec: {name} must have a multiple of {FLOATS} columns, at least {size}, "
                f"got {stride}"
            )
        if self._xp.contiguous(array) is not array:
            raise ValueError(f"word2vec: {name} must be contiguous, it is changed in place")
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            raise ValueError(f"word2vec: {name} must be writable, it is changed in place")
        if rows and self._xp.address(array) % ALIGNMENT:
            raise ValueError(
                f"word2vec: {name} must be at an address that is a multiple of {ALIGNMENT} bytes, "
                f"got {self._xp.address(array) % ALIGNMENT} past one"
            )
        padding = array[:, size:]
        wrong = padding != 0
        if bool(wrong.any()):
            # NaN is what training leaves there that has run away to infinity.
            raise ValueError(
                f"word2vec: {name} must be zero in its columns from {size} on, "
                f"got {float(padding[wrong][0])}"
            )
        return rows, stride

    def _check_ids(self, ids: Array, words: int) -> tuple[Array, int]:
        ids = self._table("ids", ids, None, "int32")
        _check_range("ids", ids, words - 1)
        return ids, ids.shape[0]

    def _check_offsets(
        self, name: str, offsets: Array, shape: Shape | None, end: int
    ) -> tuple[Array, int]:
        """From 0 to `end`, not falling; and the longest step."""
        offsets = self._table(name, offsets, shape, "int64")
        if not offsets.shape[0]:
            raise ValueError(f"word2vec: {name} must have one more number than parts, got none")
        if (int(offsets[0]), int(offsets[-1])) != (0, end):
            raise ValueError(
                f"word2vec: {name} must go from 0 to {end}, "
                f"got {int(offsets[0])} to {int(offsets[-1])}"
            )
        if offsets.shape[0] == 1:
            return offsets, 0
        steps = offsets[1:] - offsets[:-1]
        if int(steps.min()) < 0:
            raise ValueError(f"word2vec: {name} must not decrease, got a step of {steps.min()}")
        return offsets, int(steps.max())

    def _check_alias(self, alias: tuple[Array, Array], words: int) -> tuple[Array, Array]:
        threshold, other = _unpacked("alias", alias, ("threshold", "other"))
        threshold = self._table("alias's threshold", threshold, (words,), "uint32")
        other = self._table("alias's other", other, (words,), "int32")
        _check_range("alias's other", other, words - 1)
        return threshold, other

    def _check_paths(
        self, paths: tuple[Array, Array, Array], words: int
    ) -> tuple[Array, Array, Array, int]:
        offsets, nodes, codes = _unpacked("paths", paths, ("offsets", "nodes", "codes"))
        nodes = self._table("paths' nodes", nodes, None, "int32")
        steps = nodes.shape[0]
        codes = self._table("paths' codes", codes, (steps,), "uint8")
        offsets, longest = self._check_offsets("paths' offsets", offsets, (words + 1,), steps)
        _check_range("paths' nodes", nodes, max(words - 2, 0))
        _check_range("paths' codes", codes, 1)
        return offsets, nodes, codes, longest


def _train(args: Word2VecArgs) -> tuple[Array, Array, Array]:
    """On the CPU."""
    rounds = args.last_round - args.first_round
    loss = np.zeros(rounds, np.float64)
    kept, examples = np.zeros(rounds, np.int64), np.zeros(rounds, np.int64)
    if rounds:
        args = args._replace(
            loss=loss.ctypes.data, kept=kept.ctypes.data, examples=examples.ctypes.data
        )
        size = _C.word2vec_workspace_size(args)
        with Workspace(size) as workspace:
            _C.word2vec_train(args, workspace, size)
    return loss, kept, examples


def _as_tensors(results: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    from_numpy = sys.modules["torch"].from_numpy
    loss, kept, examples = results
    return from_numpy(loss), from_numpy(kept), from_numpy(examples)


def _check_use(name: str, value: object, used: bool, when: str) -> None:
    if used and value is None:
        raise ValueError(f"word2vec: {name} must be given {when}, got None")
    if not used and value is not None:
        raise ValueError(f"word2vec: {name} must be None except {when}, got {type(value).__name__}")


def _check_apart(xp: ArrayLibrary, matrices: dict[str, Array | None]) -> None:
    """Two matrices in one place would each undo what the kernel did to the other."""
    spans = sorted(
        (xp.address(matrix), xp.address(matrix) + 4 * math.prod(matrix.shape), name)
        for name, matrix in matrices.items()
        if matrix is not None
    )
    for (_, end, one), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise ValueError(f"word2vec: {one} and {other} must not share memory")


def _check_range(name: str, array: Array, highest: int) -> None:
    if array.shape[0]:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > highest:
            raise ValueError(f"word2vec: {name} must be from 0 to {highest}, got {low} to {high}")


def _unpacked(name: str, value: Any, parts: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)) or len(value) != len(parts):
        got = f"{len(value)} of them" if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"word2vec: {name} must be ({', '.join(parts)}), got {got}")
    return tuple(value)


def _address(xp: ArrayLibrary, array: Array | None) -> int:
    return 0 if array is None else xp.address(array)

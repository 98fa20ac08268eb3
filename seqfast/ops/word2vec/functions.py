"""Word vectors: the tables they are drawn by, and the call into the native kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from seqfast import _C
from seqfast.ops.base.arrays import Array, thread_count
from seqfast.ops.base.checks import NOT_NEGATIVE, check_number, check_whole
from seqfast.ops.word2vec.arguments import FirstVectorsArgs
from seqfast.ops.word2vec.training import ROUND, Training

__all__ = [
    "Training",
    "alias_table",
    "first_vectors",
    "huffman_paths",
    "keep_thresholds",
    "rounds_of",
    "train",
]

Alias = tuple[Array, Array]
Paths = tuple[Array, Array, Array]
_Counts = npt.NDArray[np.int64]

_ONE = 2**32
_ALWAYS = 2**32 - 1


def train(
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
    alias: Alias | None = None,
    paths: Paths | None = None,
    locked: Array | None = None,
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
    """Trains word vectors on rounds `first_round` to `last_round` of a corpus.

    Skip-gram and CBOW (Mikolov et al. 2013a) with negative sampling, hierarchical softmax (Mikolov
    et al. 2013b), both, or the full softmax where `negative` is 0 and `paths` is None. Same results
    as `seqfast.reference.word2vec.train`, equations in docs/equations.md. All arrays are NumPy
    arrays, or all are torch tensors, on the CPU or on one CUDA device.

    `input`, `output` and `nodes` are changed in place, in their first `size` columns. `stride` is a
    multiple of 16, the columns past `size` are zero, and the address is a multiple of 64 bytes:
    `seqfast.ops.word2vec.matrix.matrix` makes such arrays.

    Args:
        ids: int32 [tokens], each below the number of words V.
        offsets: int64 [sentences + 1], from 0 to tokens.
        input: float32 [V, stride], the words as contexts.
        output: float32 [V, stride], the words as centres; with negatives, or the full softmax.
        nodes: float32 [max(V - 1, 1), stride], the inner nodes of the hierarchy; with `paths`.
        size: of a vector.
        cbow: CBOW rather than skip-gram.
        window: words on each side, at most.
        negative: negatives drawn for each centre.
        shared_negatives: the contexts of a window share its negatives; else each pair has its own.
            A window of CBOW has one set in any case.
        shrink_windows: a window is drawn from 1 to `window`.
        cbow_mean: a context is the mean of its words, else their sum.
        legacy_cbow: each context gets the whole gradient of the mean, as in word2vec.c and gensim.
        deterministic: a batch is 32 tokens, and results do not depend on the number of threads.
            Else a batch is a window, or a pair where `shared_negatives` is False, and threads do
            not wait for each other (Hogwild, Niu et al. 2011).
        keep: uint32 [V] of `keep_thresholds`. None: all are kept.
        alias: of `alias_table`, for negatives.
        paths: of `huffman_paths`.
        locked: uint8 or bool [V], rows of `input` that are not trained.
        seed: int64. What is drawn depends on it, on `epoch` and on places in the corpus.
        epoch: below 2**32.
        tokens_before: tokens trained before this epoch, for the learning rate.
        tokens_total: tokens of the whole training. None: those of the corpus.
        alpha: the learning rate at the start. Round r's lies between `alpha` and `min_alpha` as
            `tokens_before + 256 * r` lies between 0 and `tokens_total`.
        min_alpha: the learning rate at the end.
        first_round: where to begin.
        last_round: where to end. None: the end of the corpus.
        threads: on the CPU. None: torch's number if torch is loaded, else OpenMP's.

    Returns:
        For each round loss float64, the sum over its examples in nats; kept int64, tokens left by
        subsampling; examples int64, pairs (skip-gram) or windows (CBOW) trained. They are arrays of
        the library and the device of the others.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or number, and arrays that are missing or not used.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import word2vec
        >>> from seqfast.ops.word2vec.matrix import matrix
        >>> vectors, centres = matrix(4, 8), matrix(4, 8)
        >>> word2vec.first_vectors(vectors[:, :8], seed=1)
        >>> ids, offsets = np.array([0, 1, 2, 3], np.int32), np.array([0, 4])
        >>> table = word2vec.alias_table(np.ones(4))
        >>> loss, kept, _ = word2vec.train(ids, offsets, vectors, centres, size=8, alias=table)
        >>> kept
        array([4])
    """
    training = Training(
        ids,
        offsets,
        input,
        output,
        nodes,
        size=size,
        cbow=cbow,
        window=window,
        negative=negative,
        shared_negatives=shared_negatives,
        shrink_windows=shrink_windows,
        cbow_mean=cbow_mean,
        legacy_cbow=legacy_cbow,
        deterministic=deterministic,
        keep=keep,
        alias=alias,
        paths=paths,
        locked=locked,
    )
    return training.run(
        seed=seed,
        epoch=epoch,
        tokens_before=tokens_before,
        tokens_total=tokens_total,
        alpha=alpha,
        min_alpha=min_alpha,
        first_round=first_round,
        last_round=last_round,
        threads=threads,
    )


def rounds_of(tokens: int) -> int:
    """Rounds of a corpus: 256 tokens each, the last one may have fewer.

    Args:
        tokens: of the corpus.

    Returns:
        The number of rounds.

    Example:
        >>> from seqfast.ops.word2vec import rounds_of
        >>> rounds_of(1000)
        4
    """
    return -(-tokens // ROUND)


def first_vectors(
    vectors: Array, seed: int, first_row: int = 0, *, threads: int | None = None
) -> None:
    """Fills `vectors` with numbers from (-0.5, 0.5) / size, the scale of word2vec.c and gensim.

    What a row gets depends on its number, the seed and the size alone, by Philox4x32-10 (Salmon et
    al. 2011). Same results as `seqfast.reference.word2vec.first_vectors`.

    Args:
        vectors: [rows, size] float32, NumPy, its rows dense, any stride between them; changed.
        seed: int64.
        first_row: the number of the first row; rows are numbered below 2**32.
        threads: None: torch's number if torch is loaded, else OpenMP's.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, layout or number.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.word2vec import first_vectors
        >>> vectors = np.empty((3, 10), np.float32)
        >>> first_vectors(vectors, seed=1)
        >>> bool(abs(vectors).max() < 0.05)
        True
    """
    if not isinstance(vectors, np.ndarray):
        got = type(vectors).__name__
        raise TypeError(f"first_vectors: vectors must be a NumPy array, got {got}")
    if vectors.dtype != np.float32:
        raise TypeError(f"first_vectors: vectors must be float32, got {vectors.dtype}")
    if vectors.ndim != 2:
        raise ValueError(f"first_vectors: vectors must be [rows, size], got {list(vectors.shape)}")
    rows, size = vectors.shape
    seed = check_whole("first_vectors", "seed", seed, -(2**63), 2**63 - 1)
    first_row = check_whole("first_vectors", "first_row", first_row, 0, 2**32 - rows)
    if threads is None:
        threads = thread_count()
    else:
        threads = check_whole("first_vectors", "threads", threads, 1, 2**31 - 1)
    if not rows * size:
        return
    between, within = vectors.strides
    dense = within == 4 or size == 1
    apart = (between >= 4 * size and between % 4 == 0) or rows == 1
    if not (dense and apart and vectors.flags.aligned and vectors.flags.writeable):
        raise ValueError("first_vectors: vectors must be writable, with dense rows in rising order")
    args = FirstVectorsArgs(
        rows=rows,
        size=size,
        stride=between // 4,
        first_row=first_row,
        seed=seed,
        vectors=vectors.ctypes.data,
        threads=threads,
    )
    _C.word2vec_first_vectors(args)


def keep_thresholds(counts: Array, sample: float) -> npt.NDArray[np.uint32]:
    """The limit of each word's random number up to which an occurrence is kept (subsampling).

    Mikolov et al. 2013b, in the form of word2vec.c and gensim: with f a word's share of `counts`
    and s = `sample`, an occurrence is kept with probability (sqrt(f / s) + 1) * s / f, at most 1.

    Args:
        counts: [V] integers, NumPy.
        sample: 0 keeps all. From 1 on, as in gensim, int(s * (3 + sqrt(5)) / 2) takes the place of
            s times the sum of the counts.

    Returns:
        uint32 [V].

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or number.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.word2vec import keep_thresholds
        >>> keep_thresholds(np.array([10_000, 5]), 1e-3).argmax()
        np.int64(1)
    """
    counts = _check_counts("keep_thresholds", counts)
    check_number("keep_thresholds", "sample", sample, NOT_NEGATIVE)
    if sample == 0:
        return np.full(len(counts), _ALWAYS, np.uint32)
    weights = np.maximum(counts.astype(np.float64), 1)
    limit = sample * weights.sum() if sample < 1 else int(sample * (3 + math.sqrt(5)) / 2)
    share = weights / limit
    threshold = np.round((np.sqrt(share) + 1) / share * _ONE) - 1
    return np.asarray(np.clip(threshold, 0, _ALWAYS).astype(np.uint32))


def alias_table(weights: Array) -> Alias:
    """A table that draws number i with its share of `weights` [V] (Walker 1977).

    All places are drawn alike; place i gives i where a random 32-bit number is at most
    threshold[i], else other[i]. Weights are rounded to multiples of 2**-32 of their mean, one
    multiple at least; what rounding leaves over goes to the first of the largest. From there on the
    arithmetic is exact. Places with less than the mean are filled up, in rising order of i, by the
    first that has more, until that has no more than the mean itself; what it may then be short of
    comes from the next of those that have at least the mean, also in rising order. A place that
    needs no filling is its own other. The sweep is found from the sums of what is wanting and of
    what is left over up to each place (Hübschle-Schneider & Sanders 2019).

    Args:
        weights: [V], NumPy, any real dtype, none negative.

    Returns:
        threshold uint32 [V] and other int32 [V].

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or number.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.word2vec import alias_table
        >>> alias_table(np.array([1.0, 3.0]))[1].tolist()
        [1, 1]
    """
    weights = _check_weights(weights)
    places = len(weights)
    threshold = np.full(places, _ALWAYS, np.uint32)
    other = np.arange(places, dtype=np.int32)
    if not places:
        return threshold, other
    whole = places * _ONE
    shares = np.maximum(np.round(weights / weights.sum() * whole), 1).astype(np.int64)
    shares[np.argmax(weights)] += whole - shares.sum()

    wanting, giving = np.flatnonzero(shares < _ONE), np.flatnonzero(shares >= _ONE)
    wanted = np.concatenate([[0], np.cumsum(_ONE - shares[wanting])])
    left = np.cumsum(shares[giving] - _ONE)
    # A place is filled by the first giver whose share reaches past all that was wanted before it.
    threshold[wanting] = shares[wanting] - 1
    other[wanting] = giving[np.searchsorted(left, wanted[:-1], side="right")]
    # A giver is done with the first place that takes all that is left, and maybe more.
    short = wanted[np.searchsorted(wanted, left)] - left
    filled = np.flatnonzero(short)
    threshold[giving[filled]] = _ONE - 1 - short[filled]
    other[giving[filled]] = giving[filled + 1]
    return threshold, other


def huffman_paths(counts: Array) -> Paths:
    """The path to each word in a Huffman tree (Huffman 1952).

    The two smallest by `counts` are joined until there is one, which is the root. Of equal counts
    words come before inner nodes, words of higher numbers before words of lower ones, and older
    inner nodes before younger ones. Inner nodes are numbered in the order in which they are made, 0
    to V - 2; of two that are joined the smaller has code 0, the other 1.

    Args:
        counts: [V] integers, NumPy.

    Returns:
        offsets int64 [V + 1]; nodes int32, the inner nodes from the root down; codes uint8, which
        way to go from each. Word i's path lies from offsets[i] to offsets[i + 1]. A single word has
        an empty path.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or number.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.word2vec import huffman_paths
        >>> huffman_paths(np.array([4, 2, 1]))[0].tolist()  # the frequent word's path is short
        [0, 1, 3, 5]
    """
    counts = _check_counts("huffman_paths", counts)
    words = len(counts)
    if words < 2:
        return np.zeros(words + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8)
    parent, code, batches = _huffman_tree(counts)

    # Nodes come after words in `parent` and `code`; no batch has a node and its parent.
    depth = np.zeros(words - 1, np.int64)
    for begin, end in reversed(batches[:-1]):
        depth[begin:end] = depth[parent[words + begin : words + end]] + 1
    offsets = np.zeros(words + 1, np.int64)
    np.cumsum(depth[parent[:words]] + 1, out=offsets[1:])

    path_nodes = np.empty(offsets[-1], np.int32)
    path_codes = np.empty(offsets[-1], np.uint8)
    # All words at once, from the last step of each up to the root.
    at, step = np.arange(words), offsets[1:] - 1
    root = 2 * words - 2
    while len(at):
        up = parent[at]
        path_nodes[step], path_codes[step] = up, code[at]
        at, step = up + words, step - 1
        going = at != root
        at, step = at[going], step[going]
    return offsets, path_nodes, path_codes


def _huffman_tree(counts: _Counts) -> tuple[Any, Any, list[tuple[int, int]]]:
    """Parent (a node's number) and code of each word and, after them, of each inner node but the
    root; and the batches, from node to node, in which nodes were made.

    Whatever has at most the sum of the two smallest comes before all nodes yet to be made, so it is
    taken at once, pair by pair. That sum grows at least by half from batch to batch.
    """
    words = len(counts)
    by_count = words - 1 - np.argsort(counts[::-1], kind="stable")
    leaves, made = counts[by_count], np.empty(words - 1, np.int64)
    parent, code = np.empty(2 * words - 2, np.int32), np.empty(2 * words - 2, np.uint8)
    leaf = node = end = 0
    batches = []
    while end < words - 1:
        two = np.sort(np.concatenate([leaves[leaf : leaf + 2], made[node : min(node + 2, end)]]))
        last_leaf = leaf + int(np.searchsorted(leaves[leaf:], two[:2].sum(), side="right"))
        ready = np.concatenate([leaves[leaf:last_leaf], made[node:end]])
        members = np.concatenate([by_count[leaf:last_leaf], np.arange(words + node, words + end)])
        order = np.argsort(ready, kind="stable")
        pairs = len(order) // 2
        taken = order[: 2 * pairs]
        sums = ready[taken].reshape(pairs, 2).sum(1)
        parent[members[taken]] = np.repeat(np.arange(end, end + pairs, dtype=np.int32), 2)
        code[members[taken]] = np.tile(np.array([0, 1], np.uint8), pairs)
        from_leaves = int(np.count_nonzero(taken < last_leaf - leaf))
        leaf, node = leaf + from_leaves, node + 2 * pairs - from_leaves
        made[end : end + pairs] = sums
        batches.append((end, end + pairs))
        end += pairs
    return parent, code, batches


def _check_counts(operation: str, counts: Array) -> _Counts:
    if not isinstance(counts, np.ndarray):
        raise TypeError(f"{operation}: counts must be a NumPy array, got {type(counts).__name__}")
    if counts.dtype.kind not in "iu":
        raise TypeError(f"{operation}: counts must be integers, got {counts.dtype}")
    if counts.ndim != 1:
        raise ValueError(f"{operation}: counts must be [words], got {list(counts.shape)}")
    if len(counts) and counts.min() < 0:
        raise ValueError(f"{operation}: counts must be at least 0, got {counts.min()}")
    if counts.sum(dtype=np.float64) >= 2**62:
        raise ValueError(f"{operation}: counts must be below 2**62 in all")
    return counts.astype(np.int64)


def _check_weights(weights: Array) -> npt.NDArray[np.float64]:
    if not isinstance(weights, np.ndarray):
        raise TypeError(f"alias_table: weights must be a NumPy array, got {type(weights).__name__}")
    if weights.dtype.kind not in "iuf":
        raise TypeError(f"alias_table: weights must be real numbers, got {weights.dtype}")
    if weights.ndim != 1:
        raise ValueError(f"alias_table: weights must be [words], got {list(weights.shape)}")
    weights = weights.astype(np.float64)
    if not np.all(weights >= 0):
        raise ValueError("alias_table: weights must be at least 0, got a negative one or NaN")
    with np.errstate(over="ignore"):
        total = weights.sum()
    if len(weights) and not 0 < total < np.inf:
        raise ValueError(f"alias_table: weights must have a finite sum above 0, got {total}")
    return np.asarray(weights)

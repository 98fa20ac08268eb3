"""CTC decoding and alignment: checks, allocation and the calls into the native kernels."""

from __future__ import annotations

import itertools
import math
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import Array, ArrayLibrary, Workspace, library_of, thread_count
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import (
    ANY_NUMBER,
    DISTANCE,
    FINITE,
    as_integers,
    check_given,
    check_lengths,
    check_place,
    check_whole,
)
from seqfast.ops.ctc.arguments import (
    CtcAlignArgs,
    CtcBeamArgs,
    CtcGreedyArgs,
    CtcInput,
    input_of,
)
from seqfast.ops.ctc.refusals import no_log_probs

Result = tuple[Array, Array, Array, Array]
LanguageModel = Callable[[Array, Array], Array]
Lengths = Any  # integers: an array of either library, a list or a tuple
_MOST_PLACES = 2**31 - 2  # numbers of prefixes are 32 bits wide
# Bytes of an alignment's states: of all of them, where that is all; of those kept now and then.
_WHOLE, _KEPT = 1 << 20, 32 << 20


def ctc_greedy(log_probs: Array, lengths: Lengths | None = None, *, blank: int = 0) -> Result:
    """The most probable token of each frame, repeats merged and blanks removed.

    Same results as `seqfast.reference.ctc.ctc_greedy`. The arrays are NumPy arrays, or torch
    tensors on the CPU or on one CUDA device. There are no gradients. On a GPU the host does not
    wait: lengths are clamped to their range, and a row with NaN or a number above 1e-3, which is
    not a log-probability, has no token and the score NaN.

    Args:
        log_probs: [batch, frames, vocab], float32, float64, float16 or bfloat16, at most 0.
            Any strides between rows and frames.
        lengths: [batch] integers, frames of each row, 0 to `frames`; where `log_probs` is, or on
            the CPU; an array of either library, a list or a tuple. None: all frames.
        blank: the blank's token.

    Returns:
        tokens [batch, frames] int64, -1 after the last; lengths [batch] int64; scores [batch], the
        log-probability of that alignment, float64 for float64, else float32; timesteps [batch,
        frames] int64, the frame where each token begins, -1 after the last. Of equal tokens the
        lower one is taken.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or value; on the CPU NaN or a number above 1e-3.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import ctc
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> ctc.ctc_greedy(log_probs)[0]
        array([[ 1, -1, -1]])
    """
    operation = "ctc_greedy"
    xp, log_probs, lengths, backend = _check(operation, log_probs, lengths, blank)
    if backend != "cpu":
        from seqfast.ops.ctc import cuda  # it imports torch

        return cuda.greedy(log_probs, lengths, blank, backend)
    batch, frames, _ = log_probs.shape
    results = _Results(xp, log_probs, (batch,), frames)
    args = CtcGreedyArgs(
        input=_input(xp, log_probs, lengths, blank),
        threads=thread_count(),
        **results.addresses(),
    )
    with Workspace(_C.ctc_greedy_workspace_size(args)) as workspace:
        _C.ctc_greedy(args, workspace)
    return results.checked(operation)


def ctc_beam_search(
    log_probs: Array,
    lengths: Lengths | None = None,
    *,
    beam_size: int = 50,
    blank: int = 0,
    n_best: int = 1,
    top_n: int | None = None,
    min_log_prob: float | None = None,
    beam_threshold: float | None = None,
    lm: LanguageModel | None = None,
    lm_weight: float = 1.0,
) -> Result:
    """Prefix beam search: the `n_best` most probable transcripts that a beam of prefixes finds.

    The score of a transcript is the sum over all its alignments that the search has kept (Graves
    2006, Hannun 2014). Same results as `seqfast.reference.ctc.ctc_beam_search`. NumPy arrays, or
    torch tensors on the CPU or on one CUDA device, where the host does not wait unless there is a
    language model. There are no gradients. Sums are in float64. The result of a row does
    not depend on the batch or the number of threads.

    Args:
        log_probs: [batch, frames, vocab], as for `ctc_greedy`.
        lengths: [batch] integers, as for `ctc_greedy`.
        beam_size: prefixes kept after each frame, from 1, on a GPU to 1024; frames times beam_size
            is below 2**31 - 1.
        blank: the blank's token.
        n_best: transcripts returned for each row, from 1 to beam_size.
        top_n: use only this many of the most probable tokens of each frame. None: all.
        min_log_prob: tokens below it are not used. None: no limit.
        beam_threshold: a prefix more than this below the best one is dropped. None: no limit.
        lm: `lm(prefixes [n, longest] int64, lengths [n] int64)` returns [n, vocab], the
            log-probability of each token after each prefix, -inf for what cannot follow. It is
            called once before the first frame and after each frame that lets new prefixes in.
        lm_weight: factor of the result of `lm`.

    Returns:
        tokens [batch, n_best, frames] int64, -1 after the last; lengths [batch, n_best] int64;
        scores [batch, n_best], -inf where there are fewer transcripts; timesteps [batch, n_best,
        frames] int64, -1 after the last.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or value; on the CPU NaN or a number above 1e-3.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import ctc
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> ctc.ctc_beam_search(log_probs, beam_size=4)[0]
        array([[[ 1, -1, -1]]])
    """
    operation = "ctc_beam_search"
    xp, log_probs, lengths, backend = _check(operation, log_probs, lengths, blank)
    batch, frames, vocab = log_probs.shape
    beam_size = check_whole(operation, "beam_size", beam_size, 1)
    n_best = check_whole(operation, "n_best", n_best, 1, beam_size, "the beam_size")
    top_n = vocab if top_n is None else min(check_whole(operation, "top_n", top_n, 1), vocab)
    if frames * beam_size > _MOST_PLACES or vocab > _MOST_PLACES:
        raise ValueError(
            f"{operation}: frames times beam_size, and vocab, must be below 2**31 - 1, "
            f"got {frames} * {beam_size} and {vocab}"
        )
    lowest = check_given(operation, "min_log_prob", min_log_prob, -math.inf, ANY_NUMBER)
    threshold = check_given(operation, "beam_threshold", beam_threshold, math.inf, DISTANCE)
    lm_weight = check_given(operation, "lm_weight", lm_weight, 1.0, FINITE)
    if lm is not None and not callable(lm):
        raise TypeError(f"{operation}: lm must be callable, got {type(lm).__name__}")
    model = None
    if lm is not None:
        model = _PrefixScores(xp, log_probs, lm, lm_weight, beam_size, blank)
    results = _Results(xp, log_probs, (batch, n_best), frames)
    args = CtcBeamArgs(
        input=_input(xp, log_probs, lengths, blank),
        beam_size=beam_size,
        n_best=n_best,
        top_n=top_n,
        min_log_prob=lowest,
        beam_threshold=threshold,
        frame_begin=0,
        frame_end=frames,
        lm=0,
        source=0,
        added=0,
        threads=thread_count(),
        ranked=0,
        ranks=0,
        **results.addresses(),
    )
    if model is not None:
        args = model.with_addresses(args)
    if backend != "cpu":
        from seqfast.ops.ctc import cuda  # it imports torch

        cuda.beam_search(log_probs, lengths, args, results, model, backend)
        return results.result()
    with Workspace(_C.ctc_beam_search_workspace_size(args)) as workspace:
        if model is None:
            _C.ctc_beam_search(args, workspace)
        else:
            model.run(args, lambda step: _C.ctc_beam_search(step, workspace))
    return results.checked(operation)


def ctc_align(
    log_probs: Array,
    targets: Array,
    lengths: Lengths | None = None,
    target_lengths: Lengths | None = None,
    *,
    blank: int = 0,
) -> Result:
    """The most probable alignment of given tokens: which frames belong to each of them.

    Viterbi's algorithm over the tokens with blanks between them (Graves et al. 2006). Same results
    as `seqfast.reference.ctc.ctc_align`. NumPy arrays, or torch tensors on the CPU or on one CUDA
    device. There are no gradients. Sums are in float64. Memory does not grow with frames times
    tokens: states are kept now and then, and what lies between is computed again on the way back.
    On a GPU the host does not wait: a row that the CPU would refuse has no alignment and the scores
    NaN.

    Args:
        log_probs: [batch, frames, vocab], as for `ctc_greedy`. Only the blank and the tokens of a
            row are looked at.
        targets: [batch, longest] integers, or one row after the other, [sum(target_lengths)], as
            torch's CTCLoss takes them; an array, where `log_probs` is or on the CPU, or lists.
        lengths: [batch] integers, frames of each row, as for `ctc_greedy`.
        target_lengths: [batch] integers, tokens of each row; where `log_probs` is, or on the CPU,
            where they must be for rows one after the other. None: all.
        blank: the blank's token.

    Returns:
        paths [batch, frames] int64, the token of each frame, -1 after the last frame; spans
        [batch, longest, 2] int64, the first and the last frame of each token, -1 after the last;
        token_scores [batch, longest], the mean log-probability of a token over its frames, 0
        behind the last; scores [batch], the log-probability of the alignment, float64 for float64,
        else float32. Where no alignment has a probability above 0 the scores are -inf.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or value; on the CPU a row with more tokens than frames,
            with the blank or invalid tokens among them, NaN or a number above 1e-3.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import ctc
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]])
        >>> ctc.ctc_align(log_probs, np.array([[1, 2]]))[1].tolist()
        [[[0, 1], [2, 2]]]
    """
    operation = "ctc_align"
    xp, log_probs, lengths, backend = _check(operation, log_probs, lengths, blank)
    batch, frames, _ = log_probs.shape
    targets, target_lengths = _targets(xp, log_probs, targets, target_lengths)
    longest = targets.shape[1]
    paths = xp.empty_of(log_probs, (batch, frames), "int64")
    spans = xp.empty_of(log_probs, (batch, longest, 2), "int64")
    token_scores = xp.empty_of(log_probs, (batch, longest), "float64")
    scores = xp.empty_of(log_probs, (batch,), "float64")
    refused = xp.empty_of(log_probs, (batch,), "int64")
    args = CtcAlignArgs(
        input=_input(xp, log_probs, lengths, blank),
        longest=longest,
        block=_block(frames, longest),
        targets=xp.address(targets),
        target_lengths=0 if target_lengths is None else xp.address(target_lengths),
        paths=xp.address(paths),
        spans=xp.address(spans),
        token_scores=xp.address(token_scores),
        scores=xp.address(scores),
        refused=xp.address(refused),
        threads=thread_count(),
    )
    if backend == "cpu":
        with Workspace(_C.ctc_align_workspace_size(args)) as workspace:
            _C.ctc_align(args, workspace)
        for row, code in enumerate(refused.tolist()):
            if code != -1:
                raise ValueError(_refusal(log_probs, targets, lengths, target_lengths, row, code))
    else:
        from seqfast.ops.ctc import cuda  # it imports torch

        if backend == "cuda-host":  # what no kernel wrote must show
            for array in (paths, spans, token_scores, scores):
                array[...] = -2
        cuda.align(log_probs, lengths, targets, target_lengths, args, backend)
    dtype = xp.accumulator_dtype(log_probs)
    return paths, spans, xp.cast(token_scores, dtype), xp.cast(scores, dtype)


class _Results:
    """What the kernels write, and whether they could."""

    def __init__(self, xp: ArrayLibrary, like: Array, shape: tuple[int, ...], frames: int) -> None:
        self.xp, self.like = xp, like
        self.tokens = xp.empty_of(like, (*shape, frames), "int64")
        self.counts = xp.empty_of(like, shape, "int64")
        self.scores = xp.empty_of(like, shape, "float64")
        self.timesteps = xp.empty_of(like, (*shape, frames), "int64")
        self.refused = xp.empty_of(like, shape[:1], "int64")

    def addresses(self) -> dict[str, Any]:
        names = ("tokens", "counts", "scores", "timesteps", "refused")
        return {name: self.xp.address(getattr(self, name)) for name in names}

    def poison(self) -> None:
        for array in (self.tokens, self.counts, self.timesteps):
            array[...] = -2
        self.scores[...] = math.inf

    def result(self) -> Result:
        scores = self.xp.cast(self.scores, self.xp.accumulator_dtype(self.like))
        return self.tokens, self.counts, scores, self.timesteps

    def checked(self, operation: str) -> Result:
        """On the CPU, where looking at `refused` is free."""
        refused = self.refused.tolist()
        for row, frame in enumerate(refused):
            if frame >= 0:
                raise ValueError(no_log_probs(operation, self.like, row, frame))
        return self.result()


class _PrefixScores:
    """What the language model gives the tokens after each prefix of the beam, from frame to frame.

    The kernel says after each frame where its prefixes come from; this follows.
    """

    def __init__(
        self,
        xp: ArrayLibrary,
        log_probs: Array,
        lm: LanguageModel,
        weight: float,
        beam_size: int,
        blank: int,
    ) -> None:
        self.xp, self.lm, self.weight = xp, lm, weight
        self.like, self.blank = log_probs, blank
        self.batch, self.frames, self.vocab = log_probs.shape
        places = (self.batch, beam_size)
        self.table = xp.empty_of(log_probs, (*places, self.vocab), "float64")
        self.source, self.added = (xp.empty_of(log_probs, places, "int64") for _ in range(2))
        self.prefixes = xp.empty_of(log_probs, (*places, self.frames), "int64")
        self.lengths = xp.empty_of(log_probs, places, "int64")
        self.prefixes[...] = blank
        self.lengths[...] = 0
        self.table[...] = 0
        self.longest = 0

    def with_addresses(self, args: CtcBeamArgs) -> CtcBeamArgs:
        address = self.xp.address
        return args._replace(
            lm=address(self.table), source=address(self.source), added=address(self.added)
        )

    def run(self, args: CtcBeamArgs, call: Callable[[CtcBeamArgs], object]) -> None:
        """`call` with the frames of each step, and the language model in between."""
        if self.batch and self.frames:
            self.table[:, 0] = self._ask(
                self.xp.copy(self.prefixes[:, 0, :0]), self.xp.copy(self.lengths[:, 0])
            )
        for frame in range(self.frames):
            call(args._replace(frame_begin=frame, frame_end=frame + 1))
            if frame + 1 < self.frames:
                self._follow()
        if self.frames == 0:
            call(args)

    def _follow(self) -> None:
        self.lengths[...] = self._taken(self.lengths)
        self.table[...] = self._taken(self.table)
        used = self.prefixes[:, :, : self.longest]
        used[...] = self._taken(used)
        new = self.added >= 0
        if not new.any():
            return
        lengths = self.lengths[new]
        tokens = self.prefixes[new]
        tokens[range(len(lengths)), lengths] = self.added[new]
        lengths = lengths + 1
        self.prefixes[new], self.lengths[new] = tokens, lengths
        longest = int(lengths.max())
        self.longest = max(self.longest, longest)
        self.table[new] = self._ask(tokens[:, :longest], lengths)

    def _taken(self, array: Array) -> Array:
        """What stood where the prefixes come from."""
        source = self.source.reshape(self.source.shape + (1,) * (array.ndim - 2))
        if isinstance(array, np.ndarray):
            return np.take_along_axis(array, source, 1)
        return sys.modules["torch"].take_along_dim(array, source, 1)

    def _ask(self, prefixes: Array, lengths: Array) -> Array:
        xp, wanted = self.xp, [len(lengths), self.vocab]
        scores = self.lm(prefixes, lengths)
        if not xp.owns(scores):
            raise TypeError(
                f"ctc_beam_search: lm must return {xp.name}, got {type(scores).__name__}"
            )
        if xp.dtype_code(scores) is None:
            raise TypeError(f"ctc_beam_search: lm must return floating numbers, got {scores.dtype}")
        if list(scores.shape) != wanted:
            raise ValueError(f"ctc_beam_search: lm must return {wanted}, got {list(scores.shape)}")
        check_place(xp, "ctc_beam_search", "what lm returns", scores, xp.place(self.like))
        if not isinstance(scores, np.ndarray):
            scores = scores.detach()
        # Of -inf too, by a weight of 0 or below.
        scores = self.weight * xp.cast(scores, self.table.dtype)
        if not bool((scores < math.inf).all()):
            raise ValueError(
                "ctc_beam_search: lm_weight times the result of lm must be below infinity, not NaN"
            )
        return scores


def _check(
    operation: str, log_probs: Array, lengths: Lengths | None, blank: int
) -> tuple[ArrayLibrary, Array, Array | None, str]:
    xp = library_of(log_probs, operation, "log_probs")
    if xp.dtype_code(log_probs) is None:
        raise TypeError(
            f"{operation}: log_probs must be float32, float64, float16 or bfloat16, "
            f"got {log_probs.dtype}"
        )
    if len(log_probs.shape) != 3:
        raise ValueError(
            f"{operation}: log_probs must be [batch, frames, vocab], got {list(log_probs.shape)}"
        )
    backend = checked_backend(operation, "log_probs", xp.place(log_probs))
    batch, frames, vocab = log_probs.shape
    check_whole(operation, "blank", blank, 0, vocab - 1, "a token of the vocabulary")
    if lengths is not None:
        lengths = as_integers(xp, operation, "lengths", lengths)
        lengths = check_lengths(xp, operation, lengths, log_probs, batch=batch, most=frames)
    return xp, xp.rows(log_probs), lengths, backend


def _block(frames: int, longest: int) -> int:
    """Of how many frames all states are kept at a time; states of the last one once for each."""
    row = 16 * (longest + 1)  # bytes
    if frames * row <= _WHOLE:
        return max(frames, 1)
    block = 64
    while frames // block * row > max(_KEPT, 16 * block * min(block, longest)):
        block *= 2
    return block


def _targets(
    xp: ArrayLibrary, log_probs: Array, targets: Array, target_lengths: Lengths | None
) -> tuple[Array, Array | None]:
    """Tokens [batch, longest] and their numbers, int64, from either of torch's layouts."""
    operation, batch = "ctc_align", log_probs.shape[0]
    targets = as_integers(xp, operation, "targets", targets)
    if not xp.is_integer(targets):
        raise TypeError(f"{operation}: targets must be integers, got {targets.dtype}")
    if targets.ndim not in (1, 2):
        raise ValueError(
            f"{operation}: targets must be [batch, longest] or [sum of target_lengths], "
            f"got {list(targets.shape)}"
        )
    targets = xp.int64(targets)
    if target_lengths is not None:
        target_lengths = as_integers(xp, operation, "target_lengths", target_lengths)
    if targets.ndim == 1:
        if target_lengths is None or xp.place(target_lengths) != "cpu":
            raise ValueError(
                f"{operation}: targets one after the other need target_lengths on the CPU; pass "
                f"targets as [batch, longest], or target_lengths.cpu()"
            )
        target_lengths = check_lengths(
            xp, operation, target_lengths, log_probs,
            batch=batch, most=len(targets), name="target_lengths",
        )  # fmt: skip
        ends = np.cumsum(target_lengths.tolist(), dtype=np.int64)
        total = int(ends[-1]) if batch else 0
        if total != len(targets):
            raise ValueError(
                f"{operation}: targets must be [{total}], the sum of target_lengths, "
                f"got [{len(targets)}]"
            )
        counts = np.diff(ends, prepend=0)
        places = (ends - counts)[:, None] + np.arange(counts.max(initial=0))
        if total == 0:
            return xp.empty_of(log_probs, (batch, 0), "int64"), target_lengths
        targets = targets[xp.from_numpy(np.minimum(places, total - 1))]
    longest = targets.shape[1]
    if len(targets) != batch:
        raise ValueError(
            f"{operation}: targets must be [{batch}, longest], got {list(targets.shape)}"
        )
    if xp.place(targets) != "cpu":
        check_place(xp, operation, "targets", targets, xp.place(log_probs))
    if target_lengths is not None:
        target_lengths = check_lengths(
            xp, operation, target_lengths, log_probs,
            batch=batch, most=longest, name="target_lengths",
        )  # fmt: skip
    return xp.contiguous(targets), target_lengths


def _refusal(
    log_probs: Array,
    targets: Array,
    lengths: Array | None,
    target_lengths: Array | None,
    row: int,
    code: int,
) -> str:
    """Why the kernel could not align a row."""
    operation, (_, frames, vocab) = "ctc_align", log_probs.shape
    if code >= 0:
        return no_log_probs(operation, log_probs, row, code)
    count = targets.shape[1] if target_lengths is None else int(target_lengths[row])
    tokens = targets[row, :count].tolist()
    if code <= -3:
        return (
            f"{operation}: targets must be tokens from 0 to {vocab - 1} and not the blank, "
            f"got {tokens[-3 - code]} in row {row}, place {-3 - code}"
        )
    repeats = sum(one == other for one, other in itertools.pairwise(tokens))
    has = frames if lengths is None else int(lengths[row])
    return (
        f"{operation}: row {row} has {has} frames, but its {count} tokens, {repeats} of them "
        f"repeated at once, need {count + repeats}; leave the row out, or shorten its targets"
    )


def _input(xp: ArrayLibrary, log_probs: Array, lengths: Array | None, blank: int) -> CtcInput:
    address = 0 if lengths is None else xp.address(lengths)
    return input_of(xp, log_probs, address, operator.index(blank))

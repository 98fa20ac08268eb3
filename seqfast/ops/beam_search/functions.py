"""Batched beam search, a step at a time: checks and the calls into the native kernels."""

from __future__ import annotations

from seqfast import _C
from seqfast.ops.base.arrays import Array, dtype_name, thread_count
from seqfast.ops.base.checks import check_contiguous, check_place, check_whole
from seqfast.ops.beam_search.arguments import BeamBacktrackArgs, BeamLogits
from seqfast.ops.beam_search.beams import BeamOptions, Beams, StepCall, raise_status, start_beams

__all__ = ["BeamOptions", "Beams", "beam_backtrack", "beam_step", "start_beams"]

_OVER = -2  # kBeamStepOver of csrc/core
_MOST = 2**31 - 1


def beam_step(logits: Array, beams: Beams, *, allowed: Array | None = None) -> None:
    """One step of the search: every living hypothesis is extended by one token, or ends.

    Same results as `seqfast.reference.beam_search.beam_step`, for any number of threads, and
    whatever other sentences are in the batch. Each row proposes its largest candidates, equal ones
    by rising token; proposals of a group are taken by falling key, equal ones by rising beam, then
    as their row has them. The kernel reads the logits once.

    Changes `beams`: `next_tokens` are the tokens chosen, `next_rows` the rows of the model's state
    that they go on from. All steps of a search are on one stream; a CUDA graph of a step is valid
    until an array of `beams` is replaced.

    Args:
        logits: [batch * beams, vocabulary] float32, float64, bfloat16 or float16, of the library
            and on the device of `beams`, any stride between rows: the model's, for the token after
            each living hypothesis.
        beams: the state of the search; changed.
        allowed: bool, like `logits`: what may be chosen at all.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or device, a living row with NaN or +inf, or more than `capacity`
            steps, each before anything is changed. On a GPU the host does not wait to learn of the
            last two: from then on steps change nothing, `beams.status` says why, and
            `beam_backtrack` raises what it says of a row.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.beam_search import BeamOptions, beam_step, start_beams
        >>> beams = start_beams(BeamOptions(2, 4, (0,)), batch=1, capacity=5)
        >>> beam_step(np.array([[0, 1, 2, 3]] * 2, np.float32), beams)
        >>> beams.next_tokens
        array([[3, 2]])
    """
    if not isinstance(beams, Beams):
        raise TypeError(f"beam_step: beams must be Beams, got {type(beams).__name__}")
    call = beams.call
    xp = call.xp
    if not xp.owns(logits):
        raise TypeError(f"beam_step: logits must be {xp.name}, got {type(logits).__name__}")
    dtype = xp.dtype_code(logits)
    if dtype is None or (dtype == 1) != (call.real == "float64"):
        wanted = "float64" if call.real == "float64" else "float32, bfloat16 or float16"
        raise TypeError(f"beam_step: logits must be {wanted}, got {logits.dtype}")
    logits = _checked_rows(call, "logits", logits)
    if allowed is not None:
        if not xp.owns(allowed):
            raise TypeError(f"beam_step: allowed must be {xp.name}, got {type(allowed).__name__}")
        if dtype_name(allowed) != "bool":
            raise TypeError(f"beam_step: allowed must be bool, got {allowed.dtype}")
        allowed = _checked_rows(call, "allowed", allowed)
    # By place: a step of a small search takes hardly longer than the names would.
    args = BeamLogits(
        dtype,
        xp.address(logits),
        xp.strides(logits)[0],
        0 if allowed is None else xp.address(allowed),
        0 if allowed is None else xp.strides(allowed)[0],
    )
    if call.backend == "cpu":
        status = call.native.step(args, thread_count())
    else:
        from seqfast.ops.beam_search import cuda  # it imports torch

        status = cuda.beam_step(call.native, args, beams, call.backend)
    raise_status(status)
    if status == _OVER:
        raise ValueError(f"beam_step: the search must have a step left, got {call.capacity} done")


def _checked_rows(call: StepCall, name: str, array: Array) -> Array:
    """Dense rows: the array itself or a copy."""
    xp = call.xp
    if array.shape != call.shape:
        raise ValueError(f"beam_step: {name} must be {list(call.shape)}, got {list(array.shape)}")
    check_place(xp, "beam_step", name, array, call.place)
    return xp.rows(array)


def beam_backtrack(
    beams: Beams,
    last_steps: Array,
    last_parents: Array,
    last_tokens: Array,
    last_logprobs: Array,
    *,
    length: int,
    pad: int,
) -> tuple[Array, Array, Array]:
    """The sequences of ended hypotheses, along the back-pointers of the records of `beams`.

    Same results as `seqfast.reference.beam_search.beam_backtrack`. All arrays are [sentences,
    hypotheses], of the library and on the device of `beams`.

    Args:
        beams: the state of the search.
        last_steps: integers, the step of each hypothesis' last token. -1: no hypothesis.
        last_parents: integers, the beam before it.
        last_tokens: integers, the token.
        last_logprobs: its log-probability, of the dtype of `beams.scores`.
        length: of the results, above every step.
        pad: what stands after a hypothesis' end.

    Returns:
        tokens int64; parents int64, the beam that each token went on from; log-probabilities. Each
        is [sentences, hypotheses, length]; after a hypothesis' end stand `pad`, -1 and 0.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or value.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import beam_search
        >>> beams = beam_search.start_beams(beam_search.BeamOptions(2, 4, (0,)), 1, 5)
        >>> beam_search.beam_step(np.array([[0, 1, 2, 3]] * 2, np.float32), beams)
        >>> zero, last = np.zeros((1, 1), int), np.zeros((1, 1), np.float32)
        >>> beam_search.beam_backtrack(beams, zero, zero, zero + 3, last, length=2, pad=0)[0]
        array([[[3, 0]]])
    """
    if not isinstance(beams, Beams):
        raise TypeError(f"beam_backtrack: beams must be Beams, got {type(beams).__name__}")
    call = beams.call
    xp = call.xp
    shape = tuple(last_steps.shape) if xp.owns(last_steps) else ()
    if xp.owns(last_steps) and (len(shape) != 2 or shape[0] != call.sentences):
        raise ValueError(
            f"beam_backtrack: last_steps must be [{call.sentences}, any], got {list(shape)}"
        )
    length = check_whole("beam_backtrack", "length", length, 0, _MOST)
    pad = check_whole("beam_backtrack", "pad", pad, -(2**31), _MOST)
    most = beams.options.beams - 1
    last = {
        "last_steps": _last(call, "last_steps", last_steps, shape, -1, call.capacity - 1),
        "last_parents": _last(call, "last_parents", last_parents, shape, 0, most),
        "last_tokens": _last(call, "last_tokens", last_tokens, shape, -_MOST - 1, _MOST),
        "last_logprobs": check_contiguous(
            xp, "beam_backtrack", "last_logprobs", last_logprobs, beams.scores, shape,
            beams.scores.dtype,
        ),
    }  # fmt: skip
    if 0 not in shape:
        longest = int(last["last_steps"].max())
        if longest >= length:
            raise ValueError(
                f"beam_backtrack: length must be above {longest}, the last step, got {length}"
            )
    size = (*shape, length)
    out = {
        "out_tokens": xp.empty_of(beams.scores, size, "int64"),
        "out_parents": xp.empty_of(beams.scores, size, "int64"),
        "out_logprobs": xp.empty(beams.scores, size),
    }
    sentences, hypotheses = shape
    args = BeamBacktrackArgs(
        sentences=sentences,
        beams=beams.options.beams,
        hypotheses=hypotheses,
        capacity=call.capacity,
        length=length,
        wide=call.real == "float64",
        tokens=call.args.tokens,
        parents=call.args.parents,
        logprobs=call.args.logprobs,
        pad=pad,
        threads=thread_count(),
        **{name: xp.address(array) for name, array in (last | out).items()},
    )
    if call.backend == "cpu":
        _C.beam_backtrack(args)
    else:
        from seqfast.ops.beam_search import cuda  # it imports torch

        raise_status(int(beams.status[0]))
        cuda.beam_backtrack(args, beams, tuple(out.values()), call.backend)
    return out["out_tokens"], out["out_parents"], out["out_logprobs"]


def _last(
    call: StepCall, name: str, array: Array, shape: tuple[int, ...], least: int, most: int
) -> Array:
    """int32; a step or a beam outside its limits would be read outside the records."""
    xp = call.xp
    if not xp.owns(array):
        raise TypeError(f"beam_backtrack: {name} must be {xp.name}, got {type(array).__name__}")
    if not xp.is_integer(array):
        raise TypeError(f"beam_backtrack: {name} must hold integers, got {array.dtype}")
    if tuple(array.shape) != shape:
        raise ValueError(f"beam_backtrack: {name} must be {list(shape)}, got {list(array.shape)}")
    check_place(xp, "beam_backtrack", name, array, call.place)
    if 0 not in shape:
        lowest, highest = int(array.min()), int(array.max())
        if lowest < least or highest > most:
            raise ValueError(
                f"beam_backtrack: {name} must be from {least} to {most}, "
                f"got {lowest if lowest < least else highest}"
            )
    return xp.int32(array)

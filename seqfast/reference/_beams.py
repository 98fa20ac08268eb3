"""The state of a batched beam search, as NumPy arrays; csrc/core/beam_search.h says the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BeamOptions:
    """What a search is to do.

    Arguments and results are those of
    `seqfast.ops.beam_search.beams.BeamOptions`.

    Example:
        >>> from seqfast.reference.beam_search import BeamOptions
        >>> BeamOptions(beams=4, vocabulary=100, eos=(2,)).stop
        'exact'
    """

    beams: int
    vocabulary: int
    eos: tuple[int, ...]
    groups: int = 1
    eos_pool: str = "topk"
    """What an ended hypothesis needs to be kept: "topk", "top2k" (its rank among the candidates
    of its group below the group's beams, or twice those), "any" (nothing), "inbeam" (as topk, and
    it takes a beam's place in this step), "competing" (ended and living ones compete by key)."""
    stop: str = "exact"
    """"exact": `wanted` are kept and no living one can reach the worst of them; "first_k": as many
    are kept as a group has beams; "top_beam": a step's best candidate ended, and `wanted` are kept.
    """
    pool: int = 1
    wanted: int = 1
    min_length: int = 0
    no_repeat_ngram: int = 0
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    diversity: float = 0.0
    renormalize: bool = False
    force_eos: bool = False
    score_prefix: bool = False
    count_eos: bool = True
    noise: bool = False
    banned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("eos", "banned"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    @property
    def proposals(self) -> int:
        """Tokens that a row proposes: as many as can matter."""
        own = self.beams // self.groups
        wanted = own + len(self.eos)
        if self.eos_pool == "top2k":
            wanted = max(wanted, 2 * own)
        if self.diversity != 0:
            wanted += self.beams - own
        return min(wanted, self.vocabulary)


@dataclass
class Beams:
    """Where a batch of searches stands. Living beams are numbered [batch, beams], records
    [sentences, ...] keep every sentence. Real: float64 for float64 logits, else float32.

    Arguments and results are those of
    `seqfast.ops.beam_search.beams.Beams`.

    Example:
        >>> from seqfast.reference.beam_search import BeamOptions, start_beams
        >>> start_beams(BeamOptions(4, 100, (2,)), batch=3, capacity=10).done.shape
        (3, 1)
    """

    options: BeamOptions
    sentence: Array  # int64 [batch] its row in the records
    max_lengths: Array  # int32 [sentences] most steps, prefix included
    prefix: Array | None  # int32 [sentences, any] tokens to begin with
    prefix_lengths: Array  # int32 [sentences]
    divisor: Array  # real [capacity + 1]: score = log-probability / divisor[n] + addend[n]
    addend: Array
    bound_divisor: Array  # the same of the best a living one may become, as the stop rule has it
    bound_addend: Array
    certain_divisor: Array  # and as it is certain
    certain_addend: Array
    seed: Array  # int64 [1]
    step: Array  # int64 [1]
    scores: Array  # real [batch, beams] log-probabilities, -inf: not living
    keys: Array | None  # real [batch, beams] with noise
    history: Array | None  # int32 [2, batch, beams, any]; of step t in half t % 2
    history_start: Array  # int32 [batch]
    next_tokens: Array  # int64 [batch, beams]
    next_rows: Array  # int64 [batch, beams] of [batch * beams]
    tokens: Array  # int32 [capacity, sentences, beams]
    parents: Array  # int32 [capacity, sentences, beams]
    logprobs: Array  # real [capacity, sentences, beams]
    pool_scores: Array  # real [sentences, groups, pool], falling; -inf: free
    pool_logprobs: Array
    pool_last: Array  # log-probability of the last token
    pool_keys: Array | None
    pool_steps: Array  # int32 [sentences, groups, pool] step of the last token
    pool_parents: Array  # int32, the beam before it
    pool_tokens: Array  # int32
    pool_counts: Array  # int32 [sentences, groups]
    done: Array  # uint8 [sentences, groups] 1: done; 2: not, but a best candidate has ended
    certified: Array  # uint8 [sentences, groups] done, and no living one could still have won
    living: Array  # int64 [1] sentences with a group that is not done
    status: Array  # int64 [1] -1; of the fast twin, what was wrong in the last step


def start_beams(
    options: BeamOptions,
    batch: int,
    capacity: int,
    dtype: Any = np.float32,
    *,
    max_lengths: Array | None = None,
    prefix: Array | None = None,
    prefix_lengths: Array | None = None,
    tables: dict[str, Array] | None = None,
    history: Array | None = None,
    history_lengths: Array | None = None,
    seed: int = 0,
) -> Beams:
    """A search that has not begun: in each group one living hypothesis of no tokens.

    `max_lengths` [batch] from 1 to capacity, prefix included. `prefix` tokens [batch, any] to begin
    with, of which `prefix_lengths` [batch] count (None: all). `tables`: divisor, addend, bound_*,
    certain_*, each [capacity + 1]; left out: 1 and 0. `history` tokens [batch, any], of which
    `history_lengths` [batch] count (None: all): what was before the first step, as repetition
    penalty and n-gram blocking see it. (The fast twin has `like`: the library and the device.)

    Arguments and results are those of
    `seqfast.ops.beam_search.beams.start_beams`.

    Example:
        >>> from seqfast.reference.beam_search import BeamOptions, start_beams
        >>> start_beams(BeamOptions(4, 100, (2,)), batch=3, capacity=10).scores.shape
        (3, 4)
    """
    o, real = options, np.dtype(dtype)
    living = np.full((batch, o.beams), -np.inf, real)
    living[:, :: o.beams // o.groups] = 0
    remembers = o.repetition_penalty != 1 or o.no_repeat_ngram > 0
    start = np.zeros(batch, np.int32)
    memory = None
    if remembers:
        before = 0 if history is None else history.shape[1]
        memory = np.zeros((2, batch, o.beams, before + capacity), np.int32)
        if history is not None:
            memory[0, :, :, :before] = history[:, None]
            start = _lengths(history, history_lengths)
    pool = (batch, o.groups, o.pool)
    records = (capacity, batch, o.beams)
    defaults = {
        f"{which}{name}": np.full(capacity + 1, value, real)
        for which in ("", "bound_", "certain_")
        for name, value in (("divisor", 1), ("addend", 0))
    }
    return Beams(
        options=o,
        sentence=np.arange(batch),
        max_lengths=np.full(batch, capacity, np.int32) if max_lengths is None else max_lengths,
        prefix=prefix,
        prefix_lengths=np.zeros(batch, np.int32)
        if prefix is None
        else _lengths(prefix, prefix_lengths),
        **{**defaults, **(tables or {})},
        seed=np.array([seed]),
        step=np.zeros(1, np.int64),
        scores=living,
        keys=np.where(living == 0, living, -np.inf).astype(real) if o.noise else None,
        history=memory,
        history_start=start,
        next_tokens=np.zeros((batch, o.beams), np.int64),
        next_rows=np.arange(batch * o.beams).reshape(batch, o.beams),
        tokens=np.zeros(records, np.int32),
        parents=np.zeros(records, np.int32),
        logprobs=np.zeros(records, real),
        pool_scores=np.full(pool, -np.inf, real),
        pool_logprobs=np.full(pool, -np.inf, real),
        pool_last=np.zeros(pool, real),
        pool_keys=np.full(pool, -np.inf, real) if o.noise else None,
        pool_steps=np.full(pool, -1, np.int32),
        pool_parents=np.zeros(pool, np.int32),
        pool_tokens=np.zeros(pool, np.int32),
        pool_counts=np.zeros((batch, o.groups), np.int32),
        done=np.zeros((batch, o.groups), np.uint8),
        certified=np.zeros((batch, o.groups), np.uint8),
        living=np.array([batch]),
        status=np.array([-1]),
    )


def _lengths(tokens: Array, lengths: Array | None) -> Array:
    if lengths is None:
        return np.full(len(tokens), tokens.shape[1], np.int32)
    return lengths.astype(np.int32)

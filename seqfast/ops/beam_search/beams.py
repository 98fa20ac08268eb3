"""The state of a batched beam search, for both libraries and any device: what it may be, and what
a step's native call is made from."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import Array, Shape, dtype_name, library_of, thread_count
from seqfast.ops.base.backend import checked_backend
from seqfast.ops.base.checks import (
    NOT_NEGATIVE,
    POSITIVE,
    check_choice,
    check_flag,
    check_number,
    check_place,
    check_tokens,
    check_whole,
)
from seqfast.ops.beam_search import arguments
from seqfast.ops.beam_search.arguments import BeamStepArgs

EOS_POOLS = ("topk", "top2k", "any", "inbeam", "competing")  # the codes of csrc/core
STOPS = ("exact", "first_k", "top_beam")
TABLES = tuple(
    f"{which}{name}" for which in ("", "bound_", "certain_") for name in ("divisor", "addend")
)
_MOST = 2**31 - 1


@dataclass(frozen=True)
class BeamOptions:
    """What a search is to do; docs/equations.md defines each option.

    Attributes:
        beams: living hypotheses for each sentence, in `groups` of equally many.
        vocabulary: number of tokens, below 2**31.
        eos: the tokens that end a hypothesis, at least one.
        groups: of diverse beam search.
        eos_pool: which ended hypotheses are kept: "topk", "top2k", "any" or "inbeam".
        stop: when a sentence is done: "exact", "hf", "longest", "first_k", "full" or "top_beam".
        pool: ended hypotheses kept for each sentence.
        wanted: how many must have ended.
        min_length: least number of tokens before an EOS.
        no_repeat_ngram: length of n-grams that must not repeat. 0: no limit.
        temperature: divides the logits.
        repetition_penalty: of Keskar et al. 2019. 1: none.
        diversity: penalty for tokens that earlier groups chose in this step.
        renormalize: apply penalties and bans before the softmax.
        force_eos: the last step must take an EOS.
        score_prefix: tokens of a prefix count in scores and lengths.
        count_eos: the EOS counts in lengths.
        noise: Gumbel noise is added, for sampling.
        banned: tokens that are never chosen.

    Raises:
        TypeError: an option of a wrong type.
        ValueError: an option out of range, or options that exclude each other.

    Example:
        >>> from seqfast.ops.beam_search import BeamOptions
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
    """Ended hypotheses kept by each group."""
    wanted: int = 1
    min_length: int = 0
    """Tokens before an EOS."""
    no_repeat_ngram: int = 0
    """No n tokens in a row twice; 0: off (Paulus et al. 2018)."""
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    """Keskar et al. 2019; 1: off."""
    diversity: float = 0.0
    """Taken off for each beam of the sentence's earlier groups that chose a token (Vijayakumar et
    al. 2018)."""
    renormalize: bool = False
    """Penalties and bans before the softmax, else after it."""
    force_eos: bool = False
    """A row's last step may choose EOS alone."""
    score_prefix: bool = False
    """Given tokens count in log-probability and length."""
    count_eos: bool = True
    """EOS counts in the length."""
    noise: bool = False
    """Candidates are compared by perturbed log-probabilities: sampling without replacement (Kool et
    al. 2019)."""
    banned: tuple[int, ...] = ()
    """Tokens never chosen."""

    def __post_init__(self) -> None:
        counts = {"beams": 1, "vocabulary": 1, "groups": 1, "pool": 1, "wanted": 1}
        for name, least in {**counts, "min_length": 0, "no_repeat_ngram": 0}.items():
            value = getattr(self, name)
            object.__setattr__(self, name, check_whole("beam_search", name, value, least, _MOST))
        for name in ("eos", "banned"):
            tokens = check_tokens(
                "beam_search",
                name,
                getattr(self, name),
                self.vocabulary,
                fewest=1 if name == "eos" else 0,
            )
            object.__setattr__(self, name, tokens)
        if self.beams % self.groups:
            raise ValueError(
                f"beam_search: beams must be a multiple of groups, got {self.beams} beams in "
                f"{self.groups} groups"
            )
        for name, known in (("eos_pool", EOS_POOLS), ("stop", STOPS)):
            check_choice("beam_search", name, getattr(self, name), tuple(known))
        for name in ("temperature", "repetition_penalty"):
            check_number("beam_search", name, getattr(self, name), POSITIVE)
        check_number("beam_search", "diversity", self.diversity, NOT_NEGATIVE)
        for name in ("renormalize", "force_eos", "score_prefix", "count_eos", "noise"):
            check_flag("beam_search", name, getattr(self, name))
        self._check_pool()

    def _check_pool(self) -> None:
        own = self.beams // self.groups
        if self.wanted > self.pool:
            raise ValueError(
                f"beam_search: wanted must be at most {self.pool}, the pool, got {self.wanted}"
            )
        needy = "competing" if self.eos_pool == "competing" else "first_k"
        if needy in (self.eos_pool, self.stop) and self.pool < own:
            raise ValueError(
                f"beam_search: pool must be at least {own}, the beams of a group, "
                f"for {needy!r}, got {self.pool}"
            )


@dataclass
class Beams:
    """The state of a batch of searches; made by `start_beams`, changed by `beam_step`.

    Living beams are numbered [batch, beams]; records [sentences, ...] keep every sentence. Real
    numbers are float64 for float64 logits, else float32. Rows may leave the batch: set `sentence`,
    `scores`, `keys`, `history`, `history_start`, `next_tokens` and `next_rows` to the parts of
    those that stay. On a GPU all steps of a search are on one stream, and a captured step is no
    longer valid once an array has been replaced. The comment beside each field has its shape.

    Example:
        >>> from seqfast.ops.beam_search import BeamOptions, start_beams
        >>> start_beams(BeamOptions(4, 100, (2,)), batch=3, capacity=10).done.tolist()
        [[0], [0], [0]]
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
    status: Array  # int64 [1] of the last step: first row with NaN or +inf; -1: none; -2: no room

    def __setattr__(self, name: str, value: object) -> None:
        # Another array is somewhere else: the native call must be made again.
        object.__setattr__(self, name, value)
        object.__setattr__(self, "_call", None)

    @property
    def call(self) -> StepCall:
        """The native call of a step: checked and made when an array has been replaced."""
        call: StepCall | None = self.__dict__["_call"]
        if call is None:
            call = StepCall(self, self.__dict__.get("_kept"))
            self.__dict__.update(_call=call, _kept=call.kept)
        return call


class SearchBuffers:
    """What the native calls of a search hand on, so that making one waits for no device."""

    def __init__(self, beams: Beams) -> None:
        self._made_for = self._key(beams)
        maker, o = _Maker(beams.scores), beams.options
        self.tokens = {
            name: maker.array(np.array(tokens, np.int32))
            for name, tokens in (("eos", o.eos), ("banned", o.banned))
        }
        self.workspace: Array | None = None

    def fits(self, beams: Beams) -> bool:
        return self._made_for == self._key(beams)

    @staticmethod
    def _key(beams: Beams) -> tuple[object, ...]:
        o, scores = beams.options, beams.scores
        return o.eos, o.banned, type(scores), getattr(scores, "device", None)


def start_beams(
    options: BeamOptions,
    batch: int,
    capacity: int,
    dtype: Any = np.float32,
    *,
    like: Array | None = None,
    max_lengths: Array | None = None,
    prefix: Array | None = None,
    prefix_lengths: Array | None = None,
    tables: dict[str, Array] | None = None,
    history: Array | None = None,
    history_lengths: Array | None = None,
    seed: int = 0,
) -> Beams:
    """A search that has not begun: in each group one living hypothesis of no tokens.

    Arrays of either library, or anything that NumPy takes, are copied.

    Args:
        options: what the search is to do.
        batch: sentences.
        capacity: most steps.
        dtype: of the logits, float32, float64, bfloat16 or float16.
        like: the search is of its library and on its device. None: NumPy.
        max_lengths: integers [batch] from 1 to capacity, prefix included.
        prefix: tokens [batch, any] to begin with.
        prefix_lengths: [batch], how many of them are valid. None: all.
        tables: divisor, addend, bound_*, certain_*, each [capacity + 1]; left out: 1 and 0.
        history: tokens [batch, any] before the first step, for repetition penalty and n-grams.
        history_lengths: [batch], how many of them are valid. None: all.
        seed: of the noise.

    Returns:
        The state of the search.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or value.

    Example:
        >>> from seqfast.ops.beam_search import BeamOptions, start_beams
        >>> beams = start_beams(BeamOptions(4, 100, (2,)), batch=3, capacity=10)
        >>> beams.scores.shape
        (3, 4)
    """
    if not isinstance(options, BeamOptions):
        raise TypeError(f"start_beams: options must be BeamOptions, got {type(options).__name__}")
    o = options
    batch = check_whole("start_beams", "batch", batch, 0, _MOST)
    capacity = check_whole("start_beams", "capacity", capacity, 1, _MOST)
    real = _real_of(dtype)
    maker = _Maker(like)
    living = np.full((batch, o.beams), -np.inf, real)
    living[:, :: o.beams // o.groups] = 0
    limits = _integers("max_lengths", max_lengths, (batch,), capacity, 1, capacity)
    forced = forced_lengths = None
    if prefix is not None:
        forced, forced_lengths = _ragged("prefix", prefix, prefix_lengths, batch, o.vocabulary)
    memory = None
    start = np.zeros(batch, np.int32)
    if o.repetition_penalty != 1 or o.no_repeat_ngram > 0:
        before = np.zeros((batch, 0), np.int32)
        if history is not None:
            before, start = _ragged("history", history, history_lengths, batch, o.vocabulary)
        memory = maker.full((2, batch, o.beams, before.shape[1] + capacity), 0, "int32")
        if before.shape[1]:
            memory[0, :, :, : before.shape[1]] = maker.array(before)[:, None]
    pool, records = (batch, o.groups, o.pool), (capacity, batch, o.beams)
    beams = Beams(
        options=o,
        sentence=maker.array(np.arange(batch)),
        max_lengths=maker.array(limits),
        prefix=None if forced is None else maker.array(forced),
        prefix_lengths=maker.array(
            np.zeros(batch, np.int32) if forced_lengths is None else forced_lengths
        ),
        **{name: maker.array(x) for name, x in _checked_tables(tables, capacity, real).items()},
        seed=maker.array(np.array([_signed(seed)])),
        step=maker.full((1,), 0, "int64"),
        scores=maker.array(living),
        keys=maker.array(living.copy()) if o.noise else None,
        history=memory,
        history_start=maker.array(start),
        next_tokens=maker.full((batch, o.beams), 0, "int64"),
        next_rows=maker.array(np.arange(batch * o.beams).reshape(batch, o.beams)),
        tokens=maker.full(records, 0, "int32"),
        parents=maker.full(records, 0, "int32"),
        logprobs=maker.full(records, 0, real),
        pool_scores=maker.full(pool, -np.inf, real),
        pool_logprobs=maker.full(pool, -np.inf, real),
        pool_last=maker.full(pool, 0, real),
        pool_keys=maker.full(pool, -np.inf, real) if o.noise else None,
        pool_steps=maker.full(pool, -1, "int32"),
        pool_parents=maker.full(pool, 0, "int32"),
        pool_tokens=maker.full(pool, 0, "int32"),
        pool_counts=maker.full((batch, o.groups), 0, "int32"),
        done=maker.full((batch, o.groups), 0, "uint8"),
        certified=maker.full((batch, o.groups), 0, "uint8"),
        living=maker.full((1,), batch, "int64"),
        status=maker.full((1,), -1, "int64"),
    )
    # Not by the first step, which would wait for its copies to a GPU.
    beams.__dict__["_kept"] = SearchBuffers(beams)
    return beams


class _Maker:
    """Makes arrays of the library and on the device of another one."""

    def __init__(self, like: Array | None) -> None:
        self._like = None
        if like is not None and library_of(like, "start_beams", "like").name != "a NumPy array":
            self._like = like

    def full(self, shape: Shape, value: float, dtype: str) -> Array:
        if self._like is None:
            return np.full(shape, value, dtype)
        torch = sys.modules["torch"]
        return torch.full(shape, value, dtype=getattr(torch, dtype), device=self._like.device)

    def array(self, array: Array) -> Array:
        if self._like is None:
            return array
        return sys.modules["torch"].from_numpy(array).to(self._like.device)


def _real_of(dtype: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in ("float32", "float64", "bfloat16", "float16"):
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = repr(dtype)
        if name not in ("float32", "float64", "float16"):
            raise TypeError(
                f"start_beams: dtype must be float32, float64, bfloat16 or float16, got {name}"
            )
    return "float64" if name == "float64" else "float32"


def _signed(seed: object) -> int:
    return (check_whole("start_beams", "seed", seed) + 2**63) % 2**64 - 2**63


def _as_numpy(name: str, array: Any) -> np.ndarray[Any, Any]:
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    found = np.asarray(array)
    if found.dtype.kind not in "iuf":
        raise TypeError(f"start_beams: {name} must hold numbers, got {found.dtype}")
    return found


def _integers(
    name: str, array: Any, shape: tuple[int | None, ...], default: int, least: int, most: int
) -> np.ndarray[Any, Any]:
    """int32, within limits; where `array` is None, `default` everywhere."""
    if array is None:
        return np.full([size or 0 for size in shape], default, np.int32)
    found = _as_numpy(name, array)
    if found.dtype.kind == "f" and found.size:
        raise TypeError(f"start_beams: {name} must hold integers, got {found.dtype}")
    right = len(found.shape) == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(found.shape, shape, strict=True)
    )
    if not right:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"start_beams: {name} must be [{sizes}], got {list(found.shape)}")
    wrong = found[(found < least) | (found > most)]
    if wrong.size:
        raise ValueError(f"start_beams: {name} must be from {least} to {most}, got {wrong[0]}")
    return np.array(found, np.int32, order="C")


def _ragged(
    name: str, array: Any, lengths: Any, batch: int, vocabulary: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Tokens [batch, any] and how many of each row count; the others are 0."""
    tokens = _as_numpy(name, array)
    if len(tokens.shape) == 2:
        width = tokens.shape[1]
        counts = _integers(f"{name}_lengths", lengths, (batch,), width, 0, width)
        if tokens.shape[0] == batch:
            tokens = np.where(np.arange(width) < counts[:, None], tokens, 0)
    else:
        counts = np.zeros(batch, np.int32)
    return _integers(name, tokens, (batch, None), 0, 0, vocabulary - 1), counts


def _checked_tables(
    tables: dict[str, Array] | None, capacity: int, real: str
) -> dict[str, np.ndarray[Any, Any]]:
    tables = tables or {}
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise ValueError(
            f"start_beams: tables must be named {', '.join(TABLES)}, got {unknown[0]!r}"
        )
    made = {}
    for name in TABLES:
        is_divisor = name.endswith("divisor")
        table = np.full(capacity + 1, 1.0 if is_divisor else 0.0)
        if name in tables:
            table = _as_numpy(name, tables[name])
        if table.shape != (capacity + 1,):
            raise ValueError(
                f"start_beams: {name} must be [{capacity + 1}], got {list(table.shape)}"
            )
        if np.isnan(table).any() or (is_divisor and not (table > 0).all()):
            wanted = "above 0" if is_divisor else "numbers"
            raise ValueError(f"start_beams: {name} must be {wanted}, got {table.tolist()}")
        made[name] = np.array(table, real)
    return made


# Real stands for the dtype of the scores.
_DTYPES = {
    "sentence": "int64", "max_lengths": "int32", "prefix": "int32", "prefix_lengths": "int32",
    "seed": "int64", "step": "int64", "history": "int32", "history_start": "int32",
    "next_tokens": "int64", "next_rows": "int64", "tokens": "int32", "parents": "int32",
    "pool_steps": "int32", "pool_parents": "int32", "pool_tokens": "int32", "pool_counts": "int32",
    "done": "uint8", "certified": "uint8", "living": "int64", "status": "int64",
}  # fmt: skip


class BadRow(ValueError):
    """A row of logits holds NaN or +inf; `row` is its number in the call."""

    def __init__(self, operation: str, row: int) -> None:
        super().__init__(f"{operation}: logits must not hold NaN or +inf, got one in row {row}")
        self.row = row


def raise_status(status: int, operation: str = "beam_step") -> None:
    """For a row that a kernel could only leave a note of."""
    if status >= 0:
        raise BadRow(operation, status)


def _array_names(beams: Beams) -> list[str]:
    return [field.name for field in fields(beams) if field.name != "options"]


def _native_options(options: BeamOptions) -> arguments.BeamOptions:
    """With the codes of csrc/core/beam_search.h."""
    codes: dict[str, Any] = {
        "eos_pool": EOS_POOLS.index(options.eos_pool),
        "stop": STOPS.index(options.stop),
        "eos_count": len(options.eos),
        "banned_count": len(options.banned),
    }
    names = set(arguments.BeamOptions._fields) - set(codes)
    return arguments.BeamOptions(**codes, **{name: getattr(options, name) for name in names})


class StepCall:
    """A search's arrays, checked, and the native call of its steps."""

    def __init__(self, beams: Beams, kept: SearchBuffers | None = None) -> None:
        """`kept`: what an earlier call hands on."""
        o = beams.options
        self.xp = xp = library_of(beams.scores, "beam_step", "beams.scores")
        self.real = dtype_name(beams.scores)
        if self.real not in ("float32", "float64"):
            raise TypeError(
                f"beam_step: beams.scores must be float32 or float64, got {beams.scores.dtype}"
            )
        self.place = xp.place(beams.scores)
        self.backend = checked_backend("beam_step", "beams.scores", self.place)
        if len(beams.scores.shape) != 2 or beams.scores.shape[1] != o.beams:
            raise ValueError(
                f"beam_step: beams.scores must be [batch, {o.beams}], "
                f"got {list(beams.scores.shape)}"
            )
        self.batch = int(beams.scores.shape[0])
        self.capacity, self.sentences = (int(size) for size in beams.tokens.shape[:2])
        self.shape = (self.batch * o.beams, o.vocabulary)
        self._check(beams)
        self.kept = kept if kept is not None and kept.fits(beams) else SearchBuffers(beams)
        self.threads = thread_count()
        self.args = self._args(beams)
        self.native = _C.BeamStepCall(self.args)
        if self.backend == "cpu":
            size = self.native.workspace_size()
            memory = self.kept.workspace
            if not isinstance(memory, np.ndarray) or memory.size < size:
                memory = self.kept.workspace = np.empty(size, np.uint8)
            self.native.set_workspace(memory.ctypes.data, size)
        else:
            from seqfast.ops.beam_search import cuda  # it imports torch

            cuda.set_workspace(self.native, self.kept, beams.scores, self.backend)

    def _shapes(self, beams: Beams) -> dict[str, Shape]:
        o, sentences = beams.options, self.sentences
        rows, pool = (self.batch, o.beams), (sentences, o.groups, o.pool)
        records = (self.capacity, sentences, o.beams)
        shapes: dict[str, Shape] = {name: (self.capacity + 1,) for name in TABLES}
        shapes |= {name: (1,) for name in ("seed", "step", "living", "status")}
        shapes |= {name: rows for name in ("scores", "keys", "next_tokens", "next_rows")}
        shapes |= {name: records for name in ("tokens", "parents", "logprobs")}
        shapes |= {f.name: pool for f in fields(beams) if f.name.startswith("pool_")}
        shapes |= {name: (sentences, o.groups) for name in ("pool_counts", "done", "certified")}
        shapes |= {name: (sentences,) for name in ("max_lengths", "prefix_lengths")}
        shapes |= {name: (self.batch,) for name in ("sentence", "history_start")}
        if beams.prefix is not None:
            shapes["prefix"] = (sentences, beams.prefix.shape[-1])
        if beams.history is not None:
            shapes["history"] = (2, *rows, beams.history.shape[-1])
        return shapes

    def _check(self, beams: Beams) -> None:
        xp = self.xp
        numbers = np if isinstance(beams.scores, np.ndarray) else sys.modules["torch"]
        for name, shape in self._shapes(beams).items():
            array = getattr(beams, name)
            if array is None:
                continue
            wanted = _DTYPES.get(name, self.real)
            if xp.fits(array, beams.scores, getattr(numbers, wanted), shape):
                continue
            if not xp.owns(array):
                raise TypeError(
                    f"beam_step: beams.{name} must be {xp.name}, got {type(array).__name__}"
                )
            if dtype_name(array) != wanted:
                raise TypeError(f"beam_step: beams.{name} must be {wanted}, got {array.dtype}")
            if tuple(array.shape) != shape:
                raise ValueError(
                    f"beam_step: beams.{name} must be {list(shape)}, got {list(array.shape)}"
                )
            check_place(xp, "beam_step", f"beams.{name}", array, self.place)
            raise ValueError(f"beam_step: beams.{name} must be contiguous")
        if self.place == "cpu" and self.batch:
            lowest, highest = int(beams.sentence.min()), int(beams.sentence.max())
            if lowest < 0 or highest >= self.sentences:
                raise ValueError(
                    f"beam_step: beams.sentence must be from 0 to {self.sentences - 1}, "
                    f"got {lowest if lowest < 0 else highest}"
                )

    def _args(self, beams: Beams) -> BeamStepArgs:
        xp = self.xp
        self._arrays = {
            **self.kept.tokens,
            **{name: getattr(beams, name) for name in _array_names(beams)},
        }
        addresses = {
            name: 0 if array is None else xp.address(array) for name, array in self._arrays.items()
        }
        return BeamStepArgs(
            dtype=int(self.real == "float64"),
            options=_native_options(beams.options),
            batch=self.batch,
            sentences=self.sentences,
            capacity=self.capacity,
            threads=self.threads,
            prefix_capacity=0 if beams.prefix is None else beams.prefix.shape[-1],
            history_capacity=0 if beams.history is None else beams.history.shape[-1],
            **addresses,
        )

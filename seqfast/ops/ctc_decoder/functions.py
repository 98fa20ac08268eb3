"""CTC decoding into words: checks, memory and the calls into the native kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import Workspace, thread_count
from seqfast.ops.base.checks import ANY_NUMBER, DISTANCE, check_given, check_whole
from seqfast.ops.ctc.arguments import CtcInput
from seqfast.ops.ctc_decoder.arguments import CtcDecodeArgs
from seqfast.ops.ctc_decoder.inputs import Chunk, chunk_of
from seqfast.ops.ctc_decoder.language import Array, Language, Model, Ngram, Tree
from seqfast.ops.ctc_decoder.prefixes import Prefixes

__all__ = ["Language", "Model", "Ngram", "Search", "Transcripts", "Tree", "ctc_decode"]

_MOST_PREFIXES = 2**31 - 2  # their numbers are 32 bits wide


class Transcripts(NamedTuple):
    """What a search has found; `n_best` of each row, the best first.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.ctc_decoder import Language, ctc_decode
        >>> letters = Language(np.array([0, 0, 1, 2], np.int32), np.arange(2, dtype=np.int32))
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> ctc_decode(log_probs, language=letters).firsts
        array([[[0]]])
    """

    tokens: Array  # [batch, n_best, longest] int64; -1 behind the last
    lengths: Array  # [batch, n_best] int64
    scores: Array  # [batch, n_best] float64, falling; -inf where there are fewer
    language_scores: Array  # [batch, n_best] float64, the part of the score that is no alignment's
    firsts: Array  # [batch, n_best, longest] int64, the first frame of each token
    lasts: Array  # [batch, n_best, longest] int64, the last frame of each token
    confidences: Array  # [batch, n_best, longest], mean log-probability of its frames


def ctc_decode(
    log_probs: Any,
    lengths: Any = None,
    *,
    language: Language,
    blank: int = 0,
    beam_size: int = 100,
    n_best: int = 1,
    top_n: int | None = None,
    min_log_prob: float | None = None,
    beam_threshold: float | None = None,
    model: Model | None = None,
) -> Transcripts:
    """Prefix beam search whose prefixes are ranked with a language beside them.

    Same results as `seqfast.reference.ctc_decoder.ctc_decode`, which is given words in the place of
    `language`. NumPy arrays, or torch tensors on the CPU. Sums are in float64. The result of a row
    depends on neither the batch nor the number of threads.

    Args:
        log_probs: [batch, frames, vocab] floating, log-probabilities.
        lengths: [batch] integers, frames of each row, in an array, a list or a tuple. None: all.
        language: what a prefix is worth beside its alignments.
        blank: the blank's token.
        beam_size: prefixes kept after each frame.
        n_best: transcripts returned for each row, from 1 to beam_size.
        top_n: how many of the most probable tokens of each frame are looked at. None: all.
        min_log_prob: a token below it is not looked at. None: no limit.
        beam_threshold: a prefix more than this below the best one is dropped. None: no limit.
        model: a language model of tokens that is called from Python after each frame.

    Returns:
        The transcripts, different texts each.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or value, and what is no log-probability.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.ctc_decoder import Language, ctc_decode
        >>> letters = Language(np.array([0, 0, 1, 2], np.int32), np.arange(2, dtype=np.int32))
        >>> log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]])
        >>> ctc_decode(log_probs, language=letters).tokens
        array([[[1]]])
    """
    vocab = len(language.letter_starts) - 1
    chunk = chunk_of("ctc_decode", log_probs, lengths, None, vocab)
    search = Search(
        chunk.batch,
        language,
        blank=blank,
        beam_size=beam_size,
        n_best=n_best,
        top_n=top_n,
        min_log_prob=min_log_prob,
        beam_threshold=beam_threshold,
        model=model,
    )
    search.feed(chunk)
    return search.results(finish=True)


class Search:
    """A search that is fed in chunks; it keeps no frame, and of its prefixes what it may need.

    Args:
        batch: rows.
        language: as for `ctc_decode`; so are the others.
        blank: the blank's token.
        beam_size: prefixes kept after each frame.
        n_best: transcripts of each row.
        top_n: tokens of a frame that are looked at.
        min_log_prob: of these the ones that reach it.
        beam_threshold: prefixes more than this below the best are dropped.
        model: a language model that is called from Python.
        operation: what messages call it.

    Raises:
        TypeError: a wrong type.
        ValueError: a value out of range.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.ctc_decoder import Language, Search
        >>> letters = Language(np.array([0, 0, 1, 2], np.int32), np.arange(2, dtype=np.int32))
        >>> search = Search(1, letters)
        >>> search.feed(search.chunk(np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]])))
        >>> search.feed(search.chunk(np.log([[[0.8, 0.1, 0.1]]])))
        >>> search.results(finish=True).tokens
        array([[[1]]])
    """

    def __init__(
        self,
        batch: int,
        language: Language,
        *,
        blank: int = 0,
        beam_size: int = 100,
        n_best: int = 1,
        top_n: int | None = None,
        min_log_prob: float | None = None,
        beam_threshold: float | None = None,
        model: Model | None = None,
        operation: str = "ctc_decode",
    ) -> None:
        self.operation = operation
        vocab = len(language.letter_starts) - 1
        self.batch = check_whole(operation, "batch", batch, 0)
        blank = check_whole(operation, "blank", blank, 0, vocab - 1, "a token of the vocabulary")
        language.check(operation, self.batch)
        beam_size = check_whole(operation, "beam_size", beam_size, 1, _MOST_PREFIXES // 8)
        n_best = check_whole(operation, "n_best", n_best, 1, beam_size, "the beam_size")
        self.vocab, self.language, self._model = vocab, language, model
        capacity = max(64 * beam_size, 1024)
        self._progress = np.zeros(self.batch, np.int64)
        self._args = CtcDecodeArgs(
            input=CtcInput(0, self.batch, 0, vocab, 0, 0, 0, 0, blank),
            language=language.arguments(),
            beam_size=beam_size,
            n_best=n_best,
            top_n=vocab if top_n is None else min(check_whole(operation, "top_n", top_n, 1), vocab),
            min_log_prob=check_given(
                operation, "min_log_prob", min_log_prob, -math.inf, ANY_NUMBER
            ),
            beam_threshold=check_given(
                operation, "beam_threshold", beam_threshold, math.inf, DISTANCE
            ),
            capacity=capacity,
            frame_end=0,
            progress=_C.numpy_address(self._progress),
            table=0,
            source=0,
            added=0,
            final=0,
            finish=False,
            places=0,
            counts=0,
            scores=0,
            language_scores=0,
            room=0,
            tokens=0,
            firsts=0,
            lasts=0,
            confidences=0,
            memory=0,
            threads=thread_count(),
        )
        self._args, self._memory = self._with_memory(capacity)
        self._call(_C.ctc_decode_begin, self._args)
        self._prefixes: Prefixes | None = None
        if model is not None:
            self._prefixes = Prefixes(operation, model, language, self.batch, beam_size, blank)

    def chunk(self, log_probs: Any, lengths: Any = None) -> Chunk:
        """Checked log-probabilities of the next frames, [batch, frames, vocab]."""
        return chunk_of(self.operation, log_probs, lengths, self.batch, self.vocab)

    def feed(self, chunk: Chunk) -> None:
        """Reads the frames of a chunk."""
        input = chunk.input(self._args.input.blank)
        self._args = self._args._replace(input=input, threads=thread_count())
        self._progress[:] = 0
        if self._prefixes is None:
            self._read(chunk.frames, chunk.lengths)
            return
        for frame in range(chunk.frames):
            self._prefixes.before_frame()
            self._args = self._prefixes.with_addresses(self._args)
            self._read(frame + 1, np.minimum(chunk.lengths, frame + 1))
            self._prefixes.after_frame()

    def results(self, finish: bool) -> Transcripts:
        """The best transcripts so far.

        Args:
            finish: whether all words and sentences end here.

        Returns:
            Arrays of their own.
        """
        shape = (self.batch, self._args.n_best)
        places, counts = np.empty(shape, np.int64), np.empty(shape, np.int64)
        scores, language_scores = np.empty(shape), np.empty(shape)
        final = self._prefixes.final() if self._prefixes is not None and finish else None
        args = self._args._replace(
            finish=finish,
            places=_C.numpy_address(places),
            counts=_C.numpy_address(counts),
            scores=_C.numpy_address(scores),
            language_scores=_C.numpy_address(language_scores),
            final=0 if final is None else _C.numpy_address(final),
        )
        self._call(_C.ctc_decode_rank, args)
        room = int(counts.max(initial=0))
        tokens, firsts, lasts = (np.empty((*shape, room), np.int64) for _ in range(3))
        confidences = np.empty((*shape, room))
        args = args._replace(
            room=room,
            tokens=_C.numpy_address(tokens),
            firsts=_C.numpy_address(firsts),
            lasts=_C.numpy_address(lasts),
            confidences=_C.numpy_address(confidences),
        )
        self._call(_C.ctc_decode_walk, args)
        return Transcripts(tokens, counts, scores, language_scores, firsts, lasts, confidences)

    def _read(self, end: int, wanted: Array) -> None:
        self._args = self._args._replace(frame_end=end)
        while True:
            self._call(_C.ctc_decode_frames, self._args)
            if (self._progress >= wanted).all():
                return
            self._grow()

    def _grow(self) -> None:
        capacity = 2 * self._args.capacity
        if capacity > _MOST_PREFIXES:
            raise ValueError(
                f"{self.operation}: a row needs more than 2**31 prefixes; take a smaller beam_size"
            )
        larger, memory = self._with_memory(capacity)
        with Workspace(_C.ctc_decode_workspace_size(larger)) as workspace:
            _C.ctc_decode_grow(self._args, capacity, larger.memory, workspace)
        self._args, self._memory = larger, memory

    def _with_memory(self, capacity: int) -> tuple[CtcDecodeArgs, Array]:
        """The arguments with that capacity, and the memory that they are for."""
        args = self._args._replace(capacity=capacity)
        memory = np.empty(_C.ctc_decode_memory_size(args), np.uint8)
        return args._replace(memory=_C.numpy_address(memory)), memory

    def _call(self, kernel: Callable[[CtcDecodeArgs, int], None], args: CtcDecodeArgs) -> None:
        with Workspace(_C.ctc_decode_workspace_size(args)) as workspace:
            kernel(args, workspace)

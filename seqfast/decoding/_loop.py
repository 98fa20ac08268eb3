"""The loop of a search: model, selection and the next state, step by step or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from seqfast.decoding._constraints import Constraints
from seqfast.decoding._masks import Allowed, RowsSoFar, allowed_mask, sampler_mask
from seqfast.decoding._model import Model, StepError
from seqfast.decoding._phrase_search import PhraseSearch
from seqfast.decoding.options import SearchOptions
from seqfast.decoding.state import Rows, take
from seqfast.decoding.strategies import Begun, Progress
from seqfast.ops.beam_search import beam_step
from seqfast.ops.beam_search.beams import BadRow, Beams, raise_status

Array = Any  # a numpy.ndarray or a torch.Tensor

# Sentences that are done leave the batch when they are this share of it; leaving costs a copy of
# what is shared.
_DROP_SHARE = 8
# Steps before a graph is captured: the first one allocates, the next two must look alike.
_STEPS_BEFORE_CAPTURE = 2


class Loop:
    """One search, from its first step to its end."""

    def __init__(
        self,
        model: Model,
        ids: Array,
        start: Callable[[Array], Beams],
        steps: int,
        options: SearchOptions,
        allowed: Allowed | None,
        begun: Callable[[Array], Begun],
        attention: Callable[[Any], Array] | None = None,
    ) -> None:
        self._model, self._options, self._allowed = model, options, allowed
        self._ids, self._start, self._most_steps = ids, start, steps
        self._states: list[Any] = model.states
        self.beams: Beams | None = None
        self.steps = 0
        self._begun = begun
        self._constraints: Constraints | None = None
        self._phrases: PhraseSearch | None = None
        self._attention, self._own_stop = attention, options.own_stop
        self.attended: list[tuple[Array, Array]] = []
        """Of each step, where `attention` is asked: sentences, and what their rows attended to."""

    def run(self, cuda_graph: bool | str) -> Beams:
        """The beams at the end of the search. `steps` says how many there were."""
        device = device_of(self._ids)
        if device is None:
            self._on_cpu()
        else:
            with device.current():
                self._on_cuda(device, cuda_graph)
        assert self.beams is not None
        return self.beams

    def _on_cpu(self) -> None:
        for t in range(self._most_steps):
            beams = self._step(t)
            living = int(beams.living[0])
            if living == 0 or t + 1 == self._most_steps:
                return
            batch = beams.next_rows.shape[0]
            if (batch - living) * _DROP_SHARE >= batch:
                rows = self._drop_done(beams)
            else:
                rows = self._rows(beams)
            self._go_on(beams, rows)

    def _on_cuda(self, device: Any, cuda_graph: bool | str) -> None:
        """Nothing waits for the device but the stop flag, and that for the step before the last."""
        may_capture = cuda_graph is not False and self._why_no_graph() is None
        if cuda_graph is True and not may_capture:
            raise RuntimeError(f"{self._options.operation}: cuda_graph: {self._why_no_graph()}")
        flag = None
        replay: Callable[[], None] | None = None
        for t in range(self._most_steps):
            if (
                replay is None
                and may_capture
                and t == _STEPS_BEFORE_CAPTURE
                and t + 1 < self._most_steps
            ):
                replay = self._captured(device, cuda_graph is True)
            if replay is not None:
                replay()
                self.steps += 1
            else:
                before = self._shapes() if t + 1 == _STEPS_BEFORE_CAPTURE else None
                beams = self._step(t)
                self._go_on(beams, self._rows(beams))
                if before is not None and may_capture and before != self._shapes():
                    if cuda_graph is True:
                        raise RuntimeError(
                            f"{self._options.operation}: cuda_graph: the state's shapes must be "
                            "the same after every step"
                        )
                    may_capture = False
            assert self.beams is not None
            if flag is None:
                flag = device.flag(self.beams)
            try:
                if flag.was_done():
                    return
            except BadRow as bad:
                raise self.placed(bad) from None

    def _step(self, t: Any) -> Beams:
        """Model and selection; the states are still of the rows as they were."""
        logits, self._states = self._model(self._ids, self._states, t, self._batch())
        if self._attention is not None:
            self._attend(self._attention)
        self._select_tokens(logits)
        self.steps += 1
        assert self.beams is not None
        return self.beams

    def _go_on(self, beams: Beams, rows: Rows) -> None:
        self._states = self._model.select(self._states, rows)
        self._ids = beams.next_tokens.reshape(-1)
        if self._constraints is not None:
            self._constraints.advance(rows, self._ids)

    def _rows(self, beams: Beams) -> Rows:
        """Where each row goes on from; in a group of its own, always from itself."""
        alone = beams.options.beams == beams.options.groups
        return Rows(None if alone else beams.next_rows.reshape(-1))

    def _batch(self) -> int:
        return int(self._ids.shape[0]) // self._options.beam_size

    def _select_tokens(self, logits: Array) -> None:
        o = self._options
        if not isinstance(logits, np.ndarray):
            logits = logits.detach()
        if self.beams is None:
            self.beams = self._start(logits)
            if o.phrases is not None:
                batch = int(self.beams.sentence.shape[0])
                self._phrases = PhraseSearch(o.phrases, o, batch, self.beams)
            if o.constraints:
                self._constraints = Constraints(o, self._begun(logits))
        mask = None
        if self._allowed is not None:
            rows = RowsSoFar(self._ids, self.beams)
            try:
                given = self._allowed(self.steps, rows)
            except Exception as error:
                raise StepError(
                    f"{o.operation}: allowed raised {type(error).__name__} at t = {self.steps}: "
                    f"{error}"
                ) from error
            mask = allowed_mask(o.operation, given, logits)
        if self._constraints is not None:
            logits, mask = self._constraints.apply(self.steps, logits, mask)
        if o.sampler is not None:
            mask = sampler_mask(o.sampler, logits, mask, self.beams)
        try:
            if self._phrases is not None:
                self._phrases.step(logits, mask)
            else:
                beam_step(logits, self.beams, allowed=mask)
        except BadRow as bad:
            raise self.placed(bad) from None
        if self._own_stop is not None:
            self._ask_to_stop(self.beams)

    def _attend(self, attention: Callable[[Any], Array]) -> None:
        o = self._options
        states = self._states[0] if len(self._states) == 1 else self._states
        weights = attention(states)
        rows = int(self._ids.shape[0])
        if getattr(weights, "ndim", 0) != 2 or weights.shape[0] != rows:
            raise ValueError(
                f"{o.operation}: attention must return [{rows}, memory_steps], got "
                f"{list(getattr(weights, 'shape', [])) or type(weights).__name__}"
            )
        where = None if self.beams is None else self.beams.sentence
        self.attended.append((where, weights))

    def _ask_to_stop(self, beams: Beams) -> None:
        """A stop rule of the caller's: its sentences have nothing alive from here on."""
        o, sentence = self._options, beams.sentence
        progress = Progress(self.steps + 1, sentence, beams.scores, beams.pool_scores[sentence])
        try:
            done = o.own_stop.done(progress)
        except Exception as error:
            raise StepError(
                f"{o.operation}: done of stop raised {type(error).__name__} at t = {self.steps}: "
                f"{error}"
            ) from error
        if getattr(done, "shape", None) != sentence.shape:
            raise ValueError(
                f"{o.operation}: done of stop must return bool [{sentence.shape[0]}], got "
                f"{list(getattr(done, 'shape', [])) or type(done).__name__}"
            )
        beams.scores[done] = -np.inf
        beams.done[sentence[done]] = 1
        beams.living[0] = (beams.done != 1).any(1).sum()

    def placed(self, bad: BadRow) -> ValueError:
        """The error of a row as whoever made the logits knows it."""
        return bad_logits(self._options, self._model.whose, self.beams, bad)

    def _drop_done(self, beams: Beams) -> Rows:
        """Sentences that are done leave the batch: rows of those that stay."""
        done, sentence = np.asarray(beams.done), np.asarray(beams.sentence)
        stay = np.flatnonzero((done[sentence] != 1).any(1))
        count = beams.options.beams
        flat = (stay[:, None] * count + np.arange(count)).reshape(-1)
        keep: Array = stay
        kept: Array = flat
        if not isinstance(beams.done, np.ndarray):
            import torch

            keep, kept = torch.from_numpy(stay), torch.from_numpy(flat)
        rows = beams.next_rows[keep].reshape(-1)
        if self._phrases is not None:
            self._phrases.keep(stay)
        for name in ("sentence", "scores", "keys", "history_start", "next_tokens", "next_rows"):
            value = getattr(beams, name)
            if value is not None:
                setattr(beams, name, value[keep])
        if beams.history is not None:
            beams.history = take(beams.history, keep, 1)
        return Rows(rows, keep, kept)

    def _why_no_graph(self) -> str | None:
        """Why there can be no graph, as far as one can tell before the first step."""
        if self._allowed is not None:
            return "allowed is called by Python at every step"
        o = self._options
        if o.constraints or o.phrases is not None or o.own_stop is not None:
            return "constraints and stop rules of one's own are asked at every step"
        if self._attention is not None:
            return "attention is asked for at every step"
        for node, state in zip(self._model.nodes, self._states, strict=True):
            if node.tensors(state) is None:
                return "the state must be made of tensors, None and what is shared"
        return None

    def _tensors(self) -> list[Array]:
        found: list[Array] = []
        for node, state in zip(self._model.nodes, self._states, strict=True):
            found += node.tensors(state) or []
        return found

    def _shapes(self) -> list[tuple[Any, ...]]:
        return [(tuple(x.shape), x.dtype) for x in self._tensors()]

    def _captured(self, device: Any, must: bool) -> Callable[[], None] | None:
        """A graph of one step that goes on from the state as it is; None where there can be none.

        Model, selection and reordering read and write the same memory each time. `t` is the
        beams' own counter, a tensor on the device, so whoever needs it as a number is refused
        by the capture instead of seeing one number for ever.
        """
        assert self.beams is not None
        beams, model = self.beams, self._model
        fixed = [x.clone() for x in self._tensors()]
        left = list(fixed)
        states = [n.replaced(s, left) for n, s in zip(model.nodes, self._states, strict=True)]
        ids, t = beams.next_tokens.reshape(-1), beams.step[0]

        def step() -> None:
            logits, after = model(ids, states, t, self._batch())
            self._select_tokens(logits)
            rows = self._rows(beams)
            new: list[Array] = []
            for node, state in zip(model.nodes, model.select(after, rows), strict=True):
                new += node.tensors(state) or []
            for into, value in zip(fixed, new, strict=True):
                if into.shape != value.shape or into.dtype != value.dtype:
                    raise RuntimeError("the state's shapes must be the same after every step")
                into.copy_(value)

        try:
            replay: Callable[[], None] = device.capture(step)
        except Exception as error:
            if must:
                raise RuntimeError(
                    f"{self._options.operation}: cuda_graph: a step could not be captured: {error}"
                ) from error
            return None
        self._ids, self._states = ids, states
        return replay


class Cuda:
    """What the loop asks of a CUDA device, which it makes the current one."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def current(self) -> Any:
        import torch

        return torch.cuda.device(self._device)

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """The replay of a graph of `step`, which is recorded and not run."""
        import torch

        graph = torch.cuda.CUDAGraph()
        # torch's own stream for it belongs to the device that was the first to capture.
        stream = torch.cuda.Stream(self._device)
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
        replay: Callable[[], None] = graph.replay
        return replay

    def flag(self, beams: Beams) -> Any:
        return StopFlag(beams, self._device)


class StopFlag:
    """What the device says about its end, read one step late.

    After each step the number of living sentences and the status go to pinned memory, and an event
    behind them. Before the next step but one is queued, that event is waited for by asking, so the
    device always has a step to do; no call synchronises.
    """

    def __init__(self, beams: Beams, device: Any) -> None:
        import torch

        self._beams, self._turn = beams, 0
        self._stream = torch.cuda.current_stream(device)
        # On the CPU whatever torch's default device is.
        self._copies = [
            torch.empty(2, dtype=torch.int64, device="cpu", pin_memory=True) for _ in range(2)
        ]
        self._events = [torch.cuda.Event() for _ in range(2)]

    def was_done(self) -> bool:
        """Whether no sentence was alive after the step before the one just queued."""
        now, before = self._turn % 2, (self._turn + 1) % 2
        self._copies[now][:1].copy_(self._beams.living, non_blocking=True)
        self._copies[now][1:].copy_(self._beams.status, non_blocking=True)
        self._events[now].record(self._stream)
        self._turn += 1
        if self._turn == 1:
            return False
        while not self._events[before].query():
            pass
        living, status = self._copies[before].tolist()
        raise_status(status)
        return bool(living == 0)


def bad_logits(options: SearchOptions, whose: str, beams: Beams | None, bad: BadRow) -> ValueError:
    """The error of a row of a call, by the sentence and the beam that it stands for."""
    assert beams is not None
    place, beam = divmod(bad.row, options.beam_size)
    sentence, t = int(beams.sentence[place]), int(beams.step[0])
    return ValueError(
        f"{options.operation}: logits of {whose} must not hold NaN or +inf, got one at t = {t} for "
        f"sentence {sentence}, beam {beam}"
    )


def device_of(ids: Array) -> Any:
    """What runs the loop beside the CPU; None: the CPU."""
    if isinstance(ids, np.ndarray) or ids.device.type != "cuda":
        return None
    return Cuda(ids.device)

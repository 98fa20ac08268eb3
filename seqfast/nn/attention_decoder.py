"""A recurrent decoder that attends to a memory: teacher forcing, and one step at a time."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Embedding, Linear, Module

from seqfast.decoding.attention_decoder import DecoderStep
from seqfast.decoding.beam_search import BeamSearch
from seqfast.decoding.options import MOST_STEPS
from seqfast.decoding.result import BeamResult
from seqfast.decoding.state import shared
from seqfast.nn._checks import (
    autocast,
    autocast_dtype,
    check_integers,
    check_lengths,
    lengths_tensor,
)
from seqfast.nn._layer import RecurrentLayer
from seqfast.nn._native_decoder import native_decoder, native_weights
from seqfast.nn._padding import running
from seqfast.nn._random import draw_seed, dropout
from seqfast.nn.attention import Attention, DecoderState, Memory
from seqfast.ops.base.checks import (
    PROBABILITY,
    check_choice,
    check_flag,
    check_number,
    check_type,
)
from seqfast.ops.dropout import torch as torch_random
from seqfast.ops.dropout.torch import OTHER

# What the module draws for, in the place of a layer.
_EMBEDDED, _ATTENTIONAL, _SAMPLED = range(3)
ORDERS = ("luong", "bahdanau")


class AttentionDecoder(Module):
    """A decoder with global attention (Luong et al. 2015), trained by teacher forcing.

    With the embedding e of the previous token, the recurrent layers' output h and the attention's
    context c, a step is

        h[t] = rnn([e[t]; a[t-1]])          without input feeding rnn(e[t])
        c[t], weights[t] = attention(h[t], memory)
        a[t] = tanh(W [h[t]; c[t]])         W = combine.weight; the attentional vector
        logits[t] = head(a[t])

    `combine` is a `torch.nn.Linear` without a bias, made here in the head's dtype and on its
    device.

    With input feeding or scheduled sampling the rnn runs step by step. In training it then accepts
    only regularisers with a new mask at each step: not `input_dropout`, `weight_dropout` or
    `recurrent_dropout` on "hidden".

    `decoder(target_ids, memory, memory_lengths=None, hx=None, *, lengths=None,
    sampling_probability=0.)` returns `logits, weights, state`:

    - `target_ids`: integers [batch, steps]: the start token, then the target without its last
      token.
    - `memory` [batch, memory_steps, memory_size] and `memory_lengths` as for `Attention`, or what
      `attention.prepare` made of them.
    - `hx`: the rnn's first state in its own form ([layers, batch, ...], a pair for an LSTM),
      default zeros; or a `DecoderState` to go on from, whose memory is ignored.
    - `lengths`: integers [batch], the steps of each row. Past them the attentional vector and the
      weights are zero (so the logits are head(0)), and `state` is that of the row's last step. The
      ids must be valid there too.
    - `sampling_probability`: scheduled sampling (Bengio et al. 2015). From the second step on, each
      row's token is with this probability the one with the largest logit of the step before. No
      gradient passes through that choice.
    - `logits` [batch, steps, vocabulary], `weights` [batch, steps, memory_steps], and `state` after
      the last step.

    `start(memory, memory_lengths=None, hx=None)` returns a state. `step(ids [rows], state)` returns
    logits [rows, vocabulary] and the next state; each memory may have several rows. `beam`
    searches. If the module has dropout or zoneout, call `eval()` before `step` and `beam`. Calls
    raise ValueError for a wrong size, rank or length, TypeError for a wrong type or dtype.

    float32, float64, bfloat16 and float16, on the CPU and on CUDA devices; autocast as for its
    parts.

    Args:
        embedding: a `torch.nn.Embedding`.
        rnn: a `seqfast.nn.LSTM`, `GRU` or `RNN` of one direction and any number of layers, with
            input_size = embedding_dim + attentional_size, or embedding_dim without `input_feeding`.
        attention: a `seqfast.nn.Attention` whose query_size is the rnn's output size. None: no
            attention (Sutskever et al. 2014); pass None as memory and the encoder's last state as
            `hx`, and a is h itself.
        head: a `torch.nn.Linear`, or any module from [..., attentional_size] to logits [...,
            vocabulary].
        input_feeding: whether the rnn gets the previous attentional vector; default True for
            attention in Luong's order.
        order: "luong": the query is the new state. "bahdanau" (Bahdanau et al. 2015): the query is
            the state before the step, c[t] = attention(h[t-1], memory), and the context enters the
            rnn, h[t] = rnn([e[t]; c[t]]), with input_size = embedding_dim + memory_size; a[t] is
            computed from h[t] and c[t] as above.
        attentional_size: default the head's in_features, else the rnn's output size.
        dropout: in training, of e, and of a where it enters the head (Zaremba et al. 2014). Masks
            come from one seed of torch's CPU generator, as for `LSTM`.

    Raises:
        TypeError: a module of a wrong type.
        ValueError: modules with sizes that do not fit.

    Example:
        >>> import torch, seqfast
        >>> decoder = seqfast.nn.AttentionDecoder(
        ...     torch.nn.Embedding(9, 4), seqfast.nn.GRU(8, 4), seqfast.nn.Attention("dot", 4, 4),
        ...     torch.nn.Linear(4, 9))
        >>> ids = torch.zeros(2, 5, dtype=torch.int64)
        >>> logits, weights, state = decoder(ids, torch.zeros(2, 3, 4))
        >>> logits.shape
        torch.Size([2, 5, 9])
    """

    embedding: Embedding
    rnn: RecurrentLayer
    attention: Attention | None
    head: Module
    combine: Linear | None

    def __init__(
        self,
        embedding: Embedding,
        rnn: RecurrentLayer,
        attention: Attention | None,
        head: Module,
        input_feeding: bool | None = None,
        *,
        order: str = "luong",
        attentional_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_type("AttentionDecoder", "embedding", embedding, Embedding, "a torch.nn.Embedding")
        words = "a seqfast.nn.LSTM, GRU or RNN"
        given: object = rnn
        if isinstance(given, torch.nn.RNNBase):
            words += ", which seqfast.accelerate(rnn) makes of torch's"
        check_type("AttentionDecoder", "rnn", rnn, RecurrentLayer, words)
        if attention is not None:
            wanted = "a seqfast.nn.Attention or None"
            check_type("AttentionDecoder", "attention", attention, Attention, wanted)
        check_type("AttentionDecoder", "head", head, Module, "a torch.nn.Module")
        check_choice("AttentionDecoder", "order", order, ORDERS)
        context_first = order == "bahdanau"
        if input_feeding is None:
            input_feeding = attention is not None and not context_first
        check_flag("AttentionDecoder", "input_feeding", input_feeding)
        if attention is None and context_first:
            raise ValueError("AttentionDecoder: order='bahdanau' needs an attention, got None")
        if input_feeding and (attention is None or context_first):
            why = "without an attention" if attention is None else "with order='bahdanau'"
            raise ValueError(f"AttentionDecoder: input_feeding must not be True {why}")
        check_number("AttentionDecoder", "dropout", dropout, PROBABILITY)
        if rnn.bidirectional:
            raise ValueError(
                "AttentionDecoder: rnn must have one direction, got bidirectional=True"
            )
        output_size = rnn._output_sizes[-1]
        if attentional_size is None:
            attentional_size = getattr(head, "in_features", output_size)
        behind, what = 0, "embedding_dim"
        if input_feeding:
            behind, what = attentional_size, "embedding_dim + attentional_size"
        elif attention is not None and context_first:
            behind, what = attention.memory_size, "embedding_dim + attention.memory_size"
        _check_size("rnn.input_size", rnn.input_size, embedding.embedding_dim + behind, what)
        if attention is None:
            _check_size("attentional_size", attentional_size, output_size, "the rnn's output size")
        else:
            _check_size(
                "attention.query_size", attention.query_size, output_size, "the rnn's output size"
            )
        in_features = getattr(head, "in_features", attentional_size)
        _check_size("head.in_features", in_features, attentional_size, "attentional_size")
        self.embedding = embedding
        self.rnn = rnn
        self.attention = attention
        self.head = head
        self.input_feeding = input_feeding
        self.order = order
        self.attentional_size = attentional_size
        self.dropout = float(dropout)
        like = next(head.parameters(), embedding.weight)
        self.combine = None
        if attention is not None:
            self.combine = Linear(
                output_size + attention.memory_size,
                attentional_size,
                bias=False,
                device=like.device,
                dtype=like.dtype,
            )
        if input_feeding or context_first:
            self._check_stepping("input_feeding=True" if input_feeding else "order='bahdanau'")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.__dict__.setdefault("order", "luong")  # of an earlier version's pickle

    @property
    def context_first(self) -> bool:
        """Whether the state before a step attends, so that its context enters the rnn."""
        return self.order == "bahdanau"

    def extra_repr(self) -> str:
        text = f"input_feeding={self.input_feeding}"
        text += f", order={self.order!r}" if self.context_first else ""
        return text + (f", dropout={self.dropout}" if self.dropout else "")

    def forward(
        self,
        target_ids: Tensor,
        memory: Tensor | Memory | None,
        memory_lengths: Tensor | None = None,
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        sampling_probability: float = 0.0,
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """Runs the decoder on a target that is known.

        Args:
            target_ids: integers [batch, steps], the start token and the target without its last.
            memory: [batch, memory_steps, memory_size], what `attention.prepare` made of it, or None
                without attention.
            memory_lengths: integers [batch], the valid rows of each memory; None: all.
            hx: the rnn's first state, or a `DecoderState`; default zeros.
            lengths: integers [batch], the steps of each row; None: all.
            sampling_probability: of scheduled sampling, from 0 to 1.

        Returns:
            `logits` [batch, steps, vocabulary], `weights` [batch, steps, memory_steps] and the
            state after the last step.

        Raises:
            TypeError: a wrong type or dtype.
            ValueError: a wrong rank, size or length.
        """
        check_integers("AttentionDecoder", "target_ids", target_ids)
        if self.attention is None and memory is None and hx is None and target_ids.dim() == 2:
            memory = self._nothing(target_ids.shape[0])
        state = self.start(memory, memory_lengths, hx)
        batch = state.memory.values.shape[0]
        if target_ids.dim() != 2 or target_ids.shape[0] != batch or target_ids.shape[1] == 0:
            raise ValueError(
                f"AttentionDecoder: target_ids must be [{batch}, steps], with at least one step, "
                f"got {list(target_ids.shape)}"
            )
        if state.hidden[0].shape[0] != batch:
            raise ValueError(
                f"AttentionDecoder: hx must have the memory's {batch} rows, "
                f"got {state.hidden[0].shape[0]}"
            )
        check_number("AttentionDecoder", "sampling_probability", sampling_probability, PROBABILITY)
        steps = target_ids.shape[1]
        on = None
        lengths = lengths_tensor("AttentionDecoder", lengths)
        if lengths is not None:
            check_lengths("AttentionDecoder", lengths, [batch], most=steps)
            on = running(lengths, steps, target_ids)
        draws = (self.training and self.dropout > 0) or sampling_probability > 0
        seed = draw_seed(target_ids) if draws else None
        dropped = seed if self.training and self.dropout > 0 else None
        if sampling_probability > 0:
            self._check_stepping(f"sampling_probability={sampling_probability}")
            assert seed is not None
            sampled = _events(sampling_probability, seed, steps, batch)
            return self._forward_sampled(target_ids, state, on, sampled, dropped)
        embedded = self._dropped(self.embedding(target_ids).transpose(0, 1), dropped, _EMBEDDED)
        if self.input_feeding or self.context_first:
            attentional, weights, state = self._forward_fed(embedded, state, on)
        else:
            attentional, weights, state = self._forward_at_once(embedded, state, on, lengths)
        logits = self.head(self._dropped(attentional, dropped, _ATTENTIONAL).transpose(0, 1))
        return logits, weights.transpose(0, 1), state

    def start(
        self,
        memory: Tensor | Memory | None,
        memory_lengths: Tensor | None = None,
        hx: Any = None,
    ) -> DecoderState:
        """The state before the first step. Arguments as for a call; `hx` may have any multiple of
        the memory's rows."""
        if self.attention is None:
            memory = self._without_memory(memory, memory_lengths, hx)
        elif memory is None:
            raise TypeError("AttentionDecoder: memory must be a tensor for an attention, got None")
        elif not isinstance(memory, Memory):
            memory = self.attention.prepare(memory, memory_lengths)
        elif memory_lengths is not None:
            raise ValueError(
                "AttentionDecoder: memory_lengths must be None: a prepared memory has its own"
            )
        if isinstance(hx, DecoderState):
            return hx._replace(memory=memory)
        rnn, values = self.rnn, memory.values
        layers = range(rnn.num_layers)
        states = rnn._flat_states(hx)
        if states is None:
            rows = values.shape[0]
            sizes = list(rnn._output_sizes)
            hidden = [values.new_zeros(rows, size) for size in sizes]
            cell = [values.new_zeros(rows, size) for size in rnn._hidden_sizes]
        else:
            rows = states[0].shape[1] if states[0].dim() == 3 else -1
            for k, shape in enumerate(rnn._state_shapes(rows)):
                if states[k].shape != shape:
                    raise ValueError(
                        f"AttentionDecoder: {rnn._state_label(k)} of hx must be "
                        f"{[shape[0], 'rows', shape[2]]}, got {list(states[k].shape)}"
                    )
            each = [rnn._layer_states(states, layer) for layer in layers]
            hidden = [state[0] for state, _ in each if state is not None]
            cell = [state[0] for _, state in each if state is not None]
        fed = (values.new_zeros(rows, self.attentional_size),) if self.input_feeding else ()
        return DecoderState(tuple(hidden), tuple(cell) if rnn._cell == "lstm" else (), fed, memory)

    def _without_memory(self, memory: Any, memory_lengths: Any, hx: Any) -> Memory:
        """Of no attention: nothing, for as many rows as there are states."""
        if memory_lengths is not None or not (memory is None or isinstance(memory, Memory)):
            raise ValueError(
                "AttentionDecoder: memory must be None without an attention; pass the encoder's "
                "last state as hx"
            )
        if isinstance(memory, Memory):
            return memory
        if isinstance(hx, DecoderState):
            return hx.memory
        states = self.rnn._flat_states(hx)
        if states is None:
            raise ValueError(
                "AttentionDecoder: hx must be given without an attention, got None; pass the "
                "encoder's last state"
            )
        return self._nothing(states[0].shape[1] if states[0].dim() == 3 else 1)

    def _nothing(self, rows: int) -> Memory:
        empty = self.embedding.weight.detach().new_zeros(rows, 0, 0)
        return Memory(empty, empty, None)

    def step(self, ids: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Logits [rows, vocabulary] of the tokens after `ids` [rows], and the next state."""
        check_integers("AttentionDecoder", "ids", ids)
        rows = state.hidden[0].shape[0]
        if list(ids.shape) != [rows]:
            raise ValueError(
                f"AttentionDecoder: ids must be [{rows}], as the state's rows, "
                f"got {list(ids.shape)}"
            )
        logits, _, state = self._attending_step(ids, state)
        return logits, state

    def _attending_step(
        self, ids: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """The same with the weights [rows, memory_steps] of the memory."""
        steps = _Steps(self, state.hidden[0])
        attentional, weights, state = self._advance(steps, steps.first(self.embedding(ids)), state)
        logits: Tensor = self.head(attentional)
        return logits, weights, state

    def beam(
        self,
        memory: Tensor | Memory | None,
        memory_lengths: Tensor | None = None,
        hx: Any = None,
        *,
        start: int | Tensor,
        search: Any = None,
        prefix: Any = None,
        prefix_lengths: Any = None,
        allowed: Any = None,
        max_length: Any = None,
        attention: bool = False,
        **options: Any,
    ) -> BeamResult:
        """Beam search for the tokens after `start`, a token or integers [batch], given the memory.

        `memory` and `memory_lengths` as for a call; `hx` as for `start`, a row for each sentence.
        Pass the options of `seqfast.BeamSearch` (`beam_size`, `eos`, `length_norm`, ...), or a
        `BeamSearch` as `search` (for instance from `BeamSearch.like`). `prefix`, `prefix_lengths`,
        `allowed` and `max_length` are passed to its call. With `attention=True` the result has the
        attention of each token, and a coverage penalty is possible. Returns a `BeamResult`.

        On the CPU, in float32 and float64, the whole search runs in one native operation
        (`seqfast.ops.decoder.decode`) if `fuses()` is True, no `allowed` and no attention is
        requested, no sampler has `top_k` or `top_p`, and no constraint or stop rule is called
        between steps. Otherwise it is `BeamSearch` around `step`, on a GPU captured in a CUDA
        graph, with the same hypotheses up to rounding. There are no gradients. If the module has
        dropout or zoneout, call `eval()` first.
        """
        if search is None:
            if isinstance(max_length, (int, np.integer)):
                options["max_length"], max_length = max_length, None
            elif max_length is not None:
                options["max_length"] = MOST_STEPS  # of what rows say themselves
            search = BeamSearch(**options)
        elif options:
            raise ValueError(
                "AttentionDecoder: beam takes either a search or options, got search and "
                f"{', '.join(options)}"
            )
        with torch.no_grad():
            state = self.start(memory, memory_lengths, hx)
            rows, device = state.hidden[0].shape[0], state.memory.values.device
            if rows != state.memory.values.shape[0]:
                raise ValueError(
                    f"AttentionDecoder: hx must have the memory's {state.memory.values.shape[0]} "
                    f"rows, got {rows}"
                )
            if not isinstance(start, Tensor):
                if not isinstance(start, (int, np.integer)):
                    raise TypeError(
                        "AttentionDecoder: start must be an int or a tensor, "
                        f"got {type(start).__name__}"
                    )
                start = torch.full((rows,), int(start), dtype=torch.int64, device=device)
            first: Any = state._replace(memory=shared(state.memory))  # type: ignore[arg-type]
            step: Any = self.step
            more: dict[str, Any] = {}
            if attention:

                def attending(ids: Tensor, at: Any) -> tuple[Tensor, Any]:
                    logits, weights, after = self._attending_step(ids, at["decoder"])
                    return logits, {"decoder": after, "weights": weights}

                step = attending
                weights = state.memory.values.new_zeros(state.memory.values.shape[:2])
                first = {"decoder": first, "weights": weights}
                more["attention"] = itemgetter("weights")
            native = None
            if self._is_no_subclass() and not attention:
                native = native_decoder(self, state)
            result: BeamResult = search(
                DecoderStep(step, native),
                start,
                first,
                **more,
                prefix=prefix,
                prefix_lengths=prefix_lengths,
                allowed=allowed,
                max_length=max_length,
            )
        return result

    def fuses(self) -> bool:
        """Whether the module itself allows `beam` to run as one native operation."""
        return self._is_no_subclass() and native_weights(self) is not None

    def _is_no_subclass(self) -> bool:
        """Whether no subclass may have changed what a step does."""
        return type(self) is AttentionDecoder

    def _forward_at_once(
        self, embedded: Tensor, state: DecoderState, on: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """Attentional vectors and weights [steps, batch, ...]: every step in one go."""
        rnn = self.rnn
        flat = [*state.hidden, *state.cell]
        if isinstance(rnn.hidden_size, tuple):
            states = [tensor.unsqueeze(0) for tensor in flat]
        else:
            groups = (state.hidden, state.cell) if state.cell else (state.hidden,)
            states = [torch.stack(group) for group in groups]
        output, last, _ = rnn._run(embedded, states, lengths, None, None, False)
        if self.attention is None:
            attentional, weights = output, output.new_zeros(*output.shape[:2], 0)
        else:
            context, weights = self.attention(output.transpose(0, 1), state.memory)
            attentional = self._combined(output, context.transpose(0, 1))
            weights = weights.transpose(0, 1)
        if on is not None:
            attentional, weights = _zero_unless(on, attentional), _zero_unless(on, weights)
        each = [rnn._layer_states(last, layer) for layer in range(rnn.num_layers)]
        hidden = tuple(h[0] for h, _ in each if h is not None)
        cell = tuple(c[0] for _, c in each if c is not None)
        return attentional, weights, state._replace(hidden=hidden, cell=cell)

    def _forward_fed(
        self, embedded: Tensor, state: DecoderState, on: Tensor | None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """The same with input feeding: step by step."""
        steps = _Steps(self, embedded)
        firsts = steps.first(embedded)
        found = []
        for t, first in enumerate(firsts.unbind(0)):
            attentional, weights, state = self._advance(
                steps, first, state, None if on is None else on[t]
            )
            found.append((attentional, weights))
        attentionals, every_weights = zip(*found, strict=True)
        return torch.stack(attentionals), torch.stack(every_weights), state

    def _forward_sampled(
        self,
        target_ids: Tensor,
        state: DecoderState,
        on: Tensor | None,
        sampled: Tensor,
        seed: Tensor | None,
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """Logits and weights [batch, steps, ...] where tokens may be the decoder's own."""
        steps = _Steps(self, state.hidden[0])
        masks = []
        for width, what in (
            (self.embedding.embedding_dim, _EMBEDDED),
            (self.attentional_size, _ATTENTIONAL),
        ):
            ones = state.memory.values.new_ones(()).expand(*sampled.shape, width)
            masks.append(None if seed is None else self._dropped(ones, seed, what))
        embedded_mask, attentional_mask = masks
        logits: list[Tensor] = []
        every_weights = []
        for t, ids in enumerate(target_ids.unbind(1)):
            if t:
                ids = torch.where(sampled[t], logits[-1].detach().argmax(-1).to(ids.dtype), ids)
            embedded = self.embedding(ids)
            if embedded_mask is not None:
                embedded = embedded * embedded_mask[t]
            attentional, weights, state = self._advance(
                steps, steps.first(embedded), state, None if on is None else on[t]
            )
            if attentional_mask is not None:
                attentional = attentional * attentional_mask[t]
            logits.append(self.head(attentional))
            every_weights.append(weights)
        return torch.stack(logits, 1), torch.stack(every_weights, 1), state

    def _advance(
        self, steps: _Steps, first: Tensor, state: DecoderState, on: Tensor | None = None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """One step of all rows: attentional vector, weights, state. Where `on` is False the first
        two are zero, and the state stays."""
        context = weights = None
        if self.context_first:
            assert self.attention is not None
            context, weights = self.attention(state.hidden[-1], state.memory)
        output, hidden, cell = steps.run(first, state, context)
        if self.attention is None:
            attentional, weights = output, output.new_zeros(len(output), 0)
        else:
            if context is None:
                context, weights = self.attention(output, state.memory)
            attentional = self._combined(output, context)
        assert weights is not None
        fed: tuple[Tensor, ...] = (attentional,) if self.input_feeding else ()
        if on is not None:
            kept = on[:, None]

            def advanced(new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                return tuple(torch.where(kept, *pair) for pair in zip(new, old, strict=True))

            hidden, cell = advanced(hidden, state.hidden), advanced(cell, state.cell)
            fed = advanced(fed, state.fed)
            attentional, weights = _zero_unless(on, attentional), _zero_unless(on, weights)
        return attentional, weights, DecoderState(hidden, cell, fed, state.memory)

    def _combined(self, output: Tensor, context: Tensor) -> Tensor:
        assert self.combine is not None
        return torch.tanh(self.combine(torch.cat([output, context.to(output.dtype)], -1)))

    def _dropped(self, x: Tensor, seed: Tensor | None, what: int) -> Tensor:
        """`x` [steps, rows, units] after dropout."""
        if seed is None:
            return x
        return dropout(x, self.dropout, seed, OTHER, what, per_step=True)

    def _check_stepping(self, why: str) -> None:
        """Masks of a whole sequence are drawn by a call, and here a call is a step."""
        rnn = self.rnn
        per_sequence = [name for name in ("input_dropout", "weight_dropout") if getattr(rnn, name)]
        if rnn.recurrent_dropout and rnn.recurrent_dropout_on in ("hidden", "cell"):
            per_sequence.append(f"recurrent_dropout on {rnn.recurrent_dropout_on!r}")
        if per_sequence:
            raise ValueError(
                f"AttentionDecoder: with {why} the rnn runs step by step and must draw its masks "
                f"for each step, got an rnn with {' and '.join(per_sequence)}; call eval(), or "
                "leave that out"
            )


class _Steps:
    """The decoder's rnn step by step: its weights, read once for all steps."""

    def __init__(self, decoder: AttentionDecoder, like: Tensor) -> None:
        rnn = self.rnn = decoder.rnn
        weights = [rnn._layer_weights(layer) for layer in range(rnn.num_layers)]
        self.dtype = autocast_dtype(like)
        if self.dtype is not None:
            weights = [[row.cast(self._cast) for row in rows] for rows in weights]
        self.weights = weights
        # A norm of the first product needs it whole, and so do layers that see all below.
        self.splits = not (rnn.layer_norm or rnn.dense)
        (first,) = weights[0]
        weight_ih = first.recurrence.weight_ih
        width = decoder.embedding.embedding_dim
        self.embedded_part, self.fed_part = weight_ih[:, :width], weight_ih[:, width:]

    def _cast(self, tensor: Any) -> Any:
        if tensor is None or self.dtype is None:
            return tensor
        return autocast(tensor, self.dtype)

    def first(self, embedded: Tensor) -> Tensor:
        """What the first layer needs of embedded tokens: all steps' at once, if they are there."""
        if not self.splits:
            return embedded
        return torch.nn.functional.linear(embedded, self.embedded_part)

    def run(
        self, first: Tensor, state: DecoderState, context: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Output [rows, output_size], hidden and cell states after a step. `context` enters behind
        the embedding, in the place of what is fed."""
        fed = state.fed[0] if state.fed else context
        if fed is not None:
            if self.splits:
                first = torch.addmm(first, self._cast(fed).to(first.dtype), self.fed_part.t())
            else:
                first = torch.cat([first, fed.to(first.dtype)], -1)
        hidden = [self._cast(h).unsqueeze(0) for h in state.hidden]
        cell: list[Tensor | None] = [self._cast(c).unsqueeze(0) for c in state.cell]
        pairs = list(zip(hidden, cell or [None] * len(hidden), strict=True))
        output, hidden_n, cell_n, _ = self.rnn._run_stack(
            self._cast(first).unsqueeze(0), pairs, self.weights, given_product=self.splits
        )
        return (
            output.squeeze(0),
            tuple(h.squeeze(0) for h in hidden_n),
            tuple(c.squeeze(0) for c in cell_n),
        )


def _zero_unless(on: Tensor, x: Tensor) -> Tensor:
    return torch.where(on[..., None], x, 0)


def _events(probability: float, seed: Tensor, steps: int, rows: int) -> Tensor:
    """bool [steps, rows]"""
    stream = torch_random.stream_of(OTHER, _SAMPLED, 0)
    return torch_random.events(probability, seed, stream, steps, rows, 1).squeeze(-1)


def _check_size(name: str, got: int, wanted: int, what: str) -> None:
    if got != wanted:
        raise ValueError(f"AttentionDecoder: {name} must be {what}, {wanted}, got {got}")

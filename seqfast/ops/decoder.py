"""A beam search over a recurrent decoder with attention: checks, allocation and the call into the
native kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seqfast import _C
from seqfast.ops.base.arguments import Address
from seqfast.ops.base.arrays import (
    FLOAT32,
    FLOAT64,
    Array,
    ArrayLibrary,
    Shape,
    Workspace,
    dtype_name,
    library_of,
    thread_count,
)
from seqfast.ops.base.backend import backend_of
from seqfast.ops.base.checks import check_array, check_contiguous
from seqfast.ops.beam_search.beams import Beams, raise_status
from seqfast.ops.rnn.cells import cell_of
from seqfast.ops.rnn.options import PLAIN

__all__ = ["Decoder", "DecoderState", "Memory", "decode"]

MOST_LAYERS = 16


class DecoderLayer(NamedTuple):
    """A layer as the kernels are told of it: csrc/core/decoder.h."""

    hidden_size: int
    weight_ih: Address
    weight_hh: Address
    bias_ih: Address
    bias_hh: Address
    hidden: Address
    cell: Address


class DecoderArgs(NamedTuple):
    """A decoder as the kernels are told of it, but for the workspace."""

    dtype: int
    cell: int
    activation: int
    input_feeding: bool
    context_first: bool
    batch: int
    beams: int
    layers: int
    words: int
    embedding_size: int
    memory_steps: int
    memory_size: int
    key_size: int
    attentional_size: int
    vocabulary: int
    threads: int
    layer: tuple[DecoderLayer, ...]
    embedding: Address
    keys: Address
    values: Address
    mask: Address
    weight_query: Address
    bias_query: Address
    weight_score: Address
    weight_combine: Address
    weight_head: Address
    bias_head: Address
    fed: Address


# A call of the kernel ends with the first step after so long: then Python may see to Ctrl-C.
_SECONDS_PER_CALL = 0.05


class Decoder(NamedTuple):
    """The weights of a decoder, all of one dtype; equations in docs/equations.md.

    `output_size` is the hidden size of the last layer. The comment beside each field has its shape.

    Example:
        >>> from seqfast.ops.decoder import Decoder
        >>> Decoder._fields[:3]
        ('cell', 'nonlinearity', 'input_feeding')
    """

    cell: str  # lstm, gru or rnn
    nonlinearity: str  # of rnn: tanh or relu
    input_feeding: bool
    embedding: Array  # [words, embedding_size]
    layers: tuple[tuple[Array | None, ...], ...]  # weight_ih, weight_hh, bias_ih, bias_hh of each
    query: tuple[Array, Array | None, Array] | None
    """Of additive attention: weight_query [key_size, output_size], bias [key_size] or None,
    weight_score [key_size]; None: scores are the products of output and keys."""
    combine: Array | None
    """[attentional_size, output_size + memory_size]; None: no attention, and the head takes the
    top layer's output."""
    head: Array  # [vocabulary, attentional_size]
    head_bias: Array | None  # [vocabulary]
    context_first: bool = False
    """Bahdanau et al. 2015: the state before a step attends, and the context enters the first layer
    behind the embedding; without input feeding."""


class Memory(NamedTuple):
    """What is attended to. The comment beside each field has its shape.

    Example:
        >>> from seqfast.ops.decoder import Memory
        >>> Memory._fields
        ('keys', 'values', 'mask')
    """

    keys: Array  # [batch, memory_steps, key_size]
    values: Array  # [batch, memory_steps, memory_size], zero where the mask is False
    mask: Array | None  # bool [batch, memory_steps], True where a row counts


class DecoderState(NamedTuple):
    """The state of a decoder, row by row. The comment beside each field has its shape.

    Example:
        >>> from seqfast.ops.decoder import DecoderState
        >>> DecoderState._fields
        ('hidden', 'cell', 'fed')
    """

    hidden: tuple[Array, ...]  # of each layer [rows, hidden_size]
    cell: tuple[Array, ...]  # of each layer [rows, hidden_size]; () but for lstm
    fed: tuple[Array, ...]  # ([rows, attentional_size],) or (), without input feeding


def decode(
    decoder: Decoder, memory: Memory, state: DecoderState, start_ids: Array, beams: Beams
) -> None:
    """Runs a beam search over a recurrent decoder with attention (Luong et al. 2015) to its end.

    Same results as `seqfast.reference.decoder.decode`. NumPy arrays, or torch tensors on the CPU,
    all of one library; float32 or float64. Steps of the decoder and of the search follow each other
    in native code, on as many threads as torch has, until every sentence is done. Weights are
    packed once. All hypotheses of a sentence share its memory. Values that hypotheses share (the
    parent's state, a word's embedding) are multiplied once. The call regularly returns to Python to
    check for Ctrl-C; after it, `beams` has the state of the interrupted search.

    Args:
        decoder: the weights.
        memory: what each sentence attends to.
        state: [batch, ...], where the decoder begins.
        start_ids: [batch] integers from 0 to words - 1, what each sentence begins with.
        beams: a search that has not begun (`seqfast.ops.beam_search`); changed. Its vocabulary is
            the head's, and the embedding has at least as many words.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, place or id, more than 16 layers, or logits with NaN or +inf.

    Example:
        >>> import torch, seqfast
        >>> decoder = seqfast.nn.AttentionDecoder(  # whose `beam` calls this operation
        ...     torch.nn.Embedding(9, 4), seqfast.nn.GRU(8, 4), seqfast.nn.Attention("dot", 4, 4),
        ...     torch.nn.Linear(4, 9)).eval()
        >>> decoder.beam(torch.zeros(2, 3, 4), start=1, eos=2, max_length=5).tokens.shape[0]
        2
    """
    call = _Call(decoder, memory, state, start_ids, beams)
    call.run()


class _Call:
    """One search: everything checked, and what keeps it alive."""

    def __init__(
        self,
        decoder: Decoder,
        memory: Memory,
        state: DecoderState,
        start_ids: Array,
        beams: Beams,
    ) -> None:
        self.beams = beams
        self._kept: list[Array] = []  # copies whose addresses are in use
        xp: ArrayLibrary = library_of(decoder.embedding, "decode", "embedding")
        self.xp = xp
        self.like = decoder.embedding
        dtype = xp.dtype_code(self.like)
        if dtype not in (FLOAT32, FLOAT64):
            raise TypeError(
                f"decode: embedding must be float32 or float64, got {decoder.embedding.dtype}"
            )
        if xp.place(self.like) != "cpu" or backend_of("cpu") != "cpu":
            raise ValueError(f"decode: embedding must be on the CPU, got {xp.place(self.like)}")
        check_array(
            xp, "decode", "scores of beams", beams.scores, self.like, tuple(beams.scores.shape),
            self.like.dtype,
        )  # fmt: skip
        words, embedding_size = self._matrix("embedding", decoder.embedding)
        vocabulary, attentional_size = self._matrix("head", decoder.head)
        if vocabulary != beams.options.vocabulary or words < vocabulary:
            raise ValueError(
                f"decode: head must have {beams.options.vocabulary} rows, as the search's "
                f"vocabulary, and embedding at least as many, got {vocabulary} and {words}"
            )
        batch, width = beams.scores.shape
        if not 1 <= len(decoder.layers) <= MOST_LAYERS:
            raise ValueError(
                f"decode: layers must be 1 to {MOST_LAYERS}, got {len(decoder.layers)}"
            )
        options = PLAIN
        if decoder.cell == "rnn":
            options = PLAIN._replace(nonlinearity=decoder.nonlinearity)
        cell = cell_of(decoder.cell, options, False)
        layers: list[DecoderLayer] = []
        steps, memory_size = self._memory_shape(memory, batch)
        if decoder.context_first and (decoder.input_feeding or decoder.combine is None):
            raise ValueError("decode: context_first needs combine, and input_feeding must be False")
        if decoder.input_feeding and decoder.combine is None:
            raise ValueError("decode: combine must be given with input_feeding, got None")
        size = embedding_size + (attentional_size if decoder.input_feeding else 0)
        size += memory_size if decoder.context_first else 0
        has_cell = decoder.cell == "lstm"
        self._count("hidden", state.hidden, len(decoder.layers))
        self._count("cell", state.cell, len(decoder.layers) if has_cell else 0)
        self._count("fed", state.fed, int(decoder.input_feeding))
        for k, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(decoder.layers):
            _, hidden_size = self._matrix(f"weight_hh of layer {k}", weight_hh)
            rows = cell.gates * hidden_size
            states = (batch, hidden_size)
            layer = DecoderLayer(
                hidden_size=hidden_size,
                weight_ih=self._address(f"weight_ih of layer {k}", weight_ih, (rows, size)),
                weight_hh=self._address(f"weight_hh of layer {k}", weight_hh, (rows, hidden_size)),
                bias_ih=self._optional(f"bias_ih of layer {k}", bias_ih, (rows,)),
                bias_hh=self._optional(f"bias_hh of layer {k}", bias_hh, (rows,)),
                hidden=self._address(f"hidden of layer {k}", state.hidden[k], states),
                cell=self._address(f"cell of layer {k}", state.cell[k], states) if has_cell else 0,
            )
            layers.append(layer)
            size = hidden_size
        key_size = size
        if decoder.combine is None and size != attentional_size:
            raise ValueError(
                f"decode: head must be [vocabulary, {size}], the last layer's size, without "
                f"combine, got {list(decoder.head.shape)}"
            )
        weight_query = bias_query = weight_score = fed = 0
        if decoder.query is not None:
            weight, bias, score = decoder.query
            key_size, _ = self._matrix("weight_query", weight)
            weight_query = self._address("weight_query", weight, (key_size, size))
            bias_query = self._optional("bias of query", bias, (key_size,))
            weight_score = self._address("weight_score", score, (key_size,))
        if decoder.input_feeding:
            (before,) = state.fed
            fed = self._address("fed", before, (batch, attentional_size))
        combine_shape = (attentional_size, size + memory_size)
        if decoder.combine is None:
            steps = 0
        self.args = DecoderArgs(
            dtype=dtype,
            cell=cell.native.cell,
            activation=cell.native.activation,
            input_feeding=decoder.input_feeding,
            context_first=decoder.context_first,
            batch=batch,
            beams=width,
            layers=len(layers),
            words=words,
            embedding_size=embedding_size,
            memory_steps=steps,
            memory_size=memory_size,
            key_size=key_size,
            attentional_size=attentional_size,
            vocabulary=vocabulary,
            threads=thread_count(),
            layer=tuple(layers),
            embedding=self._address("embedding", decoder.embedding, (words, embedding_size)),
            keys=self._address("keys", memory.keys, (batch, steps, key_size)) if steps else 0,
            values=self._address("values", memory.values, (batch, steps, memory_size))
            if steps
            else 0,
            mask=self._mask(memory.mask, (batch, steps)) if steps else 0,
            weight_query=weight_query,
            bias_query=bias_query,
            weight_score=weight_score,
            weight_combine=self._optional("combine", decoder.combine, combine_shape),
            weight_head=self._address("head", decoder.head, (vocabulary, attentional_size)),
            bias_head=self._optional("head_bias", decoder.head_bias, (vocabulary,)),
            fed=fed,
        )
        self._take_ids(start_ids, batch, words)

    def run(self) -> None:
        """To the end of the search, as many steps at a time as Ctrl-C can wait for."""
        beams, args = self.beams, self.args
        room = _C.decoder_workspace_size(args)
        capacity = beams.tokens.shape[0]
        with Workspace(room) as address:
            _C.decoder_start(args, address, room)
            while int(beams.living[0]) > 0 and int(beams.step[0]) < capacity:
                status = _C.decoder_run(args, address, room, beams.call.native, _SECONDS_PER_CALL)
                raise_status(status, "decode")

    def _matrix(self, name: str, array: Array) -> Shape:
        """Its shape; what has two dimensions is all that is sure of the first arrays."""
        if not self.xp.owns(array):
            raise TypeError(f"decode: {name} must be {self.xp.name}, got {type(array).__name__}")
        if len(array.shape) != 2 or 0 in array.shape:
            raise ValueError(
                f"decode: {name} must be a matrix with elements, got {list(array.shape)}"
            )
        return tuple(array.shape)

    def _address(self, name: str, array: Array, shape: Shape) -> int:
        ready = check_contiguous(self.xp, "decode", name, array, self.like, shape, self.like.dtype)
        self._kept.append(ready)
        return self.xp.address(ready)

    def _optional(self, name: str, array: Array | None, shape: Shape) -> int:
        return 0 if array is None else self._address(name, array, shape)

    def _mask(self, mask: Array | None, shape: Shape) -> int:
        if mask is None:
            return 0
        if not self.xp.owns(mask) or dtype_name(mask) != "bool":
            got = getattr(mask, "dtype", type(mask).__name__)
            raise TypeError(f"decode: mask must be {self.xp.name} of bool, got {got}")
        ready = check_contiguous(self.xp, "decode", "mask", mask, self.like, shape, mask.dtype)
        self._kept.append(ready)
        return self.xp.address(ready)

    def _memory_shape(self, memory: Memory, batch: int) -> tuple[int, int]:
        values = memory.values
        if not self.xp.owns(values):
            raise TypeError(f"decode: values must be {self.xp.name}, got {type(values).__name__}")
        if len(values.shape) != 3 or values.shape[0] != batch:
            raise ValueError(
                f"decode: values must be [{batch}, memory_steps, memory_size], "
                f"got {list(values.shape)}"
            )
        return int(values.shape[1]), int(values.shape[2])

    def _count(self, name: str, arrays: Sequence[Array], wanted: int) -> None:
        if len(arrays) != wanted:
            raise ValueError(f"decode: {name} must hold {wanted} arrays, got {len(arrays)}")

    def _take_ids(self, start_ids: Array, batch: int, words: int) -> None:
        """The first tokens to feed, as the search keeps those to come."""
        xp = self.xp
        if not xp.owns(start_ids) or not xp.is_integer(start_ids):
            got = getattr(start_ids, "dtype", type(start_ids).__name__)
            raise TypeError(f"decode: start_ids must be {xp.name} of integers, got {got}")
        if tuple(start_ids.shape) != (batch,):
            raise ValueError(f"decode: start_ids must be [{batch}], got {list(start_ids.shape)}")
        least, most = (int(start_ids.min()), int(start_ids.max())) if batch else (0, 0)
        if least < 0 or most >= words:
            raise ValueError(
                f"decode: start_ids must be from 0 to {words - 1}, "
                f"got {least if least < 0 else most}"
            )
        if int(self.beams.step[0]):
            raise ValueError(
                f"decode: beams must not have begun, got {int(self.beams.step[0])} steps done"
            )
        self.beams.next_tokens[:] = start_ids[:, None]
        # Where sentences have left before the first step, rows are counted anew.
        rows = np.asarray(self.beams.next_rows)
        rows[:] = np.arange(rows.size).reshape(rows.shape)

"""Attention of queries on a memory: additive, dot and general."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn import functional as F

from seqfast.nn._checks import check_dtypes, check_lengths, check_mask, check_tensor, lengths_tensor
from seqfast.nn._padding import running
from seqfast.ops.base.checks import check_choice, check_whole

KINDS = ("additive", "dot", "general")


class Memory(NamedTuple):
    """A memory as `Attention.prepare` leaves it, for any number of calls."""

    keys: Tensor  # [batch, memory_steps, attention_size; dot: memory_size; general: query_size]
    values: Tensor  # [batch, memory_steps, memory_size], zero where the mask is False
    mask: Tensor | None  # bool [batch, memory_steps], True where there is something; None: all


class DecoderState(NamedTuple):
    """Where an `AttentionDecoder` stands, `rows` sequences at once; a pytree.

    All but the memory lead with rows, which is the memory's batch or a multiple of it: row r looks
    at memory r // (rows / batch).
    """

    hidden: tuple[Tensor, ...]  # of each layer [rows, output_size]
    cell: tuple[Tensor, ...]  # of each layer [rows, hidden_size]; () where the cell has none
    fed: tuple[Tensor, ...]  # ([rows, attentional_size],), or () without input feeding
    memory: Memory


class Attention(Module):
    """Attention: a softmax over the scores of a memory's rows, and their weighted mean.

    For a query q and the memory's rows m_s:

        score_s = v . tanh(W_q q + W_m m_s + b)      "additive" (Bahdanau et al. 2015)
        score_s = q . m_s                            "dot"      (Luong et al. 2015)
        score_s = q . W_m m_s                        "general"  (Luong et al. 2015)
        weights = softmax(scores),   context = sum_s weights_s m_s

    Parameters: `weight_memory` [attention_size, memory_size] and, for "additive", `weight_query`
    [attention_size, query_size], `bias` [attention_size] and `weight_score` [attention_size]. For
    "general" `weight_memory` is [query_size, memory_size]; "dot" has none. Weights start from
    U(-k, k), k = 1 / sqrt(columns), the bias at 0.

    `attention(query, memory, memory_lengths=None, mask=None)` returns `context, weights`:

    - `query` [rows, query_size] or [rows, steps, query_size], in a floating dtype.
    - `memory` [batch, memory_steps, memory_size], or the result of `prepare`, which is not
      projected again. `rows` is batch or a multiple of it: row r attends to memory r // (rows /
      batch), which is not copied.
    - `memory_lengths`: integers [batch], how many rows of each memory are valid, from 0 to
      memory_steps. On a GPU they are not checked, but clamped to this range.
    - `mask`: bool [batch, memory_steps], True for valid rows. With both arguments a row is valid if
      both say so. Other values, also NaN, have no influence and get no gradient.
    - `context` [rows, (steps,) memory_size], `weights` [rows, (steps,) memory_steps]. Both are zero
      if no row is valid.

    float32, float64, bfloat16 and float16; the softmax of the 16-bit types is in float32. Under
    autocast products and results are in autocast's dtype. A call raises ValueError for a wrong
    rank, size or length, TypeError for a wrong type or dtype, and RuntimeError for tensors on
    different devices.

    Args:
        kind: "additive", "dot" or "general".
        query_size: features of a query.
        memory_size: features of a memory's row; for "dot" the same as query_size.
        attention_size: only for "additive"; default query_size.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size that is not an integer.
        ValueError: a wrong kind or size.

    Example:
        >>> import torch, seqfast
        >>> attention = seqfast.nn.Attention("general", 16, 32)
        >>> context, weights = attention(torch.zeros(2, 16), torch.zeros(2, 7, 32))
        >>> context.shape, weights.shape
        (torch.Size([2, 32]), torch.Size([2, 7]))
    """

    weight_query: Parameter | None
    weight_memory: Parameter | None
    bias: Parameter | None
    weight_score: Parameter | None

    def __init__(
        self,
        kind: str,
        query_size: int,
        memory_size: int,
        attention_size: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_choice("Attention", "kind", kind, KINDS)
        query_size = check_whole("Attention", "query_size", query_size, 1)
        memory_size = check_whole("Attention", "memory_size", memory_size, 1)
        if attention_size is not None:
            attention_size = check_whole("Attention", "attention_size", attention_size, 1)
        if kind == "dot" and query_size != memory_size:
            raise ValueError(
                "Attention: query_size must equal memory_size for 'dot', "
                f"got {query_size} and {memory_size}"
            )
        if kind != "additive" and attention_size is not None:
            raise ValueError(
                f"Attention: attention_size must be None for {kind!r}, got {attention_size}"
            )
        self.kind = kind
        self.query_size = query_size
        self.memory_size = memory_size
        self.attention_size = (attention_size or query_size) if kind == "additive" else None
        shapes: dict[str, tuple[int, ...]] = {}
        if kind == "general":
            shapes = {"weight_memory": (query_size, memory_size)}
        elif self.attention_size is not None:
            size = self.attention_size
            shapes = {
                "weight_query": (size, query_size),
                "weight_memory": (size, memory_size),
                "bias": (size,),
                "weight_score": (size,),
            }
        for name in ("weight_query", "weight_memory", "bias", "weight_score"):
            parameter = None
            if name in shapes:
                parameter = Parameter(torch.empty(shapes[name], device=device, dtype=dtype))
            self.register_parameter(name, parameter)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if name == "bias":
                torch.nn.init.zeros_(parameter)
            else:
                bound = 1 / math.sqrt(parameter.shape[-1])
                torch.nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        parts = f"{self.kind!r}, {self.query_size}, {self.memory_size}"
        return parts if self.attention_size is None else f"{parts}, {self.attention_size}"

    def prepare(
        self, memory: Tensor, memory_lengths: Tensor | None = None, mask: Tensor | None = None
    ) -> Memory:
        """The memory's projection, to reuse in several calls; arguments as for a call."""
        check_tensor("Attention", "memory", memory)
        if memory.dim() != 3 or memory.shape[2] != self.memory_size:
            raise ValueError(
                f"Attention: memory must be [batch, memory_steps, {self.memory_size}], "
                f"got {list(memory.shape)}"
            )
        check_dtypes("Attention", "memory", memory, "weight_memory", self.weight_memory)
        present = _present(memory, memory_lengths, mask)
        if present is not None:
            # 0 * NaN is NaN.
            memory = torch.where(present[:, :, None], memory, 0)
        keys = memory if self.weight_memory is None else F.linear(memory, self.weight_memory)
        return Memory(keys, memory, present)

    def forward(
        self,
        query: Tensor,
        memory: Tensor | Memory,
        memory_lengths: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attends to a memory.

        Args:
            query: [rows, query_size] or [rows, steps, query_size].
            memory: [batch, memory_steps, memory_size], or what `prepare` made of it.
            memory_lengths: integers [batch], the valid rows of each memory; None: all.
            mask: bool [batch, memory_steps], True for valid rows; None: all.

        Returns:
            `context` [rows, (steps,) memory_size] and `weights` [rows, (steps,) memory_steps].

        Raises:
            TypeError: a wrong type or dtype.
            ValueError: a wrong rank, size or length.
            RuntimeError: tensors on different devices.
        """
        if not isinstance(memory, Memory):
            memory = self.prepare(memory, memory_lengths, mask)
        elif memory_lengths is not None or mask is not None:
            given = "memory_lengths" if memory_lengths is not None else "mask"
            raise ValueError(f"Attention: {given} must be None: a prepared memory has its own")
        self._check_query(query, memory)
        keys, values, present = memory
        batch, memory_steps = keys.shape[:2]
        shape = query.shape[:-1]
        # The rows of one memory side by side: one product for all of them.
        queries = math.prod(shape) // batch if batch else 0
        scores = self._score(query.reshape(batch, queries, self.query_size), keys)
        weights = _softmax(scores, None if present is None else ~present[:, None])
        context = torch.bmm(weights, values.to(weights.dtype))
        return (
            context.reshape(*shape, self.memory_size),
            weights.reshape(*shape, memory_steps),
        )

    def _score(self, query: Tensor, keys: Tensor) -> Tensor:
        """[batch, queries, memory_steps]"""
        if self.weight_query is None:
            return torch.bmm(query, keys.transpose(1, 2))
        assert self.weight_score is not None
        seen = F.linear(query, self.weight_query, self.bias)
        return torch.tanh(seen[:, :, None] + keys[:, None]) @ self.weight_score

    def _check_query(self, query: object, memory: Memory) -> None:
        check_tensor("Attention", "query", query)
        assert isinstance(query, Tensor)
        batch = memory.values.shape[0]
        if query.dim() not in (2, 3) or query.shape[-1] != self.query_size:
            raise ValueError(
                f"Attention: query must be [rows, {self.query_size}] or [rows, steps, "
                f"{self.query_size}], got {list(query.shape)}"
            )
        rows = query.shape[0]
        if rows != batch and (batch == 0 or rows % batch):
            raise ValueError(
                f"Attention: query must have as many rows as memory, {batch}, or a multiple of it, "
                f"got {rows}"
            )
        if query.device != memory.values.device:
            raise RuntimeError(
                f"Attention: query and memory must be on one device, got {query.device} and "
                f"{memory.values.device}"
            )
        check_dtypes("Attention", "query", query, "memory", memory.values)


def _softmax(scores: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Of the last dimension, zero where `hidden`; where all is hidden, zero and not NaN."""
    dtype = scores.dtype
    if dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    if hidden is None:
        return scores.softmax(-1).to(dtype)
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(hidden, lowest).softmax(-1)
    return weights.masked_fill(hidden, 0).to(dtype)


def _present(memory: Tensor, memory_lengths: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Which rows of the memory count, bool [batch, memory_steps]; None: all."""
    if mask is not None:
        check_mask("Attention", "mask", mask, memory, "memory")
    if memory_lengths is None:
        return mask
    batch, steps = memory.shape[:2]
    lengths: Any = lengths_tensor("Attention", memory_lengths, "memory_lengths")
    check_lengths("Attention", lengths, [batch], name="memory_lengths", most=steps)
    present = running(lengths, steps, memory).t()
    return present if mask is None else present & mask

"""Dropout by counter as a torch operator, and the same random numbers in plain torch code."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from seqfast.ops.base.torch_dispatch import can_skip_dispatcher, is_batched, needs_plain_torch
from seqfast.ops.base.torch_schema import schema_of
from seqfast.ops.dropout import functions

# What a number is drawn for: Draw in csrc/core/random.h.
HIDDEN_DROPOUT, UPDATE_DROPOUT, ZONEOUT_HIDDEN, ZONEOUT_CELL = range(4)
INPUT_DROPOUT, OUTPUT_DROPOUT, WEIGHT_DROPOUT, OTHER = range(4, 8)

_FACTORS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF

_library = torch.library.Library("seqfast", "FRAGMENT")


class DropoutCall(NamedTuple):
    """The operator."""

    input: Tensor
    probability: float
    seed: Tensor
    stream: int
    per_step: bool


class DropoutResult(NamedTuple):
    """What it returns."""

    output: Tensor


_library.define(
    schema_of("dropout", DropoutCall, DropoutResult), tags=(torch.Tag.pt2_compliant_tag,)
)


def stream_of(draw: int, layer: int, direction: int) -> int:
    """The part of a counter that says what is drawn, and for which layer and direction."""
    return (layer * 2 + direction) * 8 + draw


def dropout(
    input: Tensor, probability: float, seed: Tensor, *, stream: int, per_step: bool = True
) -> Tensor:
    """`seqfast.ops.dropout.dropout`, which says shapes, dtypes and errors, with gradients."""
    if needs_plain_torch():
        return _plain(input, probability, seed, stream, per_step)
    if can_skip_dispatcher(input, seed) and not (torch.is_grad_enabled() and input.requires_grad):
        return _kernel(input, probability, seed, stream, per_step)
    result: Tensor = torch.ops.seqfast.dropout(input, probability, seed, stream, per_step)
    return result


def events(
    probability: float, seed: Tensor, stream: int, steps: int | None, rows: int, units: int
) -> Tensor:
    """Independent events, each of `probability` (to 24 bits): bool [steps, rows, units], on the
    device of `seed`. Without `steps` what step 0 draws, [1, rows, units].

    `seqfast.reference.dropout.events` in plain torch code, for where no kernel can be.
    """

    def count(number: int) -> Tensor:
        return torch.arange(number, device=seed.device)

    seed = seed.reshape(())
    unit = count(units)
    words = _philox(
        [
            torch.div(unit, 64, rounding_mode="floor") * 16 + unit % 16,
            count(rows)[:, None],
            count(1 if steps is None else steps)[:, None, None],
            torch.full((), stream, dtype=torch.int64, device=seed.device),
        ],
        seed & _LOW,
        (seed >> 32) & _LOW,
    )
    which = torch.div(unit, 16, rounding_mode="floor") % 4
    word = words[3]
    for k in range(3):
        word = torch.where(which == k, words[k], word)
    return (word >> 8) < int(probability * 2**24)


def kept_scale(probability: float) -> float:
    """What dropout multiplies by what it keeps: 1 / (1 - p); at p = 1 it keeps nothing."""
    return 1 / (1 - probability) if probability < 1 else 0.0


def _philox(counter: list[Tensor], low: Tensor, high: Tensor) -> list[Tensor]:
    """Philox4x32-10 (Salmon et al. 2011) of 32-bit words in int64."""
    c0, c1, c2, c3 = counter
    for _ in range(10):
        high0, low0 = _multiply(c0, _FACTORS[0])
        high1, low1 = _multiply(c2, _FACTORS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ low, low1, high0 ^ c3 ^ high, low0
        low, high = (low + _KEY_STEPS[0]) & _LOW, (high + _KEY_STEPS[1]) & _LOW
    return [c0, c1, c2, c3]


def _multiply(words: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The halves of a product of 32 bits by 32; no part of it passes 2**63."""
    by_low, by_high = words * (factor & 0xFFFF), words * (factor >> 16)
    low = (by_low + ((by_high & 0xFFFF) << 16)) & _LOW
    return (by_high + (by_low >> 16)) >> 16, low


def _plain(input: Tensor, probability: float, seed: Tensor, stream: int, per_step: bool) -> Tensor:
    steps, rows, units = input.shape
    dropped = events(probability, seed, stream, steps if per_step else None, rows, units)
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    kept = torch.where(dropped, 0, input.to(dtype)) * kept_scale(probability)
    return kept.to(input.dtype)


def _kernel(input: Tensor, probability: float, seed: Tensor, stream: int, per_step: bool) -> Tensor:
    result: Tensor = functions.dropout(input, probability, seed, stream=stream, per_step=per_step)
    return result


def _fake(input: Tensor, probability: float, seed: Tensor, stream: int, per_step: bool) -> Tensor:
    return input.new_empty(input.shape)


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    call = DropoutCall._make(inputs)
    ctx.call = call._replace(input=cast(Any, None), seed=cast(Any, None))
    ctx.save_for_backward(call.seed)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (seed,) = ctx.saved_tensors
    function = _plain if is_batched(grad) else torch.ops.seqfast.dropout
    grad_input = function(*ctx.call._replace(input=grad, seed=seed))
    nothing = DropoutCall._make([None] * len(DropoutCall._fields))
    return tuple(nothing._replace(input=grad_input))


for _device in ("CPU", "CUDA"):
    _library.impl("dropout", _kernel, _device)
torch.library.register_fake("seqfast::dropout", _fake, lib=_library)
torch.library.register_autograd(
    "seqfast::dropout", _gradients, setup_context=_context, lib=_library
)

"""What a Word2Vec may be told, and the errors for the rest."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

# What decides the result of a training run; a checkpoint carries it.
NAMES = (
    "vector_size",
    "alpha",
    "window",
    "min_count",
    "max_vocab_size",
    "max_final_vocab",
    "sample",
    "seed",
    "min_alpha",
    "sg",
    "hs",
    "negative",
    "ns_exponent",
    "cbow_mean",
    "shared_negatives",
    "legacy_cbow",
    "epochs",
    "shrink_windows",
    "deterministic",
    "tokens_per_period",
    "comment",
)
LATER = ("tokens_per_period",)  # those that the first checkpoints did not carry
# Name: smallest and largest value. The largest keep what kernels count with within 32 bits.
_WHOLE = {
    "vector_size": (1, 1 << 20),
    "window": (1, 10_000),
    "min_count": (0, None),
    "negative": (0, 1000),
    "epochs": (1, (1 << 31) - 1),
    "seed": (-(1 << 63), (1 << 63) - 1),
}
_WHOLE_OR_NONE = {"max_vocab_size": 1, "max_final_vocab": 1, "workers": 1}
_FLAGS = (
    "sg",
    "hs",
    "cbow_mean",
    "shared_negatives",
    "legacy_cbow",
    "shrink_windows",
    "deterministic",
)
_REAL = ("alpha", "min_alpha", "sample")


def check(values: dict[str, Any]) -> None:
    """Raises TypeError or ValueError for a setting that cannot be."""
    for name, (smallest, largest) in _WHOLE.items():
        _check_whole(name, values[name], smallest, largest)
    for name, smallest in _WHOLE_OR_NONE.items():
        if values[name] is not None:
            _check_whole(name, values[name], smallest, None, " or None")
    for name in _FLAGS:
        if values[name] not in (0, 1):
            raise ValueError(f"Word2Vec: {name} must be 0 or 1, got {values[name]!r}")
    for name in _REAL:
        check_rate(name, values[name])
    check_every(values["checkpoint_every"])
    if values["tokens_per_period"] is not None:
        _check_whole("tokens_per_period", values["tokens_per_period"], 1, None, " or None")
    exponent = values["ns_exponent"]
    if not _is_real(exponent) or not math.isfinite(exponent):
        raise ValueError(f"Word2Vec: ns_exponent must be a finite number, got {exponent!r}")
    if values["window"] * 2 * values["negative"] >= 1 << 26:
        raise ValueError(
            "Word2Vec: window * 2 * negative must be below 2**26, got "
            f"{values['window'] * 2 * values['negative']}"
        )
    if values["comment"] is not None and not isinstance(values["comment"], str):
        raise TypeError(
            f"Word2Vec: comment must be a str or None, got {type(values['comment']).__name__}"
        )


def check_device(device: Any) -> str:
    """Its name. Raises RuntimeError for a CUDA device that is not there."""
    name = str(device)
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or name == "cpu:":
        raise ValueError(f"Word2Vec: device must be cpu or cuda, got {device!r}")
    if kind == "cpu":
        return "cpu"
    try:
        import torch
    except ImportError as error:
        raise RuntimeError(
            f"Word2Vec: device {name} needs torch, which is not installed"
        ) from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise RuntimeError(f"Word2Vec: device must be there, got {name} with {count} CUDA devices")
    return name


def check_every(value: Any) -> None:
    """How often checkpoints are written."""
    if value == "epoch" or (_is_real(value) and value >= 0):
        return
    raise ValueError(f'Word2Vec: checkpoint_every must be seconds >= 0 or "epoch", got {value!r}')


def check_rate(name: str, value: Any) -> None:
    """Learning rates and `sample`: finite, not negative."""
    if not _is_real(value) or not math.isfinite(value) or value < 0:
        raise ValueError(f"Word2Vec: {name} must be a finite number >= 0, got {value!r}")


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_whole(name: str, value: Any, smallest: int, largest: int | None, also: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"Word2Vec: {name} must be an int{also}, got {value!r}")
    if value < smallest or (largest is not None and value > largest):
        wanted = f">= {smallest}" if largest is None else f"from {smallest} to {largest}"
        raise ValueError(f"Word2Vec: {name} must be {wanted}{also}, got {value}")


def check_unused(sorted_vocab: Any, batch_words: Any, hashfxn: Any, null_word: Any) -> None:
    """gensim's arguments that mean nothing here are accepted as long as they ask for nothing."""
    if sorted_vocab not in (0, 1):
        raise ValueError(f"Word2Vec: sorted_vocab must be 0 or 1, got {sorted_vocab!r}")
    if not sorted_vocab:
        raise ValueError(
            "Word2Vec: sorted_vocab must be 1, got 0: the vocabulary is always sorted by count"
        )
    if null_word:
        raise ValueError(f"Word2Vec: null_word must be 0, got {null_word!r}")
    if hashfxn is not None and hashfxn is not hash:
        raise ValueError(
            "Word2Vec: hashfxn must be None or hash: first vectors are drawn by counter from seed "
            f"and row, got {hashfxn!r}"
        )
    if batch_words is not None:
        _check_whole("batch_words", batch_words, 1, None, " or None")

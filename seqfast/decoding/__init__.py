"""Decoding: turning a model's scores into sequences, and judging the sequences."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Bleu", "CtcResult", "bleu", "ctc_beam_search", "ctc_greedy"]

_HOMES = {
    "Bleu": "_bleu",
    "CtcResult": "ctc",
    "bleu": "_bleu",
    "ctc_beam_search": "ctc",
    "ctc_greedy": "ctc",
}


# At first use: `import seqfast.decoding` must import neither torch nor what an extra brings.
def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"seqfast.decoding.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'seqfast.decoding' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

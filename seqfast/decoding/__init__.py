"""Decoding: turning a model's scores into sequences, and judging the sequences."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Ban": "strategies",
    "BeamResult": "beam_search",
    "BeamSearch": "beam_search",
    "Begun": "strategies",
    "Bleu": "_bleu",
    "Constraint": "strategies",
    "CtcResult": "ctc",
    "ErrorAnalysis": "analysis",
    "Exact": "strategies",
    "FirstK": "strategies",
    "Full": "strategies",
    "Grammar": "strategies",
    "Hf": "strategies",
    "LengthNorm": "strategies",
    "Longest": "strategies",
    "Mbr": "_mbr",
    "MinLength": "strategies",
    "NGram": "ngram",
    "NoRepeat": "strategies",
    "OwnSampler": "strategies",
    "Phrases": "phrases",
    "Progress": "strategies",
    "RowsSoFar": "_masks",
    "Sampler": "options",
    "Score": "sampling",
    "Scorer": "strategies",
    "StepError": "_model",
    "StopAt": "strategies",
    "StopRule": "strategies",
    "TopBeam": "strategies",
    "TopK": "options",
    "TopP": "options",
    "along": "state",
    "bleu": "_bleu",
    "ctc_beam_search": "ctc",
    "ctc_greedy": "ctc",
    "error_analysis": "analysis",
    "exact_search": "exact",
    "greedy": "sampling",
    "mbr": "_mbr",
    "per_sequence": "_masks",
    "register_state": "state",
    "sample": "sampling",
    "score": "sampling",
    "sentence_bleu": "_bleu",
    "shared": "state",
    "transformers_step": "transformers",
}

__all__ = list(_HOMES)


# At first use: `import seqfast.decoding` must import neither torch nor what an extra brings.
def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"seqfast.decoding.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'seqfast.decoding' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Decoding: turning a model's scores into sequences, and judging the sequences."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqfast.decoding._bleu import Bleu, bleu, sentence_bleu
    from seqfast.decoding._masks import RowsSoFar, per_sequence
    from seqfast.decoding._mbr import Mbr, mbr
    from seqfast.decoding._model import StepError
    from seqfast.decoding.alignment import CtcAlignment, ctc_align
    from seqfast.decoding.analysis import ErrorAnalysis, error_analysis
    from seqfast.decoding.beam_search import BeamSearch
    from seqfast.decoding.ctc import (
        CtcDecoder,
        CtcResult,
        CtcStream,
        CtcTranscript,
        CtcTranscripts,
        Timed,
        ctc_beam_search,
        ctc_greedy,
    )
    from seqfast.decoding.ctc.pyctcdecode import build_ctcdecoder, provide_pyctcdecode
    from seqfast.decoding.exact import exact_search
    from seqfast.decoding.ngram import NGram
    from seqfast.decoding.options import Sampler, TopK, TopP
    from seqfast.decoding.phrases import Phrases
    from seqfast.decoding.result import BeamResult
    from seqfast.decoding.sampling import Score, greedy, sample, score
    from seqfast.decoding.state import along, register_state, shared
    from seqfast.decoding.strategies import (
        Ban,
        Begun,
        Constraint,
        Exact,
        FirstK,
        Full,
        Grammar,
        Hf,
        LengthNorm,
        Longest,
        MinLength,
        NoRepeat,
        OwnSampler,
        Progress,
        Scorer,
        StopAt,
        StopRule,
        TopBeam,
    )
    from seqfast.decoding.transformers import transformers_step

_HOMES = {
    "Ban": "strategies",
    "BeamResult": "result",
    "BeamSearch": "beam_search",
    "Begun": "strategies",
    "Bleu": "_bleu",
    "Constraint": "strategies",
    "CtcAlignment": "alignment",
    "CtcDecoder": "ctc",
    "CtcResult": "ctc",
    "CtcStream": "ctc",
    "CtcTranscript": "ctc",
    "CtcTranscripts": "ctc",
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
    "Timed": "ctc",
    "TopBeam": "strategies",
    "TopK": "options",
    "TopP": "options",
    "along": "state",
    "bleu": "_bleu",
    "build_ctcdecoder": "ctc.pyctcdecode",
    "ctc_align": "alignment",
    "ctc_beam_search": "ctc",
    "ctc_greedy": "ctc",
    "error_analysis": "analysis",
    "exact_search": "exact",
    "greedy": "sampling",
    "mbr": "_mbr",
    "per_sequence": "_masks",
    "provide_pyctcdecode": "ctc.pyctcdecode",
    "register_state": "state",
    "sample": "sampling",
    "score": "sampling",
    "sentence_bleu": "_bleu",
    "shared": "state",
    "transformers_step": "transformers",
}

__all__ = [
    "Ban",
    "BeamResult",
    "BeamSearch",
    "Begun",
    "Bleu",
    "Constraint",
    "CtcAlignment",
    "CtcDecoder",
    "CtcResult",
    "CtcStream",
    "CtcTranscript",
    "CtcTranscripts",
    "ErrorAnalysis",
    "Exact",
    "FirstK",
    "Full",
    "Grammar",
    "Hf",
    "LengthNorm",
    "Longest",
    "Mbr",
    "MinLength",
    "NGram",
    "NoRepeat",
    "OwnSampler",
    "Phrases",
    "Progress",
    "RowsSoFar",
    "Sampler",
    "Score",
    "Scorer",
    "StepError",
    "StopAt",
    "StopRule",
    "Timed",
    "TopBeam",
    "TopK",
    "TopP",
    "along",
    "bleu",
    "build_ctcdecoder",
    "ctc_align",
    "ctc_beam_search",
    "ctc_greedy",
    "error_analysis",
    "exact_search",
    "greedy",
    "mbr",
    "per_sequence",
    "provide_pyctcdecode",
    "register_state",
    "sample",
    "score",
    "sentence_bleu",
    "shared",
    "transformers_step",
]


# At first use: `import seqfast.decoding` must import neither torch nor what an extra brings.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(f"seqfast.decoding.{_HOMES[name]}"), name)
        raise AttributeError(f"module 'seqfast.decoding' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

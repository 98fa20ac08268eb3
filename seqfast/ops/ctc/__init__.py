"""CTC: the best path, prefix beam search, and the alignment of given tokens."""

from seqfast.ops.ctc.functions import (
    LanguageModel,
    ctc_align,
    ctc_beam_search,
    ctc_greedy,
)

__all__ = ["LanguageModel", "ctc_align", "ctc_beam_search", "ctc_greedy"]

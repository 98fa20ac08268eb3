"""CTC decoding: the best path, and prefix beam search."""

from seqfast.ops.ctc.functions import LanguageModel, ctc_beam_search, ctc_greedy

__all__ = ["LanguageModel", "ctc_beam_search", "ctc_greedy"]

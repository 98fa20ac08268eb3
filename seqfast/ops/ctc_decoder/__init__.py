"""CTC decoding into words: prefix beam search with a language beside it."""

from seqfast.ops.ctc_decoder.functions import (
    Language,
    Model,
    Ngram,
    Search,
    Transcripts,
    Tree,
    ctc_decode,
)

__all__ = ["Language", "Model", "Ngram", "Search", "Transcripts", "Tree", "ctc_decode"]

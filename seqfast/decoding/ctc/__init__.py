"""CTC: from log-probabilities per frame to transcripts, tokens or words."""

from seqfast.decoding.ctc.decoder import CtcDecoder, CtcStream
from seqfast.decoding.ctc.search import CtcResult, ctc_beam_search, ctc_greedy
from seqfast.decoding.ctc.transcripts import CtcTranscript, CtcTranscripts, Timed

__all__ = [
    "CtcDecoder",
    "CtcResult",
    "CtcStream",
    "CtcTranscript",
    "CtcTranscripts",
    "Timed",
    "ctc_beam_search",
    "ctc_greedy",
]

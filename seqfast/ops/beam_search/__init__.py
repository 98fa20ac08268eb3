"""Steps of a batched beam search, and the walk back along their pointers."""

from seqfast.ops.beam_search.beams import BeamOptions, Beams, start_beams
from seqfast.ops.beam_search.functions import beam_backtrack, beam_step

__all__ = ["BeamOptions", "Beams", "beam_backtrack", "beam_step", "start_beams"]

// A decoder that a beam search steps on the CPU: entries that the bindings call.
#pragma once

#include "core/decoder.h"

namespace seqfast::cpu {

// A search's workspace is prepared once and kept until the search ends.
size_t decoder_workspace_size(DecoderArgs args);
void decoder_start(DecoderArgs args);
// Steps of model and search until the search has ended or so much time is over; the last one's
// status.
int64_t decoder_run(DecoderArgs args, BeamStepArgs beams, double seconds);

}  // namespace seqfast::cpu

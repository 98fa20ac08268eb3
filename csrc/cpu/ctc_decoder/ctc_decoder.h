// CTC decoding into words on the CPU: entries that the bindings call.
#pragma once

#include "core/ctc_decoder.h"

namespace seqfast::cpu {

// Bytes of `memory` and of the workspace, both with what aligning them may cost.
size_t ctc_decode_memory_size(const CtcDecodeArgs& args);
size_t ctc_decode_workspace_size(CtcDecodeArgs args);

void ctc_decode_begin(CtcDecodeArgs args);
// Every row goes on from its `progress`; what falls short of its frames needs more room.
void ctc_decode_frames(CtcDecodeArgs args);
// Scores, places and counts of the best transcripts; then, with room for them, their tokens.
void ctc_decode_rank(CtcDecodeArgs args);
void ctc_decode_walk(CtcDecodeArgs args);
// The search moves into larger memory; the workspace is as for that.
void ctc_decode_grow(CtcDecodeArgs args, int64_t capacity, char* memory);

}  // namespace seqfast::cpu

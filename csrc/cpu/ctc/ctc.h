// CTC decoding on the CPU: entries that the bindings call.
#pragma once

#include "core/ctc.h"
#include "core/ctc_align.h"

namespace seqfast::cpu {

size_t ctc_greedy_workspace_size(CtcGreedyArgs args);
void ctc_greedy(CtcGreedyArgs args);
size_t ctc_beam_search_workspace_size(CtcBeamArgs args);
void ctc_beam_search(CtcBeamArgs args);
size_t ctc_align_workspace_size(CtcAlignArgs args);
void ctc_align(CtcAlignArgs args);

}  // namespace seqfast::cpu

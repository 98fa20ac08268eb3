// CTC decoding on the CPU: entries that the bindings call.
#pragma once

#include "core/ctc.h"

namespace seqfast::cpu {

size_t ctc_greedy_workspace_size(CtcGreedyArgs args);
void ctc_greedy(CtcGreedyArgs args);
size_t ctc_beam_search_workspace_size(CtcBeamArgs args);
void ctc_beam_search(CtcBeamArgs args);

}  // namespace seqfast::cpu

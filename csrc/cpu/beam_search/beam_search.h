// Beam search on the CPU: entries that the bindings call.
#pragma once

#include "core/beam_search.h"

namespace seqfast::cpu {

size_t beam_step_workspace_size(BeamStepArgs args);
void beam_step(BeamStepArgs args);
void beam_backtrack(BeamBacktrackArgs args);

}  // namespace seqfast::cpu

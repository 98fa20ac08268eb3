// The table of beam search that every instruction set fills in; plain types only, so that no inline
// code is shared.
#pragma once

#include "core/beam_search.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct BeamSearchKernels {
    size_t (*step_workspace)(const BeamStepArgs&);
    void (*step)(const BeamStepArgs&);
    void (*backtrack)(const BeamBacktrackArgs&);
};

SEQFAST_IN_EACH_ISA(extern const BeamSearchKernels beam_search;)

}  // namespace seqfast::cpu

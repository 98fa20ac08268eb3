// The table of CTC kernels that every instruction set fills in; plain types only, so that no inline
// code is shared.
#pragma once

#include <cstddef>

#include "core/ctc.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct CtcKernels {
    size_t (*greedy_workspace)(const CtcGreedyArgs&);
    void (*greedy)(const CtcGreedyArgs&);
    size_t (*beam_workspace)(const CtcBeamArgs&);
    void (*beam_search)(const CtcBeamArgs&);
};

SEQFAST_IN_EACH_ISA(extern const CtcKernels ctc;)

}  // namespace seqfast::cpu

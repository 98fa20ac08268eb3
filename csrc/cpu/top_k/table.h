// The table of selection kernels that every instruction set fills in; plain types only, so that no
// inline code is shared.
#pragma once

#include "core/top_k.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct TopKKernels {
    void (*top_k)(const TopKArgs&);
};

SEQFAST_IN_EACH_ISA(extern const TopKKernels top_k;)

}  // namespace seqfast::cpu

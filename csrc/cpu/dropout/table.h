// The table of dropout that every instruction set fills in; plain types only, so that no inline
// code is shared.
#pragma once

#include "core/random.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct DropoutKernels {
    void (*run)(const DropoutArgs&);
};

SEQFAST_IN_EACH_ISA(extern const DropoutKernels dropout;)

}  // namespace seqfast::cpu

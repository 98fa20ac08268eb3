// The table of dropout that every instruction set fills in; plain types only, so that no inline
// code is shared.
#pragma once

#include "core/dtype.h"
#include "core/random.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct DropoutKernels {
    void (*run)(DType dtype, const DropoutArgs&, int threads);
};

SEQFAST_IN_EACH_ISA(extern const DropoutKernels dropout;)

}  // namespace seqfast::cpu

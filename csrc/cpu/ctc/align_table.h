// The table of CTC alignment kernels that every instruction set fills in; plain types only, so that
// no inline code is shared.
#pragma once

#include <cstddef>

#include "core/ctc_align.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct CtcAlignKernels {
    size_t (*workspace)(const CtcAlignArgs&);
    void (*align)(const CtcAlignArgs&);
};

SEQFAST_IN_EACH_ISA(extern const CtcAlignKernels ctc_align;)

}  // namespace seqfast::cpu

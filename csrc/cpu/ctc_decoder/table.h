// The table of the CTC decoder's kernels that every instruction set fills in; plain types only, so
// that no inline code is shared.
#pragma once

#include <cstddef>

#include "core/ctc_decoder.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct CtcDecodeKernels {
    size_t (*workspace)(const CtcDecodeArgs&);
    void (*begin)(const CtcDecodeArgs&);
    void (*frames)(const CtcDecodeArgs&);
    void (*rank)(const CtcDecodeArgs&);
    void (*walk)(const CtcDecodeArgs&);
    void (*grow)(const CtcDecodeArgs&, const CtcDecodeArgs&);
};

SEQFAST_IN_EACH_ISA(extern const CtcDecodeKernels ctc_decoder;)

}  // namespace seqfast::cpu

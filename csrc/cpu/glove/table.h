// The table of GloVe's kernels that every instruction set fills in; plain types only, so that no
// inline code is shared.
#pragma once

#include "core/glove.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct GloveKernels {
    size_t (*workspace)(const CooccurrenceArgs&);
    void (*count)(const CooccurrenceArgs&);
    void (*schedule)(const GloveScheduleArgs&);
    void (*train)(const GloveArgs&);
};

SEQFAST_IN_EACH_ISA(extern const GloveKernels glove;)

}  // namespace seqfast::cpu

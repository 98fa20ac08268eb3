// The table of decoder kernels that every instruction set fills in; plain types only, so that no
// inline code is shared.
#pragma once

#include "core/decoder.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct DecoderKernels {
    // Of arguments that need no arrays yet, but for which of them there are.
    size_t (*workspace)(const DecoderArgs&);
    void (*start)(const DecoderArgs&);
    void (*step)(const DecoderArgs&, BeamStepArgs&);
};

SEQFAST_IN_EACH_ISA(extern const DecoderKernels decoder;)

}  // namespace seqfast::cpu

// The table of recurrent kernels that every instruction set fills in; plain types only, so that no
// inline code is shared.
#pragma once

#include "core/random.h"
#include "core/rnn.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct Kernels {
    const char* name;
    // Of arguments that need no arrays yet, but for which of them there are.
    size_t (*rnn_forward_workspace)(RnnForwardArgs);
    size_t (*rnn_backward_workspace)(RnnBackwardArgs);
    void (*rnn_forward)(const RnnForwardArgs&);
    void (*rnn_backward)(const RnnBackwardArgs&);
    void (*dropout)(DType dtype, const DropoutArgs&, int threads);
    double (*measure_fma_peak)(double seconds, int threads);  // GFLOP/s in float32
};

SEQFAST_IN_EACH_ISA(extern const Kernels kernels;)

}  // namespace seqfast::cpu

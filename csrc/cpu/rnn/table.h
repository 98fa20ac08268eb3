// The tables of recurrent kernels that every instruction set fills in; plain types only, so that no
// inline code is shared.
#pragma once

#include "core/rnn.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct RnnForwardKernels {
    // Of arguments that need no arrays yet, but for which of them there are.
    size_t (*workspace)(RnnForwardArgs);
    void (*run)(const RnnForwardArgs&);
    size_t (*packed_size)(const RnnPackArgs&);
    void (*pack)(const RnnPackArgs&);
    size_t (*state_size)(const RnnForwardArgs&);
    void (*reset_state)(const RnnForwardArgs&, const int64_t* rows, int64_t count);
};

struct RnnBackwardKernels {
    size_t (*workspace)(RnnBackwardArgs);
    void (*run)(const RnnBackwardArgs&);
};

SEQFAST_IN_EACH_ISA(extern const RnnForwardKernels rnn_forward;)
SEQFAST_IN_EACH_ISA(extern const RnnBackwardKernels rnn_backward;)

}  // namespace seqfast::cpu

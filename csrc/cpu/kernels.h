// The table every instruction set fills in; plain types only, so that no inline code is shared.
#pragma once

#include "core/rnn.h"

namespace seqfast::cpu {

struct Kernels {
    const char* name;
    size_t (*lstm_forward_workspace)(const RnnSizes&);
    size_t (*lstm_backward_workspace)(const RnnSizes&);
    void (*lstm_forward)(const LstmForwardArgs&);
    void (*lstm_backward)(const LstmBackwardArgs&);
    double (*measure_fma_peak)(double seconds, int threads);  // GFLOP/s in float32
};

namespace baseline {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512bf16 {
extern const Kernels kernels;
}

}  // namespace seqfast::cpu

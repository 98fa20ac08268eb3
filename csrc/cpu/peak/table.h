// The table of what is measured of an instruction set itself, which every one fills in.
#pragma once

#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct PeakKernels {
    double (*measure_fma_peak)(double seconds, int threads);  // GFLOP/s in float32
};

SEQFAST_IN_EACH_ISA(extern const PeakKernels peak;)

}  // namespace seqfast::cpu

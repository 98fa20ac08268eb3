// What multiply-adds reach at best on the CPU: entries that the bindings call.
#pragma once

namespace seqfast::cpu {

// GFLOP/s in float32
double measure_fma_peak(double seconds, int threads);

}  // namespace seqfast::cpu

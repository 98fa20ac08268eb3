// What multiply-adds reach at best: what is prepared before the kernels of the active instruction
// set.
#include "cpu/base/entry.h"
#include "cpu/peak/peak.h"
#include "cpu/peak/table.h"

namespace seqfast::cpu {
namespace {

Kernels<PeakKernels> kernels() {
    static constexpr const PeakKernels* tables[] = SEQFAST_TABLES(peak);
    return Kernels<PeakKernels>(tables);
}

}  // namespace

double measure_fma_peak(double seconds, int threads) {
    return kernels()->measure_fma_peak(seconds, usable_threads(threads));
}

}  // namespace seqfast::cpu

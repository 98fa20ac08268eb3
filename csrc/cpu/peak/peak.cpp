// What this instruction set's multiply-adds reach at best, to measure the kernels against.
#include <time.h>

#include "cpu/base/gemm.h"
#include "cpu/base/simd.h"
#include "cpu/base/team.h"
#include "cpu/peak/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// GFLOP/s of independent multiply-adds in registers, as many as the tile of the product has.
double measure_fma_peak(double seconds, int threads) {
    constexpr int64_t kRounds = 200000;
    double best = 0;
    const double end = now() + seconds;
    while (now() < end) {
        double start = now();
        const auto body = [&](int) {
            Tile<float, kTileRows, kPanelVectors> tile;
            // Opaque starts and ends, or the compiler would merge equal sums or drop unused ones.
            for_each_element(tile, [](auto& sum, int, int) {
                Vector<float> start{};
                asm volatile("" : "+m"(start));
                sum = start;
            });
            Vector<float> x = broadcast(0.5f), y = broadcast(0.25f);
            for (int64_t round = 0; round < kRounds; ++round) {
                asm volatile("" : "+m"(x), "+m"(y));
                const Vector<float> a = x, b = y;
                for_each_element(tile, [&](auto& sum, int, int) { sum = fused(sum, a, b); });
            }
            for_each_element(tile, [](auto& sum, int, int) {
                const Vector<float> kept = sum;
                asm volatile("" : : "m"(kept));
            });
        };
        // Where the runtime grants fewer threads, one is what was measured.
        int ran = threads;
        if (!run_team(threads, body)) {
            ran = 1;
            start = now();
            body(0);
        }
        const double flops =
            2.0 * kLanes<float> * kTileRows * kPanelVectors * static_cast<double>(kRounds) * ran;
        const double speed = 1e-9 * flops / (now() - start);
        if (speed > best) best = speed;
    }
    return best;
}

}  // namespace

extern const PeakKernels peak = {&measure_fma_peak};

}  // namespace seqfast::cpu::SEQFAST_ISA

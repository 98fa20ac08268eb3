// The table of recurrent kernels of one instruction set.
#include <time.h>

#include "core/rnn.h"
#include "cpu/kernels.h"
#include "cpu/lstm_backward.h"
#include "cpu/lstm_forward.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

template <class F>
auto with_types(DType dtype, F&& f) {
    switch (dtype) {
        case DType::float64:
            return f(double{}, double{});
        case DType::bfloat16:
            return f(float{}, BFloat16{});
        case DType::float16:
            return f(float{}, Float16{});
        default:
            return f(float{}, float{});
    }
}

// Room for the wanted threads and for one, should the runtime grant no more.
template <template <class, class> class Pass, class Args>
size_t workspace_of(const RnnSizes& sizes) {
    Args args{};
    args.sizes = sizes;
    return with_types(sizes.dtype, [&](auto real, auto storage) {
        using Run = Pass<decltype(real), decltype(storage)>;
        const size_t wanted = Run(args, sizes.threads).workspace();
        const size_t single = Run(args, 1).workspace();
        return wanted > single ? wanted : single;
    });
}

template <template <class, class> class Pass, class Args>
void run(const Args& args) {
    with_types(args.sizes.dtype, [&](auto real, auto storage) {
        using Run = Pass<decltype(real), decltype(storage)>;
        if (!Run(args, args.sizes.threads).run()) Run(args, 1).run();
    });
}

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Independent multiply-adds in registers, as many as the tile of the product has.
double measure_fma_peak(double seconds, int threads) {
    constexpr int64_t kRounds = 200000;
    double best = 0;
    const double end = now() + seconds;
    while (now() < end) {
        const double start = now();
        run_team(threads, [&](int) {
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
                for_each_element(tile, [&](auto& sum, int, int) { sum += a * b; });
            }
            for_each_element(tile, [](auto& sum, int, int) {
                const Vector<float> kept = sum;
                asm volatile("" : : "m"(kept));
            });
        });
        const double flops = 2.0 * kLanes<float> * kTileRows * kPanelVectors *
                             static_cast<double>(kRounds) * threads;
        const double speed = 1e-9 * flops / (now() - start);
        if (speed > best) best = speed;
    }
    return best;
}

#define SEQFAST_STRING_(x) #x
#define SEQFAST_STRING(x) SEQFAST_STRING_(x)

}  // namespace

extern const Kernels kernels = {
    SEQFAST_STRING(SEQFAST_ISA),
    &workspace_of<LstmForward, LstmForwardArgs>,
    &workspace_of<LstmBackward, LstmBackwardArgs>,
    &run<LstmForward, LstmForwardArgs>,
    &run<LstmBackward, LstmBackwardArgs>,
    &measure_fma_peak,
};

}  // namespace seqfast::cpu::SEQFAST_ISA

// Dropout of whole arrays; its gradient draws the same mask again.
#include "cuda/dropout/dropout.h"

#include <type_traits>

#include "core/random.h"
#include "cuda/base/sizes.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// y = x times its mask, [steps, rows, units]; each number once, so that y may be x.
template <class T>
SEQFAST_KERNEL(256, 1)
dropout_kernel(const T* x, T* y, int64_t count, int64_t rows, int64_t units, double kept,
               const int64_t* seed, uint32_t threshold, uint32_t stream, bool per_step) {
    using Acc = std::conditional_t<sizeof(T) == 8, double, float>;
    const int64_t step = int64_t(grid_x()) * thread_count();
    for (int64_t i = int64_t(block_x()) * thread_count() + thread_index(); i < count; i += step) {
        const int64_t unit = i % units, row = i / units % rows, t = i / units / rows;
        const bool event = event_at(*seed, uint32_t(unit), uint32_t(row),
                                    per_step ? uint32_t(t) : 0u, stream, threshold);
        y[i] = event ? round_to<T>(Acc(0)) : round_to<T>(Acc(to_float(x[i])) * Acc(kept));
    }
}

}  // namespace

void dropout(const GpuPlace& place, const DropoutArgs& args) {
    const int64_t count = args.steps * args.rows * args.units;
    if (count == 0) return;
    const DeviceGuard guard(place.device);
    const double kept = args.probability < 1 ? 1 / (1 - args.probability) : 0;
    with_type(args.dtype, [&](auto number) {
        using T = decltype(number);
        launch("dropout: dropout_kernel", dropout_kernel<T>, flat_shape(count), place.stream,
               static_cast<const T*>(args.input), static_cast<T*>(args.output), count, args.rows,
               args.units, kept, args.seed, event_threshold(args.probability), args.stream,
               args.per_step);
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

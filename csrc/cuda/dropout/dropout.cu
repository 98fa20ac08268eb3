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

void dropout(const GpuCall& call, DType dtype, int64_t steps, int64_t rows, int64_t units,
             const void* input, void* output, double probability, const int64_t* seed,
             uint32_t stream, bool per_step) {
    const int64_t count = steps * rows * units;
    if (count == 0) return;
    const DeviceGuard guard(call.device);
    const double kept = probability < 1 ? 1 / (1 - probability) : 0;
    with_type(dtype, [&](auto number) {
        using T = decltype(number);
        launch("dropout: dropout_kernel", dropout_kernel<T>, flat_shape(count), call.stream,
               static_cast<const T*>(input), static_cast<T*>(output), count, rows, units, kept,
               seed, event_threshold(probability), stream, per_step);
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

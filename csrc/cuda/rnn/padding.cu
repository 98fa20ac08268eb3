// Zeros where a sequence has ended.
#include "cuda/base/sizes.h"
#include "cuda/rnn/rnn.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// A warp for each row of each step.
template <class E>
SEQFAST_KERNEL(256, 1)
zero_padding_kernel(E* array, int64_t row_count, int64_t steps, int64_t batch,
                    const int64_t* lengths) {
    const int64_t step = int64_t(grid_x()) * (thread_count() / 32);
    for (int64_t i = int64_t(block_x()) * (thread_count() / 32) + warp_index(); i < steps * batch;
         i += step) {
        if (i / batch < lengths[i % batch]) continue;
        E* row = array + i * row_count;
        for (int64_t j = lane_index(); j < row_count; j += 32) row[j] = E{};
    }
}

}  // namespace

void zero_padding(const GpuCall& call, const ZeroPaddingArgs& args) {
    const int64_t rows = args.steps * args.batch;
    if (rows * args.row_bytes == 0) return;
    const DeviceGuard guard(call.device);
    const auto run = [&](auto element) {
        using E = decltype(element);
        launch("rnn: zero_padding_kernel", zero_padding_kernel<E>, flat_shape(rows, 8), call.stream,
               static_cast<E*>(args.array), args.row_bytes / int64_t(sizeof(E)), args.steps,
               args.batch, args.lengths);
    };
    const auto address = reinterpret_cast<uintptr_t>(args.array);
    if (args.row_bytes % 16 == 0 && address % 16 == 0)
        run(U32x4{});
    else if (args.row_bytes % 4 == 0 && address % 4 == 0)
        run(uint32_t{});
    else
        run(uint16_t{});
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

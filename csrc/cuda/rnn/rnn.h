// Entry points of the CUDA backend's recurrent operations, once for the GPU and once for the host
// executor.
#pragma once

#include "core/rnn.h"

// clang-format off
#define SEQFAST_CUDA_RNN_ENTRIES                                                              \
    /* Bytes a call needs; the strategy and the device count. */                                   \
    size_t rnn_workspace_size(const GpuCall& call, const RnnSizes& sizes,                     \
                              const RnnOptions& options, bool backward);                      \
    /* The strategy the policy takes, or the one asked for; std::runtime_error where it cannot. */ \
    RnnStrategy rnn_strategy(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options,     \
                   bool backward);                                                            \
    void rnn_forward(const RnnRecurrenceForwardArgs& args);                                   \
    void rnn_backward(const RnnRecurrenceBackwardArgs& args);                                 \
    /* array [steps, batch, row_bytes]: zeros at every step past its row's length. */         \
    void zero_padding(const GpuCall& call, void* array, int64_t row_bytes, int64_t steps,     \
                      int64_t batch, const int64_t* lengths);                                 \
    /* input, output [steps, rows, units]; not per_step: one mask for all steps. */           \
    void dropout(const GpuCall& call, DType dtype, int64_t steps, int64_t rows, int64_t units, \
                 const void* input, void* output, double probability, const int64_t* seed,    \
                 uint32_t stream, bool per_step);
// clang-format on

namespace seqfast::cuda {
SEQFAST_CUDA_RNN_ENTRIES
}
namespace seqfast::cuda_host {
SEQFAST_CUDA_RNN_ENTRIES
}

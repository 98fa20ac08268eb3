// Entry point of dropout on the CUDA backend, once for the GPU and once for the host executor.
#pragma once

#include "core/rnn.h"

#define SEQFAST_CUDA_DROPOUT_ENTRIES                                                           \
    /* input, output [steps, rows, units]; not per_step: one mask for all steps. */            \
    void dropout(const GpuCall& call, DType dtype, int64_t steps, int64_t rows, int64_t units, \
                 const void* input, void* output, double probability, const int64_t* seed,     \
                 uint32_t stream, bool per_step);

namespace seqfast::cuda {
SEQFAST_CUDA_DROPOUT_ENTRIES
}
namespace seqfast::cuda_host {
SEQFAST_CUDA_DROPOUT_ENTRIES
}

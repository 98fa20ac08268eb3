// Entry points of the CUDA backend's word vectors, once for the GPU and once for the host executor.
#pragma once

#include "core/gpu.h"
#include "core/word2vec.h"

// Every array is in the memory of the device.
#define SEQFAST_CUDA_WORD2VEC_ENTRIES                                                \
    size_t word2vec_workspace_size(const GpuPlace& place, const Word2VecArgs& args); \
    void word2vec_train(const GpuPlace& place, const Word2VecArgs& args);

namespace seqfast::cuda {
SEQFAST_CUDA_WORD2VEC_ENTRIES
}
namespace seqfast::cuda_host {
SEQFAST_CUDA_WORD2VEC_ENTRIES
}

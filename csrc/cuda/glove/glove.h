// Entry points of the CUDA backend's GloVe, once for the GPU and once for the host executor.
#pragma once

#include "core/glove.h"
#include "core/gpu.h"

// Every array is in the memory of the device, but for the strata.
#define SEQFAST_CUDA_GLOVE_ENTRIES void glove_train(const GpuPlace& place, const GloveArgs& args);

namespace seqfast::cuda {
SEQFAST_CUDA_GLOVE_ENTRIES
}
namespace seqfast::cuda_host {
SEQFAST_CUDA_GLOVE_ENTRIES
}

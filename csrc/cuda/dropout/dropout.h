// Entry point of dropout on the CUDA backend, once for the GPU and once for the host executor.
#pragma once

#include "core/gpu.h"
#include "core/random.h"

namespace seqfast::cuda {
void dropout(const GpuPlace& place, const DropoutArgs& args);
}
namespace seqfast::cuda_host {
void dropout(const GpuPlace& place, const DropoutArgs& args);
}

// Entry point of the CUDA backend's selection, once for the GPU and once for the host executor.
#pragma once

#include "core/gpu.h"
#include "core/top_k.h"

namespace seqfast::cuda {
void top_k(const GpuPlace& place, const TopKArgs& args);
}
namespace seqfast::cuda_host {
void top_k(const GpuPlace& place, const TopKArgs& args);
}

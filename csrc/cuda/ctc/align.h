// Entry points of the CUDA backend's CTC alignment, once for the GPU and once for the host
// executor.
#pragma once

#include "core/ctc_align.h"
#include "core/gpu.h"

namespace seqfast::cuda {
size_t ctc_align_workspace_size(const GpuPlace& place, const CtcAlignArgs& args);
void ctc_align(const GpuPlace& place, const CtcAlignArgs& args);
}  // namespace seqfast::cuda
namespace seqfast::cuda_host {
size_t ctc_align_workspace_size(const GpuPlace& place, const CtcAlignArgs& args);
void ctc_align(const GpuPlace& place, const CtcAlignArgs& args);
}  // namespace seqfast::cuda_host

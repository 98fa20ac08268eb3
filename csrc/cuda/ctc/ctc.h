// Entry points of the CUDA backend's CTC search, once for the GPU and once for the host executor.
#pragma once

#include "core/ctc.h"
#include "core/gpu.h"

namespace seqfast::cuda {
size_t ctc_beam_search_workspace_size(const GpuPlace& place, const CtcBeamArgs& args);
void ctc_beam_search(const GpuPlace& place, const CtcBeamArgs& args);
}  // namespace seqfast::cuda
namespace seqfast::cuda_host {
size_t ctc_beam_search_workspace_size(const GpuPlace& place, const CtcBeamArgs& args);
void ctc_beam_search(const GpuPlace& place, const CtcBeamArgs& args);
}  // namespace seqfast::cuda_host

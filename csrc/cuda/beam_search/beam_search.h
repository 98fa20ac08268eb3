// Entry points of the CUDA backend's beam search, once for the GPU and once for the host executor.
#pragma once

#include <cstddef>

#include "core/beam_search.h"
#include "core/gpu.h"

namespace seqfast {

// A step counts blocks in so many bytes in front of its workspace. They are zero before the first
// step that uses it, and each leaves them so.
inline int64_t beam_step_counter_bytes(const BeamStepArgs& args) {
    const int64_t counters = args.batch * args.options.beams;
    return (2 + 2 * ((counters * 4 + 255) / 256)) * 256;
}

}  // namespace seqfast

// Every array is in the memory of the device; workspaces are aligned to 256.
#define SEQFAST_CUDA_BEAM_SEARCH_ENTRIES                                              \
    size_t beam_step_workspace_size(const GpuPlace& place, const BeamStepArgs& args); \
    void beam_step(const GpuPlace& place, const BeamStepArgs& args);                  \
    void beam_backtrack(const GpuPlace& place, const BeamBacktrackArgs& args);

namespace seqfast::cuda {
SEQFAST_CUDA_BEAM_SEARCH_ENTRIES
}
namespace seqfast::cuda_host {
SEQFAST_CUDA_BEAM_SEARCH_ENTRIES
}

// Entry points of the CUDA backend's recurrent operations, once for the GPU and once for the host
// executor.
#pragma once

#include "core/rnn.h"

namespace seqfast {

// Blocks of a group, which has a whole layer, and groups that run side by side.
struct RnnGroups {
    int blocks, groups;
};

}  // namespace seqfast

// clang-format off
#define SEQFAST_CUDA_RNN_ENTRIES                                                              \
    /* Bytes a call needs; the strategy and the device count. */                                   \
    size_t rnn_workspace_size(const GpuCall& call, const RnnSizes& sizes,                     \
                              const RnnOptions& options, bool backward);                      \
    /* The policy's choice, or the one asked for; std::runtime_error where it cannot be. */    \
    RnnStrategy rnn_strategy(const GpuCall& call, const RnnSizes& sizes,                      \
                             const RnnOptions& options, bool backward);                       \
    /* How the blocks are laid out: those of a group, and the groups; 0, 0 where stepwise. */   \
    RnnGroups rnn_groups(const GpuCall& call, const RnnSizes& sizes,                          \
                         const RnnOptions& options, bool backward);                           \
    void rnn_forward(const RnnRecurrenceForwardArgs& args);                                   \
    void rnn_backward(const RnnRecurrenceBackwardArgs& args);                                 \
    void zero_padding(const GpuCall& call, const ZeroPaddingArgs& args);
// clang-format on

namespace seqfast::cuda {
SEQFAST_CUDA_RNN_ENTRIES
}
namespace seqfast::cuda_host {
SEQFAST_CUDA_RNN_ENTRIES
}

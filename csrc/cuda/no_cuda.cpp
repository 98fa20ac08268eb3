// Stands where the CUDA kernels would, or the host executor's copy of them: the same symbols, each
// raises.
#include <stdexcept>
#include <string>

#include "cuda/rnn.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

[[noreturn]] void refuse(const char* operation) {
    throw std::runtime_error(std::string(operation) + ": seqfast was built without " +
                             SEQFAST_CUDA_MISSING);
}

}  // namespace

size_t lstm_workspace_size(const GpuCall&, const RnnSizes&, bool) { refuse("lstm_workspace_size"); }
RnnWay lstm_way(const GpuCall&, const RnnSizes&, bool) { refuse("lstm_way"); }
void lstm_forward(const LstmRecurrenceForwardArgs&) { refuse("lstm_forward"); }
void lstm_backward(const LstmRecurrenceBackwardArgs&) { refuse("lstm_backward"); }
void zero_padding(const GpuCall&, void*, int64_t, int64_t, int64_t, const int64_t*) {
    refuse("zero_padding");
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

// Whole sequences of the GRU, forward.
#include "cuda/rnn/persistent_forward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<ForwardParams>& persistent_forward<Gru>() {
    static const auto pass = persistent_pass<ForwardKernels<Gru>, ForwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

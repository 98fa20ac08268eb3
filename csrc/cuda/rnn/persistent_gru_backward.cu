// Whole sequences of the GRU, backward.
#include "cuda/rnn/persistent_backward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<BackwardParams>& persistent_backward<Gru>() {
    static const auto pass = persistent_pass<BackwardKernels<Gru>, BackwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

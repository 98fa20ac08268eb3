// Whole sequences of the LSTM with options, forward.
#include "cuda/rnn/persistent_forward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<ForwardParams>& persistent_forward<Lstm>() {
    static const auto pass = persistent_pass<ForwardKernels<Lstm>, ForwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

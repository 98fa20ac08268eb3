// Whole sequences of the LSTM with options, backward.
#include "cuda/rnn/persistent_backward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<BackwardParams>& persistent_backward<Lstm>() {
    static const auto pass = persistent_pass<BackwardKernels<Lstm>, BackwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

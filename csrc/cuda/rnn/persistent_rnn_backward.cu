// Whole sequences of the plain recurrent layer, backward.
#include "cuda/rnn/persistent_backward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<BackwardParams>& persistent_backward<Rnn>() {
    static const auto pass = persistent_pass<BackwardKernels<Rnn>, BackwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

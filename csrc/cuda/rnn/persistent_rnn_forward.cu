// Whole sequences of the plain recurrent layer, forward.
#include "cuda/rnn/persistent_forward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<ForwardParams>& persistent_forward<Rnn>() {
    static const auto pass = persistent_pass<ForwardKernels<Rnn>, ForwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

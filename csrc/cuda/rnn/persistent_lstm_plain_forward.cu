// Whole sequences of the plain LSTM, forward.
#include "cuda/rnn/persistent_forward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<ForwardParams>& persistent_forward<PlainLstm>() {
    static const auto pass = persistent_pass<ForwardKernels<PlainLstm>, ForwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

// Whole sequences of the plain LSTM, backward.
#include "cuda/rnn/persistent_backward.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <>
const PersistentPass<BackwardParams>& persistent_backward<PlainLstm>() {
    static const auto pass = persistent_pass<BackwardKernels<PlainLstm>, BackwardParams>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

// Stands where the CUDA kernels would: the same symbols, each raises.
#include <stdexcept>

#include "cuda/rnn.h"

namespace seqfast::cuda {

void lstm_forward(const LstmForwardArgs&) {
    throw std::runtime_error("lstm_forward: seqfast was built without CUDA");
}

void lstm_backward(const LstmBackwardArgs&) {
    throw std::runtime_error("lstm_backward: seqfast was built without CUDA");
}

}  // namespace seqfast::cuda

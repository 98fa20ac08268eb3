// Entry points of the CUDA backend's recurrent operations.
#pragma once

#include "core/rnn.h"

namespace seqfast::cuda {

void lstm_forward(const LstmForwardArgs& args);
void lstm_backward(const LstmBackwardArgs& args);

}  // namespace seqfast::cuda

// The recurrent operations on the CPU: entries that the bindings call.
#pragma once

#include "core/rnn.h"

namespace seqfast::cpu {

// Of arguments that need no arrays yet, but for which of them there are.
size_t rnn_workspace_size(RnnForwardArgs args);
size_t rnn_workspace_size(RnnBackwardArgs args);
void rnn_forward(RnnForwardArgs args);
void rnn_backward(RnnBackwardArgs args);

}  // namespace seqfast::cpu

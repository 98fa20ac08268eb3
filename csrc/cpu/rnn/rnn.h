// The recurrent operations on the CPU: entries that the bindings call.
#pragma once

#include "core/rnn.h"

namespace seqfast::cpu {

// Of arguments that need no arrays yet, but for which of them there are.
size_t rnn_workspace_size(RnnForwardArgs args);
size_t rnn_workspace_size(RnnBackwardArgs args);
// Throws std::invalid_argument where weights or a state were packed by another instruction set.
void rnn_forward(RnnForwardArgs args);
void rnn_backward(RnnBackwardArgs args);

size_t rnn_packed_size(const RnnPackArgs& args);
void rnn_pack(RnnPackArgs args);
// Of a state that is kept from call to call, zeros at first.
size_t rnn_state_size(const RnnForwardArgs& args);
void rnn_reset_state(RnnForwardArgs args, const int64_t* rows, int64_t count);

}  // namespace seqfast::cpu

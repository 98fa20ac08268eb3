// The table of one instruction set's forward passes over a sequence.
#include "cpu/rnn/forward/walk.h"
#include "cpu/rnn/pass.h"
#include "cpu/rnn/table.h"

namespace seqfast::cpu::SEQFAST_ISA {

extern const RnnForwardKernels rnn_forward = {&workspace_of<RnnForward, RnnForwardArgs>,
                                              &run<RnnForward, RnnForwardArgs>,
                                              &packed_size,
                                              &pack,
                                              &state_size,
                                              &reset_state};

}  // namespace seqfast::cpu::SEQFAST_ISA

// The table of one instruction set's backward passes over a sequence.
#include "cpu/rnn/backward/walk.h"
#include "cpu/rnn/pass.h"
#include "cpu/rnn/table.h"

namespace seqfast::cpu::SEQFAST_ISA {

extern const RnnBackwardKernels rnn_backward = {&workspace_of<RnnBackward, RnnBackwardArgs>,
                                                &run<RnnBackward, RnnBackwardArgs>};

}  // namespace seqfast::cpu::SEQFAST_ISA

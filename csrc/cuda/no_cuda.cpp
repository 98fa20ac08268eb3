// Stands where the CUDA kernels would, or the host executor's copy of them: the same symbols, each
// raises.
#include <stdexcept>
#include <string>

#include "cuda/beam_search/beam_search.h"
#include "cuda/ctc/align.h"
#include "cuda/ctc/ctc.h"
#include "cuda/dropout/dropout.h"
#include "cuda/glove/glove.h"
#include "cuda/rnn/rnn.h"
#include "cuda/top_k/top_k.h"
#include "cuda/word2vec/word2vec.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

[[noreturn]] void refuse(const char* operation) {
    throw std::runtime_error(std::string(operation) + ": seqfast was built without " +
                             SEQFAST_CUDA_MISSING);
}

}  // namespace

size_t rnn_workspace_size(const GpuCall&, const RnnSizes&, const RnnOptions&, bool) {
    refuse("rnn_workspace_size");
}
RnnStrategy rnn_strategy(const GpuCall&, const RnnSizes&, const RnnOptions&, bool) {
    refuse("rnn_strategy");
}
RnnGroups rnn_groups(const GpuCall&, const RnnSizes&, const RnnOptions&, bool) {
    refuse("rnn_groups");
}
void rnn_forward(const RnnRecurrenceForwardArgs&) { refuse("rnn_forward"); }
void rnn_backward(const RnnRecurrenceBackwardArgs&) { refuse("rnn_backward"); }
void dropout(const GpuPlace&, const DropoutArgs&) { refuse("dropout"); }
void zero_padding(const GpuCall&, const ZeroPaddingArgs&) { refuse("zero_padding"); }
size_t word2vec_workspace_size(const GpuPlace&, const Word2VecArgs&) {
    refuse("word2vec_workspace_size");
}
void word2vec_train(const GpuPlace&, const Word2VecArgs&) { refuse("word2vec_train"); }
void glove_train(const GpuPlace&, const GloveArgs&) { refuse("glove_train"); }
void top_k(const GpuPlace&, const TopKArgs&) { refuse("top_k"); }
size_t beam_step_workspace_size(const GpuPlace&, const BeamStepArgs&) {
    refuse("beam_step_workspace_size");
}
void beam_step(const GpuPlace&, const BeamStepArgs&) { refuse("beam_step"); }
void beam_backtrack(const GpuPlace&, const BeamBacktrackArgs&) { refuse("beam_backtrack"); }
size_t ctc_beam_search_workspace_size(const GpuPlace&, const CtcBeamArgs&) {
    refuse("ctc_beam_search_workspace_size");
}
void ctc_beam_search(const GpuPlace&, const CtcBeamArgs&) { refuse("ctc_beam_search"); }
size_t ctc_align_workspace_size(const GpuPlace&, const CtcAlignArgs&) {
    refuse("ctc_align_workspace_size");
}
void ctc_align(const GpuPlace&, const CtcAlignArgs&) { refuse("ctc_align"); }

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

// Chooses the kernels of one instruction set, at start or when told to, and calls them.
#pragma once

#include <string>
#include <vector>

#include "core/beam_search.h"
#include "core/ctc.h"
#include "core/decoder.h"
#include "core/random.h"
#include "core/rnn.h"
#include "core/top_k.h"
#include "core/word2vec.h"

namespace seqfast::cpu {

std::vector<std::string> built_isas();
std::vector<std::string> available_isas();
std::string active_isa();

// Throws std::invalid_argument where the name is unknown or this CPU cannot run it.
void set_isa(const std::string& name);

// The best there is, or what SEQFAST_CPU_ISA names; called once when the module is loaded.
void choose_isa();

// OpenMP's own number of threads; 1 without OpenMP.
int max_threads();

// Of arguments that need no arrays yet, but for which of them there are.
size_t rnn_workspace_size(RnnForwardArgs args);
size_t rnn_workspace_size(RnnBackwardArgs args);
void rnn_forward(RnnForwardArgs args);
void rnn_backward(RnnBackwardArgs args);
void dropout(DType dtype, const DropoutArgs& args, int threads);
double measure_fma_peak(double seconds, int threads);
size_t word2vec_workspace_size(Word2VecArgs args);
void word2vec_train(Word2VecArgs args);
void word2vec_first_vectors(FirstVectorsArgs args);
void top_k(TopKArgs args);
size_t ctc_greedy_workspace_size(CtcGreedyArgs args);
void ctc_greedy(CtcGreedyArgs args);
size_t ctc_beam_search_workspace_size(CtcBeamArgs args);
void ctc_beam_search(CtcBeamArgs args);
size_t beam_step_workspace_size(BeamStepArgs args);
void beam_step(BeamStepArgs args);
void beam_backtrack(BeamBacktrackArgs args);

// A search's decoder: its workspace is prepared once and kept until the search ends.
size_t decoder_workspace_size(DecoderArgs args);
void decoder_start(DecoderArgs args);
// Steps of model and search until the search has ended or so much time is over; the last one's
// status.
int64_t decoder_run(DecoderArgs args, BeamStepArgs beams, double seconds);

// Asks for huge pages below an array that nobody has touched yet.
void use_huge_pages(void* array, size_t bytes);

}  // namespace seqfast::cpu

// Chooses the kernels of one instruction set, at start or when told to, and calls them.
#pragma once

#include <string>
#include <vector>

#include "core/rnn.h"

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

size_t lstm_workspace_size(RnnSizes sizes, bool backward);
void lstm_forward(LstmForwardArgs args);
void lstm_backward(LstmBackwardArgs args);
double measure_fma_peak(double seconds, int threads);

}  // namespace seqfast::cpu

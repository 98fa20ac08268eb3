// Kernels with one mistake each, and the same kernels without it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

std::vector<std::string> planted_bugs();
// Runs one of them, with its mistake or without; how many of its results are wrong.
int64_t run_planted_bug(const std::string& name, bool correct);

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

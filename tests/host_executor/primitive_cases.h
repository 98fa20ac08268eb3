// Small kernels around one primitive each, for tests that know what has to come out.
#pragma once

#include <cstdint>
#include <string>

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// What the arrays and numbers are, each case says.
void run_primitive_case(const std::string& name, void* const* arrays, const int64_t* numbers);

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

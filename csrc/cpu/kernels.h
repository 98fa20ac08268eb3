// The table every instruction set fills in; plain types only, so that no inline code is shared.
#pragma once

#include "core/random.h"
#include "core/rnn.h"
#include "core/top_k.h"
#include "core/word2vec.h"

namespace seqfast::cpu {

struct Kernels {
    const char* name;
    // Of arguments that need no arrays yet, but for which of them there are.
    size_t (*rnn_forward_workspace)(RnnForwardArgs);
    size_t (*rnn_backward_workspace)(RnnBackwardArgs);
    void (*rnn_forward)(const RnnForwardArgs&);
    void (*rnn_backward)(const RnnBackwardArgs&);
    void (*dropout)(DType dtype, const DropoutArgs&, int threads);
    double (*measure_fma_peak)(double seconds, int threads);  // GFLOP/s in float32
};

struct Word2VecKernels {
    size_t (*workspace)(const Word2VecArgs&);
    void (*train)(const Word2VecArgs&);
};

struct TopKKernels {
    void (*top_k)(const TopKArgs&);
};

// Each operation's file defines its own.
#define SEQFAST_TABLES                         \
    {                                          \
        extern const Kernels kernels;          \
        extern const Word2VecKernels word2vec; \
        extern const TopKKernels top_k;        \
    }
namespace baseline SEQFAST_TABLES
namespace avx2 SEQFAST_TABLES
namespace avx512 SEQFAST_TABLES
namespace avx512bf16 SEQFAST_TABLES
#undef SEQFAST_TABLES

}  // namespace seqfast::cpu

// The table of word vector kernels that every instruction set fills in; plain types only, so that
// no inline code is shared.
#pragma once

#include "core/word2vec.h"
#include "cpu/base/each_isa.h"

namespace seqfast::cpu {

struct Word2VecKernels {
    size_t (*workspace)(const Word2VecArgs&);
    void (*train)(const Word2VecArgs&);
    void (*first_vectors)(const FirstVectorsArgs&);
};

SEQFAST_IN_EACH_ISA(extern const Word2VecKernels word2vec;)

}  // namespace seqfast::cpu

// Word vectors on the CPU: entries that the bindings call.
#pragma once

#include "core/word2vec.h"

namespace seqfast::cpu {

size_t word2vec_workspace_size(Word2VecArgs args);
void word2vec_train(Word2VecArgs args);
void word2vec_first_vectors(FirstVectorsArgs args);

}  // namespace seqfast::cpu

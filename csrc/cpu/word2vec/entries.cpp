// Word vectors: what is prepared before the kernels of the active instruction set.
#include "cpu/base/entry.h"
#include "cpu/word2vec/table.h"
#include "cpu/word2vec/word2vec.h"

namespace seqfast::cpu {
namespace {

Kernels<Word2VecKernels> kernels() {
    static constexpr const Word2VecKernels* tables[] = SEQFAST_TABLES(word2vec);
    return Kernels<Word2VecKernels>(tables);
}

}  // namespace

size_t word2vec_workspace_size(Word2VecArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + kernels()->workspace(args);
}

void word2vec_train(Word2VecArgs args) {
    args.threads = usable_threads(args.threads);
    args.workspace = aligned(args.workspace);
    kernels()->train(args);
}

void word2vec_first_vectors(FirstVectorsArgs args) {
    args.threads = worthwhile_threads(args.threads, args.rows * args.size);
    kernels()->first_vectors(args);
}

}  // namespace seqfast::cpu

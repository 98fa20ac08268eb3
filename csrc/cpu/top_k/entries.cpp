// The k largest of each row: what is prepared before the kernels of the active instruction set.
#include "cpu/base/entry.h"
#include "cpu/top_k/table.h"
#include "cpu/top_k/top_k.h"

namespace seqfast::cpu {
namespace {

Kernels<TopKKernels> kernels() {
    static constexpr const TopKKernels* tables[] = SEQFAST_TABLES(top_k);
    return Kernels<TopKKernels>(tables);
}

}  // namespace

void top_k(TopKArgs args) {
    args.threads = worthwhile_threads(args.threads, args.rows * args.columns);
    kernels()->top_k(args);
}

}  // namespace seqfast::cpu

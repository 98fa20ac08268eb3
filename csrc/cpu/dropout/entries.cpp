// Dropout of whole arrays: what is prepared before the kernels of the active instruction set.
#include "cpu/base/entry.h"
#include "cpu/dropout/dropout.h"
#include "cpu/dropout/table.h"

namespace seqfast::cpu {
namespace {

Kernels<DropoutKernels> kernels() {
    static constexpr const DropoutKernels* tables[] = SEQFAST_TABLES(dropout);
    return Kernels<DropoutKernels>(tables);
}

}  // namespace

void dropout(DropoutArgs args) {
    args.threads = worthwhile_threads(args.threads, args.steps * args.rows * args.units, 16384);
    kernels()->run(args);
}

}  // namespace seqfast::cpu

// CTC decoding: what is prepared before the kernels of the active instruction set.
#include "cpu/base/entry.h"
#include "cpu/ctc/align_table.h"
#include "cpu/ctc/ctc.h"
#include "cpu/ctc/table.h"

namespace seqfast::cpu {
namespace {

Kernels<CtcKernels> kernels() {
    static constexpr const CtcKernels* tables[] = SEQFAST_TABLES(ctc);
    return Kernels<CtcKernels>(tables);
}

Kernels<CtcAlignKernels> align_kernels() {
    static constexpr const CtcAlignKernels* tables[] = SEQFAST_TABLES(ctc_align);
    return Kernels<CtcAlignKernels>(tables);
}

}  // namespace

size_t ctc_greedy_workspace_size(CtcGreedyArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + kernels()->greedy_workspace(args);
}

void ctc_greedy(CtcGreedyArgs args) {
    const CtcInput& input = args.input;
    args.threads = worthwhile_threads(row_threads(args.threads, input.batch),
                                      input.batch * input.frames * input.vocab);
    args.workspace = aligned(args.workspace);
    kernels()->greedy(args);
}

size_t ctc_beam_search_workspace_size(CtcBeamArgs args) {
    args.threads = row_threads(args.threads, args.input.batch);
    return kAlignment + kernels()->beam_workspace(args);
}

void ctc_beam_search(CtcBeamArgs args) {
    args.threads = row_threads(args.threads, args.input.batch);
    args.workspace = aligned(args.workspace);
    kernels()->beam_search(args);
}

size_t ctc_align_workspace_size(CtcAlignArgs args) {
    args.threads = row_threads(args.threads, args.input.batch);
    return kAlignment + align_kernels()->workspace(args);
}

void ctc_align(CtcAlignArgs args) {
    const CtcInput& input = args.input;
    args.threads = worthwhile_threads(row_threads(args.threads, input.batch),
                                      input.batch * input.frames * (args.longest + 1));
    args.workspace = aligned(args.workspace);
    align_kernels()->align(args);
}

}  // namespace seqfast::cpu

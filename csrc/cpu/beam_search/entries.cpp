// Beam search: what is prepared before the kernels of the active instruction set.
#include "cpu/base/entry.h"
#include "cpu/beam_search/beam_search.h"
#include "cpu/beam_search/table.h"

namespace seqfast::cpu {
namespace {

Kernels<BeamSearchKernels> kernels() {
    static constexpr const BeamSearchKernels* tables[] = SEQFAST_TABLES(beam_search);
    return Kernels<BeamSearchKernels>(tables);
}

}  // namespace

size_t beam_step_workspace_size(BeamStepArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + kernels()->step_workspace(args);
}

void beam_step(BeamStepArgs args) {
    const BeamOptions& o = args.options;
    args.threads = worthwhile_threads(args.threads, args.batch * o.beams * o.vocabulary);
    args.workspace = aligned(args.workspace);
    kernels()->step(args);
}

void beam_backtrack(BeamBacktrackArgs args) {
    // Each token is a cache miss of its own.
    const int64_t tokens = args.sentences * args.hypotheses * args.length;
    args.threads = worthwhile_threads(args.threads, tokens, 4096);
    kernels()->backtrack(args);
}

}  // namespace seqfast::cpu

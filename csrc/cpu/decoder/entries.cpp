// A decoder that a beam search steps: what is prepared before the kernels of the active instruction
// set.
#include <chrono>

#include "cpu/base/entry.h"
#include "cpu/beam_search/beam_search.h"
#include "cpu/decoder/decoder.h"
#include "cpu/decoder/table.h"

namespace seqfast::cpu {
namespace {

Kernels<DecoderKernels> kernels() {
    static constexpr const DecoderKernels* tables[] = SEQFAST_TABLES(decoder);
    return Kernels<DecoderKernels>(tables);
}

}  // namespace

size_t decoder_workspace_size(DecoderArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + kernels()->workspace(args);
}

void decoder_start(DecoderArgs args) {
    args.threads = usable_threads(args.threads);
    use_huge_pages(args.workspace, args.workspace_size);
    args.workspace = aligned(args.workspace);
    kernels()->start(args);
}

int64_t decoder_run(DecoderArgs args, BeamStepArgs beams, double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    args.threads = usable_threads(args.threads);
    args.workspace = aligned(args.workspace);
    beams.allowed = nullptr;
    *beams.status = kBeamStepFine;
    while (*beams.living > 0 && *beams.step < beams.capacity) {
        kernels()->step(args, beams);
        beam_step(beams);
        if (*beams.status != kBeamStepFine || Clock::now() >= end) break;
    }
    return *beams.status;
}

}  // namespace seqfast::cpu

// CTC decoding into words: what is prepared before the kernels of the active instruction set.
#include "cpu/base/entry.h"
#include "cpu/ctc_decoder/ctc_decoder.h"
#include "cpu/ctc_decoder/table.h"

namespace seqfast::cpu {
namespace {

Kernels<CtcDecodeKernels> kernels() {
    static constexpr const CtcDecodeKernels* tables[] = SEQFAST_TABLES(ctc_decoder);
    return Kernels<CtcDecodeKernels>(tables);
}

CtcDecodeArgs prepared(CtcDecodeArgs args) {
    args.threads = row_threads(args.threads, args.input.batch);
    args.memory = aligned(args.memory);
    args.workspace = aligned(args.workspace);
    return args;
}

}  // namespace

size_t ctc_decode_memory_size(const CtcDecodeArgs& args) {
    return kAlignment + static_cast<size_t>(args.input.batch *
                                            ctc_decode_layout(args.capacity, args.beam_size).size);
}

size_t ctc_decode_workspace_size(CtcDecodeArgs args) {
    args.threads = row_threads(args.threads, args.input.batch);
    return kAlignment + kernels()->workspace(args);
}

void ctc_decode_begin(CtcDecodeArgs args) { kernels()->begin(prepared(args)); }
void ctc_decode_frames(CtcDecodeArgs args) { kernels()->frames(prepared(args)); }
void ctc_decode_rank(CtcDecodeArgs args) { kernels()->rank(prepared(args)); }
void ctc_decode_walk(CtcDecodeArgs args) { kernels()->walk(prepared(args)); }

void ctc_decode_grow(CtcDecodeArgs args, int64_t capacity, char* memory) {
    const CtcDecodeArgs now = prepared(args);
    args.capacity = capacity;
    args.memory = memory;
    kernels()->grow(now, prepared(args));
}

}  // namespace seqfast::cpu

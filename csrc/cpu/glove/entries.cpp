// GloVe: the index of a text, and what is prepared before the kernels of the active instruction
// set.
#include "core/random.h"
#include "cpu/base/entry.h"
#include "cpu/glove/glove.h"
#include "cpu/glove/table.h"

namespace seqfast::cpu {
namespace {

Kernels<GloveKernels> kernels() {
    static constexpr const GloveKernels* tables[] = SEQFAST_TABLES(glove);
    return Kernels<GloveKernels>(tables);
}

}  // namespace

void text_index(const TextIndexArgs& args) {
    const int64_t tokens = args.offsets[args.sentences] - args.offsets[0];
    std::fill(args.starts, args.starts + args.vocabulary + 1, 0);
    // Of each word where it ends, one place further on; then places move it back to its begin.
    for (int64_t i = 0; i < tokens; ++i) ++args.starts[args.ids[i] + 1];
    for (int64_t word = 0; word < args.vocabulary; ++word) {
        args.starts[word + 1] += args.starts[word];
    }
    int32_t* text = args.text;
    *text++ = -1;
    for (int64_t sentence = 0; sentence < args.sentences; ++sentence) {
        const int64_t begin = args.offsets[sentence] - args.offsets[0];
        const int64_t end = args.offsets[sentence + 1] - args.offsets[0];
        for (int64_t i = begin; i < end; ++i) {
            const int32_t id = args.ids[i];
            args.places[args.starts[id]++] = static_cast<int32_t>(text - args.text);
            *text++ = id;
        }
        *text++ = -1;
    }
    for (int64_t word = args.vocabulary; word > 0; --word) {
        args.starts[word] = args.starts[word - 1];
    }
    args.starts[0] = 0;
}

size_t cooccurrences_workspace_size(CooccurrenceArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + kernels()->workspace(args);
}

void cooccurrences(CooccurrenceArgs args) {
    args.threads = usable_threads(args.threads);
    args.workspace = aligned(args.workspace);
    kernels()->count(args);
}

void glove_schedule(GloveScheduleArgs args) {
    args.threads = worthwhile_threads(args.threads, args.offsets[args.vocabulary]);
    kernels()->schedule(args);
}

void glove_strata(int32_t* order, int64_t blocks, int64_t seed, int64_t epoch) {
    const uint64_t key = static_cast<uint64_t>(seed), number = static_cast<uint64_t>(epoch);
    for (int64_t k = 0; k < blocks; ++k) {
        order[k] = static_cast<int32_t>(k);
        uint32_t counter[4] = {static_cast<uint32_t>(k / 4), static_cast<uint32_t>(number),
                               static_cast<uint32_t>(number >> 32), kStrataStream};
        philox<ScalarWords>(counter, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
        const uint64_t other = counter[k % 4] * static_cast<uint64_t>(k + 1) >> 32;
        std::swap(order[k], order[other]);
    }
}

void glove_train(GloveArgs args) {
    args.threads = usable_threads(args.threads);
    kernels()->train(args);
}

}  // namespace seqfast::cpu

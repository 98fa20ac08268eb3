// What the two kernels of a step of beam search share: keys, the plan of a launch, sums of a block.
#pragma once

#include "core/beam_search.h"
#include "cuda/base/search.cuh"
#include "cuda/base/selection.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

constexpr int kBeamWarps = kSelectionThreads / 32;
constexpr int kBeamPerThread = 16;  // logits that a thread has on their way at once
constexpr int kBeamTile = kSelectionThreads * kBeamPerThread;
constexpr int64_t kBeamMost = 1024;                      // beams of a sentence
constexpr int64_t kBeamMostProposals = kSelectionBatch;  // of a row

template <class Real>
using KeyOf = typename Keys<Real>::Key;
template <class Real>
using BeamSelection = SelectionOf<KeyOf<Real>>;

template <class T>
struct RealOf {
    using type = float;
};
template <>
struct RealOf<double> {
    using type = double;
};

// ---- The plan of a step -------------------------------------------------------------------------

// Of a row proposals lie idx-major within their group, so that a merging block reads them densely:
// [batch, groups, width, beams of the group].
struct BeamPlan {
    int64_t tiles, splits;     // of a row; blocks that share one
    int64_t proposals, width;  // of a row; with the EOS that are proposed in any case
    int64_t late;              // tokens of a row at most whose value is found when its sum is known
    bool edited;               // some value is not just a scaled logit
    double scale;              // of the logits
    void* sums;  // Real [rows, tiles, warps, 2] largest, and sum of exponentials relative to it
    void* keys;  // Key [rows, splits, proposals] where splits > 1
    uint32_t* late_tokens;  // [rows, late] twice the token, and 1 if it is penalised
    uint32_t* late_counts;  // [rows] zero between launches
    uint32_t* arrived;      // [rows] blocks that are done with it; zero between launches
    uint32_t* finished;     // [1] merging blocks that are done; zero between launches
    uint64_t* bad_row;      // [1] ~ of the first with NaN or +inf; zero: none, and between steps
    int32_t* counts;        // [rows] proposals
    void* totals;           // Real [rows * width] log-probabilities of the hypotheses
    void* orders;           // Real [rows * width] by which they are compared; -inf: none
    void* logprobs;         // Real [rows * width] of the tokens alone
    int32_t* tokens;        // [rows * width]
};

struct BeamParams {
    BeamStepArgs args;
    BeamPlan plan;
};

SEQFAST_DEVICE int64_t beams_of_group(const BeamOptions& o) { return o.beams / o.groups; }

// A search that has met a bad row stays as it was before that step, until the host looks.
SEQFAST_DEVICE bool stands_still(const BeamStepArgs& args) {
    return *args.status != kBeamStepFine || args.step[0] >= args.capacity;
}

// ---- Small things -------------------------------------------------------------------------------

template <class Real>
SEQFAST_DEVICE const Real* reals(const void* array) {
    return static_cast<const Real*>(array);
}
template <class Real>
SEQFAST_DEVICE Real* reals(void* array) {
    return static_cast<Real*>(array);
}
// Whether a token stands among rising ones.
SEQFAST_DEVICE bool is_among(const int32_t* tokens, int64_t count, int32_t token) {
    const int64_t at = count_front(count, [&](int64_t i) { return tokens[i] < token; });
    return at < count && tokens[at] == token;
}

// The largest of a block; `memory` has a place for each warp, and is free before and after.
template <class Real>
SEQFAST_DEVICE Real block_largest(Real value, Real* memory) {
    SEQFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        value = larger(value, shuffle_xor(value, distance));
    if (lane_index() == 0) memory[thread_index() / 32] = value;
    block_sync();
    value = memory[0];
    for (int warp = 1; warp < kBeamWarps; ++warp) value = larger(value, memory[warp]);
    block_sync();
    return value;
}

// Whether this block is the last of so many, which sees what all have written.
SEQFAST_DEVICE bool last_to_arrive(uint32_t* counter, int64_t blocks, uint32_t* memory) {
    memory_fence();
    block_sync();
    if (thread_index() == 0) *memory = atomic_add(counter, 1u);
    block_sync();
    const bool last = int64_t(*memory) == blocks - 1;
    block_sync();
    memory_fence();
    return last;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

// What the two kernels of a step of beam search share: keys, the plan of a launch, sums of a block.
#pragma once

#include "core/beam_search.h"
#include "cuda/base/selection.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

constexpr int kBeamWarps = kSelectionThreads / 32;
constexpr int kBeamPerThread = 16;  // logits that a thread has on their way at once
constexpr int kBeamTile = kSelectionThreads * kBeamPerThread;
constexpr int64_t kBeamMost = 1024;                      // beams of a sentence
constexpr int64_t kBeamMostProposals = kSelectionBatch;  // of a row

// ---- Keys: a number and what tells equal ones apart, larger for whoever comes first -------------

struct WideKey {
    uint64_t value, rest;
};
SEQFAST_DEVICE bool operator<(WideKey a, WideKey b) {
    return a.value < b.value || (a.value == b.value && a.rest < b.rest);
}

template <class Real>
struct Keys;

template <>
struct Keys<float> {
    using Key = uint64_t;
    static SEQFAST_DEVICE float lowest() { return float_of(0xFF7FFFFFu); }  // that is finite
    static SEQFAST_DEVICE float minus_infinity() { return float_of(0xFF800000u); }
    static SEQFAST_DEVICE float nan() { return float_of(0x7FFFFFFFu); }
    static SEQFAST_DEVICE Key make(float value, uint32_t place) {
        const uint32_t bits = value == 0 ? 0 : bits_of(value);  // -0 is 0
        return uint64_t(ordered_bits(bits)) << 32 | ~place;
    }
    static SEQFAST_DEVICE float value(Key key) { return float_of(score_bits(key)); }
    static SEQFAST_DEVICE float next_value(Key key) { return float_of(next_score_bits(key)); }
    static SEQFAST_DEVICE uint32_t place(Key key) { return ~uint32_t(key); }
};

template <>
struct Keys<double> {
    using Key = WideKey;
    static constexpr uint64_t sign = uint64_t(1) << 63;
    static SEQFAST_DEVICE double lowest() { return double_of(0xFFFFFFFFu, 0xFFEFFFFFu); }
    static SEQFAST_DEVICE double minus_infinity() { return double_of(0, 0xFFF00000u); }
    static SEQFAST_DEVICE double nan() { return double_of(0xFFFFFFFFu, 0x7FFFFFFFu); }
    static SEQFAST_DEVICE Key make(double value, uint32_t place) {
        const uint64_t bits = value == 0 ? 0 : bits_of(value);
        return {bits & sign ? ~bits : bits | sign, uint64_t(~place)};
    }
    static SEQFAST_DEVICE double number(uint64_t ordered) {
        const uint64_t bits = ordered & sign ? ordered & ~sign : ~ordered;
        return double_of(uint32_t(bits), uint32_t(bits >> 32));
    }
    static SEQFAST_DEVICE double value(Key key) { return number(key.value); }
    static SEQFAST_DEVICE double next_value(Key key) { return number(key.value + 1); }
    static SEQFAST_DEVICE uint32_t place(Key key) { return ~uint32_t(key.rest); }
};

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
template <class Real>
SEQFAST_DEVICE Real larger(Real a, Real b) {
    return b > a ? b : a;
}

// Whether a token stands among rising ones.
SEQFAST_DEVICE bool is_among(const int32_t* tokens, int64_t count, int32_t token) {
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (tokens[middle] < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && tokens[low] == token;
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

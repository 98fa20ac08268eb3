// Masks drawn by counter, 64 units at a time.
#pragma once

#include "core/random.h"
#include "cpu/base/range.h"
#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

constexpr int64_t kDrawUnits = 64;

// Which numbers, but for the units.
struct DrawAt {
    int64_t seed;
    uint32_t row, step, stream;
};

// f(i, words) for the units [64 * group, 64 * group + 64): words of those from i of the group on.
template <class F>
SEQFAST_INLINE void draw_words(const DrawAt& at, int64_t group, F&& f) {
    const uint64_t key = static_cast<uint64_t>(at.seed);
    for (int first = 0; first < 16; first += kWordLanes) {
        uint32_t index[kWordLanes];
        for (int l = 0; l < kWordLanes; ++l) {
            index[l] = static_cast<uint32_t>(group * 16 + first + l);
        }
        Words counter[4] = {bit_cast<Words>(index), Words{} + at.row, Words{} + at.step,
                            Words{} + at.stream};
        philox<VectorWords>(counter, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
        for (int word = 0; word < 4; ++word) f(word * 16 + first, counter[word]);
    }
}

// to[i] = `event` or `otherwise` for units [64 * group, 64 * group + 64).
template <class Real>
void draw_group(Real* to, const DrawAt& at, int64_t group, uint32_t threshold, Real event,
                Real otherwise) {
    draw_words(at, group, [&](int first, Words words) {
        const Words is_event = (Words)((words >> 8) < threshold);
        Real* target = to + first;
        if constexpr (sizeof(Real) == 4) {
            using Int = typename VectorTypes<Real>::Int;
            store(target, (Vector<Real>)((Int)is_event ? broadcast(event) : broadcast(otherwise)));
        } else {
            uint32_t events[kWordLanes];
            __builtin_memcpy(events, &is_event, sizeof(events));
            for (int l = 0; l < kWordLanes; ++l) target[l] = events[l] ? event : otherwise;
        }
    });
}

// Units [begin, end) of a row; `to` stands for unit begin / 64 * 64 and has whole groups.
template <class Real>
void draw_units(Real* to, const DrawAt& at, Range units, double probability, Real event,
                Real otherwise) {
    const uint32_t threshold = event_threshold(probability);
    const int64_t first = units.begin / kDrawUnits;
    for (int64_t group = first; group * kDrawUnits < units.end; ++group) {
        draw_group(to + (group - first) * kDrawUnits, at, group, threshold, event, otherwise);
    }
}

// What dropout leaves of an element, times what it scales it by.
template <class Real>
Real kept_scale(double probability) {
    return probability < 1 ? static_cast<Real>(1 / (1 - probability)) : Real(0);
}

}  // namespace seqfast::cpu::SEQFAST_ISA

// Gumbel variables by counter, 64 units at a time.
#pragma once

#include "cpu/base/exponentials.h"
#include "cpu/base/random.h"

namespace seqfast::cpu::SEQFAST_ISA {

// -ln(-ln(1 - v)) of v = (word + 1/2) / 2^32, a Gumbel variable.
template <class Real>
SEQFAST_INLINE Vector<Real> gumbel(Vector<Real> smaller_word, Vector<Real> is_high) {
    using V = Vector<Real>;
    using Int = typename VectorTypes<Real>::Int;
    // w is v, or 1 - v where v is above a half: near 1 too all its digits are there.
    const V w = (smaller_word + Real(0.5)) * Real(0x1p-32);
    const Int high = is_high > V{};
    V f, exponent;
    split_number<Real>(high ? w : Real(1) - w, f, exponent);
    const Int near_zero = ~high & (Int)(w < broadcast(Real(0.25)));
    f = near_zero ? -w : f;
    exponent = near_zero ? V{} : exponent;
    return -log<Real>(-log_of_parts<Real>(f, exponent));
}

// to[0..64) += the variables of units [64 group, 64 group + 64); see draw_words of random.h.
template <class Real>
void add_gumbel(Real* to, const DrawAt& at, int64_t group) {
    constexpr int lanes = kLanes<Real>;
    draw_words(at, group, [&](int first, Words drawn) {
        const Words high = (Words)(drawn > 0x7FFFFFFFu);
        const Words less = drawn ^ high;
        uint32_t words[kWordLanes], highs[kWordLanes];
        __builtin_memcpy(words, &less, sizeof(words));
        __builtin_memcpy(highs, &high, sizeof(highs));
        Real small[kWordLanes], is_high[kWordLanes];
        for (int l = 0; l < kWordLanes; ++l) {
            small[l] = static_cast<Real>(static_cast<int32_t>(words[l]));
            is_high[l] = highs[l] ? Real(1) : Real(0);
        }
        Real* target = to + first;
        for (int l = 0; l < kWordLanes; l += lanes) {
            store(target + l, load(target + l) + gumbel<Real>(load(small + l), load(is_high + l)));
        }
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA

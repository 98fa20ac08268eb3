// Sums of probabilities that are given as logarithms.
#pragma once

#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// log(e^a + e^b); a and b below infinity. Never below either of them.
template <class Real>
SEQFAST_INLINE Vector<Real> log_add(Vector<Real> a, Vector<Real> b) {
    using M = Math<Real>;
    using V = Vector<Real>;
    const V high = a > b ? a : b, low = a > b ? b : a;
    V r;
    const V n = M::reduce(M::clamp(low - high, M::C::exp_limit), r);
    const V y = M::scale((M::exp_tail(r) * r + 1) * r + 1, n);
    // log(1 + y) = 2 artanh(s), a series in s^2 <= 1/9: so many terms leave less than rounding
    // does.
    const V s = y / (2 + y), square = s * s;
    constexpr int terms = sizeof(Real) == 4 ? 8 : 17;
    V series = broadcast(Real(1) / (2 * terms - 1));
#pragma GCC unroll 17
    for (int term = terms - 2; term >= 0; --term) {
        series = series * square + Real(1) / (2 * term + 1);
    }
    const V none = broadcast(-static_cast<Real>(__builtin_inf()));
    return high > none ? high + 2 * s * series : high;
}

}  // namespace seqfast::cpu::SEQFAST_ISA

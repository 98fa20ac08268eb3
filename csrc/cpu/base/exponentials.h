// Powers and logarithms of vectors, and sums of exponentials of a row that cannot overflow.
#pragma once

#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// 2^f on |f| <= 1/2, of least relative error: 7.5e-8 and 3e-18.
template <class Real>
struct Exp2Constants;

template <>
struct Exp2Constants<float> {
    static constexpr float least = -126.0f;
    static constexpr int terms = 6;
    static constexpr float polynomial[terms] = {1.00000007165f,    0.693146967065f,
                                                0.240221197237f,   0.0555071327186f,
                                                0.00967554134312f, 0.0013276472632f};
    // The same on 0 <= f < 1.
    static constexpr float above_floor[terms] = {0.999999925064f,  0.693153073207f,
                                                 0.240153616983f,  0.0558263182317f,
                                                 0.0089893398766f, 0.00187757676566f};
    static constexpr int log_terms = 5;
};

template <>
struct Exp2Constants<double> {
    static constexpr double least = -1022.0;
    static constexpr int terms = 12;
    static constexpr double polynomial[terms] = {
        0.9999999999999999971,    0.69314718055994533046,   0.24022650695910156204,
        0.055504108664819921605,  0.0096181291075883352443, 0.0013333558146789921722,
        1.5403530462532414432e-4, 1.5252733488989525649e-5, 1.321543308967639918e-6,
        1.0178198021671930844e-7, 7.0741056135081427963e-9, 4.4352827069572771511e-10};
    static constexpr int log_terms = 11;
};

constexpr double kLog2OfE = 1.44269504088896340736;

template <class Real, int terms>
SEQFAST_INLINE Vector<Real> polynomial_of(const Real (&polynomial)[terms], Vector<Real> x) {
    Vector<Real> sum = broadcast(polynomial[terms - 1]);
#pragma GCC unroll 16
    for (int term = terms - 2; term >= 0; --term) {
        sum = fused(broadcast(polynomial[term]), sum, x);
    }
    return sum;
}

// 2^t for t up to some ten; what is smaller than the least normal number may become that number.
template <class Real>
SEQFAST_INLINE Vector<Real> exp2(Vector<Real> t) {
    using C = Exp2Constants<Real>;
    using V = Vector<Real>;
    if constexpr (Math<Real>::splits) {
        const V power = polynomial_of(C::above_floor, Math<Real>::above_floor(t));
        return Math<Real>::scale(power, t);
    } else {
        t = t < broadcast(C::least) ? broadcast(C::least) : t;  // NaN stays
        const V magic = broadcast(Real(ExpConstants<Real>::round_magic));
        const V whole = (t + magic) - magic;
        return Math<Real>::scale(polynomial_of(C::polynomial, t - whole), whole);
    }
}

// ln((1 + f) 2^exponent) = exponent ln 2 + 2 artanh(f / (2 + f)), for 1 + f from 0.7 to 1.42.
template <class Real>
SEQFAST_INLINE Vector<Real> log_of_parts(Vector<Real> f, Vector<Real> exponent) {
    using V = Vector<Real>;
    constexpr int terms = Exp2Constants<Real>::log_terms;
    const V s = f / (f + Real(2));
    const V square = s * s;
    V sum = broadcast(Real(2) / (2 * terms + 1));
#pragma GCC unroll 16
    for (int k = terms - 1; k > 0; --k) {
        sum = fused(broadcast(Real(2) / Real(2 * k + 1)), sum, square);
    }
    const V small = fused(exponent * ExpConstants<Real>::ln2_low, s * square, sum);
    return fused(fused(small, s, broadcast(Real(2))), exponent,
                 broadcast(Real(ExpConstants<Real>::ln2_high)));
}

// x = (1 + f) 2^exponent with 1 + f from 0.7 to 1.42; x is positive and normal.
template <class Real>
SEQFAST_INLINE void split_number(Vector<Real> x, Vector<Real>& f, Vector<Real>& exponent) {
    using Int = typename VectorTypes<Real>::Int;
    using V = Vector<Real>;
    constexpr int bits = ExpConstants<Real>::mantissa_bits;
    const Int whole = ((Int)x - (Int)broadcast(Real(0.70710678118654752440))) >> bits;
    f = (V)((Int)x - (whole << bits)) - Real(1);
    exponent = __builtin_convertvector(whole, V);
}

template <class Real>
SEQFAST_INLINE Vector<Real> log(Vector<Real> x) {
    Vector<Real> f, exponent;
    split_number<Real>(x, f, exponent);
    return log_of_parts<Real>(f, exponent);
}

// Of one number each; x <= 0, and x > 0.
inline double exp_of(double x) { return exp2<double>(broadcast(x * kLog2OfE))[0]; }
inline double log_of(double x) { return log<double>(broadcast(x))[0]; }

template <class Real>
constexpr Real kInfinity = static_cast<Real>(__builtin_inf());
template <class Real>
constexpr Real kLowest =
    static_cast<Real>(sizeof(Real) == 4 ? -0x1.fffffep127 : -0x1.fffffffffffffp1023);

// A sum of e^x is sum e^largest, where x is never larger.
template <class Real>
struct ExpSum {
    Real largest, sum;
};

// Sums blocks of numbers, each relative to the largest seen so far.
template <class Real, int block>
class ExpSummer {
  public:
    using V = Vector<Real>;
    static constexpr int lanes = kLanes<Real>, chains = 4;
    static_assert(block % (chains * lanes) == 0, "whole vectors");

    static SEQFAST_INLINE Real largest_of(const Real* x) {
        V largest[chains];
        for (int c = 0; c < chains; ++c) largest[c] = load(x + c * lanes);
        for (int i = chains * lanes; i < block; i += chains * lanes) {
#pragma GCC unroll 4
            for (int c = 0; c < chains; ++c) {
                const V more = load(x + i + c * lanes);
                largest[c] = more > largest[c] ? more : largest[c];
            }
        }
        for (int c = 1; c < chains; ++c) {
            largest[0] = largest[c] > largest[0] ? largest[c] : largest[0];
        }
        return horizontal_max<Real>(largest[0]);
    }

    // `largest` is largest_of(x). NaN makes the sum NaN, and so does +inf.
    SEQFAST_INLINE void add(const Real* x, Real largest) {
        if (largest > largest_) {
            const V factor = exp2<Real>(broadcast((largest_ - largest) * Real(kLog2OfE)));
            for (int c = 0; c < chains; ++c) sums_[c] *= factor;
            largest_ = largest;
        }
        if (largest_ == -kInfinity<Real>) {
            for (int i = 0; i < block; ++i) {
                if (x[i] != x[i]) sums_[0] = broadcast(x[i]);
            }
            return;
        }
        const V reference = broadcast(largest_), scale = broadcast(Real(kLog2OfE));
        for (int i = 0; i < block; i += chains * lanes) {
#pragma GCC unroll 4
            for (int c = 0; c < chains; ++c) {
                sums_[c] += exp2<Real>((load(x + i + c * lanes) - reference) * scale);
            }
        }
    }

    ExpSum<Real> result() const {
        return {largest_, horizontal_sum<Real>((sums_[0] + sums_[1]) + (sums_[2] + sums_[3]))};
    }

  private:
    V sums_[chains] = {};
    Real largest_ = -kInfinity<Real>;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

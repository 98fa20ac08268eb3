// Row-wide sums of layer normalisation, in an order that no team changes.
#pragma once

#include "core/rnn.h"
#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// One where a lane is below count.
template <class Real>
SEQFAST_INLINE Vector<Real> lane_mask(int count) {
    alignas(64) Real ones[kLanes<Real>];
    for (int l = 0; l < kLanes<Real>; ++l) ones[l] = l < count ? Real(1) : Real(0);
    return load(ones);
}

// Sums over parts of a row, added up in the order of the parts: the same for any team.
template <class Real>
struct Moments {
    Real count, sum, squares;  // squares: of the distances to the mean

    // f(k): the k-th vector, of which only the lanes of `mask` count.
    template <class VectorAt>
    static SEQFAST_INLINE Moments of(int vectors, Vector<Real> mask, int lanes, VectorAt&& f) {
        Moments result;
        result.count = static_cast<Real>(vectors * lanes);
        Vector<Real> sum{};
        for (int k = 0; k < vectors; ++k) sum += f(k) * mask;
        result.sum = horizontal_sum<Real>(sum);
        const Vector<Real> mean = broadcast(result.sum / result.count);
        Vector<Real> squares{};
        for (int k = 0; k < vectors; ++k) {
            const Vector<Real> distance = (f(k) - mean) * mask;
            squares += distance * distance;
        }
        result.squares = horizontal_sum<Real>(squares);
        return result;
    }

    // T. Chan, G. Golub, R. LeVeque: Updating formulae and a pairwise algorithm for computing
    // sample variances. 1979.
    void add(const Moments& other) {
        const Real total = count + other.count;
        const Real between = other.sum / other.count - (count > 0 ? sum / count : Real(0));
        squares += other.squares + between * between * count * other.count / total;
        sum += other.sum;
        count = total;
    }
    Real mean() const { return sum / count; }
    Real rstd() const {
        const double variance = static_cast<double>(squares / count);
        return static_cast<Real>(1 / __builtin_sqrt(variance + kNormEpsilon));
    }
};

template <class Real>
Moments<Real> add_up(const Moments<Real>* parts, int64_t count, int64_t stride) {
    Moments<Real> total{0, 0, 0};
    for (int64_t i = 0; i < count; ++i) total.add(parts[i * stride]);
    return total;
}

// What the backward pass needs of a row: the sums of dx^ and of dx^ * x^ over its elements.
template <class Real>
struct GradientSums {
    Real sum, product;
};

template <class Real>
GradientSums<Real> add_up(const GradientSums<Real>* parts, int64_t count, int64_t stride) {
    GradientSums<Real> total{0, 0};
    for (int64_t i = 0; i < count; ++i) {
        total.sum += parts[i * stride].sum;
        total.product += parts[i * stride].product;
    }
    return total;
}

}  // namespace seqfast::cpu::SEQFAST_ISA

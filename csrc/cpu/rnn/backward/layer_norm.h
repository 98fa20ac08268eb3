// Back through layer normalisation: the sums over a row, and what they leave of its gradients.
#pragma once

#include "cpu/rnn/backward/saved.h"
#include "cpu/rnn/backward/state.h"

namespace seqfast::cpu::SEQFAST_ISA {

// f(unit, count) for every vector of the cells' units.
template <class Real, class Storage, class F>
void for_each_own(const BackwardPlan<Real, Storage>& plan, const BackwardShare<Real>& own, F&& f) {
    const Range mine = plan.own_units(own);
    for (int64_t v = mine.begin; v < mine.end; ++v) {
        f(v * kLanes<Real>,
          static_cast<int>(smaller(kLanes<Real>, plan.sizes.hidden_size - v * kLanes<Real>)));
    }
}

// Of one vector of units: the sums over the row that the gradient of the product needs, and
// the shares of the weights' gradients. grads: of the pre-activations, gate by gate.
template <int count_gates, class Real, class Storage, class Count>
SEQFAST_INLINE void add_product_sums(const BackwardPlan<Real, Storage>& plan,
                                     const BackwardChunk<Real, Storage>& chunk,
                                     const BackwardShare<Real>& own, int64_t j,
                                     const BackwardRow& at, int64_t unit,
                                     const Vector<Real> (&grads)[count_gates], Count count) {
    const int64_t units = plan.sizes.hidden_size;
    const Vector<Real> mask = lane_mask<Real>(count);
    const Storage* normalised = plan.normalised_at(at.index, unit);
    const auto* weight =
        static_cast<const Storage*>(plan.args.weights[own.direction].weight_norm_hh);
    Real* to = chunk.grad_gates + at.item * plan.width + plan.columns.gates * units + unit;
    Vector<Real> sum[2] = {}, product[2] = {};
    for (int g = 0; g < count_gates; ++g) {
        const int k = plan.columns.split() && g == count_gates - 1;
        const Vector<Real> x = load<Real>(normalised + g * units, count);
        const Vector<Real> grad = grads[g] * load<Real>(weight + g * units + unit, count);
        sum[k] += grad * mask;
        product[k] += grad * x * mask;
        store(to + g * units, grad, count);
        store_extra(plan, chunk, at, plan.extras.norm_product + g, unit, grads[g] * x, count);
    }
    plan.sums_at(own, j, sums_of_product)[unit / kLanes<Real>] = {horizontal_sum<Real>(sum[0]),
                                                                  horizontal_sum<Real>(product[0])};
    plan.sums_at(own, j, sums_of_candidate)[unit / kLanes<Real>] = {
        horizontal_sum<Real>(sum[1]), horizontal_sum<Real>(product[1])};
}

// The gradients of the products, once all of the row is there.
template <class Real, class Storage>
void unnormalise(const BackwardPlan<Real, Storage>& plan, const BackwardShare<Real>& own,
                 const BackwardChunk<Real, Storage>& chunk, int64_t j) {
    const BackwardRow& at = own.steps[j];
    const int64_t units = plan.sizes.hidden_size;
    const Real* statistics = plan.statistics_of(at);
    const int together = plan.columns.gates - plan.columns.split();
    const Real counts[2] = {static_cast<Real>(together * units), static_cast<Real>(units)};
    GradientSums<Real> mean[2];
    for (int k = 0; k < 2; ++k) {
        mean[k] = add_up(plan.sums_at(own, j, k == 0 ? sums_of_product : sums_of_candidate),
                         plan.vectors(), 1);
        mean[k].sum /= counts[k];
        mean[k].product /= counts[k];
    }
    for_each_own(plan, own, [&](int64_t unit, int count) {
        const Storage* normalised = plan.normalised_at(at.index, unit);
        Real* grad = chunk.grad_gates + at.item * plan.width + plan.columns.gates * units + unit;
        for (int g = 0; g < plan.columns.gates; ++g) {
            const int k = g >= together;
            const Vector<Real> x = load<Real>(normalised + g * units, count);
            const Vector<Real> d = load<Real>(grad + g * units, count);
            store(grad + g * units,
                  (d - mean[k].sum - x * mean[k].product) * statistics[rstd_product + k], count);
        }
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA

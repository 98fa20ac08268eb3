// Layer normalisation of a forward step: of the recurrent product and of the cell.
#pragma once

#include "cpu/rnn/forward/input.h"
#include "cpu/rnn/forward/state.h"

namespace seqfast::cpu::SEQFAST_ISA {

template <class Real, class Storage>
Moments<Real> total(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                    int64_t j, ForwardMoments what) {
    return add_up(plan.moments_of(own, j, what), plan.vectors(), 1);
}

// The recurrent product by itself, and its moments.
template <class Real, class Storage>
void multiply_apart(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                    const BlockStep& at) {
    const int64_t outputs = plan.sizes.output_size(), gates = plan.columns.gates;
    const int64_t offset = at.block * plan.group * gates * kLanes<Real>;
    const int64_t block_vectors = plan.vectors_of(at.block) * gates;
    const Real* const* left = own.hidden_rows[at.step & 1];
    if (plan.direct) {
        for (int64_t j = 0; j < at.active; ++j) {
            for (int64_t v = 0; v < block_vectors; ++v) {
                store(plan.product_row(own, j) + offset + v * kLanes<Real>, Vector<Real>{});
            }
        }
        multiply_unpacked(
            plan, at.block, left, plan.args.weights[own.direction].weight_hh, outputs,
            plan.columns.gates, [](int c) { return c; },
            UnpackedTarget<Real>{own.product + offset, plan.product_stride(), plan.columns.gates,
                                 0},
            at.active);
    } else {
        Product<Real> product{};
        product.left = left;
        product.depth = plan.depth_of(outputs);
        product.panel = plan.panel(own.weights.weight_hh, at.block, plan.columns.gates, 0, outputs);
        product.target = own.product + offset;
        product.target_stride = plan.product_stride();
        multiply(plan, product, own.quantized_hidden, at.active, block_vectors);
    }
    for (int64_t j = 0; j < at.active; ++j) {
        const Real* row = plan.product_row(own, j) + offset;
        for_each_vector_of(plan, at.block, [&](int64_t v, int64_t unit, int count) {
            const Vector<Real> mask = lane_mask<Real>(count);
            const auto gate = [&](int g) { return load(row + (v * gates + g) * kLanes<Real>); };
            plan.moments_of(own, j, of_product)[unit / kLanes<Real>] =
                Moments<Real>::of(plan.columns.gates - plan.columns.split(), mask, count, gate);
            if (plan.columns.split()) {
                plan.moments_of(own, j, of_candidate)[unit / kLanes<Real>] = Moments<Real>::of(
                    1, mask, count, [&](int) { return gate(plan.columns.gates - 1); });
            }
        });
    }
}

// Pre-activations += normalised product times its weight, for one row.
template <class Real, class Storage>
void add_normalised(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                    int64_t j, int64_t first) {
    const int64_t units = plan.sizes.hidden_size, gates = plan.columns.gates;
    const Moments<Real> product = total(plan, own, j, of_product);
    const Moments<Real> candidate =
        plan.columns.split() ? total(plan, own, j, of_candidate) : product;
    const Real mean[2] = {product.mean(), candidate.mean()};
    const Real rstd[2] = {product.rstd(), candidate.rstd()};
    const auto* weight =
        static_cast<const Storage*>(plan.args.weights[own.direction].weight_norm_hh);
    const int64_t index = own.steps[j].index;
    auto* saved = static_cast<Storage*>(plan.args.gates);
    if (saved) saved += (index * plan.saved_columns() + plan.traits.saved()) * units;
    if (plan.args.gates && own.blocks.begin == 0) {
        Real* to = static_cast<Real*>(plan.args.statistics) + index * statistics_count;
        to[rstd_product] = rstd[0];
        to[rstd_candidate] = plan.columns.split() ? rstd[1] : Real(0);
        to[mean_cell] = to[rstd_cell] = Real(0);
    }
    for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
        for_each_vector_of(plan, b, [&](int64_t v, int64_t unit, int count) {
            const int64_t vector = b * plan.group + v;
            const Real* from = plan.product_row(own, j) + vector * gates * kLanes<Real>;
            Real* to = plan.preactivation(own, b, first + j) +
                       (v * plan.columns.columns + plan.columns.first_recurrent) * kLanes<Real>;
            for (int g = 0; g < gates; ++g) {
                const int k = plan.columns.split() && g == gates - 1;
                const Vector<Real> x = (load(from + g * kLanes<Real>) - mean[k]) * rstd[k];
                if (saved) store(saved + g * units + unit, x, count);
                store(to + g * kLanes<Real>, load(to + g * kLanes<Real>) +
                                                 x * load<Real>(weight + g * units + unit, count));
            }
        });
    }
}

// The output gate times the tanh of the normalised cell, or the normalised cell itself, for one
// row; the cells left both.
template <class Real, class Storage>
void write_normalised(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                      int64_t step, int64_t j, int64_t first) {
    const Moments<Real> cell = total(plan, own, j, of_cell);
    const Real mean = cell.mean(), rstd = cell.rstd();
    const RnnWeights& weights = plan.args.weights[own.direction];
    const auto* weight = static_cast<const Storage*>(weights.weight_norm_cell);
    const auto* bias = static_cast<const Storage*>(weights.bias_norm_cell);
    if (plan.args.gates && own.blocks.begin == 0) {
        Real* to = static_cast<Real*>(plan.args.statistics) + own.steps[j].index * statistics_count;
        to[mean_cell] = mean;
        to[rstd_cell] = rstd;
    }
    for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
        for_each_vector_of(plan, b, [&](int64_t v, int64_t unit, int count) {
            const Real* o = plan.preactivation(own, b, first + j) +
                            (v * plan.columns.columns + plan.columns.gates - 1) * kLanes<Real>;
            const Vector<Real> c = load(plan.between + own.steps[j].row * plan.cell_stride + unit);
            const Vector<Real> x = (c - mean) * rstd;
            const Vector<Real> seen =
                x * load<Real>(weight + unit, count) + load<Real>(bias + unit, count);
            const Vector<Real> h =
                load(o) * (plan.cell_options.linear_cell ? seen : Math<Real>::tanh(seen));
            write_hidden<true>(plan, own, step, j, unit, h, count);
        });
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

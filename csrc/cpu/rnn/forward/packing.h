// Weights as the products of a forward pass read them.
#pragma once

#include "cpu/rnn/forward/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

// f(block, v, first, count): every vector of units whose weights this thread packs; the threads
// that share these units share the packing.
template <class Real, class Storage, class F>
void for_each_packed(const ForwardPlan<Real, Storage>& plan, const Place& place,
                     const ForwardShare<Real>& own, F&& f) {
    const Range part = part_of(own.blocks.size(), plan.team.row_groups, place.row_group);
    for (int64_t b = own.blocks.begin + part.begin; b < own.blocks.begin + part.end; ++b) {
        for (int64_t v = 0; v < plan.vectors_of(b); ++v) {
            const int64_t first = plan.first_unit(b) + v * kLanes<Real>;
            f(b, v, first, static_cast<int>(smaller(kLanes<Real>, plan.sizes.hidden_size - first)));
        }
    }
}

// One column of one vector of units; `weight` points at its first unit's row.
template <class Real, class Storage>
void pack_column(const ForwardPlan<Real, Storage>& plan, Real* panel, int64_t vectors,
                 int64_t vector, const Storage* weight, int64_t size, int count) {
    Real* to = panel + vector * kLanes<Real>;
    if (plan.paired) {
        pack_transposed_vector(to, vectors * kLanes<Real>, reinterpret_cast<const Real*>(weight),
                               size / 2, count);
    } else {
        pack_transposed_vector(to, vectors * kLanes<Real>, weight, size, count);
    }
}

template <class Real, class Storage>
void pack_weights(const ForwardPlan<Real, Storage>& plan, const Place& place,
                  const ForwardShare<Real>& own) {
    const RnnWeights& weights = plan.args.weights[own.direction];
    const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
    const auto* weight_ih = static_cast<const Storage*>(weights.weight_ih);
    const auto* weight_hh = static_cast<const Storage*>(weights.weight_hh);
    const auto* bias_ih = static_cast<const Storage*>(weights.bias_ih);
    const auto* bias_hh = static_cast<const Storage*>(weights.bias_hh);
    const int first_recurrent = plan.columns.first_recurrent;
    for_each_packed(plan, place, own, [&](int64_t b, int64_t v, int64_t first, int count) {
        const int64_t unit_vectors = plan.vectors_of(b);
        for (int c = 0; c < plan.columns.columns; ++c) {
            Vector<Real> bias{};
            if (bias_ih && c < plan.columns.gates) {
                bias += load<Real>(bias_ih + plan.columns.input_gate(c) * units + first, count);
            }
            if (bias_hh && c >= first_recurrent) {
                bias += load<Real>(bias_hh + plan.columns.recurrent_gate(c) * units + first, count);
            }
            store(plan.bias + b * plan.width + (v * plan.columns.columns + c) * kLanes<Real>, bias);
        }
        if (plan.direct) return;
        for (int c = 0; c < plan.columns.gates && !plan.given_product; ++c) {
            const int64_t row = plan.columns.input_gate(c) * units + first;
            pack_column(plan,
                        plan.panel(plan.weight_ih, b, plan.columns.gates, 0, plan.sizes.input_size),
                        unit_vectors * plan.columns.gates, v * plan.columns.gates + c,
                        weight_ih + row * plan.sizes.input_size, plan.sizes.input_size, count);
        }
        for (int g = 0; g < plan.columns.recurrent; ++g) {
            pack_column(plan, plan.panel(plan.weight_hh, b, plan.columns.recurrent, 0, outputs),
                        unit_vectors * plan.columns.recurrent, v * plan.columns.recurrent + g,
                        weight_hh + (g * units + first) * outputs, outputs, count);
        }
        if (plan.traits.has_second_product) {
            const int last = plan.columns.recurrent;
            pack_column(plan, plan.panel(plan.weight_hh, b, 1, last, outputs), 1, 0,
                        weight_hh + (last * units + first) * outputs, outputs, count);
        }
    });
    if (!plan.sizes.proj_size || place.row_group != 0) return;
    const auto* weight_hr = static_cast<const Storage*>(weights.weight_hr);
    for (int64_t p = 0; p < own.projection.panels(); ++p) {
        const Range vectors = own.projection.panel(p);
        Real* panel = plan.projection_panel(own, p);
        for (int64_t v = vectors.begin; v < vectors.end; ++v) {
            pack_transposed_vector(
                panel + (v - vectors.begin) * kLanes<Real>, vectors.size() * kLanes<Real>,
                weight_hr + v * kLanes<Real> * units, units, own.projection.lanes_of(v));
        }
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

// Weights as the products of a backward pass read them.
#pragma once

#include "cpu/rnn/backward/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

template <class Real>
Real* first_panel(Real* packed, const PanelLayout<Real>& layout) {
    return packed + layout.vectors.begin * kLanes<Real> * layout.depth;
}

template <class Real, class Storage>
void pack_weights(const BackwardPlan<Real, Storage>& plan, const Place& place,
                  const BackwardShare<Real>& own) {
    const RnnWeights& weights = plan.args.weights[own.direction];
    const auto* weight_hh = static_cast<const Storage*>(weights.weight_hh);
    const auto* weight_hr = static_cast<const Storage*>(weights.weight_hr);
    const auto* weight_ih = static_cast<const Storage*>(weights.weight_ih);
    const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
    // Threads with the same units, one in each row group, share the packing by depth.
    const auto pack = [](const PanelLayout<Real>& layout, Range depth, Real* packed, auto&& row) {
        pack_rows(layout, depth, packed, row);
    };
    const int64_t groups = plan.team.row_groups, group = place.row_group;
    pack(own.recurrent, part_of(own.recurrent.depth, groups, group),
         first_panel(plan.weight_hh, own.recurrent),
         [&](int64_t k) { return weight_hh + k * outputs; });
    if (plan.traits.has_second_product) {
        pack(own.candidate, part_of(units, groups, group),
             first_panel(plan.weight_candidate, own.candidate),
             [&](int64_t k) { return weight_hh + (plan.second_gate() * units + k) * outputs; });
    }
    if (plan.sizes.proj_size) {
        pack(own.projection, part_of(plan.sizes.proj_size, groups, group),
             first_panel(plan.weight_hr, own.projection),
             [&](int64_t k) { return weight_hr + k * units; });
    }
    if (plan.args.grad_input && !plan.given_product) {
        const int64_t depth = plan.columns.gates * units;
        pack(whole<Real>(plan.sizes.input_size, depth),
             part_of(depth, plan.team.size(), place.thread), plan.weight_ih, [&](int64_t k) {
                 const int64_t gate = plan.columns.input_gate(static_cast<int>(k / units));
                 return weight_ih + (gate * units + k % units) * plan.sizes.input_size;
             });
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

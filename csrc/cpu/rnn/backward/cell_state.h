// Back through a cell that has a state of its own, normalised or not.
#pragma once

#include "cpu/rnn/backward/layer_norm.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Of a normalised cell, what its own normalisation adds up over the row.
template <class Real>
struct NormalisedGradient {
    Vector<Real> activated_cell, grad_unzoned;
};

template <class Kind, bool general, class Real, class Storage, class Count>
SEQFAST_INLINE void run_cell_state(const BackwardPlan<Real, Storage>& plan,
                                   const BackwardChunk<Real, Storage>& chunk,
                                   const BackwardShare<Real>& own, int64_t j, const BackwardRow& at,
                                   int64_t unit, Vector<Real> grad_hidden, Count count,
                                   const NormalisedGradient<Real>* normalised) {
    using Cell = typename Kind::template Cell<Math<Real>, general>;
    constexpr int saved = Kind::traits().saved();
    const int64_t units = plan.sizes.hidden_size;
    Vector<Real> gates[saved];
    load_gates(plan, at, unit, gates, count);
    const Real* cells = static_cast<const Real*>(plan.args.cells) + unit;
    const Vector<Real> cell = load<Real>(cells + at.index * units, count);
    StepInputs<Vector<Real>> inputs = step_inputs<general>(
        own.masks, plan.peephole_weights(own.direction), units, j, unit, count);
    inputs.previous_cell = previous_cell(plan, own, at, unit, count);
    Real* carried = plan.grad_cell + at.row * plan.cell_stride + unit;
    Vector<Real> grad_cell = load(carried);
    if (general && at.cut) grad_cell = Vector<Real>{};
    if (plan.args.grad_cells) {
        grad_cell += load<Real>(
            static_cast<const Real*>(plan.args.grad_cells) + at.index * units + unit, count);
    }
    const Vector<Real> unzoned = Cell::unzoned_cell(plan.cell_options, inputs, gates, cell);
    const Vector<Real> activated_cell =
        normalised ? normalised->activated_cell : Cell::activated(plan.cell_options, unzoned);
    const Vector<Real> grad_unzoned =
        normalised ? normalised->grad_unzoned
                   : Cell::grad_of_cell(plan.cell_options, gates, activated_cell, grad_hidden);
    Vector<Real> grads[saved], grad_peephole[3] = {};
    Cell::backward(plan.cell_options, inputs, gates, unzoned, activated_cell, grad_hidden,
                   grad_unzoned, grad_cell, grads, grad_peephole);
    store(carried, grad_cell);
    store_columns(plan, chunk, at, unit, grads, count);
    if constexpr (general) {
        if (plan.peephole) {
            for (int k = 0; k < 3; ++k) {
                store_extra(plan, chunk, at, plan.extras.peephole + k, unit, grad_peephole[k],
                            count);
            }
        }
        if (plan.sizes.proj_size) {
            store(chunk.cell_output + at.item * units + unit,
                  Cell::output_of_activated(gates, activated_cell), count);
        }
        if (plan.options.layer_norm) add_product_sums(plan, chunk, own, j, at, unit, grads, count);
    }
}

// x: the normalised cell; activated_cell: what the output gate lets through of it; slope:
// from its scaled value to the output.
template <class Real>
struct NormalisedCell {
    Vector<Real> x, activated_cell, slope;
};

template <class Kind, class Real, class Storage, class Count>
SEQFAST_INLINE NormalisedCell<Real> normalised_cell(const BackwardPlan<Real, Storage>& plan,
                                                    const BackwardShare<Real>& own, int64_t j,
                                                    const BackwardRow& at, int64_t unit,
                                                    Count count) {
    using Cell = typename Kind::template Cell<Math<Real>, true>;
    const RnnWeights& weights = plan.args.weights[own.direction];
    const Real* statistics = plan.statistics_of(at);
    const int64_t units = plan.sizes.hidden_size;
    Vector<Real> gates[Kind::traits().saved()];
    load_gates(plan, at, unit, gates, count);
    StepInputs<Vector<Real>> inputs =
        step_inputs<true>(own.masks, plan.peephole_weights(own.direction), units, j, unit, count);
    inputs.previous_cell = previous_cell(plan, own, at, unit, count);
    const Vector<Real> cell =
        load<Real>(static_cast<const Real*>(plan.args.cells) + at.index * units + unit, count);
    NormalisedCell<Real> result;
    result.x =
        (Cell::unzoned_cell(plan.cell_options, inputs, gates, cell) - statistics[mean_cell]) *
        statistics[rstd_cell];
    result.activated_cell = Cell::activated(
        plan.cell_options,
        result.x * load<Real>(static_cast<const Storage*>(weights.weight_norm_cell) + unit, count) +
            load<Real>(static_cast<const Storage*>(weights.bias_norm_cell) + unit, count));
    result.slope = Cell::output_slope(plan.cell_options, gates, result.activated_cell);
    return result;
}

// The first half of a normalised step: through the output to the normalised cell.
template <class Kind, class Real, class Storage>
void run_normalised_outputs(const BackwardPlan<Real, Storage>& plan,
                            const BackwardChunk<Real, Storage>& chunk,
                            const BackwardShare<Real>& own, const PanelGradients<Real>& part) {
    for_each_cell<true>(
        plan, chunk, own, part,
        [&](int64_t j, const BackwardRow& at, int64_t unit, Vector<Real> grad, auto count) {
            const NormalisedCell<Real> cell = normalised_cell<Kind>(plan, own, j, at, unit, count);
            const auto* weight =
                static_cast<const Storage*>(plan.args.weights[own.direction].weight_norm_cell);
            const Vector<Real> scaled = grad * cell.slope;
            store_extra(plan, chunk, at, plan.extras.norm_cell, unit, scaled * cell.x, count);
            store_extra(plan, chunk, at, plan.extras.norm_cell + 1, unit, scaled, count);
            const Vector<Real> of_x =
                scaled * load<Real>(weight + unit, count) * lane_mask<Real>(count);
            plan.sums_at(own, j, sums_of_cell)[unit / kLanes<Real>] = {
                horizontal_sum<Real>(of_x), horizontal_sum<Real>(of_x * cell.x)};
            store(own.waiting + j * plan.cell_stride + unit, grad);
        });
}

// The second half, once the sums over the row are there.
template <class Kind, class Real, class Storage>
void run_normalised_cells(const BackwardPlan<Real, Storage>& plan, const BackwardShare<Real>& own,
                          const BackwardChunk<Real, Storage>& chunk, int64_t active) {
    const auto* weight =
        static_cast<const Storage*>(plan.args.weights[own.direction].weight_norm_cell);
    const Real units = static_cast<Real>(plan.sizes.hidden_size);
    for (int64_t j = 0; j < active; ++j) {
        const BackwardRow& at = own.steps[j];
        const GradientSums<Real> sums =
            add_up(plan.sums_at(own, j, sums_of_cell), plan.vectors(), 1);
        for_each_own(plan, own, [&](int64_t unit, int count) {
            const NormalisedCell<Real> cell = normalised_cell<Kind>(plan, own, j, at, unit, count);
            const Vector<Real> grad = load(own.waiting + j * plan.cell_stride + unit);
            const Vector<Real> of_x = grad * cell.slope * load<Real>(weight + unit, count);
            const NormalisedGradient<Real> normalised{
                cell.activated_cell, (of_x - sums.sum / units - cell.x * (sums.product / units)) *
                                         plan.statistics_of(at)[rstd_cell]};
            run_cell_state<Kind, true>(plan, chunk, own, j, at, unit, grad, count, &normalised);
        });
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

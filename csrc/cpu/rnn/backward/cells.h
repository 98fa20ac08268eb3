// The cells of a backward step: one loop around the equations of any cell, compiled for each.
#pragma once

#include "cpu/rnn/backward/cell_state.h"

namespace seqfast::cpu::SEQFAST_ISA {

// The gradients of a cell without a state of its own, gate by gate as in its header, to the columns
// of the products.
template <class Kind, bool general, class Real, class Storage, class Count>
SEQFAST_INLINE void store_gradients(const BackwardPlan<Real, Storage>& plan,
                                    const BackwardChunk<Real, Storage>& chunk,
                                    const BackwardShare<Real>& own, int64_t j,
                                    const BackwardRow& at, int64_t unit,
                                    const Vector<Real> (&grads)[Kind::traits().saved()],
                                    Count count) {
    constexpr CellColumns columns = CellColumns::of(Kind::traits());
    constexpr int gates = columns.gates;
    const bool layer_norm = general && plan.options.layer_norm;
    if constexpr (columns.split()) {
        Vector<Real> by_column[columns.columns];
        for (int g = 0; g < columns.columns; ++g) by_column[columns.column_of(g)] = grads[g];
        if (!layer_norm) return store_columns(plan, chunk, at, unit, by_column, count);
        // The recurrent product's gradients are other ones, and the candidate's bias one more.
        Vector<Real> of_input[gates], of_product[gates];
        for (int g = 0; g < gates; ++g) of_input[g] = by_column[g];
        for (int g = 0; g < gates; ++g) of_product[g] = by_column[g + 1];
        store_columns(plan, chunk, at, unit, of_input, count);
        store_extra(plan, chunk, at, plan.extras.candidate_bias, unit, grads[gates], count);
        add_product_sums(plan, chunk, own, j, at, unit, of_product, count);
    } else {
        store_columns(plan, chunk, at, unit, grads, count);
        if (layer_norm) add_product_sums(plan, chunk, own, j, at, unit, grads, count);
    }
}

// Kind: of namespace cells.
template <class Kind, bool general, class Real, class Storage>
void run_cells(const BackwardPlan<Real, Storage>& plan, const BackwardChunk<Real, Storage>& chunk,
               const BackwardShare<Real>& own, const PanelGradients<Real>& part) {
    using Cell = typename Kind::template Cell<Math<Real>, general>;
    if constexpr (general && Kind::traits().has_cell_state) {
        if (plan.options.layer_norm) {
            return run_normalised_outputs<Kind>(plan, chunk, own, part);
        }
    }
    for_each_cell<general>(
        plan, chunk, own, part,
        [&](int64_t j, const BackwardRow& at, int64_t unit, Vector<Real> grad, auto count) {
            if constexpr (Kind::traits().has_cell_state) {
                constexpr const NormalisedGradient<Real>* normalised = nullptr;
                run_cell_state<Kind, general>(plan, chunk, own, j, at, unit, grad, count,
                                              normalised);
            } else {
                Vector<Real> gates[Kind::traits().saved()], grads[Kind::traits().saved()];
                load_gates(plan, at, unit, gates, count);
                StepInputs<Vector<Real>> inputs =
                    step_inputs<general>(own.masks, plan.peephole_weights(own.direction),
                                         plan.sizes.hidden_size, j, unit, count);
                if constexpr (Kind::traits().carries_hidden) {
                    inputs.previous_hidden = previous_hidden(plan, own, at, unit, count);
                }
                const Vector<Real> direct =
                    Cell::backward(plan.cell_options, inputs, gates, grad, grads);
                if constexpr (Kind::traits().carries_hidden) {
                    add_direct(plan, own, at, unit, direct, count);
                }
                store_gradients<Kind, general>(plan, chunk, own, j, at, unit, grads, count);
                if constexpr (general && Kind::traits().can_project) {
                    if (plan.sizes.proj_size) {
                        store(chunk.cell_output + at.item * plan.sizes.hidden_size + unit,
                              Cell::output(gates), count);
                    }
                }
            }
        });
}

// Through the factor of the second product, this thread's columns: the gradient of the gate that
// made it, and what reaches h[t-1] this way.
template <class Kind, class Real, class Storage>
void run_factors(const BackwardPlan<Real, Storage>& plan, const BackwardShare<Real>& own,
                 const BackwardChunk<Real, Storage>& chunk, int64_t active) {
    using Cell = typename Kind::template Cell<Math<Real>, true>;
    const PanelLayout<Real>& layout = own.candidate;
    const int64_t units = plan.sizes.hidden_size;
    for (int64_t j = 0; j < active; ++j) {
        own.left[j] =
            chunk.grad_gates + own.steps[j].item * plan.width + plan.second_gate() * units;
    }
    for (int64_t p = 0; p < layout.panels(); ++p) {
        const Range vectors = layout.panel(p);
        multiply_rows(own, layout, first_panel(plan.weight_candidate, layout), p, active);
        for (int64_t j = 0; j < active; ++j) {
            const BackwardRow& at = own.steps[j];
            const Real* grads = own.product + j * vectors.size() * kLanes<Real>;
            for (int64_t v = vectors.begin; v < vectors.end; ++v, grads += kLanes<Real>) {
                with_count<Real>(units - v * kLanes<Real>, [&](auto count) {
                    const int64_t unit = v * kLanes<Real>;
                    const Vector<Real> gate = load<Real>(plan.saved_at(at.index, unit), count);
                    const Vector<Real> h = multiplied_hidden(plan, own, j, unit, count);
                    Vector<Real> grad_gate[1];
                    Vector<Real> to_hidden =
                        Cell::backward_factor(gate, h, load(grads), grad_gate[0]);
                    store_columns(plan, chunk, at, unit, grad_gate, count);
                    store(chunk.factor + at.item * units + unit, Cell::factor(gate, h), count);
                    if (own.masks.hidden) {
                        to_hidden *= own.masks.of_output(own.masks.hidden, j, unit);
                    }
                    Real* carried = plan.grad_direct + at.row * plan.hidden_stride + unit;
                    store(carried, load(carried) + to_hidden);
                });
            }
        }
    }
}

// What a step calls for each part, and once more when all of a row is there: through a second
// product, through the normalisation of the cell.
template <class Real, class Storage>
struct BackwardCells {
    using Run = void (*)(const BackwardPlan<Real, Storage>&, const BackwardChunk<Real, Storage>&,
                         const BackwardShare<Real>&, const PanelGradients<Real>&);
    using RunRows = void (*)(const BackwardPlan<Real, Storage>&, const BackwardShare<Real>&,
                             const BackwardChunk<Real, Storage>&, int64_t active);
    Run first;
    RunRows factors, normalised;
};

template <class Real, class Storage>
BackwardCells<Real, Storage> cells_of(const BackwardPlan<Real, Storage>& plan) {
    const bool general =
        plan.sizes.proj_size || is_general(plan.options, plan.peephole, plan.args.reset);
    return with_cell(plan.options.cell, [&](auto kind) {
        using Kind = decltype(kind);
        BackwardCells<Real, Storage> cells{&run_cells<Kind, true, Real, Storage>, nullptr, nullptr};
        if constexpr (Kind::traits().has_plain_kernels) {
            if (!general) cells.first = &run_cells<Kind, false, Real, Storage>;
        }
        if constexpr (Kind::traits().has_second_product) {
            cells.factors = &run_factors<Kind, Real, Storage>;
        }
        if constexpr (Kind::traits().has_cell_state) {
            if (plan.options.layer_norm) {
                cells.normalised = &run_normalised_cells<Kind, Real, Storage>;
            }
        }
        return cells;
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA

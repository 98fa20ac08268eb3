// The cells of a forward step: one loop around the equations of any cell, compiled for each.
#pragma once

#include "cpu/rnn/forward/state.h"

namespace seqfast::cpu::SEQFAST_ISA {

// f(j, pre-activations, unit, count) for every vector of units of every active row.
template <class Real, class Storage, class F>
SEQFAST_INLINE void for_each_unit(const ForwardPlan<Real, Storage>& plan,
                                  const ForwardShare<Real>& own, const BlockStep& at, F&& f) {
    constexpr int lanes = kLanes<Real>;
    const int64_t unit = plan.first_unit(at.block);
    const int64_t end = unit + plan.vectors_of(at.block) * lanes;
    const auto rows = [&](int64_t from, int64_t to, auto count) {
        for (int64_t j = 0; j < at.active; ++j) {
            Real* pre = plan.preactivation(own, at.block, at.first + j) +
                        (from - unit) * plan.columns.columns;
            for (int64_t u = from; u < to; u += lanes, pre += plan.columns.columns * lanes) {
                f(j, pre, u, count);
            }
        }
    };
    const int64_t full = smaller(end, plan.sizes.hidden_size / lanes * lanes);
    if (full > unit) rows(unit, full, std::integral_constant<int, lanes>{});
    if (end > full) rows(full, end, static_cast<int>(plan.sizes.hidden_size - full));
}

// What comes out of a cell.
template <bool general, class Real, class Storage, class Count>
SEQFAST_INLINE void write_cell_output(const ForwardPlan<Real, Storage>& plan,
                                      const ForwardShare<Real>& own, int64_t step, int64_t j,
                                      int64_t unit, Vector<Real> h, Count count) {
    if (plan.sizes.proj_size) {
        store(plan.between + own.steps[j].row * plan.cell_stride + unit, h);
    } else {
        write_hidden<general>(plan, own, step, j, unit, h, count);
    }
}

template <int count_gates, class Real, class Storage, class Count>
SEQFAST_INLINE void save_gates(const ForwardPlan<Real, Storage>& plan,
                               const ForwardShare<Real>& own, int64_t j, int64_t unit,
                               const Vector<Real> (&gates)[count_gates], Count count) {
    if (!plan.args.gates) return;
    const int64_t units = plan.sizes.hidden_size;
    Storage* to = static_cast<Storage*>(plan.args.gates) +
                  own.steps[j].index * plan.saved_columns() * units + unit;
    for (int g = 0; g < count_gates; ++g) store(to + g * units, gates[g], count);
}

// Moves a cell state on; with layer normalisation the output waits for the whole row's cells.
template <class Cell, bool general, class Real, class Storage, int count_gates, class Count>
SEQFAST_INLINE void move_cell(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                              int64_t step, int64_t j, Real* preactivations, int64_t unit,
                              StepInputs<Vector<Real>>& inputs, Vector<Real> (&gates)[count_gates],
                              Count count) {
    constexpr int lanes = kLanes<Real>;
    Real* cell = plan.cell + own.steps[j].row * plan.cell_stride + unit;
    Vector<Real> c = inputs.previous_cell = load(cell);
    const Vector<Real> unzoned = Cell::move_cell(plan.cell_options, inputs, gates, c);
    if (general && own.steps[j].restarts) {
        store(cell, Vector<Real>{});
    } else {
        store(cell, c);
    }
    if (general && plan.options.layer_norm) {
        store(plan.between + own.steps[j].row * plan.cell_stride + unit, unzoned);
        store(preactivations + Cell::output_gate * lanes, gates[Cell::output_gate]);
        plan.moments_of(own, j, of_cell)[unit / lanes] =
            Moments<Real>::of(1, lane_mask<Real>(count), count, [&](int) { return unzoned; });
    } else {
        write_cell_output<general>(plan, own, step, j, unit,
                                   Cell::output(plan.cell_options, gates, unzoned), count);
    }
    if (plan.args.cells) {
        store(static_cast<Real*>(plan.args.cells) + own.steps[j].index * plan.sizes.hidden_size +
                  unit,
              c, count);
    }
}

// A block's cells of one step. Kind: of namespace cells.
template <class Kind, bool general, class Real, class Storage>
void run_cells(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
               const BlockStep& at) {
    using Cell = typename Kind::template Cell<Math<Real>, general>;
    constexpr int lanes = kLanes<Real>, saved = Kind::traits().saved();
    for_each_unit(plan, own, at, [&](int64_t j, Real* pre, int64_t unit, auto count) {
        constexpr CellColumns columns = CellColumns::of(Kind::traits());
        Vector<Real> gates[saved];
        for (int g = 0; g < saved; ++g) gates[g] = load(pre + columns.column_of(g) * lanes);
        StepInputs<Vector<Real>> inputs =
            step_inputs<general>(own.masks, plan.peephole_weights(own.direction),
                                 plan.sizes.hidden_size, j, unit, count);
        if constexpr (Kind::traits().has_cell_state) {
            move_cell<Cell, general>(plan, own, at.step, j, pre, unit, inputs, gates, count);
        } else {
            if constexpr (Kind::traits().carries_hidden) {
                inputs.previous_hidden =
                    previous_hidden(plan, at.step, own.steps[j].row, unit, count);
            }
            const Vector<Real> h = Cell::forward(plan.cell_options, inputs, gates);
            write_cell_output<general>(plan, own, at.step, j, unit, h, count);
        }
        save_gates(plan, own, j, unit, gates, count);
    });
}

// Where a product comes second in a step: its factor, by the first gate.
template <class Kind, class Real, class Storage>
void run_factors(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                 const BlockStep& at) {
    using Cell = typename Kind::template Cell<Math<Real>, true>;
    for_each_unit(plan, own, at, [&](int64_t j, Real* pre, int64_t unit, auto count) {
        const int64_t row = own.steps[j].row;
        Vector<Real> gate = load(pre);
        const Vector<Real> hidden =
            load_factor(plan, plan.hidden[at.step & 1], plan.hidden_stride, row, unit, count);
        const Vector<Real> factor = Cell::forward_factor(gate, hidden);
        store(pre, gate);
        store_factor(plan, plan.between, plan.cell_stride, row, unit, factor, count);
    });
}

// What a step calls for each block; `second` after the second product, if there is one.
template <class Real, class Storage>
struct ForwardCells {
    using Run = void (*)(const ForwardPlan<Real, Storage>&, const ForwardShare<Real>&,
                         const BlockStep&);
    Run first, second;
};

template <class Real, class Storage>
ForwardCells<Real, Storage> cells_of(const ForwardPlan<Real, Storage>& plan) {
    using Cells = ForwardCells<Real, Storage>;
    const bool general = is_general(plan.options, plan.peephole, plan.args.reset);
    return with_cell(plan.options.cell, [&](auto kind) {
        using Kind = decltype(kind);
        if constexpr (Kind::traits().has_second_product) {
            return Cells{&run_factors<Kind, Real, Storage>, &run_cells<Kind, true, Real, Storage>};
        } else {
            if constexpr (Kind::traits().has_plain_kernels) {
                if (!general) return Cells{&run_cells<Kind, false, Real, Storage>, nullptr};
            }
            return Cells{&run_cells<Kind, true, Real, Storage>, nullptr};
        }
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA

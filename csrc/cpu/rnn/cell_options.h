// What a cell is compiled and called with: its columns, its options, its inputs at a step.
#pragma once

#include "core/rnn.h"
#include "cpu/base/random.h"
#include "cpu/rnn/masks.h"

namespace seqfast::cpu::SEQFAST_ISA {

// How a cell's columns lie in a product's result: `columns` of them, the input's product from the
// first on, the recurrent product from `first_recurrent` on. Of a split candidate the input's share
// comes first and the state's last, so that both products have their gates side by side.
struct CellColumns {
    int gates, columns, first_recurrent, recurrent;

    static constexpr CellColumns of(const CellTraits& cell) {
        if (cell.has_split_candidate) return {cell.gates, cell.gates + 1, 1, cell.gates};
        return {cell.gates, cell.gates, 0, cell.first_gates()};
    }
    constexpr bool split() const { return first_recurrent > 0; }
    // Which rows of the weights a column holds.
    constexpr int input_gate(int column) const {
        return split() ? (column + gates - 1) % gates : column;
    }
    constexpr int recurrent_gate(int column) const { return column - first_recurrent; }
    // Where a gate's sum with the input's product lies; behind the gates, the split candidate.
    constexpr int column_of(int gate) const {
        return split() && gate < gates ? (gate + 1) % gates : gate;
    }
};

template <class Real, class Storage>
CellOptions<Real> cell_options_of(const RnnOptions& options, bool peephole) {
    CellOptions<Real> result = cell_options<Real>(options, peephole);
    // Two copies of a function may round differently: the bounds lie a few roundings further in.
    constexpr Real kRoundings = sizeof(Real) == 8 ? Real(0x1p-50) : Real(0x1p-21);
    const auto saved = [](Vector<Real> x, Real factor) {
        Storage stored[kLanes<Real>];
        store(stored, x * factor, kLanes<Real>);
        return load<Real>(stored, kLanes<Real>)[0];
    };
    const Vector<Real> clip = broadcast(result.gate_clip);
    result.sigmoid_low = saved(Math<Real>::sigmoid(-clip), 1 + kRoundings);
    result.sigmoid_high = saved(Math<Real>::sigmoid(clip), 1 - kRoundings);
    result.tanh_high = saved(Math<Real>::tanh(clip), 1 - kRoundings);
    return result;
}

// Whether a layer is more than its plain cell.
inline bool is_general(const RnnOptions& options, bool peephole, bool reset) {
    return peephole || reset || has_options(options);
}

// What the j-th row of a thread brings to a vector of units, but for its states. peephole:
// [3, units] or nullptr.
template <bool general, class Real, class Storage, class Count>
SEQFAST_INLINE StepInputs<Vector<Real>> step_inputs(const Masks<Real>& masks,
                                                    const Storage* peephole, int64_t units,
                                                    int64_t j, int64_t unit, Count count) {
    StepInputs<Vector<Real>> inputs;
    if constexpr (general) {
        if (masks.update) inputs.update_scale = masks.of_unit(masks.update, j, unit);
        if (masks.cell) inputs.cell_scale = masks.of_unit(masks.cell, j, unit);
        if (masks.zoneout_cell) inputs.zoneout_cell = masks.of_unit(masks.zoneout_cell, j, unit);
        if (peephole) {
            for (int k = 0; k < 3; ++k) {
                inputs.peephole[k] = load<Real>(peephole + k * units + unit, count);
            }
        }
    }
    return inputs;
}

}  // namespace seqfast::cpu::SEQFAST_ISA

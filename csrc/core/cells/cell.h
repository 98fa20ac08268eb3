// What the cells share: what a cell tells of itself, options of a layer, and what one unit meets at
// one step.
#pragma once

#include "core/config.h"

namespace seqfast {

enum class Activation : int { identity = 0, tanh = 1, relu = 2, sigmoid = 3 };

// All that a pass over a sequence has to know of a cell beside its equations. Gates stand in the
// order of the rows of weight_ih, weight_hh and the biases.
struct CellTraits {
    const char* name = "";       // of its CellKind, in Python too
    const char* operation = "";  // whose options ask for it
    int gates = 0;               // blocks of rows of weight_ih, weight_hh and the biases
    bool has_cell_state = false;
    // Part of h[t-1] reaches h[t] past the products.
    bool carries_hidden = false;
    // Of the last gate the recurrent product's share is not added to the input's: it is kept behind
    // the gates, and has a gradient of its own.
    bool has_split_candidate = false;
    // Of the last gate the recurrent product is the second of a step: of what the first gate leaves
    // of h[t-1].
    bool has_second_product = false;
    // What comes out of it can be had again from what is kept, so that it may be projected.
    bool can_project = false;
    // Common enough for kernels without options beside those with all of them.
    bool has_plain_kernels = false;

    // Numbers a unit keeps of each step: its activated gates, and the split candidate's share.
    SEQFAST_INLINE constexpr int saved() const { return gates + (has_split_candidate ? 1 : 0); }
    // Gates in the first recurrent product of a step.
    SEQFAST_INLINE constexpr int first_gates() const {
        return gates - (has_second_product ? 1 : 0);
    }
};

// The same for all units of a layer. Where a cell is compiled as not `general`, none of it counts
// but `activation`.
template <class Real>
struct CellOptions {
    Activation activation = Activation::tanh;  // of rnn
    bool peephole = false;
    bool peephole_previous = false;  // the output gate's sees c[t-1] too, not c[t]
    bool linear_cell = false;        // lstm: the output is o * c[t], without the tanh
    bool coupled = false;            // lstm_three_gates: f = 1 - i; else f = 1
    bool zoneout_cell = false;       // StepInputs::zoneout_cell counts
    bool update_dropout = false;     // StepInputs::update_scale counts
    bool cell_dropout = false;       // StepInputs::cell_scale counts
    Real gate_clip = 0;              // 0: none
    Real cell_clip = 0;              // 0: none
    // What clipped gates look like once saved: the sigmoid of -gate_clip and gate_clip, the tanh of
    // gate_clip, rounded as saved gates are; what lies between was not clipped.
    Real sigmoid_low = 0, sigmoid_high = 0, tanh_high = 0;
};

template <class V>
struct StepInputs {
    V previous_hidden{};     // h[t-1] after a reset
    V previous_cell{};       // c[t-1] after a reset
    V zoneout_cell{};        // the share of the old cell that stays: 0 or 1, in evaluation p
    V update_scale{};        // of the candidate: 0 or 1 / (1 - p)
    V cell_scale = V{} + 1;  // of c[t]: 0 or 1, in evaluation 1 - p
    V peephole[3]{};         // i f o
};

// Math: V, sigmoid, tanh, clamp(x, limit) to [-limit, limit], between(x, low, high): 1 where
// low < x < high, else 0, and positive(x): 1 where x > 0, else 0.
template <class Math>
SEQFAST_INLINE typename Math::V activate(Activation activation, typename Math::V x) {
    switch (activation) {
        case Activation::tanh:
            return Math::tanh(x);
        case Activation::relu:
            return Math::relu(x);
        case Activation::sigmoid:
            return Math::sigmoid(x);
        default:
            return x;
    }
}

// The derivative of `activate` where it gave y.
template <class Math>
SEQFAST_INLINE typename Math::V activation_slope(Activation activation, typename Math::V y) {
    using V = typename Math::V;
    switch (activation) {
        case Activation::tanh:
            return 1 - y * y;
        case Activation::relu:
            return Math::positive(y);
        case Activation::sigmoid:
            return y * (1 - y);
        default:
            return V{} + 1;
    }
}

}  // namespace seqfast

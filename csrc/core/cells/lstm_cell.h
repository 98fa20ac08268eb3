// The LSTM cell and its variants, forward and backward, for one vector of units; equations in
// docs/equations.md.
#pragma once

#include "core/cells/cell.h"

namespace seqfast {

// three_gates: without a forget gate of its own; general: with whatever CellOptions ask for.
template <class Math, bool three_gates, bool general>
struct LstmCell {
    using V = typename Math::V;
    using Options = CellOptions<typename Math::Real>;
    using Inputs = StepInputs<V>;
    static constexpr int gates = three_gates ? 3 : 4;
    static constexpr int I = 0, F = 1, G = three_gates ? 1 : 2, O = three_gates ? 2 : 3;
    static constexpr int output_gate = O;

    // Takes pre-activations, leaves activated gates. Moves `cell` on and returns what c[t] would be
    // without zoneout, which is what the output sees.
    static SEQFAST_INLINE V move_cell(const Options& options, const Inputs& at, V (&gate)[gates],
                                      V& cell) {
        const V previous = at.previous_cell;
        if constexpr (general) {
            if (options.peephole) {
                gate[I] += at.peephole[0] * previous;
                if constexpr (!three_gates) gate[F] += at.peephole[1] * previous;
                if (options.peephole_previous) gate[O] += at.peephole[2] * previous;
            }
            if (options.gate_clip > 0) {
                for (int k = 0; k < O; ++k) gate[k] = Math::clamp(gate[k], options.gate_clip);
            }
        }
        gate[I] = Math::sigmoid(gate[I]);
        if constexpr (!three_gates) gate[F] = Math::sigmoid(gate[F]);
        gate[G] = Math::tanh(gate[G]);
        V candidate = gate[I] * gate[G];
        if constexpr (general) {
            if (options.update_dropout) candidate *= at.update_scale;
        }
        V next = forget(options, gate) * previous + candidate;
        if constexpr (general) {
            // 1 without dropout. No branch: on sm_80 it would spill registers.
            next *= at.cell_scale;
            if (options.cell_clip > 0) next = Math::clamp(next, options.cell_clip);
            if (sees_next(options)) gate[O] += at.peephole[2] * next;
            if (options.gate_clip > 0) gate[O] = Math::clamp(gate[O], options.gate_clip);
        }
        gate[O] = Math::sigmoid(gate[O]);
        cell = next;
        if constexpr (general) {
            if (options.zoneout_cell) cell = next + at.zoneout_cell * (previous - next);
        }
        return next;
    }

    // What the output gate lets through. `cell`: what move_cell returned, or with layer
    // normalisation what became of it.
    static SEQFAST_INLINE V activated(const Options& options, V cell) {
        if constexpr (general) {
            if (options.linear_cell) return cell;
        }
        return Math::tanh(cell);
    }
    static SEQFAST_INLINE V output(const Options& options, const V (&gate)[gates], V cell) {
        return gate[O] * activated(options, cell);
    }

    // The same with `activated` at hand; how it changes with the cell; and the gradient that
    // reaches the cell this way.
    static SEQFAST_INLINE V output_of_activated(const V (&gate)[gates], V activated_cell) {
        return gate[O] * activated_cell;
    }
    static SEQFAST_INLINE V output_slope(const Options& options, const V (&gate)[gates],
                                         V activated_cell) {
        if constexpr (general) {
            if (options.linear_cell) return gate[O];
        }
        return gate[O] * (1 - activated_cell * activated_cell);
    }
    static SEQFAST_INLINE V grad_of_cell(const Options& options, const V (&gate)[gates],
                                         V activated_cell, V grad_hidden) {
        if constexpr (general) {
            if (options.linear_cell) return grad_hidden * gate[O];
        }
        return grad_hidden * gate[O] * (1 - activated_cell * activated_cell);
    }

    // What move_cell returned, out of what was kept: the cell after zoneout, the activated gates.
    static SEQFAST_INLINE V unzoned_cell(const Options& options, const Inputs& at,
                                         const V (&gate)[gates], V cell) {
        if constexpr (general) {
            if (options.zoneout_cell) {
                V candidate = gate[I] * gate[G];
                if (options.update_dropout) candidate *= at.update_scale;
                cell = forget(options, gate) * at.previous_cell + candidate;
                if (options.cell_dropout) cell *= at.cell_scale;
                if (options.cell_clip > 0) cell = Math::clamp(cell, options.cell_clip);
            }
        }
        return cell;
    }

    // unzoned: as above; activated_cell: as in `output`; grad_hidden: of `output`'s result;
    // grad_unzoned: what reaches the unzoned cell through it. grad_cell comes in as what
    // reaches c[t] from outside this step and leaves as dL/dc[t-1]. grad receives the gradients of
    // the pre-activations, grad_peephole those of the peephole weights by this row and step.
    static SEQFAST_INLINE void backward(const Options& options, const Inputs& at,
                                        const V (&gate)[gates], V unzoned, V activated_cell,
                                        V grad_hidden, V grad_unzoned, V& grad_cell,
                                        V (&grad)[gates], V (&grad_peephole)[3]) {
        const V previous = at.previous_cell;
        grad[O] = grad_hidden * activated_cell * gate[O] * (1 - gate[O]);
        V direct{};  // to c[t-1] by zoneout
        if constexpr (general) {
            if (options.gate_clip > 0) grad[O] *= sigmoid_inside(options, gate[O]);
            if (options.zoneout_cell) {
                direct = grad_cell * at.zoneout_cell;
                grad_cell -= direct;
            }
            if (sees_next(options)) grad_unzoned += grad[O] * at.peephole[2];
        }
        grad_cell += grad_unzoned;
        V scaled_candidate = gate[G], scaled_input = gate[I];
        if constexpr (general) {
            if (options.cell_clip > 0) {
                grad_cell *= Math::between(unzoned, -options.cell_clip, options.cell_clip);
            }
            if (options.cell_dropout) grad_cell *= at.cell_scale;
            if (options.update_dropout) {
                scaled_candidate *= at.update_scale;
                scaled_input *= at.update_scale;
            }
        }
        V to_input = grad_cell * scaled_candidate;
        if constexpr (three_gates) {
            if (options.coupled) to_input -= grad_cell * previous;
        } else {
            grad[F] = grad_cell * previous * gate[F] * (1 - gate[F]);
        }
        grad[I] = to_input * gate[I] * (1 - gate[I]);
        grad[G] = grad_cell * scaled_input * (1 - gate[G] * gate[G]);
        grad_cell *= forget(options, gate);
        if constexpr (general) {
            if (options.gate_clip > 0) {
                grad[I] *= sigmoid_inside(options, gate[I]);
                if constexpr (!three_gates) grad[F] *= sigmoid_inside(options, gate[F]);
                grad[G] *= Math::between(gate[G], -options.tanh_high, options.tanh_high);
            }
            if (options.peephole) {
                grad_cell += grad[I] * at.peephole[0];
                grad_peephole[0] = grad[I] * previous;
                grad_peephole[1] = V{};
                if constexpr (!three_gates) {
                    grad_cell += grad[F] * at.peephole[1];
                    grad_peephole[1] = grad[F] * previous;
                }
                grad_peephole[2] = grad[O] * unzoned;
                if (options.peephole_previous) {
                    grad_cell += grad[O] * at.peephole[2];
                    grad_peephole[2] = grad[O] * previous;
                }
            }
            if (options.zoneout_cell) grad_cell += direct;
        }
    }

  private:
    static SEQFAST_INLINE bool sees_next(const Options& options) {
        return options.peephole && !options.peephole_previous;
    }
    static SEQFAST_INLINE V forget(const Options& options, const V (&gate)[gates]) {
        if constexpr (three_gates) {
            return options.coupled ? 1 - gate[I] : V{} + 1;
        } else {
            return gate[F];
        }
    }
    static SEQFAST_INLINE V sigmoid_inside(const Options& options, V gate) {
        return Math::between(gate, options.sigmoid_low, options.sigmoid_high);
    }
};

namespace cells {

struct Lstm {
    static SEQFAST_INLINE constexpr CellTraits traits() {
        CellTraits traits;
        traits.name = "lstm";
        traits.operation = "lstm";
        traits.gates = 4;
        traits.has_cell_state = true;
        traits.can_project = true;
        traits.has_plain_kernels = true;
        return traits;
    }
    template <class Math, bool general>
    using Cell = LstmCell<Math, false, general>;
};

// i g o: forget gate coupled to the input gate, or none.
struct LstmThreeGates {
    static SEQFAST_INLINE constexpr CellTraits traits() {
        CellTraits traits = Lstm::traits();
        traits.name = "lstm_three_gates";
        traits.gates = 3;
        traits.has_plain_kernels = false;
        return traits;
    }
    template <class Math, bool general>
    using Cell = LstmCell<Math, true, general>;
};

}  // namespace cells

}  // namespace seqfast

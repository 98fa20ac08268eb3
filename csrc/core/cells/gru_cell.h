// The GRU cell and its variants, forward and backward, for one vector of units; equations in
// docs/equations.md.
#pragma once

#include "core/cells/cell.h"

namespace seqfast {

// r, z: reset and update gate; n: the candidate; n_h: the recurrent product's share of it, kept
// apart only where the reset gate comes after that product.
template <class Math, bool general>
struct GruCell {
    using V = typename Math::V;
    using Options = CellOptions<typename Math::Real>;
    using Inputs = StepInputs<V>;

    // Reset after the product (torch, cuDNN): n = tanh(n + r * n_h). Takes pre-activations, leaves
    // activated gates; returns h[t].
    static SEQFAST_INLINE V forward(const Options& options, const Inputs& at, V& r, V& z, V& n,
                                    V n_h) {
        r = Math::sigmoid(r);
        n += r * n_h;
        return forward(options, at, z, n);
    }
    // No reset gate, or its work is done.
    static SEQFAST_INLINE V forward(const Options& options, const Inputs& at, V& z, V& n) {
        z = Math::sigmoid(z);
        n = Math::tanh(n);
        const V candidate = scaled(options, at, n);
        return candidate + z * (at.previous_hidden - candidate);
    }

    // grad_hidden: of h[t]. Gradients of the pre-activations of z and n; returns what goes straight
    // to h[t-1].
    static SEQFAST_INLINE V backward(const Options& options, const Inputs& at, V z, V n,
                                     V grad_hidden, V& grad_z, V& grad_n) {
        grad_z = grad_hidden * (at.previous_hidden - scaled(options, at, n)) * z * (1 - z);
        grad_n = scaled(options, at, grad_hidden * (1 - z)) * (1 - n * n);
        return grad_hidden * z;
    }
    static SEQFAST_INLINE V backward(const Options& options, const Inputs& at, V r, V z, V n, V n_h,
                                     V grad_hidden, V& grad_r, V& grad_z, V& grad_n, V& grad_n_h) {
        const V direct = backward(options, at, z, n, grad_hidden, grad_z, grad_n);
        grad_r = grad_n * n_h * r * (1 - r);
        grad_n_h = grad_n * r;
        return direct;
    }

  private:
    static SEQFAST_INLINE V scaled(const Options& options, const Inputs& at, V x) {
        if constexpr (general) {
            if (options.update_dropout) return x * at.update_scale;
        }
        return x;
    }
};

// The same as the passes call it: `gate` holds r z n n_h, pre-activations before and activated
// gates after; grad receives the gradients of the pre-activations in that order.
template <class Math, bool general>
struct GruResetAfterCell {
    using Equations = GruCell<Math, general>;
    using V = typename Equations::V;

    static SEQFAST_INLINE V forward(const typename Equations::Options& options,
                                    const typename Equations::Inputs& at, V (&gate)[4]) {
        return Equations::forward(options, at, gate[0], gate[1], gate[2], gate[3]);
    }
    static SEQFAST_INLINE V backward(const typename Equations::Options& options,
                                     const typename Equations::Inputs& at, const V (&gate)[4],
                                     V grad_hidden, V (&grad)[4]) {
        return Equations::backward(options, at, gate[0], gate[1], gate[2], gate[3], grad_hidden,
                                   grad[0], grad[1], grad[2], grad[3]);
    }
};

// `gate` holds r z n. The reset gate works first, on what the candidate's product multiplies;
// `forward` finds it activated, and `backward` leaves its gradient to `backward_factor`.
template <class Math, bool general>
struct GruResetBeforeCell {
    using Equations = GruCell<Math, general>;
    using V = typename Equations::V;

    static SEQFAST_INLINE V forward_factor(V (&gate)[2], V hidden) {
        gate[0] = Math::sigmoid(gate[0]);
        return gate[0] * hidden;
    }
    static SEQFAST_INLINE V forward(const typename Equations::Options& options,
                                    const typename Equations::Inputs& at, V (&gate)[3]) {
        return Equations::forward(options, at, gate[1], gate[2]);
    }
    static SEQFAST_INLINE V backward(const typename Equations::Options& options,
                                     const typename Equations::Inputs& at, const V (&gate)[3],
                                     V grad_hidden, V (&grad)[3]) {
        grad[0] = V{};
        return Equations::backward(options, at, gate[1], gate[2], grad_hidden, grad[1], grad[2]);
    }
    // grad_factor: of what `forward_factor` returned; returns what goes to the hidden state.
    static SEQFAST_INLINE V backward_factor(V r, V hidden, V grad_factor, V& grad_r) {
        grad_r = grad_factor * hidden * r * (1 - r);
        return grad_factor * r;
    }
};

// `gate` holds z n.
template <class Math, bool general>
struct GruUpdateGateCell {
    using Equations = GruCell<Math, general>;
    using V = typename Equations::V;

    static SEQFAST_INLINE V forward(const typename Equations::Options& options,
                                    const typename Equations::Inputs& at, V (&gate)[2]) {
        return Equations::forward(options, at, gate[0], gate[1]);
    }
    static SEQFAST_INLINE V backward(const typename Equations::Options& options,
                                     const typename Equations::Inputs& at, const V (&gate)[2],
                                     V grad_hidden, V (&grad)[2]) {
        return Equations::backward(options, at, gate[0], gate[1], grad_hidden, grad[0], grad[1]);
    }
};

namespace cells {

// Reset after the product.
struct Gru {
    static SEQFAST_INLINE constexpr CellTraits traits() {
        CellTraits traits;
        traits.name = "gru";
        traits.operation = "gru";
        traits.gates = 3;
        traits.carries_hidden = true;
        traits.has_split_candidate = true;
        traits.has_plain_kernels = true;
        return traits;
    }
    template <class Math, bool general>
    using Cell = GruResetAfterCell<Math, general>;
};

struct GruResetBefore {
    static SEQFAST_INLINE constexpr CellTraits traits() {
        CellTraits traits;
        traits.name = "gru_reset_before";
        traits.operation = "gru";
        traits.gates = 3;
        traits.carries_hidden = true;
        traits.has_second_product = true;
        return traits;
    }
    template <class Math, bool general>
    using Cell = GruResetBeforeCell<Math, general>;
};

// No reset gate.
struct GruUpdateGate {
    static SEQFAST_INLINE constexpr CellTraits traits() {
        CellTraits traits;
        traits.name = "gru_update_gate";
        traits.operation = "gru";
        traits.gates = 2;
        traits.carries_hidden = true;
        return traits;
    }
    template <class Math, bool general>
    using Cell = GruUpdateGateCell<Math, general>;
};

}  // namespace cells

}  // namespace seqfast

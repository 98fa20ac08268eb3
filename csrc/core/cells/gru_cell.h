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

}  // namespace seqfast

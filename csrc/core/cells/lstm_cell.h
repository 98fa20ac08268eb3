// The LSTM cell, forward and backward, for one vector of units; equations in docs/equations.md.
#pragma once

#include "core/config.h"

namespace seqfast {

template <class Math>
struct LstmCell {
    using V = typename Math::V;

    struct Gates {
        V i, f, g, o;
    };

    // Takes pre-activations, leaves activated gates; moves the cell on; returns o * tanh(c).
    static SEQFAST_INLINE V forward(Gates& gates, V& cell) {
        gates.i = Math::sigmoid(gates.i);
        gates.f = Math::sigmoid(gates.f);
        gates.g = Math::tanh(gates.g);
        gates.o = Math::sigmoid(gates.o);
        cell = gates.f * cell + gates.i * gates.g;
        return gates.o * Math::tanh(cell);
    }

    // grad_cell comes in as what reaches c[t] from outside this step and leaves as dL/dc[t-1];
    // hidden receives o * tanh(c). Returns the gradients of the pre-activations.
    static SEQFAST_INLINE Gates backward(const Gates& gates, V cell, V previous_cell, V grad_hidden,
                                         V& grad_cell, V& hidden) {
        const V tanh_cell = Math::tanh(cell);
        hidden = gates.o * tanh_cell;
        grad_cell += grad_hidden * gates.o * (1 - tanh_cell * tanh_cell);
        Gates grad;
        grad.i = grad_cell * gates.g * gates.i * (1 - gates.i);
        grad.f = grad_cell * previous_cell * gates.f * (1 - gates.f);
        grad.g = grad_cell * gates.i * (1 - gates.g * gates.g);
        grad.o = grad_hidden * tanh_cell * gates.o * (1 - gates.o);
        grad_cell *= gates.f;
        return grad;
    }
};

}  // namespace seqfast

// The plain recurrent cell, forward and backward, for one vector of units; equations in
// docs/equations.md.
#pragma once

#include "core/cells/cell.h"

namespace seqfast {

template <class Math>
struct RnnCell {
    using V = typename Math::V;
    using Options = CellOptions<typename Math::Real>;
    using Inputs = StepInputs<V>;

    // Takes the pre-activation; returns h[t].
    static SEQFAST_INLINE V forward(const Options& options, V z) {
        return activate<Math>(options.activation, z);
    }
    // h: what `forward` returned. The gradient of the pre-activation.
    static SEQFAST_INLINE V backward(const Options& options, V h, V grad_hidden) {
        return grad_hidden * activation_slope<Math>(options.activation, h);
    }

    // The same as the passes call it; nothing goes to h[t-1] past the product.
    static SEQFAST_INLINE V forward(const Options& options, const Inputs&, V (&gate)[1]) {
        gate[0] = forward(options, gate[0]);
        return gate[0];
    }
    static SEQFAST_INLINE V backward(const Options& options, const Inputs&, const V (&gate)[1],
                                     V grad_hidden, V (&grad)[1]) {
        grad[0] = backward(options, gate[0], grad_hidden);
        return V{};
    }
};

namespace cells {

struct Rnn {
    static SEQFAST_INLINE constexpr CellTraits traits() {
        CellTraits traits;
        traits.name = "rnn";
        traits.operation = "rnn";
        traits.gates = 1;
        traits.has_plain_kernels = true;
        return traits;
    }
    template <class Math, bool general>
    using Cell = RnnCell<Math>;
};

}  // namespace cells

}  // namespace seqfast

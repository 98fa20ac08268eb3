// The plain recurrent cell, forward and backward, for one vector of units; equations in
// docs/equations.md.
#pragma once

#include "core/cells/cell.h"

namespace seqfast {

template <class Math>
struct RnnCell {
    using V = typename Math::V;
    using Options = CellOptions<typename Math::Real>;

    // Takes the pre-activation; returns h[t].
    static SEQFAST_INLINE V forward(const Options& options, V z) {
        return activate<Math>(options.activation, z);
    }
    // h: what `forward` returned. The gradient of the pre-activation.
    static SEQFAST_INLINE V backward(const Options& options, V h, V grad_hidden) {
        return grad_hidden * activation_slope<Math>(options.activation, h);
    }
};

}  // namespace seqfast

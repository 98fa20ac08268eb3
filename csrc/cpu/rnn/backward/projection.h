// Back through a projection.
#pragma once

#include "cpu/rnn/backward/cells.h"

namespace seqfast::cpu::SEQFAST_ISA {

// A multiplication before it cannot be fused with an addition after it.
template <class V>
SEQFAST_INLINE V opaque(V x) {
    asm volatile("" : "+m"(x));
    return x;
}

// The derivative of the projection's activation where it gave h[t] before zoneout.
template <class Real, class Storage, class Count>
SEQFAST_INLINE Vector<Real> projected_slope(const BackwardPlan<Real, Storage>& plan,
                                            const BackwardShare<Real>& own, int64_t j, int64_t unit,
                                            Count count) {
    const BackwardRow& at = own.steps[j];
    Vector<Real> h = load<Real>(
        static_cast<const Storage*>(plan.args.output) + at.index * plan.sizes.output_size() + unit,
        count);
    if (own.masks.zoneout_hidden) {
        const Vector<Real> kept = own.masks.of_output(own.masks.zoneout_hidden, j, unit);
        const Vector<Real> old = kept * previous_hidden(plan, own, at, unit, count);
        // What a zero would have become, rounded as it was: the difference is no rounding.
        if (plan.options.output_activation == Activation::relu)
            return Math<Real>::positive(h - opaque(rounded_to<Storage>(old)));
        // Where the old state stayed whole there is no gradient, and no h.
        const Vector<Real> moved = 1 - kept;
        h = moved > Vector<Real>{} ? (h - old) / moved : Vector<Real>{};
    }
    return activation_slope<Math<Real>>(plan.options.output_activation, h);
}

// dL/dh[t] to the gradient of the projection's pre-activation.
template <class Real, class Storage>
void activate_projected(const BackwardPlan<Real, Storage>& plan,
                        const BackwardChunk<Real, Storage>& chunk, const BackwardShare<Real>& own,
                        const PanelGradients<Real>& part) {
    const int64_t outputs = plan.sizes.output_size();
    for_each_unit<true>(
        plan, chunk, own, part,
        [&](int64_t j, const BackwardRow& at, int64_t unit, Vector<Real> grad, auto count) {
            if (plan.options.output_activation != Activation::identity) {
                grad *= projected_slope(plan, own, j, unit, count);
            }
            store(chunk.grad_hidden + at.item * outputs + unit, grad, count);
        });
}

// Back through the projection, then the cells.
template <class Real, class Storage>
void unproject(const BackwardPlan<Real, Storage>& plan, const BackwardShare<Real>& own,
               const BackwardChunk<Real, Storage>& chunk, int64_t active,
               typename BackwardCells<Real, Storage>::Run cells) {
    const PanelLayout<Real>& layout = own.projection;
    for (int64_t j = 0; j < active; ++j) {
        own.left[j] = chunk.grad_hidden + own.steps[j].item * layout.depth;
    }
    for (int64_t p = 0; p < layout.panels(); ++p) {
        multiply_rows(own, layout, first_panel(plan.weight_hr, layout), p, active);
        cells(plan, chunk, own, {layout.panel(p), active, own.product});
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

// The projection of a forward step.
#pragma once

#include "cpu/rnn/forward/state.h"

namespace seqfast::cpu::SEQFAST_ISA {

// h = activation(W_hr h~ + b_hr), this thread's columns.
template <class Real, class Storage>
void project(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own, int64_t step,
             int64_t active) {
    const PanelLayout<Real>& layout = own.projection;
    const auto* bias = static_cast<const Storage*>(plan.args.weights[own.direction].bias_hr);
    Product<Real> product{};
    product.left = own.between_rows;
    product.depth = layout.depth;
    product.target = own.projected;
    for (int64_t p = 0; p < layout.panels(); ++p) {
        const Range vectors = layout.panel(p);
        product.panel = plan.projection_panel(own, p);
        product.target_stride = vectors.size() * kLanes<Real>;
        multiply_panel(product, active, vectors.size());
        for (int64_t j = 0; j < active; ++j) {
            const Real* from = own.projected + j * product.target_stride;
            for (int64_t v = vectors.begin; v < vectors.end; ++v, from += kLanes<Real>) {
                const int count = layout.lanes_of(v);
                Vector<Real> h = load(from);
                if (bias) h += load<Real>(bias + v * kLanes<Real>, count);
                h = activate<Math<Real>>(plan.options.output_activation, h);
                write_hidden<true>(plan, own, step, j, v * kLanes<Real>, h, count);
            }
        }
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

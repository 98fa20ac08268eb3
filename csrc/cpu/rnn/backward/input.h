// The gradient of the input, chunk by chunk.
#pragma once

#include "cpu/rnn/backward/state.h"

namespace seqfast::cpu::SEQFAST_ISA {

// The input was the product already: its gradient is that of the pre-activations.
template <class Real, class Storage>
void hand_on_gates(const BackwardPlan<Real, Storage>& plan, const BackwardShare<Real>& own,
                   const BackwardChunk<Real, Storage>& chunk, int64_t item) {
    const int64_t units = plan.sizes.hidden_size;
    Storage* to = chunk.grad_input[item] + own.direction * plan.columns.gates * units;
    const Real* from = chunk.grad_gates + item * plan.width;
    for (int c = 0; c < plan.columns.gates; ++c) {
        for (int64_t u = 0; u < units; u += kLanes<Real>) {
            const int count = static_cast<int>(smaller(kLanes<Real>, units - u));
            store(to + plan.columns.input_gate(c) * units + u,
                  load<Real>(from + c * units + u, count), count);
        }
    }
}

// dx = dgates W_ih, for this thread's rows of the chunk, some rows at a time. The second
// direction adds to what the first left, rounded to Storage.
template <class Real, class Storage>
void multiply_input(const BackwardPlan<Real, Storage>& plan, const Place& place,
                    const BackwardShare<Real>& own, const BackwardChunk<Real, Storage>& chunk,
                    int64_t rows) {
    const Range mine = part_of(rows, plan.team.size(), place.thread);
    if (plan.given_product) {
        for (int64_t k = mine.begin; k < mine.end; ++k) hand_on_gates(plan, own, chunk, k);
        return;
    }
    const PanelLayout<Real> layout =
        whole<Real>(plan.sizes.input_size, plan.columns.gates * plan.sizes.hidden_size);
    for (int64_t begin = mine.begin; begin < mine.end; begin += plan.product_rows) {
        const int64_t count = smaller(plan.product_rows, mine.end - begin);
        for (int64_t i = 0; i < count; ++i) {
            own.left[i] = chunk.grad_gates + (begin + i) * plan.width;
        }
        for (int64_t p = 0; p < layout.panels(); ++p) {
            const Range vectors = layout.panel(p);
            multiply_rows(own, layout, plan.weight_ih, p, count);
            for (int64_t i = 0; i < count; ++i) {
                for (int64_t v = 0; v < vectors.size(); ++v) {
                    const int64_t vector = vectors.begin + v;
                    Storage* to = chunk.grad_input[begin + i] + vector * kLanes<Real>;
                    const int lanes_left = layout.lanes_of(vector);
                    Vector<Real> x = load(own.product + (i * vectors.size() + v) * kLanes<Real>);
                    if (own.direction == 1) x += load<Real>(to, lanes_left);
                    store(to, x, lanes_left);
                }
            }
        }
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

// What a forward step kept for a backward one, and where the gradients of its gates go.
#pragma once

#include "cpu/rnn/backward/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

template <int count_gates, class Real, class Storage, class Count>
SEQFAST_INLINE void load_gates(const BackwardPlan<Real, Storage>& plan, const BackwardRow& at,
                               int64_t unit, Vector<Real> (&gates)[count_gates], Count count) {
    const int64_t units = plan.sizes.hidden_size;
    const Storage* saved = plan.saved_at(at.index, unit);
    // Time runs backward here, which no hardware prefetcher foresees.
    const Storage* next =
        at.previous < 0 ? saved : saved + (at.previous - at.index) * plan.saved_columns() * units;
    for (int g = 0; g < count_gates; ++g) {
        gates[g] = load<Real>(saved + g * units, count);
        __builtin_prefetch(next + g * units, 0, 2);
    }
}

template <int count_columns, class Real, class Storage, class Count>
SEQFAST_INLINE void store_columns(const BackwardPlan<Real, Storage>& plan,
                                  const BackwardChunk<Real, Storage>& chunk, const BackwardRow& at,
                                  int64_t unit, const Vector<Real> (&grads)[count_columns],
                                  Count count) {
    Real* to = chunk.grad_gates + at.item * plan.width + unit;
    for (int c = 0; c < count_columns; ++c) {
        store(to + c * plan.sizes.hidden_size, grads[c], count);
    }
}

template <class Real, class Storage, class Count>
SEQFAST_INLINE void store_extra(const BackwardPlan<Real, Storage>& plan,
                                const BackwardChunk<Real, Storage>& chunk, const BackwardRow& at,
                                int extra, int64_t unit, Vector<Real> x, Count count) {
    store(chunk.extras + (at.item * plan.extras.count + extra) * plan.sizes.hidden_size + unit, x,
          count);
}

}  // namespace seqfast::cpu::SEQFAST_ISA

// The state of a forward pass: as the next product reads it, and at both ends of a sequence.
#pragma once

#include "cpu/base/storage.h"
#include "cpu/rnn/forward/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

// What the next step multiplies with: as the product reads it, rounded to Storage.
template <class Real, class Storage, class Count>
SEQFAST_INLINE void store_factor(const ForwardPlan<Real, Storage>& plan, Real* array,
                                 int64_t stride, int64_t row, int64_t unit, Vector<Real> x,
                                 Count count) {
    Real* to = array + row * stride;
    if (plan.paired) {
        store(reinterpret_cast<Storage*>(to) + unit, x, count);
    } else {
        if constexpr (sizeof(Storage) != sizeof(Real)) x = rounded_to<Storage>(x);
        store(to + unit, x);
    }
}

template <class Real, class Storage>
SEQFAST_INLINE Vector<Real> load_factor(const ForwardPlan<Real, Storage>& plan, const Real* array,
                                        int64_t stride, int64_t row, int64_t unit, int count) {
    const Real* from = array + row * stride;
    return plan.paired ? load<Real>(reinterpret_cast<const Storage*>(from) + unit, count)
                       : load(from + unit);
}

// h[t-1] without any mask.
template <class Real, class Storage>
SEQFAST_INLINE Vector<Real> previous_hidden(const ForwardPlan<Real, Storage>& plan, int64_t step,
                                            int64_t row, int64_t unit, int count) {
    if (plan.carried_in_its_own()) return load(plan.carried + row * plan.hidden_stride + unit);
    return load_factor(plan, plan.hidden[step & 1], plan.hidden_stride, row, unit, count);
}

// h[t], rounded already, to the next step.
template <class Real, class Storage, class Count>
SEQFAST_INLINE void keep_hidden(const ForwardPlan<Real, Storage>& plan,
                                const ForwardShare<Real>& own, int64_t parity, int64_t j,
                                int64_t row, int64_t unit, Vector<Real> h, Count count) {
    if (plan.carried_in_its_own()) {
        store(plan.carried + row * plan.hidden_stride + unit, h);
        h *= own.masks.of_output(own.masks.hidden, j, unit);
    }
    store_factor(plan, plan.hidden[parity], plan.hidden_stride, row, unit, h, count);
}

// h[t] before zoneout: to the user, rounded, and as the user sees it to the next step.
template <bool general, class Real, class Storage, class Count>
SEQFAST_INLINE void write_hidden(const ForwardPlan<Real, Storage>& plan,
                                 const ForwardShare<Real>& own, int64_t step, int64_t j,
                                 int64_t unit, Vector<Real> h, Count count) {
    const ForwardRow& at = own.steps[j];
    if constexpr (general) {
        if (own.masks.zoneout_hidden) {
            const Vector<Real> previous = previous_hidden(plan, step, at.row, unit, count);
            h += own.masks.of_output(own.masks.zoneout_hidden, j, unit) * (previous - h);
        }
    }
    Storage* output =
        static_cast<Storage*>(plan.args.output) + at.index * plan.sizes.output_size() + unit;
    store(output, h, count);
    if constexpr (sizeof(Storage) != sizeof(Real)) h = load<Real>(output, count);
    if constexpr (general) {
        if (at.restarts) h = Vector<Real>{};
        keep_hidden(plan, own, (step + 1) & 1, j, at.row, unit, h, count);
    } else {
        Real* to = plan.hidden[(step + 1) & 1] + at.row * plan.hidden_stride;
        if (plan.paired) {
            store(reinterpret_cast<Storage*>(to) + unit, h, count);
        } else {
            store(to + unit, h);
        }
    }
}

template <class Real, class Storage>
void start_state(const ForwardPlan<Real, Storage>& plan, const Place& place,
                 const ForwardShare<Real>& own) {
    const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
    const auto* hidden = static_cast<const Storage*>(plan.args.hidden);
    const auto* cell = static_cast<const Storage*>(plan.args.cell);
    for (int64_t j = 0; j < place.rows(); ++j) {
        const int64_t row = place.row(j), from = own.direction * plan.sizes.batch + row;
        own.hidden_rows[0][j] = plan.hidden[0] + row * plan.hidden_stride;
        own.hidden_rows[1][j] = plan.hidden[1] + row * plan.hidden_stride;
        own.between_rows[j] = plan.between + row * plan.cell_stride;
        plan.drawer.draw_sequence(own.masks, j, row, own.direction);
        if (plan.args.resumes) continue;
        const bool reset =
            place.steps(j) > 0 && plan.resets_at(place.time(j, 0, own.direction), row);
        for_each_vector<Real>(plan.hidden_columns(own), [&](int64_t u, int count) {
            Vector<Real> h{};
            if (hidden && !reset) h = load<Real>(hidden + from * outputs + u, count);
            keep_hidden(plan, own, 0, j, row, u, h, count);
        });
        if (!plan.traits.has_cell_state) continue;
        for_each_vector<Real>(plan.own_units(own), [&](int64_t u, int count) {
            Vector<Real> c{};
            if (cell && !reset) c = load<Real>(cell + from * units + u, count);
            store(plan.cell + row * plan.cell_stride + u, c);
        });
    }
}

template <class Real, class Storage>
void finish_state(const ForwardPlan<Real, Storage>& plan, const Place& place,
                  const ForwardShare<Real>& own) {
    const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
    auto* hidden_n = static_cast<Storage*>(plan.args.hidden_n);
    auto* cell_n = static_cast<Storage*>(plan.args.cell_n);
    for (int64_t j = 0; j < place.rows(); ++j) {
        const int64_t row = place.row(j), to = own.direction * plan.sizes.batch + row;
        for_each_vector<Real>(plan.hidden_columns(own), [&](int64_t u, int count) {
            const Vector<Real> h = previous_hidden(plan, place.steps(j), row, u, count);
            store(hidden_n + to * outputs + u, h, count);
            // The next call begins with an even step.
            if (plan.args.keeps_state) {
                store_factor(plan, plan.hidden[0], plan.hidden_stride, row, u, h, count);
            }
        });
        if (!plan.traits.has_cell_state) continue;
        for_each_vector<Real>(plan.own_units(own), [&](int64_t u, int count) {
            store(cell_n + to * units + u, load(plan.cell + row * plan.cell_stride + u), count);
        });
    }
}

// Bytes of a state that is kept from call to call.
inline size_t state_size(const RnnForwardArgs& args) {
    return with_storage(args.sizes.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        return ForwardPlan<RealOf<Storage>, Storage>(args, 1).state_size;
    });
}

// Zeros for these rows of a state that is kept.
inline void reset_state(const RnnForwardArgs& args, const int64_t* rows, int64_t count) {
    with_storage(args.sizes.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        using Real = RealOf<Storage>;
        const ForwardPlan<Real, Storage> plan(args, 1);
        for (int64_t r = 0; r < count; ++r) {
            Real* hidden = plan.hidden[0] + rows[r] * plan.hidden_stride;
            for (int64_t u = 0; u < plan.hidden_stride; ++u) hidden[u] = 0;
            if (!plan.traits.has_cell_state) continue;
            Real* cell = plan.cell + rows[r] * plan.cell_stride;
            for (int64_t u = 0; u < plan.cell_stride; ++u) cell[u] = 0;
        }
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA

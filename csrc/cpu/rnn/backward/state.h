// What reaches the state of a backward pass, and the states that the forward pass left.
#pragma once

#include "cpu/rnn/backward/packing.h"

namespace seqfast::cpu::SEQFAST_ISA {

template <class Real, class Storage>
Vector<Real> load_state(const BackwardPlan<Real, Storage>& plan, const void* state,
                        const BackwardShare<Real>& own, int64_t row, int64_t vector) {
    if (!state) return Vector<Real>{};
    const int64_t outputs = plan.sizes.output_size();
    return load<Real>(static_cast<const Storage*>(state) +
                          (own.direction * plan.sizes.batch + row) * outputs +
                          vector * kLanes<Real>,
                      static_cast<int>(smaller(kLanes<Real>, outputs - vector * kLanes<Real>)));
}

// h[t-1], after a reset.
template <class Real, class Storage, class Count>
SEQFAST_INLINE Vector<Real> previous_hidden(const BackwardPlan<Real, Storage>& plan,
                                            const BackwardShare<Real>& own, const BackwardRow& at,
                                            int64_t unit, Count count) {
    const int64_t outputs = plan.sizes.output_size();
    if (at.restarts) return Vector<Real>{};
    if (at.previous >= 0) {
        return load<Real>(
            static_cast<const Storage*>(plan.args.output) + at.previous * outputs + unit, count);
    }
    if (!plan.args.hidden) return Vector<Real>{};
    return load<Real>(static_cast<const Storage*>(plan.args.hidden) +
                          (own.direction * plan.sizes.batch + at.row) * outputs + unit,
                      count);
}

template <class Real, class Storage, class Count>
SEQFAST_INLINE Vector<Real> previous_cell(const BackwardPlan<Real, Storage>& plan,
                                          const BackwardShare<Real>& own, const BackwardRow& at,
                                          int64_t unit, Count count) {
    const int64_t units = plan.sizes.hidden_size;
    if (at.restarts) return Vector<Real>{};
    if (at.previous >= 0) {
        const Real* cells = static_cast<const Real*>(plan.args.cells) + unit;
        __builtin_prefetch(cells + larger(2 * at.previous - at.index, 0) * units, 0, 2);
        return load<Real>(cells + at.previous * units, count);
    }
    if (!plan.args.cell) return Vector<Real>{};
    return load<Real>(static_cast<const Storage*>(plan.args.cell) +
                          (own.direction * plan.sizes.batch + at.row) * units + unit,
                      count);
}

// h[t-1] as the recurrent product saw it, for the product of the weights' gradients.
template <class Real, class Storage, class Count>
SEQFAST_INLINE Vector<Real> multiplied_hidden(const BackwardPlan<Real, Storage>& plan,
                                              const BackwardShare<Real>& own, int64_t j,
                                              int64_t unit, Count count) {
    const Vector<Real> h = previous_hidden(plan, own, own.steps[j], unit, count);
    if (!own.masks.hidden) return h;
    return rounded_to<Storage>(h * own.masks.of_output(own.masks.hidden, j, unit));
}

template <class Real, class Storage, class Count>
SEQFAST_INLINE void keep_multiplied(const BackwardPlan<Real, Storage>& plan,
                                    const BackwardChunk<Real, Storage>& chunk,
                                    const BackwardShare<Real>& own, int64_t j, int64_t unit,
                                    Count count) {
    store(chunk.multiplied + own.steps[j].item * plan.sizes.output_size() + unit,
          multiplied_hidden(plan, own, j, unit, count), count);
}

// On top of what zoneout passes on.
template <class Real, class Storage, class Count>
SEQFAST_INLINE void add_direct(const BackwardPlan<Real, Storage>& plan,
                               const BackwardShare<Real>& own, const BackwardRow& at, int64_t unit,
                               Vector<Real> x, Count) {
    Real* carried = plan.grad_direct + at.row * plan.hidden_stride + unit;
    if (own.masks.zoneout_hidden) x += load(carried);
    store(carried, x);
}

// own.product = rows own.left [count, depth] x panel p of a packed matrix.
template <class Real>
void multiply_rows(const BackwardShare<Real>& own, const PanelLayout<Real>& layout,
                   const Real* packed, int64_t p, int64_t count) {
    const int64_t vectors = layout.panel(p).size();
    Product<Real> product{};
    product.left = own.left;
    product.panel = packed + layout.offset(p);
    product.depth = layout.depth;
    product.target = own.product;
    product.target_stride = vectors * kLanes<Real>;
    multiply_panel(product, count, vectors);
}

// own.product [count, panel p] = dgates of the step after, times weight_hh.
template <class Real, class Storage>
void multiply_recurrent(const BackwardPlan<Real, Storage>& plan, const Place& place,
                        const BackwardShare<Real>& own, int64_t p, const LaterStep<Real>& later,
                        int64_t count) {
    if (p == 0) {
        for (int64_t j = 0; j < count; ++j) {
            own.left[j] = later.grad_gates + place.position(j) * plan.width +
                          plan.first_recurrent * plan.sizes.hidden_size;
        }
    }
    multiply_rows(own, own.recurrent, first_panel(plan.weight_hh, own.recurrent), p, count);
}

// Calls f(j, row and step, unit, dL/dh~[t], count) for every vector of a part, where h~ is the
// state before zoneout.
template <bool general, class Real, class Storage, class F>
SEQFAST_INLINE void for_each_unit(const BackwardPlan<Real, Storage>& plan,
                                  const BackwardChunk<Real, Storage>& chunk,
                                  const BackwardShare<Real>& own, const PanelGradients<Real>& part,
                                  F&& f) {
    const int64_t outputs = plan.sizes.output_size();
    const bool direct = plan.has_direct();
    for (int64_t j = 0; j < part.active; ++j) {
        const BackwardRow& at = own.steps[j];
        const Real* grads = part.grads + j * part.vectors.size() * kLanes<Real>;
        const Storage* grad_output =
            plan.args.grad_output.data
                ? row_at<Storage>(plan.args.grad_output, at.time, at.row) + own.direction * outputs
                : nullptr;
        const int64_t next_grad_output =
            at.previous < 0 ? 0
                            : plan.args.grad_output.step_stride * (at.previous < at.index ? -1 : 1);
        for (int64_t v = part.vectors.begin; v < part.vectors.end; ++v, grads += kLanes<Real>) {
            with_count<Real>(outputs - v * kLanes<Real>, [&](auto count) {
                const int64_t unit = v * kLanes<Real>;
                Vector<Real> grad = load(grads);
                if constexpr (general) {
                    if (own.masks.hidden && !at.last) {
                        grad *= own.masks.of_output(own.masks.hidden, j, unit);
                    }
                }
                Real* carried = plan.grad_direct + at.row * plan.hidden_stride + unit;
                if (direct && !(general && at.cut)) grad += load(carried);
                if (grad_output) {
                    grad += load<Real>(grad_output + unit, count);
                    __builtin_prefetch(grad_output + unit + next_grad_output, 0, 2);
                }
                if constexpr (general) {
                    if (own.masks.hidden) keep_multiplied(plan, chunk, own, j, unit, count);
                    if (own.masks.zoneout_hidden) {
                        const Vector<Real> kept =
                            own.masks.of_output(own.masks.zoneout_hidden, j, unit);
                        store(carried, kept * grad);
                        grad -= kept * grad;
                    }
                }
                f(j, at, unit, grad, count);
            });
        }
    }
}

// Behind a projection what reaches a cell's output is the part's own; else with all else that
// reaches h[t].
template <bool general, class Real, class Storage, class F>
SEQFAST_INLINE void for_each_cell(const BackwardPlan<Real, Storage>& plan,
                                  const BackwardChunk<Real, Storage>& chunk,
                                  const BackwardShare<Real>& own, const PanelGradients<Real>& part,
                                  F&& f) {
    if (general && plan.sizes.proj_size) {
        for (int64_t j = 0; j < part.active; ++j) {
            const Real* grads = part.grads + j * part.vectors.size() * kLanes<Real>;
            for (int64_t v = part.vectors.begin; v < part.vectors.end; ++v, grads += kLanes<Real>) {
                with_count<Real>(plan.sizes.hidden_size - v * kLanes<Real>, [&](auto count) {
                    f(j, own.steps[j], v * kLanes<Real>, load(grads), count);
                });
            }
        }
    } else {
        for_each_unit<general>(plan, chunk, own, part, f);
    }
}

template <class Real, class Storage>
void start_state(const BackwardPlan<Real, Storage>& plan, const Place& place,
                 const BackwardShare<Real>& own) {
    const auto* grad_cell_n = static_cast<const Storage*>(plan.args.grad_cell_n);
    const int64_t units = plan.sizes.hidden_size;
    for (int64_t j = 0; j < place.rows(); ++j) {
        const int64_t row = place.row(j), from = own.direction * plan.sizes.batch + row;
        plan.drawer.draw_sequence(own.masks, j, row, own.direction);
        if (plan.has_direct()) {
            for (int64_t v = own.recurrent.vectors.begin; v < own.recurrent.vectors.end; ++v) {
                store(plan.grad_direct + row * plan.hidden_stride + v * kLanes<Real>,
                      Vector<Real>{});
            }
        }
        if (!plan.traits.has_cell_state) continue;
        const Range mine = plan.own_units(own);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            const int count = static_cast<int>(smaller(kLanes<Real>, units - v * kLanes<Real>));
            store(plan.grad_cell + row * plan.cell_stride + v * kLanes<Real>,
                  grad_cell_n ? load<Real>(grad_cell_n + from * units + v * kLanes<Real>, count)
                              : Vector<Real>{});
        }
    }
}

template <class Real, class Storage>
void finish_state(const BackwardPlan<Real, Storage>& plan, const Place& place,
                  const BackwardShare<Real>& own, const LaterStep<Real>& later) {
    const int64_t outputs = plan.sizes.output_size(), units = plan.sizes.hidden_size;
    auto* grad_hidden = static_cast<Storage*>(plan.args.grad_hidden);
    auto* grad_cell = static_cast<Storage*>(plan.args.grad_cell);
    const int64_t continued = place.rows_of_first(later.rows);
    const auto began_anew = [&](int64_t j) {
        return j < continued && plan.resets_at(place.time(j, 0, own.direction), place.row(j));
    };
    const auto write = [&](int64_t j, int64_t v, Vector<Real> x) {
        store(grad_hidden + (own.direction * plan.sizes.batch + place.row(j)) * outputs +
                  v * kLanes<Real>,
              x, static_cast<int>(smaller(kLanes<Real>, outputs - v * kLanes<Real>)));
    };
    for (int64_t p = 0; grad_hidden && p < own.recurrent.panels(); ++p) {
        const Range vectors = own.recurrent.panel(p);
        multiply_recurrent(plan, place, own, p, later, continued);
        for (int64_t j = 0; j < continued; ++j) {
            for (int64_t v = 0; v < vectors.size(); ++v) {
                const int64_t unit = (vectors.begin + v) * kLanes<Real>;
                Vector<Real> x = load(own.product + (j * vectors.size() + v) * kLanes<Real>);
                if (own.masks.hidden) x *= own.masks.of_output(own.masks.hidden, j, unit);
                if (plan.has_direct())
                    x += load(plan.grad_direct + place.row(j) * plan.hidden_stride + unit);
                write(j, vectors.begin + v, began_anew(j) ? Vector<Real>{} : x);
            }
        }
        // Rows of no steps: the state went straight through.
        for (int64_t j = continued; j < place.rows(); ++j) {
            for (int64_t v = vectors.begin; v < vectors.end; ++v) {
                write(j, v, load_state(plan, plan.args.grad_hidden_n, own, place.row(j), v));
            }
        }
    }
    const Range mine = plan.own_units(own);
    for (int64_t j = 0; grad_cell && j < place.rows(); ++j) {
        const int64_t row = place.row(j);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            store(grad_cell + (own.direction * plan.sizes.batch + row) * units + v * kLanes<Real>,
                  began_anew(j) ? Vector<Real>{}
                                : load(plan.grad_cell + row * plan.cell_stride + v * kLanes<Real>),
                  static_cast<int>(smaller(kLanes<Real>, units - v * kLanes<Real>)));
        }
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

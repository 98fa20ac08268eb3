// The gradients of the weights: one product over a chunk's rows for each, summed chunk by chunk.
#pragma once

#include "cpu/rnn/backward/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Where the chunk's products find their operands.
template <class Real, class Storage>
void list_rows(const BackwardPlan<Real, Storage>& plan, const BackwardShare<Real>& own,
               const BackwardChunk<Real, Storage>& chunk, int64_t active) {
    const int64_t outputs = plan.sizes.output_size();
    const auto* hidden = static_cast<const Storage*>(plan.args.hidden);
    for (int64_t j = 0; j < active; ++j) {
        const BackwardRow& at = own.steps[j];
        chunk.input[at.item] = row_at<Storage>(plan.args.input, at.time, at.row);
        if (at.restarts) {
            chunk.hidden[at.item] = nullptr;
        } else if (plan.drawer.hidden()) {
            chunk.hidden[at.item] = chunk.multiplied + at.item * outputs;
        } else if (at.previous >= 0) {
            chunk.hidden[at.item] =
                static_cast<const Storage*>(plan.args.output) + at.previous * outputs;
        } else {
            chunk.hidden[at.item] =
                hidden ? hidden + (own.direction * plan.sizes.batch + at.row) * outputs : nullptr;
        }
        if (plan.args.grad_input) {
            const int64_t width = plan.given_product ? plan.sizes.directions * plan.columns.gates *
                                                           plan.sizes.hidden_size
                                                     : plan.sizes.input_size;
            chunk.grad_input[at.item] = static_cast<Storage*>(plan.args.grad_input) +
                                        (at.time * plan.sizes.batch + at.row) * width;
        }
    }
}

template <class Real, class Storage>
void pack_chunk(const BackwardPlan<Real, Storage>& plan, const Place& place,
                const BackwardShare<Real>& own, const BackwardChunk<Real, Storage>& chunk,
                int64_t rows, bool first) {
    const Range depth = part_of(rows, plan.team.size(), place.thread);
    const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
    const auto pack = [&](int64_t columns, Real* packed, auto&& row) {
        pack_rows(whole<Real>(columns, rows), depth, packed, row);
    };
    if (own.sum_ih) {
        pack(plan.sizes.input_size, plan.packed_input, [&](int64_t k) { return chunk.input[k]; });
    }
    if (own.sum_hh) {
        pack(outputs, plan.packed_hidden, [&](int64_t k) { return chunk.hidden[k]; });
        if (plan.traits.has_second_product) {
            pack(outputs, plan.packed_factor,
                 [&](int64_t k) { return chunk.factor + k * outputs; });
        }
    }
    for (int s = 0; s < plan.segments; ++s) {
        const Segment& segment = plan.segment[s];
        const int64_t columns = segment.count * units;
        pack_columns(plan.packed_tiles(segment, rows), chunk.grad_gates + segment.column * units,
                     plan.width, columns, rows, plan.own_tiles(place, columns),
                     plan.sum_columns + segment.column * units, first);
    }
    if (own.sum_hr || own.sums_bias_hr) {
        pack_columns(plan.packed_grad_hidden, chunk.grad_hidden, plan.sizes.proj_size,
                     plan.sizes.proj_size, rows, plan.own_tiles(place, plan.sizes.proj_size),
                     plan.sum_bias_hr, first);
        pack(units, plan.packed_cell_output,
             [&](int64_t k) { return chunk.cell_output + k * units; });
    }
}

// Every column's sum over the chunk, in the order of the rows; own columns.
template <class Real, class Storage>
void sum_extras(const BackwardPlan<Real, Storage>& plan, const Place& place,
                const BackwardChunk<Real, Storage>& chunk, int64_t rows, bool first) {
    const int64_t columns = plan.extras.count * plan.sizes.hidden_size;
    const Range mine = part_of(ceil_div(columns, kLanes<Real>), plan.team.size(), place.thread);
    for (int64_t v = mine.begin; v < mine.end; ++v) {
        const int count = static_cast<int>(smaller(kLanes<Real>, columns - v * kLanes<Real>));
        Vector<Real> sum = first ? Vector<Real>{} : load(plan.sum_extras + v * kLanes<Real>);
        for (int64_t k = 0; k < rows; ++k) {
            sum += load<Real>(chunk.extras + k * columns + v * kLanes<Real>, count);
        }
        store(plan.sum_extras + v * kLanes<Real>, sum);
    }
}

// sum [left_columns, right_columns] (+)= left' right over the chunk's rows, own tiles.
template <class Real, class Storage>
void outer_product(const BackwardPlan<Real, Storage>& plan, const Place& place, const Real* left,
                   int64_t left_columns, const Real* right, int64_t right_columns, int64_t rows,
                   Real* sum, bool first) {
    const PanelLayout<Real> layout = whole<Real>(right_columns, rows);
    const Range tiles = plan.own_tiles(place, left_columns);
    alignas(64) Real edge[kTileRows * kPanelVectors * kLanes<Real>];
    const Real* tile_rows[kTileRows];
    Product<Real> product{};
    product.left = tile_rows;
    product.left_stride = kTileRows;
    product.depth = rows;
    for (int64_t p = 0; p < layout.panels(); ++p) {
        const Range vectors = layout.panel(p);
        const int64_t columns =
            smaller(vectors.end * kLanes<Real>, right_columns) - vectors.begin * kLanes<Real>;
        product.panel = right + layout.offset(p);
        for (int64_t t = tiles.begin; t < tiles.end; ++t) {
            const Real* packed = left + t * rows * kTileRows;
            const int64_t size = smaller(kTileRows, left_columns - t * kTileRows);
            Real* to = sum + t * kTileRows * right_columns + vectors.begin * kLanes<Real>;
            for (int64_t r = 0; r < size; ++r) {
                tile_rows[r] = packed + r;
                // The sums wait in memory; the next tile's are fetched during this one.
                for (int64_t c = 0; c < columns; c += 64 / sizeof(Real)) {
                    __builtin_prefetch(to + (kTileRows + r) * right_columns + c, 1, 2);
                }
            }
            product.prefetch = packed + rows * kTileRows;
            const bool whole_vectors = columns == vectors.size() * kLanes<Real>;
            product.target = whole_vectors ? to : edge;
            product.target_stride = whole_vectors ? right_columns : vectors.size() * kLanes<Real>;
            product.start = whole_vectors && !first ? to : nullptr;
            product.start_stride = right_columns;
            multiply_panel(product, size, vectors.size());
            if (whole_vectors) continue;
            for (int64_t r = 0; r < size; ++r) {
                for (int64_t c = 0; c < columns; c += kLanes<Real>) {
                    const int count = static_cast<int>(smaller(kLanes<Real>, columns - c));
                    Real* element = to + r * right_columns + c;
                    Vector<Real> x = load(edge + r * vectors.size() * kLanes<Real> + c);
                    if (!first) x += load<Real>(element, count);
                    store(element, x, count);
                }
            }
        }
    }
}

template <class Real, class Storage>
void sum_chunk(const BackwardPlan<Real, Storage>& plan, const Place& place,
               const BackwardShare<Real>& own, const BackwardChunk<Real, Storage>& chunk,
               int64_t rows, bool first) {
    if (own.sum_ih || own.sum_hh || own.sums_bias || own.sum_hr || own.sums_bias_hr) {
        pack_chunk(plan, place, own, chunk, rows, first);
        plan.barriers[0].wait();
        const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
        for (int s = 0; s < plan.segments; ++s) {
            const Segment& segment = plan.segment[s];
            const Real* left = plan.packed_tiles(segment, rows);
            const int64_t columns = segment.count * units;
            if (own.sum_ih && segment.input_gate >= 0) {
                outer_product(plan, place, left, columns, plan.packed_input, plan.sizes.input_size,
                              rows, own.sum_ih + segment.input_gate * units * plan.sizes.input_size,
                              first);
            }
            if (own.sum_hh && segment.recurrent_gate >= 0) {
                const bool second =
                    plan.traits.has_second_product && segment.recurrent_gate == plan.second_gate();
                outer_product(plan, place, left, columns,
                              second ? plan.packed_factor : plan.packed_hidden, outputs, rows,
                              own.sum_hh + segment.recurrent_gate * units * outputs, first);
            }
        }
        if (own.sum_hr) {
            outer_product(plan, place, plan.packed_grad_hidden, plan.sizes.proj_size,
                          plan.packed_cell_output, units, rows, own.sum_hr, first);
        }
    }
    if (plan.extras.count > 0) sum_extras(plan, place, chunk, rows, first);
}

// target[offset + i] = sum[i]
template <class Real, class Storage>
void finish_sum(const BackwardPlan<Real, Storage>& plan, const Place& place, const Real* sum,
                void* target, int64_t offset, int64_t size, bool nothing_summed) {
    auto* to = static_cast<Storage*>(target) + offset;
    if (!target || !sum || (static_cast<const void*>(sum) == to && !nothing_summed)) return;
    const Range mine = part_of(ceil_div(size, kLanes<Real>), plan.team.size(), place.thread);
    for (int64_t v = mine.begin; v < mine.end; ++v) {
        const int count = static_cast<int>(smaller(kLanes<Real>, size - v * kLanes<Real>));
        store(to + v * kLanes<Real>,
              nothing_summed ? Vector<Real>{} : load<Real>(sum + v * kLanes<Real>, count), count);
    }
}

// It differs from the input's where the candidate's share of the state stands apart.
template <class Real, class Storage>
void finish_recurrent_bias(const BackwardPlan<Real, Storage>& plan, const Place& place,
                           const RnnWeightGradients& grads, bool nothing_summed) {
    const int64_t units = plan.sizes.hidden_size;
    for (int gate = 0; gate < plan.columns.gates; ++gate) {
        const Real* sum = plan.sum_columns + (gate + plan.columns.first_recurrent) * units;
        if (gate == plan.columns.gates - 1 && plan.extras.candidate_bias >= 0) {
            sum = plan.sum_extras + plan.extras.candidate_bias * units;
        }
        finish_sum(plan, place, sum, grads.bias_hh, gate * units, units, nothing_summed);
    }
}

// Sums to the user's type; zeros where no row had a step.
template <class Real, class Storage>
void finish_weights(const BackwardPlan<Real, Storage>& plan, const Place& place,
                    const BackwardShare<Real>& own, bool nothing_summed) {
    const RnnWeightGradients& grads = plan.args.grad_weights[own.direction];
    const int64_t units = plan.sizes.hidden_size, gates = plan.columns.gates * units;
    plan.barriers[0].wait();
    const auto finish = [&](const Real* sum, void* target, int64_t size) {
        finish_sum(plan, place, sum, target, 0, size, nothing_summed);
    };
    finish(own.sum_ih, grads.weight_ih, gates * plan.sizes.input_size);
    finish(own.sum_hh, grads.weight_hh, gates * plan.sizes.output_size());
    finish(own.sum_hr, grads.weight_hr, plan.sizes.proj_size * units);
    finish(plan.sum_bias_hr, grads.bias_hr, plan.sizes.proj_size);
    for (int c = 0; c < plan.columns.gates; ++c) {
        finish_sum(plan, place, plan.sum_columns + c * units, grads.bias_ih,
                   plan.columns.input_gate(c) * units, units, nothing_summed);
    }
    if (grads.bias_hh != grads.bias_ih) finish_recurrent_bias(plan, place, grads, nothing_summed);
    const auto finish_extra = [&](int extra, void* target, int count) {
        if (extra >= 0) finish(plan.sum_extras + extra * units, target, count * units);
    };
    finish_extra(plan.extras.peephole, grads.weight_peephole, 3);
    finish_extra(plan.extras.norm_product, grads.weight_norm_hh, plan.columns.gates);
    finish_extra(plan.extras.norm_cell, grads.weight_norm_cell, 1);
    if (plan.extras.norm_cell >= 0)
        finish_extra(plan.extras.norm_cell + 1, grads.bias_norm_cell, 1);
}

}  // namespace seqfast::cpu::SEQFAST_ISA

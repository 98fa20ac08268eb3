// The input's share of a chunk's pre-activations, and products with weights as the user keeps them.
#pragma once

#include "cpu/rnn/forward/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

// `rows`: the left-hand side in 8 bits, where the weights are.
template <class Real, class Storage>
void multiply(const ForwardPlan<Real, Storage>& plan, const Product<Real>& product,
              const QuantizedRows& rows, int64_t count, int64_t vectors) {
    if constexpr (std::is_same_v<Storage, float>) {
        if (plan.quantized) return multiply_quads(product, rows, count, vectors);
    }
    if constexpr (kPairs<Storage>) {
        if (plan.paired) return multiply_panel<Real, true>(product, count, vectors);
    }
    multiply_panel(product, count, vectors);
}

// The left-hand side of the products that follow, where they are of 8 bits.
template <class Real, class Storage>
void quantize(const ForwardPlan<Real, Storage>& plan, const Real* const* rows, int64_t size,
              int64_t count, const QuantizedRows& to) {
    if constexpr (std::is_same_v<Storage, float>) {
        if (plan.quantized) quantize_rows(rows, size, count, to);
    }
}

// Where a product with unpacked weights adds its columns: in rows `stride` apart, from column
// `first` of the `columns` that every vector of units has.
template <class Real>
struct UnpackedTarget {
    Real* rows;
    int64_t stride;
    int columns, first;
};

// The columns' gates, one after the other, of one block += left times the weights as the user
// keeps them.
template <class Real, class Storage, class GateOf>
void multiply_unpacked(const ForwardPlan<Real, Storage>& plan, int64_t block,
                       const Real* const* left, const void* weight, int64_t depth, int columns,
                       GateOf&& gate_of, const UnpackedTarget<Real>& target, int64_t count) {
    const int64_t units = plan.sizes.hidden_size, first = plan.first_unit(block);
    const int64_t end = smaller(first + plan.group * kLanes<Real>, units);
    DirectProduct<Real, Storage> product{};
    product.left = left;
    product.depth = depth;
    product.target = target.rows;
    product.target_stride = target.stride;
    int64_t filled = 0;
    for (int64_t unit = first; unit < end; ++unit) {
        const int64_t vector = (unit - first) / kLanes<Real>, lane = (unit - first) % kLanes<Real>;
        for (int c = 0; c < columns; ++c) {
            product.weight[filled] =
                static_cast<const Storage*>(weight) + (gate_of(c) * units + unit) * depth;
            product.at[filled] = (vector * target.columns + target.first + c) * kLanes<Real> + lane;
            if (++filled == kPanelVectors || (unit + 1 == end && c + 1 == columns)) {
                multiply_direct(product, count, filled);
                filled = 0;
            }
        }
    }
}

// f(vector of units, its first unit, its kLanes<Real>) for all of a block.
template <class Real, class Storage, class F>
void for_each_vector_of(const ForwardPlan<Real, Storage>& plan, int64_t block, F&& f) {
    for (int64_t v = 0; v < plan.vectors_of(block); ++v) {
        const int64_t unit = plan.first_unit(block) + v * kLanes<Real>;
        f(v, unit, static_cast<int>(smaller(kLanes<Real>, plan.sizes.hidden_size - unit)));
    }
}

template <class Real, class Storage>
const Real* input_row(const ForwardPlan<Real, Storage>& plan, const Place& place,
                      const ForwardShare<Real>& own, int64_t j, int64_t step, int64_t index) {
    const Storage* from =
        row_at<Storage>(plan.args.input, place.time(j, step, own.direction), place.row(j));
    if constexpr (sizeof(Storage) == sizeof(Real)) {
        return from;
    } else {
        if (plan.paired || plan.given_product) return reinterpret_cast<const Real*>(from);
        Real* to = own.widened + index * plan.sizes.input_size;
        for_each_vector<Real>({0, plan.sizes.input_size}, [&](int64_t i, int count) {
            store(to + i, load<Real>(from + i, count), count);
        });
        return to;
    }
}

// Row by row, as the caches like to be read.
template <class Real, class Storage>
void take_given_product(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                        int64_t rows) {
    const int64_t units = plan.sizes.hidden_size;
    const int64_t begin = own.direction * plan.columns.gates * units;
    for (int64_t row = 0; row < rows; ++row) {
        const auto* from = reinterpret_cast<const Storage*>(own.rows[row]) + begin;
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            const Real* bias = own.weights.bias + b * plan.width;
            Real* to = plan.preactivation(own, b, row);
            for_each_vector_of(plan, b, [&](int64_t v, int64_t unit, int count) {
                for (int c = 0; c < plan.columns.columns; ++c) {
                    const int64_t at = (v * plan.columns.columns + c) * kLanes<Real>;
                    Vector<Real> sum = load(bias + at);
                    if (c < plan.columns.gates) {
                        sum += load<Real>(from + plan.columns.input_gate(c) * units + unit, count);
                    }
                    store(to + at, sum);
                }
            });
        }
    }
}

// The pre-activations' share from the input, biases included, for all rows of a chunk.
template <class Real, class Storage>
void multiply_input(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                    int64_t rows) {
    if (plan.given_product) return take_given_product(plan, own, rows);
    quantize(plan, own.rows, plan.sizes.input_size, rows, own.quantized_input);
    Product<Real> product{};
    product.left = own.rows;
    product.depth = plan.depth_of(plan.sizes.input_size);
    product.target_stride = plan.width;
    for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
        const Real* bias = own.weights.bias + b * plan.width;
        const int64_t vectors = plan.vectors_of(b) * plan.columns.columns;
        // The product starts with the biases of its own columns.
        const int64_t started = plan.direct ? 0 : plan.vectors_of(b) * plan.columns.gates;
        for (int64_t row = 0; row < rows && started < vectors; ++row) {
            Real* to = plan.preactivation(own, b, row);
            for (int64_t v = started; v < vectors; ++v) {
                store(to + v * kLanes<Real>, load(bias + v * kLanes<Real>));
            }
        }
        if (plan.direct) {
            multiply_unpacked(
                plan, b, own.rows, plan.args.weights[own.direction].weight_ih,
                plan.sizes.input_size, plan.columns.gates,
                [&](int c) { return plan.columns.input_gate(c); },
                UnpackedTarget<Real>{plan.preactivation(own, b, 0), plan.width,
                                     plan.columns.columns, 0},
                rows);
        } else {
            product.panel =
                plan.panel(own.weights.weight_ih, b, plan.columns.gates, 0, plan.sizes.input_size);
            product.start = bias;
            product.target = plan.preactivation(own, b, 0);
            multiply(plan, product, own.quantized_input, rows, started);
        }
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA

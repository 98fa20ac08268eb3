// What all LSTM kernels share: their arguments, rows by length, and what follows a product - the
// cell.
#pragma once

#include "core/cells/lstm_cell.h"
#include "core/rnn.h"
#include "cuda/tile_product.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class V_>
struct GpuMath {
    using V = V_;
    static SEQFAST_DEVICE V sigmoid(V x) { return fast_divide(V(1), V(1) + fast_exp(-x)); }
    static SEQFAST_DEVICE V tanh(V x) {
        const V large = V(1) - fast_divide(V(2), V(1) + fast_exp(V(2) * x));
        // Near zero the difference above keeps no relative accuracy: Taylor's series.
        const V s = x * x;
        const V small =
            x *
            (V(1) + s * (V(-1. / 3) + s * (V(2. / 15) + s * (V(-17. / 315) + s * V(62. / 2835)))));
        return x * x < V(sizeof(V) == 8 ? 1e-4 : 0.04) ? small : large;
    }
};

// Rows of a call in the order in which the kernels take them: by falling length.
struct RowsByLength {
    const int64_t* order;    // nullptr: as they come
    const int64_t* lengths;  // nullptr: all have all steps
    int64_t batch;
    int steps;

    // -1 past the batch.
    SEQFAST_DEVICE int64_t row(int64_t position) const {
        if (position >= batch) return -1;
        return order ? order[position] : position;
    }
    SEQFAST_DEVICE int length(int64_t row) const {
        if (row < 0) return 0;
        if (!lengths) return steps;
        const int64_t length = lengths[row];
        return length < 0 ? 0 : length > steps ? steps : int(length);
    }
};

// Where things are in the shared memory of a block that runs a whole sequence, in bytes.
struct PersistentLayout {
    int extra;     // chunks of a warp beyond its registers
    int kept;      // their weights, each read by the thread that wrote it
    int partial;   // two, taken in turns
    int exchange;  // cluster: rows of k for the next step, two, taken in turns
    int state;     // [row of the slab][unit]: what the cell carries along
    int row;       // [row of the slab]: row of the batch
    int length;    // [row of the slab]
    int uses;      // [pass]: how often its exchange has been used
    int split;     // RecurrenceParams::split
    int bias;      // [unit]: of its four gates
    int64_t total;
};

// Of the kernels that run a whole sequence and of those that run one step.
struct RecurrenceParams {
    RowsByLength rows;
    int hidden_size;
    int directions;
    uint32_t split;          // of float32 products: see Float32Product
    int chunks;              // of k
    const U32x4* packed[2];  // weights, per direction
    // Rows of k before the first step, [direction][pass][chunk][row of a pass][64 bytes]; nullptr:
    // zeros.
    const char* staged;
    // Rows of k that travel between steps: see the kernels.
    char* exchange;
    // Sequence kernels: groups of `group` blocks; an item is a slab of `passes` passes of rows in
    // one direction, and each group takes every `groups`-th of `items`.
    int group, groups, passes, slabs, items;
    PersistentLayout layout;
    // Step kernels: the step, and the passes of the batch.
    int step, all_passes;
};

struct ForwardParams {
    RecurrenceParams recurrence;
    const void* hidden;  // as in LstmRecurrenceForwardArgs, and so on
    const void* cell;
    const void* bias_ih[2];
    const void* bias_hh[2];
    void* gates;
    bool save_gates;
    void* output;  // nullptr: kept back for the projection
    void* hidden_n;
    void* cell_n;
    void* cells;
    void* state;  // step kernels: the cells, [direction][pass][row][unit]
};

struct BackwardParams {
    RecurrenceParams recurrence;
    SequenceView grad_output;  // absent behind a projection: it is in the product already
    const void* grad_hidden_n;
    const void* grad_cell_n;
    const void* grad_cells;
    const void* cell;
    const void* cells;
    const void* gates;
    void* grad_gates;
    void* grad_cell;
    void* unprojected;  // nullptr without projection
    void* state;        // step kernels: what reaches the cells
};

// The step of the sequence that row `length` long does at its own step s.
SEQFAST_DEVICE int64_t time_of(int s, int length, bool reversed) {
    return reversed ? length - 1 - s : s;
}

// One unit of one direction, as a thread has it, and where its numbers stand.
template <class Params>
struct CellOf {
    const Params& p;
    int direction, unit;  // unit of the layer

    SEQFAST_DEVICE CellOf(const Params& params) : p(params), direction(-1), unit(0) {}

    SEQFAST_DEVICE void start(int to_direction, int to_unit) {
        direction = to_direction;
        unit = to_unit;
    }
    SEQFAST_DEVICE bool is_unit() const { return unit < p.recurrence.hidden_size; }

    // [steps, batch, directions * width]
    SEQFAST_DEVICE int64_t at(int64_t t, int64_t row, int width) const {
        const auto& r = p.recurrence;
        return ((t * r.rows.batch + row) * r.directions + direction) * width;
    }
    // [directions, batch, hidden_size]
    SEQFAST_DEVICE int64_t state_at(int64_t row) const {
        const auto& r = p.recurrence;
        return (direction * r.rows.batch + row) * r.hidden_size + unit;
    }
};

// One thread's part of the forward cell: loads ahead of the product, the cell after it.
template <class Product, class G>
struct ForwardCell : CellOf<ForwardParams> {
    using T = typename Product::T;
    using Acc = typename Product::Acc;

    using CellOf<ForwardParams>::CellOf;

    SEQFAST_DEVICE Gates4<Acc> bias() const {
        Acc sum[4] = {0, 0, 0, 0};
        const T* const both[2] = {static_cast<const T*>(p.bias_ih[direction]),
                                  static_cast<const T*>(p.bias_hh[direction])};
        for (int b = 0; b < 2; ++b)
            if (both[b] && is_unit()) {
                SEQFAST_UNROLL
                for (int gate = 0; gate < 4; ++gate)
                    sum[gate] += to_float(both[b][int64_t(gate) * p.recurrence.hidden_size + unit]);
            }
        return {sum[0], sum[1], sum[2], sum[3]};
    }

    SEQFAST_DEVICE Acc first_cell(int64_t row) const {
        return p.cell && is_unit() ? Acc(to_float(static_cast<const T*>(p.cell)[state_at(row)]))
                                   : Acc(0);
    }
    // The results of a row without steps: what it began with.
    SEQFAST_DEVICE void finish_empty(int64_t row) const {
        if (!is_unit()) return;
        const int64_t i = state_at(row);
        if (p.hidden_n)
            static_cast<T*>(p.hidden_n)[i] =
                p.hidden ? static_cast<const T*>(p.hidden)[i] : round_to<T>(Acc(0));
        static_cast<T*>(p.cell_n)[i] =
            p.cell ? static_cast<const T*>(p.cell)[i] : round_to<T>(Acc(0));
    }

    struct Ahead {
        T gate[4];
    };
    SEQFAST_DEVICE void load(Ahead& ahead, int64_t t, int64_t row) const {
        const int size = p.recurrence.hidden_size;
        const T* from = static_cast<const T*>(p.gates) + at(t, row, 4 * size) + unit;
        SEQFAST_UNROLL
        for (int gate = 0; gate < 4; ++gate) ahead.gate[gate] = from[int64_t(gate) * size];
    }

    using Cell = LstmCell<GpuMath<Acc>>;
    struct Result {
        typename Cell::Gates gates;
        Acc cell;
        T hidden;
    };
    // `sum`: the product.
    SEQFAST_DEVICE Result step(const Ahead& ahead, const Gates4<Acc>& sum, const Gates4<Acc>& bias,
                               Acc cell) const {
        Result result{{sum.i + (Acc(to_float(ahead.gate[0])) + bias.i),
                       sum.f + (Acc(to_float(ahead.gate[1])) + bias.f),
                       sum.g + (Acc(to_float(ahead.gate[2])) + bias.g),
                       sum.o + (Acc(to_float(ahead.gate[3])) + bias.o)},
                      cell,
                      {}};
        result.hidden = round_to<T>(Cell::forward(result.gates, result.cell));
        return result;
    }
    SEQFAST_DEVICE void write(const Result& result, int64_t t, int64_t row, bool last) const {
        const int size = p.recurrence.hidden_size;
        const int64_t i = at(t, row, size) + unit;
        if (p.output) static_cast<T*>(p.output)[i] = result.hidden;
        if (p.cells) static_cast<Acc*>(p.cells)[i] = result.cell;
        if (p.save_gates) {
            T* to = static_cast<T*>(p.gates) + at(t, row, 4 * size) + unit;
            to[0] = round_to<T>(result.gates.i);
            to[int64_t(size)] = round_to<T>(result.gates.f);
            to[int64_t(2) * size] = round_to<T>(result.gates.g);
            to[int64_t(3) * size] = round_to<T>(result.gates.o);
        }
        if (last) {
            if (p.hidden_n) static_cast<T*>(p.hidden_n)[state_at(row)] = result.hidden;
            static_cast<T*>(p.cell_n)[state_at(row)] = round_to<T>(result.cell);
        }
    }
};

// Nearest even without the last bit, which then can carry a mark. Infinity and NaN stay what they
// are.
template <class T>
SEQFAST_DEVICE uint32_t without_last_bit(uint32_t bits);
template <>
SEQFAST_DEVICE uint32_t without_last_bit<BFloat16>(uint32_t bits) {
    if ((bits & 0x7F80u) != 0x7F80u) bits += bits & (bits >> 1) & 1u;
    return bits & ~1u;
}
template <>
SEQFAST_DEVICE uint32_t without_last_bit<Float16>(uint32_t bits) {
    if ((bits & 0x7C00u) != 0x7C00u) bits += bits & (bits >> 1) & 1u;
    return bits & ~1u;
}
template <>
SEQFAST_DEVICE uint32_t without_last_bit<float>(uint32_t bits) {
    if ((bits & 0x7F800000u) != 0x7F800000u) bits += bits & (bits >> 1) & 1u;
    return bits & ~1u;
}

SEQFAST_DEVICE uint32_t word_of(BFloat16 x) { return x.bits; }
SEQFAST_DEVICE uint32_t word_of(Float16 x) { return x.bits; }
SEQFAST_DEVICE uint32_t word_of(float x) { return bits_of(x); }

// The gradients of a unit's pre-activations.
template <class T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) GateGradients {
    T gate[4];
};

// One thread's part of the backward cell.
template <class Product, class G>
struct BackwardCell : CellOf<BackwardParams> {
    using T = typename Product::T;
    using Acc = typename Product::Acc;

    using CellOf<BackwardParams>::CellOf;

    // What reaches the row's last cell from outside.
    SEQFAST_DEVICE Acc last_cell(int64_t row) const {
        return p.grad_cell_n && is_unit()
                   ? Acc(to_float(static_cast<const T*>(p.grad_cell_n)[state_at(row)]))
                   : Acc(0);
    }
    SEQFAST_DEVICE void finish(int64_t row, Acc grad_cell) const {
        if (p.grad_cell && is_unit())
            static_cast<T*>(p.grad_cell)[state_at(row)] = round_to<T>(grad_cell);
    }

    struct Ahead {
        T gate[4];
        T grad_output;
        Acc cell, previous_cell;
    };
    // `first`, `last`: whether t is the row's first or last step of the sequence in its direction.
    SEQFAST_DEVICE void load(Ahead& ahead, int64_t t, int64_t row, bool first) const {
        const auto& r = p.recurrence;
        const int size = r.hidden_size;
        const T* gates = static_cast<const T*>(p.gates) + at(t, row, 4 * size) + unit;
        SEQFAST_UNROLL
        for (int gate = 0; gate < 4; ++gate) ahead.gate[gate] = gates[int64_t(gate) * size];
        const int64_t i = at(t, row, size) + unit;
        const Acc* cells = static_cast<const Acc*>(p.cells);
        ahead.cell = cells[i];
        ahead.previous_cell =
            first ? (p.cell ? Acc(to_float(static_cast<const T*>(p.cell)[state_at(row)])) : Acc(0))
                  : cells[at(direction ? t + 1 : t - 1, row, size) + unit];
        ahead.grad_output =
            p.grad_output.data
                ? static_cast<const T*>(p.grad_output.data)[t * p.grad_output.step_stride +
                                                            row * p.grad_output.row_stride +
                                                            int64_t(direction) * size + unit]
                : round_to<T>(Acc(0));
    }

    struct Result {
        GateGradients<T> gates;
        Acc grad_cell;  // of the step before
        Acc hidden;     // o * tanh(c)
    };
    // `sum`: the product; `last`: whether t is the row's last step of the sequence.
    SEQFAST_DEVICE Result step(const Ahead& ahead, Acc sum, Acc grad_cell, int64_t t, int64_t row,
                               bool last) const {
        using Cell = LstmCell<GpuMath<Acc>>;
        Acc grad_hidden = sum + Acc(to_float(ahead.grad_output));
        if (last && p.grad_hidden_n)
            grad_hidden += Acc(to_float(static_cast<const T*>(p.grad_hidden_n)[state_at(row)]));
        if (p.grad_cells)
            grad_cell +=
                static_cast<const Acc*>(p.grad_cells)[at(t, row, p.recurrence.hidden_size) + unit];
        const typename Cell::Gates gates{Acc(to_float(ahead.gate[0])), Acc(to_float(ahead.gate[1])),
                                         Acc(to_float(ahead.gate[2])),
                                         Acc(to_float(ahead.gate[3]))};
        Result result;
        result.grad_cell = grad_cell;
        const typename Cell::Gates grad = Cell::backward(
            gates, ahead.cell, ahead.previous_cell, grad_hidden, result.grad_cell, result.hidden);
        result.gates = {
            {round_to<T>(grad.i), round_to<T>(grad.f), round_to<T>(grad.g), round_to<T>(grad.o)}};
        return result;
    }
    // `first`: whether t is the row's first step of the sequence.
    SEQFAST_DEVICE void write(const Result& result, int64_t t, int64_t row, bool first) const {
        const int size = p.recurrence.hidden_size;
        T* to = static_cast<T*>(p.grad_gates) + at(t, row, 4 * size) + unit;
        SEQFAST_UNROLL
        for (int gate = 0; gate < 4; ++gate) to[int64_t(gate) * size] = result.gates.gate[gate];
        if (p.unprojected)
            static_cast<T*>(p.unprojected)[at(t, row, size) + unit] = round_to<T>(result.hidden);
        if (first) finish(row, result.grad_cell);
    }
};

// What a step's gate gradients look like to the product of the step before: k = unit * 4 + gate. Of
// every 8 bytes the first number gives up its last bit to the mark of the sequence kernels.
template <class T>
SEQFAST_DEVICE void exchange_words(const GateGradients<T>& grad, U32x2& words) {
    static_assert(sizeof(T) == 2);
    words = {without_last_bit<T>(word_of(grad.gate[0])) | word_of(grad.gate[1]) << 16,
             word_of(grad.gate[2]) | word_of(grad.gate[3]) << 16};
}
SEQFAST_DEVICE void exchange_words(const GateGradients<float>& grad, U32x4& words) {
    words = {without_last_bit<float>(word_of(grad.gate[0])), word_of(grad.gate[1]),
             without_last_bit<float>(word_of(grad.gate[2])), word_of(grad.gate[3])};
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

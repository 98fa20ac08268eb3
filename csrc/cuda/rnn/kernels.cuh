// What all kernels of a recurrence share: their arguments, rows by length, random draws.
#pragma once

#include "core/random.h"
#include "core/rnn.h"
#include "cuda/base/tile_product.cuh"
#include "cuda/rnn/families.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class V_>
struct GpuMath {
    using V = V_;
    using Real = V_;
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
    // NaN stays NaN.
    static SEQFAST_DEVICE V relu(V x) { return x < V(0) ? V(0) : x; }
    static SEQFAST_DEVICE V clamp(V x, V limit) {
        return x < -limit ? -limit : x > limit ? limit : x;
    }
    static SEQFAST_DEVICE V between(V x, V low, V high) {
        return low < x && x < high ? V(1) : V(0);
    }
    static SEQFAST_DEVICE V positive(V x) { return x > V(0) ? V(1) : V(0); }
};

// Rows of a call in the order in which the kernels take them: by falling length.
struct RowsByLength {
    const int64_t* order;    // nullptr: as they come
    const int64_t* lengths;  // nullptr: all have all steps
    int64_t batch;
    int steps;

    // -1 outside the batch.
    SEQFAST_DEVICE int64_t row(int64_t position) const {
        if (position < 0 || position >= batch) return -1;
        return order ? order[position] : position;
    }
    SEQFAST_DEVICE int length(int64_t row) const {
        if (row < 0) return 0;
        if (!lengths) return steps;
        const int64_t length = lengths[row];
        return length < 0 ? 0 : length > steps ? steps : int(length);
    }
};

// How the batch is cut up: slabs of `rows` rows by length, in the first places of `passes` passes.
struct Slabs {
    int count, passes, rows;
    // Place i of a slab among the rows by length, -1 where it is empty.
    SEQFAST_DEVICE int64_t position(int64_t slab, int i) const {
        return i < rows ? slab * rows + i : -1;
    }
};

// A row's own step s, the s-th that a pass does of it.
struct RowStep {
    int64_t row;
    int s, length;
    SEQFAST_DEVICE bool is_last() const { return s == length - 1; }
};
// The step of the sequence that row `length` long does at its own step s.
SEQFAST_DEVICE int64_t time_of(int s, int length, bool reversed) {
    return reversed ? length - 1 - s : s;
}

// ---- Options of a layer
// ------------------------------------------------------------------------------

template <class Real>
struct RealVariant {
    CellOptions<Real> cell;
    Real kept_hidden, kept_update;      // 1 / (1 - p) of the recurrent dropouts, 0 of p = 1
    Real zoneout_hidden, zoneout_cell;  // by expectation
    Real kept_cell;                     // the same: 1 - p of the cell's dropout
};

// What a layer does beyond its sizes.
struct Variant {
    CellKind kind;
    int gates, saved;
    int kept;  // blocks of a direction in the array of gates
    bool has_split_candidate;
    Activation output_activation;  // of the projection
    const uint8_t* reset;          // [steps, batch] or nullptr
    const int64_t* seed;           // nullptr: evaluation
    int layer;
    bool drops_hidden, zones_hidden;
    uint32_t hidden_dropout, update_dropout, zoneout_hidden, zoneout_cell;  // thresholds
    uint32_t cell_dropout;
    RealVariant<float> narrow;
    RealVariant<double> wide;

    template <class Real>
    SEQFAST_DEVICE const RealVariant<Real>& real() const {
        if constexpr (sizeof(Real) == 8)
            return wide;
        else
            return narrow;
    }
    SEQFAST_DEVICE bool event(Draw draw, int direction, int64_t unit, int64_t row, int64_t step,
                              uint32_t threshold) const {
        return event_at(*seed, uint32_t(unit), uint32_t(row), uint32_t(step),
                        stream_of(draw, layer, direction), threshold);
    }
    SEQFAST_DEVICE bool resets(int64_t t, int64_t row, int64_t batch) const {
        return reset && reset[t * batch + row];
    }
    // The scale of h in what is multiplied, one for a sequence.
    template <class Real>
    SEQFAST_DEVICE Real hidden_mask(int direction, int64_t unit, int64_t row) const {
        if (!drops_hidden) return 1;
        return event(Draw::hidden_dropout, direction, unit, row, 0, hidden_dropout)
                   ? Real(0)
                   : real<Real>().kept_hidden;
    }
};

// What is drawn for a unit at a step, and whether its states become zeros there.
enum Event : uint32_t {
    update_dropped = 1,
    hidden_kept = 2,
    cell_kept = 4,
    cleared = 8,
    cell_dropped = 16,
};

template <class Real>
SEQFAST_DEVICE Real update_scale(const Variant& v, uint32_t events) {
    return events & update_dropped ? Real(0) : v.real<Real>().kept_update;
}
// Of c[t], the same in all steps of a sequence.
template <class Real>
SEQFAST_DEVICE Real cell_scale(const Variant& v, uint32_t events) {
    return !v.seed ? v.real<Real>().kept_cell : events & cell_dropped ? Real(0) : Real(1);
}
// The share of the old state that stays.
template <class Real>
SEQFAST_DEVICE Real hidden_share(const Variant& v, uint32_t events) {
    return !v.seed ? v.real<Real>().zoneout_hidden : events & hidden_kept ? Real(1) : Real(0);
}
template <class Real>
SEQFAST_DEVICE Real cell_share(const Variant& v, uint32_t events) {
    return !v.seed ? v.real<Real>().zoneout_cell : events & cell_kept ? Real(1) : Real(0);
}

// A unit's planes.
template <class Acc>
struct Planes {
    Acc* first;
    int64_t stride;
    SEQFAST_DEVICE Acc& operator[](int plane) const { return first[plane * stride]; }
};

// ---- Arguments
// ---------------------------------------------------------------------------------------

// Where things are in the shared memory of a block that runs a whole sequence, in bytes.
struct PersistentLayout {
    int extra;     // chunks of a warp beyond its registers
    int kept;      // their weights, each read by the thread that wrote it
    int partial;   // two, taken in turns
    int exchange;  // cluster: rows of k for the next step, two, taken in turns
    int state;     // [plane][row of the slab][unit]
    int row;       // [row of the slab]: row of the batch
    int length;    // [row of the slab]
    int uses;      // [pass]: how often its exchange has been used
    int split;     // RecurrenceParams::split
    int bias;      // [unit]: of its gates
    int peephole;  // [unit]
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
    // Sequence kernels: groups of `group` blocks; an item is a slab in one direction, and each
    // group takes every `groups`-th of `items`.
    int group, groups, items;
    Slabs slabs;
    PersistentLayout layout;
    // Step kernels: the step, and the passes of the batch.
    int step, all_passes;
};

struct ForwardParams {
    RecurrenceParams recurrence;
    Variant variant;
    const void* hidden;  // as in RnnRecurrenceForwardArgs, and so on
    const void* cell;
    const void* bias_ih[2];
    const void* bias_hh[2];
    const void* weight_peephole[2];
    const void* product;
    void* gates;   // nullptr: not kept
    void* output;  // nullptr: kept back for the projection
    void* hidden_n;
    void* cell_n;
    void* cells;
    void* state;  // step kernels: [plane][direction][pass][row][unit]
};

struct BackwardParams {
    RecurrenceParams recurrence;
    Variant variant;
    SequenceView grad_output;  // absent behind a projection: it is in the product already
    const void* grad_hidden_n;
    const void* grad_cell_n;
    const void* grad_cells;
    const void* hidden;
    const void* cell;
    const void* weight_peephole[2];
    const void* output;
    const void* cells;
    const void* gates;
    void* grad_gates;
    void* grad_peephole;
    void* grad_hidden;
    void* grad_cell;
    void* unprojected;  // nullptr without projection
    void* state;        // step kernels: [plane][direction][pass][row][unit]
};

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
    SEQFAST_DEVICE int64_t at(int64_t t, int64_t row, int64_t width) const {
        const auto& r = p.recurrence;
        return ((t * r.rows.batch + row) * r.directions + direction) * width;
    }
    // [directions, batch, hidden_size]
    SEQFAST_DEVICE int64_t state_at(int64_t row) const {
        const auto& r = p.recurrence;
        return (direction * r.rows.batch + row) * r.hidden_size + unit;
    }
    // Of an array of first or last states, zeros where there is none.
    template <class Acc, class T>
    SEQFAST_DEVICE Acc state_of(const void* states, int64_t row) const {
        return states && is_unit() ? Acc(to_float(static_cast<const T*>(states)[state_at(row)]))
                                   : Acc(0);
    }
    SEQFAST_DEVICE bool resets(int64_t t, int64_t row) const {
        return p.variant.resets(t, row, p.recurrence.rows.batch);
    }
    template <class Acc>
    SEQFAST_DEVICE Acc mask(int64_t row) const {
        return is_unit() ? p.variant.template hidden_mask<Acc>(direction, unit, row) : Acc(1);
    }
    // What is drawn at step t.
    SEQFAST_DEVICE uint32_t draw(int64_t t, int64_t row) const {
        const Variant& v = p.variant;
        if (!v.seed) return 0;
        uint32_t events = 0;
        if (v.narrow.cell.update_dropout &&
            v.event(Draw::update_dropout, direction, unit, row, t, v.update_dropout))
            events |= update_dropped;
        if (v.zones_hidden &&
            v.event(Draw::zoneout_hidden, direction, unit, row, t, v.zoneout_hidden))
            events |= hidden_kept;
        if (v.narrow.cell.zoneout_cell &&
            v.event(Draw::zoneout_cell, direction, unit, row, t, v.zoneout_cell))
            events |= cell_kept;
        if (v.narrow.cell.cell_dropout &&
            v.event(Draw::hidden_dropout, direction, unit, row, 0, v.cell_dropout))
            events |= cell_dropped;
        return events;
    }
    // i f o of the unit.
    template <class Acc, class T>
    SEQFAST_DEVICE Gates4<Acc> peephole() const {
        Gates4<Acc> result{};
        if (p.weight_peephole[direction] && is_unit()) {
            const T* from = static_cast<const T*>(p.weight_peephole[direction]) + unit;
            SEQFAST_UNROLL
            for (int i = 0; i < 3; ++i)
                result.at[i] = to_float(from[int64_t(i) * p.recurrence.hidden_size]);
        }
        return result;
    }
    template <class Family>
    SEQFAST_DEVICE int gate_count() const {
        return Family::general && Family::slots > 1 ? p.variant.gates : Family::slots;
    }
    template <class Family>
    SEQFAST_DEVICE int saved_count() const {
        return Family::general && Family::slots > 1 ? p.variant.saved : Family::saved;
    }
    template <class Family>
    SEQFAST_DEVICE int kept_count() const {
        return Family::general ? p.variant.kept : Family::saved;
    }
    template <class Family>
    SEQFAST_DEVICE bool splits_candidate() const {
        return Family::split_gate >= 0 && p.variant.has_split_candidate;
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

template <class T>
struct QuadWords {
    using Type = U32x2;
};
template <>
struct QuadWords<float> {
    using Type = U32x4;
};

// Four numbers in a line, as they stand in a row; `marked`: of every 8 bytes the first number gives
// up its last bit to the mark of the sequence kernels.
template <bool marked, class T>
SEQFAST_DEVICE typename QuadWords<T>::Type words_of(uint32_t a, uint32_t b, uint32_t c,
                                                    uint32_t d) {
    if (marked) a = without_last_bit<T>(a);
    if constexpr (sizeof(T) == 4) {
        if (marked) c = without_last_bit<T>(c);
        return {a, b, c, d};
    } else {
        return {a | b << 16, c | d << 16};
    }
}

// The gradients of a unit's pre-activations as the recurrent product sees them.
template <class T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) GateGradients {
    T gate[4];
};
// What they look like to the product of the step before: k = unit * 4 + gate.
template <class T>
SEQFAST_DEVICE typename QuadWords<T>::Type exchange_words(const GateGradients<T>& grad) {
    return words_of<true, T>(word_of(grad.gate[0]), word_of(grad.gate[1]), word_of(grad.gate[2]),
                             word_of(grad.gate[3]));
}
// The numbers of the four lanes of a quad, all of which hold the result.
template <bool marked, class T>
SEQFAST_DEVICE typename QuadWords<T>::Type quad_words(T value) {
    const int quad = lane_index() & ~3;
    const uint32_t bits = word_of(value);
    return words_of<marked, T>(shuffle(bits, quad), shuffle(bits, quad + 1),
                               shuffle(bits, quad + 2), shuffle(bits, quad + 3));
}

// Of options that both directions of a cell take.
template <class Acc>
SEQFAST_DEVICE void set_inputs(const Variant& v, const CellOptions<Acc>& options, uint32_t events,
                               const Gates4<Acc>* peephole, StepInputs<Acc>& inputs) {
    if (options.update_dropout) inputs.update_scale = update_scale<Acc>(v, events);
    if (options.cell_dropout) inputs.cell_scale = cell_scale<Acc>(v, events);
    if (options.zoneout_cell) inputs.zoneout_cell = cell_share<Acc>(v, events);
    if (options.peephole) {
        SEQFAST_UNROLL
        for (int i = 0; i < 3; ++i) inputs.peephole[i] = peephole->at[i];
    }
}

// What a thread keeps of its unit for all steps.
template <class Acc>
struct UnitWeights {
    const Gates4<Acc>* bias;
    const Gates4<Acc>* peephole;
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

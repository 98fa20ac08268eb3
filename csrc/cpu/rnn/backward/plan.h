// What a backward pass decides before it begins: its team, its chunks, and where its arrays lie.
#pragma once

#include "cpu/rnn/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Rows of some consecutive steps, the last step first, each step's rows by falling length.
template <class Real, class Storage>
struct BackwardChunk {
    Real* grad_gates;        // [rows, width]: columns as in CellColumns; with layer_norm those
                             // of the input, then those of the recurrent product
    Real* grad_hidden;       // [rows, proj_size], with a projection
    Real* cell_output;       // [rows, hidden_size], with a projection
    Storage* multiplied;     // [rows, output_size]: h[t-1] times its mask
    Storage* factor;         // [rows, hidden_size]: what a step's second product multiplied
    Real* extras;            // [rows, extras, hidden_size]
    const Storage** input;   // [rows] where x[t] is
    const Storage** hidden;  // [rows] where h[t-1], as multiplied, is; nullptr: zeros
    Storage** grad_input;    // [rows] where dx[t] goes
};

// Columns whose gradients' products with the chunk's inputs and states go to rows of the
// weights side by side; -1: none.
struct Segment {
    int column, count, input_gate, recurrent_gate;
    int64_t first_tile;  // in packed_gates
};

// What is summed over rows and steps beyond columns: per unit; -1: not there.
struct ExtraSums {
    int count, peephole, norm_product, norm_cell, candidate_bias;
};

// Everything of one row and step that does not depend on the unit.
struct BackwardRow {
    int64_t row;
    int64_t index;     // of (time, row, direction) in the saved arrays
    int64_t previous;  // of its step before; -1: the initial state
    int64_t item;      // in the chunk
    int64_t time;
    bool restarts;  // this step began with zeros
    bool cut;       // the step after it did
    bool last;      // there is none after it
};

// One direction as one thread sees it.
template <class Real>
struct BackwardShare {
    int64_t direction;
    PanelLayout<Real> recurrent;   // weight_hh as [columns, output_size]
    PanelLayout<Real> candidate;   // of its last gate alone, where that product comes second
    PanelLayout<Real> projection;  // weight_hr as [proj_size, hidden_size]
    Real *sum_ih, *sum_hh, *sum_hr;
    bool sums_bias, sums_bias_hr;
    const Real** left;         // [product_rows] left-hand rows of the product under way
    Real* product;             // [product_rows, 4, lanes] its result
    BackwardRow* steps;        // [product_rows] this thread's rows of the step under way
    GradientSums<Real>* sums;  // with layer_norm: of the row group
    Real* waiting;             // the same
    Masks<Real> masks;
};

// The gradients of one step's pre-activations, as the step before needs them.
template <class Real>
struct LaterStep {
    const Real* grad_gates;
    int64_t rows;  // of the whole batch
};

// Some vectors of units of the first `active` rows, and what reaches h[t] through the product:
// [active, vectors, lanes].
template <class Real>
struct PanelGradients {
    Range vectors;
    int64_t active;
    const Real* grads;
};

// Of each row and vector of units with layer_norm: of the product, of a split candidate, of the
// cell.
enum BackwardSums { sums_of_product = 0, sums_of_candidate = 1, sums_of_cell = 2, sums_count = 3 };

template <class Real, class Storage>
struct BackwardPlan : PassPlan<Real, Storage, RnnBackwardArgs> {
    using Base = PassPlan<Real, Storage, RnnBackwardArgs>;
    using Base::args, Base::sizes, Base::options, Base::traits, Base::columns, Base::drawer;
    using Base::barriers, Base::given_product, Base::lanes, Base::peephole, Base::team;
    using Base::vectors, Base::workspace;
    static constexpr bool kSame = sizeof(Storage) == sizeof(Real);

    int first_recurrent;  // column of grad_gates where the recurrent product's begin
    int64_t width;        // of grad_gates
    int segments;
    Segment segment[4];
    ExtraSums extras;
    int64_t chunk_rows;
    Real* weight_hh;           // panels of [recurrent columns * hidden_size, vectors, lanes]
    Real* weight_candidate;    // the same of the last gate, where that comes second
    Real* weight_hr;           // panels of [proj_size, vectors, lanes]
    Real* weight_ih;           // panels of [gates * hidden_size, vectors, lanes]
    Real* grad_cell;           // [batch, cell_stride]
    Real* grad_direct;         // [batch, hidden_stride]: see has_direct
    Real* waiting;             // [batch, cell_stride]: dL/dh~, layer_norm
    GradientSums<Real>* sums;  // per row group [rows, 3, vectors of units], layer_norm
    BackwardChunk<Real, Storage> chunks[2];  // one being filled, one being summed
    Real* packed_input;                      // panels of [rows, vectors, lanes]
    Real* packed_hidden;                     // the same of h[t-1] as multiplied
    Real* packed_factor;                     // the same of the second product's factor
    Real* packed_cell_output;                // the same of what is projected
    Real* packed_gates;                      // tiles of [rows, kTileRows], segment by segment
    Real* packed_grad_hidden;                // the same, with a projection
    Real *sum_ih, *sum_hh, *sum_hr;          // 16-bit storage only
    Real* sum_columns;                       // of grad_gates
    Real* sum_extras;
    Real* sum_bias_hr;
    const Real** left;
    Real* product;
    BackwardRow* row_steps;
    Real* masks;  // per thread, as MaskDrawer places them
    int64_t cell_stride, hidden_stride, product_rows, masks_size;

    BackwardPlan(const RnnBackwardArgs& given, int threads) : Base(given, threads) {
        choose_sizes();
        list_segments();
        list_extras();
        lay_out();
    }

    BackwardShare<Real> share_of(const Place& place, int64_t direction) const {
        BackwardShare<Real> own;
        own.direction = direction;
        const int64_t units = sizes.hidden_size, outputs = sizes.output_size();
        const auto part = [&](PanelLayout<Real> layout) {
            layout.vectors = part_of(layout.vectors.size(), team.unit_groups, place.unit_group);
            return layout;
        };
        own.recurrent = part(whole<Real>(outputs, columns.recurrent * units));
        own.candidate = part(whole<Real>(outputs, units));
        own.projection = part(whole<Real>(sizes.proj_size ? units : 0, sizes.proj_size));
        own.left = left + place.thread * product_rows;
        own.product = product + place.thread * product_rows * kPanelVectors * lanes;
        own.steps = row_steps + place.thread * product_rows;
        const int64_t group_row = place.row_group * (sizes.batch / team.row_groups) +
                                  smaller(place.row_group, sizes.batch % team.row_groups);
        own.sums = sums + group_row * sums_count * vectors();
        own.waiting = waiting + group_row * cell_stride;
        const RnnWeightGradients& grads = args.grad_weights[direction];
        if constexpr (kSame) {
            own.sum_ih = static_cast<Real*>(grads.weight_ih);
            own.sum_hh = static_cast<Real*>(grads.weight_hh);
            own.sum_hr = static_cast<Real*>(grads.weight_hr);
        } else {
            own.sum_ih = grads.weight_ih ? sum_ih : nullptr;
            own.sum_hh = grads.weight_hh ? sum_hh : nullptr;
            own.sum_hr = grads.weight_hr ? sum_hr : nullptr;
        }
        own.sums_bias = grads.bias_ih || grads.bias_hh;
        own.sums_bias_hr = grads.bias_hr != nullptr;
        own.masks =
            drawer.place(masks + place.thread * masks_size, ceil_div(sizes.batch, team.row_groups),
                         in_units(own_units(own), units), in_units(own.recurrent.vectors, outputs));
        return own;
    }

    // Whether something of dL/dh[t] goes to h[t-1] past the product.
    bool has_direct() const { return traits.carries_hidden || options.zoneout_hidden > 0; }
    // The gate whose recurrent product comes second, where one does.
    int second_gate() const { return columns.recurrent; }
    int64_t steps_at(int64_t position) const {
        return args.order.steps ? args.order.steps[position] : sizes.steps;
    }

    // ---- units, as vectors ----

    // Vectors of hidden units whose cells this thread runs.
    Range own_units(const BackwardShare<Real>& own) const {
        return sizes.proj_size ? own.projection.vectors : own.recurrent.vectors;
    }
    static Range in_units(Range vectors, int64_t most) {
        return {vectors.begin * lanes, smaller(vectors.end * lanes, most)};
    }

    // ---- what a step kept ----

    const Storage* saved_at(int64_t index, int64_t unit) const {
        return static_cast<const Storage*>(args.gates) +
               index * this->saved_columns() * sizes.hidden_size + unit;
    }
    const Storage* normalised_at(int64_t index, int64_t unit) const {
        return saved_at(index, unit) + traits.saved() * sizes.hidden_size;
    }
    const Real* statistics_of(const BackwardRow& at) const {
        return static_cast<const Real*>(args.statistics) + at.index * statistics_count;
    }
    GradientSums<Real>* sums_at(const BackwardShare<Real>& own, int64_t j,
                                BackwardSums what) const {
        return own.sums + (j * sums_count + what) * vectors();
    }

    // ---- a chunk's products ----

    Real* packed_tiles(const Segment& segment, int64_t rows) const {
        return packed_gates + segment.first_tile * kTileRows * rows;
    }
    Range own_tiles(const Place& place, int64_t columns) const {
        return part_of(ceil_div(columns, kTileRows), team.size(), place.thread);
    }

  private:
    void choose_sizes() {
        const int64_t units = sizes.hidden_size, outputs = sizes.output_size();
        // With layer normalisation the recurrent product has gradients of its own.
        first_recurrent = options.layer_norm ? columns.gates : columns.first_recurrent;
        width = (options.layer_norm ? 2 * columns.gates : columns.columns) * units;
        const int64_t depth = columns.recurrent * units;
        team = choose_team(sizes, columns.gates, ceil_div(smaller(outputs, units), lanes),
                           static_cast<size_t>(depth * outputs) * sizeof(Real));
        // A chunk is deep enough to make good products and small enough to stay in cache. It must
        // not depend on the number of threads, or the sums over it would.
        constexpr int64_t kChunkBytes = 4 << 20;
        const int64_t fitting = kChunkBytes / (width * static_cast<int64_t>(sizeof(Real)));
        chunk_rows = larger(sizes.batch, smaller(larger(fitting, 128), 512));
        chunk_rows = smaller(chunk_rows, sizes.batch * sizes.steps);
    }

    void list_segments() {
        const int gates = columns.gates, last = gates - 1;
        segments = 0;
        const auto add = [&](int column, int count, int input_gate, int recurrent_gate) {
            segment[segments++] = {column, count, input_gate, recurrent_gate, 0};
        };
        if (columns.split()) {
            add(0, 1, last, -1);
            add(1, last, 0, options.layer_norm ? -1 : 0);
            if (!options.layer_norm) add(gates, 1, -1, last);
        } else if (traits.has_second_product) {
            add(0, last, 0, 0);
            add(last, 1, last, last);
        } else {
            add(0, gates, 0, options.layer_norm ? -1 : 0);
        }
        if (options.layer_norm) add(gates, gates, -1, 0);
    }

    void list_extras() {
        extras = {0, -1, -1, -1, -1};
        const auto take = [&](bool wanted, int count) {
            const int at = wanted ? extras.count : -1;
            if (wanted) extras.count += count;
            return at;
        };
        extras.peephole = take(peephole, 3);
        extras.norm_product = take(options.layer_norm, columns.gates);
        extras.norm_cell = take(options.layer_norm && traits.has_cell_state, 2);
        extras.candidate_bias = take(options.layer_norm && columns.split(), 1);
    }

    void lay_out() {
        const int64_t units = sizes.hidden_size, outputs = sizes.output_size();
        const int64_t depth = columns.recurrent * units;
        const bool second = traits.has_second_product;
        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        const int64_t most_rows = ceil_div(sizes.batch, team.row_groups);
        const int64_t inputs = given_product ? 0 : sizes.input_size;
        barriers = arena.take<Barrier>(1 + team.row_groups);
        weight_hh = arena.take<Real>(padded<Real>(outputs) * depth);
        weight_candidate = arena.take<Real>(second ? padded<Real>(outputs) * units : 0);
        weight_hr = arena.take<Real>(padded<Real>(sizes.proj_size ? units : 0) * outputs);
        weight_ih = arena.take<Real>(padded<Real>(inputs) * columns.gates * units);
        cell_stride = padded<Real>(units);
        hidden_stride = padded<Real>(outputs);
        grad_cell = arena.take<Real>(traits.has_cell_state ? sizes.batch * cell_stride : 0);
        grad_direct = arena.take<Real>(has_direct() ? sizes.batch * hidden_stride : 0);
        waiting = arena.take<Real>(options.layer_norm ? sizes.batch * cell_stride : 0);
        sums = arena.take<GradientSums<Real>>(
            options.layer_norm ? sizes.batch * sums_count * vectors() : 0);
        for (auto& chunk : chunks) {
            chunk.grad_gates = arena.take<Real>(chunk_rows * width);
            chunk.grad_hidden = arena.take<Real>(sizes.proj_size ? chunk_rows * outputs : 0);
            chunk.cell_output = arena.take<Real>(sizes.proj_size ? chunk_rows * units : 0);
            chunk.multiplied = arena.take<Storage>(drawer.hidden() ? chunk_rows * outputs : 0);
            chunk.factor = arena.take<Storage>(second ? chunk_rows * outputs : 0);
            chunk.extras = arena.take<Real>(chunk_rows * extras.count * units);
            chunk.input = arena.take<const Storage*>(chunk_rows);
            chunk.hidden = arena.take<const Storage*>(chunk_rows);
            chunk.grad_input = arena.take<Storage*>(chunk_rows);
        }
        packed_input = arena.take<Real>(padded<Real>(inputs) * chunk_rows);
        packed_hidden = arena.take<Real>(padded<Real>(outputs) * chunk_rows);
        packed_factor = arena.take<Real>(second ? padded<Real>(outputs) * chunk_rows : 0);
        packed_cell_output =
            arena.take<Real>(sizes.proj_size ? padded<Real>(units) * chunk_rows : 0);
        int64_t tiles = 0;
        for (int s = 0; s < segments; ++s) {
            segment[s].first_tile = tiles;
            tiles += ceil_div(segment[s].count * units, kTileRows);
        }
        packed_gates = arena.take<Real>(tiles * kTileRows * chunk_rows);
        packed_grad_hidden = arena.take<Real>(
            sizes.proj_size ? ceil_div(outputs, kTileRows) * kTileRows * chunk_rows : 0);
        product_rows = larger(128, most_rows);
        left = arena.take<const Real*>(team.size() * product_rows);
        product = arena.take<Real>(team.size() * product_rows * kPanelVectors * lanes);
        row_steps = arena.take<BackwardRow>(team.size() * product_rows);
        masks_size = drawer.room(most_rows);
        masks = arena.take<Real>(team.size() * masks_size);
        // Sums over chunks are kept in the accumulating type.
        const int64_t gates = columns.gates * units;
        sum_ih = arena.take<Real>(kSame ? 0 : gates * inputs);
        sum_hh = arena.take<Real>(kSame ? 0 : gates * outputs);
        sum_hr = arena.take<Real>(kSame ? 0 : sizes.proj_size * units);
        sum_columns = arena.take<Real>(width + kTileRows);
        sum_extras = arena.take<Real>(padded<Real>(extras.count * units));
        sum_bias_hr = arena.take<Real>(sizes.proj_size);
        workspace = arena.used;
    }
};

}  // namespace seqfast::cpu::SEQFAST_ISA

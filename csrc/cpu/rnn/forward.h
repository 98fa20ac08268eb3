// The forward pass of a recurrent layer over a sequence.
#pragma once

#include "core/rnn.h"
#include "cpu/base/gemm.h"
#include "cpu/base/simd.h"
#include "cpu/rnn/cells.h"
#include "cpu/rnn/team.h"

namespace seqfast::cpu::SEQFAST_ISA {

// In chunks of steps: pre-activations of all gates from the input (one product for the
// chunk, kept in cache), then step by step the recurrent product on top and the cell.

template <class Real, class Storage>
class RnnForward {
  public:
    static constexpr int lanes = kLanes<Real>;
    using M = Math<Real>;
    using Inputs = StepInputs<Vector<Real>>;

    RnnForward(const RnnForwardArgs& args, int threads)
        : args_(args),
          sizes_(args.sizes),
          options_(args.options),
          columns_(CellColumns::of(args.options.cell)),
          drawer_(args_.options, sizes_),
          peephole_(args.weights[0].weight_peephole != nullptr) {
        sizes_.threads = threads;
        cell_options_ = cell_options<Real, Storage>(options_, peephole_);
        cells_ = choose_cells();
        const int64_t vectors = ceil_div(sizes_.hidden_size, lanes);
        const int64_t outputs = sizes_.output_size();
        team_ = choose_team(
            sizes_, columns_.gates, vectors,
            static_cast<size_t>(vectors * lanes * columns_.gates * outputs) * sizeof(Real));
        // Few gates leave a panel room for several vectors of units.
        group_ = columns_.gates == columns_.columns && columns_.recurrent == columns_.gates
                     ? kPanelVectors / columns_.gates
                     : 1;
        group_ = static_cast<int>(larger(1, smaller(group_, vectors / team_.unit_groups)));
        blocks_ = ceil_div(vectors, group_);
        width_ = group_ * columns_.columns * lanes;
        const int64_t own_blocks = ceil_div(blocks_, team_.unit_groups);
        const int64_t most_rows = ceil_div(sizes_.batch, team_.row_groups);
        // Pre-activations of a chunk stay in the second-level cache.
        constexpr int64_t kChunkBytes = 384 << 10;
        const int64_t fitting = kChunkBytes / (width_ * own_blocks * int64_t(sizeof(Real)));
        chunk_rows_ = larger(most_rows, smaller(larger(fitting, 64), 1024));
        chunk_rows_ = smaller(chunk_rows_, most_rows * sizes_.steps);

        given_product_ = args.weights[0].weight_ih == nullptr;
        // Packing a weight costs as much as multiplying some tens of rows with it.
        direct_ = sizes_.steps * sizes_.batch <= 32;
        paired_ = kPairs<Storage> && !direct_ && (given_product_ || sizes_.input_size % 2 == 0) &&
                  outputs % 2 == 0;

        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        barriers_ = arena.take<Barrier>(1 + team_.row_groups);
        const int64_t weight_columns = blocks_ * group_ * columns_.gates * lanes;
        weight_ih_ =
            arena.take<Real>(direct_ || given_product_ ? 0 : weight_columns * sizes_.input_size);
        weight_hh_ = arena.take<Real>(direct_ ? 0 : weight_columns * outputs);
        weight_hr_ = arena.take<Real>(padded<Real>(sizes_.proj_size) * sizes_.hidden_size);
        bias_ = arena.take<Real>(blocks_ * width_);
        hidden_stride_ = padded<Real>(outputs);
        hidden_[0] = arena.take<Real>(sizes_.batch * hidden_stride_);
        hidden_[1] = arena.take<Real>(sizes_.batch * hidden_stride_);
        carried_ = arena.take<Real>(drawer_.hidden() ? sizes_.batch * hidden_stride_ : 0);
        cell_stride_ = blocks_ * group_ * lanes;
        const int64_t cell_size = sizes_.batch * cell_stride_;
        cell_ = arena.take<Real>(has_cell_state(options_.cell) ? cell_size : 0);
        // What a second product of a step multiplies, or waits for the cell's statistics.
        const bool second = sizes_.proj_size || resets_before() || options_.layer_norm;
        between_ = arena.take<Real>(second ? cell_size : 0);
        const int64_t per_thread = chunk_rows_ * width_ * own_blocks;
        preactivations_ = arena.take<Real>(team_.size() * per_thread);
        preactivations_size_ = per_thread;
        rows_ = arena.take<const Real*>(team_.size() * chunk_rows_);
        // 16-bit inputs are widened, a chunk at a time.
        widened_ = arena.take<Real>(sizeof(Storage) == sizeof(Real) || given_product_
                                        ? 0
                                        : team_.size() * chunk_rows_ * sizes_.input_size);
        row_tables_ = arena.take<const Real*>(team_.size() * 3 * most_rows);
        row_steps_ = arena.take<RowStep>(team_.size() * most_rows);
        projected_ = arena.take<Real>(
            sizes_.proj_size ? team_.size() * most_rows * kPanelVectors * lanes : 0);
        masks_size_ = drawer_.room(most_rows);
        masks_ = arena.take<Real>(team_.size() * masks_size_);
        const int64_t group_rows = options_.layer_norm ? team_.row_groups * most_rows : 0;
        product_ = arena.take<Real>(group_rows * product_stride());
        moments_ = arena.take<Moments<Real>>(group_rows * measured * vectors);
        workspace_ = arena.used;
    }

    size_t workspace() const { return workspace_; }

    bool run() {
        return run_directions(
            sizes_, team_, args_.order, barriers_,
            [this](const Place& place, int64_t direction) { run_direction(place, direction); });
    }

  private:
    // Everything of one row and step that does not depend on the unit.
    struct RowStep {
        int64_t row;
        int64_t index;  // of (time, row, direction) in the saved arrays
        bool restarts;  // whether the next step begins with zeros
    };

    // One direction as one thread sees it.
    struct Own {
        int64_t direction;
        Range blocks;
        PanelLayout<Real> projection;
        Real* preactivations;
        const Real** rows;
        Real* widened;
        const Real** hidden_rows[2];
        const Real** between_rows;
        RowStep* steps;
        Real* projected;
        Masks<Real> masks;
        Real* product;           // with layer_norm: of the row group
        Moments<Real>* moments;  // the same
    };

    // One block of units at one step.
    struct Block {
        int64_t step, block, active, first;
    };
    using Cells = void (RnnForward::*)(const Own&, const Block&);

    bool resets_before() const { return options_.cell == CellKind::gru_reset_before; }

    Cells choose_cells() const {
        const bool general = is_general(options_, peephole_, args_.reset);
        switch (options_.cell) {
            case CellKind::lstm:
                return general ? &RnnForward::lstm_cells<false, true>
                               : &RnnForward::lstm_cells<false, false>;
            case CellKind::lstm_three_gates:
                return &RnnForward::lstm_cells<true, true>;
            case CellKind::gru:
                return general ? &RnnForward::gru_cells<true> : &RnnForward::gru_cells<false>;
            case CellKind::gru_reset_before:
                return &RnnForward::gru_reset_cells;
            case CellKind::gru_update_gate:
                return &RnnForward::gru_update_cells<0, 1, 2>;
            default:
                return general ? &RnnForward::rnn_cells<true> : &RnnForward::rnn_cells<false>;
        }
    }

    void run_direction(const Place& place, int64_t direction) {
        Own own;
        own.direction = direction;
        own.blocks = part_of(blocks_, team_.unit_groups, place.unit_group);
        own.projection = whole<Real>(sizes_.proj_size, sizes_.hidden_size);
        own.projection.vectors =
            part_of(own.projection.vectors.size(), team_.unit_groups, place.unit_group);
        own.preactivations = preactivations_ + place.thread * preactivations_size_;
        own.rows = rows_ + place.thread * chunk_rows_;
        const int64_t most_rows = ceil_div(sizes_.batch, team_.row_groups);
        const Real** table = row_tables_ + place.thread * 3 * most_rows;
        own.hidden_rows[0] = table;
        own.hidden_rows[1] = table + most_rows;
        own.between_rows = table + 2 * most_rows;
        own.steps = row_steps_ + place.thread * most_rows;
        own.projected = projected_ + place.thread * most_rows * kPanelVectors * lanes;
        own.widened = widened_ + place.thread * chunk_rows_ * sizes_.input_size;
        own.masks = drawer_.place(masks_ + place.thread * masks_size_, most_rows, own_units(own),
                                  hidden_columns(own));

        own.product = product_ + place.row_group * most_rows * product_stride();
        own.moments = moments_ + place.row_group * most_rows * measured * vectors();

        pack_weights(place, own);
        start_state(place, own);
        barriers_[0].wait();

        int64_t active = place.active(place.rows(), 0);
        for (int64_t step = 0; active > 0;) {
            int64_t rows = 0, end = step;
            for (int64_t n = active; n > 0 && (rows == 0 || rows + n <= chunk_rows_);) {
                for (int64_t j = 0; j < n; ++j) {
                    own.rows[rows + j] = input_row(place, own, j, end, rows + j);
                }
                rows += n;
                n = place.active(n, ++end);
            }
            multiply_input(own, rows);
            for (int64_t first = 0; step < end; ++step) {
                run_step(place, own, step, active, first);
                first += active;
                active = place.active(active, step + 1);
            }
        }
        finish_state(place, own);
    }

    // Elements of a left-hand row of `size` features.
    int64_t depth_of(int64_t size) const { return paired_ ? size / 2 : size; }

    void multiply(const Product<Real>& product, int64_t count, int64_t vectors) {
        if constexpr (kPairs<Storage>) {
            if (paired_) return multiply_panel<Real, true>(product, count, vectors);
        }
        multiply_panel(product, count, vectors);
    }

    // ---- blocks: some vectors of units, each with all its columns ----

    int64_t vectors_of(int64_t block) const {
        return smaller(group_, ceil_div(sizes_.hidden_size, lanes) - block * group_);
    }
    int64_t first_unit(int64_t block) const { return block * group_ * lanes; }
    Range own_units(const Own& own) const {
        return {first_unit(own.blocks.begin),
                smaller(first_unit(own.blocks.end), sizes_.hidden_size)};
    }
    // A weight's panel of a block, of so many columns a unit; `before` of a unit's columns are in
    // other panels of the same array.
    Real* panel(Real* packed, int64_t block, int columns, int before, int64_t depth) const {
        const int64_t unit_columns = blocks_ * group_ * lanes;
        return packed +
               (unit_columns * before + block * group_ * columns * lanes) * depth_of(depth);
    }
    Real* preactivation(const Own& own, int64_t block, int64_t row) const {
        return own.preactivations + ((block - own.blocks.begin) * chunk_rows_ + row) * width_;
    }

    // ---- packing ----

    // f(block, v, first, count): every vector of units whose weights this thread packs; the threads
    // that share these units share the packing.
    template <class F>
    void for_each_packed(const Place& place, const Own& own, F&& f) {
        const Range part = part_of(own.blocks.size(), team_.row_groups, place.row_group);
        for (int64_t b = own.blocks.begin + part.begin; b < own.blocks.begin + part.end; ++b) {
            for (int64_t v = 0; v < vectors_of(b); ++v) {
                const int64_t first = first_unit(b) + v * lanes;
                f(b, v, first, static_cast<int>(smaller(lanes, sizes_.hidden_size - first)));
            }
        }
    }

    // One column of one vector of units; `weight` points at its first unit's row.
    void pack_column(Real* panel, int64_t vectors, int64_t vector, const Storage* weight,
                     int64_t size, int count) {
        Real* to = panel + vector * lanes;
        if (paired_) {
            pack_transposed_vector(to, vectors * lanes, reinterpret_cast<const Real*>(weight),
                                   size / 2, count);
        } else {
            pack_transposed_vector(to, vectors * lanes, weight, size, count);
        }
    }

    void pack_weights(const Place& place, const Own& own) {
        const RnnWeights& weights = args_.weights[own.direction];
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        const auto* weight_ih = static_cast<const Storage*>(weights.weight_ih);
        const auto* weight_hh = static_cast<const Storage*>(weights.weight_hh);
        const auto* bias_ih = static_cast<const Storage*>(weights.bias_ih);
        const auto* bias_hh = static_cast<const Storage*>(weights.bias_hh);
        const int first_recurrent = columns_.first_recurrent;
        for_each_packed(place, own, [&](int64_t b, int64_t v, int64_t first, int count) {
            const int64_t unit_vectors = vectors_of(b);
            for (int c = 0; c < columns_.columns; ++c) {
                Vector<Real> bias{};
                if (bias_ih && c < columns_.gates) {
                    bias += load<Real>(bias_ih + columns_.input_gate(c) * units + first, count);
                }
                if (bias_hh && c >= first_recurrent) {
                    bias += load<Real>(bias_hh + columns_.recurrent_gate(c) * units + first, count);
                }
                store(bias_ + b * width_ + (v * columns_.columns + c) * lanes, bias);
            }
            if (direct_) return;
            for (int c = 0; c < columns_.gates && !given_product_; ++c) {
                const int64_t row = columns_.input_gate(c) * units + first;
                pack_column(panel(weight_ih_, b, columns_.gates, 0, sizes_.input_size),
                            unit_vectors * columns_.gates, v * columns_.gates + c,
                            weight_ih + row * sizes_.input_size, sizes_.input_size, count);
            }
            for (int g = 0; g < columns_.recurrent; ++g) {
                pack_column(panel(weight_hh_, b, columns_.recurrent, 0, outputs),
                            unit_vectors * columns_.recurrent, v * columns_.recurrent + g,
                            weight_hh + (g * units + first) * outputs, outputs, count);
            }
            if (resets_before()) {
                pack_column(panel(weight_hh_, b, 1, 2, outputs), 1, 0,
                            weight_hh + (2 * units + first) * outputs, outputs, count);
            }
        });
        if (!sizes_.proj_size || place.row_group != 0) return;
        const auto* weight_hr = static_cast<const Storage*>(weights.weight_hr);
        for (int64_t p = 0; p < own.projection.panels(); ++p) {
            const Range vectors = own.projection.panel(p);
            Real* panel = projection_panel(own, p);
            for (int64_t v = vectors.begin; v < vectors.end; ++v) {
                pack_transposed_vector(panel + (v - vectors.begin) * lanes, vectors.size() * lanes,
                                       weight_hr + v * lanes * units, units,
                                       own.projection.lanes_of(v));
            }
        }
    }

    Real* projection_panel(const Own& own, int64_t p) const {
        return weight_hr_ + own.projection.vectors.begin * lanes * own.projection.depth +
               own.projection.offset(p);
    }

    // ---- the state ----

    // What the next step multiplies with: as the product reads it, rounded to Storage.
    template <class Count>
    SEQFAST_INLINE void store_factor(Real* array, int64_t stride, int64_t row, int64_t unit,
                                     Vector<Real> x, Count count) {
        Real* to = array + row * stride;
        if (paired_) {
            store(reinterpret_cast<Storage*>(to) + unit, x, count);
        } else {
            if constexpr (sizeof(Storage) != sizeof(Real)) x = rounded(x);
            store(to + unit, x);
        }
    }
    SEQFAST_INLINE static Vector<Real> rounded(Vector<Real> x) {
        Storage stored[lanes];
        store(stored, x, lanes);
        return load<Real>(stored, lanes);
    }
    SEQFAST_INLINE Vector<Real> load_factor(const Real* array, int64_t stride, int64_t row,
                                            int64_t unit, int count) const {
        const Real* from = array + row * stride;
        return paired_ ? load<Real>(reinterpret_cast<const Storage*>(from) + unit, count)
                       : load(from + unit);
    }
    // h[t-1] without any mask.
    SEQFAST_INLINE Vector<Real> previous_hidden(int64_t step, int64_t row, int64_t unit,
                                                int count) const {
        if (carried_in_its_own()) return load(carried_ + row * hidden_stride_ + unit);
        return load_factor(hidden_[step & 1], hidden_stride_, row, unit, count);
    }
    bool carried_in_its_own() const { return drawer_.hidden(); }

    // h[t], rounded already, to the next step.
    template <class Count>
    SEQFAST_INLINE void keep_hidden(const Own& own, int64_t parity, int64_t j, int64_t row,
                                    int64_t unit, Vector<Real> h, Count count) {
        if (carried_in_its_own()) {
            store(carried_ + row * hidden_stride_ + unit, h);
            h *= own.masks.of_output(own.masks.hidden, j, unit);
        }
        store_factor(hidden_[parity], hidden_stride_, row, unit, h, count);
    }

    // Columns of the hidden state this thread writes.
    Range hidden_columns(const Own& own) const {
        if (!sizes_.proj_size) return own_units(own);
        const Range& vectors = own.projection.vectors;
        return {vectors.begin * lanes, smaller(vectors.end * lanes, sizes_.proj_size)};
    }

    // f(unit, count) for every vector of a range of units.
    template <class F>
    static void for_each_vector(Range units, F&& f) {
        for (int64_t u = units.begin; u < units.end; u += lanes) {
            f(u, static_cast<int>(smaller(lanes, units.end - u)));
        }
    }

    bool resets_at(int64_t time, int64_t row) const {
        return args_.reset && args_.reset[time * sizes_.batch + row];
    }

    void start_state(const Place& place, const Own& own) {
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        const auto* hidden = static_cast<const Storage*>(args_.hidden);
        const auto* cell = static_cast<const Storage*>(args_.cell);
        for (int64_t j = 0; j < place.rows(); ++j) {
            const int64_t row = place.row(j), from = own.direction * sizes_.batch + row;
            own.hidden_rows[0][j] = hidden_[0] + row * hidden_stride_;
            own.hidden_rows[1][j] = hidden_[1] + row * hidden_stride_;
            own.between_rows[j] = between_ + row * cell_stride_;
            drawer_.draw_sequence(own.masks, j, row, own.direction);
            const bool reset =
                place.steps(j) > 0 && resets_at(place.time(j, 0, own.direction), row);
            for_each_vector(hidden_columns(own), [&](int64_t u, int count) {
                Vector<Real> h{};
                if (hidden && !reset) h = load<Real>(hidden + from * outputs + u, count);
                keep_hidden(own, 0, j, row, u, h, count);
            });
            if (!has_cell_state(options_.cell)) continue;
            for_each_vector(own_units(own), [&](int64_t u, int count) {
                Vector<Real> c{};
                if (cell && !reset) c = load<Real>(cell + from * units + u, count);
                store(cell_ + row * cell_stride_ + u, c);
            });
        }
    }

    void finish_state(const Place& place, const Own& own) {
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        auto* hidden_n = static_cast<Storage*>(args_.hidden_n);
        auto* cell_n = static_cast<Storage*>(args_.cell_n);
        for (int64_t j = 0; j < place.rows(); ++j) {
            const int64_t row = place.row(j), to = own.direction * sizes_.batch + row;
            for_each_vector(hidden_columns(own), [&](int64_t u, int count) {
                store(hidden_n + to * outputs + u, previous_hidden(place.steps(j), row, u, count),
                      count);
            });
            if (!has_cell_state(options_.cell)) continue;
            for_each_vector(own_units(own), [&](int64_t u, int count) {
                store(cell_n + to * units + u, load(cell_ + row * cell_stride_ + u), count);
            });
        }
    }

    // ---- the input's share ----

    const Real* input_row(const Place& place, const Own& own, int64_t j, int64_t step,
                          int64_t index) {
        const Storage* from =
            row_at<Storage>(args_.input, place.time(j, step, own.direction), place.row(j));
        if constexpr (sizeof(Storage) == sizeof(Real)) {
            return from;
        } else {
            if (paired_ || given_product_) return reinterpret_cast<const Real*>(from);
            Real* to = own.widened + index * sizes_.input_size;
            for_each_vector({0, sizes_.input_size}, [&](int64_t i, int count) {
                store(to + i, load<Real>(from + i, count), count);
            });
            return to;
        }
    }

    // The pre-activations' share from the input, biases included, for all rows of a chunk.
    void multiply_input(const Own& own, int64_t rows) {
        if (given_product_) return take_given_product(own, rows);
        Product<Real> product{};
        product.left = own.rows;
        product.depth = depth_of(sizes_.input_size);
        product.target_stride = width_;
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            const Real* bias = bias_ + b * width_;
            const int64_t vectors = vectors_of(b) * columns_.columns;
            // The product starts with the biases of its own columns.
            const int64_t started = direct_ ? 0 : vectors_of(b) * columns_.gates;
            for (int64_t row = 0; row < rows && started < vectors; ++row) {
                Real* to = preactivation(own, b, row);
                for (int64_t v = started; v < vectors; ++v) {
                    store(to + v * lanes, load(bias + v * lanes));
                }
            }
            if (direct_) {
                multiply_unpacked(
                    b, own.rows, args_.weights[own.direction].weight_ih, sizes_.input_size,
                    columns_.gates, [&](int c) { return columns_.input_gate(c); },
                    {preactivation(own, b, 0), width_, columns_.columns, 0}, rows);
            } else {
                product.panel = panel(weight_ih_, b, columns_.gates, 0, sizes_.input_size);
                product.start = bias;
                product.target = preactivation(own, b, 0);
                multiply(product, rows, started);
            }
        }
    }

    // Row by row, as the caches like to be read.
    void take_given_product(const Own& own, int64_t rows) {
        const int64_t units = sizes_.hidden_size;
        const int64_t begin = own.direction * columns_.gates * units;
        for (int64_t row = 0; row < rows; ++row) {
            const auto* from = reinterpret_cast<const Storage*>(own.rows[row]) + begin;
            for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
                const Real* bias = bias_ + b * width_;
                Real* to = preactivation(own, b, row);
                for_each_vector_of(b, [&](int64_t v, int64_t unit, int count) {
                    for (int c = 0; c < columns_.columns; ++c) {
                        const int64_t at = (v * columns_.columns + c) * lanes;
                        Vector<Real> sum = load(bias + at);
                        if (c < columns_.gates) {
                            sum += load<Real>(from + columns_.input_gate(c) * units + unit, count);
                        }
                        store(to + at, sum);
                    }
                });
            }
        }
    }

    // Where a product with unpacked weights adds its columns: in rows `stride` apart, from column
    // `first` of the `columns` that every vector of units has.
    struct Target {
        Real* rows;
        int64_t stride;
        int columns, first;
    };

    // The columns' gates, one after the other, of one block += left times the weights as the user
    // keeps them.
    template <class GateOf>
    void multiply_unpacked(int64_t block, const Real* const* left, const void* weight,
                           int64_t depth, int columns, GateOf&& gate_of, const Target& target,
                           int64_t count) {
        const int64_t units = sizes_.hidden_size, first = first_unit(block);
        const int64_t end = smaller(first + group_ * lanes, units);
        DirectProduct<Real, Storage> product{};
        product.left = left;
        product.depth = depth;
        product.target = target.rows;
        product.target_stride = target.stride;
        int64_t filled = 0;
        for (int64_t unit = first; unit < end; ++unit) {
            const int64_t vector = (unit - first) / lanes, lane = (unit - first) % lanes;
            for (int c = 0; c < columns; ++c) {
                product.weight[filled] =
                    static_cast<const Storage*>(weight) + (gate_of(c) * units + unit) * depth;
                product.at[filled] = (vector * target.columns + target.first + c) * lanes + lane;
                if (++filled == kPanelVectors || (unit + 1 == end && c + 1 == columns)) {
                    multiply_direct(product, count, filled);
                    filled = 0;
                }
            }
        }
    }

    // ---- a step ----

    void list_rows(const Place& place, const Own& own, int64_t step, int64_t active) {
        for (int64_t j = 0; j < active; ++j) {
            const int64_t row = place.row(j), time = place.time(j, step, own.direction);
            own.steps[j] = {row, (time * sizes_.batch + row) * sizes_.directions + own.direction,
                            step + 1 < place.steps(j) &&
                                resets_at(place.time(j, step + 1, own.direction), row)};
            drawer_.draw(own.masks, j, row, time, own.direction);
        }
    }

    // One step of `active` rows, whose pre-activations start at row `first` of the chunk.
    void run_step(const Place& place, const Own& own, int64_t step, int64_t active, int64_t first) {
        Barrier& barrier = barriers_[1 + place.row_group];
        list_rows(place, own, step, active);
        if (options_.layer_norm) {
            run_normalised_step(own, step, active, first, barrier);
            return;
        }
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            const Block at{step, b, active, first};
            multiply_recurrent(
                own, at, own.hidden_rows[step & 1],
                {columns_.first_recurrent, columns_.first_recurrent + columns_.recurrent});
            (this->*cells_)(own, at);
        }
        barrier.wait();
        if (resets_before()) {
            for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
                const Block at{step, b, active, first};
                multiply_recurrent(own, at, own.between_rows, {2, 3});
                gru_update_cells<1, 2, 3>(own, at);
            }
            barrier.wait();
        }
        if (sizes_.proj_size) {
            project(own, step, active);
            barrier.wait();
        }
    }

    // On top of columns `columns` of the pre-activations.
    void multiply_recurrent(const Own& own, const Block& at, const Real* const* left,
                            Range columns) {
        const int64_t outputs = sizes_.output_size();
        Real* target = preactivation(own, at.block, at.first);
        const int count = static_cast<int>(columns.size());
        const int before = columns_.recurrent_gate(static_cast<int>(columns.begin));
        if (direct_) {
            multiply_unpacked(
                at.block, left, args_.weights[own.direction].weight_hh, outputs, count,
                [&](int c) { return before + c; },
                {target, width_, columns_.columns, static_cast<int>(columns.begin)}, at.active);
            return;
        }
        Product<Real> product{};
        product.left = left;
        product.depth = depth_of(outputs);
        product.panel = panel(weight_hh_, at.block, count, before, outputs);
        product.target = target + columns.begin * lanes;
        product.target_stride = width_;
        product.start = product.target;
        product.start_stride = width_;
        multiply(product, at.active, vectors_of(at.block) * count);
    }

    // f(j, pre-activations, unit, count) for every vector of units of every active row.
    template <class F>
    SEQFAST_INLINE void for_each_unit(const Own& own, const Block& at, F&& f) {
        const int64_t unit = first_unit(at.block), end = unit + vectors_of(at.block) * lanes;
        const auto rows = [&](int64_t from, int64_t to, auto count) {
            for (int64_t j = 0; j < at.active; ++j) {
                Real* pre =
                    preactivation(own, at.block, at.first + j) + (from - unit) * columns_.columns;
                for (int64_t u = from; u < to; u += lanes, pre += columns_.columns * lanes) {
                    f(j, pre, u, count);
                }
            }
        };
        const int64_t full = smaller(end, sizes_.hidden_size / lanes * lanes);
        if (full > unit) rows(unit, full, std::integral_constant<int, lanes>{});
        if (end > full) rows(full, end, static_cast<int>(sizes_.hidden_size - full));
    }

    // h[t] before zoneout: to the user, rounded, and as the user sees it to the next step.
    template <bool general, class Count>
    SEQFAST_INLINE void write_hidden(const Own& own, int64_t step, int64_t j, int64_t unit,
                                     Vector<Real> h, Count count) {
        const RowStep& at = own.steps[j];
        if constexpr (general) {
            if (own.masks.zoneout_hidden) {
                const Vector<Real> previous = previous_hidden(step, at.row, unit, count);
                h += own.masks.of_output(own.masks.zoneout_hidden, j, unit) * (previous - h);
            }
        }
        Storage* output =
            static_cast<Storage*>(args_.output) + at.index * sizes_.output_size() + unit;
        store(output, h, count);
        if constexpr (sizeof(Storage) != sizeof(Real)) h = load<Real>(output, count);
        if constexpr (general) {
            if (at.restarts) h = Vector<Real>{};
            keep_hidden(own, (step + 1) & 1, j, at.row, unit, h, count);
        } else {
            Real* to = hidden_[(step + 1) & 1] + at.row * hidden_stride_;
            if (paired_) {
                store(reinterpret_cast<Storage*>(to) + unit, h, count);
            } else {
                store(to + unit, h);
            }
        }
    }

    // What comes out of a cell.
    template <bool general, class Count>
    SEQFAST_INLINE void write_cell_output(const Own& own, int64_t step, int64_t j, int64_t unit,
                                          Vector<Real> h, Count count) {
        if (sizes_.proj_size) {
            store(between_ + own.steps[j].row * cell_stride_ + unit, h);
        } else {
            write_hidden<general>(own, step, j, unit, h, count);
        }
    }

    int64_t saved_columns() const {
        return saved_of(options_.cell) + (options_.layer_norm ? columns_.gates : 0);
    }
    template <int count_gates, class Count>
    SEQFAST_INLINE void save_gates(const Own& own, int64_t j, int64_t unit,
                                   const Vector<Real> (&gates)[count_gates], Count count) {
        if (!args_.gates) return;
        const int64_t units = sizes_.hidden_size;
        Storage* to = static_cast<Storage*>(args_.gates) +
                      own.steps[j].index * saved_columns() * units + unit;
        for (int g = 0; g < count_gates; ++g) store(to + g * units, gates[g], count);
    }

    template <bool general, class Count>
    SEQFAST_INLINE Inputs inputs_of(const Own& own, int64_t j, int64_t unit, Count count) {
        Inputs inputs;
        if constexpr (general) {
            if (own.masks.update) {
                inputs.update_scale = own.masks.of_unit(own.masks.update, j, unit);
            }
            if (own.masks.zoneout_cell) {
                inputs.zoneout_cell = own.masks.of_unit(own.masks.zoneout_cell, j, unit);
            }
            if (peephole_) {
                const auto* from =
                    static_cast<const Storage*>(args_.weights[own.direction].weight_peephole);
                for (int k = 0; k < 3; ++k) {
                    inputs.peephole[k] = load<Real>(from + k * sizes_.hidden_size + unit, count);
                }
            }
        }
        return inputs;
    }

    template <bool three_gates, bool general>
    void lstm_cells(const Own& own, const Block& at) {
        using Cell = LstmCell<M, three_gates, general>;
        const int64_t units = sizes_.hidden_size;
        for_each_unit(own, at, [&](int64_t j, Real* pre, int64_t unit, auto count) {
            Vector<Real> gates[Cell::gates];
            for (int g = 0; g < Cell::gates; ++g) gates[g] = load(pre + g * lanes);
            Inputs inputs = inputs_of<general>(own, j, unit, count);
            Real* cell = cell_ + own.steps[j].row * cell_stride_ + unit;
            Vector<Real> c = inputs.previous_cell = load(cell);
            const Vector<Real> unzoned = Cell::move_cell(cell_options_, inputs, gates, c);
            if (general && own.steps[j].restarts) {
                store(cell, Vector<Real>{});
            } else {
                store(cell, c);
            }
            if (general && options_.layer_norm) {
                store(between_ + own.steps[j].row * cell_stride_ + unit, unzoned);
                store(pre + Cell::O * lanes, gates[Cell::O]);
                moments_of(own, j, of_cell)[unit / lanes] = Moments<Real>::of(
                    1, lane_mask<Real>(count), count, [&](int) { return unzoned; });
            } else {
                write_cell_output<general>(own, at.step, j, unit, Cell::output(gates, unzoned),
                                           count);
            }
            if (args_.cells) {
                store(static_cast<Real*>(args_.cells) + own.steps[j].index * units + unit, c,
                      count);
            }
            save_gates(own, j, unit, gates, count);
        });
    }

    template <bool general>
    void gru_cells(const Own& own, const Block& at) {
        for_each_unit(own, at, [&](int64_t j, Real* pre, int64_t unit, auto count) {
            Vector<Real> n = load(pre), r = load(pre + lanes), z = load(pre + 2 * lanes);
            const Vector<Real> n_h = load(pre + 3 * lanes);
            Inputs inputs = inputs_of<general>(own, j, unit, count);
            inputs.previous_hidden = previous_hidden(at.step, own.steps[j].row, unit, count);
            const Vector<Real> h =
                GruCell<M, general>::forward(cell_options_, inputs, r, z, n, n_h);
            write_cell_output<general>(own, at.step, j, unit, h, count);
            const Vector<Real> gates[4] = {r, z, n, n_h};
            save_gates(own, j, unit, gates, count);
        });
    }

    // The first half of a reset-before step: r, and what the candidate's product multiplies.
    void gru_reset_cells(const Own& own, const Block& at) {
        for_each_unit(own, at, [&](int64_t j, Real* pre, int64_t unit, auto count) {
            const Vector<Real> r = M::sigmoid(load(pre));
            const int64_t row = own.steps[j].row;
            store(pre, r);
            store_factor(between_, cell_stride_, row, unit,
                         r * load_factor(hidden_[at.step & 1], hidden_stride_, row, unit, count),
                         count);
        });
    }

    // An update gate and a candidate, in columns z and n of `count_columns`, of which the first is
    // a reset gate that has done its work.
    template <int z_column, int n_column, int count_columns>
    void gru_update_cells(const Own& own, const Block& at) {
        for_each_unit(own, at, [&](int64_t j, Real* pre, int64_t unit, auto count) {
            Vector<Real> gates[count_columns];
            for (int g = 0; g < count_columns; ++g) gates[g] = load(pre + g * lanes);
            Inputs inputs = inputs_of<true>(own, j, unit, count);
            inputs.previous_hidden = previous_hidden(at.step, own.steps[j].row, unit, count);
            const Vector<Real> h =
                GruCell<M, true>::forward(cell_options_, inputs, gates[z_column], gates[n_column]);
            write_cell_output<true>(own, at.step, j, unit, h, count);
            save_gates(own, j, unit, gates, count);
        });
    }

    template <bool general>
    void rnn_cells(const Own& own, const Block& at) {
        for_each_unit(own, at, [&](int64_t j, Real* pre, int64_t unit, auto count) {
            const Vector<Real> h[1] = {RnnCell<M>::forward(cell_options_, load(pre))};
            write_cell_output<general>(own, at.step, j, unit, h[0], count);
            save_gates(own, j, unit, h, count);
        });
    }

    // h = activation(W_hr h~ + b_hr), this thread's columns.
    void project(const Own& own, int64_t step, int64_t active) {
        const PanelLayout<Real>& layout = own.projection;
        const auto* bias = static_cast<const Storage*>(args_.weights[own.direction].bias_hr);
        Product<Real> product{};
        product.left = own.between_rows;
        product.depth = layout.depth;
        product.target = own.projected;
        for (int64_t p = 0; p < layout.panels(); ++p) {
            const Range vectors = layout.panel(p);
            product.panel = projection_panel(own, p);
            product.target_stride = vectors.size() * lanes;
            multiply_panel(product, active, vectors.size());
            for (int64_t j = 0; j < active; ++j) {
                const Real* from = own.projected + j * product.target_stride;
                for (int64_t v = vectors.begin; v < vectors.end; ++v, from += lanes) {
                    const int count = layout.lanes_of(v);
                    Vector<Real> h = load(from);
                    if (bias) h += load<Real>(bias + v * lanes, count);
                    h = activate<M>(options_.output_activation, h);
                    write_hidden<true>(own, step, j, v * lanes, h, count);
                }
            }
        }
    }

    // ---- layer normalisation ----

    int64_t product_stride() const { return blocks_ * group_ * columns_.gates * lanes; }
    int64_t vectors() const { return ceil_div(sizes_.hidden_size, lanes); }
    Real* product_row(const Own& own, int64_t j) const {
        return own.product + j * product_stride();
    }
    // One for each vector of units: of the product, of gru's candidate, of the cell.
    enum Measured { of_product = 0, of_candidate = 1, of_cell = 2, measured = 3 };
    Moments<Real>* moments_of(const Own& own, int64_t j, Measured what) const {
        return own.moments + (j * measured + what) * vectors();
    }
    Moments<Real> total(const Own& own, int64_t j, Measured what) const {
        return add_up(moments_of(own, j, what), vectors(), 1);
    }
    // f(vector of units, its first unit, its lanes) for all of a block.
    template <class F>
    void for_each_vector_of(int64_t block, F&& f) const {
        for (int64_t v = 0; v < vectors_of(block); ++v) {
            const int64_t unit = first_unit(block) + v * lanes;
            f(v, unit, static_cast<int>(smaller(lanes, sizes_.hidden_size - unit)));
        }
    }

    void run_normalised_step(const Own& own, int64_t step, int64_t active, int64_t first,
                             Barrier& barrier) {
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            multiply_apart(own, {step, b, active, first});
        }
        barrier.wait();
        for (int64_t j = 0; j < active; ++j) add_normalised(own, j, first);
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            (this->*cells_)(own, {step, b, active, first});
        }
        barrier.wait();
        if (!has_cell_state(options_.cell)) return;
        for (int64_t j = 0; j < active; ++j) {
            write_normalised(own, step, j, first);
        }
        barrier.wait();
    }

    // The recurrent product by itself, and its moments.
    void multiply_apart(const Own& own, const Block& at) {
        const int64_t outputs = sizes_.output_size(), gates = columns_.gates;
        const int64_t offset = at.block * group_ * gates * lanes;
        const int64_t block_vectors = vectors_of(at.block) * gates;
        const Real* const* left = own.hidden_rows[at.step & 1];
        if (direct_) {
            for (int64_t j = 0; j < at.active; ++j) {
                for (int64_t v = 0; v < block_vectors; ++v) {
                    store(product_row(own, j) + offset + v * lanes, Vector<Real>{});
                }
            }
            multiply_unpacked(
                at.block, left, args_.weights[own.direction].weight_hh, outputs, columns_.gates,
                [](int c) { return c; },
                {own.product + offset, product_stride(), columns_.gates, 0}, at.active);
        } else {
            Product<Real> product{};
            product.left = left;
            product.depth = depth_of(outputs);
            product.panel = panel(weight_hh_, at.block, columns_.gates, 0, outputs);
            product.target = own.product + offset;
            product.target_stride = product_stride();
            multiply(product, at.active, block_vectors);
        }
        for (int64_t j = 0; j < at.active; ++j) {
            const Real* row = product_row(own, j) + offset;
            for_each_vector_of(at.block, [&](int64_t v, int64_t unit, int count) {
                const Vector<Real> mask = lane_mask<Real>(count);
                const auto gate = [&](int g) { return load(row + (v * gates + g) * lanes); };
                moments_of(own, j, of_product)[unit / lanes] =
                    Moments<Real>::of(columns_.apart() ? 2 : columns_.gates, mask, count, gate);
                if (columns_.apart()) {
                    moments_of(own, j, of_candidate)[unit / lanes] =
                        Moments<Real>::of(1, mask, count, [&](int) { return gate(2); });
                }
            });
        }
    }

    // Pre-activations += normalised product times its weight, for one row.
    void add_normalised(const Own& own, int64_t j, int64_t first) {
        const int64_t units = sizes_.hidden_size, gates = columns_.gates;
        const Moments<Real> product = total(own, j, of_product);
        const Moments<Real> candidate = columns_.apart() ? total(own, j, of_candidate) : product;
        const Real mean[2] = {product.mean(), candidate.mean()};
        const Real rstd[2] = {product.rstd(), candidate.rstd()};
        const auto* weight =
            static_cast<const Storage*>(args_.weights[own.direction].weight_norm_hh);
        const int64_t index = own.steps[j].index;
        auto* saved = static_cast<Storage*>(args_.gates);
        if (saved) saved += (index * saved_columns() + saved_of(options_.cell)) * units;
        if (args_.gates && own.blocks.begin == 0) {
            Real* to = static_cast<Real*>(args_.statistics) + index * statistics_count;
            to[rstd_product] = rstd[0];
            to[rstd_candidate] = columns_.apart() ? rstd[1] : Real(0);
            to[mean_cell] = to[rstd_cell] = Real(0);
        }
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            for_each_vector_of(b, [&](int64_t v, int64_t unit, int count) {
                const int64_t vector = b * group_ + v;
                const Real* from = product_row(own, j) + vector * gates * lanes;
                Real* to = preactivation(own, b, first + j) +
                           (v * columns_.columns + columns_.first_recurrent) * lanes;
                for (int g = 0; g < gates; ++g) {
                    const int k = columns_.apart() && g == 2;
                    const Vector<Real> x = (load(from + g * lanes) - mean[k]) * rstd[k];
                    if (saved) store(saved + g * units + unit, x, count);
                    store(to + g * lanes,
                          load(to + g * lanes) + x * load<Real>(weight + g * units + unit, count));
                }
            });
        }
    }

    // o * tanh of the normalised cell, for one row; the cells left both.
    void write_normalised(const Own& own, int64_t step, int64_t j, int64_t first) {
        const Moments<Real> cell = total(own, j, of_cell);
        const Real mean = cell.mean(), rstd = cell.rstd();
        const RnnWeights& weights = args_.weights[own.direction];
        const auto* weight = static_cast<const Storage*>(weights.weight_norm_cell);
        const auto* bias = static_cast<const Storage*>(weights.bias_norm_cell);
        if (args_.gates && own.blocks.begin == 0) {
            Real* to = static_cast<Real*>(args_.statistics) + own.steps[j].index * statistics_count;
            to[mean_cell] = mean;
            to[rstd_cell] = rstd;
        }
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            for_each_vector_of(b, [&](int64_t v, int64_t unit, int count) {
                const Real* o = preactivation(own, b, first + j) +
                                (v * columns_.columns + columns_.gates - 1) * lanes;
                const Vector<Real> c = load(between_ + own.steps[j].row * cell_stride_ + unit);
                const Vector<Real> x = (c - mean) * rstd;
                const Vector<Real> h = load(o) * M::tanh(x * load<Real>(weight + unit, count) +
                                                         load<Real>(bias + unit, count));
                write_hidden<true>(own, step, j, unit, h, count);
            });
        }
    }

    const RnnForwardArgs& args_;
    RnnSizes sizes_;
    const RnnOptions& options_;
    CellColumns columns_;
    CellOptions<Real> cell_options_;
    MaskDrawer<Real> drawer_;
    bool peephole_;
    Cells cells_;
    Team team_;
    int group_;      // vectors of units in a block
    int64_t width_;  // of a block's pre-activations
    int64_t blocks_;
    int64_t chunk_rows_;
    bool given_product_;  // the input is the product with weight_ih
    bool paired_;         // multiply pairs of bfloat16
    bool direct_;         // multiply with the weights as they are, unpacked
    size_t workspace_;
    Barrier* barriers_;     // [1 + row_groups]; the first is everybody's
    Real* weight_ih_;       // per block [input_size, vectors, gates, lanes]
    Real* weight_hh_;       // per block [output_size, vectors, gates, lanes]; of gru_reset_before
                            // r and z of all blocks, then n of all
    Real* weight_hr_;       // panels of [hidden_size, vectors, lanes]
    Real* bias_;            // [blocks, vectors, columns, lanes]
    Real* hidden_[2];       // what the recurrent product multiplies: [batch, hidden_stride_], even
                            // and odd steps
    Real* carried_;         // [batch, hidden_stride_]: h[t-1], where that is not `hidden_`
    Real* cell_;            // [batch, cell_stride_]
    Real* between_;         // [batch, cell_stride_]: see the constructor
    Real* preactivations_;  // per thread [own blocks, chunk_rows_, vectors, columns, lanes]
    const Real** rows_;     // per thread [chunk_rows_]
    const Real** row_tables_;  // per thread [3, rows]: `hidden_` of even and odd steps, `between_`
    RowStep* row_steps_;       // per thread [rows]
    Real* projected_;          // per thread [rows, 4, lanes], with a projection
    Real* widened_;            // per thread [chunk_rows_, input_size], 16-bit storage only
    Real* masks_;              // per thread, as MaskDrawer places them
    Real* product_;            // per row group [rows, blocks, vectors, gates, lanes], layer_norm
    Moments<Real>* moments_;   // per row group [rows, 3, vectors of units], layer_norm
    int64_t hidden_stride_, cell_stride_, preactivations_size_, masks_size_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

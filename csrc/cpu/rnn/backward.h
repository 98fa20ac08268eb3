// The backward pass of a recurrent layer through a sequence.
#pragma once

#include "core/rnn.h"
#include "cpu/base/gemm.h"
#include "cpu/base/simd.h"
#include "cpu/rnn/cells.h"
#include "cpu/rnn/team.h"

namespace seqfast::cpu::SEQFAST_ISA {

// In chunks of steps from the last to the first: the gradients of the pre-activations
// step by step, then one product each over the chunk for the input and for the weights.

template <class Real, class Storage>
class RnnBackward {
  public:
    static constexpr int lanes = kLanes<Real>;
    static constexpr bool kSame = sizeof(Storage) == sizeof(Real);
    using M = Math<Real>;
    using Inputs = StepInputs<Vector<Real>>;

    RnnBackward(const RnnBackwardArgs& args, int threads)
        : args_(args),
          sizes_(args.sizes),
          options_(args.options),
          columns_(CellColumns::of(args.options.cell)),
          drawer_(args_.options, sizes_),
          peephole_(args.weights[0].weight_peephole != nullptr) {
        sizes_.threads = threads;
        cell_options_ = cell_options<Real, Storage>(options_, peephole_);
        cells_ = choose_cells();
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        // With layer normalisation the recurrent product has gradients of its own.
        first_recurrent_ = options_.layer_norm ? columns_.gates : columns_.first_recurrent;
        width_ = (options_.layer_norm ? 2 * columns_.gates : columns_.columns) * units;
        list_segments();
        list_extras();
        const int64_t depth = columns_.recurrent * units;
        team_ = choose_team(sizes_, columns_.gates, ceil_div(smaller(outputs, units), lanes),
                            static_cast<size_t>(depth * outputs) * sizeof(Real));
        // A chunk is deep enough to make good products and small enough to stay in cache. It must
        // not depend on the number of threads, or the sums over it would.
        constexpr int64_t kChunkBytes = 4 << 20;
        const int64_t fitting = kChunkBytes / (width_ * static_cast<int64_t>(sizeof(Real)));
        chunk_rows_ = larger(sizes_.batch, smaller(larger(fitting, 128), 512));
        chunk_rows_ = smaller(chunk_rows_, sizes_.batch * sizes_.steps);
        given_product_ = args.weights[0].weight_ih == nullptr;

        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        const int64_t most_rows = ceil_div(sizes_.batch, team_.row_groups);
        const int64_t inputs = given_product_ ? 0 : sizes_.input_size;
        barriers_ = arena.take<Barrier>(1 + team_.row_groups);
        weight_hh_ = arena.take<Real>(padded<Real>(outputs) * depth);
        weight_candidate_ = arena.take<Real>(resets_before() ? padded<Real>(outputs) * units : 0);
        weight_hr_ = arena.take<Real>(padded<Real>(sizes_.proj_size ? units : 0) * outputs);
        weight_ih_ = arena.take<Real>(padded<Real>(inputs) * columns_.gates * units);
        cell_stride_ = padded<Real>(units);
        hidden_stride_ = padded<Real>(outputs);
        grad_cell_ = arena.take<Real>(has_cell() ? sizes_.batch * cell_stride_ : 0);
        grad_direct_ = arena.take<Real>(has_direct() ? sizes_.batch * hidden_stride_ : 0);
        waiting_ = arena.take<Real>(options_.layer_norm ? sizes_.batch * cell_stride_ : 0);
        const int64_t vectors = ceil_div(units, lanes);
        sums_ = arena.take<GradientSums<Real>>(options_.layer_norm ? sizes_.batch * summed * vectors
                                                                   : 0);
        for (Chunk& chunk : chunks_) {
            chunk.grad_gates = arena.take<Real>(chunk_rows_ * width_);
            chunk.grad_hidden = arena.take<Real>(sizes_.proj_size ? chunk_rows_ * outputs : 0);
            chunk.cell_output = arena.take<Real>(sizes_.proj_size ? chunk_rows_ * units : 0);
            chunk.multiplied = arena.take<Storage>(drawer_.hidden() ? chunk_rows_ * outputs : 0);
            chunk.reset_hidden = arena.take<Storage>(resets_before() ? chunk_rows_ * outputs : 0);
            chunk.extras = arena.take<Real>(chunk_rows_ * extras_.count * units);
            chunk.input = arena.take<const Storage*>(chunk_rows_);
            chunk.hidden = arena.take<const Storage*>(chunk_rows_);
            chunk.grad_input = arena.take<Storage*>(chunk_rows_);
        }
        packed_input_ = arena.take<Real>(padded<Real>(inputs) * chunk_rows_);
        packed_hidden_ = arena.take<Real>(padded<Real>(outputs) * chunk_rows_);
        packed_reset_hidden_ =
            arena.take<Real>(resets_before() ? padded<Real>(outputs) * chunk_rows_ : 0);
        packed_cell_output_ =
            arena.take<Real>(sizes_.proj_size ? padded<Real>(units) * chunk_rows_ : 0);
        int64_t tiles = 0;
        for (int s = 0; s < segments_; ++s) {
            segment_[s].first_tile = tiles;
            tiles += ceil_div(segment_[s].count * units, kTileRows);
        }
        packed_gates_ = arena.take<Real>(tiles * kTileRows * chunk_rows_);
        packed_grad_hidden_ = arena.take<Real>(
            sizes_.proj_size ? ceil_div(outputs, kTileRows) * kTileRows * chunk_rows_ : 0);
        product_rows_ = larger(128, most_rows);
        left_ = arena.take<const Real*>(team_.size() * product_rows_);
        product_ = arena.take<Real>(team_.size() * product_rows_ * kPanelVectors * lanes);
        row_steps_ = arena.take<RowStep>(team_.size() * product_rows_);
        masks_size_ = drawer_.room(most_rows);
        masks_ = arena.take<Real>(team_.size() * masks_size_);
        // Sums over chunks are kept in the accumulating type.
        const int64_t gates = columns_.gates * units;
        sum_ih_ = arena.take<Real>(kSame ? 0 : gates * inputs);
        sum_hh_ = arena.take<Real>(kSame ? 0 : gates * outputs);
        sum_hr_ = arena.take<Real>(kSame ? 0 : sizes_.proj_size * units);
        sum_columns_ = arena.take<Real>(width_ + kTileRows);
        sum_extras_ = arena.take<Real>(padded<Real>(extras_.count * units));
        sum_bias_hr_ = arena.take<Real>(sizes_.proj_size);
        workspace_ = arena.used;
    }

    size_t workspace() const { return workspace_; }

    bool run() {
        return run_directions(
            sizes_, team_, args_.order, barriers_,
            [this](const Place& place, int64_t direction) { run_direction(place, direction); });
    }

  private:
    // Rows of some consecutive steps, the last step first, each step's rows by falling length.
    struct Chunk {
        Real* grad_gates;        // [rows, width_]: columns as in CellColumns; with layer_norm those
                                 // of the input, then those of the recurrent product
        Real* grad_hidden;       // [rows, proj_size], with a projection
        Real* cell_output;       // [rows, hidden_size], with a projection
        Storage* multiplied;     // [rows, output_size]: h[t-1] times its mask
        Storage* reset_hidden;   // [rows, hidden_size]: the same times the reset gate
        Real* extras;            // [rows, extras, hidden_size]
        const Storage** input;   // [rows] where x[t] is
        const Storage** hidden;  // [rows] where h[t-1], as multiplied, is; nullptr: zeros
        Storage** grad_input;    // [rows] where dx[t] goes
    };

    // Columns whose gradients' products with the chunk's inputs and states go to rows of the
    // weights side by side; -1: none.
    struct Segment {
        int column, count, input_gate, recurrent_gate;
        int64_t first_tile;  // in packed_gates_
    };

    // What is summed over rows and steps beyond columns: per unit; -1: not there.
    struct Extras {
        int count, peephole, norm_product, norm_cell, candidate_bias;
    };

    // Everything of one row and step that does not depend on the unit.
    struct RowStep {
        int64_t row;
        int64_t index;     // of (time, row, direction) in the saved arrays
        int64_t previous;  // of its step before; -1: the initial state
        int64_t item;      // in the chunk
        int64_t time;
        bool restarts;  // this step began with zeros
        bool cut;       // the step after it did
        bool last;      // there is none after it
    };

    struct Own {
        int64_t direction;
        PanelLayout<Real> recurrent;   // weight_hh as [columns, output_size]
        PanelLayout<Real> candidate;   // of its third gate alone, for gru_reset_before
        PanelLayout<Real> projection;  // weight_hr as [proj_size, hidden_size]
        Real *sum_ih, *sum_hh, *sum_hr;
        bool sums_bias, sums_bias_hr;
        const Real** left;         // [product_rows_] left-hand rows of the product under way
        Real* product;             // [product_rows_, 4, lanes] its result
        RowStep* steps;            // [product_rows_] this thread's rows of the step under way
        GradientSums<Real>* sums;  // with layer_norm: of the row group
        Real* waiting;             // the same
        Masks<Real> masks;
    };

    // The gradients of one step's pre-activations, as the step before needs them.
    struct Later {
        const Real* grad_gates;
        int64_t rows;  // of the whole batch
    };

    // Some vectors of units of the first `active` rows, and what reaches h[t] through the product:
    // [active, vectors, lanes].
    struct Part {
        Range vectors;
        int64_t active;
        const Real* grads;
    };
    using Cells = void (RnnBackward::*)(Chunk&, const Own&, const Part&);

    bool has_cell() const { return has_cell_state(options_.cell); }
    bool resets_before() const { return options_.cell == CellKind::gru_reset_before; }
    bool is_gru() const { return !has_cell() && options_.cell != CellKind::rnn; }
    // Whether something of dL/dh[t] goes to h[t-1] past the product.
    bool has_direct() const { return is_gru() || options_.zoneout_hidden > 0; }

    Cells choose_cells() const {
        const bool general = sizes_.proj_size || is_general(options_, peephole_, args_.reset);
        switch (options_.cell) {
            case CellKind::lstm:
                return general ? &RnnBackward::lstm_cells<false, true>
                               : &RnnBackward::lstm_cells<false, false>;
            case CellKind::lstm_three_gates:
                return &RnnBackward::lstm_cells<true, true>;
            case CellKind::gru:
                return general ? &RnnBackward::gru_cells<true> : &RnnBackward::gru_cells<false>;
            case CellKind::gru_reset_before:
                return &RnnBackward::gru_update_cells<1, 2, 3>;
            case CellKind::gru_update_gate:
                return &RnnBackward::gru_update_cells<0, 1, 2>;
            default:
                return general ? &RnnBackward::rnn_cells<true> : &RnnBackward::rnn_cells<false>;
        }
    }

    void list_segments() {
        const int gates = columns_.gates;
        segments_ = 0;
        const auto add = [&](int column, int count, int input_gate, int recurrent_gate) {
            segment_[segments_++] = {column, count, input_gate, recurrent_gate, 0};
        };
        if (columns_.apart()) {
            add(0, 1, 2, -1);
            add(1, 2, 0, options_.layer_norm ? -1 : 0);
            if (!options_.layer_norm) add(3, 1, -1, 2);
        } else if (resets_before()) {
            add(0, 2, 0, 0);
            add(2, 1, 2, 2);
        } else {
            add(0, gates, 0, options_.layer_norm ? -1 : 0);
        }
        if (options_.layer_norm) add(gates, gates, -1, 0);
    }

    void list_extras() {
        extras_ = {0, -1, -1, -1, -1};
        const auto take = [&](bool wanted, int count) {
            const int at = wanted ? extras_.count : -1;
            if (wanted) extras_.count += count;
            return at;
        };
        extras_.peephole = take(peephole_, 3);
        extras_.norm_product = take(options_.layer_norm, columns_.gates);
        extras_.norm_cell = take(options_.layer_norm && has_cell(), 2);
        extras_.candidate_bias = take(options_.layer_norm && columns_.apart(), 1);
    }

    int64_t steps_at(int64_t position) const {
        return args_.order.steps ? args_.order.steps[position] : sizes_.steps;
    }

    void run_direction(const Place& place, int64_t direction) {
        const Own own = own_part(place, direction);
        pack_weights(place, own);
        start_state(place, own);
        barriers_[0].wait();

        int64_t step = steps_at(0), rows = 0;  // rows: those that have the step after `step`
        Later later{nullptr, 0};
        bool first_chunk = true;
        for (int which = 0; step > 0; which ^= 1) {
            Chunk& chunk = chunks_[which];
            int64_t filled = 0;
            while (step > 0) {
                while (rows < sizes_.batch && steps_at(rows) >= step) ++rows;
                if (filled > 0 && filled + rows > chunk_rows_) break;
                --step;
                run_step(place, own, chunk, step, rows, filled, later);
                later = {chunk.grad_gates + filled * width_, rows};
                filled += rows;
            }
            barriers_[0].wait();
            sum_chunk(place, own, chunk, filled, first_chunk);
            first_chunk = false;
        }
        finish_state(place, own, later);
        finish_weights(place, own, first_chunk);
    }

    Own own_part(const Place& place, int64_t direction) const {
        Own own;
        own.direction = direction;
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        const auto part = [&](PanelLayout<Real> layout) {
            layout.vectors = part_of(layout.vectors.size(), team_.unit_groups, place.unit_group);
            return layout;
        };
        own.recurrent = part(whole<Real>(outputs, columns_.recurrent * units));
        own.candidate = part(whole<Real>(outputs, units));
        own.projection = part(whole<Real>(sizes_.proj_size ? units : 0, sizes_.proj_size));
        own.left = left_ + place.thread * product_rows_;
        own.product = product_ + place.thread * product_rows_ * kPanelVectors * lanes;
        own.steps = row_steps_ + place.thread * product_rows_;
        const int64_t group_row = place.row_group * (sizes_.batch / team_.row_groups) +
                                  smaller(place.row_group, sizes_.batch % team_.row_groups);
        own.sums = sums_ + group_row * summed * vectors();
        own.waiting = waiting_ + group_row * cell_stride_;
        const RnnWeightGradients& grads = args_.grad_weights[direction];
        if constexpr (kSame) {
            own.sum_ih = static_cast<Real*>(grads.weight_ih);
            own.sum_hh = static_cast<Real*>(grads.weight_hh);
            own.sum_hr = static_cast<Real*>(grads.weight_hr);
        } else {
            own.sum_ih = grads.weight_ih ? sum_ih_ : nullptr;
            own.sum_hh = grads.weight_hh ? sum_hh_ : nullptr;
            own.sum_hr = grads.weight_hr ? sum_hr_ : nullptr;
        }
        own.sums_bias = grads.bias_ih || grads.bias_hh;
        own.sums_bias_hr = grads.bias_hr != nullptr;
        own.masks = drawer_.place(
            masks_ + place.thread * masks_size_, ceil_div(sizes_.batch, team_.row_groups),
            in_units(own_units(own), units), in_units(own.recurrent.vectors, outputs));
        return own;
    }

    static Range in_units(Range vectors, int64_t most) {
        return {vectors.begin * lanes, smaller(vectors.end * lanes, most)};
    }

    static Real* first_panel(Real* packed, const PanelLayout<Real>& layout) {
        return packed + layout.vectors.begin * lanes * layout.depth;
    }

    void pack_weights(const Place& place, const Own& own) {
        const RnnWeights& weights = args_.weights[own.direction];
        const auto* weight_hh = static_cast<const Storage*>(weights.weight_hh);
        const auto* weight_hr = static_cast<const Storage*>(weights.weight_hr);
        const auto* weight_ih = static_cast<const Storage*>(weights.weight_ih);
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        // Threads with the same units, one in each row group, share the packing by depth.
        const auto pack = [](const PanelLayout<Real>& layout, Range depth, Real* packed,
                             auto&& row) { pack_rows(layout, depth, packed, row); };
        const int64_t groups = team_.row_groups, group = place.row_group;
        pack(own.recurrent, part_of(own.recurrent.depth, groups, group),
             first_panel(weight_hh_, own.recurrent),
             [&](int64_t k) { return weight_hh + k * outputs; });
        if (resets_before()) {
            pack(own.candidate, part_of(units, groups, group),
                 first_panel(weight_candidate_, own.candidate),
                 [&](int64_t k) { return weight_hh + (2 * units + k) * outputs; });
        }
        if (sizes_.proj_size) {
            pack(own.projection, part_of(sizes_.proj_size, groups, group),
                 first_panel(weight_hr_, own.projection),
                 [&](int64_t k) { return weight_hr + k * units; });
        }
        if (args_.grad_input && !given_product_) {
            const int64_t depth = columns_.gates * units;
            pack(whole<Real>(sizes_.input_size, depth), part_of(depth, team_.size(), place.thread),
                 weight_ih_, [&](int64_t k) {
                     const int64_t gate = columns_.input_gate(static_cast<int>(k / units));
                     return weight_ih + (gate * units + k % units) * sizes_.input_size;
                 });
        }
    }

    // Vectors of hidden units whose cells this thread runs.
    Range own_units(const Own& own) const {
        return sizes_.proj_size ? own.projection.vectors : own.recurrent.vectors;
    }
    int64_t vectors() const { return ceil_div(sizes_.hidden_size, lanes); }
    int64_t saved_columns() const {
        return saved_of(options_.cell) + (options_.layer_norm ? columns_.gates : 0);
    }

    void start_state(const Place& place, const Own& own) {
        const auto* grad_cell_n = static_cast<const Storage*>(args_.grad_cell_n);
        const int64_t units = sizes_.hidden_size;
        for (int64_t j = 0; j < place.rows(); ++j) {
            const int64_t row = place.row(j), from = own.direction * sizes_.batch + row;
            drawer_.draw_sequence(own.masks, j, row, own.direction);
            if (has_direct()) {
                for (int64_t v = own.recurrent.vectors.begin; v < own.recurrent.vectors.end; ++v) {
                    store(grad_direct_ + row * hidden_stride_ + v * lanes, Vector<Real>{});
                }
            }
            if (!has_cell()) continue;
            const Range mine = own_units(own);
            for (int64_t v = mine.begin; v < mine.end; ++v) {
                const int count = static_cast<int>(smaller(lanes, units - v * lanes));
                store(grad_cell_ + row * cell_stride_ + v * lanes,
                      grad_cell_n ? load<Real>(grad_cell_n + from * units + v * lanes, count)
                                  : Vector<Real>{});
            }
        }
    }

    bool resets_at(int64_t time, int64_t row) const {
        return args_.reset && args_.reset[time * sizes_.batch + row];
    }

    RowStep row_step(const Place& place, const Own& own, int64_t step, int64_t j,
                     int64_t filled) const {
        RowStep at;
        at.row = place.row(j);
        at.time = place.time(j, step, own.direction);
        at.index = (at.time * sizes_.batch + at.row) * sizes_.directions + own.direction;
        const int64_t stride = sizes_.batch * sizes_.directions;
        at.previous = step == 0 ? -1 : at.index - (own.direction == 0 ? stride : -stride);
        at.item = filled + place.position(j);
        at.restarts = resets_at(at.time, at.row);
        at.last = step + 1 == place.steps(j);
        at.cut = !at.last && resets_at(place.time(j, step + 1, own.direction), at.row);
        return at;
    }

    // One step of the first `rows` positions; its rows go to the chunk from `filled` on.
    void run_step(const Place& place, const Own& own, Chunk& chunk, int64_t step, int64_t rows,
                  int64_t filled, const Later& later) {
        const int64_t active = place.rows_of_first(rows);
        const int64_t continued = place.rows_of_first(later.rows);
        Barrier& barrier = barriers_[1 + place.row_group];
        for (int64_t j = 0; j < active; ++j) {
            own.steps[j] = row_step(place, own, step, j, filled);
            drawer_.draw(own.masks, j, own.steps[j].row, own.steps[j].time, own.direction);
        }
        for (int64_t p = 0; p < own.recurrent.panels(); ++p) {
            const Range vectors = own.recurrent.panel(p);
            const int64_t stride = vectors.size() * lanes;
            multiply_recurrent(place, own, p, later, continued);
            for (int64_t j = 0; j < active; ++j) {
                const RowStep& at = own.steps[j];
                if (!at.last && !at.cut) continue;
                for (int64_t v = 0; v < vectors.size(); ++v) {
                    store(own.product + j * stride + v * lanes,
                          at.cut ? Vector<Real>{}
                                 : load_state(args_.grad_hidden_n, own, at.row, vectors.begin + v));
                }
            }
            const Part part{vectors, active, own.product};
            if (sizes_.proj_size) {
                activate_projected(chunk, own, part);
            } else {
                (this->*cells_)(chunk, own, part);
            }
        }
        if (place.unit_group == 0) list_rows(own, chunk, active);
        barrier.wait();
        if (sizes_.proj_size) {
            unproject(own, chunk, active);
            barrier.wait();
        }
        if (resets_before()) {
            run_reset_gates(own, chunk, active);
            barrier.wait();
        }
        if (options_.layer_norm) {
            if (has_cell()) {
                run_normalised_cells(own, chunk, active);
                barrier.wait();
            }
            for (int64_t j = 0; j < active; ++j) unnormalise(own, chunk, j);
            barrier.wait();
        }
    }

    // own.product [count, panel p] = dgates of the step after, times weight_hh.
    void multiply_recurrent(const Place& place, const Own& own, int64_t p, const Later& later,
                            int64_t count) {
        if (p == 0) {
            for (int64_t j = 0; j < count; ++j) {
                own.left[j] = later.grad_gates + place.position(j) * width_ +
                              first_recurrent_ * sizes_.hidden_size;
            }
        }
        multiply_rows(own, own.recurrent, first_panel(weight_hh_, own.recurrent), p, count);
    }

    // own.product = rows own.left [count, depth] x panel p of a packed matrix.
    void multiply_rows(const Own& own, const PanelLayout<Real>& layout, const Real* packed,
                       int64_t p, int64_t count) {
        const int64_t vectors = layout.panel(p).size();
        Product<Real> product{};
        product.left = own.left;
        product.panel = packed + layout.offset(p);
        product.depth = layout.depth;
        product.target = own.product;
        product.target_stride = vectors * lanes;
        multiply_panel(product, count, vectors);
    }

    Vector<Real> load_state(const void* state, const Own& own, int64_t row, int64_t vector) const {
        if (!state) return Vector<Real>{};
        const int64_t outputs = sizes_.output_size();
        return load<Real>(static_cast<const Storage*>(state) +
                              (own.direction * sizes_.batch + row) * outputs + vector * lanes,
                          static_cast<int>(smaller(lanes, outputs - vector * lanes)));
    }

    // ---- what reaches h[t] ----

    // h[t-1], after a reset.
    template <class Count>
    SEQFAST_INLINE Vector<Real> previous_hidden(const Own& own, const RowStep& at, int64_t unit,
                                                Count count) const {
        const int64_t outputs = sizes_.output_size();
        if (at.restarts) return Vector<Real>{};
        if (at.previous >= 0) {
            return load<Real>(
                static_cast<const Storage*>(args_.output) + at.previous * outputs + unit, count);
        }
        if (!args_.hidden) return Vector<Real>{};
        return load<Real>(static_cast<const Storage*>(args_.hidden) +
                              (own.direction * sizes_.batch + at.row) * outputs + unit,
                          count);
    }

    // Calls f(j, row and step, unit, dL/dh~[t], count) for every vector of a part, where h~ is the
    // state before zoneout.
    template <bool general, class F>
    SEQFAST_INLINE void for_each_unit(Chunk& chunk, const Own& own, const Part& part, F&& f) {
        const int64_t outputs = sizes_.output_size();
        const bool direct = has_direct();
        for (int64_t j = 0; j < part.active; ++j) {
            const RowStep& at = own.steps[j];
            const Real* grads = part.grads + j * part.vectors.size() * lanes;
            const Storage* grad_output =
                args_.grad_output.data
                    ? row_at<Storage>(args_.grad_output, at.time, at.row) + own.direction * outputs
                    : nullptr;
            const int64_t next_grad_output =
                at.previous < 0 ? 0
                                : args_.grad_output.step_stride * (at.previous < at.index ? -1 : 1);
            for (int64_t v = part.vectors.begin; v < part.vectors.end; ++v, grads += lanes) {
                with_count<Real>(outputs - v * lanes, [&](auto count) {
                    const int64_t unit = v * lanes;
                    Vector<Real> grad = load(grads);
                    if constexpr (general) {
                        if (own.masks.hidden && !at.last) {
                            grad *= own.masks.of_output(own.masks.hidden, j, unit);
                        }
                    }
                    Real* carried = grad_direct_ + at.row * hidden_stride_ + unit;
                    if (direct && !(general && at.cut)) grad += load(carried);
                    if (grad_output) {
                        grad += load<Real>(grad_output + unit, count);
                        __builtin_prefetch(grad_output + unit + next_grad_output, 0, 2);
                    }
                    if constexpr (general) {
                        if (own.masks.hidden) keep_multiplied(chunk, own, j, unit, count);
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

    // h[t-1] as the recurrent product saw it, for the product of the weights' gradients.
    template <class Count>
    SEQFAST_INLINE Vector<Real> multiplied_hidden(const Own& own, int64_t j, int64_t unit,
                                                  Count count) const {
        const Vector<Real> h = previous_hidden(own, own.steps[j], unit, count);
        if (!own.masks.hidden) return h;
        return rounded(h * own.masks.of_output(own.masks.hidden, j, unit));
    }
    template <class Count>
    SEQFAST_INLINE void keep_multiplied(Chunk& chunk, const Own& own, int64_t j, int64_t unit,
                                        Count count) {
        store(chunk.multiplied + own.steps[j].item * sizes_.output_size() + unit,
              multiplied_hidden(own, j, unit, count), count);
    }

    // ---- cells ----

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

    // What a step kept, block `column` of a unit's.
    const Storage* saved_at(int64_t index, int64_t unit) const {
        return static_cast<const Storage*>(args_.gates) +
               index * saved_columns() * sizes_.hidden_size + unit;
    }
    template <int count_gates, class Count>
    SEQFAST_INLINE void load_gates(const RowStep& at, int64_t unit,
                                   Vector<Real> (&gates)[count_gates], Count count) const {
        const int64_t units = sizes_.hidden_size;
        const Storage* saved = saved_at(at.index, unit);
        // Time runs backward here, which no hardware prefetcher foresees.
        const Storage* next =
            at.previous < 0 ? saved : saved + (at.previous - at.index) * saved_columns() * units;
        for (int g = 0; g < count_gates; ++g) {
            gates[g] = load<Real>(saved + g * units, count);
            __builtin_prefetch(next + g * units, 0, 2);
        }
    }
    template <int count_columns, class Count>
    SEQFAST_INLINE void store_columns(Chunk& chunk, const RowStep& at, int64_t unit,
                                      const Vector<Real> (&grads)[count_columns], Count count) {
        Real* to = chunk.grad_gates + at.item * width_ + unit;
        for (int c = 0; c < count_columns; ++c) {
            store(to + c * sizes_.hidden_size, grads[c], count);
        }
    }
    template <class Count>
    SEQFAST_INLINE void store_extra(Chunk& chunk, const RowStep& at, int extra, int64_t unit,
                                    Vector<Real> x, Count count) {
        store(chunk.extras + (at.item * extras_.count + extra) * sizes_.hidden_size + unit, x,
              count);
    }
    // On top of what zoneout passes on.
    template <class Count>
    SEQFAST_INLINE void add_direct(const Own& own, const RowStep& at, int64_t unit, Vector<Real> x,
                                   Count) {
        Real* carried = grad_direct_ + at.row * hidden_stride_ + unit;
        if (own.masks.zoneout_hidden) x += load(carried);
        store(carried, x);
    }

    template <class Count>
    SEQFAST_INLINE Vector<Real> previous_cell(const Own& own, const RowStep& at, int64_t unit,
                                              Count count) const {
        const int64_t units = sizes_.hidden_size;
        if (at.restarts) return Vector<Real>{};
        if (at.previous >= 0) {
            const Real* cells = static_cast<const Real*>(args_.cells) + unit;
            __builtin_prefetch(cells + larger(2 * at.previous - at.index, 0) * units, 0, 2);
            return load<Real>(cells + at.previous * units, count);
        }
        if (!args_.cell) return Vector<Real>{};
        return load<Real>(static_cast<const Storage*>(args_.cell) +
                              (own.direction * sizes_.batch + at.row) * units + unit,
                          count);
    }

    // Behind a projection what reaches a cell's output is the part's own; else with all else that
    // reaches h[t].
    template <bool general, class F>
    SEQFAST_INLINE void for_each_cell(Chunk& chunk, const Own& own, const Part& part, F&& f) {
        if (general && sizes_.proj_size) {
            for (int64_t j = 0; j < part.active; ++j) {
                const Real* grads = part.grads + j * part.vectors.size() * lanes;
                for (int64_t v = part.vectors.begin; v < part.vectors.end; ++v, grads += lanes) {
                    with_count<Real>(sizes_.hidden_size - v * lanes, [&](auto count) {
                        f(j, own.steps[j], v * lanes, load(grads), count);
                    });
                }
            }
        } else {
            for_each_unit<general>(chunk, own, part, f);
        }
    }

    template <bool three_gates, bool general>
    void lstm_cells(Chunk& chunk, const Own& own, const Part& part) {
        if (general && options_.layer_norm) {
            lstm_outputs<three_gates>(chunk, own, part);
        } else {
            for_each_cell<general>(
                chunk, own, part,
                [&](int64_t j, const RowStep& at, int64_t unit, Vector<Real> grad, auto count) {
                    lstm_cell<three_gates, general>(chunk, own, j, at, unit, grad, count, nullptr);
                });
        }
    }

    // Of a normalised cell, what its own normalisation adds up over the row.
    struct NormalisedCell {
        Vector<Real> tanh_cell, grad_unzoned;
    };

    template <bool three_gates, bool general, class Count>
    SEQFAST_INLINE void lstm_cell(Chunk& chunk, const Own& own, int64_t j, const RowStep& at,
                                  int64_t unit, Vector<Real> grad_hidden, Count count,
                                  const NormalisedCell* normalised) {
        using Cell = LstmCell<M, three_gates, general>;
        const int64_t units = sizes_.hidden_size;
        Vector<Real> gates[Cell::gates];
        load_gates(at, unit, gates, count);
        const Real* cells = static_cast<const Real*>(args_.cells) + unit;
        const Vector<Real> cell = load<Real>(cells + at.index * units, count);
        Inputs inputs = inputs_of<general>(own, j, unit, count);
        inputs.previous_cell = previous_cell(own, at, unit, count);
        Real* carried = grad_cell_ + at.row * cell_stride_ + unit;
        Vector<Real> grad_cell = load(carried);
        if (general && at.cut) grad_cell = Vector<Real>{};
        if (args_.grad_cells) {
            grad_cell += load<Real>(
                static_cast<const Real*>(args_.grad_cells) + at.index * units + unit, count);
        }
        const Vector<Real> unzoned = Cell::unzoned_cell(cell_options_, inputs, gates, cell);
        const Vector<Real> tanh_cell = normalised ? normalised->tanh_cell : M::tanh(unzoned);
        const Vector<Real> grad_unzoned =
            normalised ? normalised->grad_unzoned
                       : grad_hidden * gates[Cell::O] * (1 - tanh_cell * tanh_cell);
        Vector<Real> grads[Cell::gates], grad_peephole[3] = {};
        Cell::backward(cell_options_, inputs, gates, unzoned, tanh_cell, grad_hidden, grad_unzoned,
                       grad_cell, grads, grad_peephole);
        store(carried, grad_cell);
        store_columns(chunk, at, unit, grads, count);
        if constexpr (general) {
            if (peephole_) {
                for (int k = 0; k < 3; ++k) {
                    store_extra(chunk, at, extras_.peephole + k, unit, grad_peephole[k], count);
                }
            }
            if (sizes_.proj_size) {
                store(chunk.cell_output + at.item * units + unit, gates[Cell::O] * tanh_cell,
                      count);
            }
            if (options_.layer_norm) add_product_sums(chunk, own, j, at, unit, grads, count);
        }
    }

    template <bool general>
    void gru_cells(Chunk& chunk, const Own& own, const Part& part) {
        for_each_cell<general>(
            chunk, own, part,
            [&](int64_t j, const RowStep& at, int64_t unit, Vector<Real> grad, auto count) {
                Vector<Real> gates[4];  // r z n n_h
                load_gates(at, unit, gates, count);
                Inputs inputs = inputs_of<general>(own, j, unit, count);
                inputs.previous_hidden = previous_hidden(own, at, unit, count);
                Vector<Real> grads[4];  // n r z n_h
                const Vector<Real> direct = GruCell<M, general>::backward(
                    cell_options_, inputs, gates[0], gates[1], gates[2], gates[3], grad, grads[1],
                    grads[2], grads[0], grads[3]);
                add_direct(own, at, unit, direct, count);
                if (general && options_.layer_norm) {
                    const Vector<Real> of_input[3] = {grads[0], grads[1], grads[2]};
                    store_columns(chunk, at, unit, of_input, count);
                    store_extra(chunk, at, extras_.candidate_bias, unit, grads[3], count);
                    const Vector<Real> of_product[3] = {grads[1], grads[2], grads[3]};
                    add_product_sums(chunk, own, j, at, unit, of_product, count);
                } else {
                    store_columns(chunk, at, unit, grads, count);
                }
            });
    }

    // As in RnnForward. Of gru_reset_before the reset gate's turn comes later.
    template <int z_column, int n_column, int count_columns>
    void gru_update_cells(Chunk& chunk, const Own& own, const Part& part) {
        for_each_cell<true>(
            chunk, own, part,
            [&](int64_t j, const RowStep& at, int64_t unit, Vector<Real> grad, auto count) {
                Vector<Real> gates[count_columns], grads[count_columns];
                load_gates(at, unit, gates, count);
                Inputs inputs = inputs_of<true>(own, j, unit, count);
                inputs.previous_hidden = previous_hidden(own, at, unit, count);
                grads[0] = Vector<Real>{};
                const Vector<Real> direct = GruCell<M, true>::backward(
                    cell_options_, inputs, gates[z_column], gates[n_column], grad, grads[z_column],
                    grads[n_column]);
                add_direct(own, at, unit, direct, count);
                store_columns(chunk, at, unit, grads, count);
                if (options_.layer_norm) add_product_sums(chunk, own, j, at, unit, grads, count);
            });
    }

    template <bool general>
    void rnn_cells(Chunk& chunk, const Own& own, const Part& part) {
        for_each_cell<general>(
            chunk, own, part,
            [&](int64_t j, const RowStep& at, int64_t unit, Vector<Real> grad, auto count) {
                Vector<Real> gates[1];
                load_gates(at, unit, gates, count);
                const Vector<Real> grads[1] = {RnnCell<M>::backward(cell_options_, gates[0], grad)};
                store_columns(chunk, at, unit, grads, count);
                if constexpr (general) {
                    if (sizes_.proj_size) {
                        store(chunk.cell_output + at.item * sizes_.hidden_size + unit, gates[0],
                              count);
                    }
                    if (options_.layer_norm) {
                        add_product_sums(chunk, own, j, at, unit, grads, count);
                    }
                }
            });
    }

    // Through r * h into the third gate's product: dL/d(r * h) = dn W_n, this thread's columns.
    void run_reset_gates(const Own& own, Chunk& chunk, int64_t active) {
        const PanelLayout<Real>& layout = own.candidate;
        const int64_t units = sizes_.hidden_size;
        for (int64_t j = 0; j < active; ++j) {
            own.left[j] = chunk.grad_gates + own.steps[j].item * width_ + 2 * units;
        }
        for (int64_t p = 0; p < layout.panels(); ++p) {
            const Range vectors = layout.panel(p);
            multiply_rows(own, layout, first_panel(weight_candidate_, layout), p, active);
            for (int64_t j = 0; j < active; ++j) {
                const RowStep& at = own.steps[j];
                const Real* grads = own.product + j * vectors.size() * lanes;
                for (int64_t v = vectors.begin; v < vectors.end; ++v, grads += lanes) {
                    with_count<Real>(units - v * lanes, [&](auto count) {
                        const int64_t unit = v * lanes;
                        const Vector<Real> r = load<Real>(saved_at(at.index, unit), count);
                        const Vector<Real> h = multiplied_hidden(own, j, unit, count);
                        const Vector<Real> grad = load(grads);
                        const Vector<Real> grads_r[1] = {grad * h * r * (1 - r)};
                        store_columns(chunk, at, unit, grads_r, count);
                        store(chunk.reset_hidden + at.item * units + unit, r * h, count);
                        Vector<Real> to_hidden = grad * r;
                        if (own.masks.hidden) {
                            to_hidden *= own.masks.of_output(own.masks.hidden, j, unit);
                        }
                        Real* carried = grad_direct_ + at.row * hidden_stride_ + unit;
                        store(carried, load(carried) + to_hidden);
                    });
                }
            }
        }
    }

    // ---- projection ----

    // dL/dh[t] to the gradient of the projection's pre-activation.
    void activate_projected(Chunk& chunk, const Own& own, const Part& part) {
        const int64_t outputs = sizes_.output_size();
        for_each_unit<true>(
            chunk, own, part,
            [&](int64_t j, const RowStep& at, int64_t unit, Vector<Real> grad, auto count) {
                if (options_.output_activation != Activation::identity) {
                    grad *= projected_slope(own, j, unit, count);
                }
                store(chunk.grad_hidden + at.item * outputs + unit, grad, count);
            });
    }

    // The derivative of the projection's activation where it gave h[t] before zoneout.
    template <class Count>
    SEQFAST_INLINE Vector<Real> projected_slope(const Own& own, int64_t j, int64_t unit,
                                                Count count) const {
        const RowStep& at = own.steps[j];
        Vector<Real> h = load<Real>(
            static_cast<const Storage*>(args_.output) + at.index * sizes_.output_size() + unit,
            count);
        if (own.masks.zoneout_hidden) {
            const Vector<Real> kept = own.masks.of_output(own.masks.zoneout_hidden, j, unit);
            const Vector<Real> old = kept * previous_hidden(own, at, unit, count);
            // What a zero would have become, rounded as it was: the difference is no rounding.
            if (options_.output_activation == Activation::relu)
                return M::positive(h - opaque(rounded(old)));
            // Where the old state stayed whole there is no gradient, and no h.
            const Vector<Real> moved = 1 - kept;
            h = moved > Vector<Real>{} ? (h - old) / moved : Vector<Real>{};
        }
        return activation_slope<M>(options_.output_activation, h);
    }
    // A multiplication before it cannot be fused with an addition after it.
    static SEQFAST_INLINE Vector<Real> opaque(Vector<Real> x) {
        asm volatile("" : "+m"(x));
        return x;
    }
    static SEQFAST_INLINE Vector<Real> rounded(Vector<Real> x) {
        if constexpr (kSame) return x;
        Storage stored[lanes];
        store(stored, x, lanes);
        return load<Real>(stored, lanes);
    }

    // Back through the projection, then the cells.
    void unproject(const Own& own, Chunk& chunk, int64_t active) {
        const PanelLayout<Real>& layout = own.projection;
        for (int64_t j = 0; j < active; ++j) {
            own.left[j] = chunk.grad_hidden + own.steps[j].item * layout.depth;
        }
        for (int64_t p = 0; p < layout.panels(); ++p) {
            multiply_rows(own, layout, first_panel(weight_hr_, layout), p, active);
            (this->*cells_)(chunk, own, {layout.panel(p), active, own.product});
        }
    }

    // ---- layer normalisation ----

    enum Summed { of_product = 0, of_candidate = 1, of_cell = 2, summed = 3 };
    GradientSums<Real>* sums_of(const Own& own, int64_t j, Summed what) const {
        return own.sums + (j * summed + what) * vectors();
    }
    const Real* statistics_of(const RowStep& at) const {
        return static_cast<const Real*>(args_.statistics) + at.index * statistics_count;
    }

    // Of one vector of units: the sums over the row that the gradient of the product needs, and
    // the shares of the weights' gradients. grads: of the pre-activations, gate by gate.
    template <int count_gates, class Count>
    SEQFAST_INLINE void add_product_sums(Chunk& chunk, const Own& own, int64_t j, const RowStep& at,
                                         int64_t unit, const Vector<Real> (&grads)[count_gates],
                                         Count count) {
        const int64_t units = sizes_.hidden_size;
        const Vector<Real> mask = lane_mask<Real>(count);
        const Storage* normalised = saved_at(at.index, unit) + saved_of(options_.cell) * units;
        const auto* weight =
            static_cast<const Storage*>(args_.weights[own.direction].weight_norm_hh);
        Real* to = chunk.grad_gates + at.item * width_ + columns_.gates * units + unit;
        Vector<Real> sum[2] = {}, product[2] = {};
        for (int g = 0; g < count_gates; ++g) {
            const int k = columns_.apart() && g == 2;
            const Vector<Real> x = load<Real>(normalised + g * units, count);
            const Vector<Real> grad = grads[g] * load<Real>(weight + g * units + unit, count);
            sum[k] += grad * mask;
            product[k] += grad * x * mask;
            store(to + g * units, grad, count);
            store_extra(chunk, at, extras_.norm_product + g, unit, grads[g] * x, count);
        }
        sums_of(own, j, of_product)[unit / lanes] = {horizontal_sum<Real>(sum[0]),
                                                     horizontal_sum<Real>(product[0])};
        sums_of(own, j, of_candidate)[unit / lanes] = {horizontal_sum<Real>(sum[1]),
                                                       horizontal_sum<Real>(product[1])};
    }

    // f(unit, count) for every vector of the cells' units.
    template <class F>
    void for_each_own(const Own& own, F&& f) {
        const Range mine = own_units(own);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            f(v * lanes, static_cast<int>(smaller(lanes, sizes_.hidden_size - v * lanes)));
        }
    }

    // The gradients of the products, once all of the row is there.
    void unnormalise(const Own& own, Chunk& chunk, int64_t j) {
        const RowStep& at = own.steps[j];
        const int64_t units = sizes_.hidden_size;
        const Real* statistics = statistics_of(at);
        const int together = columns_.apart() ? 2 : columns_.gates;
        const Real counts[2] = {static_cast<Real>(together * units), static_cast<Real>(units)};
        GradientSums<Real> mean[2];
        for (int k = 0; k < 2; ++k) {
            mean[k] = add_up(sums_of(own, j, k == 0 ? of_product : of_candidate), vectors(), 1);
            mean[k].sum /= counts[k];
            mean[k].product /= counts[k];
        }
        for_each_own(own, [&](int64_t unit, int count) {
            const Storage* normalised = saved_at(at.index, unit) + saved_of(options_.cell) * units;
            Real* grad = chunk.grad_gates + at.item * width_ + columns_.gates * units + unit;
            for (int g = 0; g < columns_.gates; ++g) {
                const int k = g >= together;
                const Vector<Real> x = load<Real>(normalised + g * units, count);
                const Vector<Real> d = load<Real>(grad + g * units, count);
                store(grad + g * units,
                      (d - mean[k].sum - x * mean[k].product) * statistics[rstd_product + k],
                      count);
            }
        });
    }

    // The first half of a normalised LSTM step: through the output to the normalised cell.
    template <bool three_gates>
    void lstm_outputs(Chunk& chunk, const Own& own, const Part& part) {
        for_each_cell<true>(
            chunk, own, part,
            [&](int64_t j, const RowStep& at, int64_t unit, Vector<Real> grad, auto count) {
                Normalised cell = normalised_cell<three_gates>(own, j, at, unit, count);
                const auto* weight =
                    static_cast<const Storage*>(args_.weights[own.direction].weight_norm_cell);
                const Vector<Real> scaled = grad * cell.slope;
                store_extra(chunk, at, extras_.norm_cell, unit, scaled * cell.x, count);
                store_extra(chunk, at, extras_.norm_cell + 1, unit, scaled, count);
                const Vector<Real> of_x =
                    scaled * load<Real>(weight + unit, count) * lane_mask<Real>(count);
                sums_of(own, j, of_cell)[unit / lanes] = {horizontal_sum<Real>(of_x),
                                                          horizontal_sum<Real>(of_x * cell.x)};
                store(own.waiting + j * cell_stride_ + unit, grad);
            });
    }

    // x: the normalised cell; tanh_cell: the tanh of what became of it; slope: from the tanh's
    // argument to the output.
    struct Normalised {
        Vector<Real> x, tanh_cell, slope;
    };
    template <bool three_gates, class Count>
    SEQFAST_INLINE Normalised normalised_cell(const Own& own, int64_t j, const RowStep& at,
                                              int64_t unit, Count count) {
        using Cell = LstmCell<M, three_gates, true>;
        const RnnWeights& weights = args_.weights[own.direction];
        const Real* statistics = statistics_of(at);
        Vector<Real> gates[Cell::gates];
        load_gates(at, unit, gates, count);
        Inputs inputs = inputs_of<true>(own, j, unit, count);
        inputs.previous_cell = previous_cell(own, at, unit, count);
        const Vector<Real> cell = load<Real>(
            static_cast<const Real*>(args_.cells) + at.index * sizes_.hidden_size + unit, count);
        Normalised result;
        result.x =
            (Cell::unzoned_cell(cell_options_, inputs, gates, cell) - statistics[mean_cell]) *
            statistics[rstd_cell];
        result.tanh_cell = M::tanh(
            result.x *
                load<Real>(static_cast<const Storage*>(weights.weight_norm_cell) + unit, count) +
            load<Real>(static_cast<const Storage*>(weights.bias_norm_cell) + unit, count));
        result.slope = gates[Cell::O] * (1 - result.tanh_cell * result.tanh_cell);
        return result;
    }

    void run_normalised_cells(const Own& own, Chunk& chunk, int64_t active) {
        if (options_.cell == CellKind::lstm) {
            normalised_cells<false>(own, chunk, active);
        } else {
            normalised_cells<true>(own, chunk, active);
        }
    }

    template <bool three_gates>
    void normalised_cells(const Own& own, Chunk& chunk, int64_t active) {
        const auto* weight =
            static_cast<const Storage*>(args_.weights[own.direction].weight_norm_cell);
        const Real units = static_cast<Real>(sizes_.hidden_size);
        for (int64_t j = 0; j < active; ++j) {
            const RowStep& at = own.steps[j];
            const GradientSums<Real> sums = add_up(sums_of(own, j, of_cell), vectors(), 1);
            for_each_own(own, [&](int64_t unit, int count) {
                const Normalised cell = normalised_cell<three_gates>(own, j, at, unit, count);
                const Vector<Real> grad = load(own.waiting + j * cell_stride_ + unit);
                const Vector<Real> of_x = grad * cell.slope * load<Real>(weight + unit, count);
                const NormalisedCell normalised{
                    cell.tanh_cell, (of_x - sums.sum / units - cell.x * (sums.product / units)) *
                                        statistics_of(at)[rstd_cell]};
                lstm_cell<three_gates, true>(chunk, own, j, at, unit, grad, count, &normalised);
            });
        }
    }

    // ---- products over a chunk ----

    // Where the chunk's products find their operands.
    void list_rows(const Own& own, Chunk& chunk, int64_t active) {
        const int64_t outputs = sizes_.output_size();
        const auto* hidden = static_cast<const Storage*>(args_.hidden);
        for (int64_t j = 0; j < active; ++j) {
            const RowStep& at = own.steps[j];
            chunk.input[at.item] = row_at<Storage>(args_.input, at.time, at.row);
            if (at.restarts) {
                chunk.hidden[at.item] = nullptr;
            } else if (drawer_.hidden()) {
                chunk.hidden[at.item] = chunk.multiplied + at.item * outputs;
            } else if (at.previous >= 0) {
                chunk.hidden[at.item] =
                    static_cast<const Storage*>(args_.output) + at.previous * outputs;
            } else {
                chunk.hidden[at.item] =
                    hidden ? hidden + (own.direction * sizes_.batch + at.row) * outputs : nullptr;
            }
            if (args_.grad_input) {
                const int64_t width = given_product_
                                          ? sizes_.directions * columns_.gates * sizes_.hidden_size
                                          : sizes_.input_size;
                chunk.grad_input[at.item] = static_cast<Storage*>(args_.grad_input) +
                                            (at.time * sizes_.batch + at.row) * width;
            }
        }
    }

    void sum_chunk(const Place& place, const Own& own, const Chunk& chunk, int64_t rows,
                   bool first) {
        if (own.sum_ih || own.sum_hh || own.sums_bias || own.sum_hr || own.sums_bias_hr) {
            pack_chunk(place, own, chunk, rows, first);
            barriers_[0].wait();
            const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
            for (int s = 0; s < segments_; ++s) {
                const Segment& segment = segment_[s];
                const Real* left = packed_tiles(segment, rows);
                const int64_t columns = segment.count * units;
                if (own.sum_ih && segment.input_gate >= 0) {
                    outer_product(place, left, columns, packed_input_, sizes_.input_size, rows,
                                  own.sum_ih + segment.input_gate * units * sizes_.input_size,
                                  first);
                }
                if (own.sum_hh && segment.recurrent_gate >= 0) {
                    const bool reset = resets_before() && segment.recurrent_gate == 2;
                    outer_product(place, left, columns,
                                  reset ? packed_reset_hidden_ : packed_hidden_, outputs, rows,
                                  own.sum_hh + segment.recurrent_gate * units * outputs, first);
                }
            }
            if (own.sum_hr) {
                outer_product(place, packed_grad_hidden_, sizes_.proj_size, packed_cell_output_,
                              units, rows, own.sum_hr, first);
            }
        }
        if (extras_.count > 0) sum_extras(place, chunk, rows, first);
        if (args_.grad_input) multiply_input(place, own, chunk, rows);
    }

    Real* packed_tiles(const Segment& segment, int64_t rows) const {
        return packed_gates_ + segment.first_tile * kTileRows * rows;
    }

    Range own_tiles(const Place& place, int64_t columns) const {
        return part_of(ceil_div(columns, kTileRows), team_.size(), place.thread);
    }

    void pack_chunk(const Place& place, const Own& own, const Chunk& chunk, int64_t rows,
                    bool first) {
        const Range depth = part_of(rows, team_.size(), place.thread);
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        const auto pack = [&](int64_t columns, Real* packed, auto&& row) {
            pack_rows(whole<Real>(columns, rows), depth, packed, row);
        };
        if (own.sum_ih) {
            pack(sizes_.input_size, packed_input_, [&](int64_t k) { return chunk.input[k]; });
        }
        if (own.sum_hh) {
            pack(outputs, packed_hidden_, [&](int64_t k) { return chunk.hidden[k]; });
            if (resets_before()) {
                pack(outputs, packed_reset_hidden_,
                     [&](int64_t k) { return chunk.reset_hidden + k * outputs; });
            }
        }
        for (int s = 0; s < segments_; ++s) {
            const Segment& segment = segment_[s];
            const int64_t columns = segment.count * units;
            pack_columns(packed_tiles(segment, rows), chunk.grad_gates + segment.column * units,
                         width_, columns, rows, own_tiles(place, columns),
                         sum_columns_ + segment.column * units, first);
        }
        if (own.sum_hr || own.sums_bias_hr) {
            pack_columns(packed_grad_hidden_, chunk.grad_hidden, sizes_.proj_size, sizes_.proj_size,
                         rows, own_tiles(place, sizes_.proj_size), sum_bias_hr_, first);
            pack(units, packed_cell_output_,
                 [&](int64_t k) { return chunk.cell_output + k * units; });
        }
    }

    // Every column's sum over the chunk, in the order of the rows; own columns.
    void sum_extras(const Place& place, const Chunk& chunk, int64_t rows, bool first) {
        const int64_t columns = extras_.count * sizes_.hidden_size;
        const Range mine = part_of(ceil_div(columns, lanes), team_.size(), place.thread);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            const int count = static_cast<int>(smaller(lanes, columns - v * lanes));
            Vector<Real> sum = first ? Vector<Real>{} : load(sum_extras_ + v * lanes);
            for (int64_t k = 0; k < rows; ++k) {
                sum += load<Real>(chunk.extras + k * columns + v * lanes, count);
            }
            store(sum_extras_ + v * lanes, sum);
        }
    }

    // sum [left_columns, right_columns] (+)= left' right over the chunk's rows, own tiles.
    void outer_product(const Place& place, const Real* left, int64_t left_columns,
                       const Real* right, int64_t right_columns, int64_t rows, Real* sum,
                       bool first) {
        const PanelLayout<Real> layout = whole<Real>(right_columns, rows);
        const Range tiles = own_tiles(place, left_columns);
        alignas(64) Real edge[kTileRows * kPanelVectors * lanes];
        const Real* tile_rows[kTileRows];
        Product<Real> product{};
        product.left = tile_rows;
        product.left_stride = kTileRows;
        product.depth = rows;
        for (int64_t p = 0; p < layout.panels(); ++p) {
            const Range vectors = layout.panel(p);
            const int64_t columns =
                smaller(vectors.end * lanes, right_columns) - vectors.begin * lanes;
            product.panel = right + layout.offset(p);
            for (int64_t t = tiles.begin; t < tiles.end; ++t) {
                const Real* packed = left + t * rows * kTileRows;
                const int64_t size = smaller(kTileRows, left_columns - t * kTileRows);
                Real* to = sum + t * kTileRows * right_columns + vectors.begin * lanes;
                for (int64_t r = 0; r < size; ++r) {
                    tile_rows[r] = packed + r;
                    // The sums wait in memory; the next tile's are fetched during this one.
                    for (int64_t c = 0; c < columns; c += 64 / sizeof(Real)) {
                        __builtin_prefetch(to + (kTileRows + r) * right_columns + c, 1, 2);
                    }
                }
                product.prefetch = packed + rows * kTileRows;
                const bool whole_vectors = columns == vectors.size() * lanes;
                product.target = whole_vectors ? to : edge;
                product.target_stride = whole_vectors ? right_columns : vectors.size() * lanes;
                product.start = whole_vectors && !first ? to : nullptr;
                product.start_stride = right_columns;
                multiply_panel(product, size, vectors.size());
                if (whole_vectors) continue;
                for (int64_t r = 0; r < size; ++r) {
                    for (int64_t c = 0; c < columns; c += lanes) {
                        const int count = static_cast<int>(smaller(lanes, columns - c));
                        Real* element = to + r * right_columns + c;
                        Vector<Real> x = load(edge + r * vectors.size() * lanes + c);
                        if (!first) x += load<Real>(element, count);
                        store(element, x, count);
                    }
                }
            }
        }
    }

    // dx = dgates W_ih, for this thread's rows of the chunk, some rows at a time. The second
    // direction adds to what the first left, rounded to Storage.
    void multiply_input(const Place& place, const Own& own, const Chunk& chunk, int64_t rows) {
        const Range mine = part_of(rows, team_.size(), place.thread);
        if (given_product_) {
            for (int64_t k = mine.begin; k < mine.end; ++k) hand_on_gates(own, chunk, k);
            return;
        }
        const PanelLayout<Real> layout =
            whole<Real>(sizes_.input_size, columns_.gates * sizes_.hidden_size);
        for (int64_t begin = mine.begin; begin < mine.end; begin += product_rows_) {
            const int64_t count = smaller(product_rows_, mine.end - begin);
            for (int64_t i = 0; i < count; ++i) {
                own.left[i] = chunk.grad_gates + (begin + i) * width_;
            }
            for (int64_t p = 0; p < layout.panels(); ++p) {
                const Range vectors = layout.panel(p);
                multiply_rows(own, layout, weight_ih_, p, count);
                for (int64_t i = 0; i < count; ++i) {
                    for (int64_t v = 0; v < vectors.size(); ++v) {
                        const int64_t vector = vectors.begin + v;
                        Storage* to = chunk.grad_input[begin + i] + vector * lanes;
                        const int lanes_left = layout.lanes_of(vector);
                        Vector<Real> x = load(own.product + (i * vectors.size() + v) * lanes);
                        if (own.direction == 1) x += load<Real>(to, lanes_left);
                        store(to, x, lanes_left);
                    }
                }
            }
        }
    }

    // The input was the product already: its gradient is that of the pre-activations.
    void hand_on_gates(const Own& own, const Chunk& chunk, int64_t item) {
        const int64_t units = sizes_.hidden_size;
        Storage* to = chunk.grad_input[item] + own.direction * columns_.gates * units;
        const Real* from = chunk.grad_gates + item * width_;
        for (int c = 0; c < columns_.gates; ++c) {
            for (int64_t u = 0; u < units; u += lanes) {
                const int count = static_cast<int>(smaller(lanes, units - u));
                store(to + columns_.input_gate(c) * units + u,
                      load<Real>(from + c * units + u, count), count);
            }
        }
    }

    // ---- the ends ----

    void finish_state(const Place& place, const Own& own, const Later& later) {
        const int64_t outputs = sizes_.output_size(), units = sizes_.hidden_size;
        auto* grad_hidden = static_cast<Storage*>(args_.grad_hidden);
        auto* grad_cell = static_cast<Storage*>(args_.grad_cell);
        const int64_t continued = place.rows_of_first(later.rows);
        const auto began_anew = [&](int64_t j) {
            return j < continued && resets_at(place.time(j, 0, own.direction), place.row(j));
        };
        const auto write = [&](int64_t j, int64_t v, Vector<Real> x) {
            store(grad_hidden + (own.direction * sizes_.batch + place.row(j)) * outputs + v * lanes,
                  x, static_cast<int>(smaller(lanes, outputs - v * lanes)));
        };
        for (int64_t p = 0; grad_hidden && p < own.recurrent.panels(); ++p) {
            const Range vectors = own.recurrent.panel(p);
            multiply_recurrent(place, own, p, later, continued);
            for (int64_t j = 0; j < continued; ++j) {
                for (int64_t v = 0; v < vectors.size(); ++v) {
                    const int64_t unit = (vectors.begin + v) * lanes;
                    Vector<Real> x = load(own.product + (j * vectors.size() + v) * lanes);
                    if (own.masks.hidden) x *= own.masks.of_output(own.masks.hidden, j, unit);
                    if (has_direct())
                        x += load(grad_direct_ + place.row(j) * hidden_stride_ + unit);
                    write(j, vectors.begin + v, began_anew(j) ? Vector<Real>{} : x);
                }
            }
            // Rows of no steps: the state went straight through.
            for (int64_t j = continued; j < place.rows(); ++j) {
                for (int64_t v = vectors.begin; v < vectors.end; ++v) {
                    write(j, v, load_state(args_.grad_hidden_n, own, place.row(j), v));
                }
            }
        }
        const Range mine = own_units(own);
        for (int64_t j = 0; grad_cell && j < place.rows(); ++j) {
            const int64_t row = place.row(j);
            for (int64_t v = mine.begin; v < mine.end; ++v) {
                store(grad_cell + (own.direction * sizes_.batch + row) * units + v * lanes,
                      began_anew(j) ? Vector<Real>{}
                                    : load(grad_cell_ + row * cell_stride_ + v * lanes),
                      static_cast<int>(smaller(lanes, units - v * lanes)));
            }
        }
    }

    // Sums to the user's type; zeros where no row had a step.
    void finish_weights(const Place& place, const Own& own, bool nothing_summed) {
        const RnnWeightGradients& grads = args_.grad_weights[own.direction];
        const int64_t units = sizes_.hidden_size, gates = columns_.gates * units;
        barriers_[0].wait();
        const auto finish = [&](const Real* sum, void* target, int64_t size) {
            finish_sum(place, sum, target, 0, size, nothing_summed);
        };
        finish(own.sum_ih, grads.weight_ih, gates * sizes_.input_size);
        finish(own.sum_hh, grads.weight_hh, gates * sizes_.output_size());
        finish(own.sum_hr, grads.weight_hr, sizes_.proj_size * units);
        finish(sum_bias_hr_, grads.bias_hr, sizes_.proj_size);
        for (int c = 0; c < columns_.gates; ++c) {
            finish_sum(place, sum_columns_ + c * units, grads.bias_ih,
                       columns_.input_gate(c) * units, units, nothing_summed);
        }
        if (grads.bias_hh != grads.bias_ih) finish_recurrent_bias(place, grads, nothing_summed);
        const auto finish_extra = [&](int extra, void* target, int count) {
            if (extra >= 0) finish(sum_extras_ + extra * units, target, count * units);
        };
        finish_extra(extras_.peephole, grads.weight_peephole, 3);
        finish_extra(extras_.norm_product, grads.weight_norm_hh, columns_.gates);
        finish_extra(extras_.norm_cell, grads.weight_norm_cell, 1);
        if (extras_.norm_cell >= 0) finish_extra(extras_.norm_cell + 1, grads.bias_norm_cell, 1);
    }

    // It differs from the input's where the candidate's share of the state stands apart.
    void finish_recurrent_bias(const Place& place, const RnnWeightGradients& grads,
                               bool nothing_summed) {
        const int64_t units = sizes_.hidden_size;
        for (int gate = 0; gate < columns_.gates; ++gate) {
            const Real* sum = sum_columns_ + (gate + columns_.first_recurrent) * units;
            if (gate == 2 && extras_.candidate_bias >= 0) {
                sum = sum_extras_ + extras_.candidate_bias * units;
            }
            finish_sum(place, sum, grads.bias_hh, gate * units, units, nothing_summed);
        }
    }

    // target[offset + i] = sum[i]
    void finish_sum(const Place& place, const Real* sum, void* target, int64_t offset, int64_t size,
                    bool nothing_summed) {
        auto* to = static_cast<Storage*>(target) + offset;
        if (!target || !sum || (static_cast<const void*>(sum) == to && !nothing_summed)) return;
        const Range mine = part_of(ceil_div(size, lanes), team_.size(), place.thread);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            const int count = static_cast<int>(smaller(lanes, size - v * lanes));
            store(to + v * lanes,
                  nothing_summed ? Vector<Real>{} : load<Real>(sum + v * lanes, count), count);
        }
    }

    const RnnBackwardArgs& args_;
    RnnSizes sizes_;
    const RnnOptions& options_;
    CellColumns columns_;
    CellOptions<Real> cell_options_;
    MaskDrawer<Real> drawer_;
    bool peephole_;
    Cells cells_;
    Team team_;
    int first_recurrent_;  // column of grad_gates where the recurrent product's begin
    int64_t width_;        // of grad_gates
    int segments_;
    Segment segment_[4];
    Extras extras_;
    int64_t chunk_rows_;
    bool given_product_;  // the input is the product with weight_ih
    size_t workspace_;
    Barrier* barriers_;          // [1 + row_groups]; the first is everybody's
    Real* weight_hh_;            // panels of [recurrent columns * hidden_size, vectors, lanes]
    Real* weight_candidate_;     // the same of gru_reset_before's third gate
    Real* weight_hr_;            // panels of [proj_size, vectors, lanes]
    Real* weight_ih_;            // panels of [gates * hidden_size, vectors, lanes]
    Real* grad_cell_;            // [batch, cell_stride_]
    Real* grad_direct_;          // [batch, hidden_stride_]: see has_direct
    Real* waiting_;              // [batch, cell_stride_]: dL/dh~, layer_norm
    GradientSums<Real>* sums_;   // per row group [rows, 3, vectors of units], layer_norm
    Chunk chunks_[2];            // one being filled, one being summed
    Real* packed_input_;         // panels of [rows, vectors, lanes]
    Real* packed_hidden_;        // the same of h[t-1] as multiplied
    Real* packed_reset_hidden_;  // the same of that times the reset gate
    Real* packed_cell_output_;   // the same of what is projected
    Real* packed_gates_;         // tiles of [rows, kTileRows], segment by segment
    Real* packed_grad_hidden_;   // the same, with a projection
    Real *sum_ih_, *sum_hh_, *sum_hr_;  // 16-bit storage only
    Real* sum_columns_;                 // of grad_gates
    Real* sum_extras_;
    Real* sum_bias_hr_;
    const Real** left_;
    Real* product_;
    RowStep* row_steps_;
    Real* masks_;  // per thread, as MaskDrawer places them
    int64_t cell_stride_, hidden_stride_, product_rows_, masks_size_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

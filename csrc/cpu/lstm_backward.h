// The LSTM backward through a sequence.
#pragma once

#include "core/cells/lstm_cell.h"
#include "core/rnn.h"
#include "cpu/gemm.h"
#include "cpu/rnn_team.h"
#include "cpu/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// In chunks of steps from the last to the first: the gradients of the pre-activations
// step by step, then one product each over the chunk for the input and for the weights.

template <class Real, class Storage>
class LstmBackward {
  public:
    static constexpr int lanes = kLanes<Real>;
    static constexpr bool kSame = sizeof(Storage) == sizeof(Real);
    using Cell = LstmCell<Math<Real>>;

    LstmBackward(const LstmBackwardArgs& args, int threads) : args_(args), sizes_(args.sizes) {
        sizes_.threads = threads;
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        gates_ = 4 * units;
        team_ = choose_team(sizes_, ceil_div(smaller(outputs, units), lanes),
                            static_cast<size_t>(gates_ * outputs) * sizeof(Real));
        // A chunk is deep enough to make good products and small enough to stay in cache. It must
        // not depend on the number of threads, or the sums over it would.
        constexpr int64_t kChunkBytes = 4 << 20;
        const int64_t fitting = kChunkBytes / (gates_ * static_cast<int64_t>(sizeof(Real)));
        chunk_rows_ = larger(sizes_.batch, smaller(larger(fitting, 128), 512));
        chunk_rows_ = smaller(chunk_rows_, sizes_.batch * sizes_.steps);

        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        barriers_ = arena.take<Barrier>(1 + team_.row_groups);
        weight_hh_ = arena.take<Real>(padded<Real>(outputs) * gates_);
        weight_hr_ = arena.take<Real>(padded<Real>(sizes_.proj_size ? units : 0) * outputs);
        weight_ih_ = arena.take<Real>(padded<Real>(sizes_.input_size) * gates_);
        cell_stride_ = padded<Real>(units);
        grad_cell_ = arena.take<Real>(sizes_.batch * cell_stride_);
        for (Chunk& chunk : chunks_) {
            chunk.grad_gates = arena.take<Real>(chunk_rows_ * gates_);
            chunk.grad_hidden = arena.take<Real>(sizes_.proj_size ? chunk_rows_ * outputs : 0);
            chunk.cell_output = arena.take<Real>(sizes_.proj_size ? chunk_rows_ * units : 0);
            chunk.input = arena.take<const Storage*>(chunk_rows_);
            chunk.hidden = arena.take<const Storage*>(chunk_rows_);
            chunk.grad_input = arena.take<Storage*>(chunk_rows_);
        }
        packed_input_ = arena.take<Real>(padded<Real>(sizes_.input_size) * chunk_rows_);
        packed_hidden_ = arena.take<Real>(padded<Real>(outputs) * chunk_rows_);
        packed_cell_output_ =
            arena.take<Real>(sizes_.proj_size ? padded<Real>(units) * chunk_rows_ : 0);
        packed_gates_ = arena.take<Real>(ceil_div(gates_, kTileRows) * kTileRows * chunk_rows_);
        packed_grad_hidden_ = arena.take<Real>(
            sizes_.proj_size ? ceil_div(outputs, kTileRows) * kTileRows * chunk_rows_ : 0);
        product_rows_ = larger(128, ceil_div(sizes_.batch, team_.row_groups));
        left_ = arena.take<const Real*>(team_.size() * product_rows_);
        product_ = arena.take<Real>(team_.size() * product_rows_ * kPanelVectors * lanes);
        row_steps_ = arena.take<RowStep>(team_.size() * product_rows_);
        // Sums over chunks are kept in the accumulating type.
        sum_ih_ = arena.take<Real>(kSame ? 0 : gates_ * sizes_.input_size);
        sum_hh_ = arena.take<Real>(kSame ? 0 : gates_ * outputs);
        sum_bias_ = arena.take<Real>(kSame ? 0 : gates_);
        sum_hr_ = arena.take<Real>(kSame ? 0 : sizes_.proj_size * units);
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
        Real* grad_gates;        // [rows, 4 * hidden_size]
        Real* grad_hidden;       // [rows, proj_size], with a projection
        Real* cell_output;       // [rows, hidden_size], with a projection
        const Storage** input;   // [rows] where x[t] is
        const Storage** hidden;  // [rows] where h[t-1] is; nullptr: zeros
        Storage** grad_input;    // [rows] where dx[t] goes
    };

    // Everything of one row and step that does not depend on the unit.
    struct RowStep {
        int64_t row;
        int64_t index;     // of (time, row, direction) in the saved arrays
        int64_t previous;  // of its step before; -1: the initial state
        int64_t item;      // in the chunk
        int64_t time;
    };

    struct Own {
        int64_t direction;
        PanelLayout<Real> recurrent;   // weight_hh as [4 * hidden_size, output_size]
        PanelLayout<Real> projection;  // weight_hr as [proj_size, hidden_size]
        Real *sum_ih, *sum_hh, *sum_bias, *sum_hr;
        const Real** left;  // [product_rows_] left-hand rows of the product under way
        Real* product;      // [product_rows_, 4, lanes] its result
        RowStep* steps;     // [product_rows_] this thread's rows of the step under way
    };

    // The gradients of one step's pre-activations, as the step before needs them.
    struct Later {
        const Real* grad_gates;
        int64_t rows;  // of the whole batch
    };

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
                later = {chunk.grad_gates + filled * gates_, rows};
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
        own.recurrent = whole<Real>(sizes_.output_size(), gates_);
        own.recurrent.vectors =
            part_of(own.recurrent.vectors.size(), team_.unit_groups, place.unit_group);
        own.projection = whole<Real>(sizes_.proj_size ? sizes_.hidden_size : 0, sizes_.proj_size);
        own.projection.vectors =
            part_of(own.projection.vectors.size(), team_.unit_groups, place.unit_group);
        own.left = left_ + place.thread * product_rows_;
        own.product = product_ + place.thread * product_rows_ * kPanelVectors * lanes;
        own.steps = row_steps_ + place.thread * product_rows_;
        const LstmWeightGradients& grads = args_.grad_weights[direction];
        if constexpr (kSame) {
            own.sum_ih = static_cast<Real*>(grads.weight_ih);
            own.sum_hh = static_cast<Real*>(grads.weight_hh);
            own.sum_bias = static_cast<Real*>(grads.bias);
            own.sum_hr = static_cast<Real*>(grads.weight_hr);
        } else {
            own.sum_ih = grads.weight_ih ? sum_ih_ : nullptr;
            own.sum_hh = grads.weight_hh ? sum_hh_ : nullptr;
            own.sum_bias = grads.bias ? sum_bias_ : nullptr;
            own.sum_hr = grads.weight_hr ? sum_hr_ : nullptr;
        }
        return own;
    }

    static Real* first_panel(Real* packed, const PanelLayout<Real>& layout) {
        return packed + layout.vectors.begin * lanes * layout.depth;
    }

    void pack_weights(const Place& place, const Own& own) {
        const LstmWeights& weights = args_.weights[own.direction];
        const auto* weight_hh = static_cast<const Storage*>(weights.weight_hh);
        const auto* weight_hr = static_cast<const Storage*>(weights.weight_hr);
        const auto* weight_ih = static_cast<const Storage*>(weights.weight_ih);
        // Threads with the same units, one in each row group, share the packing by depth.
        const auto pack = [](const PanelLayout<Real>& layout, Range depth, Real* packed,
                             const Storage* from, int64_t stride) {
            pack_rows(layout, depth, packed, [&](int64_t k) { return from + k * stride; });
        };
        const int64_t groups = team_.row_groups, group = place.row_group;
        pack(own.recurrent, part_of(gates_, groups, group), first_panel(weight_hh_, own.recurrent),
             weight_hh, sizes_.output_size());
        if (sizes_.proj_size) {
            pack(own.projection, part_of(sizes_.proj_size, groups, group),
                 first_panel(weight_hr_, own.projection), weight_hr, sizes_.hidden_size);
        }
        if (args_.grad_input) {
            pack(whole<Real>(sizes_.input_size, gates_),
                 part_of(gates_, team_.size(), place.thread), weight_ih_, weight_ih,
                 sizes_.input_size);
        }
    }

    // Vectors of hidden units whose cells this thread runs.
    Range own_units(const Own& own) const {
        return sizes_.proj_size ? own.projection.vectors : own.recurrent.vectors;
    }

    void start_state(const Place& place, const Own& own) {
        const auto* grad_cell_n = static_cast<const Storage*>(args_.grad_cell_n);
        const int64_t units = sizes_.hidden_size;
        const Range vectors = own_units(own);
        for (int64_t j = 0; j < place.rows(); ++j) {
            const int64_t row = place.row(j), from = own.direction * sizes_.batch + row;
            for (int64_t v = vectors.begin; v < vectors.end; ++v) {
                const int count = static_cast<int>(smaller(lanes, units - v * lanes));
                store(grad_cell_ + row * cell_stride_ + v * lanes,
                      grad_cell_n ? load<Real>(grad_cell_n + from * units + v * lanes, count)
                                  : Vector<Real>{});
            }
        }
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
        return at;
    }

    // One step of the first `rows` positions; its rows go to the chunk from `filled` on.
    void run_step(const Place& place, const Own& own, Chunk& chunk, int64_t step, int64_t rows,
                  int64_t filled, const Later& later) {
        const int64_t active = place.rows_of_first(rows);
        const int64_t continued = place.rows_of_first(later.rows);
        for (int64_t j = 0; j < active; ++j) own.steps[j] = row_step(place, own, step, j, filled);
        for (int64_t p = 0; p < own.recurrent.panels(); ++p) {
            const Range vectors = own.recurrent.panel(p);
            const int64_t stride = vectors.size() * lanes;
            multiply_recurrent(place, own, p, later, continued);
            // Rows whose last step this is.
            for (int64_t j = continued; j < active; ++j) {
                for (int64_t v = 0; v < vectors.size(); ++v) {
                    store(own.product + j * stride + v * lanes,
                          load_state(args_.grad_hidden_n, own, place.row(j), vectors.begin + v));
                }
            }
            for (int64_t j = 0; j < active; ++j) {
                take_grad_hidden(own, chunk, vectors, own.product + j * stride, own.steps[j]);
            }
        }
        if (place.unit_group == 0) list_rows(own, chunk, active);
        barriers_[1 + place.row_group].wait();
        if (sizes_.proj_size) {
            unproject(own, chunk, active);
            barriers_[1 + place.row_group].wait();
        }
    }

    // own.product [count, panel p] = dgates of the step after, times weight_hh.
    void multiply_recurrent(const Place& place, const Own& own, int64_t p, const Later& later,
                            int64_t count) {
        if (p == 0) {
            for (int64_t j = 0; j < count; ++j) {
                own.left[j] = later.grad_gates + place.position(j) * gates_;
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

    // dL/dh[t] of some vectors of one row, less what comes through output[t], which is added here.
    void take_grad_hidden(const Own& own, Chunk& chunk, Range vectors, const Real* grad_hidden,
                          const RowStep& at) {
        const int64_t outputs = sizes_.output_size();
        const Storage* grad_output =
            args_.grad_output.data
                ? row_at<Storage>(args_.grad_output, at.time, at.row) + own.direction * outputs
                : nullptr;
        const int64_t next_grad_output =
            at.previous < 0 ? 0 : args_.grad_output.step_stride * (at.previous < at.index ? -1 : 1);
        for (int64_t v = vectors.begin; v < vectors.end; ++v, grad_hidden += lanes) {
            with_count<Real>(outputs - v * lanes, [&](auto count) {
                Vector<Real> grad = load(grad_hidden);
                if (grad_output) {
                    grad += load<Real>(grad_output + v * lanes, count);
                    __builtin_prefetch(grad_output + v * lanes + next_grad_output, 0, 2);
                }
                if (sizes_.proj_size) {
                    store(chunk.grad_hidden + at.item * outputs + v * lanes, grad, count);
                } else {
                    run_cell(chunk, own, at, v, grad, count);
                }
            });
        }
    }

    template <class Count>
    SEQFAST_INLINE void run_cell(Chunk& chunk, const Own& own, const RowStep& at, int64_t vector,
                                 Vector<Real> grad_hidden, Count count) {
        const int64_t units = sizes_.hidden_size, unit = vector * lanes;
        const Storage* saved = static_cast<const Storage*>(args_.gates) + at.index * gates_ + unit;
        const typename Cell::Gates gates{load<Real>(saved, count), load<Real>(saved + units, count),
                                         load<Real>(saved + 2 * units, count),
                                         load<Real>(saved + 3 * units, count)};
        const Real* cells = static_cast<const Real*>(args_.cells) + unit;
        const Vector<Real> cell = load<Real>(cells + at.index * units, count);
        Vector<Real> previous{};
        if (at.previous >= 0) {
            previous = load<Real>(cells + at.previous * units, count);
            // Time runs backward here, which no hardware prefetcher foresees.
            const Storage* next = saved + (at.previous - at.index) * gates_;
            for (int64_t gate = 0; gate < 4; ++gate) {
                __builtin_prefetch(next + gate * units, 0, 2);
            }
            __builtin_prefetch(cells + larger(2 * at.previous - at.index, 0) * units, 0, 2);
        } else if (args_.cell) {
            previous = load<Real>(static_cast<const Storage*>(args_.cell) +
                                      (own.direction * sizes_.batch + at.row) * units + unit,
                                  count);
        }
        Real* carried = grad_cell_ + at.row * cell_stride_ + unit;
        Vector<Real> grad_cell = load(carried);
        if (args_.grad_cells) {
            grad_cell += load<Real>(
                static_cast<const Real*>(args_.grad_cells) + at.index * units + unit, count);
        }
        Vector<Real> cell_output;
        const typename Cell::Gates grad =
            Cell::backward(gates, cell, previous, grad_hidden, grad_cell, cell_output);
        store(carried, grad_cell);
        Real* to = chunk.grad_gates + at.item * gates_ + unit;
        store(to, grad.i, count);
        store(to + units, grad.f, count);
        store(to + 2 * units, grad.g, count);
        store(to + 3 * units, grad.o, count);
        if (sizes_.proj_size) {
            store(chunk.cell_output + at.item * units + unit, cell_output, count);
        }
    }

    // Back through the projection: dL/d(o tanh(c)) = dL/dh W_hr, then the cells.
    void unproject(const Own& own, Chunk& chunk, int64_t active) {
        const PanelLayout<Real>& layout = own.projection;
        for (int64_t j = 0; j < active; ++j) {
            own.left[j] = chunk.grad_hidden + own.steps[j].item * layout.depth;
        }
        for (int64_t p = 0; p < layout.panels(); ++p) {
            const Range vectors = layout.panel(p);
            multiply_rows(own, layout, first_panel(weight_hr_, layout), p, active);
            for (int64_t j = 0; j < active; ++j) {
                for (int64_t v = vectors.begin; v < vectors.end; ++v) {
                    const Real* grad =
                        own.product + (j * vectors.size() + v - vectors.begin) * lanes;
                    with_count<Real>(sizes_.hidden_size - v * lanes, [&](auto count) {
                        run_cell(chunk, own, own.steps[j], v, load(grad), count);
                    });
                }
            }
        }
    }

    // Where the chunk's products find their operands.
    void list_rows(const Own& own, Chunk& chunk, int64_t active) {
        const int64_t outputs = sizes_.output_size();
        const auto* hidden = static_cast<const Storage*>(args_.hidden);
        for (int64_t j = 0; j < active; ++j) {
            const RowStep& at = own.steps[j];
            chunk.input[at.item] = row_at<Storage>(args_.input, at.time, at.row);
            if (at.previous >= 0) {
                chunk.hidden[at.item] =
                    static_cast<const Storage*>(args_.output) + at.previous * outputs;
            } else {
                chunk.hidden[at.item] =
                    hidden ? hidden + (own.direction * sizes_.batch + at.row) * outputs : nullptr;
            }
            if (args_.grad_input) {
                chunk.grad_input[at.item] = static_cast<Storage*>(args_.grad_input) +
                                            (at.time * sizes_.batch + at.row) * sizes_.input_size;
            }
        }
    }

    // ---- products over a chunk ----

    void sum_chunk(const Place& place, const Own& own, const Chunk& chunk, int64_t rows,
                   bool first) {
        if (own.sum_ih || own.sum_hh || own.sum_bias || own.sum_hr) {
            pack_chunk(place, own, chunk, rows, first);
            barriers_[0].wait();
            if (own.sum_ih) {
                outer_product(place, packed_gates_, gates_, packed_input_, sizes_.input_size, rows,
                              own.sum_ih, first);
            }
            if (own.sum_hh) {
                outer_product(place, packed_gates_, gates_, packed_hidden_, sizes_.output_size(),
                              rows, own.sum_hh, first);
            }
            if (own.sum_hr) {
                outer_product(place, packed_grad_hidden_, sizes_.proj_size, packed_cell_output_,
                              sizes_.hidden_size, rows, own.sum_hr, first);
            }
        }
        if (args_.grad_input) multiply_input(place, own, chunk, rows);
    }

    Range own_tiles(const Place& place, int64_t columns) const {
        return part_of(ceil_div(columns, kTileRows), team_.size(), place.thread);
    }

    void pack_chunk(const Place& place, const Own& own, const Chunk& chunk, int64_t rows,
                    bool first) {
        const Range depth = part_of(rows, team_.size(), place.thread);
        const auto pack = [&](int64_t columns, Real* packed, auto&& row) {
            pack_rows(whole<Real>(columns, rows), depth, packed, row);
        };
        if (own.sum_ih) {
            pack(sizes_.input_size, packed_input_, [&](int64_t k) { return chunk.input[k]; });
        }
        if (own.sum_hh) {
            pack(sizes_.output_size(), packed_hidden_, [&](int64_t k) { return chunk.hidden[k]; });
        }
        const auto pack_left = [&](int64_t columns, const Real* from, Real* packed, Real* sums) {
            pack_columns(packed, from, columns, rows, own_tiles(place, columns), sums, first);
        };
        if (own.sum_ih || own.sum_hh || own.sum_bias) {
            pack_left(gates_, chunk.grad_gates, packed_gates_, own.sum_bias);
        }
        if (own.sum_hr) {
            pack_left(sizes_.proj_size, chunk.grad_hidden, packed_grad_hidden_, nullptr);
            pack(sizes_.hidden_size, packed_cell_output_,
                 [&](int64_t k) { return chunk.cell_output + k * sizes_.hidden_size; });
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
        const PanelLayout<Real> layout = whole<Real>(sizes_.input_size, gates_);
        const Range mine = part_of(rows, team_.size(), place.thread);
        for (int64_t begin = mine.begin; begin < mine.end; begin += product_rows_) {
            const int64_t count = smaller(product_rows_, mine.end - begin);
            for (int64_t i = 0; i < count; ++i) {
                own.left[i] = chunk.grad_gates + (begin + i) * gates_;
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

    // ---- the ends ----

    void finish_state(const Place& place, const Own& own, const Later& later) {
        const int64_t outputs = sizes_.output_size(), units = sizes_.hidden_size;
        auto* grad_hidden = static_cast<Storage*>(args_.grad_hidden);
        auto* grad_cell = static_cast<Storage*>(args_.grad_cell);
        const int64_t continued = place.rows_of_first(later.rows);
        const auto write = [&](int64_t j, int64_t v, Vector<Real> x) {
            store(grad_hidden + (own.direction * sizes_.batch + place.row(j)) * outputs + v * lanes,
                  x, static_cast<int>(smaller(lanes, outputs - v * lanes)));
        };
        for (int64_t p = 0; grad_hidden && p < own.recurrent.panels(); ++p) {
            const Range vectors = own.recurrent.panel(p);
            multiply_recurrent(place, own, p, later, continued);
            for (int64_t j = 0; j < continued; ++j) {
                for (int64_t v = 0; v < vectors.size(); ++v) {
                    write(j, vectors.begin + v,
                          load(own.product + (j * vectors.size() + v) * lanes));
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
                      load(grad_cell_ + row * cell_stride_ + v * lanes),
                      static_cast<int>(smaller(lanes, units - v * lanes)));
            }
        }
    }

    // Sums to the user's type; zeros where no row had a step.
    void finish_weights(const Place& place, const Own& own, bool nothing_summed) {
        const LstmWeightGradients& grads = args_.grad_weights[own.direction];
        const int64_t size_hr = sizes_.proj_size * sizes_.hidden_size;
        if (!kSame) barriers_[0].wait();
        finish_sum(place, own.sum_ih, grads.weight_ih, gates_ * sizes_.input_size, nothing_summed);
        finish_sum(place, own.sum_hh, grads.weight_hh, gates_ * sizes_.output_size(),
                   nothing_summed);
        finish_sum(place, own.sum_bias, grads.bias, gates_, nothing_summed);
        finish_sum(place, own.sum_hr, grads.weight_hr, size_hr, nothing_summed);
    }

    void finish_sum(const Place& place, const Real* sum, void* target, int64_t size,
                    bool nothing_summed) {
        if (!sum || (kSame && !nothing_summed)) return;
        const Range mine = part_of(ceil_div(size, lanes), team_.size(), place.thread);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            const int count = static_cast<int>(smaller(lanes, size - v * lanes));
            store(static_cast<Storage*>(target) + v * lanes,
                  nothing_summed ? Vector<Real>{} : load<Real>(sum + v * lanes, count), count);
        }
    }

    const LstmBackwardArgs& args_;
    RnnSizes sizes_;
    Team team_;
    int64_t gates_;  // 4 * hidden_size
    int64_t chunk_rows_;
    size_t workspace_;
    Barrier* barriers_;                             // [1 + row_groups]; the first is everybody's
    Real* weight_hh_;                               // panels of [4 * hidden_size, vectors, lanes]
    Real* weight_hr_;                               // panels of [proj_size, vectors, lanes]
    Real* weight_ih_;                               // panels of [4 * hidden_size, vectors, lanes]
    Real* grad_cell_;                               // [batch, cell_stride_]
    Chunk chunks_[2];                               // one being filled, one being summed
    Real* packed_input_;                            // panels of [rows, vectors, lanes]
    Real* packed_hidden_;                           // the same of h[t-1]
    Real* packed_cell_output_;                      // the same of o tanh(c), with a projection
    Real* packed_gates_;                            // tiles of [rows, kTileRows]
    Real* packed_grad_hidden_;                      // the same, with a projection
    Real *sum_ih_, *sum_hh_, *sum_bias_, *sum_hr_;  // 16-bit storage only
    const Real** left_;
    Real* product_;
    RowStep* row_steps_;
    int64_t cell_stride_, product_rows_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

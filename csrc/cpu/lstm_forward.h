// The LSTM forward over a sequence.
#pragma once

#include "core/cells/lstm_cell.h"
#include "core/rnn.h"
#include "cpu/gemm.h"
#include "cpu/rnn_team.h"
#include "cpu/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// In chunks of steps: pre-activations of all gates from the input (one product for the
// chunk, kept in cache), then step by step the recurrent product on top and the cell.

template <class Real, class Storage>
class LstmForward {
  public:
    static constexpr int lanes = kLanes<Real>;
    static constexpr int64_t width = 4 * lanes;  // one block: `lanes` units, all four gates
    using Cell = LstmCell<Math<Real>>;

    LstmForward(const LstmForwardArgs& args, int threads) : args_(args), sizes_(args.sizes) {
        sizes_.threads = threads;
        blocks_ = ceil_div(sizes_.hidden_size, lanes);
        team_ =
            choose_team(sizes_, blocks_,
                        static_cast<size_t>(blocks_ * width * sizes_.output_size()) * sizeof(Real));
        const int64_t own_units = ceil_div(blocks_, team_.unit_groups) * lanes;
        const int64_t most_rows = ceil_div(sizes_.batch, team_.row_groups);
        // Pre-activations of a chunk stay in the second-level cache.
        constexpr int64_t kChunkBytes = 384 << 10;
        const int64_t fitting = kChunkBytes / (4 * own_units * static_cast<int64_t>(sizeof(Real)));
        chunk_rows_ = larger(most_rows, smaller(larger(fitting, 64), 1024));
        chunk_rows_ = smaller(chunk_rows_, most_rows * sizes_.steps);

        // Packing a weight costs as much as multiplying some tens of rows with it.
        direct_ = sizes_.steps * sizes_.batch <= 32;
        paired_ = kPairs<Storage> && !direct_ && sizes_.input_size % 2 == 0 &&
                  sizes_.output_size() % 2 == 0;

        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        const int64_t output_size = sizes_.output_size();
        barriers_ = arena.take<Barrier>(1 + team_.row_groups);
        weight_ih_ = arena.take<Real>(direct_ ? 0 : blocks_ * width * sizes_.input_size);
        weight_hh_ = arena.take<Real>(direct_ ? 0 : blocks_ * width * output_size);
        weight_hr_ = arena.take<Real>(padded<Real>(sizes_.proj_size) * sizes_.hidden_size);
        bias_ = arena.take<Real>(blocks_ * width);
        hidden_stride_ = padded<Real>(output_size);
        hidden_[0] = arena.take<Real>(sizes_.batch * hidden_stride_);
        hidden_[1] = arena.take<Real>(sizes_.batch * hidden_stride_);
        cell_stride_ = blocks_ * lanes;
        cell_ = arena.take<Real>(sizes_.batch * cell_stride_);
        cell_output_ = arena.take<Real>(sizes_.proj_size ? sizes_.batch * cell_stride_ : 0);
        const int64_t per_thread = chunk_rows_ * 4 * own_units;
        preactivations_ = arena.take<Real>(team_.size() * per_thread);
        preactivations_size_ = per_thread;
        rows_ = arena.take<const Real*>(team_.size() * chunk_rows_);
        // 16-bit inputs are widened, a chunk at a time.
        widened_ = arena.take<Real>(
            sizeof(Storage) == sizeof(Real) ? 0 : team_.size() * chunk_rows_ * sizes_.input_size);
        row_tables_ = arena.take<const Real*>(team_.size() * 3 * most_rows);
        projected_ = arena.take<Real>(sizes_.proj_size ? team_.size() * most_rows * width : 0);
        workspace_ = arena.used;
    }

    size_t workspace() const { return workspace_; }

    bool run() {
        return run_directions(
            sizes_, team_, args_.order, barriers_,
            [this](const Place& place, int64_t direction) { run_direction(place, direction); });
    }

  private:
    // One direction as one thread sees it.
    struct Own {
        int64_t direction;
        Range blocks;
        PanelLayout<Real> projection;
        Real* preactivations;
        const Real** rows;
        Real* widened;
        const Real** hidden_rows[2];
        const Real** cell_output_rows;
        Real* projected;
    };

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
        own.cell_output_rows = table + 2 * most_rows;
        own.projected = projected_ + place.thread * most_rows * width;
        own.widened = widened_ + place.thread * chunk_rows_ * sizes_.input_size;

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

    void multiply(const Product<Real>& product, int64_t count) {
        if constexpr (kPairs<Storage>) {
            if (paired_) return multiply_panel<Real, true>(product, count, kPanelVectors);
        }
        multiply_panel(product, count, kPanelVectors);
    }

    // One gate of one block; `weight` points at its first unit's row.
    void pack_gate(Real* packed, int64_t block, int64_t gate, const Storage* weight, int64_t size,
                   int count) {
        Real* to = packed + block * width * depth_of(size) + gate * lanes;
        if (paired_) {
            pack_transposed_vector(to, width, reinterpret_cast<const Real*>(weight), size / 2,
                                   count);
        } else {
            pack_transposed_vector(to, width, weight, size, count);
        }
    }

    // The state the next step multiplies with: as the product reads it, rounded to Storage.
    void store_hidden(int parity, int64_t row, int64_t unit, Vector<Real> h, int count) {
        Real* to = hidden_[parity] + row * hidden_stride_;
        if (paired_) {
            store(reinterpret_cast<Storage*>(to) + unit, h, count);
        } else {
            store(to + unit, h);
        }
    }

    Vector<Real> load_hidden(int parity, int64_t row, int64_t unit, int count) const {
        const Real* from = hidden_[parity] + row * hidden_stride_;
        return paired_ ? load<Real>(reinterpret_cast<const Storage*>(from) + unit, count)
                       : load(from + unit);
    }

    void pack_weights(const Place& place, const Own& own) {
        const LstmWeights& weights = args_.weights[own.direction];
        const int64_t units = sizes_.hidden_size;
        const auto* weight_ih = static_cast<const Storage*>(weights.weight_ih);
        const auto* weight_hh = static_cast<const Storage*>(weights.weight_hh);
        const auto* bias_ih = static_cast<const Storage*>(weights.bias_ih);
        const auto* bias_hh = static_cast<const Storage*>(weights.bias_hh);
        // The threads that share these units share the packing, but for the small projection.
        const Range part = part_of(own.blocks.size(), team_.row_groups, place.row_group);
        for (int64_t b = own.blocks.begin + part.begin; b < own.blocks.begin + part.end; ++b) {
            const int count = static_cast<int>(smaller(lanes, units - b * lanes));
            for (int64_t gate = 0; gate < 4; ++gate) {
                const int64_t first = gate * units + b * lanes;
                Vector<Real> bias{};
                if (bias_ih) bias += load<Real>(bias_ih + first, count);
                if (bias_hh) bias += load<Real>(bias_hh + first, count);
                store(bias_ + b * width + gate * lanes, bias);
                if (direct_) continue;
                pack_gate(weight_ih_, b, gate, weight_ih + first * sizes_.input_size,
                          sizes_.input_size, count);
                pack_gate(weight_hh_, b, gate, weight_hh + first * sizes_.output_size(),
                          sizes_.output_size(), count);
            }
        }
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

    // Columns of the hidden state this thread writes.
    Range hidden_columns(const Own& own) const {
        const Range& vectors = sizes_.proj_size ? own.projection.vectors : own.blocks;
        return {vectors.begin * lanes, vectors.end * lanes};
    }

    void start_state(const Place& place, const Own& own) {
        for (int64_t j = 0; j < place.rows(); ++j) {
            own.hidden_rows[0][j] = hidden_[0] + place.row(j) * hidden_stride_;
            own.hidden_rows[1][j] = hidden_[1] + place.row(j) * hidden_stride_;
            own.cell_output_rows[j] = cell_output_ + place.row(j) * cell_stride_;
        }
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        const auto* hidden = static_cast<const Storage*>(args_.hidden);
        const auto* cell = static_cast<const Storage*>(args_.cell);
        const Range columns = hidden_columns(own);
        for (int64_t j = 0; j < place.rows(); ++j) {
            const int64_t row = place.row(j), from = own.direction * sizes_.batch + row;
            for (int64_t u = columns.begin; u < columns.end; u += lanes) {
                const int count = static_cast<int>(smaller(lanes, outputs - u));
                store_hidden(
                    0, row, u,
                    hidden ? load<Real>(hidden + from * outputs + u, count) : Vector<Real>{},
                    count);
            }
            for (int64_t u = own.blocks.begin * lanes; u < own.blocks.end * lanes; u += lanes) {
                const int count = static_cast<int>(smaller(lanes, units - u));
                store(cell_ + row * cell_stride_ + u,
                      cell ? load<Real>(cell + from * units + u, count) : Vector<Real>{});
            }
        }
    }

    void finish_state(const Place& place, const Own& own) {
        const int64_t units = sizes_.hidden_size, outputs = sizes_.output_size();
        auto* hidden_n = static_cast<Storage*>(args_.hidden_n);
        auto* cell_n = static_cast<Storage*>(args_.cell_n);
        const Range columns = hidden_columns(own);
        for (int64_t j = 0; j < place.rows(); ++j) {
            const int64_t row = place.row(j), to = own.direction * sizes_.batch + row;
            for (int64_t u = columns.begin; u < columns.end; u += lanes) {
                const int count = static_cast<int>(smaller(lanes, outputs - u));
                store(hidden_n + to * outputs + u, load_hidden(place.steps(j) & 1, row, u, count),
                      count);
            }
            for (int64_t u = own.blocks.begin * lanes; u < own.blocks.end * lanes; u += lanes) {
                store(cell_n + to * units + u, load(cell_ + row * cell_stride_ + u),
                      static_cast<int>(smaller(lanes, units - u)));
            }
        }
    }

    const Real* input_row(const Place& place, const Own& own, int64_t j, int64_t step,
                          int64_t index) {
        const Storage* from =
            row_at<Storage>(args_.input, place.time(j, step, own.direction), place.row(j));
        if constexpr (sizeof(Storage) == sizeof(Real)) {
            return from;
        } else {
            if (paired_) return reinterpret_cast<const Real*>(from);
            Real* to = own.widened + index * sizes_.input_size;
            for (int64_t i = 0; i < sizes_.input_size; i += lanes) {
                const int count = static_cast<int>(smaller(lanes, sizes_.input_size - i));
                store(to + i, load<Real>(from + i, count), count);
            }
            return to;
        }
    }

    Real* preactivation(const Own& own, int64_t block, int64_t row) const {
        return own.preactivations + ((block - own.blocks.begin) * chunk_rows_ + row) * width;
    }

    // The pre-activations' share from the input, biases included, for all rows of a chunk.
    void multiply_input(const Own& own, int64_t rows) {
        if (direct_) {
            for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
                for (int64_t row = 0; row < rows; ++row) {
                    for (int64_t gate = 0; gate < 4; ++gate) {
                        store(preactivation(own, b, row) + gate * lanes,
                              load(bias_ + b * width + gate * lanes));
                    }
                }
                multiply_unpacked(own, b, own.rows, args_.weights[own.direction].weight_ih,
                                  sizes_.input_size, 0, rows);
            }
            return;
        }
        Product<Real> product{};
        product.left = own.rows;
        product.depth = depth_of(sizes_.input_size);
        product.target_stride = width;
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            product.panel = weight_ih_ + b * width * product.depth;
            product.start = bias_ + b * width;
            product.target = preactivation(own, b, 0);
            multiply(product, rows);
        }
    }

    // Pre-activations of one block += left times the weights as the user keeps them.
    void multiply_unpacked(const Own& own, int64_t block, const Real* const* left,
                           const void* weight, int64_t depth, int64_t first, int64_t count) {
        const int64_t units = sizes_.hidden_size, end = smaller((block + 1) * lanes, units);
        DirectProduct<Real, Storage> product{};
        product.left = left;
        product.weight_stride = units * depth;
        product.depth = depth;
        product.target_stride = width;
        product.target_lane_stride = lanes;
        for (int64_t unit = block * lanes; unit < end; ++unit) {
            product.weight = static_cast<const Storage*>(weight) + unit * depth;
            product.target = preactivation(own, block, first) + unit - block * lanes;
            multiply_direct(product, count);
        }
    }

    // One step of `active` rows, whose pre-activations start at row `first` of the chunk.
    void run_step(const Place& place, const Own& own, int64_t step, int64_t active, int64_t first) {
        Product<Real> product{};
        product.left = own.hidden_rows[step & 1];
        product.depth = depth_of(sizes_.output_size());
        product.start_stride = width;
        product.target_stride = width;
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            if (direct_) {
                multiply_unpacked(own, b, product.left, args_.weights[own.direction].weight_hh,
                                  product.depth, first, active);
            } else {
                product.panel = weight_hh_ + b * width * product.depth;
                product.target = preactivation(own, b, first);
                product.start = product.target;
                multiply(product, active);
            }
            with_count<Real>(sizes_.hidden_size - b * lanes, [&](auto count) {
                run_cells(place, own, step, b, active, first, count);
            });
        }
        barriers_[1 + place.row_group].wait();
        if (sizes_.proj_size) {
            project(place, own, step, active);
            barriers_[1 + place.row_group].wait();
        }
    }

    // The cells of one block's units.
    template <class Count>
    void run_cells(const Place& place, const Own& own, int64_t step, int64_t block, int64_t active,
                   int64_t first, Count count) {
        const int64_t units = sizes_.hidden_size, unit = block * lanes;
        for (int64_t j = 0; j < active; ++j) {
            const int64_t row = place.row(j), index = row_index(place, own, step, j);
            const Real* from = preactivation(own, block, first + j);
            typename Cell::Gates gates{load(from), load(from + lanes), load(from + 2 * lanes),
                                       load(from + 3 * lanes)};
            Real* cell = cell_ + row * cell_stride_ + unit;
            Vector<Real> c = load(cell);
            Vector<Real> h = Cell::forward(gates, c);
            store(cell, c);
            if (sizes_.proj_size) {
                store(cell_output_ + row * cell_stride_ + unit, h);
            } else {
                write_hidden(index, step, row, unit, h, count);
            }
            if (args_.cells) {
                store(static_cast<Real*>(args_.cells) + index * units + unit, c, count);
            }
            if (args_.gates) {
                Storage* to = static_cast<Storage*>(args_.gates) + index * 4 * units + unit;
                store(to, gates.i, count);
                store(to + units, gates.f, count);
                store(to + 2 * units, gates.g, count);
                store(to + 3 * units, gates.o, count);
            }
        }
    }

    // h = W_hr (o tanh(c)), this thread's columns.
    void project(const Place& place, const Own& own, int64_t step, int64_t active) {
        const PanelLayout<Real>& layout = own.projection;
        Product<Real> product{};
        product.left = own.cell_output_rows;
        product.depth = layout.depth;
        product.target = own.projected;
        for (int64_t p = 0; p < layout.panels(); ++p) {
            const Range vectors = layout.panel(p);
            product.panel = projection_panel(own, p);
            product.target_stride = vectors.size() * lanes;
            multiply_panel(product, active, vectors.size());
            for (int64_t j = 0; j < active; ++j) {
                const int64_t row = place.row(j), index = row_index(place, own, step, j);
                const Real* h = own.projected + j * product.target_stride;
                for (int64_t v = vectors.begin; v < vectors.end; ++v, h += lanes) {
                    write_hidden(index, step, row, v * lanes, load(h), layout.lanes_of(v));
                }
            }
        }
    }

    // Of (time, row, direction) in the saved arrays.
    int64_t row_index(const Place& place, const Own& own, int64_t step, int64_t j) const {
        const int64_t time = place.time(j, step, own.direction);
        return (time * sizes_.batch + place.row(j)) * sizes_.directions + own.direction;
    }

    // h[t] to the user and, as the user sees it, rounded, to the next step.
    template <class Count>
    SEQFAST_INLINE void write_hidden(int64_t index, int64_t step, int64_t row, int64_t unit,
                                     Vector<Real> h, Count count) {
        Storage* output = static_cast<Storage*>(args_.output) + index * sizes_.output_size() + unit;
        store(output, h, count);
        if constexpr (sizeof(Storage) != sizeof(Real)) h = load<Real>(output, count);
        store_hidden((step + 1) & 1, row, unit, h, count);
    }

    const LstmForwardArgs& args_;
    RnnSizes sizes_;
    Team team_;
    int64_t blocks_;
    int64_t chunk_rows_;
    bool paired_;  // multiply pairs of bfloat16
    bool direct_;  // multiply with the weights as they are, unpacked
    size_t workspace_;
    Barrier* barriers_;     // [1 + row_groups]; the first is everybody's
    Real* weight_ih_;       // [blocks, input_size, 4, lanes]
    Real* weight_hh_;       // [blocks, output_size, 4, lanes]
    Real* weight_hr_;       // panels of [hidden_size, vectors, lanes]
    Real* bias_;            // [blocks, 4, lanes]
    Real* hidden_[2];       // [batch, hidden_stride_], even and odd steps
    Real* cell_;            // [batch, cell_stride_]
    Real* cell_output_;     // [batch, cell_stride_], with a projection
    Real* preactivations_;  // per thread [own blocks, chunk_rows_, 4, lanes]
    const Real** rows_;     // per thread [chunk_rows_]
    const Real**
        row_tables_;   // per thread [3, rows]: hidden states of even and odd steps, o tanh(c)
    Real* projected_;  // per thread [rows, 4, lanes], with a projection
    Real* widened_;    // per thread [chunk_rows_, input_size], 16-bit storage only
    int64_t hidden_stride_, cell_stride_, preactivations_size_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

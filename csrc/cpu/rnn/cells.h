// What both passes need around a cell: its options, its masks, its layer normalisation.
#pragma once

#include "core/cells/gru_cell.h"
#include "core/cells/lstm_cell.h"
#include "core/cells/rnn_cell.h"
#include "cpu/base/random.h"
#include "cpu/rnn/team.h"

namespace seqfast::cpu::SEQFAST_ISA {

// How a cell's columns lie in a product's result: `columns` of them, the input's product from the
// first on, the recurrent product from `first_recurrent` on. Of gru n comes first, so that both
// products have their gates side by side: n as the input sees it, r, z, n as the state sees it.
struct CellColumns {
    int gates, columns, first_recurrent, recurrent;

    static CellColumns of(CellKind cell) {
        const int gates = gates_of(cell);
        if (cell == CellKind::gru) return {gates, 4, 1, 3};
        // The product of r * h with the candidate's weights is one of its own.
        if (cell == CellKind::gru_reset_before) return {gates, 3, 0, 2};
        return {gates, gates, 0, gates};
    }
    bool apart() const { return first_recurrent > 0; }
    // Which rows of the weights a column holds.
    int input_gate(int column) const { return apart() ? (column + 2) % 3 : column; }
    int recurrent_gate(int column) const { return column - first_recurrent; }
};

template <class Real, class Storage>
CellOptions<Real> cell_options(const RnnOptions& options, bool peephole) {
    CellOptions<Real> result;
    result.activation = options.activation;
    result.peephole = peephole;
    result.coupled = options.coupled;
    result.zoneout_cell = options.zoneout_cell > 0;
    result.update_dropout = options.seed && options.dropout_update > 0;
    result.gate_clip = static_cast<Real>(options.gate_clip);
    result.cell_clip = static_cast<Real>(options.cell_clip);
    // Two copies of a function may round differently: the bounds lie a few roundings further in.
    constexpr Real kRoundings = sizeof(Real) == 8 ? Real(0x1p-50) : Real(0x1p-21);
    const auto saved = [](Vector<Real> x, Real factor) {
        Storage stored[kLanes<Real>];
        store(stored, x * factor, kLanes<Real>);
        return load<Real>(stored, kLanes<Real>)[0];
    };
    const Vector<Real> clip = broadcast(result.gate_clip);
    result.sigmoid_low = saved(Math<Real>::sigmoid(-clip), 1 + kRoundings);
    result.sigmoid_high = saved(Math<Real>::sigmoid(clip), 1 - kRoundings);
    result.tanh_high = saved(Math<Real>::tanh(clip), 1 - kRoundings);
    return result;
}

// Whether a layer is more than its plain cell.
inline bool is_general(const RnnOptions& options, bool peephole, bool reset) {
    return options.cell == CellKind::lstm_three_gates || options.layer_norm || peephole || reset ||
           options.gate_clip > 0 || options.cell_clip > 0 || options.zoneout_hidden > 0 ||
           options.zoneout_cell > 0 ||
           (options.seed && (options.dropout_hidden > 0 || options.dropout_update > 0));
}

// The masks of one thread's rows: of a step, but for `hidden`, which is the sequence's. Each
// [rows, stride], nullptr where there is none.
template <class Real>
struct Masks {
    Real *hidden, *update, *zoneout_hidden, *zoneout_cell;
    Range units, outputs;                // of the cells and of the states this thread writes
    int64_t units_begin, outputs_begin;  // where a row's masks of them begin
    int64_t stride;

    SEQFAST_INLINE Vector<Real> of_unit(const Real* mask, int64_t j, int64_t unit) const {
        return load(mask + j * stride + unit - units_begin);
    }
    SEQFAST_INLINE Vector<Real> of_output(const Real* mask, int64_t j, int64_t unit) const {
        return load(mask + j * stride + unit - outputs_begin);
    }

    // Room for any part of the units, in whole groups at both ends.
    static int64_t stride_of(int64_t units) {
        return (ceil_div(units, kDrawUnits) + 1) * kDrawUnits;
    }
};

template <class Real>
class MaskDrawer {
  public:
    MaskDrawer(const RnnOptions& options, const RnnSizes& sizes)
        : options_(options),
          stride_(Masks<Real>::stride_of(larger(sizes.hidden_size, sizes.output_size()))) {}

    bool update() const { return options_.seed && options_.dropout_update > 0; }
    bool hidden() const { return options_.seed && options_.dropout_hidden > 0; }

    // Of one thread.
    int64_t room(int64_t rows) const { return rows * stride_ * kinds(); }

    Masks<Real> place(Real* room, int64_t rows, Range units, Range outputs) const {
        Masks<Real> masks{};
        masks.units = units;
        masks.outputs = outputs;
        masks.units_begin = units.begin / kDrawUnits * kDrawUnits;
        masks.outputs_begin = outputs.begin / kDrawUnits * kDrawUnits;
        masks.stride = stride_;
        const auto take = [&](bool wanted) {
            Real* at = wanted ? room : nullptr;
            if (wanted) room += rows * stride_;
            return at;
        };
        masks.hidden = take(hidden());
        masks.update = take(update());
        masks.zoneout_hidden = take(options_.zoneout_hidden > 0);
        masks.zoneout_cell = take(options_.zoneout_cell > 0);
        if (!options_.seed) {
            // Evaluation: what zoneout keeps in expectation.
            for (int64_t i = 0; i < rows * stride_; ++i) {
                if (masks.zoneout_hidden) {
                    masks.zoneout_hidden[i] = static_cast<Real>(options_.zoneout_hidden);
                }
                if (masks.zoneout_cell) {
                    masks.zoneout_cell[i] = static_cast<Real>(options_.zoneout_cell);
                }
            }
        }
        return masks;
    }

    // Row `row` at time `time`, as the j-th of the thread's.
    void draw(const Masks<Real>& masks, int64_t j, int64_t row, int64_t time,
              int64_t direction) const {
        if (!options_.seed) return;
        const int64_t at = j * masks.stride;
        if (masks.update) {
            draw_units(masks.update + at, where(Draw::update_dropout, row, time, direction),
                       masks.units, options_.dropout_update, Real(0),
                       kept_scale<Real>(options_.dropout_update));
        }
        if (masks.zoneout_hidden) {
            draw_units(masks.zoneout_hidden + at, where(Draw::zoneout_hidden, row, time, direction),
                       masks.outputs, options_.zoneout_hidden, Real(1), Real(0));
        }
        if (masks.zoneout_cell) {
            draw_units(masks.zoneout_cell + at, where(Draw::zoneout_cell, row, time, direction),
                       masks.units, options_.zoneout_cell, Real(1), Real(0));
        }
    }

    // What holds for the whole sequence.
    void draw_sequence(const Masks<Real>& masks, int64_t j, int64_t row, int64_t direction) const {
        if (!masks.hidden) return;
        draw_units(masks.hidden + j * masks.stride, where(Draw::hidden_dropout, row, 0, direction),
                   masks.outputs, options_.dropout_hidden, Real(0),
                   kept_scale<Real>(options_.dropout_hidden));
    }

  private:
    int64_t kinds() const {
        return hidden() + update() + (options_.zoneout_hidden > 0) + (options_.zoneout_cell > 0);
    }
    DrawAt where(Draw draw, int64_t row, int64_t time, int64_t direction) const {
        return {*options_.seed, static_cast<uint32_t>(row), static_cast<uint32_t>(time),
                stream_of(draw, options_.layer, static_cast<int>(direction))};
    }

    const RnnOptions& options_;
    int64_t stride_;
};

// ---- layer normalisation ----

// One where a lane is below count.
template <class Real>
SEQFAST_INLINE Vector<Real> lane_mask(int count) {
    alignas(64) Real ones[kLanes<Real>];
    for (int l = 0; l < kLanes<Real>; ++l) ones[l] = l < count ? Real(1) : Real(0);
    return load(ones);
}

// Sums over parts of a row, added up in the order of the parts: the same for any team.
template <class Real>
struct Moments {
    Real count, sum, squares;  // squares: of the distances to the mean

    // f(k): the k-th vector, of which only the lanes of `mask` count.
    template <class VectorAt>
    static SEQFAST_INLINE Moments of(int vectors, Vector<Real> mask, int lanes, VectorAt&& f) {
        Moments result;
        result.count = static_cast<Real>(vectors * lanes);
        Vector<Real> sum{};
        for (int k = 0; k < vectors; ++k) sum += f(k) * mask;
        result.sum = horizontal_sum<Real>(sum);
        const Vector<Real> mean = broadcast(result.sum / result.count);
        Vector<Real> squares{};
        for (int k = 0; k < vectors; ++k) {
            const Vector<Real> distance = (f(k) - mean) * mask;
            squares += distance * distance;
        }
        result.squares = horizontal_sum<Real>(squares);
        return result;
    }

    // T. Chan, G. Golub, R. LeVeque: Updating formulae and a pairwise algorithm for computing
    // sample variances. 1979.
    void add(const Moments& other) {
        const Real total = count + other.count;
        const Real between = other.sum / other.count - (count > 0 ? sum / count : Real(0));
        squares += other.squares + between * between * count * other.count / total;
        sum += other.sum;
        count = total;
    }
    Real mean() const { return sum / count; }
    Real rstd() const {
        const double variance = static_cast<double>(squares / count);
        return static_cast<Real>(1 / __builtin_sqrt(variance + kNormEpsilon));
    }
};

template <class Real>
Moments<Real> add_up(const Moments<Real>* parts, int64_t count, int64_t stride) {
    Moments<Real> total{0, 0, 0};
    for (int64_t i = 0; i < count; ++i) total.add(parts[i * stride]);
    return total;
}

// What the backward pass needs of a row: the sums of dx^ and of dx^ * x^ over its elements.
template <class Real>
struct GradientSums {
    Real sum, product;
};

template <class Real>
GradientSums<Real> add_up(const GradientSums<Real>* parts, int64_t count, int64_t stride) {
    GradientSums<Real> total{0, 0};
    for (int64_t i = 0; i < count; ++i) {
        total.sum += parts[i * stride].sum;
        total.product += parts[i * stride].product;
    }
    return total;
}

}  // namespace seqfast::cpu::SEQFAST_ISA

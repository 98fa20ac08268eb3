// Masks of a layer: where one thread keeps them, and how they are drawn.
#pragma once

#include "core/rnn.h"
#include "cpu/base/random.h"

namespace seqfast::cpu::SEQFAST_ISA {

// The masks of one thread's rows: of a step, but for `hidden` and `cell`, the sequence's. Each
// [rows, stride], nullptr where there is none.
template <class Real>
struct Masks {
    Real *hidden, *update, *cell, *zoneout_hidden, *zoneout_cell;
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
        masks.cell = take(options_.dropout_cell > 0);
        masks.zoneout_hidden = take(options_.zoneout_hidden > 0);
        masks.zoneout_cell = take(options_.zoneout_cell > 0);
        if (!options_.seed) {
            // Evaluation: what zoneout and the cell's dropout keep in expectation.
            for (int64_t i = 0; i < rows * stride_; ++i) {
                if (masks.cell) masks.cell[i] = static_cast<Real>(1 - options_.dropout_cell);
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
        const int64_t at = j * masks.stride;
        if (masks.hidden) {
            draw_units(masks.hidden + at, where(Draw::hidden_dropout, row, 0, direction),
                       masks.outputs, options_.dropout_hidden, Real(0),
                       kept_scale<Real>(options_.dropout_hidden));
        }
        if (masks.cell && options_.seed) {
            draw_units(masks.cell + at, where(Draw::hidden_dropout, row, 0, direction), masks.units,
                       options_.dropout_cell, Real(0), Real(1));
        }
    }

  private:
    int64_t kinds() const {
        return hidden() + update() + (options_.dropout_cell > 0) + (options_.zoneout_hidden > 0) +
               (options_.zoneout_cell > 0);
    }
    DrawAt where(Draw draw, int64_t row, int64_t time, int64_t direction) const {
        return {*options_.seed, static_cast<uint32_t>(row), static_cast<uint32_t>(time),
                stream_of(draw, options_.layer, static_cast<int>(direction))};
    }

    const RnnOptions& options_;
    int64_t stride_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

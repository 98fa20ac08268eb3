// The forward pass of a recurrent layer over a sequence.
#pragma once

#include "cpu/rnn/forward/cells.h"
#include "cpu/rnn/forward/input.h"
#include "cpu/rnn/forward/layer_norm.h"
#include "cpu/rnn/forward/packing.h"
#include "cpu/rnn/forward/projection.h"

namespace seqfast::cpu::SEQFAST_ISA {

// In chunks of steps: pre-activations of all gates from the input (one product for the
// chunk, kept in cache), then step by step the recurrent product on top and the cell.
template <class Real, class Storage>
class RnnForward {
  public:
    RnnForward(const RnnForwardArgs& args, int threads)
        : plan_(args, threads), cells_(cells_of(plan_)) {}

    size_t workspace() const { return plan_.workspace; }

    bool run() {
        return run_directions(
            plan_.sizes, plan_.team, plan_.args.order, plan_.barriers,
            [this](const Place& place, int64_t direction) { run_direction(place, direction); });
    }

  private:
    using Share = ForwardShare<Real>;

    void run_direction(const Place& place, int64_t direction) const {
        const Share own = plan_.share_of(place, direction);
        if (plan_.args.packing == RnnPacking::none) pack_weights(plan_, place, own);
        start_state(plan_, place, own);
        plan_.barriers[0].wait();

        int64_t active = place.active(place.rows(), 0);
        for (int64_t step = 0; active > 0;) {
            int64_t rows = 0, end = step;
            for (int64_t n = active; n > 0 && (rows == 0 || rows + n <= plan_.chunk_rows);) {
                for (int64_t j = 0; j < n; ++j) {
                    own.rows[rows + j] = input_row(plan_, place, own, j, end, rows + j);
                }
                rows += n;
                n = place.active(n, ++end);
            }
            multiply_input(plan_, own, rows);
            for (int64_t first = 0; step < end; ++step) {
                run_step(place, own, step, active, first);
                first += active;
                active = place.active(active, step + 1);
            }
        }
        finish_state(plan_, place, own);
    }

    void list_rows(const Place& place, const Share& own, int64_t step, int64_t active) const {
        const RnnSizes& sizes = plan_.sizes;
        for (int64_t j = 0; j < active; ++j) {
            const int64_t row = place.row(j), time = place.time(j, step, own.direction);
            own.steps[j] = {row, (time * sizes.batch + row) * sizes.directions + own.direction,
                            step + 1 < place.steps(j) &&
                                plan_.resets_at(place.time(j, step + 1, own.direction), row)};
            plan_.drawer.draw(own.masks, j, row, time, own.direction);
        }
    }

    // One step of `active` rows, whose pre-activations start at row `first` of the chunk.
    void run_step(const Place& place, const Share& own, int64_t step, int64_t active,
                  int64_t first) const {
        const CellColumns& columns = plan_.columns;
        Barrier& barrier = plan_.barriers[1 + place.row_group];
        list_rows(place, own, step, active);
        if (plan_.options.layer_norm) {
            run_normalised_step(own, step, active, first, barrier);
            return;
        }
        const int second = columns.first_recurrent + columns.recurrent;
        const int64_t outputs = plan_.sizes.output_size();
        quantize(plan_, own.hidden_rows[step & 1], outputs, active, own.quantized_hidden);
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            const BlockStep at{step, b, active, first};
            multiply_recurrent(own, at, own.hidden_rows[step & 1],
                               {columns.first_recurrent, second});
            cells_.first(plan_, own, at);
        }
        barrier.wait();
        if (cells_.second) {
            quantize(plan_, own.between_rows, outputs, active, own.quantized_hidden);
            for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
                const BlockStep at{step, b, active, first};
                multiply_recurrent(own, at, own.between_rows, {second, columns.columns});
                cells_.second(plan_, own, at);
            }
            barrier.wait();
        }
        if (plan_.sizes.proj_size) {
            project(plan_, own, step, active);
            barrier.wait();
        }
    }

    void run_normalised_step(const Share& own, int64_t step, int64_t active, int64_t first,
                             Barrier& barrier) const {
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            multiply_apart(plan_, own, {step, b, active, first});
        }
        barrier.wait();
        for (int64_t j = 0; j < active; ++j) add_normalised(plan_, own, j, first);
        for (int64_t b = own.blocks.begin; b < own.blocks.end; ++b) {
            cells_.first(plan_, own, {step, b, active, first});
        }
        barrier.wait();
        if (!plan_.traits.has_cell_state) return;
        for (int64_t j = 0; j < active; ++j) write_normalised(plan_, own, step, j, first);
        barrier.wait();
    }

    // On top of columns `columns` of the pre-activations.
    void multiply_recurrent(const Share& own, const BlockStep& at, const Real* const* left,
                            Range columns) const {
        const int64_t outputs = plan_.sizes.output_size();
        Real* target = plan_.preactivation(own, at.block, at.first);
        const int count = static_cast<int>(columns.size());
        const int before = plan_.columns.recurrent_gate(static_cast<int>(columns.begin));
        if (plan_.direct) {
            multiply_unpacked(
                plan_, at.block, left, plan_.args.weights[own.direction].weight_hh, outputs, count,
                [&](int c) { return before + c; },
                UnpackedTarget<Real>{target, plan_.width, plan_.columns.columns,
                                     static_cast<int>(columns.begin)},
                at.active);
            return;
        }
        Product<Real> product{};
        product.left = left;
        product.depth = plan_.depth_of(outputs);
        product.panel = plan_.panel(own.weights.weight_hh, at.block, count, before, outputs);
        product.target = target + columns.begin * kLanes<Real>;
        product.target_stride = plan_.width;
        product.start = product.target;
        product.start_stride = plan_.width;
        multiply(plan_, product, own.quantized_hidden, at.active,
                 plan_.vectors_of(at.block) * count);
    }

    ForwardPlan<Real, Storage> plan_;
    ForwardCells<Real, Storage> cells_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

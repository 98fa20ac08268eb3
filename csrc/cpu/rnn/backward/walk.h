// The backward pass of a recurrent layer through a sequence.
#pragma once

#include "cpu/rnn/backward/cells.h"
#include "cpu/rnn/backward/input.h"
#include "cpu/rnn/backward/projection.h"
#include "cpu/rnn/backward/weights.h"

namespace seqfast::cpu::SEQFAST_ISA {

// In chunks of steps from the last to the first: the gradients of the pre-activations
// step by step, then one product each over the chunk for the input and for the weights.
template <class Real, class Storage>
class RnnBackward {
  public:
    RnnBackward(const RnnBackwardArgs& args, int threads)
        : plan_(args, threads), cells_(cells_of(plan_)) {}

    size_t workspace() const { return plan_.workspace; }

    bool run() {
        return run_directions(
            plan_.sizes, plan_.team, plan_.args.order, plan_.barriers,
            [this](const Place& place, int64_t direction) { run_direction(place, direction); });
    }

  private:
    using Share = BackwardShare<Real>;
    using Chunk = BackwardChunk<Real, Storage>;
    using Later = LaterStep<Real>;

    void run_direction(const Place& place, int64_t direction) const {
        const Share own = plan_.share_of(place, direction);
        pack_weights(plan_, place, own);
        start_state(plan_, place, own);
        plan_.barriers[0].wait();

        int64_t step = plan_.steps_at(0), rows = 0;  // rows: those that have the step after `step`
        Later later{nullptr, 0};
        bool first_chunk = true;
        for (int which = 0; step > 0; which ^= 1) {
            const BackwardChunk<Real, Storage>& chunk = plan_.chunks[which];
            int64_t filled = 0;
            while (step > 0) {
                while (rows < plan_.sizes.batch && plan_.steps_at(rows) >= step) ++rows;
                if (filled > 0 && filled + rows > plan_.chunk_rows) break;
                --step;
                run_step(place, own, chunk, step, rows, filled, later);
                later = {chunk.grad_gates + filled * plan_.width, rows};
                filled += rows;
            }
            plan_.barriers[0].wait();
            sum_chunk(plan_, place, own, chunk, filled, first_chunk);
            if (plan_.args.grad_input) multiply_input(plan_, place, own, chunk, filled);
            first_chunk = false;
        }
        finish_state(plan_, place, own, later);
        finish_weights(plan_, place, own, first_chunk);
    }

    BackwardRow row_step(const Place& place, const Share& own, int64_t step, int64_t j,
                         int64_t filled) const {
        const RnnSizes& sizes = plan_.sizes;
        BackwardRow at;
        at.row = place.row(j);
        at.time = place.time(j, step, own.direction);
        at.index = (at.time * sizes.batch + at.row) * sizes.directions + own.direction;
        const int64_t stride = sizes.batch * sizes.directions;
        at.previous = step == 0 ? -1 : at.index - (own.direction == 0 ? stride : -stride);
        at.item = filled + place.position(j);
        at.restarts = plan_.resets_at(at.time, at.row);
        at.last = step + 1 == place.steps(j);
        at.cut = !at.last && plan_.resets_at(place.time(j, step + 1, own.direction), at.row);
        return at;
    }

    // One step of the first `rows` positions; its rows go to the chunk from `filled` on.
    void run_step(const Place& place, const Share& own, const BackwardChunk<Real, Storage>& chunk,
                  int64_t step, int64_t rows, int64_t filled, const LaterStep<Real>& later) const {
        const int64_t active = place.rows_of_first(rows);
        const int64_t continued = place.rows_of_first(later.rows);
        Barrier& barrier = plan_.barriers[1 + place.row_group];
        for (int64_t j = 0; j < active; ++j) {
            own.steps[j] = row_step(place, own, step, j, filled);
            plan_.drawer.draw(own.masks, j, own.steps[j].row, own.steps[j].time, own.direction);
        }
        for (int64_t p = 0; p < own.recurrent.panels(); ++p) {
            multiply_recurrent(plan_, place, own, p, later, continued);
            start_ends(own, p, active);
            const PanelGradients<Real> part{own.recurrent.panel(p), active, own.product};
            if (plan_.sizes.proj_size) {
                activate_projected(plan_, chunk, own, part);
            } else {
                cells_.first(plan_, chunk, own, part);
            }
        }
        if (place.unit_group == 0) list_rows(plan_, own, chunk, active);
        barrier.wait();
        if (plan_.sizes.proj_size) {
            unproject(plan_, own, chunk, active, cells_.first);
            barrier.wait();
        }
        if (cells_.factors) {
            cells_.factors(plan_, own, chunk, active);
            barrier.wait();
        }
        if (cells_.normalised) {
            cells_.normalised(plan_, own, chunk, active);
            barrier.wait();
        }
        if (plan_.options.layer_norm) {
            for (int64_t j = 0; j < active; ++j) unnormalise(plan_, own, chunk, j);
            barrier.wait();
        }
    }

    // What reaches h[t] from no later step: the final state's gradient, nothing before a reset.
    void start_ends(const Share& own, int64_t p, int64_t active) const {
        const Range vectors = own.recurrent.panel(p);
        const int64_t stride = vectors.size() * kLanes<Real>;
        for (int64_t j = 0; j < active; ++j) {
            const BackwardRow& at = own.steps[j];
            if (!at.last && !at.cut) continue;
            for (int64_t v = 0; v < vectors.size(); ++v) {
                store(own.product + j * stride + v * kLanes<Real>,
                      at.cut ? Vector<Real>{}
                             : load_state(plan_, plan_.args.grad_hidden_n, own, at.row,
                                          vectors.begin + v));
            }
        }
    }

    BackwardPlan<Real, Storage> plan_;
    BackwardCells<Real, Storage> cells_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

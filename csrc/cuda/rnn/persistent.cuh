// A whole sequence in one launch, forward or backward: recurrent weights, backward transposed, stay
// on chip.
#pragma once

#include "cuda/rnn/backward_cell.cuh"
#include "cuda/rnn/forward_cell.cuh"
#include "cuda/rnn/launch.h"
#include "cuda/rnn/persistent_block.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// Forward, hidden states may have bounds; gradients have none.
template <class Cell>
using MarksOf = std::conditional_t<Cell::Family::bounded && Cell::k_slots == 1,
                                   BoundedMarks<typename Cell::T>, LastBitMarks>;

template <class Cell, Strategy strategy, class Product, class G>
SEQFAST_DEVICE void walk_sequence(const typename Cell::Params& p) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Marks = MarksOf<Cell>;
    using Sent = typename Cell::Sent;
    constexpr int k_bytes = Cell::k_slots * int(sizeof(T));  // of a unit
    const RecurrenceParams& r = p.recurrence;
    PersistentBlock<strategy, Product, G, Marks, Cell::k_slots> block(r);
    Cell cell(p);
    const int thread = thread_index();
    const int unit = thread % G::units;  // of the block; the same in all of a thread's pairs
    typename Cell::Ahead ahead[G::pairs];
    int parity = 0;

    for (int item = block.group; item < r.items; item += r.groups) {
        const int slab = item % r.slabs.count;
        if (item / r.slabs.count != cell.direction) {
            cell.start(item / r.slabs.count, block.rank * G::units + unit);
            block.load_weights(cell.direction);
            if (thread < G::units) cell.load_weights(block.bias(unit), block.peephole(unit));
        }
        block.load_rows(slab);
        for (int i = thread / G::units; i < r.slabs.passes * G::rows; i += G::threads / G::units) {
            const int row = block.slab_row()[i], length = block.slab_length()[i];
            if (row < 0) continue;
            if (length > 0)
                cell.begin(row, length, block.state(i, unit));
            else
                cell.finish_empty(row);
        }
        block_sync();

        const auto load_ahead = [&](int s, int pass) {
            SEQFAST_UNROLL
            for (int j = 0; j < G::pairs; ++j) {
                const int n = (thread + j * G::threads) / G::units;
                const int i = pass * G::rows + n;
                if (n >= G::rows) continue;
                const int length = block.slab_length()[i];
                if (s < length && cell.is_unit())
                    cell.load(ahead[j], {block.slab_row()[i], s, length});
            }
        };
        const int steps = block.pass_steps(0);
        load_ahead(0, 0);
        for (int s = 0; s < steps; ++s)
            for (int pass = 0; s < block.pass_steps(pass); ++pass, parity ^= 1) {
                Acc* partial = block.partial(parity);
                const bool multiply = s > 0 || (Cell::first_step_multiplies && r.staged);
                // What does not wait for the others is done before they are waited for.
                const int next_use = block.uses()[pass] + s;
                const uint32_t next_phase = block.phase_of(next_use);
                char* places[G::pairs];
                bool sends[G::pairs], is_running[G::pairs];
                SEQFAST_UNROLL
                for (int j = 0; j < G::pairs; ++j) {
                    const int n = (thread + j * G::threads) / G::units;
                    const bool has_row = n < G::rows;
                    const int i = has_row ? pass * G::rows + n : 0;
                    const int first = Cell::k_slots == 4 ? cell.unit : cell.unit & ~3;
                    sends[j] = has_row && block.is_sent(s, pass, n);
                    is_running[j] = has_row && cell.is_unit() && s < block.slab_length()[i];
                    places[j] = block.place_of(int64_t(first) * k_bytes, pass, n, next_use);
                }
                if (multiply) {
                    const int use = block.uses()[pass] + s - 1;
                    const char* rows;
                    if constexpr (Cell::first_step_multiplies) {
                        const int64_t staged_pass =
                            int64_t(cell.direction) * r.slabs.count * r.slabs.passes +
                            slab * r.slabs.passes + pass;
                        rows = s > 0 ? block.pass_rows(pass, use)
                                     : r.staged + staged_pass * block.pass_bytes();
                    } else {
                        rows = block.pass_rows(pass, use);
                    }
                    Tile<Product, G> tile;
                    tile.clear();
                    block.template multiply<Cell::first_step_multiplies>(tile, rows, s, pass,
                                                                         block.phase_of(use));
                    tile.store(partial, block.warp_m, block.warp_k);
                }
                block_sync();
                SEQFAST_UNROLL
                for (int j = 0; j < G::pairs; ++j) {
                    const int n = (thread + j * G::threads) / G::units;
                    if (n >= G::rows) continue;
                    const int i = pass * G::rows + n;
                    const int length = block.slab_length()[i];
                    const bool runs = is_running[j];
                    const RowStep at_step{block.slab_row()[i], s, length};
                    typename Cell::Result result{};
                    Sent sent{};
                    if (runs) {
                        typename Cell::Sum sum{};
                        if (multiply) sum = Cell::template sum_of<G>(partial, n, unit);
                        const Planes<Acc> state = block.state(i, unit);
                        result =
                            cell.step(ahead[j], sum, {&block.bias(unit), &block.peephole(unit)},
                                      state, at_step);
                        sent = cell.advance(result, ahead[j], state);
                    }
                    // What others wait for goes first; of a row that is over, zeros.
                    if constexpr (Cell::k_slots == 4) {
                        if (sends[j]) block.send(exchange_words(sent), places[j], next_phase, 0, 1);
                    } else {
                        const auto words = quad_words<Marks::takes_last_bit>(sent);
                        if (sends[j]) block.send(words, places[j], next_phase, lane_index() % 4, 4);
                    }
                    if (runs) cell.write(result, {block.slab_row()[i], s, length});
                }
                const bool more = s < block.pass_steps(pass + 1);
                load_ahead(more ? s : s + 1, more ? pass + 1 : 0);
            }
        block.count_uses();
    }
    // No block may go while others can still send to it.
    if constexpr (strategy == Strategy::cluster) cluster_sync();
}

template <class Family, Strategy strategy, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_forward_persistent_kernel(SEQFAST_GRID_CONSTANT ForwardParams p) {
    if constexpr (is_launched<strategy, G>())
        walk_sequence<ForwardCell<Family, Product>, strategy, Product, G>(p);
}

template <class Family, Strategy strategy, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_backward_persistent_kernel(SEQFAST_GRID_CONSTANT BackwardParams p) {
    if constexpr (is_launched<strategy, G>())
        walk_sequence<BackwardCell<Family, Product>, strategy, Product, G>(p);
}

template <class Family_>
struct ForwardKernels {
    using Family = Family_;
    using Params = ForwardParams;
    static constexpr int outputs = Family::slots, k_slots = 1;
    static const char* name(Strategy strategy) {
        return strategy == Strategy::cluster
                   ? "rnn_forward: rnn_forward_persistent_kernel (cluster)"
                   : "rnn_forward: rnn_forward_persistent_kernel (grid)";
    }
    template <Strategy strategy, class Product, class G>
    static auto* kernel() {
        return rnn_forward_persistent_kernel<Family, strategy, Product, G>;
    }
};

template <class Family_>
struct BackwardKernels {
    using Family = Family_;
    using Params = BackwardParams;
    static constexpr int outputs = 1, k_slots = Family::slots;
    static const char* name(Strategy strategy) {
        return strategy == Strategy::cluster
                   ? "rnn_backward: rnn_backward_persistent_kernel (cluster)"
                   : "rnn_backward: rnn_backward_persistent_kernel (grid)";
    }
    template <Strategy strategy, class Product, class G>
    static auto* kernel() {
        return rnn_backward_persistent_kernel<Family, strategy, Product, G>;
    }
};

// Instantiated in a file of its own for each family, which cmake/cuda.cmake writes.
template <class Family>
const PersistentPass<ForwardParams>& persistent_forward() {
    static const auto pass = persistent_pass<ForwardKernels<Family>>();
    return pass;
}
template <class Family>
const PersistentPass<BackwardParams>& persistent_backward() {
    static const auto pass = persistent_pass<BackwardKernels<Family>>();
    return pass;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

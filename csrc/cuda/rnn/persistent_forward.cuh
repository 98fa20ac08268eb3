// The forward pass of a whole sequence in one launch: recurrent weights stay on chip.
#pragma once

#include "cuda/rnn/forward_cell.cuh"
#include "cuda/rnn/launch.h"
#include "cuda/rnn/persistent_block.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class Cell_, Strategy strategy, class Product, class G>
SEQFAST_DEVICE void forward_sequence(const ForwardParams& p) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = ForwardCell<Cell_, Product>;
    using Marks = std::conditional_t<Cell_::bounded, BoundedMarks<T>, LastBitMarks>;
    const RecurrenceParams& r = p.recurrence;
    PersistentBlock<strategy, Product, G, Marks, 1> block(r);
    Cell cell(p);
    const int thread = thread_index();
    const int unit = thread % G::units;  // of the block; the same in all of a thread's pairs
    typename Cell::Ahead ahead[G::pairs];
    int parity = 0;

    for (int item = block.group; item < r.items; item += r.groups) {
        const int direction = item / r.slabs, slab = item % r.slabs;
        if (direction != cell.direction) {
            block.load_weights(direction);
            cell.start(direction, block.rank * G::units + unit);
            if (thread < G::units) {
                block.bias(unit) = cell.bias();
                if constexpr (Cell_::has_cell && Cell_::general)
                    block.peephole(unit) = cell.template peephole<Acc, T>();
            }
        }
        block.load_rows(slab);
        for (int i = thread / G::units; i < r.passes * G::rows; i += G::threads / G::units) {
            const int row = block.slab_row()[i], length = block.slab_length()[i];
            if (row < 0) continue;
            if (length > 0)
                cell.begin(row, time_of(0, length, direction == 1), block.state(i, unit));
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
                    cell.load(ahead[j], time_of(s, length, direction == 1), block.slab_row()[i],
                              s + 1 < length ? time_of(s + 1, length, direction == 1) : -1);
            }
        };
        const int steps = block.pass_steps(0);
        load_ahead(0, 0);
        for (int s = 0; s < steps; ++s)
            for (int pass = 0; s < block.pass_steps(pass); ++pass, parity ^= 1) {
                Acc* partial = block.partial(parity);
                const bool multiply = s > 0 || r.staged;
                if (multiply) {
                    const int use = block.uses()[pass] + s - 1;
                    const int64_t staged_pass =
                        int64_t(direction) * r.slabs * r.passes + slab * r.passes + pass;
                    const char* rows = s > 0 ? block.pass_rows(pass, use)
                                             : r.staged + staged_pass * block.pass_bytes();
                    Tile<Product, G> tile;
                    tile.clear();
                    block.template multiply<true>(tile, rows, s, pass, block.phase_of(use));
                    tile.store(partial, block.warp_m, block.warp_k);
                }
                block_sync();
                SEQFAST_UNROLL
                for (int j = 0; j < G::pairs; ++j) {
                    const int n = (thread + j * G::threads) / G::units;
                    if (n >= G::rows) continue;
                    const int i = pass * G::rows + n;
                    const int length = block.slab_length()[i];
                    const bool runs = s < length && cell.is_unit();
                    typename Cell::Result result{};
                    T sent{};
                    if (runs) {
                        Gates4<Acc> sum{};
                        if (multiply) sum = sum_outputs<G>(partial, n, unit);
                        const Planes<Acc> state = block.state(i, unit);
                        result = cell.step(ahead[j], sum, block.bias(unit), &block.peephole(unit),
                                           state);
                        sent = cell.advance(result, ahead[j], state);
                    }
                    // What others wait for goes first; of a row that is over, zeros.
                    const auto words = quad_words<Marks::takes_last_bit>(sent);
                    if (block.is_sent(s, pass, n))
                        block.send(words, int64_t(cell.unit & ~3) * int64_t(sizeof(T)), pass, n,
                                   block.uses()[pass] + s, lane_index() % 4, 4);
                    if (runs)
                        cell.write(result, time_of(s, length, direction == 1), block.slab_row()[i],
                                   s == length - 1);
                }
                const bool more = s < block.pass_steps(pass + 1);
                load_ahead(more ? s : s + 1, more ? pass + 1 : 0);
            }
        block.count_uses();
    }
    // No block may go while others can still send to it.
    if constexpr (strategy == Strategy::cluster) cluster_sync();
}

template <class Cell, Strategy strategy, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_forward_persistent_kernel(SEQFAST_GRID_CONSTANT ForwardParams p) {
    // Without clusters only a block alone is launched as one.
    if constexpr (strategy == Strategy::grid || G::units == 64 || has_clusters)
        forward_sequence<Cell, strategy, Product, G>(p);
}

template <class Cell_>
struct ForwardKernels {
    using Cell = Cell_;
    static constexpr int outputs = Cell::slots, k_slots = 1;
    static const char* name(Strategy strategy) {
        return strategy == Strategy::cluster
                   ? "rnn_forward: rnn_forward_persistent_kernel (cluster)"
                   : "rnn_forward: rnn_forward_persistent_kernel (grid)";
    }
    template <Strategy strategy, class Product, class G>
    static auto* kernel() {
        return rnn_forward_persistent_kernel<Cell, strategy, Product, G>;
    }
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

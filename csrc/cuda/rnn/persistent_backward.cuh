// The backward pass of a whole sequence in one launch: recurrent weights, transposed, stay on chip.
#pragma once

#include "cuda/rnn/backward_cell.cuh"
#include "cuda/rnn/launch.h"
#include "cuda/rnn/persistent_block.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// A row's step s is the s-th from its end; what travels is the gradient of a step's
// pre-activations.
template <class Cell_, Strategy strategy, class Product, class G>
SEQFAST_DEVICE void backward_sequence(const BackwardParams& p) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = BackwardCell<Cell_, Product>;
    constexpr int k_bytes = Cell_::slots * int(sizeof(T));  // of a unit
    const RecurrenceParams& r = p.recurrence;
    PersistentBlock<strategy, Product, G, LastBitMarks, Cell_::slots> block(r);
    Cell cell(p);
    const int thread = thread_index();
    const int unit = thread % G::units;
    typename Cell::Ahead ahead[G::pairs];
    int parity = 0;

    for (int item = block.group; item < r.items; item += r.groups) {
        const int direction = item / r.slabs, slab = item % r.slabs;
        if (direction != cell.direction) {
            block.load_weights(direction);
            cell.start(direction, block.rank * G::units + unit);
            if constexpr (Cell_::has_cell && Cell_::general)
                if (thread < G::units) block.peephole(unit) = cell.template peephole<Acc, T>();
        }
        block.load_rows(slab);
        for (int i = thread / G::units; i < r.passes * G::rows; i += G::threads / G::units) {
            const int row = block.slab_row()[i];
            if (row < 0) continue;
            if (block.slab_length()[i] > 0)
                cell.begin(row, block.state(i, unit));
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
                    cell.load(ahead[j], time_of(s, length, direction == 0), block.slab_row()[i],
                              s == length - 1);
            }
        };
        const int steps = block.pass_steps(0);
        load_ahead(0, 0);
        for (int s = 0; s < steps; ++s)
            for (int pass = 0; s < block.pass_steps(pass); ++pass, parity ^= 1) {
                Acc* partial = block.partial(parity);
                if (s > 0) {
                    const int use = block.uses()[pass] + s - 1;
                    Tile<Product, G> tile;
                    tile.clear();
                    block.template multiply<false>(tile, block.pass_rows(pass, use), s, pass,
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
                    const bool runs = s < length && cell.is_unit();
                    typename Cell::Result result{};
                    GateGradients<T> sent{};
                    if (runs) {
                        const Acc sum = s > 0 ? sum_unit<G>(partial, n, unit) : Acc(0);
                        const Planes<Acc> state = block.state(i, unit);
                        result = cell.step(ahead[j], sum, &block.peephole(unit), state,
                                           time_of(s, length, direction == 0), block.slab_row()[i],
                                           s == 0);
                        sent = cell.advance(result, state);
                    }
                    // What others wait for goes first; of a row that is over, zeros.
                    const int use = block.uses()[pass] + s;
                    if constexpr (Cell_::slots == 4) {
                        if (block.is_sent(s, pass, n))
                            block.send(exchange_words(sent), int64_t(cell.unit) * k_bytes, pass, n,
                                       use, 0, 1);
                    } else {
                        const auto words = quad_words<true>(sent.gate[0]);
                        if (block.is_sent(s, pass, n))
                            block.send(words, int64_t(cell.unit & ~3) * k_bytes, pass, n, use,
                                       lane_index() % 4, 4);
                    }
                    if (runs)
                        cell.write(result, time_of(s, length, direction == 0), block.slab_row()[i],
                                   s == length - 1);
                }
                const bool more = s < block.pass_steps(pass + 1);
                load_ahead(more ? s : s + 1, more ? pass + 1 : 0);
            }
        block.count_uses();
    }
    if constexpr (strategy == Strategy::cluster) cluster_sync();
}

template <class Cell, Strategy strategy, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_backward_persistent_kernel(SEQFAST_GRID_CONSTANT BackwardParams p) {
    // Without clusters only a block alone is launched as one.
    if constexpr (strategy == Strategy::grid || G::units == 64 || has_clusters)
        backward_sequence<Cell, strategy, Product, G>(p);
}

template <class Cell_>
struct BackwardKernels {
    using Cell = Cell_;
    static constexpr int outputs = 1, k_slots = Cell::slots;
    static const char* name(Strategy strategy) {
        return strategy == Strategy::cluster
                   ? "rnn_backward: rnn_backward_persistent_kernel (cluster)"
                   : "rnn_backward: rnn_backward_persistent_kernel (grid)";
    }
    template <Strategy strategy, class Product, class G>
    static auto* kernel() {
        return rnn_backward_persistent_kernel<Cell, strategy, Product, G>;
    }
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

// LSTM backward, the whole sequence in one launch: recurrent weights, transposed, stay on chip.
#include "cuda/persistent_block.cuh"
#include "cuda/rnn_launch.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

template <class T>
struct ExchangeWords {
    using Type = U32x2;
};
template <>
struct ExchangeWords<float> {
    using Type = U32x4;
};

// A row's step s is the s-th from its end; what travels is the gradient of a step's
// pre-activations.
template <Way way, class Product, class G>
SEQFAST_KERNEL(256, 1)
lstm_backward_persistent_kernel(SEQFAST_GRID_CONSTANT BackwardParams p) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = BackwardCell<Product, G>;
    const RecurrenceParams& r = p.recurrence;
    PersistentBlock<way, Product, G, GradientMarks> block(r);
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
        }
        block.load_rows(slab);
        for (int i = thread / G::units; i < r.passes * G::rows; i += G::threads / G::units) {
            const int row = block.slab_row()[i];
            if (row < 0) continue;
            const Acc grad_cell = cell.last_cell(row);
            block.state()[i * G::units + unit] = grad_cell;
            if (block.slab_length()[i] == 0) cell.finish(row, grad_cell);
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
                    if (runs) {
                        const Acc sum = s > 0 ? sum_unit<G>(partial, n, unit) : Acc(0);
                        Acc& state = block.state()[i * G::units + unit];
                        result = cell.step(ahead[j], sum, state, time_of(s, length, direction == 0),
                                           block.slab_row()[i], s == 0);
                        state = result.grad_cell;
                    }
                    // What others wait for goes first; of a row that is over, zeros.
                    if (block.is_sent(s, pass, n)) {
                        typename ExchangeWords<T>::Type words{};
                        exchange_words(result.gates, words);
                        block.send(words, int64_t(cell.unit) * 4 * int64_t(sizeof(T)), pass, n,
                                   block.uses()[pass] + s, 0, 1);
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
    if constexpr (way == Way::cluster) cluster_sync();
}

struct Kernels {
    static constexpr int outputs = 1;
    static const char* name(Way way) {
        return way == Way::cluster ? "lstm_backward: lstm_backward_persistent_kernel (cluster)"
                                   : "lstm_backward: lstm_backward_persistent_kernel (grid)";
    }
    template <Way way, class Product, class G>
    static auto* kernel() {
        return lstm_backward_persistent_kernel<way, Product, G>;
    }
};

}  // namespace

const PersistentPass<BackwardParams> persistent_backward =
    persistent_pass<Kernels, BackwardParams>();

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

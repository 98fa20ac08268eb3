// LSTM forward, the whole sequence in one launch: recurrent weights stay on chip.
#include "cuda/persistent_block.cuh"
#include "cuda/rnn_launch.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// Four units' hidden states, one of each lane of a quad, as they stand in a row.
SEQFAST_DEVICE U32x2 quad_words(BFloat16 hidden) {
    const int quad = lane_index() & ~3;
    const uint32_t bits = word_of(hidden);
    return {shuffle(bits, quad) | shuffle(bits, quad + 1) << 16,
            shuffle(bits, quad + 2) | shuffle(bits, quad + 3) << 16};
}
SEQFAST_DEVICE U32x2 quad_words(Float16 hidden) { return quad_words(BFloat16{hidden.bits}); }
SEQFAST_DEVICE U32x4 quad_words(float hidden) {
    const int quad = lane_index() & ~3;
    const uint32_t bits = word_of(hidden);
    return {shuffle(bits, quad), shuffle(bits, quad + 1), shuffle(bits, quad + 2),
            shuffle(bits, quad + 3)};
}

template <Way way, class Product, class G>
SEQFAST_KERNEL(256, 1)
lstm_forward_persistent_kernel(SEQFAST_GRID_CONSTANT ForwardParams p) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = ForwardCell<Product, G>;
    const RecurrenceParams& r = p.recurrence;
    PersistentBlock<way, Product, G, HiddenMarks<T>> block(r);
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
            if (thread < G::units)
                block.template shared<Gates4<Acc>>(r.layout.bias)[unit] = cell.bias();
        }
        block.load_rows(slab);
        for (int i = thread / G::units; i < r.passes * G::rows; i += G::threads / G::units) {
            const int row = block.slab_row()[i];
            if (row < 0) continue;
            block.state()[i * G::units + unit] = cell.first_cell(row);
            if (block.slab_length()[i] == 0) cell.finish_empty(row);
        }
        block_sync();

        const auto load_ahead = [&](int s, int pass) {
            SEQFAST_UNROLL
            for (int j = 0; j < G::pairs; ++j) {
                const int n = (thread + j * G::threads) / G::units;
                const int i = pass * G::rows + n;
                if (n < G::rows && s < block.slab_length()[i] && cell.is_unit())
                    cell.load(ahead[j], time_of(s, block.slab_length()[i], direction == 1),
                              block.slab_row()[i]);
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
                    if (runs) {
                        Gates4<Acc> sum{};
                        if (multiply) sum = sum_gates<G>(partial, n, unit);
                        Acc& state = block.state()[i * G::units + unit];
                        result = cell.step(ahead[j], sum,
                                           block.template shared<Gates4<Acc>>(r.layout.bias)[unit],
                                           state);
                        state = result.cell;
                    }
                    // What others wait for goes first; of a row that is over, zeros.
                    const auto words = quad_words(result.hidden);
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
    if constexpr (way == Way::cluster) cluster_sync();
}

struct Kernels {
    static constexpr int outputs = 4;
    static const char* name(Way way) {
        return way == Way::cluster ? "lstm_forward: lstm_forward_persistent_kernel (cluster)"
                                   : "lstm_forward: lstm_forward_persistent_kernel (grid)";
    }
    template <Way way, class Product, class G>
    static auto* kernel() {
        return lstm_forward_persistent_kernel<way, Product, G>;
    }
};

}  // namespace

const PersistentPass<ForwardParams> persistent_forward = persistent_pass<Kernels, ForwardParams>();

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

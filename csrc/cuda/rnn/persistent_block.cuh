// A block of the kernels that run a whole sequence: weights it keeps, rows it has, numbers it
// trades with its group.
#pragma once

#include "cuda/base/sizes.h"
#include "cuda/rnn/kernels.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// How the blocks of a group tell each other what the next step needs: through each other's shared
// memory, or through global memory. RnnStrategy has these two, and what else Python may ask for.
enum class Strategy { cluster, grid };

// A number that travels carries its own mark of being new, which changes with every use of its
// place: no flag, no fence, no barrier, and one trip of memory latency. Of numbers |h| <= 1: they
// leave bit 30 of every 4 bytes free, except in NaN, which travels as the largest number below 2.
template <class T>
struct BoundedMarks {
    static constexpr bool takes_last_bit = false;
    static constexpr uint32_t mark = 0x40000000u;
    static constexpr uint32_t unit = sizeof(T) == 2 ? 0x00010000u : 1u;
    static constexpr uint32_t largest = mark - unit;

    static SEQFAST_DEVICE uint32_t write(uint32_t word, uint32_t phase) {
        if (word & mark) word = (word | largest) & ~mark;
        return word | phase << 30;
    }
    static SEQFAST_DEVICE uint32_t read(uint32_t word) {
        word &= ~mark;
        return word | (((word & largest) + unit) & mark);
    }
    // Has the mark's bit where a word is not new.
    static SEQFAST_DEVICE uint32_t stale(const U32x4& v, uint32_t phase) {
        const uint32_t p = phase << 30;
        return (v.x ^ p) | (v.y ^ p) | (v.z ^ p) | (v.w ^ p);
    }
    static SEQFAST_DEVICE U32x2 write(const U32x2& v, uint32_t phase) {
        return {write(v.x, phase), write(v.y, phase)};
    }
    static SEQFAST_DEVICE U32x4 write(const U32x4& v, uint32_t phase) {
        return {write(v.x, phase), write(v.y, phase), write(v.z, phase), write(v.w, phase)};
    }
    static SEQFAST_DEVICE U32x4 read(const U32x4& v) {
        return {read(v.x), read(v.y), read(v.z), read(v.w)};
    }
};

// Of all others: the last bit of the first number of every 8 bytes, which words_of clears.
struct LastBitMarks {
    static constexpr bool takes_last_bit = true;
    static constexpr uint32_t mark = 1u;
    static SEQFAST_DEVICE uint32_t stale(const U32x4& v, uint32_t phase) {
        return (v.x ^ phase) | (v.z ^ phase);
    }
    static SEQFAST_DEVICE U32x2 write(const U32x2& v, uint32_t phase) { return {v.x | phase, v.y}; }
    static SEQFAST_DEVICE U32x4 write(const U32x4& v, uint32_t phase) {
        return {v.x | phase, v.y, v.z | phase, v.w};
    }
    static SEQFAST_DEVICE U32x4 read(const U32x4& v) { return {v.x & ~1u, v.y, v.z & ~1u, v.w}; }
};

template <class Family, class Product, class G>
PersistentLayout persistent_layout(Strategy strategy, int chunks, int passes) {
    using Acc = typename Product::Acc;
    const int longest = ChunkRange::longest(chunks, G::warps_k);
    const int64_t rows = int64_t(passes) * G::rows;
    PersistentLayout layout{};
    layout.extra = longest > G::register_chunks ? longest - G::register_chunks : 0;
    Arena arena(nullptr, 1);
    const auto place = [&](int64_t bytes) { return int(arena.place(bytes)); };
    layout.kept = place(int64_t(8) * G::m_tiles * layout.extra * 1024);
    layout.partial = place(int64_t(2) * G::partial_size * sizeof(Acc));
    layout.exchange = place(strategy == Strategy::cluster ? 2 * rows * chunks * chunk_bytes : 0);
    layout.bias = place(int64_t(G::units) * sizeof(Gates4<Acc>));
    layout.peephole =
        place(Family::has_cell && Family::general ? int64_t(G::units) * sizeof(Gates4<Acc>) : 0);
    layout.state = place(int64_t(Family::planes) * rows * G::units * sizeof(Acc));
    layout.row = place(rows * sizeof(int));
    layout.length = place(rows * sizeof(int));
    layout.uses = place(int64_t(passes) * sizeof(int));
    layout.split = place(sizeof(int));
    layout.total = arena.used();
    return layout;
}

// k_slots: numbers of a unit in k.
template <Strategy strategy, class Product, class G, class Marks, int k_slots>
struct PersistentBlock {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    // Splitting float32 takes registers that a longer window of two row tiles would need.
    static constexpr int window = sizeof(T) == 4 && G::n_tiles == 2 ? 1 : G::window;

    const RecurrenceParams& r;
    int warp, warp_m, warp_k;
    int group, rank;   // which group, which block of it
    ChunkRange range;  // of this warp
    U32x4 weights[G::m_tiles][G::register_chunks][2];

    SEQFAST_DEVICE PersistentBlock(const RecurrenceParams& params) : r(params) {
        warp = warp_index();
        warp_m = warp % G::warps_m;
        warp_k = warp / G::warps_m;
        group = block_x() / r.group;
        rank = block_x() % r.group;
        range = ChunkRange::of_warp(r.chunks, G::warps_k, warp_k);
        for (int pass = thread_index(); pass < r.slabs.passes; pass += G::threads) uses()[pass] = 0;
        if (thread_index() == 0) *shared<uint32_t>(r.layout.split) = r.split;
        if constexpr (strategy == Strategy::cluster) {
            auto* words = reinterpret_cast<U32x4*>(exchange());
            const int count = int(2 * r.slabs.passes * pass_bytes() / 16);
            for (int i = thread_index(); i < count; i += G::threads) words[i] = {0, 0, 0, 0};
            // No block may send before the others have cleared what it sends to.
            cluster_sync();
        }
    }

    template <class V>
    SEQFAST_DEVICE V* shared(int offset) const {
        return reinterpret_cast<V*>(dynamic_shared() + offset);
    }
    SEQFAST_DEVICE U32x4* kept() const {
        return shared<U32x4>(r.layout.kept) + warp * G::m_tiles * r.layout.extra * 64 +
               lane_index();
    }
    SEQFAST_DEVICE int kept_index(int m, int chunk, int half) const {
        return ((m * r.layout.extra + chunk - G::register_chunks) * 2 + half) * 32;
    }
    SEQFAST_DEVICE Acc* partial(int parity) const {
        return shared<Acc>(r.layout.partial) + parity * G::partial_size;
    }
    // Of row i of the slab.
    SEQFAST_DEVICE Planes<Acc> state(int i, int unit) const {
        return {shared<Acc>(r.layout.state) + i * G::units + unit,
                int64_t(r.slabs.passes) * G::rows * G::units};
    }
    // Of the thread's unit of the block.
    SEQFAST_DEVICE Gates4<Acc>& bias(int unit) const {
        return shared<Gates4<Acc>>(r.layout.bias)[unit];
    }
    SEQFAST_DEVICE Gates4<Acc>& peephole(int unit) const {
        return shared<Gates4<Acc>>(r.layout.peephole)[unit];
    }
    SEQFAST_DEVICE int* slab_row() const { return shared<int>(r.layout.row); }
    SEQFAST_DEVICE int* slab_length() const { return shared<int>(r.layout.length); }
    SEQFAST_DEVICE int* uses() const { return shared<int>(r.layout.uses); }
    SEQFAST_DEVICE char* exchange() const {
        if constexpr (strategy == Strategy::cluster) return shared<char>(r.layout.exchange);
        return r.exchange + group * 2 * r.slabs.passes * pass_bytes();
    }

    // One buffer of one pass.
    SEQFAST_DEVICE int64_t pass_bytes() const { return int64_t(r.chunks) * G::rows * chunk_bytes; }
    SEQFAST_DEVICE char* pass_rows(int pass, int use) const {
        return exchange() + ((use & 1) * r.slabs.passes + pass) * pass_bytes();
    }
    // Memory begins as zeros, so the first use of either buffer is marked with one.
    static SEQFAST_DEVICE uint32_t phase_of(int use) { return ((use >> 1) & 1) ^ 1; }

    SEQFAST_DEVICE void load_weights(int direction) {
        const int lane = lane_index();
        const U32x4* packed = r.packed[direction];
        SEQFAST_UNROLL
        for (int m = 0; m < G::m_tiles; ++m) {
            const int64_t tile = int64_t(rank) * G::block_m_tiles + warp_m * G::m_tiles + m;
            SEQFAST_UNROLL
            for (int c = 0; c < G::register_chunks; ++c) SEQFAST_UNROLL
            for (int half = 0; half < 2; ++half) {
                weights[m][c][half] = {0, 0, 0, 0};
                if (c < range.count)
                    weights[m][c][half] =
                        packed[packed_index(tile, r.chunks, range.first + c, half, lane)];
            }
            for (int c = G::register_chunks; c < range.count; ++c)
                for (int half = 0; half < 2; ++half)
                    kept()[kept_index(m, c, half)] =
                        packed[packed_index(tile, r.chunks, range.first + c, half, lane)];
        }
    }

    // The rows of a slab; between two barriers, since the last slab's are still being read.
    SEQFAST_DEVICE void load_rows(int slab) {
        block_sync();
        const int count = r.slabs.passes * G::rows;
        for (int i = thread_index(); i < count; i += G::threads) {
            const int64_t row = r.rows.row(r.slabs.position(slab, i));
            slab_row()[i] = int(row);
            slab_length()[i] = r.rows.length(row);
        }
        block_sync();
    }
    // The steps of a pass are those of its first row, which is its longest.
    SEQFAST_DEVICE int pass_steps(int pass) const {
        return pass < r.slabs.passes ? slab_length()[pass * G::rows] : 0;
    }
    // After a slab: what is sent in the next one goes on where this one stopped. Every step but the
    // last of a pass sends.
    SEQFAST_DEVICE void count_uses() {
        block_sync();
        for (int pass = thread_index(); pass < r.slabs.passes; pass += G::threads)
            uses()[pass] += pass_steps(pass) > 0 ? pass_steps(pass) - 1 : 0;
    }

    // Whether a chunk is all sent: half of the last one is not where a block's share is half a
    // chunk.
    SEQFAST_DEVICE bool is_written(int chunk) const {
        constexpr int block_bytes = G::units * int(sizeof(T)) * k_slots;
        if constexpr (block_bytes % chunk_bytes == 0) return true;
        return chunk * chunk_bytes + lane_index() % 4 * 16 < r.group * block_bytes;
    }

    // A window of rows that others are sending: waits until all of it is there. sent: whether the
    // lane's row of each row tile is; what is not is zero.
    SEQFAST_DEVICE void receive(U32x4 (&b)[window][G::n_tiles], const char* rows, int chunk,
                                int count, const bool (&sent)[G::n_tiles], int s, int pass,
                                uint32_t phase) const {
        const char* from = rows + fragment_offset<G>(chunk);
        bool wanted[window][G::n_tiles];
        SEQFAST_UNROLL
        for (int w = 0; w < window; ++w) SEQFAST_UNROLL
        for (int n = 0; n < G::n_tiles; ++n)
            wanted[w][n] = w < count && sent[n] && is_written(chunk + w);
        PollWatch watch;
        for (;;) {
            // All loads of the window before the first test, which would wait for its load alone.
            SEQFAST_UNROLL
            for (int w = 0; w < window; ++w) SEQFAST_UNROLL
            for (int n = 0; n < G::n_tiles; ++n) {
                const auto* at =
                    reinterpret_cast<const U32x4*>(from + (w * G::rows + 8 * n) * chunk_bytes);
                if constexpr (strategy == Strategy::cluster)
                    b[w][n] = load_relaxed_shared(at, wanted[w][n]);
                else
                    b[w][n] = load_relaxed(at, wanted[w][n]);
            }
            uint32_t stale = 0;
            SEQFAST_UNROLL
            for (int w = 0; w < window; ++w) SEQFAST_UNROLL
            for (int n = 0; n < G::n_tiles; ++n)
                stale |= Marks::stale(b[w][n], phase) & (wanted[w][n] ? Marks::mark : 0u);
            if (warp_all(stale == 0) || watch.gives_up({pass, s, chunk, phase})) break;
        }
        SEQFAST_UNROLL
        for (int w = 0; w < window; ++w) SEQFAST_UNROLL
        for (int n = 0; n < G::n_tiles; ++n) b[w][n] = Marks::read(b[w][n]);
    }
    // Whether rows that are over are neither sent nor waited for. A place that is left out loses
    // count of its marks, so only where no other slab comes after.
    SEQFAST_DEVICE bool skips() const { return r.items <= r.groups; }
    SEQFAST_DEVICE bool is_sent(int s, int pass, int row) const {
        const int i = pass * G::rows + row;
        return s + 1 < (skips() ? slab_length()[i] : pass_steps(pass));
    }

    // A window of rows that have been there since before the kernel, unmarked.
    SEQFAST_DEVICE void read_staged(U32x4 (&b)[window][G::n_tiles], const char* rows, int chunk,
                                    int count) const {
        const char* from = rows + fragment_offset<G>(chunk);
        SEQFAST_UNROLL
        for (int w = 0; w < window; ++w)
            if (w < count) {
                SEQFAST_UNROLL
                for (int n = 0; n < G::n_tiles; ++n)
                    b[w][n] =
                        *reinterpret_cast<const U32x4*>(from + (w * G::rows + 8 * n) * chunk_bytes);
            }
    }

    // The warp's part of weights times the rows of step s: what was sent in the step before.
    template <bool may_be_staged>
    SEQFAST_DEVICE void multiply(Tile<Product, G>& tile, const char* rows, int s, int pass,
                                 uint32_t phase) const {
        bool sent[G::n_tiles];
        SEQFAST_UNROLL
        for (int n = 0; n < G::n_tiles; ++n)
            sent[n] = is_sent(s - 1, pass, 8 * n + lane_index() / 4);
        U32x4 b[window][G::n_tiles];
        // Out of shared memory each time: the compiler would keep all weights split, in registers
        // it does not have.
        const uint32_t split =
            sizeof(T) == 4 ? load_volatile_shared(shared<uint32_t>(r.layout.split)) : 0;
        const auto fetch = [&](int first) {
            const int left = range.count - first;
            const int count = left < window ? left : window;
            if (may_be_staged && s == 0)
                read_staged(b, rows, range.first + first, count);
            else
                receive(b, rows, range.first + first, count, sent, s, pass, phase);
        };
        SEQFAST_UNROLL
        for (int first = 0; first < G::register_chunks; first += window)
            if (first < range.count) {
                fetch(first);
                SEQFAST_UNROLL
                for (int w = 0; w < window; ++w)
                    if (first + w < range.count)
                        tile.multiply([&](int m, int half) { return weights[m][first + w][half]; },
                                      b[w], split);
            }
        if constexpr (!G::all_in_registers) {
            SEQFAST_NO_UNROLL
            for (int first = G::register_chunks; first < range.count; first += window) {
                fetch(first);
                SEQFAST_UNROLL
                for (int w = 0; w < window; ++w)
                    if (first + w < range.count)
                        tile.multiply(
                            [&](int m, int half) { return kept()[kept_index(m, first + w, half)]; },
                            b[w], split);
            }
        }
    }

    // Where byte `k` of a row of a pass stands.
    SEQFAST_DEVICE char* place_of(int64_t k, int pass, int row, int use) const {
        return pass_rows(pass, use) + (k / chunk_bytes * G::rows + row) * chunk_bytes +
               k % chunk_bytes;
    }
    // Words to that place of every block of the group; the lanes of a quad that hold the same words
    // each pass on a quarter of them.
    template <class Words>
    SEQFAST_DEVICE void send(const Words& words, char* at, uint32_t phase, int part,
                             int parts) const {
        const Words marked = Marks::write(words, phase);
        if constexpr (strategy == Strategy::cluster) {
            for (int i = part; i < r.group; i += parts) {
                // Each begins with itself, so that no block gets everything at once.
                const int to = rank + i < r.group ? rank + i : rank + i - r.group;
                store_cluster(at, to, marked);
            }
        } else if (part == 0) {
            store_relaxed(reinterpret_cast<Words*>(at), marked);
        }
    }
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

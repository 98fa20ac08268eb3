// The order of training: entries dealt out to tiles, and each tile shuffled.
#pragma once

#include "core/glove.h"
#include "core/random.h"
#include "cpu/base/range.h"
#include "cpu/base/simd.h"
#include "cpu/base/team.h"

namespace seqfast::cpu::SEQFAST_ISA {

// f(column, i) for each entry of the rows of a block.
template <class F>
SEQFAST_INLINE void each_entry(const GloveScheduleArgs& args, int64_t block, F&& f) {
    for (int64_t row = block; row < args.vocabulary; row += args.blocks) {
        for (int64_t i = args.offsets[row]; i < args.offsets[row + 1]; ++i) {
            f(row / args.blocks, static_cast<int64_t>(args.columns[i]), i);
        }
    }
}

// Fisher and Yates from the front: entry k changes places with one of the k before it, or none.
inline void shuffle_tile(const GloveScheduleArgs& args, int64_t tile) {
    uint64_t* entries = args.entries + args.tiles[tile];
    const int64_t count = args.tiles[tile + 1] - args.tiles[tile];
    const uint64_t key = static_cast<uint64_t>(args.seed);
    for (int64_t group = 0; group * 4 < count; group += kWordLanes) {
        uint32_t index[kWordLanes];
        for (int l = 0; l < kWordLanes; ++l) index[l] = static_cast<uint32_t>(group + l);
        Words counter[4] = {bit_cast<Words>(index), Words{} + static_cast<uint32_t>(tile),
                            Words{} + static_cast<uint32_t>(tile >> 32), Words{} + kShuffleStream};
        philox<VectorWords>(counter, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
        const int64_t here = smaller(count - group * 4, 4 * kWordLanes);
        for (int64_t i = 0; i < here; ++i) {
            const int64_t k = group * 4 + i;
            const uint64_t word = counter[i % 4][i / 4];
            const int64_t other = static_cast<int64_t>(word * static_cast<uint64_t>(k + 1) >> 32);
            const uint64_t entry = entries[k];
            entries[k] = entries[other];
            entries[other] = entry;
        }
    }
}

inline bool make_schedule(const GloveScheduleArgs& args, int threads) {
    const int64_t blocks = args.blocks;
    int64_t next_counted = 0, next_dealt = 0;
    alignas(64) Barrier barrier;
    barrier.reset(threads);
    return run_team(threads, [&](int thread) {
        // Place t + 1 has the size of tile t, then its begin, then, as it fills, its end.
        for (;;) {
            const int64_t block = __atomic_fetch_add(&next_counted, 1, __ATOMIC_RELAXED);
            if (block >= blocks) break;
            int64_t* sizes = args.tiles + block * blocks + 1;
            for (int64_t j = 0; j < blocks; ++j) sizes[j] = 0;
            each_entry(args, block,
                       [&](int64_t, int64_t column, int64_t) { ++sizes[column % blocks]; });
        }
        barrier.wait();
        if (thread == 0) {
            int64_t begin = 0;
            args.tiles[0] = 0;
            for (int64_t tile = 1; tile <= blocks * blocks; ++tile) {
                const int64_t size = args.tiles[tile];
                args.tiles[tile] = begin;
                begin += size;
            }
        }
        barrier.wait();
        for (;;) {
            const int64_t block = __atomic_fetch_add(&next_dealt, 1, __ATOMIC_RELAXED);
            if (block >= blocks) break;
            int64_t* ends = args.tiles + block * blocks + 1;
            each_entry(args, block, [&](int64_t row, int64_t column, int64_t i) {
                const uint64_t value = bit_cast<uint32_t>(static_cast<float>(args.values[i]));
                args.entries[ends[column % blocks]++] =
                    value << 32 | static_cast<uint64_t>(column / blocks) << 16 |
                    static_cast<uint64_t>(row);
            });
        }
        barrier.wait();
        for (int64_t tile = thread; tile < blocks * blocks; tile += threads) {
            shuffle_tile(args, tile);
        }
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA

// The k largest of each row: arguments, and the keys by which all backends compare.
#pragma once

#include <cstdint>

#include "core/config.h"

namespace seqfast {

// By falling value, equal ones by rising column; NaN is smaller than any number and never chosen.
struct TopKArgs {
    int64_t rows, columns, k, excluded, row_stride;  // columns below 2^31
    const float* scores;                             // [rows, columns], rows row_stride apart
    const int64_t* exclude;  // [rows, excluded] columns that do not count, others ignored
    float* values;           // [rows, k]; -inf where a row has fewer
    int64_t* indices;        // [rows, k]; -1 there
    int threads;             // on the CPU
    int parts;               // on a GPU: blocks that share a row
    uint64_t* workspace;     // CPU: top_k_workspace keys; GPU: [rows, parts, selected] if parts > 1
};
template <class F>
void visit(TopKArgs& args, F&& f) {
    f("rows", args.rows);
    f("columns", args.columns);
    f("k", args.k);
    f("excluded", args.excluded);
    f("row_stride", args.row_stride);
    f("scores", args.scores);
    f("exclude", args.exclude);
    f("values", args.values);
    f("indices", args.indices);
    f("threads", args.threads);
    f("parts", args.parts);
}

// Who is excluded is found out at the end: with so many, k are left in any case.
SEQFAST_INLINE int64_t top_k_selected(int64_t columns, int64_t k, int64_t excluded) {
    return k + excluded < columns ? k + excluded : columns;
}

// A score and its column as one number, larger for whoever comes first; 0 for nobody.
SEQFAST_INLINE uint32_t ordered_bits(uint32_t bits) {
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
SEQFAST_INLINE uint64_t top_k_key(uint32_t bits, uint32_t column) {
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0;  // NaN
    const uint32_t without_sign_of_zero = bits == 0x80000000u ? 0 : bits;
    return static_cast<uint64_t>(ordered_bits(without_sign_of_zero)) << 32 | ~column;
}
SEQFAST_INLINE uint32_t column_of(uint64_t key) { return ~static_cast<uint32_t>(key); }
// Set in every key, as columns are below 2^31; cleared in that of an excluded column.
constexpr uint64_t kTopKLive = 0x80000000u;

// Where among `count` falling keys the key is, whether they are excluded or not; else `count`.
SEQFAST_INLINE int64_t find_key(const uint64_t* keys, int64_t count, uint64_t key) {
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if ((keys[middle] | kTopKLive) > key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && (keys[low] | kTopKLive) == key ? low : count;
}
SEQFAST_INLINE uint32_t bits_of_ordered(uint32_t ordered) {
    return ordered >> 31 ? ordered & 0x7FFFFFFFu : ~ordered;
}
// Bits of the score of a key, and of the next larger one: NaN after infinity, which none reaches.
SEQFAST_INLINE uint32_t score_bits(uint64_t key) {
    return bits_of_ordered(static_cast<uint32_t>(key >> 32));
}
SEQFAST_INLINE uint32_t next_score_bits(uint64_t key) {
    return bits_of_ordered(static_cast<uint32_t>(key >> 32) + 1);
}

// On the CPU candidates are compacted once there are twice as many as are wanted; a block of
// columns is looked through in between.
constexpr int64_t kTopKSpare = 64;
constexpr int64_t kTopKBlock = 512;

SEQFAST_INLINE int64_t top_k_buffer(int64_t columns, int64_t selected) {
    const int64_t twice = 2 * selected + kTopKSpare;
    return (twice < columns ? twice : columns) + kTopKBlock;
}
// Threads share a row where there are fewer rows than threads.
SEQFAST_INLINE int64_t top_k_parts(int64_t rows, int threads) {
    return rows < threads ? (threads + rows - 1) / rows : 1;
}
// Keys of workspace: a buffer for each thread, or for each part of each row.
SEQFAST_INLINE int64_t top_k_workspace(const TopKArgs& args) {
    const int64_t parts = top_k_parts(args.rows, args.threads);
    const int64_t buffers = parts > 1 ? args.rows * parts : args.threads;
    const int64_t selected = top_k_selected(args.columns, args.k, args.excluded);
    return buffers * top_k_buffer(args.columns, selected);
}

}  // namespace seqfast

// The largest of a stream of keys: a buffer of candidates, and the limit that spares most of the
// stream the buffer.
#pragma once

#include <cstdint>

#include "core/top_k.h"
#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// How many of `count` things come before the first of which `holds` is false; behind it it is
// false.
template <class F>
SEQFAST_INLINE int64_t count_while(int64_t count, F&& holds) {
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (holds(middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Keys above the pivot, then the pivot, then the others; where the pivot is.
template <class Key>
SEQFAST_INLINE int64_t partition_keys(Key* keys, int64_t count, uint64_t& random) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const int64_t chosen =
        static_cast<int64_t>((random >> 32) * static_cast<uint64_t>(count) >> 32);
    const Key pivot = keys[chosen];
    keys[chosen] = keys[count - 1];
    int64_t above = 0;
    // No branch depends on a key.
    for (int64_t i = 0; i < count - 1; ++i) {
        const Key key = keys[i];
        keys[i] = keys[above];
        keys[above] = key;
        above += key > pivot;
    }
    keys[count - 1] = keys[above];
    keys[above] = pivot;
    return above;
}

// The `wanted` largest of different keys to the front, in any order, the smallest of them last;
// 0 < wanted <= count.
template <class Key>
inline void select_keys(Key* keys, int64_t count, int64_t wanted) {
    uint64_t random = 1;
    while (count > 1) {
        const int64_t above = partition_keys(keys, count, random);
        if (above == wanted - 1) return;
        if (above >= wanted) {
            count = above;
        } else {
            keys += above + 1;
            count -= above + 1;
            wanted -= above + 1;
        }
    }
}

// By falling key.
template <class Key>
inline void sort_keys(Key* keys, int64_t count) {
    uint64_t random = 1;
    while (count > 24) {
        const int64_t above = partition_keys(keys, count, random);
        const int64_t below = count - above - 1;
        // The shorter part by a call, so that calls nest no deeper than log2(count).
        if (above < below) {
            sort_keys(keys, above);
            keys += above + 1;
            count = below;
        } else {
            sort_keys(keys + above + 1, below);
            count = above;
        }
    }
    for (int64_t i = 1; i < count; ++i) {
        const Key key = keys[i];
        int64_t place = i;
        for (; place > 0 && key > keys[place - 1]; --place) keys[place] = keys[place - 1];
        keys[place] = key;
    }
}

template <class Int>
SEQFAST_INLINE bool any(Int x) {
    uint64_t words[kVectorBytes / 8];
    __builtin_memcpy(words, &x, sizeof(words));
    uint64_t all = 0;
    for (int i = 0; i < kVectorBytes / 8; ++i) all |= words[i];
    return all != 0;
}

// found(v, lane) for every lane in which test(v) is true, of up to 32 vectors v; lane by lane.
template <int count, class Real, class Test, class Found>
SEQFAST_INLINE void each_lane_where(Test&& test, Found&& found) {
    using Int = typename VectorTypes<Real>::Int;
    constexpr int lanes = kLanes<Real>;
    static_assert(count <= 32, "a bit for each");
    Int reached{};
#pragma GCC unroll 32
    for (int v = 0; v < count; ++v) {
        // Bit v of a lane: what is true of it in vector v.
        reached |= test(v) & static_cast<int32_t>(1u << v);
    }
    if (!any(reached)) return;
    decltype(reached[0] + 0) lane[lanes];
    __builtin_memcpy(lane, &reached, sizeof(lane));
    for (int l = 0; l < lanes; ++l) {
        for (uint32_t bits = static_cast<uint32_t>(lane[l]); bits; bits &= bits - 1) {
            found(__builtin_ctz(bits), l);
        }
    }
}

// Keeps the `wanted` largest of the scores that it is shown, in blocks of rising columns.
class Selection {
  public:
    // `buffer`: top_k_buffer keys.
    Selection(uint64_t* buffer, int64_t wanted)
        : keys_(buffer), wanted_(wanted), most_(2 * wanted + kTopKSpare) {}

    // Scores of columns [begin, end); `row` is the score of column 0.
    void scan(const float* row, int64_t begin, int64_t end) {
        start_limit(row, begin, end);
        for (; begin < end; begin += kTopKBlock) {
            scan_block(row, begin, end - begin < kTopKBlock ? end - begin : kTopKBlock);
            if (count_ >= most_) compact();
        }
    }

    // At most `wanted` keys from here on, in any order.
    void finish() {
        if (count_ > wanted_) compact();
    }

    int64_t count() const { return count_; }

  private:
    using V = Vector<float>;
    static constexpr int lanes = kLanes<float>;
    static constexpr int group = 8;  // vectors whose largest scores by lane make the first limit

    static SEQFAST_INLINE uint32_t bits_at(const float* row, int64_t column) {
        return bit_cast<uint32_t>(row[column]);
    }

    // As many scores as are wanted, each the largest of some columns: their smallest is a limit
    // that no wanted score is below. The columns lie scattered over the row.
    void start_limit(const float* row, int64_t begin, int64_t end) {
        limit_ = bit_cast<float>(0xFF800000u);
        const int64_t size = group * lanes, groups = (2 * wanted_ + 96) / lanes + 1;
        if (groups * size > (end - begin) / 2) return;
        const int64_t stride = (end - begin) / groups;
        int64_t maxima = 0;
        for (int64_t g = 0; g < groups; ++g) {
            const float* from = row + begin + g * stride;
            V largest = broadcast(limit_);
            for (int v = 0; v < group; ++v) {
                const V x = load(from + v * lanes);
                largest = x > largest ? x : largest;
            }
            float lane[lanes];
            store(lane, largest);
            // The column only tells equal ones apart.
            for (int l = 0; l < lanes; ++l, ++maxima) {
                keys_[maxima] =
                    top_k_key(bit_cast<uint32_t>(lane[l]), static_cast<uint32_t>(maxima));
            }
        }
        select_keys(keys_, maxima, wanted_);
        limit_ = bit_cast<float>(score_bits(keys_[wanted_ - 1]));
    }

    SEQFAST_INLINE void scan_block(const float* row, int64_t begin, int64_t size) {
        const V limit = broadcast(limit_);
        const int vectors = static_cast<int>(size / lanes);
        int v = 0;
        for (; v + 32 <= vectors; v += 32) scan_vectors<32>(row, begin + v * lanes, limit);
        for (; v + 4 <= vectors; v += 4) scan_vectors<4>(row, begin + v * lanes, limit);
        for (int64_t column = begin + v * lanes; column < begin + size; ++column) {
            if (row[column] >= limit_) push(row, column);
        }
    }

    template <int count>
    SEQFAST_INLINE void scan_vectors(const float* row, int64_t begin, V limit) {
        each_lane_where<count, float>(
            [&](int v) { return load(row + begin + v * lanes) >= limit; },
            [&](int v, int lane) { push(row, begin + v * lanes + lane); });
    }

    SEQFAST_INLINE void push(const float* row, int64_t column) {
        keys_[count_++] = top_k_key(bits_at(row, column), static_cast<uint32_t>(column));
    }

    void compact() {
        select_keys(keys_, count_, wanted_);
        count_ = wanted_;
        // What comes later loses against an equal score.
        limit_ = bit_cast<float>(next_score_bits(keys_[wanted_ - 1]));
    }

    uint64_t* keys_;
    int64_t wanted_, most_, count_ = 0;
    float limit_ = 0;
};

}  // namespace seqfast::cpu::SEQFAST_ISA

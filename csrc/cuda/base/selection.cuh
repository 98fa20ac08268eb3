// The largest of a stream of keys, by one block: candidates in shared memory, and the limit that
// spares most of the stream the way there.
#pragma once

#include "core/top_k.h"
#include "cuda/base/primitives.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

constexpr int kSelectionThreads = 256;
// Keys offered between two compactions at most.
constexpr int kSelectionBatch = 2048;
constexpr int kSelectionMost = 1024;  // that can be selected

SEQFAST_DEVICE uint32_t lanes_before() { return (1u << lane_index()) - 1u; }

SEQFAST_DEVICE int power_of_two_above(int x) {
    int power = 1;
    while (power < x) power *= 2;
    return power;
}

template <class Key>
struct SelectionMemoryOf {
    Key keys[2 * kSelectionBatch];
    uint32_t count;
};

// Keeps the `wanted` largest of the keys that all threads of a block offer it; Key{} is below all.
template <class Key>
class SelectionOf {
  public:
    // Every thread; the memory is the block's.
    SEQFAST_DEVICE SelectionOf(SelectionMemoryOf<Key>& memory, int wanted)
        : memory_(memory), wanted_(wanted) {
        if (thread_index() == 0) memory_.count = 0;
        block_sync();
    }

    // By all lanes of a warp. Between two calls of `compact_if_full` a block offers at most
    // kSelectionBatch keys.
    SEQFAST_DEVICE void offer(Key key, bool offered) {
        const uint32_t lanes = ballot(offered);
        if (lanes == 0) return;
        uint32_t place = 0;
        if (lane_index() == 0) place = atomic_add(&memory_.count, uint32_t(count_bits(lanes)));
        place = shuffle(place, 0) + uint32_t(count_bits(lanes & lanes_before()));
        if (offered) memory_.keys[place] = key;
    }

    // By all threads, as all that follow; whether the `wanted` largest so far stand in front.
    SEQFAST_DEVICE bool compact_if_full() {
        block_sync();
        const bool full = int(memory_.count) > kSelectionBatch;
        block_sync();  // nobody offers more before all have read
        if (full) compact();
        return full;
    }

    // At most `wanted` keys from here on, by falling key.
    SEQFAST_DEVICE void compact() {
        block_sync();
        const int count = int(memory_.count);
        sort(count);
        block_sync();
        if (thread_index() == 0) memory_.count = uint32_t(count < wanted_ ? count : wanted_);
        block_sync();
    }

    SEQFAST_DEVICE int count() const { return int(memory_.count); }
    SEQFAST_DEVICE Key* keys() { return memory_.keys; }
    SEQFAST_DEVICE Key key(int place) const { return memory_.keys[place]; }
    // Forgets all keys.
    SEQFAST_DEVICE void clear() {
        block_sync();
        if (thread_index() == 0) memory_.count = 0;
        block_sync();
    }

  private:
    // Bitonic, by falling key; empty ones fill up to a power of two.
    SEQFAST_DEVICE void sort(int count) {
        Key* keys = memory_.keys;
        const int size = power_of_two_above(count);
        for (int i = count + thread_index(); i < size; i += kSelectionThreads) keys[i] = Key{};
        for (int run = 2; run <= size; run *= 2) {
            for (int distance = run / 2; distance > 0; distance /= 2) {
                block_sync();
                for (int i = thread_index(); i < size / 2; i += kSelectionThreads) {
                    const int low = 2 * i - i % distance, high = low + distance;
                    const Key a = keys[low], b = keys[high];
                    const bool falling = (low & run) == 0;
                    if ((a < b) == falling) {
                        keys[low] = b;
                        keys[high] = a;
                    }
                }
            }
        }
    }

    SelectionMemoryOf<Key>& memory_;
    int wanted_;
};

using SelectionMemory = SelectionMemoryOf<uint64_t>;
using Selection = SelectionOf<uint64_t>;

// ---- Keys: a number and what tells equal ones apart, larger for whoever comes first -------------

struct WideKey {
    uint64_t value, rest;
};
SEQFAST_DEVICE bool operator<(WideKey a, WideKey b) {
    return a.value < b.value || (a.value == b.value && a.rest < b.rest);
}

template <class Real>
struct Keys;

template <>
struct Keys<float> {
    using Key = uint64_t;
    static SEQFAST_DEVICE float lowest() { return float_of(0xFF7FFFFFu); }  // that is finite
    static SEQFAST_DEVICE float minus_infinity() { return float_of(0xFF800000u); }
    static SEQFAST_DEVICE float nan() { return float_of(0x7FFFFFFFu); }
    static SEQFAST_DEVICE Key make(float value, uint32_t place) {
        const uint32_t bits = value == 0 ? 0 : bits_of(value);  // -0 is 0
        return uint64_t(ordered_bits(bits)) << 32 | ~place;
    }
    static SEQFAST_DEVICE float value(Key key) { return float_of(score_bits(key)); }
    static SEQFAST_DEVICE float next_value(Key key) { return float_of(next_score_bits(key)); }
    static SEQFAST_DEVICE uint32_t place(Key key) { return ~uint32_t(key); }
};

template <>
struct Keys<double> {
    using Key = WideKey;
    static constexpr uint64_t sign = uint64_t(1) << 63;
    static SEQFAST_DEVICE double lowest() { return double_of(0xFFFFFFFFu, 0xFFEFFFFFu); }
    static SEQFAST_DEVICE double minus_infinity() { return double_of(0, 0xFFF00000u); }
    static SEQFAST_DEVICE double nan() { return double_of(0xFFFFFFFFu, 0x7FFFFFFFu); }
    static SEQFAST_DEVICE Key make(double value, uint64_t place) {
        const uint64_t bits = value == 0 ? 0 : bits_of(value);
        return {bits & sign ? ~bits : bits | sign, ~place};
    }
    static SEQFAST_DEVICE double number(uint64_t ordered) {
        const uint64_t bits = ordered & sign ? ordered & ~sign : ~ordered;
        return double_of(uint32_t(bits), uint32_t(bits >> 32));
    }
    static SEQFAST_DEVICE double value(Key key) { return number(key.value); }
    static SEQFAST_DEVICE double next_value(Key key) { return number(key.value + 1); }
    static SEQFAST_DEVICE uint64_t place(Key key) { return ~key.rest; }
};

template <class Real>
SEQFAST_DEVICE Real larger(Real a, Real b) {
    return b > a ? b : a;
}

// ---- A tile: `count` numbers of each thread -----------------------------------------------------

// A limit that `wanted` numbers of the tile reach, at most a quarter of them: each is the largest
// of some. place_of(i): of a thread's i-th number.
template <class Real, int count, class Selection, class PlaceOf>
SEQFAST_DEVICE Real first_limit(int wanted, Selection& selection, const Real (&numbers)[count],
                                const PlaceOf& place_of) {
    const bool one_each = wanted <= kSelectionThreads / 2;
    Real largest = Keys<Real>::minus_infinity();
    SEQFAST_UNROLL
    for (int i = 0; i < count; ++i) {
        largest = larger(largest, numbers[i]);
        if (one_each ? i + 1 < count : (i + 1) % 4 != 0) continue;
        selection.offer(Keys<Real>::make(largest, place_of(i)), true);
        largest = Keys<Real>::minus_infinity();
    }
    selection.compact();
    const Real limit = Keys<Real>::value(selection.key(wanted - 1));
    selection.clear();
    return limit;
}

// Offers what reaches the limit, which rises when the selection is full. NaN reaches none.
template <class Real, int count, class Selection, class PlaceOf>
SEQFAST_DEVICE void offer_tile(int wanted, Selection& selection, const Real (&numbers)[count],
                               const PlaceOf& place_of, Real& limit) {
    constexpr int batches = count * kSelectionThreads / kSelectionBatch, each = count / batches;
    SEQFAST_UNROLL
    for (int batch = 0; batch < batches; ++batch) {
        bool reached = false;
        SEQFAST_UNROLL
        for (int i = batch * each; i < (batch + 1) * each; ++i) reached |= numbers[i] >= limit;
        if (warp_any(reached)) {
            SEQFAST_UNROLL
            for (int i = batch * each; i < (batch + 1) * each; ++i)
                selection.offer(Keys<Real>::make(numbers[i], place_of(i)), numbers[i] >= limit);
        }
        // What comes later loses against an equal one.
        if (selection.compact_if_full()) limit = Keys<Real>::next_value(selection.key(wanted - 1));
    }
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

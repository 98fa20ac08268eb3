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

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

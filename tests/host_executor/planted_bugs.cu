// Kernels with one mistake each, and the same kernels without it.
#include "planted_bugs.h"

#include <stdexcept>

#include "cuda/base/primitives.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

constexpr int threads = 128;

SEQFAST_DEVICE float* shared_floats() { return reinterpret_cast<float*>(dynamic_shared()); }

// ---- Barriers of a block ------------------------------------------------------------------------

// Each thread reads what another one wrote: a square of 16 x 16, its rows become columns.
template <bool correct>
SEQFAST_KERNEL(256, 1)
transpose_kernel(const float* from, float* to) {
    float* const tile = shared_floats();
    const int row = thread_index() / 16, column = thread_index() % 16;
    tile[thread_index()] = from[block_x() * 256 + thread_index()];
    if constexpr (correct) block_sync();
    to[block_x() * 256 + thread_index()] = tile[column * 16 + row];
}

// The sum of a block, by halves; the mistake spares the barrier within the loop.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
reduction_kernel(const float* from, float* to) {
    float* const sums = shared_floats();
    sums[thread_index()] = from[block_x() * threads + thread_index()];
    block_sync();
    for (int half = threads / 2; half > 0; half /= 2) {
        if (thread_index() < half) sums[thread_index()] += sums[thread_index() + half];
        if constexpr (correct) block_sync();
    }
    block_sync();
    if (thread_index() == 0) to[block_x()] = sums[0];
}

// A buffer that is filled again while others may still read it.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
buffer_reuse_kernel(const float* from, float* to) {
    constexpr int steps = 6;
    float* const buffer = shared_floats();
    float sum = 0;
    for (int step = 0; step < steps; ++step) {
        buffer[thread_index()] = from[step * threads + thread_index()];
        block_sync();
        sum += buffer[(thread_index() + 32) % threads];
        if constexpr (correct) block_sync();
    }
    to[block_x() * threads + thread_index()] = sum;
}

// Lanes that trade numbers through shared memory.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
warp_exchange_kernel(const float* from, float* to) {
    float* const slots = shared_floats();
    slots[thread_index()] = from[block_x() * threads + thread_index()];
    if constexpr (correct) warp_sync();
    to[block_x() * threads + thread_index()] = slots[thread_index() ^ 5];
}

// Half of the block does not come.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
divergent_exit_kernel(const float* from, float* to) {
    if (!correct && thread_index() >= 64) return;
    block_sync();
    to[block_x() * threads + thread_index()] = from[block_x() * threads + thread_index()];
}

// Each half has a barrier of its own.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
divergent_branch_kernel(const float* from, float* to) {
    float* const buffer = shared_floats();
    buffer[thread_index()] = from[block_x() * threads + thread_index()];
    if (correct || thread_index() < 64) {
        block_sync();
    } else {
        block_sync();
    }
    to[block_x() * threads + thread_index()] = buffer[thread_index() ^ 64];
}

// A shuffle in which only some lanes take part.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
divergent_shuffle_kernel(const float* from, float* to) {
    const float value = from[block_x() * threads + thread_index()];
    float result = value;
    if (correct || lane_index() < 16) result = shuffle_xor(value, 1);
    to[block_x() * threads + thread_index()] = result;
}

// Two warps hand over to the two others; the mistake waits for one warp too many.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
barrier_count_kernel(const float* from, float* to) {
    float* const buffer = shared_floats();
    if (warp_index() < 2) {
        buffer[thread_index()] = from[block_x() * threads + thread_index()];
        named_barrier_arrive(1, threads);
    } else if (correct || warp_index() == 2) {
        named_barrier_sync(1, threads);
        const int first = thread_index() - 64;
        to[block_x() * threads + first] = buffer[first];
        to[block_x() * threads + first + 64] = from[block_x() * threads + first + 64];
    }
}

// The consumers do not wait for the producers.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
producer_kernel(const float* from, float* to) {
    constexpr int steps = 5;
    float* const buffer = shared_floats();
    for (int step = 0; step < steps; ++step) {
        float* const stage = buffer + step % 2 * 64;
        const int full = 1 + step % 2, empty = 3 + step % 2;
        if (warp_index() < 2) {
            if (step >= 2) named_barrier_sync(empty, threads);
            stage[thread_index()] = from[step * 64 + thread_index()];
            named_barrier_arrive(full, threads);
        } else {
            if constexpr (correct) named_barrier_sync(full, threads);
            const int i = thread_index() - 64;
            to[(block_x() * steps + step) * 64 + i] = stage[i ^ 32];
            if (step < steps - 2) named_barrier_arrive(empty, threads);
        }
    }
}

// One place too far.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
off_by_one_kernel(const float* from, float* to) {
    float* const buffer = shared_floats();
    const int shift = correct ? 0 : 1;
    buffer[thread_index() + shift] = from[block_x() * threads + thread_index()];
    block_sync();
    to[block_x() * threads + thread_index()] = buffer[thread_index() + shift];
}

// ---- Copies that run beside the thread ----------------------------------------------------------

template <bool correct>
SEQFAST_KERNEL(threads, 1)
async_copy_kernel(const float* from, float* to) {
    float* const buffer = shared_floats();
    copy_async_16(buffer + 4 * thread_index(), from + 4 * thread_index());
    copy_async_commit();
    if constexpr (correct) copy_async_wait<0>();
    block_sync();
    to[block_x() * threads + thread_index()] = buffer[3 * thread_index()];
}

// Two groups on their way, and the wait is for the older one only.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
async_group_kernel(const float* from, float* to) {
    float* const buffer = shared_floats();
    for (int group = 0; group < 2; ++group) {
        const int i = group * 4 * threads + 4 * thread_index();
        copy_async_16(buffer + i, from + i);
        copy_async_commit();
    }
    copy_async_wait<correct ? 0 : 1>();
    block_sync();
    to[block_x() * threads + thread_index()] = buffer[4 * threads + 3 * thread_index()];
}

template <bool correct>
SEQFAST_KERNEL(threads, 1)
bulk_copy_kernel(const float* from, float* to) {
    auto* const barrier = reinterpret_cast<Mbarrier*>(dynamic_shared());
    auto* const buffer = reinterpret_cast<float*>(dynamic_shared() + 16);
    constexpr int bytes = threads * int(sizeof(float));
    if (thread_index() == 0) mbarrier_init(barrier, 1);
    block_sync();
    if (thread_index() == 0) {
        mbarrier_arrive_expect(barrier, bytes);
        copy_bulk(buffer, from, bytes, barrier);
    }
    if constexpr (correct) mbarrier_wait(barrier, 0);
    to[block_x() * threads + thread_index()] = buffer[thread_index() ^ 1];
    mbarrier_wait(barrier, 0);
}

// A block that ends before its copy has come.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
bulk_exit_kernel(const float* from, float* to) {
    auto* const barrier = reinterpret_cast<Mbarrier*>(dynamic_shared());
    constexpr int bytes = threads * int(sizeof(float));
    if (thread_index() == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_arrive_expect(barrier, bytes);
        copy_bulk(dynamic_shared() + 16, from, bytes, barrier);
        if constexpr (correct) mbarrier_wait(barrier, 0);
    }
    to[block_x() * threads + thread_index()] = from[thread_index()];
}

// Waits for the phase before the one that it means.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
parity_kernel(const float* from, float* to) {
    constexpr int phases = 4;
    auto* const barrier = reinterpret_cast<Mbarrier*>(dynamic_shared());
    auto* const buffer = reinterpret_cast<float*>(dynamic_shared() + 16);
    if (thread_index() == 0) mbarrier_init(barrier, threads / 2);
    block_sync();
    for (int phase = 0; phase < phases; ++phase) {
        if (thread_index() < threads / 2) {
            buffer[thread_index()] = from[phase * threads / 2 + thread_index()];
            mbarrier_arrive(barrier);
        } else {
            mbarrier_wait(barrier, correct ? phase & 1 : ~phase & 1);
            const int i = thread_index() - threads / 2;
            to[(block_x() * phases + phase) * threads / 2 + i] = buffer[i ^ 32];
        }
        block_sync();
    }
}

// ---- Blocks of a cluster ------------------------------------------------------------------------

// Reads what the next block wrote, before it is known to have done so.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
cluster_read_kernel(const float* from, float* to) {
    float* const buffer = shared_floats();
    buffer[thread_index()] = from[block_x() * threads + thread_index()];
    if constexpr (correct)
        cluster_sync();
    else
        block_sync();
    const float* const next = cluster_map(buffer, (cluster_rank() + 1) % cluster_size());
    to[block_x() * threads + thread_index()] = next[thread_index()];
    cluster_sync();
}

// Leaves while the next block may still be reading from it.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
cluster_exit_read_kernel(const float* from, float* to) {
    float* const buffer = shared_floats();
    buffer[thread_index()] = from[block_x() * threads + thread_index()];
    cluster_sync();
    const float* const next = cluster_map(buffer, (cluster_rank() + 1) % cluster_size());
    to[block_x() * threads + thread_index()] = next[thread_index()];
    if constexpr (correct) cluster_sync();
}

// Leaves while others may still be storing into it.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
cluster_exit_store_kernel(const float* from, float* to) {
    auto* const buffer = reinterpret_cast<U32x4*>(dynamic_shared());
    // Nobody stores before all have begun.
    cluster_sync();
    const uint32_t value = bits_of(from[thread_index()]);
    store_cluster(buffer + thread_index(), (cluster_rank() + 1) % cluster_size(),
                  U32x4{value, value, value, value});
    if constexpr (correct) cluster_sync();
    to[block_x() * threads + thread_index()] = from[thread_index()];
}

// ---- Blocks of a grid ---------------------------------------------------------------------------

// The first block adds up what the others have left.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
grid_kernel(const float* from, float* partial, float* to) {
    partial[block_x() * threads + thread_index()] = 2 * from[block_x() * threads + thread_index()];
    if constexpr (correct) grid_sync();
    if (block_x() != 0) return;
    float sum = 0;
    for (int block = 0; block < grid_x(); ++block) sum += partial[block * threads + thread_index()];
    to[thread_index()] = sum;
}

// A flag that nobody sets.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
flag_kernel(const float* from, uint32_t* flag, float* to) {
    if (block_x() == 0) {
        to[thread_index()] = from[thread_index()];
        block_sync();
        if (correct && thread_index() == 0) store_release(flag, 1);
    } else {
        while (load_acquire(flag) == 0) poll_pause();  // the line of the deadlock
        to[block_x() * threads + thread_index()] = to[thread_index()];
    }
}

// Blocks that wait for each other in a launch that does not promise to run them together.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
residency_kernel(const float* from, uint32_t* count, float* to) {
    block_sync();
    if (thread_index() == 0) {
        memory_fence();
        atomic_add(count, 1u);
        while (load_acquire(count) < uint32_t(grid_x())) poll_pause();
    }
    block_sync();
    to[block_x() * threads + thread_index()] = from[block_x() * threads + thread_index()];
}

// The data and then the flag, but nothing keeps them in this order.
template <bool correct>
SEQFAST_KERNEL(32, 1)
release_kernel(const float* from, uint32_t* flags, float* to) {
    auto* const data = reinterpret_cast<U32x2*>(to) + 32;
    const int lane = thread_index();
    if (block_x() == 0) {
        const uint32_t value = bits_of(from[lane]);
        store_relaxed(data + lane, U32x2{value, value});
        if constexpr (correct)
            store_release(flags + 2 * lane, 1);
        else
            store_relaxed(reinterpret_cast<U32x2*>(flags) + lane, U32x2{1, 0});
    } else {
        while (load_acquire(flags + 2 * lane) == 0) poll_pause();
        to[lane] = float_of(data[lane].x);
    }
}

// 16 bytes of which only 8 are known to have come.
template <bool correct>
SEQFAST_KERNEL(32, 1)
torn_kernel(const float* from, uint32_t* flags, float* to) {
    const int lane = thread_index();
    auto* const place = reinterpret_cast<U32x4*>(flags) + lane;
    if (block_x() == 0) {
        const uint32_t value = bits_of(from[lane]);
        store_relaxed(place, U32x4{1, value, 1, value});
    } else {
        U32x4 words;
        for (;;) {
            words = load_relaxed(place);
            if (words.x == 1 && (!correct || words.z == 1)) break;
            poll_pause();
        }
        to[lane] = float_of(words.y) + float_of(words.w);
    }
}

// The next three are wrong by PTX's memory model alone: no order of whole threads shows it.

// Every thread stores, a barrier of the block, then one stores a flag: others may see that first.
template <bool correct>
SEQFAST_KERNEL(threads, 1)
unfenced_kernel(const float* from, uint32_t* flags, float* to) {
    auto* const data = reinterpret_cast<U32x4*>(to) + threads;
    const int i = thread_index();
    if (block_x() == 0) {
        const uint32_t value = bits_of(from[i]);
        store_relaxed(data + i, U32x4{value, value, value, value});
        block_sync();
        if (i != 0) return;
        if constexpr (correct) memory_fence();
        store_relaxed(reinterpret_cast<U32x2*>(flags), U32x2{1, 0});
    } else {
        while (load_acquire(flags) == 0) poll_pause();
        to[i] = float_of(load_relaxed(data + i).x);
    }
}

// The data are there before the flag, but a reader may have read them before the flag.
template <bool correct>
SEQFAST_KERNEL(32, 1)
early_read_kernel(const float* from, uint32_t* flags, float* to) {
    auto* const data = reinterpret_cast<U32x4*>(to) + 32;
    const int lane = thread_index();
    if (block_x() == 0) {
        const uint32_t value = bits_of(from[lane]);
        store_relaxed(data + lane, U32x4{value, value, value, value});
        store_release(flags + 4 * lane, 1);
    } else {
        while (load_relaxed(reinterpret_cast<U32x4*>(flags) + lane).x == 0) poll_pause();
        if constexpr (correct) memory_fence();
        to[lane] = float_of(load_relaxed(data + lane).x);
    }
}

// Two words of a pair, the second stored long before the first, which is tested: that says nothing
// of the other.
template <bool correct>
SEQFAST_KERNEL(32, 1)
pair_kernel(const float* from, uint32_t* flags, float* to) {
    const int lane = thread_index();
    auto* const place = reinterpret_cast<U32x2*>(flags) + 2 * lane;
    if (block_x() == 0) {
        const uint32_t value = bits_of(from[lane]);
        store_relaxed(place + 1, U32x2{1, value});
        const uint32_t same = shuffle_xor(shuffle_xor(value, 1), 1);
        store_relaxed(place, U32x2{1, same});
    } else {
        U32x4 words;
        for (;;) {
            words = load_relaxed(reinterpret_cast<U32x4*>(place));
            if (words.x == 1 && (!correct || words.z == 1)) break;
            poll_pause();
        }
        to[lane] = float_of(words.y) + float_of(words.w);
    }
}

// ---- Inputs, launches, expectations -------------------------------------------------------------

// What a kernel of this file works on. Numbers are small integers: sums are exact in any order.
struct Arrays {
    std::vector<float> from = std::vector<float>(8 * 4 * threads);
    std::vector<float> to = std::vector<float>(8 * 8 * threads, -1.0f);
    std::vector<float> partial = std::vector<float>(8 * threads, -1.0f);
    // 16 bytes a lane
    struct alignas(16) Words {
        uint32_t word[4];
    };
    std::vector<Words> flags = std::vector<Words>(32);

    Arrays() {
        for (size_t i = 0; i < from.size(); ++i) from[i] = float(i * 7919 % 1021);
    }
    uint32_t* flag() { return flags[0].word; }

    template <class Expected>
    int64_t wrong(int count, Expected expected) const {
        int64_t result = 0;
        for (int i = 0; i < count; ++i) result += !(to[size_t(i)] == expected(i));
        return result;
    }
};

constexpr int float_bytes = int(sizeof(float));

LaunchShape shape(int blocks, int block_threads, int shared_bytes, int cluster = 1,
                  bool cooperative = false) {
    return {blocks, 1, 1, block_threads, cluster, shared_bytes, cooperative};
}

#define SEQFAST_EITHER(kernel) (correct ? &kernel<true> : &kernel<false>)

int64_t transpose(bool correct) {
    Arrays a;
    launch("transpose_kernel", SEQFAST_EITHER(transpose_kernel), shape(2, 256, 256 * float_bytes),
           nullptr, a.from.data(), a.to.data());
    return a.wrong(
        2 * 256, [&](int i) { return a.from[size_t(i / 256 * 256 + i % 16 * 16 + i / 16 % 16)]; });
}

int64_t reduction(bool correct) {
    Arrays a;
    launch("reduction_kernel", SEQFAST_EITHER(reduction_kernel),
           shape(4, threads, threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(4, [&](int block) {
        float sum = 0;
        for (int i = 0; i < threads; ++i) sum += a.from[size_t(block * threads + i)];
        return sum;
    });
}

int64_t buffer_reuse(bool correct) {
    Arrays a;
    launch("buffer_reuse_kernel", SEQFAST_EITHER(buffer_reuse_kernel),
           shape(2, threads, threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) {
        float sum = 0;
        for (int step = 0; step < 6; ++step)
            sum += a.from[size_t(step * threads + (i + 32) % threads)];
        return sum;
    });
}

int64_t warp_exchange(bool correct) {
    Arrays a;
    launch("warp_exchange_kernel", SEQFAST_EITHER(warp_exchange_kernel),
           shape(2, threads, threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i ^ 5)]; });
}

int64_t divergent_exit(bool correct) {
    Arrays a;
    launch("divergent_exit_kernel", SEQFAST_EITHER(divergent_exit_kernel), shape(2, threads, 0),
           nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i)]; });
}

int64_t divergent_branch(bool correct) {
    Arrays a;
    launch("divergent_branch_kernel", SEQFAST_EITHER(divergent_branch_kernel),
           shape(2, threads, threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i ^ 64)]; });
}

int64_t divergent_shuffle(bool correct) {
    Arrays a;
    launch("divergent_shuffle_kernel", SEQFAST_EITHER(divergent_shuffle_kernel),
           shape(2, threads, 0), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i ^ 1)]; });
}

int64_t barrier_count(bool correct) {
    Arrays a;
    launch("barrier_count_kernel", SEQFAST_EITHER(barrier_count_kernel),
           shape(2, threads, threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i)]; });
}

int64_t producer(bool correct) {
    Arrays a;
    launch("producer_kernel", SEQFAST_EITHER(producer_kernel),
           shape(2, threads, threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * 5 * 64,
                   [&](int i) { return a.from[size_t(i % 320 / 64 * 64 + (i % 64 ^ 32))]; });
}

int64_t off_by_one(bool correct) {
    Arrays a;
    launch("off_by_one_kernel", SEQFAST_EITHER(off_by_one_kernel),
           shape(2, threads, threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i)]; });
}

int64_t async_copy(bool correct) {
    Arrays a;
    launch("async_copy_kernel", SEQFAST_EITHER(async_copy_kernel),
           shape(2, threads, 4 * threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(3 * (i % threads))]; });
}

int64_t async_group(bool correct) {
    Arrays a;
    launch("async_group_kernel", SEQFAST_EITHER(async_group_kernel),
           shape(2, threads, 8 * threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads,
                   [&](int i) { return a.from[size_t(4 * threads + 3 * (i % threads))]; });
}

int64_t bulk_copy(bool correct) {
    Arrays a;
    launch("bulk_copy_kernel", SEQFAST_EITHER(bulk_copy_kernel),
           shape(2, threads, 16 + threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i % threads ^ 1)]; });
}

int64_t bulk_exit(bool correct) {
    Arrays a;
    launch("bulk_exit_kernel", SEQFAST_EITHER(bulk_exit_kernel),
           shape(2, threads, 16 + threads * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * threads, [&](int i) { return a.from[size_t(i % threads)]; });
}

int64_t parity(bool correct) {
    Arrays a;
    launch("parity_kernel", SEQFAST_EITHER(parity_kernel),
           shape(2, threads, 16 + threads / 2 * float_bytes), nullptr, a.from.data(), a.to.data());
    return a.wrong(2 * 4 * 64,
                   [&](int i) { return a.from[size_t(i % 256 / 64 * 64 + (i % 64 ^ 32))]; });
}

int64_t cluster_read(bool correct) {
    Arrays a;
    launch("cluster_read_kernel", SEQFAST_EITHER(cluster_read_kernel),
           shape(8, threads, threads * float_bytes, 4), nullptr, a.from.data(), a.to.data());
    return a.wrong(8 * threads, [&](int i) {
        const int block = i / threads;
        return a.from[size_t((block / 4 * 4 + (block + 1) % 4) * threads + i % threads)];
    });
}

int64_t cluster_exit_read(bool correct) {
    Arrays a;
    launch("cluster_exit_read_kernel", SEQFAST_EITHER(cluster_exit_read_kernel),
           shape(8, threads, threads * float_bytes, 4), nullptr, a.from.data(), a.to.data());
    return a.wrong(8 * threads, [&](int i) {
        const int block = i / threads;
        return a.from[size_t((block / 4 * 4 + (block + 1) % 4) * threads + i % threads)];
    });
}

int64_t cluster_exit_store(bool correct) {
    Arrays a;
    launch("cluster_exit_store_kernel", SEQFAST_EITHER(cluster_exit_store_kernel),
           shape(8, threads, threads * 16, 4), nullptr, a.from.data(), a.to.data());
    return a.wrong(8 * threads, [&](int i) { return a.from[size_t(i % threads)]; });
}

int64_t grid(bool correct) {
    Arrays a;
    launch("grid_kernel", SEQFAST_EITHER(grid_kernel), shape(8, threads, 0, 1, true), nullptr,
           a.from.data(), a.partial.data(), a.to.data());
    return a.wrong(threads, [&](int i) {
        float sum = 0;
        for (int block = 0; block < 8; ++block) sum += 2 * a.from[size_t(block * threads + i)];
        return sum;
    });
}

int64_t flag(bool correct) {
    Arrays a;
    launch("flag_kernel", SEQFAST_EITHER(flag_kernel), shape(3, threads, 0, 1, true), nullptr,
           a.from.data(), a.flag(), a.to.data());
    return a.wrong(3 * threads, [&](int i) { return a.from[size_t(i % threads)]; });
}

int64_t residency(bool correct) {
    Arrays a;
    launch("residency_kernel", SEQFAST_EITHER(residency_kernel), shape(6, threads, 0, 1, correct),
           nullptr, a.from.data(), a.flag(), a.to.data());
    return a.wrong(6 * threads, [&](int i) { return a.from[size_t(i)]; });
}

int64_t release(bool correct) {
    Arrays a;
    launch("release_kernel", SEQFAST_EITHER(release_kernel), shape(2, 32, 0, 1, true), nullptr,
           a.from.data(), a.flag(), a.to.data());
    return a.wrong(32, [&](int i) { return a.from[size_t(i)]; });
}

int64_t torn(bool correct) {
    Arrays a;
    launch("torn_kernel", SEQFAST_EITHER(torn_kernel), shape(2, 32, 0, 1, true), nullptr,
           a.from.data(), a.flag(), a.to.data());
    return a.wrong(32, [&](int i) { return 2 * a.from[size_t(i)]; });
}

int64_t unfenced(bool correct) {
    Arrays a;
    launch("unfenced_kernel", SEQFAST_EITHER(unfenced_kernel), shape(2, threads, 0, 1, true),
           nullptr, a.from.data(), a.flag(), a.to.data());
    return a.wrong(threads, [&](int i) { return a.from[size_t(i)]; });
}

int64_t early_read(bool correct) {
    Arrays a;
    launch("early_read_kernel", SEQFAST_EITHER(early_read_kernel), shape(2, 32, 0, 1, true),
           nullptr, a.from.data(), a.flag(), a.to.data());
    return a.wrong(32, [&](int i) { return a.from[size_t(i)]; });
}

int64_t pair(bool correct) {
    Arrays a;
    launch("pair_kernel", SEQFAST_EITHER(pair_kernel), shape(2, 32, 0, 1, true), nullptr,
           a.from.data(), a.flag(), a.to.data());
    return a.wrong(32, [&](int i) { return 2 * a.from[size_t(i)]; });
}

struct Named {
    const char* name;
    int64_t (*run)(bool);
};

#define SEQFAST_NAMED(bug) {#bug, &bug}
const Named all[] = {
    SEQFAST_NAMED(transpose),
    SEQFAST_NAMED(reduction),
    SEQFAST_NAMED(buffer_reuse),
    SEQFAST_NAMED(warp_exchange),
    SEQFAST_NAMED(divergent_exit),
    SEQFAST_NAMED(divergent_branch),
    SEQFAST_NAMED(divergent_shuffle),
    SEQFAST_NAMED(barrier_count),
    SEQFAST_NAMED(producer),
    SEQFAST_NAMED(off_by_one),
    SEQFAST_NAMED(async_copy),
    SEQFAST_NAMED(async_group),
    SEQFAST_NAMED(bulk_copy),
    SEQFAST_NAMED(bulk_exit),
    SEQFAST_NAMED(parity),
    SEQFAST_NAMED(cluster_read),
    SEQFAST_NAMED(cluster_exit_read),
    SEQFAST_NAMED(cluster_exit_store),
    SEQFAST_NAMED(grid),
    SEQFAST_NAMED(flag),
    SEQFAST_NAMED(residency),
    SEQFAST_NAMED(release),
    SEQFAST_NAMED(torn),
    SEQFAST_NAMED(unfenced),
    SEQFAST_NAMED(early_read),
    SEQFAST_NAMED(pair),
};

}  // namespace

std::vector<std::string> planted_bugs() {
    std::vector<std::string> names;
    for (const Named& bug : all) names.emplace_back(bug.name);
    return names;
}

int64_t run_planted_bug(const std::string& name, bool correct) {
    for (const Named& bug : all)
        if (name == bug.name) return bug.run(correct);
    throw std::invalid_argument("no planted bug is called " + name);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

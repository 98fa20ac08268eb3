// Small kernels around one primitive each, for tests that know what has to come out.
#include "primitive_cases.h"

#include <stdexcept>

#include "cuda/base/primitives.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

using Arrays = void* const*;
using Numbers = const int64_t*;

template <class T>
T* array(Arrays arrays, int i) {
    return static_cast<T*>(arrays[i]);
}

LaunchShape one_block(int threads, int64_t shared_bytes = 0) {
    return {1, 1, 1, threads, 1, shared_bytes, false};
}

// ---- Numbers ------------------------------------------------------------------------------------

// arrays: float32 [count], 16-bit [count]; numbers: count
template <class T>
SEQFAST_KERNEL(64, 1)
round_kernel(const float* from, T* to, int64_t count) {
    for (int64_t i = thread_index(); i < count; i += thread_count()) to[i] = round_to<T>(from[i]);
}
template <class T>
void round(Arrays arrays, Numbers numbers) {
    launch("round_kernel", &round_kernel<T>, one_block(64), nullptr, array<float>(arrays, 0),
           array<T>(arrays, 1), numbers[0]);
}

// arrays: 16-bit [count], float32 [count]; numbers: count
template <class T>
SEQFAST_KERNEL(64, 1)
widen_kernel(const T* from, float* to, int64_t count) {
    for (int64_t i = thread_index(); i < count; i += thread_count()) to[i] = to_float(from[i]);
}
template <class T>
void widen(Arrays arrays, Numbers numbers) {
    launch("widen_kernel", &widen_kernel<T>, one_block(64), nullptr, array<T>(arrays, 0),
           array<float>(arrays, 1), numbers[0]);
}

// arrays: x, y, exp(x), x / y, each float32 [count]; numbers: count
SEQFAST_KERNEL(64, 1)
fast_kernel(const float* x, const float* y, float* power, float* quotient, int64_t count) {
    for (int64_t i = thread_index(); i < count; i += thread_count()) {
        power[i] = fast_exp(x[i]);
        quotient[i] = fast_divide(x[i], y[i]);
    }
}
void fast(Arrays arrays, Numbers numbers) {
    launch("fast_kernel", &fast_kernel, one_block(64), nullptr, array<float>(arrays, 0),
           array<float>(arrays, 1), array<float>(arrays, 2), array<float>(arrays, 3), numbers[0]);
}

// arrays: float32 [count] and float64 [count]; of each log(1 + x) [count] and log(x) [count]; bits
// of the latter [count] as uint64; numbers: count
SEQFAST_KERNEL(64, 1)
logarithms_kernel(const float* x, const double* y, float* logs, double* wide_logs, uint64_t* bits,
                  int64_t count) {
    for (int64_t i = thread_index(); i < count; i += thread_count()) {
        logs[i] = log_plus_one(x[i]);
        logs[count + i] = logarithm(x[i]);
        wide_logs[i] = log_plus_one(y[i]);
        wide_logs[count + i] = logarithm(y[i]);
        bits[i] = bits_of(y[i]);
    }
}
void logarithms(Arrays arrays, Numbers numbers) {
    launch("logarithms_kernel", &logarithms_kernel, one_block(64), nullptr, array<float>(arrays, 0),
           array<double>(arrays, 1), array<float>(arrays, 2), array<double>(arrays, 3),
           array<uint64_t>(arrays, 4), numbers[0]);
}

// arrays: float32 [count], log(1 + x) [count], bits set in each [count] as uint32; numbers: count
SEQFAST_KERNEL(64, 1)
logs_and_counts_kernel(const float* x, float* logs, uint32_t* counts, int64_t count) {
    for (int64_t i = thread_index(); i < count; i += thread_count()) {
        logs[i] = log_plus_one(x[i]);
        counts[i] = uint32_t(count_bits(bits_of(x[i])));
    }
}
void logs_and_counts(Arrays arrays, Numbers numbers) {
    launch("logs_and_counts_kernel", &logs_and_counts_kernel, one_block(64), nullptr,
           array<float>(arrays, 0), array<float>(arrays, 1), array<uint32_t>(arrays, 2),
           numbers[0]);
}

// arrays: float32 [count], its bits and back [count]; uint32 pairs [count, 2], float64 [count]
SEQFAST_KERNEL(64, 1)
bits_kernel(const float* from, float* to, const uint32_t* pairs, double* wide, int64_t count) {
    for (int64_t i = thread_index(); i < count; i += thread_count()) {
        to[i] = float_of(bits_of(from[i]));
        wide[i] = double_of(pairs[2 * i], pairs[2 * i + 1]);
    }
}
void bits(Arrays arrays, Numbers numbers) {
    launch("bits_kernel", &bits_kernel, one_block(64), nullptr, array<float>(arrays, 0),
           array<float>(arrays, 1), array<uint32_t>(arrays, 2), array<double>(arrays, 3),
           numbers[0]);
}

// ---- Who am I -----------------------------------------------------------------------------------

// arrays: int32 [grid_z, grid_y, grid_x, threads, 12]; numbers: grid x, y, z, threads, cluster
SEQFAST_KERNEL(256, 1)
identity_kernel(int* to) {
    const int block = (block_z() * grid_y() + block_y()) * grid_x() + block_x();
    int* const mine = to + (block * thread_count() + thread_index()) * 12;
    const int values[12] = {thread_index(), lane_index(), warp_index(),   thread_count(),
                            block_x(),      block_y(),    block_z(),      grid_x(),
                            grid_y(),       grid_z(),     cluster_rank(), cluster_size()};
    for (int i = 0; i < 12; ++i) mine[i] = values[i];
}
void identity(Arrays arrays, Numbers n) {
    const LaunchShape shape{int(n[0]), int(n[1]), int(n[2]), int(n[3]), int(n[4]), 0, false};
    launch("identity_kernel", &identity_kernel, shape, nullptr, array<int>(arrays, 0));
}

// arrays: int32 [blocks], in the order in which they ran, uint32 count; numbers: blocks
SEQFAST_KERNEL(32, 1)
order_kernel(int* order, uint32_t* count) {
    if (thread_index() == 0) order[atomic_add(count, 1u)] = block_x();
}
void order(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, 32, 1, 0, false};
    launch("order_kernel", &order_kernel, shape, nullptr, array<int>(arrays, 0),
           array<uint32_t>(arrays, 1));
}

// arrays: bytes [blocks, shared_bytes], what shared memory holds at first; numbers: blocks, bytes
SEQFAST_KERNEL(32, 1)
fresh_shared_kernel(char* to, int64_t bytes) {
    if (reinterpret_cast<uintptr_t>(dynamic_shared()) % 128) return;
    for (int64_t i = thread_index(); i < bytes; i += thread_count())
        to[block_x() * bytes + i] = dynamic_shared()[i];
}
void fresh_shared(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, 32, 1, numbers[1], false};
    launch("fresh_shared_kernel", &fresh_shared_kernel, shape, nullptr, array<char>(arrays, 0),
           numbers[1]);
}

// ---- Lanes of a warp ----------------------------------------------------------------------------

// arrays: T [32], int32 [32]: lane, mask, delta of each, T [3, 32]
template <class T>
SEQFAST_KERNEL(64, 1)
shuffle_kernel(const T* from, const int* with, T* to) {
    // Two warps do it, of which the second shifts its values: they must not mix.
    const int lane = lane_index(), warp = warp_index();
    const T value = from[lane] + T(warp);
    const T results[3] = {shuffle(value, with[lane]), shuffle_xor(value, with[lane]),
                          shuffle_down(value, with[lane])};
    for (int i = 0; i < 3; ++i) to[(warp * 3 + i) * 32 + lane] = results[i] - T(warp);
}
template <class T>
void shuffles(Arrays arrays, Numbers) {
    launch("shuffle_kernel", &shuffle_kernel<T>, one_block(64), nullptr, array<T>(arrays, 0),
           array<int>(arrays, 1), array<T>(arrays, 2));
}

// arrays: int32 [count, 32], uint32 [count, 3, 32]; numbers: count
SEQFAST_KERNEL(32, 1)
vote_kernel(const int* from, uint32_t* to, int64_t count) {
    const int lane = lane_index();
    for (int64_t i = 0; i < count; ++i) {
        const bool mine = from[i * 32 + lane] != 0;
        to[(i * 3 + 0) * 32 + lane] = ballot(mine);
        to[(i * 3 + 1) * 32 + lane] = warp_all(mine);
        to[(i * 3 + 2) * 32 + lane] = warp_any(mine);
    }
}
void votes(Arrays arrays, Numbers numbers) {
    launch("vote_kernel", &vote_kernel, one_block(32), nullptr, array<int>(arrays, 0),
           array<uint32_t>(arrays, 1), numbers[0]);
}

// ---- Tensor cores: fragments as they are, [32 lanes, registers] ---------------------------------

enum class Product { bf16, fp16, tf32 };

// arrays: uint32 [warps, 32, 4], uint32 [warps, 32, 2], float32 [warps, 32, 4]; numbers: warps
template <Product product>
SEQFAST_KERNEL(256, 1)
mma_kernel(const uint32_t* all_a, const uint32_t* all_b, float* all_c) {
    const int i = thread_index();
    const uint32_t* const a = all_a + 4 * i;
    const uint32_t* const b = all_b + 2 * i;
    float c[4];
    for (int j = 0; j < 4; ++j) c[j] = all_c[4 * i + j];
    // Twice, since what a lane brings must not be lost when another runs ahead.
    for (int repeat = 0; repeat < 2; ++repeat) {
        if constexpr (product == Product::bf16) mma_bf16(c, a[0], a[1], a[2], a[3], b[0], b[1]);
        if constexpr (product == Product::fp16) mma_fp16(c, a[0], a[1], a[2], a[3], b[0], b[1]);
        if constexpr (product == Product::tf32) mma_tf32(c, a[0], a[1], a[2], a[3], b[0], b[1]);
    }
    for (int j = 0; j < 4; ++j) all_c[4 * i + j] = c[j];
}
template <Product product>
void mma(Arrays arrays, Numbers numbers) {
    launch("mma_kernel", &mma_kernel<product>, one_block(32 * int(numbers[0])), nullptr,
           array<uint32_t>(arrays, 0), array<uint32_t>(arrays, 1), array<float>(arrays, 2));
}

// arrays: float64 [32], [32], [32, 2]
SEQFAST_KERNEL(32, 1)
mma_f64_kernel(const double* a, const double* b, double* c) {
    const int lane = thread_index();
    double c0 = c[2 * lane], c1 = c[2 * lane + 1];
    for (int repeat = 0; repeat < 2; ++repeat) mma_f64(c0, c1, a[lane], b[lane]);
    c[2 * lane] = c0;
    c[2 * lane + 1] = c1;
}
void mma_double(Arrays arrays, Numbers) {
    launch("mma_f64_kernel", &mma_f64_kernel, one_block(32), nullptr, array<double>(arrays, 0),
           array<double>(arrays, 1), array<double>(arrays, 2));
}

// arrays: uint32 [32 rows, 4], int32 [32]: the row that each lane names, uint32 [32, 4]
SEQFAST_KERNEL(32, 1)
ldmatrix_kernel(const uint32_t* rows, const int* named, uint32_t* to) {
    auto* const shared = reinterpret_cast<uint32_t*>(dynamic_shared());
    const int lane = thread_index();
    for (int i = 0; i < 4; ++i) shared[4 * lane + i] = rows[4 * lane + i];
    warp_sync();
    uint32_t result[4];
    ldmatrix_x4(result, shared + 4 * named[lane]);
    for (int i = 0; i < 4; ++i) to[4 * lane + i] = result[i];
}
void ldmatrix(Arrays arrays, Numbers) {
    launch("ldmatrix_kernel", &ldmatrix_kernel, one_block(32, 512), nullptr,
           array<uint32_t>(arrays, 0), array<int>(arrays, 1), array<uint32_t>(arrays, 2));
}

// ---- Copies that run beside the thread ----------------------------------------------------------

// What lands is what stands in the source at the wait. arrays: float32 [32, 4], result [32, 4]
SEQFAST_KERNEL(32, 1)
late_copy_kernel(float* from, float* to) {
    auto* const shared = reinterpret_cast<float*>(dynamic_shared());
    const int i = 4 * thread_index();
    copy_async_16(shared + i, from + i, thread_index() % 2 == 0);
    copy_async_commit();
    for (int j = 0; j < 4; ++j) from[i + j] += 1000;
    copy_async_wait<0>();
    for (int j = 0; j < 4; ++j) to[i + j] = shared[i + j];
}
void late_copy(Arrays arrays, Numbers) {
    launch("late_copy_kernel", &late_copy_kernel, one_block(32, 512), nullptr,
           array<float>(arrays, 0), array<float>(arrays, 1));
}

// Tiles through a ring of two places, filled by one thread. arrays: float32 [tiles, 64], the same;
// numbers: tiles
SEQFAST_KERNEL(96, 1)
ring_kernel(const float* from, float* to, int tiles) {
    auto* const full = reinterpret_cast<Mbarrier*>(dynamic_shared());
    Mbarrier* const empty = full + 2;
    auto* const places = reinterpret_cast<float*>(dynamic_shared() + 128);
    if (thread_index() == 0)
        for (int i = 0; i < 2; ++i) {
            mbarrier_init(full + i, 1);
            mbarrier_init(empty + i, 64);
        }
    block_sync();
    if (thread_index() == 64) {
        for (int tile = 0; tile < tiles; ++tile) {
            const int place = tile % 2, use = tile / 2;
            if (use > 0) mbarrier_wait(empty + place, (use - 1) & 1);
            mbarrier_arrive_expect(full + place, 256);
            copy_bulk(places + 64 * place, from + 64 * tile, 128, full + place);
            copy_bulk(places + 64 * place + 32, from + 64 * tile + 32, 128, full + place);
        }
    } else if (thread_index() < 64) {
        for (int tile = 0; tile < tiles; ++tile) {
            const int place = tile % 2, use = tile / 2;
            mbarrier_wait(full + place, use & 1);
            to[64 * tile + thread_index()] = places[64 * place + 63 - thread_index()];
            mbarrier_arrive(empty + place);
        }
    }
}
void ring(Arrays arrays, Numbers numbers) {
    launch("ring_kernel", &ring_kernel, one_block(96, 128 + 512), nullptr, array<float>(arrays, 0),
           array<float>(arrays, 1), int(numbers[0]));
}

// ---- Blocks of a cluster ------------------------------------------------------------------------

// Everybody tells everybody a number. arrays: uint32 [blocks, cluster, 3]; numbers: blocks, cluster
SEQFAST_KERNEL(32, 1)
all_to_all_kernel(uint32_t* to) {
    auto* const fours = reinterpret_cast<U32x4*>(dynamic_shared());
    auto* const pairs = reinterpret_cast<U32x2*>(fours + cluster_size());
    auto* const words = reinterpret_cast<uint32_t*>(pairs + cluster_size());
    const int rank = cluster_rank();
    const auto me = uint32_t(block_x());
    cluster_sync();
    if (thread_index() < cluster_size()) {
        const int peer = thread_index();
        store_cluster(fours + rank, peer, U32x4{me, me + 1, me + 2, me + 3});
        store_cluster(pairs + rank, peer, U32x2{me, me + 4});
        cluster_map(words, peer)[rank] = me + 5;
    }
    cluster_arrive();
    cluster_wait();
    if (thread_index() < cluster_size()) {
        uint32_t* const mine = to + (block_x() * cluster_size() + thread_index()) * 3;
        mine[0] = fours[thread_index()].w;
        mine[1] = pairs[thread_index()].y;
        mine[2] = words[thread_index()];
    }
}
void all_to_all(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, 32, int(numbers[1]), numbers[1] * 28, false};
    launch("all_to_all_kernel", &all_to_all_kernel, shape, nullptr, array<uint32_t>(arrays, 0));
}

// A number goes round the cluster, polled for: no barrier but the first and the last.
// arrays: uint32 [blocks, rounds]; numbers: blocks, cluster, rounds
SEQFAST_KERNEL(32, 1)
relay_kernel(uint32_t* to, int rounds) {
    auto* const place = reinterpret_cast<U32x4*>(dynamic_shared());
    const int next = (cluster_rank() + 1) % cluster_size();
    if (thread_index() == 0) *place = {0, 0, 0, 0};
    cluster_sync();
    if (thread_index() == 0)
        for (int round = 0; round < rounds; ++round) {
            const auto mark = uint32_t(round + 1);
            uint32_t value = 0;
            if (cluster_rank() > 0 || round > 0) {
                const uint32_t awaited = cluster_rank() > 0 ? mark : mark - 1;
                U32x4 seen;
                for (;;) {
                    seen = load_relaxed_shared(place);
                    if (seen.x == awaited && seen.z == awaited) break;
                    poll_pause();
                }
                value = seen.y + seen.w;
            }
            to[block_x() * rounds + round] = value;
            store_cluster(place, next, U32x4{mark, value, mark, 1});
        }
    cluster_sync();
}
void relay(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, 32, int(numbers[1]), 16, false};
    launch("relay_kernel", &relay_kernel, shape, nullptr, array<uint32_t>(arrays, 0),
           int(numbers[2]));
}

// ---- Blocks of a grid ---------------------------------------------------------------------------

// Each round every block adds what its neighbour had. arrays: float32 [2, blocks]; numbers: blocks,
// rounds
SEQFAST_KERNEL(64, 1)
rounds_kernel(float* values, int rounds) {
    for (int round = 0; round < rounds; ++round) {
        const float* const from = values + round % 2 * grid_x();
        float* const to = values + (round + 1) % 2 * grid_x();
        if (thread_index() == 0) to[block_x()] = from[block_x()] + from[(block_x() + 1) % grid_x()];
        grid_sync();
    }
}
void rounds(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, 64, 1, 0, true};
    launch("rounds_kernel", &rounds_kernel, shape, nullptr, array<float>(arrays, 0),
           int(numbers[1]));
}

// arrays: uint64 [2], numbers to be made as large as any thread's; numbers: blocks, threads
SEQFAST_KERNEL(256, 1)
atomic_max_kernel(uint64_t* most) {
    const uint64_t number = uint64_t(block_x() + 1) << 40 | uint64_t(thread_index() + 3);
    atomic_max(most, number);
    atomic_max(most + 1, ~number);
}
void atomic_maxima(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, int(numbers[1]), 1, 0, false};
    launch("atomic_max_kernel", &atomic_max_kernel, shape, nullptr, array<uint64_t>(arrays, 0));
}

// arrays: float32 sum, uint32 count; numbers: blocks, threads
SEQFAST_KERNEL(256, 1)
atomics_kernel(float* sum, uint32_t* count) {
    atomic_add(sum, float(thread_index()));
    atomic_add(count, 1u);
}
void atomics(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, int(numbers[1]), 1, 0, false};
    launch("atomics_kernel", &atomics_kernel, shape, nullptr, array<float>(arrays, 0),
           array<uint32_t>(arrays, 1));
}

// arrays: float32 [rows, 4], each of which every thread adds to; numbers: rows, blocks, threads
SEQFAST_KERNEL(256, 1)
vector_atomics_kernel(float* sums, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row)
        add_vector(sums + 4 * row, {1, 2, float(thread_index()), float(block_x() + row)});
}
void vector_atomics(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[1]), 1, 1, int(numbers[2]), 1, 0, false};
    launch("vector_atomics_kernel", &vector_atomics_kernel, shape, nullptr, array<float>(arrays, 0),
           numbers[0]);
}
// arrays: float32 [8]; numbers: the first element of four
SEQFAST_KERNEL(32, 1)
one_vector_kernel(float* to, int64_t first) { add_vector(to + first, {1, 1, 1, 1}); }
void one_vector(Arrays arrays, Numbers numbers) {
    launch("one_vector_kernel", &one_vector_kernel, one_block(32), nullptr, array<float>(arrays, 0),
           numbers[0]);
}

// Global memory from block to block: release, acquire, and 16 bytes that carry marks. arrays:
// uint32 flags [blocks], uint32 [blocks, 32, 4], result [blocks, 32]; numbers: blocks
SEQFAST_KERNEL(32, 1)
chain_kernel(uint32_t* flags, uint32_t* words, uint32_t* to) {
    auto* const places = reinterpret_cast<U32x4*>(words);
    const int lane = thread_index();
    uint32_t value = uint32_t(lane);
    if (block_x() > 0) {
        const int before = block_x() - 1;
        if (block_x() % 2) {
            while (load_acquire(flags + before) == 0) poll_pause();
            warp_sync();
            const U32x4 seen = places[before * 32 + lane];
            value = seen.y + seen.w;
        } else {
            U32x4 seen;
            for (;;) {
                seen = load_relaxed(places + before * 32 + lane);
                if (warp_all(seen.x == 1 && seen.z == 1)) break;
                poll_pause();
            }
            value = seen.y + seen.w;
        }
    }
    to[block_x() * 32 + lane] = value;
    U32x4* const mine = places + block_x() * 32 + lane;
    if (block_x() % 3 == 0) {
        store_relaxed(mine, U32x4{1, value, 1, 1});
    } else {
        auto* const halves = reinterpret_cast<U32x2*>(mine);
        store_relaxed(halves, U32x2{1, value});
        store_relaxed(halves + 1, U32x2{1, 1});
    }
    memory_fence();
    warp_sync();
    if (lane == 0) store_release(flags + block_x(), 1);
}
void chain(Arrays arrays, Numbers numbers) {
    const LaunchShape shape{int(numbers[0]), 1, 1, 32, 1, 0, true};
    launch("chain_kernel", &chain_kernel, shape, nullptr, array<uint32_t>(arrays, 0),
           array<uint32_t>(arrays, 1), array<uint32_t>(arrays, 2));
}

// ---- Misuse: each must end in an error ----------------------------------------------------------

// arrays: 64 bytes aligned to 16; numbers: which, threads
SEQFAST_KERNEL(128, 1)
misuse_kernel(char* global, int which) {
    char* const shared = dynamic_shared();
    auto* const barrier = reinterpret_cast<Mbarrier*>(shared);
    const auto* const odd = reinterpret_cast<const U32x4*>(global + 8);
    uint32_t registers[4];
    switch (which) {
        case 0:
            return (void)load_relaxed(odd);
        case 1:
            return copy_async_16(shared, odd);
        case 2:
            return copy_async_16(shared + 8, global);
        case 3:
            return copy_async_16(shared + 256, global);
        case 4:
            return ldmatrix_x4(registers, shared + 241);
        case 5:
            return named_barrier_sync(0, 64);
        case 6:
            return named_barrier_sync(1, 48);
        case 7:
            return named_barrier_sync(1, 256);
        case 8:
            return named_barrier_sync(1, warp_index() == 0 ? 64 : 128);
        case 9:
            return mbarrier_wait(barrier, 0);
        case 10:
            mbarrier_init(barrier, 1);
            mbarrier_arrive(barrier);
            return copy_bulk(shared + 16, global, 24, barrier);
        case 11:
            mbarrier_init(barrier, 1);
            mbarrier_arrive_expect(barrier, 16);
            return mbarrier_arrive(barrier);
        case 12:
            return (void)cluster_map(shared, 1);
        case 13:
            return store_cluster(shared + 248, 0, U32x4{0, 0, 0, 0});
        case 14:
            return (void)cluster_map(global, 0);
        case 15:
            return cluster_wait();
        case 16:
            cluster_arrive();
            return cluster_arrive();
        case 17:
            return grid_sync();
        case 18:
            return (void)load_relaxed_shared(reinterpret_cast<const U32x4*>(shared - 16));
        case 19:
            if (lane_index() % 2)
                warp_sync();
            else
                (void)ballot(true);
            return;
        case 20:
            if (thread_index() == 5) return (void)named_barrier_arrive(3, 32);
            return;
        case 21:
            // A block's whole barrier, one of a cluster, and a phase: who waits where?
            if (thread_index() < 32) return block_sync();
            if (thread_index() < 64) {
                cluster_arrive();
                return cluster_wait();
            }
            if (thread_index() == 64) mbarrier_init(barrier, 2);
            if (thread_index() < 96) {
                warp_sync();
                return mbarrier_wait(barrier, 0);
            }
            return named_barrier_sync(2, 96);
        default:
            return;
    }
}
void misuse(Arrays arrays, Numbers numbers) {
    launch("misuse_kernel", &misuse_kernel, one_block(int(numbers[1]), 256), nullptr,
           array<char>(arrays, 0), int(numbers[0]));
}

SEQFAST_KERNEL(1024, 1) empty_kernel() {}

// numbers: grid x, y, z, threads, cluster, shared bytes, cooperative
void empty(Arrays, Numbers n) {
    launch("empty_kernel", &empty_kernel,
           {int(n[0]), int(n[1]), int(n[2]), int(n[3]), int(n[4]), n[5], n[6] != 0}, nullptr);
}

// arrays: int64 [1]; numbers as for `empty`
void resident(Arrays arrays, Numbers n) {
    *array<int64_t>(arrays, 0) =
        resident_clusters("empty_kernel", &empty_kernel,
                          {int(n[0]), int(n[1]), int(n[2]), int(n[3]), int(n[4]), n[5], n[6] != 0});
}

// arrays: int64 [5]; numbers: device
void properties(Arrays arrays, Numbers numbers) {
    const DeviceGuard guard{int(numbers[0])};
    const Device device = device_properties(int(numbers[0]));
    auto* const to = array<int64_t>(arrays, 0);
    to[0] = device.index;
    to[1] = device.multiprocessors;
    to[2] = device.shared_bytes;
    to[3] = device.architecture;
    to[4] = device.max_cluster;
}

// arrays: memory; numbers: bytes
void zeros(Arrays arrays, Numbers numbers) { fill_zero(arrays[0], size_t(numbers[0]), nullptr); }

struct Named {
    const char* name;
    void (*run)(Arrays, Numbers);
};

const Named all[] = {
    {"round_bf16", &round<BFloat16>},
    {"round_fp16", &round<Float16>},
    {"widen_bf16", &widen<BFloat16>},
    {"widen_fp16", &widen<Float16>},
    {"fast", &fast},
    {"bits", &bits},
    {"logarithms", &logarithms},
    {"logs_and_counts", &logs_and_counts},
    {"identity", &identity},
    {"order", &order},
    {"fresh_shared", &fresh_shared},
    {"shuffle_int32", &shuffles<int>},
    {"shuffle_float32", &shuffles<float>},
    {"shuffle_float64", &shuffles<double>},
    {"votes", &votes},
    {"mma_bf16", &mma<Product::bf16>},
    {"mma_fp16", &mma<Product::fp16>},
    {"mma_tf32", &mma<Product::tf32>},
    {"mma_f64", &mma_double},
    {"ldmatrix", &ldmatrix},
    {"late_copy", &late_copy},
    {"ring", &ring},
    {"all_to_all", &all_to_all},
    {"relay", &relay},
    {"rounds", &rounds},
    {"atomic_maxima", &atomic_maxima},
    {"atomics", &atomics},
    {"vector_atomics", &vector_atomics},
    {"one_vector", &one_vector},
    {"chain", &chain},
    {"misuse", &misuse},
    {"empty", &empty},
    {"resident", &resident},
    {"properties", &properties},
    {"zeros", &zeros},
};

}  // namespace

void run_primitive_case(const std::string& name, void* const* arrays, const int64_t* numbers) {
    for (const Named& one : all)
        if (name == one.name) return one.run(arrays, numbers);
    throw std::invalid_argument("no case is called " + name);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

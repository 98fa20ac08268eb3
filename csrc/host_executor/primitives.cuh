// The names of cuda/base/primitives.cuh for the host executor, so that the same .cu files run on a
// CPU.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "host_executor/executor.h"

#define SEQFAST_DEVICE inline
#define SEQFAST_KERNEL(threads, blocks) void
#define SEQFAST_GRID_CONSTANT const
#define SEQFAST_UNROLL
#define SEQFAST_NO_UNROLL

// Where a primitive is called: default arguments are evaluated at the call.
#define SEQFAST_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// ---- Numbers ------------------------------------------------------------------------------------

struct BFloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};
struct alignas(8) U32x2 {
    uint32_t x, y;
};
struct alignas(16) U32x4 {
    uint32_t x, y, z, w;
};
struct alignas(16) F32x4 {
    float x, y, z, w;
};

SEQFAST_DEVICE uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
SEQFAST_DEVICE float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
SEQFAST_DEVICE double double_of(uint32_t low, uint32_t high) {
    const uint64_t bits = uint64_t(high) << 32 | low;
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
SEQFAST_DEVICE uint64_t bits_of(double x) {
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

SEQFAST_DEVICE float to_float(BFloat16 x) { return float_of(uint32_t(x.bits) << 16); }
SEQFAST_DEVICE float to_float(Float16 x) {
    // The exponent moves by multiplication, which makes subnormals right too.
    const uint32_t magnitude = bits_of(float_of(uint32_t(x.bits & 0x7FFF) << 13) * 0x1p112f);
    const bool finite = (x.bits & 0x7C00) != 0x7C00;
    return float_of(uint32_t(x.bits & 0x8000) << 16 | magnitude | (finite ? 0u : 0x7F800000u));
}
SEQFAST_DEVICE float to_float(float x) { return x; }
SEQFAST_DEVICE double to_float(double x) { return x; }

// Round to nearest even; every NaN becomes 0x7FFF, or what the wider type keeps.
template <class T>
T round_to(float x);
template <>
SEQFAST_DEVICE BFloat16 round_to<BFloat16>(float x) {
    const uint32_t bits = bits_of(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return {0x7FFF};
    return {uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
template <>
SEQFAST_DEVICE Float16 round_to<Float16>(float x) {
    const uint32_t bits = bits_of(x), magnitude = bits & 0x7FFFFFFF;
    const uint32_t sign = bits >> 16 & 0x8000;
    if (magnitude > 0x7F800000) return {0x7FFF};
    if (magnitude >= 0x47800000) return {uint16_t(sign | 0x7C00)};
    // A half is as far from its neighbours in float32 as the subnormals of float16 are.
    if (magnitude < 0x38800000)
        return {uint16_t(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)))};
    return {uint16_t(sign | (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13)};
}
template <>
SEQFAST_DEVICE float round_to<float>(float x) {
    return x;
}
template <class T>
SEQFAST_DEVICE T round_to(double x) {
    return x;
}

// Two units in the last place; infinite above 88.7, zero below -87.3.
SEQFAST_DEVICE float fast_exp(float x) { return x < -87.33654f ? 0.0f : std::exp(x); }
// Zero where the divisor is beyond 2^126, as on the GPU.
SEQFAST_DEVICE float fast_divide(float x, float y) {
    return std::fabs(y) > 0x1p126f ? x * 0.0f : x / y;
}
SEQFAST_DEVICE double fast_exp(double x) { return std::exp(x); }
SEQFAST_DEVICE double fast_divide(double x, double y) { return x / y; }
// log(1 + x), within 2 units in the last place.
SEQFAST_DEVICE float log_plus_one(float x) { return std::log1p(x); }
SEQFAST_DEVICE double log_plus_one(double x) { return std::log1p(x); }
// Within 1 unit in the last place.
SEQFAST_DEVICE float logarithm(float x) { return std::log(x); }
SEQFAST_DEVICE double logarithm(double x) { return std::log(x); }
SEQFAST_DEVICE float square_root(float x) { return std::sqrt(x); }
SEQFAST_DEVICE double square_root(double x) { return std::sqrt(x); }
SEQFAST_DEVICE float rounded_product(float x, float y) {
    const volatile float product = x * y;
    return product;
}
SEQFAST_DEVICE double rounded_product(double x, double y) {
    const volatile double product = x * y;
    return product;
}

SEQFAST_DEVICE int count_bits(uint32_t x) { return __builtin_popcount(x); }

// ---- Who am I -----------------------------------------------------------------------------------

SEQFAST_DEVICE int thread_index() { return host_executor::current->index; }
SEQFAST_DEVICE int thread_count() { return host_executor::current->block->threads; }
SEQFAST_DEVICE int lane_index() { return host_executor::current->index % 32; }
// A shuffle on the GPU, so all lanes must come.
SEQFAST_DEVICE int warp_index(SEQFAST_SITE) {
    host_executor::collective(host_executor::Collective::warp_index, {file, line});
    return host_executor::current->index / 32;
}
SEQFAST_DEVICE int block_x() { return host_executor::current->block->x; }
SEQFAST_DEVICE int block_y() { return host_executor::current->block->y; }
SEQFAST_DEVICE int block_z() { return host_executor::current->block->z; }
SEQFAST_DEVICE int grid_x() { return host_executor::current->block->grid_x; }
SEQFAST_DEVICE int grid_y() { return host_executor::current->block->grid_y; }
SEQFAST_DEVICE int grid_z() { return host_executor::current->block->grid_z; }

// The block's dynamic shared memory, aligned to 128 bytes; there is no other.
SEQFAST_DEVICE char* dynamic_shared() { return host_executor::current->block->shared; }
SEQFAST_DEVICE uint32_t shared_address(const void* shared) {
    return static_cast<uint32_t>(static_cast<const char*>(shared) - dynamic_shared());
}

// ---- Threads of a block and lanes of a warp -----------------------------------------------------

SEQFAST_DEVICE void block_sync(SEQFAST_SITE) { host_executor::block_sync({file, line}); }
SEQFAST_DEVICE void warp_sync(SEQFAST_SITE) {
    host_executor::collective(host_executor::Collective::warp_sync, {file, line});
}
// Barriers 1 to 15 of a block, for `threads` of its threads (whole warps).
SEQFAST_DEVICE void named_barrier_sync(int barrier, int threads, SEQFAST_SITE) {
    host_executor::named_barrier(barrier, threads, true, {file, line});
}
SEQFAST_DEVICE void named_barrier_arrive(int barrier, int threads, SEQFAST_SITE) {
    host_executor::named_barrier(barrier, threads, false, {file, line});
}

namespace collectives {

template <class T>
T shuffle(host_executor::Collective kind, T value, int from, host_executor::Site site) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                  "shuffles move 4 or 8 bytes");
    auto& operands = host_executor::current->operands->shuffle;
    const int lane = lane_index();
    std::memcpy(&operands.value[lane], &value, sizeof value);
    operands.lane[lane] = from & 31;
    host_executor::collective(kind, site);
    std::memcpy(&value, &operands.result[lane], sizeof value);
    return value;
}

inline uint32_t vote(host_executor::Collective kind, bool predicate, host_executor::Site site) {
    auto& operands = host_executor::current->operands->vote;
    operands.predicate[lane_index()] = predicate;
    host_executor::collective(kind, site);
    return operands.result;
}

inline void mma(host_executor::Collective kind, float (&c)[4], uint32_t a0, uint32_t a1,
                uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, host_executor::Site site) {
    auto& operands = host_executor::current->operands->mma;
    const int lane = lane_index();
    for (int i = 0; i < 4; ++i) operands.c[i][lane] = c[i];
    operands.a[0][lane] = a0;
    operands.a[1][lane] = a1;
    operands.a[2][lane] = a2;
    operands.a[3][lane] = a3;
    operands.b[0][lane] = b0;
    operands.b[1][lane] = b1;
    host_executor::collective(kind, site);
    for (int i = 0; i < 4; ++i) c[i] = operands.c[i][lane];
}

}  // namespace collectives

// Of all 32 lanes.
template <class T>
SEQFAST_DEVICE T shuffle(T value, int lane, SEQFAST_SITE) {
    return collectives::shuffle(host_executor::Collective::shuffle, value, lane, {file, line});
}
template <class T>
SEQFAST_DEVICE T shuffle_xor(T value, int mask, SEQFAST_SITE) {
    return collectives::shuffle(host_executor::Collective::shuffle_xor, value, lane_index() ^ mask,
                                {file, line});
}
template <class T>
SEQFAST_DEVICE T shuffle_down(T value, int delta, SEQFAST_SITE) {
    const int lane = lane_index() + delta;
    return collectives::shuffle(host_executor::Collective::shuffle_down, value,
                                lane < 32 ? lane : lane_index(), {file, line});
}
SEQFAST_DEVICE uint32_t ballot(bool predicate, SEQFAST_SITE) {
    return collectives::vote(host_executor::Collective::ballot, predicate, {file, line});
}
SEQFAST_DEVICE bool warp_all(bool predicate, SEQFAST_SITE) {
    return collectives::vote(host_executor::Collective::warp_all, predicate, {file, line}) ==
           0xFFFFFFFFu;
}
SEQFAST_DEVICE bool warp_any(bool predicate, SEQFAST_SITE) {
    return collectives::vote(host_executor::Collective::warp_any, predicate, {file, line}) != 0;
}

// ---- Tensor cores: c += a * b, fragments as the PTX manual lays them out ------------------------

// m16n8k16; a: rows g, g + 8 at k 2t, then at k 2t + 8; b: k 2t, 2t + 8 of column g.
SEQFAST_DEVICE void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1, SEQFAST_SITE) {
    collectives::mma(host_executor::Collective::mma_bf16, c, a0, a1, a2, a3, b0, b1, {file, line});
}
SEQFAST_DEVICE void mma_fp16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1, SEQFAST_SITE) {
    collectives::mma(host_executor::Collective::mma_fp16, c, a0, a1, a2, a3, b0, b1, {file, line});
}
// m16n8k8; float32 bits, of which the last 13 do not count.
SEQFAST_DEVICE void mma_tf32(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1, SEQFAST_SITE) {
    collectives::mma(host_executor::Collective::mma_tf32, c, a0, a1, a2, a3, b0, b1, {file, line});
}
// m8n8k4; a: row g at k t; b: k t of column g; c: row g, columns 2t and 2t + 1.
SEQFAST_DEVICE void mma_f64(double& c0, double& c1, double a, double b, SEQFAST_SITE) {
    auto& operands = host_executor::current->operands->mma_f64;
    const int lane = lane_index();
    operands.c[0][lane] = c0;
    operands.c[1][lane] = c1;
    operands.a[lane] = a;
    operands.b[lane] = b;
    host_executor::collective(host_executor::Collective::mma_f64, {file, line});
    c0 = operands.c[0][lane];
    c1 = operands.c[1][lane];
}
// Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8, 16 bytes.
SEQFAST_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row, SEQFAST_SITE) {
    host_executor::check_shared(shared_row, 16, 16, "ldmatrix_x4", {file, line});
    auto& operands = host_executor::current->operands->matrix;
    const int lane = lane_index();
    operands.row[lane] = shared_row;
    host_executor::collective(host_executor::Collective::ldmatrix_x4, {file, line});
    for (int i = 0; i < 4; ++i) r[i] = operands.result[i][lane];
}

// ---- Copies that run beside the thread ----------------------------------------------------------

// 16 bytes, zeros instead where not `valid`; both addresses aligned to 16.
SEQFAST_DEVICE void copy_async_16(void* shared, const void* global, bool valid = true,
                                  SEQFAST_SITE) {
    host_executor::copy_async(shared, global, valid, {file, line});
}
SEQFAST_DEVICE void copy_async_commit() { host_executor::copy_async_commit(); }
// Until at most `pending` of this thread's committed groups are on their way.
template <int pending>
SEQFAST_DEVICE void copy_async_wait() {
    host_executor::copy_async_wait(pending);
}

using Mbarrier = uint64_t;  // in shared memory

SEQFAST_DEVICE void mbarrier_init(Mbarrier* barrier, int arrivals, SEQFAST_SITE) {
    host_executor::mbarrier_init(barrier, arrivals, {file, line});
}
SEQFAST_DEVICE void mbarrier_arrive(Mbarrier* barrier, SEQFAST_SITE) {
    host_executor::mbarrier_arrive(barrier, 0, {file, line});
}
// Until the phase of this parity is over; the first phase has parity 0.
SEQFAST_DEVICE void mbarrier_wait(Mbarrier* barrier, int parity, SEQFAST_SITE) {
    host_executor::mbarrier_wait(barrier, parity, {file, line});
}
SEQFAST_DEVICE void mbarrier_arrive_expect(Mbarrier* barrier, int bytes, SEQFAST_SITE) {
    host_executor::require_architecture(90, "mbarrier_arrive_expect", {file, line});
    host_executor::mbarrier_arrive(barrier, bytes, {file, line});
}
// Counts its bytes down on the barrier when they have landed; sizes and addresses aligned to 16.
SEQFAST_DEVICE void copy_bulk(void* shared, const void* global, int bytes, Mbarrier* barrier,
                              SEQFAST_SITE) {
    host_executor::require_architecture(90, "copy_bulk", {file, line});
    host_executor::copy_bulk(shared, global, bytes, barrier, {file, line});
}

// ---- Blocks of a cluster; before sm_90 a cluster is one block -----------------------------------

constexpr bool has_clusters = true;
SEQFAST_DEVICE int cluster_rank() { return host_executor::current->block->cluster_rank; }
SEQFAST_DEVICE int cluster_size() { return host_executor::current->block->cluster_size; }
SEQFAST_DEVICE void cluster_arrive(SEQFAST_SITE) { host_executor::cluster_arrive({file, line}); }
SEQFAST_DEVICE void cluster_wait(SEQFAST_SITE) { host_executor::cluster_wait({file, line}); }
SEQFAST_DEVICE void cluster_sync(SEQFAST_SITE) {
    host_executor::cluster_arrive({file, line});
    host_executor::cluster_wait({file, line});
}
// The same place in the shared memory of another block of the cluster.
template <class T>
SEQFAST_DEVICE T* cluster_map(T* shared, int rank, SEQFAST_SITE) {
    return static_cast<T*>(host_executor::peer(shared, rank, "cluster_map", {file, line}));
}
// Relaxed, each 8 bytes at once: into that place of another block, which may be polling it.
SEQFAST_DEVICE void store_cluster(void* shared, int rank, U32x2 v, SEQFAST_SITE) {
    host_executor::check_shared(shared, 8, 8, "store_cluster", {file, line});
    host_executor::maybe_interrupt();
    host_executor::store_peer(shared, rank, uint64_t(v.y) << 32 | v.x, {file, line});
}
SEQFAST_DEVICE void store_cluster(void* shared, int rank, U32x4 v, SEQFAST_SITE) {
    host_executor::check_shared(shared, 16, 16, "store_cluster", {file, line});
    host_executor::maybe_interrupt();
    host_executor::store_peer(shared, rank, uint64_t(v.y) << 32 | v.x, {file, line});
    host_executor::maybe_interrupt();
    host_executor::store_peer(static_cast<char*>(shared) + 8, rank, uint64_t(v.w) << 32 | v.z,
                              {file, line});
}

// ---- Memory that others are writing -------------------------------------------------------------

namespace memory {

// Both halves may be of different times, as nothing promises more.
inline U32x4 load_halves(const void* from) {
    const auto* words = static_cast<const uint64_t*>(from);
    host_executor::settle();
    host_executor::maybe_interrupt();
    const uint64_t a = host_executor::load_word(words);
    host_executor::maybe_interrupt();
    const uint64_t b = host_executor::load_word(words + 1);
    return {uint32_t(a), uint32_t(a >> 32), uint32_t(b), uint32_t(b >> 32)};
}

}  // namespace memory

// Relaxed: each 8 bytes are read at once and were written at once; no order between them. Where it
// is not wanted nothing is read and zeros come.
SEQFAST_DEVICE U32x4 load_relaxed(const U32x4* global, bool wanted = true, SEQFAST_SITE) {
    if (!wanted) return {0, 0, 0, 0};
    host_executor::check_aligned(global, 16, "load_relaxed", {file, line});
    return memory::load_halves(global);
}
SEQFAST_DEVICE U32x4 load_relaxed_shared(const U32x4* shared, bool wanted = true, SEQFAST_SITE) {
    if (!wanted) return {0, 0, 0, 0};
    host_executor::check_shared(shared, 16, 16, "load_relaxed_shared", {file, line});
    return memory::load_halves(shared);
}
// Read again each time, and what comes of it computed again.
SEQFAST_DEVICE uint32_t load_volatile_shared(const uint32_t* shared, SEQFAST_SITE) {
    host_executor::check_shared(shared, 4, 4, "load_volatile_shared", {file, line});
    return __atomic_load_n(shared, __ATOMIC_RELAXED);
}
SEQFAST_DEVICE void store_relaxed(U32x2* global, U32x2 v, SEQFAST_SITE) {
    host_executor::check_aligned(global, 8, "store_relaxed", {file, line});
    host_executor::maybe_interrupt();
    host_executor::store_late(global, uint64_t(v.y) << 32 | v.x, {file, line});
}
SEQFAST_DEVICE void store_relaxed(U32x4* global, U32x4 v, SEQFAST_SITE) {
    host_executor::check_aligned(global, 16, "store_relaxed", {file, line});
    host_executor::maybe_interrupt();
    host_executor::store_late(global, uint64_t(v.y) << 32 | v.x, {file, line});
    host_executor::maybe_interrupt();
    host_executor::store_late(reinterpret_cast<char*>(global) + 8, uint64_t(v.w) << 32 | v.z,
                              {file, line});
}
SEQFAST_DEVICE uint32_t load_acquire(const uint32_t* global, SEQFAST_SITE) {
    host_executor::check_aligned(global, 4, "load_acquire", {file, line});
    host_executor::settle();
    host_executor::maybe_interrupt();
    const auto address = reinterpret_cast<uintptr_t>(global);
    const uint64_t word =
        host_executor::load_word(reinterpret_cast<const uint64_t*>(address & ~uintptr_t(7)));
    host_executor::acquire();
    return uint32_t(address & 4 ? word >> 32 : word);
}
SEQFAST_DEVICE void store_release(uint32_t* global, uint32_t value, SEQFAST_SITE) {
    host_executor::check_aligned(global, 4, "store_release", {file, line});
    host_executor::maybe_interrupt();
    host_executor::publish();
    __atomic_store_n(global, value, __ATOMIC_RELEASE);
    host_executor::note_progress();
}
SEQFAST_DEVICE float atomic_add(float* global, float value, SEQFAST_SITE) {
    host_executor::check_aligned(global, 4, "atomic_add", {file, line});
    host_executor::maybe_interrupt();
    host_executor::publish_at(global);
    const float before = *global;
    *global = before + value;
    host_executor::note_progress();
    return before;
}
SEQFAST_DEVICE uint32_t atomic_add(uint32_t* global, uint32_t value, SEQFAST_SITE) {
    host_executor::check_aligned(global, 4, "atomic_add", {file, line});
    host_executor::maybe_interrupt();
    host_executor::publish_at(global);
    const uint32_t before = *global;
    *global = before + value;
    host_executor::note_progress();
    return before;
}
SEQFAST_DEVICE void atomic_max(uint64_t* global, uint64_t value, SEQFAST_SITE) {
    host_executor::check_aligned(global, 8, "atomic_max", {file, line});
    host_executor::maybe_interrupt();
    host_executor::publish_at(global);
    if (value > *global) *global = value;
    host_executor::note_progress();
}
// Each of the four by itself, relaxed; aligned to 16.
SEQFAST_DEVICE void add_vector(float* global, F32x4 v, SEQFAST_SITE) {
    host_executor::check_aligned(global, 16, "add_vector", {file, line});
    const float values[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; ++i) {
        host_executor::maybe_interrupt();
        host_executor::publish_at(global + i);
        global[i] += values[i];
    }
    host_executor::note_progress();
}
SEQFAST_DEVICE void memory_fence() {
    host_executor::publish();
    host_executor::acquire();
    host_executor::maybe_interrupt();
}
// Stands in every loop that waits for another thread's store.
SEQFAST_DEVICE void poll_pause(SEQFAST_SITE) { host_executor::poll_pause({file, line}); }

// What a warp of a sequence kernel waits for.
struct PollPlace {
    int pass, step, chunk;
    uint32_t phase;
};
// The executor itself sees when nobody can go on.
class PollWatch {
  public:
    bool gives_up(const PollPlace&, SEQFAST_SITE) {
        poll_pause(file, line);
        return false;
    }
};
// Of a cooperative launch.
SEQFAST_DEVICE void grid_sync(SEQFAST_SITE) { host_executor::grid_sync({file, line}); }

// ---- The host's side ----------------------------------------------------------------------------

using Stream = void*;
using host_executor::Device;
using host_executor::LaunchShape;

class DeviceGuard {
  public:
    explicit DeviceGuard(int device) : previous_(host_executor::exchange_current_device(device)) {}
    ~DeviceGuard() { host_executor::exchange_current_device(previous_); }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int previous_;
};

inline Device device_properties(int index) { return host_executor::device_properties(index); }

namespace launching {

template <class... P>
struct Call {
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> arguments;

    static void run(const void* self) {
        const Call& call = *static_cast<const Call*>(self);
        std::apply(call.kernel, call.arguments);
    }
};

}  // namespace launching

// Every launch goes through here and is over when it returns; an error names the kernel.
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), const LaunchShape& shape, Stream,
            A&&... arguments) {
    const launching::Call<P...> call{kernel, {std::forward<A>(arguments)...}};
    host_executor::launch(name, shape, &launching::Call<P...>::run, &call);
}

// How many clusters of this shape the current device holds at once; 0 where it cannot hold one.
template <class... P>
int resident_clusters(const char*, void (*)(P...), const LaunchShape& shape) {
    return host_executor::resident_clusters(shape);
}

inline void fill_zero(void* memory, size_t bytes, Stream) { std::memset(memory, 0, bytes); }

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

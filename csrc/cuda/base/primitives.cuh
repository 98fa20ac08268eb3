// The only file that knows the hardware: PTX, cooperative groups, launches. csrc/host_executor
// brings the same names for a CPU, and every .cu file is compiled against either.
#pragma once

#ifdef SEQFAST_HOST_EXECUTOR
#include "host_executor/primitives.cuh"
#else

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#define SEQFAST_DEVICE __device__ __forceinline__
#define SEQFAST_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define SEQFAST_GRID_CONSTANT const __grid_constant__
#define SEQFAST_UNROLL _Pragma("unroll")
#define SEQFAST_NO_UNROLL _Pragma("unroll 1")

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// ---- Numbers
// --------------------------------------------------------------------------------------

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

SEQFAST_DEVICE float to_float(BFloat16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
SEQFAST_DEVICE float to_float(Float16 x) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
    return result;
}
SEQFAST_DEVICE float to_float(float x) { return x; }
SEQFAST_DEVICE double to_float(double x) { return x; }

// Round to nearest even; every NaN becomes 0x7FFF, or what the wider type keeps.
template <class T>
SEQFAST_DEVICE T round_to(float x);
template <>
SEQFAST_DEVICE BFloat16 round_to<BFloat16>(float x) {
    BFloat16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
    return result;
}
template <>
SEQFAST_DEVICE Float16 round_to<Float16>(float x) {
    Float16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
    return result;
}
template <>
SEQFAST_DEVICE float round_to<float>(float x) {
    return x;
}
template <class T>
SEQFAST_DEVICE T round_to(double x) {
    return x;
}

SEQFAST_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
SEQFAST_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }
SEQFAST_DEVICE double double_of(uint32_t low, uint32_t high) {
    return __hiloint2double(int(high), int(low));
}
SEQFAST_DEVICE uint64_t bits_of(double x) { return uint64_t(__double_as_longlong(x)); }

// Within 2 + 1.173 |x| units in the last place.
SEQFAST_DEVICE float fast_exp(float x) {
    float result;  // subnormal results are zero, which saves the scaling around the instruction
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * 1.4426950408889634f));
    return result;
}
SEQFAST_DEVICE float fast_divide(float x, float y) { return __fdividef(x, y); }
SEQFAST_DEVICE double fast_exp(double x) { return exp(x); }
SEQFAST_DEVICE double fast_divide(double x, double y) { return x / y; }
// log(1 + x), within 2 units in the last place.
SEQFAST_DEVICE float log_plus_one(float x) { return log1pf(x); }
SEQFAST_DEVICE double log_plus_one(double x) { return log1p(x); }
// Within 1 unit in the last place.
SEQFAST_DEVICE float logarithm(float x) { return logf(x); }
SEQFAST_DEVICE double logarithm(double x) { return log(x); }
SEQFAST_DEVICE float square_root(float x) { return sqrtf(x); }
SEQFAST_DEVICE double square_root(double x) { return sqrt(x); }
// Never fused with an addition.
SEQFAST_DEVICE float rounded_product(float x, float y) { return __fmul_rn(x, y); }
SEQFAST_DEVICE double rounded_product(double x, double y) { return __dmul_rn(x, y); }

SEQFAST_DEVICE int count_bits(uint32_t x) { return __popc(x); }

// ---- Who am I
// -------------------------------------------------------------------------------------

SEQFAST_DEVICE int thread_index() { return threadIdx.x; }
SEQFAST_DEVICE int thread_count() { return blockDim.x; }
SEQFAST_DEVICE int lane_index() { return threadIdx.x % 32; }
// A warp's lanes agree on it, and the compiler may know.
SEQFAST_DEVICE int warp_index() { return __shfl_sync(0xFFFFFFFFu, int(threadIdx.x / 32), 0); }
SEQFAST_DEVICE int block_x() { return blockIdx.x; }
SEQFAST_DEVICE int block_y() { return blockIdx.y; }
SEQFAST_DEVICE int block_z() { return blockIdx.z; }
SEQFAST_DEVICE int grid_x() { return gridDim.x; }
SEQFAST_DEVICE int grid_y() { return gridDim.y; }
SEQFAST_DEVICE int grid_z() { return gridDim.z; }

// The block's dynamic shared memory, aligned to 128 bytes; there is no other.
SEQFAST_DEVICE char* dynamic_shared() {
    extern __shared__ __align__(128) char seqfast_dynamic_shared[];
    return seqfast_dynamic_shared;
}
SEQFAST_DEVICE uint32_t shared_address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- Threads of a block and lanes of a warp
// ---------------------------------------------------------

SEQFAST_DEVICE void block_sync() { __syncthreads(); }
SEQFAST_DEVICE void warp_sync() { __syncwarp(); }
// Barriers 1 to 15 of a block, for `threads` of its threads (whole warps).
SEQFAST_DEVICE void named_barrier_sync(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
SEQFAST_DEVICE void named_barrier_arrive(int barrier, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Of all 32 lanes.
template <class T>
SEQFAST_DEVICE T shuffle(T value, int lane) {
    return __shfl_sync(0xFFFFFFFFu, value, lane);
}
template <class T>
SEQFAST_DEVICE T shuffle_xor(T value, int mask) {
    return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
template <class T>
SEQFAST_DEVICE T shuffle_down(T value, int delta) {
    return __shfl_down_sync(0xFFFFFFFFu, value, delta);
}
SEQFAST_DEVICE uint32_t ballot(bool predicate) { return __ballot_sync(0xFFFFFFFFu, predicate); }
SEQFAST_DEVICE bool warp_all(bool predicate) { return __all_sync(0xFFFFFFFFu, predicate); }
SEQFAST_DEVICE bool warp_any(bool predicate) { return __any_sync(0xFFFFFFFFu, predicate); }

// ---- Tensor cores: c += a * b, fragments as the PTX manual lays them out
// -----------------------------

// m16n8k16; a: rows g, g + 8 at k 2t, then at k 2t + 8; b: k 2t, 2t + 8 of column g.
SEQFAST_DEVICE void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
SEQFAST_DEVICE void mma_fp16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// m16n8k8; float32 bits, of which the last 13 do not count.
SEQFAST_DEVICE void mma_tf32(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// m8n8k4; a: row g at k t; b: k t of column g; c: row g, columns 2t and 2t + 1.
SEQFAST_DEVICE void mma_f64(double& c0, double& c1, double a, double b) {
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+d"(c0), "+d"(c1)
        : "d"(a), "d"(b));
}
// Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8, 16 bytes.
SEQFAST_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
}

// ---- Copies that run beside the thread
// --------------------------------------------------------------

// 16 bytes, zeros instead where not `valid`; both addresses aligned to 16.
SEQFAST_DEVICE void copy_async_16(void* shared, const void* global, bool valid = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}
SEQFAST_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most `pending` of this thread's committed groups are on their way.
template <int pending>
SEQFAST_DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

using Mbarrier = uint64_t;  // in shared memory

SEQFAST_DEVICE void mbarrier_init(Mbarrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
                 : "memory");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    // The copy engine has to see it too.
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
SEQFAST_DEVICE void mbarrier_arrive(Mbarrier* barrier) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(
                     shared_address(barrier))
                 : "memory");
}
// Until the phase of this parity is over; the first phase has parity 0.
SEQFAST_DEVICE void mbarrier_wait(Mbarrier* barrier, int parity) {
    uint32_t done = 0;
    while (!done)
        asm volatile(
            "{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; "
            "selp.u32 %0, 1, 0, p; }"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
SEQFAST_DEVICE void mbarrier_arrive_expect(Mbarrier* barrier, int bytes) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}
// Counts its bytes down on the barrier when they have landed; sizes and addresses aligned to 16.
SEQFAST_DEVICE void copy_bulk(void* shared, const void* global, int bytes, Mbarrier* barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
}
#endif

// ---- Blocks of a cluster; before sm_90 a cluster is one block
// ----------------------------------------

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr bool has_clusters = true;
SEQFAST_DEVICE int cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return int(rank);
}
SEQFAST_DEVICE int cluster_size() {
    uint32_t size;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return int(size);
}
SEQFAST_DEVICE void cluster_arrive() {
    __syncwarp();  // .aligned wants it, and a loop before may have parted the lanes
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
SEQFAST_DEVICE void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
SEQFAST_DEVICE void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
// The same place in the shared memory of another block of the cluster.
template <class T>
SEQFAST_DEVICE T* cluster_map(T* shared, int rank) {
    uint64_t address;
    asm volatile("mapa.u64 %0, %1, %2;"
                 : "=l"(address)
                 : "l"(reinterpret_cast<uint64_t>(shared)), "r"(rank));
    return reinterpret_cast<T*>(address);
}
SEQFAST_DEVICE uint32_t cluster_address(const void* shared, int rank) {
    uint32_t address;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(address)
                 : "r"(shared_address(shared)), "r"(rank));
    return address;
}
// Relaxed, each 8 bytes at once: into that place of another block, which may be polling it.
SEQFAST_DEVICE void store_cluster(void* shared, int rank, U32x2 v) {
    asm volatile(
        "st.relaxed.cluster.shared::cluster.b64 [%0], %1;" ::"r"(cluster_address(shared, rank)),
        "l"(uint64_t(v.y) << 32 | v.x)
        : "memory");
}
SEQFAST_DEVICE void store_cluster(void* shared, int rank, U32x4 v) {
    asm volatile("st.relaxed.cluster.shared::cluster.v2.b64 [%0], {%1, %2};" ::"r"(
                     cluster_address(shared, rank)),
                 "l"(uint64_t(v.y) << 32 | v.x), "l"(uint64_t(v.w) << 32 | v.z)
                 : "memory");
}
#else
constexpr bool has_clusters = false;
SEQFAST_DEVICE int cluster_rank() { return 0; }
SEQFAST_DEVICE int cluster_size() { return 1; }
SEQFAST_DEVICE void cluster_arrive() { __syncthreads(); }
SEQFAST_DEVICE void cluster_wait() {}
SEQFAST_DEVICE void cluster_sync() { __syncthreads(); }
template <class T>
SEQFAST_DEVICE T* cluster_map(T* shared, int) {
    return shared;
}
SEQFAST_DEVICE void store_cluster(void* shared, int, U32x2 v) {
    asm volatile("st.relaxed.cta.shared.b64 [%0], %1;" ::"r"(shared_address(shared)),
                 "l"(uint64_t(v.y) << 32 | v.x)
                 : "memory");
}
SEQFAST_DEVICE void store_cluster(void* shared, int, U32x4 v) {
    asm volatile("st.relaxed.cta.shared.v2.b64 [%0], {%1, %2};" ::"r"(shared_address(shared)),
                 "l"(uint64_t(v.y) << 32 | v.x), "l"(uint64_t(v.w) << 32 | v.z)
                 : "memory");
}
#endif

// ---- Memory that others are writing
// ------------------------------------------------------------------

// Relaxed: each 8 bytes are read at once and were written at once; no order between them. Where it
// is not wanted nothing is read and zeros come: by a predicate, as a branch would part the loads.
SEQFAST_DEVICE U32x4 load_relaxed(const U32x4* global, bool wanted = true) {
    uint64_t a, b;
    asm volatile(
        "{ .reg .pred p; setp.ne.u32 p, %3, 0; mov.b64 %0, 0; mov.b64 %1, 0; "
        "@p ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2]; }"
        : "=&l"(a), "=&l"(b)
        : "l"(global), "r"(uint32_t(wanted))
        : "memory");
    return {uint32_t(a), uint32_t(a >> 32), uint32_t(b), uint32_t(b >> 32)};
}
SEQFAST_DEVICE U32x4 load_relaxed_shared(const U32x4* shared, bool wanted = true) {
    uint64_t a, b;
    asm volatile(
        "{ .reg .pred p; setp.ne.u32 p, %3, 0; mov.b64 %0, 0; mov.b64 %1, 0; "
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
        "@p ld.relaxed.cluster.shared.v2.b64 {%0, %1}, [%2]; }"
#else
        "@p ld.relaxed.cta.shared.v2.b64 {%0, %1}, [%2]; }"
#endif
        : "=&l"(a), "=&l"(b)
        : "r"(shared_address(shared)), "r"(uint32_t(wanted))
        : "memory");
    return {uint32_t(a), uint32_t(a >> 32), uint32_t(b), uint32_t(b >> 32)};
}
// Read again each time, and what comes of it computed again.
SEQFAST_DEVICE uint32_t load_volatile_shared(const uint32_t* shared) {
    uint32_t value;
    asm volatile("ld.volatile.shared.u32 %0, [%1];"
                 : "=r"(value)
                 : "r"(shared_address(shared))
                 : "memory");
    return value;
}
SEQFAST_DEVICE void store_relaxed(U32x2* global, U32x2 v) {
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(global), "l"(uint64_t(v.y) << 32 | v.x)
                 : "memory");
}
SEQFAST_DEVICE void store_relaxed(U32x4* global, U32x4 v) {
    asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(global),
                 "l"(uint64_t(v.y) << 32 | v.x), "l"(uint64_t(v.w) << 32 | v.z)
                 : "memory");
}
SEQFAST_DEVICE uint32_t load_acquire(const uint32_t* global) {
    uint32_t value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(global) : "memory");
    return value;
}
SEQFAST_DEVICE void store_release(uint32_t* global, uint32_t value) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(global), "r"(value) : "memory");
}
SEQFAST_DEVICE float atomic_add(float* global, float value) { return atomicAdd(global, value); }
SEQFAST_DEVICE uint32_t atomic_add(uint32_t* global, uint32_t value) {
    return atomicAdd(global, value);
}
SEQFAST_DEVICE void atomic_max(uint64_t* global, uint64_t value) {
    atomicMax(reinterpret_cast<unsigned long long*>(global), (unsigned long long)(value));
}
// Each of the four by itself, relaxed; aligned to 16.
SEQFAST_DEVICE void add_vector(float* global, F32x4 v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(global),
                 "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
                 : "memory");
#else
    const float values[4] = {v.x, v.y, v.z, v.w};
    SEQFAST_UNROLL
    for (int i = 0; i < 4; ++i)
        asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(global + i), "f"(values[i])
                     : "memory");
#endif
}
SEQFAST_DEVICE void memory_fence() { __threadfence(); }
// Stands in every loop that waits for another thread's store. SEQFAST_CUDA_POLL_PAUSE: nanoseconds.
SEQFAST_DEVICE void poll_pause() {
#ifdef SEQFAST_CUDA_POLL_PAUSE
    asm volatile("nanosleep.u32 %0;" ::"n"(SEQFAST_CUDA_POLL_PAUSE));
#endif
}

// What a warp of a sequence kernel waits for.
struct PollPlace {
    int pass, step, chunk;
    uint32_t phase;
};
#ifdef SEQFAST_CUDA_WATCHDOG
// Who has waited for two seconds says so and goes on with what there is, and then nobody waits any
// longer: what is printed comes out when the launch ends, which a trap would not let it.
static __device__ uint32_t polls_gave_up = 0;
class PollWatch {
  public:
    SEQFAST_DEVICE bool gives_up(const PollPlace& at) {
        if (++polls_ % 256 != 0) return false;
        const uint64_t now = nanoseconds();
        if (begin_ == 0) begin_ = now;
        uint32_t others;
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
                     : "=r"(others)
                     : "l"(&polls_gave_up)
                     : "memory");
        const bool late = now - begin_ > 2000000000u;
        if (!warp_any(late || others)) return false;
        if (lane_index() == 0 && late)
            printf("seqfast: block %d warp %d waits for chunk %d of pass %d, step %d, phase %u\n",
                   block_x(), thread_index() / 32, at.chunk, at.pass, at.step, at.phase);
        if (late) atomicExch(&polls_gave_up, 1u);
        return true;
    }

  private:
    static SEQFAST_DEVICE uint64_t nanoseconds() {
        uint64_t now;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
        return now;
    }
    uint64_t begin_ = 0;
    uint32_t polls_ = 0;
};
#else
// A build with SEQFAST_CUDA_WATCHDOG has one that looks at the time.
class PollWatch {
  public:
    SEQFAST_DEVICE bool gives_up(const PollPlace&) {
        poll_pause();
        return false;
    }
};
#endif
// Of a cooperative launch.
SEQFAST_DEVICE void grid_sync() { cooperative_groups::this_grid().sync(); }

// ---- The host's side
// ----------------------------------------------------------------------------------

using Stream = void*;

struct LaunchShape {
    int grid_x, grid_y, grid_z;  // blocks
    int threads;                 // of a block
    int cluster;                 // blocks along x, a divisor of grid_x; 1: no clusters
    int64_t shared_bytes;        // dynamic, of a block
    bool cooperative;            // all blocks resident at once
};

struct Device {
    int index;
    int multiprocessors;
    int64_t shared_bytes;  // most a block can have
    int architecture;      // 80, 90
    int max_cluster;       // most blocks of a cluster; 1: no clusters
};

inline void check(cudaError_t error, const char* name) {
    if (error != cudaSuccess) {
        // Clears an error that does not stick, so that the next call is not blamed for it.
        (void)cudaGetLastError();
        throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(error));
    }
}

class DeviceGuard {
  public:
    explicit DeviceGuard(int device) : device_(device) {
        check(cudaGetDevice(&previous_), "cudaGetDevice");
        // Always: a thread that has none yet is told device 0, which is not made current by that.
        check(cudaSetDevice(device), "cudaSetDevice");
    }
    ~DeviceGuard() {
        if (previous_ != device_) (void)cudaSetDevice(previous_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int device_, previous_ = 0;
};

inline Device device_properties(int index) {
    const auto attribute = [&](cudaDeviceAttr which) {
        int value = 0;
        check(cudaDeviceGetAttribute(&value, which, index), "cudaDeviceGetAttribute");
        return value;
    };
    Device device{};
    device.index = index;
    device.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
    device.shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    device.architecture = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                          attribute(cudaDevAttrComputeCapabilityMinor);
    device.max_cluster = device.architecture >= 90 ? 16 : 1;
    return device;
}

namespace launching {

// What a launch has beyond what every kernel may, once for each kernel and device. Always the same
// values, whatever the launch: another thread may be between its own two calls.
inline cudaError_t prepare(const void* function, const LaunchShape& shape) {
    constexpr int64_t always_shared_bytes = 48 << 10;
    constexpr int always_clusters = 8;
    static std::mutex mutex;
    static std::set<std::tuple<const void*, int, bool>> done;
    const auto once = [&](int device, bool of_clusters, const auto& set) {
        const std::lock_guard<std::mutex> lock(mutex);
        const auto key = std::make_tuple(function, device, of_clusters);
        if (done.count(key)) return cudaSuccess;
        const cudaError_t error = set();
        if (error == cudaSuccess) done.insert(key);
        return error;
    };
    int device = 0;
    cudaError_t error = cudaSuccess;
    if (shape.shared_bytes > always_shared_bytes || shape.cluster > always_clusters)
        error = cudaGetDevice(&device);
    if (error == cudaSuccess && shape.shared_bytes > always_shared_bytes)
        error = once(device, false, [&] {
            int most = 0;
            const cudaError_t asked =
                cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
            if (asked != cudaSuccess) return asked;
            return cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        most);
        });
    // Only devices with clusters know the attribute.
    if (error == cudaSuccess && shape.cluster > always_clusters)
        error = once(device, true, [&] {
            return cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed,
                                        1);
        });
    return error;
}

inline cudaLaunchConfig_t config(const LaunchShape& shape, Stream stream,
                                 cudaLaunchAttribute (&attributes)[2]) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(shape.grid_x, shape.grid_y, shape.grid_z);
    config.blockDim = dim3(shape.threads);
    config.dynamicSmemBytes = size_t(shape.shared_bytes);
    config.stream = static_cast<cudaStream_t>(stream);
    config.attrs = attributes;
    if (shape.cluster > 1) {
        cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = shape.cluster;
        attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    }
    if (shape.cooperative) {
        cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
        attribute.id = cudaLaunchAttributeCooperative;
        attribute.val.cooperative = 1;
    }
    return config;
}

}  // namespace launching

// Every launch goes through here; an error names the kernel.
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), const LaunchShape& shape, Stream stream,
            A&&... arguments) {
    const auto function = reinterpret_cast<const void*>(kernel);
    check(launching::prepare(function, shape), name);
    cudaLaunchAttribute attributes[2];
    const cudaLaunchConfig_t config = launching::config(shape, stream, attributes);
    check(cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...), name);
}

// How many clusters of this shape the current device holds at once; 0 where it cannot hold one.
// Asked once for each kernel, shape and device: the driver takes its time to answer.
template <class... P>
int resident_clusters(const char*, void (*kernel)(P...), const LaunchShape& shape) {
    static std::mutex mutex;
    static std::map<std::tuple<const void*, int, int, int64_t>, int> known;
    const auto function = reinterpret_cast<const void*>(kernel);
    int device = 0, clusters = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return 0;
    const auto key = std::make_tuple(function, device, shape.cluster, shape.shared_bytes);
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = known.find(key);
    if (found != known.end()) return found->second;
    cudaLaunchAttribute attributes[2];
    const cudaLaunchConfig_t config = launching::config(shape, nullptr, attributes);
    if (launching::prepare(function, shape) != cudaSuccess ||
        cudaOccupancyMaxActiveClusters(&clusters, function, &config) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return known[key] = clusters;
}

inline void fill_zero(void* memory, size_t bytes, Stream stream) {
    check(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream)), "fill_zero");
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE

#endif  // SEQFAST_HOST_EXECUTOR

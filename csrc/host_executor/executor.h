// What the primitives and the bindings see of the host executor; see docs/develop/host_executor.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace seqfast::host_executor {

// ---- What a thread knows ------------------------------------------------------------------------

struct BlockView {
    int x, y, z;
    int grid_x, grid_y, grid_z;
    int threads;
    int cluster_rank, cluster_size;
    char* shared;
    int64_t shared_bytes;
};

// The lanes' operands of a warp collective, and its results. A lane that runs ahead writes its own
// places only, so that the others still find their results.
struct alignas(64) Operands {
    struct {
        float c[4][32];
        uint32_t a[4][32], b[2][32];
    } mma;
    struct {
        double c[2][32], a[32], b[32];
    } mma_f64;
    struct {
        const void* row[32];
        uint32_t result[4][32];
    } matrix;
    struct {
        uint64_t value[32], result[32];
        int lane[32];
    } shuffle;
    struct {
        bool predicate[32];
        uint32_t result;
    } vote;
};

struct Thread {
    const BlockView* block;
    Operands* operands;  // of the warp
    int index;
};

// Not initial-exec: linked with cudart, whose own is a page, it would not fit what a loaded library
// gets.
#define SEQFAST_HOST_THREAD_LOCAL __attribute__((tls_model("local-dynamic"))) __thread
// The running thread of the block; fibres stay on the thread that launched them.
extern SEQFAST_HOST_THREAD_LOCAL Thread* current;
// Primitive calls left until the running thread is interrupted.
extern SEQFAST_HOST_THREAD_LOCAL int quantum;

struct Site {
    const char* file;
    int line;  // 0: nowhere
};

// ---- Called by the primitives; each may let other threads run -----------------------------------

enum class Collective : int {
    warp_sync,
    warp_index,
    shuffle,
    shuffle_xor,
    shuffle_down,
    ballot,
    warp_all,
    warp_any,
    mma_bf16,
    mma_fp16,
    mma_tf32,
    mma_f64,
    ldmatrix_x4,
};

void interrupt();
inline void maybe_interrupt() {
    if (--quantum < 0) interrupt();
}

// The last of the 32 lanes to come computes the results of all.
void collective(Collective kind, Site site);
void block_sync(Site site);
void named_barrier(int barrier, int threads, bool wait, Site site);
void cluster_arrive(Site site);
void cluster_wait(Site site);
void grid_sync(Site site);
void poll_pause(Site site);

void copy_async(void* shared, const void* global, bool valid, Site site);
void copy_async_commit();
void copy_async_wait(int pending);

void mbarrier_init(uint64_t* barrier, int arrivals, Site site);
void mbarrier_arrive(uint64_t* barrier, int64_t bytes, Site site);
void mbarrier_wait(uint64_t* barrier, int parity, Site site);
void copy_bulk(void* shared, const void* global, int64_t bytes, uint64_t* barrier, Site site);

// The same place in the shared memory of another block of the cluster.
void* peer(const void* shared, int rank, const char* name, Site site);

// 8 bytes that others may be polling; they become visible late, until the thread publishes.
void store_late(void* address, uint64_t value, Site site);
void store_peer(void* shared, int rank, uint64_t value, Site site);
void publish();
// What needs no more than the order of the thread itself. Without weak memory it publishes too.
void settle();
// 8 bytes at once, the thread's own stores included; with weak memory they may be older ones.
uint64_t load_word(const uint64_t* address);
// What it reads from now on is no older than what has become visible.
void acquire();
// Before an atomic change: a thread's own stores to one place keep their order.
void publish_at(const void* address);
// Something happened that a polling thread may be waiting for.
void note_progress();

// Errors in the use of a primitive; the launch ends with them.
void check_aligned(const void* address, size_t alignment, const char* name, Site site);
void check_shared(const void* address, size_t bytes, size_t alignment, const char* name, Site site);
void require_architecture(int wanted, const char* name, Site site);

// ---- The host's side ----------------------------------------------------------------------------

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

struct Statistics {
    int64_t launches, blocks, threads, switches;
    std::map<std::string, int64_t> kernels;  // launches by name
};

// Runs the whole grid in the calling thread; std::runtime_error names the kernel and what went
// wrong.
void launch(const char* name, const LaunchShape& shape, void (*kernel)(const void*),
            const void* arguments);
int resident_clusters(const LaunchShape& shape);
Device device_properties(int index);
int exchange_current_device(int index);  // returns the one before

// Launches are numbered from 0 after it; seed and number decide the order of everything.
void set_seed(uint64_t seed);
// weak_memory: what PTX does not order comes in any order, over barriers of a block too.
// cut_off_sums: products of 16 bit and TF32 add as tensor cores do, cut off instead of rounded.
struct Modes {
    bool weak_memory = false, cut_off_sums = false;
};
void set_modes(const Modes& modes);
void set_device(int multiprocessors, int64_t shared_bytes, int architecture, int max_cluster);
Statistics statistics(bool reset);

}  // namespace seqfast::host_executor

// The threads, warps, blocks and clusters of a launch, and what each of them waits for.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "host_executor/executor.h"
#include "host_executor/fibre.h"

namespace seqfast::host_executor {

constexpr uint32_t all_lanes = 0xFFFFFFFFu;

struct Warp;
struct Block;
struct Cluster;

enum class Wait : int {
    none,  // runs, or can
    collective,
    block_sync,
    named_barrier,
    cluster_wait,
    grid_sync,
    mbarrier,
    poll,
    ended,
};

// 16 bytes on their way into shared memory; from nowhere: zeros.
struct AsyncCopy {
    char* to;
    const char* from;
    int64_t group;
};

struct LateStore {
    char* to;
    uint64_t value;
    Block* target;  // whose shared memory it is, nullptr for global memory
    Site site;
};

struct Fibre : Thread {
    void* stack_pointer = nullptr;
    Warp* warp = nullptr;
    uint32_t bit = 0;  // of its lane
    Wait wait = Wait::none;
    Site site{};
    int detail = 0;  // barrier number, mbarrier number
    bool cluster_arrived = false;
    uint32_t cluster_phase = 0;
    int64_t copy_group = 0;  // the one that is open
    std::vector<AsyncCopy> copies;
    std::vector<LateStore> late_stores;
    // With weak memory: no store up to `horizon` is hidden from it, and none that it has seen.
    int64_t horizon = 0;
    std::unordered_map<const void*, int64_t> seen;
    Stack stack{};
    void* fake_stack = nullptr;  // of the address sanitizer
};

struct Warp {
    uint32_t ready = 0, polling = 0;  // lanes
    int ready_place = -1, polling_place = -1;
    bool starved = false;
    uint32_t live = 0;
    uint32_t arrived = 0;  // at the collective that is under way
    Collective kind{};
    Site site{};
    Fibre* fibres = nullptr;
    Block* block = nullptr;
    int index = 0;
    uint32_t waiting[16] = {};  // at barriers of the block; number 0 is block_sync
    uint32_t reached[16] = {};  // waiting or only arrived
    uint32_t cluster_waiting = 0, grid_waiting = 0;
    Operands operands;
};

struct Barrier {
    int arrived = 0;
    int expected = 0;
    Site site{};
};

struct MbarrierState {
    uint64_t* address;
    int expected, pending;
    int64_t bytes;  // announced and not landed
    int parity;     // of the phase under way
    std::vector<Fibre*> waiters;
};

struct Block {
    BlockView view{};
    Cluster* cluster = nullptr;
    char* allocation = nullptr;
    int live = 0;
    bool started = false, ended = false;
    std::vector<Fibre> fibres;
    std::vector<Warp> warps;
    Barrier barriers[16];
    std::vector<MbarrierState> mbarriers;
    // With weak memory: stores behind a barrier of the block, which others have not seen yet.
    std::vector<LateStore> late_stores;
    int64_t horizon = 0;

    ~Block() { std::free(allocation); }
};

struct Cluster {
    std::vector<Block*> blocks;  // by rank
    int live = 0, arrived = 0;
    uint32_t phase = 0;
    int ended_blocks = 0;
};

struct BulkCopy {
    Block* block;
    int barrier;
    char* to;
    const char* from;
    int64_t bytes;
    Site site;
};

// A set of warps, each of which knows its place.
template <int Warp::* place>
class WarpSet {
  public:
    bool empty() const { return warps_.empty(); }
    uint32_t size() const { return uint32_t(warps_.size()); }
    Warp* operator[](size_t i) const { return warps_[i]; }
    void clear() { warps_.clear(); }
    void add(Warp* warp) {
        warp->*place = int(warps_.size());
        warps_.push_back(warp);
    }
    void remove(Warp* warp) {
        Warp* const last = warps_.back();
        warps_[size_t(warp->*place)] = last;
        last->*place = warp->*place;
        warp->*place = -1;
        warps_.pop_back();
    }

  private:
    std::vector<Warp*> warps_;
};

}  // namespace seqfast::host_executor

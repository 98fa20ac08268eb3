// The launch that runs in this thread: what the files of the executor share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "host_executor/executor.h"
#include "host_executor/grid.h"
#include "host_executor/report.h"
#include "host_executor/scheduler.h"
#include "host_executor/style.h"

namespace seqfast::host_executor {

struct LaunchCall {
    const char* name = "";
    LaunchShape shape{};
    Device device{};
    void (*kernel)(const void*) = nullptr;
    const void* arguments = nullptr;
    uint64_t seed = 0, number = 0;
    Modes modes{};
};

// What a place held before its last store, and when that came.
struct Overwritten {
    uint64_t value;
    int64_t time;
};

class Executor {
  public:
    void launch(const LaunchCall& of);

    LaunchCall call;
    Chance chance;
    Scheduler scheduler{chance};
    std::vector<Block*> blocks;  // resident
    int64_t live = 0;            // threads of theirs that have not exited
    Barrier grid;
    std::vector<BulkCopy> bulk_copies;
    // With weak memory: what a thread may still see instead of the last store.
    std::unordered_map<const void*, Overwritten> overwritten;
    int64_t time = 0;  // stores that have become visible
    // What `fail` leaves behind; the launch ends with it.
    struct {
        bool happened = false, with_report = false;
        std::string message;
    } failure;

  private:
    void run();
    void reset();
    void admit();
    void start_cluster(int64_t index);
    std::unique_ptr<Block> make_block();
    void start_block(Block& block);
    void allocate_shared(Block& block);
    void check_block(const Block& block);
    void end_block(Block& block);
    void end_cluster(Cluster& cluster, const Block& last);
    void retire(Block& block, bool abandoned);
    bool idle();
    static void fibre_main();
    [[noreturn]] void exit_thread();
    [[noreturn]] void raise(const std::string& what, bool with_report) const;

    std::vector<int64_t> order_;  // of clusters
    size_t started_ = 0;
    std::vector<std::unique_ptr<Cluster>> clusters_;                   // resident
    std::map<int, std::vector<std::unique_ptr<Block>>> spare_blocks_;  // by number of threads
    std::vector<Block*> ended_blocks_;
    StackPool stacks_;
    std::string exception_;
};

// The one whose launch runs in this thread.
extern SEQFAST_HOST_THREAD_LOCAL Executor* executor;

// barriers.cpp: a thread that exits leaves none of its warp, block, cluster or grid waiting.
void leave_barriers(Fibre& self);

// copies.cpp: the thread's oldest copies, as many as chance will have it.
void land_some(Fibre& self);
// One of the bulk copies under way, or of those whose barrier has somebody waiting; false: there
// is none.
bool land_bulk(bool only_awaited);

// stores.cpp: what the thread stored, or knows by barriers to be stored, becomes visible to all.
void publish_all(Fibre& self);
inline void publish(Fibre& self) {
    if (!self.late_stores.empty() || !self.warp->block->late_stores.empty()) publish_all(self);
}
// With weak memory it goes no further than the block.
void settle(Fibre& self);
// The thread meets others of its block: `arrive` before it waits for them, `meet` behind it.
void arrive(Fibre& self);
void meet(Fibre& self);
// All that was stored until now has been waited for.
void see_all(Fibre& self);
// Who polls alone is left must see what is on its way; a random part of it.
void publish_some();

}  // namespace seqfast::host_executor

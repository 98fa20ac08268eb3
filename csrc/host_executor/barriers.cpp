// Where threads wait for each other: warps, blocks, clusters and the grid.
#include "host_executor/state.h"
#include "host_executor/warp_math.h"

namespace seqfast::host_executor {
namespace {

void release(Block& block, int number) {
    Scheduler& scheduler = executor->scheduler;
    Fibre& self = running();
    block.barriers[number].arrived = 0;
    for (Warp& warp : block.warps) {
        const uint32_t lanes = warp.waiting[number];
        warp.waiting[number] = warp.reached[number] = 0;
        scheduler.wake(warp, &warp == self.warp ? lanes & ~self.bit : lanes);
    }
}

void complete_cluster(Cluster& cluster) {
    Scheduler& scheduler = executor->scheduler;
    cluster.arrived = 0;
    ++cluster.phase;
    for (Block* block : cluster.blocks)
        for (Warp& warp : block->warps) {
            scheduler.wake(warp, warp.cluster_waiting);
            warp.cluster_waiting = 0;
        }
}

// Whoever comes to a barrier of all threads must have come to the same one.
void check_meeting(const char* name, const char* whose, Barrier& barrier, const Warp& warp,
                   Site site) {
    if (!barrier.arrived) barrier.site = site;
    if (!same(barrier.site, site))
        fail(name, site, true, "divergent barrier: others of the %s are in it at %s:%d", whose,
             barrier.site.file, barrier.site.line);
    if (warp.arrived)
        fail(name, site, true, "divergent barrier: lanes of the warp are in %s at %s:%d",
             name_of(warp.kind), warp.site.file, warp.site.line);
}

}  // namespace

void collective(Collective kind, Site site) {
    Scheduler& scheduler = executor->scheduler;
    Fibre& self = running();
    Warp& warp = *self.warp;
    if (kind == Collective::warp_sync)
        arrive(self);
    else
        settle(self);
    if (!warp.arrived) {
        warp.kind = kind;
        warp.site = site;
        if (warp.live != all_lanes)
            fail(name_of(kind), site, true, "divergent warp: lanes have exited, or never were");
        if (warp.waiting[0] || warp.grid_waiting)
            fail(name_of(kind), site, true, "divergent warp: lanes wait for the block or the grid");
    } else if (warp.kind != kind || !same(warp.site, site)) {
        fail(name_of(kind), site, true, "divergent warp: others of warp %d are in %s at %s:%d",
             warp.index, name_of(warp.kind), warp.site.file, warp.site.line);
    }
    warp.arrived |= self.bit;
    if (warp.arrived != all_lanes) {
        scheduler.suspend(Wait::collective, site);
        if (kind == Collective::warp_sync) meet(self);
        return;
    }
    if (kind == Collective::warp_sync) meet(self);
    warp.arrived = 0;
    compute(kind, warp.operands, executor->call.modes.cut_off_sums);
    scheduler.wake(warp, all_lanes & ~self.bit);
    scheduler.prefer(&warp);
}

void block_sync(Site site) {
    Scheduler& scheduler = executor->scheduler;
    Fibre& self = running();
    Warp& warp = *self.warp;
    Block& block = *warp.block;
    Barrier& barrier = block.barriers[0];
    arrive(self);
    self.wait = Wait::block_sync;
    self.site = site;
    if (block.live != block.view.threads)
        fail("block_sync", site, true, "divergent barrier: %d threads of the block have exited",
             block.view.threads - block.live);
    check_meeting("block_sync", "block", barrier, warp, site);
    warp.waiting[0] |= self.bit;
    if (++barrier.arrived < block.view.threads) {
        scheduler.go_on(self);
        return meet(self);
    }
    self.wait = Wait::none;
    meet(self);
    release(block, 0);
    scheduler.after_completion();
}

void named_barrier(int number, int threads, bool wait, Site site) {
    Scheduler& scheduler = executor->scheduler;
    Fibre& self = running();
    Warp& warp = *self.warp;
    Block& block = *warp.block;
    const char* const name = wait ? "named_barrier_sync" : "named_barrier_arrive";
    arrive(self);
    if (number < 1 || number > 15)
        fail(name, site, false, "the barrier must be 1 to 15, got %d", number);
    if (threads < 32 || threads % 32 || threads > block.view.threads)
        fail(name, site, false, "the threads must be whole warps of the block's %d, got %d",
             block.view.threads, threads);
    Barrier& barrier = block.barriers[number];
    if (!barrier.arrived) barrier.expected = threads;
    if (barrier.expected != threads)
        fail(name, site, false, "barrier %d is for %d threads here, and for %d where others came",
             number, threads, barrier.expected);
    if (warp.reached[number] & self.bit)
        fail(name, site, false,
             "the thread has arrived at barrier %d already, and %d of %d "
             "threads are still missing",
             number, barrier.expected - barrier.arrived, barrier.expected);
    warp.reached[number] |= self.bit;
    if (wait) warp.waiting[number] |= self.bit;
    if (++barrier.arrived < threads) {
        if (wait) {
            scheduler.suspend(Wait::named_barrier, site, number);
            meet(self);
        }
        return;
    }
    for (const Warp& other : block.warps)
        if (other.reached[number] && other.reached[number] != all_lanes)
            fail(name, site, false, "barrier %d was reached by a part of warp %d only", number,
                 other.index);
    meet(self);
    release(block, number);
    scheduler.after_completion();
}

void cluster_arrive(Site site) {
    Fibre& self = running();
    Cluster& cluster = *self.warp->block->cluster;
    publish(self);
    if (self.cluster_arrived)
        fail("cluster_arrive", site, false, "the thread has arrived before and not waited");
    self.cluster_arrived = true;
    self.cluster_phase = cluster.phase;
    if (++cluster.arrived == cluster.live) complete_cluster(cluster);
    maybe_interrupt();
}

void cluster_wait(Site site) {
    Scheduler& scheduler = executor->scheduler;
    Fibre& self = running();
    Cluster& cluster = *self.warp->block->cluster;
    publish(self);
    if (!self.cluster_arrived) fail("cluster_wait", site, false, "the thread has not arrived");
    self.cluster_arrived = false;
    if (cluster.phase != self.cluster_phase) {
        see_all(self);
        return scheduler.after_completion();
    }
    self.warp->cluster_waiting |= self.bit;
    scheduler.suspend(Wait::cluster_wait, site);
    see_all(self);
}

void grid_sync(Site site) {
    Scheduler& scheduler = executor->scheduler;
    Fibre& self = running();
    Warp& warp = *self.warp;
    publish(self);
    if (!executor->call.shape.cooperative)
        fail("grid_sync", site, false, "the launch is not cooperative");
    const LaunchShape& shape = executor->call.shape;
    const int64_t threads = int64_t(shape.grid_x) * shape.grid_y * shape.grid_z * shape.threads;
    self.wait = Wait::grid_sync;
    self.site = site;
    if (executor->live != threads)
        fail("grid_sync", site, true, "divergent barrier: %lld threads of the grid have exited",
             (long long)(threads - executor->live));
    check_meeting("grid_sync", "grid", executor->grid, warp, site);
    warp.grid_waiting |= self.bit;
    if (++executor->grid.arrived < threads) {
        scheduler.go_on(self);
        return see_all(self);
    }
    self.wait = Wait::none;
    see_all(self);
    executor->grid.arrived = 0;
    for (Block* block : executor->blocks)
        for (Warp& other : block->warps) {
            const uint32_t lanes = other.grid_waiting;
            other.grid_waiting = 0;
            scheduler.wake(other, &other == &warp ? lanes & ~self.bit : lanes);
        }
    scheduler.after_completion();
}

void leave_barriers(Fibre& self) {
    Scheduler& scheduler = executor->scheduler;
    Warp& warp = *self.warp;
    Block& block = *warp.block;
    Cluster& cluster = *block.cluster;
    arrive(self);
    if (block.live == 1) publish(self);  // the block's last
    scheduler.note_progress();
    self.wait = Wait::ended;
    if (warp.arrived)
        fail("exit", {}, true, "divergent warp: lanes of the warp are in %s at %s:%d",
             name_of(warp.kind), warp.site.file, warp.site.line);
    if (block.barriers[0].arrived)
        fail("exit", {}, true, "divergent barrier: others of the block are in block_sync at %s:%d",
             block.barriers[0].site.file, block.barriers[0].site.line);
    if (executor->grid.arrived)
        fail("exit", {}, true, "divergent barrier: others of the grid are in grid_sync at %s:%d",
             executor->grid.site.file, executor->grid.site.line);
    warp.live &= ~self.bit;
    --executor->live;
    --cluster.live;
    // Who has exited counts as arrived.
    if (self.cluster_arrived && self.cluster_phase == cluster.phase) --cluster.arrived;
    if (cluster.arrived && cluster.arrived == cluster.live) complete_cluster(cluster);
}

}  // namespace seqfast::host_executor

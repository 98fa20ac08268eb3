// Runs one launch, from its first block to its last.
#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "host_executor/state.h"

namespace seqfast::host_executor {

SEQFAST_HOST_THREAD_LOCAL Executor* executor = nullptr;

namespace {

// Zone before and behind the shared memory of a block that nobody may write.
constexpr int64_t guard_bytes = SEQFAST_ADDRESS_SANITIZER ? 0 : 1024;
// No number in any format.
constexpr uint16_t guard_pattern = 0xFFE5;
// Of each size of block, kept for the next launch.
constexpr int kept_threads = 8192;

}  // namespace

void Executor::fibre_main() {
    Executor& self = *executor;
    self.scheduler.arrive(nullptr);
    running().warp->block->started = true;
    bool raised = false;
    try {
        self.call.kernel(self.call.arguments);
    } catch (const std::exception& error) {
        // Out of the handler first: nobody returns to it.
        self.exception_ = error.what();
        raised = true;
    }
    if (raised) fail("exception", {}, false, "%s", self.exception_.c_str());
    self.exit_thread();
}

void Executor::exit_thread() {
    Fibre& self = running();
    Block& block = *self.warp->block;
    leave_barriers(self);
    if (--block.live > 0) {
        scheduler.go_on(self);
        __builtin_unreachable();
    }
    block.ended = true;
    ended_blocks_.push_back(&block);
    scheduler.leave(self);
}

void Executor::raise(const std::string& what, bool with_report) const {
    std::string message = call.name;
    message += ": " + what +
               text(" [seed %llu, launch %llu]", (unsigned long long)call.seed,
                    (unsigned long long)call.number);
    if (with_report) message += who_waits(blocks);
    throw std::runtime_error(message);
}

void Executor::allocate_shared(Block& block) {
    const int64_t bytes = call.shape.shared_bytes;
    std::free(block.allocation);
    block.allocation = nullptr;
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, size_t(bytes + 2 * guard_bytes))) throw std::bad_alloc();
    block.allocation = static_cast<char*>(memory);
    block.view.shared = block.allocation + guard_bytes;
    block.view.shared_bytes = bytes;
    fill(block.allocation, guard_bytes, guard_pattern);
    fill(block.view.shared, bytes, chance.style.poison);
    fill(block.view.shared + bytes, guard_bytes, guard_pattern);
}

std::unique_ptr<Block> Executor::make_block() {
    auto& spare = spare_blocks_[call.shape.threads];
    if (!spare.empty()) {
        std::unique_ptr<Block> block = std::move(spare.back());
        spare.pop_back();
        return block;
    }
    auto block = std::make_unique<Block>();
    block->fibres = std::vector<Fibre>(size_t(call.shape.threads));
    block->warps = std::vector<Warp>(size_t((call.shape.threads + 31) / 32));
    for (size_t i = 0; i < block->warps.size(); ++i) {
        Warp& warp = block->warps[i];
        warp.block = block.get();
        warp.fibres = &block->fibres[32 * i];
        warp.index = int(i);
    }
    for (size_t i = 0; i < block->fibres.size(); ++i) {
        Fibre& fibre = block->fibres[i];
        fibre.warp = &block->warps[i / 32];
        fibre.bit = 1u << i % 32;
        fibre.block = &block->view;
        fibre.operands = &fibre.warp->operands;
        fibre.index = int(i);
    }
    return block;
}

void Executor::start_block(Block& block) {
    allocate_shared(block);
    block.started = block.ended = false;
    block.live = call.shape.threads;
    block.mbarriers.clear();
    block.late_stores.clear();
    block.horizon = time;
    for (Barrier& barrier : block.barriers) barrier = {};
    for (Fibre& fibre : block.fibres) {
        fibre.stack = stacks_.take();
        fibre.stack_pointer = prepare_stack(fibre.stack, &Executor::fibre_main);
        fibre.wait = Wait::none;
        fibre.cluster_arrived = false;
        fibre.copy_group = 0;
        fibre.copies.clear();
        fibre.late_stores.clear();
        fibre.seen.clear();
        fibre.horizon = time;
    }
    const bool starve_block = chance.style.starve && chance.random.often(chance.style.starve);
    for (Warp& warp : block.warps) {
        const int lanes = std::min(32, call.shape.threads - 32 * warp.index);
        warp.live = lanes == 32 ? all_lanes : (1u << lanes) - 1;
        warp.ready = warp.polling = warp.arrived = 0;
        warp.cluster_waiting = warp.grid_waiting = 0;
        std::fill(std::begin(warp.waiting), std::end(warp.waiting), 0);
        std::fill(std::begin(warp.reached), std::end(warp.reached), 0);
        warp.starved =
            starve_block || (chance.style.starve && chance.random.often(chance.style.starve));
        scheduler.wake(warp, warp.live);
    }
    blocks.push_back(&block);
    live += call.shape.threads;
}

void Executor::start_cluster(int64_t index) {
    clusters_.push_back(std::make_unique<Cluster>());
    Cluster& cluster = *clusters_.back();
    const int64_t along_x = call.shape.grid_x / call.shape.cluster;
    for (int rank = 0; rank < call.shape.cluster; ++rank) {
        Block* const block = make_block().release();
        block->view = {int(index % along_x) * call.shape.cluster + rank,
                       int(index / along_x % call.shape.grid_y),
                       int(index / along_x / call.shape.grid_y),
                       call.shape.grid_x,
                       call.shape.grid_y,
                       call.shape.grid_z,
                       call.shape.threads,
                       rank,
                       call.shape.cluster,
                       nullptr,
                       0};
        block->cluster = &cluster;
        cluster.blocks.push_back(block);
    }
    cluster.live = call.shape.cluster * call.shape.threads;
    for (Block* block : cluster.blocks) start_block(*block);
}

void Executor::admit() {
    const int64_t threads = int64_t(call.shape.cluster) * call.shape.threads;
    while (started_ < order_.size() && (call.shape.cooperative || clusters_.empty() ||
                                        live + threads <= chance.style.resident_threads))
        start_cluster(order_[started_++]);
}

void Executor::check_block(const Block& block) {
    for (const BulkCopy& copy : bulk_copies)
        if (copy.block == &block)
            raise(text("%s ended while its copy_bulk of %s:%d was under way",
                       name_of(block).c_str(), copy.site.file, copy.site.line),
                  false);
    const int64_t bytes = block.view.shared_bytes;
    const int64_t before = first_change(block.allocation, guard_bytes, guard_pattern);
    const int64_t behind = first_change(block.view.shared + bytes, guard_bytes, guard_pattern);
    if (before >= 0 || behind >= 0)
        raise(text("%s wrote outside its shared memory of %lld bytes, at offset %lld",
                   name_of(block).c_str(), (long long)bytes,
                   (long long)(before >= 0 ? before - guard_bytes : bytes + behind)),
              false);
    for (const Warp& warp : block.warps)
        for (int number = 1; number < 16; ++number)
            if (warp.reached[number] && warp.reached[number] != all_lanes)
                raise(text("%s ended, and barrier %d was reached by a part of warp %d only",
                           name_of(block).c_str(), number, warp.index),
                      false);
    for (const Fibre& fibre : block.fibres)
        if (!StackPool::intact(fibre.stack))
            raise(text("%s: thread %d overflowed its stack", name_of(block).c_str(), fibre.index),
                  false);
}

void Executor::retire(Block& block, [[maybe_unused]] bool abandoned) {
    for (const Fibre& fibre : block.fibres) {
#if SEQFAST_ADDRESS_SANITIZER
        // What has not returned left its frames' red zones behind.
        const auto size = size_t(fibre.stack.top - fibre.stack.bottom);
        const size_t used = abandoned ? size : std::min<size_t>(size, 8192);
        __asan_unpoison_memory_region(fibre.stack.top - used, used);
#endif
        stacks_.give_back(fibre.stack);
    }
    blocks.erase(std::find(blocks.begin(), blocks.end(), &block));
}

void Executor::end_block(Block& block) {
    check_block(block);
    retire(block, false);
    Cluster& cluster = *block.cluster;
    if (++cluster.ended_blocks == int(cluster.blocks.size())) return end_cluster(cluster, block);
    // A peer's access from now on is an error: the sanitizer sees it, or the pattern shows it.
    if (SEQFAST_ADDRESS_SANITIZER) {
        std::free(block.allocation);
        block.allocation = nullptr;
    } else {
        fill(block.view.shared, block.view.shared_bytes, guard_pattern);
    }
}

void Executor::end_cluster(Cluster& cluster, const Block& last) {
    for (Block* block : cluster.blocks) {
        // The last one to end was not filled, and nobody is left to store into it.
        if (block != &last && block->allocation) {
            const int64_t offset =
                first_change(block->view.shared, block->view.shared_bytes, guard_pattern);
            if (offset >= 0)
                raise(
                    text("shared memory of %s was written at offset %lld after the block had ended",
                         name_of(*block).c_str(), (long long)offset),
                    false);
        }
    }
    scheduler.prefer(nullptr);
    auto& spare = spare_blocks_[call.shape.threads];
    for (Block* block : cluster.blocks) {
        if (int(spare.size()) * call.shape.threads < kept_threads)
            spare.emplace_back(block);
        else
            delete block;
    }
    cluster.blocks.clear();
    clusters_.erase(std::find_if(clusters_.begin(), clusters_.end(),
                                 [&](const auto& owner) { return owner.get() == &cluster; }));
}

// Nobody can run: a copy lands, or those who poll look again. False: that would not help.
bool Executor::idle() {
    const bool has_hope = scheduler.has_pollers() && !scheduler.has_polled_enough();
    if ((!has_hope || chance.random.often(128)) && land_bulk(true)) return true;
    if (call.modes.weak_memory) publish_some();
    if (has_hope) scheduler.wake_all_pollers();
    return has_hope;
}

void Executor::run() {
    for (;;) {
        if (failure.happened) raise(failure.message, failure.with_report);
        while (!ended_blocks_.empty()) {
            end_block(*ended_blocks_.back());
            ended_blocks_.pop_back();
        }
        admit();
        if (clusters_.empty()) return;
        Fibre* const fibre = scheduler.next();
        if (fibre)
            scheduler.enter(*fibre);
        else if (!idle())
            raise(scheduler.has_pollers()
                      ? "deadlock: every thread waits, or polls for what nobody stores"
                      : "deadlock: no thread can run",
                  true);
    }
}

// After an error: back to where the next launch can begin.
void Executor::reset() {
    while (!blocks.empty()) retire(*blocks.back(), true);
    for (const auto& cluster : clusters_)
        for (Block* block : cluster->blocks) delete block;
    clusters_.clear();
    ended_blocks_.clear();
    stacks_.trim();
    bulk_copies.clear();
    scheduler.clear();
}

void Executor::launch(const LaunchCall& of) {
    call = of;
    const LaunchShape& shape = call.shape;
    chance.random = Random(call.seed * 0xD1342543DE82EF95u + call.number);
    chance.style = draw_style(call.seed + call.number, chance.random);
    quantum = scheduler.draw_quantum();
    failure.happened = false;
    overwritten.clear();
    time = 0;
    live = 0;
    grid = {};
    scheduler.begin();
    order_.resize(size_t(int64_t(shape.grid_x) / shape.cluster * shape.grid_y * shape.grid_z));
    for (size_t i = 0; i < order_.size(); ++i) {
        const size_t j = size_t(chance.random.below(uint32_t(i + 1)));
        order_[i] = order_[j];
        order_[j] = int64_t(i);
    }
    started_ = 0;
    try {
        run();
    } catch (...) {
        reset();
        throw;
    }
    stacks_.trim();
}

}  // namespace seqfast::host_executor

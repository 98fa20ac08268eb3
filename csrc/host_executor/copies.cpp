// Copies into shared memory that run beside the thread, and the barriers that count their bytes.
#include <cstring>

#include "host_executor/state.h"

namespace seqfast::host_executor {
namespace {

constexpr uint64_t mbarrier_mark = uint64_t(0xB1A5ED) << 40;

void land(const AsyncCopy& copy) {
    if (copy.from)
        std::memcpy(copy.to, copy.from, 16);
    else
        std::memset(copy.to, 0, 16);
}

int mbarrier_index(uint64_t* barrier, const char* name, Site site) {
    check_shared(barrier, 8, 8, name, site);
    const Block& block = *running().warp->block;
    const uint64_t index = *barrier ^ mbarrier_mark;
    if (index >= block.mbarriers.size() || block.mbarriers[size_t(index)].address != barrier)
        fail(name, site, false,
             "the barrier has not been initialised, or something else was stored there");
    return int(index);
}

void complete_phase_if_due(Block& block, int index) {
    MbarrierState& state = block.mbarriers[size_t(index)];
    if (state.pending || state.bytes) return;
    state.pending = state.expected;
    state.parity ^= 1;
    executor->scheduler.note_progress();
    for (Fibre* fibre : state.waiters) executor->scheduler.wake(*fibre->warp, fibre->bit);
    state.waiters.clear();
}

}  // namespace

void copy_async(void* shared, const void* global, bool valid, Site site) {
    Fibre& self = running();
    check_shared(shared, 16, 16, "copy_async_16", site);
    check_aligned(global, 16, "copy_async_16", site);
    self.copies.push_back({static_cast<char*>(shared),
                           valid ? static_cast<const char*>(global) : nullptr, self.copy_group});
    maybe_interrupt();
}

// The oldest ones, as many as chance will have it.
void land_some(Fibre& self) {
    size_t landed = 0;
    while (landed < self.copies.size() &&
           executor->chance.random.often(executor->chance.style.early))
        land(self.copies[landed++]);
    self.copies.erase(self.copies.begin(), self.copies.begin() + std::ptrdiff_t(landed));
}

void copy_async_commit() {
    Fibre& self = running();
    ++self.copy_group;
    if (executor->chance.style.early) land_some(self);
    maybe_interrupt();
}

void copy_async_wait(int pending) {
    Fibre& self = running();
    size_t landed = 0;
    while (landed < self.copies.size() && self.copies[landed].group < self.copy_group - pending)
        land(self.copies[landed++]);
    self.copies.erase(self.copies.begin(), self.copies.begin() + std::ptrdiff_t(landed));
    maybe_interrupt();
}

void mbarrier_init(uint64_t* barrier, int arrivals, Site site) {
    Fibre& self = running();
    check_shared(barrier, 8, 8, "mbarrier_init", site);
    if (arrivals < 1 || arrivals >= 1 << 20)
        fail("mbarrier_init", site, false, "the arrivals must be 1 to 1048575, got %d", arrivals);
    auto& states = self.warp->block->mbarriers;
    size_t index = 0;
    while (index < states.size() && states[index].address != barrier) ++index;
    if (index == states.size()) states.emplace_back();
    if (!states[index].waiters.empty())
        fail("mbarrier_init", site, false, "threads are waiting at the barrier");
    states[index] = {barrier, arrivals, arrivals, 0, 0, {}};
    *barrier = mbarrier_mark ^ index;
    maybe_interrupt();
}

void mbarrier_arrive(uint64_t* barrier, int64_t bytes, Site site) {
    Fibre& self = running();
    Block& block = *self.warp->block;
    arrive(self);
    maybe_interrupt();
    const int index = mbarrier_index(barrier, "mbarrier_arrive", site);
    MbarrierState& state = block.mbarriers[size_t(index)];
    if (bytes < 0 || bytes >= 1 << 20)
        fail("mbarrier_arrive_expect", site, false, "the bytes must be 0 to 1048575, got %lld",
             (long long)bytes);
    if (state.pending == 0)
        fail("mbarrier_arrive", site, false,
             "more arrivals than the %d of the phase, which waits for %lld bytes", state.expected,
             (long long)state.bytes);
    state.bytes += bytes;
    --state.pending;
    complete_phase_if_due(block, index);
}

void mbarrier_wait(uint64_t* barrier, int parity, Site site) {
    Fibre& self = running();
    Block& block = *self.warp->block;
    arrive(self);
    maybe_interrupt();
    const int index = mbarrier_index(barrier, "mbarrier_wait", site);
    if (parity != 0 && parity != 1)
        fail("mbarrier_wait", site, false, "the parity must be 0 or 1, got %d", parity);
    while (block.mbarriers[size_t(index)].parity == parity) {
        block.mbarriers[size_t(index)].waiters.push_back(&self);
        executor->scheduler.suspend(Wait::mbarrier, site, index);
    }
}

void copy_bulk(void* shared, const void* global, int64_t bytes, uint64_t* barrier, Site site) {
    Fibre& self = running();
    if (bytes < 16 || bytes % 16)
        fail("copy_bulk", site, false, "the bytes must be a multiple of 16, got %lld",
             (long long)bytes);
    check_shared(shared, size_t(bytes), 16, "copy_bulk", site);
    check_aligned(global, 16, "copy_bulk", site);
    const int index = mbarrier_index(barrier, "copy_bulk", site);
    executor->bulk_copies.push_back({self.warp->block, index, static_cast<char*>(shared),
                                     static_cast<const char*>(global), bytes, site});
    maybe_interrupt();
}

// One of those under way, or of those whose barrier has somebody waiting; false: there is none.
bool land_bulk(bool only_awaited) {
    const auto count = uint32_t(executor->bulk_copies.size());
    if (!count) return false;
    const uint32_t first = executor->chance.random.below(count);
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t which = (first + i) % count;
        const BulkCopy copy = executor->bulk_copies[which];
        MbarrierState& state = copy.block->mbarriers[size_t(copy.barrier)];
        if (only_awaited && state.waiters.empty()) continue;
        executor->bulk_copies[which] = executor->bulk_copies.back();
        executor->bulk_copies.pop_back();
        std::memcpy(copy.to, copy.from, size_t(copy.bytes));
        state.bytes -= copy.bytes;
        executor->scheduler.note_progress();
        complete_phase_if_due(*copy.block, copy.barrier);
        return true;
    }
    return false;
}

}  // namespace seqfast::host_executor

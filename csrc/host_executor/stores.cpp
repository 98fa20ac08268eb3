// Memory of other blocks, and stores that others see late.
#include <algorithm>

#include "host_executor/state.h"

namespace seqfast::host_executor {
namespace {

bool is_weak() { return executor->call.modes.weak_memory; }

void publish_one(std::vector<LateStore>& stores, size_t which) {
    const LateStore store = stores[which];
    stores.erase(stores.begin() + std::ptrdiff_t(which));
    if (store.target && store.target->ended)
        fail("store_cluster", store.site, false, "the block it stores to has ended before");
    auto* const to = reinterpret_cast<uint64_t*>(store.to);
    if (is_weak()) executor->overwritten[to] = {*to, ++executor->time};
    __atomic_store_n(to, store.value, __ATOMIC_RELAXED);
    executor->scheduler.note_progress();
}

void publish_place(std::vector<LateStore>& stores, const char* at) {
    // The oldest first.
    for (size_t i = 0; i < stores.size();)
        if (stores[i].to < at + 8 && at < stores[i].to + 8)
            publish_one(stores, i);
        else
            ++i;
}

// The last value of that place among those that only the thread and its block know.
const LateStore* find(const std::vector<LateStore>& stores, const void* at) {
    for (size_t i = stores.size(); i-- > 0;)
        if (stores[i].to == at) return &stores[i];
    return nullptr;
}

void let_pollers_look() { executor->scheduler.yield_to_poller(128, executor->live / 8 + 1); }

// target: whose shared memory it is, nullptr for global memory.
void store_late_in(Block* target, void* address, uint64_t value, Site site) {
    Fibre& self = running();
    auto& stores = self.late_stores;
    Random& random = executor->chance.random;
    const int delay = executor->chance.style.delay;
    publish_at(address);
    stores.push_back({static_cast<char*>(address), value, target, site});
    if (is_weak()) {
        if (stores.size() > 24) publish_one(stores, random.below(uint32_t(stores.size())));
        if (random.often(16)) let_pollers_look();
        return;
    }
    if (!delay) return publish_one(stores, 0);
    if (!random.often(delay)) publish_one(stores, stores.size() - 1);
    if (stores.size() > 6) publish_one(stores, random.below(uint32_t(stores.size())));
    if (!stores.empty() && random.often(delay / 2)) let_pollers_look();
}

}  // namespace

void* peer(const void* shared, int rank, const char* name, Site site) {
    const Block& block = *running().warp->block;
    const Cluster& cluster = *block.cluster;
    if (rank < 0 || rank >= int(cluster.blocks.size()))
        fail(name, site, false, "the rank must be 0 to %zu, got %d", cluster.blocks.size() - 1,
             rank);
    check_shared(shared, 0, 1, name, site);
    const Block& target = *cluster.blocks[size_t(rank)];
    if (target.ended) fail(name, site, false, "the block of rank %d has ended", rank);
    return target.view.shared + (static_cast<const char*>(shared) - block.view.shared);
}

void store_peer(void* shared, int rank, uint64_t value, Site site) {
    void* const to = peer(shared, rank, "store_cluster", site);
    Block& target = *running().warp->block->cluster->blocks[size_t(rank)];
    if (!target.started)
        fail("store_cluster", site, false, "the block of rank %d may not have begun", rank);
    store_late_in(&target, to, value, site);
}

void store_late(void* address, uint64_t value, Site site) {
    store_late_in(nullptr, address, value, site);
}

void publish() { publish(running()); }

void publish_all(Fibre& self) {
    Random& random = executor->chance.random;
    auto& of_block = self.warp->block->late_stores;
    while (!self.late_stores.empty() || !of_block.empty()) {
        auto& stores = self.late_stores.empty() ? of_block : self.late_stores;
        publish_one(stores, random.below(uint32_t(stores.size())));
        if (random.often(executor->chance.style.delay / 2)) let_pollers_look();
    }
}

void publish_at(const void* address) {
    Fibre& self = running();
    const char* const at = static_cast<const char*>(address);
    publish_place(self.warp->block->late_stores, at);
    publish_place(self.late_stores, at);
}

void publish_some() {
    Random& random = executor->chance.random;
    for (Block* block : executor->blocks) {
        const auto some = [&](std::vector<LateStore>& stores) {
            if (!stores.empty() && random.often(128))
                publish_one(stores, random.below(uint32_t(stores.size())));
        };
        some(block->late_stores);
        for (Fibre& fibre : block->fibres) some(fibre.late_stores);
    }
}

void settle(Fibre& self) {
    if (!is_weak()) return publish(self);
}
void settle() { settle(running()); }

void arrive(Fibre& self) {
    if (!is_weak()) return publish(self);
    Block& block = *self.warp->block;
    for (const LateStore& store : self.late_stores) {
        publish_place(block.late_stores, store.to);
        block.late_stores.push_back(store);
    }
    self.late_stores.clear();
    block.horizon = std::max(block.horizon, self.horizon);
}
void meet(Fibre& self) { self.horizon = std::max(self.horizon, self.warp->block->horizon); }
void see_all(Fibre& self) { self.horizon = executor->time; }

// More than what it has seen and what that was stored after, which nobody keeps count of.
void acquire() { see_all(running()); }

uint64_t load_word(const uint64_t* address) {
    if (!is_weak()) return __atomic_load_n(address, __ATOMIC_RELAXED);
    Fibre& self = running();
    if (const LateStore* own = find(self.late_stores, address)) return own->value;
    if (const LateStore* own = find(self.warp->block->late_stores, address)) return own->value;
    const auto found = executor->overwritten.find(address);
    if (found == executor->overwritten.end()) return *address;
    int64_t& seen = self.seen[address];
    const auto [value, time] = found->second;
    if (time > self.horizon && time > seen && executor->chance.random.often(96)) return value;
    seen = time;
    return *address;
}

}  // namespace seqfast::host_executor

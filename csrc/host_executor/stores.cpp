// Memory of other blocks, and stores that others see late.
#include "host_executor/state.h"

namespace seqfast::host_executor {
namespace {

void publish_one(Fibre& self, size_t which) {
    const LateStore store = self.late_stores[which];
    self.late_stores.erase(self.late_stores.begin() + std::ptrdiff_t(which));
    if (store.target && store.target->ended)
        fail("store_cluster", store.site, false, "the block it stores to has ended before");
    __atomic_store_n(reinterpret_cast<uint64_t*>(store.to), store.value, __ATOMIC_RELAXED);
    executor->scheduler.note_progress();
}

void let_pollers_look() { executor->scheduler.yield_to_poller(128, executor->live / 8 + 1); }

// target: whose shared memory it is, nullptr for global memory.
void store_late_in(Block* target, void* address, uint64_t value, Site site) {
    Fibre& self = running();
    auto& stores = self.late_stores;
    Random& random = executor->chance.random;
    const int delay = executor->chance.style.delay;
    if (!stores.empty()) publish_at(address);
    stores.push_back({static_cast<char*>(address), value, target, site});
    if (!delay) return publish_one(self, 0);
    if (!random.often(delay)) publish_one(self, stores.size() - 1);
    if (stores.size() > 6) publish_one(self, random.below(uint32_t(stores.size())));
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
    for (;;) {
        publish_one(self, random.below(uint32_t(self.late_stores.size())));
        if (self.late_stores.empty()) return;
        if (random.often(executor->chance.style.delay / 2)) let_pollers_look();
    }
}

void publish_at(const void* address) {
    Fibre& self = running();
    const char* const at = static_cast<const char*>(address);
    for (size_t i = self.late_stores.size(); i-- > 0;)
        if (self.late_stores[i].to < at + 8 && at < self.late_stores[i].to + 8)
            publish_one(self, i);
}

}  // namespace seqfast::host_executor

// Schedules the threads of a grid as fibres, in orders that look for mistakes.
#include "host_executor/executor.h"

#include <pthread.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "host_executor/fibre.h"
#include "host_executor/grid.h"
#include "host_executor/style.h"
#include "host_executor/warp_math.h"

namespace seqfast::host_executor {

SEQFAST_HOST_THREAD_LOCAL Thread* current = nullptr;
SEQFAST_HOST_THREAD_LOCAL int quantum = 0;

namespace {

class Executor;
// The one whose launch runs in this thread.
SEQFAST_HOST_THREAD_LOCAL Executor* executor = nullptr;

// Zone before and behind the shared memory of a block that nobody may write.
constexpr int64_t guard_bytes = SEQFAST_ADDRESS_SANITIZER ? 0 : 1024;
// No number in any format.
constexpr uint16_t guard_pattern = 0xFFE5;

// ---- What the process shares --------------------------------------------------------------------

struct Shared {
    std::mutex mutex;
    Device device{0, 132, 232448, 90, 16};
    uint64_t seed = 0;
    uint64_t launch_number = 0;
    Statistics statistics{};
};

// Never destroyed: a thread may still be launching when the process ends.
Shared& shared_state() {
    static Shared* const state = [] {
        // A child of fork must not find the mutex held by a thread that it does not have.
        pthread_atfork([] { shared_state().mutex.lock(); }, [] { shared_state().mutex.unlock(); },
                       [] { shared_state().mutex.unlock(); });
        return new Shared;
    }();
    return *state;
}

constexpr int device_count = 2;
SEQFAST_HOST_THREAD_LOCAL int current_device = 0;

// ---- Text ---------------------------------------------------------------------------------------

std::string format_list(const char* format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    const int size = std::vsnprintf(nullptr, 0, format, arguments);
    std::string text(size_t(size), '\0');
    std::vsnprintf(text.data(), size_t(size) + 1, format, again);
    va_end(again);
    return text;
}

__attribute__((format(printf, 1, 2))) std::string text(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::string result = format_list(format, arguments);
    va_end(arguments);
    return result;
}

// "0-3, 7" for rising numbers.
std::string ranges(const std::vector<int64_t>& numbers) {
    std::string result;
    for (size_t i = 0; i < numbers.size();) {
        size_t j = i;
        while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
        if (!result.empty()) result += ", ";
        result += std::to_string(numbers[i]);
        if (j > i) result += "-" + std::to_string(numbers[j]);
        i = j + 1;
    }
    return result;
}

bool same(const Site& a, const Site& b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

const char* name_of(Collective kind) {
    static const char* const names[] = {"warp_sync",    "warp_index", "shuffle",  "shuffle_xor",
                                        "shuffle_down", "ballot",     "warp_all", "warp_any",
                                        "mma_bf16",     "mma_fp16",   "mma_tf32", "mma_f64",
                                        "ldmatrix_x4"};
    return names[int(kind)];
}

std::string name_of(const Block& block) {
    return text("block (%d, %d, %d)", block.view.x, block.view.y, block.view.z);
}

// ---- The executor -------------------------------------------------------------------------------

// Of each size of block, kept for the next launch.
constexpr int kept_threads = 8192;
constexpr uint64_t mbarrier_mark = uint64_t(0xB1A5ED) << 40;

class Executor {
  public:
    void launch(const char* name, const LaunchShape& shape, const Device& device,
                void (*kernel)(const void*), const void* arguments, uint64_t seed, uint64_t number);
    int64_t switches() const { return switches_; }

    // Below: called by the running fibre.
    void collective(Collective kind, Site site);
    void block_sync(Site site);
    void named_barrier(int number, int threads, bool wait, Site site);
    void cluster_arrive(Site site);
    void cluster_wait(Site site);
    void grid_sync(Site site);
    void poll_pause(Site site);
    void interrupt();
    void copy_async(void* shared, const void* global, bool valid, Site site);
    void copy_async_commit();
    void copy_async_wait(int pending);
    void mbarrier_init(uint64_t* barrier, int arrivals, Site site);
    void mbarrier_arrive(uint64_t* barrier, int64_t bytes, Site site);
    void mbarrier_wait(uint64_t* barrier, int parity, Site site);
    void copy_bulk(void* shared, const void* global, int64_t bytes, uint64_t* barrier, Site site);
    void* peer(const void* shared, int rank, const char* name, Site site);
    void store_late(void* address, uint64_t value, Block* target, Site site);
    void store_peer(void* shared, int rank, uint64_t value, Site site);
    void publish(Fibre& self) {
        if (!self.late_stores.empty()) publish_all(self);
    }
    void publish_at(const void* address);
    void note_progress() { idle_rounds_ = idle_polls_ = 0; }
    const Device& device() const { return device_; }
    // The launch ends with this error; with a report of who waits where.
    [[noreturn]] __attribute__((format(printf, 5, 6))) void fail(const char* name, Site site,
                                                                 bool with_report,
                                                                 const char* format, ...);

    static Fibre& running() { return static_cast<Fibre&>(*current); }

  private:
    // Running
    void run();
    void reset();
    void admit();
    void start_cluster(int64_t index);
    std::unique_ptr<Block> make_block();
    void start_block(Block& block);
    void check_block(const Block& block);
    void end_block(Block& block);
    void end_cluster(Cluster& cluster, const Block& last);
    void retire(Block& block, bool abandoned);
    void allocate_shared(Block& block);
    bool idle();
    static void fibre_main();
    [[noreturn]] void exit_thread();

    // Choosing who runs
    void wake(Warp& warp, uint32_t lanes);
    Fibre& take(Warp& warp);
    Fibre* next();
    void suspend(Wait wait, Site site, int detail = 0);
    void yield();
    void yield_to_poller(int often, int64_t pause);
    void go_to(Fibre& self, Fibre* to);
    void go_to_main(Fibre& self);
    void enter(Fibre& to);
    void arrive(void* fake_stack);
    void wake_poller(Warp& warp);
    void release(Block& block, int barrier);
    void complete_cluster(Cluster& cluster);
    void after_completion();
    int draw_quantum();

    // Copies and stores under way
    static void land(const AsyncCopy& copy);
    void land_some(Fibre& self);
    bool land_bulk(bool only_awaited);
    void complete_phase_if_due(Block& block, int index);
    void publish_all(Fibre& self);
    void publish_one(Fibre& self, size_t which);
    int mbarrier_index(uint64_t* barrier, const char* name, Site site);

    // Errors
    std::string who_waits() const;
    std::string wait_text(const Block& block, const Fibre& fibre) const;
    [[noreturn]] void raise(const std::string& what, bool with_report) const;

    const char* name_ = "";
    LaunchShape shape_{};
    Device device_{};
    void (*kernel_)(const void*) = nullptr;
    const void* arguments_ = nullptr;
    uint64_t seed_ = 0, number_ = 0;
    Random random_{0};
    Style style_{};

    std::vector<int64_t> order_;  // of clusters
    size_t started_ = 0;
    std::vector<std::unique_ptr<Cluster>> clusters_;                   // resident
    std::map<int, std::vector<std::unique_ptr<Block>>> spare_blocks_;  // by number of threads
    std::vector<Block*> blocks_;                                       // resident
    std::vector<Block*> ended_blocks_;
    int64_t live_ = 0;
    Barrier grid_;

    WarpSet<&Warp::ready_place> ready_, starved_;
    WarpSet<&Warp::polling_place> polling_;
    Warp* last_ = nullptr;  // whose lane ran last
    uint32_t turn_ = 0;
    int64_t idle_rounds_ = 0, idle_polls_ = 0;
    std::vector<BulkCopy> bulk_copies_;

    StackPool stacks_;
    void* main_stack_pointer_ = nullptr;
    void* main_fake_stack_ = nullptr;
    const void* main_stack_bottom_ = nullptr;
    size_t main_stack_size_ = 0;
    bool from_main_ = false;
    int64_t switches_ = 0;
    int64_t next_look_ = 0;  // number of switches from which a polling warp may look early

    bool failed_ = false, failed_with_report_ = false;
    std::string failure_, exception_;
};

// ---- Switching ----------------------------------------------------------------------------------

inline void before_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
                          [[maybe_unused]] size_t size) {
#if SEQFAST_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#endif
}
// On a fibre, after a switch to it: the sanitizer says what stack it came from.
void Executor::arrive([[maybe_unused]] void* fake_stack) {
#if SEQFAST_ADDRESS_SANITIZER
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (from_main_) {
        main_stack_bottom_ = bottom;
        main_stack_size_ = size;
        from_main_ = false;
    }
#endif
}

void Executor::go_to(Fibre& self, Fibre* to) {
    if (!to) return go_to_main(self);
    if (to == &self) return;
    ++switches_;
    current = to;
    before_switch(self.wait == Wait::ended ? nullptr : &self.fake_stack, to->stack.bottom,
                  size_t(to->stack.top - to->stack.bottom));
    seqfast_host_executor_switch(&self.stack_pointer, to->stack_pointer);
    arrive(self.fake_stack);
}

void Executor::go_to_main(Fibre& self) {
    current = nullptr;
    before_switch(self.wait == Wait::ended ? nullptr : &self.fake_stack, main_stack_bottom_,
                  main_stack_size_);
    seqfast_host_executor_switch(&self.stack_pointer, main_stack_pointer_);
    arrive(self.fake_stack);
}

// From the launching thread's own stack, until a fibre comes back to it.
void Executor::enter(Fibre& to) {
    ++switches_;
    from_main_ = true;
    current = &to;
    before_switch(&main_fake_stack_, to.stack.bottom, size_t(to.stack.top - to.stack.bottom));
    seqfast_host_executor_switch(&main_stack_pointer_, to.stack_pointer);
#if SEQFAST_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(main_fake_stack_, nullptr, nullptr);
#endif
}

void Executor::fibre_main() {
    Executor& self = *executor;
    self.arrive(nullptr);
    running().warp->block->started = true;
    bool raised = false;
    try {
        self.kernel_(self.arguments_);
    } catch (const std::exception& error) {
        // Out of the handler first: nobody returns to it.
        self.exception_ = error.what();
        raised = true;
    }
    if (raised) self.fail("exception", {}, false, "%s", self.exception_.c_str());
    self.exit_thread();
}

void Executor::wake(Warp& warp, uint32_t lanes) {
    if (!lanes) return;
    if (!warp.ready) (warp.starved ? starved_ : ready_).add(&warp);
    warp.ready |= lanes;
}

Fibre& Executor::take(Warp& warp) {
    int lane;
    switch (style_.lanes) {
        case LaneOrder::rising:
            lane = __builtin_ctz(warp.ready);
            break;
        case LaneOrder::falling:
            lane = 31 - __builtin_clz(warp.ready);
            break;
        default: {
            const uint32_t turn = random_.below(32);
            const uint32_t turned = warp.ready >> turn | warp.ready << (-turn & 31);
            lane = int((uint32_t(__builtin_ctz(turned)) + turn) & 31);
        }
    }
    warp.ready &= ~(1u << lane);
    if (!warp.ready) (warp.starved ? starved_ : ready_).remove(&warp);
    last_ = &warp;
    Fibre& fibre = warp.fibres[lane];
    fibre.wait = Wait::none;
    return fibre;
}

Fibre* Executor::next() {
    if (style_.stay && last_ && last_->ready && (!last_->starved || ready_.empty()))
        return &take(*last_);
    const auto& set = ready_.empty() ? starved_ : ready_;
    if (set.empty()) return nullptr;
    switch (style_.warps) {
        case WarpOrder::newest:
            return &take(*set[set.size() - 1]);
        case WarpOrder::in_turn:
            return &take(*set[++turn_ % set.size()]);
        default:
            return &take(*set[random_.below(set.size())]);
    }
}

void Executor::suspend(Wait wait, Site site, int detail) {
    Fibre& self = running();
    self.wait = wait;
    self.site = site;
    self.detail = detail;
    go_to(self, next());
}

void Executor::yield() {
    Fibre& self = running();
    wake(*self.warp, self.bit);
    last_ = nullptr;
    go_to(self, next());
}

int Executor::draw_quantum() {
    // Without interruptions too, so that a loop that waits without poll_pause does not wait for
    // ever.
    return style_.interrupt_mean ? int(random_.below(uint32_t(2 * style_.interrupt_mean)))
                                 : 1 << 20;
}

void Executor::interrupt() {
    quantum = draw_quantum();
    Fibre& self = running();
    if (!style_.interrupt_mean) return poll_pause({"a loop without poll_pause", 0});
    if (style_.early) {
        land_some(self);
        if (random_.often(style_.early)) land_bulk(false);
    }
    yield_to_poller(64, live_);
}

// Who polls may look in the middle of things: not more often than others run, and not for ever, or
// a deadlock would not be seen.
void Executor::yield_to_poller(int often, int64_t pause) {
    if (!polling_.empty() && switches_ >= next_look_ && idle_polls_ < 1000 &&
        random_.often(often)) {
        next_look_ = switches_ + random_.below(uint32_t(pause));
        wake_poller(*polling_[random_.below(polling_.size())]);
    }
    yield();
}

void Executor::poll_pause(Site site) {
    Fibre& self = running();
    publish(self);
    if (!self.warp->polling) polling_.add(self.warp);
    self.warp->polling |= self.bit;
    ++idle_polls_;
    suspend(Wait::poll, site);
}

void Executor::wake_poller(Warp& warp) {
    wake(warp, warp.polling);
    warp.polling = 0;
    polling_.remove(&warp);
}

// ---- Errors -------------------------------------------------------------------------------------

// Formats here and leaves no text behind on the stack, which nobody will unwind.
void Executor::fail(const char* name, Site site, bool with_report, const char* format, ...) {
    const BlockView& view = *current->block;
    failure_ =
        text("%s by thread %d of block (%d, %d, %d)", name, current->index, view.x, view.y, view.z);
    if (site.line) failure_ += text(" at %s:%d", site.file, site.line);
    va_list arguments;
    va_start(arguments, format);
    failure_ += ": " + format_list(format, arguments);
    va_end(arguments);
    failed_ = true;
    failed_with_report_ = with_report;
    go_to_main(running());
    __builtin_unreachable();
}

void Executor::raise(const std::string& what, bool with_report) const {
    std::string message = name_;
    message +=
        ": " + what +
        text(" [seed %llu, launch %llu]", (unsigned long long)seed_, (unsigned long long)number_);
    if (with_report) message += who_waits();
    throw std::runtime_error(message);
}

std::string Executor::wait_text(const Block& block, const Fibre& fibre) const {
    const std::string at = text(" at %s:%d", fibre.site.file, fibre.site.line);
    switch (fibre.wait) {
        case Wait::none:
            return "can run";
        case Wait::collective:
            return std::string("in ") + name_of(fibre.warp->kind) + at;
        case Wait::block_sync:
            return "in block_sync" + at;
        case Wait::named_barrier: {
            const Barrier& barrier = block.barriers[fibre.detail];
            return text("in named_barrier_sync(%d, %d), where %d threads have arrived,",
                        fibre.detail, barrier.expected, barrier.arrived) +
                   at;
        }
        case Wait::cluster_wait:
            return "in cluster_wait" + at;
        case Wait::grid_sync:
            return "in grid_sync" + at;
        case Wait::mbarrier: {
            const MbarrierState& state = block.mbarriers[size_t(fibre.detail)];
            return text(
                       "in mbarrier_wait of shared memory + %lld, parity %d, which lacks %d "
                       "arrivals and %lld bytes,",
                       (long long)(reinterpret_cast<char*>(state.address) - block.view.shared),
                       state.parity, state.pending, (long long)state.bytes) +
                   at;
        }
        case Wait::poll:
            return fibre.site.line ? "in poll_pause" + at : "in a loop without poll_pause";
        case Wait::ended:
            return "have ended";
    }
    return "";
}

std::string Executor::who_waits() const {
    std::map<std::string, std::vector<std::string>> blocks_of;
    for (const Block* block : blocks_) {
        std::map<std::string, std::vector<int64_t>> threads_of;
        for (const Fibre& fibre : block->fibres)
            threads_of[wait_text(*block, fibre)].push_back(fibre.index);
        std::string lines;
        for (const auto& [wait, threads] : threads_of)
            lines += "\n    threads " + ranges(threads) + ": " + wait;
        blocks_of[lines].push_back(
            text("(%d, %d, %d)", block->view.x, block->view.y, block->view.z));
    }
    std::string result;
    int left = 16;
    for (auto& [lines, blocks] : blocks_of) {
        if (left-- == 0) {
            result += "\n  and other blocks in other places";
            break;
        }
        std::sort(blocks.begin(), blocks.end());
        result += blocks.size() == 1 ? "\n  block " : "\n  blocks ";
        for (size_t i = 0; i < blocks.size() && i < 8; ++i) result += (i ? ", " : "") + blocks[i];
        if (blocks.size() > 8) result += text(" and %zu more", blocks.size() - 8);
        result += ":" + lines;
    }
    return result;
}

// ---- Waiting for each other ---------------------------------------------------------------------

void Executor::after_completion() {
    if (!style_.last_goes_on) yield();
}

void Executor::collective(Collective kind, Site site) {
    Fibre& self = running();
    Warp& warp = *self.warp;
    publish(self);
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
    if (warp.arrived != all_lanes) return suspend(Wait::collective, site);
    warp.arrived = 0;
    compute(kind, warp.operands);
    wake(warp, all_lanes & ~self.bit);
    last_ = &warp;
}

void Executor::release(Block& block, int number) {
    Fibre& self = running();
    block.barriers[number].arrived = 0;
    for (Warp& warp : block.warps) {
        const uint32_t lanes = warp.waiting[number];
        warp.waiting[number] = warp.reached[number] = 0;
        wake(warp, &warp == self.warp ? lanes & ~self.bit : lanes);
    }
}

void Executor::block_sync(Site site) {
    Fibre& self = running();
    Warp& warp = *self.warp;
    Block& block = *warp.block;
    Barrier& barrier = block.barriers[0];
    publish(self);
    self.wait = Wait::block_sync;
    self.site = site;
    if (block.live != block.view.threads)
        fail("block_sync", site, true, "divergent barrier: %d threads of the block have exited",
             block.view.threads - block.live);
    if (!barrier.arrived) barrier.site = site;
    if (!same(barrier.site, site))
        fail("block_sync", site, true, "divergent barrier: others of the block are in it at %s:%d",
             barrier.site.file, barrier.site.line);
    if (warp.arrived)
        fail("block_sync", site, true, "divergent barrier: lanes of the warp are in %s at %s:%d",
             name_of(warp.kind), warp.site.file, warp.site.line);
    warp.waiting[0] |= self.bit;
    if (++barrier.arrived < block.view.threads) return go_to(self, next());
    self.wait = Wait::none;
    release(block, 0);
    after_completion();
}

void Executor::named_barrier(int number, int threads, bool wait, Site site) {
    Fibre& self = running();
    Warp& warp = *self.warp;
    Block& block = *warp.block;
    const char* const name = wait ? "named_barrier_sync" : "named_barrier_arrive";
    publish(self);
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
        if (wait) suspend(Wait::named_barrier, site, number);
        return;
    }
    for (const Warp& other : block.warps)
        if (other.reached[number] && other.reached[number] != all_lanes)
            fail(name, site, false, "barrier %d was reached by a part of warp %d only", number,
                 other.index);
    release(block, number);
    after_completion();
}

void Executor::complete_cluster(Cluster& cluster) {
    cluster.arrived = 0;
    ++cluster.phase;
    for (Block* block : cluster.blocks)
        for (Warp& warp : block->warps) {
            wake(warp, warp.cluster_waiting);
            warp.cluster_waiting = 0;
        }
}

void Executor::cluster_arrive(Site site) {
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

void Executor::cluster_wait(Site site) {
    Fibre& self = running();
    Cluster& cluster = *self.warp->block->cluster;
    publish(self);
    if (!self.cluster_arrived) fail("cluster_wait", site, false, "the thread has not arrived");
    self.cluster_arrived = false;
    if (cluster.phase != self.cluster_phase) return after_completion();
    self.warp->cluster_waiting |= self.bit;
    suspend(Wait::cluster_wait, site);
}

void Executor::grid_sync(Site site) {
    Fibre& self = running();
    Warp& warp = *self.warp;
    publish(self);
    if (!shape_.cooperative) fail("grid_sync", site, false, "the launch is not cooperative");
    const int64_t threads = int64_t(shape_.grid_x) * shape_.grid_y * shape_.grid_z * shape_.threads;
    self.wait = Wait::grid_sync;
    self.site = site;
    if (live_ != threads)
        fail("grid_sync", site, true, "divergent barrier: %lld threads of the grid have exited",
             (long long)(threads - live_));
    if (!grid_.arrived) grid_.site = site;
    if (!same(grid_.site, site))
        fail("grid_sync", site, true, "divergent barrier: others of the grid are in it at %s:%d",
             grid_.site.file, grid_.site.line);
    if (warp.arrived)
        fail("grid_sync", site, true, "divergent barrier: lanes of the warp are in %s at %s:%d",
             name_of(warp.kind), warp.site.file, warp.site.line);
    warp.grid_waiting |= self.bit;
    if (++grid_.arrived < threads) return go_to(self, next());
    self.wait = Wait::none;
    grid_.arrived = 0;
    for (Block* block : blocks_)
        for (Warp& other : block->warps) {
            const uint32_t lanes = other.grid_waiting;
            other.grid_waiting = 0;
            wake(other, &other == &warp ? lanes & ~self.bit : lanes);
        }
    after_completion();
}

void Executor::exit_thread() {
    Fibre& self = running();
    Warp& warp = *self.warp;
    Block& block = *warp.block;
    Cluster& cluster = *block.cluster;
    publish(self);
    note_progress();
    self.wait = Wait::ended;
    if (warp.arrived)
        fail("exit", {}, true, "divergent warp: lanes of the warp are in %s at %s:%d",
             name_of(warp.kind), warp.site.file, warp.site.line);
    if (block.barriers[0].arrived)
        fail("exit", {}, true, "divergent barrier: others of the block are in block_sync at %s:%d",
             block.barriers[0].site.file, block.barriers[0].site.line);
    if (grid_.arrived)
        fail("exit", {}, true, "divergent barrier: others of the grid are in grid_sync at %s:%d",
             grid_.site.file, grid_.site.line);
    warp.live &= ~self.bit;
    --live_;
    --cluster.live;
    // Who has exited counts as arrived.
    if (self.cluster_arrived && self.cluster_phase == cluster.phase) --cluster.arrived;
    if (cluster.arrived && cluster.arrived == cluster.live) complete_cluster(cluster);
    if (--block.live == 0) {
        block.ended = true;
        ended_blocks_.push_back(&block);
        go_to_main(self);
    } else {
        go_to(self, next());
    }
    __builtin_unreachable();
}

// ---- Copies that run beside the thread ----------------------------------------------------------

void Executor::copy_async(void* shared, const void* global, bool valid, Site site) {
    Fibre& self = running();
    check_shared(shared, 16, 16, "copy_async_16", site);
    check_aligned(global, 16, "copy_async_16", site);
    self.copies.push_back({static_cast<char*>(shared),
                           valid ? static_cast<const char*>(global) : nullptr, self.copy_group});
    maybe_interrupt();
}

void Executor::land(const AsyncCopy& copy) {
    if (copy.from)
        std::memcpy(copy.to, copy.from, 16);
    else
        std::memset(copy.to, 0, 16);
}

// The oldest ones, as many as chance will have it.
void Executor::land_some(Fibre& self) {
    size_t landed = 0;
    while (landed < self.copies.size() && random_.often(style_.early)) land(self.copies[landed++]);
    self.copies.erase(self.copies.begin(), self.copies.begin() + std::ptrdiff_t(landed));
}

void Executor::copy_async_commit() {
    Fibre& self = running();
    ++self.copy_group;
    if (style_.early) land_some(self);
    maybe_interrupt();
}

void Executor::copy_async_wait(int pending) {
    Fibre& self = running();
    size_t landed = 0;
    while (landed < self.copies.size() && self.copies[landed].group < self.copy_group - pending)
        land(self.copies[landed++]);
    self.copies.erase(self.copies.begin(), self.copies.begin() + std::ptrdiff_t(landed));
    maybe_interrupt();
}

int Executor::mbarrier_index(uint64_t* barrier, const char* name, Site site) {
    check_shared(barrier, 8, 8, name, site);
    const Block& block = *running().warp->block;
    const uint64_t index = *barrier ^ mbarrier_mark;
    if (index >= block.mbarriers.size() || block.mbarriers[size_t(index)].address != barrier)
        fail(name, site, false,
             "the barrier has not been initialised, or something else was stored there");
    return int(index);
}

void Executor::mbarrier_init(uint64_t* barrier, int arrivals, Site site) {
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

void Executor::complete_phase_if_due(Block& block, int index) {
    MbarrierState& state = block.mbarriers[size_t(index)];
    if (state.pending || state.bytes) return;
    state.pending = state.expected;
    state.parity ^= 1;
    note_progress();
    for (Fibre* fibre : state.waiters) wake(*fibre->warp, fibre->bit);
    state.waiters.clear();
}

void Executor::mbarrier_arrive(uint64_t* barrier, int64_t bytes, Site site) {
    Fibre& self = running();
    Block& block = *self.warp->block;
    publish(self);
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

void Executor::mbarrier_wait(uint64_t* barrier, int parity, Site site) {
    Fibre& self = running();
    Block& block = *self.warp->block;
    publish(self);
    maybe_interrupt();
    const int index = mbarrier_index(barrier, "mbarrier_wait", site);
    if (parity != 0 && parity != 1)
        fail("mbarrier_wait", site, false, "the parity must be 0 or 1, got %d", parity);
    while (block.mbarriers[size_t(index)].parity == parity) {
        block.mbarriers[size_t(index)].waiters.push_back(&self);
        suspend(Wait::mbarrier, site, index);
    }
}

void Executor::copy_bulk(void* shared, const void* global, int64_t bytes, uint64_t* barrier,
                         Site site) {
    Fibre& self = running();
    if (bytes < 16 || bytes % 16)
        fail("copy_bulk", site, false, "the bytes must be a multiple of 16, got %lld",
             (long long)bytes);
    check_shared(shared, size_t(bytes), 16, "copy_bulk", site);
    check_aligned(global, 16, "copy_bulk", site);
    const int index = mbarrier_index(barrier, "copy_bulk", site);
    bulk_copies_.push_back({self.warp->block, index, static_cast<char*>(shared),
                            static_cast<const char*>(global), bytes, site});
    maybe_interrupt();
}

// One of those under way, or of those whose barrier has somebody waiting; false: there is none.
bool Executor::land_bulk(bool only_awaited) {
    const auto count = uint32_t(bulk_copies_.size());
    if (!count) return false;
    const uint32_t first = random_.below(count);
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t which = (first + i) % count;
        const BulkCopy copy = bulk_copies_[which];
        MbarrierState& state = copy.block->mbarriers[size_t(copy.barrier)];
        if (only_awaited && state.waiters.empty()) continue;
        bulk_copies_[which] = bulk_copies_.back();
        bulk_copies_.pop_back();
        std::memcpy(copy.to, copy.from, size_t(copy.bytes));
        state.bytes -= copy.bytes;
        note_progress();
        complete_phase_if_due(*copy.block, copy.barrier);
        return true;
    }
    return false;
}

// ---- Other blocks, and memory that others are reading -------------------------------------------

void* Executor::peer(const void* shared, int rank, const char* name, Site site) {
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

void Executor::store_peer(void* shared, int rank, uint64_t value, Site site) {
    void* const to = peer(shared, rank, "store_cluster", site);
    if (!running().warp->block->cluster->blocks[size_t(rank)]->started)
        fail("store_cluster", site, false, "the block of rank %d may not have begun", rank);
    store_late(to, value, running().warp->block->cluster->blocks[size_t(rank)], site);
}

void Executor::store_late(void* address, uint64_t value, Block* target, Site site) {
    Fibre& self = running();
    auto& stores = self.late_stores;
    if (!stores.empty()) publish_at(address);
    stores.push_back({static_cast<char*>(address), value, target, site});
    if (!style_.delay) return publish_one(self, 0);
    if (!random_.often(style_.delay)) publish_one(self, stores.size() - 1);
    if (stores.size() > 6) publish_one(self, random_.below(uint32_t(stores.size())));
    if (!stores.empty() && random_.often(style_.delay / 2)) yield_to_poller(128, live_ / 8 + 1);
}

void Executor::publish_one(Fibre& self, size_t which) {
    const LateStore store = self.late_stores[which];
    self.late_stores.erase(self.late_stores.begin() + std::ptrdiff_t(which));
    if (store.target && store.target->ended)
        fail("store_cluster", store.site, false, "the block it stores to has ended before");
    __atomic_store_n(reinterpret_cast<uint64_t*>(store.to), store.value, __ATOMIC_RELAXED);
    note_progress();
}

void Executor::publish_all(Fibre& self) {
    for (;;) {
        publish_one(self, random_.below(uint32_t(self.late_stores.size())));
        if (self.late_stores.empty()) return;
        if (random_.often(style_.delay / 2)) yield_to_poller(128, live_ / 8 + 1);
    }
}

void Executor::publish_at(const void* address) {
    Fibre& self = running();
    const char* const at = static_cast<const char*>(address);
    for (size_t i = self.late_stores.size(); i-- > 0;)
        if (self.late_stores[i].to < at + 8 && at < self.late_stores[i].to + 8)
            publish_one(self, i);
}

// ---- From the first block to the last -----------------------------------------------------------

void Executor::allocate_shared(Block& block) {
    const int64_t bytes = shape_.shared_bytes;
    std::free(block.allocation);
    block.allocation = nullptr;
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, size_t(bytes + 2 * guard_bytes))) throw std::bad_alloc();
    block.allocation = static_cast<char*>(memory);
    block.view.shared = block.allocation + guard_bytes;
    block.view.shared_bytes = bytes;
    fill(block.allocation, guard_bytes, guard_pattern);
    fill(block.view.shared, bytes, style_.poison);
    fill(block.view.shared + bytes, guard_bytes, guard_pattern);
}

std::unique_ptr<Block> Executor::make_block() {
    auto& spare = spare_blocks_[shape_.threads];
    if (!spare.empty()) {
        std::unique_ptr<Block> block = std::move(spare.back());
        spare.pop_back();
        return block;
    }
    auto block = std::make_unique<Block>();
    block->fibres = std::vector<Fibre>(size_t(shape_.threads));
    block->warps = std::vector<Warp>(size_t((shape_.threads + 31) / 32));
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
    block.live = shape_.threads;
    block.mbarriers.clear();
    for (Barrier& barrier : block.barriers) barrier = {};
    for (Fibre& fibre : block.fibres) {
        fibre.stack = stacks_.take();
        fibre.stack_pointer = prepare_stack(fibre.stack, &Executor::fibre_main);
        fibre.wait = Wait::none;
        fibre.cluster_arrived = false;
        fibre.copy_group = 0;
        fibre.copies.clear();
        fibre.late_stores.clear();
    }
    const bool starve_block = style_.starve && random_.often(style_.starve);
    for (Warp& warp : block.warps) {
        const int lanes = std::min(32, shape_.threads - 32 * warp.index);
        warp.live = lanes == 32 ? all_lanes : (1u << lanes) - 1;
        warp.ready = warp.polling = warp.arrived = 0;
        warp.cluster_waiting = warp.grid_waiting = 0;
        std::fill(std::begin(warp.waiting), std::end(warp.waiting), 0);
        std::fill(std::begin(warp.reached), std::end(warp.reached), 0);
        warp.starved = starve_block || (style_.starve && random_.often(style_.starve));
        wake(warp, warp.live);
    }
    blocks_.push_back(&block);
    live_ += shape_.threads;
}

void Executor::start_cluster(int64_t index) {
    clusters_.push_back(std::make_unique<Cluster>());
    Cluster& cluster = *clusters_.back();
    const int64_t along_x = shape_.grid_x / shape_.cluster;
    for (int rank = 0; rank < shape_.cluster; ++rank) {
        Block* const block = make_block().release();
        block->view = {int(index % along_x) * shape_.cluster + rank,
                       int(index / along_x % shape_.grid_y),
                       int(index / along_x / shape_.grid_y),
                       shape_.grid_x,
                       shape_.grid_y,
                       shape_.grid_z,
                       shape_.threads,
                       rank,
                       shape_.cluster,
                       nullptr,
                       0};
        block->cluster = &cluster;
        cluster.blocks.push_back(block);
    }
    cluster.live = shape_.cluster * shape_.threads;
    for (Block* block : cluster.blocks) start_block(*block);
}

void Executor::admit() {
    const int64_t threads = int64_t(shape_.cluster) * shape_.threads;
    while (started_ < order_.size() &&
           (shape_.cooperative || clusters_.empty() || live_ + threads <= style_.resident_threads))
        start_cluster(order_[started_++]);
}

void Executor::check_block(const Block& block) {
    for (const BulkCopy& copy : bulk_copies_)
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
    blocks_.erase(std::find(blocks_.begin(), blocks_.end(), &block));
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
    last_ = nullptr;
    auto& spare = spare_blocks_[shape_.threads];
    for (Block* block : cluster.blocks) {
        if (int(spare.size()) * shape_.threads < kept_threads)
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
    const bool last_hope = idle_rounds_ > 500 && idle_polls_ > 500000;
    if ((polling_.empty() || last_hope || random_.often(128)) && land_bulk(true)) return true;
    if (polling_.empty() || last_hope) return false;
    ++idle_rounds_;
    while (!polling_.empty()) wake_poller(*polling_[polling_.size() - 1]);
    return true;
}

void Executor::run() {
    for (;;) {
        if (failed_) raise(failure_, failed_with_report_);
        while (!ended_blocks_.empty()) {
            end_block(*ended_blocks_.back());
            ended_blocks_.pop_back();
        }
        admit();
        if (clusters_.empty()) return;
        Fibre* const fibre = next();
        if (fibre)
            enter(*fibre);
        else if (!idle())
            raise(polling_.empty()
                      ? "deadlock: no thread can run"
                      : "deadlock: every thread waits, or polls for what nobody stores",
                  true);
    }
}

// After an error: back to where the next launch can begin.
void Executor::reset() {
    while (!blocks_.empty()) retire(*blocks_.back(), true);
    for (const auto& cluster : clusters_)
        for (Block* block : cluster->blocks) delete block;
    clusters_.clear();
    ended_blocks_.clear();
    stacks_.trim();
    bulk_copies_.clear();
    ready_.clear();
    starved_.clear();
    polling_.clear();
}

void Executor::launch(const char* name, const LaunchShape& shape, const Device& device,
                      void (*kernel)(const void*), const void* arguments, uint64_t seed,
                      uint64_t number) {
    name_ = name;
    shape_ = shape;
    device_ = device;
    kernel_ = kernel;
    arguments_ = arguments;
    seed_ = seed;
    number_ = number;
    random_ = Random(seed * 0xD1342543DE82EF95u + number);
    style_ = draw_style(seed + number, random_);
    quantum = draw_quantum();
    failed_ = false;
    live_ = 0;
    grid_ = {};
    last_ = nullptr;
    turn_ = 0;
    next_look_ = 0;
    note_progress();
    order_.resize(size_t(int64_t(shape.grid_x) / shape.cluster * shape.grid_y * shape.grid_z));
    for (size_t i = 0; i < order_.size(); ++i) {
        const size_t j = size_t(random_.below(uint32_t(i + 1)));
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

// Blocks of this shape that one multiprocessor holds; 0: none.
int blocks_per_multiprocessor(const LaunchShape& shape, const Device& device) {
    if (shape.threads < 1 || shape.threads > 1024 || shape.shared_bytes < 0 ||
        shape.shared_bytes > device.shared_bytes)
        return 0;
    // A kilobyte of each block's is the system's.
    const int64_t by_memory = (device.shared_bytes + 1024) / (shape.shared_bytes + 1024);
    return int(std::min<int64_t>({by_memory, 2048 / ((shape.threads + 31) / 32 * 32), 32}));
}

void check_shape(const char* name, const LaunchShape& shape, const Device& device) {
    const auto require = [&](bool valid, const std::string& what) {
        if (!valid) throw std::runtime_error(std::string(name) + ": " + what);
    };
    const auto in = [](int value, int low, int high) { return low <= value && value <= high; };
    require(
        shape.grid_x >= 1 && in(shape.grid_y, 1, 65535) && in(shape.grid_z, 1, 65535),
        text("the grid must be 1 to 2147483647 x 1 to 65535 x 1 to 65535 blocks, got %d x %d x %d",
             shape.grid_x, shape.grid_y, shape.grid_z));
    require(in(shape.threads, 1, 1024),
            text("the threads of a block must be 1 to 1024, got %d", shape.threads));
    require(shape.shared_bytes >= 0 && shape.shared_bytes <= device.shared_bytes,
            text("the shared memory of a block must be 0 to %lld bytes, got %lld",
                 (long long)device.shared_bytes, (long long)shape.shared_bytes));
    require(in(shape.cluster, 1, device.max_cluster),
            text("a cluster must be 1 to %d blocks, got %d", device.max_cluster, shape.cluster));
    require(shape.grid_x % shape.cluster == 0,
            text("a cluster of %d blocks must divide the grid's %d", shape.cluster, shape.grid_x));
    const int64_t blocks = int64_t(shape.grid_x) * shape.grid_y * shape.grid_z;
    const int64_t resident = int64_t(blocks_per_multiprocessor(shape, device)) *
                             device.multiprocessors / shape.cluster * shape.cluster;
    require(resident > 0, text("the device cannot hold a cluster of %d blocks", shape.cluster));
    require(!shape.cooperative || blocks <= resident,
            text("a cooperative grid must be 1 to %lld blocks, got %lld", (long long)resident,
                 (long long)blocks));
}

Executor& of_this_thread() {
    static thread_local std::unique_ptr<Executor> owner;
    if (!owner) owner = std::make_unique<Executor>();
    return *owner;
}

}  // namespace

// ---- What the primitives call -------------------------------------------------------------------

void interrupt() { executor->interrupt(); }
void collective(Collective kind, Site site) { executor->collective(kind, site); }
void block_sync(Site site) { executor->block_sync(site); }
void named_barrier(int barrier, int threads, bool wait, Site site) {
    executor->named_barrier(barrier, threads, wait, site);
}
void cluster_arrive(Site site) { executor->cluster_arrive(site); }
void cluster_wait(Site site) { executor->cluster_wait(site); }
void grid_sync(Site site) { executor->grid_sync(site); }
void poll_pause(Site site) { executor->poll_pause(site); }

void copy_async(void* shared, const void* global, bool valid, Site site) {
    executor->copy_async(shared, global, valid, site);
}
void copy_async_commit() { executor->copy_async_commit(); }
void copy_async_wait(int pending) { executor->copy_async_wait(pending); }

void mbarrier_init(uint64_t* barrier, int arrivals, Site site) {
    executor->mbarrier_init(barrier, arrivals, site);
}
void mbarrier_arrive(uint64_t* barrier, int64_t bytes, Site site) {
    executor->mbarrier_arrive(barrier, bytes, site);
}
void mbarrier_wait(uint64_t* barrier, int parity, Site site) {
    executor->mbarrier_wait(barrier, parity, site);
}
void copy_bulk(void* shared, const void* global, int64_t bytes, uint64_t* barrier, Site site) {
    executor->copy_bulk(shared, global, bytes, barrier, site);
}

void* peer(const void* shared, int rank, const char* name, Site site) {
    return executor->peer(shared, rank, name, site);
}
void store_late(void* address, uint64_t value, Site site) {
    executor->store_late(address, value, nullptr, site);
}
void store_peer(void* shared, int rank, uint64_t value, Site site) {
    executor->store_peer(shared, rank, value, site);
}
void publish() { executor->publish(Executor::running()); }
void publish_at(const void* address) { executor->publish_at(address); }
void note_progress() { executor->note_progress(); }

void check_aligned(const void* address, size_t alignment, const char* name, Site site) {
    if (reinterpret_cast<uintptr_t>(address) % alignment == 0) return;
    executor->fail(name, site, false, "the address must be a multiple of %zu, got %p", alignment,
                   address);
}

void check_shared(const void* address, size_t bytes, size_t alignment, const char* name,
                  Site site) {
    const BlockView& view = *current->block;
    const int64_t offset = static_cast<const char*>(address) - view.shared;
    if (offset < 0 || offset + int64_t(bytes) > view.shared_bytes)
        executor->fail(name, site, false,
                       "%zu bytes at offset %lld are outside the block's shared memory of "
                       "%lld bytes",
                       bytes, (long long)offset, (long long)view.shared_bytes);
    check_aligned(address, alignment, name, site);
}

void require_architecture(int wanted, const char* name, Site site) {
    if (executor->device().architecture >= wanted) return;
    executor->fail(name, site, false, "needs sm_%d, and the device is sm_%d", wanted,
                   executor->device().architecture);
}

// ---- The host's side ----------------------------------------------------------------------------

void launch(const char* name, const LaunchShape& shape, void (*kernel)(const void*),
            const void* arguments) {
    if (current) throw std::runtime_error(std::string(name) + ": launched by a kernel");
    Shared& shared = shared_state();
    Device device;
    uint64_t seed, number;
    {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        device = shared.device;
        check_shape(name, shape, device);
        seed = shared.seed;
        number = shared.launch_number++;
        const int64_t blocks = int64_t(shape.grid_x) * shape.grid_y * shape.grid_z;
        ++shared.statistics.launches;
        shared.statistics.blocks += blocks;
        shared.statistics.threads += blocks * shape.threads;
        ++shared.statistics.kernels[name];
    }
    Executor& mine = of_this_thread();
    executor = &mine;
    const int64_t before = mine.switches();
    const auto count = [&] {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        shared.statistics.switches += mine.switches() - before;
    };
    try {
        mine.launch(name, shape, device, kernel, arguments, seed, number);
    } catch (...) {
        count();
        throw;
    }
    count();
}

int resident_clusters(const LaunchShape& shape) {
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    if (shape.cluster < 1 || shape.cluster > shared.device.max_cluster) return 0;
    return blocks_per_multiprocessor(shape, shared.device) * shared.device.multiprocessors /
           shape.cluster;
}

Device device_properties(int index) {
    if (index < 0 || index >= device_count)
        throw std::runtime_error(
            text("device_properties: the device must be 0 to %d, got %d", device_count - 1, index));
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    Device device = shared.device;
    device.index = index;
    return device;
}

int exchange_current_device(int index) {
    if (index < 0 || index >= device_count)
        throw std::runtime_error(
            text("DeviceGuard: the device must be 0 to %d, got %d", device_count - 1, index));
    return std::exchange(current_device, index);
}

void set_seed(uint64_t seed) {
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.seed = seed;
    shared.launch_number = 0;
}

void set_device(int multiprocessors, int64_t shared_bytes, int architecture, int max_cluster) {
    if (multiprocessors < 1 || shared_bytes < 0 || architecture < 80 || max_cluster < 1)
        throw std::invalid_argument(
            text("host_executor_set_device: wanted at least 1 multiprocessor, 0 bytes of shared "
                 "memory, architecture 80 and clusters of 1, got %d, %lld, %d and %d",
                 multiprocessors, (long long)shared_bytes, architecture, max_cluster));
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.device = {0, multiprocessors, shared_bytes, architecture, max_cluster};
}

Statistics statistics(bool reset) {
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    Statistics result = shared.statistics;
    if (reset) shared.statistics = {};
    return result;
}

}  // namespace seqfast::host_executor

// Which thread of a launch runs next, and the switch to it.
#include "host_executor/scheduler.h"

#include "host_executor/state.h"

namespace seqfast::host_executor {

SEQFAST_HOST_THREAD_LOCAL Thread* current = nullptr;
SEQFAST_HOST_THREAD_LOCAL int quantum = 0;

namespace {

inline void before_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
                          [[maybe_unused]] size_t size) {
#if SEQFAST_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#endif
}

}  // namespace

void Scheduler::arrive([[maybe_unused]] void* fake_stack) {
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

void Scheduler::go_to(Fibre& self, Fibre* to) {
    if (!to) return go_to_main(self);
    if (to == &self) return;
    ++switches_;
    current = to;
    before_switch(self.wait == Wait::ended ? nullptr : &self.fake_stack, to->stack.bottom,
                  size_t(to->stack.top - to->stack.bottom));
    seqfast_host_executor_switch(&self.stack_pointer, to->stack_pointer);
    arrive(self.fake_stack);
}

void Scheduler::go_to_main(Fibre& self) {
    current = nullptr;
    before_switch(self.wait == Wait::ended ? nullptr : &self.fake_stack, main_stack_bottom_,
                  main_stack_size_);
    seqfast_host_executor_switch(&self.stack_pointer, main_stack_pointer_);
    arrive(self.fake_stack);
}

void Scheduler::enter(Fibre& to) {
    ++switches_;
    from_main_ = true;
    current = &to;
    before_switch(&main_fake_stack_, to.stack.bottom, size_t(to.stack.top - to.stack.bottom));
    seqfast_host_executor_switch(&main_stack_pointer_, to.stack_pointer);
#if SEQFAST_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(main_fake_stack_, nullptr, nullptr);
#endif
}

void Scheduler::leave(Fibre& self) {
    go_to_main(self);
    __builtin_unreachable();
}

void Scheduler::begin() {
    last_ = nullptr;
    turn_ = 0;
    next_look_ = 0;
    note_progress();
}

void Scheduler::clear() {
    ready_.clear();
    starved_.clear();
    polling_.clear();
}

void Scheduler::wake(Warp& warp, uint32_t lanes) {
    if (!lanes) return;
    if (!warp.ready) (warp.starved ? starved_ : ready_).add(&warp);
    warp.ready |= lanes;
}

Fibre& Scheduler::take(Warp& warp) {
    int lane;
    switch (chance_.style.lanes) {
        case LaneOrder::rising:
            lane = __builtin_ctz(warp.ready);
            break;
        case LaneOrder::falling:
            lane = 31 - __builtin_clz(warp.ready);
            break;
        default: {
            const uint32_t turn = chance_.random.below(32);
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

Fibre* Scheduler::next() {
    if (chance_.style.stay && last_ && last_->ready && (!last_->starved || ready_.empty()))
        return &take(*last_);
    const auto& set = ready_.empty() ? starved_ : ready_;
    if (set.empty()) return nullptr;
    switch (chance_.style.warps) {
        case WarpOrder::newest:
            return &take(*set[set.size() - 1]);
        case WarpOrder::in_turn:
            return &take(*set[++turn_ % set.size()]);
        default:
            return &take(*set[chance_.random.below(set.size())]);
    }
}

void Scheduler::suspend(Wait wait, Site site, int detail) {
    Fibre& self = running();
    self.wait = wait;
    self.site = site;
    self.detail = detail;
    go_to(self, next());
}

void Scheduler::yield() {
    Fibre& self = running();
    wake(*self.warp, self.bit);
    last_ = nullptr;
    go_to(self, next());
}

int Scheduler::draw_quantum() {
    // Without interruptions too, so that a loop that waits without poll_pause does not wait for
    // ever.
    return chance_.style.interrupt_mean
               ? int(chance_.random.below(uint32_t(2 * chance_.style.interrupt_mean)))
               : 1 << 20;
}

// Who polls may look in the middle of things: not more often than others run, and not for ever, or
// a deadlock would not be seen.
void Scheduler::yield_to_poller(int often, int64_t pause) {
    if (!polling_.empty() && switches_ >= next_look_ && idle_polls_ < 1000 &&
        chance_.random.often(often)) {
        next_look_ = switches_ + chance_.random.below(uint32_t(pause));
        wake_poller(*polling_[chance_.random.below(polling_.size())]);
    }
    yield();
}

void Scheduler::poll(Site site) {
    Fibre& self = running();
    if (!self.warp->polling) polling_.add(self.warp);
    self.warp->polling |= self.bit;
    ++idle_polls_;
    suspend(Wait::poll, site);
}

void Scheduler::wake_poller(Warp& warp) {
    wake(warp, warp.polling);
    warp.polling = 0;
    polling_.remove(&warp);
}

void Scheduler::wake_all_pollers() {
    ++idle_rounds_;
    while (!polling_.empty()) wake_poller(*polling_[polling_.size() - 1]);
}

// ---- What the primitives call ----

void interrupt() {
    Scheduler& scheduler = executor->scheduler;
    const Style& style = executor->chance.style;
    quantum = scheduler.draw_quantum();
    if (!style.interrupt_mean) return poll_pause({"a loop without poll_pause", 0});
    if (style.early) {
        land_some(running());
        if (executor->chance.random.often(style.early)) land_bulk(false);
    }
    scheduler.yield_to_poller(64, executor->live);
}

void poll_pause(Site site) {
    settle(running());
    executor->scheduler.poll(site);
}

void note_progress() { executor->scheduler.note_progress(); }

}  // namespace seqfast::host_executor

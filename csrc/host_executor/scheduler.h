// Which thread of a launch runs next, and the switch to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host_executor/grid.h"
#include "host_executor/style.h"

namespace seqfast::host_executor {

// The thread that runs, as the executor knows it.
inline Fibre& running() { return static_cast<Fibre&>(*current); }

class Scheduler {
  public:
    explicit Scheduler(Chance& chance) : chance_(chance) {}

    void begin();
    void clear();
    int64_t switches() const { return switches_; }

    // From the launching thread's own stack, until a fibre comes back to it.
    void enter(Fibre& to);
    // On a fibre, after a switch to it: the sanitizer says what stack it came from.
    void arrive(void* fake_stack);
    // Back to the launching thread's own stack, for ever.
    [[noreturn]] void leave(Fibre& self);

    // Lanes that can run from now on.
    void wake(Warp& warp, uint32_t lanes);
    // The one whose turn it is, no longer among those that can run; nullptr: none can.
    Fibre* next();
    // Below: called by the running fibre.
    void go_on(Fibre& self) { go_to(self, next()); }
    void suspend(Wait wait, Site site, int detail = 0);
    void yield();
    // Whoever completes a barrier may have to wait for the others.
    void after_completion() {
        if (!chance_.style.last_goes_on) yield();
    }
    // Perhaps a thread that polls looks first.
    void yield_to_poller(int often, int64_t pause);
    void poll(Site site);
    int draw_quantum();

    void prefer(Warp* warp) { last_ = warp; }
    // Something happened that a polling thread may be waiting for.
    void note_progress() { idle_rounds_ = idle_polls_ = 0; }
    bool has_pollers() const { return !polling_.empty(); }
    // All of them have looked again and again, and nothing happens.
    bool has_polled_enough() const { return idle_rounds_ > 500 && idle_polls_ > 500000; }
    void wake_all_pollers();

  private:
    Fibre& take(Warp& warp);
    void go_to(Fibre& self, Fibre* to);
    void go_to_main(Fibre& self);
    void wake_poller(Warp& warp);

    Chance& chance_;
    WarpSet<&Warp::ready_place> ready_, starved_;
    WarpSet<&Warp::polling_place> polling_;
    Warp* last_ = nullptr;  // whose lane ran last
    uint32_t turn_ = 0;
    int64_t idle_rounds_ = 0, idle_polls_ = 0;
    int64_t next_look_ = 0;  // number of switches from which a polling warp may look early

    void* main_stack_pointer_ = nullptr;
    void* main_fake_stack_ = nullptr;
    const void* main_stack_bottom_ = nullptr;
    size_t main_stack_size_ = 0;
    bool from_main_ = false;
    int64_t switches_ = 0;
};

}  // namespace seqfast::host_executor

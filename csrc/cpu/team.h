// Threads of one call: started once per sequence, kept in step by a spinning barrier.
#pragma once

#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <sched.h>

#include "core/config.h"

namespace seqfast::cpu::SEQFAST_ISA {

class Barrier {
  public:
    void reset(int size) {
        size_ = size;
        waiting_ = 0;
        round_ = 0;
    }

    void wait() {
        if (size_ == 1) return;
        const uint32_t round = __atomic_load_n(&round_, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(&waiting_, 1, __ATOMIC_ACQ_REL) == size_) {
            __atomic_store_n(&waiting_, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&round_, round + 1, __ATOMIC_RELEASE);
            return;
        }
        // Yield when a partner has lost its core, or two processes on one machine crawl.
        for (int spins = 0; __atomic_load_n(&round_, __ATOMIC_ACQUIRE) == round; ++spins) {
            if (spins < 4000) {
                pause();
            } else {
                sched_yield();
            }
        }
    }

  private:
    static SEQFAST_INLINE void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    alignas(64) uint32_t waiting_;
    uint32_t size_;
    alignas(64) uint32_t round_;
};

// Runs body(thread) on `threads` threads, or returns false having run nothing where the runtime
// grants fewer (a nested region, a thread limit).
template <class Body>
bool run_team(int threads, Body&& body) {
    if (threads == 1) {
        body(0);
        return true;
    }
    bool granted = false;
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    {
        if (omp_get_num_threads() == threads) {
            const int thread = omp_get_thread_num();
            if (thread == 0) granted = true;
            body(thread);
        }
    }
#else
    (void)body;
#endif
    return granted;
}

}  // namespace seqfast::cpu::SEQFAST_ISA
